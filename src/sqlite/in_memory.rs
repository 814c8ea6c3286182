//! A database of the simulation: in memory, served on the caller's own thread. It outlives every
//! simulated process; each COMMIT is one operation of the machine, which may die before it or
//! after it, and whoever asks a dead machine hears [`SqliteError::Closed`].

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use rusqlite_migration::{M, Migrations};
use tokio::sync::oneshot;

use super::{Sqlite, SqliteError, Work, serve};
use crate::sim::Machine;

/// What serves instead of a thread.
#[derive(Clone)]
pub(super) struct InMemory {
    connection: Arc<Mutex<Connection>>,
    machine: Machine,
}

/// A migrated database whose commits are operations of that machine.
pub(crate) fn in_memory(migrations: &[M<'static>], machine: Machine) -> Connection {
    let mut connection = Connection::open_in_memory().unwrap();
    connection.set_prepared_statement_cache_capacity(64);
    Migrations::from_slice(migrations).to_latest(&mut connection).unwrap();
    connection.commit_hook(Some(move || machine.rolls_back())).unwrap();
    connection
}

impl Sqlite {
    /// An empty database of the simulation.
    pub(crate) fn in_memory(migrations: &[M<'static>], machine: Machine) -> Self {
        let connection = Arc::new(Mutex::new(in_memory(migrations, machine.clone())));
        Self {
            path: Arc::new(Path::new("in memory").to_owned()),
            queue: Arc::default(),
            thread: Arc::default(),
            damage: None,
            in_memory: Some(InMemory { connection, machine }),
        }
    }
}

impl InMemory {
    pub(super) fn serve<T>(
        &self,
        work: Work,
        mut answer: oneshot::Receiver<Result<T, SqliteError>>,
        path: &Path,
    ) -> Result<T, SqliteError> {
        if self.machine.is_alive() {
            let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
            serve(&connection, work, || None, path);
        }
        match answer.try_recv() {
            Ok(answer) if self.machine.is_alive() => answer,
            _ => Err(SqliteError::Closed),
        }
    }
}
