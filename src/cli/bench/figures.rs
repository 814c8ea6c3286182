//! The figures of a run: what `--json` prints, and what the table is made from.
//!
//! Times are in milliseconds or microseconds as their names say; rates are per second; ratios are
//! of two figures that stand in the same document.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::account::Account;
use super::ceilings::{OneCore, Syncs};
use super::fairness::Fairness;
use super::quiet::Others;

/// Others may take so much of the cores, in percent.
const OTHERS_PERCENT_MAX: f64 = 10.0;
/// The machine below may take so much of them, in percent.
const STEAL_PERCENT_MAX: f64 = 5.0;
/// The device's rate may change so much while it is measured, in percent.
const SYNC_CHANGE_PERCENT_MAX: f64 = 25.0;

/// All figures of a run.
#[derive(Debug, Serialize)]
pub struct Figures {
    /// The version that was measured.
    pub version: &'static str,
    /// On what.
    pub machine: Machine,
    /// What the machine can do at best.
    pub ceilings: Ceilings,
    /// What the service does.
    pub scenarios: Vec<Measured>,
    /// Answers when half of what was possible is asked for.
    pub half_load: HalfLoad,
    /// The service without traffic.
    pub idle: Idle,
    /// One stream's answers beside another's flood.
    pub fairness: Fairness,
    /// What others did meanwhile.
    pub quiet: Quiet,
    /// Events that are not accounted for: the figures are worth nothing.
    pub problems: Vec<String>,
    /// Why the figures are not to be trusted; empty on a quiet machine.
    pub distrust: Vec<String>,
}

/// What was measured on.
#[derive(Debug, Serialize)]
pub struct Machine {
    /// Cores that may be used.
    pub cores: usize,
    /// Where the files were.
    pub dir: String,
    /// The file system there.
    pub filesystem: String,
    /// For how long it was asked to measure.
    pub asked_s: f64,
    /// For how long it did.
    pub took_s: f64,
}

/// How long answers took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Latency {
    /// Median.
    pub p50_ms: f64,
    /// 90th percentile.
    pub p90_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

impl Latency {
    /// Of a histogram of microseconds.
    pub fn new(us: &Histogram<u64>) -> Self {
        let ms = |us: u64| us as f64 / 1e3;
        Self {
            p50_ms: ms(us.value_at_quantile(0.5)),
            p90_ms: ms(us.value_at_quantile(0.9)),
            p99_ms: ms(us.value_at_quantile(0.99)),
            max_ms: ms(us.max()),
        }
    }
}

/// The bare handler.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Floor {
    /// Events whose request was answered.
    pub events_per_second: f64,
    /// The handler's CPU time.
    pub cpu_us_per_event: f64,
    /// The answers.
    pub latency: Latency,
}

/// What the machine can do at best.
#[derive(Debug, Serialize)]
pub struct Ceilings {
    /// A bare axum handler that drops the body, one event a request.
    pub axum_single: Floor,
    /// The same, 100 events a request.
    pub axum_batches: Floor,
    /// The device, before everything else.
    pub syncs_before: Syncs,
    /// The device, after it.
    pub syncs_after: Syncs,
    /// An event parsed, validated and typed.
    pub parse: OneCore,
    /// An event of a batch of 10,000 encoded and written.
    pub parquet: OneCore,
}

impl Ceilings {
    /// The device's 99th percentile, the better of two.
    pub fn sync_p99_ms(&self) -> f64 {
        self.syncs_before.p99_ms.min(self.syncs_after.p99_ms)
    }
}

/// One scenario.
#[derive(Debug, Serialize)]
pub struct Measured {
    /// Its name.
    pub name: &'static str,
    /// What was sent.
    pub what: &'static str,
    /// Events acknowledged, until the last answer.
    pub acknowledged_per_second: f64,
    /// Events stored in the lake or as dead letters, until everything was.
    pub delivered_per_second: f64,
    /// The answers.
    pub latency: Latency,
    /// The service's CPU time, from the first request until everything was stored.
    pub cpu_us_per_event: f64,
    /// The load generator's CPU time.
    pub client_cpu_us_per_event: f64,
    /// The most memory that was resident at once, in bytes.
    pub memory_bytes_max: u64,
    /// Bytes of the lake's objects.
    pub lake_bytes_per_event: f64,
    /// Bytes in the log: record, frame and padding.
    pub log_bytes_per_event: f64,
    /// For how long was sent.
    pub sent_s: f64,
    /// What has become of every event.
    pub events: Account,
    /// Answers that were none, by what was wrong.
    pub faults: BTreeMap<String, u64>,
    /// Beside the ceilings.
    pub ratios: Ratios,
}

/// A scenario beside the machine's ceilings; what does not apply is left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Ratios {
    /// `acknowledged_per_second` ÷ that of the bare handler.
    pub throughput_of_axum: f64,
    /// `cpu_us_per_event` ÷ that of the bare handler.
    pub cpu_of_axum: f64,
    /// `cpu_us_per_event` ÷ that of parse and Parquet together.
    pub cpu_of_parse_and_parquet: f64,
    /// `latency.p99_ms` ÷ the device's.
    pub p99_of_sync: f64,
}

impl Ratios {
    /// Of a scenario whose requests are like those that the bare handler got.
    pub fn new(measured: &Measured, floor: &Floor, ceilings: &Ceilings) -> Self {
        let work = ceilings.parse.cpu_us_per_event + ceilings.parquet.cpu_us_per_event;
        Self {
            throughput_of_axum: ratio(measured.acknowledged_per_second, floor.events_per_second),
            cpu_of_axum: ratio(measured.cpu_us_per_event, floor.cpu_us_per_event),
            cpu_of_parse_and_parquet: ratio(measured.cpu_us_per_event, work),
            p99_of_sync: ratio(measured.latency.p99_ms, ceilings.sync_p99_ms()),
        }
    }
}

/// Answers when requests come at half of the pace that was possible.
#[derive(Debug, Serialize)]
pub struct HalfLoad {
    /// Requests a second that were due.
    pub asked_per_second: f64,
    /// Requests a second that were answered.
    pub answered_per_second: f64,
    /// The answers but the first, from when the request was due.
    pub latency: Latency,
    /// The bare handler's answers at the same pace, by the same generator on the same cores.
    pub axum_latency: Latency,
    /// `latency.p99_ms` ÷ the device's.
    pub p99_of_sync: f64,
    /// The service's CPU time, until everything was stored.
    pub cpu_us_per_event: f64,
    /// What has become of every event.
    pub events: Account,
    /// Answers that were none, by what was wrong.
    pub faults: BTreeMap<String, u64>,
}

/// The service without traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Idle {
    /// CPU time in percent of one core.
    pub cpu_percent: f64,
    /// For how long it was looked at.
    pub seconds: f64,
}

/// Whether the machine was quiet.
#[derive(Debug, Default, Serialize)]
pub struct Quiet {
    /// What others took.
    #[serde(flatten)]
    pub others: Others,
    /// How much the device's rate of syncs changed meanwhile, in percent of the higher one.
    pub sync_change_percent: f64,
}

impl Quiet {
    /// Of what others took, and the device's two rates.
    pub fn new(others: Others, before: &Syncs, after: &Syncs) -> Self {
        let (low, high) =
            (before.per_second.min(after.per_second), before.per_second.max(after.per_second));
        Self { others, sync_change_percent: 100.0 - ratio(low, high) * 100.0 }
    }

    /// Why figures that were taken meanwhile are not to be trusted.
    pub fn distrust(&self) -> Vec<String> {
        let mut why = Vec::new();
        let Others { others_percent, steal_percent, busiest } = &self.others;
        if *others_percent > OTHERS_PERCENT_MAX {
            let names: Vec<String> = busiest
                .iter()
                .map(|busy| {
                    format!("{} {:.0} %", super::super::print::safe(&busy.name), busy.percent)
                })
                .collect();
            why.push(format!(
                "other processes took {others_percent:.0} % of the cores ({})",
                names.join(", ")
            ));
        }
        if *steal_percent > STEAL_PERCENT_MAX {
            why.push(format!("the machine below took {steal_percent:.0} % of the cores (steal)"));
        }
        if self.sync_change_percent > SYNC_CHANGE_PERCENT_MAX {
            why.push(format!(
                "the device's rate of syncs changed by {:.0} % meanwhile",
                self.sync_change_percent
            ));
        }
        why
    }
}

/// A ratio; 0 where there is nothing to compare with.
pub fn ratio(of: f64, to: f64) -> f64 {
    if to > 0.0 { of / to } else { 0.0 }
}

/// How many in a second.
pub fn per_second(count: u64, time: Duration) -> f64 {
    ratio(count as f64, time.as_secs_f64())
}

/// Microseconds for each.
pub fn us_each(time: Duration, count: u64) -> f64 {
    ratio(time.as_secs_f64() * 1e6, count as f64)
}

#[cfg(test)]
mod tests {
    use super::super::quiet::Busy;
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_answers() {
        let mut us = super::super::load::histogram().unwrap();
        for ms in 1..=100 {
            super::super::load::record(&mut us, Duration::from_millis(ms));
        }
        let latency = Latency::new(&us);
        for (found, wanted) in [
            (latency.p50_ms, 50.0),
            (latency.p90_ms, 90.0),
            (latency.p99_ms, 99.0),
            (latency.max_ms, 100.0),
        ] {
            assert!((found / wanted - 1.0).abs() < 0.002, "{found} for {wanted}");
        }
    }

    #[test]
    fn a_quiet_machine_is_trusted_and_each_disturbance_is_named() {
        let rate = |per_second| Syncs { per_second, ..Syncs::default() };
        let busiest = vec![Busy { name: "make\u{1b}".to_owned(), percent: 40.0 }];
        let others = |others_percent, steal_percent| Others {
            others_percent,
            steal_percent,
            busiest: busiest.clone(),
        };
        let quiet = Quiet::new(others(9.0, 4.0), &rate(1000.0), &rate(800.0));
        assert_eq!(quiet.distrust(), Vec::<String>::new());
        let loud = Quiet::new(others(40.0, 30.0), &rate(700.0), &rate(1000.0)).distrust();
        assert_eq!(loud.len(), 3, "{loud:?}");
        assert!(loud[0].contains("make") && !loud[0].contains('\u{1b}'), "{loud:?}");
        assert!(loud[2].contains("30 %"), "{loud:?}");
    }
}
