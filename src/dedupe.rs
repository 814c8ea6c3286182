//! Deduplication: a client's retry does not become a second row.
//!
//! In: message ids of events that passed their rules, in log order. Out: whether the same id
//! passed before, within the window. The index is exact (a keyed hash of 128 bits an id, no
//! filter that may be wrong), bounded in memory over all streams, and rebuilt after a restart
//! from what the ledger keeps of stored batches; what is not stored yet is read from the log
//! again, in the same order. When memory is short a stream forgets its own oldest ids.
//!
//! Dead letters are not remembered (and what the store refuses is forgotten again), so that a
//! mended event keeps its id and still lands; a replay of what is stored already does not.

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use siphasher::sip128::{Hasher128, SipHasher13};

/// What is kept of a message id.
pub type IdHash = u128;

/// Bytes of memory for one id: its place in the set (at the set's lowest load) and in the queue.
const BYTES_PER_ID: usize = 56;

/// The secret that ids are hashed with: without it a client could make two ids collide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdKey(pub [u8; 16]);

impl IdKey {
    /// SipHash-1-3 with 128 bits (<https://www.aumasson.jp/siphash/siphash.pdf>).
    #[must_use]
    pub fn hash(&self, message_id: &str) -> IdHash {
        let mut hasher = SipHasher13::new_with_key(&self.0);
        hasher.write(message_id.as_bytes());
        hasher.finish128().as_u128()
    }
}

/// How many ids all streams remember together.
#[derive(Debug)]
pub struct Memory {
    used: AtomicUsize,
    max: usize,
}

impl Memory {
    /// Room for as many ids as fit that many bytes.
    #[must_use]
    pub fn new(bytes_max: usize) -> Arc<Self> {
        Arc::new(Self { used: AtomicUsize::new(0), max: bytes_max / BYTES_PER_ID })
    }

    /// The most ids that are remembered.
    #[must_use]
    pub fn ids_max(&self) -> usize {
        self.max
    }
}

/// One stream's index.
#[derive(Debug)]
pub struct Dedupe {
    key: IdKey,
    window: Duration,
    memory: Arc<Memory>,
    seen: HashSet<IdHash, BuildHasherDefault<AsIs>>,
    /// Oldest first.
    order: VecDeque<IdHash>,
    /// When how many were added, oldest first.
    added: VecDeque<(Instant, usize)>,
}

impl Dedupe {
    /// An index that has seen nothing.
    #[must_use]
    pub fn new(key: IdKey, window: Duration, memory: Arc<Memory>) -> Self {
        Self {
            key,
            window,
            memory,
            seen: HashSet::default(),
            order: VecDeque::new(),
            added: VecDeque::new(),
        }
    }

    /// Remembers an id; returns whether it was new.
    pub fn insert(&mut self, message_id: &str, now: Instant) -> bool {
        let hash = self.key.hash(message_id);
        self.insert_hash(hash, now)
    }

    /// Forgets an id whose event the store refused: it is a dead letter now.
    pub fn forget(&mut self, message_id: &str) {
        // Its place in the queue stays until the window has passed it.
        self.seen.remove(&self.key.hash(message_id));
    }

    /// Remembers the ids of a stored batch, after a restart.
    pub fn remember(&mut self, hashes: impl IntoIterator<Item = IdHash>, now: Instant) {
        for hash in hashes {
            self.insert_hash(hash, now);
        }
    }

    fn insert_hash(&mut self, hash: IdHash, now: Instant) -> bool {
        if !self.seen.insert(hash) {
            return false;
        }
        self.order.push_back(hash);
        match self.added.back_mut() {
            // A second is as exact as a window of hours has to be.
            Some((at, count)) if now.saturating_duration_since(*at) < Duration::from_secs(1) => {
                *count += 1;
            }
            _ => self.added.push_back((now, 1)),
        }
        if self.memory.used.fetch_add(1, Relaxed) >= self.memory.max {
            self.forget_oldest();
        }
        true
    }

    /// Forgets what the window has passed.
    pub fn expire(&mut self, now: Instant) {
        while let Some(&(at, count)) = self.added.front() {
            if now.saturating_duration_since(at) <= self.window {
                return;
            }
            for _ in 0..count {
                self.forget_oldest();
            }
        }
    }

    fn forget_oldest(&mut self) {
        let Some(hash) = self.order.pop_front() else { return };
        self.seen.remove(&hash);
        self.memory.used.fetch_sub(1, Relaxed);
        if let Some((_, count)) = self.added.front_mut() {
            *count -= 1;
            if *count == 0 {
                self.added.pop_front();
            }
        }
    }

    /// How many ids it remembers.
    #[must_use]
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether it remembers none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

impl Drop for Dedupe {
    fn drop(&mut self) {
        self.memory.used.fetch_sub(self.order.len(), Relaxed);
    }
}

/// The set's keys are hashes already.
#[derive(Default)]
struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0 ^= u64::from_le_bytes(word);
        }
    }
    fn write_u128(&mut self, hash: u128) {
        self.0 = hash as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: IdKey = IdKey([7; 16]);

    fn dedupe(ids_max: usize) -> Dedupe {
        Dedupe::new(KEY, Duration::from_secs(60), Memory::new(ids_max * BYTES_PER_ID))
    }

    #[test]
    fn an_id_is_new_once() {
        let (mut dedupe, now) = (dedupe(10), Instant::now());
        assert!(dedupe.insert("a", now) && dedupe.insert("b", now));
        assert!(!dedupe.insert("a", now) && !dedupe.insert("b", now));
        assert_eq!(dedupe.len(), 2);
    }

    #[test]
    fn an_id_that_was_forgotten_is_new() {
        let (mut dedupe, now) = (dedupe(10), Instant::now());
        dedupe.insert("a", now);
        dedupe.forget("a");
        assert!(dedupe.insert("a", now) && !dedupe.insert("a", now));
    }

    #[test]
    fn what_a_stored_batch_held_is_known_after_a_restart() {
        let (mut dedupe, now) = (dedupe(10), Instant::now());
        dedupe.remember([KEY.hash("a"), KEY.hash("b")], now);
        assert!(!dedupe.insert("a", now) && dedupe.insert("c", now));
        assert_ne!(KEY.hash("a"), IdKey([8; 16]).hash("a"));
    }

    #[test]
    fn the_window_forgets_what_is_older_and_nothing_else() {
        let (mut dedupe, start) = (dedupe(10), Instant::now());
        dedupe.insert("old", start);
        dedupe.insert("young", start + Duration::from_secs(30));
        dedupe.expire(start + Duration::from_secs(60));
        assert_eq!(dedupe.len(), 2);
        dedupe.expire(start + Duration::from_secs(61));
        let now = start + Duration::from_secs(61);
        assert!(dedupe.insert("old", now) && !dedupe.insert("young", now));
    }

    #[test]
    fn memory_is_bounded_over_all_streams_and_each_forgets_its_own_oldest() {
        let (memory, now) = (Memory::new(3 * BYTES_PER_ID), Instant::now());
        let new = || Dedupe::new(KEY, Duration::from_secs(60), Arc::clone(&memory));
        let (mut quiet, mut busy) = (new(), new());
        quiet.insert("q", now);
        for id in 0..100 {
            busy.insert(&id.to_string(), now);
        }
        assert_eq!((quiet.len(), busy.len()), (1, 2));
        assert!(!quiet.insert("q", now) && !busy.insert("99", now) && busy.insert("0", now));
        drop(busy);
        assert_eq!(memory.used.load(Relaxed), 1);
    }
}
