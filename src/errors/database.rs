//! The database behind the error store: opened, checked, and written in transactions.
//!
//! One connection, owned by the store's thread; no other process opens the file. WAL mode with
//! `synchronous=FULL`: a COMMIT that succeeded survives a power cut. What is damaged is moved
//! into quarantine whole, so that a look at it later finds all of it; what is newer is not
//! touched.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OptionalExtension, ffi};
use rusqlite_migration::{M, Migrations};

use super::error::ErrorStoreError;
use super::letter::Counts;
use crate::config::ErrorsConfig;
use crate::event::{Micros, StreamName};

const MIGRATIONS: &[M<'static>] =
    &[M::up(include_str!("../../migrations/errors/0001_letters.sql"))];

/// The newest format this version reads: one migration, one format.
const FORMAT: i64 = MIGRATIONS.len() as i64;

/// Another connection is a mistake; a backup tool's short lock is not worth an error.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Libraries and some paths are the clients' words: without a bound, they could make every list
/// as slow as they like.
const GROUPS_MAX: u64 = 10_000;

const STATEMENTS_CACHED: usize = 64;

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
    /// Counted again when it is needed next, where a transition may have changed it.
    pub ring: Option<Ring>,
    /// How many groups there are; counted again when it is needed next after a rollback.
    pub groups: Option<u64>,
    /// From this many groups on, new ones are told apart by stream, phase and reason only.
    pub groups_max: u64,
    published: Arc<Mutex<Counts>>,
}

impl Database {
    /// Opens or creates the database; a damaged one goes to quarantine first.
    pub(super) fn open(
        path: &Path,
        limits: ErrorsConfig,
        published: Arc<Mutex<Counts>>,
    ) -> Result<Self, ErrorStoreError> {
        let opened = connect(path).and_then(|connection| {
            Self::new(connection, path, limits.clone(), Arc::clone(&published))
        });
        let error = match opened {
            Err(error) if error.is_corrupt() => error,
            other => return other,
        };
        let moved = quarantine(path).map_err(|e| ErrorStoreError::io(path, e))?;
        tracing::error!(
            %error,
            quarantine = %moved.display(),
            "the error store is damaged; it was set aside and a new one begins"
        );
        let connection = connect(path)?;
        // The log may still hold replays that name letters of the old file; no new letter may
        // answer to such a number.
        connection
            .execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('letters', ?1)", [now()])
            .map_err(|e| ErrorStoreError::sqlite(path, e))?;
        Self::new(connection, path, limits, published)
    }

    fn new(
        connection: Connection,
        path: &Path,
        limits: ErrorsConfig,
        published: Arc<Mutex<Counts>>,
    ) -> Result<Self, ErrorStoreError> {
        let mut database = Self {
            connection,
            path: path.to_owned(),
            limits,
            counts: Counts::default(),
            ring: None,
            groups: None,
            groups_max: GROUPS_MAX,
            published,
        };
        database.transaction(|database| {
            if !database.groups_hold()? {
                tracing::warn!(path = %path.display(), "the groups' counts are wrong; counting again");
                database.rebuild_groups()?;
            }
            database.counts = database.count()?;
            Ok(())
        })?;
        Ok(database)
    }

    /// Everything in `work` or nothing; when this returns `Ok` it is on disk.
    pub(super) fn transaction<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> rusqlite::Result<T>,
    ) -> Result<T, ErrorStoreError> {
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
                Err(ErrorStoreError::sqlite(&self.path, error))
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

/// Opens, checks, sets up and migrates.
fn connect(path: &Path) -> Result<Connection, ErrorStoreError> {
    let sqlite = |error| ErrorStoreError::sqlite(path, error);
    let mut connection = Connection::open(path).map_err(sqlite)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(sqlite)?;
    // Closing must not change a file that is about to be refused or set aside.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(sqlite)?;
    let found: i64 =
        connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(sqlite)?;
    if found > FORMAT {
        return Err(ErrorStoreError::NewerFormat { path: path.to_owned(), found, known: FORMAT });
    }
    check(&connection).map_err(sqlite)?;
    for (pragma, value) in [
        ("journal_mode", "WAL"),
        ("synchronous", "FULL"),
        ("mmap_size", "0"),
        ("journal_size_limit", "67108864"),
        ("cache_size", "-16384"),
    ] {
        connection.pragma_update(None, pragma, value).map_err(sqlite)?;
    }
    connection.set_prepared_statement_cache_capacity(STATEMENTS_CACHED);
    Migrations::from_slice(MIGRATIONS).to_latest(&mut connection).map_err(|error| match error {
        rusqlite_migration::Error::RusqliteError { err, .. } => sqlite(err),
        other => ErrorStoreError::Refused { path: path.to_owned(), source: Arc::new(other) },
    })?;
    Ok(connection)
}

fn check(connection: &Connection) -> rusqlite::Result<()> {
    let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if verdict == "ok" {
        return Ok(());
    }
    Err(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_CORRUPT), Some(verdict)))
}

/// Moves the database, its -wal and its -shm into `quarantine` beside it; returns its new path.
fn quarantine(path: &Path) -> std::io::Result<PathBuf> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let directory = parent.join("quarantine");
    fs::create_dir_all(&directory)?;
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let stamp = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%S%.6fZ");
    let mut target = directory.join(format!("{stem}-{stamp}.db"));
    let mut attempt = 1;
    while target.exists() {
        target = directory.join(format!("{stem}-{stamp}-{attempt}.db"));
        attempt += 1;
    }
    // The database goes last: while it stands, the next start finds the damage again.
    for suffix in ["-wal", "-shm", ""] {
        match fs::rename(with_suffix(path, suffix), with_suffix(&target, suffix)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            other => other?,
        }
    }
    File::open(&directory)?.sync_all()?;
    File::open(parent)?.sync_all()?;
    Ok(target)
}

/// The path with something behind it, as SQLite names its side files.
pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// The wall clock, for what an operator reads; nothing is decided by it.
pub(super) fn now() -> Micros {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| Micros::try_from(since.as_micros()).unwrap_or(Micros::MAX))
}
