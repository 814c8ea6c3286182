//! The audit: every operator's command that changed letters, with its outcome.
//!
//! An entry is written by the transaction that does what it says.

use rusqlite::params;

use super::database::Database;
use super::letter::{AuditEntry, LetterFilter};
use super::row::json;
use crate::time::now;

/// Entries that are shown at most.
const AUDIT_MAX: u32 = 1_000;

impl Database {
    /// Begins an entry; `audit_letters` adds what the command changed.
    pub(super) fn audit_command(
        &self,
        what: &str,
        filter: &LetterFilter,
        by: &str,
        note: Option<&str>,
    ) -> rusqlite::Result<i64> {
        self.connection
            .prepare_cached(
                "INSERT INTO audit (at, what, by, filter, note, letters) \
                 VALUES (?1, ?2, ?3, ?4, ?5, 0) RETURNING id",
            )?
            .query_row(params![now(), what, by, json(filter)?, note], |row| row.get(0))
    }

    /// Adds letters that a command has changed.
    pub(super) fn audit_letters(&self, entry: i64, letters: u64) -> rusqlite::Result<()> {
        self.connection
            .prepare_cached("UPDATE audit SET letters = letters + ?2 WHERE id = ?1")?
            .execute(params![entry, letters as i64])
            .map(drop)
    }

    /// Writes a replay's outcome into its audit entry.
    pub(super) fn finish_replay(
        &self,
        replay: i64,
        replayed: u64,
        refused: u64,
    ) -> rusqlite::Result<()> {
        self.connection
            .prepare_cached(
                "UPDATE audit SET finished_at = ?2, replayed = ?3, refused = ?4 WHERE id = ?1",
            )?
            .execute(params![replay, now(), replayed as i64, refused as i64])
            .map(drop)
    }

    /// The last commands, newest first.
    pub(super) fn audit(&self, limit: u32) -> rusqlite::Result<Vec<AuditEntry>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT id, at, what, by, filter, note, letters, finished_at, replayed, refused \
             FROM audit ORDER BY id DESC LIMIT ?1",
        )?;
        let count = |value: i64| u64::try_from(value).unwrap_or(0);
        let rows = statement.query_map([limit.min(AUDIT_MAX)], |row| {
            Ok(AuditEntry {
                id: row.get(0)?,
                at: row.get(1)?,
                what: row.get(2)?,
                by: row.get(3)?,
                filter: row.get(4)?,
                note: row.get(5)?,
                letters: count(row.get(6)?),
                finished_at: row.get(7)?,
                replayed: row.get::<_, Option<i64>>(8)?.map(count),
                refused: row.get::<_, Option<i64>>(9)?.map(count),
            })
        })?;
        rows.collect()
    }
}
