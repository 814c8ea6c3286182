//! The events that are written: track calls of about 360 bytes as clients of many kinds send
//! them, of one stream in the order of its log.

use eventkit::adapt::{Adapter, StreamRules};
use eventkit::event::{Micros, RawEvent, Receipt, StreamName};
use eventkit::sequence::Sequencer;
use xxhash_rust::xxh3::xxh3_64;

use crate::store::{Batch, BatchId};

const EVENTS: [&str; 12] = [
    "Product Viewed",
    "Product Added",
    "Order Completed",
    "Checkout Started",
    "Search Performed",
    "Coupon Applied",
    "Signed In",
    "Signed Up",
    "Video Playback Started",
    "Article Read",
    "Newsletter Subscribed",
    "Promotion Clicked",
];
const LOCALES: [&str; 6] = ["de-DE", "en-US", "en-GB", "fr-FR", "pt-BR", "ja-JP"];
const LIBRARIES: [(&str, &str); 4] = [
    ("analytics.js", "4.1.0"),
    ("analytics-ios", "3.7.1"),
    ("analytics-android", "4.10.4"),
    ("analytics-node", "1.1.3"),
];
const CURRENCIES: [&str; 4] = ["EUR", "USD", "GBP", "JPY"];
/// Most events come from a few of them.
const USERS: u64 = 100_000;
const PRODUCTS: u64 = 5_000;
const PATHS: u64 = 2_000;
/// Events that a request brings: they are received at one time.
const REQUEST: u64 = 100;
/// Microseconds from one request to the next.
const BETWEEN: u64 = 1_200;
/// 2026-11-23 10:00 UTC.
const BEGAN: Micros = 1_795_428_000_000_000;

/// A number that nothing but its two sources says anything of.
fn draw(n: u64, what: u64) -> u64 {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&n.to_le_bytes());
    bytes[8..].copy_from_slice(&what.to_le_bytes());
    xxh3_64(&bytes)
}

/// One of so many, the first ones more often.
fn skewed(n: u64, what: u64, of: u64) -> u64 {
    let half = |what| draw(n, what) % of;
    half(what).min(half(what + 100))
}

fn one_of<T: Copy>(n: u64, what: u64, from: &[T]) -> T {
    from[skewed(n, what, from.len() as u64) as usize]
}

fn uuid(n: u64, what: u64) -> uuid::Uuid {
    uuid::Builder::from_random_bytes(
        (u128::from(draw(n, what)) << 64 | u128::from(draw(n, what + 1))).to_be_bytes(),
    )
    .into_uuid()
}

/// Nobody has logged in where there is no user id.
fn person(n: u64) -> String {
    let user = skewed(n, 1, USERS);
    let anonymous_id = uuid(user, 2);
    match draw(n, 4) % 4 {
        0 => format!(r#""anonymousId":"{anonymous_id}""#),
        1 => format!(r#""userId":"{:024x}","anonymousId":"{anonymous_id}""#, draw(user, 5)),
        _ => format!(r#""userId":"{:024x}""#, draw(user, 5)),
    }
}

fn payload(n: u64, received_at: Micros) -> String {
    let (library, version) = one_of(n, 6, &LIBRARIES);
    let happened = received_at - (draw(n, 7) % 30_000_000) as i64;
    let happened = jiff::Timestamp::from_microsecond(happened / 1000 * 1000).expect("a time");
    format!(
        r#"{{"type":"track","event":"{}",{},"messageId":"{}","timestamp":"{happened:.3}","context":{{"library":{{"name":"{library}","version":"{version}"}},"locale":"{}","page":{{"path":"/p/{}"}}}},"properties":{{"price":{}.{:02},"currency":"{}","sku":"A-{}","quantity":{}}}}}"#,
        one_of(n, 8, &EVENTS),
        person(n),
        uuid(n, 9),
        one_of(n, 11, &LOCALES),
        skewed(n, 12, PATHS),
        skewed(n, 13, 500),
        draw(n, 14) % 100,
        one_of(n, 15, &CURRENCIES),
        skewed(n, 16, PRODUCTS),
        1 + skewed(n, 17, 5),
    )
}

/// A batch of so many events, and the bytes of one.
pub fn batch(rows: u64) -> (Batch, u64) {
    let stream = StreamName::new("events").expect("a name");
    let (adapter, sequencer) = (Adapter::new(&StreamRules::segment_strict()), Sequencer::new(16));
    let mut batch = Batch::new(BatchId::nil(), stream.clone(), 1);
    let mut bytes = 0;
    for seq in 0..rows {
        let received_at = BEGAN + (seq / REQUEST * BETWEEN) as i64;
        let payload = payload(seq, received_at);
        let receipt = Receipt { received_at, ..Receipt::default() };
        let raw = RawEvent { stream: &stream, seq, payload: payload.as_bytes(), receipt };
        let event = adapter.run(&raw).expect("a sound event");
        let partition = sequencer.partition(&event);
        assert!(batch.push(seq, partition, 0, payload.as_bytes(), &event));
        bytes += payload.len() as u64;
    }
    (batch, bytes / rows)
}
