//! Reads durable records in order, from any position, as chunks that borrow the reader's buffer.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::segment::{self, FRAME_HEADER_BYTES, Frame, HEADER_BYTES};
use super::{Extent, Shared};
use crate::event::Seq;

/// How much is read ahead: the backlog stays on disk.
const READ_BYTES: usize = 1 << 20;

/// A consumer's place in the log. It never sees a record that is not durable.
pub struct Reader {
    shared: Arc<Shared>,
    open: Option<Open>,
    next: Seq,
    buffer: Vec<u8>,
    /// What of the buffer is not consumed yet.
    start: usize,
}

struct Open {
    first_seq: Seq,
    file: File,
    /// The file's offset behind the buffer's end.
    offset: u64,
}

/// Records that follow each other, still encoded: take them off with [`super::take`].
#[derive(Debug)]
pub struct Chunk<'a> {
    /// The first record's position.
    pub first_seq: Seq,
    /// How many there are.
    pub count: u32,
    /// Their bytes.
    pub body: &'a [u8],
}

/// Records that can't be read any more: the bytes on disk are not what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The first position that is lost.
    pub from: Seq,
    /// The position behind the last that is lost.
    pub to: Seq,
}

enum Step {
    /// A whole frame stands at the buffer's start.
    Frame(Frame),
    /// Nothing durable behind the reader.
    AtEnd,
    Damaged(Damage),
}

impl Reader {
    pub(super) fn new(shared: Arc<Shared>, from: Seq) -> Self {
        Self { shared, open: None, next: from, buffer: Vec::new(), start: 0 }
    }

    /// The position of the next record.
    #[must_use]
    pub fn position(&self) -> Seq {
        self.next
    }

    /// The next chunk; `None` at the end of what is durable. A frame is handed out whole, with
    /// records below the position that was asked for at its start.
    ///
    /// # Errors
    /// What the system said about a read. Damage is not an error: it is an answer, once per
    /// range, and the reader stands behind it.
    pub fn read(&mut self) -> io::Result<Option<Result<Chunk<'_>, Damage>>> {
        match self.step()? {
            Step::AtEnd => Ok(None),
            Step::Damaged(damage) => {
                self.next = damage.to;
                Ok(Some(Err(damage)))
            }
            Step::Frame(frame) => {
                let body = self.start + FRAME_HEADER_BYTES;
                self.start = body + frame.body_bytes as usize;
                self.next = frame.end_seq();
                let body = &self.buffer[body..self.start];
                Ok(Some(Ok(Chunk { first_seq: frame.first_seq, count: frame.count, body })))
            }
        }
    }

    fn step(&mut self) -> io::Result<Step> {
        loop {
            let extent = match self.extent() {
                Ok(extent) => extent,
                // Positions up to there were never given to a record.
                Err(head) => {
                    self.next = self.next.max(head);
                    return Ok(Step::AtEnd);
                }
            };
            self.next = self.next.max(extent.first_seq);
            if self.open.as_ref().is_none_or(|open| open.first_seq != extent.first_seq) {
                let file = File::open(segment::path(&self.shared.dir, extent.first_seq))?;
                self.open = Some(Open { first_seq: extent.first_seq, file, offset: HEADER_BYTES });
                self.buffer.clear();
                self.start = 0;
            }
            let Some(frame) = self.frame(&extent)? else {
                return Ok(Step::Damaged(self.look_further(&extent)?));
            };
            if frame.end_seq() <= self.next {
                self.start += frame.bytes() as usize;
            } else if frame.first_seq > self.next {
                return Ok(Step::Damaged(Damage { from: self.next, to: frame.first_seq }));
            } else {
                return Ok(Step::Frame(frame));
            }
        }
    }

    /// The frame at the reader's place, whole in the buffer; `None` where there is none.
    fn frame(&mut self, extent: &Extent) -> io::Result<Option<Frame>> {
        if !self.fill(FRAME_HEADER_BYTES, extent.bytes)? {
            return Ok(None);
        }
        let frame = Frame::decode(&self.buffer[self.start..], self.shared.log_uuid);
        match frame {
            Some(frame) if self.fill(frame.bytes() as usize, extent.bytes)? => Ok(Some(frame)),
            _ => Ok(None),
        }
    }

    /// Goes to the next frame behind damaged bytes, or to the end of what is durable.
    fn look_further(&mut self, extent: &Extent) -> io::Result<Damage> {
        let mut damage = Damage { from: self.next, to: extent.end_seq };
        let Some(open) = &mut self.open else { return Ok(damage) };
        let place = open.offset - (self.buffer.len() - self.start) as u64;
        let there_is = open.file.metadata()?.len().min(extent.bytes);
        let range = (place + 1).min(there_is)..there_is;
        open.offset = extent.bytes;
        let log_uuid = self.shared.log_uuid;
        if let Some((offset, frame)) = segment::find_frame(&open.file, log_uuid, range, self.next)?
        {
            open.offset = offset;
            damage.to = frame.first_seq;
        }
        self.buffer.clear();
        self.start = 0;
        Ok(damage)
    }

    /// The segment that holds the next record; the log's head where there is no such record.
    fn extent(&self) -> Result<Extent, Seq> {
        let state = self.shared.state();
        let holds_more = |segment: &&Extent| segment.end_seq > self.next.max(segment.first_seq);
        let found = state.segments.iter().find(holds_more);
        found.cloned().ok_or(state.durable)
    }

    /// Has at least `wanted` bytes behind `start`, none of them beyond the durable end.
    fn fill(&mut self, wanted: usize, durable_end: u64) -> io::Result<bool> {
        let have = self.buffer.len() - self.start;
        if have >= wanted {
            return Ok(true);
        }
        let Some(open) = &mut self.open else {
            return Ok(false);
        };
        let left = durable_end.saturating_sub(open.offset);
        if left < (wanted - have) as u64 {
            return Ok(false);
        }
        self.buffer.drain(..self.start);
        self.start = 0;
        let more = left.min((READ_BYTES.max(wanted) - have) as u64) as usize;
        self.buffer.resize(have + more, 0);
        match open.file.read_exact_at(&mut self.buffer[have..], open.offset) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                self.buffer.truncate(have);
                return Ok(false);
            }
            other => other?,
        }
        open.offset += more as u64;
        Ok(true)
    }
}
