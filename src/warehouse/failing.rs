//! Which tables take no object at all.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::stage::Table;

/// Objects of one table that fail for good one after the other; then it is the table that is
/// wrong, and its jobs come slowly until one lands.
const FAILED_IN_A_ROW: u32 = 5;

/// Objects of each table that failed since one was loaded.
#[derive(Default)]
pub(super) struct Failing(Mutex<HashMap<Table, u32>>);

impl Failing {
    fn tables(&self) -> MutexGuard<'_, HashMap<Table, u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One failed for good; returns whether it is the table that is wrong.
    pub fn failed(&self, table: &Table) -> bool {
        *self.tables().entry(table.clone()).or_default() += 1;
        self.takes_nothing(table)
    }

    /// Something has landed.
    pub fn landed(&self, table: &Table) {
        self.tables().remove(table);
    }

    /// Whether it is the table that is wrong.
    pub fn takes_nothing(&self, table: &Table) -> bool {
        self.tables().get(table).is_some_and(|failed| *failed >= FAILED_IN_A_ROW)
    }
}
