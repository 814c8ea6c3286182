//! Counters. Each is bumped once per chunk, not per event, by the stage that owns the fact, and
//! is read by `status` (the console, `eventkit status`) and by the Prometheus page: every number
//! has one source.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A monotonic counter or a gauge that only one stage writes.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds to it.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
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
    /// Events whose log record is durable; replays count here and not above.
    pub appended_events: Count,
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
            appended_events: Count::default(),
            refused_requests: Count::default(),
            adapted_events: Count::default(),
            rejected_events: Count::default(),
            duplicate_events: Count::default(),
            stored_events: Count::default(),
            stored_bytes: Count::default(),
            stored_batches: Count::default(),
            store_failures: Count::default(),
            pending_events: Count::default(),
            pending_bytes: Count::default(),
            pending_batches: Count::default(),
            pending_since_ms: Count::default(),
            store_failing: Count::default(),
            store_ms_last: Count::default(),
            partition_events: counts(),
            partition_pending: counts(),
        }
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
