//! A database that is not what was written: moved aside whole, with a report beside it.
//!
//! The database, its -wal and its -shm go together into a directory of their own below
//! `quarantine/`, so that a look at them later finds all there was.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::SqliteError;
use crate::damage::Report;

/// What was wrong with a database at the start, and where its files are now.
#[derive(Clone, Debug, PartialEq)]
pub struct Damage {
    /// The database's file name.
    pub database: String,
    /// What was wrong, as a sentence.
    pub why: String,
    /// The directory with its files and the report, `report.json`.
    pub quarantine: PathBuf,
    /// What has become of its content, as a part of a sentence.
    pub outcome: String,
    /// Rows that are lost for certain.
    pub lost: u64,
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let place = self.quarantine.file_name().unwrap_or_default().to_string_lossy();
        write!(f, "{} was damaged: {}; quarantine/{place} has it", self.database, self.outcome)
    }
}

/// Stands beside what is set aside until all that follows from it is done; says what was wrong.
const UNFINISHED: &str = "unfinished";

impl Damage {
    fn new(path: &Path, why: String, quarantine: PathBuf) -> Self {
        let database = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let outcome = "what it knew is learnt from the store again".to_owned();
        Self { database, why, quarantine, outcome, lost: 0 }
    }

    /// Moves a damaged database aside and reports it. It has to be [finished](Self::finish).
    pub(crate) fn set_aside(path: &Path, error: &SqliteError) -> Result<Self, SqliteError> {
        let moved = quarantine_dir(path).and_then(|quarantine| {
            let damage = Self::new(path, error.to_string(), quarantine);
            write(&damage.quarantine, UNFINISHED, damage.why.as_bytes())?;
            // Before anything is moved: what is set aside is never without its report.
            damage.report(json!({}))?;
            damage.take_files(path)?;
            Ok(damage)
        });
        let damage = moved.map_err(|e| SqliteError::io(path, e))?;
        tracing::error!(%error, quarantine = %damage.quarantine.display(),
            "a database is damaged; it was set aside and a new one begins");
        Ok(damage)
    }

    /// What an earlier process had begun to set aside, and did not live to finish.
    pub(crate) fn unfinished(path: &Path) -> Result<Option<Self>, SqliteError> {
        let fail = |error| SqliteError::io(path, error);
        let entries = match fs::read_dir(parent(path).join("quarantine")) {
            // Something else of that name has nothing of ours in it.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                return Ok(None);
            }
            entries => entries.map_err(fail)?,
        };
        let stem = format!("{}-", path.file_stem().unwrap_or_default().to_string_lossy());
        for entry in entries {
            let dir = entry.map_err(fail)?.path();
            let name = dir.file_name().unwrap_or_default().to_string_lossy();
            let Ok(why) = fs::read_to_string(dir.join(UNFINISHED)) else { continue };
            if !name.starts_with(&stem) {
                continue;
            }
            let damage = Self::new(path, why, dir.clone());
            // The database goes last: once it is there, what stands in its place is a new one.
            if !dir.join(&damage.database).exists() {
                damage.take_files(path).map_err(fail)?;
            }
            return Ok(Some(damage));
        }
        Ok(None)
    }

    /// Nothing more has to be done.
    pub(crate) fn finish(&self) -> Result<(), SqliteError> {
        let removed = fs::remove_file(self.quarantine.join(UNFINISHED))
            .and_then(|()| File::open(&self.quarantine)?.sync_all());
        removed.map_err(|error| SqliteError::io(&self.quarantine, error))
    }

    /// Writes the report, in the place of an earlier one.
    pub(crate) fn report(&self, found: Value) -> io::Result<()> {
        let report = Report {
            what: self.database.clone(),
            text: self.to_string(),
            lost: self.lost,
            evidence: json!({"why": self.why, "found": found}),
            found_at: crate::time::now(),
            ..Report::default()
        };
        let text = serde_json::to_vec_pretty(&report).map_err(io::Error::other)?;
        write(&self.quarantine, "report.json", &text)
    }

    fn take_files(&self, path: &Path) -> io::Result<()> {
        let target = self.quarantine.join(&self.database);
        // The database goes last: while it stands, the next start finds the damage again.
        for suffix in ["-wal", "-shm", ""] {
            match fs::rename(with_suffix(path, suffix), with_suffix(&target, suffix)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
        }
        File::open(&self.quarantine)?.sync_all()?;
        File::open(parent(path))?.sync_all()
    }
}

/// Makes a new directory below `quarantine`, beside the database, named after it and the time.
fn quarantine_dir(path: &Path) -> io::Result<PathBuf> {
    let below = parent(path).join("quarantine");
    fs::create_dir_all(&below)?;
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let stamp = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%S%.6fZ");
    for attempt in 0.. {
        let name = if attempt == 0 {
            format!("{stem}-{stamp}")
        } else {
            format!("{stem}-{stamp}-{attempt}")
        };
        match fs::create_dir(below.join(&name)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => {
                other?;
                File::open(&below)?.sync_all()?;
                File::open(parent(path))?.sync_all()?;
                return Ok(below.join(name));
            }
        }
    }
    Err(io::Error::other("no name is free"))
}

/// Writes a file whole and durably.
pub(crate) fn write(directory: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(directory.join(name))?;
    File::open(directory)?.sync_all()
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// The path with something behind it, as SQLite names its side files.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
