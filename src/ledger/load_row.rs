//! A load's row: what is written of it, and what is believed when it is read.

use std::fmt;
use std::str::FromStr;

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};

use crate::event::Micros;
use crate::sqlite::{Checksum, damaged};

/// What [`Load::read`] reads, in this order.
pub(super) const LOAD: &str = "id, dataset, tab, attempt, state, objects, rows, bytes, object, \
     error, parent, planned_at, changed_at, crc";

/// A load's identity: it follows from its table and from the batches that it loads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LoadId(pub u128);

impl fmt::Display for LoadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl From<LoadId> for String {
    fn from(id: LoadId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for LoadId {
    type Error = NotALoadId;

    fn try_from(text: String) -> Result<Self, NotALoadId> {
        text.parse()
    }
}

/// Text that is no load's number.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a load's id: 32 digits of 0-9 and a-f")]
pub struct NotALoadId(String);

impl FromStr for LoadId {
    type Err = NotALoadId;

    fn from_str(text: &str) -> Result<Self, NotALoadId> {
        let right = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let id = right.then(|| u128::from_str_radix(text, 16).ok()).flatten();
        id.map(Self).ok_or_else(|| NotALoadId(text.chars().take(40).collect()))
    }
}

/// What has become of a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoadState {
    /// Its job is about to be submitted, or runs, or its outcome is not known yet.
    Open,
    /// The warehouse has every row of it.
    Loaded,
    /// Its job failed, nothing of it landed, and other loads part what it had.
    Split,
    /// It failed for good, nothing of it landed, and an operator may retry or dismiss it.
    Failed,
    /// It failed, nothing of it landed, and an operator has said that nothing will.
    Dismissed,
}

impl LoadState {
    /// Every state.
    pub const ALL: [Self; 5] =
        [Self::Open, Self::Loaded, Self::Split, Self::Failed, Self::Dismissed];

    /// Its name in the ledger, on the command line and in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Loaded => "loaded",
            Self::Split => "split",
            Self::Failed => "failed",
            Self::Dismissed => "dismissed",
        }
    }

    /// The state of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }
}

/// A load of objects into one table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// Its identity.
    pub id: LoadId,
    /// The dataset.
    pub dataset: String,
    /// The table in it.
    pub table: String,
    /// Counts jobs, from 1: a new one only after the one before has definitely failed.
    pub attempt: u32,
    /// What has become of it.
    pub state: LoadState,
    /// How many objects it loads.
    pub objects: u64,
    /// Rows of those.
    pub rows: u64,
    /// Bytes of those.
    pub bytes: u64,
    /// The first of its objects.
    pub object: String,
    /// Why the last job failed.
    pub error: Option<String>,
    /// The load that it is a part of.
    pub parent: Option<LoadId>,
    /// When it was planned.
    pub planned_at: Micros,
    /// When its state or attempt changed.
    pub changed_at: Micros,
}

impl Load {
    /// Whether it waits for an operator, who may retry or dismiss it.
    #[must_use]
    pub fn is_failed(&self) -> bool {
        self.state == LoadState::Failed
    }

    /// Whether it may be tried again: also one that was dismissed, by mistake or too early.
    #[must_use]
    pub fn may_be_retried(&self) -> bool {
        matches!(self.state, LoadState::Failed | LoadState::Dismissed)
    }

    /// What the id of every job of that dataset begins with.
    #[must_use]
    pub fn job_prefix(dataset: &str) -> String {
        format!("eventkit_{dataset}_")
    }

    /// The id of its present attempt's job.
    #[must_use]
    pub fn job(&self) -> String {
        format!("{}{}_a{}", Self::job_prefix(&self.dataset), self.id, self.attempt)
    }

    /// The load and the attempt of a job of that dataset; `None` where it is none of ours.
    #[must_use]
    pub fn of_job(dataset: &str, job: &str) -> Option<(LoadId, u32)> {
        let rest = job.strip_prefix(&Self::job_prefix(dataset))?;
        let (id, attempt) = rest.split_once("_a")?;
        Some((id.parse().ok()?, attempt.parse().ok()?))
    }

    fn crc(&self) -> u32 {
        Checksum::default()
            .bytes(Some(&self.id.0.to_be_bytes()))
            .text(Some(&self.dataset))
            .text(Some(&self.table))
            .number(i64::from(self.attempt))
            .text(Some(self.state.as_str()))
            .number(self.objects as i64)
            .number(self.rows as i64)
            .number(self.bytes as i64)
            .text(Some(&self.object))
            .text(self.error.as_deref())
            .bytes(self.parent.map(|id| id.0.to_be_bytes()).as_ref().map(<[u8; 16]>::as_slice))
            .number(self.planned_at)
            .number(self.changed_at)
            .value()
    }

    /// The row without its checksum; `None` where a column is not even of its kind.
    fn columns(row: &Row<'_>) -> Option<Self> {
        let count = |column| row.get::<_, i64>(column).ok().map(|count| count as u64);
        let parent: Option<[u8; 16]> = row.get(10).ok()?;
        Some(Self {
            id: LoadId(u128::from_be_bytes(row.get(0).ok()?)),
            dataset: row.get(1).ok()?,
            table: row.get(2).ok()?,
            attempt: row.get(3).ok()?,
            state: LoadState::from_name(row.get_ref(4).ok()?.as_str().ok()?)?,
            objects: count(5)?,
            rows: count(6)?,
            bytes: count(7)?,
            object: row.get(8).ok()?,
            error: row.get(9).ok()?,
            parent: parent.map(|id| LoadId(u128::from_be_bytes(id))),
            planned_at: row.get(11).ok()?,
            changed_at: row.get(12).ok()?,
        })
    }

    /// The row, where it is what was written.
    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Self::columns(row)
            .filter(|read| row.get::<_, i64>(13).is_ok_and(|crc| crc == i64::from(read.crc())))
            .ok_or_else(|| damaged("a load's row"))
    }

    pub(super) fn find(c: &Connection, id: LoadId) -> rusqlite::Result<Option<Self>> {
        c.prepare_cached(&format!("SELECT {LOAD} FROM loads WHERE id = ?1"))?
            .query_row([id.0.to_be_bytes()], Self::read)
            .optional()
    }

    /// Writes the row, in the place of one of the same identity that is there.
    pub(super) fn write(&self, c: &Connection) -> rusqlite::Result<()> {
        c.prepare_cached(&format!(
            "INSERT OR REPLACE INTO loads ({LOAD})
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)"
        ))?
        .execute(params![
            self.id.0.to_be_bytes(),
            self.dataset,
            self.table,
            self.attempt,
            self.state.as_str(),
            self.objects as i64,
            self.rows as i64,
            self.bytes as i64,
            self.object,
            self.error,
            self.parent.map(|id| id.0.to_be_bytes()),
            self.planned_at,
            self.changed_at,
            self.crc(),
        ])
        .map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jobs_id_says_its_dataset_its_load_and_its_attempt() {
        let load = Load {
            id: LoadId(0xab),
            dataset: "raw_a1".to_owned(),
            table: "events".to_owned(),
            attempt: 3,
            state: LoadState::Open,
            objects: 1,
            rows: 1,
            bytes: 1,
            object: "o".to_owned(),
            error: None,
            parent: None,
            planned_at: 0,
            changed_at: 0,
        };
        assert_eq!(load.job(), "eventkit_raw_a1_000000000000000000000000000000ab_a3");
        assert_eq!(Load::of_job("raw_a1", &load.job()), Some((LoadId(0xab), 3)));
        for other in ["eventkit_raw_00_a1", "bquxjob_1", "eventkit_raw_a1_000_a1"] {
            assert_eq!(Load::of_job("raw_a1", other), None, "{other}");
        }
        assert!("AB".parse::<LoadId>().is_err());
    }
}
