//! One segment file: made, started, read back.

use std::io;
use std::path::{Path, PathBuf};

use super::disk::{ALIGNMENT, Disk, DiskFile, How};
use super::format::{COPY_B, Decoded, FRAMES, HEADER_BYTES, SegmentHeader};

/// Zeros written in one piece.
const ZEROS: usize = 1 << 20;

/// Why something is not durable, and whether the log may go on.
#[derive(Debug)]
pub(super) enum Unwritten {
    /// It did not happen; the next attempt starts from the same place.
    Undone(io::Error),
    /// What is on the disk is unknown.
    Unknown(io::Error),
}

/// A full disk is undone; of a failing one nothing is known any more.
pub(super) fn unwritten(error: io::Error) -> Unwritten {
    if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) {
        Unwritten::Unknown(error)
    } else {
        Unwritten::Undone(error)
    }
}

pub(super) fn name(slot: u32) -> String {
    format!("seg-{slot:05}.wal")
}

pub(super) fn path(dir: &Path, slot: u32) -> PathBuf {
    dir.join(name(slot))
}

/// Tells that a sync of that segment has failed: it is read, and never used again.
pub(super) fn bad_path(dir: &Path, slot: u32) -> PathBuf {
    dir.join(format!("seg-{slot:05}.bad"))
}

/// A segment that is being made has a name that nobody reads.
fn new_path(dir: &Path, slot: u32) -> PathBuf {
    dir.join(format!("seg-{slot:05}.new"))
}

/// What a file of a log's directory is, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Named {
    Segment(u32),
    Bad(u32),
    New,
}

/// `None` for a file that is none of the log's.
pub(super) fn named(name: &str) -> Option<Named> {
    let (slot, ending) = name.strip_prefix("seg-")?.split_once('.')?;
    let digits = slot.len() >= 5 && slot.bytes().all(|b| b.is_ascii_digit());
    let slot = slot.parse().ok().filter(|_| digits)?;
    match ending {
        "wal" => Some(Named::Segment(slot)),
        "bad" => Some(Named::Bad(slot)),
        "new" => Some(Named::New),
        _ => None,
    }
}

/// Makes a segment of zeros, whole and durable before it has its name: what is written into it
/// later needs no space and changes no metadata.
pub(super) fn prefill(
    disk: &dyn Disk,
    dir: &Path,
    slot: u32,
    size: u64,
) -> Result<Box<dyn DiskFile>, Unwritten> {
    let new = new_path(dir, slot);
    match disk.remove(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(unwritten(error)),
        _ => {}
    }
    let file = disk.open(&new, How::Create).map_err(unwritten)?;
    let filled = fill(&*file, size).map_err(unwritten);
    if let Err(error) = filled {
        // The space it took is what others wait for.
        let _ = disk.remove(&new);
        return Err(error);
    }
    file.sync().map_err(Unwritten::Unknown)?;
    disk.rename(&new, &path(dir, slot)).map_err(unwritten)?;
    disk.sync_dir(dir).map_err(Unwritten::Unknown)?;
    Ok(file)
}

fn fill(file: &dyn DiskFile, size: u64) -> io::Result<()> {
    let memory = vec![0; ZEROS.min(usize::try_from(size).unwrap_or(ZEROS)) + ALIGNMENT];
    let zeros = &memory[memory.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT)..];
    let zeros = &zeros[..zeros.len() / ALIGNMENT * ALIGNMENT];
    let mut at = 0;
    while at < size {
        let piece = (size - at).min(zeros.len() as u64) as usize;
        file.write_all_at(&zeros[..piece], at)?;
        at += piece as u64;
    }
    Ok(())
}

/// Starts a segment with that header. Where it ends half-way, one of the two copies is whole.
pub(super) fn start(file: &dyn DiskFile, header: &SegmentHeader) -> Result<(), Unwritten> {
    let bytes = header.encode();
    for at in [COPY_B, 0] {
        file.write_all_at(&bytes, at).map_err(unwritten)?;
        file.sync().map_err(Unwritten::Unknown)?;
    }
    Ok(())
}

/// What a segment's first blocks say.
#[derive(Debug)]
pub(super) enum Head {
    /// The newer of the copies that are whole, and where the other has to be written again.
    Started { header: SegmentHeader, repair: Option<u64> },
    /// No copy is whole; in what follows them there is nothing but zeros.
    Unused,
    /// No copy is whole, but there was something.
    Lost,
    /// A format that this version must not touch.
    Newer(u16),
}

pub(super) fn read_head(file: &dyn DiskFile) -> io::Result<Head> {
    let blocks_bytes = FRAMES as usize;
    let mut blocks = vec![0; blocks_bytes];
    let have = file.read_full_at(&mut blocks, 0)?;
    blocks.truncate(have);
    let copy = |at: usize| {
        let bytes = blocks.get(at..(at + HEADER_BYTES).min(blocks.len())).unwrap_or_default();
        SegmentHeader::decode(bytes)
    };
    let head = match (copy(0), copy(COPY_B as usize)) {
        (Decoded::Header(a), Decoded::Header(b)) if a == b => {
            Head::Started { header: a, repair: None }
        }
        (Decoded::Header(a), Decoded::Header(b)) if a.generation > b.generation => {
            Head::Started { header: a, repair: Some(COPY_B) }
        }
        (_, Decoded::Header(b)) => Head::Started { header: b, repair: Some(0) },
        (Decoded::Header(a), _) => Head::Started { header: a, repair: Some(COPY_B) },
        (Decoded::Newer(version), _) | (_, Decoded::Newer(version)) => Head::Newer(version),
        // A file has its name with all of its bytes, never with less.
        (Decoded::Damaged, Decoded::Damaged) if have == blocks_bytes && is_zero(file, FRAMES)? => {
            Head::Unused
        }
        (Decoded::Damaged, Decoded::Damaged) => Head::Lost,
    };
    Ok(head)
}

/// Whether there is nothing but zeros from that offset on.
fn is_zero(file: &dyn DiskFile, from: u64) -> io::Result<bool> {
    let mut piece = vec![0; ZEROS];
    let mut at = from;
    loop {
        let have = file.read_full_at(&mut piece, at)?;
        if have == 0 {
            return Ok(true);
        }
        if piece[..have].iter().any(|&byte| byte != 0) {
            return Ok(false);
        }
        at += have as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::super::disk::OsDisk;
    use super::*;

    fn header(generation: u64) -> SegmentHeader {
        SegmentHeader { generation, slot: 1, size: 65_536, ..SegmentHeader::default() }
    }

    #[test]
    fn only_a_logs_own_names_are_taken_for_its_files() {
        assert_eq!(named("seg-00012.wal"), Some(Named::Segment(12)));
        assert_eq!(named("seg-123456.bad"), Some(Named::Bad(123_456)));
        assert_eq!(named("seg-00001.new"), Some(Named::New));
        for other in
            ["seg-1.wal", "seg-00001.wal.json", "seg-+0001.wal", "x", "seg-99999999999.wal"]
        {
            assert_eq!(named(other), None, "{other}");
        }
    }

    #[test]
    fn the_newer_whole_copy_counts_and_the_other_is_named_for_repair() {
        let dir = tempfile::tempdir().unwrap();
        let file = prefill(&OsDisk, dir.path(), 1, 65_536).unwrap();
        assert_eq!(file.length().unwrap(), 65_536);
        assert!(matches!(read_head(&*file).unwrap(), Head::Unused));
        start(&*file, &header(1)).unwrap();
        let head = |file: &dyn DiskFile| match read_head(file).unwrap() {
            Head::Started { header, repair } => (header.generation, repair),
            other => panic!("{other:?}"),
        };
        assert_eq!(head(&*file), (1, None));
        file.write_all_at(&header(2).encode(), COPY_B).unwrap();
        assert_eq!(head(&*file), (2, Some(0)));
        file.write_all_at(&[1; 100], COPY_B).unwrap();
        assert_eq!(head(&*file), (1, Some(COPY_B)));
        file.write_all_at(&[1; 100], 0).unwrap();
        assert!(matches!(read_head(&*file).unwrap(), Head::Unused));
        file.write_all_at(&[1], FRAMES + 77).unwrap();
        assert!(matches!(read_head(&*file).unwrap(), Head::Lost));
    }
}
