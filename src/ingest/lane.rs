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

use super::bell::{self, Bell, Seat};
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
    bell: Arc<Bell>,
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

    /// Runs that on the lane with the least to do, where it has a seat by the bell.
    pub fn spawn<F: Future<Output = ()> + Send + 'static>(&self, work: impl FnOnce(Seat) -> F) {
        let Some(lane) = self.lanes.iter().min_by_key(|lane| lane.load.load(Relaxed)) else {
            return;
        };
        lane.load.fetch_add(1, Relaxed);
        let (load, work) = (Arc::clone(&lane.load), work(lane.bell.seat()));
        lane.runtime.spawn(async move {
            work.await;
            load.fetch_sub(1, Relaxed);
        });
    }

    /// Tells everybody who has a seat that the service stops.
    pub fn stop(&self) {
        self.lanes.iter().for_each(|lane| lane.bell.stop());
    }
}

impl Lane {
    fn open(number: usize, mut closed: watch::Receiver<()>) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (answers, answered) = Answers::new();
        let bell = Arc::new(Bell::default());
        let ringing = Arc::clone(&bell);
        thread::Builder::new().name(format!("ingest {number}")).spawn(move || {
            ANSWERS.with(|own| drop(own.set(answers)));
            runtime.spawn(answered.deliver());
            runtime.spawn(async move {
                loop {
                    tokio::time::sleep(bell::EVERY).await;
                    ringing.ring();
                }
            });
            // An error says that the lanes are gone: there is nothing else to be told.
            let _ = runtime.block_on(closed.changed());
        })?;
        Ok(Self { runtime: handle, load: Arc::default(), bell })
    }
}
