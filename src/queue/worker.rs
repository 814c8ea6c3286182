//! A worker before it reads: what it is made from, what it learns from earlier processes, and how
//! it insists on what has to be durable.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use roaring::RoaringTreemap;

use super::inbox::{Inbox, Wake};
use super::local::Running;
use super::publish::Flow;
use super::recall::Recall;
use crate::adapt::Adapter;
use crate::ambient;
use crate::damage::Reports;
use crate::dedupe::{Dedupe, IdKey, Memory};
use crate::errors::{ErrorStore, Status};
use crate::event::LetterId;
use crate::ledger::{Commit, Ledger, Progress, Step};
use crate::load::EventLoader;
use crate::mutant::{self, Mutant};
use crate::sequence::Sequencer;
use crate::sqlite::SqliteError;
use crate::store::{AnyStore, Plan};
use crate::streams::Stream;

/// How long a worker sleeps when nothing wakes it.
pub(super) const IDLE: Duration = Duration::from_secs(1);

/// What a worker calls beyond its own stages.
#[derive(Clone)]
pub struct Hooks {
    /// The process can't go on: a sentence for the log. The worker ends after it.
    pub fatal: Arc<dyn Fn(String) + Send + Sync>,
    /// Where losses are told.
    pub reports: Reports,
    /// Something changed that an operator wants to see in the list of changes.
    pub changed: Arc<dyn Fn(String) + Send + Sync>,
    /// The disk is full: what can make room should. The worker tries again.
    pub no_space: Arc<dyn Fn() + Send + Sync>,
}

/// One stream's worker.
pub struct Worker {
    /// The stream.
    pub stream: Arc<Stream>,
    /// Its buffers and deliveries.
    pub loader: EventLoader,
    /// Where rejected events go.
    pub errors: ErrorStore,
    /// What was stored.
    pub ledger: Ledger,
    /// Where batches go; asked once for the plans that an earlier process left.
    pub store: Arc<AnyStore>,
    /// Where the store's futures run.
    pub runtime: tokio::runtime::Handle,
    /// Its messages.
    pub inbox: Inbox,
    /// Where they come out.
    pub messages: Receiver<Wake>,
    /// Where its log's records go.
    pub flow: Flow,
    /// Whom to tell.
    pub hooks: Hooks,
    /// When the process started.
    pub started: Instant,
    /// For how long a message id is remembered.
    pub window: Duration,
    /// How many ids all streams remember together.
    pub memory: Arc<Memory>,
}

/// The worker has to end: it was told to, or the process can't go on.
pub(crate) struct Ended;

/// Why something is not durable yet.
enum Setback {
    /// There may be space later.
    Wait(String),
    /// What is on the disk is unknown until the next start.
    Final(String),
}

impl From<SqliteError> for Setback {
    fn from(error: SqliteError) -> Self {
        match error {
            // The next start sets a damaged file aside and makes it again.
            SqliteError::Io { .. } | SqliteError::Corrupt { .. } | SqliteError::Closed => {
                Self::Final(error.to_string())
            }
            _ => Self::Wait(error.to_string()),
        }
    }
}

impl Worker {
    /// Works until it is told to stop.
    pub fn run(self) {
        // An `Ended` has been told where it arose.
        if let Ok(mut running) = self.recover() {
            while running.turn().is_ok() {}
        }
    }

    /// Learns from ledger, error store and store what earlier processes have finished.
    pub(crate) fn recover(mut self) -> Result<Running, Ended> {
        let Progress { next_seq, elsewhere, stored, open } = self
            .insist("read the ledger", |w| {
                w.ledger.progress(&w.stream.name, w.stream.wal.log_uuid())
            })?;
        // Events may have been appended since the log was opened: they are not an earlier process's.
        let (oldest, head) = (self.stream.wal.oldest(), self.stream.recovered.head);
        // Positions are never used twice, so what was done in a log that is gone is done. Where
        // nobody knows a cursor, what the log has given up was stored.
        let cursor = next_seq.or(elsewhere).unwrap_or(oldest).max(1);
        self.stream.stats.cursor.set(cursor);
        self.stream.stats.read_to.set(cursor);
        let id_key = self.insist("read the ledger", |w| w.ledger.id_key())?;
        let mut recall = Recall::new(id_key, cursor.max(oldest), head);
        let mut finished = stored;
        // A stream that was made for its first event has nothing to go on with.
        if self.stream.recovered.records > 0 {
            let (stream, plans) = (&self.stream.name, open.len());
            let records = self.stream.wal.records_from(cursor);
            if records > 0 {
                tracing::info!(%stream, records, plans, "going on with what the log holds");
            }
            if next_seq.is_none() {
                tracing::warn!(%stream, "the ledger does not know this log; asking the store");
                recall.everything(&mut self)?;
            }
        }
        self.resume(open, &mut finished)?;
        let unseen = self.recover_replays()?;
        let positions = self.insist("read the error store", |w| {
            w.errors.positions(&w.stream.name, next_seq.unwrap_or(0))
        })?;
        let missing = self.missing_letters(oldest)?;
        self.report_lost(&missing.lost)?;
        let buried: RoaringTreemap = positions.iter().map(|position| position.seq).collect();
        finished |= &buried;
        let opened = positions.iter().filter_map(|p| p.open.map(|letter| (p.seq, letter)));
        let from = missing.in_log.keys().next().map_or(cursor, |first| cursor.min(*first));
        self.loader.nothing_below(from);
        // What is stored counts as that from now on: an append may need its room.
        if let Err(error) = self.stream.wal.reclaim(from) {
            tracing::warn!(stream = %self.stream.name, %error, "can't reclaim the log");
        }
        let now = ambient::now();
        let dedupe = self.remembered(id_key, now)?;
        Ok(Running {
            dedupe,
            recall,
            adapter: Adapter::new(&self.stream.config.rules),
            sequencer: Sequencer::new(self.stream.config.partitions),
            reader: self.stream.wal.reader(from),
            finished,
            opened: opened.collect(),
            closed: Vec::new(),
            missing: missing.in_log,
            buried,
            unseen,
            cursor_at_start: cursor,
            head_at_start: head,
            flushes: Vec::new(),
            saved_cursor: next_seq.unwrap_or(0),
            read_at: now,
            saved_at: now,
            forgot_at: now,
            head_at_tidy: head,
            flow: std::mem::take(&mut self.flow),
            worker: self,
        })
    }

    /// The message ids that earlier processes stored, within the window.
    fn remembered(&mut self, id_key: IdKey, now: Instant) -> Result<Dedupe, Ended> {
        let mut dedupe = Dedupe::new(id_key, self.window, Arc::clone(&self.memory));
        let ids = self.insist("read the ledger", |w| {
            w.ledger.ids(&w.stream.name, w.window, w.memory.ids_max())
        })?;
        dedupe.remember(ids, now);
        Ok(dedupe)
    }

    /// Finishes the plans that an earlier process left, or has them filled again. Where their events
    /// come again from elsewhere, under another name, nothing may come to light under this one.
    fn resume(&mut self, open: Vec<Plan>, finished: &mut RoaringTreemap) -> Result<(), Ended> {
        let is_forgotten = |_: &Plan| mutant::active(Mutant::ReplanAfterCrash);
        let mut missing: Vec<Plan> = open.into_iter().filter(|p| !is_forgotten(p)).collect();
        let late = if self.flow.keeps_all() { Duration::ZERO } else { self.store.late() };
        let until = ambient::now() + late;
        loop {
            for plan in std::mem::take(&mut missing) {
                missing.extend(self.finish(plan, finished)?);
            }
            if missing.is_empty() || ambient::now() >= until {
                break;
            }
            self.pause(IDLE)?;
        }
        missing.into_iter().for_each(|plan| self.loader.resume(plan));
        Ok(())
    }

    /// Gives a plan back that the store does not have.
    fn finish(&mut self, plan: Plan, finished: &mut RoaringTreemap) -> Result<Option<Plan>, Ended> {
        let found = self.ask("find a batch", async |store| store.find(&plan).await)?;
        let Some(stored) = found else { return Ok(Some(plan)) };
        *finished |= &plan.seqs;
        // Its letters are closed where their records are found in the log.
        let commit = Commit { id: plan.id, stored, letters: Vec::new() };
        let step = Step { commits: vec![commit], ..Step::default() };
        self.insist("commit a plan", |w| {
            w.ledger.commit(&w.stream.name, w.stream.wal.log_uuid(), step.clone())
        })?;
        Ok(None)
    }

    /// Closes the letters whose event an earlier process stored, whatever an older copy of the
    /// error store says of them; returns those that were being replayed and whose record has to
    /// be found in the log, if it is there at all.
    fn recover_replays(&mut self) -> Result<HashSet<LetterId>, Ended> {
        let mut unseen = HashSet::new();
        let mut after = LetterId::MIN;
        loop {
            let page =
                self.insist("read the error store", |w| w.errors.waiting(&w.stream.name, after))?;
            let Some((last, _)) = page.last() else { break };
            after = *last;
            let letters: Vec<LetterId> = page.iter().map(|(letter, _)| *letter).collect();
            let stored: HashSet<LetterId> = self
                .insist("read the ledger", |w| w.ledger.replayed(letters.clone()))?
                .into_iter()
                .collect();
            let replaying = page.into_iter().filter(|(letter, status)| {
                *status == Status::Replaying && !stored.contains(letter)
            });
            unseen.extend(replaying.map(|(letter, _)| letter));
            self.resolve(stored.into_iter().collect(), "stored before a restart")?;
        }
        Ok(unseen)
    }

    pub(super) fn resolve(&mut self, letters: Vec<LetterId>, why: &str) -> Result<(), Ended> {
        if letters.is_empty() {
            return Ok(());
        }
        self.insist("close dead letters", |w| {
            w.errors.resolve_blocking(letters.clone(), why.to_owned())
        })
        .map(drop)
    }

    /// Tries until it works: what has to be durable can't be skipped.
    pub(super) fn insist<T>(
        &mut self,
        what: &str,
        mut attempt: impl FnMut(&Self) -> Result<T, SqliteError>,
    ) -> Result<T, Ended> {
        loop {
            let tried = attempt(self);
            if let Err(SqliteError::Full { .. }) = &tried {
                (self.hooks.no_space)();
            }
            match tried.map_err(Setback::from) {
                Ok(value) => return Ok(value),
                Err(Setback::Final(error)) => {
                    (self.hooks.fatal)(format!("can't {what}: {error}"));
                    return Err(Ended);
                }
                Err(Setback::Wait(error)) => {
                    tracing::error!(stream = %self.stream.name, error, "can't {what}; waiting");
                    self.pause(IDLE)?;
                }
            }
        }
    }

    /// Sleeps, but ends when told to. Everything else that arrives meanwhile is put back.
    pub(super) fn pause(&mut self, time: Duration) -> Result<(), Ended> {
        let until = ambient::now() + time;
        let mut kept = Vec::new();
        loop {
            let left = until.saturating_duration_since(ambient::now());
            match ambient::receive(&self.messages, left) {
                Ok(Wake::Stop) => return Err(Ended),
                Ok(other) => kept.push(other),
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => return Err(Ended),
            }
        }
        kept.into_iter().for_each(|wake| self.inbox.send(wake));
        Ok(())
    }
}
