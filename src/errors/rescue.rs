//! What can be read of a damaged error store goes into a new one.
//!
//! Row by row: a letter whose page or checksum is damaged hides no other. What fails its checksum
//! is kept as bytes beside the damaged file; what can't be read at all is still in that file. The
//! ledger knows which letters are missing then, and the log may still have them.

use std::path::Path;

use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, Row, params_from_iter};
use serde_json::{Value as Json, json};

use super::row::{HEAD, Head, PAYLOAD};
use crate::sqlite::Damage;

const LETTERS: &str = "id, group_id, status, attempts, replay, replay_seq, latest, latest_at, \
     state_crc, stream, seq, kind, received_at, rejected_at, message_id, library, \
     library_version, rejections, receipt, payload_bytes, payload_crc, preview, crc, payload";

/// Tables whose rows are taken as they are.
const OTHERS: [(&str, &str); 2] = [
    ("history", "id, letter, at, what, by, detail"),
    ("audit", "id, at, what, by, filter, note, letters, finished_at, replayed, refused"),
];

/// Copies what is whole from the damaged store into an empty one; returns what was found, for the
/// report.
pub(super) fn rescue(damage: &mut Damage, into: &Connection) -> rusqlite::Result<Json> {
    let path = damage.quarantine.join(&damage.database);
    // It is evidence: nothing may change it.
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let from = match Connection::open_with_flags(path, flags) {
        Ok(from) => from,
        Err(error) => {
            "no dead letter can be read any more".clone_into(&mut damage.outcome);
            return Ok(json!({"unreadable": error.to_string()}));
        }
    };
    into.execute_batch("BEGIN IMMEDIATE")?;
    let copied = copy(&from, into, damage);
    into.execute_batch(if copied.is_ok() { "COMMIT" } else { "ROLLBACK" })?;
    copied
}

fn copy(from: &Connection, into: &Connection, damage: &mut Damage) -> rusqlite::Result<Json> {
    let mut insert = into.prepare(&insert_sql("letters", LETTERS))?;
    let (mut rescued, mut damaged) = (0_u64, Vec::new());
    let columns = format!("{HEAD}, payload, {LETTERS}");
    let gaps = each(from, "letters", &columns, |row| {
        let whole = Head::read(row).is_some_and(|head| head.payload(row).is_some());
        if whole {
            rescued += 1;
            return copy_row(row, PAYLOAD + 1, &mut insert);
        }
        damaged.push(keep(row, &damage.quarantine));
        Ok(())
    })?;
    let lost = damaged.len();
    // What had a position in a log is read there again, or reported when the log has it no more.
    damage.lost = damaged.iter().filter(|letter| letter["perhaps_seq"].is_null()).count() as u64;
    damage.outcome = match gaps.len() {
        0 => format!("{rescued} dead letters were kept, {lost} can't be read any more"),
        _ => {
            format!("{rescued} dead letters were kept, {lost} and some more can't be read any more")
        }
    };
    let mut tables = json!({});
    for (table, columns) in OTHERS {
        let mut insert = into.prepare(&insert_sql(table, columns))?;
        let gaps = each(from, table, columns, |row| copy_row(row, 0, &mut insert))?;
        tables[table] = json!(gaps);
    }
    // Failed replays that are not here are tried and recorded again.
    Ok(json!({
        "letters_rescued": rescued,
        "letters_damaged": damaged,
        "letters_between_can_not_be_read": gaps,
        "others_between_can_not_be_read": tables,
    }))
}

fn insert_sql(table: &str, columns: &str) -> String {
    let values = vec!["?"; columns.split(',').count()].join(", ");
    format!("INSERT OR IGNORE INTO {table} ({columns}) VALUES ({values})")
}

fn copy_row(
    row: &Row<'_>,
    from: usize,
    insert: &mut rusqlite::Statement<'_>,
) -> rusqlite::Result<()> {
    let values = (from..row.as_ref().column_count()).map(|column| row.get::<_, Value>(column));
    let values: Vec<Value> = values.collect::<rusqlite::Result<_>>()?;
    insert.execute(params_from_iter(values)).map(drop)
}

/// Keeps a damaged letter's payload as bytes; returns what the row says of itself.
fn keep(row: &Row<'_>, beside: &Path) -> Json {
    let number = |column: usize| row.get_ref(column).ok().and_then(|value| value.as_i64().ok());
    let text = |column: usize| row.get_ref(column).ok().and_then(|value| value.as_str().ok());
    let id = number(0);
    let payload = row.get_ref(PAYLOAD).ok().and_then(|value| value.as_bytes().ok());
    let file = format!("letter-{}.bin", id.unwrap_or_default());
    let kept = crate::sqlite::write(beside, &file, payload.unwrap_or_default());
    if let Err(error) = &kept {
        tracing::error!(letter = id, %error, "a damaged letter's bytes could not be kept apart");
    }
    tracing::error!(letter = id, "a dead letter is damaged; its bytes are in quarantine");
    json!({
        "letter": id,
        "perhaps_stream": text(7),
        "perhaps_seq": number(8),
        "payload": kept.is_ok().then_some(file),
    })
}

/// Visits every row that can be read, in the order of its number; returns the numbers between
/// which nothing could be read.
fn each(
    from: &Connection,
    table: &str,
    columns: &str,
    mut visit: impl FnMut(&Row<'_>) -> rusqlite::Result<()>,
) -> rusqlite::Result<Vec<(i64, i64)>> {
    let sql = format!("SELECT {columns} FROM {table} WHERE id >= ?1 ORDER BY id");
    let mut gaps = Vec::new();
    let mut next = i64::MIN;
    loop {
        let Ok(mut select) = from.prepare(&sql) else {
            gaps.push((next, i64::MAX));
            return Ok(gaps);
        };
        let mut rows = select.query([next])?;
        loop {
            match rows.next() {
                Ok(None) => return Ok(gaps),
                Ok(Some(row)) => {
                    visit(row)?;
                    next = row.get::<_, i64>(0)?.saturating_add(1);
                }
                Err(_) => break,
            }
        }
        let Some(readable) = first_readable(from, &sql, next) else {
            gaps.push((next, i64::MAX));
            return Ok(gaps);
        };
        gaps.push((next, readable));
        next = readable;
    }
}

/// The lowest number above which rows can be read again: pages hold runs of numbers, so that it
/// can be halved in on.
fn first_readable(from: &Connection, sql: &str, damaged: i64) -> Option<i64> {
    let reads = |start: i64| {
        from.prepare_cached(&format!("{sql} LIMIT 1"))
            .and_then(|mut select| select.query([start])?.next().map(drop))
            .is_ok()
    };
    let (mut below, mut step) = (damaged, 1_i64);
    let mut above = loop {
        let start = damaged.checked_add(step)?;
        if reads(start) {
            break start;
        }
        below = start;
        step = step.checked_mul(2)?;
    };
    while above.checked_sub(below)? > 1 {
        let middle = below + (above - below) / 2;
        if reads(middle) { above = middle } else { below = middle }
    }
    Some(above)
}
