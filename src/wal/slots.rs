//! Which segment files a log has: in use, retained, spare.
//!
//! A segment whose records are stored is retained, so that they can be processed again, until
//! it has been so for the retention's time or the log needs it: then the oldest is used again in
//! place, which needs no space and no change of a directory. New files are made up to the log's
//! quota; one is made ahead of its use. Unread records are never given up.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use super::disk::{DiskFile, How};
use super::format::{BLOCK, FRAMES};
use super::segment::{self, Unwritten};
use super::sync::thread;
use super::{Extent, Shared, State};
use crate::event::Seq;

/// Segments beyond the quota's worth: those that a restart left partly filled.
const EXTRA: u64 = 2;

/// A segment that is about to be started.
pub(super) struct Slot {
    pub file: Box<dyn DiskFile>,
    pub slot: u32,
    pub size: u64,
    pub from_zeros: bool,
}

/// A segment file that holds nothing of worth.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spare {
    pub slot: u32,
    pub size: u64,
    pub from_zeros: bool,
}

impl State {
    /// Marks what is below as stored: it may be used again.
    pub(super) fn consume(&mut self, below: Seq) {
        self.consumed = self.consumed.max(below);
        let (now, consumed) = (Instant::now(), self.consumed);
        self.tail.pass(consumed);
        let last = self.segments.len().saturating_sub(1);
        for (at, extent) in self.segments.iter_mut().enumerate() {
            if extent.end_seq > consumed {
                break;
            }
            // The last is written to, and a log of one segment has to become empty too.
            self.live_bytes -= extent.end_offset - extent.read_bytes;
            extent.read_bytes = extent.end_offset;
            if at < last && extent.consumed_at.is_none() {
                extent.consumed_at = Some(now);
            }
        }
    }

    /// The last segment holds more.
    pub(super) fn extend(&mut self, end_seq: Seq, end_offset: u64) {
        if let Some(last) = self.segments.back_mut() {
            self.live_bytes += end_offset - last.end_offset;
            last.end_seq = end_seq;
            last.end_offset = end_offset;
        }
    }

    /// The oldest segment, if every record in it is stored.
    fn take_consumed(&mut self) -> Option<Extent> {
        self.segments.front()?.consumed_at?;
        let extent = self.segments.pop_front();
        self.disk_bytes -= extent.as_ref().map_or(0, |extent| extent.size);
        extent
    }

    fn files(&self) -> u64 {
        (self.segments.len() + self.spares.len()) as u64 + self.busy.len() as u64
    }

    fn free_slot(&self) -> u32 {
        let used = |slot: u32| {
            self.segments.iter().any(|extent| extent.slot == slot)
                || self.spares.iter().any(|spare| spare.slot == slot)
                || self.busy.contains(&slot)
        };
        // There are fewer files than slots.
        (0..u32::MAX).find(|&slot| !used(slot)).unwrap_or(u32::MAX)
    }

    /// Whoever had the slot has it no more: it is in one place at any time.
    fn add_spare(&mut self, spare: Spare) {
        self.busy.retain(|&busy| busy != spare.slot);
        self.disk_bytes += spare.size;
        self.spares.push(spare);
    }

    fn take_spare(&mut self, bytes: u64) -> Option<Spare> {
        let found = self.spares.iter().position(|spare| spare.size >= bytes)?;
        let spare = self.spares.swap_remove(found);
        self.disk_bytes -= spare.size;
        Some(spare)
    }
}

impl Shared {
    fn files_max(&self) -> u64 {
        self.config.bytes_max / self.config.segment_bytes.max(BLOCK) + EXTRA
    }

    /// A segment of at least that size.
    pub(super) fn obtain(&self, bytes: u64) -> Result<Slot, Unwritten> {
        let mut refused = io::Error::new(
            io::ErrorKind::QuotaExceeded,
            "every segment that the log may have holds unread events",
        );
        let spare = self.state().take_spare(bytes);
        if let Some(spare) = spare {
            return self.open_spare(spare);
        }
        let new = {
            let mut state = self.state();
            let slot = (state.files() < self.files_max()).then(|| state.free_slot());
            state.busy.extend(slot);
            slot
        };
        if let Some(slot) = new {
            let size = bytes.max(self.config.segment_bytes).next_multiple_of(BLOCK);
            let made = segment::prefill(&*self.disk, &self.dir, slot, size);
            self.release(slot);
            match made {
                Ok(file) => return Ok(Slot { file, slot, size, from_zeros: true }),
                Err(Unwritten::Undone(error)) => refused = error,
                Err(unknown) => return Err(unknown),
            }
        }
        loop {
            let Some(oldest) = self.state().take_consumed() else {
                return Err(Unwritten::Undone(refused));
            };
            if let Some(spare) = self.retire(&oldest).filter(|spare| spare.size >= bytes) {
                return self.open_spare(spare);
            }
            self.remove(oldest.slot);
        }
    }

    fn open_spare(&self, spare: Spare) -> Result<Slot, Unwritten> {
        let Spare { slot, size, from_zeros } = spare;
        let path = segment::path(&self.dir, slot);
        let file = self.disk.open(&path, How::Write).map_err(segment::unwritten)?;
        Ok(Slot { file, slot, size, from_zeros })
    }

    /// What becomes of a segment that is not needed any more: one whose sync once failed is put
    /// into quarantine, any other may be used again.
    fn retire(&self, extent: &Extent) -> Option<Spare> {
        if extent.is_bad {
            self.quarantine.take(&*self.disk, &self.dir, extent.slot);
            return None;
        }
        Some(Spare { slot: extent.slot, size: extent.size, from_zeros: false })
    }

    /// Removes a segment file. One that stays is found at the next start.
    fn remove(&self, slot: u32) {
        let _ = self.disk.remove(&segment::path(&self.dir, slot));
    }

    /// A segment that was not needed after all, or could not be started.
    pub(super) fn give_back(&self, slot: u32) {
        let mut state = self.state();
        let Some(at) = state.segments.iter().rposition(|extent| extent.slot == slot) else {
            return;
        };
        if let Some(extent) = state.segments.remove(at) {
            state.disk_bytes -= extent.size;
            state.live_bytes -= extent.end_offset - extent.read_bytes;
            state.add_spare(Spare { slot, size: extent.size, from_zeros: false });
        }
    }

    /// A segment was started: it is the one that is written to from now on.
    pub(super) fn started(&self, extent: Extent) {
        let mut state = self.state();
        let before = extent.previous;
        let is_last =
            state.segments.back().is_some_and(|last| last.key.generation == before.generation);
        if is_last {
            state.extend(before.end_seq, before.end_offset);
        }
        state.live_bytes += extent.end_offset;
        state.disk_bytes += extent.size;
        state.segments.push_back(extent);
    }

    /// Gives up retained segments that are older than the retention, but for one spare.
    pub(super) fn expire(&self) -> io::Result<()> {
        let now = Instant::now();
        loop {
            let mut state = self.state();
            let Some(oldest) = state.segments.front() else { return Ok(()) };
            let since = oldest.consumed_at.map(|at| now.saturating_duration_since(at));
            if since.is_none_or(|since| since < self.config.retention) {
                return Ok(());
            }
            let Some(oldest) = state.take_consumed() else { return Ok(()) };
            state.busy.push(oldest.slot);
            drop(state);
            let spare = self.retire(&oldest);
            let mut state = self.state();
            if let Some(spare) = spare.filter(|_| state.spares.is_empty()) {
                state.add_spare(spare);
                continue;
            }
            drop(state);
            let path = segment::path(&self.dir, oldest.slot);
            let removed = spare.map_or(Ok(()), |_| self.disk.remove(&path));
            self.release(oldest.slot);
            removed?;
        }
    }

    /// Removes what an idle log has no use for: segments that were retained for long enough, and
    /// every spare.
    pub(super) fn rest(&self) -> io::Result<()> {
        self.expire()?;
        loop {
            let mut state = self.state();
            let Some(spare) = state.take_spare(0) else { return Ok(()) };
            state.busy.push(spare.slot);
            drop(state);
            let removed = self.disk.remove(&segment::path(&self.dir, spare.slot));
            self.release(spare.slot);
            removed?;
        }
    }

    /// Removes every file that holds nothing unread, because others need the space.
    pub(super) fn shrink(&self) -> u64 {
        let mut freed = 0;
        loop {
            let mut state = self.state();
            let spare = state.take_spare(0).map(|spare| (spare.slot, spare.size));
            let stored = || state.take_consumed().map(|extent| (extent.slot, extent.size));
            let Some((slot, size)) = spare.or_else(stored) else { return freed };
            state.busy.push(slot);
            drop(state);
            self.remove(slot);
            self.release(slot);
            freed += size;
        }
    }

    /// Makes a segment while there is still room in the one that is written to, on a thread that
    /// ends with it: a commit should not wait for it.
    pub(super) fn spare_ahead(self: &Arc<Self>, left: u64) {
        let segment_bytes = self.config.segment_bytes;
        if !self.makes_ahead || left > segment_bytes / 2 || left == 0 {
            return;
        }
        let mut state = self.state();
        let may = state.busy.is_empty() && state.spares.is_empty();
        if !may || state.files() >= self.files_max() {
            return;
        }
        let slot = state.free_slot();
        state.busy.push(slot);
        drop(state);
        let shared = Arc::clone(self);
        let size = segment_bytes.next_multiple_of(BLOCK);
        let make = move || {
            let made = segment::prefill(&*shared.disk, &shared.dir, slot, size);
            if made.is_ok() {
                return shared.state().add_spare(Spare { slot, size, from_zeros: true });
            }
            // A full disk is tried again when the segment is needed, and told then.
            if let Err(Unwritten::Unknown(error)) = made {
                shared.fail(Vec::new(), error);
            }
            shared.release(slot);
        };
        if thread::Builder::new().name("wal spare".to_owned()).spawn(make).is_err() {
            self.release(slot);
        }
    }

    /// What was done with a slot's file is done.
    fn release(&self, slot: u32) {
        self.state().busy.retain(|&busy| busy != slot);
    }
}

impl Extent {
    /// A segment that was just started.
    pub(super) fn new(header: &super::format::SegmentHeader) -> Self {
        Self {
            slot: header.slot,
            size: header.size,
            key: header.key(),
            first_seq: header.first_seq,
            end_seq: header.first_seq,
            end_offset: FRAMES,
            read_bytes: 0,
            previous: header.previous,
            consumed_at: None,
            is_bad: false,
        }
    }
}
