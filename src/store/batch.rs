//! A batch: events of one stream, received within one hour (or nobody knows when), in log order.
//!
//! Each payload is copied once, and an event's fields are spans of it: nothing is allocated per
//! event, and nothing that was copied is moved again when a batch grows.

use std::borrow::Cow;

use roaring::RoaringTreemap;
use xxhash_rust::xxh3::Xxh3;

use super::plan::{BatchId, Digest, Plan};
use crate::dedupe::IdHash;
use crate::event::{LetterId, Micros, Origin, ReplayOrigin, Seq, StreamName, TypedEvent};
use crate::sequence::PartitionId;

/// Where a text lies in its event's piece of the batch's text.
#[derive(Clone, Copy, Debug)]
struct Span {
    start: u32,
    length: u32,
}

/// An event's texts. A batch keeps those that are there in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Text {
    Kind,
    MessageId,
    Event,
    Name,
    UserId,
    AnonymousId,
    GroupId,
    PreviousId,
    WriteKeyId,
    Context,
    Properties,
    Traits,
    Integrations,
    Extra,
}

/// How many there are.
pub(crate) const TEXTS: usize = Text::Extra as usize + 1;

/// The smallest and the largest piece of text that is allocated at once.
const PIECE_BYTES: (usize, usize) = (4 << 10, 256 << 10);

/// What a batch keeps of an event beside its texts. An optional time that is not there is
/// [`ABSENT`].
#[derive(Clone, Debug)]
struct Row {
    seq: Seq,
    timestamp: Micros,
    original_timestamp: Micros,
    sent_at: Micros,
    received_at: Micros,
    payload: Span,
    /// Its first text in the batch's spans.
    spans_at: u32,
    /// The piece that its payload and texts stand in.
    piece: u32,
    /// Which of the [`Text`]s are there, by bit.
    texts: u16,
    partition: PartitionId,
    skewed: bool,
}

/// The times of an event.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    /// When it happened.
    pub timestamp: Micros,
    /// When it happened by its client's clock.
    pub original_timestamp: Option<Micros>,
    /// When it was sent.
    pub sent_at: Option<Micros>,
    /// When it was received.
    pub received_at: Micros,
}

/// What goes into the digest as events come.
#[derive(Clone)]
struct Content(Xxh3);

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", self.0.digest128())
    }
}

/// No time: the calendar ends long before.
const ABSENT: Micros = Micros::MIN;

fn present(time: Micros) -> Option<Micros> {
    (time != ABSENT).then_some(time)
}

/// Events of one stream, received within one hour, in log order.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Its identity.
    pub id: BatchId,
    /// Its stream.
    pub stream: StreamName,
    /// The log that its positions belong to.
    pub log_uuid: u128,
    /// Its receive times are not believed: they name no date.
    pub is_undated: bool,
    /// The ledger's transaction that made its plan durable; 0 until then. What a store keeps of
    /// it shows later whether the ledger has gone back in time.
    pub ledger_tx: u64,
    pieces: Vec<String>,
    pieces_bytes: usize,
    spans: Vec<Span>,
    rows: Vec<Row>,
    /// The hashes of the message ids, by row.
    ids: Vec<IdHash>,
    /// The rows that were replayed, in order.
    replays: Vec<(usize, ReplayOrigin)>,
    /// The rows that another log has acknowledged, in order.
    origins: Vec<(usize, Origin)>,
    content: Content,
}

impl Batch {
    /// An empty batch.
    #[must_use]
    pub fn new(id: BatchId, stream: StreamName, log_uuid: u128) -> Self {
        Self {
            id,
            stream,
            log_uuid,
            is_undated: false,
            ledger_tx: 0,
            pieces: Vec::new(),
            pieces_bytes: 0,
            spans: Vec::new(),
            rows: Vec::new(),
            ids: Vec::new(),
            replays: Vec::new(),
            origins: Vec::new(),
            content: Content(Xxh3::new()),
        }
    }

    /// Adds an event of a partition, with the hash of its message id; its position must be
    /// above those it has. Returns false, adding nothing, where its text could not be addressed
    /// (4 GiB) or the payload is not UTF-8.
    pub fn push(
        &mut self,
        seq: Seq,
        partition: PartitionId,
        id: IdHash,
        payload: &[u8],
        event: &TypedEvent<'_>,
    ) -> bool {
        let Ok(payload) = std::str::from_utf8(payload) else { return false };
        let texts = texts(event);
        let own = texts.iter().flatten().filter(|text| offset(text, payload).is_none());
        let bytes = payload.len() + own.map(|text| text.len()).sum::<usize>();
        let (Ok(_), Ok(spans_at)) = (u32::try_from(bytes), u32::try_from(self.spans.len())) else {
            return false;
        };
        let piece = self.piece(bytes);
        let Some(text) = self.pieces.get_mut(piece) else { return false };
        let payload_at = text.len();
        text.push_str(payload);
        let mut there = 0;
        for (bit, kept) in texts.iter().enumerate().filter_map(|(bit, t)| Some((bit, (*t)?))) {
            let start = match offset(kept, payload) {
                Some(offset) => payload_at + offset,
                None => {
                    text.push_str(kept);
                    text.len() - kept.len()
                }
            };
            there |= 1 << bit;
            self.spans.push(Span { start: start as u32, length: kept.len() as u32 });
        }
        self.replays.extend(event.replay.map(|replay| (self.rows.len(), replay)));
        self.origins.extend(event.origin.map(|origin| (self.rows.len(), origin)));
        self.rows.push(Row {
            seq,
            timestamp: event.timestamp,
            original_timestamp: event.original_timestamp.unwrap_or(ABSENT),
            sent_at: event.sent_at.unwrap_or(ABSENT),
            received_at: event.received_at,
            payload: Span { start: payload_at as u32, length: payload.len() as u32 },
            spans_at,
            piece: piece as u32,
            texts: there,
            partition,
            skewed: event.skewed,
        });
        self.ids.push(id);
        // Here, where the payload is at hand anyway.
        self.content.0.update(&seq.to_le_bytes());
        self.content.0.update(payload.as_bytes());
        true
    }

    /// The piece that so many more bytes fit in; it is not moved by them.
    fn piece(&mut self, bytes: usize) -> usize {
        let fits = |piece: &String| piece.capacity() - piece.len() >= bytes;
        if !self.pieces.last().is_some_and(fits) {
            let size = (self.pieces_bytes / 4).clamp(PIECE_BYTES.0, PIECE_BYTES.1).max(bytes);
            let piece = String::with_capacity(size);
            self.pieces_bytes += piece.capacity();
            self.pieces.push(piece);
        }
        self.pieces.len() - 1
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

    /// The memory it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.pieces_bytes
            + self.rows.capacity() * size_of::<Row>()
            + self.spans.capacity() * size_of::<Span>()
            + self.ids.capacity() * size_of::<IdHash>()
            + self.origins.capacity() * size_of::<(usize, Origin)>()
    }

    /// The event of a row. Panics where there is no such row, as indexing a slice does.
    #[must_use]
    pub fn event(&self, row: usize) -> TypedEvent<'_> {
        let (replay, origin) = (self.replay(row), self.origin(row));
        let text = |text: Text| self.text_of(row, text).map(Cow::Borrowed);
        let row = &self.rows[row];
        TypedEvent {
            kind: text(Text::Kind).unwrap_or_default(),
            message_id: text(Text::MessageId).unwrap_or_default(),
            event: text(Text::Event),
            name: text(Text::Name),
            user_id: text(Text::UserId),
            anonymous_id: text(Text::AnonymousId),
            group_id: text(Text::GroupId),
            previous_id: text(Text::PreviousId),
            write_key_id: text(Text::WriteKeyId),
            context: text(Text::Context),
            properties: text(Text::Properties),
            traits: text(Text::Traits),
            integrations: text(Text::Integrations),
            extra: text(Text::Extra),
            timestamp: row.timestamp,
            original_timestamp: present(row.original_timestamp),
            sent_at: present(row.sent_at),
            received_at: row.received_at,
            skewed: row.skewed,
            replay,
            origin,
        }
    }

    /// One text of a row. Panics where there is no such row.
    fn text_of(&self, row: usize, text: Text) -> Option<&str> {
        let row = &self.rows[row];
        let (bit, spans_at) = (1_u16 << text as u16, row.spans_at as usize);
        let before = (row.texts & (bit - 1)).count_ones() as usize;
        (row.texts & bit != 0).then(|| self.slice(row, self.spans[spans_at + before]))
    }

    fn slice(&self, row: &Row, span: Span) -> &str {
        let start = span.start as usize;
        &self.pieces[row.piece as usize][start..start + span.length as usize]
    }

    /// The bytes of each text in all rows together, in the order of [`Text`]; `None` where no row
    /// has it.
    pub(crate) fn text_bytes(&self) -> [Option<usize>; TEXTS] {
        let mut bytes = [None; TEXTS];
        for row in 0..self.rows.len() {
            for (sum, text) in bytes.iter_mut().zip(self.texts(row)) {
                if let Some(text) = text {
                    *sum.get_or_insert(0) += text.len();
                }
            }
        }
        bytes
    }

    /// All texts of a row, in the order of [`Text`]. Panics where there is no such row.
    pub(crate) fn texts(&self, row: usize) -> impl Iterator<Item = Option<&str>> {
        let row = &self.rows[row];
        let mut spans = self.spans[row.spans_at as usize..].iter();
        (0..TEXTS).map(move |bit| {
            let span = if row.texts >> bit & 1 == 1 { spans.next() } else { None };
            span.map(|span| self.slice(row, *span))
        })
    }

    /// Its rows by partition, and in order within each.
    pub(crate) fn by_partition(&self) -> Vec<usize> {
        let mut rows: Vec<usize> = (0..self.rows.len()).collect();
        rows.sort_by_key(|row| self.rows[*row].partition);
        rows
    }

    /// The lowest and the highest partition; (0, 0) where it is empty.
    #[must_use]
    pub fn partition_range(&self) -> (PartitionId, PartitionId) {
        let partitions = || self.partitions();
        (partitions().min().unwrap_or(0), partitions().max().unwrap_or(0))
    }

    /// Each event's partition, in order.
    pub fn partitions(&self) -> impl ExactSizeIterator<Item = PartitionId> {
        self.rows.iter().map(|row| row.partition)
    }

    /// Whether a row's message id stands in its payload, as it is. Panics where there is no such
    /// row.
    pub(crate) fn has_own_id(&self, row: usize) -> bool {
        let id = self.text_of(row, Text::MessageId);
        id.is_some_and(|id| offset(id, self.payload(row)).is_some())
    }

    /// What a row was replayed from.
    pub(crate) fn replay(&self, row: usize) -> Option<ReplayOrigin> {
        let at = self.replays.binary_search_by_key(&row, |(row, _)| *row).ok()?;
        Some(self.replays[at].1)
    }

    /// Where a row was acknowledged, where that was another log.
    fn origin(&self, row: usize) -> Option<Origin> {
        let at = self.origins.binary_search_by_key(&row, |(row, _)| *row).ok()?;
        Some(self.origins[at].1)
    }

    /// The position of a row in the log that acknowledged it. Panics where there is no such row.
    #[must_use]
    pub fn acknowledged_seq(&self, row: usize) -> Seq {
        self.origin(row).map_or(self.rows[row].seq, |origin| origin.seq)
    }

    /// Which rows were replayed, in order, and from what.
    pub(crate) fn replays(&self) -> &[(usize, ReplayOrigin)] {
        &self.replays
    }

    /// The times of a row. Panics where there is no such row.
    pub(crate) fn times(&self, row: usize) -> Times {
        let row = &self.rows[row];
        Times {
            timestamp: row.timestamp,
            original_timestamp: present(row.original_timestamp),
            sent_at: present(row.sent_at),
            received_at: row.received_at,
        }
    }

    /// The partition of a row. Panics where there is no such row.
    pub(crate) fn partition(&self, row: usize) -> PartitionId {
        self.rows[row].partition
    }

    /// Each event's position, in order.
    fn positions(&self) -> impl ExactSizeIterator<Item = Seq> {
        self.rows.iter().map(|row| row.seq)
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
        let row = &self.rows[row];
        self.slice(row, row.payload)
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
        // They ascend.
        RoaringTreemap::from_sorted_iter(self.positions())
            .unwrap_or_else(|_| self.positions().collect())
    }

    /// The dead letters that its events come from.
    #[must_use]
    pub fn letters(&self) -> Vec<LetterId> {
        self.replays.iter().map(|(_, replay)| replay.letter).collect()
    }

    /// Its content's digest.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.content.0.digest128()
    }

    /// What is recorded before it is put.
    #[must_use]
    pub fn plan(&self, object: String) -> Plan {
        Plan {
            id: self.id,
            stream: self.stream.clone(),
            log_uuid: self.log_uuid,
            partitions: self.partition_range(),
            object,
            seqs: self.seqs(),
            ids: self.ids.clone(),
            digest: self.digest(),
            received: self.received(),
            ledger_tx: self.ledger_tx,
        }
    }

    /// The rows that `keep` chooses, as a batch of another identity.
    #[must_use]
    pub fn part(&self, id: BatchId, keep: impl Fn(usize) -> bool) -> Self {
        let mut part = Self::new(id, self.stream.clone(), self.log_uuid);
        part.is_undated = self.is_undated;
        for row in (0..self.rows.len()).filter(|&row| keep(row)) {
            // An event that was addressable in the whole is in a part.
            let Row { seq, partition, .. } = self.rows[row];
            let (payload, event) = (self.payload(row).as_bytes(), self.event(row));
            part.push(seq, partition, self.ids[row], payload, &event);
        }
        part
    }
}

/// Where a text lies in the payload, where it borrows from it.
fn offset(text: &str, payload: &str) -> Option<usize> {
    let offset = (text.as_ptr() as usize).wrapping_sub(payload.as_ptr() as usize);
    (offset <= payload.len() && offset + text.len() <= payload.len()).then_some(offset)
}

/// In the order of [`Text`].
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
    use uuid::Uuid;

    use super::*;

    fn batch() -> Batch {
        let stream = StreamName::new("events").unwrap();
        let mut batch = Batch::new(Uuid::nil(), stream, 7);
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
            assert!(batch.push(seq, 30 - seq as u16, 0, payload.as_bytes(), &event));
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
        assert_eq!((batch.partition_range(), batch.by_partition()), ((18, 26), vec![2, 1, 0]));
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
