//! Firestore: each event a document of its stream's collection.
//!
//! In: batches. Out: documents `{collection}/{stream}/events/{document id}`, where the id is the
//! message id ([`id`]) and the fields are the lake's columns ([`document`]). A document is created
//! only if there is none of its id: whatever is written again, after a lost answer, a crash or the
//! loss of the ledger, changes nothing, and of two events with one message id the first stays, as
//! the deduplication has it. So the store has no need to know plans, and lists nothing.
//!
//! A batch is written by up to 500 documents a request, several requests at once. Firestore says
//! of each document what became of it: what may work later is written again at once, a few times,
//! and then with the whole batch; what never will is named row by row. A request that is refused as
//! a whole names no row.
//!
//! Batches share nothing here: however long those of one stream take, the others' are written. What
//! the requests hold of memory follows from the batches under way, which the loader bounds.

mod document;
mod id;
mod rest;
mod value;

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use serde::Deserialize;

pub use rest::FirestoreError;

use self::document::Name;
use self::rest::{Rest, code, unavailable};
use super::{Batch, EventStore, Plan, RowRejection, StoreError, Stored};
use crate::ambient;
use crate::config::{GoogleConfig, StoreConfig};
use crate::event::{Phase, Rejection};
use crate::sentence::line;

/// Documents in a request (<https://cloud.google.com/firestore/docs/reference/rest/v1/projects.databases.documents/batchWrite>).
const DOCUMENTS_MAX: usize = 500;
/// Bytes of a request, unless it is one document; Firestore takes 10 MiB.
const REQUEST_BYTES: usize = 4 << 20;
/// Requests of a batch that are under way at once.
const AT_ONCE: usize = 4;
/// How often documents are written before the batch is.
const ROUNDS: u32 = 4;
/// The wait after the first round, at most.
const ROUND_FIRST: Duration = Duration::from_millis(100);
/// The collection of a stream's events, below its document.
const EVENTS: &str = "events";
/// The document that shows that documents can be written; no stream is called so.
const CHECK: &str = "-check";

/// A database of Firestore's.
pub struct Firestore {
    rest: Rest,
    collection: String,
    /// Set once it has been.
    was_written: OnceLock<()>,
}

impl Firestore {
    /// The database that is configured; nothing is asked yet.
    ///
    /// # Errors
    /// It can't be used as it is configured.
    pub fn open(config: &StoreConfig, google: &GoogleConfig) -> Result<Self, FirestoreError> {
        Ok(Self {
            rest: Rest::open(config, google)?,
            collection: config.collection.clone(),
            was_written: OnceLock::new(),
        })
    }

    /// Returns the rows and what became of each.
    async fn send(
        &self,
        Request { body, rows }: Request,
    ) -> Result<Vec<(Row, Status)>, StoreError> {
        let answer = self.rest.ask("batchWrite", body).await?;
        let answer: Answer = serde_json::from_slice(&answer)
            .map_err(|error| unavailable(format!("firestore's answer can't be read: {error}")))?;
        if answer.status.len() != rows.len() {
            let (told, asked) = (answer.status.len(), rows.len());
            return Err(unavailable(format!(
                "firestore told of {told} documents where {asked} were written"
            )));
        }
        Ok(rows.into_iter().zip(answer.status).collect())
    }
}

impl EventStore for Firestore {
    fn name(&self) -> &str {
        "firestore"
    }

    fn object(&self, batch: &Batch) -> String {
        format!("{}/{}/{EVENTS}", self.collection, batch.stream)
    }

    async fn put(&self, batch: &Arc<Batch>) -> Result<Stored, StoreError> {
        let mut writing = Writing::new(self, batch);
        let mut wait = ROUND_FIRST;
        for round in 1..=ROUNDS {
            writing.round().await?;
            if writing.again.is_empty() || round == ROUNDS {
                break;
            }
            writing.rows.extend(writing.again.drain(..));
            tokio::time::sleep(ambient::part_of(wait)).await;
            wait *= 2;
        }
        let Writing { refused, again, why, bytes, .. } = writing;
        if !refused.is_empty() {
            return Err(StoreError::Rows(refused));
        }
        if !again.is_empty() {
            return Err(unavailable(format!(
                "firestore does not take {} of {} documents now ({why})",
                again.len(),
                batch.len(),
            )));
        }
        Ok(Stored { object: self.object(batch), bytes })
    }

    /// It keeps no batches: what is there already is not written again when it is put.
    async fn find(&self, _: &Plan) -> Result<Option<Stored>, StoreError> {
        Ok(None)
    }

    /// A document is written until that has worked once, then it is read, which costs a third.
    async fn check(&self) -> Result<(), StoreError> {
        let document = format!("{}/{}/{CHECK}", self.rest.root, self.collection);
        let is_written = self.was_written.get().is_some();
        let (method, body) = match is_written {
            true => ("batchGet", serde_json::json!({"documents": [document]})),
            false => {
                let at = crate::time::format(crate::time::now());
                let fields = serde_json::json!({"written_at": {"timestampValue": at}});
                let update = serde_json::json!({"name": document, "fields": fields});
                ("commit", serde_json::json!({"writes": [{"update": update}]}))
            }
        };
        match self.rest.ask(method, body.to_string().into()).await {
            Ok(_) => {
                let _ = self.was_written.set(());
                Ok(())
            }
            // There is no row that could be at fault.
            Err(StoreError::Refused(why)) => Err(unavailable(format!("firestore answered: {why}"))),
            Err(error) => Err(error),
        }
    }
}

/// Some documents of a batch, as Firestore is asked to write them.
struct Request {
    body: Vec<u8>,
    /// Theirs, in order.
    rows: Vec<Row>,
}

/// A row of a batch, and the bytes that its document takes.
type Row = (usize, usize);

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    status: Vec<Status>,
}

/// What became of a document.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    code: i32,
    message: String,
}

/// A batch on its way.
struct Writing<'s> {
    store: &'s Firestore,
    batch: &'s Batch,
    ids: Vec<String>,
    /// What is still to be written.
    rows: VecDeque<usize>,
    /// What was not written and may be later, and why.
    again: Vec<usize>,
    why: String,
    refused: Vec<RowRejection>,
    /// Bytes that its documents take.
    bytes: u64,
}

impl<'s> Writing<'s> {
    /// A document that is twice in a request is refused with all of it. The first is written: the
    /// second would find it there.
    fn new(store: &'s Firestore, batch: &'s Batch) -> Self {
        let ids: Vec<String> =
            (0..batch.len()).map(|row| id::document_id(&batch.event(row).message_id)).collect();
        let mut seen = HashSet::new();
        let rows = (0..batch.len()).filter(|row| seen.insert(ids[*row].as_str())).collect();
        let (again, why, refused, bytes) = Default::default();
        Self { store, batch, ids, rows, again, why, refused, bytes }
    }

    /// Writes what is still to be written, once.
    async fn round(&mut self) -> Result<(), StoreError> {
        let store = self.store;
        let mut under_way = FuturesUnordered::new();
        loop {
            while !self.rows.is_empty() && under_way.len() < AT_ONCE {
                let request = self.request();
                if !request.rows.is_empty() {
                    under_way.push(store.send(request));
                }
            }
            match under_way.next().await {
                Some(answered) => self.answered(answered?),
                None => return Ok(()),
            }
        }
    }

    /// The next request; what is larger than a document may be is refused here.
    fn request(&mut self) -> Request {
        let mut request = Request { body: b"{\"writes\":[".to_vec(), rows: Vec::new() };
        let stream = self.batch.stream.as_str();
        while request.rows.len() < DOCUMENTS_MAX {
            let Some(row) = self.rows.pop_front() else { break };
            let end = request.body.len();
            if !request.rows.is_empty() {
                request.body.push(b',');
            }
            let path = [&*self.store.collection, stream, EVENTS, &self.ids[row]];
            let name = Name { root: &self.store.rest.root, path };
            match document::write(&mut request.body, &name, self.batch, row) {
                Ok(bytes) if request.rows.is_empty() || request.body.len() <= REQUEST_BYTES => {
                    request.rows.push((row, bytes));
                }
                Ok(_) => {
                    request.body.truncate(end);
                    self.rows.push_front(row);
                    break;
                }
                Err(rejection) => {
                    request.body.truncate(end);
                    self.refused.push(RowRejection { row, rejection, is_beyond_limit: true });
                }
            }
        }
        request.body.extend_from_slice(b"]}");
        request
    }

    fn answered(&mut self, told: Vec<(Row, Status)>) {
        for ((row, bytes), Status { code, message }) in told {
            match code {
                // It was written before, by this batch or by an earlier event of its id.
                code::OK | code::ALREADY_EXISTS => self.bytes += bytes as u64,
                code::INVALID_ARGUMENT | code::OUT_OF_RANGE => {
                    let rejection = Rejection {
                        phase: Phase::Store,
                        reason: "refused".to_owned(),
                        path: String::new(),
                        message: line(&message),
                    };
                    self.refused.push(RowRejection { row, rejection, is_beyond_limit: false });
                }
                code => {
                    self.again.push(row);
                    self.why = format!("{}: {}", code::name(code), line(&message));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
