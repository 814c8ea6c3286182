//! The pipeline: the one file that knows every stage. It builds them, runs them, drains them.
//!
//! Start: lock the data directory, bind every socket, open ledger, error store and logs, start a
//! worker per stream, then serve. Stop: refuse new events, finish the requests in flight, store
//! what the logs hold until the deadline, end the workers, close the files. What is not stored by
//! then stays in the log for the next start. A disk that fails ends it at once.

mod background;
mod databases;
mod directory;
mod flush;
mod look;
mod remote;
mod reserve;
mod spawner;
mod warehouse;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

pub use directory::DirectoryError;
pub use look::{Outlook, check};
pub use remote::reach_queue;

use background::{Refresh, probe, readiness, refresh, sample, serve_metrics, to_json, watch_disk};
use databases::open_databases;
use directory::DataDir;
use flush::flush;
use remote::Remote;
use reserve::Watch;
use spawner::{Spawner, Workers, store_runtime};
use tokio::net::{TcpListener, TcpSocket, UnixListener};
use tokio::sync::{mpsc, oneshot, watch};
use warehouse::Loading;

use crate::admin::{self, Admin};
use crate::config::{Config, Role};
use crate::damage::Reports;
use crate::dedupe::Memory;
use crate::errors::ErrorStore;
use crate::event::StreamName;
use crate::ingest::{self, Edge, Readiness};
use crate::ledger::Ledger;
use crate::load::Budget;
use crate::queue::{Hooks, Wake};
use crate::quota::{self, Disk, Quotas, TooSmall};
use crate::space::{self, Space};
use crate::sqlite::{Damage, SqliteError};
use crate::stats::EdgeStats;
use crate::status::{Changes, Reached, Sampler, Sources};
use crate::store::AnyStore;
use crate::streams::{self, Streams};
use crate::time::Clock;
use crate::wal::WalError;
use crate::warehouse::WarehouseLoader;

/// How long `flush` waits for the stores.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(60);
/// How long requests in flight are waited for at the end.
const REQUESTS_TIMEOUT: Duration = Duration::from_secs(5);

/// Connections that the system holds until they are accepted.
const BACKLOG: u32 = 4096;

/// Why a service did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory itself.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// A file or directory.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What is configured does not fit the disk.
    #[error(transparent)]
    TooSmall(#[from] TooSmall),
    /// A socket.
    #[error("can't listen on {address}: {source}")]
    Listen {
        /// Where.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// A log.
    #[error(transparent)]
    Log(#[from] WalError),
    /// The ledger or the error store.
    #[error(transparent)]
    Database(#[from] SqliteError),
    /// The topic of several instances, as it is configured.
    #[error("{0}")]
    Queue(String),
    /// That topic, at present: only a check says so, a start does not wait for it.
    #[error("{0}")]
    Unreachable(String),
}

impl StartError {
    /// Whether another process has the data directory.
    #[must_use]
    pub fn is_in_use(&self) -> bool {
        matches!(self, Self::Directory(DirectoryError::InUse(_)))
    }

    /// The process's exit code: 75 in use, 78 format or configuration, 74 anything else.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Directory(error) => error.exit_code(),
            Self::Log(WalError::NewerFormat { .. })
            | Self::Database(SqliteError::NewerFormat { .. })
            | Self::TooSmall(_)
            | Self::Queue(_) => 78,
            _ => 74,
        }
    }
}

/// The process can't go on: what is on the disk is unknown until the next start (exit 74).
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Fatal(pub String);

/// A pipeline that is built and bound, and serves once it is [run](Service::run).
pub struct Service {
    config: Arc<Config>,
    ledger: Ledger,
    errors: ErrorStore,
    streams: Streams,
    workers: Workers,
    edge: Arc<Edge>,
    edge_stats: Arc<EdgeStats>,
    doors: Doors,
    sampler: Sampler,
    watch: Watch,
    hooks: Hooks,
    store: Arc<AnyStore>,
    store_state: watch::Sender<Reached>,
    remote: Option<Remote>,
    fatal: mpsc::Receiver<String>,
    /// Where there is a warehouse.
    loading: Option<Loading>,
    /// Held for the process's whole life.
    _directory: DataDir,
}

impl Service {
    /// Builds everything up to the point where the first request can be answered.
    ///
    /// # Errors
    /// [`StartError`]; nothing has been acknowledged or changed beyond recovery then.
    pub async fn start(config: Config, store: Arc<AnyStore>) -> Result<Self, StartError> {
        Self::start_with(config, store, Clock::default()).await
    }

    /// The same with another clock than the system's.
    ///
    /// # Errors
    /// As [`Service::start`].
    pub async fn start_with(
        config: Config,
        store: Arc<AnyStore>,
        clock: Clock,
    ) -> Result<Self, StartError> {
        let (started, config) = (Instant::now(), Arc::new(config));
        let (remote, store) = remote::of(&config, store)?;
        let (directory, quotas) = open_directory(&config)?;
        let (changes, space) = (Changes::default(), Space::new(config.disk.clone()));
        let watch = watch(&config, &space, &changes);
        let doors = bind(&config).await?;
        let (ledger, errors) = open_databases(Arc::clone(&config)).await?;
        note_start(&config, &changes, [ledger.damage(), errors.damage()]);
        let (hooks, fatal) = hooks(&config, changes.clone(), space.clone());
        let workers = Workers::default();
        let spawner = Spawner {
            announce: Arc::default(),
            config: Arc::clone(&config),
            budget: Budget::new(config.load.memory_bytes_max),
            memory: Memory::new(config.dedupe.memory_bytes_max),
            ledger: ledger.clone(),
            errors: errors.clone(),
            store: Arc::clone(&store),
            topic: remote.as_ref().and_then(Remote::topic),
            hooks: hooks.clone(),
            workers: Arc::clone(&workers),
            runtime: store_runtime()?,
            started,
        };
        let streams = open_streams(quotas, spawner).await?;
        let (edge_stats, loading) = (Arc::<EdgeStats>::default(), Loading::of(&config));
        let (store_state, store_now) = watch::channel(None);
        let sources = Sources {
            streams: streams.clone(),
            errors: errors.clone(),
            edge: Arc::clone(&edge_stats),
            store: store.name().to_owned(),
            queue: remote.as_ref().map(|remote| seen(&config, remote, &store_now)),
            store_now,
            warehouse: loading.as_ref().map(|loading| loading.progress.clone()),
            returned: remote.as_ref().map(Remote::returned).unwrap_or_default(),
            changes,
            reports: hooks.reports.clone(),
            space,
            standing: directory.warnings.clone(),
            listen: doors.events.local_addr().unwrap_or(config.listen).to_string(),
            started,
        };
        let ready = readiness(&sources, remote.as_ref().and_then(Remote::state));
        let edge = edge(&config, &sources, clock, ready);
        Ok(Self {
            config,
            ledger,
            errors,
            streams,
            workers,
            edge,
            edge_stats,
            doors,
            sampler: Sampler::new(sources),
            watch,
            hooks,
            store,
            store_state,
            remote,
            fatal,
            loading,
            _directory: directory,
        })
    }

    /// Loads what is stored into that warehouse too; nothing where the configuration names none.
    #[must_use]
    pub fn with_warehouse(mut self, loader: impl WarehouseLoader) -> Self {
        let (ledger, changed) = (self.ledger.clone(), Arc::clone(&self.hooks.changed));
        self.loading = self.loading.map(|loading| loading.with(loader, ledger, changed));
        self
    }

    /// Where events come in: the configured address, with the port the system chose for 0.
    #[must_use]
    pub fn listen(&self) -> SocketAddr {
        self.doors.events.local_addr().unwrap_or(self.config.listen)
    }

    /// Where Prometheus looks, likewise.
    #[must_use]
    pub fn metrics_listen(&self) -> SocketAddr {
        self.doors.metrics.local_addr().unwrap_or(self.config.metrics_listen)
    }

    /// Serves until `shutdown` is ready, then drains.
    ///
    /// # Errors
    /// [`Fatal`] where the disk failed: the caller exits with 74.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) -> Result<(), Fatal> {
        let first = Arc::new(self.sampler.sample());
        let (snapshot, snapshots) = watch::channel(Arc::clone(&first));
        let (json_sender, json) = watch::channel(to_json(&first));
        let mut background = tokio::task::JoinSet::new();
        let (refreshing, refreshes) = mpsc::channel(16);
        background.spawn(sample(self.sampler, refreshes, snapshot, json_sender));
        background.spawn(probe(Arc::clone(&self.store), self.store_state));
        let space = self.watch.space();
        background.spawn(watch_disk(self.watch, self.streams.clone()));
        let mut remote = self.remote.map(|remote| {
            remote.start(&self.streams, &self.errors, &space, &self.workers, &mut background)
        });
        let Doors { events, metrics, admin: socket } = self.doors;
        background.spawn(serve_metrics(metrics, snapshots, Arc::clone(&self.edge_stats)));
        let loads = self.loading.map(|loading| loading.spawn(&mut background, &self.ledger));
        let path = self.config.admin_socket.clone();
        let admin = Admin {
            snapshot: json,
            errors: self.errors.clone(),
            streams: self.streams.clone(),
            reports: self.hooks.reports.clone(),
            flush: flusher(Arc::clone(&self.workers), refreshing),
            loads,
            changed: self.hooks.changed,
        };
        background.spawn(async move {
            if let Err(error) = admin::serve(socket, &path, admin).await {
                tracing::error!(%error, "the admin socket failed");
            }
        });
        let (stop, stopped) = oneshot::channel::<()>();
        let mut serving = tokio::spawn(ingest::serve(
            events,
            Arc::clone(&self.edge),
            self.config.ingest.connections_max,
            async { drop(stopped.await) },
        ));
        tokio::select! {
            () = shutdown => {}
            Some(why) = self.fatal.recv() => return Err(Fatal(why)),
        }
        let deadline = Instant::now() + self.config.shutdown_timeout;
        self.edge.drain();
        let _ = stop.send(());
        remote.iter().for_each(remote::Running::end);
        // Requests that are still open are refused or answered; their connections may linger.
        let patience = REQUESTS_TIMEOUT.min(self.config.shutdown_timeout / 2);
        let _ = tokio::time::timeout(patience, &mut serving).await;
        serving.abort();
        remote::rests(remote.as_mut(), patience).await;
        let left = deadline.saturating_duration_since(Instant::now());
        let flushed = tokio::select! {
            flushed = flush(Arc::clone(&self.workers), left) => flushed,
            Some(why) = self.fatal.recv() => return Err(Fatal(why)),
        };
        tracing::info!(
            events = flushed.events,
            unfinished = ?flushed.unfinished,
            "drained; what is unfinished stays in its log"
        );
        background.abort_all();
        let (workers, ledger, errors) = (self.workers, self.ledger, self.errors);
        let streams = self.streams.all();
        let close = move || close(&workers, &ledger, &errors);
        tokio::task::spawn_blocking(close).await.map_err(|error| Fatal(error.to_string()))?;
        remote::give_back(&streams, remote, deadline).await;
        let _ = std::fs::remove_file(&self.config.admin_socket);
        Ok(())
    }
}

/// Stores what is in the logs, and then shows it.
fn flusher(workers: Workers, refreshing: Refresh) -> admin::Flush {
    Arc::new(move || {
        let (workers, refreshing) = (Arc::clone(&workers), refreshing.clone());
        Box::pin(async move {
            let flushed = flush(workers, FLUSH_TIMEOUT).await;
            refresh(&refreshing).await;
            flushed
        })
    })
}

/// The instance's role, and what shows whether its topic can be used: to one that only collects
/// that is the store, and is looked after as such.
fn seen(
    config: &Config,
    remote: &Remote,
    store_now: &watch::Receiver<Reached>,
) -> (Role, watch::Receiver<Reached>) {
    (config.role, if config.pulls() { remote.seen() } else { store_now.clone() })
}

/// Where events come in.
fn edge(
    config: &Config,
    sources: &Sources,
    clock: Clock,
    ready: impl Fn() -> Readiness + Send + Sync + 'static,
) -> Arc<Edge> {
    let Sources { streams, errors, space, edge, .. } = sources;
    let (streams, errors, space) = (streams.clone(), errors.clone(), space.clone());
    let edge = Edge::new(streams, errors, space, config.ingest.clone(), Arc::clone(edge), ready);
    Arc::new(edge.with_clock(clock).with_role(config.role))
}

/// Where others come in.
struct Doors {
    events: TcpListener,
    metrics: TcpListener,
    /// None while the disk has no room for it.
    admin: Option<UnixListener>,
}

async fn bind(config: &Config) -> Result<Doors, StartError> {
    let events = listen(config.listen).await?;
    let metrics = listen(config.metrics_listen).await?;
    let address = config.admin_socket.display().to_string();
    let admin = match admin::bind(&config.admin_socket) {
        // Events that are stored make room again; the socket comes with it.
        Err(error) if error.kind() == io::ErrorKind::StorageFull => {
            tracing::warn!(address, "the disk has no room for the admin socket; trying again");
            None
        }
        bound => Some(bound.map_err(|source| StartError::Listen { address, source })?),
    };
    Ok(Doors { events, metrics, admin })
}

fn listening<T>(address: SocketAddr, tried: io::Result<T>) -> Result<T, StartError> {
    tried.map_err(|source| StartError::Listen { address: address.to_string(), source })
}

async fn listen(address: SocketAddr) -> Result<TcpListener, StartError> {
    let fail = |source| StartError::Listen { address: address.to_string(), source };
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }
    .map_err(fail)?;
    // As the standard library does: a restart must not wait for old connections to be forgotten.
    socket.set_reuseaddr(true).map_err(fail)?;
    socket.bind(address).map_err(fail)?;
    socket.listen(BACKLOG).map_err(fail)
}

/// Says that the service has started, and which of its databases were damaged.
fn note_start(config: &Config, changes: &Changes, damages: [Option<&Damage>; 2]) {
    let (version, dir) = (env!("CARGO_PKG_VERSION"), config.data_dir.display());
    changes.add(format!("eventkit {version} started on {dir}"));
    damages.into_iter().flatten().for_each(|damage| changes.add(damage.to_string()));
}

/// Takes the data directory and shares out its disk.
fn open_directory(config: &Config) -> Result<(DataDir, Quotas), StartError> {
    let mut directory = directory::open(&config.data_dir, config.disk.allow_any_filesystem)?;
    let quotas = quotas(config, &mut directory.warnings)?;
    for warning in &directory.warnings {
        tracing::warn!("{warning}");
    }
    Ok((directory, quotas))
}

/// Each log's share of the disk; what fits no more but has to do is a warning.
fn quotas(config: &Config, warnings: &mut Vec<String>) -> Result<Quotas, StartError> {
    let Some(disk) = Disk::of(&config.data_dir) else {
        return Ok(Quotas::unbounded(config.wal.clone()));
    };
    let present = streams::present(&config.data_dir)
        .map_err(|source| StartError::File { path: config.data_dir.join("wal"), source })?;
    let names = streams::names(config, &present);
    let (quotas, warning) = Quotas::plan(config, names.len(), !present.is_empty(), &disk)?;
    warnings.extend(warning);
    Ok(quotas)
}

/// The disk's room, read once: where it is full, its reserve is given up for what is opened next.
fn watch(config: &Config, space: &Space, changes: &Changes) -> Watch {
    let bytes = quota::reserve_bytes(config, space::disk_bytes(&config.data_dir).1);
    let mut watch = Watch::new(&config.data_dir, bytes, space.clone(), changes.clone());
    watch.look_first();
    watch
}

/// What workers call; and where it comes out that the process can't go on.
fn hooks(config: &Config, changes: Changes, space: Space) -> (Hooks, mpsc::Receiver<String>) {
    let (fatal, receiver) = mpsc::channel(16);
    let hooks = Hooks {
        reports: Reports::open(&config.data_dir.join("quarantine")),
        // One message is enough; later ones say the same.
        fatal: Arc::new(move |why| drop(fatal.try_send(why))),
        changed: Arc::new(move |text| changes.add(text)),
        no_space: Arc::new(move || space.ran_out()),
    };
    (hooks, receiver)
}

/// Opening logs reads them: off the runtime's threads.
async fn open_streams(quotas: Quotas, spawner: Spawner) -> Result<Streams, StartError> {
    let (announce, config) = (Arc::clone(&spawner.announce), Arc::clone(&spawner.config));
    let (ledger, errors) = (spawner.ledger.clone(), spawner.errors.clone());
    let ledger_tx = ledger.counter();
    let opened = tokio::task::spawn_blocking(move || {
        let floor = move |name: &StreamName| {
            let ledger = ledger.floor(name).map_err(io::Error::other)?;
            let errors = errors.floor(name).map_err(io::Error::other)?;
            Ok(ledger.max(errors))
        };
        Streams::open(config, quotas, ledger_tx, floor, move |stream| spawner.spawn(stream))
    });
    let opened = opened.await;
    announce.store(true, Relaxed);
    match opened {
        Ok(streams) => Ok(streams?),
        Err(error) => Err(StartError::File { path: "wal".into(), source: io::Error::other(error) }),
    }
}

/// Ends every worker and closes every file, in the order in which they write to each other.
fn close(workers: &Workers, ledger: &Ledger, errors: &ErrorStore) {
    let running = std::mem::take(&mut *workers.lock().unwrap_or_else(PoisonError::into_inner));
    for worker in running.values() {
        worker.inbox.send(Wake::Stop);
    }
    for (_, worker) in running {
        worker.stream.wal.close();
        // A worker that panicked has been reported by the panic's own message.
        let _ = worker.thread.join();
    }
    warehouse::say_what_waits(ledger);
    errors.shutdown();
    ledger.close();
}
