//! What an instance holds of the subscription: the weight of each message, and those that go back.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use google_cloud_pubsub::subscriber::handler::Handler;

use crate::stats::StreamStats;

/// A message's part of what is held, while it is.
pub(super) struct Weight {
    bytes: u64,
    among: Arc<StreamStats>,
}

impl Weight {
    pub(super) fn new(bytes: usize, among: &Arc<StreamStats>) -> Self {
        let bytes = bytes as u64;
        among.outstanding_messages.add(1);
        among.outstanding_bytes.add(bytes);
        Self { bytes, among: Arc::clone(among) }
    }
}

impl Drop for Weight {
    fn drop(&mut self) {
        self.among.outstanding_messages.take_back(1);
        self.among.outstanding_bytes.take_back(self.bytes);
    }
}

/// Messages on their way back, by ordering key. What comes behind one of them goes back with it,
/// since it is delivered behind it again.
#[derive(Clone, Default)]
pub(super) struct Returning(Arc<Mutex<HashMap<String, Vec<Handler>>>>);

impl Returning {
    fn keys(&self) -> MutexGuard<'_, HashMap<String, Vec<Handler>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn has(&self, key: &str) -> bool {
        !key.is_empty() && self.keys().contains_key(key)
    }

    /// Whether it is the first under its key.
    pub(super) fn add(&self, key: &str, handler: Handler) -> bool {
        let mut keys = self.keys();
        let behind = keys.entry(key.to_owned()).or_default();
        behind.push(handler);
        behind.len() == 1
    }

    /// Gives back what goes back under a key, the first first.
    pub(super) fn end(&self, key: &str) {
        let handlers = self.keys().remove(key);
        handlers.into_iter().flatten().for_each(drop);
    }
}
