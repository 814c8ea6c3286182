//! What this instance works with, a line each: where batches go, the topic of several instances,
//! the warehouse.

use eventkit::status::{QueueStatus, Role, Sink, Snapshot, State, WarehouseStatus};

use super::format;

/// One backend.
pub struct Backend<'s> {
    /// Its name.
    pub name: &'s str,
    /// How it does.
    pub state: State,
    /// Events per second; a warehouse's come in loads.
    pub rate: Option<f64>,
    /// How long the last batch took.
    pub last_ms: Option<u64>,
    /// Failed attempts since the start, where they are counted.
    pub failures: Option<u64>,
    /// What waits, in what it is counted in.
    pub backlog: String,
    /// The last error, while it fails; else why it is behind.
    pub error: Option<String>,
}

/// The backends of this instance.
#[must_use]
pub fn of(snapshot: &Snapshot) -> Vec<Backend<'_>> {
    let sinks = snapshot.sinks.iter().map(sink);
    // To one that only collects the topic is the sink.
    let queue = snapshot.queue.as_ref().filter(|queue| queue.role != Role::Collect);
    sinks.chain(queue.map(topic)).chain(snapshot.warehouse.as_ref().map(warehouse)).collect()
}

fn sink(sink: &Sink) -> Backend<'_> {
    Backend {
        name: &sink.name,
        state: sink.state,
        rate: Some(sink.rate),
        last_ms: Some(sink.last_ms).filter(|ms| *ms > 0),
        failures: Some(sink.failures),
        backlog: format::short_count(sink.backlog),
        error: sink.error.clone(),
    }
}

fn topic(queue: &QueueStatus) -> Backend<'_> {
    let rate = queue.pulled_rate;
    let held = queue.outstanding_messages;
    Backend {
        name: "pubsub",
        state: match (&queue.error, rate > 0.0 || held > 0) {
            (Some(_), _) => State::Stopped,
            (None, true) => State::Ok,
            (None, false) => State::Idle,
        },
        rate: Some(rate),
        last_ms: None,
        failures: None,
        backlog: format!("{} msg", format::short_count(held)),
        error: queue.error.clone(),
    }
}

fn warehouse(warehouse: &WarehouseStatus) -> Backend<'_> {
    let waiting = warehouse.waiting_objects;
    let behind = warehouse.failed_in_words().or_else(|| warehouse.slowed.clone());
    let is_late = behind.is_some() || warehouse.waiting_age_ms > warehouse.age_ms_max;
    Backend {
        name: &warehouse.name,
        state: match (&warehouse.error, is_late, waiting) {
            (Some(_), ..) => State::Stopped,
            (None, true, _) => State::Slow,
            (None, false, 0) => State::Idle,
            (None, false, _) => State::Ok,
        },
        rate: None,
        last_ms: None,
        failures: Some(warehouse.retried + warehouse.split + warehouse.failed),
        backlog: format!("{} obj", format::short_count(waiting)),
        error: warehouse.error.clone().or(behind),
    }
}
