//! The error store of the simulation: its database in memory, served on the caller's own thread.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::ErrorStoreError;
use super::database::Database;
use super::store::ErrorStore;
use crate::config::ErrorsConfig;
use crate::sim::Machine;

/// A database that outlives every simulated process.
#[derive(Clone)]
pub(crate) struct InMemory {
    database: Arc<Mutex<Option<Database>>>,
    machine: Machine,
}

impl InMemory {
    /// An empty one.
    pub(crate) fn new(machine: Machine) -> Self {
        let database = unopened(Database::in_memory(machine.clone()));
        Self { database: Arc::new(Mutex::new(Some(database))), machine }
    }

    /// Opens it as a new process does.
    ///
    /// # Errors
    /// As [`ErrorStore::open`]; also where the machine died meanwhile.
    pub(crate) fn open(&self) -> Result<ErrorStore, ErrorStoreError> {
        let mut kept = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        let left = kept.take().ok_or(ErrorStoreError::Closed)?;
        let opened = kept.insert(unopened(left.connection)).count_all();
        if self.machine.is_alive() {
            opened?;
        } else {
            return Err(ErrorStoreError::Closed);
        }
        Ok(ErrorStore::in_memory(self.clone()))
    }

    pub(super) fn serve<T>(
        &self,
        writes: bool,
        work: impl FnOnce(&mut Database) -> rusqlite::Result<T>,
    ) -> Result<T, ErrorStoreError> {
        let mut database = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        let database = database.as_mut().filter(|_| self.machine.is_alive());
        let database = database.ok_or(ErrorStoreError::Closed)?;
        let answer = if writes {
            database.transaction(work)
        } else {
            work(database).map_err(|e| ErrorStoreError::sqlite(&database.path, e))
        };
        if self.machine.is_alive() { answer } else { Err(ErrorStoreError::Closed) }
    }
}

fn unopened(connection: rusqlite::Connection) -> Database {
    let limits = ErrorsConfig { malformed_max: 10, malformed_bytes_max: 10_000 };
    Database::unchecked(connection, Path::new("in memory"), limits, Arc::default())
}
