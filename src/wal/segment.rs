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
//! | 4 | CRC32C of the log's uuid and the 16 bytes that follow |
//! | 4 | records |
//! | 4 | bytes of those |
//! | 8 | position of the first |
//! | – | records (see `record`), each with its own CRC |
//!
//! The uuid is in a frame's CRC because payloads are their senders' words: after damage the next
//! frame is looked for among any bytes, and nobody outside may be able to plant one.
//!
//! A frame is written only after the one before it was synced. So a whole frame behind damaged
//! bytes proves that those had been acknowledged: they are damage, to be reported, and not a torn
//! tail, to be cut.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
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
    pub(super) fn encode(self, log_uuid: u128) -> [u8; FRAME_HEADER_BYTES] {
        let mut header = [0; FRAME_HEADER_BYTES];
        header[0..4].copy_from_slice(FRAME_MAGIC);
        header[8..12].copy_from_slice(&self.count.to_le_bytes());
        header[12..16].copy_from_slice(&self.body_bytes.to_le_bytes());
        header[16..24].copy_from_slice(&self.first_seq.to_le_bytes());
        let crc = frame_crc(log_uuid, &header[8..]);
        header[4..8].copy_from_slice(&crc.to_le_bytes());
        header
    }

    /// The frame that starts here, if one does.
    pub(super) fn decode(header: &[u8], log_uuid: u128) -> Option<Self> {
        let header = header.get(..FRAME_HEADER_BYTES)?;
        let crc = u32::from_le_bytes(header[4..8].try_into().ok()?);
        if &header[0..4] != FRAME_MAGIC || frame_crc(log_uuid, &header[8..]) != crc {
            return None;
        }
        let frame = Self {
            count: u32::from_le_bytes(header[8..12].try_into().ok()?),
            body_bytes: u32::from_le_bytes(header[12..16].try_into().ok()?),
            first_seq: Seq::from_le_bytes(header[16..24].try_into().ok()?),
        };
        let counts = frame.count > 0 && frame.first_seq <= Seq::MAX / 2;
        (frame.body_bytes as usize <= FRAME_BYTES_MAX && counts).then_some(frame)
    }

    pub(super) fn bytes(self) -> u64 {
        FRAME_HEADER_BYTES as u64 + u64::from(self.body_bytes)
    }

    pub(super) fn end_seq(self) -> Seq {
        self.first_seq + Seq::from(self.count)
    }
}

fn frame_crc(log_uuid: u128, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&log_uuid.to_le_bytes()), bytes)
}

pub(super) fn path(dir: &Path, first_seq: Seq) -> PathBuf {
    dir.join(format!("seg-{first_seq:020}.wal"))
}

/// The position in a segment's name; `None` for any other file.
pub(super) fn position(name: &str) -> Option<Seq> {
    let seq: Seq = name.strip_prefix("seg-")?.strip_suffix(".wal")?.parse().ok()?;
    // A log that counts to there by one a nanosecond is 292 years old.
    (seq <= Seq::MAX / 2).then_some(seq)
}

/// Creates a segment and makes its header and its name durable; leaves nothing where it fails.
pub(super) fn create(dir: &Path, log_uuid: u128, first_seq: Seq) -> io::Result<File> {
    let path = path(dir, first_seq);
    let file =
        OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    let made = write_header(&file, log_uuid, first_seq).and_then(|()| sync_dir(dir));
    if let Err(error) = made {
        // Its name would be taken when there is space again.
        let _ = std::fs::remove_file(&path);
        return Err(error);
    }
    Ok(file)
}

pub(super) fn write_header(file: &File, log_uuid: u128, first_seq: Seq) -> io::Result<()> {
    let mut header = [0; HEADER_BYTES as usize];
    header[0..8].copy_from_slice(MAGIC);
    header[8..24].copy_from_slice(&log_uuid.to_le_bytes());
    header[24..32].copy_from_slice(&first_seq.to_le_bytes());
    let crc = crc32c::crc32c(&header[..32]);
    header[32..36].copy_from_slice(&crc.to_le_bytes());
    file.write_all_at(&header, 0)?;
    file.sync_all()
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

/// Reads a segment to its last whole frame. A frame counts only if all its records do; damage
/// with whole frames behind it is passed over here, and reported when it is read.
pub(super) fn scan(file: &File, log_uuid: u128, first_seq: Seq) -> io::Result<End> {
    let length = file.metadata()?.len();
    let mut end = End { offset: HEADER_BYTES, seq: first_seq };
    let mut at = end.offset;
    let mut body = Vec::new();
    loop {
        let found = match frame_at(file, log_uuid, at..length)? {
            Some(frame) if frame.first_seq >= end.seq => Some((at, frame)),
            _ => find_frame(file, log_uuid, at + 1..length, end.seq)?,
        };
        let Some((offset, frame)) = found else { return Ok(end) };
        body.resize(frame.body_bytes as usize, 0);
        file.read_exact_at(&mut body, offset + FRAME_HEADER_BYTES as u64)?;
        at = offset + 1;
        if is_whole(&body, frame.count) {
            end = End { offset: offset + frame.bytes(), seq: frame.end_seq() };
            at = end.offset;
        }
    }
}

fn frame_at(file: &File, log_uuid: u128, range: Range<u64>) -> io::Result<Option<Frame>> {
    let mut header = [0; FRAME_HEADER_BYTES];
    if range.start + FRAME_HEADER_BYTES as u64 > range.end {
        return Ok(None);
    }
    file.read_exact_at(&mut header, range.start)?;
    let frame = Frame::decode(&header, log_uuid);
    Ok(frame.filter(|frame| range.start + frame.bytes() <= range.end))
}

/// Bytes looked at in one piece.
const WINDOW: u64 = 1 << 20;

/// The first frame within that range of the file whose records stand at `above` or later.
pub(super) fn find_frame(
    file: &File,
    log_uuid: u128,
    range: Range<u64>,
    above: Seq,
) -> io::Result<Option<(u64, Frame)>> {
    let mut window = Vec::new();
    let mut at = range.start;
    while at + FRAME_HEADER_BYTES as u64 <= range.end {
        window.resize((range.end - at).min(WINDOW) as usize, 0);
        file.read_exact_at(&mut window, at)?;
        for found in memchr::memmem::find_iter(&window, FRAME_MAGIC) {
            let Some(frame) = Frame::decode(&window[found..], log_uuid) else { continue };
            let offset = at + found as u64;
            if frame.first_seq >= above && offset + frame.bytes() <= range.end {
                return Ok(Some((offset, frame)));
            }
        }
        // A header may lie across the window's end.
        let step = window.len() as u64 - (FRAME_HEADER_BYTES as u64 - 1);
        at += step;
    }
    Ok(None)
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
