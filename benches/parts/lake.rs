//! From typed events to a Parquet file: 10,000 rows, as many as a full batch has.

use std::sync::Arc;

use divan::Bencher;
use divan::counter::ItemsCount;
use eventkit::adapt::{Adapter, StreamRules};
use eventkit::event::RawEvent;
use eventkit::store::{self, EventStore, Lake};
use uuid::Uuid;

use crate::{payload, receipt, stream};
use batch::Batch;
use listing::Found;
use plan::{BatchId, Digest};
use table::Table;

#[allow(dead_code, unused_imports)]
#[path = "../../src/store/batch.rs"]
mod batch;
#[allow(dead_code, unused_imports)]
#[path = "../../src/store/listing.rs"]
mod listing;
#[allow(dead_code, unused_imports)]
#[path = "../../src/store/parquet.rs"]
mod parquet;
#[allow(dead_code, unused_imports)]
#[path = "../../src/store/plan.rs"]
mod plan;
#[allow(dead_code, unused_imports)]
#[path = "../../src/store/table.rs"]
mod table;

const ROWS: u64 = 10_000;

fn whole() -> store::Batch {
    let stream = stream();
    let adapter = Adapter::new(&StreamRules::segment_strict());
    let mut batch = store::Batch::new(Uuid::nil(), stream.clone(), 1);
    for seq in 0..ROWS {
        let payload = payload(seq);
        let raw =
            RawEvent { stream: &stream, seq, payload: payload.as_bytes(), receipt: receipt() };
        let event = adapter.run(&raw).expect("a sound event");
        assert!(batch.push(seq, (seq % 16) as u16, 0, payload.as_bytes(), &event));
    }
    batch
}

/// The same as the compiled-in source has it. Its digest is known, as it is when a batch is put:
/// its plan has it.
fn planned() -> Batch {
    let whole = whole();
    let mut batch = Batch::new(BatchId::nil(), stream(), 1);
    for (row, (seq, event)) in whole.events().enumerate() {
        assert!(batch.push(seq, (seq % 16) as u16, 0, whole.payload(row).as_bytes(), &event));
    }
    let _: Digest = batch.digest();
    batch
}

/// Copying adapted events into a batch, payload and spans.
#[divan::bench]
fn buffer_10_000_events(bencher: Bencher) {
    let whole = whole();
    bencher.counter(ItemsCount::new(ROWS)).bench(|| {
        let mut batch = store::Batch::new(Uuid::nil(), whole.stream.clone(), 1);
        for (row, (seq, event)) in whole.events().enumerate() {
            assert!(batch.push(seq, (seq % 16) as u16, 0, whole.payload(row).as_bytes(), &event));
        }
        batch
    });
}

/// XXH3-128 over positions and payloads, for the plan.
#[divan::bench]
fn digest_10_000_events(bencher: Bencher) {
    let whole = whole();
    bencher
        .counter(ItemsCount::new(ROWS))
        .with_inputs(|| whole.part(Uuid::nil(), |_| true))
        .bench_refs(|batch| batch.digest());
}

/// The batch as Arrow columns, nothing else.
#[divan::bench]
fn arrow_10_000_events(bencher: Bencher) {
    let batch = planned();
    bencher.counter(ItemsCount::new(ROWS)).bench(|| {
        let table = Table::new(&batch);
        table.records(0..table.len()).expect("columns of the schema")
    });
}

/// The batch as a Parquet file in memory, with its Arrow columns: zstd 1, dictionaries, Bloom filters, the footer.
#[divan::bench]
fn parquet_10_000_events(bencher: Bencher) {
    let batch = planned();
    bencher.counter(ItemsCount::new(ROWS)).bench(|| parquet::encode(&batch).expect("a file"));
}

/// All of it: digest, Arrow, Parquet, and a synced file in a lake, with the device's time.
#[divan::bench(sample_count = 20, sample_size = 1)]
fn store_10_000_events(bencher: Bencher) {
    let dir = tempfile::tempdir().expect("a directory");
    let lake = Lake::local(dir.path(), "");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let whole = whole();
    bencher
        .counter(ItemsCount::new(ROWS))
        .with_inputs(|| Arc::new(whole.part(Uuid::now_v7(), |_| true)))
        .bench_values(|batch| runtime.block_on(lake.put(&batch)).expect("stored"));
}
