//! `eventkit wal`: a look at the logs' files, and at what was found damaged.

use std::path::{Path, PathBuf};

use eventkit::damage::Report;
use eventkit::event::{Receipt, Seq, StreamName};
use eventkit::wal::disk::OsDisk;
use eventkit::wal::{self, SegmentFacts};
use serde::Serialize;

use super::print::{self, Form, safe, size, time};
use super::{Done, Failure, IO, Options, USAGE, block_on};

/// Look at the logs
#[derive(clap::Subcommand)]
pub enum Wal {
    /// Read every byte of the logs and say whether it is what was written
    Verify(Verify),
    /// List a log's segments, or show its records
    Inspect(Inspect),
    /// Show what was found damaged in a running service
    Damage(Damage),
}

/// Read every byte of the logs
#[derive(clap::Args)]
pub struct Verify {
    /// Only these streams
    streams: Vec<String>,
    #[command(flatten)]
    form: Form,
}

/// List a log's segments, or show its records
#[derive(clap::Args)]
pub struct Inspect {
    /// Whose log
    stream: String,
    /// Show records from this position on, instead of the segments
    #[arg(long, value_name = "SEQ")]
    from: Option<Seq>,
    /// Show so many records
    #[arg(long, value_name = "N", default_value_t = 10)]
    limit: usize,
    #[command(flatten)]
    form: Form,
}

/// Show what was found damaged
#[derive(clap::Args)]
pub struct Damage {
    /// Say that you have seen it: it is no finding any more
    #[arg(long)]
    acknowledge: bool,
    #[command(flatten)]
    form: Form,
}

/// One stream's log.
#[derive(Serialize)]
struct Log {
    stream: String,
    records: u64,
    bytes: u64,
    damaged: bool,
    segments: Vec<SegmentFacts>,
}

/// One record.
#[derive(Serialize)]
struct Record {
    seq: Seq,
    segment: String,
    offset: u64,
    receipt: Receipt<'static>,
    payload: String,
}

impl Wal {
    pub fn run(self, options: &Options) -> Done {
        match self {
            Self::Verify(verify) => verify.run(options),
            Self::Inspect(inspect) => inspect.run(options),
            Self::Damage(damage) => damage.run(options),
        }
    }
}

impl Verify {
    fn run(self, options: &Options) -> Done {
        let dir = options.data_dir()?.join("wal");
        let names = if self.streams.is_empty() { streams(&dir)? } else { self.streams };
        let logs = names.iter().map(|name| log(&dir, name)).collect::<Result<Vec<_>, _>>()?;
        print::answer(&self.form, &logs, |logs| text(logs))?;
        let damaged =
            logs.iter().filter(|log| log.damaged).map(|log| safe(&log.stream).to_string());
        match damaged.collect::<Vec<_>>().join(", ") {
            none if none.is_empty() => Ok(()),
            names => Err(Failure::new(1, format!("damaged: the log of {names}"))),
        }
    }
}

impl Inspect {
    fn run(self, options: &Options) -> Done {
        let dir = options.data_dir()?.join("wal");
        let Some(from) = self.from else {
            return print::answer(&self.form, &log(&dir, &self.stream)?, segments);
        };
        let path = log_dir(&dir, &self.stream)?;
        let mut records = Vec::new();
        wal::visit(&OsDisk, &path, from, |seq, (segment, offset), receipt, payload| {
            if records.len() < self.limit {
                let (segment, payload) = (segment.to_owned(), String::from_utf8_lossy(payload));
                let (receipt, payload) = (receipt.into_owned(), payload.into_owned());
                records.push(Record { seq, segment, offset, receipt, payload });
            }
            records.len() < self.limit
        })
        .map_err(|error| unreadable(&path, &error))?;
        print::answer(&self.form, &records, |records| {
            let lines = records.iter().map(|record| {
                format!(
                    "{} {}+{} {} {}",
                    record.seq,
                    record.segment,
                    record.offset,
                    time(record.receipt.received_at),
                    safe(&record.payload)
                )
            });
            lines.collect::<Vec<_>>().join("\n")
        })
    }
}

impl Damage {
    fn run(self, options: &Options) -> Done {
        let client = options.client()?;
        if self.acknowledge {
            let done = block_on(async { Ok(client.acknowledge_damage().await?) })?;
            return print::answer(&self.form, &done, |done| {
                format!("{} reports acknowledged", done.reports)
            });
        }
        let reports = block_on(async { Ok(client.damage().await?) })?;
        print::answer(&self.form, &reports, |reports| match reports.is_empty() {
            true => "nothing was ever found damaged".to_owned(),
            false => reports.iter().map(report).collect::<Vec<_>>().join("\n"),
        })
    }
}

/// Ranges of a report that are printed; JSON has more.
const RANGES: usize = 8;

fn report(report: &Report) -> String {
    let seen = if report.acknowledged_at.is_some() { "seen" } else { "new " };
    let mut line = format!("{} {seen} {}", time(report.found_at), safe(&report.text));
    let ranges = report.ranges.iter().take(RANGES).map(|(from, to)| match to - from {
        1 => from.to_string(),
        _ => format!("{from} to {}", to - 1),
    });
    if report.lost > 0 && report.ranges.len() > 1 {
        let more = if report.ranges.len() > RANGES { ", …" } else { "" };
        let ranges = ranges.collect::<Vec<_>>().join(", ");
        line.push_str(&format!("\n    records {ranges}{more}"));
    }
    if let Some(kept) = report.evidence.get("kept").and_then(|kept| kept.as_str()) {
        line.push_str(&format!("\n    what stands there instead: {}", safe(kept)));
    }
    line
}

fn streams(dir: &Path) -> Result<Vec<String>, Failure> {
    let entries = std::fs::read_dir(dir).map_err(|error| unreadable(dir, &error))?;
    let mut names: Vec<String> = entries
        .flatten()
        .filter(|entry| entry.path().is_dir())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    Ok(names)
}

fn log_dir(dir: &Path, stream: &str) -> Result<PathBuf, Failure> {
    let name = StreamName::new(stream).map_err(|error| Failure::new(USAGE, error))?;
    Ok(dir.join(name.as_str()))
}

fn log(dir: &Path, stream: &str) -> Result<Log, Failure> {
    let path = log_dir(dir, stream)?;
    let segments = wal::inspect(&OsDisk, &path).map_err(|error| unreadable(&path, &error))?;
    let lost: u64 = segments.iter().flat_map(|s| &s.damage).map(|damage| damage.lost).sum();
    let used = segments.iter().map(|s| s.end_seq - s.first_seq).sum::<u64>();
    Ok(Log {
        stream: stream.to_owned(),
        records: used - lost,
        bytes: segments.iter().map(|segment| segment.bytes).sum(),
        damaged: segments.iter().any(SegmentFacts::is_damaged),
        segments,
    })
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(IO, format!("{}: {error}", path.display()))
}

fn text(logs: &[Log]) -> String {
    let lines = logs.iter().map(|log| {
        let state = if log.damaged { "DAMAGED" } else { "whole" };
        let counts = format!(
            "{} segments, {} records, {}",
            log.segments.len(),
            log.records,
            size(log.bytes)
        );
        let mut line = format!("{:<24} {state:<8} {counts}", safe(&log.stream));
        for segment in log.segments.iter().filter(|segment| segment.is_damaged()) {
            line.push_str(&format!("\n{}", damage(segment)));
        }
        for segment in log.segments.iter().filter(|segment| segment.torn_bytes > 0) {
            line.push_str(&format!(
                "\n  {}: {} bytes behind its end look like a write that was cut off",
                segment.file, segment.torn_bytes
            ));
        }
        line
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn damage(segment: &SegmentFacts) -> String {
    let mut lines = Vec::new();
    if segment.state == "lost" {
        lines.push(format!("  {}: no header can be read", segment.file));
    } else if segment.header_damaged {
        lines.push(format!("  {}: one copy of the header is damaged", segment.file));
    }
    if segment.cut_bytes > 0 {
        lines.push(format!("  {}: its last {} bytes are cut off", segment.file, segment.cut_bytes));
    }
    if segment.missing > 0 {
        let (missing, first) = (segment.missing, segment.first_seq - segment.jump);
        lines.push(format!(
            "  {}: {missing} records that stood before {first} are missing",
            segment.file
        ));
    }
    lines.extend(segment.damage.iter().map(|d| {
        format!(
            "  {}: {} bytes from {} on are not what was written; of the records {} to {}, {} are lost",
            segment.file, d.bytes, d.offset, d.from, d.to - 1, d.lost
        )
    }));
    lines.join("\n")
}

fn segments(log: &Log) -> String {
    let mut lines = vec![format!(
        "{:<16} {:<6} {:>10} {:>14} {:>14} {:>8} {:>10}  started",
        "segment", "state", "generation", "first", "end", "frames", "used"
    )];
    lines.extend(log.segments.iter().map(|s| {
        let started = if s.started_at == 0 { String::new() } else { time(s.started_at) };
        format!(
            "{:<16} {:<6} {:>10} {:>14} {:>14} {:>8} {:>10}  {started}",
            s.file,
            s.state,
            s.generation,
            s.first_seq,
            s.end_seq,
            s.frames,
            size(s.end_offset)
        )
    }));
    lines.join("\n")
}
