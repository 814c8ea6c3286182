//! What a log does before its first append: find its segments, and how far the last was certainly
//! written.
//!
//! It believes the disk and not the page cache, reads all headers but only the last segment
//! whole (the backlog is checked as it is read), and changes nothing but damaged copies of
//! headers, leftovers of segments that were being made, and what goes into quarantine.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::path::Path;

use super::disk::{Disk, DiskFile, How};
use super::format::{BLOCK, FRAMES, FrameHeader, Previous, SegmentHeader};
use super::quarantine::{Evidence, Quarantine};
use super::scan::{self, End};
use super::segment::{self, Head, Named};
use super::slots::Spare;
use super::writer::Start;
use super::{Extent, WalError};
use crate::event::Seq;
use crate::mutant::{self, Mutant};

/// Positions left out behind a tail that may have been acknowledged after all: whoever knows one
/// of them must never meet another record under it.
const JUMP: Seq = 1 << 20;
/// The same, where whole segments may be gone that nobody can tell of.
const FAR_JUMP: Seq = 1 << 32;

/// What a log found when it was opened.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// The position behind the last record that an earlier process appended; what stands from there
    /// on is of this one, however soon it came.
    pub head: Seq,
    /// Records that are there, stored ones that are retained among them.
    pub records: u64,
    /// Bytes behind the last whole frame that look like the beginning of another: never
    /// acknowledged, or damaged within the instant before its successor was written.
    pub suspect_tail: Option<Evidence>,
    /// Segments of which no header can be read, moved to the quarantine. Which records are lost
    /// with them is told when they are missed.
    pub lost_segments: Vec<String>,
    /// The newest segment, where its file is shorter than it was made. What is missing of another
    /// one is told by the next.
    pub short_segment: Option<String>,
    /// How many records the lost segments seem to have held behind the log's end.
    pub lost_records: u64,
    /// Positions behind the log's end that may have been used: in a suspect tail, in a lost or a
    /// short segment.
    pub perhaps_used: Option<(Seq, Seq)>,
    /// The log ends at the first position, but others up to the second are known elsewhere.
    pub missing: Option<(Seq, Seq)>,
    /// The highest of the ledger's transaction counters that its segments know.
    pub ledger_tx: u64,
}

pub(super) struct Log {
    pub log_uuid: u128,
    pub segments: VecDeque<Extent>,
    pub spares: Vec<Spare>,
    pub start: Start,
    /// The position behind the last record that there ever was.
    pub end: Seq,
    pub recovered: Recovered,
}

/// Where a log is.
pub(super) struct Place<'a> {
    pub disk: &'a dyn Disk,
    pub dir: &'a Path,
    pub quarantine: &'a Quarantine,
}

struct Found {
    slot: u32,
    header: SegmentHeader,
    repair: Option<u64>,
    /// The file's length.
    bytes: u64,
    is_bad: bool,
}

/// Opens a log whose stream is known elsewhere up to `floor`, by a ledger that is at that
/// transaction.
pub(super) fn open(place: &Place<'_>, floor: Seq, ledger_tx: u64) -> Result<Log, WalError> {
    let fail = |what| move |source| WalError::io(place.dir, what, source);
    place.disk.make_dir(place.dir).map_err(fail("create directory"))?;
    let mut recovered = Recovered::default();
    let mut spares = Vec::new();
    let mut found = Vec::new();
    let mut lost_end = 0;
    for (slot, is_bad) in slots(place).map_err(fail("list segments"))? {
        let path = segment::path(place.dir, slot);
        let fail = |what| move |source| WalError::io(&segment::path(place.dir, slot), what, source);
        let file = place.disk.open(&path, How::Write).map_err(fail("open"))?;
        // After a sync that failed the cache holds what never reached the disk.
        file.drop_cache().map_err(fail("drop from the cache"))?;
        let direct = place.disk.open(&path, How::Direct).map_err(fail("open"))?;
        let bytes = direct.length().map_err(fail("stat"))?;
        match segment::read_head(&*direct).map_err(fail("read header"))? {
            Head::Newer(version) => return Err(WalError::NewerFormat { path, version }),
            Head::Started { header, repair } => {
                found.push(Found { slot, header, repair, bytes, is_bad })
            }
            Head::Unused => spares.push(Spare { slot, size: bytes, from_zeros: false }),
            Head::Lost => {
                lost_end = lost_end.max(claimed_end(&*direct).map_err(fail("read"))?);
                place.quarantine.take(place.disk, place.dir, slot);
                recovered.lost_segments.push(segment::name(slot));
            }
        }
    }
    found.sort_by_key(|found| found.header.generation);
    recovered.ledger_tx = found.iter().map(|f| f.header.ledger_tx).max().unwrap_or(0);
    // It was prefilled to its size before anything was written to it.
    let is_short = |found: &&Found| found.bytes < found.header.size;
    recovered.short_segment = found.last().filter(is_short).map(|f| segment::name(f.slot));
    let newest = found.iter().rfind(|f| f.header.slot == f.slot).map(|f| f.header.clone());
    let log_uuid = newest.as_ref().map(|newest| newest.log_uuid);
    found.retain(|found| {
        // A segment of another log is none of ours, and its positions mean nothing here; nor is a
        // copy under another name.
        let is_ours = Some(found.header.log_uuid) == log_uuid && found.header.slot == found.slot;
        if !is_ours {
            place.quarantine.take(place.disk, place.dir, found.slot);
            recovered.lost_segments.push(segment::name(found.slot));
        }
        is_ours
    });
    let mut log = Log {
        log_uuid: log_uuid.unwrap_or_else(|| u128::from_le_bytes(place.disk.random())),
        segments: VecDeque::new(),
        spares,
        start: Start {
            previous: Previous::default(),
            generation: newest.as_ref().map_or(0, |newest| newest.generation),
            opened: newest.as_ref().map_or(0, |newest| newest.opened).saturating_add(1),
            next_seq: 1,
        },
        end: 1,
        recovered,
    };
    settle(place, &found)?;
    log.measure(place, &found)?;
    log.go_on_above(floor, ledger_tx);
    log.recovered.lost_records = lost_end.saturating_sub(log.end);
    log.recovered.head = log.end;
    Ok(log)
}

/// The position behind the last record of a segment without a header, as its frames say: nothing
/// proves what they say.
fn claimed_end(file: &dyn DiskFile) -> io::Result<Seq> {
    let (mut end, mut at) = (0, FRAMES);
    let mut block = vec![0; BLOCK as usize];
    while file.read_full_at(&mut block, at)? == block.len() {
        end = end.max(FrameHeader::claimed_end(&block).unwrap_or(0));
        at += BLOCK;
    }
    Ok(end)
}

/// The directory's segments, and whether a sync of theirs once failed.
fn slots(place: &Place<'_>) -> io::Result<BTreeMap<u32, bool>> {
    // The names that a killed process gave may be in the cache alone: a segment that is written to
    // under such a name would have another one after a loss of power.
    place.disk.sync_dir(place.dir)?;
    let (mut slots, mut bad) = (BTreeSet::new(), BTreeSet::new());
    for name in place.disk.list(place.dir)? {
        match segment::named(&name) {
            Some(Named::Segment(slot)) => slots.extend([slot]),
            Some(Named::Bad(slot)) => bad.extend([slot]),
            // It was being made; nothing in it was ever used.
            Some(Named::New) => place.disk.remove(&place.dir.join(&name))?,
            None => {}
        }
    }
    Ok(slots.into_iter().map(|slot| (slot, bad.contains(&slot))).collect())
}

/// Makes durable what a kill may have left in the cache, before anybody relies on it, and mends
/// headers of which one copy is not as it should be. Only the last segments can need either: a
/// segment is left for the next one after its last frame was synced.
fn settle(place: &Place<'_>, found: &[Found]) -> Result<(), WalError> {
    let last = found.len().saturating_sub(2);
    for (index, Found { header, repair, .. }) in found.iter().enumerate() {
        if index < last && repair.is_none() {
            continue;
        }
        let path = segment::path(place.dir, header.slot);
        let fail = |what| {
            let path = path.clone();
            move |source| WalError::io(&path, what, source)
        };
        let file = place.disk.open(&path, How::Write).map_err(fail("open"))?;
        if let Some(at) = repair {
            file.write_all_at(&header.encode(), *at).map_err(fail("repair header"))?;
        }
        file.sync().map_err(fail("sync"))?;
        file.drop_cache().map_err(fail("drop from the cache"))?;
    }
    Ok(())
}

impl Log {
    /// Finds where each segment ends: the next one's header says so; the last has to be read.
    fn measure(&mut self, place: &Place<'_>, found: &[Found]) -> Result<(), WalError> {
        for (index, Found { header, bytes, is_bad, .. }) in found.iter().enumerate() {
            let mut extent = Extent::new(header);
            extent.is_bad = *is_bad;
            extent.size = *bytes;
            let mut later = found[index + 1..].iter().map(|next| next.header.previous);
            let given_up = later.clone().any(|last| last.generation < header.generation);
            let told = later
                .find(|last| last.generation == header.generation)
                // Where that can't be, the segment itself is asked.
                .filter(|end| end.end_seq >= header.first_seq)
                .filter(|end| (FRAMES..=*bytes).contains(&end.end_offset));
            match told {
                Some(previous) => {
                    extent.end_seq = previous.end_seq;
                    extent.end_offset = previous.end_offset;
                }
                // Its first frame could not be written, and another segment took its place; what
                // of that frame is there has positions that were given to other records.
                None if given_up => {}
                None => {
                    let next = found.get(index + 1).map(|next| next.header.previous.end_seq);
                    self.read_to_the_end(place, header, &mut extent, next)?;
                }
            }
            self.start.next_seq = self.start.next_seq.max(extent.end_seq);
            self.end = self.end.max(header.previous.end_seq);
            if extent.end_offset > FRAMES {
                self.end = self.end.max(extent.end_seq);
                self.recovered.records += extent.end_seq.saturating_sub(extent.first_seq);
                self.start.previous = Previous {
                    generation: header.generation,
                    end_seq: extent.end_seq,
                    end_offset: extent.end_offset,
                };
                self.segments.push_back(extent);
            } else if *is_bad {
                place.quarantine.take(place.disk, place.dir, header.slot);
            } else {
                self.spares.push(Spare { slot: header.slot, size: *bytes, from_zeros: false });
            }
        }
        Ok(())
    }

    /// Reads a segment whose end nobody knows. The `next` one went on from that position, if
    /// there is one.
    fn read_to_the_end(
        &mut self,
        place: &Place<'_>,
        header: &SegmentHeader,
        extent: &mut Extent,
        next: Option<Seq>,
    ) -> Result<(), WalError> {
        let path = segment::path(place.dir, header.slot);
        let fail = |source| WalError::io(&path, "read", source);
        let file = place.disk.open(&path, How::Direct).map_err(fail)?;
        let length = file.length().map_err(fail)?.min(header.size);
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
        let have = file.read_full_at(&mut bytes, 0).map_err(fail)?;
        bytes.truncate(have);
        let End { seq, offset, suspect } = scan::end(&bytes, header, next.unwrap_or(Seq::MAX));
        extent.end_seq = seq;
        extent.end_offset = offset;
        // A segment is left for the next one after its last frame was synced: in any but the last
        // the end is no torn tail, but damage, and what is missing behind it is told as that.
        if let Some(range) = suspect.filter(|_| next.is_none()) {
            let tail = &bytes[range.start as usize..range.end as usize];
            let kept = place.quarantine.keep(place.disk, &path, range.start, tail);
            self.recovered.suspect_tail = Some(kept);
        }
        Ok(())
    }

    /// The next record stands above every position that anybody knows.
    fn go_on_above(&mut self, floor: Seq, ledger_tx: u64) {
        if mutant::active(Mutant::AppendInOldSegment) {
            return;
        }
        if floor > self.end {
            // Whoever knows those positions had them from a log that had synced them.
            self.recovered.missing = Some((self.end, floor));
            self.end = floor;
            self.start.next_seq = self.start.next_seq.max(floor);
        }
        // Where a segment that held the last records is lost, this end says that they are missing.
        self.start.previous.end_seq = self.end;
        // What the ledger has forgotten, the store may know: also records of segments that are lost.
        let recovered = &mut self.recovered;
        let lacks = !recovered.lost_segments.is_empty() || recovered.short_segment.is_some();
        if lacks || recovered.ledger_tx > ledger_tx {
            self.start.next_seq += FAR_JUMP;
        } else if recovered.suspect_tail.is_some() {
            self.start.next_seq += JUMP;
        }
        let doubts = lacks || recovered.suspect_tail.is_some();
        recovered.perhaps_used = doubts.then_some((self.end, self.start.next_seq));
    }
}
