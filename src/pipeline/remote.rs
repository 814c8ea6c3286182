//! The topic of several instances, where there is one: what of it is this instance's.
//!
//! One that only collects has no store but the topic. One that processes pulls from the start
//! until the service is told to stop; then what it holds is stored, and the rest given back.

use std::sync::Arc;
use std::time::{Duration, Instant};

#[cfg(feature = "pubsub")]
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::StartError;
use super::spawner::Workers;
use crate::config::Config;
use crate::errors::ErrorStore;
use crate::queue::{Returned, Topic};
use crate::space::Space;
use crate::status::Reached;
use crate::store::AnyStore;
use crate::streams::{Stream, Streams};

#[cfg(feature = "pubsub")]
use super::background::probe;
#[cfg(feature = "pubsub")]
use super::flush::store_now;
#[cfg(feature = "pubsub")]
use crate::google::{PubSub, Puller, Pulling, TopicAsStore};

/// The topic that is configured, and where batches go: there, where this instance makes none.
pub(super) fn of(
    config: &Config,
    store: Arc<AnyStore>,
) -> Result<(Option<Remote>, Arc<AnyStore>), StartError> {
    let remote = Remote::of(config)?;
    let store = remote.as_ref().and_then(Remote::store).unwrap_or(store);
    Ok((remote, store))
}

/// Whether the topic that is configured could be used now; nothing is made.
///
/// # Errors
/// [`StartError::Queue`] where the configuration is wrong, else [`StartError::Unreachable`].
pub async fn reach_queue(config: &Config) -> Result<(), StartError> {
    match Remote::of(config)? {
        Some(remote) => remote.could_be_used().await.map_err(StartError::Unreachable),
        None => Ok(()),
    }
}

/// Waits, for so long at most, until all that was pulled stands in a log: what comes there behind
/// the last flush would be stored here and by others.
pub(super) async fn rests(remote: Option<&mut Running>, patience: Duration) {
    if let Some(remote) = remote {
        let _ = tokio::time::timeout(patience, remote.rests()).await;
    }
}

/// What is still held is for others. That all else is done the topic may take until then to confirm.
pub(super) async fn give_back(streams: &[Arc<Stream>], remote: Option<Running>, until: Instant) {
    streams.iter().for_each(|stream| stream.leases.release());
    if let Some(remote) = remote {
        remote.ended(until).await;
    }
}

/// The topic.
#[cfg(feature = "pubsub")]
pub(super) struct Remote {
    pubsub: Arc<PubSub>,
    outstanding_bytes_max: usize,
    publishes: bool,
    pulls: bool,
    state: (watch::Sender<Reached>, watch::Receiver<Reached>),
    returned: Returned,
}

#[cfg(feature = "pubsub")]
impl Remote {
    /// The one that is configured.
    pub(super) fn of(config: &Config) -> Result<Option<Self>, StartError> {
        let (publishes, pulls) = (config.publishes(), config.pulls());
        if !publishes && !pulls {
            return Ok(None);
        }
        let pubsub = PubSub::new(config).map_err(|error| StartError::Queue(error.to_string()))?;
        let state = watch::channel(None);
        let outstanding_bytes_max = config.queue.outstanding_bytes_max;
        let pubsub = Arc::new(pubsub);
        let returned = Returned::default();
        Ok(Some(Self { pubsub, outstanding_bytes_max, publishes, pulls, state, returned }))
    }

    async fn could_be_used(&self) -> Result<(), String> {
        self.pubsub.could_be_used().await
    }

    /// Where batches go, where this instance makes none.
    pub(super) fn store(&self) -> Option<Arc<AnyStore>> {
        (!self.pulls).then(|| -> Arc<AnyStore> { Arc::new(TopicAsStore(Arc::clone(&self.pubsub))) })
    }

    /// Where what is acknowledged here is published.
    pub(super) fn topic(&self) -> Option<Arc<dyn Topic>> {
        self.publishes.then(|| -> Arc<dyn Topic> { self.pubsub.clone() })
    }

    /// Its name and whether it could be reached; as a store it says so itself.
    pub(super) fn state(&self) -> Option<(String, watch::Receiver<Reached>)> {
        self.pulls.then(|| ("pubsub".to_owned(), self.state.1.clone()))
    }

    /// What can be seen of it.
    pub(super) fn seen(&self) -> watch::Receiver<Reached> {
        self.state.1.clone()
    }

    /// What of it goes back.
    pub(super) fn returned(&self) -> Returned {
        self.returned.clone()
    }

    /// Looks after it, and pulls.
    pub(super) fn start(
        self,
        streams: &Streams,
        errors: &ErrorStore,
        space: &Space,
        workers: &Workers,
        background: &mut JoinSet<()>,
    ) -> Running {
        let (told, pulling) = watch::channel(Pulling::Goes);
        let (taking, taken) = mpsc::channel(1);
        if !self.pulls {
            return Running { told, taken, pulls: None };
        }
        let probed = Arc::new(TopicAsStore(Arc::clone(&self.pubsub)));
        background.spawn(probe(probed, self.state.0));
        let puller = Puller {
            pubsub: self.pubsub,
            streams: streams.clone(),
            errors: errors.clone(),
            space: space.clone(),
            returned: self.returned,
            outstanding_bytes_max: self.outstanding_bytes_max,
            store_now: store_now(Arc::clone(workers)),
            pulling,
            taking,
        };
        Running { told, taken, pulls: Some(tokio::spawn(puller.run())) }
    }
}

/// What goes on with it.
#[cfg(feature = "pubsub")]
pub(super) struct Running {
    told: watch::Sender<Pulling>,
    taken: mpsc::Receiver<()>,
    pulls: Option<tokio::task::JoinHandle<()>>,
}

#[cfg(feature = "pubsub")]
impl Running {
    /// Nothing more is pulled.
    pub(super) fn end(&self) {
        self.told.send_replace(Pulling::Ends);
    }

    /// Ready once all that was pulled stands in a log.
    async fn rests(&mut self) {
        let _ = self.taken.recv().await;
    }

    /// Everything was stored or given back: waits until the topic knows.
    pub(super) async fn ended(self, until: Instant) {
        self.told.send_replace(Pulling::Ended(until));
        if let Some(pulls) = self.pulls {
            // One that panicked has been reported by the panic's own message.
            let _ = pulls.await;
        }
    }
}

/// There is none in this build: a configuration that asks for one is a mistake.
#[cfg(not(feature = "pubsub"))]
pub(super) enum Remote {}

#[cfg(not(feature = "pubsub"))]
impl Remote {
    pub(super) fn of(_config: &Config) -> Result<Option<Self>, StartError> {
        Ok(None)
    }

    async fn could_be_used(&self) -> Result<(), String> {
        match *self {}
    }

    pub(super) fn store(&self) -> Option<Arc<AnyStore>> {
        match *self {}
    }

    pub(super) fn topic(&self) -> Option<Arc<dyn Topic>> {
        match *self {}
    }

    pub(super) fn state(&self) -> Option<(String, watch::Receiver<Reached>)> {
        match *self {}
    }

    pub(super) fn seen(&self) -> watch::Receiver<Reached> {
        match *self {}
    }

    pub(super) fn returned(&self) -> Returned {
        match *self {}
    }

    pub(super) fn start(
        self,
        _streams: &Streams,
        _errors: &ErrorStore,
        _space: &Space,
        _workers: &Workers,
        _background: &mut JoinSet<()>,
    ) -> Running {
        match self {}
    }
}

#[cfg(not(feature = "pubsub"))]
pub(super) enum Running {}

#[cfg(not(feature = "pubsub"))]
impl Running {
    pub(super) fn end(&self) {
        match *self {}
    }

    async fn rests(&mut self) {
        match *self {}
    }

    pub(super) async fn ended(self, _until: Instant) {
        match self {}
    }
}
