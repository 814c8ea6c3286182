//! A worker before it reads: what it is made from, what it learns from earlier processes, and how
//! it insists on what has to be durable.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::inbox::{Inbox, Wake};
use super::local::Running;
use crate::adapt::Adapter;
use crate::damage::Reports;
use crate::dedupe::{Dedupe, Memory};
use crate::errors::ErrorStore;
use crate::event::{LetterId, Micros};
use crate::ledger::{Commit, Ledger, Progress};
use crate::load::EventLoader;
use crate::sequence::Sequencer;
use crate::sqlite::SqliteError;
use crate::store::{AnyStore, Plan, Stored};
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
    /// Whom to tell.
    pub hooks: Hooks,
    /// When the process started.
    pub started: Instant,
    /// What the wall clock said then: what it says later may have jumped.
    pub started_at: Micros,
    /// For how long a message id is remembered.
    pub window: Duration,
    /// How many ids all streams remember together.
    pub memory: Arc<Memory>,
}

/// The worker has to end: it was told to, or the process can't go on.
pub(super) struct Ended;

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
            SqliteError::Io { .. } | SqliteError::Closed => Self::Final(error.to_string()),
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
    fn recover(mut self) -> Result<Running, Ended> {
        let Progress { next_seq, stored, open } = self.insist("read the ledger", |w| {
            w.ledger.progress(&w.stream.name, w.stream.wal.log_uuid())
        })?;
        self.stream.stats.cursor.set(next_seq);
        self.stream.stats.read_to.set(next_seq);
        let letters =
            self.insist("read the error store", |w| w.errors.positions(&w.stream.name, next_seq))?;
        let mut finished = stored;
        finished.extend(letters);
        let unread = self.stream.wal.head().saturating_sub(next_seq.max(1));
        // A stream that was made for its first event has nothing to go on with.
        if unread > 0 && self.stream.recovered.records > 0 {
            let (stream, plans) = (&self.stream.name, open.len());
            tracing::info!(%stream, records = unread, plans, "going on with what the log holds");
        }
        for plan in open {
            match self.find(&plan)? {
                Some(stored) => {
                    finished |= &plan.seqs;
                    let letters = Vec::new();
                    let commit = Commit { id: plan.id, stored, letters };
                    self.insist("commit a plan", |w| {
                        let uuid = w.stream.wal.log_uuid();
                        w.ledger.commit(&w.stream.name, uuid, vec![commit.clone()], next_seq)
                    })?;
                }
                None => self.loader.resume(plan),
            }
        }
        let unseen = self.recover_replays()?;
        let head = self.stream.wal.head();
        let from = next_seq.max(1);
        self.loader.nothing_below(from);
        let id_key = self.insist("read the ledger", |w| w.ledger.id_key())?;
        let mut dedupe = Dedupe::new(id_key, self.window, Arc::clone(&self.memory));
        let ids = self.insist("read the ledger", |w| {
            w.ledger.ids(&w.stream.name, w.window_start(), w.memory.ids_max())
        })?;
        dedupe.remember(ids, Instant::now());
        Ok(Running {
            dedupe,
            id_key,
            adapter: Adapter::new(&self.stream.config.rules),
            sequencer: Sequencer::new(self.stream.config.partitions),
            reader: self.stream.wal.reader(from),
            finished,
            unseen,
            head_at_start: head,
            flushes: Vec::new(),
            saved_cursor: next_seq,
            saved_at: Instant::now(),
            forgot_at: Instant::now(),
            worker: self,
        })
    }

    /// Ids stored before are not remembered.
    pub(super) fn window_start(&self) -> Micros {
        let window = Micros::try_from(self.window.as_micros()).unwrap_or(Micros::MAX);
        let passed = Micros::try_from(self.started.elapsed().as_micros()).unwrap_or(Micros::MAX);
        self.started_at.saturating_add(passed).saturating_sub(window)
    }

    /// Closes the letters whose event an earlier process stored; returns those whose record has
    /// to be found in the log, if it is there at all.
    fn recover_replays(&mut self) -> Result<HashSet<LetterId>, Ended> {
        let replaying = self.insist("read the error store", |w| w.errors.replaying())?;
        let mine = replaying.into_iter().filter(|(_, s)| *s == self.stream.name).map(|(id, _)| id);
        let mine: Vec<LetterId> = mine.collect();
        let stored = self.insist("read the ledger", |w| w.ledger.replayed(mine.clone()))?;
        let unseen = mine.into_iter().filter(|id| !stored.contains(id)).collect();
        self.resolve(stored, "stored before a restart")?;
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

    /// Asks the store for a plan's batch until it answers.
    fn find(&mut self, plan: &Plan) -> Result<Option<Stored>, Ended> {
        loop {
            let error = match self.runtime.block_on(self.store.find(plan)) {
                Ok(found) => {
                    self.stream.stats.store_works();
                    return Ok(found);
                }
                Err(error) => error,
            };
            if self.stream.stats.store_fails(error.to_string()) {
                tracing::warn!(stream = %self.stream.name, %error, "store fails at recovery");
            }
            self.pause(IDLE)?;
        }
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
        let until = Instant::now() + time;
        let mut kept = Vec::new();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.messages.recv_timeout(left) {
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
