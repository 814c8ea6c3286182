//! The ledger's promises, against real files.

use super::*;

fn plan(id: u128, seqs: impl IntoIterator<Item = Seq>) -> Plan {
    Plan {
        id: BatchId::from_u128(id),
        stream: StreamName::new("events").unwrap(),
        log_uuid: 5,
        partition: 3,
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
    assert_eq!(ledger.ids(&events, 0, 100).unwrap(), [10, 11, 20, 21, 30, 31]);
    assert_eq!(ledger.ids(&events, 0, 3).unwrap(), [20, 21, 30, 31]);
    ledger.forget_ids(&events, 0, 2).unwrap();
    assert_eq!(ledger.ids(&events, 0, 100).unwrap(), [20, 21, 30, 31]);
    ledger.forget_ids(&events, Micros::MAX, 100).unwrap();
    assert_eq!(ledger.ids(&events, 0, 100).unwrap(), []);
    assert_eq!(ledger.id_key().unwrap(), ledger.id_key().unwrap());
}

#[test]
fn another_log_of_the_same_stream_starts_anew() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(&dir.path().join("ledger.db")).unwrap();
    let events = StreamName::new("events").unwrap();
    ledger.plan(vec![plan(1, [1])]).unwrap();
    ledger.commit(&events, 5, step(vec![], 1)).unwrap();
    assert_eq!(ledger.progress(&events, 6).unwrap(), Progress::default());
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
