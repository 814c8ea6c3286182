//! `eventkit demo`: everything on a temporary directory, with traffic that has something to show.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use eventkit::admin::Client;
use eventkit::config::Config;
use eventkit::event::{Seq, StreamName};
use eventkit::store::{AnyStore, Batch, EventStore, Lake, Listing, Plan, StoreError, Stored};

use super::service::{self, Hangup, Stop};
use super::traffic::{self, Sent};
use super::{Done, Failure, Options, log, print};

/// Run everything on a temporary directory with synthetic traffic
#[derive(clap::Args)]
pub struct Demo {
    /// Events a second
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// End after this long, such as 60s, 5m
    #[arg(long = "for", value_name = "DURATION", value_parser = super::duration)]
    time: Option<Duration>,
    /// Keep the directory with its lake
    #[arg(long)]
    keep: bool,
}

/// A lake that now and then stalls, as a store in another building does.
struct StallingLake {
    lake: Lake,
    started: Instant,
}

/// Of each such period…
const STALL_EVERY: Duration = Duration::from_secs(45);
/// …the store is away for so long, at its end.
const STALL_FOR: Duration = Duration::from_secs(8);

impl EventStore for StallingLake {
    fn name(&self) -> &str {
        "lake"
    }
    fn object(&self, batch: &Batch) -> String {
        EventStore::object(&self.lake, batch)
    }
    async fn put(&self, batch: &Arc<Batch>) -> Result<Stored, StoreError> {
        let into = self.started.elapsed().as_millis() % STALL_EVERY.as_millis();
        if into > (STALL_EVERY - STALL_FOR).as_millis() {
            let message = "demo: the store is away for some seconds".to_owned();
            let after = Some(Duration::from_millis(500));
            return Err(StoreError::Unavailable { message, after });
        }
        EventStore::put(&self.lake, batch).await
    }
    async fn find(&self, plan: &Plan) -> Result<Option<Stored>, StoreError> {
        EventStore::find(&self.lake, plan).await
    }
    async fn check(&self) -> Result<(), StoreError> {
        EventStore::check(&self.lake).await
    }
    async fn list(
        &self,
        stream: &StreamName,
        log_uuid: u128,
        hour: i64,
        from: Seq,
    ) -> Result<Option<Listing>, StoreError> {
        EventStore::list(&self.lake, stream, log_uuid, hour, from).await
    }
    async fn hours(&self, stream: &StreamName) -> Result<Vec<i64>, StoreError> {
        EventStore::hours(&self.lake, stream).await
    }
    async fn message_ids(&self, object: &str) -> Result<Option<Vec<String>>, StoreError> {
        EventStore::message_ids(&self.lake, object).await
    }
}

impl Demo {
    pub fn run(self, options: &Options) -> Done {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let (dir, given) = match &options.data_dir {
            Some(dir) => (dir.clone(), true),
            None => (tempfile::Builder::new().prefix("eventkit-demo-").tempdir()?.keep(), false),
        };
        let done = runtime.block_on(self.demo(options, &dir));
        if given || self.keep {
            print::line(&format!("the demo's lake is in {}", dir.join("lake").display()))?;
        } else if let Err(error) = std::fs::remove_dir_all(&dir) {
            print::line(&format!("{} could not be removed: {error}", dir.display()))?;
        }
        done
    }

    async fn demo(&self, options: &Options, dir: &std::path::Path) -> Done {
        let mut config = Config::with_data_dir(dir);
        let given = |option: &Option<String>, variable| {
            option.clone().or_else(|| std::env::var(variable).ok())
        };
        config.listen = address(given(&options.listen, "EVENTKIT_LISTEN"), config.listen)?;
        let metrics = given(&options.metrics_listen, "EVENTKIT_METRICS_LISTEN");
        config.metrics_listen = address(metrics, config.metrics_listen)?;
        // What it shows is gone with its directory, which may be in memory.
        config.disk.allow_any_filesystem = true;
        // A newcomer wants to see batches land, not to wait for them.
        config.load.age_max = Duration::from_secs(5);
        let interactive = interactive();
        match interactive {
            true => log::to_file(&config.log, &dir.join("eventkit.log"))?,
            false => log::to_stderr(&config.log)?,
        }
        let lake = Lake::local(&dir.join("lake"), "");
        let store: Arc<AnyStore> = Arc::new(StallingLake { lake, started: Instant::now() });
        let socket = config.admin_socket.clone();
        let stop = Stop::new();
        stop.on_signals(Hangup::Stops)?;
        let service = service::start(config, store).await?;
        let traffic = tokio::spawn(traffic::send(service.listen(), self.rate, stop.clone()));
        if let Some(time) = self.time {
            let stop = stop.clone();
            tokio::spawn(async move {
                tokio::time::sleep(time).await;
                stop.stop();
            });
        }
        let ended = if interactive {
            watch(service, &stop, socket).await
        } else {
            let lines = tokio::spawn(status_lines(Client::new(&socket), stop.clone()));
            let ended = service::run(service, &stop).await;
            lines.abort();
            ended
        };
        stop.stop();
        let sent = traffic.await.map_err(|error| Failure::new(super::IO, error))?;
        ended?;
        summary(&sent)
    }
}

#[cfg(feature = "console")]
fn interactive() -> bool {
    std::io::IsTerminal::is_terminal(&std::io::stdout())
}

#[cfg(not(feature = "console"))]
fn interactive() -> bool {
    false
}

#[cfg(feature = "console")]
async fn watch(
    service: eventkit::pipeline::Service,
    stop: &Stop,
    socket: PathBuf,
) -> Result<(), Failure> {
    super::console::beside(service, stop, socket).await
}

#[cfg(not(feature = "console"))]
async fn watch(
    service: eventkit::pipeline::Service,
    stop: &Stop,
    _socket: PathBuf,
) -> Result<(), Failure> {
    service::run(service, stop).await
}

/// The given address; else the usual one, or any free port where that is taken.
fn address(given: Option<String>, usual: SocketAddr) -> Result<SocketAddr, Failure> {
    match given {
        Some(text) => text.parse().map_err(|error| {
            Failure::new(super::CONFIGURATION, format!("{text:?} is not an address: {error}"))
        }),
        None => match std::net::TcpListener::bind(usual) {
            Ok(_) => Ok(usual),
            Err(_) => Ok(SocketAddr::new(usual.ip(), 0)),
        },
    }
}

/// Says how it goes until nobody reads it any more, which ends the demo.
async fn status_lines(client: Client, stop: Stop) {
    let mut ticks = tokio::time::interval(Duration::from_secs(2));
    loop {
        ticks.tick().await;
        let Ok(snapshot) = client.snapshot().await else { continue };
        let sum = |of: fn(&eventkit::status::StreamStatus) -> u64| {
            snapshot.streams.iter().map(of).sum::<u64>()
        };
        let line = format!(
            "{} received {} ({:.0}/s), stored {}, waiting {}, dead letters {} open{}",
            print::time(snapshot.now).get(11..19).unwrap_or_default(),
            sum(|s| s.received_events),
            snapshot.stages.first().map_or(0.0, |stage| stage.rate),
            sum(|s| s.stored_events),
            sum(|s| s.wal.lag_events),
            snapshot.dead_letters.open,
            snapshot.findings.first().map(|f| format!("; {}", f.text)).unwrap_or_default(),
        );
        if print::line(&line).is_err() {
            return stop.stop();
        }
    }
}

/// What was sent and what has become of it, counted by the sender.
fn summary(sent: &Sent) -> Done {
    print::line(&format!(
        "sent {} events, {} acknowledged ({} of them without a user), {} refused requests",
        sent.events, sent.acknowledged, sent.without_user, sent.refused
    ))
}
