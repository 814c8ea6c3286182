//! What can be seen of the warehouse: counters, what waits, the last error, the newest loads.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ledger::{Ledger, Load, LoadState, Waiting};
use crate::sqlite::SqliteError;

/// Loads that a snapshot shows.
const SHOWN: usize = 20;
/// Those of them that have failed for good, which wait for an operator, at most.
const FAILED_SHOWN: usize = 10;

/// The warehouse in a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WarehouseStatus {
    /// `bigquery`, …
    pub name: String,
    /// Loads since the start that have landed.
    pub loaded: u64,
    /// Loads since the start that failed for good.
    pub failed: u64,
    /// Loads since the start that failed and were parted.
    pub split: u64,
    /// Jobs since the start that failed and were followed by another attempt.
    pub retried: u64,
    /// Rows of what has landed.
    pub rows: u64,
    /// Bytes of what has landed.
    pub bytes: u64,
    /// Objects of the lake that are not loaded.
    pub waiting_objects: u64,
    /// Bytes of those.
    pub waiting_bytes: u64,
    /// How long the oldest of those waits.
    pub waiting_age_ms: u64,
    /// How long it may wait before that is a finding.
    pub age_ms_max: u64,
    /// Loads that failed for good and wait for an operator.
    pub failed_now: u64,
    /// The last error, while it fails.
    pub error: Option<String>,
    /// A table that is loaded more rarely, and why.
    #[serde(default)]
    pub slowed: Option<String>,
    /// Loads that failed for good, then those that changed last; at most 20.
    pub loads: Vec<Load>,
}

impl WarehouseStatus {
    /// What is in the lake and not loaded, and why it may have to wait.
    #[must_use]
    pub fn waiting_in_words(&self) -> String {
        let waiting = match self.waiting_objects {
            0 => "no object waits in the lake".to_owned(),
            1 => "1 object waits in the lake".to_owned(),
            more => format!("{more} objects wait in the lake"),
        };
        let slowed = self.slowed.as_ref().map(|why| format!(" ({why})"));
        waiting + &slowed.unwrap_or_default()
    }

    /// How many loads wait for an operator, and what shows them; `None` where none does.
    #[must_use]
    pub fn failed_in_words(&self) -> Option<String> {
        let loads = match self.failed_now {
            0 => return None,
            1 => "a load failed for good".to_owned(),
            more => format!("{more} loads failed for good"),
        };
        Some(format!("{loads}; `eventkit ledger loads --state failed` has why"))
    }
}

/// A cheap handle to what the stage does.
#[derive(Clone, Default)]
pub struct Progress(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    status: WarehouseStatus,
    /// What fails, by table; one that works says nothing of another.
    errors: BTreeMap<String, String>,
    /// What is loaded more rarely, by table.
    slowed: BTreeMap<String, String>,
}

impl Progress {
    /// Of a warehouse of that name, which nobody has asked yet.
    #[must_use]
    pub fn new(name: &str, lag_max: Duration) -> Self {
        let age_ms_max = u64::try_from(lag_max.as_millis()).unwrap_or(u64::MAX);
        let status = WarehouseStatus { name: name.to_owned(), age_ms_max, ..Default::default() };
        Self(Arc::new(Mutex::new(Seen { status, ..Seen::default() })))
    }

    /// As it is now.
    #[must_use]
    pub fn status(&self) -> WarehouseStatus {
        let seen = self.seen();
        let first = |of: &BTreeMap<String, String>| of.values().next().cloned();
        let (error, slowed) = (first(&seen.errors), first(&seen.slowed));
        WarehouseStatus { error, slowed, ..seen.status.clone() }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut WarehouseStatus)) {
        change(&mut self.seen().status);
    }

    /// Whether that error is news.
    pub(super) fn fails(&self, what: &str, error: &str) -> bool {
        let before = self.seen().errors.insert(what.to_owned(), error.to_owned());
        before.as_deref() != Some(error)
    }

    /// Whether it failed before, and nothing does any more.
    pub(super) fn works(&self, what: &str) -> bool {
        let errors = &mut self.seen().errors;
        errors.remove(what).is_some() && errors.is_empty()
    }

    /// A table is loaded more rarely, or as often as it is to be; whether that is news.
    pub(super) fn slows(&self, table: &str, why: Option<String>) -> bool {
        let slowed = &mut self.seen().slowed;
        let is_slow = why.is_some();
        let before = match why {
            Some(why) => slowed.insert(table.to_owned(), why),
            None => slowed.remove(table),
        };
        before.is_some() != is_slow
    }

    pub(super) fn waits(&self, waiting: Waiting, loads: Vec<Load>) {
        self.change(|status| {
            status.waiting_objects = waiting.objects;
            status.waiting_bytes = waiting.bytes;
            status.waiting_age_ms = u64::try_from(waiting.age_us / 1000).unwrap_or(0);
            status.failed_now = waiting.failed;
            status.loads = loads;
        });
    }
}

/// What waits, and the loads that a snapshot shows.
pub(super) fn seen(ledger: &Ledger) -> Result<(Waiting, Vec<Load>), SqliteError> {
    let mut shown = ledger.loads(Some(LoadState::Failed), FAILED_SHOWN)?;
    shown.extend(ledger.loads(None, SHOWN)?.into_iter().filter(|load| !load.is_failed()));
    shown.truncate(SHOWN);
    Ok((ledger.waiting()?, shown))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_works_says_nothing_of_one_that_does_not() {
        let progress = Progress::new("fake", Duration::from_secs(1));
        assert!(progress.fails("a", "no permission"));
        assert!(progress.fails("b", "no quota"));
        assert!(!progress.fails("b", "no quota"), "no news");
        assert!(!progress.works("a"), "the other fails");
        assert_eq!(progress.status().error.as_deref(), Some("no quota"));
        assert!(progress.works("b"));
        assert!(!progress.works("b"), "no news");
        assert_eq!(progress.status().error, None);
    }
}
