//! Everything that can be seen at one instant.
//!
//! A [`Snapshot`] is built once a second from the counters and shared by every console, command
//! and probe; it holds counters and top rows, and stays below 64 KiB. Findings are computed
//! here, so that `eventkit status` and the console rank the same trouble the same way.

mod findings;
mod history;
mod process;
mod prometheus;
mod sampler;
mod skew;
mod stages;
mod step;

pub use prometheus::Prometheus;
pub use sampler::{Changes, Reached, Sampler, Sources};
pub use skew::Skew;
pub use step::Step;

pub use crate::config::Role;
pub use crate::ledger::{Load, LoadId, LoadState};
pub use crate::space::Level;
pub use crate::warehouse::WarehouseStatus;

use serde::{Deserialize, Serialize};

use crate::errors::Counts;
use crate::event::{Micros, Seq, StreamName};

/// The version of the snapshot and of the admin routes; a console of another version only looks.
pub const API_VERSION: u32 = 1;

/// Points in a history; the newest stands last.
pub const HISTORY_POINTS: usize = 60;

/// All that the console may see at one instant.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// [`API_VERSION`] of the service.
    pub api: u32,
    /// The service's version.
    pub version: String,
    /// New with every start of the service.
    pub boot_id: String,
    /// Counts snapshots since the start.
    pub sequence: u64,
    /// The service's wall clock.
    pub now: Micros,
    /// How long it runs, by the monotonic clock.
    pub uptime_ms: u64,
    /// The machine's name.
    pub host: String,
    /// Where events come in.
    pub listen: String,
    /// Trouble, worst first; empty is healthy.
    pub findings: Vec<Finding>,
    /// The stages of this instance in the order of an event's way: those of its [steps](Step).
    pub stages: Vec<Stage>,
    /// Every stream, busiest first.
    pub streams: Vec<StreamStatus>,
    /// Where batches go; of an instance that only collects, the topic.
    pub sinks: Vec<Sink>,
    /// The topic of several instances, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<QueueStatus>,
    /// Where the lake's objects are loaded into, if they are.
    #[serde(default)]
    pub warehouse: Option<WarehouseStatus>,
    /// The error store.
    pub dead_letters: Counts,
    /// What is used and what there is.
    pub capacity: Capacity,
    /// The last things that changed, newest first, at most 20.
    pub changes: Vec<Change>,
    /// Reports of damage that nobody has acknowledged.
    pub damage: Damage,
}

/// Damage that was found and that no operator has acknowledged.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Damage {
    /// How many reports there are.
    pub reports: u64,
    /// How many events are lost by them.
    pub lost: u64,
    /// The newest of them, newest first, at most 20.
    pub newest: Vec<DamageNote>,
}

/// A report of damage, in short.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DamageNote {
    /// One sentence.
    pub text: String,
    /// Whose it was.
    pub stream: Option<String>,
    /// The first position that is lost.
    pub from: Option<Seq>,
    /// The position behind the last that is lost.
    pub to: Option<Seq>,
    /// How many events are lost.
    pub lost: u64,
    /// When it was found.
    pub found_at: Micros,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Look at it today.
    Warning,
    /// Look at it now.
    Critical,
}

/// The console's views, to which findings point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum View {
    /// Everything at a glance.
    Overview,
    /// Rates and lag per stream.
    Streams,
    /// Skew.
    Partitions,
    /// Log depth.
    Wal,
    /// Rejected events.
    DeadLetters,
    /// Loads into the warehouse.
    Loads,
    /// The service's own log.
    Logs,
}

impl View {
    /// What a finding that points there is about, in a word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Overview => "service",
            Self::Streams => "streams",
            Self::Partitions => "partitions",
            Self::Wal => "log",
            Self::DeadLetters => "dead letters",
            Self::Loads => "warehouse",
            Self::Logs => "logs",
        }
    }
}

/// One thing an operator should look at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// How bad.
    pub severity: Severity,
    /// Where it shows.
    pub view: View,
    /// One line, without a payload's text.
    pub text: String,
    /// The stream it is about, where it is about one.
    pub stream: Option<StreamName>,
}

/// The state of a stage or sink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Nothing to do; not a warning.
    #[default]
    Idle,
    /// Working.
    Ok,
    /// Behind.
    Slow,
    /// At a limit.
    Full,
    /// Failing.
    Stopped,
}

impl State {
    /// The word that is shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Ok => "ok",
            Self::Slow => "slow",
            Self::Full => "full",
            Self::Stopped => "stopped",
        }
    }
}

/// One stage of the pipeline over all streams.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// As its [step](Step) is called: `ingest`, `wal`, ….
    pub name: String,
    /// How it does.
    pub state: State,
    /// Events since the start.
    pub events: u64,
    /// Events per second over the last five seconds.
    pub rate: f64,
    /// Events per second, one point a second.
    pub seconds: Vec<f32>,
    /// Events per second, one point per 15 seconds.
    pub quarters: Vec<f32>,
    /// One short fact, such as `lag 1.2s` or `skew 3.1x`.
    pub note: String,
    /// A second one.
    pub detail: String,
}

/// One stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StreamStatus {
    /// Its name.
    pub name: StreamName,
    /// How it does.
    pub state: State,
    /// Events acknowledged at the edge since the start.
    pub received_events: u64,
    /// Payload bytes of those.
    pub received_bytes: u64,
    /// Events that became typed.
    pub adapted_events: u64,
    /// Events that became dead letters.
    pub rejected_events: u64,
    /// Events dropped as duplicates.
    pub duplicate_events: u64,
    /// Log records that could not be read any more.
    pub damaged_records: u64,
    /// Objects of the store that could not be read when it was listed at the start.
    #[serde(default)]
    pub unreadable_objects: u64,
    /// Dead letters that neither the error store nor the log has any more.
    #[serde(default)]
    pub lost_letters: u64,
    /// Torn tails of its log that a start has set aside.
    pub torn_tails: u64,
    /// Events whose client's clock is more than 24 h away from ours.
    pub skewed_events: u64,
    /// Events whose receive time is not believed; they are below `date=unknown`.
    #[serde(default)]
    pub undated_events: u64,
    /// Events that a topic has confirmed.
    #[serde(default)]
    pub published_events: u64,
    /// Events that were pulled from a subscription into the log.
    #[serde(default)]
    pub pulled_events: u64,
    /// Events whose batch is committed.
    pub stored_events: u64,
    /// Bytes of the objects those became.
    pub stored_bytes: u64,
    /// Batches committed.
    pub stored_batches: u64,
    /// Requests refused because its log was full or failing.
    pub refused_requests: u64,
    /// Events received per second, over the last five seconds; of an instance that only processes,
    /// those pulled.
    pub rate: f64,
    /// Rejections per second, over the last five seconds.
    pub rejected_rate: f64,
    /// Events per second, one point a second; only for the 16 busiest streams.
    pub seconds: Vec<f32>,
    /// Events per second, one point per 15 seconds; only for the 16 busiest streams.
    pub quarters: Vec<f32>,
    /// Dead letters waiting.
    pub dead_open: u64,
    /// Its log.
    pub wal: WalStatus,
    /// Events in open or unfinished batches.
    pub pending_events: u64,
    /// Bytes of those.
    pub pending_bytes: u64,
    /// How long the oldest of those waits.
    pub pending_age_ms: u64,
    /// Failed attempts to store a batch.
    pub store_failures: u64,
    /// The last error of its store, while it fails.
    pub store_error: Option<String>,
    /// Per partition, in partition order.
    pub partitions: Vec<PartitionStatus>,
}

/// One partition of one stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionStatus {
    /// Events since the start.
    #[serde(rename = "e")]
    pub events: u64,
    /// Events in open or unfinished batches.
    #[serde(rename = "p")]
    pub pending: u64,
}

/// One stream's log.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WalStatus {
    /// The next position to be written.
    pub head: u64,
    /// Everything below this position is stored or dead-lettered.
    pub cursor: u64,
    /// Events in it that are neither stored nor dead-lettered.
    pub lag_events: u64,
    /// Bytes on disk.
    pub bytes: u64,
    /// Bytes it may have.
    pub bytes_max: u64,
    /// Segment files.
    pub segments: u64,
    /// Median duration of a sync since the start, in microseconds.
    pub sync_p50_us: u64,
    /// 99th percentile of the same.
    pub sync_p99_us: u64,
    /// Syncs since the start.
    pub syncs: u64,
}

/// One destination.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sink {
    /// `lake`, …
    pub name: String,
    /// How it does.
    pub state: State,
    /// Events per second, over the last five seconds.
    pub rate: f64,
    /// Events stored since the start.
    pub events: u64,
    /// Failed attempts since the start.
    pub failures: u64,
    /// Events that wait for it.
    pub backlog: u64,
    /// Duration of the last stored batch, plan to commit.
    pub last_ms: u64,
    /// The last error, while it fails.
    pub error: Option<String>,
}

/// What an instance has to do with the topic of several.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct QueueStatus {
    /// What of the work is this instance's.
    pub role: Role,
    /// Events that the topic has confirmed, since the start.
    pub published_events: u64,
    /// Messages of those.
    pub published_messages: u64,
    /// Bytes of those messages.
    pub published_bytes: u64,
    /// Events per second of those, over the last five seconds.
    pub published_rate: f64,
    /// Events that were pulled since the start.
    pub pulled_events: u64,
    /// Messages of those.
    pub pulled_messages: u64,
    /// Bytes of those messages.
    pub pulled_bytes: u64,
    /// Events per second of those, over the last five seconds.
    pub pulled_rate: f64,
    /// Messages that were acknowledged to the subscription: stored, or dead letters.
    pub acked_messages: u64,
    /// Messages that are held: not stored yet, or their acknowledgement is not confirmed.
    pub outstanding_messages: u64,
    /// Their bytes.
    pub outstanding_bytes: u64,
    /// Why it can't be reached, while it can't.
    pub error: Option<String>,
    /// Why messages go back that this instance can't take and others may, while any do.
    #[serde(default)]
    pub returned: Option<String>,
}

impl QueueStatus {
    /// What an instance of this role can't do while the topic and its subscription can't be used.
    #[must_use]
    pub fn trouble(&self) -> &'static str {
        match self.role {
            Role::Process => "what others collect can't be pulled",
            Role::Collect => "the topic can't be used; events wait in the logs",
            Role::All => "the topic or its subscription can't be used; events wait",
        }
    }
}

/// What is used and what there is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Capacity {
    /// Bytes of all logs.
    pub wal_bytes: u64,
    /// Bytes that the existing logs may have together.
    pub wal_bytes_max: u64,
    /// Free bytes on the data directory's filesystem, less those that the reserve is short of.
    pub disk_free_bytes: u64,
    /// Size of that filesystem.
    pub disk_bytes: u64,
    /// Whether that is enough to take events.
    #[serde(default)]
    pub disk_level: Level,
    /// Resident memory of the process.
    pub memory_bytes: u64,
    /// The machine's (or cgroup's) memory.
    pub memory_bytes_max: u64,
    /// Cores in use, over the last five seconds (1.0 is one core).
    pub cpu_cores: f64,
    /// Cores there are.
    pub cpu_cores_max: u64,
    /// Bytes of `errors.db`.
    pub errors_bytes: u64,
}

/// Something that changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// When.
    pub at: Micros,
    /// One line, without a payload's text.
    pub text: String,
}
