//! What the edge does with an item, before the log.

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};

use crate::outline::Places;
use crate::{SHORT, payload};

#[allow(dead_code, unused_imports)]
#[path = "../../src/ingest/item.rs"]
mod item;
#[allow(dead_code, unused_imports)]
#[path = "../../src/ingest/scan.rs"]
mod scan;

/// Where the fields of a payload stand.
pub fn places(payload: &str) -> Places {
    let mut places = Places::default();
    item::Look::at(payload, &mut places).expect("an item");
    places
}

/// The depth scan: where an item ends and how deep it is.
#[divan::bench(sample_size = SHORT)]
fn depth_scan(bencher: Bencher) {
    let payload = payload(7);
    bencher
        .counter(BytesCount::new(payload.len()))
        .counter(ItemsCount::new(1_u32))
        .bench(|| scan::extent(black_box(payload.as_bytes()), 0));
}

/// The one parse: an item's syntax, what the edge must know of it, and where its fields stand.
#[divan::bench(sample_size = SHORT)]
fn parse(bencher: Bencher) {
    let (payload, mut places) = (payload(7), Places::default());
    bencher.counter(BytesCount::new(payload.len())).counter(ItemsCount::new(1_u32)).bench_local(
        || {
            let look = item::Look::at(black_box(&payload), &mut places);
            (look.is_ok(), places.outline().is_some())
        },
    );
}
