//! What a service does with what an earlier one left: files that are gone, a store that was down.

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use eventkit::admin::Replay;
use eventkit::errors::{LetterFilter, Status};
use eventkit::event::{Seq, StreamName};
use eventkit::store::{Batch, EventStore, Lake, Listing, Plan, StoreError, Stored};
use serde_json::json;
use support::{letters, send, send_events, with_service};

/// A lake that can be away.
struct Away {
    lake: Lake,
    away: AtomicBool,
}

impl Away {
    fn new(dir: &Path, away: bool) -> Arc<Self> {
        let lake = Lake::local(&dir.join("lake"), "");
        Arc::new(Self { lake, away: AtomicBool::new(away) })
    }

    fn there(&self) -> Result<(), StoreError> {
        match self.away.load(SeqCst) {
            true => Err(StoreError::Unavailable { message: "away".to_owned(), after: None }),
            false => Ok(()),
        }
    }
}

impl EventStore for Away {
    fn name(&self) -> &str {
        "lake"
    }
    fn object(&self, batch: &Batch) -> String {
        EventStore::object(&self.lake, batch)
    }
    async fn put(&self, batch: &Arc<Batch>) -> Result<Stored, StoreError> {
        self.there()?;
        EventStore::put(&self.lake, batch).await
    }
    async fn find(&self, plan: &Plan) -> Result<Option<Stored>, StoreError> {
        self.there()?;
        EventStore::find(&self.lake, plan).await
    }
    async fn check(&self) -> Result<(), StoreError> {
        self.there()
    }
    async fn list(
        &self,
        stream: &StreamName,
        log_uuid: u128,
        hour: i64,
        from: Seq,
    ) -> Result<Option<Listing>, StoreError> {
        self.there()?;
        EventStore::list(&self.lake, stream, log_uuid, hour, from).await
    }
    async fn hours(&self, stream: &StreamName) -> Result<Vec<i64>, StoreError> {
        self.there()?;
        EventStore::hours(&self.lake, stream).await
    }
    async fn message_ids(&self, object: &str) -> Result<Option<Vec<String>>, StoreError> {
        self.there()?;
        EventStore::message_ids(&self.lake, object).await
    }
}

/// How often each message id stands in the lake.
fn lake(dir: &Path) -> BTreeMap<String, usize> {
    use arrow::array::AsArray;
    let mut counts = BTreeMap::new();
    let mut dirs = vec![dir.join("lake")];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
                continue;
            }
            let file = std::fs::File::open(path).unwrap();
            let reader =
                parquet::arrow::arrow_reader::ParquetRecordBatchReader::try_new(file, 1024);
            for rows in reader.unwrap() {
                let rows = rows.unwrap();
                let ids = rows.column_by_name("message_id").unwrap().as_string::<i32>().clone();
                ids.iter().flatten().for_each(|id| *counts.entry(id.to_owned()).or_default() += 1);
            }
        }
    }
    counts
}

fn named(name: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{name}-{n}")).collect()
}

/// Events that break the rules of their stream: nobody is named.
fn bad(count: usize) -> Vec<serde_json::Value> {
    (0..count)
        .map(|n| json!({"type": "track", "event": "e", "messageId": format!("bad-{n}")}))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn events_after_the_log_was_lost_land_although_their_stream_had_dead_letters() {
    let dir = tempfile::tempdir().unwrap();
    with_service(dir.path(), Away::new(dir.path(), false), |listen, client| async move {
        send(listen, named("old", 5)).await;
        send_events(listen, bad(20)).await;
        client.flush().await.unwrap();
        assert_eq!(letters(&client).await.len(), 20);
    })
    .await;
    std::fs::remove_dir_all(dir.path().join("wal")).unwrap();
    with_service(dir.path(), Away::new(dir.path(), false), |listen, client| async move {
        send(listen, named("new", 30)).await;
        send_events(listen, vec![json!({"type": "track", "event": "e", "messageId": "bad-new"})])
            .await;
        assert!(client.flush().await.unwrap().unfinished.is_empty());
        assert_eq!(letters(&client).await.len(), 21);
    })
    .await;
    let rows = lake(dir.path());
    assert_eq!((rows.len(), rows.values().max()), (35, Some(&1)), "{rows:?}");
}

/// Nobody has to be named any more.
fn relaxed(config: &mut eventkit::config::Config) {
    for stream in config.streams.values_mut() {
        stream.rules.required.clear();
    }
}

fn every_open_letter() -> Replay {
    let filter = LetterFilter { status: Some(Status::Open), ..LetterFilter::default() };
    Replay { filter, note: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_of_a_new_error_store_are_not_taken_for_those_that_were_stored() {
    let dir = tempfile::tempdir().unwrap();
    let store = || Away::new(dir.path(), false);
    with_service(dir.path(), store(), |listen, client| async move {
        send_events(listen, bad(3)).await;
        client.flush().await.unwrap();
    })
    .await;
    support::with_configured(dir.path(), relaxed, store(), |_, client| async move {
        assert_eq!(client.replay(&every_open_letter()).await.unwrap().replayed, 3);
        client.flush().await.unwrap();
        assert!(letters(&client).await.iter().all(|letter| letter.status == Status::Resolved));
    })
    .await;
    for file in ["errors.db", "errors.db-wal"] {
        let _ = std::fs::remove_file(dir.path().join(file));
    }
    with_service(dir.path(), store(), |listen, client| async move {
        let other = json!({"type": "track", "event": "e", "messageId": "other"});
        send_events(listen, vec![other]).await;
        client.flush().await.unwrap();
        let found = letters(&client).await;
        assert_eq!(found.len(), 1);
        assert!(found[0].id > 3, "the ledger knows 1 to 3 as stored: {found:?}");
    })
    .await;
    assert_eq!(lake(dir.path()).len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_away_at_the_start_holds_nothing_up_once_it_is_back() {
    let dir = tempfile::tempdir().unwrap();
    let config = |config: &mut eventkit::config::Config| {
        config.load.memory_bytes_max = 1 << 20;
        config.load.bytes_max = 1 << 20;
        config.load.age_max = std::time::Duration::from_millis(20);
        config.shutdown_timeout = std::time::Duration::from_millis(300);
    };
    let large = |n: usize| {
        json!({"type": "track", "event": "e", "userId": format!("u{n}"),
            "messageId": format!("m{n}"), "properties": {"text": "x".repeat(2000)}})
    };
    let away = Away::new(dir.path(), true);
    support::with_configured(dir.path(), config, away, |listen, client| async move {
        send_events(listen, (0..1000).map(large).collect()).await;
        // Batches are planned and can't be put.
        support::until(async || client.snapshot().await.unwrap().sinks[0].failures > 0).await;
    })
    .await;
    let store = Away::new(dir.path(), true);
    let back = Arc::clone(&store);
    support::with_configured(dir.path(), config, store, |listen, client| async move {
        support::until(async || client.snapshot().await.unwrap().sinks[0].error.is_some()).await;
        back.away.store(false, SeqCst);
        send(listen, named("new", 1)).await;
        support::until(async || client.flush().await.unwrap().unfinished.is_empty()).await;
    })
    .await;
    let rows = lake(dir.path());
    assert_eq!((rows.len(), rows.values().max()), (1001, Some(&1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_of_what_is_stored_already_closes_its_letter_and_stores_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let event = |id: &str, sent_at: &str| json!({"type": "track", "event": "e", "messageId": id, "sentAt": sent_at});
    let store = || Away::new(dir.path(), false);
    with_service(dir.path(), store(), |listen, client| async move {
        let (early, late) = ("2026-11-23T07:00:00Z", "2026-11-23T07:00:01Z");
        send_events(listen, vec![event("x", early), event("x", late), event("y", early)]).await;
        client.flush().await.unwrap();
        assert_eq!(letters(&client).await.len(), 3);
    })
    .await;
    support::with_configured(dir.path(), relaxed, store(), |listen, client| async move {
        send_events(listen, vec![event("y", "2026-11-23T07:00:02Z")]).await;
        assert_eq!(client.replay(&every_open_letter()).await.unwrap().replayed, 3);
        client.flush().await.unwrap();
        assert!(letters(&client).await.iter().all(|letter| letter.status == Status::Resolved));
    })
    .await;
    let rows = lake(dir.path());
    assert_eq!(rows, BTreeMap::from([("x".to_owned(), 1), ("y".to_owned(), 1)]));
}
