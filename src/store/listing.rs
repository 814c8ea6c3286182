//! What a store says that it has: read after a restart, and believed before the ledger.

use roaring::RoaringTreemap;

use super::{BatchId, Digest};
use crate::event::{LetterId, Micros, StreamName};
use crate::sequence::PartitionId;

/// One object of a log that a store has.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The batch it was.
    pub id: BatchId,
    /// Where it is, in the store's own words.
    pub object: String,
    /// The lowest and the highest partition of its events.
    pub partitions: (PartitionId, PartitionId),
    /// Its content.
    pub digest: Digest,
    /// Its events' exact positions.
    pub seqs: RoaringTreemap,
    /// Bytes it takes.
    pub bytes: u64,
    /// The receipt of its first and last event, in order of time.
    pub received: (Micros, Micros),
    /// The ledger's transaction that planned it; 0 where it does not say.
    pub ledger_tx: u64,
    /// The dead letters that its events came from.
    pub letters: Vec<LetterId>,
}

/// What a store has of one log and hour.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Listing {
    /// Objects that say what they hold.
    pub found: Vec<Found>,
    /// Objects that don't: where they are, and why they can't be read.
    pub unreadable: Vec<(String, String)>,
}

/// One object, whichever log it is of.
#[derive(Clone, Debug, PartialEq)]
pub struct OfLog {
    /// The stream of its events.
    pub stream: StreamName,
    /// The log that its positions belong to.
    pub log_uuid: u128,
    /// What it says of itself.
    pub found: Found,
}

/// An object's name: what it says without being opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub log: u32,
    pub first: u64,
    pub last: u64,
    pub batch: u32,
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { log, first, last, batch } = self;
        write!(f, "{log:08x}-{first}-{last}-{batch:08x}")
    }
}

impl Name {
    /// The name of a file, also of one that stands beside another of the same name.
    pub(super) fn parse(file: &str) -> Option<Self> {
        let parts = file.strip_suffix(".parquet")?.split('-');
        // Before an object held several partitions, its name said which one.
        let mut parts = parts.filter(|part| !part.starts_with('p'));
        let log = u32::from_str_radix(parts.next()?, 16).ok()?;
        let first = parts.next()?.parse().ok()?;
        let last = parts.next()?.parse().ok()?;
        let batch = u32::from_str_radix(parts.next()?, 16).ok()?;
        Some(Self { log, first, last, batch })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_back_also_beside_another() {
        let name = Name { log: 0xab, first: 12, last: 900, batch: 0xffff_ffff };
        assert_eq!(Name::parse(&format!("{name}.parquet")), Some(name));
        assert_eq!(Name::parse(&format!("{name}-0123abcd.parquet")), Some(name));
        assert_eq!(Name::parse("000000ab-p007-12-900-ffffffff.parquet"), Some(name));
        for other in ["", ".parquet", "x.parquet", "000000ab-12-900-ffffffff.parquet#1"] {
            assert_eq!(Name::parse(other), None, "{other}");
        }
    }
}
