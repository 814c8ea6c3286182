//! From a record to a typed event and its partition.

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use eventkit::adapt::{Adapter, StreamRules};
use eventkit::event::{RawEvent, Receipt};
use eventkit::sequence::Sequencer;

use crate::edge::places;
use crate::{SHORT, payload, receipt, stream};

/// By the outline that the edge's parse left in the record.
#[divan::bench(sample_size = SHORT)]
fn adapt(bencher: Bencher) {
    let payload = payload(7);
    let mut places = places(&payload);
    adapting(bencher, &payload, Receipt { outline: places.outline(), ..receipt() });
}

/// The same where the record has no outline: a log of an earlier format.
#[divan::bench(sample_size = SHORT)]
fn adapt_parsing(bencher: Bencher) {
    adapting(bencher, &payload(7), receipt());
}

fn adapting(bencher: Bencher, payload: &str, receipt: Receipt<'_>) {
    let stream = stream();
    let adapter = Adapter::new(&StreamRules::segment_strict());
    let raw = RawEvent { stream: &stream, seq: 1, payload: payload.as_bytes(), receipt };
    bencher
        .counter(BytesCount::new(payload.len()))
        .counter(ItemsCount::new(1_u32))
        .bench(|| adapter.run(black_box(&raw)).is_ok());
}

#[divan::bench(sample_size = SHORT)]
fn hash_partition(bencher: Bencher) {
    let sequencer = Sequencer::new(16);
    bencher
        .counter(ItemsCount::new(1_u32))
        .bench(|| sequencer.partition_of_key(black_box("user-00042")));
}
