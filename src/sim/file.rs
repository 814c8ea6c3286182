//! One file as a disk has it and as the system believes it to be: a sector of each, told apart by
//! what has been synced.

use std::collections::BTreeSet;

use super::Chance;

/// A disk writes a sector, or doesn't, or is cut off in the middle of it.
pub(crate) const SECTOR: usize = 512;

/// Two images of a file.
#[derive(Clone, Debug, Default)]
pub(crate) struct SimFile {
    /// What the system believes: what a process reads.
    cache: Vec<u8>,
    /// What is on the disk.
    disk: Vec<u8>,
    /// Sectors that were written since the last sync.
    dirty: BTreeSet<usize>,
    /// Sectors that a failed sync has marked clean, and that are not on the disk.
    lost: BTreeSet<usize>,
}

impl SimFile {
    pub fn length(&self) -> usize {
        self.cache.len()
    }

    pub fn read(&self, bytes: &mut [u8], offset: usize, direct: bool) -> usize {
        let end = self.cache.len().min(offset + bytes.len());
        let Some(from_cache) = self.cache.get(offset..end) else { return 0 };
        bytes[..from_cache.len()].copy_from_slice(from_cache);
        if direct {
            // A direct read has what is dirty written to the device first; what the system
            // takes for clean comes from the disk.
            for &sector in self.lost.range(offset / SECTOR..end.div_ceil(SECTOR)) {
                let (from, to) = (offset.max(sector * SECTOR), end.min((sector + 1) * SECTOR));
                for at in from..to {
                    bytes[at - offset] = self.disk.get(at).copied().unwrap_or(0);
                }
            }
        }
        from_cache.len()
    }

    pub fn write(&mut self, bytes: &[u8], offset: usize) {
        if bytes.is_empty() {
            return;
        }
        let end = offset + bytes.len();
        if self.cache.len() < end {
            self.cache.resize(end, 0);
        }
        self.cache[offset..end].copy_from_slice(bytes);
        for sector in offset / SECTOR..end.div_ceil(SECTOR) {
            self.dirty.insert(sector);
            self.lost.remove(&sector);
        }
    }

    /// Everything that is dirty is on the disk.
    pub fn sync(&mut self) {
        while let Some(sector) = self.dirty.first().copied() {
            self.write_back(sector);
        }
    }

    /// A sync fails: of what is dirty some is on the disk, and all of it is taken for clean.
    pub fn fail_sync(&mut self, chance: &mut Chance) {
        for sector in std::mem::take(&mut self.dirty) {
            if chance.one_in(4) {
                self.write_back(sector);
            } else {
                self.lost.insert(sector);
            }
        }
    }

    /// The system forgets what it takes for clean, and reads it from the disk the next time.
    pub fn drop_cache(&mut self) {
        for sector in std::mem::take(&mut self.lost) {
            self.take_from_disk(sector);
        }
    }

    /// The system writes some dirty sector by itself.
    pub fn write_back_any(&mut self, chance: &mut Chance) {
        if let Some(&sector) =
            self.dirty.iter().nth(chance.below(self.dirty.len().max(1) as u64) as usize)
        {
            self.write_back(sector);
        }
    }

    /// Unsynced sectors that differ from what is on the disk.
    pub fn in_doubt(&self) -> BTreeSet<usize> {
        let differs = |sector: &usize| {
            let range = self.range(*sector);
            self.disk.get(range.clone()) != self.cache.get(range)
        };
        self.dirty.iter().copied().filter(differs).collect()
    }

    fn range(&self, sector: usize) -> std::ops::Range<usize> {
        let start = (sector * SECTOR).min(self.cache.len());
        start..self.cache.len().min(start + SECTOR)
    }

    fn write_back(&mut self, sector: usize) {
        let range = self.range(sector);
        if self.disk.len() < range.end {
            self.disk.resize(range.end, 0);
        }
        self.disk[range.clone()].copy_from_slice(&self.cache[range]);
        self.dirty.remove(&sector);
    }

    fn take_from_disk(&mut self, sector: usize) {
        let range = self.range(sector);
        for at in range {
            self.cache[at] = self.disk.get(at).copied().unwrap_or(0);
        }
    }

    /// Power is lost: `persists` says of each unsynced sector what of it is on the disk.
    pub fn lose_power(&mut self, mut persists: impl FnMut(usize) -> Persisted) {
        for sector in std::mem::take(&mut self.dirty) {
            match persists(sector) {
                Persisted::Old => {}
                Persisted::New => self.write_back(sector),
                Persisted::Garbage(mut chance) => {
                    let range = self.range(sector);
                    chance.fill(&mut self.cache[range]);
                    self.write_back(sector);
                }
            }
        }
        self.lost.clear();
        self.cache.clone_from(&self.disk);
    }

    /// One bit of the disk is no more what it was.
    pub fn flip(&mut self, bit: usize) {
        if let Some(byte) = self.disk.get_mut(bit / 8) {
            *byte ^= 1 << (bit % 8);
            self.cache[bit / 8] = *byte;
        }
    }
}

/// What of an unsynced sector is on the disk after power was lost.
pub(crate) enum Persisted {
    /// What was there before.
    Old,
    /// What was written.
    New,
    /// It was being written at that instant.
    Garbage(Chance),
}
