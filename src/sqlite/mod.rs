//! A SQLite file behind a thread of its own, with group commit.
//!
//! In: closures that read or write. Out: their results, **after** the transaction they were part
//! of is synced. Everything that waits when the thread is free becomes one transaction; a closure
//! that fails is rolled back alone. An I/O error at COMMIT is everybody's answer.
//!
//! The file is opened in WAL mode with `synchronous=FULL` and no memory map, by this connection
//! only; it is checked at start, and a damaged one is moved aside with its companions.

mod checksum;
mod damage;
mod error;
#[cfg(test)]
mod in_memory;
mod open;

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rusqlite::Connection;
use rusqlite_migration::M;
use tokio::sync::oneshot;

pub(crate) use checksum::{Checksum, damaged};
pub use damage::Damage;
pub(crate) use damage::{with_suffix, write};
pub use error::SqliteError;
#[cfg(test)]
pub(crate) use in_memory::in_memory;
pub(crate) use open::{connect, look};

/// Callers that may wait for the thread; the next one blocks.
const QUEUE: usize = 256;
/// Closures in one transaction.
const GROUP: usize = 256;

type Work = Box<dyn FnOnce(&Connection) -> Answer + Send>;
/// Told how the transaction ended.
type Answer = Box<dyn FnOnce(Result<(), SqliteError>) + Send>;

/// A cheap handle; the thread ends with [`Sqlite::close`] or with the last handle.
#[derive(Clone)]
pub struct Sqlite {
    path: Arc<PathBuf>,
    queue: Arc<Mutex<Option<mpsc::SyncSender<Work>>>>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
    damage: Option<Arc<Damage>>,
    /// Instead of the thread, in the simulation.
    #[cfg(test)]
    in_memory: Option<in_memory::InMemory>,
}

impl Sqlite {
    /// Opens or creates the file and brings it to the newest of `migrations`. Where `check` or
    /// SQLite itself finds it damaged, it is set aside and a new one begins.
    ///
    /// # Errors
    /// [`SqliteError::NewerFormat`] where a newer eventkit wrote it, else what SQLite said.
    pub fn open(
        path: &Path,
        migrations: &[M<'static>],
        check: impl Fn(&Connection) -> rusqlite::Result<()>,
    ) -> Result<Self, SqliteError> {
        let unfinished = Damage::unfinished(path)?;
        unfinished.iter().try_for_each(Damage::finish)?;
        let checked = connect(path, migrations).and_then(|connection| {
            check(&connection).map_err(|error| SqliteError::at_open(path, error))?;
            Ok(connection)
        });
        let (connection, damage) = match checked {
            Err(error) if error.is_corrupt() => {
                let damage = Damage::set_aside(path, &error)?;
                damage.finish()?;
                (connect(path, migrations)?, Some(Arc::new(damage)))
            }
            other => (other?, unfinished.map(Arc::new)),
        };
        let (sender, receiver) = mpsc::sync_channel(QUEUE);
        let shared = Arc::new(path.to_owned());
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name(path.file_name().unwrap_or_default().to_string_lossy().into_owned())
            .spawn(move || run(&connection, &receiver, &of_thread))
            .map_err(|e| SqliteError::io(path, e))?;
        Ok(Self {
            path: shared,
            queue: Arc::new(Mutex::new(Some(sender))),
            thread: Arc::new(Mutex::new(Some(thread))),
            damage,
            #[cfg(test)]
            in_memory: None,
        })
    }

    /// What was wrong with the file that this one replaces.
    #[must_use]
    pub fn damage(&self) -> Option<&Damage> {
        self.damage.as_deref()
    }

    /// Runs `work` within the next transaction and waits for its COMMIT; not for a runtime's
    /// own threads.
    ///
    /// # Errors
    /// What `work` or the COMMIT failed with; nothing of `work` is kept then.
    pub fn call_blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, SqliteError> {
        let (work, answer) = self.package(work);
        #[cfg(test)]
        if let Some(database) = &self.in_memory {
            return database.serve(work, answer, &self.path);
        }
        self.queue().and_then(|queue| queue.send(work).ok()).ok_or(SqliteError::Closed)?;
        answer.blocking_recv().unwrap_or(Err(SqliteError::Closed))
    }

    /// Finishes what waits, folds SQLite's own log into the file, and ends the thread.
    pub fn close(&self) {
        drop(self.queue.lock().unwrap_or_else(PoisonError::into_inner).take());
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }

    fn queue(&self) -> Option<mpsc::SyncSender<Work>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn package<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> (Work, oneshot::Receiver<Result<T, SqliteError>>) {
        let (reply, answer) = oneshot::channel();
        let path = Arc::clone(&self.path);
        let work: Work = Box::new(move |connection| {
            let result = in_savepoint(connection, work).map_err(|e| SqliteError::sqlite(&path, e));
            Box::new(move |committed: Result<(), SqliteError>| {
                // Nobody may be waiting any more; the transaction stands all the same.
                let _ = reply.send(committed.and(result));
            })
        });
        (work, answer)
    }
}

fn in_savepoint<T>(
    connection: &Connection,
    work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    connection.execute_batch("SAVEPOINT one")?;
    let result = work(connection);
    let end = if result.is_ok() { "RELEASE one" } else { "ROLLBACK TO one; RELEASE one" };
    connection.execute_batch(end)?;
    result
}

fn run(connection: &Connection, queue: &mpsc::Receiver<Work>, path: &Path) {
    while let Ok(first) = queue.recv() {
        serve(connection, first, || queue.try_recv().ok(), path);
    }
    let _ = connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)");
}

/// One transaction: the first, and what waits behind it.
fn serve(
    connection: &Connection,
    first: Work,
    mut next: impl FnMut() -> Option<Work>,
    path: &Path,
) {
    let mut answers = Vec::new();
    let begun = connection.execute_batch("BEGIN IMMEDIATE");
    let committed = begun.and_then(|()| {
        answers.push(first(connection));
        while answers.len() < GROUP {
            let Some(next) = next() else { break };
            answers.push(next(connection));
        }
        connection.execute_batch("COMMIT")
    });
    let committed = committed.map_err(|error| {
        // Where SQLite has rolled back by itself there is nothing left to roll back.
        let _ = connection.execute_batch("ROLLBACK");
        SqliteError::sqlite(path, error)
    });
    for answer in answers {
        answer(committed.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIGRATIONS: &[M<'static>] = &[M::up("CREATE TABLE t (n INTEGER UNIQUE)")];

    fn count(db: &Sqlite) -> i64 {
        db.call_blocking(|c| c.query_row("SELECT count(*) FROM t", [], |row| row.get(0))).unwrap()
    }

    fn insert(n: i64) -> impl FnOnce(&Connection) -> rusqlite::Result<usize> + Send + 'static {
        move |c| {
            c.execute("INSERT INTO t VALUES (?1 + 1000)", [n])?;
            c.execute("INSERT INTO t VALUES (?1)", [n])
        }
    }

    #[test]
    fn a_closure_that_fails_is_rolled_back_alone() {
        let dir = tempfile::tempdir().unwrap();
        let db = Sqlite::open(&dir.path().join("t.db"), MIGRATIONS, |_| Ok(())).unwrap();
        let db = &db;
        let results: Vec<_> = std::thread::scope(|scope| {
            let calls = [1, 2, 1, 3].map(|n| scope.spawn(move || db.call_blocking(insert(n))));
            calls.map(|call| call.join().unwrap()).into()
        });
        assert_eq!(results.iter().filter(|r| r.is_err()).count(), 1);
        assert_eq!(count(db), 6);
        db.close();
        let db = Sqlite::open(&dir.path().join("t.db"), MIGRATIONS, |_| Ok(())).unwrap();
        assert_eq!(count(&db), 6);
    }

    #[test]
    fn a_damaged_file_is_moved_aside_with_its_companions() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.db");
        std::fs::write(&path, vec![b'x'; 8192]).unwrap();
        let db = Sqlite::open(&path, MIGRATIONS, |_| Ok(())).unwrap();
        assert_eq!(count(&db), 0);
        assert_eq!(std::fs::read_dir(dir.path().join("quarantine")).unwrap().count(), 1);
    }

    #[test]
    fn a_file_of_a_newer_eventkit_is_refused_and_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.db");
        let newer = "PRAGMA user_version = 7; PRAGMA application_id = 0x454B0007";
        Connection::open(&path).unwrap().execute_batch(newer).unwrap();
        let before = std::fs::read(&path).unwrap();
        let error = Sqlite::open(&path, MIGRATIONS, |_| Ok(())).err().unwrap();
        assert!(matches!(error, SqliteError::NewerFormat { found: 7, known: 1, .. }), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }

    #[test]
    fn a_closed_database_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let db = Sqlite::open(&dir.path().join("t.db"), MIGRATIONS, |_| Ok(())).unwrap();
        db.close();
        let error = db.call_blocking(|_| Ok(())).unwrap_err();
        assert!(matches!(error, SqliteError::Closed), "{error}");
    }
}
