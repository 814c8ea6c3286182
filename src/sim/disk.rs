//! A disk in memory that loses what was not synced, and of that whatever chance will have it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::file::{Persisted, SimFile};
use super::machine::{Death, Fate, Machine, Operation, State, dead};
use crate::wal::disk::{Disk, DiskFile, How};

/// A cheap handle to the disk, which outlives every process.
#[derive(Clone, Debug)]
pub(crate) struct SimDisk {
    machine: Machine,
    content: Arc<Mutex<Content>>,
}

/// What is on it. Directories are there from the beginning: logs make theirs durably.
#[derive(Clone, Debug, Default)]
pub(crate) struct Content {
    files: BTreeMap<u64, SimFile>,
    /// Names as processes see them.
    names: BTreeMap<PathBuf, u64>,
    /// Names that would be there after power was lost.
    durable_names: BTreeMap<PathBuf, u64>,
    /// What was done to names since their directories were synced.
    changes: Vec<Change>,
    next: u64,
}

/// A change of names, which happens as a whole or not at all.
#[derive(Clone, Debug)]
struct Change {
    gone: Option<PathBuf>,
    new: Option<(PathBuf, u64)>,
}

impl Change {
    fn apply(&self, names: &mut BTreeMap<PathBuf, u64>) {
        if let Some(gone) = &self.gone {
            names.remove(gone);
        }
        if let Some((path, file)) = &self.new {
            names.insert(path.clone(), *file);
        }
    }

    fn is_in(&self, dir: &Path) -> bool {
        let paths = self.gone.iter().chain(self.new.iter().map(|(path, _)| path));
        paths.into_iter().any(|path| path.parent() == Some(dir))
    }
}

#[derive(Debug)]
struct Opened {
    disk: SimDisk,
    file: u64,
    life: u64,
    direct: bool,
}

impl SimDisk {
    pub fn new(machine: Machine) -> Self {
        Self { machine, content: Arc::default() }
    }

    pub fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the next process finds.
    pub fn survive(&self, death: Death, chance: &mut Chance) {
        let mut content = self.content();
        if death == Death::PowerLoss {
            content.lose_power(chance, |_, _, chance| match chance.below(8) {
                0..4 => Persisted::Old,
                4..7 => Persisted::New,
                _ => Persisted::Garbage(chance.fork()),
            });
        }
        content.forget_nameless();
    }

    /// Fails where the process that opened something is not the one that lives.
    fn check(&self, life: u64) -> io::Result<()> {
        let state = self.machine.state();
        if state.alive && state.life == life { Ok(()) } else { Err(dead()) }
    }

    fn begin(&self, operation: Operation, detail: u64) -> io::Result<Fate> {
        let mut content = self.content();
        let mut state = self.machine.state();
        if state.happens(|faults| faults.writeback) {
            content.write_back_any(&mut state.chance);
        }
        drop(state);
        self.machine.begin(operation, detail)
    }

    /// An operation that has no parts.
    fn whole(
        &self,
        operation: Operation,
        detail: u64,
        change: impl FnOnce(&mut Content),
    ) -> io::Result<()> {
        let fate = self.begin(operation, detail)?;
        if matches!(fate, Fate::Done | Fate::After) {
            change(&mut self.content());
        }
        if fate == Fate::Done { Ok(()) } else { Err(dead()) }
    }
}

use super::Chance;

impl State {
    /// Whether a fault happens here.
    pub fn happens(&mut self, of: impl Fn(&super::machine::Faults) -> u64) -> bool {
        let per_mille = of(&self.faults);
        per_mille > 0 && self.alive && self.chance.happens(per_mille)
    }
}

impl Content {
    pub fn lose_power(
        &mut self,
        chance: &mut Chance,
        mut persists: impl FnMut(u64, usize, &mut Chance) -> Persisted,
    ) {
        for change in std::mem::take(&mut self.changes) {
            if chance.one_in(2) {
                change.apply(&mut self.durable_names);
            }
        }
        self.names.clone_from(&self.durable_names);
        for (number, file) in &mut self.files {
            file.lose_power(|sector| persists(*number, sector, chance));
        }
    }

    fn change(&mut self, gone: Option<PathBuf>, new: Option<(PathBuf, u64)>) {
        let change = Change { gone, new };
        change.apply(&mut self.names);
        self.changes.push(change);
    }

    fn write_back_any(&mut self, chance: &mut Chance) {
        for file in self.files.values_mut() {
            file.write_back_any(chance);
        }
    }

    fn forget_nameless(&mut self) {
        let (names, durable) = (&self.names, &self.durable_names);
        let is_named =
            |file: &u64| names.values().chain(durable.values()).any(|named| named == file);
        self.files.retain(|file, _| is_named(file));
    }

    /// How many sectors and names would be in doubt if power was lost now.
    pub fn unsynced(&self) -> usize {
        self.changes.len() + self.files.values().map(|file| file.in_doubt().len()).sum::<usize>()
    }

    /// Power is lost, and of what is in doubt just that `subset` is on the disk; it is repeated
    /// where there is more.
    pub fn keep(&mut self, subset: u64) {
        let mut number = 0;
        let mut keeps = || {
            number += 1;
            subset >> ((number - 1) % 64) & 1 == 1
        };
        for change in std::mem::take(&mut self.changes) {
            if keeps() {
                change.apply(&mut self.durable_names);
            }
        }
        self.names.clone_from(&self.durable_names);
        for file in self.files.values_mut() {
            let in_doubt = file.in_doubt();
            file.lose_power(|sector| match !in_doubt.contains(&sector) || keeps() {
                true => Persisted::New,
                false => Persisted::Old,
            });
        }
        self.forget_nameless();
    }

    /// Flips some bit of some file that `of` chooses; returns which.
    pub fn flip_any(&mut self, of: impl Fn(&Path) -> bool, chance: &mut Chance) -> Option<String> {
        let chosen: Vec<_> = self.names.iter().filter(|(path, _)| of(path)).collect();
        let (path, number) = chosen.get(chance.below(chosen.len().max(1) as u64) as usize)?;
        let file = self.files.get_mut(number)?;
        let bits = file.length() * 8;
        let bit = chance.below(bits.max(1) as u64) as usize;
        file.flip(bit);
        Some(format!("bit {} of byte {} in {}", bit % 8, bit / 8, path.display()))
    }
}

impl Disk for SimDisk {
    fn make_dir(&self, _: &Path) -> io::Result<()> {
        if self.machine.is_alive() { Ok(()) } else { Err(dead()) }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        if !self.machine.is_alive() {
            return Err(dead());
        }
        let content = self.content();
        let names = content.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(names.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
    }

    fn open(&self, path: &Path, how: How) -> io::Result<Box<dyn DiskFile>> {
        let known = self.content().names.get(path).copied();
        let file = match (how, known) {
            (How::Create, Some(_)) => return Err(io::ErrorKind::AlreadyExists.into()),
            (How::Create, None) => {
                let file = self.content().next;
                self.whole(Operation::Create, file, |content| {
                    content.next += 1;
                    content.change(None, Some((path.to_owned(), file)));
                    content.files.insert(file, SimFile::default());
                })?;
                file
            }
            (_, Some(file)) => file,
            (_, None) => return Err(io::ErrorKind::NotFound.into()),
        };
        let life = self.machine.state().life;
        self.check(life)?;
        Ok(Box::new(Opened { disk: self.clone(), file, life, direct: how == How::Direct }))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let Some(file) = self.content().names.get(path).copied() else {
            return Err(io::ErrorKind::NotFound.into());
        };
        self.whole(Operation::Remove, file, |content| content.change(Some(path.to_owned()), None))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let Some(file) = self.content().names.get(from).copied() else {
            return Err(io::ErrorKind::NotFound.into());
        };
        self.whole(Operation::Rename, file, |content| {
            content.change(Some(from.to_owned()), Some((to.to_owned(), file)));
        })
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.whole(Operation::SyncDir, 0, |content| {
            let Content { changes, durable_names, .. } = content;
            changes.retain(|change| {
                let is_here = change.is_in(dir);
                if is_here {
                    change.apply(durable_names);
                }
                !is_here
            });
        })
    }

    fn random(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        self.machine.state().chance.fill(&mut bytes);
        bytes
    }
}

impl Opened {
    fn with<T>(&self, act: impl FnOnce(&mut SimFile) -> T) -> io::Result<T> {
        let mut content = self.disk.content();
        content.files.get_mut(&self.file).map(act).ok_or_else(dead)
    }
}

impl DiskFile for Opened {
    fn length(&self) -> io::Result<u64> {
        self.disk.check(self.life)?;
        self.with(|file| file.length() as u64)
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.disk.check(self.life)?;
        self.with(|file| file.read(bytes, offset as usize, self.direct))
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.disk.check(self.life)?;
        let fate = self.disk.begin(Operation::Write, offset << 24 ^ bytes.len() as u64)?;
        let mut state = self.disk.machine.state();
        let part = state.chance.below(bytes.len() as u64 + 1) as usize;
        let no_space = state.happens(|faults| faults.no_space);
        let failed = state.happens(|faults| faults.failed_write);
        let short = state.happens(|faults| faults.short_write);
        drop(state);
        let written = match fate {
            Fate::Before => return Err(dead()),
            Fate::Done if no_space || failed || short => part.max(1).min(bytes.len()),
            Fate::Within => part,
            Fate::Done | Fate::After => bytes.len(),
        };
        self.with(|file| file.write(&bytes[..written], offset as usize))?;
        match fate {
            Fate::Done if no_space => Err(io::ErrorKind::StorageFull.into()),
            Fate::Done if failed => Err(io_error()),
            Fate::Done => Ok(written),
            _ => Err(dead()),
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.check(self.life)?;
        let fate = self.disk.begin(Operation::Sync, self.file)?;
        let mut state = self.disk.machine.state();
        let fails = state.happens(|faults| faults.failed_sync);
        let mut chance = state.chance.fork();
        drop(state);
        match fate {
            Fate::Before => Err(dead()),
            Fate::Within => {
                // Any part of it may be done; losing power decides about the rest.
                self.with(|file| {
                    for _ in 0..chance.below(4) {
                        file.write_back_any(&mut chance);
                    }
                })?;
                Err(dead())
            }
            Fate::Done if fails => {
                self.with(|file| file.fail_sync(&mut chance))?;
                let full = chance.one_in(2);
                Err(if full { io::ErrorKind::StorageFull.into() } else { io_error() })
            }
            Fate::Done => self.with(SimFile::sync),
            Fate::After => self.with(SimFile::sync).and(Err(dead())),
        }
    }

    fn drop_cache(&self) -> io::Result<()> {
        self.disk.check(self.life)?;
        self.disk.whole(Operation::DropCache, self.file, |content| {
            if let Some(file) = content.files.get_mut(&self.file) {
                file.drop_cache();
            }
        })
    }
}

fn io_error() -> io::Error {
    io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error())
}
