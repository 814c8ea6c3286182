//! How evenly events are spread over partitions, and when that means something.
//!
//! In: the events of each partition since the start; nothing else is known: who the users are, and
//! how many, is counted nowhere. Out: each partition's ratio to the mean, and which partitions are
//! hot. Few users spread unevenly by chance: of three, one is alone in its partition. So a
//! partition is hot only where it stands out from how far apart the others are anyway, and the
//! emptier half of them tells that, however many are hot.

use super::{PartitionStatus, Severity};

/// This many times the mean is a warning…
const WARNING: f64 = 2.0;
/// …and this many critical.
const CRITICAL: f64 = 4.0;
/// Below this many events, chance alone makes a skew,
const EVENTS_MIN: u64 = 1000;
/// and below this many a partition.
const EVENTS_PER_PARTITION_MIN: u64 = 50;
/// How many times the typical distance below the median a hot partition is above it. Users of equal
/// weight, two or more a partition, exceed it once in a hundred times.
const DISTANCES: f64 = 6.0;

/// The spread of one set of partitions.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Skew {
    mean: f64,
    /// A partition with more events is hot; none where nothing can be said.
    bound: Option<f64>,
}

impl Skew {
    /// The spread of these.
    #[must_use]
    pub fn of(partitions: &[PartitionStatus]) -> Self {
        let total: u64 = partitions.iter().map(|partition| partition.events).sum();
        let count = partitions.len() as u64;
        let mean = total as f64 / count.max(1) as f64;
        if total < EVENTS_MIN.max(EVENTS_PER_PARTITION_MIN.saturating_mul(count)) || count < 2 {
            return Self { mean, bound: None };
        }
        let mut events: Vec<u64> = partitions.iter().map(|partition| partition.events).collect();
        events.sort_unstable();
        let (emptier, fuller) = events.split_at(events.len() / 2);
        let median = fuller.first().copied().unwrap_or_default();
        let below: u64 = emptier.iter().map(|events| median - events).sum();
        let distance = below as f64 / emptier.len() as f64;
        // Where half of the partitions are empty there are fewer users than partitions.
        let bound = (median > 0).then_some(median as f64 + DISTANCES * distance);
        Self { mean, bound }
    }

    /// Whether there are events and users enough to call a partition hot.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.bound.is_some()
    }

    /// Events of a partition, on average.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.mean
    }

    /// A partition's events over the mean; 0 where there are none at all.
    #[must_use]
    pub fn ratio(&self, events: u64) -> f64 {
        if self.mean > 0.0 { events as f64 / self.mean } else { 0.0 }
    }

    /// How bad it is that a partition has so many events; `None` where it is not hot.
    #[must_use]
    pub fn severity(&self, events: u64) -> Option<Severity> {
        self.bound.filter(|bound| events as f64 > *bound)?;
        match self.ratio(events) {
            CRITICAL.. => Some(Severity::Critical),
            WARNING.. => Some(Severity::Warning),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sequence::Sequencer;

    /// What partitions get where user `n` sends `events(n)`.
    fn spread(partitions: u16, users: u64, events: impl Fn(u64) -> u64) -> Vec<PartitionStatus> {
        let sequencer = Sequencer::new(partitions);
        let mut spread = vec![PartitionStatus::default(); usize::from(partitions)];
        for user in 0..users {
            let partition = sequencer.partition_of_key(&format!("user-{user}"));
            spread[usize::from(partition)].events += events(user);
        }
        spread
    }

    fn worst(partitions: &[PartitionStatus]) -> Option<Severity> {
        let skew = Skew::of(partitions);
        partitions.iter().filter_map(|partition| skew.severity(partition.events)).max()
    }

    #[test]
    fn a_few_users_are_no_skew_however_they_fall() {
        for users in [1, 2, 3, 5, 7, 50, 200] {
            let partitions = spread(16, users, |_| 100_000);
            assert_eq!(worst(&partitions), None, "{users} users");
        }
        let three = Skew::of(&spread(16, 3, |_| 100_000));
        assert!(!three.is_known());
        assert!(three.ratio(100_000) > 4.0, "the shape is shown all the same");
    }

    #[test]
    fn a_hot_user_among_many_is_a_skew() {
        for users in [60, 1_000, 50_000] {
            // User 7 sends so many percent of what all the others send together.
            let loud = |share: u64| {
                spread(16, users, move |user| if user == 7 { (users - 1) * share } else { 100 })
            };
            assert_eq!(worst(&loud(100)), Some(Severity::Critical), "{users} users");
            assert_eq!(worst(&loud(20)), Some(Severity::Warning), "{users} users");
        }
    }

    #[test]
    fn a_second_hot_user_hides_none() {
        let partitions = spread(16, 5_000, |user| if user < 4 { 200_000 } else { 100 });
        let skew = Skew::of(&partitions);
        let hot = partitions.iter().filter(|partition| skew.severity(partition.events).is_some());
        assert!(hot.count() >= 2);
    }

    #[test]
    fn users_of_equal_weight_are_no_skew() {
        for partitions in [2, 4, 16, 64, 256] {
            for users_each in [4, 20, 300] {
                let partitions = spread(partitions, u64::from(partitions) * users_each, |_| 50);
                assert_eq!(worst(&partitions), None, "{users_each} users each");
            }
        }
    }

    #[test]
    fn too_few_events_say_nothing() {
        let partitions = |events| {
            let mut partitions = vec![PartitionStatus { events, pending: 0 }; 16];
            partitions[3].events *= 100;
            partitions
        };
        assert_eq!(worst(&partitions(8)), None);
        assert_eq!(worst(&partitions(9)), Some(Severity::Critical));
        assert!(!Skew::of(&[]).is_known());
        assert!(!Skew::of(&partitions(1_000)[3..4]).is_known());
    }
}
