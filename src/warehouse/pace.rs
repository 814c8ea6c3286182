//! How often a table is loaded: every interval, and more rarely where the jobs that the service
//! takes for it in a day come to an end. What was used up the ledger knows, also of earlier
//! processes; parts and further attempts are jobs as well.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::Progress;
use super::stage::{NEXT_JOB_MAX, Table};
use crate::ambient;
use crate::event::Micros;
use crate::ledger::Spent;

/// As long as the service counts jobs.
const DAY: Duration = Duration::from_secs(86_400);
/// The last jobs of a day, one in so many, are spread over a day.
const LAST: u64 = 30;

/// When tables may be planned.
pub(super) struct Pace {
    interval: Duration,
    jobs_max: u64,
    /// Tables that rest until then, as far as the ledger was asked.
    rests: HashMap<Table, Instant>,
}

impl Pace {
    /// With so long between two loads of a table, and so many jobs in a day.
    pub fn new(interval: Duration, jobs_max: u64) -> Self {
        Self { interval, jobs_max, rests: HashMap::new() }
    }

    /// Whether a table is known to rest.
    pub fn rests(&self, table: &Table) -> bool {
        self.rests.get(table).is_some_and(|until| ambient::now() < *until)
    }

    /// Has a table rest as what it has used up asks for; says so where that is longer than the
    /// interval and news.
    pub fn set(&mut self, table: &Table, spent: Spent, progress: &Progress) -> Option<String> {
        let pause = pause(self.interval, spent.jobs, self.jobs_max);
        let ago = |at: Micros| {
            // The clock may have been set back.
            let passed = u64::try_from(crate::time::now().saturating_sub(at)).unwrap_or(0);
            Duration::from_micros(passed)
        };
        let left = spent.planned_at.map_or(Duration::ZERO, |at| pause.saturating_sub(ago(at)));
        // Meanwhile jobs come to be a day old.
        if let Some(until) = ambient::now().checked_add(left.min(NEXT_JOB_MAX)) {
            self.rests.insert(table.clone(), until);
        }
        let why = (pause > self.interval).then(|| {
            let (table, jobs, minutes) = (&table.1, spent.jobs, pause.as_secs() / 60);
            format!(
                "table {table} has used {jobs} of the {} load jobs of a day: it is loaded every \
                 {minutes} minutes",
                self.jobs_max
            )
        });
        let is_news = progress.slows(&table.1, why.clone());
        why.filter(|_| is_news)
    }
}

/// A job that is older counts no more.
pub(super) fn a_day_ago() -> Micros {
    crate::time::now().saturating_sub(DAY.as_micros() as Micros)
}

/// How long after a table's last load the next is planned, where a day's jobs are so many.
fn pause(interval: Duration, jobs: u64, jobs_max: u64) -> Duration {
    let left = jobs_max.saturating_sub(jobs);
    if left > jobs_max / LAST {
        return interval;
    }
    interval.max(DAY / u32::try_from(left).unwrap_or(u32::MAX).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn the_last_jobs_of_a_day_last_for_a_day() {
        for (jobs, expected) in [
            (0, 5 * MINUTE),
            (1_449, 5 * MINUTE),
            (1_450, DAY / 50),
            (1_499, DAY),
            (1_500, DAY),
            (9_999, DAY),
        ] {
            assert_eq!(pause(5 * MINUTE, jobs, 1_500), expected, "{jobs}");
        }
        assert_eq!(pause(60 * MINUTE, 1_450, 1_500), 60 * MINUTE);
        assert_eq!(pause(MINUTE, 1_440, 1_500), MINUTE, "as many as that interval makes");
    }

    #[test]
    fn a_table_that_has_used_up_its_jobs_rests_and_says_so_once_while_others_do_not() {
        let (mut pace, progress) = (Pace::new(MINUTE, 1_500), Progress::new("fake", MINUTE));
        let table = |name: &str| ("d".to_owned(), name.to_owned());
        let ago = |time: Duration| Some(crate::time::now() - time.as_micros() as Micros);
        let spent = |jobs, time| Spent { jobs, planned_at: ago(time) };
        let why = pace.set(&table("a"), spent(1_480, 5 * MINUTE), &progress);
        let sentence = "table a has used 1480 of the 1500 load jobs of a day: it is loaded every \
                        72 minutes";
        assert_eq!(why.as_deref(), Some(sentence));
        assert_eq!(progress.status().slowed.as_deref(), Some(sentence));
        assert_eq!(pace.set(&table("a"), spent(1_480, 6 * MINUTE), &progress), None, "no news");
        assert_eq!(pace.set(&table("b"), spent(300, 2 * MINUTE), &progress), None);
        assert!(pace.rests(&table("a")) && !pace.rests(&table("b")) && !pace.rests(&table("c")));
        assert_eq!(pace.set(&table("a"), spent(1_480, 72 * MINUTE), &progress), None);
        assert!(!pace.rests(&table("a")), "its pause is over");
        assert_eq!(pace.set(&table("a"), Spent::default(), &progress), None);
        assert_eq!(progress.status().slowed, None);
    }
}
