//! The part of a file system that logs use: the seam below which tests cut the power.
//!
//! Nothing above it knows how a file is kept. Contract of an implementation:
//!
//! - What [`DiskFile::write_at`] wrote may be on the disk or not, in any part and order of
//!   sectors, until [`DiskFile::sync`] has returned success; after that it is.
//! - After a failed `sync` nothing is known: neither what is on the disk, nor whether a later
//!   `sync` tells the truth.
//! - A name that was created, changed or removed is certain after [`Disk::sync_dir`].
//! - A file opened [`How::Direct`] is read from the disk, not from what the system believes to
//!   be there.

use std::fmt::Debug;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

/// Offsets, lengths and memory that are multiples of this can be written without the system
/// copying them.
pub(super) const ALIGNMENT: usize = 4096;

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// To be read and written; it must not exist.
    Create,
    /// To be read and written.
    Write,
    /// To be read, past the page cache where the file system can: the cache may keep what stood
    /// there before it was written past.
    Direct,
}

/// Directories and names.
pub trait Disk: Debug + Send + Sync + 'static {
    /// Makes a directory and those above it, durably; one that is there is success.
    ///
    /// # Errors
    /// What the system said.
    fn make_dir(&self, dir: &Path) -> io::Result<()>;

    /// The names in a directory, in any order.
    ///
    /// # Errors
    /// What the system said.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Opens a file.
    ///
    /// # Errors
    /// What the system said.
    fn open(&self, path: &Path, how: How) -> io::Result<Box<dyn DiskFile>>;

    /// Gives a file another name, in a directory of the same disk.
    ///
    /// # Errors
    /// What the system said.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file's name.
    ///
    /// # Errors
    /// What the system said.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes a directory's names durable.
    ///
    /// # Errors
    /// What the system said.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Bytes that nobody can guess.
    fn random(&self) -> [u8; 16];
}

/// An open file.
pub trait DiskFile: Debug + Send + Sync {
    /// Its length in bytes.
    ///
    /// # Errors
    /// What the system said.
    fn length(&self) -> io::Result<u64>;

    /// Reads at most `bytes.len()` bytes; 0 at the end.
    ///
    /// # Errors
    /// What the system said.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes at most `bytes.len()` bytes.
    ///
    /// # Errors
    /// What the system said.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;

    /// Makes durable what was written, and the length.
    ///
    /// # Errors
    /// What the system said; from then on the file is not to be trusted.
    fn sync(&self) -> io::Result<()>;

    /// Makes the system forget what it believes to be in the file, where it can.
    ///
    /// # Errors
    /// What the system said.
    fn drop_cache(&self) -> io::Result<()>;
}

impl dyn DiskFile + '_ {
    /// Writes everything, going on after short writes.
    ///
    /// # Errors
    /// What the system said; then any part may have been written.
    pub fn write_all_at(&self, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.write_at(bytes, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    bytes = &bytes[written..];
                    offset += written as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads as many bytes as there are, `bytes.len()` at most.
    ///
    /// # Errors
    /// What the system said.
    pub fn read_full_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut have = 0;
        while have < bytes.len() {
            match self.read_at(&mut bytes[have..], offset + have as u64) {
                Ok(0) => break,
                Ok(read) => have += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(have)
    }
}

/// The operating system's file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsDisk;

#[derive(Debug)]
struct OsFile {
    file: File,
    /// The same file past the page cache, where the file system can. What a log writes is not
    /// read again soon, and mostly never: to copy it into the cache would be in vain.
    direct: Option<File>,
    /// Whether it is read past the page cache, too.
    reads_direct: bool,
}

impl OsDisk {
    /// The operating system's file system, as logs take it.
    #[must_use]
    pub fn shared() -> Arc<dyn Disk> {
        Arc::new(Self)
    }
}

impl Disk for OsDisk {
    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        if dir.is_dir() {
            return Ok(());
        }
        let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
        if let Some(parent) = parent {
            self.make_dir(parent)?;
        }
        match std::fs::create_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => other?,
        }
        self.sync_dir(parent.unwrap_or(Path::new(".")))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let names = std::fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name()));
        // A name that is not text is none of ours.
        names
            .filter_map(|name: io::Result<_>| name.map(|n| n.into_string().ok()).transpose())
            .collect()
    }

    fn open(&self, path: &Path, how: How) -> io::Result<Box<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        let nofollow = rustix::fs::OFlags::NOFOLLOW.bits() as i32;
        options.read(true).mode(0o600).custom_flags(nofollow);
        match how {
            How::Create => options.write(true).create_new(true),
            How::Write => options.write(true),
            How::Direct => &mut options,
        };
        let file = options.open(path)?;
        let flag = rustix::fs::OFlags::DIRECT.bits() as i32;
        let direct = match options.create_new(false).custom_flags(flag | nofollow).open(path) {
            Ok(direct) => Some(direct),
            // This file system has none of that; before a direct read the cache was dropped.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => None,
            Err(error) => return Err(error),
        };
        Ok(Box::new(OsFile { file, direct, reads_direct: how == How::Direct }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn random(&self) -> [u8; 16] {
        rand::random()
    }
}

/// Whether a direct transfer can be made from or to there.
fn is_aligned(bytes: &[u8], offset: u64) -> bool {
    (offset as usize | bytes.len()).is_multiple_of(ALIGNMENT)
        && bytes.as_ptr().align_offset(ALIGNMENT) == 0
}

impl OsFile {
    /// Reads the aligned blocks around the range into aligned memory.
    fn read_direct(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let skip = (offset % ALIGNMENT as u64) as usize;
        let wanted = (skip + bytes.len()).next_multiple_of(ALIGNMENT);
        let mut memory = vec![0; wanted + ALIGNMENT];
        let start = memory.as_ptr().align_offset(ALIGNMENT);
        let blocks = &mut memory[start..start + wanted];
        let read = file.read_at(blocks, offset - skip as u64)?;
        let got = read.saturating_sub(skip).min(bytes.len());
        bytes[..got].copy_from_slice(&blocks[skip..skip + got]);
        Ok(got)
    }
}

impl DiskFile for OsFile {
    fn length(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let read = match &self.direct {
            _ if !self.reads_direct => return self.file.read_at(bytes, offset),
            Some(direct) if is_aligned(bytes, offset) => direct.read_at(bytes, offset),
            Some(direct) => Self::read_direct(direct, bytes, offset),
            None => return self.file.read_at(bytes, offset),
        };
        match read {
            // This disk wants more than is usual.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                self.file.read_at(bytes, offset)
            }
            read => read,
        }
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        match &self.direct {
            Some(direct) if is_aligned(bytes, offset) => match direct.write_at(bytes, offset) {
                // This disk wants more than is usual; nothing was written.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                    self.file.write_at(bytes, offset)
                }
                written => written,
            },
            _ => self.file.write_at(bytes, offset),
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn drop_cache(&self) -> io::Result<()> {
        Ok(rustix::fs::fadvise(&self.file, 0, None, rustix::fs::Advice::DontNeed)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_direct_read_gives_any_range_of_what_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let written: Vec<u8> = (0..10_000_u32).map(|n| (n % 251) as u8).collect();
        let file = OsDisk.open(&path, How::Create).unwrap();
        file.write_all_at(&written, 0).unwrap();
        file.sync().unwrap();
        file.drop_cache().unwrap();
        let direct = OsDisk.open(&path, How::Direct).unwrap();
        for (offset, length) in [(0, 10_000), (1, 1), (4_095, 2), (4_096, 4_096), (9_000, 2_000)] {
            let mut bytes = vec![0; length];
            let read = direct.read_full_at(&mut bytes, offset as u64).unwrap();
            assert_eq!(bytes[..read], written[offset..(offset + length).min(10_000)]);
        }
        assert_eq!(direct.read_at(&mut [0; 8], 20_000).unwrap(), 0);
    }

    #[test]
    fn a_link_is_not_followed_and_a_file_is_not_made_twice() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/file");
        OsDisk.make_dir(path.parent().unwrap()).unwrap();
        drop(OsDisk.open(&path, How::Create).unwrap());
        assert!(OsDisk.open(&path, How::Create).is_err());
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(OsDisk.open(&link, How::Direct).is_err());
        assert_eq!(OsDisk.list(path.parent().unwrap()).unwrap(), ["file"]);
    }
}
