//! Many seeds, on every core, until one of them fails.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::world::{Scenario, run};
use crate::mutant::{self, Mutant};

/// Which seeds are run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sweep {
    pub scenario: Scenario,
    pub first: u64,
    pub seeds: u64,
    /// No seed is begun after that.
    pub at_most: Duration,
    pub mutant: Option<Mutant>,
}

/// What came of them.
#[derive(Debug, Default)]
pub(crate) struct Swept {
    pub seeds: u64,
    pub crashes: u64,
    pub operations: u64,
    pub acked: u64,
    pub stored: u64,
    pub letters: u64,
    pub failure: Option<Failure>,
}

/// A seed whose promises were not kept.
#[derive(Debug)]
pub(crate) struct Failure {
    pub seed: u64,
    pub scenario: &'static str,
    pub problems: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {} of {}:", self.seed, self.scenario)?;
        for problem in self.problems.iter().take(8) {
            writeln!(f, "  {problem}")?;
        }
        if self.problems.len() > 8 {
            writeln!(f, "  and {} more", self.problems.len() - 8)?;
        }
        write!(f, "again: EVENTKIT_SIM_SEED={} cargo test --lib sim::tests::seeds", self.seed)
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

impl Sweep {
    /// That many seeds, and no mutant; more or others where the environment says so.
    pub fn of(scenario: Scenario, seeds: u64) -> Self {
        let at_most = Duration::from_secs(number("EVENTKIT_SIM_SECONDS").unwrap_or(3_600));
        let (first, seeds) = match number("EVENTKIT_SIM_SEED") {
            Some(seed) => (seed, 1),
            None => (0, number("EVENTKIT_SIM_SEEDS").unwrap_or(seeds)),
        };
        Self { scenario, first, seeds, at_most, mutant: None }
    }

    /// Runs them; says what was run, or what is broken and how to see that again.
    pub fn run_or_panic(self) {
        let begun = Instant::now();
        let swept = self.run();
        if let Some(failure) = &swept.failure {
            panic!("{failure}");
        }
        let Swept { seeds, crashes, operations, acked, stored, letters, .. } = swept;
        let (first, took) = (self.first, begun.elapsed());
        println!(
            "{}: seeds {first} to {}: {crashes} crashes, {operations} operations, {acked} \
             acknowledged, {stored} rows and {letters} letters in {took:.1?}",
            self.scenario.name,
            first + seeds,
        );
    }

    /// Runs them until one fails.
    pub fn run(self) -> Swept {
        let next = AtomicU64::new(self.first);
        let (swept, begun) = (Mutex::new(Swept::default()), Instant::now());
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|scope| {
            for _ in 0..cores {
                scope.spawn(|| {
                    mutant::set(self.mutant);
                    self.work(&next, &swept, begun);
                });
            }
        });
        swept.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self, next: &AtomicU64, swept: &Mutex<Swept>, begun: Instant) {
        while begun.elapsed() < self.at_most {
            let seed = next.fetch_add(1, Relaxed);
            if seed >= self.first + self.seeds {
                return;
            }
            let tally = catch_unwind(AssertUnwindSafe(|| run(seed, self.scenario)));
            let mut swept = swept.lock().unwrap_or_else(PoisonError::into_inner);
            let problems = match tally {
                Ok(tally) => {
                    swept.seeds += 1;
                    swept.crashes += tally.crashes;
                    swept.operations += tally.operations;
                    swept.acked += tally.acked;
                    swept.stored += tally.stored;
                    swept.letters += tally.letters;
                    tally.problems
                }
                Err(_) => vec!["it panicked".to_owned()],
            };
            if !problems.is_empty() {
                next.store(u64::MAX / 2, Relaxed);
                let earlier = swept.failure.as_ref().is_some_and(|f| f.seed < seed);
                if !earlier {
                    swept.failure = Some(Failure { seed, scenario: self.scenario.name, problems });
                }
            }
        }
    }
}
