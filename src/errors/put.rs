//! Letters come in: from the stages behind the log, and into the ring of malformed bodies.

use rusqlite::{OptionalExtension, params};

use super::database::{Database, Ring};
use super::group::{GroupId, Tally};
use super::letter::{NewLetter, Status};
use super::row::{Changing, Fixed, Kind, json, seq_to_row};
use crate::event::{LetterId, Micros, Phase, Rejection};
use crate::time::now;

impl Database {
    /// Writes the letters and returns their numbers, in their order; a number that is given is
    /// kept. A position that has its letter already keeps it, unchanged; so does an event that its
    /// client has sent again.
    pub(super) fn put(
        &mut self,
        letters: &[(Option<LetterId>, NewLetter)],
    ) -> rusqlite::Result<Vec<LetterId>> {
        let at = now();
        let mut tally = Tally::default();
        let mut ids = Vec::with_capacity(letters.len());
        for (id, letter) in letters {
            ids.push(self.put_one(&mut tally, *id, letter, Kind::of(letter), at)?);
        }
        self.apply(tally)?;
        Ok(ids)
    }

    /// Writes a malformed body and drops the oldest open ones that exceed the ring; a body that
    /// alone exceeds it is dropped itself. Every drop is counted in the same transaction.
    pub(super) fn put_malformed(&mut self, letter: &NewLetter) -> rusqlite::Result<()> {
        let letters_max = self.limits.malformed_max as u64;
        let bytes_max = self.limits.malformed_bytes_max as u64;
        let bytes = letter.payload.len() as u64;
        if letters_max == 0 || bytes > bytes_max {
            return self.count_dropped(1);
        }
        let mut ring = match self.ring {
            Some(ring) => ring,
            None => self.measure_ring()?,
        };
        let mut tally = Tally::default();
        let mut dropped = 0;
        while ring.letters + 1 > letters_max || ring.bytes + bytes > bytes_max {
            let Some(bytes) = self.drop_oldest(&mut tally)? else {
                break;
            };
            dropped += 1;
            ring.letters -= 1;
            ring.bytes = ring.bytes.saturating_sub(bytes);
        }
        self.put_one(&mut tally, None, letter, Kind::Ring, now())?;
        self.apply(tally)?;
        if dropped > 0 {
            self.count_dropped(dropped)?;
        }
        // A body of the ring has no log position, so that it never finds itself already there.
        self.ring = Some(Ring { letters: ring.letters + 1, bytes: ring.bytes + bytes });
        Ok(())
    }

    fn put_one(
        &mut self,
        tally: &mut Tally,
        id: Option<LetterId>,
        letter: &NewLetter,
        kind: Kind,
        at: Micros,
    ) -> rusqlite::Result<LetterId> {
        let unnamed;
        let (top, rejections) = match letter.rejections.first() {
            Some(top) => (top, json(&letter.rejections)?),
            // Nobody may send this; dropping the event for it would be worse.
            None => {
                unnamed = Rejection {
                    phase: Phase::Store,
                    reason: "unnamed".to_owned(),
                    path: String::new(),
                    message: "rejected without a reason".to_owned(),
                };
                let rejections = json(&[&unnamed])?;
                (&unnamed, rejections)
            }
        };
        let receipt = json(&letter.receipt)?;
        let row = Fixed::new(letter, kind, at, &rejections, &receipt);
        let group = self.group(tally, &letter.stream, top, letter.library.as_deref(), at)?;
        // A malformed body was never in the log.
        let seq = if kind == Kind::Ring { None } else { row.seq };
        let row = Fixed { seq, ..row };
        if let Some(known) = self.same_event(&row, letter)? {
            return Ok(known);
        }
        if !self.insert(id, group, &row, &letter.payload)? {
            return self
                .connection
                .prepare_cached("SELECT id FROM letters WHERE stream = ?1 AND seq = ?2")?
                .query_row(params![row.stream, letter.seq.map(seq_to_row)], |row| row.get(0));
        }
        tally.change(group, None, Some(Status::Open));
        tally.bytes(group, row.payload_bytes);
        tally.rejected(group, at);
        Ok(self.connection.last_insert_rowid())
    }

    /// Inserts an open letter with its checksums; `false` where its position has one.
    fn insert(
        &self,
        id: Option<LetterId>,
        group: GroupId,
        row: &Fixed<'_>,
        payload: &[u8],
    ) -> rusqlite::Result<bool> {
        let inserted = self
            .connection
            .prepare_cached(
                "INSERT INTO letters (id, group_id, status, attempts, stream, seq, kind, received_at, \
                 rejected_at, message_id, library, library_version, rejections, receipt, \
                 payload_bytes, payload_crc, preview, crc, payload) VALUES (?1, ?2, 0, 0, ?3, ?4, \
                 ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17) \
                 ON CONFLICT DO NOTHING",
            )?
            .execute(params![
                id,
                group,
                row.stream,
                row.seq,
                row.kind,
                row.received_at,
                row.rejected_at,
                row.message_id,
                row.library,
                row.library_version,
                row.rejections,
                row.receipt,
                row.payload_bytes,
                row.payload_crc,
                row.preview,
                row.crc(),
                payload
            ])?;
        if inserted == 0 {
            return Ok(false);
        }
        let id = self.connection.last_insert_rowid();
        self.connection
            .prepare_cached("UPDATE letters SET state_crc = ?2 WHERE id = ?1")?
            .execute(params![id, Changing::of_new(id, row.crc()).crc()])?;
        Ok(true)
    }

    /// The letter of the same message and payload, unless it was discarded: a client that got no
    /// answer sends its event again, and mending it once is enough. Two replays of one event
    /// would be two rows.
    fn same_event(
        &self,
        row: &Fixed<'_>,
        letter: &NewLetter,
    ) -> rusqlite::Result<Option<LetterId>> {
        // A minted id is new with every request.
        if row.message_id.is_none() || letter.receipt.message_id.is_some() {
            return Ok(None);
        }
        self.connection
            .prepare_cached(
                "SELECT id FROM letters WHERE stream = ?1 AND message_id = ?2 AND payload = ?3 \
                 AND status <> 3 AND seq IS NOT ?4 LIMIT 1",
            )?
            .query_row(params![row.stream, row.message_id, letter.payload, row.seq], |r| r.get(0))
            .optional()
    }

    fn measure_ring(&self) -> rusqlite::Result<Ring> {
        let (letters, bytes): (i64, i64) = self
            .connection
            .prepare_cached(
                "SELECT count(*), ifnull(sum(payload_bytes), 0) FROM letters \
                 INDEXED BY letters_ring WHERE status = 0 AND kind = 2",
            )?
            .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(Ring {
            letters: u64::try_from(letters).unwrap_or(0),
            bytes: u64::try_from(bytes).unwrap_or(0),
        })
    }

    /// Removes the oldest open body of the ring; returns its size.
    fn drop_oldest(&self, tally: &mut Tally) -> rusqlite::Result<Option<u64>> {
        let dropped: Option<(LetterId, i64, i64)> = self
            .connection
            .prepare_cached(
                "DELETE FROM letters WHERE id = (SELECT id FROM letters INDEXED BY letters_ring \
                 WHERE status = 0 AND kind = 2 ORDER BY id LIMIT 1) \
                 RETURNING id, group_id, payload_bytes",
            )?
            .query_row([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .optional()?;
        let Some((id, group, bytes)) = dropped else {
            return Ok(None);
        };
        self.connection.prepare_cached("DELETE FROM history WHERE letter = ?1")?.execute([id])?;
        tally.change(group, Some(Status::Open), None);
        tally.bytes(group, -bytes);
        Ok(Some(u64::try_from(bytes).unwrap_or(0)))
    }

    fn count_dropped(&mut self, letters: u32) -> rusqlite::Result<()> {
        self.connection
            .prepare_cached(
                "INSERT INTO totals VALUES ('malformed_dropped', ?1) \
                 ON CONFLICT (name) DO UPDATE SET value = value + excluded.value",
            )?
            .execute([letters])?;
        self.counts.malformed_dropped += u64::from(letters);
        Ok(())
    }
}
