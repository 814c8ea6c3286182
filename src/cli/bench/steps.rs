//! The steps of a run, one after the other.

use std::time::{Duration, Instant};

use super::super::Failure;
use super::ceilings;
use super::fairness::{self, Fairness};
use super::figures::{
    Ceilings, Figures, Floor, HalfLoad, Idle, Latency, Measured, Ratios, per_second, ratio, us_each,
};
use super::load::Load;
use super::requests::{self, Scenario};
use super::rig::{self, Rig, aside};
use super::schedule::Schedule;
use super::server::{Bare, Child, Service, Settings};
use super::watch::{Part, Watch};

/// Connections of every scenario.
pub const CONNECTIONS: usize = 64;
/// Services that a run starts: one a scenario, one for half load, one for fairness.
const SERVICES: u32 = 7;
/// Connections at half load: there are more clients than a server can serve at once, and none
/// waits for another's answer.
pub const CLIENTS: usize = 256;
/// The service is looked at without traffic for at least so long: it does something once a second.
const IDLE_MIN: Duration = Duration::from_secs(2);

/// Weights of the steps: their shares of the time.
mod weight {
    pub const SYNCS: u32 = 4;
    pub const AXUM_SINGLE: u32 = 8;
    pub const AXUM_BATCHES: u32 = 4;
    pub const PARSE: u32 = 3;
    pub const PARQUET: u32 = 4;
    pub const SCENARIO: u32 = 12;
    pub const SCENARIOS: u32 = 5;
    pub const AXUM_HALF: u32 = 5;
    pub const HALF_LOAD: u32 = 10;
    pub const IDLE: u32 = 10;
    pub const ALL: u32 = 2 * SYNCS
        + AXUM_SINGLE
        + AXUM_BATCHES
        + PARSE
        + PARQUET
        + SCENARIOS * SCENARIO
        + AXUM_HALF
        + HALF_LOAD
        + IDLE
        + super::fairness::WEIGHT;
}

/// A run.
pub struct Steps<'r> {
    rig: &'r Rig,
    schedule: Schedule,
}

impl<'r> Steps<'r> {
    /// A run in that place.
    pub fn new(rig: &'r Rig) -> Self {
        Self { rig, schedule: Schedule::new(rig.asked, weight::ALL, SERVICES) }
    }

    /// All steps.
    pub async fn run(mut self) -> Result<Figures, Failure> {
        let watch = Watch::begin(self.rig, self.schedule.step(weight::SYNCS)).await?;
        let axum_single = self.floor(&watch.bare, weight::AXUM_SINGLE, requests::single).await?;
        let axum_batches = self.floor(&watch.bare, weight::AXUM_BATCHES, requests::batches).await?;
        let (parse, parquet) = self.one_core().await?;
        let mut scenarios = Vec::new();
        for scenario in requests::scenarios(&self.rig.happened) {
            scenarios.push(self.scenario(scenario).await?);
        }
        let single = scenarios.first().map_or(0.0, |single| single.acknowledged_per_second);
        let (mut half_load, idle) = self.half_load_and_idle(&watch.bare, single / 2.0).await?;
        let fairness = fairness::measure(self.rig, &mut self.schedule, &watch.bare, single).await?;
        let watched = watch.end(self.rig, self.schedule.step(weight::SYNCS)).await?;
        let (syncs_before, syncs_after) = (watched.syncs_before, watched.syncs_after);
        let ceilings =
            Ceilings { axum_single, axum_batches, syncs_before, syncs_after, parse, parquet };
        for measured in &mut scenarios {
            let is_batch = matches!(measured.name, "batches" | "hot_user");
            let floor = if is_batch { &axum_batches } else { &axum_single };
            measured.ratios = Ratios::new(measured, floor, &ceilings);
        }
        half_load.p99_of_sync = ratio(half_load.latency.p99_ms, ceilings.sync_p99_ms());
        let (problems, distrust) = watched.judge(&parts(&scenarios, &half_load, &fairness));
        Ok(Figures {
            version: env!("CARGO_PKG_VERSION"),
            machine: watched.machine,
            ceilings,
            scenarios,
            half_load,
            idle,
            fairness,
            quiet: watched.quiet,
            problems,
            distrust,
        })
    }

    async fn one_core(&mut self) -> Result<(ceilings::OneCore, ceilings::OneCore), Failure> {
        self.rig.tell("one core: parse, Parquet");
        let (happened, cancel) = (self.rig.happened.clone(), self.rig.cancel());
        let time = self.schedule.step(weight::PARSE);
        let parse = aside(move || ceilings::parse(&happened, time, &cancel)).await?;
        let (dir, happened, cancel) =
            (self.rig.dir.clone(), self.rig.happened.clone(), self.rig.cancel());
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
        let scenario = scenario(&self.rig.happened);
        self.rig.tell(&format!("bare axum, {}", scenario.what));
        let time = self.schedule.step(weight);
        let load = Load::closed(bare.listen, CONNECTIONS, time);
        let generator = self.rig.connect(load, scenario.requests).await?;
        let cpu = bare.child.cpu()?;
        let outcome = self.rig.send(generator).await?;
        let cpu = bare.child.cpu()?.saturating_sub(cpu);
        bare.judge(&outcome)?;
        Ok(Floor {
            events_per_second: per_second(outcome.acknowledged, outcome.elapsed),
            cpu_us_per_event: us_each(cpu, outcome.acknowledged),
            latency: Latency::new(&outcome.latency_us),
        })
    }

    async fn scenario(&mut self, scenario: Scenario) -> Result<Measured, Failure> {
        self.rig.tell(scenario.what);
        self.schedule.service();
        let service = Service::start(&self.rig.dir, scenario.name, &Settings::default()).await?;
        let time = rig::sending(self.schedule.step(weight::SCENARIO), &scenario.requests);
        let load = Load::closed(service.listen, CONNECTIONS, time);
        let delivered = self.rig.deliver(&service, load, scenario.requests).await?;
        let outcome = &delivered.outcome;
        let count = outcome.acknowledged;
        Ok(Measured {
            name: scenario.name,
            what: scenario.what,
            acknowledged_per_second: per_second(count, outcome.elapsed),
            delivered_per_second: per_second(count, delivered.elapsed),
            latency: Latency::new(&outcome.latency_us),
            cpu_us_per_event: delivered.cpu_us_per_event(),
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

    async fn half_load_and_idle(
        &mut self,
        bare: &Bare,
        pace: f64,
    ) -> Result<(HalfLoad, Idle), Failure> {
        let requests = || requests::single(&self.rig.happened).requests;
        let at_pace = |listen, time| {
            Load { pace: Some(pace), ..Load::closed(listen, CLIENTS, time) }.warmed_up()
        };
        self.rig.tell("bare axum, half load");
        let time = self.schedule.step(weight::AXUM_HALF);
        let generator = self.rig.connect(at_pace(bare.listen, time), requests()).await?;
        let floor = self.rig.send(generator).await?;
        bare.judge(&floor)?;
        self.rig.tell("half load");
        self.schedule.service();
        let service = Service::start(&self.rig.dir, "half_load", &Settings::default()).await?;
        let time = self.schedule.step(weight::HALF_LOAD);
        let load = at_pace(service.listen, time);
        let delivered = self.rig.deliver(&service, load, requests()).await?;
        let outcome = &delivered.outcome;
        let half_load = HalfLoad {
            asked_per_second: pace,
            answered_per_second: per_second(outcome.requests, outcome.elapsed),
            latency: Latency::new(&outcome.latency_us),
            axum_latency: Latency::new(&floor.latency_us),
            p99_of_sync: 0.0,
            cpu_us_per_event: delivered.cpu_us_per_event(),
            events: delivered.account,
            faults: delivered.outcome.faults,
        };
        self.rig.tell("idle");
        let time = self.schedule.step(weight::IDLE).max(IDLE_MIN);
        Ok((half_load, idle(&service.child, time).await?))
    }
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

/// The parts of a run that have an account.
fn parts<'a>(
    scenarios: &'a [Measured],
    half_load: &'a HalfLoad,
    fairness: &'a Fairness,
) -> Vec<Part<'a>> {
    let parts = scenarios.iter().map(|of| (of.name.to_owned(), &of.events, &of.faults));
    let half_load = ("half load".to_owned(), &half_load.events, &half_load.faults);
    parts.chain([half_load]).chain(fairness.parts()).collect()
}
