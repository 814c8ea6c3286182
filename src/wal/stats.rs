//! What a log counts of itself.

use crate::stats::{Count, Durations};

/// Counters of one log.
#[derive(Debug, Default)]
pub struct WalStats {
    /// Syncs.
    pub syncs: Count,
    /// How long they took.
    pub sync: Durations,
    /// Records made durable.
    pub records: Count,
    /// Bytes written.
    pub written_bytes: Count,
}
