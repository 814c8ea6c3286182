//! Lanes: one thread a core, each with a runtime of its own.
//!
//! A connection lives on one lane from its first byte to its last: no other thread touches it, and
//! what it waits for wakes that thread alone. The answers to what a lane's connections have
//! appended come to it together, one message for all that a sync has made durable.

use std::cell::OnceCell;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio::sync::watch;

use crate::wal::Answers;

thread_local! {
    static ANSWERS: OnceCell<Answers> = const { OnceCell::new() };
}

/// Where the answers to this thread's appends go; none on a thread that is no lane.
pub(super) fn answers() -> Option<Answers> {
    ANSWERS.with(|answers| answers.get().cloned())
}

/// All lanes. They end when this is dropped, with whatever is on them.
pub(super) struct Lanes {
    lanes: Vec<Lane>,
    _open: watch::Sender<()>,
}

struct Lane {
    runtime: Handle,
    /// Futures that live on it.
    load: Arc<AtomicUsize>,
}

impl Lanes {
    /// A lane for each core.
    ///
    /// # Errors
    /// What the system said about a thread or its runtime.
    pub fn open() -> io::Result<Self> {
        let (open, closed) = watch::channel(());
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let lanes = (0..cores).map(|number| Lane::open(number, closed.clone()));
        Ok(Self { lanes: lanes.collect::<io::Result<_>>()?, _open: open })
    }

    /// Runs that on the lane with the least to do.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let Some(lane) = self.lanes.iter().min_by_key(|lane| lane.load.load(Relaxed)) else {
            return;
        };
        lane.load.fetch_add(1, Relaxed);
        let load = Arc::clone(&lane.load);
        lane.runtime.spawn(async move {
            work.await;
            load.fetch_sub(1, Relaxed);
        });
    }
}

impl Lane {
    fn open(number: usize, mut closed: watch::Receiver<()>) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (answers, answered) = Answers::new();
        thread::Builder::new().name(format!("ingest {number}")).spawn(move || {
            ANSWERS.with(|own| drop(own.set(answers)));
            runtime.spawn(answered.deliver());
            // An error says that the lanes are gone: there is nothing else to be told.
            let _ = runtime.block_on(closed.changed());
        })?;
        Ok(Self { runtime: handle, load: Arc::default() })
    }
}
