//! What a store refuses for good becomes a dead letter, alone; what it lost the answer of is
//! stored once. The store is the test's own, everything else is the service.

mod support;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use eventkit::admin::Replay;
use eventkit::errors::{LetterFilter, Status};
use eventkit::event::{Phase, Rejection};
use eventkit::store::{Batch, BatchId, EventStore, Lake, Plan, RowRejection, StoreError, Stored};
use support::{letters, send, until, with_configured, with_service};

/// Keeps message ids, and refuses those that start with `bad`.
struct Picky {
    /// Whether it says which rows it refuses.
    names_rows: bool,
    /// Whether it refuses anything (any more).
    strict: AtomicBool,
    /// Whether they are beyond a limit of its own.
    by_limit: bool,
    /// What it has: batch, message id, and the letter it came from.
    rows: Mutex<BTreeSet<(BatchId, String, Option<i64>)>>,
    puts: AtomicUsize,
}

impl Picky {
    fn new(names_rows: bool) -> Self {
        Self {
            names_rows,
            strict: AtomicBool::new(true),
            by_limit: false,
            rows: Mutex::default(),
            puts: AtomicUsize::new(0),
        }
    }

    fn message_ids(&self) -> Vec<String> {
        let mut ids: Vec<String> =
            self.rows.lock().unwrap().iter().map(|(_, id, _)| id.clone()).collect();
        ids.sort();
        ids
    }
}

impl EventStore for Picky {
    fn name(&self) -> &str {
        "picky"
    }
    fn object(&self, batch: &Batch) -> String {
        batch.id.to_string()
    }
    async fn put(&self, batch: &Arc<Batch>) -> Result<Stored, StoreError> {
        self.puts.fetch_add(1, SeqCst);
        let bad: Vec<RowRejection> = batch
            .events()
            .enumerate()
            .filter(|(_, (_, event))| {
                self.strict.load(SeqCst) && event.message_id.starts_with("bad")
            })
            .map(|(row, _)| RowRejection {
                row,
                rejection: Rejection {
                    phase: Phase::Store,
                    reason: "out_of_range".to_owned(),
                    path: "/messageId".to_owned(),
                    message: "is bad".to_owned(),
                },
                is_beyond_limit: self.by_limit,
            })
            .collect();
        match (bad.is_empty(), self.names_rows) {
            (true, _) => {}
            (false, true) => return Err(StoreError::Rows(bad)),
            (false, false) => return Err(StoreError::Refused("something is bad".to_owned())),
        }
        let mut rows = self.rows.lock().unwrap();
        for (_, event) in batch.events() {
            let letter = event.replay.map(|replay| replay.letter);
            rows.insert((batch.id, event.message_id.clone().into_owned(), letter));
        }
        Ok(Stored { object: self.object(batch), bytes: 1 })
    }
    async fn find(&self, _plan: &Plan) -> Result<Option<Stored>, StoreError> {
        Ok(None)
    }
    async fn check(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

/// Stores, and then says that it could not, once for each batch.
struct LostReply {
    lake: Lake,
    lost: Mutex<BTreeSet<BatchId>>,
}

impl EventStore for LostReply {
    fn name(&self) -> &str {
        "lake"
    }
    fn object(&self, batch: &Batch) -> String {
        EventStore::object(&self.lake, batch)
    }
    async fn put(&self, batch: &Arc<Batch>) -> Result<Stored, StoreError> {
        let stored = EventStore::put(&self.lake, batch).await?;
        if self.lost.lock().unwrap().insert(batch.id) {
            return Err(StoreError::Unavailable { message: "reply lost".to_owned(), after: None });
        }
        Ok(stored)
    }
    async fn find(&self, plan: &Plan) -> Result<Option<Stored>, StoreError> {
        EventStore::find(&self.lake, plan).await
    }
    async fn check(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

fn ids(good: usize, bad: usize) -> Vec<String> {
    // The bad ones stand at both ends and in between.
    let mut ids: Vec<String> = (0..good).map(|n| format!("good-{n:04}")).collect();
    for n in 0..bad {
        ids.insert(n * ids.len() / bad.max(2).saturating_sub(1), format!("bad-{n}"));
    }
    ids
}

async fn bad_rows_become_dead_letters_alone(names_rows: bool) -> Arc<Picky> {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(Picky::new(names_rows));
    let seen = Arc::clone(&store);
    with_service(dir.path(), Arc::clone(&store), |listen, client| async move {
        send(listen, ids(200, 3)).await;
        assert!(client.flush().await.unwrap().unfinished.is_empty());
        assert_eq!(seen.message_ids().len(), 200);
        let found = letters(&client).await;
        let mut bad: Vec<_> = found.iter().filter_map(|l| l.message_id.clone()).collect();
        bad.sort();
        assert_eq!(bad, ["bad-0", "bad-1", "bad-2"]);
        assert!(found.iter().all(|l| l.phase == Phase::Store && l.status == Status::Open));

        // Their client sends them again: they are refused again, and have their letters.
        send(listen, ids(0, 3)).await;
        assert!(client.flush().await.unwrap().unfinished.is_empty());
        assert_eq!(letters(&client).await.len(), 3);

        // Replayed in vain they are open again; once the store takes them they land, once.
        let all = LetterFilter { phase: Some(Phase::Store), ..LetterFilter::default() };
        let replay = Replay { filter: all.clone(), note: None };
        assert_eq!(client.replay(&replay).await.unwrap().replayed, 3);
        client.flush().await.unwrap();
        assert!(letters(&client).await.iter().all(|l| l.attempts == 1 && l.status == Status::Open));
        seen.strict.store(false, SeqCst);
        assert_eq!(client.replay(&replay).await.unwrap().replayed, 3);
        client.flush().await.unwrap();
        assert!(letters(&client).await.iter().all(|l| l.status == Status::Resolved));
        assert_eq!(client.replay(&replay).await.unwrap().replayed, 0);
    })
    .await;
    assert_eq!(store.message_ids().len(), 203);
    let from_letters = store.rows.lock().unwrap().iter().filter(|(_, _, l)| l.is_some()).count();
    assert_eq!(from_letters, 3);
    store
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_a_store_names_become_dead_letters_and_the_rest_lands() {
    bad_rows_become_dead_letters_alone(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_beyond_a_limit_hold_nothing_up_however_many_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(Picky { by_limit: true, ..Picky::new(true) });
    let seen = Arc::clone(&store);
    with_service(dir.path(), store, |listen, client| async move {
        for round in 0..4 {
            let bad = (0..150).map(|n| format!("bad-{round}-{n}"));
            send(listen, bad.chain(["good".to_owned()])).await;
            assert!(client.flush().await.unwrap().unfinished.is_empty());
        }
        assert_eq!(client.snapshot().await.unwrap().dead_letters.open, 4 * 150);
        assert_eq!(seen.message_ids().len(), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_a_store_does_not_name_are_found_by_halving() {
    let store = bad_rows_become_dead_letters_alone(false).await;
    // 3 bad of 203: at most 2k(log2(n/k)+1) puts to find them, and as many for two replays.
    let puts = store.puts.load(SeqCst);
    assert!(puts <= 2 * (2 * 3 * (7 + 1)), "{puts} puts");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_whose_answer_was_lost_is_stored_once() {
    let dir = tempfile::tempdir().unwrap();
    let lake = Lake::local(&dir.path().join("lake"), "");
    let store = Arc::new(LostReply { lake, lost: Mutex::default() });
    with_service(dir.path(), store, |listen, client| async move {
        send(listen, ids(100, 0)).await;
        let flushed = client.flush().await.unwrap();
        assert_eq!((flushed.events, flushed.unfinished.len()), (100, 0));
        let snapshot = client.snapshot().await.unwrap();
        assert!(snapshot.sinks[0].failures >= 1);
    })
    .await;
    let mut files = Vec::new();
    let mut dirs = vec![dir.path().join("lake")];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { dirs.push(path) } else { files.push(path) }
        }
    }
    assert_eq!(files.len(), 1, "one user, one partition, one file: {files:?}");
}

fn impatient(config: &mut eventkit::config::Config) {
    config.load.age_max = std::time::Duration::from_millis(20);
    config.shutdown_timeout = std::time::Duration::from_millis(200);
}

fn bad(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("bad-{n}")).collect()
}

/// The finding of a breaker that is open.
async fn is_held(client: &eventkit::admin::Client) -> bool {
    let findings = client.snapshot().await.unwrap().findings;
    findings.iter().any(|f| f.text.contains("batches are held") && f.text.contains("mend"))
}

async fn everything_is_held_until_the_store_is_mended(names_rows: bool) {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(Picky::new(names_rows));
    with_configured(dir.path(), impatient, Arc::clone(&store), |listen, client| async move {
        send(listen, bad(1000)).await;
        until(async || is_held(&client).await).await;
        assert!(letters(&client).await.is_empty());
    })
    .await;
    // Halving to the end takes two puts a row.
    let puts = store.puts.load(SeqCst);
    assert!(puts < 500, "{puts} puts");

    // The next process finds out again, and goes on when the store is mended.
    let mended = Arc::clone(&store);
    with_configured(dir.path(), impatient, Arc::clone(&store), |listen, client| async move {
        send(listen, ["good".to_owned()]).await;
        until(async || is_held(&client).await).await;
        assert!(letters(&client).await.is_empty());
        mended.strict.store(false, SeqCst);
        assert!(client.flush().await.unwrap().unfinished.is_empty());
        assert!(!is_held(&client).await);
        assert!(letters(&client).await.is_empty());
    })
    .await;
    let mut expected = bad(1000);
    expected.push("good".to_owned());
    expected.sort();
    assert_eq!(store.message_ids(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_refuses_every_row_gets_no_dead_letter_and_goes_on_when_it_is_mended() {
    everything_is_held_until_the_store_is_mended(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_refuses_every_batch_gets_no_dead_letter_and_goes_on_when_it_is_mended() {
    everything_is_held_until_the_store_is_mended(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_breaker_ends_by_itself_when_the_store_takes_a_batch_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(Picky::new(false));
    let mended = Arc::clone(&store);
    with_configured(dir.path(), impatient, Arc::clone(&store), |listen, client| async move {
        send(listen, bad(50)).await;
        until(async || is_held(&client).await).await;
        mended.strict.store(false, SeqCst);
        until(async || mended.message_ids().len() == 50 && !is_held(&client).await).await;
        assert!(letters(&client).await.is_empty());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_validators_reject_holds_nothing_up() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(Picky::new(false));
    with_configured(dir.path(), impatient, Arc::clone(&store), |listen, client| async move {
        let nobody =
            |n| serde_json::json!({"type": "track", "event": "e", "messageId": format!("n{n}")});
        support::send_events(listen, (0..300).map(nobody).collect()).await;
        send(listen, ["good".to_owned()]).await;
        assert!(client.flush().await.unwrap().unfinished.is_empty());
        assert!(!is_held(&client).await);
    })
    .await;
    assert_eq!(store.message_ids(), ["good"]);
}
