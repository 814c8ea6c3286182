//! How events travel from the log to the stages behind it, and what of it is this instance's.

use serde::{Deserialize, Serialize};

use super::Config;

/// Which part of the work is an instance's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Events are acknowledged and published.
    Collect,
    /// They are pulled, adapted and stored.
    Process,
    /// Both.
    #[default]
    All,
}

/// How events travel from the log to the stages behind it.
#[derive(Clone, Debug)]
pub struct QueueConfig {
    /// Which way.
    pub mode: QueueMode,
    /// The topic's id in the project.
    pub topic: String,
    /// The subscription's id in the project.
    pub subscription: String,
    /// Another address than the service's own. One of plain `http` is asked without credentials.
    pub endpoint: Option<String>,
    /// Bytes of messages that were pulled and are not stored.
    pub outstanding_bytes_max: usize,
}

/// Which way events travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueMode {
    /// Within the process.
    Local,
    /// Through a topic of Google Cloud Pub/Sub.
    PubSub,
}

impl Config {
    /// Whether what this instance acknowledges goes into a topic.
    #[must_use]
    pub fn publishes(&self) -> bool {
        self.queue.mode == QueueMode::PubSub && self.role != Role::Process
    }

    /// Whether this instance stores events.
    #[must_use]
    pub fn stores(&self) -> bool {
        self.queue.mode == QueueMode::Local || self.role != Role::Collect
    }

    /// Whether this instance pulls events that were acknowledged elsewhere.
    #[must_use]
    pub fn pulls(&self) -> bool {
        self.queue.mode == QueueMode::PubSub && self.role != Role::Collect
    }
}

impl Role {
    const ALL: [Self; 3] = [Self::Collect, Self::Process, Self::All];

    /// Its name in configuration and console.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Collect => "collect",
            Self::Process => "process",
            Self::All => "all",
        }
    }

    pub(super) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == name)
    }
}

impl QueueMode {
    /// Its name in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::PubSub => "pubsub",
        }
    }

    pub(super) fn from_name(name: &str) -> Option<Self> {
        match name {
            // An older word for it.
            "local" | "async" => Some(Self::Local),
            "pubsub" => Some(Self::PubSub),
            _ => None,
        }
    }
}

/// A topic's or a subscription's id
/// (<https://cloud.google.com/pubsub/docs/pubsub-basics#resource_names>).
pub(super) fn parse_resource(text: &str) -> Option<String> {
    let is_in_id = |b: u8| b.is_ascii_alphanumeric() || b"-_.~+%".contains(&b);
    let starts_well = text.starts_with(|c: char| c.is_ascii_alphabetic());
    let is_free = (3..=255).contains(&text.len()) && !text.starts_with("goog");
    (starts_well && is_free && text.bytes().all(is_in_id)).then(|| text.to_owned())
}
