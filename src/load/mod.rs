//! The loader: events become batches, and batches are planned, put and committed.
//!
//! In: adapted events with their log position and partition. Out: nothing but facts: a batch in
//! the store, a commit in the ledger, dead letters for rows that the store refuses. A stream has a
//! buffer for each hour of receipt, in which its partitions lie together: what an event costs and
//! how many objects there are does not depend on how many partitions it has. A buffer is flushed
//! when it is full, old while the store works, when memory is short, and on demand.
//!
//! The order that makes a crash harmless: the plan is durable before anything is put; the commit
//! and the cursor are one transaction; a refused row is in the error store before its position
//! counts as done; the cursor never passes a position that is not done.

mod breaker;
mod budget;
mod dating;
mod deliver;
mod settlement;

pub use budget::{Budget, Sealed, Share};
#[cfg(test)]
pub(crate) use deliver::BACKOFF_MAX;
pub(crate) use deliver::HANGS;
pub use deliver::{Delivered, Delivery, Outcome};
pub use settlement::{Refused, Settlement};

use breaker::{Breaker, Verdict};
use dating::Dating;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use roaring::RoaringTreemap;

use crate::ambient;
use crate::config::LoadConfig;
use crate::dedupe::IdHash;
use crate::event::{LetterId, RawEvent, Seq, TypedEvent};
use crate::ledger::Commit;
use crate::mutant::{self, Mutant};
use crate::sequence::PartitionId;
use crate::store::{Batch, BatchId, Plan, RowRejection};
use crate::streams::Stream;

/// So many batches of a stream on their way to the store keep it busy.
pub(crate) const UNDER_WAY: usize = 3;
/// Where memory is short, a buffer that is so old is closed, however small.
const PATIENCE: Duration = Duration::from_secs(1);

/// An open buffer.
struct Open {
    batch: Batch,
    since: Instant,
}

/// A plan of an earlier process whose object is not there: filled again from the log.
struct Resumed {
    plan: Plan,
    batch: Batch,
}

/// What has become of the plans of an earlier process whose last event was read.
#[derive(Debug, Default)]
pub struct Refilled {
    /// Those that hold what was planned.
    pub whole: Vec<Batch>,
    /// Those of which something was done or lost meanwhile, with what is left, if anything is.
    pub replaced: Vec<(BatchId, Vec<Batch>)>,
}

/// One stream's buffers and everything it has read and not finished.
pub struct EventLoader {
    stream: Arc<Stream>,
    policy: LoadConfig,
    share: Share,
    delivery: Delivery,
    /// By hour of receipt, which is `None` where that is not believed.
    open: BTreeMap<Option<i64>, Open>,
    /// Buffers that hold as much as they may, in the order in which they were filled.
    full: Vec<Batch>,
    /// What was taken and is not delivered yet.
    taken: Vec<Sealed>,
    dating: Dating,
    resumed: Vec<Resumed>,
    resumed_seqs: RoaringTreemap,
    /// Planned and not finished: under way, or held.
    flying: HashMap<BatchId, Arc<Batch>>,
    breaker: Breaker,
    /// What is not sent while the breaker is open: before the others what was refused.
    held: VecDeque<Arc<Batch>>,
    /// Positions that were read and are neither stored nor dead-lettered.
    pending: RoaringTreemap,
    read_to: Seq,
    /// Events per partition that entered a buffer since that was published.
    added: Vec<u64>,
    /// Events per partition that are in a buffer or on their way.
    waiting: Vec<u64>,
}

impl EventLoader {
    /// A loader that has read nothing yet.
    #[must_use]
    pub fn new(stream: Arc<Stream>, policy: LoadConfig, share: Share, delivery: Delivery) -> Self {
        let none = vec![0; stream.stats.partition_events.len()];
        Self {
            stream,
            policy,
            share,
            delivery,
            open: BTreeMap::new(),
            full: Vec::new(),
            taken: Vec::new(),
            dating: Dating::default(),
            resumed: Vec::new(),
            resumed_seqs: RoaringTreemap::new(),
            flying: HashMap::new(),
            breaker: Breaker::default(),
            held: VecDeque::new(),
            pending: RoaringTreemap::new(),
            read_to: 0,
            added: none.clone(),
            waiting: none,
        }
    }

    /// Takes over a plan that an earlier process left: its events are put under its name.
    pub fn resume(&mut self, plan: Plan) {
        self.resumed_seqs |= &plan.seqs;
        let mut batch = Batch::new(plan.id, plan.stream.clone(), plan.log_uuid);
        batch.ledger_tx = plan.ledger_tx;
        self.resumed.push(Resumed { plan, batch });
    }

    /// Everything up to `to` was read; each position is pending until it is [`done`](Self::done).
    pub fn read(&mut self, from: Seq, to: Seq) {
        self.pending.insert_range(from..to);
        self.read_to = to;
    }

    /// There is no record below `to` that was not read.
    pub fn nothing_below(&mut self, to: Seq) {
        self.read_to = self.read_to.max(to);
    }

    /// These positions need nothing more: they were stored before, or are dead letters now.
    pub fn done(&mut self, seqs: &RoaringTreemap) {
        self.pending -= seqs;
    }

    /// Everything below is done.
    #[must_use]
    pub fn low(&self) -> Seq {
        if mutant::active(Mutant::CursorBeforeUpload) {
            return self.read_to;
        }
        self.pending.min().unwrap_or(self.read_to)
    }

    /// Puts an event with the hash of its message id into its buffer. Returns false where it does
    /// not fit any buffer.
    pub fn add(
        &mut self,
        partition: PartitionId,
        id: IdHash,
        raw: &RawEvent<'_>,
        event: &TypedEvent<'_>,
        now: Instant,
    ) -> bool {
        if self.resumed_seqs.contains(raw.seq) {
            let found = self.resumed.iter_mut().find(|r| r.plan.seqs.contains(raw.seq));
            let Some(resumed) = found else { return false };
            let before = resumed.batch.bytes();
            let added = resumed.batch.push(raw.seq, partition, id, raw.payload, event);
            self.share.take(resumed.batch.bytes() - before);
            self.waits(partition, added);
            return added;
        }
        let (at, is_replay) = (raw.receipt.received_at, raw.receipt.replay.is_some());
        let hour = self.dating.believes(at, is_replay, now).then(|| crate::store::hour(at));
        self.stream.stats.undated_events.add(u64::from(hour.is_none()));
        let open = self.open.entry(hour).or_insert_with(|| {
            let (id, name) = (ambient::new_id(), self.stream.name.clone());
            let mut batch = Batch::new(id, name, self.stream.wal.log_uuid());
            batch.is_undated = hour.is_none();
            Open { batch, since: now }
        });
        let before = open.batch.bytes();
        let added = open.batch.push(raw.seq, partition, id, raw.payload, event);
        let (rows, bytes) = (open.batch.len(), open.batch.bytes());
        // Mostly none: a buffer grows by pieces.
        match bytes - before {
            0 => {}
            grown => self.share.take(grown),
        }
        if rows >= self.policy.events_max || bytes >= self.policy.bytes_max {
            self.full.extend(self.open.remove(&hour).map(|open| open.batch));
        }
        if let Some(count) = self.added.get_mut(usize::from(partition)) {
            *count += u64::from(added);
        }
        self.waits(partition, added);
        added
    }

    fn waits(&mut self, partition: PartitionId, added: bool) {
        if let Some(count) = self.waiting.get_mut(usize::from(partition)) {
            *count += u64::from(added);
        }
    }

    /// Whether more may be read: memory is bounded, and what does not fit waits in the log.
    #[must_use]
    pub fn has_room(&self) -> bool {
        // A plan of an earlier process can only be put once its last event was read.
        let is_unread = |r: &Resumed| r.plan.seqs.max().is_some_and(|last| last >= self.read_to);
        self.resumed.iter().any(is_unread)
            || self.share.has_room(self.stream.stats.is_store_in_trouble())
    }

    /// Whether there is no room because others have it: nobody tells when they give it back.
    #[must_use]
    pub fn waits_for_room(&self) -> bool {
        !self.has_room() && !self.stream.stats.is_store_in_trouble()
    }

    /// Whether there is no room because the store does not take what there is: that may last.
    #[must_use]
    pub fn waits_for_store(&self) -> bool {
        !self.has_room() && self.stream.stats.is_store_in_trouble()
    }

    /// Whether buffers stay open however old they are: a store that takes nothing would only be
    /// asked for more and smaller batches, each again and again.
    fn waits_open(&self) -> bool {
        self.flying.len() >= UNDER_WAY && self.stream.stats.is_store_in_trouble()
    }

    /// Takes the batches that are due: full, old, or all where `all` is set; where memory is
    /// short, those too that should make room.
    pub fn take_due(&mut self, now: Instant, all: bool) -> Vec<Batch> {
        let waits = self.waits_open();
        let is_old = |open: &Open| {
            !waits && now.saturating_duration_since(open.since) >= self.policy.age_max
        };
        let mut due: Vec<Option<i64>> =
            self.open.iter().filter(|(_, open)| all || is_old(open)).map(|(key, _)| *key).collect();
        if due.is_empty()
            && self.full.is_empty()
            && self.share.is_short()
            && self.flying.len() < UNDER_WAY
        {
            let largest = self.open.iter().max_by_key(|(_, open)| open.batch.bytes());
            let is_due = |open: &Open| {
                self.share.makes_room(open.batch.bytes())
                    || now.saturating_duration_since(open.since) >= PATIENCE
            };
            due.extend(largest.filter(|(_, open)| is_due(open)).map(|(key, _)| *key));
        }
        let mut taken = std::mem::take(&mut self.full);
        taken.extend(due.iter().filter_map(|key| self.open.remove(key)).map(|open| open.batch));
        self.taken.extend(taken.iter().map(|batch| self.share.seal(batch.bytes())));
        taken
    }

    /// Takes the plans of an earlier process whose last event was read.
    pub fn take_resumed(&mut self) -> Refilled {
        let read_to = self.read_to;
        let (complete, rest) = std::mem::take(&mut self.resumed)
            .into_iter()
            .partition(|r: &Resumed| r.plan.seqs.max().is_none_or(|last| last < read_to));
        self.resumed = rest;
        let mut refilled = Refilled::default();
        for Resumed { plan, mut batch } in complete {
            self.resumed_seqs -= &plan.seqs;
            // Its name tells whether its date was believed when it was planned.
            let dir = |object: &str| object.rsplit_once('/').map(|(dir, _)| dir.to_owned());
            batch.is_undated = dir(&self.delivery.object(&batch)) != dir(&plan.object);
            if batch.is_empty() {
                refilled.replaced.push((plan.id, vec![]));
            } else if batch.digest() == plan.digest {
                refilled.whole.push(batch);
            } else {
                // Its name belongs to what was planned.
                batch.id = ambient::new_id();
                refilled.replaced.push((plan.id, vec![batch]));
            }
        }
        refilled
    }

    /// The plans of batches, for the ledger.
    #[must_use]
    pub fn plans(&self, batches: &[Batch]) -> Vec<Plan> {
        batches.iter().map(|batch| batch.plan(self.delivery.object(batch))).collect()
    }

    /// Sends batches whose plans are durable on their way to the store, or holds them.
    pub fn deliver(&mut self, batches: Vec<Batch>) {
        for batch in batches.into_iter().map(Arc::new) {
            self.flying.insert(batch.id, Arc::clone(&batch));
            match self.breaker.is_open() {
                true => self.held.push_back(batch),
                false => self.start(batch),
            }
        }
        self.taken.clear();
    }

    fn start(&self, batch: Arc<Batch>) {
        let sealed = self.share.seal(batch.bytes());
        self.delivery.start(batch, sealed);
    }

    /// Sends what is held: all where the store works again, one where it is time to try, of those
    /// that were not refused if there are any.
    pub fn send_held(&mut self, now: Instant) {
        if !self.breaker.is_open() {
            let held = std::mem::take(&mut self.held);
            held.into_iter().for_each(|batch| self.start(batch));
        } else if self.breaker.may_try(now)
            && let Some(batch) = self.held.pop_back()
        {
            self.breaker.tries(batch.id);
            self.start(batch);
        }
    }

    /// Somebody says that the store works again: what is held is tried with the next
    /// [`send_held`](Self::send_held).
    pub fn try_held(&mut self, now: Instant) {
        self.breaker.try_at(now);
    }

    /// Makes attempts that wait for their time start now.
    pub fn retry_now(&self) {
        self.delivery.retry_now();
    }

    /// What the ends of deliveries ask for.
    #[must_use]
    pub fn settle(&mut self, ended: Vec<Delivered>, now: Instant) -> Settlement {
        let mut settlement = Settlement::default();
        for Delivered { batch, outcome } in ended {
            match outcome {
                Outcome::Stored(stored) => {
                    self.breaker.stored(batch.id);
                    settlement.done |= batch.seqs();
                    let letters: Vec<LetterId> = batch.letters();
                    settlement.commits.push(Commit { id: batch.id, stored, letters });
                }
                Outcome::Rows(rows) => self.refused(&batch, rows, now, &mut settlement),
                Outcome::Refused(why) => {
                    if self.may_part(&batch, 1, &why, now) {
                        settlement.bisect(&batch, &why);
                        self.parted(&settlement);
                    }
                }
            }
        }
        if !self.breaker.is_open() {
            self.stream.stats.resume_store();
        }
        settlement
    }

    fn refused(
        &mut self,
        batch: &Arc<Batch>,
        rows: Vec<RowRejection>,
        now: Instant,
        settlement: &mut Settlement,
    ) {
        let rows = rows.into_iter().filter(|r| r.row < batch.len()).map(|r| (r.row, r));
        let rows: BTreeMap<usize, RowRejection> = rows.collect();
        let bad = rows.values().filter(|row| !row.is_beyond_limit);
        let why = bad.clone().next().map_or_else(
            || "refused rows that it does not have".to_owned(),
            |first| format!("{} {}", first.rejection.reason, first.rejection.path),
        );
        match (bad.count(), rows.is_empty()) {
            // The store is as it should be.
            (0, false) => self.breaker.stored(batch.id),
            (bad, _) if self.may_part(batch, bad.max(1), &why, now) => {}
            _ => return,
        }
        if rows.is_empty() {
            settlement.bisect(batch, &why);
        } else {
            let rest = batch.part(ambient::new_id(), |row| !rows.contains_key(&row));
            settlement.refuse(batch, rows.into_values());
            let rest = if rest.is_empty() { vec![] } else { vec![rest] };
            settlement.replaced.push((batch.id, rest));
        }
        self.parted(settlement);
    }

    /// Whether bad rows of a batch may become dead letters; else it is held.
    fn may_part(&mut self, batch: &Arc<Batch>, bad: usize, why: &str, now: Instant) -> bool {
        let verdict = self.breaker.refused(batch.id, batch.len(), bad, now);
        if verdict == Verdict::Part {
            return true;
        }
        self.held.push_front(Arc::clone(batch));
        if self.stream.stats.stop_store(format!(
            "it refuses too much, and batches are held ({why}): mend the store or what it is \
             sent; one batch is tried at a time, at once with `eventkit flush`"
        )) {
            tracing::error!(stream = %self.stream.name, why, "the store refuses too much: \
                batches are held, and their events stay in the log");
        }
        false
    }

    /// Tells the breaker of the last replacement.
    fn parted(&mut self, settlement: &Settlement) {
        if let Some((batch, parts)) = settlement.replaced.last() {
            let parts: Vec<BatchId> = parts.iter().map(|part| part.id).collect();
            self.breaker.parted(*batch, &parts);
        }
    }

    /// All of a settlement is durable.
    pub fn finish(&mut self, settlement: Settlement) {
        let stats = &self.stream.stats;
        for commit in &settlement.commits {
            let Some(batch) = self.flying.remove(&commit.id) else { continue };
            self.share.give_back(batch.bytes());
            waits_no_more(&mut self.waiting, &batch);
            stats.stored_events.add(batch.len() as u64);
            stats.stored_bytes.add(commit.stored.bytes);
            stats.stored_batches.add(1);
        }
        self.pending -= &settlement.done;
        for (parent, children) in settlement.replaced {
            if let Some(batch) = self.flying.remove(&parent) {
                self.share.give_back(batch.bytes());
                waits_no_more(&mut self.waiting, &batch);
            }
            self.share.take(children.iter().map(Batch::bytes).sum());
            for partition in children.iter().flat_map(Batch::partitions) {
                self.waits(partition, true);
            }
            self.deliver(children);
        }
    }

    /// When the oldest buffer is due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        if self.waits_open() {
            return None;
        }
        self.open.values().map(|open| open.since + self.policy.age_max).min()
    }

    /// Publishes what waits.
    pub fn publish(&mut self, started: Instant) {
        let stats = &self.stream.stats;
        stats.pending_events.set(self.pending.len());
        stats.pending_bytes.set(self.share.held() as u64);
        stats.pending_batches.set(self.flying.len() as u64);
        stats.read_to.set(self.read_to);
        stats.cursor.set(self.low());
        let oldest = self.open.values().map(|o| o.since).min().or(self.delivery.oldest());
        let since = oldest.map_or(0, |at| at.saturating_duration_since(started).as_millis().max(1));
        stats.pending_since_ms.set(u64::try_from(since).unwrap_or(u64::MAX));
        stats.partition_pending.iter().zip(&self.waiting).for_each(|(count, now)| count.set(*now));
        for (count, added) in stats.partition_events.iter().zip(&mut self.added) {
            count.add(std::mem::take(added));
        }
    }
}

fn waits_no_more(waiting: &mut [u64], batch: &Batch) {
    for partition in batch.partitions() {
        if let Some(count) = waiting.get_mut(usize::from(partition)) {
            *count = count.saturating_sub(1);
        }
    }
}
