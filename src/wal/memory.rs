//! A disk in memory, for tests that open thousands of logs: it knows what was written from what
//! was synced, can be full or fail a sync, and can be looked into and changed behind a log's back.
//!
//! Names are certain at once, and so is what a later sync would have to say: power that is lost
//! in the middle of something, and disks that lie, are another one's matter.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use super::disk::{Disk, DiskFile, How};
use super::sync::{Mutex, MutexGuard};

/// A cheap handle to the disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct MemoryDisk(Arc<Mutex<Content>>);

/// What is on it.
#[derive(Clone, Debug, Default)]
struct Content {
    names: BTreeMap<PathBuf, u64>,
    files: BTreeMap<u64, Image>,
    next: u64,
    /// Bytes that can still be written before the disk is full, once; `None` where it never is.
    room: Option<usize>,
    /// Syncs that still succeed before one fails; `None` where none does.
    syncs: Option<u32>,
}

/// A file as the system has it, and as it would be found after power was lost.
#[derive(Clone, Debug, Default)]
struct Image {
    bytes: Vec<u8>,
    synced: Vec<u8>,
    unsynced: Option<Range<usize>>,
}

#[derive(Debug)]
struct MemoryFile {
    disk: MemoryDisk,
    number: u64,
}

// The fuzzers need less of it than the tests.
#[cfg_attr(fuzzing, allow(dead_code))]
impl MemoryDisk {
    fn content(&self) -> MutexGuard<'_, Content> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same files on another disk, as the system has them.
    pub fn copy(&self) -> Self {
        Self(Arc::new(Mutex::new(self.content().clone())))
    }

    /// Writes fail after that many bytes, once.
    pub fn fill_after(&self, bytes: Option<usize>) {
        self.content().room = bytes;
    }

    /// After that many syncs one fails, and its file is what it was at the last one before.
    pub fn fail_sync_after(&self, syncs: Option<u32>) {
        self.content().syncs = syncs;
    }

    /// A file's bytes, if there is such a file.
    pub fn bytes(&self, path: &Path) -> Option<Vec<u8>> {
        let content = self.content();
        content.files.get(content.names.get(path)?).map(|image| image.bytes.clone())
    }

    /// Puts a file there, durably, whatever was there before.
    pub fn put(&self, path: &Path, bytes: Vec<u8>) {
        let mut content = self.content();
        content.next += 1;
        let number = content.next;
        content.names.insert(path.to_owned(), number);
        let image = Image { synced: bytes.clone(), bytes, unsynced: None };
        content.files.insert(number, image);
    }
}

impl Content {
    fn image(&mut self, number: u64) -> io::Result<&mut Image> {
        self.files.get_mut(&number).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// How much of a write fits; nothing at all where the disk is full.
    fn take_room(&mut self, wanted: usize) -> io::Result<usize> {
        match self.room {
            Some(0) => {
                self.room = None;
                Err(io::ErrorKind::StorageFull.into())
            }
            Some(room) => {
                let taken = room.min(wanted);
                self.room = Some(room - taken);
                Ok(taken)
            }
            None => Ok(wanted),
        }
    }

    /// Whether this sync fails.
    fn take_sync(&mut self) -> bool {
        let fails = self.syncs == Some(0);
        self.syncs = self.syncs.and_then(|syncs| syncs.checked_sub(1));
        fails
    }
}

impl Disk for MemoryDisk {
    fn make_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let content = self.content();
        let names = content.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(names.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
    }

    fn open(&self, path: &Path, how: How) -> io::Result<Box<dyn DiskFile>> {
        let mut content = self.content();
        let number = match (content.names.get(path).copied(), how) {
            (Some(_), How::Create) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Some(number), _) => number,
            (None, How::Create) => {
                content.next += 1;
                let number = content.next;
                content.names.insert(path.to_owned(), number);
                content.files.insert(number, Image::default());
                number
            }
            (None, _) => return Err(io::ErrorKind::NotFound.into()),
        };
        drop(content);
        Ok(Box::new(MemoryFile { disk: self.clone(), number }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut content = self.content();
        let number = content.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        content.names.insert(to.to_owned(), number);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let removed = self.content().names.remove(path);
        removed.map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    /// Different each time is all that it has to be here.
    fn random(&self) -> [u8; 16] {
        let mut content = self.content();
        content.next += 1;
        (u128::from(content.next) << 64 | 0x5eed).to_le_bytes()
    }
}

impl DiskFile for MemoryFile {
    fn length(&self) -> io::Result<u64> {
        Ok(self.disk.content().image(self.number)?.bytes.len() as u64)
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut content = self.disk.content();
        let have = &content.image(self.number)?.bytes;
        let rest = usize::try_from(offset).ok().and_then(|offset| have.get(offset..));
        let rest = rest.unwrap_or_default();
        let read = rest.len().min(bytes.len());
        bytes[..read].copy_from_slice(&rest[..read]);
        Ok(read)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let mut content = self.disk.content();
        let written = content.take_room(bytes.len())?;
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let end = start + written;
        let image = content.image(self.number)?;
        if image.bytes.len() < end {
            image.bytes.resize(end, 0);
        }
        image.bytes[start..end].copy_from_slice(&bytes[..written]);
        let unsynced = image.unsynced.take().unwrap_or(start..end);
        image.unsynced = Some(unsynced.start.min(start)..unsynced.end.max(end));
        Ok(written)
    }

    fn sync(&self) -> io::Result<()> {
        let mut content = self.disk.content();
        let fails = content.take_sync();
        let Image { bytes, synced, unsynced } = content.image(self.number)?;
        if fails {
            bytes.clone_from(synced);
            *unsynced = None;
            return Err(rustix::io::Errno::IO.into());
        }
        if let Some(range) = unsynced.take() {
            synced.resize(bytes.len(), 0);
            synced[range.clone()].copy_from_slice(&bytes[range]);
        }
        Ok(())
    }

    fn drop_cache(&self) -> io::Result<()> {
        Ok(())
    }
}
