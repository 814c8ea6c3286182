//! What each property of a Parquet file costs and saves: `cargo bench --bench parquet_properties`.
//!
//! Prints a table of CPU time and bytes an event, for batches of several sizes: the properties as
//! they are, and each change of one of them, beside it. Arguments are sizes in rows, and words of
//! which a change's name must have one. Changes are measured in turn, round after round, each
//! against its own round; the figures are medians of rounds.

mod events;
mod store;
mod variants;
#[allow(dead_code)]
#[path = "../../src/priority.rs"]
mod priority;
#[allow(dead_code, unused_imports)]
#[path = "../../src/sqlite/checksum.rs"]
mod checksum;
/// Under the name that the library's sources know it by.
mod sqlite {
    pub(crate) use crate::checksum::Checksum;
}
use std::time::Duration;

use eventkit::{dedupe, event, sequence};
use rustix::time::{ClockId, clock_gettime};
use variants::Variant;

const SIZES: [u64; 4] = [500, 2_000, 10_000, 40_000];
const ROUNDS: usize = 21;
/// Rows that are written for one look at the clock, at least.
const ROWS: u64 = 20_000;

/// What a change makes of a size.
struct Cell {
    /// Nanoseconds an event in each round.
    ns: Vec<f64>,
    bytes: f64,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let sizes: Vec<u64> = arguments.iter().filter_map(|a| a.parse().ok()).collect();
    let sizes = if sizes.is_empty() { SIZES.to_vec() } else { sizes };
    let words: Vec<&String> = arguments.iter().filter(|a| a.parse::<u64>().is_err()).collect();
    let mut variants = variants::all();
    let mut first = true;
    variants.retain(|(name, _)| {
        let is_asked_for = words.is_empty() || words.iter().any(|word| name.contains(*word));
        std::mem::take(&mut first) || is_asked_for
    });
    // As in the service, which writes on a thread that is not the first.
    let measured = std::thread::spawn(move || {
        let columns = sizes.iter().map(|&rows| (rows, measure(rows, &variants))).collect();
        print(&variants, columns);
    });
    measured.join().expect("a table");
}

/// Every change of a batch of that size, in the order of the changes.
fn measure(rows: u64, variants: &[Variant]) -> Vec<Cell> {
    let (batch, event_bytes) = events::batch(rows);
    eprintln!("{rows} rows of {event_bytes} bytes");
    let new = |_| Cell { ns: Vec::new(), bytes: 0.0 };
    let mut cells: Vec<Cell> = variants.iter().map(new).collect();
    for _ in 0..ROUNDS {
        for ((_, change), cell) in variants.iter().zip(&mut cells) {
            let times = ROWS.div_ceil(rows);
            let began = thread_cpu();
            for _ in 0..times {
                let bytes = store::file_bytes(&batch, |p| change(p, rows));
                cell.bytes = bytes as f64 / rows as f64;
            }
            let took = thread_cpu().saturating_sub(began);
            cell.ns.push(took.as_nanos() as f64 / (times * rows) as f64);
        }
    }
    cells
}

fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Nanoseconds and bytes an event; of a change also their ratios to what is.
fn print(variants: &[Variant], columns: Vec<(u64, Vec<Cell>)>) {
    let sizes: String =
        columns.iter().map(|(rows, _)| format!(" {rows} rows: ns | bytes |")).collect();
    println!("| |{sizes}\n| --- |{}", " ---: | ---: |".repeat(columns.len()));
    for (at, (name, _)) in variants.iter().enumerate() {
        print!("| {name} |");
        for (_, cells) in &columns {
            let (base, cell) = (&cells[0], &cells[at]);
            let ns = median(cell.ns.iter().copied());
            let by = median(cell.ns.iter().zip(&base.ns).map(|(ns, base)| ns / base));
            let (by, bytes_by) = ((by - 1.0) * 100.0, (cell.bytes / base.bytes - 1.0) * 100.0);
            match at {
                0 => print!(" {ns:.0} | {:.1} |", cell.bytes),
                _ => print!(" {ns:.0} ({by:+.0} %) | {:.1} ({bytes_by:+.0} %) |", cell.bytes),
            }
        }
        println!();
    }
}
