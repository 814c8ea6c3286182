//! The message ids of what is stored, and when a batch is forgotten.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use rusqlite::params;

use super::Ledger;
use super::row::{BATCH, BatchRow, IDS, unseal};
use crate::dedupe::IdHash;
use crate::event::{Micros, StreamName};
use crate::sqlite::SqliteError;

/// Batches that are forgotten at a time.
const FORGOTTEN_MAX: i64 = 5_000;

impl Ledger {
    /// The message ids of batches that were stored within that time, the newest `ids_max` of them,
    /// oldest first. Only time in which the service runs makes a batch older.
    ///
    /// # Errors
    /// What SQLite said.
    pub fn ids(
        &self,
        stream: &StreamName,
        within: Duration,
        ids_max: usize,
    ) -> Result<Vec<IdHash>, SqliteError> {
        let (stream, since) = (stream.clone(), self.before(within));
        self.read(move |c| {
            let mut batches = c.prepare(&format!(
                "SELECT {BATCH}, seqs, ids FROM batches
                 WHERE stream = ?1 AND stored_at >= ?2 AND ids IS NOT NULL
                 ORDER BY stored_at DESC"
            ))?;
            let mut rows = batches.query(params![stream.as_str(), since])?;
            let mut ids = Vec::new();
            while let Some(row) = rows.next()? {
                let batch = BatchRow::read(row)?;
                let Some(sealed) = row.get_ref(IDS)?.as_blob_or_null().unwrap_or_default() else {
                    continue;
                };
                let (hashes, _) = unseal(batch.id, sealed)?.as_chunks::<16>();
                ids.extend(hashes.iter().rev().map(|hash| IdHash::from_le_bytes(*hash)));
                if ids.len() >= ids_max {
                    break;
                }
            }
            ids.reverse();
            Ok(ids)
        })
    }

    /// Forgets message ids that were stored longer ago, and all but the newest `ids_max` or so;
    /// and batches that are as old and below the stream's cursor, but for the newest, and for those
    /// that a warehouse does not have yet.
    ///
    /// # Errors
    /// What SQLite said.
    pub fn forget(
        &self,
        stream: &StreamName,
        within: Duration,
        ids_max: usize,
    ) -> Result<(), SqliteError> {
        let (stream, before) = (stream.clone(), self.before(within));
        let keeps = self.serves_warehouse.load(Relaxed);
        self.write(move |c, _| {
            c.execute(
                "UPDATE batches SET ids = NULL WHERE id IN (
                     SELECT id FROM (
                         SELECT id, stored_at,
                                sum(rows) OVER (ORDER BY stored_at DESC, id) - rows AS newer
                         FROM batches WHERE stream = ?1 AND ids IS NOT NULL
                             AND stored_at IS NOT NULL)
                     WHERE newer > ?3 OR stored_at < ?2)",
                params![stream.as_str(), before, ids_max as i64],
            )?;
            // What was replaced was never stored: it is as old as those it was planned with.
            c.execute(
                "DELETE FROM batches
                 WHERE id IN (SELECT id FROM batches WHERE stream = ?1 ORDER BY last_seq LIMIT ?3)
                     AND state <> 'planned' AND seqs IS NULL AND ids IS NULL
                     AND ifnull(stored_at, -1) < ?2
                     AND last_seq < (SELECT max(last_seq) FROM batches WHERE stream = ?1)
                     AND last_seq < (SELECT next_seq FROM cursors WHERE stream = ?1)
                     AND (NOT ?4 OR state = 'replaced' OR EXISTS (
                         SELECT 1 FROM loads
                         WHERE id = substr(batches.load, 1, 16)
                             AND loads.state IN ('loaded', 'dismissed')))",
                params![stream.as_str(), before, FORGOTTEN_MAX, keeps],
            )
            .map(drop)
        })
    }

    /// The ledger's time, that long ago.
    fn before(&self, time: Duration) -> Micros {
        self.time.now().saturating_sub(Micros::try_from(time.as_micros()).unwrap_or(Micros::MAX))
    }
}
