//! What goes from the lake into the warehouse: which load has which batches.
//!
//! A batch has one load at most. A load is durable with its batches and its attempt before its job
//! is submitted. Batches that an earlier process may have loaded, without this ledger knowing, are
//! doubted until the warehouse has been asked: those of a ledger that was lost or is an older copy.

use std::sync::atomic::Ordering::Relaxed;

use rusqlite::{Connection, params};
use xxhash_rust::xxh3::Xxh3;

use super::Ledger;
use super::load_row::{LOAD, Load, LoadId, LoadState};
use super::row::{BATCH, BatchRow, seal, unseal};
use crate::event::{Micros, StreamName};
use crate::sqlite::{SqliteError, damaged};
use crate::store::BatchId;

/// The load of a batch that may have one.
const DOUBTED: LoadId = LoadId(0);
/// Batches whose doubt is ended at a time.
const DOUBTED_MAX: i64 = 100_000;
/// Loads that are over are kept for as long, and then as long as the ledger knows their batches.
const KEPT: Micros = 7 * 86_400_000_000;
/// Loads that are forgotten at a time.
const FORGOTTEN_MAX: i64 = 200;

/// A batch that waits for a load, or has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The batch.
    pub batch: BatchId,
    /// Its stream's name.
    pub stream: String,
    /// Its object, in the store's words.
    pub object: String,
    /// Rows in it.
    pub rows: u64,
    /// Bytes of it.
    pub bytes: u64,
    /// The receipt of its first and last event, in order of time.
    pub received: (Micros, Micros),
}

impl Member {
    fn of(row: BatchRow) -> Self {
        Self {
            batch: row.id,
            stream: row.stream,
            object: row.object,
            rows: row.rows as u64,
            bytes: row.bytes.unwrap_or(0) as u64,
            received: row.received,
        }
    }
}

/// A load that the warehouse knows of, and this ledger perhaps not.
#[derive(Clone, Debug)]
pub struct Recalled {
    /// As it will stand in the ledger; its objects, rows and bytes are counted there.
    pub load: Load,
    /// The batches that it has.
    pub batches: Vec<BatchId>,
}

impl Ledger {
    /// From now on a batch is not forgotten before it is loaded, and what earlier processes may
    /// have loaded is doubted.
    ///
    /// # Errors
    /// What SQLite said.
    pub fn serve_warehouse(&self) -> Result<(), SqliteError> {
        self.serves_warehouse.store(true, Relaxed);
        self.write(|c, _| {
            let waiting = ids(c, "WHERE state = 'stored' AND load IS NULL")?;
            waiting.into_iter().try_for_each(|batch| assign(c, batch, Some(DOUBTED)))
        })
    }

    /// Batches that may have been loaded already: the first of them, as many as memory bears. The
    /// others follow once their doubt is ended.
    ///
    /// # Errors
    /// What SQLite said.
    pub fn doubted(&self) -> Result<Vec<Member>, SqliteError> {
        self.read(|c| members(c, DOUBTED, DOUBTED_MAX))
    }

    /// Ends the doubt about batches: loads have some of them, the others wait for one.
    ///
    /// # Errors
    /// What SQLite said; then nothing has changed.
    pub fn end_doubt(
        &self,
        recalled: Vec<Recalled>,
        waiting: Vec<BatchId>,
    ) -> Result<(), SqliteError> {
        self.write(move |c, _| give(c, recalled, &waiting))
    }

    /// The streams that have batches without a load.
    ///
    /// # Errors
    /// What SQLite said.
    pub fn unloaded(&self) -> Result<Vec<StreamName>, SqliteError> {
        self.read(|c| {
            // From one stream to the next: there may be a million batches between.
            let mut find = c.prepare_cached(
                "SELECT min(stream) FROM batches
                 WHERE state = 'stored' AND load IS NULL AND stream > ?1",
            )?;
            let mut streams: Vec<StreamName> = Vec::new();
            loop {
                let last = streams.last().map_or("", StreamName::as_str);
                let next: Option<String> = find.query_row([last], |row| row.get(0))?;
                let Some(name) = next else { return Ok(streams) };
                streams.push(StreamName::new(&name).map_err(|_| damaged("a batch's stream"))?);
            }
        })
    }

    /// Plans a load of batches of these streams that have none, oldest positions first, as long as
    /// `takes` says so; `None` where there is none.
    ///
    /// # Errors
    /// What SQLite said; then nothing is planned.
    pub fn plan_load(
        &self,
        dataset: String,
        table: String,
        streams: Vec<StreamName>,
        mut takes: impl FnMut(&Member) -> bool + Send + 'static,
    ) -> Result<Option<Load>, SqliteError> {
        self.write(move |c, _| {
            forget(c)?;
            let mut group = Vec::new();
            let mut find = c.prepare_cached(&format!(
                "SELECT {BATCH} FROM batches
                 WHERE stream = ?1 AND state = 'stored' AND load IS NULL ORDER BY last_seq"
            ))?;
            'full: for stream in &streams {
                let mut rows = find.query([stream.as_str()])?;
                while let Some(row) = rows.next()? {
                    let member = Member::of(BatchRow::read(row)?);
                    if !takes(&member) {
                        break 'full;
                    }
                    group.push(member);
                }
            }
            if group.is_empty() {
                return Ok(None);
            }
            plan(c, &dataset, &table, None, &group).map(Some)
        })
    }

    /// The loads whose jobs are not known to have ended, oldest first.
    ///
    /// # Errors
    /// What SQLite said.
    pub fn open_loads(&self) -> Result<Vec<Load>, SqliteError> {
        self.loads(Some(LoadState::Open), usize::MAX).map(|mut loads| {
            loads.reverse();
            loads
        })
    }

    /// Loads, those that changed last first.
    ///
    /// # Errors
    /// What SQLite said.
    pub fn loads(&self, state: Option<LoadState>, max: usize) -> Result<Vec<Load>, SqliteError> {
        self.read(move |c| {
            let mut find = c.prepare_cached(&format!(
                "SELECT {LOAD} FROM loads WHERE ?1 IS NULL OR state = ?1
                 ORDER BY changed_at DESC, id LIMIT ?2"
            ))?;
            let max = i64::try_from(max).unwrap_or(i64::MAX);
            let state = state.map(LoadState::as_str);
            find.query_map(params![state, max], Load::read)?.collect()
        })
    }

    /// The batches of a load, in the order of their positions.
    ///
    /// # Errors
    /// What SQLite said.
    pub fn members(&self, load: LoadId) -> Result<Vec<Member>, SqliteError> {
        self.read(move |c| members(c, load, i64::MAX))
    }

    /// Makes a load's state, attempt and error durable.
    ///
    /// # Errors
    /// What SQLite said; then it stands as it was.
    pub fn set_load(&self, mut load: Load) -> Result<Load, SqliteError> {
        load.changed_at = crate::time::now();
        self.write(move |c, _| {
            load.write(c)?;
            Ok(load)
        })
    }

    /// Takes over loads that the warehouse knows, as they are.
    ///
    /// # Errors
    /// What SQLite said; then none of them is taken over.
    pub fn know_loads(&self, loads: Vec<Load>) -> Result<(), SqliteError> {
        self.write(move |c, _| loads.iter().try_for_each(|load| load.write(c)))
    }

    /// Parts the batches of a load that failed among others.
    ///
    /// # Errors
    /// What SQLite said; then it stands as it was.
    pub fn split_load(
        &self,
        mut load: Load,
        parts: Vec<Vec<Member>>,
    ) -> Result<Vec<Load>, SqliteError> {
        (load.state, load.changed_at) = (LoadState::Split, crate::time::now());
        self.write(move |c, _| {
            load.write(c)?;
            let (dataset, table) = (&load.dataset, &load.table);
            parts.iter().map(|part| plan(c, dataset, table, Some(load.id), part)).collect()
        })
    }

    /// Parts the batches of a load among those that have them by what the warehouse says, which may
    /// be the load itself; the others wait for another.
    ///
    /// # Errors
    /// What SQLite said; then it stands as it was.
    pub fn give_load(
        &self,
        mut load: Load,
        recalled: Vec<Recalled>,
        waiting: Vec<BatchId>,
    ) -> Result<(), SqliteError> {
        (load.state, load.changed_at) = (LoadState::Split, crate::time::now());
        self.write(move |c, _| {
            load.write(c)?;
            give(c, recalled, &waiting)
        })
    }

    /// Opens a load that failed or was dismissed, with the next attempt; `None` where none of that
    /// id did, or where its batches are forgotten.
    ///
    /// # Errors
    /// What SQLite said; then it stands as it was.
    pub fn retry_load(&self, id: LoadId) -> Result<Option<Load>, SqliteError> {
        self.write(move |c, _| {
            let Some(mut load) = Load::find(c, id)?.filter(Load::may_be_retried) else {
                return Ok(None);
            };
            if members(c, id, i64::MAX)?.len() as u64 != load.objects {
                return Ok(None);
            }
            (load.state, load.attempt) = (LoadState::Open, load.attempt + 1);
            load.changed_at = crate::time::now();
            load.write(c)?;
            Ok(Some(load))
        })
    }

    /// Ends a load that failed: its batches keep it, so that no other has them, and it waits for
    /// nobody; `None` where none of that id has failed.
    ///
    /// # Errors
    /// What SQLite said; then it stands as it was.
    pub fn dismiss_load(&self, id: LoadId) -> Result<Option<Load>, SqliteError> {
        self.write(move |c, _| {
            let Some(mut load) = Load::find(c, id)?.filter(Load::is_failed) else {
                return Ok(None);
            };
            (load.state, load.changed_at) = (LoadState::Dismissed, crate::time::now());
            load.write(c)?;
            Ok(Some(load))
        })
    }
}

/// A load's identity.
fn id_of(dataset: &str, table: &str, group: &[Member]) -> LoadId {
    let mut batches: Vec<&[u8; 16]> = group.iter().map(|member| member.batch.as_bytes()).collect();
    batches.sort_unstable();
    let mut hash = Xxh3::new();
    // The dataset's name holds no point.
    hash.update(format!("{dataset}.{table}\n").as_bytes());
    batches.into_iter().for_each(|batch| hash.update(batch));
    LoadId(hash.digest128())
}

fn count(load: &mut Load, group: &[Member]) {
    load.objects = group.len() as u64;
    load.rows = group.iter().map(|member| member.rows).sum();
    load.bytes = group.iter().map(|member| member.bytes).sum();
    load.object = group.first().map(|member| member.object.clone()).unwrap_or_default();
}

fn plan(
    c: &Connection,
    dataset: &str,
    table: &str,
    parent: Option<LoadId>,
    group: &[Member],
) -> rusqlite::Result<Load> {
    let (id, now) = (id_of(dataset, table, group), crate::time::now());
    let mut load = Load {
        id,
        dataset: dataset.to_owned(),
        table: table.to_owned(),
        attempt: 1,
        state: LoadState::Open,
        objects: 0,
        rows: 0,
        bytes: 0,
        object: String::new(),
        error: None,
        parent,
        planned_at: now,
        changed_at: now,
    };
    // The same batches were tried before: that job's id is used up.
    if let Some(known) = Load::find(c, id)? {
        load.attempt = known.attempt + u32::from(known.state != LoadState::Open);
    }
    count(&mut load, group);
    load.write(c)?;
    group.iter().try_for_each(|member| assign(c, member.batch, Some(id)))?;
    Ok(load)
}

/// Gives batches to the loads that have them, and lets the others wait.
fn give(c: &Connection, recalled: Vec<Recalled>, waiting: &[BatchId]) -> rusqlite::Result<()> {
    for Recalled { mut load, batches } in recalled {
        let found = batches.iter().map(|batch| BatchRow::find(c, *batch));
        let rows = found.filter_map(Result::transpose).collect::<Result<Vec<_>, _>>()?;
        count(&mut load, &rows.into_iter().map(Member::of).collect::<Vec<_>>());
        load.write(c)?;
        batches.iter().try_for_each(|batch| assign(c, *batch, Some(load.id)))?;
    }
    waiting.iter().try_for_each(|batch| assign(c, *batch, None))
}

/// Gives a batch its load, or takes it away.
pub(super) fn assign(c: &Connection, batch: BatchId, load: Option<LoadId>) -> rusqlite::Result<()> {
    let load = load.map(|load| seal(batch, load.0.to_be_bytes().to_vec()));
    c.prepare_cached("UPDATE batches SET load = ?2 WHERE id = ?1")?
        .execute(params![batch.as_bytes(), load])
        .map(drop)
}

/// A batch that was found in the store: an earlier ledger may have had a load of it.
pub(super) fn doubt(c: &Connection, batch: BatchId) -> rusqlite::Result<()> {
    assign(c, batch, Some(DOUBTED))
}

fn ids(c: &Connection, which: &str) -> rusqlite::Result<Vec<BatchId>> {
    let mut find = c.prepare(&format!("SELECT id FROM batches {which}"))?;
    let ids = find.query_map([], |row| Ok(BatchId::from_bytes(row.get(0)?)))?;
    ids.collect()
}

fn members(c: &Connection, load: LoadId, max: i64) -> rusqlite::Result<Vec<Member>> {
    let mut find = c.prepare_cached(&format!(
        "SELECT {BATCH}, load FROM batches
         WHERE load IS NOT NULL AND substr(load, 1, 16) = ?1 ORDER BY stream, last_seq, id
         LIMIT ?2"
    ))?;
    let mut rows = find.query(params![load.0.to_be_bytes(), max])?;
    let mut members = Vec::new();
    while let Some(row) = rows.next()? {
        let batch = BatchRow::read(row)?;
        check_load(batch.id, row.get_ref(LOAD_COLUMN)?.as_blob_or_null().unwrap_or_default())?;
        members.push(Member::of(batch));
    }
    Ok(members)
}

/// The column behind [`BATCH`].
const LOAD_COLUMN: usize = 19;

/// Whether a batch's load is what was written.
pub(super) fn check_load(batch: BatchId, sealed: Option<&[u8]>) -> rusqlite::Result<()> {
    sealed.map(|sealed| unseal(batch, sealed)).transpose().map(drop)
}

/// Checks every load that is there.
pub(super) fn check(c: &Connection) -> rusqlite::Result<()> {
    let mut loads = c.prepare(&format!("SELECT {LOAD} FROM loads"))?;
    let mut rows = loads.query([])?;
    while let Some(row) = rows.next()? {
        Load::read(row)?;
    }
    let mut batches = c.prepare("SELECT id, load FROM batches WHERE load IS NOT NULL")?;
    let mut rows = batches.query([])?;
    while let Some(row) = rows.next()? {
        let id = BatchId::from_bytes(row.get(0)?);
        check_load(id, row.get_ref(1)?.as_blob_or_null().unwrap_or_default())?;
    }
    Ok(())
}

/// Forgets loads that ended long ago and whose batches are forgotten.
fn forget(c: &Connection) -> rusqlite::Result<()> {
    c.prepare_cached(
        "DELETE FROM loads WHERE id IN (
             SELECT id FROM loads
             WHERE state IN ('loaded', 'split', 'dismissed') AND changed_at < ?1 AND NOT EXISTS (
                 SELECT 1 FROM batches
                 WHERE load IS NOT NULL AND substr(load, 1, 16) = loads.id)
             LIMIT ?2)",
    )?
    .execute(params![crate::time::now() - KEPT, FORGOTTEN_MAX])
    .map(drop)
}
