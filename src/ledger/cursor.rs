//! A stream's cursor: below it everything is done.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::Progress;
use super::row::{BATCH, BatchRow, SEQS, State};
use crate::event::{Seq, StreamName};
use crate::sqlite::{Checksum, damaged};
use crate::store::Plan;

/// The checksum of a stream's cursor.
pub(super) fn cursor_crc(stream: &str, log_uuid: &[u8], next_seq: i64) -> u32 {
    Checksum::default().text(Some(stream)).bytes(Some(log_uuid)).number(next_seq).value()
}

/// The cursor of that stream in that log.
fn cursor(c: &Connection, stream: &StreamName, log_uuid: u128) -> rusqlite::Result<Option<Seq>> {
    let found = any_cursor(c, stream)?;
    Ok(found.filter(|(uuid, _)| *uuid == log_uuid).map(|(_, next_seq)| next_seq as Seq))
}

/// The cursor of that stream, and in which log.
fn any_cursor(c: &Connection, stream: &StreamName) -> rusqlite::Result<Option<(u128, i64)>> {
    c.prepare_cached("SELECT log_uuid, next_seq, crc FROM cursors WHERE stream = ?1")?
        .query_row([stream.as_str()], |row| read_cursor(stream.as_str(), row))
        .optional()
}

/// A cursor's log and position, from the columns `log_uuid, next_seq, crc`.
pub(super) fn read_cursor(stream: &str, row: &Row<'_>) -> rusqlite::Result<(u128, i64)> {
    let read = || {
        let uuid: [u8; 16] = row.get(0).ok()?;
        let next_seq: i64 = row.get(1).ok()?;
        let whole = row.get::<_, i64>(2).ok()? == i64::from(cursor_crc(stream, &uuid, next_seq));
        whole.then_some((u128::from_be_bytes(uuid), next_seq))
    };
    read().ok_or_else(|| damaged("a cursor"))
}

/// Moves the cursor up; it never goes back.
pub(super) fn set_cursor(
    c: &Connection,
    stream: &StreamName,
    log_uuid: u128,
    next_seq: Seq,
) -> rusqlite::Result<()> {
    let known = cursor(c, stream, log_uuid)?;
    let next_seq = known.map_or(next_seq, |known| known.max(next_seq)) as i64;
    let (name, log) = (stream.as_str(), log_uuid.to_be_bytes());
    c.prepare_cached(
        "INSERT OR REPLACE INTO cursors (stream, log_uuid, next_seq, crc) VALUES (?1, ?2, ?3, ?4)",
    )?
    .execute(params![name, log, next_seq, cursor_crc(name, &log, next_seq)])?;
    // What the cursor has passed is never asked for again.
    c.prepare_cached(
        "UPDATE batches SET seqs = NULL
         WHERE stream = ?1 AND last_seq < ?2 AND state = 'stored' AND seqs IS NOT NULL",
    )?
    .execute(params![name, next_seq])?;
    Ok(())
}

/// What the ledger knows of that log.
pub(super) fn progress(
    c: &Connection,
    stream: &StreamName,
    log_uuid: u128,
) -> rusqlite::Result<Progress> {
    let next_seq = cursor(c, stream, log_uuid)?;
    let elsewhere = any_cursor(c, stream)?.filter(|(uuid, _)| *uuid != log_uuid);
    let elsewhere = elsewhere.map(|(_, next_seq)| next_seq as Seq);
    let mut progress = Progress { next_seq, elsewhere, ..Progress::default() };
    // What is chosen is read again from the row itself: an index may be damaged too.
    let mut batches = c.prepare(&format!(
        "SELECT {BATCH}, seqs FROM batches WHERE stream = ?1 AND state = 'planned'
         UNION ALL
         SELECT {BATCH}, seqs FROM batches
         WHERE stream = ?1 AND state = 'stored' AND last_seq >= ?2 AND seqs IS NOT NULL"
    ))?;
    let mut rows = batches.query(params![stream.as_str(), next_seq.unwrap_or(0) as i64])?;
    while let Some(row) = rows.next()? {
        let batch = BatchRow::read(row)?;
        if batch.log_uuid != log_uuid || batch.stream != stream.as_str() {
            continue;
        }
        let seqs = batch.seqs(row, SEQS)?;
        match batch.state {
            State::Stored => progress.stored |= seqs,
            State::Planned => progress.open.push(Plan {
                id: batch.id,
                stream: stream.clone(),
                log_uuid,
                partitions: batch.partitions,
                object: batch.object,
                seqs,
                ids: Vec::new(),
                digest: batch.digest,
                received: batch.received,
                ledger_tx: batch.ledger_tx as u64,
            }),
            State::Replaced => {}
        }
    }
    progress.open.sort_by_key(|plan| plan.id);
    Ok(progress)
}
