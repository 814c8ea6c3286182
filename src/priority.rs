//! Which thread goes first where there are more than cores: the logs' before those that answer,
//! and both before what makes files.
//!
//! A sync at normal priority may wait for a whole tick of the scheduler on a busy machine, and
//! everybody whose events it carries waits with it. A file that is stored a little later costs
//! nobody anything.

use rustix::process::nice;

/// How much sooner a log's thread runs.
const LOG: i32 = -10;
/// How much later the threads that encode and store do.
const STORE: i32 = 5;

/// Puts the calling thread before others, where the system allows it (`LimitNICE`): where it does
/// not, a busy machine answers later.
pub(crate) fn of_a_log() {
    let _ = nice(LOG);
}

/// Puts the calling thread behind others.
pub(crate) fn of_a_store() {
    // To be behind is allowed to everybody.
    let _ = nice(STORE);
}
