//! How a worker is told things.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender};

use roaring::RoaringTreemap;
use tokio::sync::oneshot;

use crate::event::LetterId;
use crate::load::Delivered;

/// What wakes a worker.
pub enum Wake {
    /// Records became durable.
    Durable,
    /// A batch's way has ended.
    Delivered(Box<Delivered>),
    /// The topic has these positions, among them replays of these letters.
    Published(Box<(RoaringTreemap, Vec<LetterId>)>),
    /// Store everything that is in the log now, then answer.
    Flush(oneshot::Sender<FlushReport>),
    /// End now; what is not stored stays in the log.
    Stop,
}

/// What one stream's flush did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlushReport {
    /// Events that were committed meanwhile.
    pub events: u64,
    /// Batches of those.
    pub batches: u64,
}

/// Where messages to a worker are put; each log and delivery has one.
#[derive(Clone)]
pub struct Inbox {
    sender: Sender<Wake>,
    /// Whether a `Durable` is waiting already: a burst of syncs is one message.
    durable: Arc<AtomicBool>,
}

impl Inbox {
    /// A worker's inbox and the end it reads from.
    #[must_use]
    pub fn new() -> (Self, Receiver<Wake>) {
        let (sender, receiver) = std::sync::mpsc::channel();
        (Self { sender, durable: Arc::default() }, receiver)
    }

    /// Says that records became durable.
    pub fn durable(&self) {
        if !self.durable.swap(true, Relaxed) {
            self.send(Wake::Durable);
        }
    }

    /// The message was taken; the next sync sends another.
    pub(super) fn took_durable(&self) {
        self.durable.store(false, Relaxed);
    }

    /// Puts a message in. One for a worker that has ended is dropped: its sender learns that from
    /// the reply that never comes.
    pub fn send(&self, wake: Wake) {
        let _ = self.sender.send(wake);
    }
}
