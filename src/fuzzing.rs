//! The doors that fuzzers come in by: each takes any bytes and panics where a promise is broken.
//! No build has them but the fuzzers' (`tests/fuzz`).

pub use crate::config::fuzzing::config;
pub use crate::ingest::fuzzing::{body, inflate};
pub use crate::queue::fuzzing::message;
pub use crate::store::fuzzing::object_key;
pub use crate::wal::fuzzing::{recover, scan};
