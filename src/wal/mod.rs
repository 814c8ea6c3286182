//! The write-ahead log, one per stream: `append` → durable, `read` from a position, `reclaim`.
//!
//! In: encoded [`Records`] of a request. Out: a [`Durable`] once they are on stable storage, and
//! the same records through a [`Reader`]. One thread per log writes everything that waits as one
//! frame, syncs it, and only then answers; batching comes from the sync itself.
//!
//! Fails: a full log or queue refuses at once ([`AppendError::Full`], [`AppendError::QueueFull`]);
//! a failed write is undone and answered, and the next append starts from the same place; a
//! failed **sync** poisons the log for good, because the kernel may have dropped the pages and
//! would report success the next time: everybody waiting is refused, and the process is told to
//! stop (exit 74).
//!
//! After a restart, everything behind the last whole frame of the last segment is a torn tail
//! that nobody was promised: it is moved aside and cut. An earlier process's segment is never
//! appended to. Whoever consumes the log keeps its own cursor (`ledger`); the log only learns
//! what it may reclaim.

pub mod disk;
mod reader;
mod record;
mod recovery;
mod segment;
mod writer;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::sync::oneshot;

pub use reader::{Chunk, Damage, Reader};
pub use record::{Records, pass_over, take};

use crate::config::WalConfig;
use crate::event::Seq;
use crate::stats::{Count, Durations};

/// Proof that records are on stable storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Durable {
    /// The position of the first record.
    pub first_seq: Seq,
    /// How many there are; their positions follow each other.
    pub count: u32,
}

/// Why records are not in the log.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AppendError {
    /// The log has as many bytes as it may have; its consumer is behind.
    #[error("the log is full: {bytes} of {bytes_max} bytes wait to be stored")]
    Full {
        /// Bytes it has.
        bytes: u64,
        /// Bytes it may have.
        bytes_max: u64,
    },
    /// More waits for the writer than may wait.
    #[error("the log's queue is full")]
    QueueFull,
    /// It could not be written.
    #[error("the log can't be written: {0}")]
    Failed(Arc<io::Error>),
    /// The service is stopping.
    #[error("the log is closed")]
    Closed,
}

/// Why a log could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("log {}: {what}: {source}", path.display())]
pub struct WalError {
    /// The log's directory or file.
    pub path: PathBuf,
    /// What was tried.
    pub what: &'static str,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

/// Records on their way: resolves once they are durable. Dropping it does not take them back.
#[derive(Debug)]
pub struct Appending(oneshot::Receiver<Result<Durable, AppendError>>);

impl Appending {
    /// Waits on a plain thread.
    ///
    /// # Errors
    /// As awaiting it.
    pub fn wait(self) -> Result<Durable, AppendError> {
        self.0.blocking_recv().unwrap_or(Err(AppendError::Closed))
    }
}

impl Future for Appending {
    type Output = Result<Durable, AppendError>;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map(|r| r.unwrap_or(Err(AppendError::Closed)))
    }
}

/// What a log found when it was opened.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// Bytes behind the last whole frame: moved aside, counted, never acknowledged.
    pub torn_bytes: u64,
    /// Records that are there.
    pub records: u64,
    /// The log ends at the first position, but others up to the second are known elsewhere: its
    /// end is lost, and what of that was not stored or dead-lettered is lost with it.
    pub missing: Option<(Seq, Seq)>,
}

/// Counters of one log.
#[derive(Debug, Default)]
pub struct WalStats {
    /// Syncs.
    pub syncs: Count,
    /// How long they took.
    pub sync: Durations,
    /// Records made durable.
    pub records: Count,
    /// Bytes written.
    pub written_bytes: Count,
}

/// A handle to one stream's log.
#[derive(Clone)]
pub struct Wal(Arc<Shared>);

struct Shared {
    dir: PathBuf,
    log_uuid: u128,
    config: WalConfig,
    stats: WalStats,
    state: Mutex<State>,
    /// Wakes the writer.
    work: Condvar,
}

type OnFailed = Arc<dyn Fn(&io::Error) + Send + Sync>;

struct State {
    queue: VecDeque<Waiting>,
    queue_bytes: usize,
    /// Oldest first; the last is the one that is written to.
    segments: VecDeque<Extent>,
    /// The position after the last durable record.
    durable: Seq,
    closing: bool,
    failed: Option<Arc<io::Error>>,
    on_durable: Option<Arc<dyn Fn() + Send + Sync>>,
    on_failed: Option<OnFailed>,
    thread: Option<std::thread::JoinHandle<()>>,
}

struct Waiting {
    records: Records,
    reply: oneshot::Sender<Result<Durable, AppendError>>,
}

/// Which records a segment holds and how many of its bytes are durable.
#[derive(Clone, Debug)]
struct Extent {
    first_seq: Seq,
    end_seq: Seq,
    bytes: u64,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // A panic aborts the process in release; in tests the state is whole at every await.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn bytes(&self) -> u64 {
        self.segments.iter().map(|s| s.bytes).sum()
    }
}

impl Wal {
    /// Opens the log in that directory, which is created if missing, and starts its writer. The
    /// next record stands at `floor` at least: a position that anybody knows is never given to
    /// another record, whatever has become of the files.
    ///
    /// # Errors
    /// [`WalError`] names the file and what the system said about it.
    pub fn open(dir: &Path, config: WalConfig, floor: Seq) -> Result<(Self, Recovered), WalError> {
        let recovery::Log { log_uuid, segments, active, recovered } = recovery::open(dir, floor)?;
        let shared = Arc::new(Shared {
            dir: dir.to_owned(),
            log_uuid,
            config,
            stats: WalStats::default(),
            state: Mutex::new(State {
                queue: VecDeque::new(),
                queue_bytes: 0,
                durable: segments.back().map_or(1, |s| s.end_seq),
                segments,
                closing: false,
                failed: None,
                on_durable: None,
                on_failed: None,
                thread: None,
            }),
            work: Condvar::new(),
        });
        let writer = writer::Writer::new(Arc::clone(&shared), active);
        let name = format!("wal {}", dir.file_name().unwrap_or_default().to_string_lossy());
        let thread = std::thread::Builder::new()
            .name(name.chars().take(15).collect())
            .spawn(move || writer.run())
            .map_err(|source| WalError { path: dir.to_owned(), what: "start writer", source })?;
        shared.state().thread = Some(thread);
        Ok((Self(shared), recovered))
    }

    /// Hands records to the writer. They stand in the log in the order of these calls.
    ///
    /// # Errors
    /// Refuses at once where log or queue are full, the log has failed, or it is closed.
    pub fn append(&self, records: Records) -> Result<Appending, AppendError> {
        let bytes = records.bytes().len();
        let (reply, answer) = oneshot::channel();
        let mut state = self.0.state();
        if let Some(error) = &state.failed {
            return Err(AppendError::Failed(Arc::clone(error)));
        }
        if state.closing {
            return Err(AppendError::Closed);
        }
        let bytes_max = self.0.config.bytes_max;
        let log_bytes = state.bytes() + state.queue_bytes as u64;
        if log_bytes + bytes as u64 > bytes_max {
            return Err(AppendError::Full { bytes: log_bytes, bytes_max });
        }
        // A single request may be larger than the queue: it may wait alone.
        let queue_max = self.0.config.queue_bytes_max;
        if state.queue_bytes > 0 && state.queue_bytes + bytes > queue_max {
            return Err(AppendError::QueueFull);
        }
        state.queue_bytes += bytes;
        let was_empty = state.queue.is_empty();
        state.queue.push_back(Waiting { records, reply });
        drop(state);
        if was_empty {
            self.0.work.notify_one();
        }
        Ok(Appending(answer))
    }

    /// Reads on from that position (or from the oldest record, where that is later).
    #[must_use]
    pub fn reader(&self, from: Seq) -> Reader {
        Reader::new(Arc::clone(&self.0), from)
    }

    /// Calls that after every sync, on the writer's thread: it must not block.
    pub fn on_durable(&self, call: impl Fn() + Send + Sync + 'static) {
        self.0.state().on_durable = Some(Arc::new(call));
    }

    /// Calls that once, when the log has failed for good.
    pub fn on_failed(&self, call: impl Fn(&io::Error) + Send + Sync + 'static) {
        self.0.state().on_failed = Some(Arc::new(call));
    }

    /// The position after the last durable record.
    #[must_use]
    pub fn head(&self) -> Seq {
        self.0.state().durable
    }

    /// The log's identity: positions mean nothing in another log.
    #[must_use]
    pub fn log_uuid(&self) -> u128 {
        self.0.log_uuid
    }

    /// Bytes and segments on disk.
    #[must_use]
    pub fn extent(&self) -> (u64, u64) {
        let state = self.0.state();
        (state.bytes(), state.segments.len() as u64)
    }

    /// Bytes it may have.
    #[must_use]
    pub fn bytes_max(&self) -> u64 {
        self.0.config.bytes_max
    }

    /// Its counters.
    #[must_use]
    pub fn stats(&self) -> &WalStats {
        &self.0.stats
    }

    /// Whether it still takes records.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        let state = self.0.state();
        state.failed.is_none() && !state.closing
    }

    /// Removes segments of which every record is below that position. The one that is written
    /// to stays: it carries the position that comes next.
    ///
    /// # Errors
    /// What the system said; what could not be removed is tried again with the next call.
    pub fn reclaim(&self, below: Seq) -> io::Result<()> {
        loop {
            let mut state = self.0.state();
            let Some(oldest) = state.segments.front() else {
                return Ok(());
            };
            if state.segments.len() < 2 || oldest.end_seq > below {
                return Ok(());
            }
            let first_seq = oldest.first_seq;
            match std::fs::remove_file(segment::path(&self.0.dir, first_seq)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => state.segments.pop_front(),
            };
        }
    }

    /// Writes what waits, then stops the writer. Later appends are refused.
    pub fn close(&self) {
        let mut state = self.0.state();
        state.closing = true;
        let thread = state.thread.take();
        drop(state);
        self.0.work.notify_one();
        if let Some(thread) = thread {
            // A writer that panicked has poisoned nothing but itself; there is nothing to add.
            let _ = thread.join();
        }
    }
}
