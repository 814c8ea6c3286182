//! The breaker: a store that refuses much is wrong itself, or the schema is.
//!
//! In: how each put of a stream ended. Out: whether the refused rows may become dead letters, or
//! the batch has to be held. A few bad rows are the rows' fault and are found by halving; when
//! more than 5 % of a batch (and more than five rows) or more than 100 rows are bad, or more than
//! 5 % of each of three batches in a row, nothing is refused any more: the stream's batches are
//! held, its backlog stays in its log, and one batch at a time is tried, after waits that grow to
//! a minute. The first that the store takes ends it.
//!
//! Bad rows are counted before they are found. A refused part holds at least one; it stands for
//! the one known of the part it was cut from until the other half is refused as well. So a store
//! that refuses everything is known long before halving has come down to single rows, and none of
//! them has become a dead letter.
//!
//! Nothing of this outlives the process: the next finds out again, at the cost of a few puts and
//! of the rows of two small batches at most.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use crate::store::BatchId;

/// Refused rows that are never too many.
const ROWS_FEW: usize = 5;
/// Refused rows that are always too many, and one more.
const ROWS_MAX: usize = 100;
/// One refused row in fewer than that is much.
const MUCH_ONE_IN: usize = 20;
/// Batches in a row of which much is refused.
const IN_A_ROW_MAX: u32 = 3;
/// The wait before the first try.
const WAIT_FIRST: Duration = Duration::from_secs(1);
/// The longest wait before a try.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// After so many whole batches the next trouble is a new one: its waits begin anew.
const FINE: u32 = 10;

/// What becomes of a refused batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Its bad rows are to be found and become dead letters.
    Part,
    /// It is to be held as it is.
    Hold,
}

/// One stream's breaker.
#[derive(Debug)]
pub(super) struct Breaker {
    open: Option<Open>,
    wait: Duration,
    fine: u32,
    in_a_row: u32,
    /// Batches that were refused, by the id of the whole, until nothing of them is left.
    families: HashMap<BatchId, Family>,
    /// The parts of those that are under way.
    parts: HashMap<BatchId, Part>,
}

#[derive(Debug)]
struct Open {
    try_at: Instant,
    trying: Option<BatchId>,
}

#[derive(Debug)]
struct Part {
    whole: BatchId,
    /// The part it is one half of.
    half_of: Option<BatchId>,
}

#[derive(Debug)]
struct Family {
    rows: usize,
    /// Rows that are bad, at least.
    bad: usize,
    under_way: usize,
    /// Parts of whose two halves one was refused.
    halves: HashSet<BatchId>,
}

impl Family {
    fn is_too_bad(&self) -> bool {
        self.bad > (self.rows / MUCH_ONE_IN).clamp(ROWS_FEW, ROWS_MAX)
    }

    fn is_much(&self) -> bool {
        self.bad * MUCH_ONE_IN > self.rows
    }
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            open: None,
            wait: WAIT_FIRST,
            fine: 0,
            in_a_row: 0,
            families: HashMap::new(),
            parts: HashMap::new(),
        }
    }
}

impl Breaker {
    /// Whether batches are held.
    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// The store has a batch.
    pub(super) fn stored(&mut self, batch: BatchId) {
        match &self.open {
            Some(open) if open.trying == Some(batch) => self.open = None,
            Some(_) => {}
            None => match self.parts.remove(&batch) {
                Some(part) => self.ended(part.whole, 0),
                None => self.ended_well(),
            },
        }
    }

    /// The store refuses so many rows of a batch of so many, or one at least.
    pub(super) fn refused(
        &mut self,
        batch: BatchId,
        rows: usize,
        bad: usize,
        now: Instant,
    ) -> Verdict {
        if let Some(open) = &mut self.open {
            if open.trying == Some(batch) {
                self.trip(now);
            }
            return Verdict::Hold;
        }
        let part = self.parts.get(&batch);
        let (whole, half_of) = part.map_or((batch, None), |part| (part.whole, part.half_of));
        let new = Family { rows, bad: 0, under_way: 1, halves: HashSet::new() };
        let family = self.families.entry(whole).or_insert(new);
        let known = half_of.is_some_and(|parent| family.halves.insert(parent));
        let was_much = family.is_much();
        family.bad += bad.saturating_sub(usize::from(known));
        self.in_a_row += u32::from(family.is_much() && !was_much);
        if family.is_too_bad() || self.in_a_row >= IN_A_ROW_MAX {
            self.trip(now);
            return Verdict::Hold;
        }
        Verdict::Part
    }

    /// A refused batch is replaced by what is left of it: its two halves, or the rows that were
    /// not named.
    pub(super) fn parted(&mut self, batch: BatchId, parts: &[BatchId]) {
        let whole = self.parts.remove(&batch).map_or(batch, |part| part.whole);
        let half_of = (parts.len() > 1).then_some(batch);
        for &part in parts {
            self.parts.insert(part, Part { whole, half_of });
        }
        self.ended(whole, parts.len());
    }

    /// Whether a held batch may be tried now.
    pub(super) fn may_try(&self, now: Instant) -> bool {
        self.open.as_ref().is_some_and(|open| open.trying.is_none() && now >= open.try_at)
    }

    /// That held batch is tried.
    pub(super) fn tries(&mut self, batch: BatchId) {
        if let Some(open) = &mut self.open {
            open.trying = Some(batch);
        }
    }

    /// Somebody says that trying may help now.
    pub(super) fn try_at(&mut self, now: Instant) {
        if let Some(open) = &mut self.open {
            open.try_at = now;
        }
    }

    fn trip(&mut self, now: Instant) {
        self.open = Some(Open { try_at: now + self.wait, trying: None });
        self.wait = (self.wait * 2).min(WAIT_MAX);
        (self.fine, self.in_a_row) = (0, 0);
        // What is held begins anew when it is sent again.
        self.families.clear();
        self.parts.clear();
    }

    /// One part of a batch has come to its end, and so many come in its place.
    fn ended(&mut self, whole: BatchId, parts: usize) {
        let Some(family) = self.families.get_mut(&whole) else { return };
        family.under_way = (family.under_way + parts).saturating_sub(1);
        if family.under_way > 0 {
            return;
        }
        let is_much = family.is_much();
        self.families.remove(&whole);
        if !is_much {
            self.ended_well();
        }
    }

    fn ended_well(&mut self) {
        self.in_a_row = 0;
        self.fine += 1;
        if self.fine >= FINE {
            self.wait = WAIT_FIRST;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::ops::Range;

    use super::*;

    /// What came of one batch.
    #[derive(Debug, Default, PartialEq, Eq)]
    struct Passage {
        puts: usize,
        letters: usize,
        held: usize,
    }

    fn id() -> BatchId {
        uuid::Uuid::now_v7()
    }

    /// Sends a batch of so many rows, of which these are bad, to a store that names none.
    fn pass(breaker: &mut Breaker, rows: usize, bad: &[usize]) -> Passage {
        let mut passage = Passage::default();
        let mut queue: VecDeque<(BatchId, Range<usize>)> = [(id(), 0..rows)].into();
        while let Some((batch, range)) = queue.pop_front() {
            if breaker.is_open() {
                passage.held += 1;
                continue;
            }
            passage.puts += 1;
            if !bad.iter().any(|row| range.contains(row)) {
                breaker.stored(batch);
                continue;
            }
            if breaker.refused(batch, range.len(), 1, Instant::now()) == Verdict::Hold {
                passage.held += 1;
            } else if range.len() == 1 {
                passage.letters += 1;
                breaker.parted(batch, &[]);
            } else {
                let middle = range.start + range.len() / 2;
                let halves = [(id(), range.start..middle), (id(), middle..range.end)];
                breaker.parted(batch, &[halves[0].0, halves[1].0]);
                queue.extend(halves);
            }
        }
        passage
    }

    fn spread(count: usize, rows: usize) -> Vec<usize> {
        (0..count).map(|n| n * (rows - 1) / count.max(2).saturating_sub(1)).collect()
    }

    #[test]
    fn a_few_bad_rows_become_letters_within_the_bound() {
        for (rows, count) in [(10_000, 1), (10_000, 50), (10_000, 100), (1_000, 50), (203, 3)] {
            let mut breaker = Breaker::default();
            let bad = spread(count, rows);
            let passage = pass(&mut breaker, rows, &bad);
            assert_eq!((passage.letters, passage.held), (count, 0), "{rows} rows");
            let (n, k) = (rows as f64, count as f64);
            let puts_max = 2.0 * k * ((n / k).log2().ceil() + 1.0);
            assert!(passage.puts as f64 <= puts_max, "{} puts of {puts_max}", passage.puts);
            assert!(breaker.families.is_empty() && breaker.parts.is_empty());
        }
    }

    #[test]
    fn a_store_that_refuses_everything_gets_no_letter_and_few_puts() {
        for rows in [6, 30, 100, 1_000, 10_000] {
            let mut breaker = Breaker::default();
            let all: Vec<usize> = (0..rows).collect();
            let passage = pass(&mut breaker, rows, &all);
            assert!(breaker.is_open() && passage.puts <= 256, "{passage:?}");
            // Six rows are single ones by the time that more than five are known to be bad.
            assert!(passage.letters <= ROWS_FEW && (rows < 16 || passage.letters == 0));
        }
    }

    #[test]
    fn more_than_a_hundred_or_a_twentieth_of_a_batch_is_too_much() {
        for (rows, enough, too_much) in [(10_000, 100, 101), (1_000, 50, 51), (100, 5, 6)] {
            let mut breaker = Breaker::default();
            pass(&mut breaker, rows, &spread(enough, rows));
            assert!(!breaker.is_open(), "{enough} of {rows}");
            pass(&mut breaker, rows, &spread(too_much, rows));
            assert!(breaker.is_open(), "{too_much} of {rows}");
        }
    }

    #[test]
    fn one_of_three_is_no_reason_but_three_such_batches_in_a_row_are() {
        let mut breaker = Breaker::default();
        pass(&mut breaker, 3, &[1]);
        pass(&mut breaker, 3, &[1]);
        pass(&mut breaker, 3, &[]);
        pass(&mut breaker, 1, &[0]);
        let passage = pass(&mut breaker, 3, &[0, 1, 2]);
        assert_eq!((passage.letters, breaker.is_open()), (3, false));
        let passage = pass(&mut breaker, 3, &[1]);
        assert_eq!((passage.letters, breaker.is_open()), (0, true));
    }

    #[test]
    fn a_bad_row_in_each_of_many_large_batches_is_no_reason() {
        let mut breaker = Breaker::default();
        for _ in 0..20 {
            pass(&mut breaker, 1_000, &[7]);
        }
        assert!(!breaker.is_open());
    }

    #[test]
    fn rows_that_the_store_names_count_as_they_are() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        let (batch, rest) = (id(), id());
        assert_eq!(breaker.refused(batch, 1_000, 40, now), Verdict::Part);
        breaker.parted(batch, &[rest]);
        assert_eq!(breaker.refused(rest, 960, 10, now), Verdict::Part);
        let last = id();
        breaker.parted(rest, &[last]);
        assert_eq!(breaker.refused(last, 950, 1, now), Verdict::Hold, "51 of the 1,000");
    }

    #[test]
    fn one_batch_is_tried_at_a_time_and_the_first_that_is_taken_ends_it() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        assert_eq!(breaker.refused(id(), 50, 50, now), Verdict::Hold);
        assert!(!breaker.may_try(now) && breaker.may_try(now + WAIT_FIRST));
        // What was under way already says nothing.
        breaker.stored(id());
        assert_eq!(breaker.refused(id(), 50, 1, now), Verdict::Hold);
        let (first, second) = (id(), id());
        breaker.tries(first);
        assert!(!breaker.may_try(now + WAIT_MAX));
        assert_eq!(breaker.refused(first, 50, 1, now), Verdict::Hold);
        assert!(!breaker.may_try(now + WAIT_FIRST) && breaker.may_try(now + 2 * WAIT_FIRST));
        breaker.try_at(now);
        assert!(breaker.may_try(now));
        breaker.tries(second);
        breaker.stored(second);
        assert!(!breaker.is_open());
    }

    #[test]
    fn waits_grow_to_a_minute_and_begin_anew_after_many_whole_batches() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        for _ in 0..20 {
            breaker.refused(id(), 50, 50, now);
            let probe = id();
            breaker.tries(probe);
            breaker.refused(probe, 50, 50, now);
        }
        assert!(!breaker.may_try(now + WAIT_MAX - WAIT_FIRST) && breaker.may_try(now + WAIT_MAX));
        let probe = id();
        breaker.tries(probe);
        breaker.stored(probe);
        for _ in 0..FINE {
            breaker.stored(id());
        }
        breaker.refused(id(), 50, 50, now);
        assert!(breaker.may_try(now + WAIT_FIRST));
    }
}
