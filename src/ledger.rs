//! The ledger: what was planned, stored and replayed (`ledger.db`).
//!
//! A batch is planned before it is put and committed after; the commit moves the stream's cursor
//! in the same transaction. After a crash the ledger says from where to read the log again, which
//! positions above that are done already, and which plans have to be finished under their own
//! names.

use std::path::Path;

use roaring::RoaringTreemap;
use rusqlite::{Connection, OptionalExtension, Row, params};
use rusqlite_migration::M;

use crate::dedupe::{IdHash, IdKey};
use crate::event::{LetterId, Micros, Seq, StreamName};
use crate::mutant::{self, Mutant};
use crate::sqlite::{Sqlite, SqliteError};
use crate::store::{BatchId, Plan, Stored};

const MIGRATIONS: &[M<'static>] = &[M::up(include_str!("../migrations/ledger/0001_ledger.sql"))];

/// A cheap handle to the ledger.
#[derive(Clone)]
pub struct Ledger(Sqlite);

/// From where a stream goes on after a restart.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Progress {
    /// Everything below is stored or dead-lettered; 0 for a log the ledger has never seen.
    pub next_seq: Seq,
    /// Positions above that are in stored batches.
    pub stored: RoaringTreemap,
    /// Plans that were not committed.
    pub open: Vec<Plan>,
}

/// One batch that its store has.
#[derive(Clone, Debug)]
pub struct Commit {
    /// The batch.
    pub id: BatchId,
    /// Where it is.
    pub stored: Stored,
    /// The dead letters that its events came from.
    pub letters: Vec<LetterId>,
}

impl Ledger {
    /// Opens or creates the ledger.
    ///
    /// # Errors
    /// As [`Sqlite::open`].
    pub fn open(path: &Path) -> Result<Self, SqliteError> {
        Sqlite::open(path, MIGRATIONS).map(Self)
    }

    /// A ledger of the simulation.
    #[cfg(test)]
    pub(crate) fn in_memory(machine: crate::sim::Machine) -> Self {
        Self(Sqlite::in_memory(MIGRATIONS, machine))
    }

    /// From where to read that stream's log.
    ///
    /// # Errors
    /// What SQLite said, or which plan can't be read.
    pub fn progress(&self, stream: &StreamName, log_uuid: u128) -> Result<Progress, SqliteError> {
        let stream = stream.clone();
        self.0.call_blocking(move |c| progress(c, &stream, log_uuid))
    }

    /// The position above every one that this ledger knows of that stream, in whatever log: also
    /// a log that has lost its identity must not use a position twice.
    ///
    /// # Errors
    /// What SQLite said.
    pub fn floor(&self, stream: &StreamName) -> Result<Seq, SqliteError> {
        let stream = stream.clone();
        self.0.call_blocking(move |c| {
            let floor: i64 = c.query_row(
                "SELECT max(
                     ifnull((SELECT max(next_seq) FROM cursors WHERE stream = ?1), 0),
                     ifnull((SELECT max(last_seq) + 1 FROM batches WHERE stream = ?1), 0))",
                [stream.as_str()],
                |row| row.get(0),
            )?;
            Ok(floor as Seq)
        })
    }

    /// The highest number of a letter whose event is stored: a new error store counts on from
    /// there, so that no other letter is taken for it.
    ///
    /// # Errors
    /// What SQLite said.
    pub fn last_letter(&self) -> Result<LetterId, SqliteError> {
        self.0.call_blocking(|c| {
            c.query_row("SELECT ifnull(max(letter), 0) FROM replayed", [], |row| row.get(0))
        })
    }

    /// The secret that message ids are hashed with; made with the ledger.
    ///
    /// # Errors
    /// What SQLite said.
    pub fn id_key(&self) -> Result<IdKey, SqliteError> {
        self.0.call_blocking(|c| {
            let key =
                c.query_row("SELECT value FROM secrets WHERE name = 'ids'", [], |r| r.get(0))?;
            Ok(IdKey(key))
        })
    }

    /// The message ids of stored batches since then, the newest `ids_max` of them, oldest first.
    ///
    /// # Errors
    /// What SQLite said.
    pub fn ids(
        &self,
        stream: &StreamName,
        since: Micros,
        ids_max: usize,
    ) -> Result<Vec<IdHash>, SqliteError> {
        let stream = stream.clone();
        self.0.call_blocking(move |c| {
            let mut batches = c.prepare(
                "SELECT ids FROM batches
                 WHERE stream = ?1 AND stored_at >= ?2 AND ids IS NOT NULL
                 ORDER BY stored_at DESC",
            )?;
            let mut rows = batches.query(params![stream.as_str(), since])?;
            let mut ids = Vec::new();
            while let Some(row) = rows.next()? {
                let (hashes, _) = row.get_ref(0)?.as_blob()?.as_chunks::<16>();
                ids.extend(hashes.iter().rev().map(|hash| IdHash::from_le_bytes(*hash)));
                if ids.len() >= ids_max {
                    break;
                }
            }
            ids.reverse();
            Ok(ids)
        })
    }

    /// Forgets message ids that were stored before, and all but the newest `ids_max` or so.
    ///
    /// # Errors
    /// What SQLite said.
    pub fn forget_ids(
        &self,
        stream: &StreamName,
        before: Micros,
        ids_max: usize,
    ) -> Result<(), SqliteError> {
        let stream = stream.clone();
        self.0.call_blocking(move |c| {
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
            Ok(())
        })
    }

    /// Makes plans durable. Nothing may be put before.
    ///
    /// # Errors
    /// What SQLite said; then none of them is planned.
    pub fn plan(&self, plans: Vec<Plan>) -> Result<(), SqliteError> {
        self.0.call_blocking(move |c| plans.iter().try_for_each(|plan| insert(c, plan)))
    }

    /// Replaces a plan that its store refused by plans that part what is left of it.
    ///
    /// # Errors
    /// What SQLite said; then the plan stands as it was.
    pub fn replace(&self, parent: BatchId, children: Vec<Plan>) -> Result<(), SqliteError> {
        self.0.call_blocking(move |c| {
            c.prepare_cached(
                "UPDATE batches SET state = 'replaced', seqs = NULL, ids = NULL WHERE id = ?1",
            )?
            .execute([parent.as_bytes()])?;
            children.iter().try_for_each(|plan| insert(c, plan))
        })
    }

    /// Records that batches are stored, and moves the stream's cursor.
    ///
    /// # Errors
    /// What SQLite said; then neither happened.
    pub fn commit(
        &self,
        stream: &StreamName,
        log_uuid: u128,
        commits: Vec<Commit>,
        next_seq: Seq,
    ) -> Result<(), SqliteError> {
        let stream = stream.clone();
        self.0.call_blocking(move |c| {
            commits.iter().try_for_each(|commit| store(c, commit))?;
            set_cursor(c, &stream, log_uuid, next_seq)
        })
    }

    /// Which of these letters' events are stored.
    ///
    /// # Errors
    /// What SQLite said.
    pub fn replayed(&self, letters: Vec<LetterId>) -> Result<Vec<LetterId>, SqliteError> {
        self.0.call_blocking(move |c| {
            let mut find = c.prepare_cached("SELECT 1 FROM replayed WHERE letter = ?1")?;
            let mut stored = Vec::new();
            for letter in letters {
                if find.exists([letter])? {
                    stored.push(letter);
                }
            }
            Ok(stored)
        })
    }

    /// Finishes what waits and ends the ledger's thread.
    pub fn close(&self) {
        self.0.close();
    }
}

fn insert(c: &Connection, plan: &Plan) -> rusqlite::Result<()> {
    let mut seqs = Vec::with_capacity(plan.seqs.serialized_size());
    plan.seqs
        .serialize_into(&mut seqs)
        .map_err(|e| rusqlite::Error::ToSqlConversionFailure(Box::new(e)))?;
    c.prepare_cached(
        "INSERT INTO batches (id, stream, log_uuid, partition, state, object, rows, first_seq,
             last_seq, seqs, digest, first_received_at, last_received_at, planned_at, ids)
         VALUES (?1, ?2, ?3, ?4, 'planned', ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
    )?
    .execute(params![
        plan.id.as_bytes(),
        plan.stream.as_str(),
        plan.log_uuid.to_be_bytes(),
        plan.partition,
        plan.object,
        plan.seqs.len() as i64,
        plan.seqs.min().unwrap_or(0) as i64,
        plan.seqs.max().unwrap_or(0) as i64,
        seqs,
        plan.digest.to_be_bytes(),
        plan.received.0,
        plan.received.1,
        crate::time::now(),
        plan.ids.iter().flat_map(|id| id.to_le_bytes()).collect::<Vec<u8>>(),
    ])?;
    if mutant::active(Mutant::DedupInsertEarly) {
        c.execute("UPDATE batches SET stored_at = planned_at WHERE id = ?1", [plan.id.as_bytes()])?;
    }
    Ok(())
}

fn store(c: &Connection, commit: &Commit) -> rusqlite::Result<()> {
    c.prepare_cached(
        "UPDATE batches SET state = 'stored', object = ?2, bytes = ?3, stored_at = ?4
         WHERE id = ?1",
    )?
    .execute(params![
        commit.id.as_bytes(),
        commit.stored.object,
        commit.stored.bytes as i64,
        crate::time::now(),
    ])?;
    let mut replayed =
        c.prepare_cached("INSERT OR IGNORE INTO replayed (letter, batch) VALUES (?1, ?2)")?;
    for letter in &commit.letters {
        replayed.execute(params![letter, commit.id.as_bytes()])?;
    }
    Ok(())
}

fn set_cursor(
    c: &Connection,
    stream: &StreamName,
    log_uuid: u128,
    next_seq: Seq,
) -> rusqlite::Result<()> {
    c.prepare_cached(
        "INSERT INTO cursors (stream, log_uuid, next_seq) VALUES (?1, ?2, ?3)
         ON CONFLICT (stream) DO UPDATE SET log_uuid = ?2, next_seq = ?3",
    )?
    .execute(params![stream.as_str(), log_uuid.to_be_bytes(), next_seq as i64])?;
    // What the cursor has passed is never asked for again.
    c.prepare_cached(
        "UPDATE batches SET seqs = NULL
         WHERE stream = ?1 AND last_seq < ?2 AND state = 'stored' AND seqs IS NOT NULL",
    )?
    .execute(params![stream.as_str(), next_seq as i64])?;
    Ok(())
}

fn progress(c: &Connection, stream: &StreamName, log_uuid: u128) -> rusqlite::Result<Progress> {
    let log = log_uuid.to_be_bytes();
    let next_seq: Option<i64> = c
        .query_row(
            "SELECT next_seq FROM cursors WHERE stream = ?1 AND log_uuid = ?2",
            params![stream.as_str(), log],
            |row| row.get(0),
        )
        .optional()?;
    let mut progress = Progress { next_seq: next_seq.unwrap_or(0) as Seq, ..Progress::default() };
    let mut stored = c.prepare(
        "SELECT seqs FROM batches
         WHERE stream = ?1 AND log_uuid = ?2 AND state = 'stored' AND last_seq >= ?3
           AND seqs IS NOT NULL",
    )?;
    let mut rows = stored.query(params![stream.as_str(), log, progress.next_seq as i64])?;
    while let Some(row) = rows.next()? {
        progress.stored |= read_seqs(row, 0)?;
    }
    let mut open = c.prepare(
        "SELECT id, partition, object, seqs, digest, first_received_at, last_received_at
         FROM batches WHERE stream = ?1 AND log_uuid = ?2 AND state = 'planned' ORDER BY id",
    )?;
    let plans = open.query_map(params![stream.as_str(), log], |row| {
        Ok(Plan {
            id: BatchId::from_bytes(row.get(0)?),
            stream: stream.clone(),
            log_uuid,
            partition: row.get(1)?,
            object: row.get(2)?,
            seqs: read_seqs(row, 3)?,
            ids: Vec::new(),
            digest: u128::from_be_bytes(row.get(4)?),
            received: (row.get::<_, Micros>(5)?, row.get::<_, Micros>(6)?),
        })
    })?;
    progress.open = plans.collect::<rusqlite::Result<_>>()?;
    Ok(progress)
}

fn read_seqs(row: &Row<'_>, column: usize) -> rusqlite::Result<RoaringTreemap> {
    let bytes = row.get_ref(column)?.as_blob()?;
    RoaringTreemap::deserialize_from(bytes).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(
            column,
            rusqlite::types::Type::Blob,
            Box::new(error),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(id: u128, seqs: impl IntoIterator<Item = Seq>) -> Plan {
        Plan {
            id: BatchId::from_u128(id),
            stream: StreamName::new("events").unwrap(),
            log_uuid: 5,
            partition: 3,
            object: format!("object-{id}"),
            seqs: seqs.into_iter().collect(),
            ids: Vec::new(),
            digest: u128::MAX - id,
            received: (-1, 2),
        }
    }

    fn commit(id: u128, letters: Vec<LetterId>) -> Commit {
        let stored = Stored { object: format!("object-{id}"), bytes: 10 };
        Commit { id: BatchId::from_u128(id), stored, letters }
    }

    #[test]
    fn a_restart_learns_the_cursor_what_is_stored_above_it_and_the_open_plans() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger.db");
        let ledger = Ledger::open(&path).unwrap();
        let events = StreamName::new("events").unwrap();
        assert_eq!(ledger.progress(&events, 5).unwrap(), Progress::default());
        let plans = vec![plan(1, [1, 3, 4]), plan(2, [2, 6]), plan(3, [5, 9])];
        ledger.plan(plans).unwrap();
        ledger.commit(&events, 5, vec![commit(1, vec![]), commit(3, vec![77])], 2).unwrap();
        ledger.close();
        let ledger = Ledger::open(&path).unwrap();
        let progress = ledger.progress(&events, 5).unwrap();
        assert_eq!(progress.next_seq, 2);
        assert_eq!(progress.stored.iter().collect::<Vec<_>>(), [1, 3, 4, 5, 9]);
        assert_eq!(progress.open, [plan(2, [2, 6])]);
        assert_eq!(ledger.replayed(vec![76, 77]).unwrap(), [77]);
        ledger.commit(&events, 5, vec![commit(2, vec![])], 7).unwrap();
        let others = StreamName::new("others").unwrap();
        assert_eq!((ledger.floor(&events).unwrap(), ledger.floor(&others).unwrap()), (10, 0));
        assert_eq!(ledger.last_letter().unwrap(), 77);
        let progress = ledger.progress(&events, 5).unwrap();
        assert_eq!((progress.next_seq, progress.open.len()), (7, 0));
        assert_eq!(progress.stored.iter().collect::<Vec<_>>(), [5, 9]);
    }

    #[test]
    fn the_ids_of_stored_batches_are_kept_newest_first_until_they_are_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(&dir.path().join("ledger.db")).unwrap();
        let events = StreamName::new("events").unwrap();
        for id in 1..=4 {
            let seq = id as Seq;
            let plan = Plan { ids: vec![10 * id, 10 * id + 1], ..plan(id, [2 * seq, 2 * seq + 1]) };
            ledger.plan(vec![plan]).unwrap();
            if id < 4 {
                ledger.commit(&events, 5, vec![commit(id, vec![])], 0).unwrap();
            }
        }
        assert_eq!(ledger.ids(&events, 0, 100).unwrap(), [10, 11, 20, 21, 30, 31]);
        assert_eq!(ledger.ids(&events, 0, 3).unwrap(), [20, 21, 30, 31]);
        ledger.forget_ids(&events, 0, 2).unwrap();
        assert_eq!(ledger.ids(&events, 0, 100).unwrap(), [20, 21, 30, 31]);
        ledger.forget_ids(&events, Micros::MAX, 100).unwrap();
        assert_eq!(ledger.ids(&events, 0, 100).unwrap(), []);
        assert_eq!(ledger.id_key().unwrap(), ledger.id_key().unwrap());
    }

    #[test]
    fn another_log_of_the_same_stream_starts_anew() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(&dir.path().join("ledger.db")).unwrap();
        let events = StreamName::new("events").unwrap();
        ledger.plan(vec![plan(1, [1])]).unwrap();
        ledger.commit(&events, 5, vec![], 1).unwrap();
        assert_eq!(ledger.progress(&events, 6).unwrap(), Progress::default());
    }

    #[test]
    fn a_refused_plan_is_replaced_by_its_parts() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(&dir.path().join("ledger.db")).unwrap();
        ledger.plan(vec![plan(1, [1, 2, 3])]).unwrap();
        let parent = BatchId::from_u128(1);
        ledger.replace(parent, vec![plan(2, [1]), plan(3, [3])]).unwrap();
        let open = ledger.progress(&StreamName::new("events").unwrap(), 5).unwrap().open;
        assert_eq!(open, [plan(2, [1]), plan(3, [3])]);
        let twice = ledger.replace(parent, vec![plan(2, [1])]);
        assert!(twice.is_err(), "an id is planned once");
    }
}
