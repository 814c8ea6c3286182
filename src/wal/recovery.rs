//! What a log does before its first append: find its segments, cut the torn tail, start a fresh
//! segment above everything that was ever durable.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::Path;

use super::segment::{self, HEADER_BYTES};
use super::{Extent, Recovered, WalError};
use crate::event::Seq;

pub(super) struct Log {
    pub log_uuid: u128,
    pub segments: VecDeque<Extent>,
    /// The fresh segment, last of `segments`.
    pub active: File,
    pub recovered: Recovered,
}

pub(super) fn open(dir: &Path, floor: Seq) -> Result<Log, WalError> {
    let fail = |what| move |source| WalError { path: dir.to_owned(), what, source };
    fs::create_dir_all(dir).map_err(fail("create directory"))?;
    let positions = list(dir).map_err(fail("list segments"))?;
    let mut recovered = Recovered::default();
    let mut log_uuid = None;
    let mut segments = VecDeque::new();
    let mut empty = None;
    for (index, &first_seq) in positions.iter().enumerate() {
        let path = segment::path(dir, first_seq);
        let fail = |what| {
            let path = path.clone();
            move |source| WalError { path, what, source }
        };
        let file = OpenOptions::new().read(true).write(true).open(&path).map_err(fail("open"))?;
        let next = positions.get(index + 1).copied();
        let header = segment::read_header(&file).map_err(fail("read header"))?;
        let header = header.filter(|&(_, seq)| seq == first_seq).map(|(uuid, _)| uuid);
        log_uuid = log_uuid.or(header);
        // A damaged header has nothing that the name and the other segments don't have.
        let length = file.metadata().map_err(fail("stat"))?.len();
        let Some(uuid) = log_uuid.filter(|_| header.is_some() || length > HEADER_BYTES) else {
            // Torn while it was made: nothing in it was acknowledged.
            set_aside(dir, &path, &file, 0).map_err(fail("set aside"))?;
            recovered.torn_bytes += length;
            fs::remove_file(&path).map_err(fail("remove"))?;
            continue;
        };
        let extent = match next {
            Some(end_seq) => Extent { first_seq, end_seq, bytes: length },
            None => cut_tail(dir, &path, &file, (uuid, first_seq), &mut recovered)
                .map_err(fail("scan"))?,
        };
        recovered.records += extent.end_seq - extent.first_seq;
        if extent.end_seq == extent.first_seq {
            empty = Some((first_seq, file));
        } else {
            segments.push_back(extent);
        }
    }
    let log_uuid = log_uuid.unwrap_or_else(|| uuid::Uuid::now_v7().as_u128());
    let end = positions.last().copied().unwrap_or(1);
    let end = end.max(segments.back().map_or(1, |s: &Extent| s.end_seq));
    let first_seq = end.max(floor);
    recovered.missing = (first_seq > end).then_some((end, first_seq));
    let active = match empty {
        // It has no frame, so it is as good as a fresh one, and there is no instant at which
        // the log has no file that says who it is and how far it is used.
        Some((seq, file)) if seq == first_seq => {
            segment::write_header(&file, log_uuid, seq).map_err(fail("write header"))?;
            file
        }
        older => {
            let active =
                segment::create(dir, log_uuid, first_seq).map_err(fail("create segment"))?;
            if let Some((seq, _)) = older {
                fs::remove_file(segment::path(dir, seq)).map_err(fail("remove"))?;
            }
            active
        }
    };
    segments.push_back(Extent { first_seq, end_seq: first_seq, bytes: HEADER_BYTES });
    Ok(Log { log_uuid, segments, active, recovered })
}

fn list(dir: &Path) -> io::Result<Vec<Seq>> {
    let mut positions = Vec::new();
    for entry in fs::read_dir(dir)? {
        positions.extend(entry?.file_name().to_str().and_then(segment::position));
    }
    positions.sort_unstable();
    Ok(positions)
}

/// Cuts everything behind the last whole frame, so that a later append can't make sense of it.
fn cut_tail(
    dir: &Path,
    path: &Path,
    file: &File,
    (log_uuid, first_seq): (u128, Seq),
    recovered: &mut Recovered,
) -> io::Result<Extent> {
    // What the page cache holds may not be on the disk yet (the last process was killed between
    // write and sync); nothing is handed out before it is.
    file.sync_data()?;
    let end = segment::scan(file, log_uuid, first_seq)?;
    let length = file.metadata()?.len();
    if length > end.offset {
        set_aside(dir, path, file, end.offset)?;
        recovered.torn_bytes += length - end.offset;
        file.set_len(end.offset)?;
        file.sync_all()?;
    }
    Ok(Extent { first_seq, end_seq: end.seq, bytes: end.offset })
}

/// Copies a segment's bytes from `offset` on into `quarantine/`, for the operator to look at.
fn set_aside(dir: &Path, path: &Path, file: &File, offset: u64) -> io::Result<()> {
    use std::io::{Read, Seek, SeekFrom};
    let quarantine = dir.join("quarantine");
    fs::create_dir_all(&quarantine)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let target = quarantine.join(format!("{name}.{offset}.{}", crate::time::now()));
    let mut source = file;
    source.seek(SeekFrom::Start(offset))?;
    let mut copy = File::create(target)?;
    io::copy(&mut source.take(u64::MAX), &mut copy)?;
    copy.sync_all()
}
