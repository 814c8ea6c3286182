//! What is promised of a batch, and written down, before it is put.

use roaring::RoaringTreemap;
use uuid::Uuid;

use crate::dedupe::IdHash;
use crate::event::{Micros, StreamName};
use crate::sequence::PartitionId;

/// Microseconds in an hour.
pub(crate) const HOUR: Micros = 3_600_000_000;

/// A batch's identity: also what makes storing it twice recognisable.
pub type BatchId = Uuid;

/// XXH3-128 over the positions and payloads of a batch, in order.
pub type Digest = u128;

/// What was promised of a batch before it was put: enough to recognise it, and to build it again
/// from the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The batch's identity.
    pub id: BatchId,
    /// Its stream.
    pub stream: StreamName,
    /// The log that its positions belong to.
    pub log_uuid: u128,
    /// The lowest and the highest partition that its events had when it was planned.
    pub partitions: (PartitionId, PartitionId),
    /// Where it goes, in the store's words.
    pub object: String,
    /// Its events' exact positions.
    pub seqs: RoaringTreemap,
    /// The hashes of its events' message ids, in order; empty in a plan read from the ledger.
    pub ids: Vec<IdHash>,
    /// Its content.
    pub digest: Digest,
    /// The receipt of its first and last event, in order of time.
    pub received: (Micros, Micros),
    /// The ledger's transaction that made it durable; 0 until then.
    pub ledger_tx: u64,
}

/// The hour that a time lies in, as a count since the epoch; a batch never spans two.
#[must_use]
pub fn hour(received_at: Micros) -> i64 {
    received_at.div_euclid(HOUR)
}
