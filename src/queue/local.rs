//! One stream's worker: a plain thread that owns everything between the log and the store.
//!
//! In: durable records, and messages (deliveries that ended, flush, stop). Out: batches on their
//! way, dead letters, the ledger's cursor, reclaimed segments. It reads on only while memory
//! allows; the backlog stays in the log. A ledger or error store that is full holds this stream
//! until there is space; a disk that fails stops the process.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use super::chunk::{Passage, Passed, letter_of_row};
use super::flush::Flush;
use super::inbox::Wake;
use super::message::Packing;
use super::publish::Flow;
use super::recall::Recall;
use super::worker::{Ended, IDLE, Worker};
use crate::adapt::Adapter;
use crate::ambient;
use crate::damage::Report;
use crate::dedupe::Dedupe;
use crate::errors::NewLetter;
use crate::event::{LetterId, Seq};
use crate::ledger::{Commit, OpenLetter, Step};
use crate::load::{Delivered, Refused, Settlement};
use crate::mutant::{self, Mutant};
use crate::sequence::Sequencer;
use crate::store::{Batch, BatchId};
use crate::wal::{Damage, Reader};
use roaring::RoaringTreemap;

/// Between two readings of the log: what became durable meanwhile is taken together, so that the
/// work a turn costs is shared by many events.
const GATHER: Duration = Duration::from_millis(5);
/// Where other streams have the memory, one looks this often whether there is some again.
const LOOK_FOR_ROOM: Duration = Duration::from_millis(10);
/// Chunks that are read before messages are looked at again.
const CHUNKS_MAX: usize = 16;
/// The cursor is saved this often where no commit saves it.
const SAVE_CURSOR: Duration = Duration::from_secs(5);
/// What is too old is forgotten this often.
const TIDY: Duration = Duration::from_secs(60);

pub(crate) struct Running {
    pub(super) worker: Worker,
    pub(super) adapter: Adapter,
    pub(super) dedupe: Dedupe,
    pub(super) sequencer: Sequencer,
    pub(super) reader: Reader,
    /// What the store was asked about those who were here before.
    pub(super) recall: Recall,
    /// Where the log's records go.
    pub(super) flow: Flow,
    /// Positions above the cursor that an earlier process had finished.
    pub(super) finished: RoaringTreemap,
    /// Dead letters that the next commit has to name, with their positions.
    pub(super) opened: Vec<(Seq, LetterId)>,
    /// Dead letters that the next commit has to forget.
    pub(super) closed: Vec<LetterId>,
    /// Dead letters that the error store has lost, by the position where the log has them.
    pub(super) missing: BTreeMap<Seq, LetterId>,
    /// The ledger's cursor when this process read it: below, only what is missing is taken.
    pub(super) cursor_at_start: Seq,
    /// Those of them that are dead letters, or replays of such that failed.
    pub(super) buried: RoaringTreemap,
    /// Letters an earlier process was replaying and whose record has not been seen yet.
    pub(super) unseen: HashSet<LetterId>,
    /// The log's head when this process opened it.
    pub(super) head_at_start: Seq,
    pub(super) flushes: Vec<Flush>,
    /// When the log may be read again.
    pub(super) read_at: Instant,
    pub(super) saved_cursor: Seq,
    pub(super) saved_at: Instant,
    pub(super) forgot_at: Instant,
    /// The log's head then.
    pub(super) head_at_tidy: Seq,
}

/// Positions that follow each other: the first, and the one behind the last.
fn ranges(positions: &RoaringTreemap) -> Vec<(Seq, Seq)> {
    let mut ranges: Vec<(Seq, Seq)> = Vec::new();
    for seq in positions {
        match ranges.last_mut() {
            Some((_, to)) if *to == seq => *to += 1,
            _ => ranges.push((seq, seq + 1)),
        }
    }
    ranges
}

impl Running {
    /// One turn: take messages, read what is there, send what is due.
    pub(crate) fn turn(&mut self) -> Result<(), Ended> {
        self.take_messages()?;
        if self.is_reading() && (ambient::now() >= self.read_at || !self.flushes.is_empty()) {
            self.worker.inbox.took_durable();
            self.read_chunks()?;
        }
        self.check_unseen()?;
        self.send_due()?;
        self.save_cursor()?;
        if self.worker.loader.waits_for_store() {
            self.reader.rest();
        }
        self.worker.loader.publish(self.worker.started);
        self.answer_flushes();
        Ok(())
    }

    /// Whether there is something to read, and room for it.
    fn is_reading(&self) -> bool {
        let has_room = || self.worker.loader.has_room() && self.flow.has_room();
        self.reader.position() < self.worker.stream.wal.head() && has_room()
    }

    fn take_messages(&mut self) -> Result<(), Ended> {
        let mut ended = Vec::new();
        let mut until = self.wake_at();
        loop {
            let wait = until.saturating_duration_since(ambient::now());
            let message = match ambient::receive(&self.worker.messages, wait) {
                Ok(message) => message,
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => return Err(Ended),
            };
            match message {
                // There is no other until the log is read.
                Wake::Durable => {
                    until = until.min(self.wake_at());
                    continue;
                }
                Wake::Delivered(delivered) => ended.push(*delivered),
                Wake::Published(published) => {
                    let (seqs, letters) = *published;
                    self.worker.loader.done(&seqs);
                    self.close(letters, "published")?;
                }
                Wake::Flush(reply) => self.start_flush(reply),
                Wake::Stop => {
                    self.save_at_the_end();
                    return Err(Ended);
                }
            }
            until = ambient::now();
        }
        if ended.is_empty() { Ok(()) } else { self.settle(ended) }
    }

    /// When there is something to do, if no message comes before.
    fn wake_at(&self) -> Instant {
        let now = ambient::now();
        if self.is_reading() {
            return if self.flushes.is_empty() { self.read_at } else { now };
        }
        if self.worker.loader.waits_for_room() {
            return now + LOOK_FOR_ROOM;
        }
        let due = self.worker.loader.next_deadline();
        due.map_or(now + IDLE, |at| at.min(now + IDLE))
    }

    fn read_chunks(&mut self) -> Result<(), Ended> {
        for _ in 0..CHUNKS_MAX {
            if !self.is_reading() {
                self.read_at = ambient::now() + GATHER;
                return Ok(());
            }
            self.read_chunk()?;
        }
        Ok(())
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
                self.worker.loader.read(damage.from, damage.to);
                return self.give_up(damage);
            }
            Err(error) => {
                tracing::error!(stream = %stream.name, %error, "log can't be read; waiting");
                return self.worker.pause(IDLE);
            }
        };
        if chunk.first_seq < self.head_at_start {
            let ids = self.recall.of_chunk(&mut self.worker, &chunk, &self.finished)?;
            self.dedupe.remember(ids, ambient::now());
        }
        self.worker.loader.read(from.max(chunk.first_seq), chunk.end_seq());
        let passage = Passage {
            adapter: &self.adapter,
            dedupe: &mut self.dedupe,
            sequencer: self.sequencer,
            finished: &self.finished,
            recall: &self.recall,
            cursor: self.cursor_at_start,
            missing: &self.missing,
            buried: &self.buried,
            unseen: &mut self.unseen,
            loader: &mut self.worker.loader,
            route: self.flow.route(self.head_at_start),
            packing: Packing::new(stream.wal.log_uuid()),
            stream: &stream,
            now: ambient::now(),
            from,
            passed: Passed::default(),
        };
        let passed = passage.run(&chunk);
        for damage in passed.lost {
            self.give_up(damage)?;
        }
        if mutant::active(Mutant::RecycleBeforeCommit) {
            let _ = self.worker.stream.wal.reclaim(self.reader.position());
        }
        self.bury(passed.letters, passed.failed_again)?;
        self.close(passed.stored_before, "stored before a restart")?;
        self.close(passed.already_stored, "its message id is stored already, or on its way")?;
        self.worker.loader.done(&passed.done);
        self.flow.publish(passed.messages);
        Ok(())
    }

    /// Says which records are lost, and goes on behind them. What an earlier process had finished
    /// is none of them.
    fn give_up(&mut self, damage: Damage) -> Result<(), Ended> {
        let Damage { from, to, evidence } = damage;
        let mut all = RoaringTreemap::new();
        all.insert_range(from..to);
        let mut lost = &(&all - &self.finished) - self.recall.claimed();
        lost.remove_range(..self.cursor_at_start);
        let lost = ranges(&lost);
        let stream = Arc::clone(&self.worker.stream);
        if !lost.is_empty() {
            let evidence = serde_json::to_value(&evidence).unwrap_or_default();
            let report = Report::of_log(stream.name.as_str(), lost, evidence);
            stream.stats.damaged_records.add(report.lost);
            (self.worker.hooks.changed)(report.text.clone());
            // Nothing that is lost is passed over before somebody can know of it.
            while let Err(error) = self.worker.hooks.reports.add(report.clone()) {
                tracing::error!(stream = %stream.name, %error,
                    "the report can't be kept; waiting");
                self.worker.pause(IDLE)?;
            }
        }
        self.worker.loader.done(&all);
        // A letter that the error store has lost, and now the log too.
        let (log_uuid, stream) = (self.worker.stream.wal.log_uuid(), stream.name.clone());
        let letters: Vec<OpenLetter> = self
            .missing
            .range(from..to)
            .map(|(&seq, &letter)| OpenLetter { stream: stream.clone(), seq, letter, log_uuid })
            .collect();
        self.missing.retain(|seq, _| !(from..to).contains(seq));
        self.worker.report_lost(&letters)
    }

    /// Closes letters whose event is stored; the ledger forgets them with the next commit.
    fn close(&mut self, letters: Vec<LetterId>, why: &str) -> Result<(), Ended> {
        self.worker.resolve(letters.clone(), why)?;
        self.closed.extend(letters);
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
        // One that the error store had and has lost keeps its number.
        let numbered: Vec<(Option<LetterId>, NewLetter)> = letters
            .into_iter()
            .map(|letter| (letter.seq.and_then(|seq| self.missing.remove(&seq)), letter))
            .collect();
        if !numbered.is_empty() {
            let numbers = self.worker.insist("write dead letters", |w| {
                w.errors.put_numbered_blocking(numbered.clone())
            })?;
            let seqs = numbered.iter().map(|(_, letter)| letter.seq);
            self.opened.extend(seqs.zip(numbers).filter_map(|(seq, id)| Some((seq?, id))));
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
        self.worker.loader.send_held(ambient::now());
        let refilled = self.worker.loader.take_resumed();
        self.worker.loader.deliver(refilled.whole);
        for (plan, mut rest) in refilled.replaced {
            let (stream, events) =
                (&self.worker.stream.name, rest.iter().map(Batch::len).sum::<usize>());
            tracing::warn!(%stream, %plan, events, "of a plan only a part is left to be stored");
            self.replace(plan, &mut rest)?;
            self.worker.loader.deliver(rest);
        }
        let all = self.flushes.iter().any(|f| self.reader.position() >= f.target);
        let mut due = self.worker.loader.take_due(ambient::now(), all);
        if due.is_empty() {
            return Ok(());
        }
        let plans = self.worker.loader.plans(&due);
        let transaction = self.worker.insist("plan batches", |w| w.ledger.plan(plans.clone()))?;
        due.iter_mut().for_each(|batch| batch.ledger_tx = transaction);
        self.worker.loader.deliver(due);
        Ok(())
    }

    fn replace(&mut self, parent: BatchId, children: &mut [Batch]) -> Result<(), Ended> {
        let plans = self.worker.loader.plans(children);
        let transaction =
            self.worker.insist("replace a plan", |w| w.ledger.replace(parent, plans.clone()))?;
        children.iter_mut().for_each(|batch| batch.ledger_tx = transaction);
        Ok(())
    }

    fn settle(&mut self, ended: Vec<Delivered>) -> Result<(), Ended> {
        let mut settlement = self.worker.loader.settle(ended, ambient::now());
        for Refused { batch, row } in &settlement.refused {
            self.dedupe.forget(&batch.event(row.row).message_id);
        }
        let (letters, failed_again) = self.letters_of(&settlement.refused);
        self.bury(letters, failed_again)?;
        for (parent, children) in &mut settlement.replaced {
            self.replace(*parent, children)?;
        }
        self.worker.loader.done(&settlement.done);
        self.commit(&settlement)?;
        self.worker.loader.finish(settlement);
        Ok(())
    }

    fn commit(&mut self, settlement: &Settlement) -> Result<(), Ended> {
        let low = self.worker.loader.low();
        let step = self.step(settlement.commits.clone());
        self.worker.insist("commit batches", |w| {
            w.ledger.commit(&w.stream.name, w.stream.wal.log_uuid(), step.clone())
        })?;
        self.opened.clear();
        self.closed.clear();
        self.missing = self.missing.split_off(&low);
        for commit in settlement.commits.iter().filter(|c| !c.letters.is_empty()) {
            self.worker.insist("close dead letters", |w| {
                let detail = format!("stored in {}", commit.stored.object);
                w.errors.resolve_blocking(commit.letters.clone(), detail)
            })?;
        }
        self.cursor_saved(low);
        Ok(())
    }

    /// What the ledger has to know with these commits.
    fn step(&self, commits: Vec<Commit>) -> Step {
        let next_seq = self.worker.loader.low();
        // What was missed and is done now without being a letter again is stored.
        let found = self.missing.range(..next_seq).map(|(_, letter)| *letter);
        let closed = self.closed.iter().copied().chain(found).collect();
        Step { commits, opened: self.opened.clone(), closed, next_seq }
    }

    /// Forgets what is too old, and gives up what an idle log does not need.
    fn tidy(&mut self) -> Result<(), Ended> {
        self.forgot_at = ambient::now();
        self.dedupe.expire(self.forgot_at);
        self.worker.insist("forget old batches", |w| {
            w.ledger.forget(&w.stream.name, w.window, w.memory.ids_max())
        })?;
        let head = self.worker.stream.wal.head();
        if std::mem::replace(&mut self.head_at_tidy, head) == head
            && let Err(error) = self.worker.stream.wal.rest()
        {
            tracing::warn!(stream = %self.worker.stream.name, %error, "can't reclaim the log");
        }
        Ok(())
    }

    /// Saves progress that no commit saves: dead letters and duplicates move the cursor too.
    fn save_cursor(&mut self) -> Result<(), Ended> {
        if ambient::now().duration_since(self.forgot_at) >= TIDY {
            self.tidy()?;
        }
        let low = self.worker.loader.low();
        let idle = self.opened.is_empty() && self.closed.is_empty();
        let saved_ago = ambient::now().duration_since(self.saved_at);
        if (low <= self.saved_cursor && idle) || saved_ago < self.flow.save_every(SAVE_CURSOR) {
            return Ok(());
        }
        self.commit(&Settlement::default())
    }

    /// Spares the next start what is done already. Where it fails, that start reads it again.
    fn save_at_the_end(&self) {
        let (low, stream) = (self.worker.loader.low(), &self.worker.stream);
        let idle = self.opened.is_empty() && self.closed.is_empty();
        if low > self.saved_cursor || !idle {
            let (uuid, step) = (stream.wal.log_uuid(), self.step(vec![]));
            match self.worker.ledger.commit(&stream.name, uuid, step) {
                Ok(()) => stream.leases.done(low),
                Err(error) => {
                    tracing::warn!(stream = %stream.name, %error, "the cursor could not be saved");
                }
            }
        }
    }

    fn cursor_saved(&mut self, low: Seq) {
        // What was pulled and stands below is nobody's any more.
        self.worker.stream.leases.done(low);
        self.saved_cursor = low;
        self.saved_at = ambient::now();
        self.recall.done(low);
        if self.finished.max().is_some_and(|last| last < low) {
            self.finished.clear();
            self.buried.clear();
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
}
