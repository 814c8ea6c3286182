//! What settings must be to each other. A mistake stands where the setting that can mend it was
//! made.

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::draft::Draft;
use super::streams::AdapterName;
use super::value::show_size;
use super::{
    Bucket, BucketService, Config, JOBS_A_DAY_MAX, QueueMode, Role, StoreConfig, StoreKind,
    WarehouseKind,
};
use crate::wal::PAYLOAD_BYTES_MAX;

/// `sun_path` of Linux, without its final zero.
const SOCKET_PATH_BYTES_MAX: usize = 107;

pub(super) fn check(draft: &mut Draft) {
    draft.compare();
    addresses(draft);
    sizes(draft);
    disk(draft);
    socket(draft);
    // What only those need who store is not asked of who does not, nor of who may not.
    if draft.config.stores() && draft.are_sound(&["role", "queue.mode"]) {
        store(draft);
        warehouse(draft);
    }
    queue(draft);
    streams(draft);
}

fn addresses(draft: &mut Draft) {
    let (listen, metrics) = (draft.config.listen, draft.config.metrics_listen);
    if !listen.ip().is_loopback() && !draft.config.ingest.allow_remote {
        let sentence = format!(
            "{listen} is not a loopback address, and anyone who reaches it could send events; set \
             ingest.allow_remote = true if that is meant"
        );
        draft.mismatch("listen", &["ingest.allow_remote"], sentence);
    }
    if listen == metrics && listen.port() != 0 {
        let sentence = format!("{metrics} is taken by listen");
        draft.mismatch("metrics_listen", &["listen"], sentence);
    }
}

fn sizes(draft: &mut Draft) {
    let config = &draft.config;
    let pairs = [
        (("wal.segment_bytes", config.wal.segment_bytes), ("wal.bytes_max", config.wal.bytes_max)),
        (
            ("ingest.event_bytes_max", config.ingest.event_bytes_max as u64),
            ("wal.segment_bytes", config.wal.segment_bytes),
        ),
        (
            ("ingest.event_bytes_max", config.ingest.event_bytes_max as u64),
            ("what a log's record may have", PAYLOAD_BYTES_MAX as u64),
        ),
        (
            ("ingest.event_bytes_max", config.ingest.event_bytes_max as u64),
            ("wal.queue_bytes_max", config.wal.queue_bytes_max as u64),
        ),
        (
            ("ingest.event_bytes_max", config.ingest.event_bytes_max as u64),
            ("ingest.inflated_bytes_max", config.ingest.inflated_bytes_max as u64),
        ),
        (
            ("ingest.body_bytes_max", config.ingest.body_bytes_max as u64),
            ("ingest.inflated_bytes_max", config.ingest.inflated_bytes_max as u64),
        ),
        (
            ("load.bytes_max", config.load.bytes_max as u64),
            ("load.memory_bytes_max", config.load.memory_bytes_max as u64),
        ),
    ];
    for ((small, small_bytes), (large, large_bytes)) in pairs {
        if small_bytes > large_bytes {
            let (small_size, large_size) = (show_size(small_bytes), show_size(large_bytes));
            // Where only the larger one was set, that is where the mistake was made.
            if draft.is_set(small) {
                let sentence = format!("{small_size} is more than {large} = {large_size}");
                draft.mismatch(small, &[large], sentence);
            } else {
                let sentence = format!("{large_size} is less than {small} = {small_size}");
                draft.mismatch(large, &[small], sentence);
            }
        }
    }
}

/// Between refusing and taking events again there must be a step, or a disk at that level would
/// do both in turn.
fn disk(draft: &mut Draft) {
    let disk = &draft.config.disk;
    let levels = [
        (("disk.refuse_below", disk.refuse_below), ("disk.resume_above", disk.resume_above)),
        (("disk.resume_above", disk.resume_above), ("disk.warn_below", disk.warn_below)),
    ];
    for ((lower, low), (higher, high)) in levels {
        if low > high {
            let path = if draft.is_set(lower) { lower } else { higher };
            let sentence = format!("{lower} = {low}% is more than {higher} = {high}%");
            draft.mismatch(path, &[lower, higher], sentence);
        }
    }
}

fn socket(draft: &mut Draft) {
    let length = draft.config.admin_socket.as_os_str().as_bytes().len();
    if length > SOCKET_PATH_BYTES_MAX {
        let sentence = format!(
            "the path has {length} bytes, and a Unix socket's may have {SOCKET_PATH_BYTES_MAX}"
        );
        draft.mismatch("admin_socket", &["data_dir"], sentence);
    }
}

/// What only a bucket has, or only Firestore.
fn store(draft: &mut Draft) {
    let store = &draft.config.store;
    let is_firestore = store.kind == StoreKind::Firestore;
    let service = store.bucket.as_ref().map(|bucket| bucket.service);
    let of_s3 = service == Some(BucketService::S3);
    let default = StoreConfig::in_directory(PathBuf::new());
    let of_firestore = "store.kind = \"firestore\"";
    let (kind, bucket) = ("store.kind", "store.bucket");
    let mistaken = [
        ("store.endpoint", store.endpoint.is_some() && store.is_local(), "a store.bucket"),
        ("store.region", store.region.is_some() && !of_s3, "a store.bucket of s3://"),
        ("store.database", store.database != default.database && !is_firestore, of_firestore),
        ("store.collection", store.collection != default.collection && !is_firestore, of_firestore),
    ];
    for (path, is_mistaken, needs) in mistaken {
        if is_mistaken {
            draft.mismatch(path, &[kind, bucket], format!("it needs {needs}"));
        }
    }
    if is_firestore {
        return firestore(draft);
    }
    let not_built = match service {
        Some(BucketService::Gcs) if !cfg!(feature = "gcs") => "gcs",
        Some(BucketService::S3) if !cfg!(feature = "s3") => "s3",
        _ => return,
    };
    let sentence = format!("this eventkit was built without the feature `{not_built}`");
    draft.mismatch(bucket, &[kind], sentence);
}

fn firestore(draft: &mut Draft) {
    if !cfg!(feature = "firestore") {
        let sentence = "this eventkit was built without the feature `firestore`".to_owned();
        draft.mismatch("store.kind", &[], sentence);
    }
    if draft.config.google.project.is_none() {
        let sentence = "firestore needs google.project".to_owned();
        draft.mismatch("store.kind", &["google.project"], sentence);
    }
    if let Some(bucket) = &draft.config.store.bucket {
        let sentence = format!("{bucket} is not used: events go to Firestore");
        draft.warn(draft.place("store.bucket"), sentence);
    }
}

/// What loading needs: what to load, into what, and not more often than is allowed.
fn warehouse(draft: &mut Draft) {
    let warehouse = &draft.config.warehouse;
    if warehouse.kind == WarehouseKind::None {
        return;
    }
    let store = &draft.config.store;
    let of_gcs = |bucket: &Bucket| bucket.service == BucketService::Gcs;
    let in_gcs = store.kind == StoreKind::Lake && store.bucket.as_ref().is_some_and(of_gcs);
    let jobs = 86_400_000 / warehouse.interval.as_millis().max(1);
    let lacks = [
        (
            !in_gcs,
            &["store.bucket", "store.kind"][..],
            "it needs a store.bucket of gs://: BigQuery loads from there",
        ),
        (warehouse.dataset.is_none(), &["warehouse.dataset"], "it needs a warehouse.dataset"),
        (draft.config.google.project.is_none(), &["google.project"], "it needs a google.project"),
        (
            !cfg!(feature = "bigquery"),
            &[],
            "this eventkit was built without the feature `bigquery`",
        ),
    ];
    for (_, others, sentence) in lacks.into_iter().filter(|(is_lacking, ..)| *is_lacking) {
        draft.mismatch("warehouse.kind", others, sentence.to_owned());
    }
    if jobs > u128::from(JOBS_A_DAY_MAX) {
        draft.warn(
            draft.place("warehouse.interval"),
            format!(
                "warehouse.interval makes up to {jobs} load jobs a table a day, and BigQuery takes \
                 {JOBS_A_DAY_MAX}: set 58s or more"
            ),
        );
    }
}

/// What only a queue of several instances has.
fn queue(draft: &mut Draft) {
    let Config { queue, role, google, .. } = &draft.config;
    let is_local = queue.mode == QueueMode::Local;
    let needs = "it needs queue.mode = \"pubsub\"";
    let (mode, project) = ("queue.mode", "google.project");
    let mistaken = [
        ("role", is_local && *role != Role::All, mode, needs),
        ("queue.endpoint", is_local && queue.endpoint.is_some(), mode, needs),
        (mode, !is_local && google.project.is_none(), project, "it needs google.project"),
        (
            mode,
            !is_local && !cfg!(feature = "pubsub"),
            mode,
            "this eventkit was built without the feature `pubsub`",
        ),
    ];
    let store = &draft.config.store;
    let stores_here = *role != Role::Collect && store.kind == StoreKind::Lake;
    let parts = !is_local && stores_here && store.bucket.is_none();
    for (path, is_mistaken, other, sentence) in mistaken {
        if is_mistaken {
            draft.mismatch(path, &[other], sentence.to_owned());
        }
    }
    if parts {
        let sentence = "with queue.mode = \"pubsub\" every instance that processes stores a part, and \
                        without store.bucket in a directory of its own machine";
        draft.warn(draft.place("queue.mode"), sentence.to_owned());
    }
}

fn streams(draft: &mut Draft) {
    let (count, max) = (draft.streams.len(), draft.config.max_streams);
    if count > max {
        let sentence = format!("{max} is less than the {count} streams that are declared");
        draft.mismatch("max_streams", &[], sentence);
    }
    let mut mistaken = Vec::new();
    for (name, stream) in &draft.streams {
        if stream.adapter == Some(AdapterName::Json) {
            continue;
        }
        for (key, pointer) in [
            ("key", &stream.key),
            ("type", &stream.kind),
            ("time", &stream.time),
            ("id", &stream.id),
        ] {
            if pointer.is_some() {
                let path = format!("streams.{name}.json.{key}");
                mistaken.push((path, format!("streams.{name}.adapter")));
            }
        }
    }
    for (path, adapter) in mistaken {
        let sentence = "it needs adapter = \"json\" in the stream's table".to_owned();
        draft.mismatch(&path, &[&adapter], sentence);
    }
}
