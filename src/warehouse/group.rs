//! Which objects go in one job, and how a job that failed is parted.

use std::collections::HashSet;

use crate::event::Micros;
use crate::ledger::Member;

/// Microseconds in a day.
const DAY: Micros = 86_400_000_000;

/// What one job may hold, and how many there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Objects.
    pub objects: u64,
    /// Bytes of those.
    pub bytes: u64,
    /// Days of receipt: each is a partition of the table.
    pub days: usize,
    /// Jobs for one table in a day, failed ones too.
    pub jobs: u64,
}

/// A job's objects while they are chosen.
#[derive(Debug)]
pub(super) struct Group {
    limits: Limits,
    objects: u64,
    bytes: u64,
    days: HashSet<i64>,
}

impl Group {
    pub fn new(limits: Limits) -> Self {
        Self { limits, objects: 0, bytes: 0, days: HashSet::new() }
    }

    /// Takes an object, where there is room for it. The first is always taken: one that is too
    /// large for itself has to fail alone.
    pub fn takes(&mut self, member: &Member) -> bool {
        let (first, last) = (member.received.0.div_euclid(DAY), member.received.1.div_euclid(DAY));
        // Times that were not believed may lie far apart; there are no more days than rows.
        let span = usize::try_from(last.abs_diff(first)).unwrap_or(usize::MAX).saturating_add(1);
        let bound = span.min(usize::try_from(member.rows).unwrap_or(usize::MAX));
        let known = span <= self.limits.days && (first..=last).all(|day| self.days.contains(&day));
        let fits = self.objects < self.limits.objects
            && self.bytes.saturating_add(member.bytes) <= self.limits.bytes
            && (known || self.days.len().saturating_add(bound) <= self.limits.days);
        if self.objects > 0 && !fits {
            return false;
        }
        self.objects += 1;
        self.bytes = self.bytes.saturating_add(member.bytes);
        if span <= self.limits.days {
            self.days.extend(first..=last);
        }
        true
    }
}

/// Two parts of what failed together: what was named as the cause and the rest, else halves.
pub(super) fn parts(members: Vec<Member>, named: &[String]) -> Vec<Vec<Member>> {
    let named: HashSet<&str> = named.iter().map(String::as_str).collect();
    let (bad, good): (Vec<Member>, Vec<Member>) =
        members.into_iter().partition(|member| named.contains(member.object.as_str()));
    match (bad.is_empty(), good.is_empty()) {
        (false, false) => vec![good, bad],
        (true, _) => halves(good),
        (false, true) => halves(bad),
    }
}

fn halves(mut members: Vec<Member>) -> Vec<Vec<Member>> {
    let rest = members.split_off(members.len().div_ceil(2));
    [members, rest].into_iter().filter(|part| !part.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::BatchId;

    fn member(number: u128, bytes: u64, received: (Micros, Micros)) -> Member {
        let object = format!("o{number}");
        let (batch, stream) = (BatchId::from_u128(number), "events".to_owned());
        Member { batch, stream, object, rows: 10, bytes, received }
    }

    const LIMITS: Limits = Limits { objects: 3, bytes: 100, days: 12, jobs: 9 };

    fn taken(members: &[Member]) -> usize {
        let mut group = Group::new(LIMITS);
        members.iter().take_while(|member| group.takes(member)).count()
    }

    #[test]
    fn a_job_holds_no_more_objects_bytes_or_days_than_it_may() {
        let small = |n| member(n, 1, (0, DAY - 1));
        assert_eq!(taken(&[small(1), small(2), small(3), small(4)]), 3);
        assert_eq!(taken(&[member(1, 60, (0, 1)), member(2, 40, (0, 1)), small(3)]), 2);
        let far = |n, days: i64| member(n, 1, (0, days * DAY));
        assert_eq!(taken(&[far(1, 9), far(2, 9), member(3, 1, (20 * DAY, 23 * DAY))]), 2);
        assert_eq!(taken(&[member(1, 1, (-DAY, -1)), far(2, 10)]), 2, "days before the epoch too");
        assert_eq!(taken(&[member(1, 101, (0, 1)), small(2)]), 1, "what is too large goes alone");
    }

    #[test]
    fn what_failed_together_is_parted_by_what_was_named_else_in_halves() {
        let members: Vec<Member> = (1..=5).map(|n| member(n, 1, (0, 1))).collect();
        let names = |parts: Vec<Vec<Member>>| -> Vec<Vec<String>> {
            let of = |part: Vec<Member>| part.into_iter().map(|member| member.object).collect();
            parts.into_iter().map(of).collect()
        };
        let named = names(parts(members.clone(), &["o4".into(), "o9".into()]));
        assert_eq!(named, [vec!["o1", "o2", "o3", "o5"], vec!["o4"]]);
        let halves = names(parts(members.clone(), &[]));
        assert_eq!(halves, [vec!["o1", "o2", "o3"], vec!["o4", "o5"]]);
        let all: Vec<String> = members.iter().map(|member| member.object.clone()).collect();
        assert_eq!(names(parts(members, &all)).len(), 2, "naming all of them says nothing");
    }
}
