//! Storing everything that the logs hold now.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::spawner::Workers;
use crate::admin::Flushed;
#[cfg(feature = "pubsub")]
use crate::google::StoreNow;
use crate::queue::{FlushReport, Wake};
use crate::streams::Stream;

/// How long `flush` waits for a store that fails.
const FAILING_PATIENCE: Duration = Duration::from_secs(10);

/// Asks every worker to store what its log holds now, and waits for them.
pub(super) async fn flush(workers: Workers, timeout: Duration) -> Flushed {
    let started = Instant::now();
    let mut asked = Vec::new();
    for running in workers.lock().unwrap_or_else(PoisonError::into_inner).values() {
        let (reply, answer) = oneshot::channel();
        running.inbox.send(Wake::Flush(reply));
        asked.push((Arc::clone(&running.stream), answer));
    }
    let until = tokio::time::Instant::now() + timeout;
    let mut flushed = Flushed::default();
    for (stream, answer) in asked {
        let answered = tokio::select! {
            answered = tokio::time::timeout_at(until, answer) => answered.ok().and_then(Result::ok),
            () = fails_for(&stream, FAILING_PATIENCE) => None,
        };
        match answered {
            Some(FlushReport { events, batches }) => {
                flushed.events += events;
                flushed.batches += batches;
            }
            None => flushed.unfinished.push(unfinished(&stream)),
        }
    }
    flushed.duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    flushed
}

/// Asks one stream's worker to store what its log holds now; where there is none, the answer is that
/// nobody will.
#[cfg(feature = "pubsub")]
pub(super) fn store_now(workers: Workers) -> StoreNow {
    Box::new(move |stream| {
        let (reply, answer) = oneshot::channel();
        let workers = workers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = workers.get(stream) {
            running.inbox.send(Wake::Flush(reply));
        }
        answer
    })
}

/// Ready once the stream's store has failed for so long without a break.
async fn fails_for(stream: &Stream, patience: Duration) {
    let mut failing_since = None;
    loop {
        let now = Instant::now();
        match stream.stats.is_store_in_trouble() {
            true if now - *failing_since.get_or_insert(now) >= patience => return,
            true => {}
            false => failing_since = None,
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn unfinished(stream: &Stream) -> String {
    let waiting = stream.lag();
    let why = stream.stats.store_trouble().unwrap_or_else(|| "not in time".to_owned());
    format!("{}: {waiting} events wait: {why}", stream.name)
}
