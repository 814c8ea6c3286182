//! (being written)
mod record;
pub use record::{Records, take};
