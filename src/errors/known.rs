//! Which events have a letter already, so that one that its client sends again, or a topic delivers
//! again, gets no second.
//!
//! In memory, and bounded: the newest letters are known, at least [`GENERATION_MAX`] of them. A
//! repeated event that is older than those becomes a letter of its own, and when both are replayed
//! one of them lands (as everywhere, by its message id). An answer is a hint: whoever asks looks at
//! the letter before it is believed, so that a transaction that was rolled back, a letter that has
//! gone and two events of one hash do no harm.

use std::collections::HashMap;

use rusqlite::Connection;
use xxhash_rust::xxh3::Xxh3;

use crate::event::LetterId;

/// Letters of one generation: 4.5 MiB; there are two at most.
const GENERATION_MAX: usize = 7 << 15;

/// The hash of an event: its stream, its message id, and its payload by length and CRC32C.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Event(u64);

impl Event {
    pub(super) fn new(stream: &str, message_id: &str, (bytes, crc): (i64, u32)) -> Self {
        let mut hash = Xxh3::new();
        hash.update(&(stream.len() as u64).to_le_bytes());
        hash.update(stream.as_bytes());
        hash.update(message_id.as_bytes());
        hash.update(&bytes.to_le_bytes());
        hash.update(&crc.to_le_bytes());
        Self(hash.digest())
    }
}

/// The newest letters by their events.
#[derive(Default)]
pub(super) struct Known {
    young: HashMap<Event, LetterId>,
    old: HashMap<Event, LetterId>,
}

impl Known {
    /// Those of the newest letters.
    pub(super) fn read(connection: &Connection) -> rusqlite::Result<Self> {
        let mut known = Self::default();
        // A minted id is new with every request, and its receipt has it; one with an origin comes
        // as it is with every delivery.
        let mut select = connection.prepare(
            "SELECT id, stream, message_id, payload_bytes, payload_crc FROM letters \
             WHERE message_id IS NOT NULL AND status <> 3 \
             AND (instr(receipt, '\"message_id\":null') > 0 OR instr(receipt, '\"origin\":{') > 0) \
             ORDER BY id DESC LIMIT ?1",
        )?;
        let mut rows = select.query([GENERATION_MAX as i64])?;
        while let Some(row) = rows.next()? {
            // What a damaged row says is not believed either when it is asked for.
            let (Ok(stream), Ok(message_id)) = (row.get_ref(1)?.as_str(), row.get_ref(2)?.as_str())
            else {
                continue;
            };
            let payload = (row.get(3)?, row.get(4)?);
            known.young.entry(Event::new(stream, message_id, payload)).or_insert(row.get(0)?);
        }
        Ok(known)
    }

    /// The newest letter that may be the event's.
    pub(super) fn letter(&self, event: Event) -> Option<LetterId> {
        self.young.get(&event).or_else(|| self.old.get(&event)).copied()
    }

    /// A letter more; where there is no room for it, the older half is forgotten.
    pub(super) fn insert(&mut self, event: Event, letter: LetterId) {
        if self.young.len() >= GENERATION_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(event, letter);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_letters_are_known_and_the_memory_is_bounded() {
        let mut known = Known::default();
        let event = |n: usize| Event::new("s", &n.to_string(), (1, 2));
        let all = 3 * GENERATION_MAX;
        (0..all).for_each(|n| known.insert(event(n), n as LetterId));
        let newest = all - GENERATION_MAX..all;
        assert!(newest.into_iter().all(|n| known.letter(event(n)) == Some(n as LetterId)));
        assert_eq!(known.letter(event(0)), None);
        assert!(known.young.len() + known.old.len() <= 2 * GENERATION_MAX);
    }

    #[test]
    fn an_event_is_its_stream_its_id_and_its_payload() {
        let event = Event::new("ab", "c", (1, 2));
        assert_eq!(Event::new("ab", "c", (1, 2)), event);
        for other in [
            Event::new("a", "bc", (1, 2)),
            Event::new("ab", "d", (1, 2)),
            Event::new("ab", "c", (2, 2)),
            Event::new("ab", "c", (1, 3)),
        ] {
            assert_ne!(other, event);
        }
    }
}
