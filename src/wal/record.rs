//! One record: an event's payload and receipt as bytes.
//!
//! Little-endian, within a frame's body (see `segment`):
//!
//! | size | field |
//! | --- | --- |
//! | 4 | CRC32C of everything behind it |
//! | 4 | payload length |
//! | 4 | metadata length |
//! | 8 | received at, microseconds |
//! | – | metadata: (tag 1, length 2, bytes)* |
//! | – | payload |

use std::borrow::Cow;
use std::net::IpAddr;

use crate::event::{Kind, Micros, Receipt, ReplayOrigin};

const HEADER: usize = 20;

const TAG_SENT_AT: u8 = 1;
const TAG_KIND: u8 = 2;
const TAG_MESSAGE_ID: u8 = 3;
const TAG_WRITE_KEY_ID: u8 = 4;
const TAG_SOURCE: u8 = 5;
const TAG_ROUTE: u8 = 6;
const TAG_ITEM: u8 = 7;
const TAG_REPLAY: u8 = 8;

/// Records of one request and stream, encoded, on their way to the log.
#[derive(Debug, Default)]
pub struct Records {
    bytes: Vec<u8>,
    count: u32,
    payload_bytes: u64,
}

impl Records {
    /// Encodes one more event. Text longer than 64 KiB in the receipt is cut.
    pub fn push(&mut self, receipt: &Receipt<'_>, payload: &[u8]) {
        let start = self.bytes.len();
        self.bytes.reserve(HEADER + 64 + payload.len());
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&(payload.len() as u32).to_le_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&receipt.received_at.to_le_bytes());
        put_metadata(&mut self.bytes, receipt);
        let metadata = (self.bytes.len() - start - HEADER) as u32;
        self.bytes[start + 8..start + 12].copy_from_slice(&metadata.to_le_bytes());
        self.bytes.extend_from_slice(payload);
        let crc = crc32c::crc32c(&self.bytes[start + 4..]);
        self.bytes[start..start + 4].copy_from_slice(&crc.to_le_bytes());
        self.count += 1;
        self.payload_bytes += payload.len() as u64;
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
    put(bytes, tag, &text.as_bytes()[..text.floor_char_boundary(usize::from(u16::MAX))]);
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
}

/// Takes the first record off `bytes`: its receipt, its payload, and what follows it. `None`
/// where the bytes are not a whole record, or not the one that was written.
#[must_use]
pub fn take(bytes: &[u8]) -> Option<(Receipt<'_>, &[u8], &[u8])> {
    let (header, rest) = bytes.split_at_checked(HEADER)?;
    let crc = u32::from_le_bytes(header[0..4].try_into().ok()?);
    let payload_length = u32::from_le_bytes(header[4..8].try_into().ok()?) as usize;
    let metadata_length = u32::from_le_bytes(header[8..12].try_into().ok()?) as usize;
    let received_at = Micros::from_le_bytes(header[12..20].try_into().ok()?);
    let (metadata, rest) = rest.split_at_checked(metadata_length)?;
    let (payload, rest) = rest.split_at_checked(payload_length)?;
    if crc32c::crc32c(&bytes[4..HEADER + metadata_length + payload_length]) != crc {
        return None;
    }
    Some((take_metadata(metadata, received_at)?, payload, rest))
}

/// What follows the first record, by its lengths alone.
fn skip(bytes: &[u8]) -> Option<&[u8]> {
    let length = |at: usize| {
        let field = bytes.get(at..at + 4)?;
        Some(u32::from_le_bytes(field.try_into().ok()?) as usize)
    };
    bytes.get(HEADER.checked_add(length(4)?)?.checked_add(length(8)?)?..)
}

/// What follows the first record, which is damaged; `None` where that can't be told: the lengths
/// of all `count` records from here on have to add up to the bytes there are.
#[must_use]
pub fn pass_over(bytes: &[u8], count: u64) -> Option<&[u8]> {
    let mut rest = bytes;
    for _ in 0..count {
        rest = skip(rest)?;
    }
    if rest.is_empty() { skip(bytes) } else { None }
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
    use super::*;

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
        };
        let bare = Receipt::default();
        let mut records = Records::default();
        records.push(&full, b"{}");
        records.push(&bare, b"");
        assert_eq!((records.count(), records.payload_bytes()), (2, 2));
        let (receipt, payload, rest) = take(records.bytes()).unwrap();
        assert_eq!((receipt, payload), (full, &b"{}"[..]));
        let (receipt, payload, rest) = take(rest).unwrap();
        assert_eq!((receipt, payload, rest), (bare, &b""[..], &b""[..]));
    }

    #[test]
    fn every_flipped_bit_is_refused() {
        let mut records = Records::default();
        records.push(&Receipt { item: 3, ..Receipt::default() }, b"payload");
        for bit in 0..records.bytes().len() * 8 {
            let mut bytes = records.bytes().to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(take(&bytes).is_none(), "bit {bit}");
        }
    }

    #[test]
    fn a_damaged_record_is_passed_over_only_if_its_lengths_are_whole() {
        let mut records = Records::default();
        for payload in [&b"first"[..], b"second", b"third"] {
            records.push(&Receipt::default(), payload);
        }
        let mut bytes = records.bytes().to_vec();
        bytes[HEADER] ^= 1;
        assert!(take(&bytes).is_none());
        let rest = pass_over(&bytes, 3).unwrap();
        assert_eq!(take(rest).unwrap().1, b"second");
        assert!(pass_over(&bytes, 2).is_none() && pass_over(&bytes, 4).is_none());
        bytes[4] ^= 1;
        assert!(pass_over(&bytes, 3).is_none());
    }

    #[test]
    fn text_that_is_too_long_is_cut_between_characters() {
        let long = "é".repeat(40_000);
        let mut records = Records::default();
        records.push(&Receipt { route: Some(long.as_str().into()), ..Receipt::default() }, b"");
        let (receipt, _, _) = take(records.bytes()).unwrap();
        assert_eq!(receipt.route.as_deref(), Some(&long[..65_534]));
    }

    #[test]
    fn every_truncation_is_refused() {
        let mut records = Records::default();
        records.push(&Receipt { item: 3, ..Receipt::default() }, b"payload");
        for length in 0..records.bytes().len() {
            assert!(take(&records.bytes()[..length]).is_none(), "{length} bytes");
        }
    }
}
