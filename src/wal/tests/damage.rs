//! Segments that are not what was written: every loss is told, and none hides what is whole.

use super::*;

#[test]
fn damaged_records_are_lost_alone_and_what_is_whole_beside_them_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::open(dir.path());
    for first in [1, 11, 21, 31] {
        log.append(first, 10);
    }
    log.close();
    let path = &segments(dir.path())[0];
    // The payload of the third record of the second frame.
    flip(path, FRAMES + BLOCK + 64 + 2 * 32 + 24);
    let log = Log::open(dir.path());
    let (found, lost) = log.read(1);
    assert_eq!(lost, [(13, 14)]);
    let whole: Vec<_> = expected(1..41).into_iter().filter(|(seq, _)| *seq != 13).collect();
    assert_eq!(found, whole);
    assert_eq!(std::fs::read_dir(dir.path().join("quarantine")).unwrap().count(), 1);
}

#[test]
fn a_damaged_length_gives_no_record_the_position_of_another() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::open(dir.path());
    log.append(1, 10);
    log.append(11, 1);
    log.close();
    let path = &segments(dir.path())[0];
    let whole = std::fs::read(path).unwrap();
    for bit in 0..16 {
        let mut file = whole.clone();
        // The length of the third payload: with one bit or the other it takes whole records along.
        file[FRAMES as usize + 64 + 2 * 32 + bit / 8] ^= 1 << (bit % 8);
        std::fs::write(path, file).unwrap();
        let (found, lost) = Log::open(dir.path()).read(1);
        let all = expected(1..12);
        assert!(found.iter().all(|record| all.contains(record)), "bit {bit}: {found:?}");
        let gone: u64 = lost.iter().map(|(from, to)| to - from).sum();
        assert_eq!(found.len() as u64 + gone, 11, "bit {bit}");
    }
}

#[test]
fn a_frame_whose_header_is_damaged_is_read_by_its_records() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::open(dir.path());
    log.append(1, 10);
    log.append(11, 10);
    log.append(21, 10);
    log.close();
    flip(&segments(dir.path())[0], FRAMES + BLOCK + 20);
    assert_eq!(Log::open(dir.path()).read(1), (expected(1..31), vec![]));
}

#[test]
fn a_damaged_length_that_swallows_the_next_record_gives_no_record_another_position() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::open(dir.path());
    log.append(1, 3);
    log.append(4, 1);
    log.close();
    let path = &segments(dir.path())[0];
    let mut file = std::fs::read(path).unwrap();
    // A record takes 32 bytes: with 32 more the first ends where the second does.
    file[(FRAMES + 64) as usize] ^= 32;
    std::fs::write(path, file).unwrap();
    assert_eq!(Log::open(dir.path()).read(1), (expected(4..5), vec![(1, 4)]));
}

#[test]
fn every_flipped_bit_is_harmless_or_reported() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::open(dir.path());
    for first in [1, 4, 7, 10, 13, 16, 19, 22] {
        log.append(first, 3);
        log.mark();
    }
    log.close();
    let paths = segments(dir.path());
    assert!(paths.len() > 2);
    for path in &paths {
        let whole = std::fs::read(path).unwrap();
        for block in 0..whole.len() as u64 / BLOCK {
            for at in [0, 3, 9, 17, 25, 41, 58, 63, 66, 72, 80, 90, 100, 130, 150, 511, 4000] {
                flip(path, block * BLOCK + at);
                let log = Log::open(dir.path());
                let (found, lost) = log.read(1);
                let is_lost = |seq: Seq| lost.iter().any(|(from, to)| (*from..*to).contains(&seq));
                for (seq, payload) in expected(1..25) {
                    let is_there = found.contains(&(seq, payload));
                    assert!(is_there != is_lost(seq), "{path:?} {block} {at}: {seq} {lost:?}");
                }
                assert_eq!(
                    found.len() + lost.iter().map(|(a, b)| (b - a) as usize).sum::<usize>(),
                    24
                );
                std::fs::write(path, &whole).unwrap();
            }
        }
    }
}

#[test]
fn a_last_frame_that_rots_in_a_segment_that_was_used_before_leaves_no_clean_end() {
    let dir = tempfile::tempdir().unwrap();
    for first in 1..=3 {
        let mut log = Log::open(dir.path());
        log.wal.reclaim(first).unwrap();
        log.append(first, 1);
    }
    // The third took the first one's segment, and was killed before the mark.
    let path = &segments(dir.path())[0];
    let whole = std::fs::read(path).unwrap();
    for at in [0, 3, 5, 7, 8, 9, 15, 16, 40, 63, 64, 70] {
        flip(path, FRAMES + at);
        let log = Log::open(dir.path());
        assert!(log.recovered.suspect_tail.is_some(), "byte {at}");
        std::fs::write(path, &whole).unwrap();
    }
}

#[test]
fn damage_at_the_end_of_a_segment_that_others_follow_is_no_torn_tail() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::open(dir.path());
    for first in 1..=9 {
        log.append(first, 1);
    }
    // The first is a spare now, and the header that said where it ended is gone.
    log.wal.reclaim(9).unwrap();
    log.close();
    flip(&segments(dir.path())[0], FRAMES + 3 * BLOCK);
    let log = Log::open(dir.path());
    assert_eq!((&log.recovered.suspect_tail, log.wal.head()), (&None, 10));
    assert_eq!(log.read(9), (expected(9..10), vec![]));
}

#[test]
fn a_segment_that_is_gone_is_missed_with_its_exact_range() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::open(dir.path());
    for first in 1..=12 {
        log.append(first, 1);
    }
    log.close();
    let paths = segments(dir.path());
    std::fs::remove_file(&paths[1]).unwrap();
    let (found, lost) = Log::open(dir.path()).read(1);
    assert_eq!(lost, [(5, 9)]);
    assert_eq!(found, [expected(1..5), expected(9..13)].concat());
}

#[test]
fn a_segment_that_is_gone_is_missed_by_the_next_ones_header_alone() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::open(dir.path());
    for first in 1..=5 {
        log.append(first, 1);
    }
    let paths = segments(dir.path());
    let mut started = std::fs::read(&paths[1]).unwrap();
    started[FRAMES as usize..].fill(0);
    std::fs::write(&paths[1], started).unwrap();
    std::fs::remove_file(&paths[0]).unwrap();
    let mut log = Log::open(dir.path());
    assert_eq!(log.read(1), (vec![], vec![(1, 5)]));
    log.append(5, 1);
    assert_eq!(log.read(1), (expected(5..6), vec![(1, 5)]));
}

#[test]
fn a_segment_without_a_header_goes_to_quarantine_and_its_records_are_missed() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::open(dir.path());
    for first in 1..=12 {
        log.append(first, 1);
    }
    log.close();
    let second = segments(dir.path())[1].clone();
    flip(&second, 77);
    flip(&second, COPY_B + 77);
    let log = Log::open(dir.path());
    assert_eq!(log.recovered.lost_segments, ["seg-00001.wal"]);
    assert_eq!(log.read(1).1, [(5, 9)]);
    assert!(!second.exists());
}

#[test]
fn a_last_segment_that_was_cut_short_is_told_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::open(dir.path());
    log.append(1, 3);
    log.append(4, 3);
    log.close();
    let path = segments(dir.path())[0].clone();
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(FRAMES + BLOCK).unwrap();
    let mut log = Log::open(dir.path());
    assert_eq!(log.recovered.short_segment.as_deref(), Some("seg-00000.wal"));
    let next = log.append(4, 1).first_seq;
    assert!(next > 1 << 32, "positions that may be known are left out");
    assert_eq!(log.read(1).1, vec![]);
    let log = Log::open(dir.path());
    assert_eq!((log.recovered.short_segment.clone(), log.wal.head()), (None, next + 1));
}

#[test]
fn a_damaged_header_is_mended_from_its_copy() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::open(dir.path());
    log.append(1, 3);
    log.close();
    let path = segments(dir.path())[0].clone();
    let whole = std::fs::read(&path).unwrap();
    for copy in [0, COPY_B] {
        flip(&path, copy + 60);
        assert_eq!(Log::open(dir.path()).read(1), (expected(1..4), vec![]));
        assert_eq!(std::fs::read(&path).unwrap(), whole);
    }
}
