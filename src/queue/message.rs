//! A message of the topic: records of one stream and partition, in the order of their log.
//!
//! Its ordering key is `{stream}/{partition}`: few keys, so that a request holds many messages
//! (one holds a single key), and one user's events stay in order.
//!
//! | attribute | value |
//! | --- | --- |
//! | `eventkit` | the encoding's version, 1 |
//! | `stream` | the stream's name |
//! | `crc32c` | CRC32C of the data, 8 hexadecimal digits |
//!
//! The data are records as a log has them (see `wal/record.rs`), one after the other, with the
//! CRC left 0: each says of itself in which log it was acknowledged, and where. None is a replay:
//! a letter's number means nothing elsewhere. A tag that a reader does not know is passed over; a
//! message of a later version is left in the topic for those who know it.

use std::collections::BTreeMap;

use roaring::RoaringTreemap;

use crate::event::{LetterId, Origin, RawEvent, StreamName};
use crate::sequence::PartitionId;
use crate::wal::Records;

/// The version of the encoding.
const VERSION: u32 = 1;
/// Records together are a message of about so many bytes; one alone may be larger.
const MESSAGE_BYTES: usize = 128 << 10;

/// What is published at once, or not at all.
#[derive(Debug)]
pub struct Message {
    /// The stream.
    pub stream: StreamName,
    /// The partition of every record.
    pub partition: PartitionId,
    /// The records; each has an origin.
    pub records: Records,
    /// Their positions in this log.
    pub seqs: RoaringTreemap,
    /// The dead letters that they were replayed from.
    pub letters: Vec<LetterId>,
}

/// Why a message can't be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadMessage {
    /// It is no use to anybody.
    #[error("{0}")]
    Poison(String),
    /// Somebody else may know it.
    #[error("its encoding has version {0}, and this eventkit knows {VERSION}: update it")]
    Newer(u32),
}

impl Message {
    fn new(stream: StreamName, partition: PartitionId) -> Self {
        let (records, seqs, letters) = Default::default();
        Self { stream, partition, records, seqs, letters }
    }

    /// What is published under the same key is delivered in order.
    #[must_use]
    pub fn ordering_key(&self) -> String {
        format!("{}/{}", self.stream, self.partition)
    }

    /// Names and values.
    #[must_use]
    pub fn attributes(&self) -> [(&'static str, String); 3] {
        [
            ("eventkit", VERSION.to_string()),
            ("stream", self.stream.to_string()),
            ("crc32c", format!("{:08x}", crc32c::crc32c(self.records.bytes()))),
        ]
    }

    /// How many bytes of memory it takes, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.records.bytes().len() + size_of::<Self>()
    }
}

/// The stream and the records of a message that was delivered.
///
/// # Errors
/// [`BadMessage`] says why there are none.
pub fn decode<'a>(
    attribute: impl Fn(&str) -> Option<&'a str>,
    data: &[u8],
) -> Result<(StreamName, Records), BadMessage> {
    let poison = |why: &str| BadMessage::Poison(why.to_owned());
    let version = attribute("eventkit").and_then(|version| version.parse::<u32>().ok());
    match version.filter(|version| *version >= VERSION) {
        Some(VERSION) => {}
        Some(later) => return Err(BadMessage::Newer(later)),
        None => return Err(poison("no eventkit has published it")),
    }
    let stream = attribute("stream").and_then(|stream| StreamName::new(stream).ok());
    let stream = stream.ok_or_else(|| poison("it names no stream"))?;
    let crc = attribute("crc32c").and_then(|crc| u32::from_str_radix(crc, 16).ok());
    if crc != Some(crc32c::crc32c(data)) {
        return Err(poison("its data are not what was published"));
    }
    let records = Records::parse(data).filter(|records| records.count() > 0);
    let records = records.ok_or_else(|| poison("its data are no records"))?;
    if records.iter().any(|(receipt, _)| receipt.origin.is_none() || receipt.replay.is_some()) {
        return Err(poison("a record does not say where it was acknowledged"));
    }
    Ok((stream, records))
}

/// Packs one chunk's records into messages.
#[derive(Debug)]
pub struct Packing {
    log_uuid: u128,
    open: BTreeMap<PartitionId, Message>,
    full: Vec<Message>,
}

impl Packing {
    /// Nothing is packed yet of that log.
    #[must_use]
    pub fn new(log_uuid: u128) -> Self {
        Self { log_uuid, open: BTreeMap::new(), full: Vec::new() }
    }

    /// Adds a record of that log.
    pub fn add(&mut self, raw: &RawEvent<'_>, partition: PartitionId) {
        let mut receipt = raw.receipt.clone();
        let letter = receipt.replay.take().map(|replay| replay.letter);
        let here = Origin { log_uuid: self.log_uuid, seq: raw.seq };
        receipt.origin.get_or_insert(here);
        let new = || Message::new(raw.stream.clone(), partition);
        let message = self.open.entry(partition).or_insert_with(new);
        // The log has it, so that it is not longer than a record may be.
        let _ = message.records.push(&receipt, raw.payload);
        message.seqs.insert(raw.seq);
        message.letters.extend(letter);
        if message.records.bytes().len() >= MESSAGE_BYTES {
            self.full.extend(self.open.remove(&partition));
        }
    }

    /// The messages; those of one partition in order.
    #[must_use]
    pub fn finish(mut self) -> Vec<Message> {
        self.full.extend(self.open.into_values());
        self.full
    }
}

/// The positions of messages, and the letters they came from.
#[must_use]
pub fn confirmed(messages: &[Message]) -> (RoaringTreemap, Vec<LetterId>) {
    let (mut seqs, mut letters) = (RoaringTreemap::new(), Vec::new());
    for message in messages {
        seqs |= &message.seqs;
        letters.extend(&message.letters);
    }
    (seqs, letters)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Receipt, ReplayOrigin, Seq};

    fn raw<'a>(stream: &'a StreamName, seq: Seq, payload: &'a [u8]) -> RawEvent<'a> {
        RawEvent { stream, seq, payload, receipt: Receipt { received_at: 5, ..Receipt::default() } }
    }

    fn taken(message: &Message) -> Result<(StreamName, Records), BadMessage> {
        let attributes = message.attributes();
        let find = |name: &str| {
            attributes.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
        };
        decode(find, message.records.bytes())
    }

    #[test]
    fn what_was_packed_is_what_is_taken_with_where_it_was_acknowledged() {
        let stream = StreamName::new("clicks").unwrap();
        let mut packing = Packing::new(77);
        for (seq, partition) in [(3, 0), (4, 1), (5, 0)] {
            packing.add(&raw(&stream, seq, b"{}"), partition);
        }
        let messages = packing.finish();
        let keys: Vec<String> = messages.iter().map(Message::ordering_key).collect();
        assert_eq!(keys, ["clicks/0", "clicks/1"]);
        let (name, records) = taken(&messages[0]).unwrap();
        let origins: Vec<Option<Origin>> = records.iter().map(|(r, _)| r.origin).collect();
        let here = |seq| Some(Origin { log_uuid: 77, seq });
        assert_eq!((name, origins), (stream, vec![here(3), here(5)]));
        assert_eq!(confirmed(&messages).0.iter().collect::<Vec<_>>(), [3, 4, 5]);
    }

    #[test]
    fn a_message_is_cut_where_it_is_large_and_keeps_its_order() {
        let (stream, payload) = (StreamName::new("s").unwrap(), vec![b'1'; 50_000]);
        let mut packing = Packing::new(1);
        (1..=7).for_each(|seq| packing.add(&raw(&stream, seq, &payload), 0));
        let seqs: Vec<Vec<Seq>> =
            packing.finish().iter().map(|message| message.seqs.iter().collect()).collect();
        assert_eq!(seqs, [vec![1, 2, 3], vec![4, 5, 6], vec![7]]);
    }

    #[test]
    fn a_replay_is_published_as_the_event_it_was() {
        let stream = StreamName::new("s").unwrap();
        let mut raw = raw(&stream, 9, b"{}");
        raw.receipt.replay = Some(ReplayOrigin { letter: 4, replayed_at: 1 });
        raw.receipt.origin = Some(Origin { log_uuid: 8, seq: 2 });
        let mut packing = Packing::new(1);
        packing.add(&raw, 0);
        let messages = packing.finish();
        let (_, records) = taken(&messages[0]).unwrap();
        let (receipt, _) = records.iter().next().unwrap();
        assert_eq!((receipt.replay, receipt.origin), (None, raw.receipt.origin));
        assert_eq!(confirmed(&messages).1, [4]);
    }

    #[test]
    fn what_is_no_message_of_ours_says_why() {
        let stream = StreamName::new("s").unwrap();
        let mut packing = Packing::new(1);
        packing.add(&raw(&stream, 9, b"{}"), 0);
        let message = packing.finish().remove(0);
        let attributes = message.attributes();
        let data = message.records.bytes();
        let with = |name: &str, value: Option<&'static str>, data: &[u8]| {
            let find = |asked: &str| match asked == name {
                true => value,
                false => attributes.iter().find(|(n, _)| *n == asked).map(|(_, v)| v.as_str()),
            };
            decode(find, data).unwrap_err().to_string()
        };
        assert_eq!(with("eventkit", None, data), "no eventkit has published it");
        assert!(with("eventkit", Some("2"), data).contains("version 2"));
        assert_eq!(with("eventkit", Some("0"), data), "no eventkit has published it");
        assert_eq!(with("stream", Some("A/B"), data), "it names no stream");
        assert_eq!(with("", None, &data[8..]), "its data are not what was published");
        assert_eq!(with("crc32c", Some("0"), b""), "its data are no records");
        let mut bare = Records::default();
        assert!(bare.push(&Receipt::default(), b"{}"));
        let crc: &'static str = format!("{:08x}", crc32c::crc32c(bare.bytes())).leak();
        assert!(with("crc32c", Some(crc), bare.bytes()).contains("acknowledged"));
    }
}
