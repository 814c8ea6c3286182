//! What outlives a process: the disk, the databases, the store, the client; and the lives in it.

use super::Chance;
use super::client::{Client, Lost};
use super::disk::SimDisk;
use super::life::{Life, Stillborn};
use super::machine::{Crash, Death, Fate, Faults, Machine};
use super::store::SimStore;
use crate::ambient;
use crate::config::WalConfig;
use crate::errors::InMemory;
use crate::ledger::Ledger;

/// The steps of a life that nothing ends before.
const STEPS_MAX: u64 = 400;

/// What a run is like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario {
    /// Lives before the one that drains.
    pub lives: u64,
    /// Whether disk and store do worse than die.
    pub faults: bool,
    /// Whether a bit of the log is flipped at each restart.
    pub rot: bool,
}

/// What a run came to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub crashes: u64,
    pub operations: u64,
    pub acked: u64,
    pub stored: u64,
    pub letters: u64,
    pub trace: u64,
    pub problems: Vec<String>,
}

/// Everything that outlives a process.
pub(crate) struct World {
    pub machine: Machine,
    pub disk: SimDisk,
    pub ledger: Ledger,
    pub errors: InMemory,
    pub store: SimStore,
    pub wal_config: WalConfig,
    client: Client,
    chance: Chance,
    scenario: Scenario,
    lost: Vec<Lost>,
    tally: Tally,
}

/// Runs a seed.
pub(crate) fn run(seed: u64, scenario: Scenario) -> Tally {
    let mut chance = Chance(seed);
    let machine = Machine::new(chance.fork());
    let _entered = ambient::simulated::enter(chance.next(), machine.clone());
    let mut world = World {
        disk: SimDisk::new(machine.clone()),
        ledger: Ledger::in_memory(machine.clone()),
        errors: InMemory::new(machine.clone()),
        store: SimStore::new(machine.clone()),
        wal_config: WalConfig {
            bytes_max: 1 << 20,
            segment_bytes: 64 << 10,
            queue_bytes_max: 64 << 10,
        },
        client: Client::new(chance.fork()),
        machine,
        chance,
        scenario,
        lost: Vec::new(),
        tally: Tally::default(),
    };
    for _ in 0..scenario.lives {
        world.live();
    }
    // The second time finds what the first has left undone.
    world.drain();
    world.drain();
    world.judge()
}

impl World {
    /// One life and its end.
    fn live(&mut self) {
        let death = if self.chance.one_in(2) { Death::Kill } else { Death::PowerLoss };
        let fate = [Fate::Before, Fate::Within, Fate::After][self.chance.below(3) as usize];
        // A third of the deaths fall into the start.
        let most = if self.chance.one_in(3) { 30 } else { 400 };
        let crash = Crash { at: 1 + self.chance.below(most), fate, death };
        let faults = self.faults();
        self.machine.switch_on(Some(crash), faults);
        match Life::begin(self) {
            Ok(mut life) => {
                for _ in 0..STEPS_MAX {
                    life.step(&mut self.client, &mut self.chance);
                    if !life.is_alive() {
                        break;
                    }
                }
                self.end(&life);
            }
            Err(Stillborn(why)) => self.stillborn(&why, faults),
        }
        self.die(death);
    }

    fn faults(&mut self) -> Faults {
        let writeback = 250;
        if !self.scenario.faults {
            return Faults { writeback, ..Faults::default() };
        }
        let mut some = |most: u64| if self.chance.one_in(2) { self.chance.below(most) } else { 0 };
        Faults {
            short_write: some(200),
            no_space: some(60),
            failed_write: some(20),
            failed_sync: some(40),
            store: some(300),
            writeback,
        }
    }

    fn die(&mut self, death: Death) {
        self.machine.die();
        self.client.hang_up();
        self.disk.survive(death, &mut self.chance);
        self.store.new_life(&mut self.chance);
        self.tally.crashes += 1;
        if self.scenario.rot {
            let is_segment = |path: &std::path::Path| path.extension().is_some_and(|e| e == "wal");
            self.disk.content().flip_any(is_segment, &mut self.chance);
        }
    }

    /// A process that could not start: only where something was wrong with its machine.
    fn stillborn(&mut self, why: &str, faults: Faults) {
        let could_fail = faults.no_space + faults.failed_write + faults.failed_sync > 0;
        if self.machine.is_alive() && !could_fail {
            self.tally.problems.push(format!("a start failed: {why}"));
        }
    }

    /// What a life has reported.
    fn end(&mut self, life: &Life) {
        if !self.scenario.rot && life.stream.stats.damaged_records.get() > 0 {
            let told = life.told.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            self.tally.problems.push(format!("damage without bit rot: {told:?}"));
        }
    }

    /// A life in which nothing goes wrong, and which stores all there is.
    fn drain(&mut self) {
        self.machine.switch_on(None, Faults::default());
        match Life::begin(self) {
            Ok(mut life) => {
                if !life.drain(&mut self.client) {
                    let (low, head) = (life.low(), life.stream.wal.head());
                    self.tally.problems.push(format!("drained to {low} of {head}"));
                }
                self.end(&life);
                self.tally.letters = life.letters().len() as u64;
                if !self.scenario.rot || self.tally.problems.is_empty() {
                    let letters = life.letters();
                    self.client.check(&self.store.content(), &letters, &self.lost);
                }
            }
            Err(Stillborn(why)) => self.stillborn(&why, Faults::default()),
        }
        self.machine.die();
        self.disk.survive(Death::Kill, &mut self.chance);
    }

    fn judge(mut self) -> Tally {
        self.tally.problems.append(&mut self.client.problems);
        self.tally.acked = self.client.acked();
        self.tally.stored =
            self.store.content().objects.values().map(|object| object.rows.len() as u64).sum();
        let state = self.machine.state();
        self.tally.operations = state.operations_ever;
        self.tally.trace = state.trace;
        drop(state);
        self.tally
    }
}
