//! One record: an event's payload and receipt as bytes.
//!
//! Little-endian, within a frame's body (see `format`), padded to 8 bytes. Its position is the
//! frame's first position plus its index.
//!
//! | offset | size | field |
//! | --- | --- | --- |
//! | 0 | 4 | payload length |
//! | 4 | 4 | salted CRC of bytes 8 to the end of the payload |
//! | 8 | 2, 1, 1 | partition (0, reserved), flags (1 replay), content type (0 JSON) |
//! | 12 | 2, 2 | key id (0, reserved), metadata length |
//! | 16 | 8 | received at, microseconds |
//! | 24 | – | metadata: (tag 1, length 2, bytes)* |
//! | – | – | payload |
//!
//! | tag | value |
//! | --- | --- |
//! | 1 | `sentAt` of the envelope, microseconds, 8 bytes |
//! | 2, 3, 4, 6 | kind, message id, write key's id, route: text |
//! | 5 | the client's address, 4 or 16 bytes |
//! | 7 | the event's index in its request, 4 bytes |
//! | 8 | the letter's number and when it was replayed, 8 bytes each |
//! | 10 | the log that acknowledged the event, where it is another: its identity, 16 bytes, and the position there, 8 bytes |
//! | 9 | where the payload's fields stand (see [`outline`](crate::outline)); without it the payload is parsed |
//!
//! A tag that a reader does not know is passed over. The CRC is the writer's: it alone knows in which segment a record will stand.

use std::borrow::Cow;
use std::net::IpAddr;

use super::format::{SegmentKey, le16, le32};
use crate::event::{Kind, Micros, Origin, Receipt, ReplayOrigin};
use crate::outline::Outline;

const HEADER: usize = 24;
const FLAG_REPLAY: u8 = 1;
/// The longest payload a record may have.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 20;
/// What a record usually has beside its payload.
const OVERHEAD_USUAL: usize = HEADER + 136;
/// What of a receipt's text is kept, so that all of it fits the metadata's 64 KiB.
const TEXT_BYTES_MAX: usize = 16 << 10;

const TAG_SENT_AT: u8 = 1;
const TAG_KIND: u8 = 2;
const TAG_MESSAGE_ID: u8 = 3;
const TAG_WRITE_KEY_ID: u8 = 4;
const TAG_SOURCE: u8 = 5;
const TAG_ROUTE: u8 = 6;
const TAG_ITEM: u8 = 7;
const TAG_REPLAY: u8 = 8;
const TAG_OUTLINE: u8 = 9;
const TAG_ORIGIN: u8 = 10;

/// Records of one request and stream, encoded, on their way to the log.
#[derive(Debug, Default)]
pub struct Records {
    bytes: Vec<u8>,
    count: u32,
    payload_bytes: u64,
}

impl Records {
    /// None yet, and room for so many of so many payload bytes together.
    #[must_use]
    pub fn with_room(count: usize, payload_bytes: usize) -> Self {
        let bytes = Vec::with_capacity(payload_bytes + count * OVERHEAD_USUAL);
        Self { bytes, ..Self::default() }
    }

    /// Encodes one more event; returns false, adding nothing, where the payload is longer than
    /// [`PAYLOAD_BYTES_MAX`]. Text longer than 16 KiB in the receipt is cut.
    #[must_use]
    pub fn push(&mut self, receipt: &Receipt<'_>, payload: &[u8]) -> bool {
        if payload.len() > PAYLOAD_BYTES_MAX {
            return false;
        }
        let start = self.bytes.len();
        self.bytes.reserve(OVERHEAD_USUAL + payload.len());
        self.bytes.extend_from_slice(&(payload.len() as u32).to_le_bytes());
        self.bytes.extend_from_slice(&[0; 4 + 2]);
        self.bytes.push(if receipt.replay.is_some() { FLAG_REPLAY } else { 0 });
        self.bytes.extend_from_slice(&[0; 1 + 2 + 2]);
        self.bytes.extend_from_slice(&receipt.received_at.to_le_bytes());
        put_metadata(&mut self.bytes, receipt);
        let metadata = (self.bytes.len() - start - HEADER) as u16;
        self.bytes[start + 14..start + 16].copy_from_slice(&metadata.to_le_bytes());
        self.bytes.extend_from_slice(payload);
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        self.count += 1;
        self.payload_bytes += payload.len() as u64;
        true
    }

    /// Takes over records as [`bytes`](Self::bytes) gave them; `None` where they are not that.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let mut records = Self::default();
        let mut rest = bytes;
        while !rest.is_empty() {
            let (record, more) = split(rest)?;
            let (_, payload) = open(record)?;
            records.count += 1;
            records.payload_bytes += payload.len() as u64;
            rest = more;
        }
        records.bytes = bytes.to_vec();
        Some(records)
    }

    /// Each record's receipt and payload, in order.
    pub fn iter(&self) -> impl Iterator<Item = (Receipt<'_>, &[u8])> {
        let mut rest = &self.bytes[..];
        std::iter::from_fn(move || {
            let (record, more) = split(rest)?;
            rest = more;
            open(record)
        })
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Their payloads' bytes.
    #[must_use]
    pub fn payload_bytes(&self) -> u64 {
        self.payload_bytes
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The encoded bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

fn put(bytes: &mut Vec<u8>, tag: u8, value: &[u8]) {
    debug_assert!(value.len() <= usize::from(u16::MAX), "cut by the caller");
    bytes.push(tag);
    bytes.extend_from_slice(&(value.len() as u16).to_le_bytes());
    bytes.extend_from_slice(value);
}

fn put_text(bytes: &mut Vec<u8>, tag: u8, text: &str) {
    put(bytes, tag, &text.as_bytes()[..text.floor_char_boundary(TEXT_BYTES_MAX)]);
}

fn put_metadata(bytes: &mut Vec<u8>, receipt: &Receipt<'_>) {
    if let Some(sent_at) = receipt.sent_at {
        put(bytes, TAG_SENT_AT, &sent_at.to_le_bytes());
    }
    if let Some(kind) = receipt.kind {
        put(bytes, TAG_KIND, kind.as_str().as_bytes());
    }
    if let Some(id) = &receipt.message_id {
        put_text(bytes, TAG_MESSAGE_ID, id);
    }
    if let Some(id) = &receipt.write_key_id {
        put_text(bytes, TAG_WRITE_KEY_ID, id);
    }
    match receipt.source {
        Some(IpAddr::V4(ip)) => put(bytes, TAG_SOURCE, &ip.octets()),
        Some(IpAddr::V6(ip)) => put(bytes, TAG_SOURCE, &ip.octets()),
        None => {}
    }
    if let Some(route) = &receipt.route {
        put_text(bytes, TAG_ROUTE, route);
    }
    if receipt.item != 0 {
        put(bytes, TAG_ITEM, &receipt.item.to_le_bytes());
    }
    if let Some(replay) = receipt.replay {
        let mut value = [0; 16];
        value[..8].copy_from_slice(&replay.letter.to_le_bytes());
        value[8..].copy_from_slice(&replay.replayed_at.to_le_bytes());
        put(bytes, TAG_REPLAY, &value);
    }
    if let Some(origin) = receipt.origin {
        let mut value = [0; 24];
        value[..16].copy_from_slice(&origin.log_uuid.to_le_bytes());
        value[16..].copy_from_slice(&origin.seq.to_le_bytes());
        put(bytes, TAG_ORIGIN, &value);
    }
    if let Some(outline) = receipt.outline {
        // At most a few hundred bytes: the number of fields has a limit.
        put(bytes, TAG_OUTLINE, outline.as_bytes());
    }
}

/// Parts the first record from what follows it, by its lengths alone; `None` where they say more
/// than there is.
pub(super) fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let whole = content_length(bytes)?.next_multiple_of(8);
    bytes.split_at_checked(whole)
}

/// Header, metadata and payload of the first record.
fn content_length(bytes: &[u8]) -> Option<usize> {
    let header = bytes.get(..HEADER)?;
    let (payload, metadata) = (le32(header) as usize, le16(&header[14..]));
    (payload <= PAYLOAD_BYTES_MAX).then(|| HEADER + usize::from(metadata) + payload)
}

/// Writes a record's CRC.
pub(super) fn seal(record: &mut [u8], key: SegmentKey) {
    let Some(length) = content_length(record) else { return };
    let crc = key.crc(&record[8..length]);
    record[4..8].copy_from_slice(&crc.to_le_bytes());
}

/// Whether a record is the one that was written into that segment.
pub(super) fn is_whole(record: &[u8], key: SegmentKey) -> bool {
    let length = content_length(record).filter(|&length| length <= record.len());
    length.is_some_and(|length| key.crc(&record[8..length]) == le32(&record[4..]))
}

/// A whole record's receipt and payload; `None` where its metadata makes no sense.
pub(super) fn open(record: &[u8]) -> Option<(Receipt<'_>, &[u8])> {
    let received_at = Micros::from_le_bytes(record.get(16..HEADER)?.try_into().ok()?);
    let metadata_end = HEADER + usize::from(le16(&record[14..]));
    let metadata = record.get(HEADER..metadata_end)?;
    let payload = record.get(metadata_end..content_length(record)?)?;
    Some((take_metadata(metadata, received_at)?, payload))
}

fn take_metadata(mut metadata: &[u8], received_at: Micros) -> Option<Receipt<'_>> {
    let mut receipt = Receipt { received_at, ..Receipt::default() };
    while !metadata.is_empty() {
        let (header, rest) = metadata.split_at_checked(3)?;
        let length = u16::from_le_bytes([header[1], header[2]]);
        let (value, rest) = rest.split_at_checked(usize::from(length))?;
        metadata = rest;
        let text = || std::str::from_utf8(value).ok().map(Cow::Borrowed);
        match header[0] {
            TAG_SENT_AT => receipt.sent_at = Some(Micros::from_le_bytes(value.try_into().ok()?)),
            TAG_KIND => receipt.kind = Some(Kind::from_type(std::str::from_utf8(value).ok()?)),
            TAG_MESSAGE_ID => receipt.message_id = text(),
            TAG_WRITE_KEY_ID => receipt.write_key_id = text(),
            TAG_SOURCE => receipt.source = take_address(value),
            TAG_ROUTE => receipt.route = text(),
            TAG_ITEM => receipt.item = u32::from_le_bytes(value.try_into().ok()?),
            TAG_REPLAY => {
                receipt.replay = Some(ReplayOrigin {
                    letter: i64::from_le_bytes(value.get(..8)?.try_into().ok()?),
                    replayed_at: i64::from_le_bytes(value.get(8..)?.try_into().ok()?),
                });
            }
            TAG_ORIGIN => {
                receipt.origin = Some(Origin {
                    log_uuid: u128::from_le_bytes(value.get(..16)?.try_into().ok()?),
                    seq: u64::from_le_bytes(value.get(16..)?.try_into().ok()?),
                });
            }
            TAG_OUTLINE => receipt.outline = Some(Outline::from_bytes(value)),
            // A newer eventkit may know more about a receipt; the payload is whole without it.
            _ => {}
        }
    }
    Some(receipt)
}

fn take_address(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => Some(IpAddr::from(<[u8; 4]>::try_from(value).ok()?)),
        16 => Some(IpAddr::from(<[u8; 16]>::try_from(value).ok()?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::format::SegmentHeader;
    use super::*;

    fn key() -> SegmentKey {
        SegmentHeader { generation: 5, salt: [3; 16], ..SegmentHeader::default() }.key()
    }

    fn sealed(receipt: &Receipt<'_>, payload: &[u8]) -> Vec<u8> {
        let mut records = Records::default();
        assert!(records.push(receipt, payload));
        let mut bytes = records.bytes().to_vec();
        seal(&mut bytes, key());
        bytes
    }

    #[test]
    fn what_was_pushed_is_what_is_taken() {
        let full = Receipt {
            received_at: 1_700_000_000_000_000,
            sent_at: Some(-5),
            kind: Some(Kind::Page),
            message_id: Some("m-1".into()),
            write_key_id: Some("key".into()),
            source: Some("2001:db8::1".parse().unwrap()),
            route: Some("/v1/batch".into()),
            item: 7,
            replay: Some(ReplayOrigin { letter: 9, replayed_at: 11 }),
            origin: Some(Origin { log_uuid: 1 << 100, seq: 12 }),
            outline: Some(Outline::from_bytes(&[4, 1])),
        };
        let bare = Receipt::default();
        let mut records = Records::default();
        assert!(records.push(&full, b"{}") && records.push(&bare, b""));
        assert_eq!((records.count(), records.payload_bytes()), (2, 2));
        let (record, rest) = split(records.bytes()).unwrap();
        assert_eq!(open(record).unwrap(), (full, &b"{}"[..]));
        let (record, rest) = split(rest).unwrap();
        assert_eq!((open(record).unwrap(), rest), ((bare, &b""[..]), &b""[..]));
        let parsed = Records::parse(records.bytes()).unwrap();
        assert_eq!((parsed.count(), parsed.payload_bytes()), (2, 2));
        assert_eq!(parsed.iter().count(), 2);
    }

    #[test]
    fn every_flipped_bit_of_a_record_is_found_but_in_its_padding() {
        let bytes = sealed(&Receipt { item: 3, ..Receipt::default() }, b"payload");
        assert!(is_whole(&bytes, key()));
        assert!(!is_whole(&bytes, SegmentHeader::default().key()));
        let length = content_length(&bytes).unwrap();
        for bit in 0..length * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(!is_whole(&flipped, key()), "bit {bit}");
        }
    }

    #[test]
    fn text_that_is_too_long_is_cut_between_characters() {
        let long = "é".repeat(40_000);
        let bytes =
            sealed(&Receipt { route: Some(long.as_str().into()), ..Receipt::default() }, b"");
        let (receipt, _) = open(&bytes).unwrap();
        assert_eq!(receipt.route.as_deref(), Some(&long[..TEXT_BYTES_MAX]));
    }

    #[test]
    fn every_truncation_is_refused() {
        let bytes = sealed(&Receipt { item: 3, ..Receipt::default() }, b"payload");
        for length in 0..bytes.len() {
            assert!(split(&bytes[..length]).is_none(), "{length} bytes");
            assert!(length == 0 || Records::parse(&bytes[..length]).is_none(), "{length} bytes");
        }
        assert_eq!(split(&bytes).unwrap(), (&bytes[..], &b""[..]));
    }
}
