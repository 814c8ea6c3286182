//! The machine that everything simulated runs on: it counts every operation that changes
//! something, dies at the one it was told to, and is switched on again.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Chance;

/// What a process does to the world outside its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Create,
    Remove,
    Rename,
    SyncDir,
    Write,
    Sync,
    DropCache,
    Commit,
    Put,
    Find,
}

/// How an operation ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It does what it is for, and its caller lives on.
    Done,
    /// The machine dies before it has done anything.
    Before,
    /// The machine dies when a part of it is done; what has no parts is not done.
    Within,
    /// The machine dies when it is done, before its caller learns that.
    After,
}

/// What dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Death {
    /// The process: what the system believes to be in its files is still there.
    Kill,
    /// The machine: of what was not synced, any part is there.
    PowerLoss,
}

/// When the machine dies, counted in operations since it was switched on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crash {
    pub at: u64,
    pub fate: Fate,
    pub death: Death,
}

/// How often in a thousand operations of its kind something else goes wrong.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    /// A write that writes a part and says so.
    pub short_write: u64,
    /// A write that finds no space, having written a part.
    pub no_space: u64,
    /// A write that fails with EIO.
    pub failed_write: u64,
    /// A sync that fails: pages are marked clean, and are not on the disk.
    pub failed_sync: u64,
    /// An unsynced sector that the system writes back by itself, at any operation.
    pub writeback: u64,
    /// A store that does not answer, or loses its answer.
    pub store: u64,
}

/// A cheap handle; disk, databases and store of one simulation share it.
#[derive(Clone, Debug)]
pub(crate) struct Machine(Arc<Mutex<State>>);

#[derive(Debug)]
pub(crate) struct State {
    pub chance: Chance,
    pub faults: Faults,
    /// Operations since it was switched on.
    pub operations: u64,
    /// Operations of all its lives.
    pub operations_ever: u64,
    /// What its lives were like: two runs of one seed have the same.
    pub trace: u64,
    /// Counts how often it was switched on: what was opened before is of no use after.
    pub life: u64,
    pub alive: bool,
    pub crash: Option<Crash>,
}

impl Machine {
    pub fn new(chance: Chance) -> Self {
        Self(Arc::new(Mutex::new(State {
            chance,
            faults: Faults::default(),
            operations: 0,
            operations_ever: 0,
            trace: 0,
            life: 0,
            alive: true,
            crash: None,
        })))
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn is_alive(&self) -> bool {
        self.state().alive
    }

    /// The process ends by itself, or is ended, between two operations.
    pub fn die(&self) {
        self.state().alive = false;
    }

    /// A new process begins; it will die as `crash` says.
    pub fn switch_on(&self, crash: Option<Crash>, faults: Faults) {
        let mut state = self.state();
        state.life += 1;
        state.operations = 0;
        state.alive = true;
        state.crash = crash;
        state.faults = faults;
    }

    /// A transaction is about to be committed; whether it is rolled back instead.
    pub fn rolls_back(&self) -> bool {
        !matches!(self.begin(Operation::Commit, 0), Ok(Fate::Done | Fate::After))
    }

    /// An operation begins; `detail` tells it from others in the trace.
    ///
    /// # Errors
    /// The machine is dead: nothing happens any more.
    pub fn begin(&self, operation: Operation, detail: u64) -> io::Result<Fate> {
        self.state().begin(operation, detail)
    }
}

impl State {
    fn begin(&mut self, operation: Operation, detail: u64) -> io::Result<Fate> {
        if !self.alive {
            return Err(dead());
        }
        self.operations += 1;
        self.operations_ever += 1;
        let word = (operation as u64) << 56 ^ detail;
        self.trace = (self.trace ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        match self.crash {
            Some(crash) if crash.at == self.operations => {
                self.alive = false;
                Ok(crash.fate)
            }
            _ => Ok(Fate::Done),
        }
    }
}

/// What a dead process would hear if it could.
pub(crate) fn dead() -> io::Error {
    io::Error::other("the machine is dead")
}
