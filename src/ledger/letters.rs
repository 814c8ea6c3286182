//! Where every open dead letter stands: written by the commit that moves the cursor past it, so
//! that a letter that the error store loses is missed, and read from the log again.

use rusqlite::{Connection, Row, params};

use super::row::{letter_crc, replayed_crc};
use super::{Ledger, OpenLetter};
use crate::event::{LetterId, Seq, StreamName};
use crate::sqlite::{SqliteError, damaged};

impl Ledger {
    /// Open letters of that stream above that position, in its log's order, at most `max`.
    ///
    /// # Errors
    /// What SQLite said.
    pub fn letters(
        &self,
        stream: &StreamName,
        after: Option<Seq>,
        max: usize,
    ) -> Result<Vec<OpenLetter>, SqliteError> {
        let stream = stream.clone();
        let after = after.map_or(-1, |seq| seq as i64);
        self.read(move |c| {
            let mut find = c.prepare_cached(
                "SELECT stream, seq, letter, log_uuid, crc FROM letters
                 WHERE stream = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3",
            )?;
            let rows = find.query_map(params![stream.as_str(), after, max as i64], read)?;
            rows.collect()
        })
    }

    /// Forgets letters that need not be missed any more: discarded, or reported as lost.
    ///
    /// # Errors
    /// What SQLite said; then none is forgotten.
    pub fn forget_letters(&self, letters: Vec<LetterId>) -> Result<(), SqliteError> {
        self.write(move |c, _| letters.iter().try_for_each(|letter| close(c, *letter)))
    }

    /// Which of these letters' events are stored.
    ///
    /// # Errors
    /// What SQLite said.
    pub fn replayed(&self, letters: Vec<LetterId>) -> Result<Vec<LetterId>, SqliteError> {
        self.read(move |c| {
            let mut find =
                c.prepare_cached("SELECT letter, batch, crc FROM replayed WHERE letter = ?1")?;
            let mut stored = Vec::new();
            for letter in letters {
                let mut rows = find.query([letter])?;
                if let Some(row) = rows.next()? {
                    check_replayed(row)?;
                    stored.push(letter);
                }
            }
            Ok(stored)
        })
    }

    /// The highest number of a letter that the ledger knows, open or stored: a new error store
    /// counts on from there, so that no other letter is taken for it.
    ///
    /// # Errors
    /// What SQLite said.
    pub fn last_letter(&self) -> Result<LetterId, SqliteError> {
        self.read(|c| {
            c.query_row(
                "SELECT max(ifnull((SELECT max(letter) FROM replayed), 0),
                            ifnull((SELECT max(letter) FROM letters), 0))",
                [],
                |row| row.get(0),
            )
        })
    }
}

/// A letter waits at that position; one that waited there before has got another number.
pub(super) fn open(c: &Connection, log_uuid: u128, letter: &OpenLetter) -> rusqlite::Result<()> {
    let (stream, seq, log) = (letter.stream.as_str(), letter.seq as i64, log_uuid.to_be_bytes());
    c.prepare_cached(
        "INSERT OR REPLACE INTO letters (stream, seq, letter, log_uuid, crc)
         VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute(params![stream, seq, letter.letter, log, letter_crc(stream, seq, letter.letter, &log)])
    .map(drop)
}

/// A letter waits no more.
pub(super) fn close(c: &Connection, letter: LetterId) -> rusqlite::Result<()> {
    c.prepare_cached("DELETE FROM letters WHERE letter = ?1")?.execute([letter]).map(drop)
}

/// A letter's event is stored.
pub(super) fn stored(c: &Connection, letter: LetterId, batch: &[u8]) -> rusqlite::Result<()> {
    c.prepare_cached("INSERT OR IGNORE INTO replayed (letter, batch, crc) VALUES (?1, ?2, ?3)")?
        .execute(params![letter, batch, replayed_crc(letter, batch)])?;
    close(c, letter)
}

/// From the columns `stream, seq, letter, log_uuid, crc`.
pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<OpenLetter> {
    let read = || {
        let stream: String = row.get(0).ok()?;
        let (seq, letter): (i64, LetterId) = (row.get(1).ok()?, row.get(2).ok()?);
        let log: [u8; 16] = row.get(3).ok()?;
        let crc = i64::from(letter_crc(&stream, seq, letter, &log));
        let letter = OpenLetter {
            stream: StreamName::new(&stream).ok()?,
            seq: seq as Seq,
            letter,
            log_uuid: u128::from_be_bytes(log),
        };
        (row.get::<_, i64>(4).ok()? == crc).then_some(letter)
    };
    read().ok_or_else(|| damaged("an open letter's row"))
}

/// From the columns `letter, batch, crc`.
pub(super) fn check_replayed(row: &Row<'_>) -> rusqlite::Result<()> {
    let whole = || {
        let crc = replayed_crc(row.get(0).ok()?, row.get_ref(1).ok()?.as_blob().ok()?);
        (row.get::<_, i64>(2).ok()? == i64::from(crc)).then_some(())
    };
    whole().ok_or_else(|| damaged("a stored letter's row"))
}
