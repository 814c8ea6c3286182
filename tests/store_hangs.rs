//! A store that gives no answer at all, for one stream: what that costs the others, and memory.

mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use eventkit::admin::Client;
use eventkit::config::Config;
use eventkit::status::StreamStatus;
use eventkit::store::{Batch, EventStore, Lake, Plan, StoreError, Stored};
use serde_json::{Value, json};
use support::{readiness, send_events, until, with_configured};
use tokio::sync::watch;

/// A lake that takes nothing of the stream `events` while it hangs, or does not even say what it
/// has of it.
struct Hanging {
    lake: Lake,
    hangs: watch::Sender<bool>,
    says_nothing: bool,
}

impl Hanging {
    fn new(dir: &Path) -> Arc<Self> {
        let (lake, hangs) = (Lake::local(&dir.join("lake"), ""), watch::Sender::new(true));
        Arc::new(Self { lake, hangs, says_nothing: false })
    }

    async fn answers(&self) {
        // The sender lives as long as this store.
        let _ = self.hangs.subscribe().wait_for(|hangs| !hangs).await;
    }
}

impl EventStore for Hanging {
    fn name(&self) -> &str {
        "lake"
    }
    fn object(&self, batch: &Batch) -> String {
        EventStore::object(&self.lake, batch)
    }
    async fn put(&self, batch: &Arc<Batch>) -> Result<Stored, StoreError> {
        if batch.stream.as_str() == "events" {
            self.answers().await;
        }
        EventStore::put(&self.lake, batch).await
    }
    async fn find(&self, plan: &Plan) -> Result<Option<Stored>, StoreError> {
        if self.says_nothing && plan.stream.as_str() == "events" {
            self.answers().await;
        }
        EventStore::find(&self.lake, plan).await
    }
    async fn check(&self) -> Result<(), StoreError> {
        EventStore::check(&self.lake).await
    }
}

const MEMORY: usize = 1 << 20;

fn configured(config: &mut Config) {
    config.load.memory_bytes_max = MEMORY;
    config.load.bytes_max = MEMORY;
    config.load.events_max = 50;
    config.load.age_max = Duration::from_secs(3600);
    config.shutdown_timeout = Duration::from_millis(300);
}

fn large(kind: &str, numbers: std::ops::Range<usize>) -> Vec<Value> {
    let event = |n: usize| {
        json!({"type": kind, "event": "e", "name": "n", "userId": format!("u{n}"),
            "messageId": format!("{kind}-{n}"), "properties": {"text": "x".repeat(2000)}})
    };
    numbers.map(event).collect()
}

async fn stream(client: &Client, name: &str) -> StreamStatus {
    let snapshot = client.snapshot().await.unwrap();
    snapshot.streams.into_iter().find(|stream| stream.name.as_str() == name).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_whose_store_hangs_keeps_no_other_from_storing_and_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let store = Hanging::new(dir.path());
    with_configured(dir.path(), configured, Arc::clone(&store), |listen, client| async move {
        send_events(listen, large("track", 0..600)).await;
        until(async || stream(&client, "events").await.pending_events >= 200).await;
        for first in (0..1000).step_by(100) {
            send_events(listen, large("page", first..first + 100)).await;
        }
        until(async || stream(&client, "pages").await.stored_events == 1000).await;
        until(async || {
            let error = stream(&client, "events").await.store_error;
            error.is_some_and(|error| error.starts_with("no answer for 1"))
        })
        .await;
        let said = readiness(listen, "lake").await;
        assert!(said.starts_with("reached; events waits: no answer for 1"), "{said}");
        assert_eq!(stream(&client, "events").await.stored_events, 0);
        let _ = store.hangs.send(false);
        until(async || client.flush().await.unwrap().unfinished.is_empty()).await;
        until(async || stream(&client, "events").await.stored_events == 600).await;
        assert_eq!(stream(&client, "events").await.store_error, None);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_earlier_process_planned_is_read_again_without_the_backlog_behind_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = Hanging::new(dir.path());
    with_configured(dir.path(), configured, store, |listen, client| async move {
        for first in (0..3000).step_by(50) {
            send_events(listen, large("track", first..first + 50)).await;
        }
        until(async || stream(&client, "events").await.pending_events >= 200).await;
    })
    .await;
    let store = Hanging::new(dir.path());
    with_configured(dir.path(), configured, store, |_, client| async move {
        until(async || stream(&client, "events").await.pending_events >= 200).await;
        let held = stream(&client, "events").await;
        assert!(held.wal.lag_events == 3000, "{held:?}");
        assert!(held.pending_bytes <= (MEMORY + MEMORY / 4) as u64, "{} bytes", held.pending_bytes);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_does_not_say_what_it_has_is_told_and_keeps_nobody_from_stopping() {
    let dir = tempfile::tempdir().unwrap();
    let store = Hanging::new(dir.path());
    with_configured(dir.path(), configured, store, |listen, client| async move {
        send_events(listen, large("track", 0..200)).await;
        until(async || stream(&client, "events").await.pending_events >= 200).await;
    })
    .await;
    let mute = |dir: &Path| {
        let (lake, hangs) = (Lake::local(&dir.join("lake"), ""), watch::Sender::new(true));
        Arc::new(Hanging { lake, hangs, says_nothing: true })
    };
    // The end of its service is the end of this one too: it is waited for.
    with_configured(dir.path(), configured, mute(dir.path()), |_, client| async move {
        until(async || {
            let error = stream(&client, "events").await.store_error;
            error.is_some_and(|error| error.starts_with("no answer for 1"))
        })
        .await;
    })
    .await;
    let store = mute(dir.path());
    with_configured(dir.path(), configured, Arc::clone(&store), |listen, client| async move {
        send_events(listen, large("page", 0..100)).await;
        until(async || stream(&client, "pages").await.received_events == 100).await;
        let _ = store.hangs.send(false);
        until(async || client.flush().await.unwrap().unfinished.is_empty()).await;
        until(async || stream(&client, "events").await.stored_events == 200).await;
        assert_eq!(stream(&client, "events").await.store_error, None);
    })
    .await;
}
