//! Rates over time: a counter's growth per second, kept for a minute by the second and for a
//! quarter of an hour by the quarter minute.

use std::collections::VecDeque;

use super::HISTORY_POINTS;

/// Seconds that a rate is averaged over.
const RATE_SECONDS: usize = 5;
/// Seconds in a point of the long history.
const QUARTER: u32 = 15;

/// One counter's history.
#[derive(Debug, Default)]
pub(super) struct History {
    last: u64,
    seconds: VecDeque<f32>,
    quarters: VecDeque<f32>,
    /// Growth and seconds of the quarter that is not over.
    growing: (f64, u32),
}

impl History {
    /// Takes the counter's value, `elapsed` seconds after the last; between two points, nothing.
    pub(super) fn take(&mut self, value: u64, elapsed: Option<f64>) {
        let Some(elapsed) = elapsed else { return };
        let last = std::mem::replace(&mut self.last, value);
        let grown = value.saturating_sub(last) as f64;
        push(&mut self.seconds, (grown / elapsed.max(0.001)) as f32);
        self.growing = (self.growing.0 + grown, self.growing.1 + 1);
        if self.growing.1 == QUARTER {
            push(&mut self.quarters, (self.growing.0 / f64::from(QUARTER)) as f32);
            self.growing = (0.0, 0);
        }
    }

    /// Growth per second over the last five.
    pub(super) fn rate(&self) -> f64 {
        let recent = self.seconds.iter().rev().take(RATE_SECONDS);
        let count = recent.len().max(1) as f64;
        // An empty sum is -0.0.
        recent.map(|&point| f64::from(point)).sum::<f64>().abs() / count
    }

    pub(super) fn seconds(&self) -> Vec<f32> {
        self.seconds.iter().map(rounded).collect()
    }

    pub(super) fn quarters(&self) -> Vec<f32> {
        self.quarters.iter().map(rounded).collect()
    }
}

fn push(points: &mut VecDeque<f32>, point: f32) {
    if points.len() == HISTORY_POINTS {
        points.pop_front();
    }
    points.push_back(point);
}

/// A snapshot is small: a tenth is as much as a chart shows.
fn rounded(point: &f32) -> f32 {
    (point * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_the_growth_of_the_last_five_seconds() {
        let mut history = History::default();
        for value in [0, 0, 10, 20, 30, 40, 50] {
            history.take(value, Some(1.0));
        }
        assert!((history.rate() - 10.0).abs() < 1e-9);
        assert_eq!(history.seconds(), [0.0, 0.0, 10.0, 10.0, 10.0, 10.0, 10.0]);
        assert!(history.quarters().is_empty());
    }

    #[test]
    fn a_quarter_is_the_mean_of_its_seconds_and_the_oldest_points_go() {
        let mut history = History::default();
        for second in 1..=15 * 61_u64 {
            history.take(second * 3, Some(1.0));
        }
        assert_eq!((history.seconds().len(), history.quarters().len()), (60, 60));
        assert!(history.quarters().iter().all(|&point| (point - 3.0).abs() < 1e-6));
    }
}
