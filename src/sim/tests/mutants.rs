use crate::mutant::Mutant;
use crate::sim::sweep::Sweep;
use crate::sim::world::Scenario;

/// Seeds in which a mutant has to be found.
const SEEDS: u64 = 1_000;

fn finds(mutant: Mutant, scenario: Scenario) {
    let sweep = Sweep { first: 0, seeds: SEEDS, mutant: Some(mutant), ..Sweep::of(scenario, 0) };
    let swept = sweep.run();
    let Some(failure) = &swept.failure else { panic!("{mutant:?} was not found: {swept:?}") };
    println!("{mutant:?}: {failure}");
}

#[test]
fn the_harness_finds_an_answer_before_the_sync() {
    finds(Mutant::AckBeforeSync, Scenario::DEATHS);
}

#[test]
fn the_harness_finds_frames_without_salt() {
    finds(Mutant::NoSalt, Scenario::DEATHS);
}

#[test]
fn the_harness_finds_a_sync_that_is_tried_again() {
    finds(Mutant::RetrySync, Scenario::FAULTS);
}

#[test]
fn the_harness_finds_a_cursor_that_moves_before_the_upload() {
    finds(Mutant::CursorBeforeUpload, Scenario::DEATHS);
}

#[test]
fn the_harness_finds_segments_that_are_recycled_before_the_commit() {
    finds(Mutant::RecycleBeforeCommit, Scenario::DEATHS);
}

#[test]
fn the_harness_finds_positions_that_are_used_again() {
    finds(Mutant::AppendInOldSegment, Scenario::ROT);
}

#[test]
fn the_harness_finds_frames_that_share_a_block() {
    finds(Mutant::UnalignedFrames, Scenario::DEATHS);
}

#[test]
fn the_harness_finds_a_recovery_that_stops_at_the_first_bad_frame() {
    finds(Mutant::StopAtFirstBadFrame, Scenario::ROT);
}

#[test]
fn the_harness_finds_message_ids_that_count_before_their_commit() {
    finds(Mutant::DedupInsertEarly, Scenario::DEATHS);
}

#[test]
fn the_harness_finds_plans_that_are_made_again() {
    finds(Mutant::ReplanAfterCrash, Scenario::DEATHS);
}
