//! The sequencer: key → hash → partition, so that one user's events are processed in order.
//!
//! The key is `user_id`, else `anonymous_id`, else `message_id`. The hash is XXH3 with 64 bits
//! and seed 0 over the key's UTF-8 bytes (<https://github.com/Cyan4973/xxHash>), the same on
//! every machine and in every version; `tests/fixtures/sequence.json` holds vectors. The
//! partition is the hash modulo the number of partitions.

use xxhash_rust::xxh3::xxh3_64;

use crate::event::TypedEvent;

/// A partition's number, from 0.
pub type PartitionId = u16;

/// Chooses partitions for one stream.
#[derive(Clone, Copy, Debug)]
pub struct Sequencer {
    partitions: u16,
}

impl Sequencer {
    /// A sequencer over that many partitions, at least one.
    #[must_use]
    pub fn new(partitions: u16) -> Self {
        Self { partitions: partitions.max(1) }
    }

    /// The partition of an event.
    #[must_use]
    pub fn partition(self, event: &TypedEvent<'_>) -> PartitionId {
        self.partition_of_key(key(event))
    }

    /// The partition of a key.
    #[must_use]
    pub fn partition_of_key(self, key: &str) -> PartitionId {
        // The remainder is below a u16.
        (hash(key) % u64::from(self.partitions)) as PartitionId
    }
}

/// What an event is sequenced by.
#[must_use]
pub fn key<'a>(event: &'a TypedEvent<'_>) -> &'a str {
    event.user_id.as_deref().or(event.anonymous_id.as_deref()).unwrap_or(&event.message_id)
}

/// The fixed hash of a key.
#[must_use]
pub fn hash(key: &str) -> u64 {
    xxh3_64(key.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize)]
    struct Vector {
        key: String,
        hash: String,
        partition_of_16: u16,
        partition_of_64: u16,
    }

    #[test]
    fn the_hash_is_the_one_of_the_vectors() {
        let vectors: Vec<Vector> =
            serde_json::from_str(include_str!("../tests/fixtures/sequence.json")).unwrap();
        assert!(vectors.len() >= 8);
        for vector in vectors {
            assert_eq!(format!("{:016x}", hash(&vector.key)), vector.hash, "{:?}", vector.key);
            let of = |n| Sequencer::new(n).partition_of_key(&vector.key);
            assert_eq!((of(16), of(64)), (vector.partition_of_16, vector.partition_of_64));
        }
    }

    #[test]
    fn the_key_is_user_then_anonymous_then_message() {
        let mut event = TypedEvent { message_id: "m".into(), ..TypedEvent::default() };
        assert_eq!(key(&event), "m");
        event.anonymous_id = Some("a".into());
        assert_eq!(key(&event), "a");
        event.user_id = Some("u".into());
        assert_eq!(key(&event), "u");
    }

    #[test]
    fn keys_spread_evenly() {
        let sequencer = Sequencer::new(16);
        let mut counts = [0_u32; 16];
        for n in 0..16_000 {
            counts[usize::from(sequencer.partition_of_key(&format!("user-{n}")))] += 1;
        }
        assert!(counts.iter().all(|&n| (850..1150).contains(&n)), "{counts:?}");
    }
}
