//! The log against a map: whatever is done to it, it holds what the map holds, or says what not.
//!
//! `PROPTEST_CASES` makes it longer; 100,000 cases are the long run.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use proptest::prelude::*;

use super::super::memory::MemoryDisk;
use super::super::segment;
use super::*;

const SECTOR: usize = 512;

/// Records of one request: how many, and their payloads' bytes.
type Request = (u32, usize);

#[derive(Clone, Debug)]
enum Step {
    /// Requests that wait together.
    Append(Vec<Request>),
    /// The disk is full after that many more bytes, once.
    Fill(usize),
    /// The log is idle for a while.
    Mark,
    /// That part of what is unread, in 256ths, is stored.
    Reclaim(u8),
    Shrink,
    /// Reads from that part of all records on.
    Read(u8),
    /// The next process, after a close or a kill; somebody knows so many positions more.
    Reopen {
        closes: bool,
        known: Seq,
    },
    /// Power is lost while that request is written: of each sector there is the old, the new, or
    /// neither.
    Tear {
        request: Request,
        chance: u64,
    },
    /// A bit rots while the service is down.
    Rot {
        segment: u8,
        offset: u32,
        bit: u8,
    },
}

fn request() -> impl Strategy<Value = Request> {
    prop_oneof![
        40 => (1..20_u32, 0..600_usize),
        20 => (1..4_u32, 0..3000_usize),
        // Larger than a segment.
        2 => (1..3_u32, 20_000..60_000_usize),
        // More than a frame may hold.
        1 => (4000..9000_u32, 0..10_usize),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let small = (1..40_u32, 0..500_usize);
    let known = prop_oneof![9 => Just(0), 1 => 1..1000_u64];
    prop_oneof![
        12 => prop::collection::vec(request(), 1..4).prop_map(Step::Append),
        1 => (0..60_000_usize).prop_map(Step::Fill),
        2 => Just(Step::Mark),
        4 => any::<u8>().prop_map(Step::Reclaim),
        1 => Just(Step::Shrink),
        2 => any::<u8>().prop_map(Step::Read),
        3 => (any::<bool>(), known).prop_map(|(closes, known)| Step::Reopen { closes, known }),
        2 => (small, any::<u64>()).prop_map(|(request, chance)| Step::Tear { request, chance }),
        1 => (any::<u8>(), any::<u32>(), 0..8_u8)
            .prop_map(|(segment, offset, bit)| Step::Rot { segment, offset, bit }),
    ]
}

/// An event: its number, which says what its payload is, and its payload's bytes.
type Event = (u32, usize);

fn payload((number, bytes): Event) -> Vec<u8> {
    let mut payload = number.to_le_bytes().repeat(bytes.div_ceil(4));
    payload.truncate(bytes);
    payload
}

/// What a reader has found: events, and positions that are lost.
type Found = (Vec<(Seq, Event)>, Vec<Range<Seq>>);

fn is_in(ranges: &[Range<Seq>], seq: Seq) -> bool {
    ranges.iter().any(|range| range.contains(&seq))
}

/// Whether every position of that range is in one of those.
fn cover(ranges: &[Range<Seq>], range: Range<Seq>) -> bool {
    let mut at = range.start;
    while at < range.end {
        let ends = ranges.iter().filter(|range| range.contains(&at)).map(|range| range.end);
        let Some(end) = ends.max() else { return false };
        at = end;
    }
    true
}

struct Run {
    disk: MemoryDisk,
    /// The log, while a process has it open.
    wal: Wal,
    writer: Writer,
    /// What was acknowledged, or turned out to be durable all the same.
    events: BTreeMap<Seq, Event>,
    /// What the log has once said to be lost.
    lost: Vec<Range<Seq>>,
    consumed: Seq,
    /// Above every position that anybody knows.
    floor: Seq,
    /// The last requests' first record.
    last: Seq,
    /// Records from there on have no successor that proves them.
    unproved: Seq,
    /// Whether part of a frame may be behind the last one.
    begun: bool,
    /// Refused because the disk was full; the frame may be there all the same.
    unsure: Vec<Event>,
    /// The numbers of all that were ever refused.
    refused: BTreeSet<u32>,
    /// Whether a bit ever did.
    has_rotted: bool,
    /// Whether this process has written anything.
    has_appended: bool,
    next_number: u32,
}

fn open(disk: &MemoryDisk, floor: Seq) -> (Wal, Writer, Recovered) {
    let place = Place { disk: Arc::new(disk.clone()), ..place(Path::new("/"), floor) };
    Wal::prepare(place, config()).unwrap()
}

impl Run {
    fn new() -> Self {
        let disk = MemoryDisk::default();
        let (wal, writer, _) = open(&disk, 0);
        Self {
            disk,
            wal,
            writer,
            events: BTreeMap::new(),
            lost: Vec::new(),
            consumed: 1,
            floor: 0,
            last: 1,
            unproved: 1,
            begun: false,
            unsure: Vec::new(),
            refused: BTreeSet::new(),
            has_rotted: false,
            has_appended: false,
            next_number: 0,
        }
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Append(ref requests) => self.append(requests),
            Step::Fill(bytes) => {
                self.disk.fill_after(Some(bytes));
                self.begun = true;
            }
            Step::Mark => self.mark(),
            Step::Reclaim(part) => {
                let unread = self.wal.head().saturating_sub(self.consumed);
                // A store that has everything has it up to the head.
                self.consumed += (unread * u64::from(part)).div_ceil(255);
                self.wal.reclaim(self.consumed).unwrap();
            }
            // The header of a segment without frames may be all that proves how far the one before
            // it was written. A process that has written to another has no need of it.
            Step::Shrink if !self.has_appended => {}
            Step::Shrink => {
                let before = self.wal.disk_bytes();
                assert_eq!(before - self.wal.shrink(), self.wal.disk_bytes());
            }
            Step::Read(part) => self.check(self.wal.head() * u64::from(part) / 255),
            Step::Reopen { closes, known } => {
                if closes {
                    self.close();
                }
                if known > 0 {
                    self.floor = self.floor.max(self.wal.head() + known);
                }
                let begun = self.begun;
                self.reopen(begun);
            }
            Step::Tear { request, chance } => self.tear(request, chance),
            Step::Rot { segment, offset, bit } => self.rot(segment, offset, bit),
        }
    }

    fn encode(&mut self, (count, bytes): Request) -> (Vec<Event>, Records) {
        let (mut events, mut records) = (Vec::new(), Records::default());
        for _ in 0..count {
            self.next_number += 1;
            let event = (self.next_number, bytes);
            let receipt = Receipt { item: event.0, ..Receipt::default() };
            assert!(records.push(&receipt, &payload(event)));
            events.push(event);
        }
        (events, records)
    }

    /// The writer works until nothing waits; it does not get to a mark.
    fn work(&mut self) {
        while !self.wal.0.state().queue.is_empty() {
            assert_eq!(self.writer.turn(false), Turn::Worked);
        }
    }

    fn append(&mut self, requests: &[Request]) {
        let (mut waiting, mut refused) = (Vec::new(), Vec::new());
        let (before, next) = (self.wal.head(), self.writer.next_seq());
        for &request in requests {
            let (events, records) = self.encode(request);
            match self.wal.append(records) {
                Ok(appending) => waiting.push((events, appending)),
                Err(AppendError::Full { .. } | AppendError::QueueFull) => {}
                Err(other) => panic!("{other}"),
            }
        }
        self.work();
        for (events, appending) in waiting {
            match appending.wait() {
                Ok(Durable { first_seq, count }) => {
                    assert_eq!(count as usize, events.len());
                    assert!(first_seq >= next, "a position is used again");
                    self.events.extend((first_seq..).zip(events));
                }
                Err(AppendError::Full { .. } | AppendError::Failed(_)) => refused.extend(events),
                Err(other) => panic!("{other}"),
            }
        }
        self.adopt(before, &refused);
        if self.wal.head() > before {
            (self.last, self.unproved) = (before, before);
            self.has_appended = true;
            self.unsure.clear();
        }
        self.refused.extend(refused.iter().map(|(number, _)| number));
        self.unsure.extend(refused);
    }

    /// What was not acknowledged may be durable all the same, in order.
    fn adopt(&mut self, from: Seq, unsure: &[Event]) {
        let mut unsure = unsure.iter();
        for (seq, event) in self.read(from).0 {
            if self.events.contains_key(&seq) {
                continue;
            }
            assert!(unsure.any(|known| *known == event), "{event:?} at {seq} was never sent");
            self.events.insert(seq, event);
        }
    }

    fn mark(&mut self) {
        // It may find the disk full once; it is written with the next turn then.
        while self.writer.turn(false) != Turn::Idle {}
        // What an earlier process left without one gets no mark: its segment is never written to.
        if self.has_appended && self.writer.turn(false) == Turn::Idle {
            self.unproved = self.wal.head();
        }
    }

    fn close(&mut self) {
        self.wal.close();
        while self.writer.turn(false) != Turn::Ended {}
    }

    /// The next process finds what it should, and nothing but a frame that was begun makes it
    /// doubt the end.
    fn reopen(&mut self, may_doubt: bool) -> Recovered {
        let head = self.wal.head();
        let uuid = self.wal.log_uuid();
        self.disk.fill_after(None);
        let (wal, writer, recovered) = open(&self.disk, self.floor);
        (self.wal, self.writer) = (wal, writer);
        let unsure = std::mem::take(&mut self.unsure);
        self.adopt(self.end(), &unsure);
        let end = self.end();
        if end > 1 {
            assert_eq!(self.wal.log_uuid(), uuid);
        }
        assert!(may_doubt || recovered.suspect_tail.is_none(), "{recovered:?}");
        assert!(may_doubt || recovered.lost_segments.is_empty(), "{recovered:?}");
        let next = self.writer.next_seq();
        assert!(next >= end.max(self.floor), "{next} < {end}");
        match recovered.missing {
            None => assert!(self.floor <= head.max(end) || self.floor == next),
            Some((from, to)) => {
                assert_eq!(to, self.floor);
                self.lost.push(from..to);
            }
        }
        self.begun = recovered.suspect_tail.is_some();
        self.has_appended = false;
        recovered
    }

    /// The position behind the last record.
    fn end(&self) -> Seq {
        self.events.last_key_value().map_or(1, |(seq, _)| seq + 1)
    }

    fn tear(&mut self, request: Request, chance: u64) {
        self.work();
        let before = (self.disk.copy(), self.wal.head(), self.wal.0.state().segments.clone());
        let (events, records) = self.encode(request);
        let Ok(appending) = self.wal.append(records) else { return };
        self.work();
        drop(appending);
        let last = self.wal.0.state().segments.back().cloned();
        if let Some(last) = last.filter(|last| last.end_seq > before.1) {
            let path = segment::path(Path::new("/log"), last.slot);
            let same = before.2.iter().find(|extent| extent.key == last.key);
            let start = same.map_or(FRAMES, |extent| extent.end_offset) as usize;
            let mut bytes = self.disk.bytes(&path).unwrap();
            let mut old = before.0.bytes(&path).unwrap_or_default();
            old.resize(bytes.len(), 0);
            tear(&mut bytes[start..last.end_offset as usize], &old[start..], chance);
            self.disk.put(&path, bytes);
        }
        // What was there before may be a whole frame that the disk was too full for.
        let was_refused = !self.unsure.is_empty();
        let whole = [0, events.len()].map(|torn| self.events.len() + torn);
        self.unsure.extend(events);
        self.reopen(true);
        let is_whole = whole.contains(&self.events.len());
        assert!(is_whole || was_refused, "a part of a frame was believed");
    }

    fn rot(&mut self, segment: u8, offset: u32, bit: u8) {
        self.mark();
        let segments = self.wal.0.state().segments.clone();
        let Some(rotten) = segments.get(usize::from(segment) % segments.len().max(1)) else {
            return;
        };
        let path = segment::path(Path::new("/log"), rotten.slot);
        let mut bytes = self.disk.bytes(&path).unwrap();
        // Most of what is rotten has been written.
        let length = if offset & 3 == 0 { bytes.len() } else { rotten.end_offset as usize };
        bytes[offset as usize % length] ^= 1 << bit;
        self.disk.put(&path, bytes);
        self.has_rotted = true;
        let recovered = self.reopen(true);
        let (found, lost) = self.read(self.consumed);
        let found: BTreeMap<Seq, Event> = found.into_iter().collect();
        for seq in self.events.range(self.consumed..).map(|(seq, _)| *seq).collect::<Vec<_>>() {
            if !found.contains_key(&seq) {
                let doubted = recovered.suspect_tail.is_some() && seq >= self.unproved;
                assert!(doubted || is_in(&lost, seq), "{seq} is lost without a word: {lost:?}");
                self.events.remove(&seq);
            }
        }
        self.lost.extend(lost);
        // It may have been the proof that is rotten.
        self.unproved = self.last;
    }

    fn read(&self, from: Seq) -> Found {
        let (mut found, mut lost) = (Vec::new(), Vec::new());
        let mut reader = self.wal.reader(from);
        while let Some(step) = reader.read().unwrap() {
            match step {
                Err(damage) => lost.push(damage.from..damage.to),
                Ok(chunk) => {
                    for (seq, record) in chunk.records().filter(|(seq, _)| *seq >= from) {
                        let (receipt, body) = record.expect("a record that makes no sense");
                        let event = (receipt.item, body.len());
                        assert_eq!(body, payload(event));
                        found.push((seq, event));
                    }
                }
            }
            if from % 2 == 1 {
                reader.rest();
            }
        }
        assert!(reader.position() >= self.wal.head(), "the reader stops early");
        (found, lost)
    }

    /// What stands at `from` or later is what the map has, but for what may have been used again.
    fn check(&self, from: Seq) {
        let (found, lost) = self.read(from);
        assert!(found.is_sorted_by(|(a, _), (b, _)| a < b), "out of order");
        for (seq, event) in &found {
            // A segment that is stored, and whose successor is gone, does not know any more that
            // the frame at its end was refused.
            let was_refused = *seq < self.consumed && self.refused.contains(&event.0);
            let known = self.events.get(seq);
            assert!(known == Some(event) || was_refused, "{event:?} at {seq}, not {known:?}");
            assert!(!is_in(&lost, *seq), "{seq} is there and lost");
        }
        let unread = from.max(self.consumed);
        let there: BTreeSet<Seq> = found.iter().map(|(seq, _)| *seq).collect();
        for (seq, event) in self.events.range(unread..) {
            // What was salvaged once need not be the next time, but it is told.
            let is_told = self.has_rotted && is_in(&lost, *seq);
            assert!(there.contains(seq) || is_told, "{event:?} at {seq} is gone: {lost:?}");
        }
        let unread = |range: &Range<Seq>| range.start.max(unread)..range.end;
        for range in &lost {
            let is_known = self.has_rotted || cover(&self.lost, unread(range));
            assert!(is_known, "{range:?} is lost: {:?}", self.lost);
        }
        for range in &self.lost {
            assert!(cover(&lost, unread(range)), "{range:?} is forgotten: {lost:?}");
        }
    }
}

/// Of each sector there is what was there before, what was written, or neither.
fn tear(new: &mut [u8], old: &[u8], mut chance: u64) {
    for (new, old) in new.chunks_mut(SECTOR).zip(old.chunks(SECTOR)) {
        chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        match chance >> 61 {
            0..3 => new.copy_from_slice(&old[..new.len()]),
            3 => new.fill((chance >> 32) as u8),
            _ => {}
        }
    }
}

/// As many as `PROPTEST_CASES` says, else so many that they take some seconds.
fn cases(default: u32) -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(asked.unwrap_or(default))
    }
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn whatever_is_done_to_a_log_it_holds_what_was_acknowledged(
        steps in prop::collection::vec(step(), 1..40),
    ) {
        let mut run = Run::new();
        for step in &steps {
            run.take(step);
        }
        run.check(run.consumed);
        run.check(1);
        run.reopen(true);
        run.check(run.consumed);
    }
}

#[test]
fn a_refused_frame_in_a_segment_that_was_left_for_another_takes_no_acknowledged_ones_place() {
    let mut run = Run::new();
    // The first segment is full.
    for _ in 0..4 {
        run.append(&[(1, 0)]);
    }
    // All of a frame but its padding is in the second one when the disk is full.
    run.disk.fill_after(Some(SEGMENT as usize + 1024 + 4500));
    run.append(&[(7, 546)]);
    assert_eq!((run.wal.head(), run.unsure.len()), (5, 7));
    // No other frame goes over it, because the next one does not fit that segment.
    run.append(&[(1, 20_000)]);
    assert_eq!(run.wal.head(), 6);
    run.reopen(false);
    run.check(1);
}
