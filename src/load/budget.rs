//! The memory that all streams' batches may hold together, and each stream's share of it.
//!
//! Any stream may always hold a small part, so that no other can starve it; a stream whose store
//! fails may hold little more, because what it holds does not move. What is closed and on its way
//! to the store has a sixth of the memory: the rest is for open buffers, which make the larger
//! files the more they have of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// What all streams hold together.
#[derive(Debug)]
pub struct Budget {
    used: AtomicUsize,
    /// Of it, what is on its way and has not failed yet.
    sealed: AtomicUsize,
    /// Streams that hold anything.
    holders: AtomicUsize,
    max: usize,
}

impl Budget {
    /// A budget of that many bytes.
    #[must_use]
    pub fn new(max: usize) -> Arc<Self> {
        let (used, sealed, holders) = Default::default();
        Arc::new(Self { used, sealed, holders, max })
    }

    /// A stream's share; given back when it is dropped.
    #[must_use]
    pub fn share(self: &Arc<Self>) -> Share {
        Share { budget: Arc::clone(self), held: 0 }
    }

    /// Bytes held now.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used.load(Relaxed)
    }

    fn is_sealed_up(&self) -> bool {
        self.sealed.load(Relaxed) >= self.max / 6
    }
}

/// What one stream holds.
#[derive(Debug)]
pub struct Share {
    budget: Arc<Budget>,
    held: usize,
}

/// Bytes that are on their way to a store, until this is dropped.
#[derive(Debug)]
pub struct Sealed {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Share {
    /// Holds more. Never refuses: the caller asks [`Share::has_room`] before it reads on.
    pub fn take(&mut self, bytes: usize) {
        self.set(self.held + bytes);
    }

    /// Holds less.
    pub fn give_back(&mut self, bytes: usize) {
        self.set(self.held.saturating_sub(bytes));
    }

    fn set(&mut self, bytes: usize) {
        let before = std::mem::replace(&mut self.held, bytes);
        if bytes >= before {
            self.budget.used.fetch_add(bytes - before, Relaxed);
        } else {
            self.budget.used.fetch_sub(before - bytes, Relaxed);
        }
        match (before, bytes) {
            (0, 1..) => self.budget.holders.fetch_add(1, Relaxed),
            (1.., 0) => self.budget.holders.fetch_sub(1, Relaxed),
            _ => 0,
        };
    }

    /// Bytes held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held
    }

    /// Counts a batch of that many bytes as on its way.
    #[must_use]
    pub fn seal(&self, bytes: usize) -> Sealed {
        self.budget.sealed.fetch_add(bytes, Relaxed);
        Sealed { budget: Arc::clone(&self.budget), bytes }
    }

    /// Whether this stream may read on.
    #[must_use]
    pub fn has_room(&self, store_failing: bool) -> bool {
        self.is_small() || (self.fits(store_failing) && !self.budget.is_sealed_up())
    }

    /// Whether it could not read on if nothing were on its way.
    #[must_use]
    pub fn is_short(&self) -> bool {
        !self.is_small() && !self.fits(false)
    }

    /// Where memory is short: whether a buffer of that many bytes should be closed to make room.
    /// Not a small one while larger ones can be.
    #[must_use]
    pub fn makes_room(&self, bytes: usize) -> bool {
        let sealed = self.budget.sealed.load(Relaxed);
        let mean = self.budget.used() / self.budget.holders.load(Relaxed).max(1);
        sealed == 0 || (bytes >= mean && !self.budget.is_sealed_up())
    }

    fn is_small(&self) -> bool {
        self.held < self.budget.max / 64
    }

    fn fits(&self, store_failing: bool) -> bool {
        let max = self.budget.max;
        let own_max = if store_failing { max / 16 } else { max / 4 * 3 };
        self.held < own_max && self.budget.used() < max
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}

impl Drop for Sealed {
    fn drop(&mut self) {
        self.budget.sealed.fetch_sub(self.bytes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_whose_store_fails_leaves_room_for_the_others() {
        let budget = Budget::new(6400);
        let (mut stalled, mut greedy, modest) = (budget.share(), budget.share(), budget.share());
        stalled.take(400);
        assert!(!stalled.has_room(true) && stalled.has_room(false));
        greedy.take(6000);
        assert!(!greedy.has_room(false), "the budget is used up");
        assert!(modest.has_room(false), "but everybody may hold a little");
        drop(greedy);
        assert_eq!(budget.used(), 400);
    }

    #[test]
    fn while_much_is_on_its_way_nobody_reads_more_than_a_little() {
        let budget = Budget::new(6400);
        let (mut busy, quiet) = (budget.share(), budget.share());
        busy.take(3000);
        let sealed = busy.seal(2500);
        assert!(!busy.has_room(false) && !busy.is_short() && quiet.has_room(false));
        drop(sealed);
        assert!(busy.has_room(false));
    }

    #[test]
    fn when_memory_is_short_the_larger_buffers_make_room() {
        let budget = Budget::new(6400);
        let (mut large, mut small) = (budget.share(), budget.share());
        large.take(4500);
        small.take(2000);
        assert!(large.is_short() && small.is_short());
        assert!(small.makes_room(2000), "where nothing is on its way, anyone's does");
        let sealed = large.seal(500);
        assert!(large.makes_room(4000) && !small.makes_room(2000));
        let more = large.seal(2000);
        assert!(!large.makes_room(4000), "enough is on its way");
        drop((sealed, more));
    }
}
