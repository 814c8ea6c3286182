//! What has become of every event that was acknowledged: a figure of a run that lost or doubled
//! one is worth nothing, and says so.
//!
//! The service's counters, its dead letters and the files of its lake have to tell the same as the
//! load generator. The files are read: each message id once, and none that was not sent.

use std::path::{Path, PathBuf};

use eventkit::status::{Snapshot, StreamStatus};
use eventkit::store::{EventStore, Lake};
use eventkit::wal::{self, disk::OsDisk};
use serde::Serialize;

use super::super::{Failure, IO};
use super::figures::ratio;
use super::load::Outcome;
use super::requests;

/// Events, by who knows of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Account {
    /// Acknowledged, by the load generator.
    pub acknowledged: u64,
    /// Of those, events that break a rule.
    pub bad_acknowledged: u64,
    /// Of requests without an answer, or with a refusal: these may be stored or not.
    pub in_doubt: u64,
    /// Received, by the service.
    pub received: u64,
    /// Stored in the lake, by the service.
    pub stored: u64,
    /// Dead letters, by the service.
    pub dead_letters: u64,
    /// Open dead letters in the error store.
    pub open_letters: u64,
    /// Dropped as duplicates, by the service.
    pub duplicates: u64,
    /// Rows in the lake's files.
    pub rows: u64,
    /// Rows whose message id another row has too.
    pub doubled: u64,
    /// Rows that nobody has sent.
    pub unknown: u64,
}

impl Account {
    /// Before the lake is read: what generator and service have counted.
    pub fn new(outcome: &Outcome, snapshot: &Snapshot) -> Self {
        let open_letters = snapshot.dead_letters.open;
        Self { open_letters, ..Self::of_streams(outcome, snapshot, |_| true) }
    }

    /// The same of one stream, to which everything was sent.
    pub fn of_stream(outcome: &Outcome, snapshot: &Snapshot, name: &str) -> Self {
        Self::of_streams(outcome, snapshot, |stream| stream.name.as_str() == name)
    }

    fn of_streams(
        outcome: &Outcome,
        snapshot: &Snapshot,
        is_one: impl Fn(&StreamStatus) -> bool,
    ) -> Self {
        let streams = || snapshot.streams.iter().filter(|stream| is_one(stream));
        let sum = |of: fn(&StreamStatus) -> u64| streams().map(of).sum();
        Self {
            acknowledged: outcome.acknowledged,
            bad_acknowledged: outcome.bad_acknowledged,
            in_doubt: outcome.in_doubt,
            received: sum(|stream| stream.received_events),
            stored: sum(|stream| stream.stored_events),
            dead_letters: sum(|stream| stream.rejected_events),
            open_letters: sum(|stream| stream.dead_open),
            duplicates: sum(|stream| stream.duplicate_events),
            ..Self::default()
        }
    }

    /// Adds what an earlier process has counted on the same directory.
    pub fn add_earlier(&mut self, earlier: &Self) {
        self.received += earlier.received;
        self.stored += earlier.stored;
        self.dead_letters += earlier.dead_letters;
        self.duplicates += earlier.duplicates;
    }

    /// Whether the service's counters agree with each other and with what was acknowledged.
    pub fn counters_agree(&self) -> bool {
        let ended = self.stored + self.dead_letters;
        self.received >= self.acknowledged
            && self.received == ended
            && self.open_letters == self.dead_letters
    }

    /// Reads every file of a lake; `numbers` were given to the events that were sent.
    pub async fn read_lake(&mut self, lake: &Path, numbers: u64) -> Result<(), Failure> {
        let mut seen = vec![0_u64; usize::try_from(numbers / 64).unwrap_or(0) + 1];
        let store = Lake::local(lake, "");
        for object in objects(lake)? {
            let ids = store.message_ids(&object).await.map_err(|e| Failure::new(IO, e))?;
            let ids = ids.ok_or_else(|| Failure::new(IO, format!("{object} can't be read")))?;
            self.rows += ids.len() as u64;
            for id in &ids {
                let number = requests::number(id).filter(|&number| number < numbers);
                let Some(number) = number else {
                    self.unknown += 1;
                    continue;
                };
                let (word, bit) = (&mut seen[(number / 64) as usize], 1 << (number % 64));
                self.doubled += u64::from(*word & bit != 0);
                *word |= bit;
            }
        }
        Ok(())
    }

    /// What does not add up, a sentence each; empty where every event is accounted for.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut unless = |is_right: bool, sentence: String| {
            if !is_right {
                problems.push(sentence);
            }
        };
        let Self { acknowledged, received, stored, dead_letters, rows, .. } = *self;
        unless(
            (acknowledged..=acknowledged + self.in_doubt).contains(&received),
            format!("{acknowledged} events were acknowledged, and the service received {received}"),
        );
        unless(
            stored + dead_letters == received,
            format!("{received} received, but {stored} stored and {dead_letters} dead letters"),
        );
        unless(rows == stored, format!("{stored} stored, and {rows} rows in the lake"));
        unless(self.doubled == 0, format!("{} events are in the lake twice", self.doubled));
        unless(self.unknown == 0, format!("{} rows were never sent", self.unknown));
        unless(self.duplicates == 0, format!("{} taken for duplicates", self.duplicates));
        unless(
            self.open_letters == dead_letters,
            format!("{dead_letters} dead letters, and {} in the error store", self.open_letters),
        );
        unless(
            (self.bad_acknowledged..=self.bad_acknowledged + self.in_doubt).contains(&dead_letters),
            format!("{} events break a rule, {dead_letters} did", self.bad_acknowledged),
        );
        problems
    }
}

/// What an event takes in those logs, in bytes: record, frame and padding. Segments that were used
/// again since are not counted, nor are their events.
pub fn log_bytes_per_event(logs: &[PathBuf]) -> Result<f64, Failure> {
    let (mut bytes, mut records) = (0, 0);
    for log in logs {
        for segment in wal::inspect(&OsDisk, log)? {
            bytes += segment.end_offset;
            records += segment.end_seq - segment.first_seq;
        }
    }
    Ok(ratio(bytes as f64, records as f64))
}

/// Every object of a local lake, as its store names it.
fn objects(lake: &Path) -> Result<Vec<String>, Failure> {
    let (mut objects, mut dirs): (Vec<String>, Vec<PathBuf>) = (Vec::new(), vec![lake.to_owned()]);
    while let Some(dir) = dirs.pop() {
        let entries = match std::fs::read_dir(&dir) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            entries => entries?,
        };
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|extension| extension == "parquet")
                && let Ok(object) = path.strip_prefix(lake)
            {
                objects.push(object.to_string_lossy().into_owned());
            }
        }
    }
    Ok(objects)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use eventkit::adapt::{Adapter, StreamRules};
    use eventkit::event::{RawEvent, Receipt, StreamName};
    use eventkit::store::Batch;

    use super::*;

    fn sound() -> Account {
        Account {
            acknowledged: 100,
            bad_acknowledged: 10,
            received: 100,
            stored: 90,
            dead_letters: 10,
            open_letters: 10,
            rows: 90,
            ..Account::default()
        }
    }

    #[test]
    fn an_account_that_adds_up_has_no_problem() {
        assert_eq!(sound().problems(), Vec::<String>::new());
        let in_doubt = Account { in_doubt: 3, received: 103, stored: 93, rows: 93, ..sound() };
        assert_eq!(in_doubt.problems(), Vec::<String>::new());
        assert!(sound().counters_agree());
    }

    #[test]
    fn whatever_is_lost_or_doubled_is_a_problem() {
        let wrong = [
            Account { acknowledged: 101, ..sound() },
            Account { received: 101, ..sound() },
            Account { stored: 89, ..sound() },
            Account { dead_letters: 9, stored: 91, rows: 91, open_letters: 9, ..sound() },
            Account { open_letters: 9, ..sound() },
            Account { rows: 91, ..sound() },
            Account { doubled: 1, ..sound() },
            Account { unknown: 1, ..sound() },
            Account { duplicates: 1, ..sound() },
            Account { in_doubt: 3, received: 104, stored: 94, rows: 94, ..sound() },
        ];
        for account in wrong {
            assert!(!account.problems().is_empty(), "{account:?}");
        }
    }

    /// An object with those events.
    async fn put(lake: &Lake, first_seq: u64, numbers: &[u64]) {
        let stream = StreamName::new("events").unwrap();
        let adapter = Adapter::new(&StreamRules::segment_strict());
        let single = requests::single("2026-11-23T06:59:00.123Z");
        let mut batch = Batch::new(uuid::Uuid::now_v7(), stream.clone(), 1);
        for (seq, &number) in (first_seq..).zip(numbers) {
            let payload = single.requests[0].body(number);
            let raw =
                RawEvent { stream: &stream, seq, payload: &payload, receipt: Receipt::default() };
            assert!(batch.push(seq, 0, 0, &payload, &adapter.run(&raw).unwrap()));
        }
        lake.put(&Arc::new(batch)).await.unwrap();
    }

    #[tokio::test]
    async fn a_row_that_is_there_twice_or_was_never_sent_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let mut account = Account::default();
        assert!(account.read_lake(dir.path(), 0).await.is_ok(), "there is no lake yet");
        let lake = Lake::local(dir.path(), "");
        put(&lake, 0, &[0, 1, 2, 64]).await;
        put(&lake, 4, &[63, 2, 65]).await;
        assert!(account.read_lake(dir.path(), 65).await.is_ok());
        assert_eq!((account.rows, account.doubled, account.unknown), (7, 1, 1));
    }
}
