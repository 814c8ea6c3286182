//! Crashes before and after every call, lost and late answers, broken files, ledgers that go back
//! in time or are lost: whatever comes together, each object lands once.

use super::*;
use crate::ledger::Adopted;
use crate::sim::Chance;
use crate::store::Found;

/// Lives, each ended by a crash, before the world heals.
const LIVES: u64 = 8;

/// A directory whose process dies again and again.
struct Story {
    chance: Chance,
    dir: tempfile::TempDir,
    fake: Fake,
    /// Objects that are in the lake: 1 to this.
    stored: u64,
    /// A copy of the ledger, and what was stored then.
    copy: Option<(Vec<u8>, u64)>,
    /// Whether the ledger may be lost or go back in time; else what was on its way to the warehouse
    /// may arrive after the crash. Both at once is more than anybody can know.
    loses_ledgers: bool,
}

impl Story {
    fn new(seed: u64) -> Self {
        let (dir, fake) = (tempfile::tempdir().unwrap(), Fake::default());
        let loses_ledgers = seed.is_multiple_of(2);
        Self { chance: Chance(seed), dir, fake, stored: 0, copy: None, loses_ledgers }
    }

    /// The ledger, which has learnt from the store what it does not know.
    fn ledger(&mut self) -> Ledger {
        let path = self.dir.path().join("ledger.db");
        let mut known = self.stored;
        if self.loses_ledgers && self.chance.one_in(3) {
            for suffix in ["-wal", "-shm"] {
                let _ = std::fs::remove_file(self.dir.path().join(format!("ledger.db{suffix}")));
            }
            let _ = std::fs::remove_file(&path);
            known = 0;
            if let Some((bytes, stored)) = &self.copy {
                std::fs::write(&path, bytes).unwrap();
                known = *stored;
            }
        }
        let ledger = ledger(self.dir.path());
        let lacking = (known + 1..=self.stored).map(adopted).collect::<Vec<_>>();
        if !lacking.is_empty() {
            ledger.adopt(&StreamName::new("events").unwrap(), 5, lacking).unwrap();
        }
        ledger
    }

    fn live(&mut self) {
        let ledger = self.ledger();
        for _ in 0..self.chance.below(7) {
            self.stored += 1;
            store(&ledger, "events", self.stored);
        }
        let (chance, stored, late) = (&mut self.chance, self.stored, !self.loses_ledgers);
        self.fake.change(|world| {
            match chance.below(8) {
                0 | 1 => drop(world.broken.insert(object(1 + chance.below(stored + 1)))),
                2 => world.broken.extend(objects(1..=stored)),
                3 => world.broken.clear(),
                _ => {}
            }
            for _ in 0..chance.below(3) {
                let all = [
                    Wrong::LostReply,
                    Wrong::Refused,
                    Wrong::FailsLater,
                    Wrong::Runs,
                    Wrong::NoJob,
                ];
                world.wrong.push_back(all[chance.below(5) as usize]);
            }
            world.dies_in = Some(chance.below(24));
            world.is_late = late && chance.one_in(2);
        });
        until_idle(&self.fake, &ledger);
        self.fake.change(|world| (world.dies_in, world.is_dead) = (None, false));
        if self.chance.one_in(3) {
            retry_all(&ledger);
        }
        ledger.close();
        if self.chance.one_in(3) {
            let bytes = std::fs::read(self.dir.path().join("ledger.db")).unwrap();
            self.copy = Some((bytes, self.stored));
        }
    }

    /// Everything is mended: now it all lands.
    fn end(mut self) -> Vec<String> {
        self.fake.change(|world| {
            world.broken.clear();
            world.wrong.clear();
            world.dies_in = None;
        });
        let ledger = self.ledger();
        loop {
            until_idle(&self.fake, &ledger);
            if retry_all(&ledger) == 0 {
                break;
            }
        }
        assert_eq!(ledger.waiting().unwrap().failed, 0);
        self.fake.table("t_events")
    }
}

fn retry_all(ledger: &Ledger) -> usize {
    let failed = ledger.loads(Some(LoadState::Failed), 1000).unwrap();
    failed.iter().for_each(|load| drop(ledger.retry_load(load.id).unwrap()));
    failed.len()
}

fn adopted(number: u64) -> Adopted {
    let now = crate::time::now();
    let found = Found {
        id: BatchId::from_u128(u128::from(number)),
        object: object(number),
        partitions: (0, 3),
        digest: 1,
        seqs: [number].into_iter().collect(),
        bytes: 100,
        received: (now, now),
        ledger_tx: 0,
        letters: Vec::new(),
    };
    Adopted { found, ids: Vec::new() }
}

#[test]
fn each_object_lands_once_whatever_dies_is_lost_or_goes_back_in_time() {
    let seeds = std::env::var("EVENTKIT_WAREHOUSE_SEEDS").ok().and_then(|n| n.parse().ok());
    for seed in 0..seeds.unwrap_or(30) {
        let mut story = Story::new(seed);
        (0..LIVES).for_each(|_| story.live());
        let stored = story.stored;
        assert_eq!(story.end(), objects(1..=stored), "seed {seed}");
    }
}
