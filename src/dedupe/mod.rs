//! Deduplication: a client's retry does not become a second row.
//!
//! In: message ids of events that passed their rules, in log order. Out: whether the same id
//! passed before, within the window. The index is exact (a keyed hash of 128 bits an id, no
//! filter that may be wrong), bounded in memory over all streams, and rebuilt after a restart
//! from what the ledger keeps of stored batches; what is not stored yet is read from the log
//! again, in the same order. When memory is short a stream forgets its own oldest ids; a share of it
//! is every stream's own, so that none that floods takes it from the others.
//!
//! Dead letters are not remembered (and what the store refuses is forgotten again), so that a
//! mended event keeps its id and still lands; a replay of what is stored already does not.

mod order;
mod places;

use std::collections::VecDeque;
use std::hash::Hasher;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use siphasher::sip128::{Hasher128, SipHasher13};

use order::Order;
use places::Places;

/// What is kept of a message id.
pub type IdHash = u128;

/// Bytes of memory for one id: its hash in the queue, and its place at the lowest load.
const BYTES_PER_ID: usize = size_of::<IdHash>() + places::BYTES_PER_NUMBER;

/// Every stream may have one of so many parts of the memory, whatever the others have.
const SHARES: usize = 64;

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
    /// The ids' numbers, found by their hashes.
    seen: Places,
    order: Order,
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
            seen: Places::default(),
            order: Order::default(),
            added: VecDeque::new(),
        }
    }

    /// What is kept of an id.
    #[must_use]
    pub fn hash(&self, message_id: &str) -> IdHash {
        self.key.hash(message_id)
    }

    /// Says which ids come next, in any order. An index of a million ids is out of the
    /// processor's reach: what is looked for together is waited for once.
    pub fn expect(&self, hashes: &[IdHash]) {
        for hash in hashes {
            black_box(self.seen.touch(*hash));
        }
        let full = self.memory.used.load(Relaxed) + hashes.len() > self.memory.max;
        for (_, hash) in self.order.oldest(if full { hashes.len() } else { 0 }) {
            black_box(self.seen.touch(hash));
        }
    }

    /// Forgets an id whose event the store refused: it is a dead letter now.
    pub fn forget(&mut self, message_id: &str) {
        let hash = self.key.hash(message_id);
        // Its place in the queue stays until the window has passed it.
        if let Some(number) = self.seen.find(hash, |number| self.order.get(number) == hash) {
            self.seen.remove(hash, number);
        }
    }

    /// Remembers the ids of a stored batch, after a restart.
    pub fn remember(&mut self, hashes: impl IntoIterator<Item = IdHash>, now: Instant) {
        for hash in hashes {
            self.insert(hash, now);
        }
    }

    /// Remembers an id; returns whether it was new.
    pub fn insert(&mut self, hash: IdHash, now: Instant) -> bool {
        if self.seen.find(hash, |number| self.order.get(number) == hash).is_some() {
            return false;
        }
        self.seen.insert(hash, self.order.next());
        self.order.push(hash);
        match self.added.back_mut() {
            // A second is as exact as a window of hours has to be.
            Some((at, count)) if now.saturating_duration_since(*at) < Duration::from_secs(1) => {
                *count += 1;
            }
            _ => self.added.push_back((now, 1)),
        }
        self.memory.used.fetch_add(1, Relaxed);
        // One for the new one, and one of those that others were given beyond what there is.
        for _ in 0..2 {
            if self.holds_too_much() {
                self.forget_oldest();
            }
        }
        true
    }

    /// Whether memory is used up, and this stream has more than every stream may have.
    fn holds_too_much(&self) -> bool {
        let Memory { used, max } = &*self.memory;
        used.load(Relaxed) > *max && self.order.len() > (max / SHARES).max(1)
    }

    /// Forgets what the window has passed, and what others need.
    pub fn expire(&mut self, now: Instant) {
        while self.holds_too_much() {
            self.forget_oldest();
        }
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
        let Some((number, hash)) = self.order.pop() else { return };
        // One that was forgotten before and came again has another number.
        self.seen.remove(hash, number);
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
        self.order.len() == 0
    }
}

impl Drop for Dedupe {
    fn drop(&mut self) {
        self.memory.used.fetch_sub(self.order.len(), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::order::PIECE;
    use super::*;

    const KEY: IdKey = IdKey([7; 16]);

    fn dedupe(ids_max: usize) -> Dedupe {
        Dedupe::new(KEY, Duration::from_secs(60), Memory::new(ids_max * BYTES_PER_ID))
    }

    #[test]
    fn an_id_is_new_once() {
        let (mut dedupe, now) = (dedupe(10), Instant::now());
        assert!(dedupe.insert(KEY.hash("a"), now) && dedupe.insert(KEY.hash("b"), now));
        assert!(!dedupe.insert(KEY.hash("a"), now) && !dedupe.insert(KEY.hash("b"), now));
        assert_eq!(dedupe.len(), 2);
    }

    #[test]
    fn an_id_that_was_forgotten_is_new() {
        let (mut dedupe, now) = (dedupe(10), Instant::now());
        dedupe.insert(KEY.hash("a"), now);
        dedupe.forget("a");
        assert!(dedupe.insert(KEY.hash("a"), now) && !dedupe.insert(KEY.hash("a"), now));
    }

    #[test]
    fn what_was_forgotten_and_came_again_outlives_its_first_place_in_the_queue() {
        let (mut dedupe, start) = (dedupe(3 * PIECE), Instant::now());
        dedupe.insert(KEY.hash("a"), start);
        dedupe.forget("a");
        let later = start + Duration::from_secs(30);
        for id in 0..PIECE {
            dedupe.insert(KEY.hash(&id.to_string()), start);
        }
        assert!(dedupe.insert(KEY.hash("a"), later));
        dedupe.expire(start + Duration::from_secs(61));
        assert_eq!(dedupe.len(), 1);
        assert!(!dedupe.insert(KEY.hash("a"), later) && dedupe.insert(KEY.hash("0"), later));
    }

    #[test]
    fn what_a_stored_batch_held_is_known_after_a_restart() {
        let (mut dedupe, now) = (dedupe(10), Instant::now());
        dedupe.remember([KEY.hash("a"), KEY.hash("b")], now);
        assert!(!dedupe.insert(KEY.hash("a"), now) && dedupe.insert(KEY.hash("c"), now));
        assert_ne!(KEY.hash("a"), IdKey([8; 16]).hash("a"));
    }

    #[test]
    fn the_window_forgets_what_is_older_and_nothing_else() {
        let (mut dedupe, start) = (dedupe(10), Instant::now());
        dedupe.insert(KEY.hash("old"), start);
        dedupe.insert(KEY.hash("young"), start + Duration::from_secs(30));
        dedupe.expire(start + Duration::from_secs(60));
        assert_eq!(dedupe.len(), 2);
        dedupe.expire(start + Duration::from_secs(61));
        let now = start + Duration::from_secs(61);
        assert!(dedupe.insert(KEY.hash("old"), now) && !dedupe.insert(KEY.hash("young"), now));
    }

    #[test]
    fn a_stream_has_its_share_whatever_another_has_taken() {
        let (memory, now) = (Memory::new(6_400 * BYTES_PER_ID), Instant::now());
        let new = || Dedupe::new(KEY, Duration::from_secs(60), Arc::clone(&memory));
        let (mut flood, mut quiet) = (new(), new());
        let insert = |dedupe: &mut Dedupe, id: usize| dedupe.insert(KEY.hash(&id.to_string()), now);
        (0..10_000).for_each(|id| assert!(insert(&mut flood, id)));
        assert_eq!(flood.len(), 6_400);
        (0..100).for_each(|id| assert!(insert(&mut quiet, id)));
        assert!((0..100).all(|id| !insert(&mut quiet, id)), "its own share is kept");
        (100..200).for_each(|id| assert!(insert(&mut quiet, id)));
        assert_eq!(quiet.len(), 100);
        // What it was given is taken from whoever has most.
        (10_000..10_100).for_each(|id| assert!(insert(&mut flood, id)));
        assert_eq!(memory.used.load(Relaxed), 6_400);
    }

    #[test]
    fn memory_is_bounded_over_all_streams_and_each_forgets_its_own_oldest() {
        let (memory, now) = (Memory::new(3 * BYTES_PER_ID), Instant::now());
        let new = || Dedupe::new(KEY, Duration::from_secs(60), Arc::clone(&memory));
        let (mut quiet, mut busy) = (new(), new());
        quiet.insert(KEY.hash("q"), now);
        for id in 0..100 {
            busy.insert(KEY.hash(&id.to_string()), now);
        }
        assert_eq!((quiet.len(), busy.len()), (1, 2));
        assert!(
            !quiet.insert(KEY.hash("q"), now)
                && !busy.insert(KEY.hash("99"), now)
                && busy.insert(KEY.hash("0"), now)
        );
        drop(busy);
        assert_eq!(memory.used.load(Relaxed), 1);
    }
}
