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

/// The first frame at a block boundary from `at` on whose records stand at `above` or later.
pub(super) fn find(bytes: &[u8], at: usize, key: SegmentKey, above: Seq) -> Option<usize> {
    let first = at.next_multiple_of(BLOCK as usize);
    (first..bytes.len())
        .step_by(BLOCK as usize)
        .find(|&at| frame_at(bytes, at, key).is_some_and(|(frame, _)| frame.first_seq >= above))
}

/// Reads a segment, from its first byte on, to its end. Damage with a frame behind it is passed
/// over: that frame proves that it had been acknowledged, and the reader will report it.
pub(super) fn end(bytes: &[u8], header: &SegmentHeader) -> End {
    let key = header.key();
    let mut end = End { seq: header.first_seq, offset: FRAMES, suspect: None };
    let mut at = FRAMES as usize;
    loop {
        let frame = frame_at(bytes, at, key)
            .filter(|(frame, _)| frame.first_seq >= end.seq || mutant::active(Mutant::NoSalt));
        if let Some((frame, _)) = frame.filter(|(frame, body)| key.crc(body) == frame.body_crc) {
            at += frame.bytes() as usize;
            end = End { seq: frame.end_seq(), offset: at as u64, suspect: None };
            if frame.kind == FrameType::Seal {
                return end;
            }
            continue;
        }
        // Of a frame that is damaged itself at least the first record is passed over.
        let above = frame.map_or(end.seq, |(frame, _)| frame.end_seq());
        let found = find(bytes, at + 1, key, above);
        let found = found.filter(|_| !mutant::active(Mutant::StopAtFirstBadFrame));
        let Some(next) = found else { break };
        let seq = frame_at(bytes, next, key).map_or(above, |(frame, _)| frame.first_seq);
        end = End { seq, offset: next as u64, suspect: None };
        at = next;
    }
    end.suspect = suspect(bytes, end.offset as usize, header);
    end
}

/// Bytes behind the end that may have been a frame: in a segment that held zeros, any that are
/// not; in one that was used before, from a block that begins like a frame of this use.
fn suspect(bytes: &[u8], from: usize, header: &SegmentHeader) -> Option<Range<u64>> {
    let tail = bytes.get(from..)?;
    let begun =
        tail.chunks(BLOCK as usize).any(|block| FrameHeader::may_be(block, header.generation));
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
    // One frame fills its region to the last block.
    let one_frame = at <= bytes.len() && at.next_multiple_of(BLOCK as usize) >= bytes.len();
    if one_frame { parts } else { lost }
}
