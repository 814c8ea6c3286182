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
//! An earlier process's segment is never appended to, and no position is ever given to a second
//! record. Bytes that are not what was written go into quarantine, and the reader says which
//! records are lost with them. Whoever consumes the log keeps its own cursor (`ledger`); the log
//! only learns what is stored and may be used again.

mod ahead;
mod answers;
pub mod disk;
mod error;
mod format;
mod frame;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod inspect;
#[cfg(any(test, fuzzing))]
mod memory;
mod quarantine;
mod reader;
mod record;
mod recovery;
mod scan;
mod segment;
mod slots;
mod stats;
mod sync;
mod writer;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::sync::oneshot;

use answers::Reply;
pub use answers::{AnswerBox, Answers};
use disk::Disk;
pub use error::{AppendError, WalError};
use format::{Previous, SegmentKey};
use frame::Tail;
pub use inspect::{DamagedBytes, SegmentFacts, inspect, visit};
use quarantine::Quarantine;
pub use quarantine::{Damage, Evidence};
pub use reader::{Chunk, Reader};
pub use record::{PAYLOAD_BYTES_MAX, Records};
pub use recovery::Recovered;
use slots::Spare;
pub use stats::WalStats;
use sync::{Condvar, Mutex, MutexGuard, thread};
#[cfg_attr(not(test), expect(unused_imports, reason = "only tests give a writer its turns"))]
pub(crate) use writer::Turn;
pub(crate) use writer::Writer;

use crate::config::WalConfig;
use crate::event::Seq;

/// Proof that records are on stable storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Durable {
    /// The position of the first record.
    pub first_seq: Seq,
    /// How many there are; their positions follow each other.
    pub count: u32,
}

/// Where a log is and what others know of it.
#[derive(Clone, Debug)]
pub struct Place {
    /// The disk.
    pub disk: Arc<dyn Disk>,
    /// The log's directory, made if missing.
    pub dir: PathBuf,
    /// Where damaged bytes go, made with the first.
    pub quarantine: PathBuf,
    /// The next record stands there at least: a position that anybody knows is never given to
    /// another record, whatever has become of the files.
    pub floor: Seq,
    /// The ledger's transaction counter, noted in each segment that is started.
    pub ledger_tx: Arc<AtomicU64>,
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

/// A handle to one stream's log.
#[derive(Clone)]
pub struct Wal(Arc<Shared>);

struct Shared {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    quarantine: Quarantine,
    log_uuid: u128,
    ledger_tx: Arc<AtomicU64>,
    config: WalConfig,
    /// Whether segments are made ahead of their use, by a thread of their own.
    makes_ahead: bool,
    stats: WalStats,
    state: Mutex<State>,
    /// Wakes the writer.
    work: Condvar,
}

type OnFailed = Arc<dyn Fn(&io::Error) + Send + Sync>;

struct State {
    queue: VecDeque<Waiting>,
    queue_bytes: usize,
    /// Oldest first; the last is the one that is written to, once this process has started one.
    segments: VecDeque<Extent>,
    spares: Vec<Spare>,
    /// Slots whose files are being made or removed: until that is done they are no others'.
    busy: Vec<u32>,
    /// Bytes of segments that hold unread records.
    live_bytes: u64,
    /// Bytes of all segment files.
    disk_bytes: u64,
    /// The position after the last durable record.
    durable: Seq,
    /// Everything below is stored.
    consumed: Seq,
    tail: Tail,
    /// Behind the segments that were found at start, records up to there are lost.
    lost_to: Seq,
    closing: bool,
    failed: Option<Arc<io::Error>>,
    on_durable: Option<Arc<dyn Fn() + Send + Sync>>,
    on_failed: Option<OnFailed>,
    thread: Option<thread::JoinHandle<()>>,
}

struct Waiting {
    records: Records,
    reply: Reply,
    answers: Option<Answers>,
}

/// What a segment holds and how many of its bytes are durable.
#[derive(Clone, Debug)]
struct Extent {
    slot: u32,
    size: u64,
    key: SegmentKey,
    first_seq: Seq,
    end_seq: Seq,
    end_offset: u64,
    /// Bytes at its beginning that hold nothing unread, by this process's knowledge: none, or all
    /// that it had when everything was stored.
    read_bytes: u64,
    previous: Previous,
    /// When all its records were stored, by this process's knowledge.
    consumed_at: Option<Instant>,
    /// Whether a sync of it has failed: it is read, and never used again.
    is_bad: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // A panic aborts the process in release; in tests the state is whole at every await.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing of this log is certain any more until the next start: everybody is refused.
    fn fail(&self, waiting: Vec<Waiting>, error: io::Error) {
        let error = Arc::new(error);
        let mut state = self.state();
        if state.failed.is_none() {
            state.failed = Some(Arc::clone(&error));
        }
        let queued: Vec<Waiting> = state.queue.drain(..).collect();
        state.queue_bytes = 0;
        let on_failed = state.on_failed.take();
        drop(state);
        self.work.notify_one();
        writer::refuse(waiting, &error);
        writer::refuse(queued, &error);
        if let Some(call) = on_failed {
            call(&error);
        }
    }
}

impl Wal {
    /// Opens a log and starts its writer.
    ///
    /// # Errors
    /// [`WalError`] names the file and what the system said about it. A disk that is full or
    /// damaged bytes are no error.
    pub fn open(place: Place, config: WalConfig) -> Result<(Self, Recovered), WalError> {
        let dir = place.dir.clone();
        let (wal, writer, recovered) = Self::assemble(place, config, true)?;
        let name = format!("wal {}", dir.file_name().unwrap_or_default().to_string_lossy());
        let thread = thread::Builder::new()
            .name(name.chars().take(15).collect())
            .spawn(move || writer.run())
            .map_err(|source| WalError::io(&dir, "start writer", source))?;
        wal.0.state().thread = Some(thread);
        Ok((wal, recovered))
    }

    /// Opens a log whose writer is given its turns by the caller.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn prepare(
        place: Place,
        config: WalConfig,
    ) -> Result<(Self, Writer, Recovered), WalError> {
        Self::assemble(place, config, false)
    }

    fn assemble(
        place: Place,
        config: WalConfig,
        makes_ahead: bool,
    ) -> Result<(Self, Writer, Recovered), WalError> {
        let Place { disk, dir, quarantine, floor, ledger_tx } = place;
        let quarantine = Quarantine(quarantine);
        let place = recovery::Place { disk: &*disk, dir: &dir, quarantine: &quarantine };
        let log = recovery::open(&place, floor, ledger_tx.load(Relaxed))?;
        let shared = Arc::new(Shared {
            disk,
            dir,
            quarantine,
            log_uuid: log.log_uuid,
            ledger_tx,
            config,
            makes_ahead,
            stats: WalStats::default(),
            state: Mutex::new(State {
                queue: VecDeque::new(),
                queue_bytes: 0,
                live_bytes: log.segments.iter().map(|extent| extent.end_offset).sum(),
                disk_bytes: log.segments.iter().map(|extent| extent.size).sum::<u64>()
                    + log.spares.iter().map(|spare| spare.size).sum::<u64>(),
                segments: log.segments,
                spares: log.spares,
                busy: Vec::new(),
                // Nobody may know of positions that are left out before a header declares it.
                durable: log.end,
                consumed: 0,
                lost_to: log.end,
                tail: Tail::default(),
                closing: false,
                failed: None,
                on_durable: None,
                on_failed: None,
                thread: None,
            }),
            work: Condvar::new(),
        });
        let writer = Writer::new(Arc::clone(&shared), log.start);
        Ok((Self(shared), writer, log.recovered))
    }

    /// Hands records to the writer. They stand in the log in the order of these calls.
    ///
    /// # Errors
    /// Refuses at once where log or queue are full, where the log could never have so much, where
    /// it has failed, or is closed.
    pub fn append(&self, records: Records) -> Result<Appending, AppendError> {
        self.append_for(records, None)
    }

    /// The same; where they become durable, the answer takes the way of those others.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub fn append_for(
        &self,
        records: Records,
        answers: Option<Answers>,
    ) -> Result<Appending, AppendError> {
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
        let log_bytes = state.live_bytes + state.queue_bytes as u64;
        match bytes as u64 {
            bytes if bytes > bytes_max => return Err(AppendError::TooLarge { bytes, bytes_max }),
            bytes if log_bytes > 0 && log_bytes + bytes > bytes_max => {
                return Err(AppendError::Full { bytes: log_bytes, bytes_max });
            }
            _ => {}
        }
        // A single request may be larger than the queue: it may wait alone.
        let queue_max = self.0.config.queue_bytes_max;
        if state.queue_bytes > 0 && state.queue_bytes + bytes > queue_max {
            return Err(AppendError::QueueFull);
        }
        state.queue_bytes += bytes;
        let was_empty = state.queue.is_empty();
        state.queue.push_back(Waiting { records, reply, answers });
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

    /// The position of the first record that it still has, or will have.
    #[must_use]
    pub fn oldest(&self) -> Seq {
        let state = self.0.state();
        state.segments.front().map_or(state.durable, |first| first.first_seq)
    }

    /// How many records there are from that position on. Positions that were left out are none.
    #[must_use]
    pub fn records_from(&self, from: Seq) -> u64 {
        let state = self.0.state();
        let newest_first = state.segments.iter().rev().take_while(|segment| segment.end_seq > from);
        newest_first.map(|segment| segment.end_seq - segment.first_seq.max(from)).sum()
    }

    /// The log's identity: positions mean nothing in another log.
    #[must_use]
    pub fn log_uuid(&self) -> u128 {
        self.0.log_uuid
    }

    /// Bytes that hold unread records, and how many segments there are.
    #[must_use]
    pub fn extent(&self) -> (u64, u64) {
        let state = self.0.state();
        (state.live_bytes, state.segments.len() as u64)
    }

    /// Bytes of all its files.
    #[must_use]
    pub fn disk_bytes(&self) -> u64 {
        self.0.state().disk_bytes
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

    /// Says that every record below that position is stored: its segments may be used again.
    ///
    /// # Errors
    /// What the system said about a file that was to be removed; it is tried again at the next
    /// start.
    pub fn reclaim(&self, below: Seq) -> io::Result<()> {
        self.0.state().consume(below);
        self.0.expire()
    }

    /// Removes what an idle log has no use for: segments that were retained for long enough, and
    /// spare ones.
    ///
    /// # Errors
    /// What the system said; the space is reclaimed with a later call.
    pub fn rest(&self) -> io::Result<()> {
        self.0.rest()
    }

    /// Removes every file that holds nothing unread, because others need the space; returns how
    /// many bytes that freed.
    pub fn shrink(&self) -> u64 {
        self.0.shrink()
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
