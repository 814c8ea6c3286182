//! What every kind of run is made with: a directory, and a service that is sent to until it has
//! stored everything.
//!
//! In: a service and a load. Out: a [`Delivered`], with the account of every event. A fault of the
//! service is in the account; an error is what kept it from being measured.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use eventkit::status::Snapshot;

use super::super::{Failure, IO, print};
use super::account::{self, Account};
use super::ceilings::{self, Syncs};
use super::figures::us_each;
use super::load::{Generator, Load, Outcome};
use super::requests::Request;
use super::server::Service;

/// How long the service's counters may take to be there: a snapshot is a second old.
const COUNTERS_MAX: Duration = Duration::from_secs(5);
/// What is slow to store needs twice as long for that as to be acknowledged: it is sent for this
/// part of the time.
const SENDING: u32 = 2;

/// Where a run happens, and how it is ended.
pub struct Rig {
    /// The run's own directory.
    pub dir: PathBuf,
    /// The parent of `dir`, on the device that is measured.
    pub parent: PathBuf,
    /// For how long it is to measure.
    pub asked: Duration,
    cancel: Arc<AtomicBool>,
    /// Whether somebody waits for it at a terminal.
    is_told: bool,
    /// When the events happened.
    pub happened: String,
}

/// What was sent and has been stored.
pub struct Delivered {
    /// What the load generator has seen.
    pub outcome: Outcome,
    /// What has become of every event.
    pub account: Account,
    /// From the first request until everything was stored.
    pub elapsed: Duration,
    /// The service's, for as long.
    pub cpu: Duration,
    /// The most that was resident at once.
    pub memory_bytes_max: u64,
    /// See [`account::log_bytes_per_event`].
    pub log_bytes_per_event: f64,
    /// Bytes of the lake's objects.
    pub lake_bytes: u64,
    /// The lake's objects.
    pub lake_files: u64,
}

impl Delivered {
    /// The service's CPU time of an acknowledged event, in microseconds.
    pub fn cpu_us_per_event(&self) -> f64 {
        us_each(self.cpu, self.outcome.acknowledged)
    }
}

/// Since when a service has been at it.
pub struct Since {
    /// The instant.
    pub began: Instant,
    /// The service's CPU time at it.
    pub cpu: Duration,
    /// What an earlier process has counted on the same directory.
    pub earlier: Account,
}

impl Since {
    /// From now on.
    pub fn now(service: &Service) -> std::io::Result<Self> {
        let (began, cpu) = (Instant::now(), service.child.cpu()?);
        Ok(Self { began, cpu, earlier: Account::default() })
    }
}

impl Rig {
    /// In that directory below `parent`, for about so long.
    pub fn new(
        dir: &Path,
        parent: &Path,
        asked: Duration,
        cancel: &Arc<AtomicBool>,
        is_told: bool,
    ) -> Self {
        Self {
            dir: dir.to_owned(),
            parent: parent.to_owned(),
            asked,
            cancel: Arc::clone(cancel),
            is_told,
            happened: happened(),
        }
    }

    /// Tells whoever waits what is done now.
    pub fn tell(&self, step: &str) {
        if self.is_told {
            print::tell(&format!("bench: {step}"));
        }
    }

    /// What ends a run before its time.
    pub fn cancel(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.cancel)
    }

    /// The device's syncs, for so long.
    pub async fn syncs(&self, time: Duration) -> Result<Syncs, Failure> {
        self.tell("syncs of the device");
        let (dir, cancel) = (self.dir.clone(), self.cancel());
        aside(move || ceilings::syncs(&dir, time, &cancel)).await
    }

    /// Opens the connections of a load.
    pub async fn connect(&self, load: Load, requests: Vec<Request>) -> Result<Generator, Failure> {
        aside(move || Ok(load.connect(requests)?)).await
    }

    /// Sends, and waits for the answers.
    pub async fn send(&self, generator: Generator) -> Result<Outcome, Failure> {
        let cancel = self.cancel();
        aside(move || Ok(generator.run(&cancel)?)).await
    }

    /// Sends, has everything stored, and looks what has become of it.
    pub async fn deliver(
        &self,
        service: &Service,
        load: Load,
        requests: Vec<Request>,
    ) -> Result<Delivered, Failure> {
        let generator = self.connect(load, requests).await?;
        let since = Since::now(service)?;
        let outcome = self.send(generator).await?;
        self.settle(service, outcome, since).await
    }

    /// Has everything stored, and looks what has become of it.
    pub async fn settle(
        &self,
        service: &Service,
        outcome: Outcome,
        since: Since,
    ) -> Result<Delivered, Failure> {
        store(service).await?;
        let elapsed = since.began.elapsed();
        let cpu = service.child.cpu()?.saturating_sub(since.cpu);
        let account = |snapshot: &_| {
            let mut account = Account::new(&outcome, snapshot);
            account.add_earlier(&since.earlier);
            account
        };
        let snapshot =
            service.snapshot(COUNTERS_MAX, |snapshot| account(snapshot).counters_agree()).await?;
        let memory_bytes_max = service.child.memory_bytes_max()?;
        let logs = service.logs()?;
        let log_bytes_per_event = aside(move || account::log_bytes_per_event(&logs)).await?;
        let mut account = account(&snapshot);
        account.read_lake(&service.lake(), outcome.numbers).await?;
        Ok(Delivered {
            elapsed,
            cpu,
            memory_bytes_max,
            log_bytes_per_event,
            lake_bytes: snapshot.streams.iter().map(|stream| stream.stored_bytes).sum(),
            lake_files: snapshot.streams.iter().map(|stream| stream.stored_batches).sum(),
            account,
            outcome,
        })
    }

    /// Has everything stored, and looks what has become of what each of those streams was sent.
    pub async fn settle_each<const N: usize>(
        &self,
        service: &Service,
        sent: [(&str, &Outcome); N],
    ) -> Result<[Account; N], Failure> {
        store(service).await?;
        let accounts = |snapshot: &Snapshot| {
            sent.map(|(stream, outcome)| Account::of_stream(outcome, snapshot, stream))
        };
        let agree = |snapshot: &_| accounts(snapshot).iter().all(Account::counters_agree);
        let mut accounts = accounts(&service.snapshot(COUNTERS_MAX, agree).await?);
        for (account, (stream, outcome)) in accounts.iter_mut().zip(sent) {
            let files = service.lake().join(format!("stream={stream}"));
            account.read_lake(&files, outcome.numbers).await?;
        }
        Ok(accounts)
    }

    /// What a service has counted, once that is every acknowledged event.
    pub async fn received(&self, service: &Service, outcome: &Outcome) -> Result<Account, Failure> {
        let snapshot = service.snapshot(COUNTERS_MAX, |snapshot| {
            Account::new(outcome, snapshot).received >= outcome.acknowledged
        });
        Ok(Account::new(outcome, &snapshot.await?))
    }
}

/// Stores everything.
async fn store(service: &Service) -> Result<(), Failure> {
    match service.flush().await?.first() {
        None => Ok(()),
        Some(first) => Err(Failure::new(1, format!("not everything could be stored: {first}"))),
    }
}

/// For how long to send so that the rest of the time is enough to store it.
pub fn sending(time: Duration, requests: &[Request]) -> Duration {
    if requests.iter().any(Request::is_slow_to_store) { time / SENDING } else { time }
}

/// Work on a thread of its own.
pub async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Failure::new(IO, error))?
}

/// Now, to the millisecond, as clients write it.
fn happened() -> String {
    let now = eventkit::time::format(eventkit::time::now());
    format!("{}.123Z", now.get(..19).unwrap_or("2026-01-01T00:00:00"))
}
