//! How much room the disk has, and whether events are taken.
//!
//! In: readings of the file system, about one a second. Out: one atomic flag that the edge reads
//! with each request, and the last reading for whoever shows it. Between refusing and taking
//! events again lies a step, so that a disk at the edge does not do both in turn.
//!
//! Levels are percentages of the file system, or of 40 GiB where it is larger: 5 % of that are
//! 2 GiB, and a huge disk needs no more left alone than a large one.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::config::DiskConfig;

/// Percentages are of no more than this.
const SIZE_BYTES_MAX: u64 = 40 << 30;

/// How the disk does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// There is room.
    #[default]
    Ok,
    /// An operator should make room.
    Low,
    /// No events are taken until there is room.
    Full,
}

/// One reading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// Bytes free, less those that the reserve is short of.
    pub free_bytes: u64,
    /// Bytes of the file system; 0 before the first reading.
    pub bytes: u64,
    /// What that means.
    pub level: Level,
}

impl Room {
    /// Free bytes in percent.
    #[must_use]
    pub fn free_percent(&self) -> f64 {
        self.free_bytes as f64 / self.bytes.max(1) as f64 * 100.0
    }
}

/// A cheap handle to what is known of the disk's room.
#[derive(Clone)]
pub struct Space(Arc<Shared>);

struct Shared {
    levels: DiskConfig,
    refuses: AtomicBool,
    ran_out: AtomicBool,
    room: Mutex<Room>,
}

impl Space {
    /// Nothing has been read yet: events are taken.
    #[must_use]
    pub fn new(levels: DiskConfig) -> Self {
        Self(Arc::new(Shared {
            levels,
            refuses: AtomicBool::new(false),
            ran_out: AtomicBool::new(false),
            room: Mutex::default(),
        }))
    }

    /// Takes a reading: free bytes and all bytes of the file system. One that says nothing (a
    /// size of 0) changes nothing.
    pub fn observe(&self, free_bytes: u64, bytes: u64) -> Level {
        let mut room = self.0.room.lock().unwrap_or_else(PoisonError::into_inner);
        if bytes == 0 {
            return room.level;
        }
        let below = |percent: u8| free_bytes < share(bytes, percent);
        let levels = &self.0.levels;
        let still_full = room.level == Level::Full && below(levels.resume_above);
        let level = if below(levels.refuse_below) || still_full {
            Level::Full
        } else if below(levels.warn_below) {
            Level::Low
        } else {
            Level::Ok
        };
        *room = Room { free_bytes, bytes, level };
        self.0.refuses.store(level == Level::Full, Relaxed);
        level
    }

    /// Whether events may be taken: one atomic read.
    #[must_use]
    pub fn takes_events(&self) -> bool {
        !self.0.refuses.load(Relaxed)
    }

    /// Somebody was told that the disk is full, whatever its readings say.
    pub fn ran_out(&self) {
        self.0.ran_out.store(true, Relaxed);
    }

    /// Whether that happened since it was asked last.
    #[must_use]
    pub fn take_ran_out(&self) -> bool {
        self.0.ran_out.swap(false, Relaxed)
    }

    /// The last reading.
    #[must_use]
    pub fn room(&self) -> Room {
        *self.0.room.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether so many free bytes are enough to take events again.
    #[must_use]
    pub fn would_resume(&self, free_bytes: u64, bytes: u64) -> bool {
        free_bytes >= share(bytes, self.0.levels.resume_above)
    }

    /// The last reading as a sentence, with what it means.
    #[must_use]
    pub fn sentence(&self) -> String {
        let (room, levels) = (self.room(), &self.0.levels);
        let free = format!(
            "{:.1}% free ({} of {})",
            room.free_percent(),
            human(room.free_bytes),
            human(room.bytes)
        );
        let limit = |percent| human(share(room.bytes, percent));
        match room.level {
            Level::Ok => free,
            Level::Low => {
                format!("{free}: below {} no events are taken", limit(levels.refuse_below))
            }
            Level::Full => format!(
                "{free}: no events are taken until {} are free",
                limit(levels.resume_above.max(levels.refuse_below))
            ),
        }
    }
}

/// That percentage of a file system of so many bytes.
pub(crate) fn share(bytes: u64, percent: u8) -> u64 {
    bytes.min(SIZE_BYTES_MAX) / 100 * u64::from(percent)
}

/// Free and all bytes of the file system that holds `path`; (0, 0) where it does not tell.
#[must_use]
pub fn disk_bytes(path: &Path) -> (u64, u64) {
    rustix::fs::statvfs(path)
        .map_or((0, 0), |fs| (fs.f_bavail * fs.f_frsize, fs.f_blocks * fs.f_frsize))
}

/// Bytes as people say them: `1.5 GiB`.
#[must_use]
pub fn human(bytes: u64) -> String {
    for (shift, unit) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")] {
        if bytes >> shift > 0 {
            return format!("{:.1} {unit}", bytes as f64 / (1_u64 << shift) as f64);
        }
    }
    format!("{bytes} B")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const GIB: u64 = 1 << 30;

    fn space() -> Space {
        Space::new(Config::default().disk)
    }

    #[test]
    fn events_are_refused_below_five_percent_and_taken_again_from_eight_on() {
        let space = space();
        assert!(space.takes_events(), "nothing is known yet");
        for (free, level, takes) in [
            (1100, Level::Ok, true),
            (999, Level::Low, true),
            (500, Level::Low, true),
            (499, Level::Full, false),
            (0, Level::Full, false),
            (700, Level::Full, false),
            (799, Level::Full, false),
            (800, Level::Low, true),
            (501, Level::Low, true),
            (1000, Level::Ok, true),
        ] {
            assert_eq!(
                (space.observe(free, 10_000), space.takes_events()),
                (level, takes),
                "{free}"
            );
            assert_eq!(space.room(), Room { free_bytes: free, bytes: 10_000, level });
        }
    }

    #[test]
    fn a_huge_disk_keeps_no_more_free_than_two_gibibytes() {
        let space = space();
        assert_eq!(space.observe(5 * GIB, 10_000 * GIB), Level::Ok);
        assert_eq!(space.observe(3 * GIB, 10_000 * GIB), Level::Low);
        assert_eq!(space.observe(2 * GIB - (1 << 20), 10_000 * GIB), Level::Full);
    }

    #[test]
    fn a_reading_that_says_nothing_changes_nothing() {
        let space = space();
        space.observe(1, 10_000);
        assert_eq!((space.observe(0, 0), space.takes_events()), (Level::Full, false));
        assert_eq!(space.room().bytes, 10_000);
    }

    #[test]
    fn the_sentence_says_when_events_are_taken_again() {
        let space = space();
        space.observe(GIB / 50, GIB);
        let text = space.sentence();
        assert_eq!(
            text,
            "2.0% free (20.5 MiB of 1.0 GiB): no events are taken until 81.9 MiB are free"
        );
        space.observe(GIB, 2 * GIB);
        assert_eq!(space.sentence(), "50.0% free (1.0 GiB of 2.0 GiB)");
    }
}
