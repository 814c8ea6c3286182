//! The defaults: a service that runs without being told anything, on loopback.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{
    Config, DedupeConfig, DiskConfig, ErrorsConfig, GoogleConfig, IngestConfig, LoadConfig,
    LogConfig, LogFormat, QueueConfig, QueueMode, Role, StoreConfig, StoreKind, StreamConfig,
    WalConfig, WarehouseConfig,
};
use crate::adapt::StreamRules;
use crate::event::StreamName;

/// The streams that Segment's routes send to, and that of `/collect`.
pub(super) const ALWAYS_DECLARED: [&str; 4] = ["default", "users", "events", "pages"];

/// Partitions of a stream that is not told otherwise.
const PARTITIONS: u16 = 16;

impl Default for Config {
    /// The defaults as they are outside systemd.
    fn default() -> Self {
        let data_dir = PathBuf::from("./eventkit-data");
        let is_terminal = std::io::stderr().is_terminal();
        Self {
            listen: loopback(8000),
            metrics_listen: loopback(9090),
            admin_socket: data_dir.join("admin.sock"),
            shutdown_timeout: Duration::from_secs(30),
            max_streams: 64,
            auto_create: true,
            ingest: IngestConfig {
                body_bytes_max: 4 << 20,
                inflated_bytes_max: 16 << 20,
                event_bytes_max: 1 << 20,
                depth_max: 64,
                connections_max: 4096,
                allow_remote: false,
            },
            disk: DiskConfig {
                allow_any_filesystem: false,
                reserve_bytes: 64 << 20,
                warn_below: 10,
                refuse_below: 5,
                resume_above: 8,
            },
            wal: WalConfig {
                bytes_max: 4 << 30,
                segment_bytes: 8 << 20,
                queue_bytes_max: 8 << 20,
                retention: Duration::from_secs(24 * 3600),
            },
            dedupe: DedupeConfig {
                window: Duration::from_secs(24 * 3600),
                memory_bytes_max: 40 << 20,
            },
            load: LoadConfig {
                events_max: 10_000,
                bytes_max: 8 << 20,
                age_max: Duration::from_secs(30),
                memory_bytes_max: 64 << 20,
            },
            store: StoreConfig::in_directory(data_dir.join("lake")),
            warehouse: WarehouseConfig::default(),
            google: GoogleConfig::default(),
            role: Role::All,
            queue: QueueConfig {
                mode: QueueMode::Local,
                topic: "eventkit".to_owned(),
                subscription: "eventkit".to_owned(),
                endpoint: None,
                outstanding_bytes_max: 256 << 20,
            },
            errors: ErrorsConfig { malformed_max: 1000, malformed_bytes_max: 16 << 20 },
            log: LogConfig {
                level: "info".to_owned(),
                format: if is_terminal { LogFormat::Text } else { LogFormat::Json },
            },
            default_stream: StreamConfig { partitions: PARTITIONS, rules: StreamRules::lenient() },
            streams: ALWAYS_DECLARED
                .iter()
                .filter_map(|name| StreamName::new(name).ok())
                .map(|name| (name.clone(), StreamConfig::of(&name, PARTITIONS)))
                .collect(),
            origins: BTreeMap::new(),
            data_dir,
        }
    }
}

impl Config {
    /// The defaults, below that directory: lake and admin socket follow it.
    #[must_use]
    pub fn with_data_dir(data_dir: &Path) -> Self {
        Self {
            data_dir: data_dir.to_owned(),
            admin_socket: data_dir.join("admin.sock"),
            store: StoreConfig::in_directory(data_dir.join("lake")),
            ..Self::default()
        }
    }
}

impl StoreConfig {
    /// A lake in that directory.
    #[must_use]
    pub fn in_directory(path: PathBuf) -> Self {
        let (bucket, prefix, endpoint, region) = Default::default();
        let (database, collection) = ("(default)".to_owned(), "eventkit".to_owned());
        let kind = StoreKind::Lake;
        Self { kind, path, bucket, prefix, endpoint, region, database, collection }
    }

    /// Whether what is stored stays in a directory of this machine.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.kind == StoreKind::Lake && self.bucket.is_none()
    }
}

impl StreamConfig {
    /// What a stream of that name does when its table says nothing.
    #[must_use]
    pub fn of(name: &StreamName, partitions: u16) -> Self {
        let rules = match name.as_str() {
            "users" | "events" | "pages" => StreamRules::segment_strict(),
            _ => StreamRules::lenient(),
        };
        Self { partitions, rules }
    }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}
