//! What deliveries that ended ask for: refused rows, replaced plans, commits.

use std::sync::Arc;

use roaring::RoaringTreemap;

use crate::ambient;
use crate::event::{Phase, Rejection};
use crate::ledger::Commit;
use crate::store::{Batch, BatchId, RowRejection};

/// What a stream's worker has to make durable, in this order, before [`EventLoader::finish`].
#[derive(Debug, Default)]
pub struct Settlement {
    /// Refused rows: dead letters first.
    pub refused: Vec<Refused>,
    /// Then plans that are replaced by what is left of them.
    pub replaced: Vec<(BatchId, Vec<Batch>)>,
    /// Then commits.
    pub commits: Vec<Commit>,
    /// Positions that are done once all of this is durable.
    pub done: RoaringTreemap,
}

/// A row that the store will never take.
#[derive(Debug)]
pub struct Refused {
    /// The batch it stood in.
    pub batch: Arc<Batch>,
    /// Its row there, and why.
    pub row: RowRejection,
}

impl Settlement {
    /// Those rows become dead letters.
    pub(super) fn refuse(
        &mut self,
        batch: &Arc<Batch>,
        rows: impl IntoIterator<Item = RowRejection>,
    ) {
        for row in rows {
            self.done.insert(batch.seq(row.row));
            self.refused.push(Refused { batch: Arc::clone(batch), row });
        }
    }

    /// The store refuses a batch and does not say which row: halve it, down to a single one.
    pub(super) fn bisect(&mut self, batch: &Arc<Batch>, message: &str) {
        if batch.len() < 2 {
            let rejection = Rejection {
                phase: Phase::Store,
                reason: "refused".to_owned(),
                path: String::new(),
                message: message.to_owned(),
            };
            self.refuse(batch, [RowRejection { row: 0, rejection, is_beyond_limit: false }]);
            self.replaced.push((batch.id, vec![]));
            return;
        }
        let middle = batch.len() / 2;
        let halves = [
            batch.part(ambient::new_id(), |row| row < middle),
            batch.part(ambient::new_id(), |row| row >= middle),
        ];
        self.replaced.push((batch.id, halves.into()));
    }
}
