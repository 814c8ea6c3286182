//! The thread that owns a log's end: one frame, one sync, then the answers.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Instant;

use super::segment::{self, FRAME_BYTES_TARGET, FRAME_HEADER_BYTES, Frame, HEADER_BYTES};
use super::{AppendError, Durable, Extent, Shared, Waiting};
use crate::event::Seq;

pub(super) struct Writer {
    shared: Arc<Shared>,
    file: File,
    /// Where the next frame goes.
    offset: u64,
    next_seq: Seq,
    frame: Vec<u8>,
}

/// Why a frame is not durable, and whether the log may go on.
enum WriteError {
    /// Nothing of it is left in the file; the next frame may try.
    Undone(io::Error),
    /// What is on the disk is unknown.
    Poisoned(io::Error),
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, file: File) -> Self {
        let next_seq = shared.state().durable;
        Self { shared, file, offset: HEADER_BYTES, next_seq, frame: Vec::new() }
    }

    pub(super) fn run(mut self) {
        while let Some(waiting) = self.take_waiting() {
            let count = waiting.iter().map(|w| w.records.count()).sum();
            self.encode(&waiting, count);
            match self.write(count) {
                Ok(()) => self.answer(waiting),
                Err(WriteError::Undone(error)) => refuse(waiting, &Arc::new(error)),
                Err(WriteError::Poisoned(error)) => {
                    self.poison(waiting, error);
                    return;
                }
            }
        }
    }

    /// Everything that waits, as far as it fits one frame; `None` once the log is closed.
    fn take_waiting(&self) -> Option<Vec<Waiting>> {
        let mut state = self.shared.state();
        while state.queue.is_empty() {
            if state.closing {
                return None;
            }
            state = self.shared.work.wait(state).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
        let mut bytes = 0;
        let mut taken = 0;
        for waiting in &state.queue {
            let more = waiting.records.bytes().len();
            if taken > 0 && bytes + more > FRAME_BYTES_TARGET {
                break;
            }
            bytes += more;
            taken += 1;
        }
        state.queue_bytes -= bytes;
        Some(state.queue.drain(..taken).collect())
    }

    fn encode(&mut self, waiting: &[Waiting], count: u32) {
        self.frame.clear();
        self.frame.resize(FRAME_HEADER_BYTES, 0);
        for waiting in waiting {
            self.frame.extend_from_slice(waiting.records.bytes());
        }
        let body_bytes = (self.frame.len() - FRAME_HEADER_BYTES) as u32;
        let header =
            Frame { first_seq: self.next_seq, count, body_bytes }.encode(self.shared.log_uuid);
        self.frame[..FRAME_HEADER_BYTES].copy_from_slice(&header);
    }

    fn write(&mut self, count: u32) -> Result<(), WriteError> {
        let segment_bytes = self.shared.config.segment_bytes;
        if self.offset > HEADER_BYTES && self.offset + self.frame.len() as u64 > segment_bytes {
            self.rotate().map_err(classify)?;
        }
        if let Err(error) = self.file.write_all_at(&self.frame, self.offset) {
            // A part of the frame would look like a whole one once a shorter one was written
            // over its start: a payload may hold any bytes, a frame's among them.
            return Err(match self.file.set_len(self.offset) {
                Ok(()) => classify(error),
                Err(_) => WriteError::Poisoned(error),
            });
        }
        let started = Instant::now();
        self.file.sync_data().map_err(WriteError::Poisoned)?;
        let stats = &self.shared.stats;
        stats.sync.record(started.elapsed());
        stats.syncs.add(1);
        stats.records.add(u64::from(count));
        stats.written_bytes.add(self.frame.len() as u64);
        self.offset += self.frame.len() as u64;
        self.next_seq += Seq::from(count);
        if self.frame.capacity() > 2 * FRAME_BYTES_TARGET {
            self.frame = Vec::new();
        }
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.file = segment::create(&self.shared.dir, self.shared.log_uuid, self.next_seq)?;
        self.offset = HEADER_BYTES;
        let (first_seq, bytes) = (self.next_seq, HEADER_BYTES);
        let fresh = Extent { first_seq, end_seq: first_seq, bytes };
        self.shared.state().segments.push_back(fresh);
        Ok(())
    }

    /// The frame is durable: publish that, then answer, in the order of the appends.
    fn answer(&mut self, waiting: Vec<Waiting>) {
        let mut state = self.shared.state();
        let mut first_seq = state.durable;
        state.durable = self.next_seq;
        if let Some(active) = state.segments.back_mut() {
            active.end_seq = self.next_seq;
            active.bytes = self.offset;
        }
        let on_durable = state.on_durable.clone();
        drop(state);
        for waiting in waiting {
            let count = waiting.records.count();
            // The request may have gone away; its records are durable all the same.
            let _ = waiting.reply.send(Ok(Durable { first_seq, count }));
            first_seq += Seq::from(count);
        }
        if let Some(call) = on_durable {
            call();
        }
    }

    fn poison(&self, waiting: Vec<Waiting>, error: io::Error) {
        let error = Arc::new(error);
        let mut state = self.shared.state();
        state.failed = Some(Arc::clone(&error));
        let queued: Vec<Waiting> = state.queue.drain(..).collect();
        state.queue_bytes = 0;
        let on_failed = state.on_failed.clone();
        drop(state);
        refuse(waiting, &error);
        refuse(queued, &error);
        if let Some(call) = on_failed {
            call(&error);
        }
    }
}

/// A full disk is undone; of a failing one nothing is known any more.
fn classify(error: io::Error) -> WriteError {
    match error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) {
        true => WriteError::Poisoned(error),
        false => WriteError::Undone(error),
    }
}

fn refuse(waiting: Vec<Waiting>, error: &Arc<io::Error>) {
    for waiting in waiting {
        let _ = waiting.reply.send(Err(AppendError::Failed(Arc::clone(error))));
    }
}
