use std::time::Duration;

use crate::load::{BACKOFF_MAX, UNDER_WAY};
use crate::sim::life::{BATCH, MEMORY};
use crate::sim::world::{Scenario, World};

const OUTAGE: Duration = Duration::from_secs(6 * 3600);
/// Attempts before the waits have grown to the longest.
const FIRST: u64 = 10;

#[test]
fn a_store_that_is_away_for_hours_is_asked_seldom_and_then_has_everything_once() {
    // Of each wait, chance leaves a tenth at least.
    let puts_max = FIRST + OUTAGE.as_secs() * 10 / BACKOFF_MAX.as_secs();
    for seed in 0..4 {
        let mut world = World::new(seed, Scenario::DEATHS);
        let cost = world.sit_out(OUTAGE);
        let tally = world.end();
        assert!(tally.problems.is_empty(), "seed {seed}: {:#?}", tally.problems);
        assert!(tally.stored > 40, "seed {seed}: {tally:?}");
        // What is old waits to become more; only full batches come on top.
        let batches_max = UNDER_WAY as u64 + tally.acked / BATCH as u64 + 1;
        assert!(cost.batches <= batches_max, "seed {seed}: {cost:?}, {tally:?}");
        assert!(cost.bytes <= MEMORY as u64 / 16, "seed {seed}: {cost:?}");
        assert!(cost.puts <= cost.batches * puts_max, "seed {seed}: {cost:?}");
        assert!(cost.puts >= OUTAGE.as_secs() / BACKOFF_MAX.as_secs(), "seed {seed}: {cost:?}");
    }
}
