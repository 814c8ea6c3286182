//! The steps of a run, one after the other.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use super::super::{Failure, IO};
use super::account::{self, Account};
use super::ceilings::{self, Syncs};
use super::figures::{
    Ceilings, Figures, Floor, HalfLoad, Idle, Latency, Machine, Measured, Quiet, Ratios,
    per_second, ratio, us_each,
};
use super::load::{Load, Outcome};
use super::quiet::{self, Reading};
use super::report;
use super::requests::{self, Request, Scenario};
use super::schedule::Schedule;
use super::server::{Bare, Child, Service};

/// Connections of every scenario.
const CONNECTIONS: usize = 64;
/// Services that a run starts: one a scenario, and one for half load.
const SERVICES: u32 = 6;
/// Connections at half load: there are more clients than a server can serve at once, and none
/// waits for another's answer.
const CLIENTS: usize = 256;
/// What a service acknowledges in batches, and what it rejects, it needs twice as long to store:
/// such a scenario sends for this part of its time.
const SENDING: u32 = 2;
/// The service is looked at without traffic for at least so long: it does something once a second.
const IDLE_MIN: Duration = Duration::from_secs(2);
/// How long the service's counters may take to be there: a snapshot is a second old.
const COUNTERS_MAX: Duration = Duration::from_secs(5);

/// Weights of the steps: their shares of the time.
mod weight {
    pub const SYNCS: u32 = 4;
    pub const AXUM_SINGLE: u32 = 8;
    pub const AXUM_BATCHES: u32 = 4;
    pub const PARSE: u32 = 3;
    pub const PARQUET: u32 = 4;
    pub const SCENARIO: u32 = 12;
    pub const SCENARIOS: u32 = 5;
    pub const HALF_LOAD: u32 = 10;
    pub const IDLE: u32 = 10;
    pub const ALL: u32 = 2 * SYNCS
        + AXUM_SINGLE
        + AXUM_BATCHES
        + PARSE
        + PARQUET
        + SCENARIOS * SCENARIO
        + HALF_LOAD
        + IDLE;
}

/// A run.
pub struct Steps {
    dir: PathBuf,
    asked: Duration,
    schedule: Schedule,
    cancel: Arc<AtomicBool>,
    /// Whether somebody waits for it at a terminal.
    is_told: bool,
    /// When the events happened.
    happened: String,
}

impl Steps {
    /// A run in that directory.
    pub fn new(dir: &Path, asked: Duration, cancel: &Arc<AtomicBool>, is_told: bool) -> Self {
        Self {
            dir: dir.to_owned(),
            asked,
            schedule: Schedule::new(asked, weight::ALL, SERVICES),
            cancel: Arc::clone(cancel),
            is_told,
            happened: happened(),
        }
    }

    /// All steps; the directory is below `parent`.
    pub async fn run(mut self, parent: &Path) -> Result<Figures, Failure> {
        let (began, before) = (Instant::now(), Reading::take()?);
        let bare = Bare::start(&self.dir)?;
        let syncs_before = self.syncs().await?;
        let axum_single = self.floor(&bare, weight::AXUM_SINGLE, requests::single).await?;
        let axum_batches = self.floor(&bare, weight::AXUM_BATCHES, requests::batches).await?;
        let (parse, parquet) = self.one_core().await?;
        let mut scenarios = Vec::new();
        for scenario in requests::scenarios(&self.happened) {
            scenarios.push(self.scenario(scenario).await?);
        }
        let single = scenarios.first().map_or(0.0, |single| single.acknowledged_per_second);
        let (mut half_load, idle) = self.half_load_and_idle(single / 2.0).await?;
        let syncs_after = self.syncs().await?;
        drop(bare);
        let others = Reading::take()?.since(&before);
        let ceilings =
            Ceilings { axum_single, axum_batches, syncs_before, syncs_after, parse, parquet };
        for measured in &mut scenarios {
            let is_batch = matches!(measured.name, "batches" | "hot_user");
            let floor = if is_batch { &axum_batches } else { &axum_single };
            measured.ratios = Ratios::new(measured, floor, &ceilings);
        }
        half_load.p99_of_sync = ratio(half_load.latency.p99_ms, ceilings.sync_p99_ms());
        let machine = machine(parent, self.asked, began.elapsed());
        let quiet = Quiet::new(others, &syncs_before, &syncs_after);
        let problems = problems(&scenarios, &half_load);
        let distrust = distrust(&machine, &quiet, &scenarios, &half_load);
        Ok(Figures {
            version: env!("CARGO_PKG_VERSION"),
            machine,
            ceilings,
            scenarios,
            half_load,
            idle,
            quiet,
            problems,
            distrust,
        })
    }

    fn tell(&self, step: &str) {
        if self.is_told {
            eprintln!("eventkit bench: {step}");
        }
    }

    async fn syncs(&mut self) -> Result<Syncs, Failure> {
        self.tell("syncs of the device");
        let (dir, time, cancel) =
            (self.dir.clone(), self.schedule.step(weight::SYNCS), self.cancel());
        aside(move || ceilings::syncs(&dir, time, &cancel)).await
    }

    async fn one_core(&mut self) -> Result<(ceilings::OneCore, ceilings::OneCore), Failure> {
        self.tell("one core: parse, Parquet");
        let (happened, cancel) = (self.happened.clone(), self.cancel());
        let time = self.schedule.step(weight::PARSE);
        let parse = aside(move || ceilings::parse(&happened, time, &cancel)).await?;
        let (dir, happened, cancel) = (self.dir.clone(), self.happened.clone(), self.cancel());
        let time = self.schedule.step(weight::PARQUET);
        let parquet = aside(move || ceilings::parquet(&dir, &happened, time, &cancel)).await?;
        Ok((parse, parquet))
    }

    async fn floor(
        &mut self,
        bare: &Bare,
        weight: u32,
        scenario: fn(&str) -> Scenario,
    ) -> Result<Floor, Failure> {
        let scenario = scenario(&self.happened);
        self.tell(&format!("bare axum, {}", scenario.what));
        let time = self.schedule.step(weight);
        let load = Load { target: bare.listen, connections: CONNECTIONS, time, pace: None };
        let cpu = bare.child.cpu()?;
        let outcome = self.send(load, scenario.requests).await?;
        let cpu = bare.child.cpu()?.saturating_sub(cpu);
        if !outcome.faults.is_empty() {
            let faults = report::list(&outcome.faults);
            return Err(Failure::new(IO, format!("the bare handler fails: {faults}")));
        }
        Ok(Floor {
            events_per_second: per_second(outcome.acknowledged, outcome.elapsed),
            cpu_us_per_event: us_each(cpu, outcome.acknowledged),
            latency: Latency::new(&outcome.latency_us),
        })
    }

    async fn scenario(&mut self, scenario: Scenario) -> Result<Measured, Failure> {
        self.tell(scenario.what);
        self.schedule.service();
        let service = Service::start(&self.dir, scenario.name).await?;
        let mut time = self.schedule.step(weight::SCENARIO);
        if scenario.requests.iter().any(|request| request.events > 1 || request.bad_events > 0) {
            time /= SENDING;
        }
        let load = Load { target: service.listen, connections: CONNECTIONS, time, pace: None };
        let delivered = self.deliver(&service, load, scenario.requests).await?;
        let outcome = &delivered.outcome;
        let count = outcome.acknowledged;
        Ok(Measured {
            name: scenario.name,
            what: scenario.what,
            acknowledged_per_second: per_second(count, outcome.elapsed),
            delivered_per_second: per_second(count, delivered.elapsed),
            latency: Latency::new(&outcome.latency_us),
            cpu_us_per_event: us_each(delivered.cpu, count),
            client_cpu_us_per_event: us_each(outcome.cpu, count),
            memory_bytes_max: delivered.memory_bytes_max,
            lake_bytes_per_event: ratio(delivered.lake_bytes as f64, count as f64),
            log_bytes_per_event: delivered.log_bytes_per_event,
            sent_s: outcome.elapsed.as_secs_f64(),
            events: delivered.account,
            faults: delivered.outcome.faults,
            ratios: Ratios::default(),
        })
    }

    async fn half_load_and_idle(&mut self, pace: f64) -> Result<(HalfLoad, Idle), Failure> {
        self.tell("half load");
        self.schedule.service();
        let service = Service::start(&self.dir, "half_load").await?;
        let time = self.schedule.step(weight::HALF_LOAD);
        let target = service.listen;
        let load = Load { target, connections: CLIENTS, time, pace: Some(pace) };
        let requests = requests::single(&self.happened).requests;
        let delivered = self.deliver(&service, load, requests).await?;
        let outcome = delivered.outcome;
        let half_load = HalfLoad {
            asked_per_second: pace,
            answered_per_second: per_second(outcome.requests, outcome.elapsed),
            latency: Latency::new(&outcome.latency_us),
            p99_of_sync: 0.0,
            cpu_us_per_event: us_each(delivered.cpu, outcome.acknowledged),
            events: delivered.account,
            faults: outcome.faults,
        };
        self.tell("idle");
        let time = self.schedule.step(weight::IDLE).max(IDLE_MIN);
        Ok((half_load, idle(&service.child, time).await?))
    }

    /// Sends, has everything stored, and looks what has become of it.
    async fn deliver(
        &self,
        service: &Service,
        load: Load,
        requests: Vec<Request>,
    ) -> Result<Delivered, Failure> {
        let (began, cpu) = (Instant::now(), service.child.cpu()?);
        let outcome = self.send(load, requests).await?;
        let unfinished = service.flush().await?;
        let (elapsed, cpu) = (began.elapsed(), service.child.cpu()?.saturating_sub(cpu));
        if let Some(first) = unfinished.first() {
            return Err(Failure::new(1, format!("not everything could be stored: {first}")));
        }
        let snapshot = service
            .snapshot(COUNTERS_MAX, |snapshot| Account::new(&outcome, snapshot).counters_agree())
            .await?;
        let memory_bytes_max = service.child.memory_bytes_max()?;
        let logs = service.logs()?;
        let log_bytes_per_event = aside(move || account::log_bytes_per_event(&logs)).await?;
        let mut account = Account::new(&outcome, &snapshot);
        account.read_lake(&service.lake(), outcome.numbers).await?;
        Ok(Delivered {
            elapsed,
            cpu,
            memory_bytes_max,
            log_bytes_per_event,
            lake_bytes: snapshot.streams.iter().map(|stream| stream.stored_bytes).sum(),
            account,
            outcome,
        })
    }

    async fn send(&self, load: Load, requests: Vec<Request>) -> Result<Outcome, Failure> {
        let cancel = self.cancel();
        aside(move || Ok(load.run(&requests, &cancel)?)).await
    }

    fn cancel(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.cancel)
    }
}

/// What was sent and has been stored.
struct Delivered {
    outcome: Outcome,
    account: Account,
    /// From the first request until everything was stored.
    elapsed: Duration,
    /// The service's, for as long.
    cpu: Duration,
    memory_bytes_max: u64,
    log_bytes_per_event: f64,
    lake_bytes: u64,
}

/// What the service uses when there is nothing to do.
async fn idle(child: &Child, time: Duration) -> Result<Idle, Failure> {
    let (began, before) = (Instant::now(), child.threads_cpu()?);
    tokio::time::sleep(time).await;
    let (seconds, after) = (began.elapsed().as_secs_f64(), child.threads_cpu()?);
    let earlier = |name: &str| before.iter().find(|(known, _)| known == name).map_or(0, |t| t.1);
    let ns: u64 = after.iter().map(|(name, ns)| ns.saturating_sub(earlier(name))).sum();
    Ok(Idle { cpu_percent: ratio(ns as f64 / 1e7, seconds), seconds })
}

/// Work on a thread of its own.
async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Failure::new(IO, error))?
}

/// Now, to the millisecond, as clients write it.
fn happened() -> String {
    let now = eventkit::time::format(eventkit::time::now());
    format!("{}.123Z", now.get(..19).unwrap_or("2026-01-01T00:00:00"))
}

fn machine(parent: &Path, asked: Duration, took: Duration) -> Machine {
    Machine {
        cores: quiet::cores(),
        dir: parent.display().to_string(),
        filesystem: filesystem(parent),
        asked_s: asked.as_secs_f64(),
        took_s: took.as_secs_f64(),
    }
}

/// The file system's name, by the magic number of statfs(2).
fn filesystem(dir: &Path) -> String {
    let magic = rustix::fs::statfs(dir).map_or(0, |fs| fs.f_type as u32);
    let known = [
        (0xEF53, "ext4"),
        (0x5846_5342, "xfs"),
        (0x9123_683E, "btrfs"),
        (0x2FC1_2FC1, "zfs"),
        (0x794C_7630, "overlay"),
        (0x0102_1994, "tmpfs"),
    ];
    let name = known.iter().find(|(known, _)| *known == magic).map(|(_, name)| *name);
    name.map_or_else(|| format!("file system {magic:#x}"), str::to_owned)
}

/// What is not accounted for.
fn problems(scenarios: &[Measured], half_load: &HalfLoad) -> Vec<String> {
    let all = scenarios.iter().map(|of| (of.name, &of.events));
    let all = all.chain([("half load", &half_load.events)]);
    all.flat_map(|(name, account)| {
        account.problems().into_iter().map(move |problem| format!("{name}: {problem}"))
    })
    .collect()
}

fn distrust(
    machine: &Machine,
    quiet: &Quiet,
    scenarios: &[Measured],
    half_load: &HalfLoad,
) -> Vec<String> {
    let mut why = quiet.distrust();
    if machine.filesystem == "tmpfs" {
        let dir = super::super::print::safe(&machine.dir);
        why.push(format!("{dir} is in memory (tmpfs): a sync there is none; --dir says where"));
    }
    let faults = scenarios.iter().map(|of| (of.name, &of.faults));
    for (name, faults) in faults.chain([("half load", &half_load.faults)]) {
        if !faults.is_empty() {
            why.push(format!("{name}: {}", report::list(faults)));
        }
    }
    why
}
