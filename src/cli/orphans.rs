//! `eventkit ledger load-orphans`: what machines that are gone have left in the lake.
//!
//! A machine's ledger knows what of its objects is not loaded yet. Where that is lost with its
//! disk, the lake and the warehouse tell together. It needs no service and no data directory.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use eventkit::config::Config;
use eventkit::event::Micros;
use eventkit::ledger::{Ledger, Load, LoadState};
use eventkit::sqlite::SqliteError;
use eventkit::store::{Lake, OfLog};
use eventkit::warehouse::{
    BigQuery, Orphans, Progress, WarehouseLoader, load_orphans, orphans, take_orphans,
};
use serde::Serialize;
use tokio::runtime::Runtime;

use super::print::{self, Form, safe, size, time};
use super::{CONFIGURATION, Done, Failure, IO, Options, USAGE, log, service};

const HOUR: Micros = 3_600_000_000;
/// For so long before `--until`, unless told otherwise.
const SPAN: Micros = 7 * 24 * HOUR;

/// Load into the warehouse what machines that are gone have left in the lake
#[derive(clap::Args)]
pub struct LoadOrphans {
    /// Received from the hour of that time on [default: seven days before --until]
    #[arg(long, value_name = "TIME", value_parser = instant)]
    since: Option<Micros>,
    /// Received in hours that had ended by then; no instance that still runs may have anything as
    /// old to load [default: an hour ago]
    #[arg(long, value_name = "TIME", value_parser = instant)]
    until: Option<Micros>,
    /// Also those received nobody knows when (date=unknown)
    #[arg(long)]
    undated: bool,
    /// Load them; without it they are only listed
    #[arg(long)]
    load: bool,
    /// Also where no job has any object of that time
    #[arg(long, requires = "load")]
    even_all: bool,
    #[command(flatten)]
    form: Form,
}

fn instant(text: &str) -> Result<Micros, String> {
    eventkit::time::parse(text)
        .ok_or_else(|| format!("{text:?} is not a time such as 2026-11-23T14:00:00Z"))
}

/// What was found, and what was done about it.
#[derive(Serialize)]
struct Answer {
    since: String,
    until: String,
    /// Objects that the lake has of that time.
    objects: usize,
    /// Objects that can't be read: where they are, and why.
    unreadable: Vec<(String, String)>,
    /// Objects that are in jobs that run.
    running: usize,
    /// What no job has, by stream and log.
    orphans: Vec<OfOneLog>,
    /// Whether they were to be loaded.
    load: bool,
    /// What has become of that.
    loads: Vec<Load>,
}

/// The orphans of one log.
#[derive(Clone, Serialize)]
struct OfOneLog {
    stream: String,
    /// The log's identity, the last eight digits of which begin its objects' names.
    log: String,
    objects: u64,
    rows: u64,
    bytes: u64,
    first_received_at: Micros,
    last_received_at: Micros,
}

impl LoadOrphans {
    pub fn run(self, options: &Options) -> Done {
        let config = options.load()?;
        log::to_stderr(&config.log)?;
        let form = Form { json: self.form.json };
        // Credentials keep themselves fresh on it, and a ledger can't be waited for within it.
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let (mut answer, left) = runtime.block_on(self.look(&config))?;
        let count = left.objects.len();
        if self.load && count > 0 {
            // Another account's jobs can't be seen: all of them would land a second time.
            if count == answer.objects && !self.even_all {
                return Err(Failure::new(1, seen_by_nobody(answer.objects)));
            }
            answer.loads = load(&runtime, &config, left)?;
        }
        print::answer(&form, &answer, text)?;
        match answer.lacks() {
            Some(why) => Err(Failure::new(1, why)),
            None => Ok(()),
        }
    }

    async fn look(&self, config: &Config) -> Result<(Answer, Orphans), Failure> {
        let warehouse = warehouse(config)?;
        // Of whole hours.
        let begin = |time: Micros| time.div_euclid(HOUR).saturating_mul(HOUR);
        let until = begin(self.until.unwrap_or_else(|| eventkit::time::now() - HOUR));
        let since = begin(self.since.unwrap_or(until.saturating_sub(SPAN)));
        if since >= until {
            let (since, until) = (time(since), time(until));
            let message = format!("there is no whole hour from {since} to {until}");
            return Err(Failure::new(USAGE, message));
        }
        let known = Micros::try_from(warehouse.memory().as_micros()).unwrap_or(Micros::MAX);
        if since < eventkit::time::now().saturating_sub(known) {
            let (name, days) = (warehouse.name(), known / (24 * HOUR));
            let message = format!("--since: {name} knows the jobs of the last {days} days only");
            return Err(Failure::new(USAGE, message));
        }
        let lake = Lake::open(&config.store, &config.google);
        let lake = lake.map_err(|error| Failure::new(CONFIGURATION, error))?;
        let (all, unreadable) =
            lake.everything(since, until, self.undated).await.map_err(|e| Failure::new(IO, e))?;
        let objects = all.len();
        let left = orphans(&warehouse, &config.warehouse, all).await;
        let left = left.map_err(|error| Failure::new(IO, error))?;
        let answer = Answer {
            since: time(since),
            until: time(until),
            objects,
            unreadable,
            running: left.running,
            orphans: by_log(&left.objects),
            load: self.load,
            loads: Vec::new(),
        };
        Ok((answer, left))
    }
}

impl Answer {
    /// What was not done, or is not known.
    fn lacks(&self) -> Option<String> {
        let failed = self.loads.iter().any(|load| load.state == LoadState::Failed);
        let why = match (failed, self.unreadable.len(), self.running) {
            (true, ..) => "not everything could be loaded".to_owned(),
            (_, 1.., _) => "not every object can be read".to_owned(),
            (.., 0) => return None,
            (.., running) => {
                format!("{running} objects are in jobs that run: ask again once those have ended")
            }
        };
        Some(why)
    }
}

fn warehouse(config: &Config) -> Result<BigQuery, Failure> {
    let message = "there is no warehouse that a lake is loaded into (warehouse.kind)";
    service::warehouse(config)?.ok_or_else(|| Failure::new(USAGE, message))
}

/// Loads them, with a ledger of their own; returns what has become of each load.
fn load(runtime: &Runtime, config: &Config, orphans: Orphans) -> Result<Vec<Load>, Failure> {
    let failed = |error: SqliteError| Failure::new(IO, error);
    let scratch = tempfile::tempdir()?;
    let ledger = Ledger::open(&scratch.path().join("ledger.db")).map_err(failed)?;
    take_orphans(&ledger, orphans).map_err(failed)?;
    runtime.block_on(async {
        let warehouse = warehouse(config)?;
        let progress = Progress::new(warehouse.name(), Duration::MAX);
        load_orphans(warehouse, config.warehouse.clone(), ledger.clone(), progress).await;
        Ok::<_, Failure>(())
    })?;
    let loads = ledger.loads(None, usize::MAX).map_err(failed)?;
    ledger.close();
    Ok(loads)
}

fn seen_by_nobody(objects: usize) -> String {
    format!(
        "no job has any of the {objects} objects of that time, or none that this account may see: \
         BigQuery shows an account its own jobs alone. Use the credentials with which they would \
         have been loaded; where that is so, and none was, say --even-all"
    )
}

fn by_log(orphans: &[OfLog]) -> Vec<OfOneLog> {
    let mut logs: BTreeMap<(&str, u128), OfOneLog> = BTreeMap::new();
    for OfLog { stream, log_uuid, found } in orphans {
        let (first, last) = found.received;
        let log = logs.entry((stream.as_str(), *log_uuid)).or_insert_with(|| OfOneLog {
            stream: stream.as_str().to_owned(),
            log: format!("{log_uuid:032x}"),
            objects: 0,
            rows: 0,
            bytes: 0,
            first_received_at: first,
            last_received_at: last,
        });
        log.objects += 1;
        log.rows += found.seqs.len();
        log.bytes += found.bytes;
        log.first_received_at = log.first_received_at.min(first);
        log.last_received_at = log.last_received_at.max(last);
    }
    logs.into_values().collect()
}

fn text(answer: &Answer) -> String {
    let Answer { since, until, objects, unreadable, orphans, load, loads, .. } = answer;
    let mut out = String::new();
    // Writing to a String can't fail.
    for (object, why) in unreadable {
        let _ = writeln!(out, "can't be read: {}: {}", safe(object), safe(why));
    }
    if *objects == 0 {
        let _ = write!(out, "the lake has no object from {since} to {until} below its prefix");
        return out;
    }
    if orphans.is_empty() {
        let _ = write!(out, "a job has each of the {objects} objects from {since} to {until}");
        return out;
    }
    let _ = write!(
        out,
        "{:<24} {:<8}  {:>7} {:>10} {:>10}  {:<27}  last received",
        "stream", "log", "objects", "rows", "bytes", "first received"
    );
    for log in orphans {
        let _ = write!(
            out,
            "\n{:<24} {:<8}  {:>7} {:>10} {:>10}  {:<27}  {}",
            log.stream,
            log.log.get(24..).unwrap_or_default(),
            log.objects,
            log.rows,
            size(log.bytes),
            time(log.first_received_at),
            time(log.last_received_at)
        );
    }
    let sum = |of: fn(&OfOneLog) -> u64| orphans.iter().map(of).sum::<u64>();
    let (left, rows) = (sum(|log| log.objects), sum(|log| log.rows));
    if !load {
        let _ = write!(
            out,
            "\n{left} of {objects} objects are in no job, {rows} rows; --load loads them"
        );
        return out;
    }
    let of = |state| loads.iter().filter(move |load| load.state == state);
    let landed: u64 = of(LoadState::Loaded).map(|load| load.rows).sum();
    let _ = write!(out, "\n{landed} of {rows} rows are loaded");
    for load in of(LoadState::Failed) {
        let why = load.error.as_deref().unwrap_or_default();
        let _ = write!(out, "\nnot loaded: {}: {}", safe(&load.object), safe(why));
    }
    out
}
