//! Counters. Each is bumped once per chunk, not per event, by the stage that owns the fact, and
//! is read by `status` (the console, `eventkit status`) and by the Prometheus page: every number
//! has one source.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

/// A monotonic counter or a gauge that only one stage writes.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds to it.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }
    /// Takes back what turned out not to be.
    pub fn take_back(&self, n: u64) {
        self.0.fetch_sub(n, Relaxed);
    }
    /// Replaces it (gauges).
    pub fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }
    /// Keeps the larger (high-water marks).
    pub fn raise(&self, n: u64) {
        self.0.fetch_max(n, Relaxed);
    }
    /// Reads it.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// What one stream has done since the process started.
#[derive(Debug)]
pub struct StreamStats {
    /// Events acknowledged at the edge.
    pub received_events: Count,
    /// Payload bytes of those.
    pub received_bytes: Count,
    /// Requests refused with 503 because the log was full or failing.
    pub refused_requests: Count,
    /// Events that became typed.
    pub adapted_events: Count,
    /// Events that became dead letters, at the edge or behind it.
    pub rejected_events: Count,
    /// Events dropped as duplicates.
    pub duplicate_events: Count,
    /// Events whose batch is committed.
    pub stored_events: Count,
    /// Bytes of the objects those became.
    pub stored_bytes: Count,
    /// Batches committed.
    pub stored_batches: Count,
    /// Failed attempts to store a batch.
    pub store_failures: Count,
    /// Events that a topic has confirmed.
    pub published_events: Count,
    /// Messages of those.
    pub published_messages: Count,
    /// Bytes of those messages.
    pub published_bytes: Count,
    /// Events that were pulled from a subscription into the log.
    pub pulled_events: Count,
    /// Messages of those.
    pub pulled_messages: Count,
    /// Bytes of those messages.
    pub pulled_bytes: Count,
    /// Messages of those that were acknowledged to it: what they held is stored, or a dead letter.
    pub acked_messages: Count,
    /// Messages that were pulled, and are neither acknowledged nor given back.
    pub outstanding_messages: Count,
    /// Bytes of those messages.
    pub outstanding_bytes: Count,
    /// Events in open or unfinished batches.
    pub pending_events: Count,
    /// Bytes of those.
    pub pending_bytes: Count,
    /// Batches that are planned and not yet committed.
    pub pending_batches: Count,
    /// When the oldest pending event was read, in ms since the process started; 0 for none.
    pub pending_since_ms: Count,
    /// Whether the last attempt to store failed (1) or not (0).
    pub store_failing: Count,
    /// Duration of the last stored batch, plan to commit.
    pub store_ms_last: Count,
    /// What the last failed attempt to store said, until one succeeds.
    pub store_error: Mutex<Option<String>>,
    /// Why batches are held although the store answers: it refuses too much of them.
    pub store_stopped: Mutex<Option<String>>,
    /// Records that could not be read from the log any more.
    pub damaged_records: Count,
    /// Objects of the store that could not be read when it was listed.
    pub unreadable_objects: Count,
    /// Dead letters that neither the error store nor the log has any more.
    pub lost_letters: Count,
    /// Torn tails that a start has set aside.
    pub suspect_tails: Count,
    /// Events whose client's clock is more than 24 h away from ours.
    pub skewed_events: Count,
    /// Events whose receive time is not believed.
    pub undated_events: Count,
    /// Everything below this log position is stored or dead-lettered.
    pub cursor: Count,
    /// Everything below this log position was read, and is pending or done.
    pub read_to: Count,
    /// Events per partition that entered a buffer.
    pub partition_events: Vec<Count>,
    /// Pending events per partition.
    pub partition_pending: Vec<Count>,
}

impl StreamStats {
    /// Fresh counters for a stream of that many partitions.
    #[must_use]
    pub fn new(partitions: u16) -> Self {
        let counts = || (0..partitions).map(|_| Count::default()).collect();
        Self {
            received_events: Count::default(),
            received_bytes: Count::default(),
            refused_requests: Count::default(),
            adapted_events: Count::default(),
            rejected_events: Count::default(),
            duplicate_events: Count::default(),
            stored_events: Count::default(),
            stored_bytes: Count::default(),
            stored_batches: Count::default(),
            store_failures: Count::default(),
            published_events: Count::default(),
            published_messages: Count::default(),
            published_bytes: Count::default(),
            pulled_events: Count::default(),
            pulled_messages: Count::default(),
            pulled_bytes: Count::default(),
            acked_messages: Count::default(),
            outstanding_messages: Count::default(),
            outstanding_bytes: Count::default(),
            pending_events: Count::default(),
            pending_bytes: Count::default(),
            pending_batches: Count::default(),
            pending_since_ms: Count::default(),
            store_failing: Count::default(),
            store_ms_last: Count::default(),
            store_error: Mutex::default(),
            store_stopped: Mutex::default(),
            damaged_records: Count::default(),
            unreadable_objects: Count::default(),
            lost_letters: Count::default(),
            suspect_tails: Count::default(),
            skewed_events: Count::default(),
            undated_events: Count::default(),
            cursor: Count::default(),
            read_to: Count::default(),
            partition_events: counts(),
            partition_pending: counts(),
        }
    }
}

impl StreamStats {
    /// The store failed; returns whether it worked before.
    pub fn store_fails(&self, error: String) -> bool {
        *self.store_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        self.store_failing.0.swap(1, Relaxed) == 0
    }

    /// The store refuses too much; returns whether that is new.
    pub fn stop_store(&self, why: String) -> bool {
        let mut stopped = self.store_stopped.lock().unwrap_or_else(PoisonError::into_inner);
        stopped.replace(why).is_none()
    }

    /// The store takes batches again.
    pub fn resume_store(&self) {
        *self.store_stopped.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// What keeps batches from being stored, while something does.
    pub fn store_trouble(&self) -> Option<String> {
        let stopped = self.store_stopped.lock().unwrap_or_else(PoisonError::into_inner).clone();
        stopped.or_else(|| self.store_error.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    /// Whether something keeps batches from being stored.
    pub fn is_store_in_trouble(&self) -> bool {
        let stopped =
            || self.store_stopped.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        self.store_failing.get() > 0 || stopped()
    }

    /// The store worked; returns whether it failed before.
    pub fn store_works(&self) -> bool {
        if self.store_failing.get() == 0 {
            return false;
        }
        *self.store_error.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.store_failing.0.swap(0, Relaxed) == 1
    }
}

/// What the edge has done, over all streams.
#[derive(Debug, Default)]
pub struct EdgeStats {
    /// HTTP requests answered, whatever the answer.
    pub requests: Count,
    /// Requests answered 4xx.
    pub client_errors: Count,
    /// Requests answered 503.
    pub refused: Count,
    /// Bodies that were not JSON.
    pub malformed: Count,
    /// Open connections.
    pub connections: Count,
}

/// How long something takes: counts per half octave of microseconds, so that a quantile is known
/// within 42 %. Written without a lock.
#[derive(Debug)]
pub struct Durations([AtomicU64; Self::BUCKETS]);

impl Default for Durations {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Durations {
    const BUCKETS: usize = 64;

    /// Counts one.
    pub fn record(&self, duration: std::time::Duration) {
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX).max(1);
        let bucket = (0..Self::BUCKETS - 1).find(|&b| us <= Self::limit_us(b));
        self.0[bucket.unwrap_or(Self::BUCKETS - 1)].fetch_add(1, Relaxed);
    }

    /// The upper end of the bucket that holds that quantile, in microseconds; 0 without any.
    #[must_use]
    pub fn quantile_us(&self, quantile: f64) -> u64 {
        let counts: Vec<u64> = self.0.iter().map(|c| c.load(Relaxed)).collect();
        let total: u64 = counts.iter().sum();
        if total == 0 {
            return 0;
        }
        let rank = ((total as f64 * quantile).ceil() as u64).clamp(1, total);
        let mut seen = 0;
        for (bucket, count) in counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Self::limit_us(bucket);
            }
        }
        Self::limit_us(Self::BUCKETS - 1)
    }

    /// The largest duration of a bucket: 1, 1.5, 2, 3, 4, 6, 8, … microseconds.
    fn limit_us(bucket: usize) -> u64 {
        let octave = 2_u64 << (bucket / 2);
        if bucket.is_multiple_of(2) { octave / 2 } else { octave * 3 / 4 }
    }
}
