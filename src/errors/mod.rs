//! The error store: where rejected events rest, with everything needed to understand, mend and
//! replay them.
//!
//! In: [`NewLetter`]s from the edge (malformed, too large) and from the stages behind the log.
//! Out: pages and details for the operator, and claimed letters for replay. SQLite
//! (`errors.db`) behind a thread of its own; an answer means that the transaction is synced.
//! A letter is unique by (stream, log position), so that writing it again after a crash is
//! harmless. An open letter is never removed; only the ring of malformed bodies is bounded, and
//! what it drops is counted.

mod letter;
mod store;

pub use letter::{
    Attempt, Claim, Counts, Group, Letter, LetterFilter, LetterSummary, NewLetter, Page, Status,
};
pub use store::{ErrorStore, ErrorStoreError};
