//! Letters come in: from the stages behind the log, and into the ring of malformed bodies.

use rusqlite::{OptionalExtension, params};

use super::database::{Database, Ring};
use super::group::Tally;
use super::insert::{Facts, Row, Rows};
use super::known::Event;
use super::letter::{NewLetter, Status};
use super::row::{Fixed, Kind, json, seq_to_row};
use crate::event::{LetterId, Micros, Phase, Rejection};
use crate::time::now;

/// A request's letters on their way in.
struct Incoming<'a> {
    at: Micros,
    tally: Tally,
    rows: Rows<'a>,
    /// The next letter's number.
    next: LetterId,
    /// The highest position of each stream that has a letter.
    highest: Vec<(&'a str, i64)>,
}

impl Database {
    /// Writes the letters and returns their numbers, in their order; a number that is given is
    /// kept. A position that has its letter already keeps it, unchanged; so does an event that its
    /// client has sent again.
    pub(super) fn put(
        &mut self,
        letters: &[(Option<LetterId>, NewLetter)],
    ) -> rusqlite::Result<Vec<LetterId>> {
        let mut incoming = self.incoming()?;
        let mut ids = Vec::with_capacity(letters.len());
        for (id, letter) in letters {
            ids.push(self.put_one(&mut incoming, *id, letter, Kind::of(letter))?);
        }
        self.finish(incoming)?;
        Ok(ids)
    }

    fn incoming<'a>(&self) -> rusqlite::Result<Incoming<'a>> {
        // As AUTOINCREMENT would have it: never a number that was given before.
        let next = self
            .connection
            .prepare_cached(
                "SELECT max(ifnull((SELECT seq FROM sqlite_sequence WHERE name = 'letters'), 0), \
                 ifnull((SELECT max(id) FROM letters), 0)) + 1",
            )?
            .query_row([], |row| row.get(0))?;
        Ok(Incoming {
            at: now(),
            tally: Tally::default(),
            rows: Rows::default(),
            next,
            highest: Vec::new(),
        })
    }

    fn finish(&mut self, mut incoming: Incoming<'_>) -> rusqlite::Result<()> {
        incoming.rows.write(&self.connection)?;
        self.apply(incoming.tally)
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
        let mut incoming = self.incoming()?;
        let mut dropped = 0;
        while ring.letters + 1 > letters_max || ring.bytes + bytes > bytes_max {
            let Some(bytes) = self.drop_oldest(&mut incoming.tally)? else {
                break;
            };
            dropped += 1;
            ring.letters -= 1;
            ring.bytes = ring.bytes.saturating_sub(bytes);
        }
        self.put_one(&mut incoming, None, letter, Kind::Ring)?;
        self.finish(incoming)?;
        if dropped > 0 {
            self.count_dropped(dropped)?;
        }
        // A body of the ring has no log position, so that it never finds itself already there.
        self.ring = Some(Ring { letters: ring.letters + 1, bytes: ring.bytes + bytes });
        Ok(())
    }

    fn put_one<'a>(
        &mut self,
        incoming: &mut Incoming<'a>,
        id: Option<LetterId>,
        letter: &'a NewLetter,
        kind: Kind,
    ) -> rusqlite::Result<LetterId> {
        if let Some(known) = self.at_position(incoming, letter, kind)? {
            return Ok(known);
        }
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
        let at = incoming.at;
        let fixed = Fixed::new(letter, kind, at, &rejections, &receipt);
        let id = id.unwrap_or(incoming.next);
        if let Some(event) = event_of(&fixed, letter) {
            if let Some(known) = self.same_event(incoming, event, letter)? {
                return Ok(known);
            }
            self.known.insert(event, id);
        }
        let (facts, bytes) = (Facts::of(&fixed), fixed.payload_bytes);
        incoming.next = incoming.next.max(id.saturating_add(1));
        let tally = &mut incoming.tally;
        let group = self.group(tally, &letter.stream, top, letter.library.as_deref(), at)?;
        tally.change(group, None, Some(Status::Open));
        tally.bytes(group, bytes);
        tally.rejected(group, at);
        let row = Row { id, group, letter, rejections, receipt, fixed: facts };
        incoming.rows.push(row, &self.connection)?;
        Ok(id)
    }

    /// The letter that the position has already. Positions come in their order, mostly: what is
    /// above all that are there needs no look.
    fn at_position<'a>(
        &self,
        incoming: &mut Incoming<'a>,
        letter: &'a NewLetter,
        kind: Kind,
    ) -> rusqlite::Result<Option<LetterId>> {
        let Some(seq) = letter.seq.filter(|_| kind != Kind::Ring).map(seq_to_row) else {
            return Ok(None);
        };
        let stream = letter.stream.as_str();
        let found = incoming.highest.iter().position(|(name, _)| *name == stream);
        let at = match found {
            Some(at) => at,
            None => {
                let highest: Option<i64> = self
                    .connection
                    .prepare_cached(
                        "SELECT max(seq) FROM letters INDEXED BY letters_position \
                         WHERE stream = ?1 AND seq IS NOT NULL",
                    )?
                    .query_row([stream], |row| row.get(0))?;
                incoming.highest.push((stream, highest.unwrap_or(-1)));
                incoming.highest.len() - 1
            }
        };
        let highest = &mut incoming.highest[at].1;
        if seq > *highest {
            *highest = seq;
            return Ok(None);
        }
        incoming.rows.write(&self.connection)?;
        self.connection
            .prepare_cached("SELECT id FROM letters WHERE stream = ?1 AND seq = ?2")?
            .query_row(params![stream, seq], |row| row.get(0))
            .optional()
    }

    /// The letter of the same message and payload, unless it was discarded: a client that got no
    /// answer sends its event again, and mending it once is enough. Two replays of one event
    /// would be two rows. What a store refuses now is not stored, whatever is said of an earlier
    /// letter that was resolved.
    fn same_event(
        &self,
        incoming: &mut Incoming<'_>,
        event: Event,
        letter: &NewLetter,
    ) -> rusqlite::Result<Option<LetterId>> {
        let Some(id) = self.known.letter(event) else {
            return Ok(None);
        };
        let is_refused = letter.rejections.iter().any(|why| why.phase == Phase::Store);
        incoming.rows.write(&self.connection)?;
        self.connection
            .prepare_cached(
                "SELECT id FROM letters WHERE id = ?1 AND stream = ?2 AND message_id = ?3 \
                 AND payload = ?4 AND status <> 3 AND NOT (status = 2 AND ?5)",
            )?
            .query_row(
                params![id, letter.stream.as_str(), letter.message_id, letter.payload, is_refused],
                |row| row.get(0),
            )
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

/// What a repetition is recognised by, a client's or a topic's; none where it has a new id.
fn event_of(fixed: &Fixed<'_>, letter: &NewLetter) -> Option<Event> {
    // A minted id is new with every request, but not with every delivery of a topic.
    let is_kept = letter.receipt.message_id.is_none() || letter.receipt.origin.is_some();
    let message_id = fixed.message_id.filter(|_| is_kept)?;
    Some(Event::new(fixed.stream, message_id, (fixed.payload_bytes, fixed.payload_crc)))
}
