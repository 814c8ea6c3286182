//! Outages of hours, in virtual time: what they cost, and that each object lands once after them.

use super::*;
use crate::warehouse::stage::{BACKOFF_MAX, NEXT_JOB_MAX};

const OUTAGE: Duration = Duration::from_secs(6 * 3600);
/// Attempts before the waits have grown to the longest.
const FIRST: u64 = 12;

/// Attempts of one load in an outage, at most: of each wait, chance leaves a tenth at least.
fn attempts_max(longest: Duration) -> u64 {
    FIRST + OUTAGE.as_secs() * 10 / longest.as_secs()
}

pub(super) async fn ask<T: Send + 'static>(
    ledger: &Ledger,
    work: impl FnOnce(&Ledger) -> T + Send + 'static,
) -> T {
    let ledger = ledger.clone();
    tokio::task::spawn_blocking(move || work(&ledger)).await.unwrap()
}

/// Sits out an outage that begins when the first load has landed, and what comes after it.
fn sit_out(begin: impl FnOnce(&mut World), end: impl FnOnce(&mut World)) -> (Fake, Ledger) {
    let dir = tempfile::tempdir().unwrap();
    let (fake, ledger) = (Fake::default(), ledger(dir.path()));
    store(&ledger, "events", 1);
    block_on(async {
        let (running, progress) = run(&fake, &ledger, config());
        until(&progress, "the first lands", |status| status.loaded == 1).await;
        fake.change(begin);
        ask(&ledger, |ledger| (2..=30).for_each(|n| store(ledger, "events", n))).await;
        tokio::time::sleep(OUTAGE).await;
        let status = progress.status();
        assert_eq!((status.loaded, status.error.as_deref()), (1, Some("no answer")));
        let loads = ask(&ledger, |ledger| ledger.loads(None, 99).unwrap().len()).await;
        assert_eq!(loads, 2, "one that waits, however often it is tried");
        fake.change(end);
        let status = until(&progress, "all lands", |status| status.waiting_objects == 0).await;
        assert_eq!(status.error, None);
        running.abort();
        let _ = running.await;
    });
    assert_eq!(fake.table("t_events"), objects(1..=30));
    (fake, ledger)
}

#[test]
fn a_warehouse_that_does_not_answer_for_hours_is_asked_seldom_and_has_each_object_once() {
    let (fake, ledger) = sit_out(|world| world.is_away = true, |world| world.is_away = false);
    let unanswered = fake.0.lock().unwrap().unanswered;
    assert!((100..=attempts_max(BACKOFF_MAX)).contains(&unanswered), "{unanswered} calls");
    assert_eq!(fake.submitted().len(), ledger.loads(None, 99).unwrap().len(), "no job in vain");
}

#[test]
fn a_warehouse_whose_jobs_fail_for_hours_is_sent_few_and_has_each_object_once() {
    let (fake, ledger) = sit_out(|world| world.fails = true, |world| world.fails = false);
    let (jobs, loads) = (fake.submitted().len() as u64, ledger.loads(None, 99).unwrap());
    assert!((36..=attempts_max(NEXT_JOB_MAX)).contains(&jobs), "{jobs} jobs");
    let attempts: u64 = loads.iter().map(|load| u64::from(load.attempt)).sum();
    assert_eq!(attempts, jobs, "the ledger has counted each");
}
