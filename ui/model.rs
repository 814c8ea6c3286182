//! All that the console knows.
//!
//! The model is changed by [`update`](super::update::update) alone and drawn by
//! [`view::draw`](super::view::draw), which takes it by shared reference. Time comes with each
//! message, as the monotonic age of the console; nothing here reads a clock.

use std::sync::Arc;
use std::time::Duration;

use eventkit::errors::LetterFilter;
use eventkit::event::{LetterId, Micros, StreamName};
use eventkit::status::{API_VERSION, LoadId, Snapshot, Step, View};

use super::letters::Letters;
use super::message::LoadChange;
use super::theme::Theme;

/// The views that exist, under the numbers they have in the whole design.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tab {
    /// Everything at a glance.
    #[default]
    Overview,
    /// Rates and lag per stream.
    Streams,
    /// Skew.
    Partitions,
    /// Log depth.
    Wal,
    /// Rejected events.
    DeadLetters,
    /// Loads into the warehouse, where there is one.
    Loads,
}

impl Tab {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 6] = [
        Self::Overview,
        Self::Streams,
        Self::Partitions,
        Self::Wal,
        Self::DeadLetters,
        Self::Loads,
    ];

    /// Why there is nothing to show in it, where that is so.
    #[must_use]
    pub fn lacks(self, snapshot: &Snapshot) -> Option<&'static str> {
        let stores = snapshot.has(Step::Load);
        match self {
            Self::Partitions if !stores => {
                Some("this instance only collects: partitions are worked by those that process")
            }
            Self::Loads if !stores => {
                Some("this instance only collects: those that process load into the warehouse")
            }
            Self::Loads if snapshot.warehouse.is_none() => {
                Some("no warehouse is configured: objects rest in the lake")
            }
            _ => None,
        }
    }

    /// Whether there is anything to show in it.
    #[must_use]
    pub fn is_there(self, snapshot: &Snapshot) -> bool {
        self.lacks(snapshot).is_none()
    }

    /// The key that opens it, its name, and its short name.
    #[must_use]
    pub fn label(self) -> (u8, &'static str, &'static str) {
        match self {
            Self::Overview => (1, "Overview", "Ovw"),
            Self::Streams => (2, "Streams", "Str"),
            Self::Partitions => (3, "Partitions", "Part"),
            Self::Wal => (4, "WAL", "WAL"),
            Self::DeadLetters => (5, "Dead letters", "DLQ"),
            Self::Loads => (6, "Loads", "Loads"),
        }
    }

    /// The tab that a finding points to; none where this console has no such view.
    #[must_use]
    pub fn of(view: View, snapshot: &Snapshot) -> Option<Self> {
        let tab = match view {
            View::Overview => Some(Self::Overview),
            View::Streams => Some(Self::Streams),
            View::Partitions => Some(Self::Partitions),
            View::Wal => Some(Self::Wal),
            View::DeadLetters => Some(Self::DeadLetters),
            View::Loads => Some(Self::Loads),
            View::Logs => None,
        };
        tab.filter(|tab| tab.is_there(snapshot))
    }
}

/// The connection to the service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Link {
    /// No answer yet.
    #[default]
    Connecting,
    /// The last poll was answered.
    Live,
    /// The last poll failed.
    Lost {
        /// When the last one was answered, or when the console started.
        since: Duration,
        /// Why; comes from the system or the service.
        reason: String,
        /// How often it was tried.
        tries: u32,
        /// When it will be tried again.
        retry_at: Duration,
    },
}

/// Whether actions are possible, and if not, why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// They are, as far as the console knows.
    Acts,
    /// They are not.
    Looks {
        /// What the state line says behind `READ-ONLY`; none where it says it already.
        short: Option<String>,
        /// Why, as a sentence.
        why: String,
    },
}

/// What the operator types a filter into.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FilterLine {
    /// As typed.
    pub text: String,
}

/// A question over the screen. Keys are dropped until it was drawn once.
#[derive(Clone, Debug, PartialEq)]
pub struct Dialog {
    /// What is asked.
    pub question: Question,
    /// Which button or field has the focus; 0 is Cancel.
    pub focus: usize,
    /// What was typed where a count has to be.
    pub typed: String,
    /// Whether the operator can have seen it.
    pub drawn: bool,
}

/// What a dialog asks.
#[derive(Clone, Debug, PartialEq)]
pub enum Question {
    /// The letters of a replay are being counted.
    Counting {
        /// The scope in words.
        scope: String,
    },
    /// Whether to replay exactly these.
    Replay {
        /// The scope in words.
        scope: String,
        /// Frozen: ids, or a filter that ends at the moment of asking.
        filter: LetterFilter,
        /// How many.
        count: u64,
        /// The service's time at which they were counted.
        as_of: Micros,
    },
    /// Whether to retry or dismiss a load that has failed for good.
    Load {
        /// What is done with it.
        change: LoadChange,
        /// The load in words.
        scope: String,
        /// Which.
        load: LoadId,
    },
    /// What `q` means inside the service's own process.
    Leave,
}

/// A line about the last action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// What happened; may hold text of the service.
    pub text: String,
    /// Whether it went wrong.
    pub failed: bool,
}

/// The rows of the simple tables: a cursor that stays on its stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cursors {
    /// Overview: whether the streams pane has the focus instead of the findings.
    pub overview_streams: bool,
    /// Overview: the finding under the cursor.
    pub finding: Option<FindingKey>,
    /// The stream under the cursor, in views 1, 2 and 4.
    pub stream: Option<StreamName>,
    /// View 3: the stream whose profile is shown; none for all together.
    pub profile: Option<StreamName>,
    /// View 3: the partition under the cursor; the fullest until another is chosen.
    pub partition: Option<usize>,
    /// View 6: the load under the cursor; the newest until another is chosen.
    pub load: Option<LoadId>,
}

/// What makes two findings of successive snapshots the same one.
pub type FindingKey = (View, Option<StreamName>);

/// All that the console knows.
#[derive(Clone, Debug)]
pub struct Model {
    /// What things look like.
    pub theme: Theme,
    /// Whether it runs inside the service's process.
    pub embedded: bool,
    /// Whether the operator asked to look only.
    pub read_only: bool,
    /// Whether the service has refused an action.
    pub denied: bool,
    /// How often a snapshot is asked for.
    pub refresh: Duration,
    /// Width and height of the terminal.
    pub size: (u16, u16),
    /// Age of the console at the last message.
    pub now: Duration,
    /// The connection.
    pub link: Link,
    /// The newest snapshot, and when it came.
    pub newest: Option<(Arc<Snapshot>, Duration)>,
    /// The snapshot to which the screen is pinned, and when it had come.
    pub frozen: Option<(Arc<Snapshot>, Duration)>,
    /// The service's clock when this boot was first seen, if another one was seen before.
    pub restarted: Option<Micros>,
    /// The view.
    pub tab: Tab,
    /// Whether charts show 60 seconds instead of 15 minutes.
    pub seconds: bool,
    /// Cursors of the simple views.
    pub cursors: Cursors,
    /// View 5.
    pub letters: Letters,
    /// The filter being typed.
    pub filter_line: Option<FilterLine>,
    /// The open question.
    pub dialog: Option<Dialog>,
    /// The help, and how far it is scrolled.
    pub help: Option<usize>,
    /// The last action's result.
    pub notice: Option<Notice>,
    /// The last request's number.
    pub last_number: u64,
    /// The replay that waits for its answer: its number, and the letters it names one by one.
    pub replaying: Option<(u64, Vec<LetterId>)>,
}

impl Model {
    /// A console that has not yet seen anything.
    #[must_use]
    pub fn new(theme: Theme, options: &super::Options, size: (u16, u16)) -> Self {
        Self {
            theme,
            embedded: options.embedded,
            read_only: options.read_only,
            denied: false,
            refresh: options.refresh,
            size,
            now: Duration::ZERO,
            link: Link::default(),
            newest: None,
            frozen: None,
            restarted: None,
            tab: Tab::default(),
            seconds: false,
            cursors: Cursors::default(),
            letters: Letters::default(),
            filter_line: None,
            dialog: None,
            help: None,
            notice: None,
            last_number: 0,
            replaying: None,
        }
    }

    /// The snapshot that is shown: the frozen one, else the newest.
    #[must_use]
    pub fn shown(&self) -> Option<&Snapshot> {
        self.frozen.as_ref().or(self.newest.as_ref()).map(|(snapshot, _)| &**snapshot)
    }

    /// Age of the newest snapshot.
    #[must_use]
    pub fn data_age(&self) -> Option<Duration> {
        self.newest.as_ref().map(|(_, at)| self.now.saturating_sub(*at))
    }

    /// Whether three intervals went by without a snapshot.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.data_age().is_some_and(|age| age > self.refresh * 3)
    }

    /// The service's clock, as far as it can be told from the newest snapshot.
    #[must_use]
    pub fn service_clock(&self) -> Option<Micros> {
        let (snapshot, at) = self.newest.as_ref()?;
        let age = i64::try_from(self.now.saturating_sub(*at).as_micros()).unwrap_or(i64::MAX);
        Some(snapshot.now.saturating_add(age))
    }

    /// What time the screen shows: the frozen one, else the service's clock.
    #[must_use]
    pub fn screen_clock(&self) -> Option<Micros> {
        match &self.frozen {
            Some((snapshot, _)) => Some(snapshot.now),
            None => self.service_clock(),
        }
    }

    /// Whether the console may act.
    #[must_use]
    pub fn role(&self) -> Role {
        let api = self.newest.as_ref().map_or(API_VERSION, |(snapshot, _)| snapshot.api);
        let (short, why) = if self.read_only {
            (Some(String::new()), "the console was started with --read-only".to_owned())
        } else if api != API_VERSION {
            let why = format!("the service speaks api {api}, this console {API_VERSION}");
            (Some(format!("api {api} / {API_VERSION}")), why)
        } else if self.denied {
            (Some("role".to_owned()), "the service lets this user look only".to_owned())
        } else if self.link != Link::Live {
            (None, "there is no connection to the service".to_owned())
        } else {
            return Role::Acts;
        };
        Role::Looks { short, why }
    }

    /// A number for the next request.
    pub fn number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    /// Reports the last action's result.
    pub fn say(&mut self, text: impl Into<String>) {
        self.notice = Some(Notice { text: text.into(), failed: false });
    }

    /// Reports that the last action went wrong.
    pub fn complain(&mut self, text: impl Into<String>) {
        self.notice = Some(Notice { text: text.into(), failed: true });
    }
}
