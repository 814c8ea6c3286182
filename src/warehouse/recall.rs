//! What the warehouse remembers and the ledger may not: asked for whenever batches are doubted,
//! that is after each start, and when objects were found in the store; and before the job of a load
//! is submitted that an earlier process planned or an operator retries.
//!
//! A job that has landed has its batches, one that runs has them too, and one that has failed
//! leaves them to wait. A batch that is older than the warehouse's memory is known to nobody: it is
//! held back as a failed load, for an operator to judge, and never loaded by itself.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::group::Group;
use super::{Job, Limits, PastJob};
use crate::event::Micros;
use crate::ledger::{Load, LoadId, LoadState, Member, Recalled};
use crate::store::BatchId;

/// The clocks of two machines may be as far apart.
pub(super) const SKEW: Micros = 86_400_000_000;

/// Who has the doubted batches, and which of them wait.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    pub recalled: Vec<Recalled>,
    pub waiting: Vec<BatchId>,
}

/// A job of one of these batches was created after this.
pub(super) fn since(doubted: &[Member], now: Micros, memory: Duration) -> Micros {
    let first = doubted.iter().map(|member| member.received.0).min().unwrap_or(now);
    let last = doubted.iter().map(|member| member.received.1).max().unwrap_or(now);
    created_after(first, last, now, memory)
}

/// What was made between `first` and `last` by our clock has no job that was created before. A
/// clock that was ahead at that time says nothing about when that was.
pub(super) fn created_after(first: Micros, last: Micros, now: Micros, memory: Duration) -> Micros {
    let remembered = forgotten_before(now, memory);
    let after = if last <= now { first.saturating_sub(SKEW) } else { remembered };
    after.max(remembered).clamp(0, now.max(0))
}

fn forgotten_before(now: Micros, memory: Duration) -> Micros {
    now.saturating_sub(Micros::try_from(memory.as_micros()).unwrap_or(Micros::MAX))
}

/// Gives each doubted batch to the job that has it; `table` is the table that it would go to.
pub(super) fn judge(
    (dataset, limits): (&str, Limits),
    doubted: Vec<Member>,
    jobs: Vec<PastJob>,
    (now, memory): (Micros, Duration),
    table: impl Fn(&Member) -> String,
) -> Verdict {
    let (recalled, left) = taken(dataset, doubted, jobs);
    let mut verdict = Verdict { recalled, ..Verdict::default() };
    let oldest = forgotten_before(now, memory).saturating_add(SKEW);
    let mut forgotten: BTreeMap<String, Vec<Member>> = BTreeMap::new();
    for member in left {
        if member.received.1 < oldest {
            forgotten.entry(table(&member)).or_default().push(member);
        } else {
            verdict.waiting.push(member.batch);
        }
    }
    let days = memory.as_secs() / 86_400;
    for (table, batches) in forgotten.into_iter().flat_map(|(t, m)| grouped(t, m, limits)) {
        let id = LoadId(batches.iter().fold(0, |id, batch| id ^ batch.as_u128()));
        let mut load = load(id, dataset, table, 0, LoadState::Failed, now);
        load.error = Some(format!(
            "nobody remembers whether these were loaded: they are older than the {days} days for \
             which jobs are kept; look, and retry if they were not"
        ));
        verdict.recalled.push(Recalled { load, batches });
    }
    verdict
}

/// Which loads have batches of `members` by what the jobs say, and the batches that none has.
pub(super) fn taken(
    dataset: &str,
    members: Vec<Member>,
    jobs: Vec<PastJob>,
) -> (Vec<Recalled>, Vec<Member>) {
    let mut left: HashMap<String, Member> =
        members.into_iter().map(|member| (member.object.clone(), member)).collect();
    let mut recalled = Vec::new();
    for job in jobs {
        let Some((id, attempt)) = Load::of_job(dataset, &job.job) else { continue };
        let state = match job.state {
            Job::Loaded => LoadState::Loaded,
            Job::Running => LoadState::Open,
            Job::Failed(_) | Job::Unknown => continue,
        };
        let found = job.objects.iter().filter_map(|object| left.remove(object));
        let batches: Vec<BatchId> = found.map(|member| member.batch).collect();
        if !batches.is_empty() {
            let load = load(id, dataset, job.table, attempt, state, job.created_at);
            recalled.push(Recalled { load, batches });
        }
    }
    (recalled, left.into_values().collect())
}

/// The loads that jobs failed of, with their last attempts: those ids are used up.
pub(super) fn used_up(dataset: &str, jobs: &[PastJob]) -> Vec<Load> {
    let mut loads: HashMap<LoadId, Load> = HashMap::new();
    for job in jobs.iter().filter(|job| matches!(job.state, Job::Failed(_))) {
        let Some((id, attempt)) = Load::of_job(dataset, &job.job) else { continue };
        let (table, state) = (job.table.clone(), LoadState::Split);
        let new = load(id, dataset, table, attempt, state, job.created_at);
        let known = loads.entry(id).or_insert_with(|| new.clone());
        if known.attempt < attempt {
            *known = new;
        }
    }
    loads.into_values().collect()
}

/// A table's batches in as many loads as they need, oldest first.
fn grouped(table: String, mut members: Vec<Member>, limits: Limits) -> Vec<(String, Vec<BatchId>)> {
    members.sort_unstable_by_key(|member| (member.received, member.batch));
    let mut group = Group::new(limits);
    let mut groups: Vec<(String, Vec<BatchId>)> = Vec::new();
    for member in members {
        match groups.last_mut() {
            Some((_, batches)) if group.takes(&member) => batches.push(member.batch),
            _ => {
                group = Group::new(limits);
                group.takes(&member);
                groups.push((table.clone(), vec![member.batch]));
            }
        }
    }
    groups
}

fn load(
    id: LoadId,
    dataset: &str,
    table: String,
    attempt: u32,
    state: LoadState,
    planned_at: Micros,
) -> Load {
    Load {
        id,
        dataset: dataset.to_owned(),
        table,
        attempt,
        state,
        objects: 0,
        rows: 0,
        bytes: 0,
        object: String::new(),
        error: None,
        parent: None,
        planned_at,
        changed_at: planned_at,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::warehouse::{Fault, WarehouseError};

    const DAY: Micros = 86_400_000_000;
    const NOW: Micros = 1_000 * DAY;
    const MEMORY: Duration = Duration::from_secs(100 * 86_400);
    const LIMITS: Limits = Limits { objects: 2, bytes: 1 << 40, days: 4_000, jobs: 9 };

    fn member(number: u128, days_ago: i64) -> Member {
        let received = NOW - days_ago * DAY;
        Member {
            batch: BatchId::from_u128(number),
            stream: "events".to_owned(),
            object: format!("o{number}"),
            rows: 1,
            bytes: 1,
            received: (received, received),
        }
    }

    fn job(id: u128, state: Job, objects: &[&str]) -> PastJob {
        let objects = objects.iter().map(|&object| object.to_owned()).collect();
        let (job, table) = (format!("eventkit_d_{id:032x}_a2"), "t".to_owned());
        PastJob { job, table, created_at: NOW - DAY, objects, state }
    }

    fn judged(doubted: Vec<Member>, jobs: Vec<PastJob>) -> Verdict {
        judge(("d", LIMITS), doubted, jobs, (NOW, MEMORY), |member| member.stream.clone())
    }

    fn loads(verdict: &Verdict) -> Vec<(LoadState, u32, Vec<u128>)> {
        let load = |recalled: &Recalled| {
            let batches = recalled.batches.iter().map(|batch| batch.as_u128()).collect();
            (recalled.load.state, recalled.load.attempt, batches)
        };
        verdict.recalled.iter().map(load).collect()
    }

    #[test]
    fn what_has_landed_or_runs_has_its_batches_and_the_others_wait() {
        let failed = WarehouseError {
            fault: Fault::Service,
            message: String::new(),
            after: None,
            objects: Vec::new(),
        };
        let verdict = judged(
            (1..=5).map(|number| member(number, 1)).collect(),
            vec![
                job(7, Job::Loaded, &["o1", "o2", "o9"]),
                job(8, Job::Running, &["o3"]),
                job(9, Job::Failed(failed), &["o4"]),
                PastJob { job: "somebody_else".to_owned(), ..job(6, Job::Loaded, &["o5"]) },
            ],
        );
        assert_eq!(
            loads(&verdict),
            [(LoadState::Loaded, 2, vec![1, 2]), (LoadState::Open, 2, vec![3])]
        );
        assert_eq!(verdict.recalled[0].load.changed_at, NOW - DAY, "its job is of then");
        let mut waiting: Vec<u128> = verdict.waiting.iter().map(|batch| batch.as_u128()).collect();
        waiting.sort_unstable();
        assert_eq!(waiting, [4, 5]);
    }

    #[test]
    fn what_nobody_remembers_is_held_back_in_loads_that_may_be_submitted() {
        let old = [member(3, 200), member(1, 300), member(2, 250), member(4, 1)];
        let verdict = judged(old.to_vec(), Vec::new());
        let failed = LoadState::Failed;
        assert_eq!(loads(&verdict), [(failed, 0, vec![1, 2]), (failed, 0, vec![3])]);
        assert_eq!(verdict.waiting.len(), 1);
        let why = verdict.recalled[0].load.error.as_deref().unwrap_or_default();
        assert!(why.contains("older than the 100 days"), "{why}");
        let mut ahead = member(5, 1);
        ahead.received.1 = NOW + 1;
        assert_eq!(since(&[ahead], NOW, MEMORY), NOW - 100 * DAY, "the clock was ahead");
        assert_eq!(since(&old, NOW, MEMORY), NOW - 100 * DAY);
        assert_eq!(since(&old[3..], NOW, MEMORY), NOW - 2 * DAY);
    }
}
