//! The one table of what can be configured: path, meaning, default, and the setting behind it.
//!
//! A key's environment variable is `EVENTKIT_` and its path in capitals, with `_` for every
//! other character: `store.kind` is `EVENTKIT_STORE_KIND`. A stream's keys stand once for all
//! streams, with `NAME` for the stream's name; lists are given with commas there.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::streams::StreamDraft;
use super::value::Slot;
use super::{Config, Place};
use crate::event::StreamName;

const MIB: u64 = 1 << 20;
const KIB: u64 = 1 << 10;
const MANY: usize = 1 << 32;

/// One configurable setting.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its path in the file, such as `wal.bytes_max` or `streams.NAME.adapter`.
    pub path: &'static str,
    /// Its default, as the file would have it.
    pub default: &'static str,
    /// What it means, as a sentence.
    pub doc: &'static str,
    pub(super) at: At,
}

/// Where a key's setting is.
#[derive(Clone, Copy, Debug)]
pub(super) enum At {
    Service(fn(&mut Config) -> Slot<'_>),
    Stream(fn(&mut StreamDraft) -> Slot<'_>),
}

/// Paths of stream keys begin with this.
pub(super) const STREAM_PREFIX: &str = "streams.NAME.";

/// A setting as `eventkit config` lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigLine {
    /// The key's path, with the stream's name in it where it is a stream's.
    pub key: String,
    /// The value, as the file would have it; empty for none.
    pub value: String,
    /// `default`, `FILE:LINE`, a variable's name, or an option.
    pub origin: String,
    /// What the key means.
    pub doc: String,
    /// The key's environment variable.
    pub variable: String,
}

const fn service(
    path: &'static str,
    default: &'static str,
    doc: &'static str,
    at: fn(&mut Config) -> Slot<'_>,
) -> Key {
    Key { path, default, doc, at: At::Service(at) }
}

const fn stream(
    path: &'static str,
    default: &'static str,
    doc: &'static str,
    at: fn(&mut StreamDraft) -> Slot<'_>,
) -> Key {
    Key { path, default, doc, at: At::Stream(at) }
}

/// Every key, in the order in which it is listed.
#[rustfmt::skip]
pub const KEYS: &[Key] = &[
    service("data_dir", "\"./eventkit-data\"", "Where log, ledger, error store and (by default) the lake are; under systemd $STATE_DIRECTORY.",
        |c| Slot::Path(&mut c.data_dir)),
    service("listen", "\"127.0.0.1:8000\"", "Where events come in.",
        |c| Slot::Address(&mut c.listen)),
    service("metrics_listen", "\"127.0.0.1:9090\"", "Where Prometheus looks.",
        |c| Slot::Address(&mut c.metrics_listen)),
    service("admin_socket", "\"DATA_DIR/admin.sock\"", "The Unix socket of console and commands; under systemd $RUNTIME_DIRECTORY/admin.sock.",
        |c| Slot::Path(&mut c.admin_socket)),
    service("shutdown_timeout", "\"30s\"", "How long a stop may take before the rest is left to the next start.",
        |c| Slot::Duration(&mut c.shutdown_timeout, Duration::from_millis(100), Duration::from_secs(3600))),
    service("max_streams", "64", "How many streams may exist, declared or created on first use.",
        |c| Slot::Count(&mut c.max_streams, 1, 10_000)),
    service("auto_create", "true", "Whether an undeclared stream is created on first use.",
        |c| Slot::Flag(&mut c.auto_create)),
    service("partitions", "16", "Partitions of a stream whose own table names none.",
        |c| Slot::Partitions(&mut c.default_stream.partitions)),
    service("ingest.body_bytes_max", "\"4 MiB\"", "A request body's bytes on the wire; above, 413.",
        |c| Slot::Size(&mut c.ingest.body_bytes_max, KIB)),
    service("ingest.inflated_bytes_max", "\"16 MiB\"", "A request body's bytes after decompression; above, and above 64 KiB and 100 times its bytes on the wire, 413.",
        |c| Slot::Size(&mut c.ingest.inflated_bytes_max, KIB)),
    service("ingest.event_bytes_max", "\"1 MiB\"", "One event's bytes; a larger one of a batch becomes a dead letter, one alone gets 413.",
        |c| Slot::Size(&mut c.ingest.event_bytes_max, KIB)),
    service("ingest.depth_max", "64", "How deep arrays and objects of an event may nest.",
        |c| Slot::Count(&mut c.ingest.depth_max, 1, 10_000)),
    service("ingest.connections_max", "4096", "Open connections.",
        |c| Slot::Count(&mut c.ingest.connections_max, 1, 1_000_000)),
    service("ingest.allow_remote", "false", "Whether to listen on other addresses than loopback: everybody who reaches them may send.",
        |c| Slot::Flag(&mut c.ingest.allow_remote)),
    service("disk.allow_any_filesystem", "false", "Whether to run on a file system that does not keep what was synced: nfs, 9p, fuse, overlay, tmpfs and the like.",
        |c| Slot::Flag(&mut c.disk.allow_any_filesystem)),
    service("disk.reserve_bytes", "\"64 MiB\"", "Held back in DATA_DIR/reserve.bin and given up when the disk is full, so that making space needs none; unless set, at most a sixteenth of the file system.",
        |c| Slot::LongSize(&mut c.disk.reserve_bytes, 0)),
    service("disk.warn_below", "\"10%\"", "Free space that is a finding; this and the next two are of the file system, or of 40 GiB where it is larger.",
        |c| Slot::Percent(&mut c.disk.warn_below)),
    service("disk.refuse_below", "\"5%\"", "Free space below which events are refused with 503.",
        |c| Slot::Percent(&mut c.disk.refuse_below)),
    service("disk.resume_above", "\"8%\"", "Free space from which on they are taken again.",
        |c| Slot::Percent(&mut c.disk.resume_above)),
    service("wal.bytes_max", "\"4 GiB\"", "Bytes of one stream's log on disk; a full log answers 503, a request that is larger than it 413. Unless set, at most a 32nd of the file system.",
        |c| Slot::LongSize(&mut c.wal.bytes_max, MIB)),
    service("wal.segment_bytes", "\"8 MiB\"", "Bytes of one segment file of a log; an idle stream has one.",
        |c| Slot::LongSize(&mut c.wal.segment_bytes, 64 * KIB)),
    service("wal.queue_bytes_max", "\"8 MiB\"", "Bytes that may wait for a log's writer; above, 503.",
        |c| Slot::Size(&mut c.wal.queue_bytes_max, 64 * KIB)),
    service("wal.retention", "\"24h\"", "For how long stored events stay in the log, to be processed again; less where it needs the space.",
        |c| Slot::Duration(&mut c.wal.retention, Duration::ZERO, Duration::from_secs(366 * 24 * 3600))),
    service("dedupe.window", "\"24h\"", "For how long a message id is remembered, so that a client's retry is no second row.",
        |c| Slot::Duration(&mut c.dedupe.window, Duration::from_secs(1), Duration::from_secs(30 * 86_400))),
    service("dedupe.memory_bytes_max", "\"40 MiB\"", "Memory for the message ids of all streams; the oldest are forgotten when it is used up.",
        |c| Slot::Size(&mut c.dedupe.memory_bytes_max, KIB)),
    service("load.events_max", "10000", "Events in a batch; for Firestore 500, as many as one request writes.",
        |c| Slot::Count(&mut c.load.events_max, 1, MANY)),
    service("load.bytes_max", "\"8 MiB\"", "Bytes of memory that a batch takes.",
        |c| Slot::Size(&mut c.load.bytes_max, KIB)),
    service("load.age_max", "\"30s\"", "Age of a batch's oldest event; for Firestore 1s.",
        |c| Slot::Duration(&mut c.load.age_max, Duration::from_millis(10), Duration::from_secs(86_400))),
    service("load.memory_bytes_max", "\"64 MiB\"", "Bytes that all open and unfinished batches may hold together.",
        |c| Slot::Size(&mut c.load.memory_bytes_max, MIB)),
    service("store.kind", "\"lake\"", "What batches become: lake, Parquet files in a directory or a bucket; firestore, a document for each event.",
        |c| Slot::Store(&mut c.store.kind)),
    service("store.path", "\"DATA_DIR/lake\"", "The lake's directory, where it has no bucket; created if missing.",
        |c| Slot::Path(&mut c.store.path)),
    service("store.bucket", "\"\"", "The lake's bucket instead: gs://NAME of Google Cloud Storage, s3://NAME of Amazon S3 or what speaks as it does.",
        |c| Slot::Bucket(&mut c.store.bucket)),
    service("store.prefix", "\"\"", "Put before every object's key.",
        |c| Slot::Prefix(&mut c.store.prefix)),
    service("store.endpoint", "\"\"", "Another address of the object storage or of Firestore, such as http://127.0.0.1:4443; one of plain http is asked without Google credentials.",
        |c| Slot::Url(&mut c.store.endpoint)),
    service("store.region", "\"\"", "The S3 bucket's region, where AWS_REGION does not name it. Its credentials are AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the machine's.",
        |c| Slot::Region(&mut c.store.region)),
    service("store.database", "\"(default)\"", "Firestore's database.",
        |c| Slot::Database(&mut c.store.database)),
    service("store.collection", "\"eventkit\"", "Firestore's collection: the events of a stream are the documents of COLLECTION/STREAM/events.",
        |c| Slot::Collection(&mut c.store.collection)),
    service("warehouse.kind", "\"none\"", "Where the lake's objects are loaded into: none, or bigquery, for a lake in a bucket of gs://.",
        |c| Slot::Warehouse(&mut c.warehouse.kind)),
    service("warehouse.dataset", "\"\"", "BigQuery's dataset, in google.project; it must be there, in the same location as the bucket.",
        |c| Slot::Dataset(&mut c.warehouse.dataset)),
    service("warehouse.table", "\"{stream}\"", "The table of a stream, with {stream} for its name, whose - become _; created if missing, and widened.",
        |c| Slot::Table(&mut c.warehouse.table)),
    service("warehouse.location", "\"US\"", "Where the dataset is.",
        |c| Slot::Location(&mut c.warehouse.location)),
    service("warehouse.interval", "\"5min\"", "How often a table is loaded at most: BigQuery takes 1,500 jobs a table a day, one each 58 s.",
        |c| Slot::Duration(&mut c.warehouse.interval, Duration::from_millis(100), Duration::from_secs(86_400))),
    service("warehouse.endpoint", "\"\"", "Another address of BigQuery, such as http://127.0.0.1:9050; one of plain http is asked without Google credentials.",
        |c| Slot::Url(&mut c.warehouse.endpoint)),
    service("google.project", "\"\"", "The Google Cloud project that things are in and that is billed.",
        |c| Slot::Project(&mut c.google.project)),
    service("google.credentials", "\"\"", "A file with Google credentials; unless given, GOOGLE_APPLICATION_CREDENTIALS, then gcloud's own, then the machine's.",
        |c| Slot::OptionalPath(&mut c.google.credentials)),
    service("role", "\"all\"", "What this instance does of it, with queue.mode = \"pubsub\": collect, process, or all.",
        |c| Slot::Role(&mut c.role)),
    service("queue.mode", "\"local\"", "How events travel from the log to the stages behind it: local, in this process; pubsub, through a topic of Google Cloud Pub/Sub, to any number of instances.",
        |c| Slot::QueueMode(&mut c.queue.mode)),
    service("queue.topic", "\"eventkit\"", "The topic, in google.project; made if missing.",
        |c| Slot::Resource(&mut c.queue.topic)),
    service("queue.subscription", "\"eventkit\"", "Its subscription, that all who process share; made if missing, with ordering, which it needs.",
        |c| Slot::Resource(&mut c.queue.subscription)),
    service("queue.endpoint", "\"\"", "Another address of Pub/Sub, such as http://127.0.0.1:8085; one of plain http is asked without Google credentials. Unless set, PUBSUB_EMULATOR_HOST.",
        |c| Slot::Url(&mut c.queue.endpoint)),
    service("queue.outstanding_bytes_max", "\"256 MiB\"", "Bytes of messages that were pulled and are not acknowledged yet; of one stream half of that.",
        |c| Slot::Size(&mut c.queue.outstanding_bytes_max, MIB)),
    service("errors.malformed_max", "1000", "Malformed bodies kept; the oldest goes first.",
        |c| Slot::Count(&mut c.errors.malformed_max, 0, MANY)),
    service("errors.malformed_bytes_max", "\"16 MiB\"", "Bytes of malformed bodies kept; the oldest goes first.",
        |c| Slot::Size(&mut c.errors.malformed_bytes_max, 0)),
    service("log.level", "\"info\"", "Which of its own log lines the service writes, such as info,eventkit=debug.",
        |c| Slot::Level(&mut c.log.level)),
    service("log.format", "\"text\"", "How its log lines look: text (on a terminal) or json (elsewhere).",
        |c| Slot::Format(&mut c.log.format)),
    stream("streams.NAME.adapter", "\"segment\"", "Which adapter reads the stream's payloads: segment or json.",
        |s| Slot::Adapter(&mut s.adapter)),
    stream("streams.NAME.partitions", "16", "How many partitions its users are spread over; the key `partitions` unless given.",
        |s| Slot::StreamPartitions(&mut s.partitions)),
    stream("streams.NAME.json.key", "\"userId\"", "Where the user is, for adapter = \"json\"; also the sequencing key.",
        |s| Slot::Pointer(&mut s.key)),
    stream("streams.NAME.json.type", "\"type\"", "Where the type is, for adapter = \"json\".",
        |s| Slot::Pointer(&mut s.kind)),
    stream("streams.NAME.json.time", "\"timestamp\"", "Where the time is, for adapter = \"json\".",
        |s| Slot::Pointer(&mut s.time)),
    stream("streams.NAME.json.id", "\"messageId\"", "Where the message id is, for adapter = \"json\".",
        |s| Slot::Pointer(&mut s.id)),
    stream("streams.NAME.validate.required", "[\"userId | anonymousId\"]", "Fields that must be there, with alternatives; the default is that of users, events and pages, elsewhere none.",
        |s| Slot::Required(&mut s.required)),
    stream("streams.NAME.validate.types", "{}", "Types that fields may have when they are there; users, events and pages check their ids.",
        |s| Slot::Types(&mut s.types)),
    stream("streams.NAME.validate.timestamps", "[\"timestamp\", \"originalTimestamp\", \"sentAt\"]", "Fields that must be timestamps when they are there.",
        |s| Slot::Pointers(&mut s.timestamps)),
];

impl Key {
    /// The key of that path; a stream's with `NAME` for the name.
    #[must_use]
    pub fn find(path: &str) -> Option<&'static Self> {
        KEYS.iter().find(|key| key.path == path)
    }

    /// Its environment variable; a stream's with `NAME` for the name.
    #[must_use]
    pub fn variable(&self) -> String {
        variable(self.path)
    }

    /// Its path for that stream; a key of the service has but one.
    #[must_use]
    pub fn path_for(&self, stream: Option<&StreamName>) -> String {
        match (self.path.strip_prefix(STREAM_PREFIX), stream) {
            (Some(rest), Some(name)) => format!("streams.{name}.{rest}"),
            _ => self.path.to_owned(),
        }
    }

    /// What a value must be, as a phrase.
    #[must_use]
    pub fn expects(&self) -> &'static str {
        match self.at {
            At::Service(at) => at(&mut Config::default()).expects(),
            At::Stream(at) => at(&mut StreamDraft::default()).expects(),
        }
    }
}

/// The environment variable of a path.
pub(super) fn variable(path: &str) -> String {
    let capital = |c: char| {
        if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }
    };
    format!("EVENTKIT_{}", path.chars().map(capital).collect::<String>())
}

/// The table of all keys in Markdown, for the README.
#[must_use]
pub fn reference() -> String {
    let mut table = "| key | default | meaning |\n| --- | --- | --- |\n".to_owned();
    for key in KEYS {
        let doc = key.doc.replace('|', "\\|");
        let default = key.default.replace('|', "\\|");
        table.push_str(&format!("| `{}` | `{default}` | {doc} |\n", key.path));
    }
    table
}

impl Config {
    /// Every setting with its origin, for `eventkit config`: the service's keys, then each
    /// stream's.
    #[must_use]
    pub fn describe(&self) -> Vec<ConfigLine> {
        let mut shown = self.clone();
        let mut lines = Vec::new();
        for key in KEYS {
            if let At::Service(at) = key.at {
                lines.push(self.line(key, None, at(&mut shown).show()));
            }
        }
        for (name, stream) in &self.streams {
            let mut shown = StreamDraft::of(stream);
            for key in KEYS {
                if let At::Stream(at) = key.at {
                    lines.push(self.line(key, Some(name), at(&mut shown).show()));
                }
            }
        }
        lines
    }

    fn line(&self, key: &Key, stream: Option<&StreamName>, value: String) -> ConfigLine {
        let path = key.path_for(stream);
        ConfigLine {
            value,
            origin: self.origins.get(&path).unwrap_or(&Place::Default).origin(),
            doc: key.doc.to_owned(),
            variable: variable(&path),
            key: path,
        }
    }
}
