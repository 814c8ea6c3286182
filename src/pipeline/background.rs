//! What goes on beside the events: snapshots, the store's probe, readiness, the metrics port.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};

use super::reserve::Watch;
use crate::ingest::{Dependency, Readiness};
use crate::space::Level;
use crate::stats::EdgeStats;
use crate::status::{Prometheus, Reached, Sampler, Snapshot, Sources};
use crate::store::AnyStore;
use crate::streams::{Stream, Streams};
use crate::warehouse::WarehouseStatus;

/// How often the snapshot is built.
const SNAPSHOT_EVERY: Duration = Duration::from_secs(1);
/// A store that has not answered for so long hangs.
const STORE_ANSWERS: Duration = Duration::from_secs(10);
/// How often the disk's room is read.
const ROOM_EVERY: Duration = Duration::from_secs(1);

/// Asks for a snapshot of now, and is told when it can be seen.
pub(super) type Refresh = mpsc::Sender<oneshot::Sender<()>>;

/// Builds a snapshot a second, and when asked to, and shows it to everybody who looks.
pub(super) async fn sample(
    mut sampler: Sampler,
    mut refreshes: mpsc::Receiver<oneshot::Sender<()>>,
    snapshots: watch::Sender<Arc<Snapshot>>,
    json: watch::Sender<Arc<[u8]>>,
) {
    let mut ticks = tokio::time::interval(SNAPSHOT_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let (snapshot, asked) = tokio::select! {
            _ = ticks.tick() => (sampler.sample(), None),
            Some(asked) = refreshes.recv() => (sampler.refresh(), Some(asked)),
        };
        let snapshot = Arc::new(snapshot);
        json.send_replace(to_json(&snapshot));
        snapshots.send_replace(snapshot);
        if let Some(asked) = asked {
            // Whoever asked may have gone away.
            let _ = asked.send(());
        }
    }
}

/// What was done before this is in every snapshot that is seen after it.
pub(super) async fn refresh(sampler: &Refresh) {
    let (asked, seen) = oneshot::channel();
    if sampler.send(asked).await.is_ok() {
        let _ = seen.await;
    }
}

pub(super) fn to_json(snapshot: &Snapshot) -> Arc<[u8]> {
    // Plain numbers and text: there is nothing in it that can't be written as JSON.
    serde_json::to_vec(snapshot).unwrap_or_default().into()
}

/// Looks after a store or a topic, so that `/ready` can answer without asking it, and so that what
/// is wrong at the start is told before the first batch finds out.
pub(super) async fn probe(store: Arc<AnyStore>, state: watch::Sender<Reached>) {
    let mut ticks = tokio::time::interval(Duration::from_secs(5));
    loop {
        ticks.tick().await;
        // One that hangs is not asked again: each question would hold a thread.
        let (mut check, began) = (pin!(store.check()), Instant::now());
        let now = loop {
            match tokio::time::timeout(STORE_ANSWERS, &mut check).await {
                Ok(now) => break now.map_err(|error| error.to_string()),
                Err(_) => {
                    let waited = began.elapsed().as_secs();
                    let hangs = format!("no answer for {waited} s");
                    let _ = state.send_replace(Some(Err(hangs)));
                }
            }
        };
        let before = state.send_replace(Some(now.clone()));
        let was_well = before.is_none_or(|before| before.is_ok());
        match now {
            Err(error) if was_well => {
                tracing::warn!(error, "{} can't be used; events wait", store.name());
            }
            Ok(()) if !was_well => tracing::info!("{} can be used again", store.name()),
            _ => {}
        }
    }
}

/// Looks after the disk's room, off the runtime's threads: a full disk may take its time.
pub(super) async fn watch_disk(mut watch: Watch, streams: Streams) {
    let mut ticks = tokio::time::interval(ROOM_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let streams = streams.clone();
        let looked = tokio::task::spawn_blocking(move || {
            if watch.look() == Level::Full {
                // What a log keeps of stored events is worth less than room for new ones.
                let freed: u64 = streams.all().iter().map(|stream| stream.wal.shrink()).sum();
                if freed > 0 {
                    tracing::warn!(freed, "the disk is full: logs gave up what is stored already");
                }
            }
            watch
        });
        let Ok(looked) = looked.await else { return };
        watch = looked;
    }
}

pub(super) fn readiness(
    sources: &Sources,
    queue: Option<(String, watch::Receiver<Reached>)>,
) -> impl Fn() -> Readiness + Send + Sync + 'static + use<> {
    let Sources { streams, store, store_now, space, warehouse, returned, .. } = sources;
    let (streams, space, warehouse) = (streams.clone(), space.clone(), warehouse.clone());
    let (store, store_now, returned) = (store.clone(), store_now.clone(), returned.clone());
    move || {
        let failed: Vec<String> = streams
            .all()
            .iter()
            .filter(|stream| !stream.wal.is_writable())
            .map(|stream| stream.name.to_string())
            .collect();
        let log = match failed.is_empty() {
            true => "every log takes events".to_owned(),
            false => format!("not writable: {}", failed.join(", ")),
        };
        let dependency = |name: &str, ok, detail| {
            let name = name.to_owned();
            Dependency { name, ok, is_needed: true, detail }
        };
        let mut dependencies = vec![
            dependency("log", failed.is_empty(), log),
            dependency("disk", space.takes_events(), space.sentence()),
        ];
        let mut ask = |name: &str, state: &watch::Receiver<Reached>, works: String| {
            let reached = state.borrow().clone();
            let reached = reached.unwrap_or_else(|| Err("not asked yet".to_owned()));
            let (ok, detail) = (reached.is_ok(), reached.err().unwrap_or(works));
            dependencies.push(dependency(name, ok, detail));
        };
        ask(&store, &store_now, works(&streams));
        // One message is no reason to take no others.
        let goes_back = returned.why().map(|why| format!("; messages go back: {why}"));
        let reached = "reached".to_owned() + &goes_back.unwrap_or_default();
        queue.iter().for_each(|(name, state)| ask(name, state, reached.clone()));
        dependencies.extend(warehouse.as_ref().map(|warehouse| of_warehouse(&warehouse.status())));
        Readiness { dependencies }
    }
}

/// One that fails is no reason to take no events: what it lacks waits in the lake.
fn of_warehouse(status: &WarehouseStatus) -> Dependency {
    let waiting = status.waiting_in_words();
    let mut detail = match &status.error {
        Some(error) => format!("fails; {waiting}: {error}"),
        None => waiting,
    };
    if let Some(failed) = status.failed_in_words() {
        detail += &format!("; {failed}");
    }
    let (name, ok) = (status.name.clone(), status.error.is_none());
    Dependency { name, ok, is_needed: false, detail }
}

/// What is said of a backend that answers: it may take nothing of one stream all the same, which
/// is no reason to take no events.
fn works(streams: &Streams) -> String {
    let waits = |stream: &Arc<Stream>| {
        stream.stats.store_trouble().map(|why| format!("{} waits: {why}", stream.name))
    };
    let troubles: Vec<String> = streams.all().iter().filter_map(waits).collect();
    match troubles.is_empty() {
        true => "reached and writable".to_owned(),
        false => format!("reached; {}", troubles.join("; ")),
    }
}

pub(super) async fn serve_metrics(
    listener: TcpListener,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    edge: Arc<EdgeStats>,
) {
    let page = Arc::new(Prometheus::default());
    let answer = move || {
        let (page, snapshots, edge) = (Arc::clone(&page), snapshots.clone(), Arc::clone(&edge));
        async move {
            let snapshot = Arc::clone(&snapshots.borrow());
            ([("content-type", "text/plain; version=0.0.4")], page.page(&snapshot, &edge))
        }
    };
    let router = axum::Router::new().route("/metrics", axum::routing::get(answer));
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!(%error, "the metrics port failed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warehouse_that_fails_is_told_and_keeps_no_events_away() {
        let said = |status: WarehouseStatus| {
            let line = of_warehouse(&status);
            let (ok, detail) = (line.ok, line.detail.clone());
            assert!(Readiness { dependencies: vec![line] }.is_ready(), "{detail}");
            (ok, detail)
        };
        let usual = WarehouseStatus::default();
        assert_eq!(said(usual.clone()), (true, "no object waits in the lake".to_owned()));
        let error = Some("there is no dataset d".to_owned());
        let fails = WarehouseStatus { error, waiting_objects: 1, ..usual.clone() };
        let sentence = "fails; 1 object waits in the lake: there is no dataset d";
        assert_eq!(said(fails), (false, sentence.to_owned()));
        let (ok, detail) = said(WarehouseStatus { failed_now: 3, ..usual });
        assert!(
            ok && detail.contains("3 loads failed for good; `eventkit ledger loads"),
            "{detail}"
        );
    }
}
