mod damage;
mod interleavings;
mod model;
pub(super) mod scheduled;

use super::disk::{How, OsDisk};
use super::format::{BLOCK, COPY_B, FRAMES};
use std::path::Path;

use super::*;
use crate::event::Receipt;

/// Four blocks of frames and a mark to a segment, and stored segments are used again at once.
const SEGMENT: u64 = FRAMES + 5 * BLOCK;

fn config() -> WalConfig {
    WalConfig {
        bytes_max: 1 << 20,
        segment_bytes: SEGMENT,
        queue_bytes_max: 1 << 16,
        retention: std::time::Duration::ZERO,
    }
}

fn place(dir: &Path, floor: Seq) -> Place {
    Place {
        disk: OsDisk::shared(),
        dir: dir.join("log"),
        quarantine: dir.join("quarantine"),
        floor,
        ledger_tx: Arc::default(),
    }
}

/// Whole records, and ranges that are lost.
type Contents = (Vec<(Seq, String)>, Vec<(Seq, Seq)>);

/// A log whose writer takes its turns when the test says so.
struct Log {
    wal: Wal,
    writer: Writer,
    recovered: Recovered,
}

impl Log {
    fn open(dir: &Path) -> Self {
        Self::open_above(dir, 0)
    }

    fn open_above(dir: &Path, floor: Seq) -> Self {
        let (wal, writer, recovered) = Wal::prepare(place(dir, floor), config()).unwrap();
        Self { wal, writer, recovered }
    }

    fn append(&mut self, from: u64, count: u64) -> Durable {
        self.try_append(from, count).unwrap()
    }

    fn try_append(&mut self, from: u64, count: u64) -> Result<Durable, AppendError> {
        let appending = self.wal.append(records(from, count))?;
        assert_eq!(self.writer.turn(false), Turn::Worked);
        appending.wait()
    }

    /// The idle log writes its mark.
    fn mark(&mut self) {
        self.writer.turn(false);
    }

    /// Every durable record from that position on, and the ranges that are lost.
    fn read(&self, from: Seq) -> Contents {
        let (mut found, mut lost) = (Vec::new(), Vec::new());
        let mut reader = self.wal.reader(from);
        while let Some(step) = reader.read().unwrap() {
            match step {
                Err(damage) => lost.push((damage.from, damage.to)),
                Ok(chunk) => {
                    let records = chunk.records().filter(|(seq, _)| *seq >= from);
                    found.extend(records.map(|(seq, record)| {
                        (seq, String::from_utf8_lossy(record.unwrap().1).into_owned())
                    }));
                }
            }
        }
        (found, lost)
    }

    /// Closes the log and opens it as the next process would.
    fn reopen(mut self, dir: &Path) -> Self {
        self.close();
        Self::open(dir)
    }

    fn close(&mut self) {
        self.wal.close();
        while self.writer.turn(false) != Turn::Ended {}
    }
}

fn records(from: u64, count: u64) -> Records {
    let mut records = Records::default();
    for n in from..from + count {
        assert!(records.push(&Receipt::default(), format!("event {n}").as_bytes()));
    }
    records
}

fn expected(range: std::ops::Range<u64>) -> Vec<(Seq, String)> {
    range.map(|seq| (seq, format!("event {seq}"))).collect()
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(dir.join("log"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "wal"))
        .collect();
    paths.sort();
    paths
}

fn flip(path: &Path, offset: u64) {
    let mut file = std::fs::read(path).unwrap();
    file[offset as usize] ^= 0x10;
    std::fs::write(path, file).unwrap();
}

#[test]
fn what_was_appended_is_read_in_order_from_any_position_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::open(dir.path());
    for first in (1..141).step_by(7) {
        assert_eq!(log.append(first, 7), Durable { first_seq: first, count: 7 });
    }
    let head = log.wal.head();
    assert!(segments(dir.path()).len() > 3, "the log rotates");
    for from in [1, 2, 77, head - 1, head] {
        assert_eq!(log.read(from), (expected(from..head), vec![]));
    }
    let uuid = log.wal.log_uuid();
    let mut log = log.reopen(dir.path());
    assert_eq!((log.wal.head(), log.wal.log_uuid(), log.recovered.records), (head, uuid, 140));
    log.append(head, 3);
    assert_eq!(log.read(1), (expected(1..head + 3), vec![]));
    assert_eq!(log.recovered.head, head, "what came since is not what was found");
}

#[test]
fn a_reader_that_rests_between_any_two_chunks_reads_on_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::open(dir.path());
    let mut reader = log.wal.reader(1);
    let mut found = Vec::new();
    for first in (1..141).step_by(7) {
        log.append(first, 7);
        // Every third time it has fallen behind, and what it reads is on the disk.
        if first % 3 != 0 {
            continue;
        }
        reader.rest();
        while let Some(chunk) = reader.read().unwrap() {
            found.extend(chunk.unwrap().records().map(|(seq, record)| {
                (seq, String::from_utf8_lossy(record.unwrap().1).into_owned())
            }));
            reader.rest();
        }
    }
    let read_to = reader.position();
    assert!(read_to > 100 && found == expected(1..read_to));
}

#[test]
fn a_thread_writes_what_is_appended_and_marks_it_once_it_is_idle() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, _) = Wal::open(place(dir.path(), 0), config()).unwrap();
    let first = wal.append(records(1, 2)).unwrap().wait().unwrap();
    assert_eq!(first, Durable { first_seq: 1, count: 2 });
    let until = Instant::now() + std::time::Duration::from_secs(30);
    while wal.stats().syncs.get() < 2 {
        assert!(Instant::now() < until, "no mark");
        std::thread::yield_now();
    }
    wal.close();
    assert!(matches!(wal.append(records(3, 1)), Err(AppendError::Closed)));
    assert_eq!(Log::open(dir.path()).read(1), (expected(1..3), vec![]));
}

#[test]
fn a_request_that_no_frame_can_hold_takes_several_and_is_answered_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::open(dir.path());
    assert_eq!(log.append(1, 10_000), Durable { first_seq: 1, count: 10_000 });
    assert_eq!(log.read(1), (expected(1..10_001), vec![]));
    let log = log.reopen(dir.path());
    assert_eq!(log.read(1), (expected(1..10_001), vec![]));
}

#[test]
fn an_idle_log_keeps_one_segment() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::open(dir.path());
    for first in 1..=12 {
        log.append(first, 1);
    }
    log.wal.reclaim(13).unwrap();
    assert_eq!(segments(dir.path()).len(), 2, "the one that is written to, and a spare one");
    log.wal.rest().unwrap();
    assert_eq!(segments(dir.path()).len(), 1);
    log.append(13, 1);
    log.close();
    assert_eq!(Log::open(dir.path()).read(13), (expected(13..14), vec![]));
}

#[test]
fn a_tail_torn_at_any_block_is_set_aside_and_nothing_before_it_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::open(dir.path());
    log.append(1, 2);
    log.append(3, 300);
    log.close();
    let path = &segments(dir.path())[0];
    let file = std::fs::read(path).unwrap();
    let start = FRAMES + BLOCK;
    // The second frame has three.
    for cut in 1..3 {
        let mut torn = file.clone();
        // The frame's blocks from there on never reached the disk, nor did what followed it.
        torn[(start + cut * BLOCK) as usize..].fill(0);
        std::fs::write(path, &torn).unwrap();
        let mut log = Log::open(dir.path());
        assert_eq!(log.read(1), (expected(1..3), vec![]), "cut after {cut} blocks");
        assert!(log.recovered.suspect_tail.is_some());
        assert_eq!(log.wal.head(), 3, "what no header declares is not left out yet");
        let next = log.append(3, 1).first_seq;
        assert!(next > 1 << 20, "positions that may be known are left out");
        assert_eq!((log.wal.records_from(1), log.wal.records_from(2)), (3, 2));
        assert_eq!((log.wal.records_from(9), log.wal.records_from(next + 1)), (1, 0));
        assert_eq!(log.read(3).1, vec![], "a jump that is declared is not a loss");
        log.close();
        let second = segments(dir.path()).pop().unwrap();
        std::fs::remove_file(second).unwrap();
    }
}

#[test]
fn stored_segments_are_used_again_in_place_and_positions_never() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::open(dir.path());
    for first in 1..200 {
        log.append(first, 1);
        log.wal.reclaim(first + 1).unwrap();
    }
    assert!(segments(dir.path()).len() <= 3, "{:?}", segments(dir.path()));
    for _ in 0..5 {
        log = log.reopen(dir.path());
        assert_eq!((log.wal.head(), log.read(200)), (200, (vec![], vec![])));
        assert!(log.recovered.suspect_tail.is_none(), "old frames are no torn tail");
    }
    log.append(200, 2);
    assert_eq!(log.read(200), (expected(200..202), vec![]));
}

#[test]
fn stored_records_are_retained_until_the_log_needs_their_segments() {
    let dir = tempfile::tempdir().unwrap();
    let config = WalConfig { retention: std::time::Duration::from_secs(3600), ..config() };
    let config = WalConfig { bytes_max: 4 * SEGMENT, ..config };
    let (wal, writer, recovered) = Wal::prepare(place(dir.path(), 0), config).unwrap();
    let mut log = Log { wal, writer, recovered };
    for first in 1..=60 {
        log.append(first, 1);
        log.wal.reclaim(first + 1).unwrap();
    }
    let (found, lost) = log.read(1);
    assert!(found.len() > 16 && found.len() < 60, "{}", found.len());
    assert_eq!(found.last(), expected(60..61).last());
    assert_eq!(lost.len(), 1, "a reader from before the retained ones is told so");
    assert!(log.wal.shrink() > 0);
    assert_eq!(segments(dir.path()).len(), 1);
}

#[test]
fn a_full_log_refuses_until_its_records_are_stored() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::open(dir.path());
    let mut next = 1;
    let refusal = loop {
        match log.try_append(next, 300) {
            Ok(_) => next += 300,
            Err(refusal) => break refusal,
        }
    };
    assert!(matches!(refusal, AppendError::Full { bytes_max: 1_048_576, .. }), "{refusal}");
    log.wal.reclaim(log.wal.head()).unwrap();
    log.append(next, 300);
    assert_eq!(log.read(next), (expected(next..next + 300), vec![]));
}

#[test]
fn a_log_of_one_segment_takes_more_once_that_is_stored() {
    let dir = tempfile::tempdir().unwrap();
    let whole = WalConfig { segment_bytes: config().bytes_max, ..config() };
    let (wal, writer, recovered) = Wal::prepare(place(dir.path(), 0), whole).unwrap();
    let mut log = Log { wal, writer, recovered };
    let mut next = 1;
    for _ in 0..3 {
        while log.try_append(next, 300).is_ok() {
            next += 300;
        }
        assert!(log.wal.extent().0 > 0);
        log.wal.reclaim(log.wal.head()).unwrap();
        assert_eq!(log.wal.extent().0, 0, "all is stored");
        log.append(next, 300);
        next += 300;
    }
    assert_eq!(log.read(next - 300), (expected(next - 300..next), vec![]));
}

#[test]
fn what_is_larger_than_the_log_is_refused_for_good() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::open(dir.path());
    let refusal = log.try_append(1, 30_000).unwrap_err();
    assert!(matches!(refusal, AppendError::TooLarge { bytes_max: 1_048_576, .. }), "{refusal}");
    log.append(1, 300);
}

#[test]
fn a_newer_format_is_refused_and_nothing_is_changed() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::open(dir.path());
    log.append(1, 3);
    log.close();
    let path = segments(dir.path())[0].clone();
    let mut file = std::fs::read(&path).unwrap();
    for copy in [0, COPY_B as usize] {
        file[copy + 8] = 2;
        file[copy + 10] = 2;
        let crc = crc32c::crc32c(&file[copy..copy + 132]);
        file[copy + 132..copy + 136].copy_from_slice(&crc.to_le_bytes());
    }
    std::fs::write(&path, &file).unwrap();
    let refused = Wal::prepare(place(dir.path(), 0), config()).map(drop);
    assert!(matches!(refused, Err(WalError::NewerFormat { version: 2, .. })), "{refused:?}");
    assert_eq!(std::fs::read(&path).unwrap(), file);
}

#[test]
fn a_frame_that_a_client_plants_in_a_payload_is_never_found() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::open(dir.path());
    log.append(1, 1);
    // A client may know everything but the salt: it sends a whole frame of another log.
    let other = tempfile::tempdir().unwrap();
    let mut planted = Log::open(other.path());
    planted.append(1, 1);
    planted.append(2, 2);
    planted.close();
    let file = std::fs::read(&segments(other.path())[0]).unwrap();
    let payload = &file[FRAMES as usize..(FRAMES + 2 * BLOCK) as usize];
    // The payload starts so that the planted frames stand on block boundaries.
    let mut hostile = Records::default();
    let filler = vec![b' '; BLOCK as usize - 64 - 2 * 24];
    assert!(hostile.push(&Receipt::default(), &filler));
    assert!(hostile.push(&Receipt::default(), payload));
    let appending = log.wal.append(hostile).unwrap();
    log.writer.turn(false);
    appending.wait().unwrap();
    log.append(4, 1);
    log.close();
    flip(&segments(dir.path())[0], FRAMES + BLOCK + 20);
    let log = Log::open(dir.path());
    let is_planted = |(_, text): &(Seq, String)| text == "event 2" || text == "event 3";
    let (found, lost) = log.read(1);
    assert!(!found.iter().any(is_planted) && lost.is_empty());
    assert_eq!(found.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), [1, 2, 3, 4]);
}

#[test]
fn a_log_goes_on_above_every_position_that_is_known_elsewhere_and_misses_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::open(dir.path());
    log.append(1, 3);
    log.close();
    for _ in 0..2 {
        let log = Log::open_above(dir.path(), 100);
        assert_eq!(log.recovered.missing, Some((4, 100)));
        assert_eq!(log.read(1), (expected(1..4), vec![(4, 100)]));
    }
    let mut log = Log::open_above(dir.path(), 100);
    log.append(100, 2);
    let log = log.reopen(dir.path());
    assert_eq!(log.recovered.missing, None);
    let found = [expected(1..4), expected(100..102)].concat();
    assert_eq!(log.read(1), (found, vec![(4, 100)]), "what is missing stays missed");
    std::fs::remove_dir_all(dir.path().join("log")).unwrap();
    let log = Log::open_above(dir.path(), 102);
    assert_eq!((log.wal.head(), log.read(90)), (102, (vec![], vec![(90, 102)])));
}

#[test]
fn a_failed_segment_is_read_but_never_written_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::open(dir.path());
    log.append(1, 3);
    log.close();
    let path = segments(dir.path())[0].clone();
    drop(OsDisk.open(&path.with_extension("bad"), How::Create).unwrap());
    let mut log = Log::open(dir.path());
    assert_eq!(log.read(1), (expected(1..4), vec![]));
    for seq in 4..20 {
        log.append(seq, 1);
        log.wal.reclaim(seq).unwrap();
    }
    assert!(!path.with_extension("bad").exists());
    let kept = std::fs::read_dir(dir.path().join("quarantine")).unwrap().count();
    assert_eq!(kept, 1);
}

#[test]
fn a_log_of_another_machine_is_not_mixed_in() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for (dir, segments) in [(other.path(), 1), (dir.path(), 2)] {
        let mut log = Log::open(dir);
        for seq in 1..=4 * segments {
            log.append(seq, 1);
        }
        log.close();
    }
    let foreign = dir.path().join("log/seg-00009.wal");
    std::fs::copy(&segments(other.path())[0], &foreign).unwrap();
    let log = Log::open(dir.path());
    assert_eq!(log.recovered.lost_segments, ["seg-00009.wal"]);
    assert_eq!(log.read(1), (expected(1..9), vec![]));
}

#[test]
fn the_format_of_version_1_is_read_whatever_becomes_of_the_code() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/log-v1");
    std::fs::create_dir(dir.path().join("log")).unwrap();
    for entry in std::fs::read_dir(fixture).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, dir.path().join("log").join(path.file_name().unwrap())).unwrap();
    }
    // Three segments, of which the first was used again; data, marks, and a seal.
    let log = Log::open(dir.path());
    assert_eq!(log.read(7), (expected(7..31), vec![]));
    assert_eq!((log.wal.head(), log.recovered.suspect_tail), (31, None));
}
