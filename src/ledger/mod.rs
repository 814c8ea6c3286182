//! The ledger: what was planned, stored, loaded and replayed (`ledger.db`).
//!
//! A batch is planned before it is put and committed after; the commit moves the stream's cursor
//! in the same transaction, which never goes back. After a crash the ledger says from where to
//! read the log again, which positions above that are done already, and which plans have to be
//! finished under their own names.
//!
//! It is never believed blindly. Every row has a checksum; where one fails, at the start or
//! later, the ledger is damaged, is moved aside and begins anew. It counts its transactions, so
//! that it can tell that it has gone back in time. What it has lost is made again from the
//! store, which knows what it has ([`Ledger::adopt`]); until then a stream has no cursor here.

mod counter;
mod cursor;
mod ids;
mod letters;
mod load_row;
mod loads;
mod open;
mod row;
#[cfg(test)]
mod tests;
mod waiting;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use roaring::RoaringTreemap;
use rusqlite::Connection;

pub use load_row::{Load, LoadId, LoadState, NotALoadId};
pub use loads::{Member, Recalled};
pub use waiting::{Spent, Waiting};

use counter::{Counter, Time};
use cursor::{progress, set_cursor};
use row::{BATCH, BatchRow, State};

use crate::dedupe::{IdHash, IdKey};
use crate::event::{LetterId, Micros, Seq, StreamName};
use crate::mutant::{self, Mutant};
use crate::sqlite::{Damage, Sqlite, SqliteError};
use crate::store::{BatchId, Found, Plan, Stored};

/// A cheap handle to the ledger.
#[derive(Clone)]
pub struct Ledger {
    db: Sqlite,
    counter: Counter,
    time: Time,
    /// What the counter was when the file was opened, or when its regress was admitted.
    opened_at: Counter,
    /// Whether what is not loaded must not be forgotten.
    serves_warehouse: Arc<AtomicBool>,
}

/// From where a stream goes on after a restart.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Progress {
    /// Everything below is stored or dead-lettered; `None` where the ledger does not know the
    /// log: it is new, or the ledger is.
    pub next_seq: Option<Seq>,
    /// The same in another log of the stream, where this one is not known.
    pub elsewhere: Option<Seq>,
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

/// Where a dead letter that nobody has mended stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenLetter {
    /// Its stream.
    pub stream: StreamName,
    /// The position of its event.
    pub seq: Seq,
    /// Its number in the error store.
    pub letter: LetterId,
    /// The log that the position belongs to.
    pub log_uuid: u128,
}

/// One step of a stream, made durable as a whole.
#[derive(Clone, Debug, Default)]
pub struct Step {
    /// Batches that are stored.
    pub commits: Vec<Commit>,
    /// Positions that are dead letters now, with their numbers.
    pub opened: Vec<(Seq, LetterId)>,
    /// Letters that wait no more for another reason than a commit.
    pub closed: Vec<LetterId>,
    /// Everything below is done; 0 for no word on that.
    pub next_seq: Seq,
}

/// What the ledger knows of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// That it is stored; and while the cursor has not passed it, which positions it holds.
    Stored,
    /// That the store has it: it was found there, and its positions are the store's word.
    Adopted,
    /// That it was to be put; perhaps that other plans replaced it.
    Planned,
    /// Nothing: it is new, or has lost it.
    Nothing,
}

/// A batch that the store has and the ledger does not know.
#[derive(Clone, Debug)]
pub struct Adopted {
    /// What the store says of it.
    pub found: Found,
    /// The hashes of its message ids; none where they are not needed any more.
    pub ids: Vec<IdHash>,
}

impl Ledger {
    /// Opens or creates the ledger. A damaged one goes to quarantine first, with a report.
    ///
    /// # Errors
    /// As [`Sqlite::open`].
    pub fn open(path: &Path) -> Result<Self, SqliteError> {
        Self::of(Sqlite::open(path, &*open::MIGRATIONS, open::check)?)
    }

    /// An empty ledger of the simulation.
    #[cfg(test)]
    pub(crate) fn in_memory(machine: crate::sim::Machine) -> Result<Self, SqliteError> {
        Self::of(Sqlite::in_memory(&*open::MIGRATIONS, machine))
    }

    /// The same file, as a new process of the simulation finds it.
    #[cfg(test)]
    pub(crate) fn reopen(&self) -> Result<Self, SqliteError> {
        self.read(open::check)?;
        Self::of(self.db.clone())
    }

    fn of(db: Sqlite) -> Result<Self, SqliteError> {
        let (transactions, time) = db.call_blocking(|c| Ok((counter::read(c)?, Time::read(c)?)))?;
        let (counter, opened_at) = (Counter::default(), Counter::default());
        let serves_warehouse = Arc::default();
        let ledger = Self { db, counter, time, opened_at, serves_warehouse };
        ledger.counter.reached(transactions);
        ledger.opened_at.reached(transactions);
        Ok(ledger)
    }

    /// Says whether the file is what a start would believe; changes nothing.
    ///
    /// # Errors
    /// As [`Ledger::open`], and [`SqliteError::Corrupt`].
    pub fn look(path: &Path) -> Result<(), SqliteError> {
        crate::sqlite::look(path, &*open::MIGRATIONS, open::check)
    }

    /// What was wrong with the file that this ledger replaces.
    #[must_use]
    pub fn damage(&self) -> Option<&Damage> {
        self.db.damage()
    }

    /// The number of the last durable transaction.
    #[must_use]
    pub fn transactions(&self) -> u64 {
        self.counter.get()
    }

    /// The same as a handle, for those who record it often.
    #[must_use]
    pub fn counter(&self) -> Arc<AtomicU64> {
        self.counter.handle()
    }

    /// Whether somebody has seen, before this process, a later transaction than there was when
    /// the ledger was opened: then it has gone back in time, and what it does not know means
    /// nothing.
    #[must_use]
    pub fn is_behind(&self, seen: u64) -> bool {
        seen > self.opened_at.get()
    }

    /// Admits that it has gone back in time: it counts on from what was seen, and every stream
    /// has to learn from the store what is done.
    ///
    /// # Errors
    /// What SQLite said; then nothing has changed.
    pub fn distrust(&self, seen: u64) -> Result<(), SqliteError> {
        self.write(move |c, transaction| {
            counter::write(c, transaction.max(seen + 1))?;
            c.execute("DELETE FROM cursors", []).map(drop)
        })?;
        self.counter.reached(seen + 1);
        self.opened_at.reached(seen + 1);
        Ok(())
    }

    /// From where to read that stream's log.
    ///
    /// # Errors
    /// What SQLite said; [`SqliteError::Corrupt`] where a row is not what was written.
    pub fn progress(&self, stream: &StreamName, log_uuid: u128) -> Result<Progress, SqliteError> {
        let stream = stream.clone();
        self.read(move |c| progress(c, &stream, log_uuid))
    }

    /// The position above every one that this ledger knows of that stream, in whatever log: also
    /// a log that has lost its identity must not use a position twice.
    ///
    /// # Errors
    /// What SQLite said.
    pub fn floor(&self, stream: &StreamName) -> Result<Seq, SqliteError> {
        let stream = stream.clone();
        self.read(move |c| {
            let floor: i64 = c.query_row(
                "SELECT max(
                     ifnull((SELECT max(next_seq) FROM cursors WHERE stream = ?1), 0),
                     ifnull((SELECT max(seq) + 1 FROM letters WHERE stream = ?1), 0),
                     ifnull((SELECT max(last_seq) + 1 FROM batches WHERE stream = ?1), 0))",
                [stream.as_str()],
                |row| row.get(0),
            )?;
            Ok(floor as Seq)
        })
    }

    /// The secret that message ids are hashed with; made with the ledger.
    ///
    /// # Errors
    /// What SQLite said.
    pub fn id_key(&self) -> Result<IdKey, SqliteError> {
        self.read(|c| open::id_key(c).map(IdKey))
    }

    /// Makes plans durable; returns the transaction, which their objects record. Nothing may be
    /// put before.
    ///
    /// # Errors
    /// What SQLite said; then none of them is planned.
    pub fn plan(&self, plans: Vec<Plan>) -> Result<u64, SqliteError> {
        self.write(move |c, transaction| {
            plans.iter().try_for_each(|plan| insert(c, plan, None, transaction))?;
            Ok(transaction)
        })
    }

    /// Replaces a plan that its store refused by plans that part what is left of it; returns the
    /// transaction.
    ///
    /// # Errors
    /// What SQLite said; then the plan stands as it was.
    pub fn replace(&self, parent: BatchId, children: Vec<Plan>) -> Result<u64, SqliteError> {
        self.write(move |c, transaction| {
            // One that was found in the store meanwhile stays what it is.
            if let Some(mut row) = BatchRow::find(c, parent)?
                && row.state == State::Planned
            {
                row.state = State::Replaced;
                row.update(c)?;
                c.prepare_cached("UPDATE batches SET seqs = NULL, ids = NULL WHERE id = ?1")?
                    .execute([parent.as_bytes()])?;
            }
            let parent = Some(parent);
            children.iter().try_for_each(|plan| insert(c, plan, parent, transaction))?;
            Ok(transaction)
        })
    }

    /// The plans that have replaced that one.
    ///
    /// # Errors
    /// What SQLite said.
    pub fn children(&self, parent: BatchId) -> Result<Vec<BatchId>, SqliteError> {
        self.read(move |c| {
            let mut find = c.prepare_cached(&format!(
                "SELECT {BATCH} FROM batches WHERE parent = ?1 ORDER BY id"
            ))?;
            let rows = find.query_map([parent.as_bytes()], |row| Ok(BatchRow::read(row)?.id))?;
            rows.collect()
        })
    }

    /// Records that batches are stored and letters are open or not any more, and moves the
    /// stream's cursor.
    ///
    /// # Errors
    /// What SQLite said; then nothing of it happened.
    pub fn commit(
        &self,
        stream: &StreamName,
        log_uuid: u128,
        step: Step,
    ) -> Result<(), SqliteError> {
        let stream = stream.clone();
        let (now, opened_at) = (self.time.now(), self.opened_at.get());
        self.write(move |c, _| {
            step.commits.iter().try_for_each(|commit| store(c, commit, now, opened_at))?;
            step.closed.iter().try_for_each(|letter| letters::close(c, *letter))?;
            for &(seq, letter) in &step.opened {
                let open = OpenLetter { stream: stream.clone(), seq, letter, log_uuid };
                letters::open(c, log_uuid, &open)?;
            }
            // A step that says nothing of the cursor makes none.
            if step.next_seq == 0 {
                return Ok(());
            }
            set_cursor(c, &stream, log_uuid, step.next_seq)
        })
    }

    /// What it knows of each of these batches, in their order.
    ///
    /// # Errors
    /// What SQLite said.
    pub fn known(&self, ids: Vec<BatchId>) -> Result<Vec<Known>, SqliteError> {
        self.read(move |c| {
            let known = |id: &BatchId| {
                let row = BatchRow::find(c, *id)?;
                Ok(match row.map(|row| row.state) {
                    None => Known::Nothing,
                    Some(State::Stored) if has_seqs(c, *id)? => Known::Stored,
                    Some(State::Stored) => Known::Adopted,
                    Some(State::Planned | State::Replaced) => Known::Planned,
                })
            };
            ids.iter().map(known).collect()
        })
    }

    /// Takes over batches that the store has, with their message ids and letters.
    ///
    /// # Errors
    /// What SQLite said; then none of them is taken over.
    pub fn adopt(
        &self,
        stream: &StreamName,
        log_uuid: u128,
        batches: Vec<Adopted>,
    ) -> Result<(), SqliteError> {
        let stream = stream.clone();
        let now = self.time.now();
        let seen = batches.iter().map(|batch| batch.found.ledger_tx).max().unwrap_or(0);
        self.write(move |c, transaction| {
            // Nobody may see a number twice.
            counter::write(c, transaction.max(seen + 1))?;
            batches.iter().try_for_each(|batch| adopt(c, &stream, log_uuid, batch, now))
        })?;
        self.counter.reached(seen + 1);
        Ok(())
    }

    /// Finishes what waits and ends the ledger's thread.
    pub fn close(&self) {
        self.db.close();
    }

    fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, SqliteError> {
        self.db.call_blocking(work)
    }

    /// The work is given the number of its transaction.
    fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection, u64) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, SqliteError> {
        let time = self.time;
        let (value, transaction) = self.db.call_blocking(move |c| {
            let transaction = counter::read(c)? + 1;
            counter::write(c, transaction)?;
            time.write(c)?;
            Ok((work(c, transaction)?, transaction))
        })?;
        self.counter.reached(transaction);
        Ok(value)
    }
}

fn insert(
    c: &Connection,
    plan: &Plan,
    parent: Option<BatchId>,
    transaction: u64,
) -> rusqlite::Result<()> {
    let mut row = BatchRow::of_plan(plan, parent, transaction);
    if mutant::active(Mutant::DedupInsertEarly) {
        row.stored_at = Some(i64::MAX);
    }
    row.insert(c, &plan.seqs, &plan.ids, false)
}

fn store(c: &Connection, commit: &Commit, now: Micros, opened_at: u64) -> rusqlite::Result<()> {
    let Some(mut row) = BatchRow::find(c, commit.id)? else {
        return Err(crate::sqlite::damaged("a plan that is not there any more"));
    };
    row.state = State::Stored;
    row.object.clone_from(&commit.stored.object);
    row.bytes = Some(commit.stored.bytes as i64);
    row.stored_at = Some(now);
    row.update(c)?;
    // Planned by an earlier process, which may have gone further than this ledger knows.
    if row.ledger_tx as u64 <= opened_at {
        loads::doubt(c, commit.id)?;
    }
    let batch = commit.id.as_bytes();
    commit.letters.iter().try_for_each(|letter| letters::stored(c, *letter, batch))
}

fn has_seqs(c: &Connection, id: BatchId) -> rusqlite::Result<bool> {
    c.prepare_cached("SELECT seqs IS NOT NULL FROM batches WHERE id = ?1")?
        .query_row([id.as_bytes()], |row| row.get(0))
}

fn adopt(
    c: &Connection,
    stream: &StreamName,
    log_uuid: u128,
    batch: &Adopted,
    now: Micros,
) -> rusqlite::Result<()> {
    let Adopted { found, ids } = batch;
    let known = BatchRow::find(c, found.id)?;
    if known.as_ref().is_some_and(|row| row.state == State::Stored) {
        return Ok(());
    }
    let row = BatchRow {
        id: found.id,
        stream: stream.as_str().to_owned(),
        log_uuid,
        partitions: found.partitions,
        state: State::Stored,
        object: found.object.clone(),
        rows: found.seqs.len() as i64,
        first_seq: found.seqs.min().unwrap_or(0) as i64,
        last_seq: found.seqs.max().unwrap_or(0) as i64,
        digest: found.digest,
        received: found.received,
        planned_at: found.received.1,
        // When it was stored is not known: its ids are remembered once more.
        stored_at: Some(now),
        bytes: Some(found.bytes as i64),
        parent: known.and_then(|row| row.parent),
        ledger_tx: found.ledger_tx as i64,
    };
    row.insert(c, &found.seqs, ids, true)?;
    // They are asked for again: only the store, and a record beside it, can say what they mean.
    c.prepare_cached("UPDATE batches SET seqs = NULL WHERE id = ?1")?
        .execute([found.id.as_bytes()])?;
    loads::doubt(c, found.id)?;
    let batch = found.id.as_bytes();
    found.letters.iter().try_for_each(|letter| letters::stored(c, *letter, batch))
}
