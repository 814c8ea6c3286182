//! The ledger's promises, against real files.

use std::time::Duration;

use rusqlite::params;

use super::*;

fn plan(id: u128, seqs: impl IntoIterator<Item = Seq>) -> Plan {
    Plan {
        id: BatchId::from_u128(id),
        stream: StreamName::new("events").unwrap(),
        log_uuid: 5,
        partitions: (3, 5),
        object: format!("object-{id}"),
        seqs: seqs.into_iter().collect(),
        ids: Vec::new(),
        digest: u128::MAX - id,
        received: (-1, 2),
        ledger_tx: 0,
    }
}

fn step(commits: Vec<Commit>, next_seq: Seq) -> Step {
    Step { commits, next_seq, ..Step::default() }
}

fn commit(id: u128, letters: Vec<LetterId>) -> Commit {
    let stored = Stored { object: format!("object-{id}"), bytes: 10 };
    Commit { id: BatchId::from_u128(id), stored, letters }
}

#[test]
fn a_restart_learns_the_cursor_what_is_stored_above_it_and_the_open_plans() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.db");
    let ledger = Ledger::open(&path).unwrap();
    let events = StreamName::new("events").unwrap();
    assert_eq!(ledger.progress(&events, 5).unwrap(), Progress::default());
    let plans = vec![plan(1, [1, 3, 4]), plan(2, [2, 6]), plan(3, [5, 9])];
    ledger.plan(plans).unwrap();
    let first = step(vec![commit(1, vec![]), commit(3, vec![77])], 2);
    ledger.commit(&events, 5, first).unwrap();
    ledger.close();
    let ledger = Ledger::open(&path).unwrap();
    let progress = ledger.progress(&events, 5).unwrap();
    assert_eq!(progress.next_seq, Some(2));
    assert_eq!(progress.stored.iter().collect::<Vec<_>>(), [1, 3, 4, 5, 9]);
    assert_eq!(progress.open, [Plan { ledger_tx: 1, ..plan(2, [2, 6]) }]);
    assert_eq!(ledger.replayed(vec![76, 77]).unwrap(), [77]);
    ledger.commit(&events, 5, step(vec![commit(2, vec![])], 7)).unwrap();
    let others = StreamName::new("others").unwrap();
    assert_eq!((ledger.floor(&events).unwrap(), ledger.floor(&others).unwrap()), (10, 0));
    assert_eq!(ledger.last_letter().unwrap(), 77);
    let progress = ledger.progress(&events, 5).unwrap();
    assert_eq!((progress.next_seq, progress.open.len()), (Some(7), 0));
    assert_eq!(progress.stored.iter().collect::<Vec<_>>(), [5, 9]);
}

#[test]
fn the_ids_of_stored_batches_are_kept_newest_first_until_they_are_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(&dir.path().join("ledger.db")).unwrap();
    let events = StreamName::new("events").unwrap();
    for id in 1..=4 {
        let seq = id as Seq;
        let plan = Plan { ids: vec![10 * id, 10 * id + 1], ..plan(id, [2 * seq, 2 * seq + 1]) };
        ledger.plan(vec![plan]).unwrap();
        if id < 4 {
            ledger.commit(&events, 5, step(vec![commit(id, vec![])], 0)).unwrap();
        }
    }
    assert_eq!(ledger.ids(&events, Duration::MAX, 100).unwrap(), [10, 11, 20, 21, 30, 31]);
    assert_eq!(ledger.ids(&events, Duration::MAX, 3).unwrap(), [20, 21, 30, 31]);
    ledger.forget(&events, Duration::MAX, 2).unwrap();
    assert_eq!(ledger.ids(&events, Duration::MAX, 100).unwrap(), [20, 21, 30, 31]);
    ledger.forget(&events, Duration::ZERO, 100).unwrap();
    assert_eq!(ledger.ids(&events, Duration::MAX, 100).unwrap(), []);
    // One waits, and the others are nobody's any more.
    ledger.commit(&events, 5, step(vec![], 8)).unwrap();
    ledger.forget(&events, Duration::ZERO, 100).unwrap();
    let known = ledger.known((1..=4).map(BatchId::from_u128).collect()).unwrap();
    assert_eq!(known, [Known::Nothing, Known::Nothing, Known::Nothing, Known::Planned]);
    assert_eq!(ledger.id_key().unwrap(), ledger.id_key().unwrap());
}

#[test]
fn another_log_of_the_same_stream_has_its_own_cursor_and_knows_of_the_other() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(&dir.path().join("ledger.db")).unwrap();
    let events = StreamName::new("events").unwrap();
    ledger.plan(vec![plan(1, [1])]).unwrap();
    ledger.commit(&events, 5, step(vec![], 1)).unwrap();
    let known = Progress { elsewhere: Some(1), ..Progress::default() };
    assert_eq!(ledger.progress(&events, 6).unwrap(), known);
}

#[test]
fn a_refused_plan_is_replaced_by_its_parts() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(&dir.path().join("ledger.db")).unwrap();
    ledger.plan(vec![plan(1, [1, 2, 3])]).unwrap();
    let parent = BatchId::from_u128(1);
    ledger.replace(parent, vec![plan(2, [1]), plan(3, [3])]).unwrap();
    let open = ledger.progress(&StreamName::new("events").unwrap(), 5).unwrap().open;
    let children = [plan(2, [1]), plan(3, [3])].map(|plan| Plan { ledger_tx: 2, ..plan });
    assert_eq!(open, children);
    assert_eq!(ledger.children(parent).unwrap(), children.map(|plan| plan.id));
    let twice = ledger.replace(parent, vec![plan(2, [1])]);
    assert!(twice.is_err(), "an id is planned once");
}

fn found(id: u128, seqs: impl IntoIterator<Item = Seq>, ledger_tx: u64) -> Adopted {
    let found = Found {
        id: BatchId::from_u128(id),
        object: format!("object-{id}"),
        partitions: (3, 5),
        digest: 9,
        seqs: seqs.into_iter().collect(),
        bytes: 10,
        received: (1, 2),
        ledger_tx,
        letters: vec![44],
    };
    Adopted { found, ids: vec![7] }
}

#[test]
fn what_the_store_has_is_known_as_stored_with_its_ids_and_letters() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(&dir.path().join("ledger.db")).unwrap();
    let events = StreamName::new("events").unwrap();
    ledger.plan(vec![plan(1, [1, 2])]).unwrap();
    let ids = [1, 2].map(BatchId::from_u128).to_vec();
    assert_eq!(ledger.known(ids.clone()).unwrap(), [Known::Planned, Known::Nothing]);
    ledger.adopt(&events, 5, vec![found(1, [1], 1), found(2, [2, 8], 900)]).unwrap();
    assert_eq!(ledger.known(ids).unwrap(), [Known::Adopted, Known::Adopted]);
    let progress = ledger.progress(&events, 5).unwrap();
    assert_eq!((progress.next_seq, progress.open.len()), (None, 0));
    assert!(progress.stored.is_empty(), "where it is, the store says");
    assert_eq!(ledger.ids(&events, Duration::MAX, 9).unwrap(), [7, 7]);
    assert_eq!(ledger.replayed(vec![44]).unwrap(), [44]);
    assert!(ledger.transactions() > 900, "a number that was seen is not used again");
}

#[test]
fn a_ledger_that_has_gone_back_in_time_knows_it_and_forgets_its_cursors() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.db");
    let ledger = Ledger::open(&path).unwrap();
    let events = StreamName::new("events").unwrap();
    ledger.commit(&events, 5, step(vec![], 9)).unwrap();
    let seen = ledger.plan(vec![plan(1, [9])]).unwrap();
    assert_eq!((seen, ledger.counter().load(std::sync::atomic::Ordering::Relaxed)), (2, 2));
    ledger.close();
    let ledger = Ledger::open(&path).unwrap();
    assert!(!ledger.is_behind(seen) && ledger.is_behind(seen + 1));
    ledger.distrust(50).unwrap();
    assert!(!ledger.is_behind(50) && ledger.transactions() > 50);
    assert_eq!(ledger.progress(&events, 5).unwrap().next_seq, None);
}

#[test]
fn a_cursor_never_goes_back_and_open_letters_are_kept_until_they_are_stored() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(&dir.path().join("ledger.db")).unwrap();
    let events = StreamName::new("events").unwrap();
    let opened = vec![(3, 30), (4, 40), (6, 60)];
    ledger.commit(&events, 5, Step { opened, next_seq: 9, ..Step::default() }).unwrap();
    ledger.commit(&events, 5, Step { closed: vec![40], next_seq: 2, ..Step::default() }).unwrap();
    ledger.plan(vec![plan(1, [9])]).unwrap();
    ledger.commit(&events, 5, step(vec![commit(1, vec![30])], 0)).unwrap();
    assert_eq!(ledger.progress(&events, 5).unwrap().next_seq, Some(9));
    let letter = |seq, letter| OpenLetter { stream: events.clone(), seq, letter, log_uuid: 5 };
    assert_eq!(ledger.letters(&events, None, 9).unwrap(), [letter(6, 60)]);
    assert_eq!(ledger.letters(&events, Some(6), 9).unwrap(), []);
    assert_eq!(ledger.last_letter().unwrap(), 60);
    ledger.forget_letters(vec![60]).unwrap();
    assert_eq!(ledger.letters(&events, None, 9).unwrap(), []);
}

#[test]
fn a_row_that_is_not_what_was_written_makes_the_ledger_anew() {
    for change in [
        "UPDATE cursors SET next_seq = 99",
        "UPDATE batches SET partition = 4 WHERE state = 'planned'",
        "UPDATE batches SET last_partition = 4 WHERE state = 'planned'",
        "UPDATE batches SET seqs = NULL WHERE state = 'planned'",
        "UPDATE batches SET seqs = zeroblob(20) WHERE state = 'stored'",
        "UPDATE batches SET ids = zeroblob(20)",
        "UPDATE replayed SET letter = 78",
        "UPDATE letters SET seq = 7",
        "UPDATE secrets SET value = zeroblob(16)",
        "UPDATE counters SET value = 1",
        "UPDATE loads SET attempt = 2",
        "UPDATE loads SET state = 'failed'",
        "UPDATE batches SET load = zeroblob(20) WHERE load IS NOT NULL",
    ] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger.db");
        let ledger = Ledger::open(&path).unwrap();
        let events = StreamName::new("events").unwrap();
        ledger.plan(vec![plan(1, [1, 5]), plan(2, [2])]).unwrap();
        let commits = vec![commit(1, vec![77])];
        let step = Step { commits, opened: vec![(3, 30)], closed: vec![], next_seq: 2 };
        ledger.commit(&events, 5, step).unwrap();
        let load = ledger.plan_load("d".into(), "t".into(), vec![events.clone()], |_| true);
        assert_eq!(load.unwrap().map(|load| (load.objects, load.attempt)), Some((1, 1)));
        ledger.close();
        let changed = Connection::open(&path).unwrap().execute(change, []).unwrap();
        assert!(changed > 0, "{change}");
        let ledger = Ledger::open(&path).unwrap();
        assert!(ledger.damage().unwrap().quarantine.join("report.json").exists(), "{change}");
        assert_eq!(ledger.progress(&events, 5).unwrap(), Progress::default(), "{change}");
    }
}

#[test]
fn a_ledger_of_the_first_format_gets_its_checksums() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.db");
    let old = Connection::open(&path).unwrap();
    old.execute_batch(include_str!("../../migrations/ledger/0001_ledger.sql")).unwrap();
    let mut seqs = Vec::new();
    RoaringTreemap::from_iter([4_u64, 6]).serialize_into(&mut seqs).unwrap();
    let (id, log) = (BatchId::from_u128(1), 5_u128.to_be_bytes());
    old.execute(
        "INSERT INTO batches VALUES (?1, 'events', ?2, 3, 'planned', 'object', 2, 4, 6, ?3, NULL,
             ?4, -1, 2, 0, NULL, NULL)",
        params![id.as_bytes(), log, seqs, 9_u128.to_be_bytes()],
    )
    .unwrap();
    old.execute("INSERT INTO cursors VALUES ('events', ?1, 3)", [log]).unwrap();
    old.execute("INSERT INTO replayed VALUES (77, ?1)", [id.as_bytes()]).unwrap();
    old.pragma_update(None, "user_version", 1).unwrap();
    drop(old);
    let ledger = Ledger::open(&path).unwrap();
    assert_eq!(ledger.damage(), None);
    let progress = ledger.progress(&StreamName::new("events").unwrap(), 5).unwrap();
    assert_eq!((progress.next_seq, progress.open[0].seqs.len()), (Some(3), 2));
    assert_eq!(ledger.replayed(vec![77]).unwrap(), [77]);
}

#[test]
fn a_batch_is_forgotten_once_it_is_loaded_and_has_one_load_at_most() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(&dir.path().join("ledger.db")).unwrap();
    let events = StreamName::new("events").unwrap();
    ledger.serve_warehouse().unwrap();
    ledger.plan((1..=4).map(|id| plan(id, [id as Seq])).collect()).unwrap();
    let commits = (1..=4).map(|id| commit(id, vec![])).collect();
    ledger.commit(&events, 5, step(commits, 9)).unwrap();
    let all = vec![events.clone()];
    let mut taken = 0;
    let two = move |_: &Member| {
        taken += 1;
        taken <= 2
    };
    let plan = |takes: Box<dyn FnMut(&Member) -> bool + Send>| {
        ledger.plan_load("d".into(), "t".into(), all.clone(), takes).unwrap()
    };
    let first = plan(Box::new(two)).unwrap();
    let second = plan(Box::new(|_| true)).unwrap();
    assert_eq!((first.objects, second.objects, plan(Box::new(|_| true))), (2, 2, None));
    assert_ne!(first.id, second.id);
    assert_eq!(ledger.open_loads().unwrap().len(), 2);
    ledger.set_load(Load { state: LoadState::Loaded, ..first.clone() }).unwrap();
    let waiting = ledger.waiting().unwrap();
    assert_eq!((waiting.objects, waiting.bytes), (2, 20));
    for _ in 0..2 {
        ledger.forget(&events, Duration::ZERO, 0).unwrap();
    }
    assert_eq!(ledger.members(first.id).unwrap(), []);
    assert_eq!(ledger.members(second.id).unwrap().len(), 2, "it waits");
}

#[test]
fn a_ledger_of_the_fourth_format_keeps_its_loads() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.db");
    let ledger = Ledger::open(&path).unwrap();
    let events = StreamName::new("events").unwrap();
    ledger.plan(vec![plan(1, [1])]).unwrap();
    ledger.commit(&events, 5, step(vec![commit(1, vec![])], 9)).unwrap();
    let load = ledger.plan_load("d".into(), "t".into(), vec![events], |_| true).unwrap().unwrap();
    ledger.close();
    drop(ledger);
    let fourth = include_str!("../../migrations/ledger/0004_loads.sql");
    let (tables, _) = fourth.split_once("-- A batch's load").unwrap();
    let old = Connection::open(&path).unwrap();
    old.execute_batch("ALTER TABLE loads RENAME TO kept; DROP INDEX loads_state").unwrap();
    old.execute_batch(tables).unwrap();
    old.execute_batch("INSERT INTO loads SELECT * FROM kept; DROP TABLE kept").unwrap();
    old.pragma_update(None, "user_version", 4).unwrap();
    old.pragma_update(None, "application_id", 0x454B_0004).unwrap();
    drop(old);
    let ledger = Ledger::open(&path).unwrap();
    assert_eq!(ledger.damage(), None);
    assert_eq!(ledger.open_loads().unwrap(), [load]);
}

#[test]
fn what_a_table_has_used_up_are_the_attempts_of_its_loads_that_changed_since_then() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(&dir.path().join("ledger.db")).unwrap();
    let events = StreamName::new("events").unwrap();
    let (begun, far) = (crate::time::now(), 1 << 60);
    let spent = |table: &str, since| ledger.spent("d".into(), table.into(), since).unwrap();
    assert_eq!(spent("t", begun), Spent::default());
    ledger.plan((1..=3).map(|id| plan(id, [id as Seq])).collect()).unwrap();
    let commits = (1..=3).map(|id| commit(id, vec![])).collect();
    ledger.commit(&events, 5, step(commits, 9)).unwrap();
    let load = ledger.plan_load("d".into(), "t".into(), vec![events], |_| true).unwrap().unwrap();
    let tried = ledger.set_load(Load { attempt: 4, ..load }).unwrap();
    let members = ledger.members(tried.id).unwrap();
    let parts = members.into_iter().map(|member| vec![member]).collect();
    let parts = ledger.split_load(tried, parts).unwrap();
    let last = parts.iter().map(|part| part.planned_at).max();
    assert_eq!(spent("t", begun), Spent { jobs: 4 + 3, planned_at: last });
    assert_eq!((spent("u", begun), spent("t", far)), Default::default());
    // Set by a clock that had jumped.
    ledger.write(move |c, _| Load { changed_at: far, ..parts[0].clone() }.write(c)).unwrap();
    assert_eq!(spent("t", begun).jobs, 4 + 2);
}

#[test]
fn a_dismissed_load_is_retried_only_while_its_batches_are_known() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.db");
    let ledger = Ledger::open(&path).unwrap();
    let events = StreamName::new("events").unwrap();
    ledger.serve_warehouse().unwrap();
    ledger.plan((1..=2).map(|id| plan(id, [id as Seq])).collect()).unwrap();
    let commits = (1..=2).map(|id| commit(id, vec![])).collect();
    ledger.commit(&events, 5, step(commits, 9)).unwrap();
    let load = ledger.plan_load("d".into(), "t".into(), vec![events.clone()], |_| true);
    let load = load.unwrap().unwrap();
    assert!(ledger.dismiss_load(load.id).unwrap().is_none(), "it has not failed");
    let failed = |load: Load| ledger.set_load(Load { state: LoadState::Failed, ..load }).unwrap();
    failed(load.clone());
    ledger.dismiss_load(load.id).unwrap().unwrap();
    let open = ledger.retry_load(load.id).unwrap().unwrap();
    assert_eq!((open.state, open.attempt), (LoadState::Open, 2));
    failed(open);
    for _ in 0..2 {
        ledger.forget(&events, Duration::ZERO, 0).unwrap();
    }
    assert_eq!(ledger.members(load.id).unwrap().len(), 2, "a failed load waits");
    ledger.dismiss_load(load.id).unwrap().unwrap();
    for _ in 0..2 {
        ledger.forget(&events, Duration::ZERO, 0).unwrap();
    }
    assert_eq!(ledger.retry_load(load.id).unwrap(), None);
    assert_eq!(ledger.loads(None, 9).unwrap()[0].state, LoadState::Dismissed);
    ledger.close();
    Ledger::look(&path).unwrap();
}

#[test]
fn what_the_store_had_and_the_ledger_not_is_doubted_until_the_doubt_is_ended() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(&dir.path().join("ledger.db")).unwrap();
    let events = StreamName::new("events").unwrap();
    ledger.adopt(&events, 5, vec![found(1, [1], 1), found(2, [2], 1)]).unwrap();
    assert_eq!(ledger.unloaded().unwrap(), []);
    let doubted = ledger.doubted().unwrap();
    assert_eq!(doubted.len(), 2);
    assert_eq!(ledger.waiting().unwrap().objects, 2);
    let free = doubted.iter().map(|member| member.batch).collect();
    ledger.end_doubt(vec![], free).unwrap();
    assert_eq!((ledger.unloaded().unwrap(), ledger.doubted().unwrap()), (vec![events], vec![]));
}
