//! A service within this process: started, told to stop by signals, watched over by systemd.

use std::sync::Arc;
use std::time::{Duration, Instant};

use eventkit::config::{Config, StoreKind};
use eventkit::pipeline::Service;
use eventkit::store::{AnyStore, Lake};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::{CONFIGURATION, Failure};

/// The store that the configuration names.
pub fn store(config: &Config) -> Result<Arc<AnyStore>, Failure> {
    if !config.stores() {
        // Who only collects puts nothing anywhere: a directory that nobody uses is never made.
        return Ok(Arc::new(Lake::local(&config.store.path, "")));
    }
    match config.store.kind {
        StoreKind::Lake => {
            let lake = Lake::open(&config.store, &config.google);
            let lake = lake.map_err(|e| Failure::new(CONFIGURATION, e))?;
            Ok(Arc::new(lake))
        }
        #[cfg(feature = "firestore")]
        StoreKind::Firestore => {
            let firestore = eventkit::store::Firestore::open(&config.store, &config.google);
            let firestore = firestore.map_err(|e| Failure::new(CONFIGURATION, e))?;
            Ok(Arc::new(firestore))
        }
        // A configuration that names it is refused before.
        #[cfg(not(feature = "firestore"))]
        StoreKind::Firestore => Err(Failure::new(CONFIGURATION, "built without firestore")),
    }
}

/// Two signals within that time are one.
const ONE_PRESS: Duration = Duration::from_millis(250);
/// Files that logs, databases and the lake may have open beside the connections.
const FILES_BESIDE: u64 = 256;

/// Builds a service.
pub async fn start(mut config: Config, store: Arc<AnyStore>) -> Result<Service, Failure> {
    let files = raise(Resource::Nofile);
    large_files()?;
    let connections = usize::try_from(files.saturating_sub(FILES_BESIDE)).unwrap_or(usize::MAX);
    if config.ingest.connections_max > connections.max(16) {
        config.ingest.connections_max = connections.max(16);
        tracing::warn!(
            files,
            connections = config.ingest.connections_max,
            "fewer connections than ingest.connections_max: the process may open too few files"
        );
    }
    let warehouse = config.clone();
    let service = Service::start(config, store).await;
    with_warehouse(service.map_err(|e| Failure::new(e.exit_code(), e))?, &warehouse)
}

/// The warehouse that the configuration names, if it names one.
#[cfg(feature = "bigquery")]
pub fn warehouse(config: &Config) -> Result<Option<eventkit::warehouse::BigQuery>, Failure> {
    use eventkit::config::WarehouseKind;
    use eventkit::warehouse::BigQuery;

    match config.warehouse.kind {
        WarehouseKind::None => Ok(None),
        // Who only collects has nothing to load.
        _ if !config.stores() => Ok(None),
        WarehouseKind::BigQuery => {
            BigQuery::new(config).map(Some).map_err(|e| Failure::new(CONFIGURATION, e))
        }
    }
}

/// The same service, which loads into that warehouse.
#[cfg(feature = "bigquery")]
fn with_warehouse(service: Service, config: &Config) -> Result<Service, Failure> {
    Ok(match warehouse(config)? {
        Some(warehouse) => service.with_warehouse(warehouse),
        None => service,
    })
}

/// Whether the warehouse that the configuration names could be asked now.
#[cfg(feature = "bigquery")]
async fn reach_warehouse(config: &Config) -> Result<(), Failure> {
    use eventkit::warehouse::WarehouseLoader;

    let Some(warehouse) = warehouse(config)? else { return Ok(()) };
    warehouse.check().await.map_err(|error| Failure::new(super::IO, error))
}

/// The configuration can name none.
#[cfg(not(feature = "bigquery"))]
fn with_warehouse(service: Service, _: &Config) -> Result<Service, Failure> {
    Ok(service)
}

/// The configuration can name none.
#[cfg(not(feature = "bigquery"))]
async fn reach_warehouse(_: &Config) -> Result<(), Failure> {
    Ok(())
}

/// Asks for as much as the system allows this process; returns how much it has.
pub fn raise(resource: Resource) -> u64 {
    let limit = getrlimit(resource);
    // Where it is refused, what there is has to do.
    let _ = setrlimit(resource, Rlimit { current: limit.maximum, ..limit });
    getrlimit(resource).current.unwrap_or(u64::MAX)
}

/// Lets files grow as large as the system allows. Beyond that a write is to fail, which is an
/// error like any other, and not to end the process: SIGXFSZ has a handler that does nothing, and
/// stays when this stream of signals is dropped.
fn large_files() -> Result<(), Failure> {
    raise(Resource::Fsize);
    drop(signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?);
    Ok(())
}

/// What the loss of the terminal means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hangup {
    /// A service goes on, and says that it read nothing anew.
    IsTold,
    /// What somebody looks at ends with him.
    Stops,
}

/// Says `true` once somebody wants the service to stop.
#[derive(Clone)]
pub struct Stop(Arc<watch::Sender<bool>>);

impl Stop {
    /// Nobody wants it to stop yet.
    pub fn new() -> Self {
        Self(Arc::new(watch::channel(false).0))
    }

    /// Stops it.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }

    /// Ready once it is stopped.
    pub async fn stopped(&self) {
        let mut told = self.0.subscribe();
        // The sender lives as long as this handle.
        let _ = told.wait_for(|stopped| *stopped).await;
    }

    /// Stops on SIGTERM and SIGINT; a second one ends the process at once, which loses nothing.
    /// SIGHUP is the caller's to judge.
    pub fn on_signals(&self, hangup: Hangup) -> Result<(), Failure> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hung_up = signal(SignalKind::hangup())?;
        let stop = self.clone();
        tokio::spawn(async move {
            let mut asked: Option<Instant> = None;
            loop {
                tokio::select! {
                    _ = hung_up.recv() => {
                        if hangup == Hangup::IsTold {
                            tracing::warn!("SIGHUP: the configuration is read at start only");
                            continue;
                        }
                    }
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                match asked {
                    // One key press may arrive twice: for the group, and from the parent.
                    Some(at) if at.elapsed() < ONE_PRESS => {}
                    Some(_) => std::process::exit(130),
                    None => {
                        asked = Some(Instant::now());
                        stop.stop();
                    }
                }
            }
        });
        Ok(())
    }
}

/// Runs a service until it is stopped, and tells systemd how it does.
pub async fn run(service: Service, stop: &Stop) -> Result<(), Failure> {
    let listen = service.listen();
    tracing::info!(%listen, metrics = %service.metrics_listen(), "ready");
    // Outside systemd there is nobody to notify, and that is no error.
    let _ = sd_notify::notify(&[NotifyState::Ready]);
    let watchdog = tokio::spawn(feed_watchdog());
    let ended = service
        .run(async {
            stop.stopped().await;
            let _ = sd_notify::notify(&[NotifyState::Stopping]);
            tracing::info!("stopping: no new events, storing what the logs hold");
        })
        .await;
    watchdog.abort();
    ended.map_err(|fatal| Failure::new(super::IO, fatal))
}

async fn feed_watchdog() {
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    let mut ticks = tokio::time::interval((limit / 3).max(Duration::from_millis(100)));
    loop {
        ticks.tick().await;
        let _ = sd_notify::notify(&[NotifyState::Watchdog]);
    }
}

/// Why backends that the configuration names could not be used now; nothing where all could. What
/// is said of several is said once. Within a runtime: credentials keep themselves fresh on it.
pub async fn unreachable(config: &Config) -> Vec<Failure> {
    let mut failures: Vec<Failure> = Vec::new();
    let mut note = |reached: Result<(), Failure>| {
        let Err(failure) = reached else { return };
        if failures.iter().all(|known| known.message != failure.message) {
            failures.push(failure);
        }
    };
    let queue = eventkit::pipeline::reach_queue(config).await;
    note(queue.map_err(|error| Failure::new(error.exit_code(), error)));
    // No directory is made that is not there yet; and who only collects stores nothing.
    if config.stores() && (config.data_dir.exists() || !config.store.is_local()) {
        note(reach_store(config).await);
        note(reach_warehouse(config).await);
    }
    failures
}

/// Whether the store that the configuration names could be written to now.
async fn reach_store(config: &Config) -> Result<(), Failure> {
    store(config)?.check().await.map_err(|error| Failure::new(super::IO, error))
}
