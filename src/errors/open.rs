//! What an error store's file has to be before it is believed: of this format, and every letter
//! what was written.

use std::sync::LazyLock;

use rusqlite::{Connection, Transaction, params};
use rusqlite_migration::{HookResult, M};

use super::row::{HEAD, Head, failure_crc, read_failure, state_crc};
use crate::event::{LetterId, StreamName};
use crate::sqlite::damaged;

/// One migration, one format.
pub(super) static MIGRATIONS: LazyLock<[M<'static>; 3]> = LazyLock::new(|| {
    [
        M::up(include_str!("../../migrations/errors/0001_letters.sql")),
        M::up_with_hook(include_str!("../../migrations/errors/0002_checksums.sql"), checksums),
        M::up(include_str!("../../migrations/errors/0003_known.sql")),
    ]
});

/// Rows of the first format get their checksums: what they say now is what is believed.
fn checksums(c: &Transaction<'_>) -> HookResult {
    let mut after = LetterId::MIN;
    loop {
        let page: Vec<(LetterId, Option<u32>)> = c
            .prepare_cached(&format!(
                "SELECT {HEAD} FROM letters WHERE id > ?1 ORDER BY id LIMIT 1000"
            ))?
            .query_map([after], |row| Ok((row.get(0)?, state_crc(row))))?
            .collect::<Result<_, _>>()?;
        let Some((last, _)) = page.last() else { break };
        after = *last;
        for (id, crc) in page {
            c.prepare_cached("UPDATE letters SET state_crc = ?2 WHERE id = ?1")?
                .execute(params![id, crc])?;
        }
    }
    let failures: Vec<(String, i64, LetterId)> = c
        .prepare("SELECT stream, seq, letter FROM failures")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect::<Result<_, _>>()?;
    for (stream, seq, letter) in failures {
        c.prepare_cached(
            "UPDATE failures SET crc = ?4 WHERE stream = ?1 AND seq = ?2 AND letter = ?3",
        )?
        .execute(params![stream, seq, letter, failure_crc(&stream, seq, letter)])?;
    }
    Ok(())
}

/// Checks every letter with its payload, and every failed replay. One that is not what was written
/// makes the store one that has to be made again: also its indexes may say something else.
pub(super) fn check(c: &Connection) -> rusqlite::Result<()> {
    let mut letters = c.prepare(&format!("SELECT {HEAD}, payload FROM letters ORDER BY id"))?;
    let mut rows = letters.query([])?;
    while let Some(row) = rows.next()? {
        if Head::read(row).is_none_or(|head| head.payload(row).is_none()) {
            let id: Option<LetterId> = row.get(0).ok();
            return Err(damaged(&format!("letter {}", id.unwrap_or_default())));
        }
    }
    let mut failures = c.prepare("SELECT seq, letter, crc, stream FROM failures")?;
    let mut rows = failures.query([])?;
    while let Some(row) = rows.next()? {
        let stream = row.get_ref(3)?.as_str().ok().and_then(|name| StreamName::new(name).ok());
        if stream.and_then(|stream| read_failure(&stream, row)).is_none() {
            return Err(damaged("a failed replay's row"));
        }
    }
    Ok(())
}
