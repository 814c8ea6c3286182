//! Dead letters: `ErrorStore::put` to its answer, which is after the sync.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use divan::Bencher;
use divan::counter::ItemsCount;
use eventkit::config::ErrorsConfig;
use eventkit::errors::{ErrorStore, NewLetter};
use eventkit::event::{Phase, Rejection};

use crate::{payload, receipt, stream};

fn letter(seq: u64) -> NewLetter {
    let rejection = Rejection {
        phase: Phase::Validate,
        reason: "missing_field".to_owned(),
        path: "/userId".to_owned(),
        message: "none of userId, anonymousId is there".to_owned(),
    };
    NewLetter {
        stream: stream(),
        seq: Some(seq),
        rejections: vec![rejection],
        payload: payload(seq).into_bytes(),
        receipt: receipt(),
        // As libraries make them: without any order.
        message_id: Some(format!("{:032x}", xxhash_rust::xxh3::xxh3_128(&seq.to_le_bytes()))),
        library: Some("analytics.js".to_owned()),
        library_version: Some("4.1.0".to_owned()),
    }
}

/// So many in one call, and so in one transaction.
#[divan::bench(args = [1, 100, 1000], sample_count = 50, sample_size = 1)]
fn put(bencher: Bencher, letters: u64) {
    let dir = tempfile::tempdir().expect("a directory");
    let limits = ErrorsConfig { malformed_max: 1000, malformed_bytes_max: 16 << 20 };
    let store = ErrorStore::open(&dir.path().join("errors.db"), limits).expect("a store");
    let next = AtomicU64::new(1);
    bencher
        .counter(ItemsCount::new(letters))
        .with_inputs(|| {
            let first = next.fetch_add(letters, Relaxed);
            (first..first + letters).map(letter).collect::<Vec<_>>()
        })
        .bench_values(|letters| store.put_blocking(letters).expect("their numbers"));
}
