//! Bytes held back, so that making space needs none.
//!
//! `reserve.bin` is written with zeros and synced while there is room. When the disk is full it is
//! given up: the ledger can commit and segments can be had again, so stored data goes out and its
//! log can be reclaimed. It is written again once there is room, apart from all other work.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::space::{Level, Space, disk_bytes, human};
use crate::status::Changes;

/// As much is written at a time.
static CHUNK: [u8; 1 << 20] = [0; 1 << 20];
/// What was given up is not taken back sooner: what it made room for is still being written.
const REST: Duration = Duration::from_secs(10);

/// The file, and how much of it is there.
#[derive(Debug)]
struct Reserve {
    path: PathBuf,
    bytes: u64,
    held: u64,
}

impl Reserve {
    fn new(data_dir: &Path, bytes: u64) -> Self {
        let path = data_dir.join("reserve.bin");
        // A file that was cut short, or has holes, is held as far as it has blocks.
        let held = path.metadata().map_or(0, |m| m.len().min(m.blocks() * 512));
        Self { path, bytes, held: held.min(bytes) }
    }

    /// Bytes that it is short of.
    fn missing(&self) -> u64 {
        self.bytes - self.held
    }

    /// Writes it to its full length. Where that fails, nothing is held.
    fn fill(&mut self) -> io::Result<()> {
        let filled = self.write();
        match &filled {
            Ok(()) => self.held = self.bytes,
            Err(_) => drop(self.give_up()),
        }
        filled
    }

    fn write(&self) -> io::Result<()> {
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).open(&self.path)?;
        file.set_len(self.held)?;
        let mut at = self.held;
        while at < self.bytes {
            let chunk = CHUNK.len().min(usize::try_from(self.bytes - at).unwrap_or(CHUNK.len()));
            file.write_all_at(&CHUNK[..chunk], at)?;
            at += chunk as u64;
        }
        file.sync_all()?;
        self.path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
    }

    fn give_up(&mut self) -> io::Result<()> {
        let cut = OpenOptions::new().write(true).open(&self.path).and_then(|file| file.set_len(0));
        // A file system may need room to cut a file, and none to remove it, or the other way.
        cut.or_else(|_| std::fs::remove_file(&self.path))?;
        self.held = 0;
        Ok(())
    }
}

/// Looks after the disk's room.
pub(super) struct Watch {
    data_dir: PathBuf,
    space: Space,
    changes: Changes,
    reserve: Reserve,
    given_up: Option<Instant>,
    level: Level,
}

impl Watch {
    /// A watch over the data directory's file system; of these bytes it holds some back.
    pub(super) fn new(data_dir: &Path, reserve: u64, space: Space, changes: Changes) -> Self {
        Self {
            data_dir: data_dir.to_owned(),
            space,
            changes,
            reserve: Reserve::new(data_dir, reserve),
            given_up: None,
            level: Level::Ok,
        }
    }

    /// What is read is told there.
    pub(super) fn space(&self) -> Space {
        self.space.clone()
    }

    /// Takes the first reading: gives the reserve up where no events would be taken anyway, so
    /// that databases and logs can be opened, and writes none, which would take its time.
    pub(super) fn look_first(&mut self) {
        let (free, bytes) = disk_bytes(&self.data_dir);
        self.make_room(free, bytes, Instant::now());
        if self.level == Level::Full && self.reserve.held > 0 {
            self.give_up(Instant::now());
        }
    }

    /// Takes a reading and does what it asks for. Blocks while the reserve is written.
    pub(super) fn look(&mut self) -> Level {
        let (free, bytes) = disk_bytes(&self.data_dir);
        self.react(free, bytes, Instant::now());
        self.level
    }

    fn react(&mut self, free: u64, bytes: u64, now: Instant) {
        let left = self.make_room(free, bytes, now);
        let rested = self.given_up.is_none_or(|at| now.duration_since(at) >= REST);
        let has_room = bytes > 0 && self.space.would_resume(left, bytes);
        if self.reserve.missing() > 0 && rested && has_room {
            self.restore(now);
        }
    }

    /// Publishes a reading; gives the reserve up where the disk is full. Returns what is free for
    /// others than the reserve: what that gave up is not room for events.
    fn make_room(&mut self, free: u64, bytes: u64, now: Instant) -> u64 {
        let ran_out = self.space.take_ran_out();
        let left = free.saturating_sub(self.reserve.missing());
        self.tell(self.space.observe(left, bytes));
        let is_full = bytes > 0 && free < self.reserve.bytes / 4;
        if (ran_out || is_full) && self.reserve.held > 0 {
            self.give_up(now);
        }
        left
    }

    fn give_up(&mut self, now: Instant) {
        let held = self.reserve.held;
        self.given_up = Some(now);
        match self.reserve.give_up() {
            Ok(()) => {
                let text = format!("the disk is full: {} of reserve given up", human(held));
                tracing::warn!("{text}");
                self.changes.add(text);
            }
            Err(error) => tracing::error!(%error, "the reserve can't be given up"),
        }
    }

    fn restore(&mut self, now: Instant) {
        let again = self.given_up.take().is_some();
        match self.reserve.fill() {
            Ok(()) if again => {
                let text = format!("{} of reserve are held back again", human(self.reserve.bytes));
                tracing::info!("{text}");
                self.changes.add(text);
            }
            Ok(()) => {}
            Err(error) => {
                self.given_up = Some(now);
                tracing::warn!(%error, "the reserve can't be written");
            }
        }
    }

    fn tell(&mut self, level: Level) {
        let before = std::mem::replace(&mut self.level, level);
        let was_full = before == Level::Full;
        if before == level || !(was_full || level == Level::Full) {
            return;
        }
        let sentence = self.space.sentence();
        let text = match level {
            Level::Full => format!("disk: {sentence}"),
            _ => format!("disk: {sentence}; events are taken again"),
        };
        tracing::warn!("{text}");
        self.changes.add(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const MIB: u64 = 1 << 20;
    const DISK: u64 = 100 * MIB;

    fn watch(dir: &Path) -> Watch {
        let space = Space::new(Config::default().disk);
        Watch::new(dir, 4 * MIB, space, Changes::default())
    }

    fn held(dir: &Path) -> u64 {
        dir.join("reserve.bin").metadata().map_or(0, |file| file.blocks() * 512)
    }

    #[test]
    fn the_reserve_has_blocks_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        watch(dir.path()).react(50 * MIB, DISK, Instant::now());
        assert!(held(dir.path()) >= 4 * MIB);
        let path = dir.path().join("reserve.bin");
        assert_eq!(path.metadata().unwrap().len(), 4 * MIB);
        // One that was cut short by a crash is completed by the next process.
        OpenOptions::new().write(true).open(&path).unwrap().set_len(MIB).unwrap();
        watch(dir.path()).react(50 * MIB, DISK, Instant::now());
        assert!(held(dir.path()) >= 4 * MIB);
    }

    #[test]
    fn the_reserve_is_given_up_when_the_disk_is_full_and_comes_back_with_room() {
        let dir = tempfile::tempdir().unwrap();
        let (mut watch, start) = (watch(dir.path()), Instant::now());
        watch.react(50 * MIB, DISK, start);
        watch.react(2 * MIB, DISK, start);
        assert!(held(dir.path()) > 0 && !watch.space.takes_events(), "low, but not full");
        watch.react(MIB / 2, DISK, start);
        assert_eq!(held(dir.path()), 0);
        // The room that it made is not taken for room for events.
        watch.react(9 * MIB, DISK, start + REST);
        assert_eq!((held(dir.path()), watch.space.takes_events()), (0, false));
        watch.react(12 * MIB, DISK, start + REST);
        assert!(held(dir.path()) >= 4 * MIB && watch.space.takes_events());
    }

    #[test]
    fn whoever_finds_no_space_gets_the_reserve_whatever_the_reading_says() {
        let dir = tempfile::tempdir().unwrap();
        let (mut watch, start) = (watch(dir.path()), Instant::now());
        watch.react(50 * MIB, DISK, start);
        watch.space.ran_out();
        watch.react(50 * MIB, DISK, start);
        assert_eq!(held(dir.path()), 0);
        watch.react(50 * MIB, DISK, start + REST / 2);
        assert_eq!(held(dir.path()), 0, "not taken back at once");
        watch.react(50 * MIB, DISK, start + REST);
        assert!(held(dir.path()) >= 4 * MIB);
    }

    #[test]
    fn a_reserve_that_can_not_be_written_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("reserve.bin")).unwrap();
        let mut watch = watch(dir.path());
        watch.react(50 * MIB, DISK, Instant::now());
        assert!(watch.given_up.is_some() && watch.space.takes_events());
    }
}
