//! What was published is pulled into this instance's logs.
//!
//! In: the subscription's messages, each key's in order. Out: their records in the log of their
//! stream, and a [`Lease`] on each message, which ends when its records are stored or dead
//! letters. What can't be read is put with the malformed bodies, and is done then. What is held
//! is bounded in bytes. All streams share the subscription, in which one that waits holds up all
//! others; so each may hold half of it. One that does has its open batches stored early, and where
//! its store fails the rest goes back.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use google_cloud_pubsub::model::Message;
use google_cloud_pubsub::subscriber::handler::Handler;
use google_cloud_pubsub::subscriber::{MessageStream, ShutdownBehavior, ShutdownToken};
use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::{mpsc, oneshot, watch};

use super::acks::{Acks, Done, acks};
use super::held::{Returning, Weight};
use super::pubsub::{LEASE, PubSub};
use crate::errors::{ErrorStore, NewLetter};
use crate::event::{Phase, Receipt, Rejection, StreamName};
use crate::queue::{BadMessage, FlushReport, Lease, Returned, decode};
use crate::space::Space;
use crate::stats::StreamStats;
use crate::streams::{Stream, Streams, StreamsError};
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
/// What can't be taken goes back after so long: at once it would be here again at once.
const RETURN_AFTER: Duration = Duration::from_secs(15);
/// Messages that are held at most; before that, their bytes are bounded.
const OUTSTANDING_MAX: i64 = 100_000;
/// So many that became dead letters are known again by their ids.
const BURIED_MAX: usize = 1_000;
/// What was acknowledged and given back last is told to the service within that time, at least.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How far pulling is to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pulling {
    /// On.
    Goes,
    /// Nothing more is pulled; what is held is still ours.
    Ends,
    /// All that is stored was said to be done, and the rest given back; until then the service may
    /// take to confirm it.
    Ended(Instant),
}

/// Has what a stream's log holds now stored; the answer comes once it is.
pub type StoreNow = Box<dyn Fn(&StreamName) -> oneshot::Receiver<FlushReport> + Send + Sync>;

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
    /// Where it is told what goes back although all else is well.
    pub returned: Returned,
    /// Bytes that may be held.
    pub outstanding_bytes_max: usize,
    /// What waits in open batches may be all that is held.
    pub store_now: StoreNow,
    /// Until when.
    pub pulling: watch::Receiver<Pulling>,
    /// Dropped, with every copy, once all that was pulled stands in a log.
    pub taking: mpsc::Sender<()>,
}

/// Pulling, while it goes on.
struct Pull {
    of: Puller,
    acks: Acks,
    /// Whose messages are held.
    held: BTreeMap<StreamName, Arc<StreamStats>>,
    returning: Returning,
    /// The ids of messages that became dead letters last.
    buried: VecDeque<String>,
}

/// What has become of a message.
enum Taken {
    /// It is on its way into that stream's log.
    Appended(Arc<Stream>, Appending, Weight),
    /// It is a dead letter.
    Buried,
}

/// Why a message can't be taken yet.
enum Why {
    /// One before it under its key goes back, or its store fails: told there.
    Known,
    /// Told here.
    Told(String),
    /// This instance can't take this message, and others may: all else is well.
    Alone(String),
}

impl<E: std::fmt::Display> From<E> for Why {
    fn from(error: E) -> Self {
        Self::Told(error.to_string())
    }
}

/// Gives back what has come and not been taken: others may have room for it. Given back while the
/// service still sends, it would be here again at once.
async fn leave(mut stream: MessageStream) {
    let mut handlers = Vec::new();
    while let Ok(Some(Ok((_, handler)))) = tokio::time::timeout(LOOK_FOR_ROOM, stream.next()).await
    {
        handlers.push(handler);
        if handlers.len() >= OUTSTANDING_MAX as usize {
            break;
        }
    }
    drop(stream);
    drop(handlers);
}

impl Puller {
    /// Pulls until it is told to end, and then sees to it that the last acknowledgements are told.
    pub async fn run(self) {
        let pubsub = Arc::clone(&self.pubsub);
        let (acks, acknowledged) = acks(Arc::clone(&pubsub));
        let mut pulling = self.pulling.clone();
        let pull = Pull {
            of: self,
            acks,
            held: BTreeMap::new(),
            returning: Returning::default(),
            buried: VecDeque::new(),
        };
        // Its leases are extended until all is given back.
        let (token, held) = pull.run().await;
        let is_ended = |pulling: &Pulling| matches!(pulling, Pulling::Ended(_));
        let until = match pulling.wait_for(is_ended).await.as_deref() {
            Ok(Pulling::Ended(until)) if pubsub.is_pulled() => *until,
            _ => Instant::now(),
        };
        // A key of which another instance died holding a message takes no acknowledgement until
        // that has come to somebody else. Who stops before has what they stored stored again.
        let last_words = async {
            let _ = acknowledged.await;
            if let Some(token) = token {
                token.shutdown().await;
            }
        };
        let patience = until.saturating_duration_since(Instant::now()).max(LAST_WORDS);
        if tokio::time::timeout(patience, last_words).await.is_err() {
            let messages: u64 = held.values().map(|of| of.outstanding_messages.get()).sum();
            tracing::warn!(
                messages,
                "the topic has not confirmed that these are done: what of them \
                is stored comes again, to others"
            );
        }
    }
}

impl Pull {
    /// Pulls until it is told to end; then what ends the stream that was pulled from last, and whose
    /// messages are held.
    async fn run(mut self) -> (Option<ShutdownToken>, BTreeMap<StreamName, Arc<StreamStats>>) {
        let mut told = String::new();
        while self.goes() {
            if !self.of.space.takes_events() {
                self.pause(LOOK_FOR_ROOM).await;
                continue;
            }
            let mut pulling = self.of.pulling.clone();
            let opened = tokio::select! {
                biased;
                _ = pulling.wait_for(|pulling| *pulling != Pulling::Goes) => break,
                opened = self.open() => opened,
            };
            let error = match opened {
                Ok(mut stream) => {
                    told.clear();
                    let error = self.pull(&mut stream).await;
                    if !self.goes() {
                        return (Some(stream.shutdown_token()), self.held);
                    }
                    if !self.of.space.takes_events() {
                        leave(stream).await;
                    }
                    error
                }
                Err(error) => Some(error),
            };
            let Some(error) = error else { continue };
            if error != told {
                tracing::warn!(error, "can't pull");
                told.clone_from(&error);
            }
            self.of.pubsub.pulling_fails(error);
            self.pause(PAUSE).await;
        }
        (None, self.held)
    }

    fn goes(&self) -> bool {
        *self.of.pulling.borrow() == Pulling::Goes
    }

    async fn open(&self) -> Result<MessageStream, String> {
        self.of.pubsub.look().await?;
        let subscriber = self.of.pubsub.subscriber().await?;
        let bytes = i64::try_from(self.of.outstanding_bytes_max).unwrap_or(i64::MAX);
        let subscribe = subscriber
            .subscribe(self.of.pubsub.subscription())
            .set_max_lease_extension(LEASE)
            .set_max_lease(LEASE_MAX)
            .set_max_outstanding_messages(OUTSTANDING_MAX)
            .set_max_outstanding_bytes(bytes)
            .set_shutdown_behavior(ShutdownBehavior::WaitForProcessing);
        Ok(subscribe.build())
    }

    /// Pulls until told to end, or until the stream does: then with the reason, if there is one.
    async fn pull(&mut self, stream: &mut MessageStream) -> Option<String> {
        let mut silent = 0;
        loop {
            while self.held_bytes() >= self.of.outstanding_bytes_max && self.goes() {
                self.pause(LOOK_FOR_ROOM).await;
            }
            if !self.of.space.takes_events() {
                return None;
            }
            let next = tokio::select! {
                biased;
                _ = self.of.pulling.wait_for(|pulling| *pulling != Pulling::Goes) => return None,
                next = tokio::time::timeout(SILENCE, stream.next()) => next,
            };
            silent = if next.is_err() { silent + 1 } else { 0 };
            match next {
                Err(_silent) => {
                    self.look(silent == 1).await;
                    // A connection may be dead without having ended.
                    if silent >= SILENCES_MAX && self.held_bytes() == 0 {
                        return None;
                    }
                }
                Ok(None) => return Some("the subscription's stream has ended".to_owned()),
                Ok(Some(Err(error))) => return Some(self.of.pubsub.sentence(&error)),
                Ok(Some(Ok((message, handler)))) => self.take(message, handler).await,
            }
        }
    }

    /// Whether the service answers: at once, or as often as others look.
    async fn look(&mut self, at_once: bool) {
        let looked = async {
            match at_once {
                true => self.of.pubsub.look().await,
                false => self.of.pubsub.check().await,
            }
        };
        let mut pulling = self.of.pulling.clone();
        tokio::select! {
            biased;
            _ = pulling.wait_for(|pulling| *pulling != Pulling::Goes) => {}
            looked = looked => if let Err(error) = looked {
                self.of.pubsub.pulling_fails(error);
            }
        }
    }

    /// What the service was told to send at most, it may send again over a new connection.
    fn held_bytes(&self) -> usize {
        self.held.values().map(|of| of.outstanding_bytes.get() as usize).sum()
    }

    /// A place among what is held, once that stream has one; none where the message is to go back.
    async fn place_of(&mut self, stream: &Stream, bytes: usize) -> Option<Weight> {
        let held = self.held.entry(stream.name.clone());
        let held = Arc::clone(held.or_insert_with(|| Arc::clone(&stream.stats)));
        let mut stored: Option<oneshot::Receiver<FlushReport>> = None;
        while held.outstanding_bytes.get() as usize >= self.of.outstanding_bytes_max / 2 {
            if stream.stats.is_store_in_trouble() || !self.goes() {
                return None;
            }
            let is_storing =
                |stored: &mut oneshot::Receiver<_>| stored.try_recv() == Err(TryRecvError::Empty);
            if !stored.as_mut().is_some_and(is_storing) {
                stored = Some((self.of.store_now)(&stream.name));
            }
            self.pause(LOOK_FOR_ROOM).await;
        }
        Some(Weight::new(bytes, &held))
    }

    async fn pause(&mut self, time: Duration) {
        let ends = self.of.pulling.wait_for(|pulling| *pulling != Pulling::Goes);
        let _ = tokio::time::timeout(time, ends).await;
    }

    async fn take(&mut self, message: Message, handler: Handler) {
        let key = message.ordering_key.clone();
        match self.place(&message).await {
            Ok(Taken::Buried) => {
                self.of.pubsub.pulling_works();
                let _ = self.acks.send(Done { key, handler, told: Box::new(|| {}) });
            }
            Ok(Taken::Appended(stream, appending, weight)) => {
                self.of.pubsub.pulling_works();
                let (acks, taking) = (self.acks.clone(), self.of.taking.clone());
                tokio::spawn(async move {
                    // Where it does not become durable, the handler is dropped, and it comes again.
                    let Ok(durable) = appending.await else { return };
                    let end = durable.first_seq + u64::from(durable.count);
                    let stats = Arc::clone(&stream.stats);
                    let told = Box::new(move || {
                        stats.acked_messages.add(1);
                        drop(weight);
                    });
                    let done = move || drop(acks.send(Done { key, handler, told }));
                    stream.leases.hold(end, Lease::new(done));
                    drop(taking);
                });
            }
            Err(_) if !self.goes() => {}
            Err(why) => {
                let (goes_back, id) =
                    ("a message goes back into its subscription", &message.message_id);
                match why {
                    Why::Known => {}
                    Why::Told(error) => {
                        tracing::error!(id, error, "{goes_back}");
                        self.of.pubsub.pulling_fails(error);
                    }
                    Why::Alone(why) => {
                        if self.of.returned.tells(why.clone()) {
                            tracing::error!(id, why, "{goes_back}");
                        }
                    }
                }
                self.give_back(&message, handler);
            }
        }
    }

    /// Gives a message back, with what comes behind it.
    fn give_back(&self, message: &Message, handler: Handler) {
        let (returning, key) = (self.returning.clone(), message.ordering_key.clone());
        if !returning.add(&key, handler) {
            return;
        }
        let mut pulling = self.of.pulling.clone();
        tokio::spawn(async move {
            let ends = pulling.wait_for(|pulling| *pulling != Pulling::Goes);
            let _ = tokio::time::timeout(RETURN_AFTER, ends).await;
            returning.end(&key);
        });
    }

    /// Puts a message where it belongs.
    async fn place(&mut self, message: &Message) -> Result<Taken, Why> {
        if self.returning.has(&message.ordering_key) {
            return Err(Why::Known);
        }
        let attribute = |name: &str| message.attributes.get(name).map(String::as_str);
        match decode(attribute, &message.data) {
            Ok((name, records)) => self.append(&name, records, message).await,
            Err(error @ BadMessage::Newer(_)) => Err(Why::Alone(error.to_string())),
            Err(BadMessage::Poison(why)) => {
                self.bury(message, why).await?;
                Ok(Taken::Buried)
            }
        }
    }

    /// Its records into their log: in the order in which messages come.
    async fn append(
        &mut self,
        name: &StreamName,
        mut records: Records,
        message: &Message,
    ) -> Result<Taken, Why> {
        let stream = self.stream(name).await?;
        let (count, bytes) = (u64::from(records.count()), message.data.len());
        let weight = self.place_of(&stream, bytes).await.ok_or(Why::Known)?;
        let appending = loop {
            match stream.wal.append(records) {
                Ok(appending) => break appending,
                Err(AppendError::Full { .. }) if stream.stats.is_store_in_trouble() => {
                    return Err(Why::Known);
                }
                Err(AppendError::Full { .. } | AppendError::QueueFull) => {}
                Err(error @ AppendError::TooLarge { .. }) => {
                    return Err(Why::Alone(format!(
                        "{name}: {error}; a larger wal.bytes_max takes it"
                    )));
                }
                Err(error) => return Err(error.into()),
            }
            if !self.goes() {
                return Err(Why::Known);
            }
            self.pause(LOOK_FOR_ROOM).await;
            records = Records::parse(&message.data).unwrap_or_default();
        };
        stream.stats.pulled_events.add(count);
        stream.stats.pulled_messages.add(1);
        stream.stats.pulled_bytes.add(bytes as u64);
        Ok(Taken::Appended(stream, appending, weight))
    }

    async fn stream(&self, name: &StreamName) -> Result<Arc<Stream>, Why> {
        if let Some(stream) = self.of.streams.get(name) {
            return Ok(stream);
        }
        // To make a stream is work on the disk.
        let (streams, name) = (self.of.streams.clone(), name.clone());
        match tokio::task::spawn_blocking(move || streams.get_or_create(&name)).await? {
            Err(error @ (StreamsError::Unknown(_) | StreamsError::TooMany { .. })) => {
                Err(Why::Alone(error.to_string()))
            }
            other => Ok(other?),
        }
    }

    /// What nobody can read is kept where an operator sees it, once: its acknowledgement is
    /// refused while a message before it under its key is held, and then it comes again.
    async fn bury(&mut self, message: &Message, why: String) -> Result<(), Why> {
        if self.buried.contains(&message.message_id) {
            return Ok(());
        }
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
            stream: StreamName::new("default")?,
            seq: None,
            rejections: vec![rejection],
            payload: message.data.to_vec(),
            receipt,
            message_id: None,
            library: None,
            library_version: None,
        };
        self.of.errors.put_malformed(letter).await?;
        self.buried.truncate(BURIED_MAX - 1);
        self.buried.push_front(message.message_id.clone());
        Ok(())
    }
}
