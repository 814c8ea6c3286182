//! A frame in memory: put together by the writer, written as it stands, and then kept for a reader
//! that is near.
//!
//! Its bytes begin at a multiple of what direct writes want, so that they go to the disk without
//! being copied. What was written is shared, not copied, between the log's [`Tail`] and whoever
//! reads it.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use super::disk::ALIGNMENT;
use super::format::{
    FRAME_HEADER, FrameHeader, FrameType, RECORDS_MAX, SegmentKey, frame_alignment, le32,
};
use super::record;
use crate::event::Seq;

/// Bytes that a frame's records may have together; one that is larger has a frame of its own. A
/// reader takes a frame whole, however little room it has.
pub(super) const TOGETHER_BYTES_MAX: usize = 1 << 20;
/// Bytes of frames that are kept for a reader that is near; the rest it reads from the disk.
const TAIL_BYTES_MAX: usize = 2 << 20;

/// A frame that is being put together.
#[derive(Default)]
pub(super) struct Frame {
    memory: Vec<u8>,
    /// Where in the memory the frame begins.
    start: usize,
    count: u32,
}

impl Frame {
    /// An empty frame whose body may grow to so many bytes without being moved, if it may at all.
    pub(super) fn with_room(body_bytes: usize) -> Self {
        let bytes = FRAME_HEADER + body_bytes.min(TOGETHER_BYTES_MAX);
        let mut memory: Vec<u8> = Vec::with_capacity(bytes.next_multiple_of(ALIGNMENT) + ALIGNMENT);
        let start = memory.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        memory.resize(start + FRAME_HEADER, 0);
        Self { memory, start, count: 0 }
    }

    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.count == 0
            || (self.body().len() + bytes <= TOGETHER_BYTES_MAX && self.count < RECORDS_MAX)
    }

    pub(super) fn push(&mut self, record: &[u8]) {
        self.memory.extend_from_slice(record);
        self.count += 1;
    }

    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// All of it, as it is written once it is sealed.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.memory[self.start..]
    }

    fn body(&self) -> &[u8] {
        &self.memory[self.start + FRAME_HEADER..]
    }

    /// Bytes it takes in its file.
    pub(super) fn padded(&self) -> u64 {
        (self.bytes().len() as u64).next_multiple_of(frame_alignment())
    }

    /// Completes header, CRCs and padding; returns the header's CRC.
    pub(super) fn seal(
        &mut self,
        kind: FrameType,
        first_seq: Seq,
        key: SegmentKey,
        previous_crc: u32,
    ) -> u32 {
        let mut rest = &mut self.memory[self.start + FRAME_HEADER..];
        while let Some((record, _)) = record::split(rest) {
            let length = record.len();
            let (record, more) = rest.split_at_mut(length);
            record::seal(record, key);
            rest = more;
        }
        let body = self.body();
        let header = FrameHeader {
            kind,
            first_seq,
            count: self.count,
            body_bytes: body.len() as u32,
            body_crc: key.crc(body),
            previous_crc,
        };
        let header = header.encode(key);
        self.memory[self.start..][..FRAME_HEADER].copy_from_slice(&header);
        let padded = self.padded() as usize;
        self.memory.resize(self.start + padded, 0);
        le32(&header[FRAME_HEADER - 4..])
    }

    /// The frame as readers want it, once it is written.
    pub(super) fn written(self, first_seq: Seq) -> Written {
        let start = self.start + FRAME_HEADER;
        let header = &self.memory[self.start..start];
        let body = start..start + le32(&header[28..]) as usize;
        Written { memory: self.memory, body, first_seq, count: self.count }
    }
}

/// A frame of records that stands in its file.
#[derive(Debug)]
pub(super) struct Written {
    memory: Vec<u8>,
    body: Range<usize>,
    pub first_seq: Seq,
    pub count: u32,
}

impl Written {
    /// Its records.
    pub(super) fn body(&self) -> &[u8] {
        &self.memory[self.body.clone()]
    }

    fn end_seq(&self) -> Seq {
        self.first_seq + Seq::from(self.count)
    }
}

/// The newest frames, in order and without a gap, as long as there is room for them: a reader
/// that keeps up is spared the disk. Each is handed out once. For one that is behind nothing is
/// kept: it would be held for long, by every log that has a backlog.
#[derive(Debug, Default)]
pub(super) struct Tail {
    frames: VecDeque<Arc<Written>>,
    bytes: usize,
    is_behind: bool,
}

impl Tail {
    /// Keeps a frame that is durable, where it follows those it has and there is room.
    pub(super) fn push(&mut self, frame: Written) {
        let follows = match self.frames.back() {
            Some(last) => {
                last.end_seq() == frame.first_seq
                    && self.bytes + frame.memory.capacity() <= TAIL_BYTES_MAX
            }
            None => !self.is_behind,
        };
        if follows {
            self.bytes += frame.memory.capacity();
            self.frames.push_back(Arc::new(frame));
        }
    }

    /// The frame that holds that position, of a log that is durable up to `durable`; those before
    /// it are let go, and all where the reader is behind them.
    pub(super) fn take(&mut self, next: Seq, durable: Seq) -> Option<Arc<Written>> {
        self.pass(next);
        if self.frames.front().is_none_or(|first| first.first_seq > next) {
            self.is_behind = next < durable;
            self.frames.clear();
            self.bytes = 0;
            return None;
        }
        let first = self.frames.pop_front()?;
        self.bytes -= first.memory.capacity();
        Some(first)
    }

    /// Keeps nothing until the reader has caught up.
    pub(super) fn rest(&mut self) {
        *self = Self { is_behind: true, ..Self::default() };
    }

    /// Lets go what nobody needs any more.
    pub(super) fn pass(&mut self, below: Seq) {
        while let Some(first) = self.frames.pop_front_if(|first| first.end_seq() <= below) {
            self.bytes -= first.memory.capacity();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(first_seq: Seq, bytes: usize) -> Written {
        let mut frame = Frame::with_room(bytes);
        frame.push(&vec![0; bytes]);
        frame.written(first_seq)
    }

    fn taken(tail: &mut Tail, next: Seq) -> Option<Seq> {
        let durable = tail.frames.back().map_or(next, |frame| frame.end_seq());
        tail.take(next, durable).map(|frame| frame.first_seq)
    }

    #[test]
    fn a_frame_begins_where_direct_writes_want_it() {
        for bytes in [0, 8, 5000, 1 << 20] {
            let frame = Frame::with_room(bytes);
            assert_eq!(frame.bytes().as_ptr().align_offset(ALIGNMENT), 0, "{bytes}");
        }
    }

    #[test]
    fn the_tail_has_no_gap_and_a_bound_and_hands_out_what_was_not_passed() {
        let mut tail = Tail::default();
        tail.push(written(5, 100));
        tail.push(written(6, 100));
        tail.push(written(8, 100));
        assert_eq!((taken(&mut tail, 6), taken(&mut tail, 6)), (Some(6), None));
        tail.push(written(9, 3 << 20));
        tail.push(written(10, 8));
        assert_eq!((taken(&mut tail, 9), taken(&mut tail, 10)), (Some(9), None));
        assert_eq!(tail.bytes, 0);
    }

    #[test]
    fn nothing_is_kept_for_a_reader_that_is_behind_until_it_has_read_all() {
        let mut tail = Tail::default();
        tail.push(written(5, 100));
        assert!(tail.take(4, 6).is_none() && tail.frames.is_empty(), "4 is not here any more");
        tail.push(written(6, 100));
        assert!(tail.take(5, 7).is_none() && tail.bytes == 0);
        assert!(tail.take(7, 7).is_none());
        tail.push(written(7, 100));
        assert_eq!(taken(&mut tail, 7), Some(7));
    }
}
