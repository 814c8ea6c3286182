//! eventkit collects events over HTTP, never loses one it has acknowledged, and lands each
//! exactly once in a lake of Parquet files; what fails rests in SQLite with its reason.
//!
//! The modules stand in the order in which an event passes them.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

/// What travels: accepted bytes with the facts of their receipt, typed events, ids.
pub mod event;
/// Where the fields of a payload stand, so that it is parsed once.
pub mod outline;
/// Time as events carry it: microseconds since the epoch, and the formats clients send.
pub mod time;
/// What a process takes from its surroundings: the time that passes, identities, chance.
mod ambient;
/// One sentence out of what others say.
mod sentence;
/// Which thread goes first where there are more than cores.
mod priority;
/// Faults that tests put in; a build without tests has none.
mod mutant;
/// Raw settings from file, environment and options become final types, once.
pub mod config;
/// What was found damaged: a report each, until an operator has seen it.
pub mod damage;
/// A SQLite file behind a thread of its own: what ledger and error store stand on.
pub mod sqlite;
/// How much room the disk has, and whether events are taken.
pub mod space;
/// How the disk's room is shared out among the logs.
pub mod quota;
/// The counters that every stage bumps, and from which metrics and the console are fed.
pub mod stats;
/// HTTP in: routes, encodings, limits, one log record per event, the answer after the sync.
pub mod ingest;
/// The table of streams: a name, its log, its counters.
pub mod streams;
/// The write-ahead log, one per stream: append, sync, read from a cursor, reclaim.
pub mod wal;
/// How events travel from the log to the stages behind it.
pub mod queue;
/// Bytes become typed events, or rejections that name every violation.
pub mod adapt;
/// A client's retry does not become a second row.
pub mod dedupe;
/// Key → hash → partition: one user, one order.
pub mod sequence;
/// Per-partition buffers that become batches: plan, put, commit.
pub mod load;
/// What Google's services are asked with.
#[cfg(feature = "google")]
pub mod google;
/// Where batches rest: the `EventStore` trait, the Parquet lake, and Firestore.
pub mod store;
/// What was planned, stored, loaded and replayed, so that a crash at any instant doubles nothing.
pub mod ledger;
/// Tables that the lake's objects are loaded into: the `WarehouseLoader` trait and BigQuery.
pub mod warehouse;
/// Where rejected events rest until an operator has mended them.
pub mod errors;
/// The one file that knows every stage: build, run, drain.
pub mod pipeline;
/// Everything that can be seen at one instant.
pub mod status;
/// The Unix socket through which console and commands look and act.
pub mod admin;
/// All of it in one thread, in a world that follows from a seed.
#[cfg(test)]
mod sim;
/// Where fuzzers come in.
#[cfg(fuzzing)]
pub mod fuzzing;
