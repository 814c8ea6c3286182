//! Which thread stands back where there are more than cores: what makes files, behind all others.
//! A file that is stored a little later costs nobody anything; an answer does.
//!
//! The logs' threads are not put first: where that is allowed, they come to the processor before
//! the events that could have gone with the same sync, and each event pays for more syncs.

use rustix::process::nice;

/// A step of work of some tenths of a millisecond is done, and more follows: whoever waits for the
/// processor comes first. Without that, a thread that is woken to answer waits until the one that
/// runs has used up its slice, which is some milliseconds.
pub(crate) fn after_a_step() {
    std::thread::yield_now();
}

/// How much later the threads that encode and store run.
const STORE: i32 = 5;

/// Puts the calling thread behind others.
pub(crate) fn of_a_store() {
    // To be behind is allowed to everybody.
    let _ = nice(STORE);
}
