use crate::sim::sweep::Sweep;
use crate::sim::world::{Scenario, run};

#[test]
fn nothing_is_lost_doubled_or_made_up_whenever_the_machine_dies() {
    Sweep::of(Scenario::DEATHS, 12).run_or_panic();
}

#[test]
fn nothing_is_lost_doubled_or_made_up_where_disk_and_store_do_worse_than_die() {
    Sweep::of(Scenario::FAULTS, 12).run_or_panic();
}

#[test]
fn no_flipped_bit_of_the_log_loses_anything_without_a_report() {
    Sweep::of(Scenario::ROT, 12).run_or_panic();
}

#[test]
fn a_seed_is_one_run() {
    for scenario in [Scenario::DEATHS, Scenario::FAULTS, Scenario::ROT] {
        let (first, second) = (run(7, scenario), run(7, scenario));
        assert_eq!(first, second);
        assert_ne!(first.trace, run(8, scenario).trace);
    }
}
