//! What the store has already of the records that an earlier process wrote.
//!
//! The ledger says so too, but it may be lost, restored from a copy, or have gone back in time,
//! and every page of it may look whole then. So the store is asked as well, at every start: before
//! an event of an earlier process is stored, for the objects of its hour of receipt. An object
//! belongs to one hour, so that nothing can be missed, and a service that stopped with an empty
//! log asks nothing. Where the ledger does not know the log at all, everything is asked for. What
//! is found counts as done, and the ledger is completed with it.
//!
//! A log that was restored from a copy uses positions anew that the store knows from before. So a
//! record counts as stored only where an object has its position and was received no earlier: what
//! another object has says nothing about it.
//!
//! An object that can't be read is reported and does not count: its events are stored again.

use std::collections::HashSet;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use roaring::RoaringTreemap;

use super::worker::{Ended, IDLE, Worker};
use crate::ambient;
use crate::damage::Report;
use crate::dedupe::{IdHash, IdKey};
use crate::event::{Micros, Seq};
use crate::ledger::{Adopted, Known};
use crate::load::HANGS;
use crate::store::{AnyStore, Found, HOUR, Listing, StoreError, hour};
use crate::wal::Chunk;

/// One stream's memory of what it has asked.
pub(super) struct Recall {
    id_key: IdKey,
    /// Hours that were asked for.
    asked: HashSet<i64>,
    /// Positions below are done, or not in the log any more.
    from: Seq,
    /// Positions from here on are of this process.
    until: Seq,
    /// Whether the store can list at all.
    lists: bool,
    /// Whether it was said already that the ledger has gone back in time.
    behind: bool,
    /// Positions that the store has, and the ledger knew nothing of.
    claimed: RoaringTreemap,
    /// The same of each object, with its newest receipt.
    claims: Vec<(RoaringTreemap, Micros)>,
    /// Message ids of objects whose newest event was received before are not needed any more.
    ids_since: Micros,
}

impl Recall {
    pub(super) fn new(id_key: IdKey, from: Seq, until: Seq) -> Self {
        let asked = HashSet::new();
        let (claimed, claims, ids_since) = Default::default();
        let (lists, behind) = (true, false);
        Self { id_key, asked, from, until, lists, behind, claimed, claims, ids_since }
    }

    /// Whether the store has that record.
    pub(super) fn has(&self, seq: Seq, received_at: Micros) -> bool {
        let has =
            |(seqs, until): &(RoaringTreemap, Micros)| received_at <= *until && seqs.contains(seq);
        self.claimed.contains(seq) && self.claims.iter().any(has)
    }

    /// Every position that the store may have.
    pub(super) fn claimed(&self) -> &RoaringTreemap {
        &self.claimed
    }

    /// Everything below is done.
    pub(super) fn done(&mut self, below: Seq) {
        self.claims.retain(|(seqs, _)| seqs.max().is_some_and(|last| last >= below));
        if self.claims.is_empty() {
            self.claimed.clear();
        }
    }

    /// Asks for everything: the ledger knows nothing of this log.
    pub(super) fn everything(&mut self, worker: &mut Worker) -> Result<(), Ended> {
        let stream = worker.stream.name.clone();
        let mut hours = worker.ask("list the store", async |store| store.hours(&stream).await)?;
        // The newest message ids are those that count where memory is short.
        hours.sort_unstable();
        let window = Micros::try_from(worker.window.as_micros()).unwrap_or(Micros::MAX);
        // What the wall clock says now means nothing: it may have jumped.
        let newest = hours.last().map_or(0, |hour| hour.saturating_mul(HOUR));
        self.ids_since = newest.saturating_sub(window);
        for hour in hours {
            self.hour(worker, hour, 0)?;
        }
        self.ids_since = Micros::MIN;
        Ok(())
    }

    /// Asks for the hours of a chunk's records that are not known to be done, if it was not done
    /// before; returns the message ids that the ledger did not know.
    pub(super) fn of_chunk(
        &mut self,
        worker: &mut Worker,
        chunk: &Chunk<'_>,
        done: &RoaringTreemap,
    ) -> Result<Vec<IdHash>, Ended> {
        let mut ids = Vec::new();
        let until = self.until;
        for (seq, record) in chunk.records().take_while(|(seq, _)| *seq < until) {
            let Some((receipt, _)) = record.filter(|_| self.lists) else { continue };
            let hour = hour(receipt.received_at);
            if seq >= self.from && !done.contains(seq) && !self.asked.contains(&hour) {
                ids.extend(self.hour(worker, hour, self.from)?);
            }
        }
        Ok(ids)
    }

    /// Asks for one hour's objects with a position from `from` on.
    fn hour(&mut self, worker: &mut Worker, hour: i64, from: Seq) -> Result<Vec<IdHash>, Ended> {
        self.asked.insert(hour);
        let (stream, log) = (worker.stream.name.clone(), worker.stream.wal.log_uuid());
        let listing = worker
            .ask("list the store", async |store| store.list(&stream, log, hour, from).await)?;
        let Some(Listing { found, unreadable }) = listing else {
            self.lists = false;
            return Ok(Vec::new());
        };
        for (object, why) in unreadable {
            worker.stream.stats.unreadable_objects.add(1);
            tracing::error!(%stream, object, why, "an object of the store can't be read; it does \
                not count as stored");
            (worker.hooks.changed)(format!("object can't be read: {object}: {why}"));
        }
        self.complete(worker, found)
    }

    fn claim(&mut self, found: &Found) {
        let mut seqs = found.seqs.clone();
        seqs.remove_range(..self.from);
        if !seqs.is_empty() {
            self.claimed |= &seqs;
            self.claims.push((seqs, found.received.1));
        }
    }

    /// Tells the ledger what it does not know; returns the ids that it did not know.
    fn complete(&mut self, worker: &mut Worker, found: Vec<Found>) -> Result<Vec<IdHash>, Ended> {
        let batches: Vec<_> = found.iter().map(|found| found.id).collect();
        let known = worker.insist("read the ledger", |w| w.ledger.known(batches.clone()))?;
        let mut adopted = Vec::new();
        for (found, known) in found.into_iter().zip(known) {
            if known == Known::Stored {
                continue;
            }
            self.claim(&found);
            if known == Known::Adopted {
                continue;
            }
            if known == Known::Nothing && worker.ledger.is_behind(found.ledger_tx) {
                self.say_behind(worker, &found);
            }
            // What was planned is recent, whatever the clock said then: its repeats may come now.
            let needed = known == Known::Planned || found.received.1 >= self.ids_since;
            let ids = if needed { self.ids_of(worker, &found)? } else { Vec::new() };
            adopted.push(Adopted { found, ids });
        }
        if adopted.is_empty() {
            return Ok(Vec::new());
        }
        let stream = worker.stream.name.clone();
        tracing::info!(%stream, objects = adopted.len(), "the store has what the ledger did not know");
        worker.insist("complete the ledger", |w| {
            w.ledger.adopt(&stream, w.stream.wal.log_uuid(), adopted.clone())
        })?;
        Ok(adopted.into_iter().flat_map(|batch| batch.ids).collect())
    }

    fn ids_of(&self, worker: &mut Worker, found: &Found) -> Result<Vec<IdHash>, Ended> {
        let ids =
            worker.ask("read the store", async |store| store.message_ids(&found.object).await)?;
        if ids.is_none() {
            let object = &found.object;
            tracing::error!(
                object,
                "an object's message ids can't be read; repeats of its events \
                are not recognised"
            );
        }
        Ok(ids.into_iter().flatten().map(|id| self.id_key.hash(&id)).collect())
    }

    fn say_behind(&mut self, worker: &Worker, found: &Found) {
        if std::mem::replace(&mut self.behind, true) {
            return;
        }
        let (stream, object) = (&worker.stream.name, &found.object);
        tracing::error!(%stream, object, "the ledger has gone back in time: the store has what it \
            does not know of; the store is believed");
        let report = Report::of_old_ledger();
        (worker.hooks.changed)(report.text.clone());
        if let Err(error) = worker.hooks.reports.add(report) {
            tracing::error!(%error, "the report can't be kept");
        }
    }
}

impl Worker {
    /// Asks the store until it answers. One that gives no answer is told, and a stop does not
    /// wait for it.
    pub(super) fn ask<T>(
        &mut self,
        what: &str,
        mut question: impl AsyncFnMut(&AnyStore) -> Result<T, StoreError>,
    ) -> Result<T, Ended> {
        let (store, runtime) = (Arc::clone(&self.store), self.runtime.clone());
        loop {
            let (mut answer, began) = (pin!(question(&*store)), ambient::now());
            let answered = loop {
                let waited = async { tokio::time::timeout(IDLE, answer.as_mut()).await };
                if let Ok(answered) = runtime.block_on(waited) {
                    break answered;
                }
                self.pause(Duration::ZERO)?;
                let waited = ambient::now().saturating_duration_since(began);
                if waited >= HANGS {
                    let seconds = waited.as_secs();
                    self.store_fails(what, format!("no answer for {seconds} s: {what}"));
                }
            };
            match answered {
                Ok(answer) => {
                    self.stream.stats.store_works();
                    return Ok(answer);
                }
                Err(error) => self.store_fails(what, error.to_string()),
            }
            self.pause(IDLE)?;
        }
    }

    fn store_fails(&self, what: &str, error: String) {
        if self.stream.stats.store_fails(error.clone()) {
            tracing::warn!(stream = %self.stream.name, error, "can't {what}; waiting");
        }
    }
}
