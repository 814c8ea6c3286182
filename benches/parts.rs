//! The parts of an event's way, each alone on one core: `cargo bench`.
//!
//! The event is a track call of about 360 bytes, as analytics libraries send it.

use std::sync::Arc;
use std::time::Duration;

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use eventkit::adapt::{Adapter, StreamRules};
use eventkit::config::WalConfig;
use eventkit::dedupe::IdKey;
use eventkit::event::{RawEvent, Receipt, StreamName};
use eventkit::outline::{self, Places};
use eventkit::sequence::Sequencer;
use eventkit::store::{Batch, BatchId, EventStore, Lake};
use eventkit::wal::disk::OsDisk;
use eventkit::wal::{Place, Records, Wal};

// What the edge keeps for itself is measured from its source.
#[allow(dead_code, unused_imports)]
#[path = "../src/ingest/item.rs"]
mod item;
#[allow(dead_code, unused_imports)]
#[path = "../src/ingest/scan.rs"]
mod scan;

const ROWS: u64 = 10_000;

fn main() {
    divan::main();
}

fn payload(n: u64) -> String {
    format!(
        r#"{{"type":"track","event":"Order Completed","userId":"user-{}","messageId":"m-{n:020}","timestamp":"2026-11-23T06:59:00.123Z","context":{{"library":{{"name":"analytics.js","version":"4.1.0"}},"locale":"de-DE","page":{{"path":"/p/{n}"}}}},"properties":{{"price":12.5,"currency":"EUR","sku":"A-{n}","quantity":3}}}}"#,
        n % 5000
    )
}

fn receipt() -> Receipt<'static> {
    Receipt { received_at: 1_795_000_000_000_000, ..Receipt::default() }
}

fn batch(rows: u64) -> Batch {
    let stream = StreamName::new("events").expect("a name");
    let adapter = Adapter::new(&StreamRules::segment_strict());
    let mut batch = Batch::new(BatchId::nil(), stream.clone(), 1, 0);
    for seq in 0..rows {
        let payload = payload(seq);
        let raw =
            RawEvent { stream: &stream, seq, payload: payload.as_bytes(), receipt: receipt() };
        let event = adapter.run(&raw).expect("a sound event");
        assert!(batch.push(seq, payload.as_bytes(), &event));
    }
    batch
}

/// Where an item ends and how deep it is.
#[divan::bench]
fn edge_extent(bencher: Bencher) {
    let payload = payload(7);
    bencher
        .counter(BytesCount::new(payload.len()))
        .bench(|| scan::extent(divan::black_box(payload.as_bytes()), 0));
}

/// An item's syntax, what the edge must know of it, and where its fields stand.
#[divan::bench]
fn edge_look(bencher: Bencher) {
    let (payload, mut places) = (payload(7), Places::default());
    bencher.counter(BytesCount::new(payload.len())).bench_local(|| {
        let look = item::Look::at(divan::black_box(&payload), &mut places);
        (look.is_ok(), places.outline().is_some())
    });
}

#[divan::bench]
fn adapt(bencher: Bencher) {
    let stream = StreamName::new("events").expect("a name");
    let adapter = Adapter::new(&StreamRules::segment_strict());
    let (payload, mut places) = (payload(7), Places::default());
    item::Look::at(&payload, &mut places).expect("an item");
    let receipt = Receipt { outline: places.outline(), ..receipt() };
    let raw = RawEvent { stream: &stream, seq: 1, payload: payload.as_bytes(), receipt };
    bencher
        .counter(BytesCount::new(payload.len()))
        .bench(|| adapter.run(divan::black_box(&raw)).is_ok());
}

/// The same where the log has no outline.
#[divan::bench]
fn adapt_parsing(bencher: Bencher) {
    let stream = StreamName::new("events").expect("a name");
    let adapter = Adapter::new(&StreamRules::segment_strict());
    let payload = payload(7);
    let raw = RawEvent { stream: &stream, seq: 1, payload: payload.as_bytes(), receipt: receipt() };
    bencher
        .counter(BytesCount::new(payload.len()))
        .bench(|| adapter.run(divan::black_box(&raw)).is_ok());
}

#[divan::bench]
fn hash_of_message_id(bencher: Bencher) {
    bencher.bench(|| IdKey([7; 16]).hash(divan::black_box("m-00000000000000000007")));
}

#[divan::bench]
fn partition_of_key(bencher: Bencher) {
    let sequencer = Sequencer::new(16);
    bencher.bench(|| sequencer.partition_of_key(divan::black_box("user-00042")));
}

#[divan::bench]
fn record_encode(bencher: Bencher) {
    let (payload, receipt) = (payload(7), receipt());
    bencher.counter(BytesCount::new(payload.len())).bench(|| {
        let mut records = Records::default();
        records.push(&receipt, divan::black_box(payload.as_bytes()))
    });
}

#[divan::bench]
fn buffer_10_000_adapted_events(bencher: Bencher) {
    bencher.counter(ItemsCount::new(ROWS)).bench(|| batch(ROWS));
}

/// Arrow, Parquet with zstd 1 and bloom filters, and a synced file.
#[divan::bench(sample_count = 20)]
fn store_10_000_events(bencher: Bencher) {
    let dir = tempfile::tempdir().expect("a directory");
    let lake = Lake::local(dir.path(), "");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let whole = batch(ROWS);
    bencher
        .counter(ItemsCount::new(ROWS))
        .with_inputs(|| std::sync::Arc::new(whole.part(uuid::Uuid::now_v7(), |_| true)))
        .bench_values(|batch| runtime.block_on(lake.put(&batch)).is_ok());
}

/// One append at a time: what a single client waits for.
#[divan::bench]
fn append_and_sync(bencher: Bencher) {
    let dir = tempfile::tempdir().expect("a directory");
    let config = WalConfig {
        bytes_max: 8 << 30,
        segment_bytes: 8 << 20,
        queue_bytes_max: 8 << 20,
        retention: Duration::ZERO,
    };
    let place = Place {
        disk: OsDisk::shared(),
        dir: dir.path().join("log"),
        quarantine: dir.path().join("quarantine"),
        floor: 0,
        ledger_tx: Arc::default(),
    };
    let (wal, _) = Wal::open(place, config).expect("a log");
    let (payload, receipt) = (payload(7), receipt());
    bencher.bench(|| {
        let mut records = Records::default();
        records.push(&receipt, payload.as_bytes())
            && wal.append(records).is_ok_and(|appending| appending.wait().is_ok())
    });
    wal.close();
}
