//! The queue: how events travel from the log to the stages behind it.
//!
//! `local`: one worker thread per stream reads the log and drives adaptation, sequencing and
//! loading in the same process. A stream shares no lock and no thread with another on this way.

mod chunk;
mod inbox;
mod local;
mod missing;
mod recall;
mod worker;

pub use inbox::{FlushReport, Inbox, Wake};
#[cfg(test)]
pub(crate) use local::Running;
pub use worker::{Hooks, Worker};
