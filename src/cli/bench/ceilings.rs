//! What this machine can do at best: its device's syncs, and the work on an event that can't be
//! left out, each alone on one core.

use std::fs::OpenOptions;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use eventkit::adapt::{Adapter, StreamRules};
use eventkit::event::{RawEvent, Receipt, StreamName};
use eventkit::store::{Batch, EventStore, Lake};
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use super::super::{Failure, IO};
use super::load::{self, thread_cpu};
use super::requests;

/// Bytes of a write that is synced.
const BLOCK: usize = 4 << 10;
/// Bytes of the file that is overwritten.
const FILE: u64 = 16 << 20;
/// Events of a file, as in a batch that is full.
const ROWS: u64 = 10_000;
/// Different events that are parsed in turn.
const EVENTS: u64 = 1000;

/// The device's syncs: 4 KiB are overwritten in a prefilled file, then fdatasync.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Syncs {
    /// How many in a second, one after the other.
    pub per_second: f64,
    /// Median.
    pub p50_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
}

/// What one core does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct OneCore {
    /// Events in a second of CPU time.
    pub events_per_second: f64,
    /// CPU time of an event, in microseconds.
    pub cpu_us_per_event: f64,
}

impl OneCore {
    fn new(events: u64, cpu: Duration) -> Self {
        let us = cpu.as_secs_f64() * 1e6 / events.max(1) as f64;
        Self { events_per_second: 1e6 / us.max(1e-6), cpu_us_per_event: us }
    }
}

/// Syncs in that directory for so long.
pub fn syncs(dir: &Path, time: Duration, cancel: &AtomicBool) -> Result<Syncs, Failure> {
    let path = dir.join("syncs");
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).open(&path)?;
    for _ in 0..FILE / (1 << 20) {
        file.write_all(&[0; 1 << 20])?;
    }
    file.sync_all()?;
    let mut took = load::histogram()?;
    let block = [7; BLOCK];
    let start = Instant::now();
    for at in (0..FILE).step_by(BLOCK).cycle() {
        let began = Instant::now();
        file.seek(SeekFrom::Start(at))?;
        file.write_all(&block)?;
        file.sync_data()?;
        load::record(&mut took, began.elapsed());
        if start.elapsed() > time || cancel.load(Relaxed) {
            break;
        }
    }
    let per_second = took.len() as f64 / start.elapsed().as_secs_f64();
    std::fs::remove_file(&path)?;
    let ms = |quantile: f64| took.value_at_quantile(quantile) as f64 / 1e3;
    Ok(Syncs { per_second, p50_ms: ms(0.5), p99_ms: ms(0.99) })
}

struct Sample {
    stream: StreamName,
    adapter: Adapter,
    payloads: Vec<Vec<u8>>,
}

impl Sample {
    fn new(events: u64, happened: &str) -> Result<Self, Failure> {
        let single = requests::single(happened);
        let payload = |n| single.requests.first().map(|request| request.body(n));
        Ok(Self {
            stream: StreamName::new("events").map_err(|e| Failure::new(IO, e))?,
            adapter: Adapter::new(&StreamRules::segment_strict()),
            payloads: (0..events).filter_map(payload).collect(),
        })
    }

    fn raw<'a>(&'a self, seq: u64, payload: &'a [u8]) -> RawEvent<'a> {
        let receipt = Receipt { received_at: eventkit::time::now(), ..Receipt::default() };
        RawEvent { stream: &self.stream, seq, payload, receipt }
    }

    fn batch(&self) -> Result<Batch, Failure> {
        let mut batch = Batch::new(uuid::Uuid::now_v7(), self.stream.clone(), 1);
        for (seq, payload) in (0..).zip(&self.payloads) {
            let raw = self.raw(seq, payload);
            let event = self.adapter.run(&raw).map_err(|_| unsound())?;
            if !batch.push(seq, 0, 0, payload, &event) {
                return Err(unsound());
            }
        }
        Ok(batch)
    }
}

fn unsound() -> Failure {
    Failure::new(IO, "the bench's own event is refused")
}

/// Bytes become typed events, validated, for so long.
pub fn parse(happened: &str, time: Duration, cancel: &AtomicBool) -> Result<OneCore, Failure> {
    let sample = Sample::new(EVENTS, happened)?;
    let (start, cpu) = (Instant::now(), thread_cpu());
    let mut events = 0;
    while start.elapsed() < time && !cancel.load(Relaxed) {
        for (seq, payload) in (0..).zip(&sample.payloads) {
            let raw = sample.raw(seq, payload);
            let event = sample.adapter.run(&raw).map_err(|_| unsound())?;
            std::hint::black_box(event);
        }
        events += EVENTS;
    }
    Ok(OneCore::new(events, thread_cpu().saturating_sub(cpu)))
}

/// Batches of typed events become files of a lake in that directory, for so long.
pub fn parquet(
    dir: &Path,
    happened: &str,
    time: Duration,
    cancel: &AtomicBool,
) -> Result<OneCore, Failure> {
    let dir = dir.join("parquet");
    let lake = Lake::local(&dir, "");
    let batch = Sample::new(ROWS, happened)?.batch()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // The encoder has a thread of its own, and nothing else runs in this process.
    let process_cpu = || load::duration(clock_gettime(ClockId::ProcessCPUTime));
    let (start, mut cpu, mut events) = (Instant::now(), Duration::ZERO, 0);
    while (events == 0 || start.elapsed() < time) && !cancel.load(Relaxed) {
        let batch = Arc::new(batch.part(uuid::Uuid::now_v7(), |_| true));
        let began = process_cpu();
        runtime.block_on(lake.put(&batch)).map_err(|e| Failure::new(IO, e))?;
        cpu += process_cpu().saturating_sub(began);
        events += ROWS;
    }
    std::fs::remove_dir_all(&dir)?;
    Ok(OneCore::new(events, cpu))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HAPPENED: &str = "2026-11-23T06:59:00.123Z";
    const SHORT: Duration = Duration::from_millis(20);

    #[test]
    fn every_ceiling_is_found_and_leaves_nothing_behind() {
        let (dir, go_on) = (tempfile::tempdir().unwrap(), AtomicBool::new(false));
        let found = syncs(dir.path(), SHORT, &go_on).unwrap();
        assert!(found.per_second > 0.0 && found.p99_ms >= found.p50_ms, "{found:?}");
        let cores = [
            parse(HAPPENED, SHORT, &go_on).unwrap(),
            parquet(dir.path(), HAPPENED, SHORT, &go_on).unwrap(),
        ];
        for core in cores {
            let product = core.events_per_second * core.cpu_us_per_event;
            assert!((product / 1e6 - 1.0).abs() < 1e-9, "{core:?}");
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_bench_that_is_cancelled_waits_for_no_ceiling() {
        let (dir, cancel) = (tempfile::tempdir().unwrap(), AtomicBool::new(true));
        // An hour would be noticed.
        let hour = Duration::from_secs(3600);
        assert!(syncs(dir.path(), hour, &cancel).is_ok());
        assert!(parse(HAPPENED, hour, &cancel).is_ok());
    }
}
