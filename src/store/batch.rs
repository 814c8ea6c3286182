//! A batch: events of one stream and partition, received within one hour (or nobody knows when),
//! in log order.
//!
//! Its text lives in one buffer: each payload is copied once, and an event's fields are spans of
//! it. Nothing is allocated per event.

use roaring::RoaringTreemap;
use uuid::Uuid;
use xxhash_rust::xxh3::Xxh3;

use crate::dedupe::{IdHash, IdKey};
use crate::event::{LetterId, Micros, ReplayOrigin, Seq, StreamName, TypedEvent};
use crate::sequence::PartitionId;

/// A batch's identity: also what makes storing it twice recognisable.
pub type BatchId = Uuid;

/// XXH3-128 over the positions and payloads of a batch, in order.
pub type Digest = u128;

/// Microseconds in an hour.
pub(crate) const HOUR: Micros = 3_600_000_000;

/// What was promised of a batch before it was put: enough to recognise it, and to build it again
/// from the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The batch's identity.
    pub id: BatchId,
    /// Its stream.
    pub stream: StreamName,
    /// The log that its positions belong to.
    pub log_uuid: u128,
    /// Its partition when it was planned.
    pub partition: PartitionId,
    /// Where it goes, in the store's words.
    pub object: String,
    /// Its events' exact positions.
    pub seqs: RoaringTreemap,
    /// The hashes of its events' message ids, in order; empty in a plan read from the ledger.
    pub ids: Vec<IdHash>,
    /// Its content.
    pub digest: Digest,
    /// The receipt of its first and last event, in order of time.
    pub received: (Micros, Micros),
    /// The ledger's transaction that made it durable; 0 until then.
    pub ledger_tx: u64,
}

/// Where a text lies in the batch's buffer; `NONE` for no text.
#[derive(Clone, Copy, Debug)]
struct Span {
    start: u32,
    length: u32,
}

const NONE: Span = Span { start: 0, length: u32::MAX };

/// An event's texts, in the order of [`texts`].
const TEXTS: usize = 14;

#[derive(Clone, Debug)]
struct Row {
    seq: Seq,
    payload: Span,
    texts: [Span; TEXTS],
    timestamp: Micros,
    original_timestamp: Option<Micros>,
    sent_at: Option<Micros>,
    received_at: Micros,
    skewed: bool,
    replay: Option<ReplayOrigin>,
}

/// Events of one stream and partition, received within one hour, in log order.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Its identity.
    pub id: BatchId,
    /// Its stream.
    pub stream: StreamName,
    /// The log that its positions belong to.
    pub log_uuid: u128,
    /// Its partition.
    pub partition: PartitionId,
    /// Its receive times are not believed: they name no date.
    pub is_undated: bool,
    /// The ledger's transaction that made its plan durable; 0 until then. What a store keeps of
    /// it shows later whether the ledger has gone back in time.
    pub ledger_tx: u64,
    text: String,
    rows: Vec<Row>,
}

impl Batch {
    /// An empty batch.
    #[must_use]
    pub fn new(id: BatchId, stream: StreamName, log_uuid: u128, partition: PartitionId) -> Self {
        Self {
            id,
            stream,
            log_uuid,
            partition,
            is_undated: false,
            ledger_tx: 0,
            text: String::new(),
            rows: Vec::new(),
        }
    }

    /// Adds an event; its position must be above those it has. Returns false, adding nothing,
    /// where the buffer could not address its text (4 GiB) or the payload is not UTF-8.
    pub fn push(&mut self, seq: Seq, payload: &[u8], event: &TypedEvent<'_>) -> bool {
        let Ok(payload) = std::str::from_utf8(payload) else { return false };
        let most = self.text.len() + 3 * payload.len() + 4096;
        let Ok(start) = u32::try_from(self.text.len()) else { return false };
        if u32::try_from(most).is_err() {
            return false;
        }
        self.text.push_str(payload);
        let length = payload.len() as u32;
        let texts = texts(event).map(|text| match text {
            None => NONE,
            Some(text) => self.keep(text, payload, start),
        });
        self.rows.push(Row {
            seq,
            payload: Span { start, length },
            texts,
            timestamp: event.timestamp,
            original_timestamp: event.original_timestamp,
            sent_at: event.sent_at,
            received_at: event.received_at,
            skewed: event.skewed,
            replay: event.replay,
        });
        true
    }

    /// The span of a text: within the payload that was just copied, where it borrows from it.
    fn keep(&mut self, text: &str, payload: &str, payload_start: u32) -> Span {
        let length = text.len() as u32;
        let offset = (text.as_ptr() as usize).wrapping_sub(payload.as_ptr() as usize);
        if offset <= payload.len() && offset + text.len() <= payload.len() {
            return Span { start: payload_start + offset as u32, length };
        }
        let start = self.text.len() as u32;
        self.text.push_str(text);
        Span { start, length }
    }

    /// How many events it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The memory it takes, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.text.len() + self.rows.len() * size_of::<Row>()
    }

    /// The event of a row. Panics where there is no such row, as indexing a slice does.
    #[must_use]
    pub fn event(&self, row: usize) -> TypedEvent<'_> {
        let row = &self.rows[row];
        let text = |index: usize| self.text(row.texts[index]).map(std::borrow::Cow::Borrowed);
        TypedEvent {
            kind: text(0).unwrap_or_default(),
            message_id: text(1).unwrap_or_default(),
            event: text(2),
            name: text(3),
            user_id: text(4),
            anonymous_id: text(5),
            group_id: text(6),
            previous_id: text(7),
            write_key_id: text(8),
            context: text(9),
            properties: text(10),
            traits: text(11),
            integrations: text(12),
            extra: text(13),
            timestamp: row.timestamp,
            original_timestamp: row.original_timestamp,
            sent_at: row.sent_at,
            received_at: row.received_at,
            skewed: row.skewed,
            replay: row.replay,
        }
    }

    /// Every event with its position, in order.
    pub fn events(&self) -> impl ExactSizeIterator<Item = (Seq, TypedEvent<'_>)> {
        (0..self.rows.len()).map(|row| (self.rows[row].seq, self.event(row)))
    }

    /// The position of a row. Panics where there is no such row.
    #[must_use]
    pub fn seq(&self, row: usize) -> Seq {
        self.rows[row].seq
    }

    /// The payload of a row, as received. Panics where there is no such row.
    #[must_use]
    pub fn payload(&self, row: usize) -> &str {
        self.text(self.rows[row].payload).unwrap_or_default()
    }

    fn text(&self, span: Span) -> Option<&str> {
        let start = span.start as usize;
        (span.length != u32::MAX).then(|| &self.text[start..start + span.length as usize])
    }

    /// The first and last position; (0, 0) where it is empty.
    #[must_use]
    pub fn range(&self) -> (Seq, Seq) {
        match (self.rows.first(), self.rows.last()) {
            (Some(first), Some(last)) => (first.seq, last.seq),
            _ => (0, 0),
        }
    }

    /// The earliest and latest receipt; (0, 0) where it is empty.
    #[must_use]
    pub fn received(&self) -> (Micros, Micros) {
        let times = || self.rows.iter().map(|row| row.received_at);
        (times().min().unwrap_or(0), times().max().unwrap_or(0))
    }

    /// Its events' positions.
    #[must_use]
    pub fn seqs(&self) -> RoaringTreemap {
        self.rows.iter().map(|row| row.seq).collect()
    }

    /// The dead letters that its events come from.
    #[must_use]
    pub fn letters(&self) -> Vec<LetterId> {
        self.rows.iter().filter_map(|row| row.replay.map(|replay| replay.letter)).collect()
    }

    /// Its content's digest.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut hash = Xxh3::new();
        for row in 0..self.rows.len() {
            hash.update(&self.rows[row].seq.to_le_bytes());
            hash.update(self.payload(row).as_bytes());
        }
        hash.digest128()
    }

    /// What is recorded before it is put.
    #[must_use]
    pub fn plan(&self, object: String, key: &IdKey) -> Plan {
        Plan {
            id: self.id,
            stream: self.stream.clone(),
            log_uuid: self.log_uuid,
            partition: self.partition,
            object,
            seqs: self.seqs(),
            ids: self.events().map(|(_, event)| key.hash(&event.message_id)).collect(),
            digest: self.digest(),
            received: self.received(),
            ledger_tx: self.ledger_tx,
        }
    }

    /// The rows that `keep` chooses, as a batch of another identity.
    #[must_use]
    pub fn part(&self, id: BatchId, keep: impl Fn(usize) -> bool) -> Self {
        let mut part = Self::new(id, self.stream.clone(), self.log_uuid, self.partition);
        part.is_undated = self.is_undated;
        for row in (0..self.rows.len()).filter(|&row| keep(row)) {
            // A part is not larger than the whole, which was addressable.
            part.push(self.rows[row].seq, self.payload(row).as_bytes(), &self.event(row));
        }
        part
    }
}

/// The hour that a time lies in, as a count since the epoch; a batch never spans two.
#[must_use]
pub fn hour(received_at: Micros) -> i64 {
    received_at.div_euclid(HOUR)
}

fn texts<'e>(event: &'e TypedEvent<'_>) -> [Option<&'e str>; TEXTS] {
    [
        Some(&event.kind),
        Some(&event.message_id),
        event.event.as_deref(),
        event.name.as_deref(),
        event.user_id.as_deref(),
        event.anonymous_id.as_deref(),
        event.group_id.as_deref(),
        event.previous_id.as_deref(),
        event.write_key_id.as_deref(),
        event.context.as_deref(),
        event.properties.as_deref(),
        event.traits.as_deref(),
        event.integrations.as_deref(),
        event.extra.as_deref(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch() -> Batch {
        let stream = StreamName::new("events").unwrap();
        let mut batch = Batch::new(Uuid::nil(), stream, 7, 3);
        let payload = r#"{"userId":"u1","event":"Zoë","properties":{"n":1}}"#.to_owned();
        for seq in [4, 9, 12] {
            let event = TypedEvent {
                kind: "track".into(),
                message_id: format!("m{seq}").into(),
                user_id: Some(payload[11..13].into()),
                properties: payload.find(r#"{"n""#).map(|at| payload[at..at + 7].into()),
                received_at: Micros::from(seq as u32),
                ..TypedEvent::default()
            };
            assert!(batch.push(seq, payload.as_bytes(), &event));
        }
        batch
    }

    #[test]
    fn an_event_comes_out_as_it_went_in_whether_it_borrowed_or_not() {
        let batch = batch();
        let event = batch.event(1);
        assert_eq!(event.message_id, "m9");
        assert_eq!(event.user_id.as_deref(), Some("u1"));
        assert_eq!(event.properties.as_deref(), Some(r#"{"n":1}"#));
        assert_eq!(event.event, None);
        assert_eq!(batch.payload(1), r#"{"userId":"u1","event":"Zoë","properties":{"n":1}}"#);
        assert_eq!((batch.range(), batch.received()), ((4, 12), (4, 12)));
        assert_eq!(batch.seqs().iter().collect::<Vec<_>>(), [4, 9, 12]);
    }

    #[test]
    fn two_parts_have_what_the_whole_had() {
        let batch = batch();
        let (even, odd) =
            (batch.part(Uuid::max(), |r| r % 2 == 0), batch.part(Uuid::max(), |r| r % 2 == 1));
        assert_eq!(even.seqs() | odd.seqs(), batch.seqs());
        assert_eq!(odd.event(0), batch.event(1));
        assert_ne!(even.digest(), odd.digest());
        assert_eq!(batch.part(batch.id, |_| true).digest(), batch.digest());
    }
}
