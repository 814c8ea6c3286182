//! What was pulled and is not acknowledged yet: the topic delivers it again, to somebody, unless
//! it is told that it is done.
//!
//! A message stands in this stream's log by the time it is held here. It is told to be done when
//! everything below its last record's position is: stored, or a dead letter, and so recorded.
//! Hence a message that is delivered twice is never acknowledged by the second delivery, a
//! duplicate, while the first is not stored.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::event::Seq;

/// The right to a message. Dropped, it is given back, and the message is delivered again.
pub struct Lease {
    /// Tells the topic that the message is done.
    done: Box<dyn FnOnce() + Send>,
}

impl Lease {
    /// A lease that ends well with `done`, and otherwise when that is dropped.
    pub fn new(done: impl FnOnce() + Send + 'static) -> Self {
        Self { done: Box::new(done) }
    }
}

/// One stream's leases.
#[derive(Default)]
pub struct Leases(Mutex<Held>);

#[derive(Default)]
struct Held {
    /// Everything below is done.
    low: Seq,
    /// By the position behind the message's last record.
    leases: BTreeMap<Seq, Lease>,
    /// All were given back, and so is what comes later.
    ended: bool,
}

impl Leases {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds a message whose records all stand below `end`.
    pub fn hold(&self, end: Seq, lease: Lease) {
        let mut held = self.held();
        if end <= held.low {
            drop(held);
            return (lease.done)();
        }
        if held.ended {
            return;
        }
        held.leases.insert(end, lease);
    }

    /// Everything below is done, durably.
    pub fn done(&self, below: Seq) {
        let mut held = self.held();
        held.low = held.low.max(below);
        let rest = held.leases.split_off(&(below + 1));
        let done = std::mem::replace(&mut held.leases, rest);
        drop(held);
        done.into_values().for_each(|lease| (lease.done)());
    }

    /// Gives all of them back: others may have the messages.
    pub fn release(&self) {
        let mut held = self.held();
        held.ended = true;
        let leases = std::mem::take(&mut held.leases);
        drop(held);
        drop(leases);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;

    #[test]
    fn a_message_is_done_once_all_below_its_end_is() {
        let (leases, acked) = (Leases::default(), Arc::<AtomicUsize>::default());
        let lease = || {
            let acked = Arc::clone(&acked);
            Lease::new(move || {
                acked.fetch_add(1, Relaxed);
            })
        };
        leases.hold(5, lease());
        leases.hold(9, lease());
        let done = |below| {
            leases.done(below);
            acked.load(Relaxed)
        };
        assert_eq!(done(4), 0);
        assert_eq!(done(5), 1);
        leases.hold(3, lease());
        assert_eq!(acked.load(Relaxed), 2, "it was done before it was held");
        leases.release();
        assert_eq!(done(99), 2, "given back, and not done");
    }
}
