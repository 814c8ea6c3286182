//! A store of objects in memory: put if absent, compared by digest, as the lake does it. It
//! outlives every process, is away at times, is slow, refuses poisonous rows with or without
//! naming them, loses its answers, and takes a request whose sender is dead by then.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Chance;
use super::machine::{Fate, Machine, Operation};
use crate::ambient;
use crate::event::{LetterId, Micros, Phase, Rejection, Seq, StreamName};
use crate::sequence::PartitionId;
use crate::store::{
    Batch, BatchId, Digest, EventStore, Found, Listing, Plan, RowRejection, StoreError, Stored,
    hour,
};

/// A payload with this in it is refused.
pub(crate) const POISON: &str = "\"poison\":true";

/// One row that the store has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredRow {
    pub seq: Seq,
    pub message_id: String,
    pub payload: String,
}

/// One object.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    id: BatchId,
    partitions: (PartitionId, PartitionId),
    digest: Digest,
    received: (Micros, Micros),
    ledger_tx: u64,
    letters: Vec<LetterId>,
    pub log_uuid: u128,
    pub rows: Vec<StoredRow>,
}

#[derive(Debug, Default)]
pub(crate) struct Content {
    pub objects: BTreeMap<String, Object>,
    /// Requests that were sent and have not arrived; their sender may be dead.
    in_the_air: BTreeMap<u64, (String, Object)>,
    requests: u64,
    /// How often something was put, whatever came of it.
    pub puts: u64,
    /// Away until then.
    back_at: Duration,
    /// Whether it can say what it has; one that can't is asked for each plan.
    lists: bool,
    /// Whether a refused row is named, or found by halving.
    names_rows: bool,
    /// Whether it has learnt to take what was poison.
    takes_anything: bool,
    /// Objects that stood under another batch's name with another content.
    pub conflicts: u64,
}

/// A cheap handle.
#[derive(Clone, Debug)]
pub(crate) struct SimStore {
    machine: Machine,
    content: Arc<Mutex<Content>>,
}

impl Object {
    fn of(batch: &Batch) -> Self {
        let rows = batch.events().enumerate().map(|(row, (seq, event))| StoredRow {
            seq,
            message_id: event.message_id.into_owned(),
            payload: batch.payload(row).to_owned(),
        });
        Self {
            id: batch.id,
            partitions: batch.partition_range(),
            digest: batch.digest(),
            received: batch.received(),
            ledger_tx: batch.ledger_tx,
            letters: batch.letters(),
            log_uuid: batch.log_uuid,
            rows: rows.collect(),
        }
    }

    fn poison(&self) -> Vec<usize> {
        let poisonous = |row: &usize| self.rows[*row].payload.contains(POISON);
        (0..self.rows.len()).filter(poisonous).collect()
    }

    fn stored(&self, object: String) -> Stored {
        Stored { object, bytes: self.rows.len() as u64 }
    }

    fn found(&self, object: &str) -> Found {
        Found {
            id: self.id,
            object: object.to_owned(),
            partitions: self.partitions,
            digest: self.digest,
            seqs: self.rows.iter().map(|row| row.seq).collect(),
            bytes: self.rows.len() as u64,
            received: self.received,
            ledger_tx: self.ledger_tx,
            letters: self.letters.clone(),
        }
    }
}

impl Content {
    /// Puts it if it is absent; whether it is there now, with this content.
    fn put(&mut self, key: String, object: &Object) -> Stored {
        match self.objects.get(&key) {
            None => {
                self.objects.insert(key.clone(), object.clone());
            }
            Some(found) if found.digest == object.digest => {}
            Some(_) => {
                self.conflicts += 1;
                let beside = format!("{key}-{:08x}", object.digest as u32);
                self.objects.entry(beside).or_insert_with(|| object.clone());
            }
        }
        object.stored(key)
    }
}

impl SimStore {
    pub fn new(machine: Machine, chance: &mut Chance) -> Self {
        let content = Content { lists: chance.one_in(2), ..Content::default() };
        Self { machine, content: Arc::new(Mutex::new(content)) }
    }

    pub fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A process has died, and another begins: what was on its way may still arrive, if it may
    /// be late.
    pub fn new_life(&self, chance: &mut Chance, late: bool) {
        let mut content = self.content();
        for (key, object) in std::mem::take(&mut content.in_the_air).into_values() {
            if late && chance.one_in(2) && object.poison().is_empty() {
                let late = content.requests;
                content.requests += 1;
                content.in_the_air.insert(late, (key, object));
            }
        }
        content.names_rows = chance.one_in(2);
    }

    /// Something that was on its way when its sender died arrives.
    pub fn arrive_late(&self) {
        let mut content = self.content();
        if let Some((_, (key, object))) = content.in_the_air.pop_first()
            && object.poison().is_empty()
            && !content.objects.contains_key(&key)
        {
            content.put(key, &object);
        }
    }

    /// From now on nothing is poison.
    pub fn take_anything(&self) {
        self.content().takes_anything = true;
    }

    /// It is away for that long.
    pub fn go_away(&self, time: Duration) {
        self.content().back_at = ambient::simulated::passed() + time;
    }

    fn is_away(&self) -> bool {
        ambient::simulated::passed() < self.content().back_at
    }

    /// A question arrives, and will be answered.
    fn is_asked(&self, detail: u64) -> Result<(), StoreError> {
        match self.machine.begin(Operation::Find, detail) {
            Ok(Fate::Done) => {}
            _ => return Err(unavailable("the machine is dead")),
        }
        if self.is_away() || self.happens() { Err(unavailable("is away")) } else { Ok(()) }
    }

    fn happens(&self) -> bool {
        self.machine.state().happens(|faults| faults.store)
    }

    fn chance(&self) -> Chance {
        self.machine.state().chance.fork()
    }

    /// The answer to a batch that has rows it will never take.
    fn refusal(&self, object: &Object) -> Option<StoreError> {
        let poison = object.poison();
        if poison.is_empty() || self.content().takes_anything {
            return None;
        }
        if !self.content().names_rows {
            return Some(StoreError::Refused("some row is poison".to_owned()));
        }
        let rejection = |row| RowRejection {
            row,
            rejection: Rejection {
                phase: Phase::Store,
                reason: "poison".to_owned(),
                path: String::new(),
                message: "is poison".to_owned(),
            },
            is_beyond_limit: false,
        };
        Some(StoreError::Rows(poison.into_iter().map(rejection).collect()))
    }

    async fn slowly(&self) {
        if self.happens() {
            let mut chance = self.chance();
            tokio::time::sleep(Duration::from_millis(chance.below(30_000))).await;
        }
    }
}

fn unavailable(message: &str) -> StoreError {
    StoreError::Unavailable { message: message.to_owned(), after: None }
}

impl EventStore for SimStore {
    fn name(&self) -> &str {
        "simulated"
    }

    fn object(&self, batch: &Batch) -> String {
        let (first, last) = batch.range();
        let (log, id) = (batch.log_uuid as u32, batch.id.as_u128());
        format!("{}/{log:08x}-{first}-{last}-{:08x}", batch.stream, id as u32)
    }

    async fn put(&self, batch: &Arc<Batch>) -> Result<Stored, StoreError> {
        let (key, object) = (self.object(batch), Object::of(batch));
        self.content().puts += 1;
        if self.is_away() || self.happens() {
            return Err(unavailable("is away"));
        }
        let request = {
            let mut content = self.content();
            content.requests += 1;
            let request = content.requests;
            content.in_the_air.insert(request, (key.clone(), object.clone()));
            request
        };
        self.slowly().await;
        let detail = batch.id.as_u128() as u64;
        // What a dead process waits for never comes.
        let Ok(fate) = self.machine.begin(Operation::Put, detail) else {
            return std::future::pending().await;
        };
        if fate == Fate::Before {
            return std::future::pending().await;
        }
        let arrived = self.content().in_the_air.remove(&request).is_some();
        let refusal = self.refusal(&object);
        if arrived && refusal.is_none() {
            self.content().put(key.clone(), &object);
        }
        if fate != Fate::Done {
            return std::future::pending().await;
        }
        self.slowly().await;
        if !self.machine.is_alive() {
            return std::future::pending().await;
        }
        if !arrived || self.happens() {
            return Err(unavailable("lost its answer"));
        }
        refusal.map_or(Ok(object.stored(key)), Err)
    }

    async fn find(&self, plan: &Plan) -> Result<Option<Stored>, StoreError> {
        self.is_asked(plan.id.as_u128() as u64)?;
        let content = self.content();
        let found = content.objects.get(&plan.object).filter(|found| found.digest == plan.digest);
        Ok(found.map(|object| object.stored(plan.object.clone())))
    }

    async fn check(&self) -> Result<(), StoreError> {
        if self.is_away() { Err(unavailable("is away")) } else { Ok(()) }
    }

    async fn list(
        &self,
        _stream: &StreamName,
        log_uuid: u128,
        asked: i64,
        from: Seq,
    ) -> Result<Option<Listing>, StoreError> {
        self.is_asked(asked as u64)?;
        let content = self.content();
        if !content.lists {
            return Ok(None);
        }
        let of_it = |(_, object): &(&String, &Object)| {
            let last = object.rows.last().map_or(0, |row| row.seq);
            object.log_uuid == log_uuid && last >= from && hour(object.received.0) == asked
        };
        let found = content.objects.iter().filter(of_it).map(|(key, object)| object.found(key));
        Ok(Some(Listing { found: found.collect(), unreadable: Vec::new() }))
    }

    async fn hours(&self, _stream: &StreamName) -> Result<Vec<i64>, StoreError> {
        self.is_asked(0)?;
        let content = self.content();
        let hours: BTreeSet<i64> =
            content.objects.values().map(|object| hour(object.received.0)).collect();
        Ok(hours.into_iter().filter(|_| content.lists).collect())
    }

    async fn message_ids(&self, object: &str) -> Result<Option<Vec<String>>, StoreError> {
        self.is_asked(0)?;
        let content = self.content();
        let rows = content.objects.get(object).map(|object| object.rows.iter());
        Ok(rows.map(|rows| rows.map(|row| row.message_id.clone()).collect()))
    }
}
