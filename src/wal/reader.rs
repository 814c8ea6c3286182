//! Reads durable records in order, from any position, as chunks that borrow the reader's buffer,
//! or the frame itself where it is still in memory.
//!
//! Bytes that are not what was written are read once more past the page cache. What is whole in
//! them is handed out, the rest is [`Damage`]; either way the reader goes on behind them.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use super::ahead::Ahead;
use super::disk::{DiskFile, How};
use super::format::{BLOCK, FRAME_HEADER, FRAMES, FrameHeader, FrameType};
use super::frame::Written;
use super::quarantine::{Damage, Evidence};
use super::scan::{self, Salvaged};
use super::{Extent, Shared, record, segment};
use crate::event::{Receipt, Seq};

/// How much is read ahead: the backlog stays on disk.
const READ_BYTES: usize = 512 << 10;

/// A consumer's place in the log. It never sees a record that is not durable.
pub struct Reader {
    shared: Arc<Shared>,
    open: Option<Open>,
    next: Seq,
    ahead: Ahead,
    /// What was found among damaged bytes.
    found: VecDeque<Found>,
    salvaged: Vec<u8>,
    /// The frame from the log's memory that was handed out last.
    near: Option<Arc<Written>>,
}

struct Open {
    generation: u64,
    path: PathBuf,
    file: Box<dyn DiskFile>,
    /// The file's offset behind what was read ahead.
    offset: u64,
    /// The position that the frame at the reader's place should begin with.
    expected: Seq,
}

enum Found {
    Records { first_seq: Seq, count: u32, body: Range<usize> },
    Damage(Damage),
}

/// Records that follow each other, whole but still encoded.
#[derive(Debug)]
pub struct Chunk<'a> {
    /// The first record's position.
    pub first_seq: Seq,
    /// How many there are.
    pub count: u32,
    body: &'a [u8],
}

impl<'a> Chunk<'a> {
    pub(super) fn new(first_seq: Seq, count: u32, body: &'a [u8]) -> Self {
        Self { first_seq, count, body }
    }

    /// The position behind the last record.
    #[must_use]
    pub fn end_seq(&self) -> Seq {
        self.first_seq + Seq::from(self.count)
    }

    /// Each record's position, receipt and payload; `None` for a record that makes no sense,
    /// though it is what was written.
    pub fn records(&self) -> impl Iterator<Item = (Seq, Option<(Receipt<'a>, &'a [u8])>)> {
        let mut rest = self.body;
        (self.first_seq..self.end_seq()).map(move |seq| {
            let Some((first, more)) = record::split(rest) else { return (seq, None) };
            rest = more;
            (seq, record::open(first))
        })
    }
}

enum Step {
    /// The frame is still in memory.
    Near(Arc<Written>),
    /// A whole frame stands at the start of what was read ahead.
    Frame(FrameHeader),
    /// Something was found among damaged bytes.
    Found(Found),
    /// Nothing durable behind the reader.
    AtEnd,
}

impl Reader {
    pub(super) fn new(shared: Arc<Shared>, from: Seq) -> Self {
        Self {
            shared,
            open: None,
            // Positions are counted from 1.
            next: from.max(1),
            ahead: Ahead::default(),
            found: VecDeque::new(),
            salvaged: Vec::new(),
            near: None,
        }
    }

    /// The position of the next record.
    #[must_use]
    pub fn position(&self) -> Seq {
        self.next
    }

    /// Gives back the memory that it and the log hold for it: whoever is not going to read for
    /// long has all of that again from the disk.
    pub fn rest(&mut self) {
        self.give_back();
        self.shared.state().tail.rest();
    }

    fn give_back(&mut self) {
        let place = self.place();
        if let Some(open) = &mut self.open {
            open.offset = place;
        }
        self.ahead = Ahead::default();
        self.near = None;
    }

    /// The next chunk; `None` at the end of what is durable. A frame is handed out whole, with
    /// records below the position that was asked for at its start.
    ///
    /// # Errors
    /// What the system said about a read. Damage is not an error: it is an answer, once per
    /// range, and the reader stands behind it.
    pub fn read(&mut self) -> io::Result<Option<Result<Chunk<'_>, Damage>>> {
        match self.step()? {
            Step::AtEnd => {
                // What comes next is mostly found in the log's memory.
                self.give_back();
                Ok(None)
            }
            Step::Near(frame) => {
                let (first_seq, count) = (frame.first_seq, frame.count);
                self.next = first_seq + Seq::from(count);
                let body = self.near.insert(frame).body();
                Ok(Some(Ok(Chunk { first_seq, count, body })))
            }
            Step::Found(Found::Damage(damage)) => {
                self.next = damage.to;
                Ok(Some(Err(damage)))
            }
            Step::Found(Found::Records { first_seq, count, body }) => {
                self.next = first_seq + Seq::from(count);
                Ok(Some(Ok(Chunk { first_seq, count, body: &self.salvaged[body] })))
            }
            Step::Frame(frame) => {
                self.next = frame.end_seq();
                let whole = self.ahead.take(frame.bytes() as usize);
                let body = &whole[FRAME_HEADER..][..frame.body_bytes as usize];
                Ok(Some(Ok(Chunk { first_seq: frame.first_seq, count: frame.count, body })))
            }
        }
    }

    fn step(&mut self) -> io::Result<Step> {
        loop {
            while let Some(found) = self.found.pop_front() {
                if let Some(found) = found.above(self.next) {
                    return Ok(Step::Found(found));
                }
            }
            {
                let mut state = self.shared.state();
                let durable = state.durable;
                if let Some(frame) = state.tail.take(self.next, durable) {
                    return Ok(Step::Near(frame));
                }
            }
            let extent = match self.extent() {
                Ok(extent) => extent,
                Err((_, lost_to)) if self.next < lost_to => return Ok(self.lost(lost_to, None)),
                // Positions up to there were never given to a record.
                Err((head, _)) => {
                    self.next = self.next.max(head);
                    return Ok(Step::AtEnd);
                }
            };
            if self.next < extent.previous.end_seq {
                return Ok(self.lost(extent.previous.end_seq, None));
            }
            self.next = self.next.max(extent.first_seq);
            self.open(&extent)?;
            let Some(frame) = self.frame(&extent)? else {
                if self.place() >= extent.end_offset {
                    return Ok(self.lost(extent.end_seq, None));
                }
                self.look_further(&extent)?;
                continue;
            };
            if frame.first_seq > self.next {
                return Ok(self.lost(frame.first_seq, None));
            }
            if let Some(open) = &mut self.open {
                open.expected = frame.end_seq();
            }
            if frame.kind == FrameType::Data && frame.end_seq() > self.next {
                return Ok(Step::Frame(frame));
            }
            self.ahead.take(frame.bytes() as usize);
        }
    }

    fn lost(&self, to: Seq, evidence: Option<Evidence>) -> Step {
        Step::Found(Found::Damage(Damage { from: self.next, to, evidence }))
    }

    fn open(&mut self, extent: &Extent) -> io::Result<()> {
        let generation = extent.key.generation;
        if self.open.as_ref().is_some_and(|open| open.generation == generation) {
            return Ok(());
        }
        let path = segment::path(&self.shared.dir, extent.slot);
        let file = self.shared.disk.open(&path, How::Direct)?;
        let expected = extent.first_seq;
        self.open = Some(Open { generation, path, file, offset: FRAMES, expected });
        self.ahead.clear();
        Ok(())
    }

    /// The file's offset at the reader's place.
    fn place(&self) -> u64 {
        let ahead = self.ahead.bytes().len() as u64;
        self.open.as_ref().map_or(0, |open| open.offset - ahead)
    }

    /// The frame at the reader's place, wholly read ahead; `None` where there is none.
    fn frame(&mut self, extent: &Extent) -> io::Result<Option<FrameHeader>> {
        if !self.fill(FRAME_HEADER, extent.end_offset)? {
            return Ok(None);
        }
        let frame = FrameHeader::decode(self.ahead.bytes(), extent.key);
        let Some(frame) = frame.filter(|frame| frame.end_seq() <= extent.end_seq) else {
            return Ok(None);
        };
        if !self.fill(frame.bytes() as usize, extent.end_offset)? {
            return Ok(None);
        }
        let body = &self.ahead.bytes()[FRAME_HEADER..][..frame.body_bytes as usize];
        Ok((extent.key.crc(body) == frame.body_crc).then_some(frame))
    }

    /// Reads what stands at the reader's place past the page cache. If it is a frame after all,
    /// that is what is read on; else what can be saved of it is, up to the next frame.
    fn look_further(&mut self, extent: &Extent) -> io::Result<()> {
        let (place, key) = (self.place(), extent.key);
        let Some(open) = &mut self.open else { return Ok(()) };
        let direct = self.shared.disk.open(&open.path, How::Direct)?;
        let mut bytes = vec![0; (extent.end_offset - place) as usize];
        let have = direct.read_full_at(&mut bytes, place)?;
        bytes.truncate(have);
        self.ahead.clear();
        let frame = scan::frame_at(&bytes, 0, key);
        let frame = frame.filter(|(frame, _)| frame.end_seq() <= extent.end_seq);
        let (header, is_whole) = match frame {
            Some((frame, body)) => (Some(frame), key.crc(body) == frame.body_crc),
            None => (None, false),
        };
        if is_whole {
            open.offset = extent.end_offset.min(place + have as u64);
            self.ahead.set(bytes);
            return Ok(());
        }
        // Of a frame whose header is whole only the body is damaged.
        let (expected, to, length) = match header {
            Some(frame) => (frame.first_seq, frame.end_seq(), frame.bytes() as usize),
            None => match scan::find(&bytes, BLOCK as usize, key, open.expected..extent.end_seq) {
                Some(next) => {
                    let frame = scan::frame_at(&bytes, next, key);
                    (open.expected, frame.map_or(extent.end_seq, |(f, _)| f.first_seq), next)
                }
                None => (open.expected, extent.end_seq, bytes.len()),
            },
        };
        open.expected = to;
        open.offset = if length < bytes.len() { place + length as u64 } else { extent.end_offset };
        bytes.truncate(length);
        let file = open.path.clone();
        let parts = scan::salvage(&bytes, to.saturating_sub(expected), key);
        let is_lost = |part: &Salvaged| matches!(part, Salvaged::Lost(count) if *count > 0);
        let Shared { disk, quarantine, .. } = &*self.shared;
        let keep = || quarantine.keep(&**disk, &file, place, &bytes);
        let evidence = parts.iter().any(is_lost).then(keep);
        self.take_salvaged(parts, expected, bytes, evidence.as_ref());
        Ok(())
    }

    fn take_salvaged(
        &mut self,
        parts: Vec<Salvaged>,
        mut seq: Seq,
        bytes: Vec<u8>,
        evidence: Option<&Evidence>,
    ) {
        for part in parts {
            let first_seq = seq;
            self.found.push_back(match part {
                Salvaged::Records { count, body } => {
                    seq += Seq::from(count);
                    Found::Records { first_seq, count, body }
                }
                Salvaged::Lost(count) => {
                    seq += count;
                    let evidence = evidence.cloned();
                    Found::Damage(Damage { from: first_seq, to: seq, evidence })
                }
            });
        }
        self.salvaged = bytes;
    }

    /// The segment that holds the next record, or knows of one that is lost; the log's head, and
    /// up to where records are lost behind all segments, where there is no such segment.
    fn extent(&self) -> Result<Extent, (Seq, Seq)> {
        let state = self.shared.state();
        let first = state.segments.partition_point(|extent| extent.end_seq <= self.next);
        let holds_more = |extent: &&Extent| {
            extent.end_seq > self.next.max(extent.first_seq) || extent.previous.end_seq > self.next
        };
        let found = state.segments.range(first..).find(holds_more);
        found.cloned().ok_or((state.durable, state.lost_to))
    }

    /// Has at least `wanted` bytes read ahead, none of them beyond the durable end.
    fn fill(&mut self, wanted: usize, durable_end: u64) -> io::Result<bool> {
        let have = self.ahead.bytes().len();
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
        let more = left.min((READ_BYTES.max(wanted) - have) as u64) as usize;
        open.offset += self.ahead.fill(&*open.file, open.offset, more)? as u64;
        Ok(self.ahead.bytes().len() >= wanted)
    }
}

impl Found {
    /// What of it is above that position.
    fn above(self, next: Seq) -> Option<Self> {
        match self {
            Self::Records { first_seq, count, .. } => {
                (first_seq + Seq::from(count) > next).then_some(self)
            }
            Self::Damage(damage) => {
                let from = damage.from.max(next);
                (from < damage.to).then_some(Self::Damage(Damage { from, ..damage }))
            }
        }
    }
}
