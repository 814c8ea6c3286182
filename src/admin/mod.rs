//! The admin socket: HTTP/1.1 with JSON bodies on a Unix socket.
//!
//! It serves the [`Snapshot`](crate::status::Snapshot) and the error store's pages, and takes
//! the operator's commands. The peer's uid decides what it may do; every change is audited.
//! `curl --unix-socket DIR/admin.sock http://localhost/v1/snapshot` works as well as
//! [`Client`].
//!
//! | route | body | answer |
//! | --- | --- | --- |
//! | `GET /v1/snapshot` | | [`Snapshot`](crate::status::Snapshot) |
//! | `POST /v1/letters` | [`ListLetters`] | [`Page`](crate::errors::Page) |
//! | `GET /v1/letters/{id}` | | [`Letter`](crate::errors::Letter) or 404 |
//! | `GET /v1/groups` | | `[`[`Group`](crate::errors::Group)`]` |
//! | `POST /v1/replay` | [`Replay`] | [`Replayed`], or 404 |
//! | `POST /v1/flush` | | [`Flushed`] |
//! | `POST /v1/loads` | [`ListLoads`] | `[`[`Load`](crate::ledger::Load)`]` |
//! | `POST /v1/loads/{id}/retry` | | [`Load`](crate::ledger::Load), or 404 |
//! | `POST /v1/loads/{id}/dismiss` | | [`Load`](crate::ledger::Load), or 404 |
//!
//! Every other answer is `{"code":…,"message":…}`.

mod client;
mod loads;
mod server;

pub use client::{Client, ClientError};
pub use loads::Loads;
pub use server::{Admin, Flush, bind, serve};

use serde::{Deserialize, Serialize};

use crate::errors::LetterFilter;
use crate::event::LetterId;
use crate::ledger::LoadState;

/// Asks for a page of dead letters, newest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ListLetters {
    /// Which.
    pub filter: LetterFilter,
    /// Only letters with a smaller number: `next_before` of the page before.
    pub before: Option<LetterId>,
    /// How many, at most 200.
    pub limit: u32,
}

/// Asks for loads into the warehouse, those that changed last first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ListLoads {
    /// Only those in that state.
    pub state: Option<LoadState>,
    /// How many, at most 1,000.
    pub limit: u32,
}

/// Puts dead letters back into the log, as they are, under today's rules.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Replay {
    /// Which; only open ones are taken. An empty filter is refused, and so is a number that no
    /// letter has: nothing is replayed then.
    pub filter: LetterFilter,
    /// Why, for the audit.
    pub note: Option<String>,
}

/// What a replay did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Replayed {
    /// The replay's number in the audit.
    pub replay: i64,
    /// Letters that are in the log again.
    pub replayed: u64,
    /// Letters that could not be appended, or were never an event, and are open as before.
    pub refused: u64,
    /// Why the first of those was refused.
    pub refusal: Option<String>,
}

/// What an acknowledgement did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledged {
    /// Reports that nobody had acknowledged before.
    pub reports: u64,
}

/// What a flush did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Flushed {
    /// Events that were committed between the command and its answer.
    pub events: u64,
    /// Batches of those.
    pub batches: u64,
    /// How long it took.
    pub duration_ms: u64,
    /// Streams that could not be emptied in time, with the reason.
    pub unfinished: Vec<String>,
}
