//! The database behind the error store: opened, checked, and written in transactions.
//!
//! One connection, owned by the store's thread; no other process opens the file. WAL mode with
//! `synchronous=FULL`: a COMMIT that succeeded survives a power cut. A damaged file is moved into
//! quarantine whole, and what can be read of it goes into a new one; what is newer is not touched.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, OptionalExtension};

use super::known::Known;
use super::letter::Counts;
use super::open::{MIGRATIONS, check};
use super::rescue::rescue;
use crate::config::ErrorsConfig;
use crate::event::StreamName;
use crate::sqlite::{Damage, SqliteError, connect};
use crate::time::now;

/// Libraries and some paths are the clients' words: without a bound, they could make every list
/// as slow as they like.
const GROUPS_MAX: u64 = 10_000;

/// The open ring of malformed bodies, as far as it is known.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ring {
    pub letters: u64,
    pub bytes: u64,
}

/// The connection and what is known about its content.
pub(super) struct Database {
    pub connection: Connection,
    pub path: PathBuf,
    pub limits: ErrorsConfig,
    /// As of the open transaction; published by its commit.
    pub counts: Counts,
    /// Events that have a letter.
    pub known: Known,
    /// Counted again when it is needed next, where a transition may have changed it.
    pub ring: Option<Ring>,
    /// How many groups there are; counted again when it is needed next after a rollback.
    pub groups: Option<u64>,
    /// From this many groups on, new ones are told apart by stream, phase and reason only.
    pub groups_max: u64,
    /// What was wrong with the file that this one replaces.
    pub damage: Option<Damage>,
    published: Arc<Mutex<Counts>>,
}

impl Database {
    /// Opens or creates the database; a damaged one goes to quarantine first.
    pub(super) fn open(
        path: &Path,
        limits: ErrorsConfig,
        published: Arc<Mutex<Counts>>,
    ) -> Result<Self, SqliteError> {
        let mut damage = match Damage::unfinished(path)? {
            Some(damage) => damage,
            None => match Self::open_whole(path, limits.clone(), Arc::clone(&published)) {
                Err(error) if error.is_corrupt() => Damage::set_aside(path, &error)?,
                other => return other,
            },
        };
        let connection = connect(path, &*MIGRATIONS)?;
        let found =
            rescue(&mut damage, &connection).map_err(|error| SqliteError::sqlite(path, error))?;
        damage.report(found).map_err(|error| SqliteError::io(path, error))?;
        let mut database = Self::new(connection, path, limits, published)?;
        // The log may still hold replays that name letters of the old file; no new letter may
        // answer to such a number.
        database.transaction(|database| database.number_above(now()))?;
        damage.finish()?;
        database.damage = Some(damage);
        Ok(database)
    }

    fn open_whole(
        path: &Path,
        limits: ErrorsConfig,
        published: Arc<Mutex<Counts>>,
    ) -> Result<Self, SqliteError> {
        let connection = connect(path, &*MIGRATIONS)?;
        check(&connection).map_err(|error| SqliteError::at_open(path, error))?;
        Self::new(connection, path, limits, published)
    }

    /// An empty one of the simulation.
    #[cfg(test)]
    pub(super) fn in_memory(machine: crate::sim::Machine) -> Connection {
        crate::sqlite::in_memory(&*MIGRATIONS, machine)
    }

    fn new(
        connection: Connection,
        path: &Path,
        limits: ErrorsConfig,
        published: Arc<Mutex<Counts>>,
    ) -> Result<Self, SqliteError> {
        let mut database = Self::unchecked(connection, path, limits, published);
        database.count_all()?;
        Ok(database)
    }

    pub(super) fn unchecked(
        connection: Connection,
        path: &Path,
        limits: ErrorsConfig,
        published: Arc<Mutex<Counts>>,
    ) -> Self {
        Self {
            connection,
            path: path.to_owned(),
            limits,
            counts: Counts::default(),
            known: Known::default(),
            ring: None,
            groups: None,
            groups_max: GROUPS_MAX,
            damage: None,
            published,
        }
    }

    /// Makes what is known about the content true.
    pub(super) fn count_all(&mut self) -> Result<(), SqliteError> {
        self.transaction(|database| {
            if !database.groups_hold()? {
                let path = database.path.display();
                tracing::warn!(%path, "the groups' counts are wrong; counting again");
                database.rebuild_groups()?;
            }
            database.counts = database.count()?;
            database.known = Known::read(&database.connection)?;
            Ok(())
        })
    }

    /// Everything in `work` or nothing; when this returns `Ok` it is on disk.
    pub(super) fn transaction<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> rusqlite::Result<T>,
    ) -> Result<T, SqliteError> {
        let outcome = self
            .connection
            .execute_batch("BEGIN IMMEDIATE")
            .and_then(|()| work(self))
            .and_then(|value| self.connection.execute_batch("COMMIT").map(|()| value));
        match outcome {
            Ok(value) => {
                self.publish();
                Ok(value)
            }
            Err(error) => {
                self.roll_back();
                Err(SqliteError::sqlite(&self.path, error))
            }
        }
    }

    fn publish(&self) {
        let mut published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        if *published != self.counts {
            published.clone_from(&self.counts);
        }
    }

    fn roll_back(&mut self) {
        // SQLite rolls back by itself after some errors, a full disk among them.
        if !self.connection.is_autocommit()
            && let Err(error) = self.connection.execute_batch("ROLLBACK")
        {
            tracing::error!(%error, path = %self.path.display(), "the error store's rollback failed");
        }
        self.counts.clone_from(&self.published.lock().unwrap_or_else(PoisonError::into_inner));
        self.ring = None;
        self.groups = None;
    }

    /// Counts from the groups: exact, because every transaction keeps them.
    fn count(&self) -> rusqlite::Result<Counts> {
        let mut counts = Counts::default();
        let mut statement = self.connection.prepare(
            "SELECT stream, sum(open), sum(replaying), sum(resolved), sum(discarded), \
             sum(payload_bytes) FROM groups GROUP BY stream",
        )?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let sum = |column: usize| -> rusqlite::Result<u64> {
                row.get::<_, i64>(column).map(|sum| u64::try_from(sum).unwrap_or(0))
            };
            let open = sum(1)?;
            counts.open += open;
            counts.replaying += sum(2)?;
            counts.resolved += sum(3)?;
            counts.discarded += sum(4)?;
            counts.payload_bytes += sum(5)?;
            let stream = row.get_ref(0)?.as_str().ok();
            if let Some(Ok(stream)) = stream.map(StreamName::new)
                && open > 0
            {
                counts.open_by_stream.insert(stream, open);
            }
        }
        let dropped: Option<i64> = self
            .connection
            .query_row("SELECT value FROM totals WHERE name = 'malformed_dropped'", [], |row| {
                row.get(0)
            })
            .optional()?;
        counts.malformed_dropped = u64::try_from(dropped.unwrap_or(0)).unwrap_or(0);
        Ok(counts)
    }

    /// Moves the log of the last transactions into the database, at the end.
    pub(super) fn checkpoint(&self) {
        let checkpoint =
            self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        if let Err(error) = checkpoint {
            // Nothing is lost: the next start reads the -wal file.
            tracing::warn!(%error, path = %self.path.display(), "the error store's checkpoint failed");
        }
    }
}
