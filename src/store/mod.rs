//! Stores: where batches rest.
//!
//! In: a [`Batch`] whose plan is durable. Out: [`Stored`], after which its events may leave the
//! log, or a [`StoreError`] that says of itself whether trying again can help. A store must take
//! the same batch twice and keep it once: after a crash between put and commit it is asked
//! whether it [has](EventStore::find) the batch, and, where it does not know, given it again.
//! A store that can [list](EventStore::list) what it has keeps a ledger that was lost or has gone
//! back in time from storing anything twice.

mod answer;
mod batch;
mod bucket;
mod encoders;
#[cfg(feature = "firestore")]
mod firestore;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod lake;
mod listing;
mod objects;
mod parquet;
mod plan;
mod table;

pub use batch::Batch;
pub use bucket::BucketError;
#[cfg(feature = "firestore")]
pub use firestore::{Firestore, FirestoreError};
pub use lake::Lake;
pub use listing::{Found, Listing, OfLog};
pub(crate) use plan::HOUR;
pub use plan::{BatchId, Digest, Plan, hour};
#[cfg(feature = "bigquery")]
pub(crate) use table::columns;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::event::{Rejection, Seq, StreamName};

/// Proof that a store has a batch, durably.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Where, in the store's own words.
    pub object: String,
    /// Bytes it takes there.
    pub bytes: u64,
}

/// Whether trying again can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Yes, and not before that time where the store said so.
    After(Option<Duration>),
    /// No: the data is at fault.
    Never,
}

/// Why a store does not have a batch.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The environment's fault: the batch is tried again until it succeeds.
    #[error("{message}")]
    Unavailable {
        /// One sentence that names the place.
        message: String,
        /// The store's own wish.
        after: Option<Duration>,
    },
    /// Some rows' fault: those become dead letters, the rest is tried again without them.
    #[error("{} rows refused", .0.len())]
    Rows(Vec<RowRejection>),
    /// Some row's fault, and the store does not say which: it is found by halving the batch.
    #[error("refused: {0}")]
    Refused(String),
}

/// A row that the store will never take.
#[derive(Clone, Debug)]
pub struct RowRejection {
    /// The row's index in the batch.
    pub row: usize,
    /// Why.
    pub rejection: Rejection,
    /// Whether it is beyond a limit that every row has, such as a document's size: then it says
    /// nothing about the store or the schema, and however many there are holds no batch up.
    pub is_beyond_limit: bool,
}

impl StoreError {
    /// Whether trying again can help.
    #[must_use]
    pub fn retry(&self) -> Retry {
        match self {
            Self::Unavailable { after, .. } => Retry::After(*after),
            Self::Rows(_) | Self::Refused(_) => Retry::Never,
        }
    }
}

/// A destination of batches.
///
/// See `examples/custom_store.rs` for one to copy.
pub trait EventStore: Send + Sync + 'static {
    /// Its name in the console and the metrics.
    fn name(&self) -> &str;

    /// Where a batch will go: recorded in its plan. Must follow from the batch alone.
    fn object(&self, batch: &Batch) -> String;

    /// Stores a batch. Returns once it is durable there; a batch that is there already is
    /// success.
    fn put(&self, batch: &Arc<Batch>) -> impl Future<Output = Result<Stored, StoreError>> + Send;

    /// Whether the batch of that plan is there: asked once per unfinished plan, after a restart.
    /// A store that can't tell answers `None` and is given the batch again.
    fn find(&self, plan: &Plan) -> impl Future<Output = Result<Option<Stored>, StoreError>> + Send;

    /// For how long a batch may still come to light that a process was putting when it died. Where
    /// nobody puts it again, because a topic delivers its events anew, it is looked for that long.
    fn late(&self) -> Duration {
        Duration::ZERO
    }

    /// Whether it could be reached and written to now.
    fn check(&self) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// The objects of that log and [hour] of receipt that hold a position from `from` on: asked
    /// after a restart, before an event of that hour is stored. A store that can't list answers
    /// `None`, and then has to recognise a batch's events itself where the ledger was lost.
    fn list(
        &self,
        _stream: &StreamName,
        _log_uuid: u128,
        _hour: i64,
        _from: Seq,
    ) -> impl Future<Output = Result<Option<Listing>, StoreError>> + Send {
        async { Ok(None) }
    }

    /// The hours of receipt of which it has anything of that stream, in any order.
    fn hours(
        &self,
        _stream: &StreamName,
    ) -> impl Future<Output = Result<Vec<i64>, StoreError>> + Send {
        async { Ok(Vec::new()) }
    }

    /// The message ids of an object that was listed; `None` where they can't be read.
    fn message_ids(
        &self,
        _object: &str,
    ) -> impl Future<Output = Result<Option<Vec<String>>, StoreError>> + Send {
        async { Ok(None) }
    }
}

/// An [`EventStore`] that was chosen at run time.
pub type AnyStore = dyn DynStore;

type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// The dyn-compatible face of [`EventStore`]; implemented for every one, by nobody else.
pub trait DynStore: Send + Sync + 'static {
    /// See [`EventStore::name`].
    fn name(&self) -> &str;
    /// See [`EventStore::object`].
    fn object(&self, batch: &Batch) -> String;
    /// See [`EventStore::put`].
    fn put<'a>(&'a self, batch: &'a Arc<Batch>) -> Answer<'a, Stored>;
    /// See [`EventStore::find`].
    fn find<'a>(&'a self, plan: &'a Plan) -> Answer<'a, Option<Stored>>;
    /// See [`EventStore::late`].
    fn late(&self) -> Duration;
    /// See [`EventStore::check`].
    fn check(&self) -> Answer<'_, ()>;
    /// See [`EventStore::list`].
    fn list<'a>(
        &'a self,
        stream: &'a StreamName,
        log_uuid: u128,
        hour: i64,
        from: Seq,
    ) -> Answer<'a, Option<Listing>>;
    /// See [`EventStore::hours`].
    fn hours<'a>(&'a self, stream: &'a StreamName) -> Answer<'a, Vec<i64>>;
    /// See [`EventStore::message_ids`].
    fn message_ids<'a>(&'a self, object: &'a str) -> Answer<'a, Option<Vec<String>>>;
}

impl<S: EventStore> DynStore for S {
    fn name(&self) -> &str {
        EventStore::name(self)
    }
    fn object(&self, batch: &Batch) -> String {
        EventStore::object(self, batch)
    }
    fn put<'a>(&'a self, batch: &'a Arc<Batch>) -> Answer<'a, Stored> {
        Box::pin(EventStore::put(self, batch))
    }
    fn find<'a>(&'a self, plan: &'a Plan) -> Answer<'a, Option<Stored>> {
        Box::pin(EventStore::find(self, plan))
    }
    fn late(&self) -> Duration {
        EventStore::late(self)
    }
    fn check(&self) -> Answer<'_, ()> {
        Box::pin(EventStore::check(self))
    }
    fn list<'a>(
        &'a self,
        stream: &'a StreamName,
        log_uuid: u128,
        hour: i64,
        from: Seq,
    ) -> Answer<'a, Option<Listing>> {
        Box::pin(EventStore::list(self, stream, log_uuid, hour, from))
    }
    fn hours<'a>(&'a self, stream: &'a StreamName) -> Answer<'a, Vec<i64>> {
        Box::pin(EventStore::hours(self, stream))
    }
    fn message_ids<'a>(&'a self, object: &'a str) -> Answer<'a, Option<Vec<String>>> {
        Box::pin(EventStore::message_ids(self, object))
    }
}
