//! What an event costs while one thing grows and all others stay.
//!
//! Every row has a fresh service; its ratios are those to the first row of its table, so that what
//! the machine is cancels out. The backlog is made by a service whose lake is a file, and can't be
//! stored in; that one is killed, and what its successor stores is measured from the start of its
//! process.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::time::{Duration, Instant};

use rustix::process::Resource;
use serde::Serialize;

use super::super::print::size;
use super::super::{Failure, service};
use super::account::Account;
use super::figures::{Latency, per_second, ratio};
use super::load::Load;
use super::report::{count, short};
use super::requests;
use super::rig::{self, Delivered, Rig, Since};
use super::schedule::Schedule;
use super::server::{Service, Settings};
use super::steps::CONNECTIONS;
use super::variants::{self, Series, Variant};
use super::watch::{Document, Part, Watch};

/// Events that wait when a service starts, in a run of [`TIME`]; fewer where it is shorter.
const BACKLOG: u64 = 1_000_000;
/// How long a run takes unless it is asked for something else.
pub const TIME: Duration = Duration::from_secs(150);
/// Services that the backlog needs.
const BACKLOG_SERVICES: u32 = 3;
/// Sending the backlog may take so long.
const BACKLOG_MAX: Duration = Duration::from_secs(60);
/// The data directory of those that have a backlog.
const PLACE: &str = "backlog";
/// A step's share of the time.
mod weight {
    pub const SYNCS: u32 = 1;
    pub const ROW: u32 = 4;
    pub const BACKLOG: u32 = 8;
}

/// A table for each thing that grows.
#[derive(Debug, Serialize)]
pub struct Scale {
    tables: Vec<Table>,
    /// What the system did not allow.
    left_out: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Table {
    name: &'static str,
    what: &'static str,
    rows: Vec<Row>,
}

/// One value, and what came of it.
#[derive(Debug, Serialize)]
struct Row {
    value: u64,
    /// Events acknowledged, until the last answer.
    acknowledged_per_second: f64,
    /// Events stored in the lake, until everything was.
    delivered_per_second: f64,
    /// The answers.
    latency: Latency,
    /// The service's CPU time, until everything was stored.
    cpu_us_per_event: f64,
    /// The most memory that was resident at once, in bytes.
    memory_bytes_max: u64,
    /// Files in the lake.
    lake_files: u64,
    /// `delivered_per_second` ÷ that of the first row.
    delivered_of_first: f64,
    /// `cpu_us_per_event` ÷ that of the first row.
    cpu_of_first: f64,
    /// What has become of every event.
    events: Account,
    /// Answers that were none, by what was wrong.
    faults: BTreeMap<String, u64>,
}

/// Measures all of it.
pub async fn measure(rig: &Rig) -> Result<Document<Scale>, Failure> {
    let files = service::raise(Resource::Nofile);
    let series = variants::series(&rig.happened);
    let rows = series.iter().map(|series| series.variants.len() as u32).sum::<u32>();
    let weights = 2 * weight::SYNCS + rows * weight::ROW + weight::BACKLOG;
    let mut schedule = Schedule::new(rig.asked, weights, rows + BACKLOG_SERVICES);
    let watch = Watch::begin(rig, schedule.step(weight::SYNCS)).await?;
    let mut scale = Scale { tables: Vec::new(), left_out: Vec::new() };
    for Series { name, what, variants } in series {
        let mut table = Table { name, what, rows: Vec::new() };
        for variant in variants {
            if variant.files() > files {
                scale.left_out.push(format!(
                    "{} {name}: {} open files are needed, {files} are allowed",
                    variant.value,
                    variant.files()
                ));
                continue;
            }
            rig.tell(&format!("{name}: {}", variant.value));
            table.push(row(rig, &mut schedule, variant).await?);
        }
        scale.tables.push(table);
    }
    // It takes what its events take; this keeps the time for it from the rows before.
    schedule.step(weight::BACKLOG);
    scale.tables.push(backlog(rig, &mut schedule).await?);
    let watched = watch.end(rig, schedule.step(weight::SYNCS)).await?;
    Ok(Document::new(scale, watched, parts))
}

async fn row(rig: &Rig, schedule: &mut Schedule, variant: Variant) -> Result<Row, Failure> {
    schedule.service();
    let service = Service::start(&rig.dir, "row", &variant.settings).await?;
    let time = rig::sending(schedule.step(weight::ROW), &variant.requests);
    let load = Load::closed(service.listen, variant.connections, time);
    let delivered = rig.deliver(&service, load, variant.requests).await?;
    service.remove()?;
    Ok(Row::new(variant.value, delivered))
}

/// The same events twice: stored while they come, and by a service that finds them in its log.
async fn backlog(rig: &Rig, schedule: &mut Schedule) -> Result<Table, Failure> {
    let events = BACKLOG as f64 * ratio(rig.asked.as_secs_f64(), TIME.as_secs_f64()).min(1.0);
    let events = (events as u64).next_multiple_of(requests::BATCH);
    let what = "events in the log when the service starts; with none, as many come live";
    let mut table = Table { name: "backlog", what, rows: Vec::new() };
    rig.tell("backlog: 0");
    table.push(Row::new(0, live(rig, schedule, events).await?));
    rig.tell(&format!("backlog: {events}"));
    table.push(Row::new(events, drained(rig, schedule, events).await?));
    Ok(table)
}

/// So many events, stored while they come.
async fn live(rig: &Rig, schedule: &mut Schedule, events: u64) -> Result<Delivered, Failure> {
    let service = next(rig, schedule).await?;
    let load = batches(&service, events);
    let requests = requests::batches(&rig.happened).requests;
    let delivered = rig.deliver(&service, load, requests).await?;
    service.remove()?;
    Ok(delivered)
}

/// So many events, which a service finds in its log.
async fn drained(rig: &Rig, schedule: &mut Schedule, events: u64) -> Result<Delivered, Failure> {
    let lake = rig.dir.join(PLACE).join("lake");
    std::fs::create_dir(rig.dir.join(PLACE))?;
    std::fs::write(&lake, "")?;
    let service = next(rig, schedule).await?;
    let load = batches(&service, events);
    let generator = rig.connect(load, requests::batches(&rig.happened).requests).await?;
    let outcome = rig.send(generator).await?;
    let earlier = rig.received(&service, &outcome).await?;
    drop(service);
    std::fs::remove_file(&lake)?;
    let since = Since { began: Instant::now(), cpu: Duration::ZERO, earlier };
    let service = next(rig, schedule).await?;
    let delivered = rig.settle(&service, outcome, since).await?;
    service.remove()?;
    Ok(delivered)
}

/// The service in [`PLACE`].
async fn next(rig: &Rig, schedule: &mut Schedule) -> Result<Service, Failure> {
    schedule.service();
    Service::start(&rig.dir, PLACE, &Settings::default()).await
}

/// So many events in batches, however long that takes within reason.
fn batches(service: &Service, events: u64) -> Load {
    Load { events_max: events, ..Load::closed(service.listen, CONNECTIONS, BACKLOG_MAX) }
}

impl Row {
    fn new(value: u64, delivered: Delivered) -> Self {
        let outcome = &delivered.outcome;
        Self {
            value,
            acknowledged_per_second: per_second(outcome.acknowledged, outcome.elapsed),
            delivered_per_second: per_second(outcome.acknowledged, delivered.elapsed),
            latency: Latency::new(&outcome.latency_us),
            cpu_us_per_event: delivered.cpu_us_per_event(),
            memory_bytes_max: delivered.memory_bytes_max,
            lake_files: delivered.lake_files,
            delivered_of_first: 1.0,
            cpu_of_first: 1.0,
            events: delivered.account,
            faults: delivered.outcome.faults,
        }
    }
}

impl Table {
    fn push(&mut self, mut row: Row) {
        if let Some(first) = self.rows.first() {
            row.delivered_of_first = ratio(row.delivered_per_second, first.delivered_per_second);
            row.cpu_of_first = ratio(row.cpu_us_per_event, first.cpu_us_per_event);
        }
        self.rows.push(row);
    }
}

fn parts(scale: &Scale) -> Vec<Part<'_>> {
    let rows = scale.tables.iter().flat_map(|table| table.rows.iter().map(move |row| (table, row)));
    rows.map(|(table, row)| (format!("{} {}", table.name, row.value), &row.events, &row.faults))
        .collect()
}

/// A table for each thing that grows.
pub fn write(out: &mut String, scale: &Scale) -> fmt::Result {
    for Table { name, what, rows } in &scale.tables {
        writeln!(
            out,
            "\n{name:<11} {:>10} {:>10} {:>8} {:>9} {:>8} {:>10} {:>8} {:>8}",
            "acked/s", "stored/s", "p99 ms", "µs CPU/ev", "files", "memory", "stored ÷", "CPU ÷"
        )?;
        for row in rows {
            writeln!(
                out,
                "{:<11} {:>10} {:>10} {:>8} {:>9} {:>8} {:>10} {:>8} {:>8}",
                count(row.value as f64),
                count(row.acknowledged_per_second),
                count(row.delivered_per_second),
                short(row.latency.p99_ms),
                short(row.cpu_us_per_event),
                count(row.lake_files as f64),
                size(row.memory_bytes_max),
                short(row.delivered_of_first),
                short(row.cpu_of_first)
            )?;
        }
        writeln!(out, "  {what}")?;
    }
    for what in &scale.left_out {
        writeln!(out, "LEFT OUT: {what}")?;
    }
    Ok(())
}
