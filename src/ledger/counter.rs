//! How many transactions have written to the ledger.
//!
//! Segments of the log and objects in the store record the number that they have seen: a ledger
//! that is behind one of them has gone back in time (a deleted -wal, a restored copy), although
//! every page and row of it is whole.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rusqlite::{Connection, OptionalExtension, params};

use super::row::named_crc;
use crate::sqlite::damaged;

const TRANSACTIONS: &str = "transactions";

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

/// The number of the last transaction that has written.
pub(super) fn read(c: &Connection) -> rusqlite::Result<u64> {
    let found = c
        .prepare_cached("SELECT value, crc FROM counters WHERE name = ?1")?
        .query_row([TRANSACTIONS], |row| {
            let read = || {
                let value: i64 = row.get(0).ok()?;
                let crc = named_crc(TRANSACTIONS, &value.to_le_bytes());
                (row.get::<_, i64>(1).ok()? == i64::from(crc)).then_some(value as u64)
            };
            read().ok_or_else(|| damaged("the transaction counter"))
        })
        .optional()?;
    Ok(found.unwrap_or(0))
}

/// Makes that the number of the open transaction.
pub(super) fn write(c: &Connection, transaction: u64) -> rusqlite::Result<()> {
    let value = transaction as i64;
    c.prepare_cached("INSERT OR REPLACE INTO counters (name, value, crc) VALUES (?1, ?2, ?3)")?
        .execute(params![TRANSACTIONS, value, named_crc(TRANSACTIONS, &value.to_le_bytes())])
        .map(drop)
}
