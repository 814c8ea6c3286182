//! What Google's services are asked with, and what all of their answers have in common.
//!
//! An endpoint of plain `http` is an emulator, and is never shown any credentials.

#[cfg(feature = "pubsub")]
mod acks;
#[cfg(feature = "pubsub")]
mod answers;
pub mod api;
mod credentials;
#[cfg(feature = "pubsub")]
mod held;
#[cfg(feature = "pubsub")]
mod pubsub;
#[cfg(feature = "pubsub")]
mod pull;
#[cfg(any(feature = "bigquery", feature = "firestore"))]
pub mod rest;

pub use credentials::{Credentials, CredentialsError};
#[cfg(feature = "pubsub")]
pub use pubsub::{PubSub, TopicAsStore};
#[cfg(feature = "pubsub")]
pub use pull::{Puller, Pulling, StoreNow};

/// The name under which Google's emulators let everything be done.
pub const OWNER: &str = "owner";

/// Whether a service at that address is an emulator.
#[must_use]
pub fn is_emulator(endpoint: &str) -> bool {
    endpoint.starts_with("http://")
}
