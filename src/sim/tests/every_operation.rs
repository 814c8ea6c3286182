use crate::sim::machine::{Crash, Death, Fate};
use crate::sim::world::{Scenario, World};

/// Sectors and names of which every subset is tried.
const SUBSETS_OF: usize = 10;

/// The steps of the one small life that is cut off everywhere.
const STEPS: u64 = 45;

/// Cuts the life off and brings everything to its end; returns what was unsynced then.
fn cut(crash: Crash, persists: Option<u64>) -> usize {
    let mut world = World::new(1, Scenario::DEATHS);
    world.live(Some(crash), STEPS);
    let unsynced = world.disk.content().unsynced();
    world.die(crash.death, persists);
    let tally = world.end();
    let problems = &tally.problems;
    assert!(problems.is_empty(), "{crash:?} of which {persists:?} persists: {problems:#?}");
    unsynced
}

#[test]
fn a_small_life_may_end_at_any_operation_with_any_unsynced_sectors() {
    let mut whole = World::new(1, Scenario::DEATHS);
    whole.live(None, STEPS);
    let operations = whole.machine.state().operations;
    let mut points = 0_u64;
    for at in 1..=operations {
        for fate in [Fate::Before, Fate::Within, Fate::After] {
            cut(Crash { at, fate, death: Death::Kill }, None);
            let crash = Crash { at, fate, death: Death::PowerLoss };
            let unsynced = cut(crash, Some(0));
            points += 2;
            if unsynced <= SUBSETS_OF {
                for subset in 1..1_u64 << unsynced {
                    cut(crash, Some(subset));
                    points += 1;
                }
            } else {
                // A new segment's zeros: all of it, every second sector, and what chance says.
                for subset in [u64::MAX, 0x5555_5555_5555_5555, 0xaaaa_aaaa_aaaa_aaaa] {
                    cut(crash, Some(subset));
                    points += 1;
                }
                cut(crash, None);
                points += 1;
            }
        }
    }
    println!("{points} crashes at {operations} operations");
    assert!(operations > 40, "the life has only {operations} operations");
}
