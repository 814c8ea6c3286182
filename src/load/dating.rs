//! Whether a receive time can be believed: it chooses the hour that an event is filed under.
//!
//! In: receive times of a stream's records, in log order. Out: whether each may name a date; one
//! that may not is stored as it is and filed under `unknown`. Nothing else follows from a receive
//! time: order is the log's, and every duration is measured by a clock that can't jump.
//!
//! A time is believed if it is later than any eventkit was built, and within 24 h of the last one
//! that was believed, or of what has passed since by the clock that can't jump: a stream may be
//! idle for a week. A new time that has held for an hour of its own is believed, since a clock that
//! was set right is set for good. Replayed records keep an old time and are asked for the first
//! only.

use std::time::Instant;

use crate::event::Micros;

/// 2025-01-01T00:00:00Z: no eventkit was built before.
const BUILT: Micros = 1_735_689_600_000_000;
const HOUR: Micros = 3_600_000_000;
const DAY: Micros = 24 * HOUR;

/// One stream's sense of time.
#[derive(Debug, Default)]
pub(super) struct Dating {
    /// The last time that was believed, and when it was seen.
    last: Option<(Micros, Instant)>,
    /// The first of the times that differ from it and agree with each other.
    stray: Option<Micros>,
}

impl Dating {
    /// Whether that time may name a date.
    pub(super) fn believes(&mut self, at: Micros, is_replay: bool, now: Instant) -> bool {
        if at < BUILT || is_replay {
            return at >= BUILT;
        }
        if self.fits(at, now) || self.has_held(at) {
            self.last = Some((at, now));
            self.stray = None;
            return true;
        }
        false
    }

    fn fits(&self, at: Micros, now: Instant) -> bool {
        let Some((last, seen)) = self.last else { return true };
        let passed = now.saturating_duration_since(seen).as_micros();
        let passed = Micros::try_from(passed).unwrap_or(Micros::MAX / 2);
        at >= last.saturating_sub(DAY) && at <= last.saturating_add(passed).saturating_add(DAY)
    }

    fn has_held(&mut self, at: Micros) -> bool {
        let first = *self.stray.get_or_insert(at);
        match at.saturating_sub(first) {
            held if (HOUR..=DAY).contains(&held) => true,
            held => {
                if !(0..=DAY).contains(&held) {
                    self.stray = Some(at);
                }
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: Micros = BUILT + 600 * DAY;
    const TEN_YEARS: Micros = 3652 * DAY;

    #[test]
    fn a_clock_that_jumps_ten_years_is_not_believed_until_it_is_back() {
        for jump in [TEN_YEARS, -TEN_YEARS, 2 * DAY, -2 * DAY] {
            let (mut dating, now) = (Dating::default(), Instant::now());
            assert!(dating.believes(NOW, false, now));
            assert!(!dating.believes(NOW + jump, false, now));
            assert!(!dating.believes(NOW + jump + 1, false, now));
            assert!(dating.believes(NOW + 2, false, now));
            assert!(dating.believes(NOW + HOUR, false, now));
        }
    }

    #[test]
    fn a_clock_that_was_set_right_is_believed_after_an_hour() {
        let (mut dating, now) = (Dating::default(), Instant::now());
        dating.believes(NOW - 3 * DAY, false, now);
        assert!(!dating.believes(NOW, false, now));
        assert!(!dating.believes(NOW + HOUR - 1, false, now));
        assert!(dating.believes(NOW + HOUR, false, now));
        assert!(dating.believes(NOW + HOUR + 1, false, now));
    }

    #[test]
    fn an_idle_stream_goes_on_where_time_has_passed() {
        let (mut dating, now) = (Dating::default(), Instant::now());
        dating.believes(NOW, false, now);
        let week = Duration::from_secs(7 * 86_400);
        assert!(dating.believes(NOW + 7 * DAY, false, now + week));
        // And a backlog of days is read within moments: its records follow each other closely.
        assert!((1..40).all(|n| dating.believes(NOW + 7 * DAY + n * DAY / 4, false, now + week)));
    }

    #[test]
    fn what_is_older_than_eventkit_is_never_believed() {
        let (mut dating, now) = (Dating::default(), Instant::now());
        assert!(!dating.believes(0, false, now) && !dating.believes(Micros::MIN, false, now));
        assert!(dating.believes(NOW, false, now));
        assert!(!dating.believes(BUILT - 1, true, now) && dating.believes(BUILT, true, now));
        assert!(!dating.believes(Micros::MAX, false, now) && dating.believes(NOW, false, now));
    }
}
