use super::*;
use crate::event::Receipt;

fn config() -> WalConfig {
    WalConfig { bytes_max: 1 << 20, segment_bytes: 4096, queue_bytes_max: 1 << 16 }
}

fn open(dir: &Path) -> Wal {
    Wal::open(dir, config(), 0).unwrap().0
}

fn records(payloads: &[String]) -> Records {
    let mut records = Records::default();
    for payload in payloads {
        records.push(&Receipt::default(), payload.as_bytes());
    }
    records
}

fn append(wal: &Wal, from: u64, count: u64) -> Durable {
    let payloads: Vec<String> = (from..from + count).map(|n| format!("event {n}")).collect();
    wal.append(records(&payloads)).unwrap().wait().unwrap()
}

/// Every durable record from that position on: (position, payload), and the damaged ranges.
fn read(wal: &Wal, from: Seq) -> (Vec<(Seq, String)>, Vec<Damage>) {
    let (mut found, mut damage) = (Vec::new(), Vec::new());
    let mut reader = wal.reader(from);
    while let Some(step) = reader.read().unwrap() {
        match step {
            Err(range) => damage.push(range),
            Ok(chunk) => {
                let mut body = chunk.body;
                for seq in chunk.first_seq..chunk.first_seq + Seq::from(chunk.count) {
                    let (_, payload, rest) = take(body).unwrap();
                    body = rest;
                    if seq >= from {
                        found.push((seq, String::from_utf8(payload.to_vec()).unwrap()));
                    }
                }
            }
        }
    }
    (found, damage)
}

fn expected(range: std::ops::Range<u64>) -> Vec<(Seq, String)> {
    range.map(|seq| (seq, format!("event {seq}"))).collect()
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "wal"))
        .collect();
    paths.sort();
    paths
}

#[test]
fn what_was_appended_is_read_in_order_from_any_position_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(dir.path());
    for first in (1..500).step_by(7) {
        assert_eq!(append(&wal, first, 7), Durable { first_seq: first, count: 7 });
    }
    let head = wal.head();
    assert!(segments(dir.path()).len() > 2, "the log rotates");
    for from in [1, 2, 250, head - 1, head] {
        assert_eq!(read(&wal, from), (expected(from..head), vec![]));
    }
    wal.close();
    let uuid = wal.log_uuid();
    let wal = open(dir.path());
    assert_eq!((wal.head(), wal.log_uuid()), (head, uuid));
    append(&wal, head, 3);
    assert_eq!(read(&wal, 1), (expected(1..head + 3), vec![]));
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_and_nothing_before_it_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(dir.path());
    append(&wal, 1, 2);
    let whole = wal.extent().0;
    append(&wal, 3, 1);
    let end = wal.extent().0;
    wal.close();
    let file = std::fs::read(&segments(dir.path())[0]).unwrap();
    for length in whole..end {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(segment::path(dir.path(), 1), &file[..length as usize]).unwrap();
        let (wal, recovered) = Wal::open(dir.path(), config(), 0).unwrap();
        assert_eq!(recovered.torn_bytes, length - whole);
        append(&wal, 3, 4);
        assert_eq!(read(&wal, 1), (expected(1..7), vec![]), "cut at {length}");
    }
}

#[test]
fn a_position_is_never_used_twice_even_when_everything_was_reclaimed() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(dir.path());
    append(&wal, 1, 400);
    append(&wal, 401, 1);
    wal.reclaim(wal.head()).unwrap();
    assert_eq!(segments(dir.path()).len(), 1);
    for _ in 0..3 {
        wal.close();
        let wal = open(dir.path());
        assert_eq!(wal.head(), 402);
        wal.reclaim(wal.head()).unwrap();
        wal.close();
    }
}

#[test]
fn a_full_log_refuses_until_it_is_reclaimed() {
    let dir = tempfile::tempdir().unwrap();
    let config = WalConfig { bytes_max: 10_000, ..config() };
    let (wal, _) = Wal::open(dir.path(), config, 0).unwrap();
    let mut next = 1;
    let refusal = loop {
        let payloads: Vec<String> = (next..next + 20).map(|n| format!("event {n}")).collect();
        match wal.append(records(&payloads)) {
            Ok(appending) => drop(appending.wait().unwrap()),
            Err(refusal) => break refusal,
        }
        next += 20;
    };
    assert!(matches!(refusal, AppendError::Full { bytes_max: 10_000, .. }), "{refusal}");
    wal.reclaim(wal.head()).unwrap();
    append(&wal, next, 20);
}

/// Flips a byte of that frame of the segment, counted from 0.
fn damage_frame(path: &Path, index: usize) {
    let mut file = std::fs::read(path).unwrap();
    let at = memchr::memmem::find_iter(&file, b"FRM0").nth(index).unwrap();
    file[at + 9] ^= 1;
    std::fs::write(path, file).unwrap();
}

fn lost(wal: &Wal, damage: &[Damage]) {
    let (found, reported) = read(wal, 1);
    assert_eq!(reported, damage);
    let is_lost = |seq: Seq| damage.iter().any(|range| (range.from..range.to).contains(&seq));
    let rest: Vec<_> = expected(1..wal.head()).into_iter().filter(|(s, _)| !is_lost(*s)).collect();
    assert_eq!(found, rest);
}

#[test]
fn damaged_records_are_reported_with_their_exact_range_and_the_rest_is_read() {
    for index in [0, 3] {
        let dir = tempfile::tempdir().unwrap();
        let wal = open(dir.path());
        for first in (1..300).step_by(10) {
            append(&wal, first, 10);
        }
        wal.close();
        let second = &segments(dir.path())[1];
        let first = segment::position(second.file_name().unwrap().to_str().unwrap()).unwrap();
        damage_frame(second, index);
        let from = first + 10 * index as Seq;
        lost(&open(dir.path()), &[Damage { from, to: from + 10 }]);
    }
}

#[test]
fn damage_with_whole_frames_behind_it_is_no_torn_tail_also_while_the_log_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(dir.path());
    append(&wal, 1, 2);
    append(&wal, 3, 2);
    append(&wal, 5, 2);
    damage_frame(&segments(dir.path())[0], 1);
    let mut reader = wal.reader(1);
    assert!(reader.read().unwrap().unwrap().is_ok());
    assert_eq!(reader.read().unwrap().unwrap().unwrap_err(), Damage { from: 3, to: 5 });
    append(&wal, 7, 2);
    assert_eq!(reader.read().unwrap().unwrap().unwrap().first_seq, 5);
    assert_eq!(reader.read().unwrap().unwrap().unwrap().first_seq, 7);
    assert!(reader.read().unwrap().is_none());
    damage_frame(&segments(dir.path())[0], 3);
    append(&wal, 9, 2);
    lost(&wal, &[Damage { from: 3, to: 5 }, Damage { from: 7, to: 9 }]);
    wal.close();
    let (wal, recovered) = Wal::open(dir.path(), config(), 0).unwrap();
    assert_eq!((recovered.torn_bytes, wal.head()), (0, 11));
    append(&wal, 11, 1);
    lost(&wal, &[Damage { from: 3, to: 5 }, Damage { from: 7, to: 9 }]);
}

#[test]
fn a_frame_that_a_client_plants_in_a_payload_is_never_found() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(dir.path());
    let mut planted = Records::default();
    planted.push(&Receipt::default(), b"never sent");
    let body_bytes = planted.bytes().len() as u32;
    let frame = segment::Frame { first_seq: 4, count: 1, body_bytes };
    let mut payload = frame.encode(7).to_vec();
    payload.extend_from_slice(planted.bytes());
    append(&wal, 1, 1);
    let mut hostile = Records::default();
    hostile.push(&Receipt::default(), &payload);
    wal.append(hostile).unwrap().wait().unwrap();
    append(&wal, 3, 4);
    wal.close();
    damage_frame(&segments(dir.path())[0], 1);
    lost(&open(dir.path()), &[Damage { from: 2, to: 3 }]);
}

#[test]
fn a_closed_log_refuses_but_answers_what_it_took() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(dir.path());
    let taken = wal.append(records(&["event 1".to_owned()])).unwrap();
    wal.close();
    assert_eq!(taken.wait().unwrap().first_seq, 1);
    assert!(matches!(wal.append(records(&[])), Err(AppendError::Closed)));
}

#[test]
fn a_log_that_cannot_be_written_undoes_the_frame_and_goes_on() {
    // A segment that can't be created is the one write failure a test can cause without help
    // from below: its place is taken by a directory.
    let dir = tempfile::tempdir().unwrap();
    let wal = open(dir.path());
    append(&wal, 1, 100);
    let blocked = segment::path(dir.path(), wal.head());
    std::fs::create_dir(&blocked).unwrap();
    let payloads: Vec<String> = (101..201).map(|n| format!("event {n}")).collect();
    let refused = wal.append(records(&payloads)).unwrap().wait();
    assert!(matches!(refused, Err(AppendError::Failed(_))), "{refused:?}");
    std::fs::remove_dir(&blocked).unwrap();
    append(&wal, 101, 100);
    assert_eq!(read(&wal, 1), (expected(1..201), vec![]));
}

#[test]
fn a_log_goes_on_above_every_position_that_is_known_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(dir.path());
    append(&wal, 1, 3);
    wal.close();
    let (wal, recovered) = Wal::open(dir.path(), config(), 100).unwrap();
    assert_eq!(recovered.missing, Some((4, 100)));
    append(&wal, 100, 2);
    let expected: Vec<_> = expected(1..4).into_iter().chain(expected(100..102)).collect();
    assert_eq!(read(&wal, 1), (expected, vec![]));
}

#[test]
fn an_empty_log_is_opened_again_and_again_without_losing_its_name_for_an_instant() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(dir.path());
    append(&wal, 1, 3);
    wal.close();
    let wal = open(dir.path());
    wal.reclaim(4).unwrap();
    wal.close();
    let only = segments(dir.path());
    assert_eq!(only, [segment::path(dir.path(), 4)]);
    let made = std::fs::metadata(&only[0]).unwrap();
    let again = open(dir.path());
    let still = std::fs::metadata(&only[0]).unwrap();
    use std::os::unix::fs::MetadataExt;
    assert_eq!((made.ino(), segments(dir.path())), (still.ino(), only));
    assert_eq!(again.log_uuid(), wal.log_uuid());
    append(&again, 4, 2);
    assert_eq!(read(&again, 1), (expected(4..6), vec![]));
}
