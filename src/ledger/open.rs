//! What a ledger's file has to be before it is believed: of this format, and every row that a
//! start reads what was written.

use std::sync::LazyLock;

use rusqlite::{Connection, Transaction, params};
use rusqlite_migration::{HookResult, M};

use super::row::{self, BATCH, BatchRow, IDS, SEQS, State, named_crc, seal, unseal};
use super::{counter, cursor, letters, loads};
use crate::sqlite::damaged;
use crate::store::BatchId;

/// One migration, one format.
pub(super) static MIGRATIONS: LazyLock<[M<'static>; 5]> = LazyLock::new(|| {
    [
        M::up(include_str!("../../migrations/ledger/0001_ledger.sql")),
        M::up_with_hook(include_str!("../../migrations/ledger/0002_checksums.sql"), checksums),
        M::up(include_str!("../../migrations/ledger/0003_partitions.sql")),
        M::up(include_str!("../../migrations/ledger/0004_loads.sql")),
        M::up(include_str!("../../migrations/ledger/0005_dismissed.sql")),
    ]
});

/// Rows of the first format get their checksums: what they say now is what is believed.
fn checksums(c: &Transaction<'_>) -> HookResult {
    let ids: Vec<[u8; 16]> = c
        .prepare("SELECT id FROM batches")?
        .query_map([], |r| r.get(0))?
        .collect::<Result<_, _>>()?;
    // A batch had one partition then.
    let columns = BATCH.replace("last_partition", "partition");
    for id in ids {
        let id = BatchId::from_bytes(id);
        let (seqs, hashes) =
            c.query_row("SELECT seqs, ids FROM batches WHERE id = ?1", [id.as_bytes()], |row| {
                Ok((row.get::<_, Option<Vec<u8>>>(0)?, row.get::<_, Option<Vec<u8>>>(1)?))
            })?;
        let crc = c.query_row(
            &format!("SELECT {columns} FROM batches WHERE id = ?1"),
            [id.as_bytes()],
            BatchRow::crc_of,
        )?;
        c.execute(
            "UPDATE batches SET seqs = ?2, ids = ?3, crc = ?4 WHERE id = ?1",
            params![id.as_bytes(), seqs.map(|b| seal(id, b)), hashes.map(|b| seal(id, b)), crc],
        )?;
    }
    let cursors: Vec<(String, Vec<u8>, i64)> = c
        .prepare("SELECT stream, log_uuid, next_seq FROM cursors")?
        .query_map([], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))?
        .collect::<Result<_, _>>()?;
    for (stream, log, next_seq) in cursors {
        let crc = cursor::cursor_crc(&stream, &log, next_seq);
        c.execute("UPDATE cursors SET crc = ?2 WHERE stream = ?1", params![stream, crc])?;
    }
    let replayed: Vec<(i64, Vec<u8>)> = c
        .prepare("SELECT letter, batch FROM replayed")?
        .query_map([], |r| Ok((r.get(0)?, r.get(1)?)))?
        .collect::<Result<_, _>>()?;
    for (letter, batch) in replayed {
        let crc = row::replayed_crc(letter, &batch);
        c.execute("UPDATE replayed SET crc = ?2 WHERE letter = ?1", params![letter, crc])?;
    }
    let key: Vec<u8> =
        c.query_row("SELECT value FROM secrets WHERE name = 'ids'", [], |row| row.get(0))?;
    let crc = named_crc("ids", &key);
    c.execute("UPDATE secrets SET crc = ?1 WHERE name = 'ids'", [crc])?;
    Ok(())
}

/// Checks every row that a start reads; one that is not what was written makes the whole ledger
/// one that has to be made again.
pub(super) fn check(c: &Connection) -> rusqlite::Result<()> {
    counter::read(c)?;
    counter::Time::read(c)?;
    id_key(c)?;
    loads::check(c)?;
    let mut cursors = c.prepare("SELECT log_uuid, next_seq, crc, stream FROM cursors")?;
    let mut rows = cursors.query([])?;
    while let Some(found) = rows.next()? {
        let stream = found.get_ref(3)?.as_str().map_err(|_| damaged("a cursor"))?;
        cursor::read_cursor(stream, found)?;
    }
    let mut open = c.prepare("SELECT stream, seq, letter, log_uuid, crc FROM letters")?;
    let mut rows = open.query([])?;
    while let Some(found) = rows.next()? {
        letters::read(found)?;
    }
    let mut replayed = c.prepare("SELECT letter, batch, crc FROM replayed")?;
    let mut rows = replayed.query([])?;
    while let Some(found) = rows.next()? {
        letters::check_replayed(found)?;
    }
    let mut batches = c.prepare(&format!(
        "SELECT {BATCH}, seqs, ids FROM batches
         WHERE state = 'planned' OR seqs IS NOT NULL OR ids IS NOT NULL"
    ))?;
    let mut rows = batches.query([])?;
    while let Some(found) = rows.next()? {
        let batch = BatchRow::read(found)?;
        let seqs = batch.seqs(found, SEQS)?;
        let lacks_seqs = batch.state == State::Planned && seqs.len() as i64 != batch.rows;
        let ids = found.get_ref(IDS)?.as_blob_or_null().map_err(|_| damaged("a batch's ids"))?;
        ids.map(|ids| unseal(batch.id, ids)).transpose()?;
        if lacks_seqs {
            return Err(damaged("an open plan's positions"));
        }
    }
    Ok(())
}

/// The secret that message ids are hashed with.
pub(super) fn id_key(c: &Connection) -> rusqlite::Result<[u8; 16]> {
    c.query_row("SELECT value, crc FROM secrets WHERE name = 'ids'", [], |row| {
        let read = || {
            let key: [u8; 16] = row.get(0).ok()?;
            (row.get::<_, i64>(1).ok()? == i64::from(named_crc("ids", &key))).then_some(key)
        };
        read().ok_or_else(|| damaged("the secret of the message ids"))
    })
    .map_err(|error| match error {
        rusqlite::Error::QueryReturnedNoRows => damaged("the secret of the message ids"),
        other => other,
    })
}
