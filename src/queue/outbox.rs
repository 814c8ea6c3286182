//! What goes from a stream's log into a topic: in order for each key, confirmed before the cursor
//! moves, tried until the topic has it.
//!
//! In: messages, in the order of the log. Out: [`Wake::Published`] for what the topic has
//! confirmed. All that waits is published at once; of a key's messages none is published while one
//! before it is not confirmed, and those that were refused come first the next time. Bounded in
//! bytes by the worker, which reads on only while there is [room](Outbox::has_room); the backlog
//! stays in the log. A process that dies between a confirmation and its cursor publishes again.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::inbox::{Inbox, Wake};
use super::message::{Message, confirmed};
use crate::ambient;
use crate::event::StreamName;
use crate::stats::StreamStats;
use crate::streams::Stream;

/// Above, no more is read; what was read in one piece may exceed it.
const BYTES_MAX: usize = 2 << 20;
/// The wait after the first failed attempt, at most, and the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

/// What a topic answers to each of the messages, in their order.
pub type Published<'a> = Pin<Box<dyn Future<Output = Vec<Result<(), String>>> + Send + 'a>>;

/// Where messages are published.
pub trait Topic: Send + Sync + 'static {
    /// Publishes these. Behind one that is refused, no other of its key is published. An error is
    /// one sentence; whether the topic has the message nonetheless is unknown then.
    fn publish<'a>(&'a self, messages: &'a [Message]) -> Published<'a>;
}

/// One stream's way into the topic. Dropped, it ends; what is not confirmed stays in the log.
pub struct Outbox {
    sender: mpsc::UnboundedSender<Message>,
    bytes: Arc<AtomicUsize>,
}

impl Outbox {
    /// The way of that stream, as a task; `inbox` learns of what is confirmed. Where an instance
    /// has no other store, `is_store`, the topic's failures are the store's; else they are told by
    /// the topic alone.
    #[must_use]
    pub fn new(
        topic: Arc<dyn Topic>,
        stream: &Arc<Stream>,
        inbox: Inbox,
        on: &Handle,
        is_store: bool,
    ) -> Self {
        let (sender, messages) = mpsc::unbounded_channel();
        let bytes = Arc::<AtomicUsize>::default();
        let (held, waiting) = (Arc::clone(&bytes), Vec::new());
        let (stream, stats) = (stream.name.clone(), Arc::clone(&stream.stats));
        on.spawn(Sender { topic, stream, stats, inbox, messages, held, waiting, is_store }.run());
        Self { sender, bytes }
    }

    /// Whether more may be sent.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.bytes.load(Relaxed) < BYTES_MAX
    }

    /// Sends messages on their way.
    pub fn send(&self, messages: Vec<Message>) {
        for message in messages {
            self.bytes.fetch_add(message.bytes(), Relaxed);
            // It ends with this handle only.
            let _ = self.sender.send(message);
        }
    }
}

struct Sender {
    topic: Arc<dyn Topic>,
    stream: StreamName,
    stats: Arc<StreamStats>,
    inbox: Inbox,
    messages: mpsc::UnboundedReceiver<Message>,
    held: Arc<AtomicUsize>,
    /// In order; first what was refused.
    waiting: Vec<Message>,
    is_store: bool,
}

impl Sender {
    async fn run(mut self) {
        let mut backoff = BACKOFF.0;
        while self.take().await {
            match self.publish().await {
                None => {
                    backoff = BACKOFF.0;
                    if self.is_store && self.stats.store_works() {
                        tracing::info!(stream = %self.stream, "the topic takes events again");
                    }
                }
                Some(error) => {
                    self.failed(error);
                    tokio::time::sleep(ambient::part_of(backoff)).await;
                    backoff = (backoff * 2).min(BACKOFF.1);
                }
            }
        }
    }

    fn failed(&self, error: String) {
        if !self.is_store {
            return;
        }
        self.stats.store_failures.add(1);
        if self.stats.store_fails(error.clone()) {
            let stream = &self.stream;
            tracing::warn!(%stream, error, "can't publish; events wait in the log");
        }
    }

    /// Takes all that was sent; false once there is nobody to send more.
    async fn take(&mut self) -> bool {
        if self.waiting.is_empty() {
            let Some(first) = self.messages.recv().await else { return false };
            self.waiting.push(first);
        }
        loop {
            match self.messages.try_recv() {
                Ok(more) => self.waiting.push(more),
                Err(mpsc::error::TryRecvError::Empty) => return true,
                Err(mpsc::error::TryRecvError::Disconnected) => return false,
            }
        }
    }

    /// Publishes what waits; returns the first error.
    async fn publish(&mut self) -> Option<String> {
        let answers = self.topic.publish(&self.waiting).await;
        let (mut done, mut refused, mut error) = (Vec::new(), Vec::new(), None);
        for (message, answer) in std::mem::take(&mut self.waiting).into_iter().zip(answers) {
            match answer {
                Ok(()) => done.push(message),
                Err(why) => {
                    error.get_or_insert(why);
                    refused.push(message);
                }
            }
        }
        self.waiting = refused;
        if !done.is_empty() {
            let (seqs, letters) = confirmed(&done);
            self.held.fetch_sub(done.iter().map(Message::bytes).sum(), Relaxed);
            self.stats.published_events.add(seqs.len());
            self.stats.published_messages.add(done.len() as u64);
            let bytes: usize = done.iter().map(|message| message.records.bytes().len()).sum();
            self.stats.published_bytes.add(bytes as u64);
            self.inbox.send(Wake::Published(Box::new((seqs, letters))));
        }
        error
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, mpsc::Receiver};

    use super::super::message::Packing;
    use super::*;
    use crate::event::{RawEvent, Receipt, Seq};

    /// Refuses partition 0 while it is told to, as Pub/Sub does: with all that follows.
    #[derive(Default)]
    struct Moody {
        refusals: AtomicUsize,
        took: Mutex<Vec<(String, Seq)>>,
    }

    impl Topic for Moody {
        fn publish<'a>(&'a self, messages: &'a [Message]) -> Published<'a> {
            let refuses = self.refusals.load(Relaxed) > 0;
            self.refusals.fetch_sub(usize::from(refuses), Relaxed);
            let answer = |message: &Message| {
                if refuses && message.partition == 0 {
                    return Err("it is away".to_owned());
                }
                let key = message.ordering_key();
                let took = message.seqs.iter().map(|seq| (key.clone(), seq));
                self.took.lock().unwrap().extend(took);
                Ok(())
            };
            let answers = messages.iter().map(answer).collect();
            Box::pin(std::future::ready(answers))
        }
    }

    fn messages(seqs: std::ops::Range<Seq>) -> Vec<Message> {
        let stream = StreamName::new("s").unwrap();
        let mut packing = Packing::new(1);
        for seq in seqs {
            let receipt = Receipt::default();
            let raw = RawEvent { stream: &stream, seq, payload: b"{}", receipt };
            packing.add(&raw, (seq % 2) as u16);
        }
        packing.finish()
    }

    /// A stream's way into that topic, before it runs.
    fn sender(topic: &Arc<Moody>, inbox: Inbox) -> (Outbox, Sender) {
        let (sender, messages) = mpsc::unbounded_channel();
        let held = Arc::<AtomicUsize>::default();
        let task = Sender {
            topic: Arc::clone(topic) as Arc<dyn Topic>,
            stream: StreamName::new("s").unwrap(),
            stats: Arc::new(StreamStats::new(2)),
            inbox,
            messages,
            held: Arc::clone(&held),
            waiting: Vec::new(),
            is_store: true,
        };
        (Outbox { sender, bytes: held }, task)
    }

    /// What is confirmed, until so many positions are.
    fn until(confirmed: &Receiver<Wake>, count: u64) -> roaring::RoaringTreemap {
        let mut seqs = roaring::RoaringTreemap::new();
        while seqs.len() < count {
            match confirmed.recv_timeout(Duration::from_secs(30)).unwrap() {
                Wake::Published(published) => seqs |= published.0,
                _ => panic!("nobody else is there"),
            }
        }
        seqs
    }

    #[test]
    fn a_topic_that_is_away_for_hours_is_asked_seldom_and_then_has_everything_in_order() {
        const OUTAGE: Duration = Duration::from_secs(6 * 3600);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let topic = Arc::new(Moody { refusals: AtomicUsize::new(usize::MAX), ..Moody::default() });
        let (inbox, confirmed) = Inbox::new();
        let (outbox, sender) = sender(&topic, inbox);
        runtime.spawn(sender.run());
        let piece = |from| messages(from..from + 1000).into_iter().filter(|m| m.partition == 0);
        let (mut next, mut bytes) = (0, 0);
        runtime.block_on(async {
            let ends = tokio::time::Instant::now() + OUTAGE;
            while tokio::time::Instant::now() < ends {
                // As a worker does, which reads on while there is room.
                while outbox.has_room() {
                    outbox.send(piece(next).collect());
                    next += 1000;
                }
                bytes = outbox.bytes.load(Relaxed).max(bytes);
                tokio::time::sleep(Duration::from_secs(60)).await;
            }
        });
        let attempts = (usize::MAX - topic.refusals.swap(0, Relaxed)) as u64;
        // Of each wait, chance leaves a tenth at least; the first are shorter.
        let attempts_max = 10 + OUTAGE.as_secs() * 10 / BACKOFF.1.as_secs();
        assert!((1000..=attempts_max).contains(&attempts), "{attempts}");
        let piece: usize = piece(0).map(|message| message.bytes()).sum();
        assert!(bytes < BYTES_MAX + 2 * piece, "{bytes} bytes were held");
        runtime.block_on(async { tokio::time::sleep(BACKOFF.1).await });
        assert_eq!(until(&confirmed, next / 2).len(), next / 2);
        let took = topic.took.lock().unwrap();
        assert!(took.iter().map(|(_, seq)| *seq).eq((0..next).step_by(2)), "in order, once");
    }

    #[test]
    fn what_is_refused_comes_again_before_what_follows_under_its_key() {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let topic = Arc::new(Moody { refusals: AtomicUsize::new(2), ..Moody::default() });
        let (inbox, confirmed) = Inbox::new();
        let (outbox, sender) = sender(&topic, inbox);
        let (bytes, stats) = (Arc::clone(&outbox.bytes), Arc::clone(&sender.stats));
        runtime.spawn(sender.run());
        outbox.send(messages(1..10));
        assert_eq!(until(&confirmed, 5).iter().collect::<Vec<_>>(), [1, 3, 5, 7, 9]);
        outbox.send(messages(10..20));
        until(&confirmed, 14);
        for key in ["s/0", "s/1"] {
            let took = topic.took.lock().unwrap();
            let seqs: Vec<Seq> = took.iter().filter(|(k, _)| k == key).map(|(_, s)| *s).collect();
            assert!(seqs.is_sorted() && seqs.len() >= 9, "{key}: {seqs:?}");
        }
        assert!(stats.store_failures.get() > 0, "what was refused was counted");
        assert_eq!((bytes.load(Relaxed), stats.published_events.get()), (0, 19));
    }
}
