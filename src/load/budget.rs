//! The memory that all streams' batches may hold together, and each stream's share of it.
//!
//! Any stream may always hold a small part, so that no other can starve it; a stream whose store
//! fails may hold little more, because what it holds does not move.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// What all streams hold together.
#[derive(Debug)]
pub struct Budget {
    used: AtomicUsize,
    max: usize,
}

impl Budget {
    /// A budget of that many bytes.
    #[must_use]
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { used: AtomicUsize::new(0), max })
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
}

/// What one stream holds.
#[derive(Debug)]
pub struct Share {
    budget: Arc<Budget>,
    held: usize,
}

impl Share {
    /// Holds more. Never refuses: the caller asks [`Share::has_room`] before it reads on.
    pub fn take(&mut self, bytes: usize) {
        self.held += bytes;
        self.budget.used.fetch_add(bytes, Relaxed);
    }

    /// Holds less.
    pub fn give_back(&mut self, bytes: usize) {
        let bytes = bytes.min(self.held);
        self.held -= bytes;
        self.budget.used.fetch_sub(bytes, Relaxed);
    }

    /// Bytes held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held
    }

    /// Whether this stream may read on.
    #[must_use]
    pub fn has_room(&self, store_failing: bool) -> bool {
        let max = self.budget.max;
        let own_max = if store_failing { max / 16 } else { max / 4 * 3 };
        self.held < max / 64 || (self.held < own_max && self.budget.used() < max)
    }

    /// Whether this stream should flush although nothing is full or old.
    #[must_use]
    pub fn is_short(&self) -> bool {
        !self.has_room(false)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.held, Relaxed);
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
}
