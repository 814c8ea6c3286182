//! The log on disk, format version 1.
//!
//! Little-endian; CRC is CRC32C; a block is 4096 bytes. A log is a directory of segment files
//! `seg-{slot, 5 digits}.wal`, each prefilled with zeros to its full size before it is used, and
//! used again in place once its records are stored.
//!
//! # Segment
//!
//! A header of 136 bytes, zero-padded to 512, in two copies: A at 0, B at 4096. Frames start at
//! 8192. Copy B is synced before A is written, so that they are never at risk together.
//!
//! | offset | size | field |
//! | --- | --- | --- |
//! | 0 | 8 | magic `ECWALSG1` |
//! | 8 | 2, 2 | format version, oldest version whose readers understand it |
//! | 12 | 4 | header length, 136: any version keeps its CRC in the last four bytes of that |
//! | 16 | 16 | the log's uuid |
//! | 32 | 4, 4 | slot, block size |
//! | 40 | 8 | segment size |
//! | 48 | 8 | generation: strictly increasing per log, never reused |
//! | 56 | 16 | salt: random, new with every use |
//! | 72 | 8 | position of the first record |
//! | 80 | 8, 8, 8 | the previous generation, the position and the offset at which it ended |
//! | 104 | 8 | when it was started, microseconds, for the operator |
//! | 112 | 4, 4 | incompatible, compatible feature bits |
//! | 120 | 4 | how often the log had been opened |
//! | 124 | 8 | the ledger's transaction counter when it was started |
//! | 132 | 4 | CRC of the above |
//!
//! Compatible bit 0 says that the segment held nothing but zeros when it was started. A first
//! position above the previous end is a declared jump: those positions were never used.
//!
//! # Frame
//!
//! What one sync made durable. It starts on a block boundary and is zero-padded to one. A
//! *salted* CRC is one of `log uuid | generation | salt | bytes`.
//!
//! | offset | size | field |
//! | --- | --- | --- |
//! | 0 | 4 | magic `FRM1` |
//! | 4 | 1, 1, 2 | type (1 data, 2 mark, 3 seal), codec (0 none), header length, 64 |
//! | 8 | 8 | generation |
//! | 16 | 8 | position of the first record |
//! | 24 | 4, 4, 4 | records, body bytes as stored, body bytes |
//! | 36 | 4 | blocks |
//! | 40 | 4 | header CRC of the frame before; 0 for a segment's first |
//! | 44 | 12 | zero |
//! | 56 | 4 | salted CRC of the body |
//! | 60 | 4 | salted CRC of the header up to here |
//!
//! Its body is records (see `record`), one behind the other.
//!
//! # Why
//!
//! - A segment that is used again is full of old frames that are valid in themselves. Generation
//!   and salt tell them from its new ones. The salt is secret because payloads are their senders'
//!   words: nobody outside can plant a frame that is found after damage.
//! - No block that holds an acknowledged record is ever written again, so a write that tears
//!   can't damage one.
//! - A frame is written only after the one before it was synced. So a valid frame behind an
//!   invalid region proves that the region had been acknowledged: it is damage, to be reported,
//!   and not a torn tail. Marks see to it that the last data frame soon has a successor.

use crate::event::{Micros, Seq};
use crate::mutant::{self, Mutant};

/// What offsets and lengths of frames are multiples of.
pub(super) const BLOCK: u64 = 4096;
/// Where a segment's second header is.
pub(super) const COPY_B: u64 = BLOCK;
/// Where a segment's frames start.
pub(super) const FRAMES: u64 = 2 * BLOCK;
/// Bytes that are written for a header.
pub(super) const HEADER_BYTES: usize = 512;
/// Bytes of a frame's header.
pub(super) const FRAME_HEADER: usize = 64;
/// A frame whose body claims more is not one.
pub(super) const BODY_BYTES_MAX: usize = 4 << 20;
/// A frame that claims more records is not one.
pub(super) const RECORDS_MAX: u32 = 4096;
/// Compatible feature: the segment held nothing but zeros when it was started.
pub(super) const FROM_ZEROS: u32 = 1;

const MAGIC: &[u8; 8] = b"ECWALSG1";
const VERSION: u16 = 1;
const FIELDS: usize = 136;
const FRAME_MAGIC: &[u8; 4] = b"FRM1";
/// Positions and generations: a log that counts to there by one a nanosecond is 292 years old.
const SEQ_MAX: Seq = Seq::MAX / 2;

/// A segment's header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub log_uuid: u128,
    pub slot: u32,
    pub size: u64,
    pub generation: u64,
    pub salt: [u8; 16],
    pub first_seq: Seq,
    pub previous: Previous,
    pub created: Micros,
    pub compatible: u32,
    pub opened: u32,
    pub ledger_tx: u64,
}

/// Where the segment before ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Previous {
    pub generation: u64,
    pub end_seq: Seq,
    pub end_offset: u64,
}

/// What the bytes of a header turn out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decoded {
    Header(SegmentHeader),
    /// Whole, but of a format that this reader must not touch.
    Newer(u16),
    Damaged,
}

impl SegmentHeader {
    pub(super) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let mut at = 0;
        let mut put = |field: &[u8]| {
            bytes[at..at + field.len()].copy_from_slice(field);
            at += field.len();
        };
        put(MAGIC);
        put(&VERSION.to_le_bytes());
        put(&VERSION.to_le_bytes());
        put(&(FIELDS as u32).to_le_bytes());
        put(&self.log_uuid.to_le_bytes());
        put(&self.slot.to_le_bytes());
        put(&(BLOCK as u32).to_le_bytes());
        put(&self.size.to_le_bytes());
        put(&self.generation.to_le_bytes());
        put(&self.salt);
        put(&self.first_seq.to_le_bytes());
        put(&self.previous.generation.to_le_bytes());
        put(&self.previous.end_seq.to_le_bytes());
        put(&self.previous.end_offset.to_le_bytes());
        put(&self.created.to_le_bytes());
        put(&0_u32.to_le_bytes());
        put(&self.compatible.to_le_bytes());
        put(&self.opened.to_le_bytes());
        put(&self.ledger_tx.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..FIELDS - 4]);
        bytes[FIELDS - 4..FIELDS].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Decoded {
        let length = bytes.get(12..16).map_or(0, |b| le32(b) as usize);
        let whole = (FIELDS..=HEADER_BYTES).contains(&length)
            && bytes.len() >= length
            && bytes[..7] == MAGIC[..7]
            && crc32c::crc32c(&bytes[..length - 4]) == le32(&bytes[length - 4..]);
        if !whole {
            return Decoded::Damaged;
        }
        let (version, oldest_reader) = (le16(&bytes[8..]), le16(&bytes[10..]));
        if &bytes[..8] != MAGIC || oldest_reader > VERSION || le32(&bytes[112..]) != 0 {
            return Decoded::Newer(version);
        }
        let header = Self {
            log_uuid: u128::from_le_bytes(array(&bytes[16..])),
            slot: le32(&bytes[32..]),
            size: le64(&bytes[40..]),
            generation: le64(&bytes[48..]),
            salt: array(&bytes[56..]),
            first_seq: le64(&bytes[72..]),
            previous: Previous {
                generation: le64(&bytes[80..]),
                end_seq: le64(&bytes[88..]),
                end_offset: le64(&bytes[96..]),
            },
            created: le64(&bytes[104..]) as Micros,
            compatible: le32(&bytes[116..]),
            opened: le32(&bytes[120..]),
            ledger_tx: le64(&bytes[124..]),
        };
        let sane = le32(&bytes[36..]) == BLOCK as u32
            && header.first_seq <= SEQ_MAX
            && header.generation <= SEQ_MAX
            && header.previous.end_seq <= header.first_seq
            && header.generation > header.previous.generation;
        if sane { Decoded::Header(header) } else { Decoded::Damaged }
    }

    /// What the CRCs of this segment's frames and records begin with.
    pub(super) fn key(&self) -> SegmentKey {
        let crc = crc32c::crc32c(&self.log_uuid.to_le_bytes());
        if mutant::active(Mutant::NoSalt) {
            return SegmentKey { generation: self.generation, crc };
        }
        let crc = crc32c::crc32c_append(crc, &self.generation.to_le_bytes());
        let crc = crc32c::crc32c_append(crc, &self.salt);
        SegmentKey { generation: self.generation, crc }
    }
}

/// What tells a segment's own frames and records from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentKey {
    pub generation: u64,
    crc: u32,
}

impl SegmentKey {
    /// The salted CRC of those bytes.
    pub(super) fn crc(self, bytes: &[u8]) -> u32 {
        crc32c::crc32c_append(self.crc, bytes)
    }
}

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FrameType {
    /// It holds records.
    Data = 1,
    /// It follows the last data frame once the log is idle, so that that one has a successor.
    Mark = 2,
    /// The log was closed here.
    Seal = 3,
}

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHeader {
    pub kind: FrameType,
    pub first_seq: Seq,
    pub count: u32,
    pub body_bytes: u32,
    pub body_crc: u32,
    /// The header CRC of the frame before.
    pub previous_crc: u32,
}

impl FrameHeader {
    /// The header's bytes, the last four of which are its CRC.
    pub(super) fn encode(&self, key: SegmentKey) -> [u8; FRAME_HEADER] {
        let mut bytes = [0; FRAME_HEADER];
        bytes[..4].copy_from_slice(FRAME_MAGIC);
        bytes[4] = self.kind as u8;
        bytes[6..8].copy_from_slice(&(FRAME_HEADER as u16).to_le_bytes());
        bytes[8..16].copy_from_slice(&key.generation.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.first_seq.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.count.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.body_bytes.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.body_bytes.to_le_bytes());
        bytes[36..40].copy_from_slice(&((self.bytes() / BLOCK) as u32).to_le_bytes());
        bytes[40..44].copy_from_slice(&self.previous_crc.to_le_bytes());
        bytes[56..60].copy_from_slice(&self.body_crc.to_le_bytes());
        let crc = key.crc(&bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// The frame of that segment that starts here, if one does. Its body has still to be checked.
    pub(super) fn decode(bytes: &[u8], key: SegmentKey) -> Option<Self> {
        let bytes = bytes.get(..FRAME_HEADER)?;
        if !Self::begins(bytes, key.generation) || key.crc(&bytes[..60]) != le32(&bytes[60..]) {
            return None;
        }
        let kind = match bytes[4] {
            1 => FrameType::Data,
            2 => FrameType::Mark,
            3 => FrameType::Seal,
            _ => return None,
        };
        let header = Self {
            kind,
            first_seq: le64(&bytes[16..]),
            count: le32(&bytes[24..]),
            body_bytes: le32(&bytes[28..]),
            body_crc: le32(&bytes[56..]),
            previous_crc: le32(&bytes[40..]),
        };
        let (body, count) = (header.body_bytes as usize, header.count);
        let sane = header.first_seq <= SEQ_MAX
            && count <= RECORDS_MAX
            && body <= BODY_BYTES_MAX
            && (count > 0) == (kind == FrameType::Data)
            && bytes[5] == 0
            && le32(&bytes[32..]) == header.body_bytes
            && u64::from(le32(&bytes[36..])) == header.bytes() / BLOCK;
        sane.then_some(header)
    }

    fn begins(bytes: &[u8], generation: u64) -> bool {
        let is_of = |found| found == generation || mutant::active(Mutant::NoSalt);
        bytes.len() >= 16 && &bytes[..4] == FRAME_MAGIC && is_of(le64(&bytes[8..]))
    }

    /// The position behind the last record of a frame that may begin here, as it says without proof.
    pub(super) fn claimed_end(bytes: &[u8]) -> Option<Seq> {
        let header = bytes.get(..FRAME_HEADER).filter(|header| &header[..4] == FRAME_MAGIC)?;
        let (first_seq, records) = (le64(&header[16..]), le32(&header[24..]));
        let sane = first_seq <= SEQ_MAX && records <= RECORDS_MAX && header[4] == 1;
        sane.then(|| first_seq + Seq::from(records))
    }

    /// Whether a frame of that segment was begun here, whatever has become of it.
    pub(super) fn may_be(bytes: &[u8], key: SegmentKey) -> bool {
        if Self::begins(bytes, key.generation) {
            return true;
        }
        // Where it is by these that it can't be told any more, its CRC still knows it.
        let Some(header) = bytes.get(..FRAME_HEADER) else { return false };
        let mut mended: [u8; FRAME_HEADER] = array(header);
        mended[..4].copy_from_slice(FRAME_MAGIC);
        mended[8..16].copy_from_slice(&key.generation.to_le_bytes());
        key.crc(&mended[..60]) == le32(&mended[60..])
    }

    /// Bytes it takes in its file.
    pub(super) fn bytes(&self) -> u64 {
        (FRAME_HEADER as u64 + u64::from(self.body_bytes)).next_multiple_of(frame_alignment())
    }

    /// The position behind its last record.
    pub(super) fn end_seq(&self) -> Seq {
        self.first_seq + Seq::from(self.count)
    }
}

/// Frames begin at multiples of this.
pub(super) fn frame_alignment() -> u64 {
    if mutant::active(Mutant::UnalignedFrames) { 8 } else { BLOCK }
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[..N]);
    array
}

pub(super) fn le16(bytes: &[u8]) -> u16 {
    u16::from_le_bytes(array(bytes))
}

pub(super) fn le32(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(array(bytes))
}

pub(super) fn le64(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(array(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> SegmentHeader {
        SegmentHeader {
            log_uuid: 1 << 100,
            slot: 3,
            size: 1 << 20,
            generation: 7,
            salt: [9; 16],
            first_seq: 100,
            previous: Previous { generation: 6, end_seq: 90, end_offset: 8192 },
            created: -1,
            compatible: FROM_ZEROS,
            opened: 2,
            ledger_tx: 55,
        }
    }

    #[test]
    fn a_header_comes_back_as_it_was_written_and_no_flipped_bit_passes() {
        let bytes = header().encode();
        assert_eq!(SegmentHeader::decode(&bytes), Decoded::Header(header()));
        for bit in 0..FIELDS * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SegmentHeader::decode(&flipped), Decoded::Damaged, "bit {bit}");
        }
        for length in 0..FIELDS {
            assert_eq!(SegmentHeader::decode(&bytes[..length]), Decoded::Damaged);
        }
    }

    #[test]
    fn a_newer_header_is_told_from_a_damaged_one() {
        let mut bytes = header().encode();
        bytes[8] = 2;
        bytes[10] = 2;
        let longer = FIELDS + 24;
        bytes[12..16].copy_from_slice(&(longer as u32).to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..longer - 4]);
        bytes[longer - 4..longer].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(SegmentHeader::decode(&bytes), Decoded::Newer(2));
        let mut unknown = header().encode();
        unknown[112] = 1;
        let crc = crc32c::crc32c(&unknown[..FIELDS - 4]);
        unknown[FIELDS - 4..FIELDS].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(SegmentHeader::decode(&unknown), Decoded::Newer(1));
    }

    #[test]
    fn a_frame_belongs_to_one_generation_and_salt_and_no_flipped_bit_passes() {
        let key = header().key();
        let frame = FrameHeader {
            kind: FrameType::Data,
            first_seq: 100,
            count: 2,
            body_bytes: 5000,
            body_crc: 77,
            previous_crc: 78,
        };
        let bytes = frame.encode(key);
        assert_eq!(FrameHeader::decode(&bytes, key), Some(frame));
        assert_eq!((frame.bytes(), frame.end_seq()), (8192, 102));
        let salted = SegmentHeader { salt: [8; 16], ..header() }.key();
        let older = SegmentHeader { generation: 8, ..header() }.key();
        assert_eq!(
            (FrameHeader::decode(&bytes, salted), FrameHeader::decode(&bytes, older)),
            (None, None)
        );
        for bit in 0..FRAME_HEADER * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(FrameHeader::decode(&flipped, key), None, "bit {bit}");
        }
    }
}
