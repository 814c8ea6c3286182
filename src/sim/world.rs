//! What outlives a process: the disk, the databases, the store, the client; and the lives in it.

use std::time::Duration;

use super::Chance;
use super::client::{Client, Lost};
use super::disk::SimDisk;
use super::life::{Life, SatOut, Stillborn};
use super::machine::{Crash, Death, Fate, Faults, Machine};
use super::store::SimStore;
use crate::ambient::{self, simulated::Entered};
use crate::config::WalConfig;
use crate::errors::InMemory;
use crate::ledger::Ledger;

/// The steps of a life that nothing ends before.
const STEPS_MAX: u64 = 400;

/// What a run is like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario {
    pub name: &'static str,
    /// Lives before the one that drains.
    lives: u64,
    /// Whether disk and store do worse than die.
    faults: bool,
    /// Whether a bit of the log is flipped at each restart.
    rot: bool,
}

impl Scenario {
    /// Kills and losses of power, and a store that is slow and away.
    pub const DEATHS: Self = Self { name: "deaths", lives: 12, faults: false, rot: false };
    /// Also failed and short writes, failed syncs, lost answers.
    pub const FAULTS: Self = Self { name: "faults", lives: 12, faults: true, rot: false };
    /// Also a flipped bit at each restart.
    pub const ROT: Self = Self { name: "rot", lives: 8, faults: false, rot: true };
}

/// What a run came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
    tells: bool,
    lost: Vec<Lost>,
    /// What was written last, and answered for.
    last_frame: Option<Lost>,
    tally: Tally,
    #[expect(dead_code, reason = "dropping it leaves the simulated world")]
    entered: Entered,
}

/// Runs a seed.
pub(crate) fn run(seed: u64, scenario: Scenario) -> Tally {
    let mut world = World::new(seed, scenario);
    for _ in 0..scenario.lives {
        let death = if world.chance.one_in(2) { Death::Kill } else { Death::PowerLoss };
        let fate = [Fate::Before, Fate::Within, Fate::After][world.chance.below(3) as usize];
        // A third of the deaths fall into the start.
        let most = if world.chance.one_in(3) { 30 } else { 300 };
        let crash = Crash { at: 1 + world.chance.below(most), fate, death };
        world.live(Some(crash), STEPS_MAX);
        world.die(death, None);
    }
    world.end()
}

impl World {
    /// An empty world; this thread is in it from now on.
    pub fn new(seed: u64, scenario: Scenario) -> Self {
        let mut chance = Chance(seed);
        let machine = Machine::new(chance.fork());
        Self {
            entered: ambient::simulated::enter(chance.next(), machine.clone()),
            disk: SimDisk::new(machine.clone()),
            ledger: Ledger::in_memory(machine.clone()).unwrap(),
            errors: InMemory::new(machine.clone()),
            store: SimStore::new(machine.clone(), &mut chance),
            wal_config: WalConfig {
                bytes_max: 192 << 10,
                segment_bytes: 32 << 10,
                queue_bytes_max: 64 << 10,
                retention: Duration::from_secs(24 * 3600),
            },
            client: Client::new(chance.fork()),
            machine,
            chance,
            scenario,
            tells: std::env::var_os("EVENTKIT_SIM_SEED").is_some(),
            lost: Vec::new(),
            last_frame: None,
            tally: Tally::default(),
        }
    }

    /// One life, until it ends or has taken so many steps.
    pub fn live(&mut self, crash: Option<Crash>, steps: u64) {
        let faults = self.faults();
        self.machine.switch_on(crash, faults);
        match Life::begin(self) {
            Ok(mut life) => {
                self.tell(|| format!("{crash:?}: {}", life.tell()));
                for _ in 0..steps {
                    life.step(&mut self.client, &mut self.chance);
                    if !life.is_alive() {
                        break;
                    }
                }
                self.tell(|| {
                    let (head, lost) = (life.stream.wal.head(), life.reported());
                    format!("it ends at {head}, and reports {lost:?}")
                });
                self.hear_reports(&life);
            }
            Err(Stillborn(why)) => {
                self.tell(|| format!("{crash:?}: no start: {why}"));
                self.stillborn(&why, faults);
            }
        }
    }

    /// A life in which nothing goes wrong but the store, which is away for that long and then takes
    /// everything.
    pub fn sit_out(&mut self, outage: Duration) -> SatOut {
        self.machine.switch_on(None, Faults::default());
        let Ok(mut life) = Life::begin(self) else { panic!("a start failed") };
        let cost = life.sit_out(outage, &mut self.client, &mut self.chance);
        if !life.drain(&mut self.client) {
            self.tally.problems.push(format!("not drained after an outage: {}", life.tell()));
        }
        self.machine.die();
        cost
    }

    /// Everything is brought to its end, and judged.
    pub fn end(mut self) -> Tally {
        // The second time finds what the first has left undone.
        self.drain();
        self.drain();
        self.judge()
    }

    /// Tells how a seed goes that is repeated.
    fn tell(&self, what: impl FnOnce() -> String) {
        if self.tells {
            println!("{}", what());
        }
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

    /// The process is dead, and its machine will be switched on again; `persists` says of each
    /// unsynced sector and name whether it is there then, where chance does not.
    pub fn die(&mut self, death: Death, persists: Option<u64>) {
        self.machine.die();
        self.client.hang_up();
        match persists {
            None => self.disk.survive(death, &mut self.chance),
            Some(subset) => self.disk.content().keep(subset),
        }
        // Of a plan that damage has made unreachable, what is left goes under another name: a
        // request that comes later still is the one case in which rows are doubled.
        self.store.new_life(&mut self.chance, !self.scenario.rot);
        self.tally.crashes += 1;
        if self.scenario.rot {
            let is_segment = |path: &std::path::Path| path.extension().is_some_and(|e| e == "wal");
            let flipped = self.disk.content().flip_any(is_segment, &mut self.chance);
            self.tell(|| format!("flipped: {flipped:?}"));
        }
    }

    /// A process that could not start: only where something was wrong with its machine.
    fn stillborn(&mut self, why: &str, faults: Faults) {
        let could_fail = faults.no_space + faults.failed_write + faults.failed_sync > 0;
        if self.machine.is_alive() && !could_fail {
            self.tally.problems.push(format!("a start failed: {why}"));
        }
    }

    /// What a life has told its operator about records that are lost.
    fn hear_reports(&mut self, life: &Life) {
        let log_uuid = life.stream.wal.log_uuid();
        let reported = life.reported();
        if self.scenario.rot {
            self.lost.extend(reported.into_iter().map(|(from, to)| (log_uuid, from, to)));
            // A flipped bit in the last frame, before it had a successor, is a suspect tail.
            if life.stream.recovered.suspect_tail.is_some() {
                self.lost.extend(self.last_frame);
            }
        } else if !reported.is_empty() {
            self.tally.problems.push(format!("damage without bit rot: {reported:?}"));
        }
        self.last_frame = life.last_frame.or(self.last_frame);
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
                self.tell(|| format!("at last: {}, reports {:?}", life.tell(), life.reported()));
                self.hear_reports(&life);
                let letters = life.letters();
                self.tally.letters = letters.len() as u64;
                self.client.check(&self.store.content(), &letters, &self.lost);
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
