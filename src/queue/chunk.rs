//! One chunk's passage from the log's bytes into buffers and dead letters.

use std::collections::{BTreeMap, HashSet};
use std::time::Instant;

use roaring::RoaringTreemap;

use super::message::{Message, Packing};
use super::publish::{Route, Way};
use super::recall::Recall;
use crate::adapt::{Adapter, Rejected};
use crate::dedupe::{Dedupe, IdHash};
use crate::errors::NewLetter;
use crate::event::{LetterId, Phase, RawEvent, Receipt, Rejection, Seq, TypedEvent};
use crate::load::EventLoader;
use crate::priority;
use crate::sequence::Sequencer;
use crate::store::Batch;
use crate::streams::Stream;
use crate::wal::{Chunk, Damage};

/// So many records are adapted before their ids are looked for, all together.
const TOGETHER: usize = 64;

/// A record on its way.
struct Adapted<'c> {
    raw: RawEvent<'c>,
    event: Result<TypedEvent<'c>, Rejected>,
    id: IdHash,
}

/// One chunk's passage: the stages it goes through, and what comes of it.
pub(super) struct Passage<'c> {
    pub adapter: &'c Adapter,
    pub dedupe: &'c mut Dedupe,
    pub sequencer: Sequencer,
    /// Positions that an earlier process had finished.
    pub finished: &'c RoaringTreemap,
    /// What the store has, and the ledger did not know.
    pub recall: &'c Recall,
    /// Below, everything is done but what is missing.
    pub cursor: Seq,
    /// Letters that have to be made again, by position.
    pub missing: &'c BTreeMap<Seq, LetterId>,
    /// Those of them whose events are dead letters, or failed again when they were replayed.
    pub buried: &'c RoaringTreemap,
    /// Letters that an earlier process was replaying.
    pub unseen: &'c mut HashSet<LetterId>,
    pub loader: &'c mut EventLoader,
    /// Which records are for a topic, and which will be delivered again.
    pub route: Route,
    /// What is published of them.
    pub packing: Packing,
    pub stream: &'c Stream,
    pub now: Instant,
    /// Records below were read before; they stand in the same frame.
    pub from: Seq,
    pub passed: Passed,
}

/// What has to be made durable after a chunk has passed, before its positions are done.
#[derive(Default)]
pub(super) struct Passed {
    pub letters: Vec<NewLetter>,
    pub failed_again: Vec<(LetterId, NewLetter)>,
    /// Letters whose event has landed without them.
    pub already_stored: Vec<LetterId>,
    /// Letters whose replay was stored by an earlier process that could not close them.
    pub stored_before: Vec<LetterId>,
    /// Records that make no sense.
    pub lost: Vec<Damage>,
    /// What goes into the topic.
    pub messages: Vec<Message>,
    /// Positions that need nothing more once the letters are durable.
    pub done: RoaringTreemap,
    adapted: u64,
    duplicates: u64,
    skewed: u64,
}

impl Passage<'_> {
    /// Brings each record of the chunk into a buffer or to the dead letters.
    pub(super) fn run(mut self, chunk: &Chunk<'_>) -> Passed {
        let mut adapted = Vec::with_capacity(TOGETHER);
        for (seq, record) in chunk.records() {
            match record {
                Some((receipt, payload)) => {
                    let raw = RawEvent { stream: &self.stream.name, seq, payload, receipt };
                    adapted.extend(self.adapt(raw));
                    if adapted.len() == TOGETHER {
                        self.take(&mut adapted);
                    }
                }
                None if seq < self.from => {}
                None => self.passed.lost.push(Damage { from: seq, to: seq + 1, evidence: None }),
            }
        }
        self.take(&mut adapted);
        let Self { stream, mut passed, packing, .. } = self;
        passed.messages = packing.finish();
        stream.stats.adapted_events.add(passed.adapted);
        stream.stats.duplicate_events.add(passed.duplicates);
        stream.stats.skewed_events.add(passed.skewed);
        let failed_again = passed.failed_again.iter().map(|(_, letter)| letter);
        let rejected = passed.letters.iter().chain(failed_again);
        passed.done.extend(rejected.filter_map(|letter| letter.seq));
        passed
    }

    /// The event of a record, or why it is none; nothing where nothing is to be done for it.
    fn adapt<'c>(&mut self, raw: RawEvent<'c>) -> Option<Adapted<'c>> {
        if raw.seq < self.from {
            return None;
        }
        if raw.seq < self.cursor && !self.missing.contains_key(&raw.seq) {
            self.passed.done.insert(raw.seq);
            return None;
        }
        if self.buried.contains(raw.seq) {
            // An earlier replay of a letter, which failed, says nothing about a later one.
            self.passed.done.insert(raw.seq);
            return None;
        }
        let unseen = raw.receipt.replay.filter(|replay| self.unseen.remove(&replay.letter));
        if self.finished.contains(raw.seq) || self.recall.has(raw.seq, raw.receipt.received_at) {
            self.passed.stored_before.extend(unseen.map(|replay| replay.letter));
            self.passed.done.insert(raw.seq);
            return None;
        }
        // A letter that was lost is made again where it was made.
        let is_missing = self.missing.contains_key(&raw.seq);
        match if is_missing { Way::Here } else { self.route.of(&raw) } {
            Way::Here => {}
            Way::Again => {
                self.passed.done.insert(raw.seq);
                return None;
            }
            Way::Topic => {
                let partition = self.adapter.partition(&raw, self.sequencer);
                self.packing.add(&raw, partition);
                return None;
            }
        }
        let event = self.adapter.run(&raw);
        let id = event.as_ref().map_or(0, |event| self.dedupe.hash(&event.message_id));
        Some(Adapted { raw, event, id })
    }

    /// Files them, in order, where they are not duplicates.
    fn take(&mut self, adapted: &mut Vec<Adapted<'_>>) {
        let ids: Vec<IdHash> = adapted.iter().map(|adapted| adapted.id).collect();
        self.dedupe.expect(&ids);
        for Adapted { raw, event, id } in adapted.drain(..) {
            match event {
                Ok(event) => self.file(&raw, &event, id),
                Err(rejected) => self.reject(&raw, rejected),
            }
        }
        priority::after_a_step();
    }

    fn file(&mut self, raw: &RawEvent<'_>, event: &TypedEvent<'_>, id: IdHash) {
        if !self.dedupe.insert(id, self.now) {
            // Of a replay's event another is stored, or on its way: the letter is closed.
            let replay = raw.receipt.replay.map(|replay| replay.letter);
            self.passed.already_stored.extend(replay);
            self.passed.duplicates += 1;
            self.passed.done.insert(raw.seq);
            return;
        }
        let partition = self.sequencer.partition(event);
        if self.loader.add(partition, id, raw, event, self.now) {
            self.passed.adapted += 1;
            self.passed.skewed += u64::from(event.skewed);
        } else {
            let message_id = event.message_id.clone().into_owned();
            self.reject(raw, does_not_fit(message_id));
        }
    }

    fn reject(&mut self, raw: &RawEvent<'_>, rejected: Rejected) {
        let letter = NewLetter {
            stream: self.stream.name.clone(),
            seq: Some(raw.seq),
            rejections: rejected.rejections,
            payload: raw.payload.to_vec(),
            receipt: raw.receipt.clone().into_owned(),
            message_id: rejected.message_id,
            library: rejected.library,
            library_version: rejected.library_version,
        };
        match raw.receipt.replay {
            Some(replay) => self.passed.failed_again.push((replay.letter, letter)),
            None => self.passed.letters.push(letter),
        }
    }
}

fn does_not_fit(message_id: String) -> Rejected {
    let rejection = Rejection {
        phase: Phase::Adapt,
        reason: "too_large".to_owned(),
        path: String::new(),
        message: "does not fit into a batch".to_owned(),
    };
    Rejected {
        rejections: vec![rejection],
        message_id: Some(message_id),
        library: None,
        library_version: None,
    }
}

/// A letter for a row that its store refuses: the batch has the payload, and of the receipt what
/// a replay needs.
pub(super) fn letter_of_row(batch: &Batch, row: usize, rejections: Vec<Rejection>) -> NewLetter {
    let (event, payload) = (batch.event(row), batch.payload(row));
    let message_id = event.message_id.clone().into_owned();
    // One that does not stand in the payload was minted, or is written there with escapes.
    let minted = (!batch.has_own_id(row)).then(|| message_id.clone().into());
    NewLetter {
        stream: batch.stream.clone(),
        seq: Some(batch.seq(row)),
        rejections,
        payload: payload.as_bytes().to_vec(),
        receipt: Receipt {
            received_at: event.received_at,
            sent_at: event.sent_at,
            kind: Some(crate::event::Kind::from_type(&event.kind)),
            message_id: minted,
            write_key_id: event.write_key_id.map(|id| id.into_owned().into()),
            origin: event.origin,
            ..Receipt::default()
        },
        message_id: Some(message_id),
        library: None,
        library_version: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Origin, StreamName};

    #[test]
    fn a_rows_letter_says_where_it_was_acknowledged_and_which_id_its_payload_lacks() {
        let mut batch = Batch::new(uuid::Uuid::nil(), StreamName::new("events").unwrap(), 7);
        let payload = r#"{"messageId":"own"}"#;
        let origin = Some(Origin { log_uuid: 3, seq: 9 });
        for (seq, id) in [(4, &payload[14..17]), (5, "minted")] {
            let event = TypedEvent { message_id: id.into(), origin, ..TypedEvent::default() };
            assert!(batch.push(seq, 0, 0, payload.as_bytes(), &event));
        }
        let letters = [0, 1].map(|row| letter_of_row(&batch, row, Vec::new()));
        assert!(letters.iter().all(|letter| letter.receipt.origin == origin));
        assert_eq!(letters[0].message_id.as_deref(), Some("own"));
        assert_eq!(letters[0].receipt.message_id, None);
        assert_eq!(letters[1].receipt.message_id.as_deref(), Some("minted"));
    }
}
