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
            let (extent, sealed) = match self.extent() {
                Ok(found) => found,
                // Positions up to there were never given to a record.
                Err(head) => {
                    self.next = self.next.max(head);
                    return Ok(Step::AtEnd);
                }
            };
            self.next = self.next.max(extent.first_seq);
            if self.open.as_ref().is_none_or(|open| open.first_seq != extent.first_seq) {
                let file = File::open(segment::path(&self.shared.dir, extent.first_seq))?;
                let first_seq = extent.first_seq;
                self.open = Some(Open { first_seq, file, offset: HEADER_BYTES });
                self.buffer.clear();
                self.start = 0;
            }
            if !self.fill(FRAME_HEADER_BYTES, extent.bytes)? {
                // A sealed segment that ends early has lost its last records.
                return Ok(self.damaged_or_end(&extent, sealed));
            }
            let Some(frame) = Frame::decode(&self.buffer[self.start..]) else {
                return Ok(self.damaged_or_end(&extent, true));
            };
            let whole = FRAME_HEADER_BYTES + frame.body_bytes as usize;
            if !self.fill(whole, extent.bytes)? {
                return Ok(self.damaged_or_end(&extent, true));
            }
            if frame.end_seq() <= self.next {
                self.start += whole;
                continue;
            }
            return Ok(Step::Frame(frame));
        }
    }

    /// The segment that holds the next record, and whether another follows it; the log's head
    /// where there is no such record.
    fn extent(&self) -> Result<(Extent, bool), Seq> {
        let state = self.shared.state();
        match state.segments.iter().position(|s| s.end_seq > self.next) {
            Some(index) => Ok((state.segments[index].clone(), index + 1 < state.segments.len())),
            None => Err(state.durable),
        }
    }

    fn damaged_or_end(&mut self, extent: &Extent, certain: bool) -> Step {
        self.open = None;
        if certain || extent.end_seq > self.next {
            Step::Damaged(Damage { from: self.next, to: extent.end_seq })
        } else {
            Step::AtEnd
        }
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
