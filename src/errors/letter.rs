//! What a dead letter is, and how letters are chosen.

use serde::{Deserialize, Serialize};

use crate::event::{LetterId, Micros, Phase, Receipt, Rejection, Seq, StreamName};

/// A rejected event on its way into the store.
#[derive(Clone, Debug)]
pub struct NewLetter {
    /// The stream it was sent to; for a malformed body the stream of its route.
    pub stream: StreamName,
    /// Its log position; none for what was rejected at the edge, before the log.
    pub seq: Option<Seq>,
    /// Every violation found; never empty.
    pub rejections: Vec<Rejection>,
    /// The payload's exact bytes.
    pub payload: Vec<u8>,
    /// The facts of its receipt.
    pub receipt: Receipt<'static>,
    /// Its message id, where one could be read.
    pub message_id: Option<String>,
    /// `context.library.name`, where one could be read.
    pub library: Option<String>,
    /// `context.library.version`, where one could be read.
    pub library_version: Option<String>,
}

/// What has become of a letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Waiting for an operator.
    Open,
    /// Claimed, on its way through the log again.
    Replaying,
    /// Its event is stored.
    Resolved,
    /// An operator decided against it.
    Discarded,
}

impl Status {
    /// Every status.
    pub const ALL: [Self; 4] = [Self::Open, Self::Replaying, Self::Resolved, Self::Discarded];

    /// The status's name, as stored and shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Replaying => "replaying",
            Self::Resolved => "resolved",
            Self::Discarded => "discarded",
        }
    }

    /// The status of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }
}

/// Which letters are meant. Empty fields do not narrow; given ones must all match.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LetterFilter {
    /// Exactly these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ids: Vec<LetterId>,
    /// Of this stream.
    pub stream: Option<StreamName>,
    /// Rejected at this phase.
    pub phase: Option<Phase>,
    /// With this reason code.
    pub reason: Option<String>,
    /// At this JSON pointer.
    pub path: Option<String>,
    /// In this state.
    pub status: Option<Status>,
    /// From this library (`context.library.name`).
    pub library: Option<String>,
    /// Received at or after.
    pub since: Option<Micros>,
    /// Received before.
    pub until: Option<Micros>,
}

/// A line of the list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LetterSummary {
    /// The letter's number.
    pub id: LetterId,
    /// The stream it was sent to.
    pub stream: StreamName,
    /// Where it was rejected.
    pub phase: Phase,
    /// The first violation's code.
    pub reason: String,
    /// The first violation's JSON pointer.
    pub path: String,
    /// What has become of it.
    pub status: Status,
    /// How often it was replayed in vain.
    pub attempts: u32,
    /// When the edge received it.
    pub received_at: Micros,
    /// When it was (last) rejected.
    pub rejected_at: Micros,
    /// Its message id, where one could be read.
    pub message_id: Option<String>,
    /// `context.library.name`.
    pub library: Option<String>,
    /// The payload's size.
    pub payload_bytes: u64,
    /// The payload's first 160 bytes as text (invalid UTF-8 replaced). Hostile: escape it.
    pub preview: String,
}

/// One thing that happened to a letter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// When.
    pub at: Micros,
    /// `rejected`, `replayed`, `failed_again`, `resolved`, `reopened`, `discarded`.
    pub what: String,
    /// Who asked for it, where somebody did.
    pub by: Option<String>,
    /// The reason, the batch, or the log position, as a sentence.
    pub detail: String,
}

/// Everything kept about one rejected event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Letter {
    /// The line of the list.
    #[serde(flatten)]
    pub summary: LetterSummary,
    /// Every violation.
    pub rejections: Vec<Rejection>,
    /// The payload as text where it is UTF-8. Hostile: escape it.
    pub payload: Option<String>,
    /// The payload in base64 where it is not UTF-8.
    pub payload_base64: Option<String>,
    /// The facts of its receipt.
    pub receipt: Receipt<'static>,
    /// `context.library.version`.
    pub library_version: Option<String>,
    /// Its position in the stream's log.
    pub seq: Option<Seq>,
    /// The log position of its last replay.
    pub replay_seq: Option<Seq>,
    /// What happened to it, oldest first.
    pub history: Vec<Attempt>,
}

/// A page of the list, newest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Page {
    /// The letters.
    pub letters: Vec<LetterSummary>,
    /// How many match the filter in all.
    pub total: u64,
    /// Pass this as `before` to read on; none at the end.
    pub next_before: Option<LetterId>,
}

/// Letters that failed the same way: one line of the operator's overview.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// The stream they were sent to.
    pub stream: StreamName,
    /// Where they were rejected.
    pub phase: Phase,
    /// Why.
    pub reason: String,
    /// Where in the payload.
    pub path: String,
    /// From which library.
    pub library: Option<String>,
    /// How many are open.
    pub open: u64,
    /// How many there are, whatever their state.
    pub total: u64,
    /// The first one's rejection.
    pub first_at: Micros,
    /// The last one's rejection.
    pub last_at: Micros,
    /// The number of the newest one.
    pub sample: LetterId,
}

/// How many letters there are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Waiting for an operator.
    pub open: u64,
    /// On their way.
    pub replaying: u64,
    /// Stored after all.
    pub resolved: u64,
    /// Given up by an operator.
    pub discarded: u64,
    /// Malformed bodies that the bounded ring has dropped since the store was made.
    pub malformed_dropped: u64,
    /// Payload bytes kept.
    pub payload_bytes: u64,
    /// Open letters per stream.
    pub open_by_stream: std::collections::BTreeMap<StreamName, u64>,
}

/// A log position whose rejection is in the error store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The position.
    pub seq: Seq,
    /// The letter that waits there: open, or on its way.
    pub open: Option<LetterId>,
}

/// A letter that was claimed for replay: what has to be appended to the log again.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The letter.
    pub id: LetterId,
    /// The stream to append to.
    pub stream: StreamName,
    /// The payload's exact bytes.
    pub payload: Vec<u8>,
    /// The receipt as it was; `replay` is filled in by the caller.
    pub receipt: Receipt<'static>,
}

/// One command that changed letters: who, when, what, with which outcome.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// The command's number; a replay is named by it.
    pub id: i64,
    /// When it was given.
    pub at: Micros,
    /// `replay`, `discard`, `reopen`.
    pub what: String,
    /// Who gave it.
    pub by: String,
    /// Which letters were meant: a [`LetterFilter`] as JSON.
    pub filter: String,
    /// Why, where it was said.
    pub note: Option<String>,
    /// How many letters it changed.
    pub letters: u64,
    /// When a replay had put all of them into the log.
    pub finished_at: Option<Micros>,
    /// Letters that a replay put into the log.
    pub replayed: Option<u64>,
    /// Letters that the log did not take.
    pub refused: Option<u64>,
}
