//! What was published is pulled into this instance's logs.
//!
//! In: the subscription's messages, each key's in order. Out: their records in the log of their
//! stream, and a [`Lease`] on each message, which ends when its records are stored or dead
//! letters. What can't be read is put with the malformed bodies, and is done then. Bounded in
//! bytes by the subscription's flow control; a log that is full holds up all.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use google_cloud_pubsub::model::Message;
use google_cloud_pubsub::subscriber::handler::Handler;
use google_cloud_pubsub::subscriber::{MessageStream, ShutdownBehavior};
use tokio::sync::{mpsc, watch};

use super::pubsub::{LEASE, PubSub};
use crate::errors::{ErrorStore, NewLetter};
use crate::event::{Phase, Receipt, Rejection, StreamName};
use crate::queue::{BadMessage, Lease, decode};
use crate::space::Space;
use crate::streams::{Stream, Streams};
use crate::wal::{AppendError, Appending, Records};

/// A stream that can't be opened is tried more and more rarely, up to once a minute, within one
/// call; to begin anew is to begin soon.
const SILENCE: Duration = Duration::from_secs(15);
/// After so many of them a stream is given up, where nothing of it is held.
const SILENCES_MAX: u32 = 4;
/// For so long a message is held at most. What this instance can't store for longer, another may.
const LEASE_MAX: Duration = Duration::from_secs(60 * 60);
/// After an error.
const PAUSE: Duration = Duration::from_secs(1);
/// Where there is no room, it is looked for so often.
const LOOK_FOR_ROOM: Duration = Duration::from_millis(50);
/// Messages that are held at most; before that, their bytes are bounded.
const OUTSTANDING_MAX: i64 = 100_000;
/// What was acknowledged last is told to the service within that time.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How far pulling is to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pulling {
    /// On.
    Goes,
    /// Nothing more is pulled; what is held is still ours.
    Ends,
    /// Everything was acknowledged or given back.
    Ended,
}

/// Pulls for all streams.
pub struct Puller {
    /// From where.
    pub pubsub: Arc<PubSub>,
    /// Into which logs.
    pub streams: Streams,
    /// Where messages go that nobody can read.
    pub errors: ErrorStore,
    /// Whether the disk has room.
    pub space: Space,
    /// Bytes that may be held.
    pub outstanding_bytes_max: usize,
    /// Until when.
    pub pulling: watch::Receiver<Pulling>,
    /// Bytes that are.
    pub outstanding_bytes: Arc<AtomicUsize>,
    /// Dropped, with every copy, once all that was pulled stands in a log.
    pub taking: Option<mpsc::Sender<()>>,
}

/// A message's part of the bytes that may be held, while it is.
struct Weight {
    bytes: usize,
    of_all: Arc<AtomicUsize>,
}

impl Weight {
    fn new(bytes: usize, of_all: &Arc<AtomicUsize>) -> Self {
        of_all.fetch_add(bytes, Relaxed);
        Self { bytes, of_all: Arc::clone(of_all) }
    }
}

impl Drop for Weight {
    fn drop(&mut self) {
        self.of_all.fetch_sub(self.bytes, Relaxed);
    }
}

impl Puller {
    /// Pulls until it is told to end, and then sees to it that the last acknowledgements are told.
    pub async fn run(mut self) {
        let mut told = String::new();
        while *self.pulling.borrow() == Pulling::Goes {
            let mut pulling = self.pulling.clone();
            let opened = tokio::select! {
                biased;
                _ = pulling.wait_for(|pulling| *pulling != Pulling::Goes) => return,
                opened = self.open() => opened,
            };
            let error = match opened {
                Ok(stream) => {
                    told.clear();
                    self.pull(stream).await
                }
                Err(error) => Some(error),
            };
            let Some(error) = error else { continue };
            if error != told {
                tracing::warn!(error, "can't pull");
                told.clone_from(&error);
            }
            self.pubsub.pulling_fails(error);
            self.pause(PAUSE).await;
        }
    }

    async fn open(&self) -> Result<MessageStream, String> {
        self.pubsub.look().await?;
        let subscriber = self.pubsub.subscriber().await?;
        let bytes = i64::try_from(self.outstanding_bytes_max).unwrap_or(i64::MAX);
        let subscribe = subscriber
            .subscribe(self.pubsub.subscription())
            .set_max_lease_extension(LEASE)
            .set_max_lease(LEASE_MAX)
            .set_max_outstanding_messages(OUTSTANDING_MAX)
            .set_max_outstanding_bytes(bytes)
            .set_shutdown_behavior(ShutdownBehavior::WaitForProcessing);
        Ok(subscribe.build())
    }

    /// Pulls until told to end, or until the stream does: then with the reason.
    async fn pull(&mut self, mut stream: MessageStream) -> Option<String> {
        let mut silent = 0;
        loop {
            while !self.has_room() && *self.pulling.borrow() == Pulling::Goes {
                self.pause(LOOK_FOR_ROOM).await;
            }
            let next = tokio::select! {
                biased;
                _ = self.pulling.wait_for(|pulling| *pulling != Pulling::Goes) => None,
                next = tokio::time::timeout(SILENCE, stream.next()) => Some(next),
            };
            silent = if let Some(Err(_)) = next { silent + 1 } else { 0 };
            match next {
                None => return self.end(stream).await,
                Some(Err(_silent)) => {
                    // Once at once, and then as often as others look.
                    let looked = async {
                        match silent {
                            1 => self.pubsub.look().await,
                            _ => self.pubsub.check().await,
                        }
                    };
                    let mut pulling = self.pulling.clone();
                    tokio::select! {
                        biased;
                        _ = pulling.wait_for(|pulling| *pulling != Pulling::Goes) => {}
                        looked = looked => if let Err(error) = looked {
                            self.pubsub.pulling_fails(error);
                        }
                    }
                    // A connection may be dead without having ended.
                    if silent >= SILENCES_MAX && self.outstanding_bytes.load(Relaxed) == 0 {
                        return None;
                    }
                }
                Some(Ok(None)) => return Some("the subscription's stream has ended".to_owned()),
                Some(Ok(Some(Err(error)))) => return Some(self.pubsub.sentence(&error)),
                Some(Ok(Some(Ok((message, handler))))) => self.take(message, handler).await,
            }
        }
    }

    /// What the service was told to send at most, it may send again over a new connection.
    fn has_room(&self) -> bool {
        self.space.takes_events()
            && self.outstanding_bytes.load(Relaxed) < self.outstanding_bytes_max
    }

    /// Leases are extended until all is given back.
    async fn end(&mut self, stream: MessageStream) -> Option<String> {
        let token = stream.shutdown_token();
        drop(stream);
        self.taking = None;
        let _ = self.pulling.wait_for(|pulling| *pulling == Pulling::Ended).await;
        let _ = tokio::time::timeout(LAST_WORDS, token.shutdown()).await;
        None
    }

    async fn pause(&mut self, time: Duration) {
        let ends = self.pulling.wait_for(|pulling| *pulling != Pulling::Goes);
        let _ = tokio::time::timeout(time, ends).await;
    }

    /// Takes a message. One that can't be taken yet goes back, but not at once: it would be here
    /// again at once.
    async fn take(&mut self, message: Message, handler: Handler) {
        let weight = Weight::new(message.data.len(), &self.outstanding_bytes);
        let attribute = |name: &str| message.attributes.get(name).map(String::as_str);
        let taken = match decode(attribute, &message.data) {
            Ok((name, records)) => self.append(&name, records, &message).await,
            Err(error @ BadMessage::Newer(_)) => Err(error.to_string()),
            Err(BadMessage::Poison(why)) => self.bury(&message, why).await.map(|()| None),
        };
        match taken {
            Ok(None) => {
                self.pubsub.pulling_works();
                handler.ack();
            }
            Ok(Some((stream, appending))) => {
                self.pubsub.pulling_works();
                let taking = self.taking.clone();
                tokio::spawn(async move {
                    // Where it does not become durable, the handler is dropped, and it comes again.
                    let appended = appending.await;
                    if let Ok(durable) = appended {
                        let end = durable.first_seq + u64::from(durable.count);
                        let done = move || {
                            handler.ack();
                            drop(weight);
                        };
                        stream.leases.hold(end, Lease::new(message.data.len(), done));
                    }
                    drop(taking);
                });
            }
            Err(_) if *self.pulling.borrow() != Pulling::Goes => {}
            Err(error) => {
                tracing::error!(error, "a message goes back into its subscription");
                self.pubsub.pulling_fails(error);
                let mut pulling = self.pulling.clone();
                tokio::spawn(async move {
                    let ends = pulling.wait_for(|pulling| *pulling != Pulling::Goes);
                    let _ = tokio::time::timeout(LEASE, ends).await;
                    drop((handler, weight));
                });
            }
        }
    }

    /// Its records into their log: in the order in which messages come.
    async fn append(
        &mut self,
        name: &StreamName,
        mut records: Records,
        message: &Message,
    ) -> Result<Option<(Arc<Stream>, Appending)>, String> {
        let stream = self.stream(name).await?;
        let (count, bytes) = (u64::from(records.count()), message.data.len() as u64);
        let appending = loop {
            match stream.wal.append(records) {
                Ok(appending) => break appending,
                Err(AppendError::Full { .. } | AppendError::QueueFull) => {}
                Err(error) => return Err(error.to_string()),
            }
            if *self.pulling.borrow() != Pulling::Goes {
                return Err("the service ends".to_owned());
            }
            self.pause(LOOK_FOR_ROOM).await;
            records = Records::parse(&message.data).unwrap_or_default();
        };
        stream.stats.pulled_events.add(count);
        stream.stats.pulled_messages.add(1);
        stream.stats.pulled_bytes.add(bytes);
        Ok(Some((stream, appending)))
    }

    async fn stream(&self, name: &StreamName) -> Result<Arc<Stream>, String> {
        if let Some(stream) = self.streams.get(name) {
            return Ok(stream);
        }
        // To make a stream is work on the disk.
        let (streams, name) = (self.streams.clone(), name.clone());
        let made = tokio::task::spawn_blocking(move || streams.get_or_create(&name)).await;
        made.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
    }

    /// What nobody can read is kept where an operator sees it, and is done.
    async fn bury(&self, message: &Message, why: String) -> Result<(), String> {
        let rejection = Rejection {
            phase: Phase::Parse,
            reason: "bad_message".to_owned(),
            path: String::new(),
            message: format!("message {}: {why}", message.message_id),
        };
        let receipt = Receipt {
            received_at: crate::time::now(),
            route: Some("pubsub".into()),
            ..Receipt::default()
        };
        let letter = NewLetter {
            stream: StreamName::new("default").map_err(|error| error.to_string())?,
            seq: None,
            rejections: vec![rejection],
            payload: message.data.to_vec(),
            receipt,
            message_id: None,
            library: None,
            library_version: None,
        };
        self.errors.put_malformed(letter).await.map(drop).map_err(|error| error.to_string())
    }
}
