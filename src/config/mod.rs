//! Configuration: raw settings become final types, once; later code has no "invalid" branch.
//!
//! In: the file (TOML), the environment, the command line. The order is default < file <
//! environment < option. Out: a [`Config`], or every mistake at once, each with its key and its
//! place (file and line, variable, or option).
//!
//! [`KEYS`] is the one table of what can be configured; file, environment, options, the listing
//! of `eventkit config` and the README's table all follow from it. What is merely odd is a
//! [`Warning`]. Nothing here opens a socket or creates a directory.

mod checks;
mod defaults;
mod draft;
mod env;
mod file;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod keys;
mod mistakes;
mod queue;
mod streams;
mod value;
mod warehouse;

pub use draft::{Sources, load, load_part};
pub use keys::{ConfigLine, KEYS, Key, reference};
pub use mistakes::{Mistake, Mistakes, Place, Warning};
pub use queue::{QueueConfig, QueueMode, Role};
pub use warehouse::{JOBS_A_DAY_MAX, TablePattern, WarehouseConfig, WarehouseKind};

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::adapt::StreamRules;
use crate::event::StreamName;

/// Everything a running service was told.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where log, ledger, error store and (by default) the lake are.
    pub data_dir: PathBuf,
    /// Where events come in.
    pub listen: SocketAddr,
    /// Where Prometheus looks.
    pub metrics_listen: SocketAddr,
    /// The console's and the commands' door.
    pub admin_socket: PathBuf,
    /// How long SIGTERM may take before the rest is left to the next start.
    pub shutdown_timeout: Duration,
    /// How many streams may exist, declared or created on first use.
    pub max_streams: usize,
    /// Whether an undeclared stream is created on first use.
    pub auto_create: bool,
    /// The HTTP edge.
    pub ingest: IngestConfig,
    /// The disk below the data directory.
    pub disk: DiskConfig,
    /// The logs.
    pub wal: WalConfig,
    /// For how long message ids are remembered.
    pub dedupe: DedupeConfig,
    /// When a batch is full.
    pub load: LoadConfig,
    /// Where batches go.
    pub store: StoreConfig,
    /// Where the lake's objects are loaded into.
    pub warehouse: WarehouseConfig,
    /// What Google's services are asked with.
    pub google: GoogleConfig,
    /// What this instance does.
    pub role: Role,
    /// How events travel from the log to the stages behind it.
    pub queue: QueueConfig,
    /// The error store.
    pub errors: ErrorsConfig,
    /// The service's own log output.
    pub log: LogConfig,
    /// What an undeclared stream gets.
    pub default_stream: StreamConfig,
    /// Declared streams, among them always `default`, `users`, `events`, `pages`.
    pub streams: BTreeMap<StreamName, StreamConfig>,
    /// Where each key that is not at its default was set, for [`Config::describe`].
    pub origins: BTreeMap<String, Place>,
}

/// Limits of the HTTP edge.
#[derive(Clone, Debug)]
pub struct IngestConfig {
    /// A body's bytes on the wire.
    pub body_bytes_max: usize,
    /// A body's bytes after decompression.
    pub inflated_bytes_max: usize,
    /// One event's bytes.
    pub event_bytes_max: usize,
    /// How deep arrays and objects may nest.
    pub depth_max: usize,
    /// Open connections.
    pub connections_max: usize,
    /// Whether to listen on other addresses than loopback: everybody who reaches them may send.
    pub allow_remote: bool,
}

/// What is asked of the disk below the data directory, and how much of it is left alone.
///
/// Percentages are of the file system, or of 40 GiB where it is larger.
#[derive(Clone, Debug)]
pub struct DiskConfig {
    /// Whether to run on a file system that does not keep what was synced.
    pub allow_any_filesystem: bool,
    /// Bytes that are held back, so that making space needs no space.
    pub reserve_bytes: u64,
    /// Below so much free space (percent) the operator is warned.
    pub warn_below: u8,
    /// Below so much free space (percent) no events are taken.
    pub refuse_below: u8,
    /// From so much free space (percent) on they are taken again.
    pub resume_above: u8,
}

/// Limits of one stream's log.
#[derive(Clone, Debug)]
pub struct WalConfig {
    /// Bytes on disk; a full log answers 503. Where no setting says so, it is the most that a
    /// log may have, and a small disk allows less.
    pub bytes_max: u64,
    /// A segment's bytes.
    pub segment_bytes: u64,
    /// Bytes waiting for the writer.
    pub queue_bytes_max: usize,
    /// For how long stored records are retained, unless the log needs their segments.
    pub retention: Duration,
}

/// What keeps a client's retry from becoming a second row.
#[derive(Clone, Debug)]
pub struct DedupeConfig {
    /// For how long a message id is remembered.
    pub window: Duration,
    /// Memory for the ids of all streams; the oldest are forgotten when it is used up.
    pub memory_bytes_max: usize,
}

/// When a buffer is flushed.
#[derive(Clone, Debug)]
pub struct LoadConfig {
    /// Events in a batch.
    pub events_max: usize,
    /// Bytes of memory that a batch takes.
    pub bytes_max: usize,
    /// Age of a batch's oldest event.
    pub age_max: Duration,
    /// Bytes that all streams' open and unfinished batches may hold together.
    pub memory_bytes_max: usize,
}

/// Where batches go.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// What they become.
    pub kind: StoreKind,
    /// The lake's directory, where it has no bucket; created if missing.
    pub path: PathBuf,
    /// The lake's bucket.
    pub bucket: Option<Bucket>,
    /// Put before every object's key; empty for none.
    pub prefix: String,
    /// Another address of the object storage than its own. One of plain `http` is asked without
    /// credentials.
    pub endpoint: Option<String>,
    /// The region of an S3 bucket, where the environment does not name it.
    pub region: Option<String>,
    /// Firestore's database.
    pub database: String,
    /// Firestore's collection that has a document for each stream.
    pub collection: String,
}

/// What all of Google's services are asked with.
#[derive(Clone, Debug, Default)]
pub struct GoogleConfig {
    /// The project that things are in and that is billed.
    pub project: Option<String>,
    /// A file with credentials; without one those of gcloud or of the machine are used.
    pub credentials: Option<PathBuf>,
    /// Where that file was named.
    pub credentials_place: Place,
}

/// What batches become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreKind {
    /// Parquet files, in a directory or in a bucket.
    Lake,
    /// Documents of Firestore.
    Firestore,
}

impl StoreKind {
    /// Its name in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lake => "lake",
            Self::Firestore => "firestore",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        match name {
            "lake" => Some(Self::Lake),
            "firestore" => Some(Self::Firestore),
            _ => None,
        }
    }
}

/// A bucket of an object storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Which storage.
    pub service: BucketService,
    /// Its name.
    pub name: String,
}

/// Who has a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BucketService {
    /// Google Cloud Storage.
    Gcs,
    /// Amazon S3, or whatever speaks as it does.
    S3,
}

impl Bucket {
    /// The bucket of a URL: `gs://name` or `s3://name`.
    #[must_use]
    pub fn parse(url: &str) -> Option<Self> {
        let (scheme, name) = url.split_once("://")?;
        let service = match scheme {
            "gs" => BucketService::Gcs,
            "s3" => BucketService::S3,
            _ => return None,
        };
        // <https://cloud.google.com/storage/docs/buckets#naming>; S3's rules are stricter.
        let is_name = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b);
        let right = (1..=222).contains(&name.len()) && name.bytes().all(is_name);
        right.then(|| Self { service, name: name.to_owned() })
    }
}

impl std::fmt::Display for Bucket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = match self.service {
            BucketService::Gcs => "gs",
            BucketService::S3 => "s3",
        };
        write!(f, "{scheme}://{}", self.name)
    }
}

/// Limits of the error store.
#[derive(Clone, Debug)]
pub struct ErrorsConfig {
    /// Malformed bodies kept; the oldest goes first.
    pub malformed_max: usize,
    /// Bytes of malformed bodies kept; the oldest goes first.
    pub malformed_bytes_max: usize,
}

/// The service's own log output.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// A filter as `tracing_subscriber::EnvFilter` reads it.
    pub level: String,
    /// How lines look.
    pub format: LogFormat,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line, for journald.
    Json,
}

impl LogFormat {
    /// Its name in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        match name {
            "text" => Some(Self::Text),
            "json" => Some(Self::Json),
            _ => None,
        }
    }
}

/// What a stream does with its events.
#[derive(Clone, Debug)]
pub struct StreamConfig {
    /// How many partitions its users are spread over.
    pub partitions: u16,
    /// Its adapter and validators.
    pub rules: StreamRules,
}

#[cfg(test)]
mod tests;
