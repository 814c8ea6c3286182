//! The store's promises, against real files.

mod damage;
mod model;
mod page;
mod replay;

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread;

use tempfile::TempDir;

use super::store::wait;
use super::*;
use crate::config::ErrorsConfig;
use crate::event::{
    Kind, LetterId, Origin, Phase, Receipt, Rejection, ReplayOrigin, Seq, StreamName,
};

const LIMITS: ErrorsConfig = ErrorsConfig { malformed_max: 3, malformed_bytes_max: 100 };

fn open(directory: &TempDir) -> ErrorStore {
    open_at(&directory.path().join("errors.db"))
}

fn open_at(path: &Path) -> ErrorStore {
    ErrorStore::open(path, LIMITS).unwrap()
}

fn stream(name: &str) -> StreamName {
    StreamName::new(name).unwrap()
}

fn rejection(phase: Phase, reason: &str, path: &str) -> Rejection {
    Rejection {
        phase,
        reason: reason.to_owned(),
        path: path.to_owned(),
        message: format!("{reason} was found"),
    }
}

fn letter(name: &str, seq: Seq, reason: &str) -> NewLetter {
    NewLetter {
        stream: stream(name),
        seq: Some(seq),
        rejections: vec![rejection(Phase::Validate, reason, "/userId")],
        payload: format!(r#"{{"seq":{seq}}}"#).into_bytes(),
        receipt: Receipt { received_at: 1_000 + seq as i64, ..Receipt::default() },
        message_id: Some(format!("m-{seq}")),
        library: Some("analytics.js".to_owned()),
        library_version: None,
    }
}

fn malformed(bytes: usize) -> NewLetter {
    NewLetter {
        seq: None,
        rejections: vec![rejection(Phase::Parse, "malformed_json", "")],
        payload: vec![b'{'; bytes],
        library: None,
        message_id: None,
        ..letter("default", 0, "")
    }
}

fn positions(store: &ErrorStore, name: &str, from: Seq) -> Vec<Seq> {
    let positions = store.positions(&stream(name), from).unwrap();
    let mut seqs: Vec<Seq> = positions.iter().map(|position| position.seq).collect();
    seqs.dedup();
    seqs
}

fn list(store: &ErrorStore, filter: LetterFilter) -> Page {
    wait(store.list(filter, None, 1_000)).unwrap()
}

fn get(store: &ErrorStore, id: LetterId) -> Letter {
    wait(store.get(id)).unwrap().unwrap()
}

fn put(store: &ErrorStore, letters: Vec<NewLetter>) -> Vec<LetterId> {
    store.put_blocking(letters).unwrap()
}

fn of_ids(ids: &[LetterId]) -> LetterFilter {
    LetterFilter { ids: ids.to_vec(), ..LetterFilter::default() }
}

#[test]
fn what_was_put_is_what_is_read() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let receipt = Receipt {
        received_at: 5,
        sent_at: Some(-4),
        kind: Some(Kind::Track),
        message_id: Some("minted".into()),
        write_key_id: Some("key".into()),
        source: Some("2001:db8::1".parse().unwrap()),
        route: Some("/v1/batch".into()),
        item: 7,
        replay: Some(ReplayOrigin { letter: 3, replayed_at: 9 }),
        origin: Some(Origin { log_uuid: u128::MAX - 5, seq: 7 }),
        outline: None,
    };
    let mut new = letter("events", 41, "missing_field");
    new.rejections.push(rejection(Phase::Validate, "wrong_type", "/b"));
    new.receipt = receipt.clone();
    new.payload = b"\x00\xff not text \xfe".to_vec();
    new.library_version = Some("4.1".to_owned());
    let rejections = new.rejections.clone();
    let id = put(&store, vec![new])[0];
    let read = get(&store, id);
    assert_eq!(read.rejections, rejections);
    assert_eq!(read.receipt, receipt);
    assert_eq!(read.payload, None);
    assert_eq!(read.payload_base64.as_deref(), Some("AP8gbm90IHRleHQg/g=="));
    assert_eq!((read.seq, read.replay_seq), (Some(41), None));
    assert_eq!(read.library_version.as_deref(), Some("4.1"));
    assert_eq!(read.summary.status, Status::Open);
    assert_eq!(read.summary.payload_bytes, 13);
    assert_eq!(read.history.len(), 1);
    assert_eq!(read.history[0].what, "rejected");
    assert!(read.history[0].detail.contains("validate.missing_field at /userId"));
    assert_eq!(list(&store, LetterFilter::default()).letters, vec![read.summary]);
    assert_eq!(wait(store.get(id + 1)).unwrap(), None);
}

#[test]
fn a_position_written_again_keeps_its_letter() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let first = put(&store, vec![letter("events", 1, "a"), letter("events", 2, "b")]);
    let before = (list(&store, LetterFilter::default()), wait(store.groups()).unwrap());
    drop(store);
    let store = open(&directory);
    // The second is new in the request, the others are not; one reason has changed since.
    let again = put(&store, vec![letter("events", 2, "changed"), letter("events", 1, "a")]);
    assert_eq!(again, [first[1], first[0]]);
    let after = (list(&store, LetterFilter::default()), wait(store.groups()).unwrap());
    assert_eq!(after, before);
    assert_eq!(store.counts().open, 2);
    // The same position of another stream is another letter.
    let other = put(&store, vec![letter("users", 1, "a")]);
    assert!(!first.contains(&other[0]));
}

#[test]
fn one_request_may_name_a_position_twice() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let ids = put(&store, vec![letter("events", 1, "a"), letter("events", 1, "a")]);
    assert_eq!(ids[0], ids[1]);
    assert_eq!(store.counts().open, 1);
}

#[test]
fn an_event_that_its_client_sends_again_keeps_its_letter_until_that_is_discarded() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let sent = |seq| NewLetter {
        payload: br#"{"messageId":"m"}"#.to_vec(),
        message_id: Some("m".to_owned()),
        receipt: Receipt::default(),
        ..letter("events", seq, "missing_field")
    };
    let minted = |seq| NewLetter {
        message_id: Some("minted".to_owned()),
        receipt: Receipt { message_id: Some("minted".into()), ..Receipt::default() },
        ..sent(seq)
    };
    let mended = NewLetter { payload: b"{}".to_vec(), ..sent(3) };
    let first = put(&store, vec![sent(1)]);
    assert_eq!(put(&store, vec![sent(2)]), first);
    assert_ne!(put(&store, vec![mended]), first, "other bytes are another event");
    assert_ne!(put(&store, vec![minted(4)]), put(&store, vec![minted(5)]));
    wait(store.discard(of_ids(&first), 1, "uid 0".to_owned(), None)).unwrap();
    assert_ne!(put(&store, vec![sent(6)]), first);
    assert_eq!(store.counts().open, 4);
}

#[test]
fn what_a_store_refuses_has_an_open_letter_whatever_was_said_of_an_earlier_one() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let refused = |seq| NewLetter {
        payload: b"{}".to_vec(),
        message_id: Some("m".to_owned()),
        receipt: Receipt::default(),
        rejections: vec![rejection(Phase::Store, "refused", "")],
        ..letter("events", seq, "refused")
    };
    let first = put(&store, vec![refused(1)]);
    assert_eq!(put(&store, vec![refused(2)]), first);
    // Its replay found another copy of it on its way, which the store refuses then.
    store.resolve_blocking(first.clone(), "on its way".to_owned()).unwrap();
    let second = put(&store, vec![refused(3)]);
    assert_ne!(second, first);
    assert_eq!(put(&store, vec![refused(4)]), second);
    assert_eq!(store.counts().open, 1);
}

#[test]
fn an_event_that_a_topic_delivers_again_keeps_its_letter_also_with_a_minted_id() {
    let directory = TempDir::new().unwrap();
    let delivered = |at, minted: &str, seq| NewLetter {
        payload: b"{}".to_vec(),
        message_id: Some(minted.to_owned()),
        receipt: Receipt {
            message_id: Some(minted.to_owned().into()),
            origin: Some(Origin { log_uuid: 7, seq }),
            ..Receipt::default()
        },
        ..letter("events", at, "missing_field")
    };
    let store = open(&directory);
    let first = put(&store, vec![delivered(1, "a", 1)]);
    assert_eq!(put(&store, vec![delivered(2, "a", 1)]), first);
    assert_ne!(put(&store, vec![delivered(3, "b", 2)]), first, "another event of the same bytes");
    drop(store);
    let store = open(&directory);
    assert_eq!(put(&store, vec![delivered(4, "a", 1)]), first);
    assert_eq!(store.counts().open, 2);
}

#[test]
fn one_request_may_bring_an_event_again_and_a_restart_forgets_none() {
    let directory = TempDir::new().unwrap();
    let sent = |seq, n: u64| NewLetter {
        payload: format!(r#"{{"messageId":"m{n}"}}"#).into_bytes(),
        message_id: Some(format!("m{n}")),
        ..letter("events", seq, "missing_field")
    };
    let all = |from: Seq| (0..50).map(|n| sent(from + n, n)).collect::<Vec<_>>();
    let store = open(&directory);
    let twice = put(&store, [all(0), all(50)].concat());
    assert_eq!(twice[..50], twice[50..]);
    assert_eq!(store.counts().open, 50);
    drop(store);
    let store = open(&directory);
    assert_eq!(put(&store, all(100)), twice[..50]);
    assert_ne!(put(&store, vec![NewLetter { stream: stream("other"), ..sent(0, 0) }]), twice[..1]);
    assert_eq!(store.counts().open, 51);
}

#[test]
fn numbers_go_on_above_all_that_were_given_and_are_given_once() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let numbered = [Some(7), None, Some(3), None].into_iter().zip(0..);
    let numbered = numbered.map(|(id, seq)| (id, letter("a", seq, "r"))).collect();
    assert_eq!(store.put_numbered_blocking(numbered).unwrap(), [7, 8, 3, 9]);
    for _ in 0..5 {
        wait(store.put_malformed(malformed(10))).unwrap();
    }
    // The two newest bodies of the ring go, and their numbers with them.
    wait(store.put_malformed(malformed(90))).unwrap();
    assert_eq!(list(&store, LetterFilter::default()).letters[0].id, 15);
    store.number_above(100).unwrap();
    assert_eq!(put(&store, vec![letter("a", 9, "r")]), [101]);
}

#[test]
fn a_preview_is_the_payloads_beginning_whatever_its_size() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let sizes = [0, 1, 159, 160, 161, 1023, 1024, 1025, 100_000];
    let of_size = |(seq, size): (Seq, usize)| NewLetter {
        payload: (0..size).map(|n| b'a' + (n % 26) as u8).collect(),
        ..letter("a", seq, "r")
    };
    put(&store, (0..).zip(sizes).map(of_size).collect());
    for (letter, size) in list(&store, LetterFilter::default()).letters.iter().rev().zip(sizes) {
        assert_eq!(letter.reason, "r", "{size} bytes");
        assert_eq!((letter.payload_bytes, letter.preview.len()), (size as u64, size.min(160)));
        let payload = get(&store, letter.id).payload.unwrap();
        assert!(payload.starts_with(&letter.preview) && payload.len() == size);
    }
}

#[test]
fn a_store_of_the_format_before_is_read_as_it_was() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("errors.db");
    let store = open(&directory);
    let ids = put(&store, (0..20).map(|seq| letter("a", seq, "r")).collect());
    let before: Vec<Letter> = ids.iter().map(|id| get(&store, *id)).collect();
    store.shutdown();
    let old = rusqlite::Connection::open(&path).unwrap();
    old.execute_batch(
        "UPDATE letters SET preview = payload; \
         CREATE INDEX letters_message ON letters (stream, message_id) \
         WHERE message_id IS NOT NULL; \
         PRAGMA user_version = 2; PRAGMA application_id = 0x454B0002",
    )
    .unwrap();
    drop(old);
    let store = open(&directory);
    assert!(store.damage().is_none());
    assert_eq!(ids.iter().map(|id| get(&store, *id)).collect::<Vec<_>>(), before);
    assert_eq!(list(&store, LetterFilter::default()).total, 20);
}

#[test]
fn counts_and_groups_survive_a_reopen() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let ids =
        put(&store, (0..20).map(|seq| letter(["a", "b"][seq as usize % 2], seq, "r")).collect());
    store.resolve_blocking(ids[..3].to_vec(), "stored".to_owned()).unwrap();
    wait(store.put_malformed(malformed(5))).unwrap();
    let seen = (store.counts(), wait(store.groups()).unwrap());
    assert_eq!((seen.0.open, seen.0.resolved), (18, 3));
    assert_eq!(seen.0.open_by_stream[&stream("a")], 8);
    drop(store);
    let store = open(&directory);
    assert_eq!((store.counts(), wait(store.groups()).unwrap()), seen);
    assert!(store.bytes() > 0);
}

#[test]
fn the_ring_drops_its_oldest_and_counts_them() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let kept = put(&store, vec![letter("default", 1, "malformed_json")]);
    for _ in 0..5 {
        wait(store.put_malformed(malformed(10))).unwrap();
    }
    assert_eq!(store.counts().malformed_dropped, 2);
    assert_eq!(store.counts().open, 4);
    // By bytes: two of the three must go for it.
    wait(store.put_malformed(malformed(85))).unwrap();
    assert_eq!(store.counts().malformed_dropped, 4);
    // What alone exceeds the ring drops nobody else.
    wait(store.put_malformed(malformed(101))).unwrap();
    assert_eq!(store.counts().malformed_dropped, 5);
    let page = list(&store, LetterFilter::default());
    let sizes: Vec<u64> = page.letters.iter().map(|l| l.payload_bytes).collect();
    assert_eq!(sizes, [85, 10, 9]);
    assert_eq!(page.letters[2].id, kept[0]);
    let counts = store.counts();
    assert_eq!(counts.payload_bytes, 104);
    drop(store);
    let store = open(&directory);
    assert_eq!(store.counts(), counts);
    wait(store.put_malformed(malformed(6))).unwrap();
    assert_eq!(store.counts().malformed_dropped, 6);
}

#[test]
fn a_body_that_was_discarded_leaves_the_ring() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    for _ in 0..3 {
        wait(store.put_malformed(malformed(10))).unwrap();
    }
    let oldest = list(&store, LetterFilter::default()).letters[2].id;
    wait(store.discard(of_ids(&[oldest]), 10, "ann".to_owned(), None)).unwrap();
    wait(store.put_malformed(malformed(10))).unwrap();
    assert_eq!(store.counts().malformed_dropped, 0);
    wait(store.put_malformed(malformed(10))).unwrap();
    assert_eq!(store.counts().malformed_dropped, 1);
    assert_eq!(get(&store, oldest).summary.status, Status::Discarded);
}

#[test]
fn many_putters_of_the_same_positions_make_one_letter_each() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let putters: Vec<_> = (0..16)
        .map(|_| {
            let store = store.clone();
            thread::spawn(move || {
                (0..50).map(|seq| put(&store, vec![letter("x", seq, "a")])[0]).collect::<Vec<_>>()
            })
        })
        .collect();
    let ids: Vec<_> = putters.into_iter().map(|putter| putter.join().unwrap()).collect();
    assert!(ids.iter().all(|one| *one == ids[0]));
    assert_eq!(store.counts().open, 50);
    assert_eq!(positions(&store, "x", 10), (10..50).collect::<Vec<_>>());
}

/// Keeps the thread busy until the returned sender is dropped, so that what is sent meanwhile
/// waits together.
fn hold(store: &ErrorStore) -> std::sync::mpsc::SyncSender<()> {
    let (release, released) = sync_channel::<()>(0);
    let (started, start) = sync_channel::<()>(0);
    let holder = store.clone();
    thread::spawn(move || {
        wait(holder.write(0, move |_| {
            started.send(()).unwrap();
            let _ = released.recv();
            Ok(())
        }))
    });
    start.recv().unwrap();
    release
}

#[test]
fn a_failed_commit_is_told_to_everyone_in_it() {
    let directory = TempDir::new().unwrap();
    let store = Arc::new(open(&directory));
    wait(store.write(0, |db| {
        db.connection.execute_batch(
            "CREATE TABLE parent (id INTEGER PRIMARY KEY); \
             CREATE TABLE child (parent REFERENCES parent DEFERRABLE INITIALLY DEFERRED)",
        )
    }))
    .unwrap();
    let release = hold(&store);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let outcomes = runtime.block_on(async {
        let puts = (0..4).map(|seq| store.put(vec![letter("x", seq, "a")]));
        // Violates its constraint only at COMMIT.
        let poison = store.write(0, |db| db.connection.execute("INSERT INTO child VALUES (1)", []));
        let free = async move { drop(release) };
        let puts = futures::future::join_all(puts);
        tokio::join!(puts, poison, free)
    });
    assert!(outcomes.1.is_err());
    assert!(outcomes.0.iter().all(Result::is_err), "{:?}", outcomes.0);
    assert_eq!(store.counts(), Counts::default());
    assert_eq!(list(&store, LetterFilter::default()).total, 0);
    assert_eq!(put(&store, vec![letter("x", 0, "a")]).len(), 1);
    assert_eq!(store.counts().open, 1);
}

#[test]
fn a_full_disk_is_transient_and_keeps_nothing_of_the_request() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    put(&store, vec![letter("x", 0, "a")]);
    let before = (store.counts(), wait(store.groups()).unwrap());
    let limit_pages = |pages: &'static str| {
        wait(
            store
                .write(0, move |db| db.connection.query_row(pages, [], |row| row.get::<_, i64>(0))),
        )
        .unwrap()
    };
    limit_pages("PRAGMA max_page_count = 1");
    let mut large = letter("x", 1, "b");
    large.payload = vec![b' '; 1 << 20];
    let error = store.put_blocking(vec![letter("x", 2, "c"), large.clone()]).unwrap_err();
    assert!(matches!(error, ErrorStoreError::Full { .. }), "{error}");
    assert!(error.is_transient());
    assert_eq!((store.counts(), wait(store.groups()).unwrap()), before);
    limit_pages("PRAGMA max_page_count = 1000000");
    assert_eq!(put(&store, vec![large]).len(), 1);
}

#[test]
fn a_closed_store_says_so_and_has_kept_everything() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let ids = put(&store, vec![letter("x", 1, "a")]);
    store.shutdown();
    store.shutdown();
    let error = store.put_blocking(vec![letter("x", 2, "a")]).unwrap_err();
    assert!(matches!(error, ErrorStoreError::Closed));
    assert!(!error.is_transient());
    let again = open(&directory);
    assert_eq!(get(&again, ids[0]).seq, Some(1));
}
