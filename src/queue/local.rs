//! One stream's worker: a plain thread that owns everything between the log and the store.
//!
//! In: durable records, and messages (deliveries that ended, flush, stop). Out: batches on their
//! way, dead letters, the ledger's cursor, reclaimed segments. It reads on only while memory
//! allows; the backlog stays in the log. A ledger or error store that is full holds this stream
//! until there is space; a disk that fails stops the process.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use roaring::RoaringTreemap;
use tokio::sync::oneshot;

use crate::adapt::{Adapter, Rejected};
use crate::dedupe::{Dedupe, IdKey, Memory};
use crate::errors::{ErrorStore, NewLetter};
use crate::event::{LetterId, Micros, Phase, RawEvent, Receipt, Rejection, Seq};
use crate::ledger::{Ledger, Progress};
use crate::load::{Delivered, EventLoader, Refused, Settlement};
use crate::sequence::Sequencer;
use crate::sqlite::SqliteError;
use crate::store::{AnyStore, Batch};
use crate::streams::Stream;
use crate::wal::{self, Reader};

/// How long a worker sleeps when nothing wakes it.
const IDLE: Duration = Duration::from_secs(1);
/// The cursor is saved this often where no commit saves it.
const SAVE_CURSOR: Duration = Duration::from_secs(5);
/// Message ids that the window has passed are forgotten this often.
const FORGET_IDS: Duration = Duration::from_secs(60);

/// What wakes a worker.
pub enum Wake {
    /// Records became durable.
    Durable,
    /// A batch's way has ended.
    Delivered(Box<Delivered>),
    /// Store everything that is in the log now, then answer.
    Flush(oneshot::Sender<FlushReport>),
    /// End now; what is not stored stays in the log.
    Stop,
}

/// What one stream's flush did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlushReport {
    /// Events that were committed meanwhile.
    pub events: u64,
    /// Batches of those.
    pub batches: u64,
}

/// Where messages to a worker are put; each log and delivery has one.
#[derive(Clone)]
pub struct Inbox {
    sender: Sender<Wake>,
    /// Whether a `Durable` is waiting already: a burst of syncs is one message.
    durable: Arc<AtomicBool>,
}

impl Inbox {
    /// A worker's inbox and the end it reads from.
    #[must_use]
    pub fn new() -> (Self, Receiver<Wake>) {
        let (sender, receiver) = std::sync::mpsc::channel();
        (Self { sender, durable: Arc::default() }, receiver)
    }

    /// Says that records became durable.
    pub fn durable(&self) {
        if !self.durable.swap(true, Relaxed) {
            self.send(Wake::Durable);
        }
    }

    /// Puts a message in. One for a worker that has ended is dropped: its sender learns that from
    /// the reply that never comes.
    pub fn send(&self, wake: Wake) {
        let _ = self.sender.send(wake);
    }
}

/// What a worker calls beyond its own stages.
#[derive(Clone)]
pub struct Hooks {
    /// The process can't go on: a sentence for the log. The worker ends after it.
    pub fatal: Arc<dyn Fn(String) + Send + Sync>,
    /// Something changed that an operator wants to see in the list of changes.
    pub changed: Arc<dyn Fn(String) + Send + Sync>,
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
    /// For how long a message id is remembered.
    pub window: Duration,
    /// How many ids all streams remember together.
    pub memory: Arc<Memory>,
}

/// The worker has to end: it was told to, or the process can't go on.
struct Ended;

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

struct Flush {
    target: Seq,
    before: FlushReport,
    reply: oneshot::Sender<FlushReport>,
}

struct Running {
    worker: Worker,
    adapter: Adapter,
    dedupe: Dedupe,
    id_key: IdKey,
    sequencer: Sequencer,
    reader: Reader,
    /// Positions above the cursor that an earlier process had finished.
    finished: RoaringTreemap,
    /// Letters an earlier process was replaying and whose record has not been seen yet.
    unseen: HashSet<LetterId>,
    /// The log's head when this process opened it.
    head_at_start: Seq,
    flushes: Vec<Flush>,
    saved_cursor: Seq,
    saved_at: Instant,
    forgot_at: Instant,
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
        let letters =
            self.insist("read the error store", |w| w.errors.positions(&w.stream.name, next_seq))?;
        let mut finished = stored;
        finished.extend(letters);
        for plan in open {
            match self.find(&plan)? {
                Some(stored) => {
                    finished |= &plan.seqs;
                    let letters = Vec::new();
                    let commit = crate::ledger::Commit { id: plan.id, stored, letters };
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
    fn window_start(&self) -> Micros {
        let window = Micros::try_from(self.window.as_micros()).unwrap_or(Micros::MAX);
        crate::time::now().saturating_sub(window)
    }

    /// Closes the letters whose event an earlier process stored; returns those whose record has
    /// to be found in the log, if it is there at all.
    fn recover_replays(&mut self) -> Result<HashSet<LetterId>, Ended> {
        let replaying = self.insist("read the error store", |w| w.errors.replaying())?;
        let mine = replaying.into_iter().filter(|(_, s)| *s == self.stream.name).map(|(id, _)| id);
        let mine: Vec<LetterId> = mine.collect();
        let stored = self.insist("read the ledger", |w| w.ledger.replayed(mine.clone()))?;
        let unseen = mine.into_iter().filter(|id| !stored.contains(id)).collect();
        self.resolve(stored)?;
        Ok(unseen)
    }

    fn resolve(&mut self, letters: Vec<LetterId>) -> Result<(), Ended> {
        if letters.is_empty() {
            return Ok(());
        }
        self.insist("close dead letters", |w| {
            w.errors.resolve_blocking(letters.clone(), "stored before a restart".to_owned())
        })
        .map(drop)
    }

    /// Asks the store for a plan's batch until it answers.
    fn find(&mut self, plan: &crate::store::Plan) -> Result<Option<crate::store::Stored>, Ended> {
        loop {
            match self.runtime.block_on(self.store.find(plan)) {
                Ok(found) => return Ok(found),
                Err(error) => {
                    tracing::warn!(stream = %self.stream.name, %error, "store fails at recovery");
                    self.stream.stats.store_failing.set(1);
                    self.pause(IDLE)?;
                }
            }
        }
    }

    /// Tries until it works: what has to be durable can't be skipped.
    fn insist<T>(
        &mut self,
        what: &str,
        mut attempt: impl FnMut(&Self) -> Result<T, SqliteError>,
    ) -> Result<T, Ended> {
        loop {
            match attempt(self).map_err(Setback::from) {
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
    fn pause(&mut self, time: Duration) -> Result<(), Ended> {
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

impl Running {
    /// One turn: take messages, read a chunk, send what is due.
    fn turn(&mut self) -> Result<(), Ended> {
        let has_more = self.reader.position() < self.worker.stream.wal.head();
        let reads = has_more && self.worker.loader.has_room();
        self.take_messages(reads)?;
        if self.worker.loader.has_room() {
            self.read_chunk()?;
        }
        self.check_unseen()?;
        self.send_due()?;
        self.save_cursor()?;
        self.worker.loader.publish(self.worker.started);
        self.answer_flushes();
        Ok(())
    }

    fn take_messages(&mut self, reads: bool) -> Result<(), Ended> {
        let mut ended = Vec::new();
        let mut wait = if reads { Duration::ZERO } else { self.sleep_time() };
        loop {
            let message = match self.worker.messages.recv_timeout(wait) {
                Ok(message) => message,
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => return Err(Ended),
            };
            wait = Duration::ZERO;
            match message {
                Wake::Durable => self.worker.inbox.durable.store(false, Relaxed),
                Wake::Delivered(delivered) => ended.push(*delivered),
                Wake::Flush(reply) => self.start_flush(reply),
                Wake::Stop => return Err(Ended),
            }
        }
        if ended.is_empty() { Ok(()) } else { self.settle(ended) }
    }

    fn sleep_time(&self) -> Duration {
        let now = Instant::now();
        let due = self.worker.loader.next_deadline();
        due.map_or(IDLE, |at| at.saturating_duration_since(now)).min(IDLE)
    }

    /// Reads one chunk and brings each of its events into a buffer or to the dead letters.
    fn read_chunk(&mut self) -> Result<(), Ended> {
        let from = self.reader.position();
        let stream = Arc::clone(&self.worker.stream);
        let chunk = match self.reader.read() {
            Ok(None) => {
                self.worker.loader.nothing_below(self.reader.position());
                return Ok(());
            }
            Ok(Some(Ok(chunk))) => chunk,
            Ok(Some(Err(damage))) => {
                tracing::error!(stream = %stream.name, from = damage.from, to = damage.to,
                    "log records are damaged and lost");
                stream.stats.damaged_records.add(damage.to - damage.from);
                (self.worker.hooks.changed)(format!(
                    "log of {} damaged: records {} to {} are lost",
                    stream.name,
                    damage.from,
                    damage.to - 1
                ));
                self.worker.loader.read(damage.from, damage.to);
                let lost = RoaringTreemap::from_iter(damage.from..damage.to);
                self.worker.loader.done(&lost);
                return Ok(());
            }
            Err(error) => {
                tracing::error!(stream = %stream.name, %error, "log can't be read; waiting");
                return self.worker.pause(IDLE);
            }
        };
        let end = chunk.first_seq + Seq::from(chunk.count);
        // Records below `from` stand in the same frame and were read before.
        self.worker.loader.read(from.max(chunk.first_seq), end);
        let mut turn = Chunk {
            adapter: &self.adapter,
            dedupe: &mut self.dedupe,
            sequencer: self.sequencer,
            finished: &self.finished,
            unseen: &mut self.unseen,
            loader: &mut self.worker.loader,
            stream: &stream,
            now: Instant::now(),
            from,
            adapted: 0,
            duplicates: 0,
            skewed: 0,
            letters: Vec::new(),
            failed_again: Vec::new(),
            stored_before: Vec::new(),
            done: RoaringTreemap::new(),
        };
        let mut body = chunk.body;
        for seq in chunk.first_seq..end {
            let Some((receipt, payload, rest)) = wal::take(body) else {
                // The frame's length is right, so the rest of it can't be told apart any more.
                tracing::error!(stream = %stream.name, from = seq, to = end,
                    "log records are damaged and lost");
                stream.stats.damaged_records.add(end - seq);
                turn.done.insert_range(seq.max(from)..end);
                break;
            };
            body = rest;
            turn.take(RawEvent { stream: &stream.name, seq, payload, receipt });
        }
        let Chunk {
            adapted,
            duplicates,
            skewed,
            letters,
            failed_again,
            stored_before,
            mut done,
            ..
        } = turn;
        stream.stats.adapted_events.add(adapted);
        stream.stats.duplicate_events.add(duplicates);
        stream.stats.skewed_events.add(skewed);
        for letter in &letters {
            done.extend(letter.seq);
        }
        done.extend(failed_again.iter().filter_map(|(_, letter)| letter.seq));
        self.bury(letters, failed_again)?;
        self.worker.resolve(stored_before)?;
        self.worker.loader.done(&done);
        Ok(())
    }

    /// Makes dead letters durable.
    fn bury(
        &mut self,
        mut letters: Vec<NewLetter>,
        failed_again: Vec<(LetterId, NewLetter)>,
    ) -> Result<(), Ended> {
        let count = letters.len() + failed_again.len();
        if !failed_again.is_empty() {
            let facts = |(id, letter): &(LetterId, NewLetter)| {
                (*id, letter.seq.unwrap_or(0), letter.rejections.clone())
            };
            let unknown = self.worker.insist("write dead letters", |w| {
                w.errors.failed_again_blocking(failed_again.iter().map(facts).collect())
            })?;
            // A letter that the error store has lost is replaced by a new one.
            let lost = failed_again.into_iter().filter(|(id, _)| unknown.contains(id));
            letters.extend(lost.map(|(_, letter)| letter));
        }
        if !letters.is_empty() {
            self.worker.insist("write dead letters", |w| w.errors.put_blocking(letters.clone()))?;
        }
        self.worker.stream.stats.rejected_events.add(count as u64);
        Ok(())
    }

    /// A letter whose replay never reached the log is open again.
    fn check_unseen(&mut self) -> Result<(), Ended> {
        if self.unseen.is_empty() || self.reader.position() < self.head_at_start {
            return Ok(());
        }
        let lost: Vec<LetterId> = self.unseen.drain().collect();
        self.worker.insist("reopen dead letters", |w| {
            let why = "its replay was cut off".to_owned();
            w.runtime.block_on(w.errors.unclaim(lost.clone(), why))
        })
    }

    fn send_due(&mut self) -> Result<(), Ended> {
        let (resumed, empty) = self.worker.loader.take_resumed();
        for plan in empty {
            self.worker.insist("replace a plan", |w| w.ledger.replace(plan, vec![]))?;
        }
        self.worker.loader.deliver(resumed);
        let all = self.flushes.iter().any(|f| self.reader.position() >= f.target);
        let due = self.worker.loader.take_due(Instant::now(), all);
        if due.is_empty() {
            return Ok(());
        }
        let plans = self.worker.loader.plans(&due, &self.id_key);
        self.worker.insist("plan batches", |w| w.ledger.plan(plans.clone()))?;
        self.worker.loader.deliver(due);
        Ok(())
    }

    fn settle(&mut self, ended: Vec<Delivered>) -> Result<(), Ended> {
        let settlement = self.worker.loader.settle(ended);
        let (letters, failed_again) = self.letters_of(&settlement.refused);
        self.bury(letters, failed_again)?;
        for (parent, children) in &settlement.replaced {
            let plans = self.worker.loader.plans(children, &self.id_key);
            self.worker.insist("replace a plan", |w| w.ledger.replace(*parent, plans.clone()))?;
        }
        self.worker.loader.done(&settlement.done);
        self.commit(&settlement)?;
        self.worker.loader.finish(settlement);
        Ok(())
    }

    fn commit(&mut self, settlement: &Settlement) -> Result<(), Ended> {
        let low = self.worker.loader.low();
        self.worker.insist("commit batches", |w| {
            let uuid = w.stream.wal.log_uuid();
            w.ledger.commit(&w.stream.name, uuid, settlement.commits.clone(), low)
        })?;
        for commit in settlement.commits.iter().filter(|c| !c.letters.is_empty()) {
            self.worker.insist("close dead letters", |w| {
                let detail = format!("stored in {}", commit.stored.object);
                w.errors.resolve_blocking(commit.letters.clone(), detail)
            })?;
        }
        self.cursor_saved(low);
        Ok(())
    }

    /// Saves progress that no commit saves: dead letters and duplicates move the cursor too.
    fn save_cursor(&mut self) -> Result<(), Ended> {
        if self.forgot_at.elapsed() >= FORGET_IDS {
            self.forgot_at = Instant::now();
            self.dedupe.expire(self.forgot_at);
            self.worker.insist("forget message ids", |w| {
                w.ledger.forget_ids(&w.stream.name, w.window_start(), w.memory.ids_max())
            })?;
        }
        let low = self.worker.loader.low();
        if low <= self.saved_cursor || self.saved_at.elapsed() < SAVE_CURSOR {
            return Ok(());
        }
        self.commit(&Settlement::default())
    }

    fn cursor_saved(&mut self, low: Seq) {
        self.saved_cursor = low;
        self.saved_at = Instant::now();
        if self.finished.max().is_some_and(|last| last < low) {
            self.finished.clear();
        }
        if let Err(error) = self.worker.stream.wal.reclaim(low) {
            tracing::warn!(stream = %self.worker.stream.name, %error, "can't reclaim the log");
        }
    }

    fn letters_of(&self, refused: &[Refused]) -> (Vec<NewLetter>, Vec<(LetterId, NewLetter)>) {
        let (mut letters, mut failed_again) = (Vec::new(), Vec::new());
        for Refused { batch, row } in refused {
            let letter = letter_of_row(batch, row.row, vec![row.rejection.clone()]);
            match batch.event(row.row).replay {
                Some(replay) => failed_again.push((replay.letter, letter)),
                None => letters.push(letter),
            }
        }
        (letters, failed_again)
    }

    fn start_flush(&mut self, reply: oneshot::Sender<FlushReport>) {
        let stats = &self.worker.stream.stats;
        let before =
            FlushReport { events: stats.stored_events.get(), batches: stats.stored_batches.get() };
        self.flushes.push(Flush { target: self.worker.stream.wal.head(), before, reply });
    }

    fn answer_flushes(&mut self) {
        if self.flushes.is_empty() {
            return;
        }
        self.worker.loader.retry_now();
        let low = self.worker.loader.low();
        let stats = &self.worker.stream.stats;
        let after =
            FlushReport { events: stats.stored_events.get(), batches: stats.stored_batches.get() };
        let (answered, waiting) =
            std::mem::take(&mut self.flushes).into_iter().partition(|f| low >= f.target);
        self.flushes = waiting;
        let answered: Vec<Flush> = answered;
        for flush in answered {
            // Whoever asked may have gone away.
            let _ = flush.reply.send(FlushReport {
                events: after.events - flush.before.events,
                batches: after.batches - flush.before.batches,
            });
        }
    }
}

/// One chunk's passage; collects what has to be made durable after it.
struct Chunk<'c> {
    adapter: &'c Adapter,
    dedupe: &'c mut Dedupe,
    sequencer: Sequencer,
    finished: &'c RoaringTreemap,
    unseen: &'c mut HashSet<LetterId>,
    loader: &'c mut EventLoader,
    stream: &'c Stream,
    now: Instant,
    from: Seq,
    adapted: u64,
    duplicates: u64,
    skewed: u64,
    letters: Vec<NewLetter>,
    failed_again: Vec<(LetterId, NewLetter)>,
    /// Letters whose replay was stored by an earlier process that could not close them.
    stored_before: Vec<LetterId>,
    done: RoaringTreemap,
}

impl Chunk<'_> {
    fn take(&mut self, raw: RawEvent<'_>) {
        if raw.seq < self.from {
            return;
        }
        let unseen = raw.receipt.replay.filter(|replay| self.unseen.remove(&replay.letter));
        if self.finished.contains(raw.seq) {
            self.stored_before.extend(unseen.map(|replay| replay.letter));
            self.done.insert(raw.seq);
            return;
        }
        match self.adapter.run(&raw) {
            Ok(event) => {
                let new = self.dedupe.insert(&event.message_id, self.now);
                if !new && raw.receipt.replay.is_none() {
                    self.duplicates += 1;
                    self.done.insert(raw.seq);
                    return;
                }
                let partition = self.sequencer.partition(&event);
                if self.loader.add(partition, &raw, &event, self.now) {
                    self.adapted += 1;
                    self.skewed += u64::from(event.skewed);
                } else {
                    let message = "does not fit into a batch".to_owned();
                    let rejection = Rejection {
                        phase: Phase::Adapt,
                        reason: "too_large".to_owned(),
                        path: String::new(),
                        message,
                    };
                    let rejected = Rejected {
                        rejections: vec![rejection],
                        message_id: Some(event.message_id.clone().into_owned()),
                        library: None,
                        library_version: None,
                    };
                    self.reject(&raw, rejected);
                }
            }
            Err(rejected) => self.reject(&raw, rejected),
        }
    }

    fn reject(&mut self, raw: &RawEvent<'_>, rejected: Rejected) {
        let letter = NewLetter {
            stream: self.stream.name.clone(),
            seq: Some(raw.seq),
            rejections: rejected.rejections,
            payload: raw.payload.to_vec(),
            receipt: owned(&raw.receipt),
            message_id: rejected.message_id,
            library: rejected.library,
            library_version: rejected.library_version,
        };
        match raw.receipt.replay {
            Some(replay) => self.failed_again.push((replay.letter, letter)),
            None => self.letters.push(letter),
        }
    }
}

fn owned(receipt: &Receipt<'_>) -> Receipt<'static> {
    let text = |t: &Option<std::borrow::Cow<'_, str>>| t.as_deref().map(|t| t.to_owned().into());
    Receipt {
        received_at: receipt.received_at,
        sent_at: receipt.sent_at,
        kind: receipt.kind,
        message_id: text(&receipt.message_id),
        write_key_id: text(&receipt.write_key_id),
        source: receipt.source,
        route: text(&receipt.route),
        item: receipt.item,
        replay: receipt.replay,
    }
}

/// A letter for a row that its store refuses: the batch has the payload, and of the receipt what
/// a replay needs.
fn letter_of_row(batch: &Batch, row: usize, rejections: Vec<Rejection>) -> NewLetter {
    let event = batch.event(row);
    let message_id = event.message_id.clone().into_owned();
    NewLetter {
        stream: batch.stream.clone(),
        seq: Some(batch.seq(row)),
        rejections,
        payload: batch.payload(row).as_bytes().to_vec(),
        receipt: Receipt {
            received_at: event.received_at,
            sent_at: event.sent_at,
            kind: Some(crate::event::Kind::from_type(&event.kind)),
            message_id: Some(message_id.clone().into()),
            write_key_id: event.write_key_id.map(|id| id.into_owned().into()),
            ..Receipt::default()
        },
        message_id: Some(message_id),
        library: None,
        library_version: None,
    }
}
