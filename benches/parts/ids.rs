//! Deduplication: the index of message ids at its usual size, far larger than a cache.

use std::time::{Duration, Instant};

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use eventkit::dedupe::{Dedupe, IdHash, IdKey, Memory};

use crate::SHORT;

/// Ids of one request: to look at the clock for each would cost as much as the id.
const REQUEST: u64 = 100;

/// Memory for a million ids.
const MEMORY_BYTES: usize = 28_000_000;

/// Odd, so that its multiples come to every id before they come to one again.
const STRIDE: u64 = 611_953;

fn id(n: u64) -> String {
    format!("m-{n:020}")
}

fn ids(from: u64, step: u64, ids: u64) -> Vec<String> {
    (0..REQUEST).map(|n| id((from + n) * step % ids)).collect()
}

/// An index that has as many ids as it may have, from 0 on, and their number.
fn full() -> (Dedupe, u64, Instant) {
    let memory = Memory::new(MEMORY_BYTES);
    let (count, now) = (memory.ids_max() as u64, Instant::now());
    let mut dedupe = Dedupe::new(IdKey([7; 16]), Duration::from_secs(86_400), memory);
    for n in 0..count {
        assert!(dedupe.insert(dedupe.hash(&id(n)), now));
    }
    (dedupe, count, now)
}

/// How many of them are new.
fn new_ones(dedupe: &mut Dedupe, ids: &[String], now: Instant) -> u64 {
    let hashes: Vec<IdHash> = ids.iter().map(|id| dedupe.hash(id)).collect();
    dedupe.expect(&hashes);
    hashes.into_iter().map(|hash| u64::from(dedupe.insert(hash, now))).sum()
}

#[divan::bench(sample_size = SHORT)]
fn hash(bencher: Bencher) {
    let key = IdKey([7; 16]);
    bencher.counter(ItemsCount::new(1_u32)).bench(|| key.hash(black_box("m-00000000000000000007")));
}

/// Each takes the place of the oldest.
#[divan::bench(sample_count = 500, sample_size = 10)]
fn new_among_a_million(bencher: Bencher) {
    let (mut dedupe, mut next, now) = full();
    bencher
        .counter(ItemsCount::new(REQUEST))
        .with_inputs(|| {
            next += REQUEST;
            ids(next - REQUEST, 1, u64::MAX)
        })
        .bench_local_refs(|ids| assert_eq!(new_ones(&mut dedupe, ids, now), REQUEST));
}

/// From all over the index, as retries after an outage come.
#[divan::bench(sample_count = 500, sample_size = 10)]
fn known_among_a_million(bencher: Bencher) {
    let (mut dedupe, count, now) = full();
    let mut next = 0;
    bencher
        .counter(ItemsCount::new(REQUEST))
        .with_inputs(|| {
            next += REQUEST;
            ids(next - REQUEST, STRIDE, count)
        })
        .bench_local_refs(|ids| assert_eq!(new_ones(&mut dedupe, ids, now), 0));
}
