//! What a service does when its clock jumps: nothing is lost, doubled or put in another order, and
//! what was received meanwhile is filed under no date.

mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::SeqCst};

use arrow::array::AsArray;
use arrow::datatypes::UInt64Type;
use eventkit::store::Lake;
use eventkit::time::Clock;
use support::{send, with_clock};

const DAY: i64 = 86_400_000_000;
const TEN_YEARS: i64 = 3652 * DAY;

/// Each row of the lake: position, message id, and whether its file is below `date=unknown`.
fn rows(dir: &Path) -> Vec<(u64, String, bool)> {
    let mut rows = Vec::new();
    let mut dirs = vec![dir.join("lake")];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
                continue;
            }
            let is_undated = path.to_str().unwrap().contains("/date=unknown/hour=unknown/");
            let file = std::fs::File::open(&path).unwrap();
            let reader =
                parquet::arrow::arrow_reader::ParquetRecordBatchReader::try_new(file, 1024);
            for batch in reader.unwrap() {
                let batch = batch.unwrap();
                let seqs = batch.column_by_name("log_seq").unwrap();
                let ids = batch.column_by_name("message_id").unwrap().as_string::<i32>();
                let seqs = seqs.as_primitive::<UInt64Type>().values();
                let found = seqs.iter().zip(ids.iter().flatten());
                rows.extend(found.map(|(seq, id)| (*seq, id.to_owned(), is_undated)));
            }
        }
    }
    rows.sort();
    rows
}

/// Sends `count` events, one by one, at what the clock says then.
async fn send_each(listen: std::net::SocketAddr, name: &str, count: usize) {
    for n in 0..count {
        send(listen, [format!("{name}-{n}")]).await;
    }
}

async fn a_jump_changes_nothing_but_the_date(jump: i64) {
    let dir = tempfile::tempdir().unwrap();
    let offset = Arc::new(AtomicI64::new(0));
    let clock = {
        let offset = Arc::clone(&offset);
        Clock::new(move || eventkit::time::now() + offset.load(SeqCst))
    };
    let store = || Arc::new(Lake::local(&dir.path().join("lake"), ""));
    let moved = Arc::clone(&offset);
    with_clock(
        dir.path(),
        |_| {},
        clock.clone(),
        store(),
        |listen, client| async move {
            send_each(listen, "a", 3).await;
            moved.store(jump, SeqCst);
            send_each(listen, "b", 3).await;
            // A client's retry is known although the clock says that the window has passed.
            send_each(listen, "a", 1).await;
            client.flush().await.unwrap();
            moved.store(0, SeqCst);
            send_each(listen, "c", 3).await;
            client.flush().await.unwrap();
            let snapshot = client.snapshot().await.unwrap();
            assert!(
                snapshot.findings.iter().any(|f| f.text.contains("3 events came when the clock"))
            );
        },
    )
    .await;
    // A restart while the clock is wrong.
    offset.store(jump, SeqCst);
    with_clock(
        dir.path(),
        |_| {},
        clock,
        store(),
        |listen, client| async move {
            send_each(listen, "d", 3).await;
            client.flush().await.unwrap();
        },
    )
    .await;
    let rows = rows(dir.path());
    let ids: Vec<&str> = rows.iter().map(|(_, id, _)| id.as_str()).collect();
    let sent = ["a-0", "a-1", "a-2", "b-0", "b-1", "b-2", "c-0", "c-1", "c-2", "d-0", "d-1", "d-2"];
    assert_eq!(ids, sent);
    let undated = rows.iter().filter(|(_, id, is_undated)| id.starts_with('b') && *is_undated);
    assert_eq!(undated.count(), 3, "{rows:?}");
    assert!(rows.iter().all(|(_, id, is_undated)| !(id.starts_with(['a', 'c']) && *is_undated)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_ten_years_ahead_changes_nothing_but_the_date() {
    a_jump_changes_nothing_but_the_date(TEN_YEARS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_ten_years_behind_changes_nothing_but_the_date() {
    a_jump_changes_nothing_but_the_date(-TEN_YEARS).await;
}
