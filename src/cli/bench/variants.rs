//! What varies, one thing at a time, while all others stay.

use super::requests::{self, Request};
use super::server::Settings;
use super::steps::CONNECTIONS;

/// Files that a service, or the load generator, opens beside its connections.
const FILES_BESIDE: u64 = 256;
/// Connections that send large events, and large batches: all of them may wait for a log's writer
/// at once, and none is refused.
const LARGE_CONNECTIONS: usize = 4;
const BATCH_CONNECTIONS: usize = 16;
/// Connections that a service accepts where their number is what varies.
const CONNECTIONS_MAX: u32 = 10_240;
/// The shortest event has all fields and a filling of four letters.
const PAYLOADS: [u64; 5] = [100, 1 << 10, 16 << 10, 128 << 10, (1 << 20) - (1 << 10)];

/// One thing that varies.
pub struct Series {
    /// Its name in the figures.
    pub name: &'static str,
    /// What is sent, in a line.
    pub what: &'static str,
    /// From the row that others are compared with.
    pub variants: Vec<Variant>,
}

/// A value of it, and all the rest.
pub struct Variant {
    /// The value.
    pub value: u64,
    /// Connections, each of which sends its next request when the answer is there.
    pub connections: usize,
    /// How the service is configured.
    pub settings: Settings,
    /// The requests, one after the other and again.
    pub requests: Vec<Request>,
}

impl Variant {
    fn new(value: u64, requests: Vec<Request>) -> Self {
        Self { value, connections: CONNECTIONS, settings: Settings::default(), requests }
    }

    /// Files that a process needs for it.
    pub fn files(&self) -> u64 {
        self.connections as u64 + FILES_BESIDE
    }
}

/// All but the backlog; events happened at `time`.
pub fn series(time: &str) -> Vec<Series> {
    let connections = |value: u64| Variant {
        connections: usize::try_from(value).unwrap_or(usize::MAX),
        settings: Settings { connections_max: Some(CONNECTIONS_MAX), ..Settings::default() },
        ..Variant::new(value, requests::single(time).requests)
    };
    let partitions = |value: u16| Variant {
        settings: Settings { partitions: Some(value), ..Settings::default() },
        ..Variant::new(value.into(), requests::batches(time).requests)
    };
    let payload = |bytes: u64| Variant {
        connections: LARGE_CONNECTIONS,
        ..Variant::new(bytes, requests::filled(usize::try_from(bytes).unwrap_or(usize::MAX)))
    };
    let streams = |value| Variant {
        settings: Settings { streams: value, ..Settings::default() },
        ..Variant::new(value, requests::streams(value, time))
    };
    let batch = |value| Variant {
        connections: BATCH_CONNECTIONS,
        ..Variant::new(value, requests::batches_of(value, time))
    };
    vec![
        Series {
            name: "streams",
            what: "100 events a request",
            variants: [1, 4, 16, 64].map(streams).into(),
        },
        Series {
            name: "partitions",
            what: "100 events a request, one stream",
            variants: [16, 64, 256].map(partitions).into(),
        },
        Series {
            name: "connections",
            what: "one event a request",
            variants: [10, 100, 1000, 10_000].map(connections).into(),
        },
        Series {
            name: "batch",
            what: "events a request, 16 connections",
            variants: [1, 10, 100, 1000].map(batch).into(),
        },
        Series {
            name: "payload",
            what: "bytes of an event, one a request, four connections",
            variants: PAYLOADS.map(payload).into(),
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_varies_differs_within_a_series() {
        for series in series("2026-11-23T06:59:00.123Z") {
            let distinct = |of: fn(&Variant) -> u64| {
                let values: std::collections::BTreeSet<u64> =
                    series.variants.iter().map(of).collect();
                values.len()
            };
            let all = series.variants.len();
            let found = [
                distinct(|v| v.requests.len() as u64),
                distinct(|v| v.settings.partitions.unwrap_or(0).into()),
                distinct(|v| v.connections as u64),
                distinct(|v| v.requests[0].events),
                distinct(|v| v.requests[0].body(0).len() as u64),
            ];
            let declared = series
                .variants
                .iter()
                .all(|v| v.settings.streams == if series.name == "streams" { v.value } else { 0 });
            assert!(declared, "{}", series.name);
            let wanted = match series.name {
                "streams" => [all, 1, 1, 1, 1],
                "partitions" => [1, all, 1, 1, 1],
                "connections" => [1, 1, all, 1, 1],
                "batch" => [1, 1, 1, all, all],
                _ => [1, 1, 1, 1, all],
            };
            assert_eq!(found, wanted, "{}", series.name);
        }
    }
}
