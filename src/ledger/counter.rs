//! How many transactions have written to the ledger, and the ledger's own time.
//!
//! Segments of the log and objects in the store record the number that they have seen: a ledger
//! that is behind one of them has gone back in time (a deleted -wal, a restored copy), although
//! every page and row of it is whole.
//!
//! The ledger's time is what a message id's age is measured in: it starts with the wall clock's
//! time, passes while a process runs, and stands still meanwhile. A wall clock that jumps, at
//! whatever moment, makes no id older, and none is remembered for less time than it should be.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use rusqlite::{Connection, OptionalExtension, params};

use super::row::named_crc;
use crate::ambient;
use crate::event::Micros;
use crate::sqlite::damaged;

const TRANSACTIONS: &str = "transactions";
const TIME: &str = "time";

/// The number of the last transaction that is durable; cheap to clone and to read.
#[derive(Clone, Debug, Default)]
pub(super) struct Counter(Arc<AtomicU64>);

impl Counter {
    /// For those who record it often.
    pub(super) fn handle(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.0)
    }

    /// The number.
    pub(super) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    pub(super) fn reached(&self, transaction: u64) {
        self.0.fetch_max(transaction, Relaxed);
    }
}

/// The ledger's time, as it passes in this process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Time {
    opened_at: Micros,
    opened: Instant,
}

impl Time {
    /// Goes on with the time of the last transaction.
    pub(super) fn read(c: &Connection) -> rusqlite::Result<Self> {
        let opened_at = match number(c, TIME)? {
            Some(time) => time,
            None => c
                .query_row("SELECT max(stored_at) FROM batches", [], |row| row.get(0))
                .map(|stored: Option<Micros>| stored.unwrap_or_else(crate::time::now))?,
        };
        Ok(Self { opened_at, opened: ambient::now() })
    }

    pub(super) fn now(&self) -> Micros {
        let passed = ambient::now().duration_since(self.opened).as_micros();
        self.opened_at.saturating_add(Micros::try_from(passed).unwrap_or(Micros::MAX))
    }

    /// Makes it durable with the open transaction.
    pub(super) fn write(&self, c: &Connection) -> rusqlite::Result<()> {
        write_number(c, TIME, self.now())
    }
}

/// The number of the last transaction that has written.
pub(super) fn read(c: &Connection) -> rusqlite::Result<u64> {
    Ok(number(c, TRANSACTIONS)?.unwrap_or(0) as u64)
}

/// Makes that the number of the open transaction.
pub(super) fn write(c: &Connection, transaction: u64) -> rusqlite::Result<()> {
    write_number(c, TRANSACTIONS, transaction as i64)
}

fn number(c: &Connection, name: &str) -> rusqlite::Result<Option<i64>> {
    c.prepare_cached("SELECT value, crc FROM counters WHERE name = ?1")?
        .query_row([name], |row| {
            let read = || {
                let value: i64 = row.get(0).ok()?;
                let crc = named_crc(name, &value.to_le_bytes());
                (row.get::<_, i64>(1).ok()? == i64::from(crc)).then_some(value)
            };
            read().ok_or_else(|| damaged(&format!("the counter {name}")))
        })
        .optional()
}

fn write_number(c: &Connection, name: &str, value: i64) -> rusqlite::Result<()> {
    c.prepare_cached("INSERT OR REPLACE INTO counters (name, value, crc) VALUES (?1, ?2, ?3)")?
        .execute(params![name, value, named_crc(name, &value.to_le_bytes())])
        .map(drop)
}
