//! The end of a log: one frame, one sync, then the answers.
//!
//! A [`Writer`] is synchronous and works in turns; the thread around it is two lines. Requests
//! that wait are written as one frame; one that is larger than a frame may be takes several. The
//! first record of a process starts a segment: nothing is ever appended to an earlier process's.

use std::io;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::answers::Post;
use super::disk::{DiskFile, How};
use super::format::{
    BLOCK, FRAMES, FROM_ZEROS, FrameType, Previous, RECORDS_MAX, SegmentHeader, SegmentKey,
};
use super::frame::{Frame, TOGETHER_BYTES_MAX, Written};
use super::record;
use super::segment::{self, Unwritten};
use super::slots::Slot;
use super::{AppendError, Durable, Extent, Shared, Waiting};
use crate::event::Seq;
use crate::mutant::{self, Mutant};

/// How long a log is idle before its last data frame gets a successor.
const MARK_AFTER: Duration = Duration::from_millis(50);

/// What a turn came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Something was written, or refused.
    Worked,
    /// Nothing waits.
    Idle,
    /// The log is closed, or has failed for good.
    Ended,
}

/// Where a log goes on.
#[derive(Debug)]
pub(super) struct Start {
    pub previous: Previous,
    pub generation: u64,
    pub opened: u32,
    /// The position of the next record: above the log's end where positions are left out.
    pub next_seq: Seq,
}

pub(crate) struct Writer {
    shared: Arc<Shared>,
    /// The segment that is written to, once there is one.
    active: Option<Active>,
    previous: Previous,
    /// The newest that was ever used.
    generation: u64,
    opened: u32,
    /// The position of this process's first record.
    first_seq: Seq,
    next_seq: Seq,
    frame: Frame,
    /// Frames that are durable and not yet published.
    written: Vec<Written>,
}

struct Active {
    file: Box<dyn DiskFile>,
    slot: u32,
    size: u64,
    key: SegmentKey,
    /// Where the next frame goes.
    offset: u64,
    previous_crc: u32,
    /// Whether the last frame is one of records.
    unmarked: bool,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, start: Start) -> Self {
        let Start { previous, generation, opened, next_seq } = start;
        Self {
            shared,
            active: None,
            previous,
            generation,
            opened,
            first_seq: next_seq,
            next_seq,
            frame: Frame::default(),
            written: Vec::new(),
        }
    }

    /// The position of the next record.
    #[cfg(test)]
    pub(crate) fn next_seq(&self) -> Seq {
        self.next_seq
    }

    /// Works until the log is closed or has failed.
    pub(super) fn run(mut self) {
        while self.turn(true) != Turn::Ended {}
    }

    /// One turn: what waits is written, synced and answered; where nothing does and `wait` is
    /// set, waits for it.
    pub(crate) fn turn(&mut self, wait: bool) -> Turn {
        if let Some(waiting) = self.take_waiting(wait) {
            return match self.commit(&waiting) {
                Ok(()) => self.answer(waiting),
                Err(Unwritten::Undone(error)) => self.refuse(waiting, error),
                Err(Unwritten::Unknown(error)) => self.poison(waiting, error),
            };
        }
        let closing = {
            let state = self.shared.state();
            if state.failed.is_some() {
                return Turn::Ended;
            }
            // What has come since is written first.
            state.closing && state.queue.is_empty()
        };
        let kind = if closing { FrameType::Seal } else { FrameType::Mark };
        let marked = self.mark(kind);
        match marked {
            Err(Unwritten::Unknown(error)) => self.poison(Vec::new(), error),
            _ if closing => Turn::Ended,
            Ok(true) => Turn::Worked,
            // One that could not be written is of no account: the next turn tries again.
            Ok(false) | Err(Unwritten::Undone(_)) => Turn::Idle,
        }
    }

    /// Everything that waits, as far as it fits one frame; `None` where nothing does, the log
    /// being idle or closed.
    fn take_waiting(&self, wait: bool) -> Option<Vec<Waiting>> {
        let unmarked = self.active.as_ref().is_some_and(|active| active.unmarked);
        let mut state = self.shared.state();
        while wait && state.queue.is_empty() && !state.closing && state.failed.is_none() {
            let work = &self.shared.work;
            if unmarked {
                let waited = work.wait_timeout(state, MARK_AFTER);
                let (woken, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
                state = woken;
                if timeout.timed_out() {
                    break;
                }
            } else {
                state = work.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
        if state.failed.is_some() {
            return None;
        }
        let (mut bytes, mut records, mut taken) = (0, 0, 0);
        for waiting in &state.queue {
            let more = waiting.records.bytes().len();
            let count = waiting.records.count();
            if taken > 0 && (bytes + more > TOGETHER_BYTES_MAX || records + count > RECORDS_MAX) {
                break;
            }
            bytes += more;
            records += count;
            taken += 1;
        }
        state.queue_bytes -= bytes;
        (taken > 0).then(|| state.queue.drain(..taken).collect())
    }

    fn commit(&mut self, waiting: &[Waiting]) -> Result<(), Unwritten> {
        let mut left = waiting.iter().map(|waiting| waiting.records.bytes().len()).sum();
        self.frame = Frame::with_room(left);
        for waiting in waiting {
            let mut rest = waiting.records.bytes();
            while let Some((record, more)) = record::split(rest) {
                if !self.frame.has_room(record.len()) {
                    self.write_data()?;
                    self.frame = Frame::with_room(left);
                }
                left -= record.len();
                self.frame.push(record);
                rest = more;
            }
        }
        self.write_data()
    }

    fn write_data(&mut self) -> Result<(), Unwritten> {
        let (first_seq, count) = (self.next_seq, self.frame.count());
        if count == 0 {
            return Ok(());
        }
        let bytes = self.frame.padded();
        // A mark or seal has to fit behind it.
        let fits = |active: &Active| active.offset + bytes + BLOCK <= active.size;
        if !self.active.as_ref().is_some_and(fits) {
            self.rotate(FRAMES + bytes + BLOCK)?;
        }
        self.write_frame(FrameType::Data)?;
        self.shared.stats.records.add(u64::from(count));
        self.written.push(std::mem::take(&mut self.frame).written(first_seq));
        Ok(())
    }

    /// Gives the last data frame a successor; returns whether one was written.
    fn mark(&mut self, kind: FrameType) -> Result<bool, Unwritten> {
        let wanted = |active: &Active| {
            (active.unmarked || kind == FrameType::Seal)
                && active.offset > FRAMES
                && active.offset + BLOCK <= active.size
        };
        if !self.active.as_ref().is_some_and(wanted) {
            return Ok(false);
        }
        self.frame = Frame::with_room(0);
        self.write_frame(kind).map(|()| true)
    }

    /// Writes the frame behind the last one, and syncs it. Where that is undone, the next attempt
    /// puts a whole frame together anew and writes it over whatever part of this one was written.
    fn write_frame(&mut self, kind: FrameType) -> Result<(), Unwritten> {
        let Some(active) = &mut self.active else { return Ok(()) };
        let crc = self.frame.seal(kind, self.next_seq, active.key, active.previous_crc);
        active.file.write_all_at(self.frame.bytes(), active.offset).map_err(segment::unwritten)?;
        let started = Instant::now();
        if !(mutant::active(Mutant::AckBeforeSync) && kind == FrameType::Data) {
            active
                .file
                .sync()
                .or_else(|error| match mutant::active(Mutant::RetrySync) {
                    true => active.file.sync(),
                    false => Err(error),
                })
                .map_err(Unwritten::Unknown)?;
        }
        let stats = &self.shared.stats;
        stats.sync.record(started.elapsed());
        stats.syncs.add(1);
        let bytes = self.frame.bytes().len() as u64;
        stats.written_bytes.add(bytes);
        active.offset += bytes;
        active.previous_crc = crc;
        active.unmarked = kind == FrameType::Data;
        self.next_seq += Seq::from(self.frame.count());
        Ok(())
    }

    /// Starts a segment that has room for so many bytes.
    fn rotate(&mut self, bytes: u64) -> Result<(), Unwritten> {
        let Slot { file, slot, size, from_zeros } = self.shared.obtain(bytes)?;
        if let Some(active) = self.active.take_if(|active| active.offset > FRAMES) {
            self.previous = Previous {
                generation: self.generation,
                end_seq: self.next_seq,
                end_offset: active.offset,
            };
        }
        // A segment that was started but holds no frame is as good as one that was not.
        if let Some(unused) = self.active.take() {
            self.shared.give_back(unused.slot);
        }
        let header = SegmentHeader {
            log_uuid: self.shared.log_uuid,
            slot,
            size,
            generation: self.generation + 1,
            salt: self.shared.disk.random(),
            first_seq: self.next_seq,
            previous: self.previous,
            created: crate::time::now(),
            compatible: if from_zeros { FROM_ZEROS } else { 0 },
            opened: self.opened,
            ledger_tx: self.shared.ledger_tx.load(std::sync::atomic::Ordering::Relaxed),
        };
        self.generation = header.generation;
        segment::start(&*file, &header).inspect_err(|_| self.shared.give_back(slot))?;
        self.shared.started(Extent::new(&header));
        let key = header.key();
        let (offset, previous_crc, unmarked) = (FRAMES, 0, false);
        self.active = Some(Active { file, slot, size, key, offset, previous_crc, unmarked });
        Ok(())
    }

    /// Lets readers see what is durable; returns whom to tell.
    fn publish(&mut self) -> Option<Arc<dyn Fn() + Send + Sync>> {
        let mut state = self.shared.state();
        self.written.drain(..).for_each(|frame| state.tail.push(frame));
        if self.next_seq > self.first_seq {
            state.durable = self.next_seq;
        }
        if let Some(active) = &self.active {
            state.extend(self.next_seq, active.offset);
        }
        state.on_durable.clone()
    }

    /// The frame is durable: publish that, then answer, in the order of the appends.
    fn answer(&mut self, waiting: Vec<Waiting>) -> Turn {
        let mut first_seq = self.next_seq - count(&waiting);
        let on_durable = self.publish();
        let mut post = Post::default();
        for Waiting { records, reply, answers } in waiting {
            let count = records.count();
            post.add(answers, reply, Durable { first_seq, count });
            first_seq += Seq::from(count);
        }
        post.send();
        if let Some(call) = on_durable {
            call();
        }
        self.shared.spare_ahead(self.active.as_ref().map_or(0, |a| a.size - a.offset));
        Turn::Worked
    }

    fn refuse(&mut self, waiting: Vec<Waiting>, error: io::Error) -> Turn {
        // Of a request of several frames some may be durable: they are in the log, unanswered.
        self.publish();
        if error.kind() == io::ErrorKind::QuotaExceeded {
            let (bytes, bytes_max) = (self.shared.state().live_bytes, self.shared.config.bytes_max);
            for waiting in waiting {
                let _ = waiting.reply.send(Err(AppendError::Full { bytes, bytes_max }));
            }
        } else {
            refuse(waiting, &Arc::new(error));
        }
        Turn::Worked
    }

    /// A sync has failed: nothing of this log is certain any more until the next start.
    fn poison(&mut self, waiting: Vec<Waiting>, error: io::Error) -> Turn {
        if let Some(active) = &self.active {
            // As good as it can be had: the next start must not use this segment again.
            let bad = segment::bad_path(&self.shared.dir, active.slot);
            let _ = self.shared.disk.open(&bad, How::Create);
        }
        self.shared.fail(waiting, error);
        Turn::Ended
    }
}

fn count(waiting: &[Waiting]) -> Seq {
    waiting.iter().map(|waiting| Seq::from(waiting.records.count())).sum()
}

pub(super) fn refuse(waiting: Vec<Waiting>, error: &Arc<io::Error>) {
    for waiting in waiting {
        let _ = waiting.reply.send(Err(AppendError::Failed(Arc::clone(error))));
    }
}
