//! Locks and threads as the log uses them: the standard library's.
//!
//! The tests of interleavings put a scheduler's in their place (`tests/scheduled.rs`), which says
//! at every lock and every wake-up which thread goes on; outside of those the tests have the
//! standard library's too. Answers to appends need no such place: whoever waits for one is woken
//! through its `Waker`, which the scheduler gives.

#[cfg(test)]
pub(super) use super::tests::scheduled::{Condvar, Mutex, MutexGuard, thread};
#[cfg(not(test))]
pub(super) use std::sync::{Condvar, Mutex, MutexGuard};
#[cfg(not(test))]
pub(super) use std::thread;
