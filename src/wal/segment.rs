//! One file of the log, and the frames in it.
//!
//! Little-endian. A file is named `seg-{first position, 20 digits}.wal` and starts with a header:
//!
//! | size | field |
//! | --- | --- |
//! | 8 | magic `EKWALSG0` |
//! | 16 | the log's uuid |
//! | 8 | position of its first record |
//! | 4 | CRC32C of the above |
//!
//! A frame is what one sync made durable:
//!
//! | size | field |
//! | --- | --- |
//! | 4 | magic `FRM0` |
//! | 4 | CRC32C of the 16 bytes that follow |
//! | 4 | records |
//! | 4 | bytes of those |
//! | 8 | position of the first |
//! | – | records (see `record`), each with its own CRC |

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::record;
use crate::event::Seq;

const MAGIC: &[u8; 8] = b"EKWALSG0";
const FRAME_MAGIC: &[u8; 4] = b"FRM0";

/// Bytes before the first frame.
pub(super) const HEADER_BYTES: u64 = 36;
/// Bytes before a frame's first record.
pub(super) const FRAME_HEADER_BYTES: usize = 24;
/// A frame that claims more is not one. A frame holds at least one whole request, and at most
/// one request above [`FRAME_BYTES_TARGET`].
pub(super) const FRAME_BYTES_MAX: usize = 64 << 20;
/// The writer adds no further request to a frame that has as much.
pub(super) const FRAME_BYTES_TARGET: usize = 4 << 20;

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub first_seq: Seq,
    pub count: u32,
    pub body_bytes: u32,
}

impl Frame {
    pub(super) fn encode(self) -> [u8; FRAME_HEADER_BYTES] {
        let mut header = [0; FRAME_HEADER_BYTES];
        header[0..4].copy_from_slice(FRAME_MAGIC);
        header[8..12].copy_from_slice(&self.count.to_le_bytes());
        header[12..16].copy_from_slice(&self.body_bytes.to_le_bytes());
        header[16..24].copy_from_slice(&self.first_seq.to_le_bytes());
        let crc = crc32c::crc32c(&header[8..]);
        header[4..8].copy_from_slice(&crc.to_le_bytes());
        header
    }

    /// The frame that starts here, if one does.
    pub(super) fn decode(header: &[u8]) -> Option<Self> {
        let header = header.get(..FRAME_HEADER_BYTES)?;
        let crc = u32::from_le_bytes(header[4..8].try_into().ok()?);
        if &header[0..4] != FRAME_MAGIC || crc32c::crc32c(&header[8..]) != crc {
            return None;
        }
        let frame = Self {
            count: u32::from_le_bytes(header[8..12].try_into().ok()?),
            body_bytes: u32::from_le_bytes(header[12..16].try_into().ok()?),
            first_seq: Seq::from_le_bytes(header[16..24].try_into().ok()?),
        };
        (frame.body_bytes as usize <= FRAME_BYTES_MAX && frame.count > 0).then_some(frame)
    }

    pub(super) fn end_seq(self) -> Seq {
        self.first_seq + Seq::from(self.count)
    }
}

pub(super) fn path(dir: &Path, first_seq: Seq) -> PathBuf {
    dir.join(format!("seg-{first_seq:020}.wal"))
}

/// The position in a segment's name; `None` for any other file.
pub(super) fn position(name: &str) -> Option<Seq> {
    name.strip_prefix("seg-")?.strip_suffix(".wal")?.parse().ok()
}

/// Creates a segment and makes its header and its name durable.
pub(super) fn create(dir: &Path, log_uuid: u128, first_seq: Seq) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path(dir, first_seq))?;
    let mut header = [0; HEADER_BYTES as usize];
    header[0..8].copy_from_slice(MAGIC);
    header[8..24].copy_from_slice(&log_uuid.to_le_bytes());
    header[24..32].copy_from_slice(&first_seq.to_le_bytes());
    let crc = crc32c::crc32c(&header[..32]);
    header[32..36].copy_from_slice(&crc.to_le_bytes());
    file.write_all_at(&header, 0)?;
    file.sync_all()?;
    sync_dir(dir)?;
    Ok(file)
}

pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// The log's uuid and the first position, from a segment's header; `None` where it is damaged.
pub(super) fn read_header(file: &File) -> io::Result<Option<(u128, Seq)>> {
    let mut header = [0; HEADER_BYTES as usize];
    match file.read_exact_at(&mut header, 0) {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let crc = u32::from_le_bytes([header[32], header[33], header[34], header[35]]);
    if &header[0..8] != MAGIC || crc32c::crc32c(&header[..32]) != crc {
        return Ok(None);
    }
    let mut uuid = [0; 16];
    uuid.copy_from_slice(&header[8..24]);
    let mut seq = [0; 8];
    seq.copy_from_slice(&header[24..32]);
    Ok(Some((u128::from_le_bytes(uuid), Seq::from_le_bytes(seq))))
}

/// Where a segment's whole frames end: the offset and the position that follows the last.
pub(super) struct End {
    pub offset: u64,
    pub seq: Seq,
}

/// Reads a segment to its last whole frame. A frame counts only if all its records do.
pub(super) fn scan(file: &File, first_seq: Seq) -> io::Result<End> {
    let length = file.metadata()?.len();
    let mut end = End { offset: HEADER_BYTES, seq: first_seq };
    let mut header = [0; FRAME_HEADER_BYTES];
    let mut body = Vec::new();
    while end.offset + FRAME_HEADER_BYTES as u64 <= length {
        file.read_exact_at(&mut header, end.offset)?;
        let Some(frame) = Frame::decode(&header) else {
            break;
        };
        let next = end.offset + FRAME_HEADER_BYTES as u64 + u64::from(frame.body_bytes);
        if frame.first_seq != end.seq || next > length {
            break;
        }
        body.resize(frame.body_bytes as usize, 0);
        file.read_exact_at(&mut body, end.offset + FRAME_HEADER_BYTES as u64)?;
        if !is_whole(&body, frame.count) {
            break;
        }
        end = End { offset: next, seq: frame.end_seq() };
    }
    Ok(end)
}

fn is_whole(mut body: &[u8], count: u32) -> bool {
    for _ in 0..count {
        let Some((_, _, rest)) = record::take(body) else {
            return false;
        };
        body = rest;
    }
    body.is_empty()
}
