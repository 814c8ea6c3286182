//! Where bytes go that are not what was written: kept for the operator, never read again.

use std::io;
use std::path::{Path, PathBuf};

use super::disk::{Disk, How};
use super::segment;
use crate::event::Seq;

/// Records that can't be read any more: the bytes on disk are not what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The first position that is lost.
    pub from: Seq,
    /// The position behind the last that is lost.
    pub to: Seq,
    /// The bytes that stand in their place, where there are any.
    pub evidence: Option<Evidence>,
}

/// Damaged bytes and where they were.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Evidence {
    /// The file.
    pub file: PathBuf,
    /// Where in it.
    pub offset: u64,
    /// How many there are.
    pub bytes: u64,
    /// Their CRC32C.
    pub crc32c: u32,
    /// Where they are kept; `None` where that failed.
    pub kept: Option<PathBuf>,
}

/// A log's place for such bytes. It is made with the first.
#[derive(Clone, Debug)]
pub(super) struct Quarantine(pub PathBuf);

impl Quarantine {
    /// Keeps bytes of a file. The same bytes of the same place are kept once.
    pub(super) fn keep(&self, disk: &dyn Disk, file: &Path, offset: u64, bytes: &[u8]) -> Evidence {
        let crc32c = crc32c::crc32c(bytes);
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let path = self.0.join(format!("{name}-{offset}-{crc32c:08x}"));
        // Evidence that can't be kept must not keep what follows it from being read.
        let kept = write(disk, &path, bytes).is_ok().then_some(path);
        Evidence { file: file.to_owned(), offset, bytes: bytes.len() as u64, crc32c, kept }
    }

    /// Moves a whole segment here.
    pub(super) fn take(&self, disk: &dyn Disk, dir: &Path, slot: u32) -> Option<PathBuf> {
        let path = self.0.join(format!("{}-{}", segment::name(slot), crate::time::now()));
        let moved = disk
            .make_dir(&self.0)
            .and_then(|()| disk.rename(&segment::path(dir, slot), &path))
            .and_then(|()| disk.sync_dir(&self.0))
            .and_then(|()| disk.sync_dir(dir));
        // A segment that can't be moved is found again at the next start, its mark beside it.
        moved.ok()?;
        let _ = disk.remove(&segment::bad_path(dir, slot));
        Some(path)
    }
}

fn write(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    disk.make_dir(dir)?;
    let file = match disk.open(path, How::Create) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        other => other?,
    };
    file.write_all_at(bytes, 0)?;
    file.sync()?;
    disk.sync_dir(dir)
}
