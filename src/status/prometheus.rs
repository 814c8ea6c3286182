//! The counters as Prometheus text, set from their one source when they are asked for.

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use super::Snapshot;
use crate::stats::EdgeStats;
use crate::warehouse::WarehouseStatus;

/// Renders metrics; holds nothing that the counters don't.
pub struct Prometheus {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
}

impl Default for Prometheus {
    fn default() -> Self {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        Self { recorder, handle }
    }
}

impl Prometheus {
    /// The page for this snapshot and these counters of the edge.
    #[must_use]
    pub fn page(&self, snapshot: &Snapshot, edge: &EdgeStats) -> String {
        metrics::with_local_recorder(&self.recorder, || {
            service(snapshot, edge);
            snapshot.warehouse.iter().for_each(warehouse);
            for stream in &snapshot.streams {
                of_stream(stream);
            }
        });
        self.handle.render()
    }
}

fn count(name: &'static str, value: u64) {
    metrics::counter!(name).absolute(value);
}

fn level(name: &'static str, value: f64) {
    metrics::gauge!(name).set(value);
}

fn service(snapshot: &Snapshot, edge: &EdgeStats) {
    count("eventkit_http_requests_total", edge.requests.get());
    count("eventkit_http_client_errors_total", edge.client_errors.get());
    count("eventkit_http_refused_total", edge.refused.get());
    count("eventkit_http_malformed_total", edge.malformed.get());
    level("eventkit_http_connections", edge.connections.get() as f64);
    let letters = &snapshot.dead_letters;
    for (status, value) in [
        ("open", letters.open),
        ("replaying", letters.replaying),
        ("resolved", letters.resolved),
        ("discarded", letters.discarded),
    ] {
        metrics::gauge!("eventkit_dead_letters", "status" => status).set(value as f64);
    }
    count("eventkit_malformed_dropped_total", letters.malformed_dropped);
    let capacity = &snapshot.capacity;
    level("eventkit_disk_free_bytes", capacity.disk_free_bytes as f64);
    level("eventkit_memory_bytes", capacity.memory_bytes as f64);
    level("eventkit_errors_bytes", capacity.errors_bytes as f64);
    if let Some(queue) = &snapshot.queue {
        count("eventkit_messages_published_total", queue.published_messages);
        count("eventkit_messages_published_bytes_total", queue.published_bytes);
        count("eventkit_messages_pulled_total", queue.pulled_messages);
        count("eventkit_messages_pulled_bytes_total", queue.pulled_bytes);
        count("eventkit_messages_acked_total", queue.acked_messages);
        level("eventkit_messages_outstanding", queue.outstanding_messages as f64);
        level("eventkit_messages_outstanding_bytes", queue.outstanding_bytes as f64);
        level("eventkit_queue_failing", f64::from(u8::from(queue.error.is_some())));
    }
    level("eventkit_uptime_seconds", snapshot.uptime_ms as f64 / 1000.0);
}

fn warehouse(warehouse: &WarehouseStatus) {
    for (outcome, value) in [
        ("loaded", warehouse.loaded),
        ("failed", warehouse.failed),
        ("split", warehouse.split),
        ("retried", warehouse.retried),
    ] {
        metrics::counter!("eventkit_loads_total", "outcome" => outcome).absolute(value);
    }
    count("eventkit_loaded_events_total", warehouse.rows);
    count("eventkit_loaded_bytes_total", warehouse.bytes);
    level("eventkit_warehouse_waiting_objects", warehouse.waiting_objects as f64);
    level("eventkit_warehouse_waiting_bytes", warehouse.waiting_bytes as f64);
    level("eventkit_warehouse_waiting_age_seconds", warehouse.waiting_age_ms as f64 / 1000.0);
    level("eventkit_warehouse_failed_loads", warehouse.failed_now as f64);
    level("eventkit_warehouse_failing", f64::from(u8::from(warehouse.error.is_some())));
}

fn of_stream(stream: &super::StreamStatus) {
    let name = stream.name.as_str().to_owned();
    let wal = &stream.wal;
    for (metric, value) in [
        ("eventkit_events_received_total", stream.received_events),
        ("eventkit_bytes_received_total", stream.received_bytes),
        ("eventkit_events_processed_total", stream.adapted_events),
        ("eventkit_events_failed_total", stream.rejected_events),
        ("eventkit_events_duplicate_total", stream.duplicate_events),
        ("eventkit_events_skewed_total", stream.skewed_events),
        ("eventkit_events_undated_total", stream.undated_events),
        ("eventkit_wal_damaged_records_total", stream.damaged_records),
        ("eventkit_store_unreadable_objects_total", stream.unreadable_objects),
        ("eventkit_dead_letters_lost_total", stream.lost_letters),
        ("eventkit_wal_torn_tails_total", stream.torn_tails),
        ("eventkit_events_published_total", stream.published_events),
        ("eventkit_events_pulled_total", stream.pulled_events),
        ("eventkit_events_stored_total", stream.stored_events),
        ("eventkit_bytes_stored_total", stream.stored_bytes),
        ("eventkit_batches_stored_total", stream.stored_batches),
        ("eventkit_store_failures_total", stream.store_failures),
        ("eventkit_requests_refused_total", stream.refused_requests),
        ("eventkit_wal_syncs_total", wal.syncs),
    ] {
        metrics::counter!(metric, "stream" => name.clone()).absolute(value);
    }
    for (metric, value) in [
        ("eventkit_queue_depth", wal.lag_events as f64),
        ("eventkit_pending_events", stream.pending_events as f64),
        ("eventkit_pending_age_seconds", stream.pending_age_ms as f64 / 1000.0),
        ("eventkit_wal_bytes", wal.bytes as f64),
        ("eventkit_wal_bytes_max", wal.bytes_max as f64),
        ("eventkit_wal_sync_p99_seconds", wal.sync_p99_us as f64 / 1e6),
        ("eventkit_store_failing", f64::from(u8::from(stream.store_error.is_some()))),
    ] {
        metrics::gauge!(metric, "stream" => name.clone()).set(value);
    }
}
