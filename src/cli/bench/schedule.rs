//! How the time of a run is shared out among its steps.

use std::time::{Duration, Instant};

/// What a service takes to start, to store the rest, and to say so.
const SERVICE: Duration = Duration::from_millis(1500);
/// A step that is shorter says nothing.
const STEP_MIN: Duration = Duration::from_millis(250);

/// The steps that are still to come, and the time for them.
pub struct Schedule {
    end: Instant,
    weights: u32,
    services: u32,
}

impl Schedule {
    /// A run of that time, whose steps have these weights together, and that starts so many
    /// services.
    pub fn new(time: Duration, weights: u32, services: u32) -> Self {
        Self { end: Instant::now() + time, weights, services }
    }

    /// The next step's time: its share of what is left. What steps before it took too long or did
    /// not need is shared by all that follow.
    pub fn step(&mut self, weight: u32) -> Duration {
        let left = self.end.saturating_duration_since(Instant::now());
        let left = left.saturating_sub(SERVICE * self.services);
        let share = left * weight / self.weights.max(weight).max(1);
        self.weights = self.weights.saturating_sub(weight);
        share.max(STEP_MIN)
    }

    /// A service is about to be started.
    pub fn service(&mut self) {
        self.services = self.services.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_follow_the_weights_and_add_up_to_no_more_than_the_time() {
        // The clock goes on meanwhile, which makes shares smaller only.
        let time = Duration::from_secs(1000);
        let mut schedule = Schedule::new(time, 10, 2);
        let work = time - SERVICE * 2;
        let first = schedule.step(4);
        assert!(first <= work * 4 / 10 && first > work * 39 / 100, "{first:?}");
        schedule.service();
        // The first has taken no time at all: the rest has it.
        let second = schedule.step(6);
        assert!(second <= time - SERVICE && second > time * 99 / 100, "{second:?}");
    }

    #[test]
    fn a_step_that_comes_too_late_is_short_and_not_left_out() {
        let mut schedule = Schedule::new(Duration::ZERO, 10, 2);
        assert_eq!([schedule.step(4), schedule.step(6), schedule.step(6)], [STEP_MIN; 3]);
    }
}
