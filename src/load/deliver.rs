//! One batch on its way to its store: tried until the store has it or refuses it for good.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, Semaphore};

use super::Sealed;
use crate::ambient;
use crate::stats::StreamStats;
use crate::store::{AnyStore, Batch, BatchId, Retry, RowRejection, StoreError, Stored};
use crate::streams::Stream;

/// The longest wait between two attempts.
pub(crate) const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// The wait after the first failed attempt, at most.
const BACKOFF_FIRST: Duration = Duration::from_millis(250);
/// A batch that takes longer holds back nobody else any more.
const BRISK: Duration = Duration::from_secs(1);
/// After each such time without an answer, the store is said to hang.
pub(crate) const HANGS: Duration = Duration::from_secs(10);
/// Batches of one stream that are encoded and put at the same time.
const AT_ONCE: usize = 4;

/// The end of a batch's way.
#[derive(Debug)]
pub struct Delivered {
    /// The batch.
    pub batch: Arc<Batch>,
    /// How it ended.
    pub outcome: Outcome,
}

/// How a delivery ended.
#[derive(Debug)]
pub enum Outcome {
    /// The store has it.
    Stored(Stored),
    /// The store will never take these rows.
    Rows(Vec<RowRejection>),
    /// The store will never take some row, and does not say which.
    Refused(String),
}

/// Delivers one stream's batches, each as a task.
pub struct Delivery {
    shared: Arc<Shared>,
    runtime: tokio::runtime::Handle,
}

struct Shared {
    stream: String,
    store: Arc<AnyStore>,
    stats: Arc<StreamStats>,
    permits: Semaphore,
    retry_now: Notify,
    started: Mutex<BTreeMap<BatchId, Instant>>,
    ended: Box<dyn Fn(Delivered) + Send + Sync>,
}

impl Delivery {
    /// Deliveries to that store; `ended` is called with each end, on a thread of the runtime.
    pub fn new(
        store: Arc<AnyStore>,
        stream: &Stream,
        runtime: tokio::runtime::Handle,
        ended: impl Fn(Delivered) + Send + Sync + 'static,
    ) -> Self {
        let shared = Shared {
            stream: stream.name.to_string(),
            store,
            stats: Arc::clone(&stream.stats),
            permits: Semaphore::new(AT_ONCE),
            retry_now: Notify::new(),
            started: Mutex::default(),
            ended: Box::new(ended),
        };
        Self { shared: Arc::new(shared), runtime }
    }

    /// Where a batch will go.
    #[must_use]
    pub fn object(&self, batch: &Batch) -> String {
        self.shared.store.object(batch)
    }

    /// Starts one. Whoever waits for its store to work holds back nobody: `sealed` is given up
    /// when the first attempt ends, or takes long.
    pub fn start(&self, batch: Arc<Batch>, sealed: Sealed) {
        self.shared.started().insert(batch.id, ambient::now());
        let shared = Arc::clone(&self.shared);
        self.runtime.spawn(async move {
            let outcome = shared.deliver(&batch, sealed).await;
            let started = shared.started().remove(&batch.id);
            let took =
                started.map_or(0, |at| ambient::now().saturating_duration_since(at).as_millis());
            shared.stats.store_ms_last.set(u64::try_from(took).unwrap_or(u64::MAX));
            (shared.ended)(Delivered { batch, outcome });
        });
    }

    /// Ends every wait between attempts.
    pub fn retry_now(&self) {
        self.shared.retry_now.notify_waiters();
    }

    /// When the oldest unfinished one was started.
    #[must_use]
    pub fn oldest(&self) -> Option<Instant> {
        self.shared.started().values().min().copied()
    }
}

impl Shared {
    fn started(&self) -> std::sync::MutexGuard<'_, BTreeMap<BatchId, Instant>> {
        self.started.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn deliver(&self, batch: &Arc<Batch>, sealed: Sealed) -> Outcome {
        let mut sealed = Some(sealed);
        let mut backoff = BACKOFF_FIRST;
        loop {
            let error = match self.attempt(batch, &mut sealed).await {
                Ok(stored) => {
                    self.succeeded();
                    return Outcome::Stored(stored);
                }
                Err(error) => error,
            };
            self.stats.store_failures.add(1);
            match (error.retry(), error) {
                (_, StoreError::Rows(rows)) => return Outcome::Rows(rows),
                (Retry::Never, error) => return Outcome::Refused(error.to_string()),
                (Retry::After(wish), error) => {
                    self.failed(error.to_string());
                    drop(sealed.take());
                    // A random part, so that streams that failed together don't return together
                    // (<https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>).
                    let wait = wish.unwrap_or_else(|| ambient::part_of(backoff));
                    backoff = (backoff * 2).min(BACKOFF_MAX);
                    tokio::select! {
                        () = tokio::time::sleep(wait) => {}
                        () = self.retry_now.notified() => {}
                    }
                }
            }
        }
    }

    /// Puts it once, however long that takes: what hangs is told.
    async fn attempt(
        &self,
        batch: &Arc<Batch>,
        sealed: &mut Option<Sealed>,
    ) -> Result<Stored, StoreError> {
        let mut put = pin!(async {
            // The semaphore is never closed; without a permit there is only less order.
            let _permit = self.permits.acquire().await;
            self.store.put(batch).await
        });
        let began = ambient::now();
        loop {
            let wait = if sealed.is_some() { BRISK } else { HANGS };
            if let Ok(tried) = tokio::time::timeout(wait, &mut put).await {
                return tried;
            }
            drop(sealed.take());
            let waited = ambient::now().saturating_duration_since(began);
            if waited >= HANGS {
                let object = self.store.object(batch);
                self.failed(format!("no answer for {} s: {object:?}", waited.as_secs()));
            }
        }
    }

    fn succeeded(&self) {
        if self.stats.store_works() {
            tracing::info!(store = self.store.name(), stream = self.stream, "store works again");
        }
    }

    fn failed(&self, error: String) {
        if self.stats.store_fails(error.clone()) {
            let (store, stream) = (self.store.name(), &self.stream);
            tracing::warn!(store, stream, error, "store fails; batches wait");
        }
    }
}
