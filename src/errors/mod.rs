//! The error store: where rejected events rest, with everything needed to understand, mend and
//! replay them.
//!
//! In: [`NewLetter`]s from the edge (malformed, too large) and from the stages behind the log.
//! Out: pages and details for the operator, and claimed letters for replay. SQLite
//! (`errors.db`) behind a thread of its own; an answer means that the transaction is synced.
//! A letter is unique by (stream, log position), so that writing it again after a crash is
//! harmless; an event that its client sends again keeps the letter it has, among the newest. An
//! open letter is never removed; only the ring of malformed bodies is bounded, and what it drops is
//! counted.
//!
//! It does not read payloads, does not append to a log, and does not decide what may be replayed:
//! that is its callers' part.

mod audit;
mod database;
mod export;
mod group;
#[cfg(test)]
mod in_memory;
mod insert;
mod known;
mod letter;
mod mend;
mod put;
mod open;
mod query;
mod rescue;
mod row;
mod store;
#[cfg(test)]
mod tests;
mod worker;

pub use crate::sqlite::SqliteError as ErrorStoreError;
pub use export::{ExportError, to_parquet};
#[cfg(test)]
pub(crate) use in_memory::InMemory;
pub use letter::{
    Attempt, AuditEntry, Claim, Counts, Group, Letter, LetterFilter, LetterSummary, NewLetter,
    Page, Position, Status,
};
pub use row::DAMAGED_ROW;
pub use store::ErrorStore;
