//! Counts of loads, and of what has none.

use std::sync::atomic::Ordering::Relaxed;

use rusqlite::params;

use super::Ledger;
use crate::event::Micros;
use crate::sqlite::SqliteError;

/// What waits for the warehouse.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Objects that are not loaded.
    pub objects: u64,
    /// Bytes of those.
    pub bytes: u64,
    /// How long the oldest of them waits, in the time that the service runs.
    pub age_us: Micros,
    /// Loads that have failed for good.
    pub failed: u64,
}

/// What a table's loads have used up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// Jobs.
    pub jobs: u64,
    /// When the last of them was planned.
    pub planned_at: Option<Micros>,
}

impl Ledger {
    /// Whether what is stored is to be loaded somewhere.
    #[must_use]
    pub fn serves_a_warehouse(&self) -> bool {
        self.serves_warehouse.load(Relaxed)
    }

    /// What the loads of a table have used up that changed since then: all of their attempts, of
    /// which some may be older.
    ///
    /// # Errors
    /// What SQLite said.
    pub fn spent(
        &self,
        dataset: String,
        table: String,
        since: Micros,
    ) -> Result<Spent, SqliteError> {
        // What a clock that had jumped ahead has left counts for nothing.
        let now = crate::time::now();
        self.read(move |c| {
            // The index begins with the state.
            c.prepare_cached(
                "SELECT coalesce(sum(attempt), 0), max(planned_at) FROM loads
                 WHERE state IN ('open', 'loaded', 'split', 'failed', 'dismissed')
                     AND changed_at BETWEEN ?3 AND ?4 AND dataset = ?1 AND tab = ?2",
            )?
            .query_row(params![dataset, table, since, now], |row| {
                Ok(Spent { jobs: row.get::<_, i64>(0)? as u64, planned_at: row.get(1)? })
            })
        })
    }

    /// What waits for the warehouse.
    ///
    /// # Errors
    /// What SQLite said.
    pub fn waiting(&self) -> Result<Waiting, SqliteError> {
        let now = self.time.now();
        self.read(move |c| {
            let sums = |sql: &str| {
                c.prepare_cached(sql)?.query_row([], |row| {
                    let count = |column| row.get::<_, Option<i64>>(column);
                    Ok((count(0)?.unwrap_or(0), count(1)?.unwrap_or(0), count(2)?))
                })
            };
            let (objects, bytes, since) = sums(
                "SELECT count(*), sum(bytes), min(stored_at) FROM batches
                 WHERE state = 'stored' AND load IS NULL",
            )?;
            let (open, open_bytes, open_since) = sums(
                "SELECT sum(objects), sum(bytes),
                     (SELECT min(stored_at) FROM batches
                      WHERE load IS NOT NULL
                          AND substr(load, 1, 16) IN (SELECT id FROM loads WHERE state = 'open'))
                 FROM loads WHERE state = 'open'",
            )?;
            let (doubted, doubted_bytes, _) = sums(
                "SELECT count(*), sum(bytes), NULL FROM batches
                 WHERE substr(load, 1, 16) = zeroblob(16) AND load IS NOT NULL",
            )?;
            let (failed, ..) = sums("SELECT count(*), 0, 0 FROM loads WHERE state = 'failed'")?;
            let since = [since, open_since].into_iter().flatten().min();
            Ok(Waiting {
                objects: (objects + open + doubted) as u64,
                bytes: (bytes + open_bytes + doubted_bytes) as u64,
                age_us: since.map_or(0, |since| now.saturating_sub(since).max(0)),
                failed: failed as u64,
            })
        })
    }
}
