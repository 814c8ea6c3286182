//! The queue: how events travel from the log to the stages behind it.
//!
//! One worker thread per stream reads the log. `local`: it drives adaptation, sequencing and
//! loading in the same process. `pubsub`: what was acknowledged here goes into a topic
//! ([`Outbox`]); what was pulled from its subscription stands in the log too, each record with
//! where it was acknowledged, and is adapted and stored as any; its messages are held
//! ([`Leases`]) until the cursor has passed them. A stream shares no lock and no thread with
//! another on this way.

mod chunk;
mod flush;
#[cfg(fuzzing)]
pub mod fuzzing;
mod inbox;
mod lease;
mod local;
mod message;
mod missing;
mod outbox;
mod publish;
mod recall;
mod returned;
mod worker;

pub use inbox::{FlushReport, Inbox, Wake};
pub use lease::{Lease, Leases};
#[cfg(test)]
pub(crate) use local::Running;
pub use message::{BadMessage, Message, decode};
pub use outbox::{Outbox, Published, Topic};
pub use publish::Flow;
pub use returned::Returned;
pub use worker::{Hooks, Worker};
