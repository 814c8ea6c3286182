//! The parts of an event's way, each alone: `cargo bench --bench parts`.
//!
//! The event is a track call of 310 bytes, as analytics libraries send it. Every part has a
//! rate, in events (`item/s`), bytes, or both, so that it can be compared with what the whole
//! does; `benches/README.md` has the figures of one machine, and says how to compare two commits.
//!
//! What a stage keeps for itself is measured from its source, which is compiled into this
//! program: nothing of the library is public for the measurement's sake.

mod edge;
mod ids;
mod lake;
mod letters;
mod log;
mod rules;
#[allow(dead_code)]
#[path = "../../src/priority.rs"]
mod priority;
#[allow(dead_code, unused_imports)]
#[path = "../../src/sqlite/checksum.rs"]
mod checksum;
/// Under the name that the library's sources know it by.
mod sqlite {
    pub(crate) use crate::checksum::Checksum;
}

use eventkit::event::{Receipt, StreamName};
// Likewise.
use eventkit::{dedupe, event, outline, sequence};

/// Iterations of what takes nanoseconds, for one look at the clock.
const SHORT: u32 = 1_000;

fn main() {
    divan::main();
}

/// The event of that number; 5,000 users take turns.
fn payload(n: u64) -> String {
    format!(
        r#"{{"type":"track","event":"Order Completed","userId":"user-{}","messageId":"m-{n:020}","timestamp":"2026-11-23T06:59:00.123Z","context":{{"library":{{"name":"analytics.js","version":"4.1.0"}},"locale":"de-DE","page":{{"path":"/p/{n}"}}}},"properties":{{"price":12.5,"currency":"EUR","sku":"A-{n}","quantity":3}}}}"#,
        n % 5000
    )
}

fn receipt() -> Receipt<'static> {
    Receipt { received_at: 1_795_000_000_000_000, ..Receipt::default() }
}

fn stream() -> StreamName {
    StreamName::new("events").expect("a name")
}
