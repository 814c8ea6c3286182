//! The stages of a snapshot: what has passed each step of this instance, over all streams, and
//! what there is to say of it.

use std::sync::Arc;

use super::history::History;
use super::{QueueStatus, Stage, State, Step, StreamStatus, findings};
use crate::config::Role;
use crate::stats::EdgeStats;
use crate::streams::Stream;

/// What stages are made from.
pub(super) struct Seen<'a> {
    pub(super) rows: &'a [StreamStatus],
    pub(super) streams: &'a [Arc<Stream>],
    pub(super) edge: &'a EdgeStats,
    pub(super) queue: Option<&'a QueueStatus>,
}

/// An instance's steps, each with its history.
pub(super) struct Stages(Vec<(Step, History)>);

impl Stages {
    pub(super) fn of(role: Option<Role>) -> Self {
        Self(Step::of(role).iter().map(|step| (*step, History::default())).collect())
    }

    pub(super) fn take(&mut self, seen: &Seen<'_>, elapsed: Option<f64>) -> Vec<Stage> {
        let stage = |(step, history): &mut (Step, History)| {
            let events = seen.events(*step);
            history.take(events, elapsed);
            let rate = history.rate();
            let works = if rate > 0.0 { State::Ok } else { State::Idle };
            let (note, detail) = seen.notes(*step);
            Stage {
                name: step.as_str().to_owned(),
                state: seen.trouble(*step).unwrap_or(works),
                events,
                rate,
                seconds: history.seconds(),
                quarters: history.quarters(),
                note,
                detail,
            }
        };
        self.0.iter_mut().map(stage).collect()
    }
}

impl Seen<'_> {
    fn sum(&self, of: fn(&StreamStatus) -> u64) -> u64 {
        self.rows.iter().map(of).sum()
    }

    fn failing(&self) -> usize {
        self.rows.iter().filter(|row| row.store_error.is_some()).count()
    }

    /// Each stage counts what has passed it.
    fn events(&self, step: Step) -> u64 {
        let adapted = self.sum(|r| r.adapted_events);
        match step {
            Step::Ingest => self.sum(|r| r.received_events),
            Step::Wal => self.streams.iter().map(|s| s.wal.stats().records.get()).sum(),
            Step::Publish => self.sum(|r| r.published_events),
            Step::Pull => self.sum(|r| r.pulled_events),
            Step::Validate => adapted + self.sum(|r| r.rejected_events),
            Step::Partition | Step::Batch => adapted,
            Step::Load => self.sum(|r| r.stored_events),
        }
    }

    /// What keeps events from passing.
    fn trouble(&self, step: Step) -> Option<State> {
        let queue_fails = || self.queue.is_some_and(|queue| queue.error.is_some());
        let stops = match step {
            Step::Wal => {
                let is_full = self.rows.iter().any(|row| row.state == State::Full);
                return is_full.then_some(State::Full);
            }
            Step::Publish => queue_fails() || (self.only_collects() && self.failing() > 0),
            Step::Pull => queue_fails(),
            Step::Load => self.failing() > 0,
            Step::Ingest | Step::Validate | Step::Partition | Step::Batch => false,
        };
        stops.then_some(State::Stopped)
    }

    /// Then the topic is where events go, and its failures are the streams'.
    fn only_collects(&self) -> bool {
        self.queue.is_some_and(|queue| queue.role == Role::Collect)
    }

    fn notes(&self, step: Step) -> (String, String) {
        let rows = self.rows;
        let pending = || self.sum(|r| r.pending_events);
        let queue = |of: fn(&QueueStatus) -> u64| self.queue.map_or(0, of);
        match step {
            Step::Ingest => {
                let EdgeStats { refused, connections, .. } = self.edge;
                (format!("{} refused", refused.get()), format!("{} conns", connections.get()))
            }
            Step::Wal => {
                let p99_us = rows.iter().map(|r| r.wal.sync_p99_us).max().unwrap_or(0);
                let lag = self.sum(|r| r.wal.lag_events);
                (format!("lag {lag}"), format!("sync p99 {:.1}ms", p99_us as f64 / 1000.0))
            }
            Step::Publish => {
                let messages = format!("{} messages", queue(|q| q.published_messages));
                match self.only_collects() {
                    true => (format!("{} unconfirmed", pending()), messages),
                    // What waits here waits for the topic or for the store.
                    false => (
                        if self.trouble(step).is_some() { "failing" } else { "ok" }.to_owned(),
                        messages,
                    ),
                }
            }
            Step::Pull => {
                let held = format!("{} held", queue(|q| q.outstanding_messages));
                (held, format!("{} acked", queue(|q| q.acked_messages)))
            }
            Step::Validate => {
                let rate: f64 = rows.iter().map(|r| r.rejected_rate).sum();
                (format!("dead {rate:.1}/s"), format!("{} dead", self.sum(|r| r.rejected_events)))
            }
            Step::Partition => (findings::skew_note(rows), format!("{} streams", rows.len())),
            Step::Batch => {
                let oldest_s = rows.iter().map(|r| r.pending_age_ms).max().unwrap_or(0) / 1000;
                (format!("{} open", pending()), format!("oldest {oldest_s}s"))
            }
            Step::Load => {
                let failing = self.failing();
                let note = if failing > 0 { format!("{failing} failing") } else { "ok".to_owned() };
                (note, format!("{} batches", self.sum(|r| r.stored_batches)))
            }
        }
    }
}
