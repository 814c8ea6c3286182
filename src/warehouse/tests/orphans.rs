//! What another machine has loaded, or left.

use super::outage::ask;
use super::*;
use crate::store::{Found, OfLog};

fn orphan(number: u64) -> OfLog {
    let found = Found {
        id: BatchId::from_u128(u128::from(number)),
        object: object(number),
        partitions: (0, 3),
        digest: 0,
        seqs: [number].into_iter().collect(),
        bytes: 1,
        received: (crate::time::now(), crate::time::now()),
        ledger_tx: 7,
        letters: Vec::new(),
    };
    OfLog { stream: StreamName::new("events").unwrap(), log_uuid: 5, found }
}

/// Loads what no job has of these; returns how many that were, and how their loads ended.
fn load(fake: &Fake, numbers: impl IntoIterator<Item = u64>) -> (usize, Vec<(LoadState, u64)>) {
    let dir = tempfile::tempdir().unwrap();
    let objects = numbers.into_iter().map(orphan).collect();
    let left = block_on(super::super::orphans(fake, &config(), objects)).unwrap();
    let (count, ledger) = (left.objects.len(), Ledger::open(&dir.path().join("l.db")).unwrap());
    take_orphans(&ledger, left).unwrap();
    let progress = Progress::new("fake", Duration::from_secs(60));
    block_on(load_orphans(fake.clone(), config(), ledger.clone(), progress));
    let mut ended = states(&ledger);
    ended.retain(|(state, _)| matches!(state, LoadState::Loaded | LoadState::Failed));
    (count, ended)
}

#[test]
fn what_no_job_has_is_loaded_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let (fake, gone) = (Fake::default(), ledger(dir.path()));
    (1..=3).for_each(|n| store(&gone, "events", n));
    until_idle(&fake, &gone);
    assert_eq!(load(&fake, 1..=5), (2, vec![(LoadState::Loaded, 2)]));
    assert_eq!(load(&fake, 1..=5), (0, vec![]));
    assert_eq!(fake.table("t_events"), objects(1..=5));
}

#[test]
fn what_failed_alone_and_was_mended_is_loaded_with_another_attempt() {
    let fake = Fake::default();
    fake.change(|world| world.broken.extend([object(2)]));
    let (count, ended) = load(&fake, 1..=3);
    let loaded = (LoadState::Loaded, 1);
    assert_eq!((count, ended), (3, vec![(LoadState::Failed, 1), loaded, loaded]));
    assert_eq!(load(&fake, 1..=3), (1, vec![(LoadState::Failed, 1)]), "as broken as before");
    fake.change(|world| world.broken.clear());
    assert_eq!(load(&fake, 1..=3), (1, vec![loaded]));
    assert_eq!(fake.table("t_events"), objects(1..=3));
}

#[test]
fn what_was_loaded_elsewhere_since_it_failed_is_not_submitted_by_a_retry() {
    let dir = tempfile::tempdir().unwrap();
    let (fake, failing) = (Fake::default(), ledger(dir.path()));
    fake.change(|world| world.broken.extend([object(1)]));
    store(&failing, "events", 1);
    block_on(async {
        let (running, progress) = run(&fake, &failing, config());
        until(&progress, "it failed for good", |status| status.failed == 1).await;
        fake.change(|world| world.broken.clear());
        let other = fake.clone();
        let loaded = tokio::task::spawn_blocking(move || load(&other, 1..=2)).await.unwrap();
        assert_eq!(loaded, (2, vec![(LoadState::Loaded, 2)]));
        ask(&failing, |ledger| {
            let id = ledger.loads(Some(LoadState::Failed), 9).unwrap().remove(0).id;
            ledger.retry_load(id).unwrap().unwrap();
        })
        .await;
        until(&progress, "nothing waits", |status| {
            (status.waiting_objects, status.failed_now) == (0, 0)
        })
        .await;
        running.abort();
    });
    assert_eq!(fake.table("t_events"), objects(1..=2));
}

#[test]
fn a_wrong_name_costs_a_job_and_not_one_for_each_object() {
    let dir = tempfile::tempdir().unwrap();
    let (fake, ledger) = (Fake::default(), ledger(dir.path()));
    fake.change(|world| {
        world.broken.extend([object(8)]);
        world.names_first = true;
    });
    (1..=8).for_each(|n| store(&ledger, "events", n));
    until_idle(&fake, &ledger);
    assert_eq!(fake.table("t_events"), objects(1..=7));
    // The whole, the two parts by the name, and two halves of each of seven, four and two.
    let jobs = fake.submitted().len();
    assert!(jobs <= 3 + 2 * 3, "{jobs} jobs");
}
