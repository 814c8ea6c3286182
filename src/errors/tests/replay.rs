//! Claims, failures, resolutions, decisions, and the audit of all of them.

use super::*;

fn claim(store: &ErrorStore, filter: LetterFilter) -> (i64, Vec<LetterId>) {
    let (replay, claims) = wait(store.claim(filter, 100, "ann".to_owned(), None)).unwrap();
    (replay, claims.iter().map(|claim| claim.id).collect())
}

fn group_of<'a>(groups: &'a [Group], reason: &str) -> Option<&'a Group> {
    groups.iter().find(|group| group.reason == reason)
}

#[test]
fn claims_come_in_the_order_of_the_log() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let ids = put(
        &store,
        vec![
            letter("b", 9, "r"),
            letter("b", 3, "r"),
            letter("a", 7, "r"),
            letter("a", 8, "too_large"),
            letter("a", 2, "malformed_json"),
        ],
    );
    wait(store.put_malformed(malformed(3))).unwrap();
    let (_, claims) =
        wait(store.claim(LetterFilter::default(), 100, "ann".to_owned(), None)).unwrap();
    let claimed: Vec<LetterId> = claims.iter().map(|claim| claim.id).collect();
    assert_eq!(claimed, [ids[2], ids[1], ids[0]]);
    assert_eq!(claims[0].payload, br#"{"seq":7}"#);
    assert_eq!(claims[0].receipt.received_at, 1_007);
    assert_eq!(claims[0].stream, stream("a"));
    // What is no log record has stayed open.
    assert_eq!((store.counts().open, store.counts().replaying), (3, 3));
    let waiting = store.waiting(&stream("b"), LetterId::MIN).unwrap();
    assert_eq!(waiting, [(ids[0], Status::Replaying), (ids[1], Status::Replaying)]);
    assert_eq!(store.waiting(&stream("b"), ids[0]).unwrap(), waiting[1..]);
    let asked = vec![ids[0], ids[3], LetterId::MAX];
    assert_eq!(store.unfinished(asked.clone()).unwrap(), [Some(true), Some(true), None]);
    assert_eq!(wait(store.unknown(asked)).unwrap(), [LetterId::MAX]);
}

#[test]
fn a_claim_is_bounded_and_takes_only_what_is_meant() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let ids =
        put(&store, (0..10).map(|seq| letter("a", seq, ["r", "s"][seq as usize % 2])).collect());
    let only_s = LetterFilter { reason: Some("s".to_owned()), ..LetterFilter::default() };
    let (replay, first) =
        wait(store.claim(only_s.clone(), 2, "ann".to_owned(), Some("fixed".to_owned()))).unwrap();
    let rest = wait(store.claim_more(replay, only_s, 100, "ann".to_owned())).unwrap();
    assert_eq!((first.len(), rest.len()), (2, 3));
    let (_, by_id) = claim(&store, of_ids(&ids[..4]));
    assert_eq!(by_id, [ids[0], ids[2]]);
    let resolved = LetterFilter { status: Some(Status::Resolved), ..LetterFilter::default() };
    assert!(claim(&store, resolved).1.is_empty());
    let late = LetterFilter { since: Some(1_008), ..LetterFilter::default() };
    assert_eq!(claim(&store, late).1, [ids[8]]);
    let mut large = letter("big", 1, "r");
    large.payload = vec![b' '; 9 << 20];
    large.message_id = None;
    let second = NewLetter { seq: Some(2), ..large.clone() };
    let third = NewLetter { seq: Some(3), ..large.clone() };
    put(&store, vec![large, second, third]);
    let big = LetterFilter { stream: Some(stream("big")), ..LetterFilter::default() };
    assert_eq!(claim(&store, big).1.len(), 2);
}

#[test]
fn a_replay_takes_a_letter_only_once() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let ids = put(&store, (0..3).map(|seq| letter("a", seq, "r")).collect());
    let (replay, claimed) = claim(&store, LetterFilter::default());
    assert_eq!(claimed, ids);
    wait(store.unclaim(ids[..1].to_vec(), "the log is full".to_owned())).unwrap();
    let again = vec![(ids[1], 50, vec![rejection(Phase::Adapt, "x", "")])];
    store.failed_again_blocking(again).unwrap();
    assert_eq!(store.counts().open, 2);
    let more =
        wait(store.claim_more(replay, LetterFilter::default(), 9, "ann".to_owned())).unwrap();
    assert!(more.is_empty());
    // Another replay takes them.
    assert_eq!(claim(&store, LetterFilter::default()).1, ids[..2]);
    let put_back = get(&store, ids[0]);
    assert_eq!(put_back.summary.attempts, 0);
    assert_eq!(put_back.history[2].detail, "the log is full");
}

#[test]
fn a_position_fails_a_letter_only_once() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let id = put(&store, vec![letter("a", 1, "r")])[0];
    claim(&store, LetterFilter::default());
    let failure = |seq| vec![(id, seq, vec![rejection(Phase::Store, "refused", "/b")])];
    assert!(store.failed_again_blocking(failure(70)).unwrap().is_empty());
    let after = get(&store, id);
    assert_eq!(after.summary.attempts, 1);
    assert_eq!(after.summary.status, Status::Open);
    assert_eq!((after.summary.phase, after.summary.path.as_str()), (Phase::Store, "/b"));
    assert_eq!((after.seq, after.replay_seq), (Some(1), Some(70)));
    let steps: Vec<&str> = after.history.iter().map(|step| step.what.as_str()).collect();
    assert_eq!(steps, ["rejected", "replayed", "failed_again"]);
    // The history still begins with the first reason.
    assert!(after.history[0].detail.contains("validate.r"));
    let groups = wait(store.groups()).unwrap();
    assert!(group_of(&groups, "r").is_none());
    assert_eq!(group_of(&groups, "refused").map(|group| (group.open, group.sample)), Some((1, id)));
    drop(store);
    let store = open(&directory);
    store.failed_again_blocking(failure(70)).unwrap();
    assert_eq!(get(&store, id), after);
    claim(&store, LetterFilter::default());
    // The restart reads position 70 again, while the next replay is on its way.
    store.failed_again_blocking(failure(70)).unwrap();
    assert_eq!(get(&store, id).summary.status, Status::Replaying);
    store.failed_again_blocking(failure(80)).unwrap();
    assert_eq!(get(&store, id).summary.attempts, 2);
    assert_eq!(positions(&store, "a", 0), [1, 70, 80]);
    assert_eq!(positions(&store, "a", 71), [80]);
    assert!(positions(&store, "b", 0).is_empty());
}

#[test]
fn a_failure_of_an_unknown_letter_is_handed_back() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let failure = vec![(77, 5, vec![rejection(Phase::Adapt, "x", "")])];
    assert_eq!(store.failed_again_blocking(failure).unwrap(), [77]);
    assert_eq!(store.counts(), Counts::default());
    assert!(positions(&store, "a", 0).is_empty());
}

#[test]
fn an_ended_letter_is_not_opened_by_a_late_failure() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let id = put(&store, vec![letter("a", 1, "r")])[0];
    claim(&store, LetterFilter::default());
    assert_eq!(store.resolve_blocking(vec![id, 99], "in batch 3".to_owned()).unwrap(), 1);
    assert_eq!(store.resolve_blocking(vec![id], "in batch 3".to_owned()).unwrap(), 0);
    let late = vec![(id, 9, vec![rejection(Phase::Adapt, "x", "")])];
    assert!(store.failed_again_blocking(late).unwrap().is_empty());
    let ended = get(&store, id);
    assert_eq!(ended.summary.status, Status::Resolved);
    assert_eq!(ended.summary.reason, "r");
    assert_eq!(ended.history.iter().filter(|step| step.what == "resolved").count(), 1);
    assert_eq!(positions(&store, "a", 2), [9]);
}

#[test]
fn what_was_discarded_can_be_opened_again() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let ids = put(&store, (0..4).map(|seq| letter("a", seq, "r")).collect());
    claim(&store, of_ids(&ids[..1]));
    let everything = LetterFilter::default();
    let discard = |max| {
        wait(store.discard(
            everything.clone(),
            max,
            "ann".to_owned(),
            Some("test traffic".to_owned()),
        ))
    };
    assert_eq!(discard(1).unwrap(), 1);
    assert_eq!(discard(10).unwrap(), 2);
    let counts = store.counts();
    assert_eq!((counts.replaying, counts.discarded, counts.open), (1, 3, 0));
    assert!(counts.open_by_stream.is_empty());
    assert_eq!(store.resolve_blocking(ids[1..2].to_vec(), String::new()).unwrap(), 0);
    assert_eq!(wait(store.reopen(of_ids(&ids[2..]), 10, "bob".to_owned(), None)).unwrap(), 2);
    let history = get(&store, ids[3]).history;
    assert_eq!(history[1].what, "discarded");
    assert_eq!(history[1].detail, "test traffic");
    assert_eq!((history[2].what.as_str(), history[2].by.as_deref()), ("reopened", Some("bob")));
    let group = wait(store.groups()).unwrap().remove(0);
    assert_eq!((group.open, group.total, group.sample), (2, 4, ids[3]));
}

#[test]
fn every_command_is_in_the_audit_with_its_outcome() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    put(&store, (0..4).map(|seq| letter("a", seq, "r")).collect());
    let filter = LetterFilter { reason: Some("r".to_owned()), ..LetterFilter::default() };
    let note = Some("rule fixed".to_owned());
    let (replay, claims) =
        wait(store.claim(filter.clone(), 3, "ann".to_owned(), note.clone())).unwrap();
    assert_eq!(claims.len(), 3);
    wait(store.finish_replay(replay, 2, 1)).unwrap();
    wait(store.discard(filter.clone(), 9, "bob".to_owned(), None)).unwrap();
    drop(store);
    let audit = wait(open(&directory).audit(10)).unwrap();
    assert_eq!(audit.len(), 2);
    assert_eq!(
        (audit[0].what.as_str(), audit[0].by.as_str(), audit[0].letters),
        ("discard", "bob", 1)
    );
    assert_eq!((audit[1].id, audit[1].letters, audit[1].note.clone()), (replay, 3, note));
    assert_eq!((audit[1].replayed, audit[1].refused), (Some(2), Some(1)));
    assert!(audit[1].finished_at.is_some() && audit[0].finished_at.is_none());
    assert_eq!(serde_json::from_str::<LetterFilter>(&audit[1].filter).unwrap(), filter);
}
