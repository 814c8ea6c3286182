//! What was found damaged: a report each, kept until an operator has seen it and after.
//!
//! A report is a JSON file below `quarantine/`, beside the bytes it tells of, made durable before
//! what it tells of is passed over. Reports of the same loss are one report. It counts as news
//! until it is acknowledged; acknowledging changes nothing but that.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::event::{Micros, Seq};

/// A report file is not longer.
const REPORT_BYTES_MAX: u64 = 1 << 20;
/// Ranges that one report names; it counts all.
const RANGES_MAX: usize = 1000;

/// One report.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// What was damaged: `log`, `ledger`, `dead letters`, …
    pub what: String,
    /// Whose it was.
    #[serde(default)]
    pub stream: Option<String>,
    /// The first position that is lost, where positions are.
    #[serde(default)]
    pub from: Option<Seq>,
    /// The position behind the last that is lost.
    #[serde(default)]
    pub to: Option<Seq>,
    /// Exactly which: first, and behind the last.
    #[serde(default)]
    pub ranges: Vec<(Seq, Seq)>,
    /// How many events are lost.
    #[serde(default)]
    pub lost: u64,
    /// One sentence for the operator.
    pub text: String,
    /// The damaged bytes: where they were, where they are kept.
    #[serde(default)]
    pub evidence: serde_json::Value,
    /// When it was found.
    pub found_at: Micros,
    /// When an operator said that they have seen it.
    #[serde(default)]
    pub acknowledged_at: Option<Micros>,
}

impl Report {
    /// Records of a stream's log that are lost.
    #[must_use]
    pub fn of_log(stream: &str, mut ranges: Vec<(Seq, Seq)>, evidence: serde_json::Value) -> Self {
        let lost = ranges.iter().map(|(from, to)| to - from).sum();
        let (from, to) = (ranges.first().map(|r| r.0), ranges.last().map(|r| r.1));
        let last = to.map_or(0, |to| to - 1);
        let text = match (from, lost) {
            (Some(from), 1) => format!("log of {stream}: record {from} is lost"),
            (from, lost) => {
                let from = from.unwrap_or(0);
                format!("log of {stream}: {lost} records from {from} to {last} are lost")
            }
        };
        ranges.truncate(RANGES_MAX);
        let (what, stream) = ("log".to_owned(), Some(stream.to_owned()));
        let found_at = crate::time::now();
        Self { what, stream, from, to, ranges, lost, text, evidence, found_at, ..Self::default() }
    }

    /// A ledger that is older than what log or store have seen of it.
    #[must_use]
    pub fn of_old_ledger() -> Self {
        let text = "the ledger has gone back in time (deleted, or restored from a copy): what it \
                    lacks is learnt from the store, and nothing is lost by that";
        let (what, text) = ("ledger".to_owned(), text.to_owned());
        Self { what, text, found_at: crate::time::now(), ..Self::default() }
    }

    /// Whether that one says the same, and nobody has seen it yet.
    fn is_said(&self, other: &Self) -> bool {
        let is_news = other.acknowledged_at.is_none() && self.from.is_none();
        is_news && self.what == other.what && self.text == other.text
    }

    /// The file's name: the same loss has the same.
    fn file_name(&self) -> String {
        let stream = self.stream.as_deref().map_or(String::new(), |stream| format!("-{stream}"));
        let what = self.what.replace(' ', "-");
        match (self.from, self.to) {
            (Some(from), Some(to)) => format!("{what}{stream}-{from}-{to}.json"),
            _ => format!("{what}{stream}-{}.json", self.found_at),
        }
    }
}

/// A cheap handle to all reports of a data directory.
#[derive(Clone, Debug)]
pub struct Reports(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    dir: PathBuf,
    known: Mutex<Vec<(PathBuf, Report)>>,
    /// Nothing is written.
    in_memory: bool,
}

impl Reports {
    /// Reads the reports below that directory, which is made with the first one.
    #[must_use]
    pub fn open(dir: &Path) -> Self {
        let mut known = Vec::new();
        collect(dir, 3, &mut known);
        known.sort_by_key(|(_, report): &(_, Report)| report.found_at);
        Self::of(dir, known, false)
    }

    /// Reports of the simulation, which live as long as their process.
    #[cfg(test)]
    pub(crate) fn in_memory() -> Self {
        Self::of(Path::new(""), Vec::new(), true)
    }

    fn of(dir: &Path, known: Vec<(PathBuf, Report)>, in_memory: bool) -> Self {
        Self(Arc::new(Shared { dir: dir.to_owned(), known: Mutex::new(known), in_memory }))
    }

    /// Keeps a report, unless there is one of the same loss, and logs it.
    ///
    /// # Errors
    /// What the system said. The report is known to this process all the same, and is written
    /// when it is added again.
    pub fn add(&self, report: Report) -> io::Result<()> {
        let path = self.0.dir.join(report.file_name());
        let mut known = self.known();
        if known.iter().any(|(at, other)| at.exists() && report.is_said(other)) {
            return Ok(());
        }
        if !known.iter().any(|(at, _)| *at == path) {
            tracing::error!(report = %path.display(), lost = report.lost, "{}", report.text);
            known.push((path.clone(), report.clone()));
        } else if path.exists() {
            return Ok(());
        }
        if self.0.in_memory { Ok(()) } else { write(&path, &report) }
    }

    /// Those that nobody has acknowledged, oldest first.
    #[must_use]
    pub fn news(&self) -> Vec<Report> {
        let is_news = |report: &&Report| report.acknowledged_at.is_none();
        self.known().iter().map(|(_, report)| report).filter(is_news).cloned().collect()
    }

    /// Every one, oldest first.
    #[must_use]
    pub fn all(&self) -> Vec<Report> {
        self.known().iter().map(|(_, report)| report.clone()).collect()
    }

    /// Says that an operator has seen them all; returns how many were news.
    ///
    /// # Errors
    /// What the system said; those before it are acknowledged.
    pub fn acknowledge(&self) -> io::Result<u64> {
        let mut acknowledged = 0;
        for (path, report) in self.known().iter_mut() {
            if report.acknowledged_at.is_none() {
                let seen = Report { acknowledged_at: Some(crate::time::now()), ..report.clone() };
                write(path, &seen)?;
                *report = seen;
                acknowledged += 1;
            }
        }
        Ok(acknowledged)
    }

    fn known(&self) -> MutexGuard<'_, Vec<(PathBuf, Report)>> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn collect(dir: &Path, depth: u32, known: &mut Vec<(PathBuf, Report)>) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let (path, kind) = (entry.path(), entry.file_type());
        if kind.as_ref().is_ok_and(|kind| kind.is_dir()) && depth > 0 {
            collect(&path, depth - 1, known);
        } else if path.extension().is_some_and(|ending| ending == "json")
            && entry.metadata().is_ok_and(|facts| facts.len() <= REPORT_BYTES_MAX)
        {
            // A file that is no report is somebody else's.
            let report = std::fs::read(&path).ok().and_then(|b| serde_json::from_slice(&b).ok());
            known.extend(report.map(|report| (path, report)));
        }
    }
}

/// Writes a report whole or not at all.
fn write(path: &Path, report: &Report) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(dir)?;
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    serde_json::to_writer_pretty(&mut file, report)?;
    file.write_all(b"\n")?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_news_until_it_is_acknowledged_and_kept_after() {
        let dir = tempfile::tempdir().unwrap();
        let reports = Reports::open(dir.path());
        let lost = || Report::of_log("events", vec![(4, 7), (9, 10)], serde_json::Value::Null);
        reports.add(lost()).unwrap();
        reports.add(lost()).unwrap();
        assert_eq!(reports.news().len(), 1, "the same loss is one report");
        assert_eq!(reports.news()[0].text, "log of events: 4 records from 4 to 9 are lost");
        let reports = Reports::open(dir.path());
        assert_eq!((reports.news().len(), reports.acknowledge().unwrap()), (1, 1));
        let reports = Reports::open(dir.path());
        assert_eq!((reports.news().len(), reports.all().len()), (0, 1));
        reports.add(lost()).unwrap();
        assert_eq!(reports.news().len(), 0, "what was acknowledged is no news");
    }

    #[test]
    fn other_files_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("events")).unwrap();
        std::fs::write(dir.path().join("events/seg-00000.wal-8192-00000000"), [0; 10]).unwrap();
        std::fs::write(dir.path().join("notes.json"), "[1]").unwrap();
        assert!(Reports::open(dir.path()).all().is_empty());
        let named = Report { stream: Some("a".to_owned()), ..Report::default() };
        assert_eq!(named.file_name(), "-a-0.json");
    }
}
