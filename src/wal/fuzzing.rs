//! Doors for fuzzers: any bytes as the files of a log.
//!
//! Bytes alone would never pass a check sum, so an input is a small program that writes segments:
//! raw bytes, frames with any header, whole frames with a byte changed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::disk::Disk;
use super::format::{
    BLOCK, COPY_B, FRAME_HEADER, FRAMES, FrameHeader, FrameType, Previous, SegmentHeader,
};
use super::memory::MemoryDisk;
use super::writer::Turn;
use super::{Place, Reader, Records, Wal, WalError, Writer, record, scan, segment};
use crate::config::WalConfig;
use crate::event::{Receipt, Seq};

const SEGMENT_BYTES_MAX: usize = 1 << 18;
const SEGMENTS_MAX: u32 = 4;
/// More answers than that many bytes of files can hold records.
const ANSWERS_MAX: usize = 1 << 17;

/// What is left of an input; behind its end there are zeros.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, bytes: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(bytes.min(self.0.len()));
        self.0 = rest;
        taken
    }

    fn number(&mut self, bytes: usize) -> u64 {
        let mut number = [0; 8];
        let taken = self.take(bytes);
        number[..taken.len()].copy_from_slice(taken);
        u64::from_le_bytes(number)
    }

    fn byte(&mut self) -> u8 {
        self.number(1) as u8
    }

    /// Mostly small, sometimes any that a log comes to before it is a hundred years old.
    fn seq(&mut self) -> Seq {
        if self.byte() == 0xff { self.number(8) >> 2 } else { self.number(1) }
    }

    fn header(&mut self, slot: u32) -> SegmentHeader {
        let generation = self.seq();
        SegmentHeader {
            log_uuid: u128::from(self.byte() == 0xff),
            slot,
            size: if self.byte() == 0xff { self.number(8) } else { SEGMENT_BYTES_MAX as u64 },
            generation,
            first_seq: self.seq(),
            previous: Previous {
                generation: self.seq(),
                end_seq: self.seq(),
                end_offset: if self.byte() == 0xff {
                    self.number(8)
                } else {
                    self.number(1) * BLOCK
                },
            },
            compatible: u32::from(self.byte() & 1),
            ..SegmentHeader::default()
        }
    }

    /// A segment of that header, and its bytes.
    fn segment(&mut self, slot: u32) -> (SegmentHeader, Vec<u8>) {
        let header = self.header(slot);
        let mut bytes = vec![0; FRAMES as usize];
        let copies = self.byte();
        for (bit, at) in [(1, 0), (2, COPY_B as usize)] {
            if copies & bit == 0 {
                let encoded = header.encode();
                bytes[at..at + encoded.len()].copy_from_slice(&encoded);
            }
        }
        while bytes.len() < SEGMENT_BYTES_MAX && !self.0.is_empty() {
            match self.byte() {
                0 => break,
                1 => {
                    let length = self.byte();
                    bytes.extend_from_slice(self.take(usize::from(length)));
                }
                2 => bytes.extend_from_slice(&self.any_frame(&header)),
                3 => {
                    let changed = self.number(2) as usize;
                    let by = self.byte();
                    if let Some(byte) = bytes.get_mut(changed) {
                        *byte ^= by;
                    }
                    continue;
                }
                _ => bytes.extend_from_slice(&self.whole_frame(&header)),
            }
            bytes.resize(bytes.len().next_multiple_of(BLOCK as usize), 0);
        }
        (header, bytes)
    }

    /// A header that says anything, before anything.
    fn any_frame(&mut self, header: &SegmentHeader) -> Vec<u8> {
        let kinds = [FrameType::Data, FrameType::Mark, FrameType::Seal];
        let frame = FrameHeader {
            kind: kinds[usize::from(self.byte() % 3)],
            first_seq: self.seq(),
            count: self.number(2) as u32,
            body_bytes: self.number(3) as u32,
            body_crc: self.number(4) as u32,
            previous_crc: 0,
        };
        let length = self.byte();
        [&frame.encode(header.key()), self.take(usize::from(length))].concat()
    }

    /// What the writer would write, at a position of the input's choice.
    fn whole_frame(&mut self, header: &SegmentHeader) -> Vec<u8> {
        let (first_seq, count, key) = (self.seq(), self.byte() % 8, header.key());
        let mut body = Vec::new();
        for _ in 0..count {
            let length = self.byte();
            let mut records = Records::default();
            let fits = records.push(&Receipt::default(), self.take(usize::from(length)));
            debug_assert!(fits);
            let start = body.len();
            body.extend_from_slice(records.bytes());
            record::seal(&mut body[start..], key);
        }
        let frame = FrameHeader {
            kind: if count == 0 { FrameType::Mark } else { FrameType::Data },
            first_seq,
            count: u32::from(count),
            body_bytes: body.len() as u32,
            body_crc: key.crc(&body),
            previous_crc: 0,
        };
        [&frame.encode(key)[..], &body].concat()
    }
}

/// Frames are decoded, the end is found, and what is damaged is salvaged.
pub fn scan(input: &[u8]) {
    let (header, bytes) = Input(input).segment(0);
    let key = header.key();
    let end = scan::end(&bytes, &header, Seq::MAX);
    assert!(end.seq >= header.first_seq && end.offset >= FRAMES);
    if let Some(suspect) = end.suspect {
        assert!(suspect.start == end.offset && suspect.end <= bytes.len() as u64);
    }
    for at in (0..bytes.len()).step_by(BLOCK as usize) {
        let count = scan::frame_at(&bytes, at, key).map_or(7, |(frame, _)| frame.count);
        let parts = scan::salvage(&bytes[at..], Seq::from(count), key);
        let found = parts.iter().map(|part| match part {
            scan::Salvaged::Records { count, body } => {
                assert!(at + body.end <= bytes.len());
                Seq::from(*count)
            }
            scan::Salvaged::Lost(count) => *count,
        });
        assert_eq!(found.sum::<Seq>(), Seq::from(count), "a position is neither there nor lost");
    }
    let mut rest = input;
    while let Some((first, more)) = record::split(rest) {
        let _ = record::open(first);
        rest = more;
    }
    assert!(input.get(FRAME_HEADER..).is_none_or(|b| !scan::salvage(b, 1, key).is_empty()));
}

fn open(disk: &MemoryDisk, floor: Seq) -> Option<(Wal, Writer)> {
    let place = Place {
        disk: Arc::new(disk.clone()),
        dir: PathBuf::from("/log"),
        quarantine: PathBuf::from("/quarantine"),
        floor,
        ledger_tx: Arc::default(),
    };
    let config = WalConfig {
        bytes_max: u64::MAX / 2,
        segment_bytes: FRAMES + 4 * BLOCK,
        queue_bytes_max: 1 << 20,
        retention: Duration::ZERO,
    };
    match Wal::prepare(place, config) {
        Ok((wal, writer, _)) => Some((wal, writer)),
        Err(WalError::NewerFormat { .. }) => None,
        Err(error) => panic!("{error}"),
    }
}

/// Every record from there on, as position and payload.
fn read(mut reader: Reader) -> Vec<(Seq, Vec<u8>)> {
    let mut found = Vec::new();
    for answers in 0.. {
        assert!(answers < ANSWERS_MAX, "the reader does not come to an end");
        let before = reader.position();
        match reader.read().expect("a disk in memory is read") {
            None => break,
            Some(Err(damage)) => assert!(damage.from < damage.to),
            Some(Ok(chunk)) => {
                let records = chunk.records();
                found.extend(records.filter_map(|(seq, r)| Some((seq, r?.1.to_vec()))));
            }
        }
        assert!(reader.position() > before, "the reader stands still");
    }
    found
}

/// A log is opened over any files, read, appended to, and opened again: what was appended is there.
pub fn recover(input: &[u8]) {
    let mut input = Input(input);
    let disk = MemoryDisk::default();
    let floor = Seq::from(input.byte());
    for slot in 0..SEGMENTS_MAX {
        let (_, bytes) = input.segment(slot);
        disk.put(&segment::path(Path::new("/log"), slot), bytes);
    }
    let Some((wal, mut writer)) = open(&disk, floor) else { return };
    let first = wal.head();
    assert!(read(wal.reader(0)).iter().all(|(seq, _)| *seq < first), "a position is used again");
    let mut records = Records::default();
    for payload in [&b"one"[..], b"two"] {
        assert!(records.push(&Receipt::default(), payload));
    }
    let appending = wal.append(records).expect("the log takes records");
    assert_eq!(writer.turn(false), Turn::Worked);
    let durable = appending.wait().expect("the log keeps records");
    assert!(durable.first_seq >= first && durable.count == 2);
    wal.close();
    while writer.turn(false) != Turn::Ended {}
    let (wal, _writer) = open(&disk, floor).expect("a log that was opened is opened again");
    let appended = [(durable.first_seq, b"one".to_vec()), (durable.first_seq + 1, b"two".to_vec())];
    assert_eq!(read(wal.reader(durable.first_seq)), appended);
    assert!(!disk.list(Path::new("/log")).expect("a disk in memory is listed").is_empty());
}
