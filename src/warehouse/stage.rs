//! The stage: groups what is stored, has it loaded, and sees each load to its end.
//!
//! In: the ledger's batches and open loads, looked at once a second; the ledger was told that it
//! [serves](crate::ledger::Ledger::serve_warehouse) a warehouse. One load of a table is under
//! way at a time, several tables at once. A load is asked for before it is submitted, always: so a
//! restart, a lost reply and a job that is there already are the same case. A job that failed for
//! a reason that passes is followed by another attempt; one that its objects failed is parted,
//! until the one that can't be loaded stands alone and waits for an operator. Where all fail, it is
//! the table that is wrong, and few jobs are spent on finding out when it is right again.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::failing::Failing;
use super::group::{Group, parts};
use super::pace::{self, Pace};
use super::state::{Progress, seen};
use super::{Fault, Job, WarehouseError, WarehouseLoader, recall};
use crate::ambient;
use crate::config::WarehouseConfig;
use crate::event::StreamName;
use crate::ledger::{Ledger, Load, LoadId, LoadState, Member, Spent};
use crate::sqlite::SqliteError;

/// How often the ledger is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A count of a million waiting objects takes the ledger a while: one part in so many of the time.
const COUNT_PART: u32 = 50;
/// How often a warehouse that has nothing to do is asked whether it is there.
const CHECK_EVERY: Duration = Duration::from_secs(60);
/// How soon what was loaded is asked for again, where the warehouse gave no answer.
const RECALL_AGAIN: Duration = Duration::from_secs(5);
/// The wait after a first failure, at most.
const BACKOFF_FIRST: Duration = Duration::from_secs(1);
/// The longest wait between two attempts.
pub(super) const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// The longest wait before a job that has failed is followed by another: each counts among those
/// that the warehouse takes in a day.
pub(super) const NEXT_JOB_MAX: Duration = Duration::from_secs(600);
/// The longest wait before a job is asked for again.
const POLL_MAX: Duration = Duration::from_secs(10);
/// The warehouse itself, where others are its tables.
const SERVICE: &str = "";

/// A table: its dataset and its name.
pub(super) type Table = (String, String);

/// Loads what is stored.
pub struct Stage<W> {
    shared: Arc<Shared<W>>,
    config: WarehouseConfig,
    dataset: String,
    /// Tables with a load under way.
    busy: HashSet<Table>,
    pace: Pace,
    checked: Option<Instant>,
    /// Whether it was there then: nothing is begun with one that is not.
    is_there: bool,
    /// What waits is counted again after this.
    count_after: Option<Instant>,
    /// What was loaded is asked for again after this.
    recall_after: Option<Instant>,
}

/// What every load under way has.
struct Shared<W> {
    loader: W,
    ledger: Ledger,
    progress: Progress,
    changed: Arc<dyn Fn(String) + Send + Sync>,
    /// Somebody wants it now: ends every wait.
    hurry: Arc<Notify>,
    failing: Failing,
    /// Loads whose objects are in no job that the ledger does not know: planned here, or asked for.
    sure: Mutex<HashSet<LoadId>>,
}

impl<W: WarehouseLoader> Stage<W> {
    /// A stage that has done nothing yet. `changed` is told what an operator should hear; `hurry`
    /// ends its waits.
    pub fn new(
        loader: W,
        ledger: Ledger,
        config: WarehouseConfig,
        progress: Progress,
        changed: Arc<dyn Fn(String) + Send + Sync>,
        hurry: Arc<Notify>,
    ) -> Self {
        let (failing, sure) = (Failing::default(), Mutex::default());
        let pace = Pace::new(config.interval, loader.limits().jobs);
        let shared = Shared { loader, ledger, progress, changed, hurry, failing, sure };
        Self {
            shared: Arc::new(shared),
            dataset: config.dataset.clone().unwrap_or_default(),
            pace,
            config,
            busy: HashSet::new(),
            checked: None,
            is_there: false,
            count_after: None,
            recall_after: None,
        }
    }

    /// Runs until the process ends; what is under way then is found again in the ledger.
    pub async fn run(self) {
        self.go(false).await;
    }

    /// Runs until nothing waits any more; what failed for good waits for an operator.
    pub async fn finish(self) {
        self.go(true).await;
    }

    async fn go(mut self, ends: bool) {
        let mut loads: JoinSet<Table> = JoinSet::new();
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                Some(ended) = loads.join_next() => {
                    if let Ok(table) = ended {
                        self.busy.remove(&table);
                    }
                }
            }
            let found = self.look().await;
            if ends && found.is_empty() && self.is_done().await {
                return;
            }
            for load in found {
                let (table, shared) = (table_of(&load), Arc::clone(&self.shared));
                loads.spawn(async move {
                    shared.drive(load).await;
                    table
                });
            }
        }
    }

    /// Whether nothing is under way, and nothing waits.
    async fn is_done(&self) -> bool {
        let waiting = self.shared.ask(|ledger| ledger.waiting()).await;
        self.busy.is_empty() && waiting.is_some_and(|waiting| waiting.objects == 0)
    }

    /// One look at the ledger: the loads that can be started now.
    async fn look(&mut self) -> Vec<Load> {
        let shared = Arc::clone(&self.shared);
        let begun = ambient::now();
        if self.count_after.is_none_or(|after| begun >= after) {
            let Some((waiting, shown)) = shared.ask(seen).await else { return Vec::new() };
            shared.progress.waits(waiting, shown);
            self.count_after = begun.checked_add((ambient::now() - begun) * COUNT_PART);
        }
        self.check().await;
        if !self.is_there || !self.end_doubt().await {
            return Vec::new();
        }
        let mut found = Vec::new();
        let open = shared.ask(|ledger| ledger.open_loads()).await.unwrap_or_default();
        for load in open {
            if self.busy.insert(table_of(&load)) {
                found.push(load);
            }
        }
        for (table, streams) in self.due().await {
            let load = self.plan(table.clone(), streams).await;
            if let Some(load) = load {
                shared.sure().insert(load.id);
                self.busy.insert(table);
                found.push(load);
            }
        }
        found
    }

    /// Asks whether the warehouse is there: at the start, and when nothing else asks it.
    async fn check(&mut self) {
        let is_due = self.checked.is_none_or(|at| ambient::now() - at >= CHECK_EVERY);
        if is_due && self.busy.is_empty() {
            self.checked = Some(ambient::now());
            let found = self.shared.loader.check().await;
            self.is_there = found.is_ok();
            match found {
                Ok(()) => self.shared.works(SERVICE),
                Err(error) => {
                    self.shared.fails(SERVICE, &error);
                    // What an operator is about to mend is looked at more often.
                    self.checked = ambient::now().checked_sub(CHECK_EVERY - RECALL_AGAIN);
                }
            }
        }
    }

    /// Asks the warehouse for what may be loaded already; false while that is not known.
    async fn end_doubt(&mut self) -> bool {
        if self.recall_after.is_some_and(|after| ambient::now() < after) {
            return false;
        }
        let shared = Arc::clone(&self.shared);
        let Some(doubted) = shared.ask(|ledger| ledger.doubted()).await else { return false };
        if doubted.is_empty() {
            return true;
        }
        let (now, memory) = (crate::time::now(), shared.loader.memory());
        let since = recall::since(&doubted, now, memory);
        tracing::info!(objects = doubted.len(), "asking the warehouse whether they were loaded");
        let objects = doubted.iter().map(|member| member.object.clone()).collect();
        let jobs = match shared.loader.history(&self.dataset, since, &objects).await {
            Ok(jobs) => jobs,
            Err(error) => {
                shared.fails(SERVICE, &error);
                let wait = error.after.map_or(RECALL_AGAIN, |after| after.min(NEXT_JOB_MAX));
                self.recall_after = ambient::now().checked_add(wait);
                return false;
            }
        };
        let table = |member: &Member| match StreamName::new(&member.stream) {
            Ok(stream) => self.config.table.table(&stream),
            Err(_) => member.stream.clone(),
        };
        let (of, limits) = ((self.dataset.as_str(), shared.loader.limits()), (now, memory));
        let verdict = recall::judge(of, doubted, jobs, limits, table);
        if !verdict.recalled.is_empty() {
            let (name, loads) = (shared.loader.name(), verdict.recalled.len());
            let waiting = verdict.waiting.len();
            (shared.changed)(format!(
                "{name} knows {loads} loads of {} objects that the ledger did not",
                objects.len() - waiting
            ));
        }
        let ended = shared.ask(move |l| l.end_doubt(verdict.recalled, verdict.waiting)).await;
        ended.is_some()
    }

    /// The tables that may be loaded now, with their streams.
    async fn due(&mut self) -> BTreeMap<Table, Vec<StreamName>> {
        let streams = self.shared.ask(|ledger| ledger.unloaded()).await.unwrap_or_default();
        let mut tables: BTreeMap<Table, Vec<StreamName>> = BTreeMap::new();
        for stream in streams {
            let table = (self.dataset.clone(), self.config.table.table(&stream));
            if self.busy.contains(&table) || self.rests(&table).await {
                continue;
            }
            tables.entry(table).or_default().push(stream);
        }
        tables
    }

    /// Whether a table was loaded so lately, perhaps by an earlier process, that it has to wait.
    async fn rests(&mut self, table: &Table) -> bool {
        if self.pace.rests(table) {
            return true;
        }
        let Some(spent) = self.shared.spent(table.clone()).await else { return true };
        let news = self.pace.set(table, spent, &self.shared.progress);
        news.into_iter().for_each(|why| (self.shared.changed)(why));
        self.pace.rests(table)
    }

    async fn plan(&self, (dataset, table): Table, streams: Vec<StreamName>) -> Option<Load> {
        let mut group = Group::new(self.shared.loader.limits());
        let takes = move |member: &Member| group.takes(member);
        self.shared.ask(move |l| l.plan_load(dataset, table, streams, takes)).await.flatten()
    }
}

fn table_of(load: &Load) -> Table {
    (load.dataset.clone(), load.table.clone())
}

impl<W: WarehouseLoader> Shared<W> {
    /// Asks the ledger, off the runtime's threads; `None` where it fails, which others tell.
    async fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Ledger) -> Result<T, SqliteError> + Send + 'static,
    ) -> Option<T> {
        let ledger = self.ledger.clone();
        match tokio::task::spawn_blocking(move || work(&ledger)).await {
            Ok(Ok(value)) => Some(value),
            Ok(Err(error)) => {
                tracing::error!(%error, "the warehouse's stage can't use the ledger");
                None
            }
            Err(error) => {
                tracing::error!(%error, "a call of the ledger ended early");
                None
            }
        }
    }

    /// Sees a load to its end. Where the ledger fails it is left as it is, and found again.
    async fn drive(&self, mut load: Load) {
        let (mut backoff, mut poll) = (BACKOFF_FIRST, BACKOFF_FIRST);
        let (mut backoff_max, mut is_submitted) = (BACKOFF_MAX, false);
        loop {
            let asked = match self.loader.status(&load).await {
                Ok(Job::Unknown) if !self.sure().contains(&load.id) => {
                    match self.is_elsewhere(&load).await {
                        Ok(true) => return,
                        Ok(false) => {
                            self.sure().insert(load.id);
                            continue;
                        }
                        Err(error) => Err(error),
                    }
                }
                Ok(Job::Unknown) if !is_submitted => match self.submit(&load).await {
                    Err(error) if error.fault == Fault::Objects => {
                        return self.refused(load, error).await;
                    }
                    other => other,
                },
                other => other,
            };
            let error = match asked {
                // Submitted just now; or submitted, and still not there.
                Ok(Job::Unknown) => {
                    if is_submitted {
                        self.wait(poll).await;
                    }
                    is_submitted = !is_submitted;
                    continue;
                }
                Ok(Job::Running) => {
                    self.answers(&load);
                    self.wait(poll).await;
                    poll = (poll * 2).min(POLL_MAX);
                    continue;
                }
                Ok(Job::Loaded) => return self.loaded(load).await,
                Ok(Job::Failed(error)) if error.fault == Fault::Objects => {
                    return self.refused(load, error).await;
                }
                // Nothing of that job has landed: the next one may.
                Ok(Job::Failed(error)) => {
                    let next = Load {
                        attempt: load.attempt + 1,
                        error: Some(error.message.clone()),
                        ..load.clone()
                    };
                    let Some(next) = self.ask(move |ledger| ledger.set_load(next)).await else {
                        return;
                    };
                    self.progress.change(|status| status.retried += 1);
                    (load, is_submitted, backoff_max) = (next, false, NEXT_JOB_MAX);
                    error
                }
                // Whatever it is, the job may be there.
                Err(error) => error,
            };
            self.fails(&load.table, &error);
            let wished = error.after.map(|after| after.min(NEXT_JOB_MAX));
            self.wait(wished.unwrap_or_else(|| ambient::part_of(backoff))).await;
            backoff = (backoff * 2).min(backoff_max);
        }
    }

    /// Whether jobs have objects of a load that has none of its present attempt: a later attempt's,
    /// or those of loads that this ledger, which may be an older copy, doesn't know. Then they have
    /// them in the ledger too, and the others wait for another load.
    async fn is_elsewhere(&self, load: &Load) -> Result<bool, WarehouseError> {
        let id = load.id;
        let Some(members) = self.ask(move |ledger| ledger.members(id)).await else {
            return Ok(true);
        };
        let (now, dataset) = (crate::time::now(), load.dataset.as_str());
        let planned = load.planned_at;
        let since = recall::created_after(planned, planned, now, self.loader.memory());
        let objects = members.iter().map(|member| member.object.clone()).collect();
        let jobs = self.loader.history(dataset, since, &objects).await?;
        let (recalled, left) = recall::taken(dataset, members, jobs);
        if recalled.is_empty() {
            return Ok(false);
        }
        let (name, table) = (self.loader.name(), &load.table);
        (self.changed)(format!("{name} has objects of load {id} into {table} already"));
        let (load, waiting) = (load.clone(), left.into_iter().map(|member| member.batch).collect());
        self.ask(move |ledger| ledger.give_load(load, recalled, waiting)).await;
        Ok(true)
    }

    /// What a table has used up of a day's jobs, as far as the ledger knows them.
    async fn spent(&self, (dataset, table): Table) -> Option<Spent> {
        self.ask(move |ledger| ledger.spent(dataset, table, pace::a_day_ago())).await
    }

    /// Submits a load's job; what has become of it is asked for next.
    async fn submit(&self, load: &Load) -> Result<Job, WarehouseError> {
        // Its own is among those that were spent.
        let spent = self.spent(table_of(load)).await.unwrap_or_default();
        if spent.jobs > self.loader.limits().jobs {
            self.wait(NEXT_JOB_MAX).await;
            return Ok(Job::Running);
        }
        // An operator's retry is no first attempt.
        if load.attempt == 1 && self.failing.takes_nothing(&table_of(load)) {
            self.wait(NEXT_JOB_MAX).await;
        }
        self.loader.prepare(load).await?;
        let id = load.id;
        let Some(members) = self.ask(move |ledger| ledger.members(id)).await else {
            return Ok(Job::Running);
        };
        self.loader.submit(load, &members).await?;
        Ok(Job::Unknown)
    }

    async fn wait(&self, wait: Duration) {
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = self.hurry.notified() => {}
        }
    }

    async fn loaded(&self, load: Load) {
        self.failing.landed(&table_of(&load));
        self.answers(&load);
        let load = Load { state: LoadState::Loaded, error: None, ..load };
        let Some(load) = self.ask(move |ledger| ledger.set_load(load)).await else { return };
        self.sure().remove(&load.id);
        tracing::info!(job = load.job(), objects = load.objects, rows = load.rows, "loaded");
        self.progress.change(|status| {
            status.loaded += 1;
            status.rows += load.rows;
            status.bytes += load.bytes;
        });
    }

    /// A load that its objects have failed: parted, or one for an operator. Which it is, and into
    /// what it is parted, follows from its job alone: whoever comes to this job again, with a
    /// ledger that has gone back in time, finds the same loads and their jobs.
    async fn refused(&self, load: Load, error: WarehouseError) {
        let id = load.id;
        let Some(members) = self.ask(move |ledger| ledger.members(id)).await else { return };
        let mut load = Load { error: Some(error.message.clone()), ..load };
        if members.len() > 1 {
            self.answers(&load);
            tracing::warn!(job = load.job(), error = load.error, "load failed; it is parted");
            // A name is believed once: where a part fails too, halving finds the cause surely.
            let named = if load.parent.is_none() { &error.objects[..] } else { &[] };
            let parts = parts(members, named);
            let split = self.ask(move |ledger| ledger.split_load(load, parts)).await;
            if let Some(parts) = split {
                // What nobody else had of the whole, nobody has of its parts.
                let mut sure = self.sure();
                if sure.remove(&id) {
                    sure.extend(parts.iter().map(|part| part.id));
                }
                drop(sure);
                self.progress.change(|status| status.split += 1);
            }
            return;
        }
        // By the time that an operator tries it again, another may have loaded it.
        self.sure().remove(&id);
        load.state = LoadState::Failed;
        let Some(load) = self.ask(move |ledger| ledger.set_load(load)).await else { return };
        let WarehouseError { message: why, .. } = &error;
        tracing::error!(job = load.job(), object = load.object, why, "load failed for good");
        (self.changed)(format!("load of {} into {} failed: {why}", load.object, load.table));
        self.progress.change(|status| status.failed += 1);
        if self.failing.failed(&table_of(&load)) {
            let message = format!("table {} takes no object: {why}", load.table);
            self.fails(&load.table, &WarehouseError { message, ..error });
        }
        self.answers(&load);
    }

    fn sure(&self) -> MutexGuard<'_, HashSet<LoadId>> {
        self.sure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was asked of the load's table was answered; whether that was good is known already.
    fn answers(&self, load: &Load) {
        if !self.failing.takes_nothing(&table_of(load)) {
            self.works(&load.table);
        }
    }

    /// It answers; `what` is a table, or [`SERVICE`].
    fn works(&self, what: &str) {
        if self.progress.works(what) {
            (self.changed)(format!("{} takes loads again", self.loader.name()));
        }
    }

    fn fails(&self, what: &str, error: &WarehouseError) {
        if self.progress.fails(what, &error.message) {
            tracing::warn!(warehouse = self.loader.name(), %error, "loads wait");
            (self.changed)(format!("{} fails: {error}", self.loader.name()));
        }
    }
}
