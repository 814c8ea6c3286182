//! The log, on the device of the temporary directory (`TMPDIR`).

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use eventkit::config::WalConfig;
use eventkit::wal::disk::OsDisk;
use eventkit::wal::{Place, Records, Wal};

use crate::edge::places;
use crate::event::Receipt;
use crate::{SHORT, payload, receipt};

/// Records of the log that is opened and read.
const BACKLOG: u64 = 100_000;
/// Records of one frame of it.
const FRAME: u64 = 1_000;

/// An open log, which stops its writer at its end.
struct Log(Wal);

impl Log {
    fn open(dir: &Path) -> Self {
        let config = WalConfig {
            bytes_max: 8 << 30,
            segment_bytes: 8 << 20,
            queue_bytes_max: 8 << 20,
            retention: Duration::ZERO,
        };
        let place = Place {
            disk: OsDisk::shared(),
            dir: dir.join("log"),
            quarantine: dir.join("quarantine"),
            floor: 0,
            ledger_tx: Arc::default(),
        };
        Self(Wal::open(place, config).expect("a log").0)
    }

    fn append(&self, records: Records) {
        let appending = self.0.append(records).expect("a place in the queue");
        appending.wait().expect("a sync");
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// As the edge encodes them, with their outlines.
fn records(first: u64, count: u64) -> Records {
    let mut records = Records::default();
    for n in first..first + count {
        let payload = payload(n);
        let mut places = places(&payload);
        let receipt = Receipt { outline: places.outline(), ..receipt() };
        assert!(records.push(&receipt, payload.as_bytes()));
    }
    records
}

/// A log of an earlier process, with nothing of it stored.
fn backlog() -> (tempfile::TempDir, usize) {
    let dir = tempfile::tempdir().expect("a directory");
    let log = Log::open(dir.path());
    let mut bytes = 0;
    for first in (0..BACKLOG).step_by(FRAME as usize) {
        let records = records(first, FRAME);
        bytes += records.bytes().len();
        log.append(records);
    }
    drop(log);
    (dir, bytes)
}

#[divan::bench(sample_size = SHORT)]
fn encode_a_record(bencher: Bencher) {
    let payload = payload(7);
    let mut places = places(&payload);
    let receipt = Receipt { outline: places.outline(), ..receipt() };
    bencher.counter(BytesCount::new(payload.len())).counter(ItemsCount::new(1_u32)).bench(|| {
        let mut records = Records::default();
        assert!(records.push(&receipt, black_box(payload.as_bytes())));
        records
    });
}

/// One append at a time, so many records in its frame, until it is synced: what a client waits
/// for that is alone. Segments are used again, as in a service that keeps up.
#[divan::bench(args = [1, 100, 1_000, 10_000], sample_count = 300, sample_size = 1)]
fn append_and_sync(bencher: Bencher, count: u64) {
    let dir = tempfile::tempdir().expect("a directory");
    let log = Log::open(dir.path());
    bencher
        .counter(BytesCount::new(records(0, count).bytes().len()))
        .counter(ItemsCount::new(count))
        .with_inputs(|| {
            log.0.reclaim(log.0.head()).expect("a segment to use again");
            records(0, count)
        })
        .bench_values(|records| log.append(records));
}

/// Many clients at once with one record each: the writer takes what waits as one frame.
#[divan::bench(sample_count = 1_000, sample_size = 1)]
fn append_for_64_clients(bencher: Bencher) {
    const CLIENTS: u64 = 64;
    let dir = tempfile::tempdir().expect("a directory");
    let log = Log::open(dir.path());
    bencher
        .counter(ItemsCount::new(CLIENTS))
        .with_inputs(|| {
            log.0.reclaim(log.0.head()).expect("a segment to use again");
            (0..CLIENTS).map(|n| records(n, 1)).collect::<Vec<_>>()
        })
        .bench_values(|requests| {
            let append = |records| log.0.append(records).expect("a place in the queue");
            let appending: Vec<_> = requests.into_iter().map(append).collect();
            for appending in appending {
                appending.wait().expect("a sync");
            }
        });
}

/// What a start waits for, of five segments: a header of each, the syncs of the last two, and
/// the whole of the last, read past the page cache, because nobody else says where it ends.
#[divan::bench(sample_count = 50, sample_size = 1)]
fn open_100_000_records(bencher: Bencher) {
    let (dir, _) = backlog();
    bencher.counter(ItemsCount::new(BACKLOG)).bench(|| {
        let log = Log::open(dir.path());
        assert_eq!(log.0.records_from(1), BACKLOG);
        log
    });
}

/// What a backlog costs before it is adapted: every frame from its file, past the page cache,
/// checked and taken apart. Most of it is the device's time.
#[divan::bench(sample_count = 50, sample_size = 1)]
fn read_100_000_records(bencher: Bencher) {
    let (dir, bytes) = backlog();
    let log = Log::open(dir.path());
    bencher.counter(BytesCount::new(bytes)).counter(ItemsCount::new(BACKLOG)).bench(|| {
        let (mut reader, mut whole) = (log.0.reader(0), 0);
        while let Some(chunk) = reader.read().expect("a readable file") {
            let chunk = chunk.expect("a whole frame");
            whole += chunk.records().filter(|(_, record)| black_box(record).is_some()).count();
        }
        assert_eq!(whole as u64, BACKLOG);
    });
}
