//! What a segment's bytes hold: pure, so that any bytes can be tried.

use std::ops::Range;

use super::format::{
    BLOCK, FRAME_HEADER, FRAMES, FROM_ZEROS, FrameHeader, FrameType, SegmentHeader, SegmentKey,
};
use super::record;
use crate::event::Seq;
use crate::mutant::{self, Mutant};

/// How far a segment was certainly written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct End {
    /// The position behind the last record.
    pub seq: Seq,
    /// The offset behind the last frame.
    pub offset: u64,
    /// Bytes behind that which look as if a frame had been begun there.
    pub suspect: Option<Range<u64>>,
}

/// The frame of that segment at an offset, whole within `bytes`, and its body; the body's CRC
/// is another question.
pub(super) fn frame_at(bytes: &[u8], at: usize, key: SegmentKey) -> Option<(FrameHeader, &[u8])> {
    let rest = bytes.get(at..)?;
    let frame = FrameHeader::decode(rest, key)?;
    let body = rest.get(FRAME_HEADER..FRAME_HEADER + frame.body_bytes as usize)?;
    Some((frame, body))
}

/// The first frame at a block boundary from `at` on whose records stand in that range.
pub(super) fn find(bytes: &[u8], at: usize, key: SegmentKey, seqs: Range<Seq>) -> Option<usize> {
    let first = at.next_multiple_of(BLOCK as usize);
    let is_frame = |at| frame_at(bytes, at, key).is_some_and(|(frame, _)| is_in(&frame, &seqs));
    (first..bytes.len()).step_by(BLOCK as usize).find(|&at| is_frame(at))
}

fn is_in(frame: &FrameHeader, seqs: &Range<Seq>) -> bool {
    seqs.start <= frame.first_seq && frame.end_seq() <= seqs.end
}

/// A part of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// A whole frame.
    Frame { at: usize, frame: FrameHeader },
    /// Bytes that are none, with a frame behind them: it proves that they had been acknowledged.
    Damaged { range: Range<usize>, from: Seq, to: Seq },
}

/// Goes through a segment's bytes, from its first on, piece by piece.
pub(super) struct Walk<'b> {
    bytes: &'b [u8],
    key: SegmentKey,
    at: usize,
    expected: Seq,
    /// A frame of records above that is none: it was refused, and left where it had been written.
    end_seq_max: Seq,
    sealed: bool,
}

impl<'b> Walk<'b> {
    pub(super) fn new(bytes: &'b [u8], header: &SegmentHeader) -> Self {
        let (key, expected, end_seq_max) = (header.key(), header.first_seq, Seq::MAX);
        Self { bytes, key, at: FRAMES as usize, expected, end_seq_max, sealed: false }
    }
}

impl Iterator for Walk<'_> {
    type Item = Piece;
    fn next(&mut self) -> Option<Piece> {
        if self.sealed {
            return None;
        }
        let (at, key) = (self.at, self.key);
        let seqs = self.expected..self.end_seq_max;
        let frame = frame_at(self.bytes, at, key)
            .filter(|(frame, _)| is_in(frame, &seqs) || mutant::active(Mutant::NoSalt));
        if let Some((frame, _)) = frame.filter(|(frame, body)| key.crc(body) == frame.body_crc) {
            self.at += frame.bytes() as usize;
            self.expected = frame.end_seq();
            self.sealed = frame.kind == FrameType::Seal;
            return Some(Piece::Frame { at, frame });
        }
        // Of a frame that is damaged itself at least the first record is passed over.
        let above = frame.map_or(self.expected, |(frame, _)| frame.end_seq());
        let next = find(self.bytes, at + 1, key, above..self.end_seq_max);
        let next = next.filter(|_| !mutant::active(Mutant::StopAtFirstBadFrame))?;
        let (from, range) = (self.expected, at..next);
        self.at = next;
        self.expected = frame_at(self.bytes, next, key).map_or(above, |(f, _)| f.first_seq);
        Some(Piece::Damaged { range, from, to: self.expected })
    }
}

/// Reads a segment, from its first byte on, to its end. Damage with a frame behind it is passed
/// over; the reader will report it.
pub(super) fn end(bytes: &[u8], header: &SegmentHeader, end_seq_max: Seq) -> End {
    let mut walk = Walk { end_seq_max, ..Walk::new(bytes, header) };
    walk.by_ref().for_each(drop);
    let (seq, offset) = (walk.expected, walk.at as u64);
    let suspect = if walk.sealed { None } else { suspect(bytes, walk.at, header) };
    End { seq, offset, suspect }
}

/// Bytes behind the end that may have been a frame: in a segment that held zeros, any that are
/// not; in one that was used before, from a block that begins like a frame of this use.
fn suspect(bytes: &[u8], from: usize, header: &SegmentHeader) -> Option<Range<u64>> {
    let tail = bytes.get(from..)?;
    let key = header.key();
    let begun = tail.chunks(BLOCK as usize).any(|block| FrameHeader::may_be(block, key));
    let zeros_expected = header.compatible & FROM_ZEROS != 0;
    let last = tail.iter().rposition(|&byte| byte != 0)?;
    (begun || zeros_expected).then(|| from as u64..(from + last + 1) as u64)
}

/// Records that were found whole among damaged bytes, or the lack of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Salvaged {
    /// That many records, in this range of the bytes.
    Records { count: u32, body: Range<usize> },
    /// That many records are lost.
    Lost(Seq),
}

/// Takes what is whole out of a damaged region that held `count` records, in their order. Which
/// position a record has is only certain if the lengths of all of them add up: else all are lost.
pub(super) fn salvage(bytes: &[u8], count: Seq, key: SegmentKey) -> Vec<Salvaged> {
    let lost = vec![Salvaged::Lost(count)];
    let mut parts = Vec::new();
    let mut at = FRAME_HEADER;
    for _ in 0..count {
        let Some((record, _)) = bytes.get(at..).and_then(record::split) else { return lost };
        // Padding would pass for empty records, and make up for those that a damaged length skips.
        if is_zero(record) {
            return lost;
        }
        let range = at..at + record.len();
        at = range.end;
        match (record::is_whole(record, key), parts.last_mut()) {
            (true, Some(Salvaged::Records { count, body })) => {
                *count += 1;
                body.end = range.end;
            }
            (true, _) => parts.push(Salvaged::Records { count: 1, body: range }),
            (false, Some(Salvaged::Lost(count))) => *count += 1,
            (false, _) => parts.push(Salvaged::Lost(1)),
        }
    }
    // One frame fills its region to the last block, and behind its last record is padding.
    let padding = bytes.get(at..).filter(|padding| padding.len() < BLOCK as usize);
    if padding.is_some_and(is_zero) { parts } else { lost }
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|&byte| byte == 0)
}
