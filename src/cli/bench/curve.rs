//! How long answers take at every load, from a tenth of what is possible to more than that.
//!
//! First, single events in a closed loop say what is possible; then they come at a pace, a
//! fraction of it, on connections that are never short, and an answer's time counts from when its
//! request was due. Each point has a fresh service, whose first answers are not timed. A refusal
//! for overload (503) is counted and is no fault: above what is possible, it may be the right
//! answer.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use serde::Serialize;

use super::super::Failure;
use super::account::Account;
use super::figures::{Latency, per_second};
use super::load::Load;
use super::report::{count, short};
use super::requests;
use super::rig::Rig;
use super::schedule::Schedule;
use super::server::{Service, Settings};
use super::steps::{CLIENTS, CONNECTIONS};
use super::watch::{Document, Part, Watch};

/// What is asked for, in percent of what is possible.
const PERCENTS: [u32; 12] = [10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 100, 110];
/// A step's share of the time, in parts of a point's.
mod weight {
    pub const SYNCS: u32 = 1;
    pub const POINT: u32 = 4;
    pub const CLOSED: u32 = 8;
}

/// The points of a curve.
#[derive(Debug, Serialize)]
pub struct Curve {
    /// What is possible: each connection's next request follows its answer.
    closed: Point,
    /// At a pace, from the lowest on.
    points: Vec<Point>,
}

/// A load, and how it was answered.
#[derive(Debug, Serialize)]
struct Point {
    /// Of what is possible; nothing in the closed loop.
    asked_percent: Option<u32>,
    /// Requests a second that were due; nothing in the closed loop.
    asked_per_second: Option<f64>,
    /// Requests a second that were answered 200.
    answered_per_second: f64,
    /// The answers but the first; at a pace, from when the request was due.
    latency: Latency,
    /// The service's CPU time, until everything was stored.
    cpu_us_per_event: f64,
    /// Answers of 503.
    refused: u64,
    /// What has become of every event.
    events: Account,
    /// Answers that were none, by what was wrong.
    faults: BTreeMap<String, u64>,
}

/// Measures it.
pub async fn measure(rig: &Rig) -> Result<Document<Curve>, Failure> {
    let points = PERCENTS.len() as u32;
    let weights = 2 * weight::SYNCS + weight::CLOSED + points * weight::POINT;
    let mut schedule = Schedule::new(rig.asked, weights, points + 1);
    let watch = Watch::begin(rig, schedule.step(weight::SYNCS)).await?;
    let closed = point(rig, &mut schedule, None).await?;
    let mut curve = Curve { closed, points: Vec::new() };
    for percent in PERCENTS {
        let asked = curve.closed.answered_per_second * f64::from(percent) / 100.0;
        curve.points.push(point(rig, &mut schedule, Some((percent, asked))).await?);
    }
    let watched = watch.end(rig, schedule.step(weight::SYNCS)).await?;
    Ok(Document::new(curve, watched, parts))
}

/// One point: its percentage and pace; without them, the closed loop.
async fn point(
    rig: &Rig,
    schedule: &mut Schedule,
    asked: Option<(u32, f64)>,
) -> Result<Point, Failure> {
    let name = asked.map_or("closed".to_owned(), |(percent, _)| format!("{percent}"));
    rig.tell(&asked.map_or("closed loop".to_owned(), |(percent, _)| format!("{percent} %")));
    schedule.service();
    let service = Service::start(&rig.dir, &name, &Settings::default()).await?;
    let (weight, connections) = match asked {
        None => (weight::CLOSED, CONNECTIONS),
        Some(_) => (weight::POINT, CLIENTS),
    };
    let time = schedule.step(weight);
    let pace = asked.map(|(_, pace)| pace);
    let load = Load::closed(service.listen, connections, time);
    let load = Load { pace, ..load }.warmed_up();
    let requests = requests::single(&rig.happened).requests;
    let delivered = rig.deliver(&service, load, requests).await?;
    service.remove()?;
    let cpu_us_per_event = delivered.cpu_us_per_event();
    let mut outcome = delivered.outcome;
    Ok(Point {
        asked_percent: asked.map(|(percent, _)| percent),
        asked_per_second: asked.map(|(_, pace)| pace),
        answered_per_second: per_second(outcome.requests, outcome.elapsed),
        latency: Latency::new(&outcome.latency_us),
        cpu_us_per_event,
        refused: outcome.take_refusals(),
        events: delivered.account,
        faults: outcome.faults,
    })
}

impl Point {
    fn name(&self) -> String {
        self.asked_percent.map_or("closed loop".to_owned(), |percent| format!("{percent} %"))
    }
}

fn parts(curve: &Curve) -> Vec<Part<'_>> {
    let all = std::iter::once(&curve.closed).chain(&curve.points);
    all.map(|point| (point.name(), &point.events, &point.faults)).collect()
}

/// A line for each point.
pub fn write(out: &mut String, curve: &Curve) -> fmt::Result {
    writeln!(
        out,
        "\n{:<11} {:>9} {:>10} {:>8} {:>8} {:>8} {:>8} {:>9} {:>9}",
        "", "asked/s", "answered/s", "p50 ms", "p90", "p99", "max", "µs CPU/ev", "refused"
    )?;
    for point in std::iter::once(&curve.closed).chain(&curve.points) {
        let took = &point.latency;
        writeln!(
            out,
            "{:<11} {:>9} {:>10} {:>8} {:>8} {:>8} {:>8} {:>9} {:>9}",
            point.name(),
            point.asked_per_second.map_or("-".to_owned(), count),
            count(point.answered_per_second),
            short(took.p50_ms),
            short(took.p90_ms),
            short(took.p99_ms),
            short(took.max_ms),
            short(point.cpu_us_per_event),
            count(point.refused as f64)
        )?;
    }
    Ok(())
}
