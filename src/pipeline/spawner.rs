//! A worker for each stream, from what all workers share.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use tokio::runtime::Handle;

use super::StartError;
use crate::config::Config;
use crate::damage::Report;
use crate::dedupe::Memory;
use crate::errors::ErrorStore;
use crate::event::StreamName;
use crate::ledger::Ledger;
use crate::load::{Budget, Delivery, EventLoader};
use crate::priority;
use crate::queue::{Flow, Hooks, Inbox, Outbox, Topic, Wake, Worker};
use crate::store::AnyStore;
use crate::streams::Stream;
use crate::wal::Recovered;

/// Threads that write files, when so many are needed: those of a stream whose files hang, and of
/// three more, are not all.
const STORE_THREADS: usize = 20;

/// One stream's worker and how to reach it.
pub(super) struct Running {
    pub(super) stream: Arc<Stream>,
    pub(super) inbox: Inbox,
    pub(super) thread: JoinHandle<()>,
}

pub(super) type Workers = Arc<Mutex<HashMap<StreamName, Running>>>;

/// What every worker is made from.
pub(super) struct Spawner {
    /// Set once the streams that were there already are open: later ones are news.
    pub(super) announce: Arc<AtomicBool>,
    pub(super) config: Arc<Config>,
    pub(super) budget: Arc<Budget>,
    pub(super) memory: Arc<Memory>,
    pub(super) ledger: Ledger,
    pub(super) errors: ErrorStore,
    pub(super) store: Arc<AnyStore>,
    /// Where what is acknowledged here is published.
    pub(super) topic: Option<Arc<dyn Topic>>,
    pub(super) hooks: Hooks,
    pub(super) workers: Workers,
    pub(super) runtime: Handle,
    pub(super) started: Instant,
}

impl Spawner {
    pub(super) fn spawn(&self, stream: &Arc<Stream>) {
        self.tell(stream);
        self.check_ledger(stream);
        if self.announce.load(Relaxed) {
            (self.hooks.changed)(format!("stream {} created on first use", stream.name));
        }
        let (inbox, messages) = Inbox::new();
        let woken = inbox.clone();
        stream.wal.on_durable(move || woken.durable());
        let (fatal, name) = (Arc::clone(&self.hooks.fatal), stream.name.clone());
        stream.wal.on_failed(move |error| fatal(format!("log of {name} can't be synced: {error}")));
        let ended = inbox.clone();
        let delivery = Delivery::new(
            Arc::clone(&self.store),
            stream,
            self.runtime.clone(),
            move |delivered| ended.send(Wake::Delivered(Box::new(delivered))),
        );
        let share = self.budget.share();
        let policy = self.config.load.clone();
        let worker = Worker {
            stream: Arc::clone(stream),
            loader: EventLoader::new(Arc::clone(stream), policy, share, delivery),
            errors: self.errors.clone(),
            ledger: self.ledger.clone(),
            store: Arc::clone(&self.store),
            runtime: self.runtime.clone(),
            inbox: inbox.clone(),
            messages,
            flow: self.flow(stream, &inbox),
            hooks: self.hooks.clone(),
            started: self.started,
            window: self.config.dedupe.window,
            memory: Arc::clone(&self.memory),
        };
        let name = format!("load {}", stream.name).chars().take(15).collect();
        match std::thread::Builder::new().name(name).spawn(move || worker.run()) {
            Ok(thread) => {
                let running = Running { stream: Arc::clone(stream), inbox, thread };
                let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
                workers.insert(stream.name.clone(), running);
            }
            Err(error) => (self.hooks.fatal)(format!("can't start a worker: {error}")),
        }
    }

    fn flow(&self, stream: &Arc<Stream>, inbox: &Inbox) -> Flow {
        let pulls = self.config.pulls();
        let outbox = |topic: &Arc<dyn Topic>| {
            Outbox::new(Arc::clone(topic), stream, inbox.clone(), &self.runtime, !pulls)
        };
        Flow { outbox: self.topic.as_ref().map(outbox), pulls }
    }

    /// A ledger that a log has seen further on has gone back in time.
    fn check_ledger(&self, stream: &Stream) {
        let (name, seen) = (&stream.name, stream.recovered.ledger_tx);
        if !self.ledger.is_behind(seen) {
            return;
        }
        tracing::error!(stream = %name, seen, "the log has seen a later transaction of the ledger's");
        let report = Report::of_old_ledger();
        (self.hooks.changed)(report.text.clone());
        if let Err(error) = self.hooks.reports.add(report) {
            tracing::error!(%error, "the report can't be kept");
        }
        if let Err(error) = self.ledger.distrust(seen) {
            (self.hooks.fatal)(format!("the ledger can't be made to forget: {error}"));
        }
    }

    /// Reports what may have been lost at the log's end. What is missing before records that are
    /// there is told, exactly, when it is missed.
    fn report_end(&self, name: &StreamName, recovered: &Recovered) {
        let Some((from, to)) = recovered.perhaps_used else { return };
        let (mut what, mut evidence) = ("segments", serde_json::Value::Null);
        let found = match &recovered.suspect_tail {
            Some(tail) => {
                what = "suspect tail";
                evidence = serde_json::to_value(tail).unwrap_or_default();
                format!("its last {} bytes are not whole", tail.bytes)
            }
            None => match &recovered.short_segment {
                Some(segment) if recovered.lost_segments.is_empty() => {
                    format!("{segment} was cut short")
                }
                _ => format!("no header of {} can be read", recovered.lost_segments.join(", ")),
            },
        };
        let lost = recovered.lost_records;
        let to = if lost > 0 { from + lost } else { to };
        let text = match what {
            "segments" if lost > 0 => {
                format!("log of {name}: {found}; {lost} records from {from} on are lost")
            }
            "segments" => format!(
                "log of {name}: {found}; records from {from} on, if there were any, are lost"
            ),
            _ => format!(
                "log of {name}: {found}: a write that was cut off before it was acknowledged, or \
                 damage, and then the records from {from} on are lost"
            ),
        };
        let report = Report {
            what: what.to_owned(),
            stream: Some(name.to_string()),
            from: Some(from),
            to: Some(to),
            ranges: vec![(from, to)],
            lost,
            text,
            evidence,
            found_at: crate::time::now(),
            ..Report::default()
        };
        if let Err(error) = self.hooks.reports.add(report) {
            tracing::error!(%error, "the report can't be kept");
        }
    }

    /// Says what the log found when it was opened. Which records are lost with a segment, or at
    /// the log's end, is told when they are missed.
    fn tell(&self, stream: &Stream) {
        let (name, recovered) = (&stream.name, &stream.recovered);
        self.report_end(name, recovered);
        stream.stats.damaged_records.add(recovered.lost_records);
        stream.stats.suspect_tails.add(u64::from(recovered.suspect_tail.is_some()));
        for segment in &recovered.lost_segments {
            tracing::error!(stream = %name, segment, "no header of this segment of the log can be \
                read; it is in quarantine");
            (self.hooks.changed)(format!("log of {name}: {segment} is in quarantine"));
        }
        if let Some((end, known)) = recovered.missing {
            tracing::error!(stream = %name, end, known, "the log has lost its end: later positions \
                are known elsewhere");
        }
    }
}

/// Where batches are encoded and stored: threads that stand back when there is more to do than
/// cores.
pub(super) fn store_runtime() -> Result<Handle, StartError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(STORE_THREADS)
        .thread_name("store")
        .on_thread_start(priority::of_a_store)
        .enable_all()
        .build()
        .map_err(|source| StartError::File { path: "threads for the store".into(), source })?;
    let handle = runtime.handle().clone();
    // It ends with the process: a worker that is about to end may still be asking it.
    std::mem::forget(runtime);
    Ok(handle)
}
