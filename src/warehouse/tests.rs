//! The stage against a warehouse in memory, whose jobs land whole or not at all and whose ids are
//! used up, with faults where a test puts them.

mod crashes;
mod orphans;
mod outage;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::*;
use crate::config::{TablePattern, WarehouseConfig, WarehouseKind};
use crate::event::{Seq, StreamName};
use crate::ledger::{Commit, Ledger, LoadState, Step};
use crate::store::{BatchId, Plan, Stored};

/// What goes wrong with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    /// The job is there, and the reply is lost.
    LostReply,
    /// The service refuses the call for now.
    Refused,
    /// The job is taken, and fails for a reason that passes.
    FailsLater,
    /// The job is taken, and runs for a while.
    Runs,
    /// A job with broken objects is not even made.
    NoJob,
}

/// For how long a loader waits for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Default)]
struct World {
    jobs: BTreeMap<String, (String, Vec<String>, Job)>,
    /// Objects in each table, once for each time that they landed.
    tables: HashMap<String, Vec<String>>,
    /// Objects that no job can have.
    broken: HashSet<String>,
    wrong: VecDeque<Wrong>,
    /// It refuses every other call, and has no answer at all to the others.
    is_away: bool,
    /// Jobs that it takes in a day.
    jobs_max: Option<u64>,
    /// Calls that had none.
    unanswered: u64,
    /// Every job is taken, and fails for a reason that passes.
    fails: bool,
    /// Whatever is broken, the first object of a job is named.
    names_first: bool,
    /// Every submission: job and how many objects.
    submitted: Vec<(String, usize)>,
    /// How often each job is still told to run.
    running: HashMap<String, u32>,
    /// The process dies at this moment: before or after a call is done.
    dies_in: Option<u64>,
    is_dead: bool,
    /// What it submits as it dies arrives a few calls later.
    is_late: bool,
    late: Vec<(Load, Vec<String>)>,
    calls: u64,
}

impl World {
    /// Takes a job, and runs it at once.
    fn take(&mut self, load: &Load, objects: Vec<String>) -> Result<(), WarehouseError> {
        self.submitted.push((load.job(), objects.len()));
        if self.jobs.contains_key(&load.job()) {
            return Ok(());
        }
        let wrong = self.wrong.pop_front();
        let state = match wrong {
            Some(Wrong::Refused) => return Err(error(Fault::Service, "away")),
            _ if self.fails => Job::Failed(no_answer()),
            Some(Wrong::FailsLater) => Job::Failed(error(Fault::Service, "backend")),
            _ if objects.iter().any(|object| self.broken.contains(object)) => {
                let mut failure = error(Fault::Objects, "some file is broken");
                failure.objects.extend(objects.first().filter(|_| self.names_first).cloned());
                if wrong == Some(Wrong::NoJob) {
                    return Err(failure);
                }
                Job::Failed(failure)
            }
            _ => Job::Loaded,
        };
        if state == Job::Loaded {
            self.tables.entry(load.table.clone()).or_default().extend(objects.clone());
        }
        if wrong == Some(Wrong::Runs) {
            self.running.insert(load.job(), 3);
        }
        self.jobs.insert(load.job(), (load.table.clone(), objects, state));
        match wrong {
            Some(Wrong::LostReply) => Err(error(Fault::Service, "reset")),
            _ => Ok(()),
        }
    }

    /// What a job is said to do, now that it was asked for once more.
    fn state(&mut self, job: &str) -> Job {
        if let Some(left) = self.running.get_mut(job).filter(|left| **left > 0) {
            *left -= 1;
            return Job::Running;
        }
        self.jobs.get(job).map_or(Job::Unknown, |(_, _, state)| state.clone())
    }
}

#[derive(Clone, Default)]
struct Fake(Arc<Mutex<World>>);

fn error(fault: Fault, message: &str) -> WarehouseError {
    let (after, objects) = (Some(Duration::from_millis(1)), Vec::new());
    WarehouseError { fault, message: message.to_owned(), after, objects }
}

/// Of a service that says nothing of when to come again.
fn no_answer() -> WarehouseError {
    WarehouseError { after: None, ..error(Fault::Service, "no answer") }
}

impl WarehouseLoader for Fake {
    fn name(&self) -> &str {
        "fake"
    }
    fn limits(&self) -> Limits {
        let jobs = self.0.lock().unwrap().jobs_max.unwrap_or(1_000_000);
        Limits { objects: 8, bytes: 1 << 40, days: 4_000, jobs }
    }
    fn memory(&self) -> Duration {
        Duration::from_secs(100 * 86_400)
    }
    async fn check(&self) -> Result<(), WarehouseError> {
        self.reach().await
    }
    async fn prepare(&self, _: &Load) -> Result<(), WarehouseError> {
        self.reach().await
    }
    async fn submit(&self, load: &Load, members: &[Member]) -> Result<(), WarehouseError> {
        self.reach().await?;
        let objects: Vec<String> = members.iter().map(|member| member.object.clone()).collect();
        if self.dies() {
            self.change(|world| {
                if world.is_late {
                    world.late.push((load.clone(), objects));
                }
            });
            return std::future::pending().await;
        }
        let taken = self.0.lock().unwrap().take(load, objects);
        self.step().await;
        taken
    }
    async fn status(&self, load: &Load) -> Result<Job, WarehouseError> {
        self.reach().await?;
        self.step().await;
        let state = self.0.lock().unwrap().state(&load.job());
        Ok(state)
    }
    async fn history(
        &self,
        _: &str,
        _: Micros,
        _: &HashSet<String>,
    ) -> Result<Vec<PastJob>, WarehouseError> {
        self.reach().await?;
        self.step().await;
        let mut world = self.0.lock().unwrap();
        let jobs = world.jobs.clone();
        let past = |(job, (table, objects, _)): (String, (String, Vec<String>, Job))| {
            let state = world.state(&job);
            PastJob { job, table, created_at: crate::time::now(), objects, state }
        };
        Ok(jobs.into_iter().map(past).collect())
    }
}

impl Fake {
    async fn reach(&self) -> Result<(), WarehouseError> {
        let is_silent = {
            let mut world = self.0.lock().unwrap();
            if !world.is_away {
                return Ok(());
            }
            world.unanswered += 1;
            world.unanswered.is_multiple_of(2)
        };
        if is_silent {
            tokio::time::sleep(PATIENCE).await;
        }
        Err(no_answer())
    }

    /// A moment at which the process may die.
    async fn step(&self) {
        if self.dies() {
            std::future::pending().await
        }
    }

    fn dies(&self) -> bool {
        let mut world = self.0.lock().unwrap();
        world.calls += 1;
        if world.calls.is_multiple_of(3) {
            for (load, objects) in std::mem::take(&mut world.late) {
                let _ = world.take(&load, objects);
            }
        }
        world.is_dead |= world.dies_in == Some(0);
        world.dies_in = world.dies_in.map(|left| left.saturating_sub(1));
        world.is_dead
    }

    fn is_dead(&self) -> bool {
        self.0.lock().unwrap().is_dead
    }

    fn change(&self, change: impl FnOnce(&mut World)) {
        change(&mut self.0.lock().unwrap());
    }
    fn table(&self, name: &str) -> Vec<String> {
        let mut objects = self.0.lock().unwrap().tables.get(name).cloned().unwrap_or_default();
        objects.sort();
        objects
    }
    fn submitted(&self) -> Vec<(String, usize)> {
        self.0.lock().unwrap().submitted.clone()
    }
}

fn ledger(dir: &Path) -> Ledger {
    let ledger = Ledger::open(&dir.join("ledger.db")).unwrap();
    ledger.serve_warehouse().unwrap();
    ledger
}

/// A batch with that number, of that stream, stored.
fn store(ledger: &Ledger, stream: &str, number: u64) {
    plan(ledger, stream, number);
    commit(ledger, stream, number);
}

fn plan(ledger: &Ledger, stream: &str, number: u64) {
    let now = crate::time::now();
    let plan = Plan {
        id: BatchId::from_u128(u128::from(number)),
        stream: StreamName::new(stream).unwrap(),
        log_uuid: 5,
        partitions: (0, 3),
        object: object(number),
        seqs: [number].into_iter().collect(),
        ids: Vec::new(),
        digest: 1,
        received: (now, now),
        ledger_tx: 0,
    };
    ledger.plan(vec![plan]).unwrap();
}

fn commit(ledger: &Ledger, stream: &str, number: Seq) {
    let stored = Stored { object: object(number), bytes: 100 };
    let commits =
        vec![Commit { id: BatchId::from_u128(u128::from(number)), stored, letters: vec![] }];
    let step = Step { commits, ..Step::default() };
    ledger.commit(&StreamName::new(stream).unwrap(), 5, step).unwrap();
}

fn object(number: u64) -> String {
    format!("object-{number:02}")
}

fn objects(numbers: impl IntoIterator<Item = u64>) -> Vec<String> {
    numbers.into_iter().map(object).collect()
}

fn config() -> WarehouseConfig {
    WarehouseConfig {
        kind: WarehouseKind::BigQuery,
        dataset: Some("d".to_owned()),
        table: TablePattern::parse("t_{stream}").unwrap(),
        interval: Duration::from_millis(1),
        ..WarehouseConfig::default()
    }
}

/// A runtime of its own: ledgers are asked outside of it.
fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(work)
}

/// Runs a stage until nothing waits, or it dies.
fn until_idle(fake: &Fake, ledger: &Ledger) -> WarehouseStatus {
    block_on(run_until_idle(fake, ledger))
}

fn run(fake: &Fake, ledger: &Ledger, config: WarehouseConfig) -> (JoinHandle<()>, Progress) {
    let progress = Progress::new("fake", Duration::from_secs(60));
    let changed = Arc::new(|_: String| {});
    let hurry = Arc::new(Notify::new());
    let stage = Stage::new(fake.clone(), ledger.clone(), config, progress.clone(), changed, hurry);
    (tokio::spawn(stage.run()), progress)
}

/// Time passes by itself here while nobody works: only a stage that does nothing takes long.
async fn until(
    progress: &Progress,
    what: &str,
    is_so: impl Fn(&WarehouseStatus) -> bool,
) -> WarehouseStatus {
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    loop {
        let status = progress.status();
        if is_so(&status) {
            return status;
        }
        assert!(std::time::Instant::now() < deadline, "{what}: {status:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn run_until_idle(fake: &Fake, ledger: &Ledger) -> WarehouseStatus {
    let (running, progress) = run(fake, ledger, config());
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let served = ledger.clone();
        let waits = tokio::task::spawn_blocking(move || served.waiting().unwrap()).await.unwrap();
        if waits.objects == 0 || fake.is_dead() {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{:?}", progress.status());
    }
    running.abort();
    let _ = running.await;
    progress.status()
}

fn states(ledger: &Ledger) -> Vec<(LoadState, u64)> {
    let mut states: Vec<(LoadState, u64)> = ledger
        .loads(None, 1000)
        .unwrap()
        .into_iter()
        .map(|load| (load.state, load.objects))
        .collect();
    states.sort_by_key(|(state, objects)| (state.as_str(), *objects));
    states
}

#[test]
fn what_is_stored_lands_once_in_the_table_of_its_stream() {
    let dir = tempfile::tempdir().unwrap();
    let (fake, ledger) = (Fake::default(), ledger(dir.path()));
    (1..=12).for_each(|n| store(&ledger, "web-shop", n));
    store(&ledger, "events", 13);
    until_idle(&fake, &ledger);
    assert_eq!(fake.table("t_web_shop"), objects(1..=12));
    assert_eq!(fake.table("t_events"), objects([13]));
    let sizes: Vec<usize> = fake.submitted().into_iter().map(|(_, objects)| objects).collect();
    assert!(sizes.iter().all(|objects| *objects <= 8), "{sizes:?}");
}

#[test]
fn a_lost_reply_a_refusal_and_a_failed_job_double_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (fake, ledger) = (Fake::default(), ledger(dir.path()));
    fake.change(|world| {
        world.wrong.extend([Wrong::Refused, Wrong::FailsLater, Wrong::LostReply]);
    });
    (1..=3).for_each(|n| store(&ledger, "events", n));
    until_idle(&fake, &ledger);
    assert_eq!(fake.table("t_events"), objects(1..=3));
    let jobs: Vec<String> = fake.submitted().into_iter().map(|(job, _)| job).collect();
    assert_eq!(jobs.len(), 3, "an id that may be there is asked for, not submitted: {jobs:?}");
    assert_eq!(jobs[0], jobs[1], "a refused id stays free");
    assert!(jobs[1].ends_with("_a1") && jobs[2].ends_with("_a2"), "{jobs:?}");
}

#[test]
fn the_one_file_that_is_broken_stands_alone_and_the_rest_lands_once() {
    let dir = tempfile::tempdir().unwrap();
    let (fake, ledger) = (Fake::default(), ledger(dir.path()));
    fake.change(|world| world.broken.extend([object(6)]));
    (1..=8).for_each(|n| store(&ledger, "events", n));
    let status = until_idle(&fake, &ledger);
    assert_eq!(fake.table("t_events"), objects([1, 2, 3, 4, 5, 7, 8]));
    let failed = ledger.loads(Some(LoadState::Failed), 9).unwrap();
    assert_eq!((failed.len(), failed[0].object.clone()), (1, object(6)));
    assert_eq!(failed[0].error.as_deref(), Some("some file is broken"));
    assert_eq!((status.split, ledger.waiting().unwrap().failed), (3, 1));
    // Mended, and retried by an operator.
    fake.change(|world| world.broken.clear());
    assert!(ledger.retry_load(failed[0].id).unwrap().is_some());
    assert!(ledger.retry_load(failed[0].id).unwrap().is_none(), "once");
    until_idle(&fake, &ledger);
    assert_eq!(fake.table("t_events"), objects(1..=8));
}

#[test]
fn what_was_dismissed_is_not_loaded_and_an_older_ledger_only_tells_it_again() {
    let dir = tempfile::tempdir().unwrap();
    let (fake, first) = (Fake::default(), ledger(dir.path()));
    (1..=4).for_each(|n| store(&first, "events", n));
    first.close();
    let copy = std::fs::read(dir.path().join("ledger.db")).unwrap();
    fake.change(|world| world.broken.extend([object(3)]));
    let later = ledger(dir.path());
    until_idle(&fake, &later);
    let failed = later.loads(Some(LoadState::Failed), 9).unwrap().remove(0);
    assert_eq!(later.dismiss_load(failed.id).unwrap().unwrap().state, LoadState::Dismissed);
    assert!(later.dismiss_load(failed.id).unwrap().is_none(), "once");
    later.close();
    let again = ledger(dir.path());
    until_idle(&fake, &again);
    let waiting = again.waiting().unwrap();
    assert_eq!((waiting.failed, waiting.objects), (0, 0));
    let dismissed = again.loads(Some(LoadState::Dismissed), 9).unwrap();
    assert_eq!((dismissed[0].object.clone(), dismissed[0].attempt), (object(3), 1));
    again.close();
    // The ledger goes back in time: its object fails as before, and waits for an operator.
    std::fs::write(dir.path().join("ledger.db"), copy).unwrap();
    let jobs = fake.submitted().len();
    let old = ledger(dir.path());
    until_idle(&fake, &old);
    let waiting = old.waiting().unwrap();
    assert_eq!((waiting.failed, waiting.objects), (1, 0));
    assert_eq!(fake.submitted().len(), jobs, "its job is known");
    assert_eq!(fake.table("t_events"), objects([1, 2, 4]));
    // Dismissed once more, and then wanted after all.
    fake.change(|world| world.broken.clear());
    old.dismiss_load(failed.id).unwrap().unwrap();
    assert_eq!(old.retry_load(failed.id).unwrap().unwrap().attempt, 2);
    until_idle(&fake, &old);
    assert_eq!(fake.table("t_events"), objects(1..=4));
}

#[test]
fn where_every_file_fails_it_is_the_table_and_few_jobs_are_spent_on_it() {
    let dir = tempfile::tempdir().unwrap();
    let (fake, ledger) = (Fake::default(), ledger(dir.path()));
    fake.change(|world| world.broken.extend(objects(1..=64)));
    (1..=64).for_each(|n| store(&ledger, "events", n));
    block_on(async {
        let (running, progress) = run(&fake, &ledger, config());
        let status = until(&progress, "it fails", |status| status.failed == 5).await;
        assert_eq!(
            status.error.as_deref(),
            Some("table t_events takes no object: some file is broken")
        );
        let jobs = fake.submitted().len();
        tokio::time::sleep(Duration::from_secs(3600)).await;
        let more = fake.submitted().len() - jobs;
        assert!((1..=7).contains(&more), "{more} jobs in an hour");
        // A table that is mended takes the others by itself.
        fake.change(|world| world.broken.clear());
        let status = until(&progress, "it lands", |status| status.waiting_objects == 0).await;
        assert_eq!(status.error, None);
        running.abort();
        let _ = running.await;
    });
    let failed = ledger.loads(Some(LoadState::Failed), 99).unwrap();
    assert!(failed.len() < 10 && failed.iter().all(|load| load.objects == 1), "{failed:?}");
    assert_eq!(fake.table("t_events").len(), 64 - failed.len());
    for load in failed {
        ledger.retry_load(load.id).unwrap();
    }
    until_idle(&fake, &ledger);
    assert_eq!(fake.table("t_events"), objects(1..=64));
}

#[test]
fn a_table_is_loaded_no_more_often_than_its_interval() {
    let dir = tempfile::tempdir().unwrap();
    let (fake, ledger) = (Fake::default(), ledger(dir.path()));
    store(&ledger, "events", 1);
    block_on(async {
        let hour = WarehouseConfig { interval: Duration::from_secs(3600), ..config() };
        let (running, progress) = run(&fake, &ledger, hour);
        until(&progress, "it lands", |status| status.loaded == 1).await;
        let later = ledger.clone();
        let stores = move || (2..=3).for_each(|n| store(&later, "events", n));
        tokio::task::spawn_blocking(stores).await.unwrap();
        let other = ledger.clone();
        tokio::task::spawn_blocking(move || store(&other, "pages", 4)).await.unwrap();
        until(&progress, "the other table's", |status| status.loaded == 2).await;
        assert_eq!(fake.table("t_events"), objects([1]));
        running.abort();
        let _ = running.await;
    });
    assert_eq!(ledger.waiting().unwrap().objects, 2);
    until_idle(&fake, &ledger);
    assert_eq!(fake.submitted().last().map(|(_, objects)| *objects), Some(2), "both in one job");
}

#[test]
fn a_table_that_was_loaded_just_before_a_restart_waits_for_its_interval() {
    let dir = tempfile::tempdir().unwrap();
    let (fake, ledger) = (Fake::default(), ledger(dir.path()));
    store(&ledger, "events", 1);
    until_idle(&fake, &ledger);
    store(&ledger, "events", 2);
    store(&ledger, "pages", 3);
    block_on(async {
        let hour = WarehouseConfig { interval: Duration::from_secs(3600), ..config() };
        let (running, progress) = run(&fake, &ledger, hour);
        until(&progress, "the other table's", |status| status.loaded == 1).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!((fake.table("t_events"), fake.table("t_pages")), (objects([1]), objects([3])));
        running.abort();
        let _ = running.await;
    });
}

#[test]
fn a_days_jobs_are_not_passed_also_where_loads_fail_and_are_parted() {
    const JOBS: u64 = 30;
    let dir = tempfile::tempdir().unwrap();
    let (fake, ledger) = (Fake::default(), ledger(dir.path()));
    fake.change(|world| {
        world.jobs_max = Some(JOBS);
        world.fails = true;
    });
    store(&ledger, "events", 1);
    block_on(async {
        let (running, progress) = run(&fake, &ledger, config());
        // A load that fails for hours uses up the most of a day's jobs.
        while fake.submitted().len() < 28 {
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        fake.change(|world| {
            world.fails = false;
            world.broken.extend(objects([3]));
        });
        until(&progress, "it lands", |status| status.loaded == 1).await;
        let later = ledger.clone();
        let stores = move || (2..=9).for_each(|n| store(&later, "events", n));
        tokio::task::spawn_blocking(stores).await.unwrap();
        let status = until(&progress, "it is told", |status| status.slowed.is_some()).await;
        let sentence = "table t_events has used 29 of the 30 load jobs of a day";
        assert!(status.waiting_in_words().contains(sentence), "{status:?}");
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert_eq!(fake.submitted().len(), 29, "the last is for a later hour");
        running.abort();
        let _ = running.await;
        // A load that is planned all the same is parted, and its parts wait for the next day.
        let load = ledger.clone();
        let plan = move || {
            let streams = vec![StreamName::new("events").unwrap()];
            load.plan_load("d".to_owned(), "t_events".to_owned(), streams, |_| true)
        };
        tokio::task::spawn_blocking(plan).await.unwrap().unwrap().unwrap();
        let (running, progress) = run(&fake, &ledger, config());
        until(&progress, "it is parted", |status| status.split == 1).await;
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert_eq!(fake.submitted().len() as u64, JOBS);
        running.abort();
        let _ = running.await;
    });
}

#[test]
fn a_job_that_was_submitted_before_a_crash_is_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let (fake, first) = (Fake::default(), ledger(dir.path()));
    (1..=3).for_each(|n| store(&first, "events", n));
    let planned = first.plan_load(
        "d".to_owned(),
        "t_events".to_owned(),
        vec![StreamName::new("events").unwrap()],
        |_| true,
    );
    let load = planned.unwrap().unwrap();
    let members = first.members(load.id).unwrap();
    block_on(fake.submit(&load, &members)).unwrap();
    first.close();
    let again = ledger(dir.path());
    until_idle(&fake, &again);
    assert_eq!(fake.table("t_events"), objects(1..=3));
    assert_eq!(fake.submitted().len(), 1);
    assert_eq!(states(&again), [(LoadState::Loaded, 3)]);
}

#[test]
fn a_ledger_that_is_older_than_the_loads_loads_nothing_twice() {
    let dir = tempfile::tempdir().unwrap();
    let (fake, first) = (Fake::default(), ledger(dir.path()));
    (1..=5).for_each(|n| store(&first, "events", n));
    plan(&first, "events", 6);
    first.close();
    let copy = std::fs::read(dir.path().join("ledger.db")).unwrap();
    let later = ledger(dir.path());
    commit(&later, "events", 6);
    until_idle(&fake, &later);
    assert_eq!(fake.table("t_events"), objects(1..=6));
    later.close();
    std::fs::write(dir.path().join("ledger.db"), copy).unwrap();
    let old = ledger(dir.path());
    // As a worker does that finds the object of an open plan in the store.
    commit(&old, "events", 6);
    store(&old, "events", 7);
    until_idle(&fake, &old);
    assert_eq!(fake.table("t_events"), objects(1..=7));
}

#[test]
fn a_load_that_landed_after_the_ledgers_copy_is_not_submitted_by_a_retry() {
    let dir = tempfile::tempdir().unwrap();
    let (fake, first) = (Fake::default(), ledger(dir.path()));
    fake.change(|world| world.broken.extend([object(1)]));
    store(&first, "events", 1);
    until_idle(&fake, &first);
    let load = first.loads(Some(LoadState::Failed), 9).unwrap().remove(0);
    first.close();
    let copy = std::fs::read(dir.path().join("ledger.db")).unwrap();
    // The second attempt is refused without a job, and the third lands.
    let later = ledger(dir.path());
    fake.change(|world| world.wrong.extend([Wrong::NoJob]));
    later.retry_load(load.id).unwrap().unwrap();
    until_idle(&fake, &later);
    fake.change(|world| world.broken.clear());
    assert_eq!(later.retry_load(load.id).unwrap().unwrap().attempt, 3);
    until_idle(&fake, &later);
    assert_eq!(fake.table("t_events"), objects([1]));
    later.close();
    std::fs::write(dir.path().join("ledger.db"), copy).unwrap();
    let old = ledger(dir.path());
    assert_eq!(old.retry_load(load.id).unwrap().unwrap().attempt, 2);
    until_idle(&fake, &old);
    assert_eq!(fake.table("t_events"), objects([1]));
    let load = old.loads(None, 9).unwrap().remove(0);
    assert_eq!((load.state, load.attempt, load.objects), (LoadState::Loaded, 3, 1));
}
