//! What goes in and out of the model: messages with their time, answers with the number of
//! their question, effects to be carried out.

use std::sync::Arc;
use std::time::Duration;

use crossterm::event::KeyEvent;
use eventkit::admin::{ListLetters, Replay, Replayed};
use eventkit::errors::{Group, Letter, LetterFilter, Page};
use eventkit::event::LetterId;
use eventkit::status::{Load, LoadId, Snapshot};

use super::Exit;

/// Something happened.
#[derive(Clone, Debug)]
pub struct Msg {
    /// When, as the console's age.
    pub at: Duration,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum What {
    /// A key was pressed.
    Key(KeyEvent),
    /// Text was pasted.
    Paste(String),
    /// The terminal has another size.
    Resize(u16, u16),
    /// Time went by.
    Tick,
    /// The screen was drawn.
    Drawn,
    /// A snapshot came.
    Snapshot(Arc<Snapshot>),
    /// The service did not answer.
    Lost {
        /// Why.
        reason: String,
        /// How often it was tried.
        tries: u32,
        /// How long until the next try.
        retry_in: Duration,
    },
    /// A request was answered.
    Reply {
        /// The request's number.
        number: u64,
        /// The answer.
        reply: Reply,
    },
}

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// One sentence of the service or the system.
    pub text: String,
    /// Whether the service refused it because of who asks.
    pub denied: bool,
}

/// An answer.
#[derive(Clone, Debug)]
pub enum Reply {
    /// All groups.
    Groups(Result<Vec<Group>, Failure>),
    /// A page of letters.
    Page(Result<Page, Failure>),
    /// A letter.
    Letter(Box<Result<Letter, Failure>>),
    /// The letters that a replay would take.
    Scope(Result<Scope, Failure>),
    /// What a replay did.
    Replayed(Result<Replayed, Failure>),
    /// The load that was changed.
    Load(Result<Box<Load>, Failure>),
}

/// Letters, chosen and counted.
#[derive(Clone, Debug, PartialEq)]
pub struct Scope {
    /// Names exactly them.
    pub filter: LetterFilter,
    /// How many.
    pub count: u64,
}

/// Something to be done outside.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Ask the service; the answer comes with this number.
    Ask {
        /// The number.
        number: u64,
        /// What.
        request: Request,
    },
    /// Try to connect now instead of waiting.
    Reconnect,
    /// Draw everything anew.
    Redraw,
    /// Give the terminal back and stop until continued.
    Suspend,
    /// Leave.
    Exit(Exit),
}

/// What the service is asked.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// All groups.
    Groups,
    /// A page of letters.
    Page(ListLetters),
    /// A letter.
    Letter(LetterId),
    /// Which letters a group's replay would take.
    Scope {
        /// Open letters of the group, received before now.
        filter: LetterFilter,
        /// The library they must come from, which may be none; a filter can't say so.
        library: Option<String>,
        /// Whether other libraries fail the same way, so that the filter alone takes too many.
        ambiguous: bool,
    },
    /// Put letters back into the log.
    Replay(Replay),
    /// Retry or dismiss a load.
    Load(LoadChange, LoadId),
}

/// What an operator does with a load that has failed for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadChange {
    /// Its objects get another job.
    Retry,
    /// Its objects are not loaded.
    Dismiss,
}

impl LoadChange {
    /// The word for it.
    #[must_use]
    pub fn verb(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Dismiss => "dismiss",
        }
    }
}

impl Request {
    /// Requests of one slot replace each other; what changes something has none and is never given
    /// up.
    #[must_use]
    pub fn slot(&self) -> Option<usize> {
        match self {
            Self::Groups => Some(0),
            Self::Page(_) => Some(1),
            Self::Letter(_) => Some(2),
            Self::Scope { .. } => Some(3),
            Self::Replay(_) | Self::Load(..) => None,
        }
    }
}
