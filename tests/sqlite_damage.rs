//! Ledger and error store as they may be found: flipped, truncated, emptied in part, deleted, or
//! older than they were. Events go on, nothing is stored twice, and nothing is lost unsaid.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::AsArray;
use eventkit::admin::{Client, ListLetters, Replay};
use eventkit::config::Config;
use eventkit::errors::{LetterFilter, LetterSummary, Status};
use eventkit::store::Lake;
use serde_json::{Value, json};
use support::{Gate, send, send_events, until};

/// Damaged copies per database.
const VARIANTS: u64 = 100;

fn good(name: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{name}-{n}")).collect()
}

/// Events that break the rules of their stream: nobody is named.
fn bad(from: usize, to: usize) -> Vec<Value> {
    let event = |n| json!({"type": "track", "event": "e", "messageId": format!("bad-{n}")});
    (from..to).map(event).collect()
}

fn small(config: &mut Config) {
    config.load.age_max = Duration::from_millis(20);
    config.load.events_max = 10;
    // Hundreds of logs are copied and prefilled.
    config.wal.segment_bytes = 128 << 10;
    config.shutdown_timeout = Duration::from_millis(200);
}

fn relaxed(config: &mut Config) {
    small(config);
    for stream in config.streams.values_mut() {
        stream.rules.required.clear();
    }
}

/// How often each message id stands in the lake.
fn lake(dir: &Path) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for path in files(&dir.join("lake")) {
        let file = fs::File::open(path).unwrap();
        let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReader::try_new(file, 1024);
        for rows in reader.unwrap() {
            let rows = rows.unwrap();
            let ids = rows.column_by_name("message_id").unwrap().as_string::<i32>().clone();
            ids.iter().flatten().for_each(|id| *counts.entry(id.to_owned()).or_default() += 1);
        }
    }
    counts
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            found.extend(files(&entry.path()));
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
    found
}

fn copy(from: &Path, to: &Path) {
    for path in files(from) {
        let target = to.join(path.strip_prefix(from).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(path, target).unwrap();
    }
}

async fn all_letters(client: &Client) -> Vec<LetterSummary> {
    let page = ListLetters { limit: 500, ..ListLetters::default() };
    client.letters(&page).await.unwrap().letters
}

/// How many letters were said to be lost.
async fn reported(client: &Client) -> u64 {
    let reports = client.damage().await.unwrap();
    reports.iter().filter(|report| report.what == "dead letters").map(|report| report.lost).sum()
}

/// Directories as a killed service leaves them: `early`, and later `late`, with stored batches,
/// open letters, letters that were replayed, and batches that are planned and not put.
async fn image(dir: &Path, early: &Path, late: &Path) {
    let store = Gate::new(Lake::local(&dir.join("lake"), ""));
    support::with_configured(dir, small, store, |listen, client| async move {
        send(listen, good("first", 25)).await;
        send_events(listen, bad(0, 12)).await;
        send(listen, good("second", 25)).await;
        client.flush().await.unwrap();
        assert_eq!(all_letters(&client).await.len(), 12);
    })
    .await;
    copy(dir, early);
    let store = Gate::new(Lake::local(&dir.join("lake"), ""));
    let gate = Arc::clone(&store);
    support::with_configured(dir, relaxed, store, |listen, client| async move {
        let ids = all_letters(&client).await.iter().map(|letter| letter.id).take(4).collect();
        let filter = LetterFilter { ids, ..LetterFilter::default() };
        client.replay(&Replay { filter, note: None }).await.unwrap();
        // Repeats are dropped: their positions are done although nothing has them.
        send(listen, good("second", 5)).await;
        send(listen, good("third", 25)).await;
        client.flush().await.unwrap();
        gate.close();
        send(listen, good("fourth", 25)).await;
        until(async || client.snapshot().await.unwrap().sinks[0].failures > 0).await;
        copy(dir, late);
    })
    .await;
}

/// Numbers from a seed (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % end
    }
}

/// Does one of these things to a database; says which.
fn damage(dir: &Path, early: &Path, database: &str, random: &mut Random) -> String {
    let side = |suffix: &str| dir.join(format!("{database}{suffix}"));
    let of = |random: &mut Random| side(["", "", "-wal"][random.below(3)]);
    let kind = random.below(12);
    match kind {
        0 => {
            fs::remove_file(side("-wal")).unwrap();
            format!("{database}-wal deleted")
        }
        1 => {
            for suffix in ["", "-wal"] {
                fs::remove_file(side(suffix)).unwrap();
            }
            format!("{database} deleted")
        }
        2 => {
            fs::remove_file(side("-wal")).unwrap();
            for path in files(early) {
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                if name.starts_with(database) {
                    fs::copy(&path, dir.join(name)).unwrap();
                }
            }
            format!("{database} restored from an older copy")
        }
        3 | 4 => {
            let path = of(random);
            let mut bytes = fs::read(&path).unwrap();
            let length = random.below(bytes.len());
            bytes.truncate(length);
            fs::write(&path, bytes).unwrap();
            format!("{} cut to {length}", path.display())
        }
        5 | 6 => {
            let path = of(random);
            let mut bytes = fs::read(&path).unwrap();
            let page = random.below(bytes.len() / 4096) * 4096;
            bytes[page..page + 4096].fill(0);
            fs::write(&path, bytes).unwrap();
            format!("{} zeroed at {page}", path.display())
        }
        _ => {
            let path = of(random);
            let mut bytes = fs::read(&path).unwrap();
            let (byte, bit) = (random.below(bytes.len()), random.below(8));
            bytes[byte] ^= 1 << bit;
            fs::write(&path, bytes).unwrap();
            format!("{} bit {bit} of byte {byte} flipped", path.display())
        }
    }
}

async fn survives(dir: &Path, what: &str) {
    let store = Arc::new(Lake::local(&dir.join("lake"), ""));
    let (letters, lost, damages) = {
        let mut seen = (Vec::new(), 0, 0);
        let out = &mut seen;
        support::with_configured(dir, small, store, |listen, client| async move {
            send(listen, good("new", 3)).await;
            let flushed = client.flush().await.unwrap();
            assert!(flushed.unfinished.is_empty(), "{what}: {flushed:?}");
            out.0 = all_letters(&client).await;
            out.1 = reported(&client).await;
            let reports = client.damage().await.unwrap();
            out.2 = reports.iter().filter(|report| report.what.ends_with(".db")).count();
        })
        .await;
        seen
    };
    let rows = lake(dir);
    let names = [("first", 25), ("second", 25), ("third", 25), ("fourth", 25), ("new", 3)];
    for id in names.iter().flat_map(|(name, count)| good(name, *count)) {
        assert_eq!(rows.get(&id), Some(&1), "{what}: {id}");
    }
    for n in 0..12 {
        let id = format!("bad-{n}");
        let stored = rows.get(&id).copied().unwrap_or(0);
        assert_eq!(stored, usize::from(n >= 8), "{what}: {id} in the lake");
        let open = letters.iter().filter(|letter| {
            letter.message_id.as_deref() == Some(&id) && letter.status == Status::Open
        });
        let open = open.count();
        assert!(open + stored == 1 || (open + stored == 0 && lost > 0), "{what}: {id} {open}");
    }
    let moved = files(&dir.join("quarantine"));
    let moved = moved.iter().filter(|path| path.ends_with("report.json")).count();
    assert_eq!(moved, damages, "{what}: what is set aside is said");
}

async fn survive_all(database: &str) {
    let home = tempfile::tempdir().unwrap();
    let at = |name: &str| home.path().join(name);
    image(&at("live"), &at("early"), &at("late")).await;
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let seed = number("EVENTKIT_SEED");
    let seed = seed.unwrap_or_else(|| eventkit::time::now() as u64 | 1);
    println!("EVENTKIT_SEED={seed}");
    let mut random = Random(seed);
    for variant in 0..number("EVENTKIT_DAMAGES").unwrap_or(VARIANTS) {
        let dir = at("variant");
        copy(&at("late"), &dir);
        let what = damage(&dir, &at("early"), database, &mut random);
        survives(&dir, &format!("seed {seed}, variant {variant}: {what}")).await;
        fs::remove_dir_all(&dir).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_ledger_is_made_again_and_nothing_is_stored_twice() {
    survive_all("ledger.db").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_error_store_loses_no_letter_that_the_log_has() {
    survive_all("errors.db").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_that_neither_error_store_nor_log_has_are_reported_once() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let store = || Arc::new(Lake::local(&dir.join("lake"), ""));
    support::with_configured(dir, small, store(), |listen, client| async move {
        send_events(listen, bad(0, 7)).await;
        client.flush().await.unwrap();
    })
    .await;
    fs::remove_dir_all(dir.join("wal")).unwrap();
    for suffix in ["", "-wal"] {
        let _ = fs::remove_file(dir.join(format!("errors.db{suffix}")));
    }
    for _ in 0..2 {
        support::with_configured(dir, small, store(), |_, client| async move {
            client.flush().await.unwrap();
            assert_eq!(all_letters(&client).await.len(), 0);
            assert_eq!(reported(&client).await, 7);
        })
        .await;
    }
}
