//! A door for fuzzers: any stream name, time and position as an object's key.

use std::path::Path;

use super::{Batch, EventStore, Lake};
use crate::event::{StreamName, TypedEvent};

/// A key stays below its stream's directory, and means the same to the store as to the ledger.
pub fn object_key(input: &[u8]) {
    let (numbers, name) = input.split_at(input.len().min(27));
    let mut bytes = [0; 27];
    bytes[..numbers.len()].copy_from_slice(numbers);
    let number = |at: usize| bytes[at..at + 8].try_into().map_or(0, u64::from_le_bytes);
    let Ok(stream) = StreamName::new(&String::from_utf8_lossy(name)) else { return };
    let partition = u16::from_le_bytes([bytes[24], bytes[25]]);
    let id = uuid::Uuid::from_u64_pair(number(0), number(8));
    let mut batch = Batch::new(id, stream.clone(), u128::from(number(0)));
    batch.is_undated = bytes[26] & 1 == 1;
    let event = TypedEvent { received_at: number(16) as i64, ..TypedEvent::default() };
    assert!(batch.push(number(8), partition, 0, b"{}", &event));
    let key = EventStore::object(&Lake::local(Path::new("/lake"), "a/b"), &batch);
    assert_eq!(object_store::path::Path::parse(&key).ok().map(String::from).as_ref(), Some(&key));
    let parts: Vec<&str> = key.split('/').collect();
    assert_eq!(parts[..3], ["a", "b", &format!("stream={stream}")]);
    assert!(parts.len() == 6 && parts.iter().all(|part| !part.is_empty() && !part.contains("..")));
}
