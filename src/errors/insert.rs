//! New letters become rows: several with each statement.
//!
//! A statement opens the table and each of its indexes and closes them again; with many rows it
//! does so once. In: letters that are known to be new. Out: their rows, all of them when
//! [`Rows::write`] was called last; until then a query does not see them.

use std::sync::LazyLock;

use rusqlite::{Connection, Statement};

use super::group::GroupId;
use super::letter::NewLetter;
use super::row::{Changing, Fixed, PREVIEW_BYTES};
use crate::event::LetterId;

/// Rows of one statement; the rest of a request is written one by one.
const ROWS: usize = 16;

/// A payload up to here is in its row's own page, mostly: a list may as well read its beginning.
const PREVIEWED_BYTES_MAX: usize = 1024;

const COLUMNS: &str = "INSERT INTO letters (id, group_id, status, attempts, state_crc, stream, \
     seq, kind, received_at, rejected_at, message_id, library, library_version, rejections, \
     receipt, payload_bytes, payload_crc, preview, crc, payload) VALUES ";
const VALUES: &str = "(?, ?, 0, 0, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";

static ONE: LazyLock<String> = LazyLock::new(|| format!("{COLUMNS}{VALUES}"));
static MANY: LazyLock<String> = LazyLock::new(|| format!("{COLUMNS}{}", [VALUES; ROWS].join(", ")));

/// One letter as it is written.
pub(super) struct Row<'a> {
    pub id: LetterId,
    pub group: GroupId,
    pub letter: &'a NewLetter,
    pub rejections: String,
    pub receipt: String,
    /// What was computed of it, with the texts above in it.
    pub fixed: Facts,
}

/// What a row says beside its texts.
#[derive(Clone, Copy)]
pub(super) struct Facts {
    pub seq: Option<i64>,
    pub kind: i64,
    pub rejected_at: i64,
    pub payload_crc: u32,
    pub crc: u32,
}

impl Facts {
    pub(super) fn of(fixed: &Fixed<'_>) -> Self {
        Self {
            seq: fixed.seq,
            kind: fixed.kind,
            rejected_at: fixed.rejected_at,
            payload_crc: fixed.payload_crc,
            crc: fixed.crc(),
        }
    }
}

/// Rows that are not written yet.
#[derive(Default)]
pub(super) struct Rows<'a>(Vec<Row<'a>>);

impl<'a> Rows<'a> {
    pub(super) fn push(&mut self, row: Row<'a>, connection: &Connection) -> rusqlite::Result<()> {
        self.0.push(row);
        if self.0.len() == ROWS { self.write(connection) } else { Ok(()) }
    }

    /// Writes what was not.
    pub(super) fn write(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        if self.0.len() == ROWS {
            insert(&mut *connection.prepare_cached(&MANY)?, &self.0)?;
        } else if !self.0.is_empty() {
            let mut statement = connection.prepare_cached(&ONE)?;
            for row in &self.0 {
                insert(&mut statement, std::slice::from_ref(row))?;
            }
        }
        self.0.clear();
        Ok(())
    }
}

fn insert(statement: &mut Statement<'_>, rows: &[Row<'_>]) -> rusqlite::Result<()> {
    let mut at = 0;
    for row in rows {
        bind(statement, &mut at, row)?;
    }
    statement.raw_execute().map(drop)
}

fn bind(statement: &mut Statement<'_>, at: &mut usize, row: &Row<'_>) -> rusqlite::Result<()> {
    let Row { letter, fixed, .. } = row;
    let payload = letter.payload.as_slice();
    let preview = match payload.len() {
        ..=PREVIEWED_BYTES_MAX => &[],
        _ => &payload[..PREVIEW_BYTES],
    };
    let values: [&dyn rusqlite::ToSql; 18] = [
        &row.id,
        &row.group,
        &Changing::of_new(row.id, fixed.crc).crc(),
        &letter.stream.as_str(),
        &fixed.seq,
        &fixed.kind,
        &letter.receipt.received_at,
        &fixed.rejected_at,
        &letter.message_id,
        &letter.library,
        &letter.library_version,
        &row.rejections,
        &row.receipt,
        &(payload.len() as i64),
        &fixed.payload_crc,
        &preview,
        &fixed.crc,
        &payload,
    ];
    for value in values {
        *at += 1;
        statement.raw_bind_parameter(*at, value)?;
    }
    Ok(())
}
