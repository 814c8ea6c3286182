//! A look at a log's files, whether or not a service uses them: changes nothing.
//!
//! While a service writes to the log, its last segment may grow under the look.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::disk::{Disk, How};
use super::format::{FrameHeader, FrameType, SegmentHeader};
use super::scan::{self, Piece, Walk};
use super::segment::{self, Head, Named};
use super::{format::FRAME_HEADER, reader::Chunk};
use crate::event::{Micros, Receipt, Seq};

/// How often a log that seems damaged is looked at.
const LOOKS: u32 = 4;
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// One segment file.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SegmentFacts {
    /// Its name.
    pub file: String,
    /// `used`, `spare`, `lost` (no header can be read) or `newer` (another format).
    pub state: &'static str,
    /// Its bytes on disk.
    pub bytes: u64,
    /// Strictly increasing per log.
    pub generation: u64,
    /// When it was started.
    pub started_at: Micros,
    /// The ledger's transaction counter then.
    pub ledger_tx: u64,
    /// The position of its first record.
    pub first_seq: Seq,
    /// The position behind its last record.
    pub end_seq: Seq,
    /// The offset behind its last frame.
    pub end_offset: u64,
    /// Frames of records.
    pub frames: u64,
    /// Whether the log was closed in order behind its last frame.
    pub sealed: bool,
    /// Positions in front of it that were never used.
    pub jump: u64,
    /// Records that stood between those of the segment before and its own, and are not there.
    pub missing: u64,
    /// Bytes that its file is shorter than it was made.
    pub cut_bytes: u64,
    /// One of the two copies of its header is damaged.
    pub header_damaged: bool,
    /// Damaged bytes.
    pub damage: Vec<DamagedBytes>,
    /// Bytes behind its end that look like the beginning of a frame.
    pub torn_bytes: u64,
}

/// Bytes of a segment that are not what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct DamagedBytes {
    /// Where they are.
    pub offset: u64,
    /// How many.
    pub bytes: u64,
    /// The position of the first record that stood there.
    pub from: Seq,
    /// The position behind the last.
    pub to: Seq,
    /// How many of those records are lost: the others are whole.
    pub lost: u64,
}

impl SegmentFacts {
    /// Whether anything in it is not as it was written.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        let is_short = self.missing > 0 || self.cut_bytes > 0;
        self.state == "lost" || self.header_damaged || !self.damage.is_empty() || is_short
    }
}

/// Every segment of the log in that directory, in the order of their use; spare ones last.
///
/// # Errors
/// What the system said.
pub fn inspect(disk: &dyn Disk, dir: &Path) -> io::Result<Vec<SegmentFacts>> {
    let mut segments = look(disk, dir)?;
    // What a service changes under the look is not found again; damage is.
    for _ in 1..LOOKS {
        if !segments.iter().any(SegmentFacts::is_damaged) {
            break;
        }
        std::thread::sleep(LOOK_AGAIN);
        segments = look(disk, dir)?;
    }
    Ok(segments)
}

/// A service may have removed a file since it was listed.
fn unless_gone<T>(tried: io::Result<T>) -> io::Result<Option<T>> {
    match tried {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        tried => tried.map(Some),
    }
}

fn look(disk: &dyn Disk, dir: &Path) -> io::Result<Vec<SegmentFacts>> {
    let mut names = disk.list(dir)?;
    names.retain(|name| matches!(segment::named(name), Some(Named::Segment(_))));
    // The headers before the content, which may grow meanwhile: what they say of each other's
    // ends is then there.
    let mut ends = BTreeMap::new();
    for name in &names {
        let Some(file) = unless_gone(disk.open(&dir.join(name), How::Direct))? else { continue };
        if let Head::Started { header, .. } = segment::read_head(&*file)? {
            ends.insert(header.generation, header.previous.end_seq);
        }
    }
    let mut segments = Vec::new();
    for name in names {
        let Some((bytes, head)) = unless_gone(load(disk, &dir.join(&name)))? else { continue };
        segments.push(facts(name, &bytes, head));
    }
    segments.sort_by_key(|facts| (facts.generation == 0, facts.generation));
    // What was before the oldest was given up in order.
    let mut end: Option<Seq> = None;
    for segment in &mut segments {
        let Some(&before) = ends.get(&segment.generation) else { continue };
        segment.jump = segment.first_seq.saturating_sub(before);
        segment.missing = end.map_or(0, |end| before.saturating_sub(end));
        end = Some(segment.end_seq.max(before));
    }
    Ok(segments)
}

/// Calls that with each whole record of the log from a position on, in order, until it returns
/// false: its position, the file and offset of its frame, its receipt and its payload.
///
/// # Errors
/// What the system said.
pub fn visit(
    disk: &dyn Disk,
    dir: &Path,
    from: Seq,
    mut call: impl FnMut(Seq, (&str, u64), Receipt<'_>, &[u8]) -> bool,
) -> io::Result<()> {
    for facts in inspect(disk, dir)?.into_iter().filter(|facts| facts.end_seq > from) {
        let (bytes, head) = load(disk, &dir.join(&facts.file))?;
        let Head::Started { header, .. } = head else { continue };
        for piece in Walk::new(&bytes, &header) {
            let Piece::Frame { at, frame } = piece else { continue };
            let body = &bytes[at + FRAME_HEADER..][..frame.body_bytes as usize];
            let chunk = Chunk::new(frame.first_seq, frame.count, body);
            for (seq, record) in chunk.records().filter(|(seq, _)| *seq >= from) {
                let Some((receipt, payload)) = record else { continue };
                if !call(seq, (&facts.file, at as u64), receipt, payload) {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

fn load(disk: &dyn Disk, path: &Path) -> io::Result<(Vec<u8>, Head)> {
    let file = disk.open(path, How::Direct)?;
    let mut bytes = vec![0; usize::try_from(file.length()?).map_err(io::Error::other)?];
    let have = file.read_full_at(&mut bytes, 0)?;
    bytes.truncate(have);
    Ok((bytes, segment::read_head(&*file)?))
}

fn facts(file: String, bytes: &[u8], head: Head) -> SegmentFacts {
    let length = bytes.len() as u64;
    let facts = |state| SegmentFacts { file, state, bytes: length, ..SegmentFacts::default() };
    match head {
        Head::Unused => facts("spare"),
        Head::Lost => facts("lost"),
        Head::Newer(_) => facts("newer"),
        Head::Started { header, repair } => {
            SegmentFacts { header_damaged: repair.is_some(), ..facts("used") }.with(bytes, &header)
        }
    }
}

impl SegmentFacts {
    fn with(mut self, bytes: &[u8], header: &SegmentHeader) -> Self {
        self.generation = header.generation;
        self.started_at = header.created;
        self.ledger_tx = header.ledger_tx;
        self.first_seq = header.first_seq;
        self.cut_bytes = header.size.saturating_sub(self.bytes);
        for piece in Walk::new(bytes, header) {
            match piece {
                Piece::Frame { frame: FrameHeader { kind, .. }, .. } => {
                    self.frames += u64::from(kind == FrameType::Data);
                    self.sealed = kind == FrameType::Seal;
                }
                Piece::Damaged { range, from, to } => {
                    let parts = scan::salvage(&bytes[range.clone()], to - from, header.key());
                    let lost = |part: &scan::Salvaged| match part {
                        scan::Salvaged::Lost(count) => *count,
                        scan::Salvaged::Records { .. } => 0,
                    };
                    let (offset, bytes) = (range.start as u64, range.len() as u64);
                    let lost = parts.iter().map(lost).sum();
                    self.damage.push(DamagedBytes { offset, bytes, from, to, lost });
                }
            }
        }
        let end = scan::end(bytes, header, Seq::MAX);
        (self.end_seq, self.end_offset) = (end.seq, end.offset);
        self.torn_bytes = end.suspect.map_or(0, |range| range.end - range.start);
        self
    }
}
