//! What Google's services are asked with: one source of credentials for all of them.
//!
//! A key file, the identity of the machine or of a workload (federated with another identity
//! provider), or the user's own: whatever `GOOGLE_APPLICATION_CREDENTIALS`, gcloud's well-known
//! place or the metadata server has, or the file that the configuration names. An endpoint of
//! plain `http` is an emulator, and is never shown any of them.

#[cfg(feature = "pubsub")]
mod acks;
#[cfg(feature = "pubsub")]
mod answers;
#[cfg(feature = "pubsub")]
mod pubsub;
#[cfg(feature = "pubsub")]
mod pull;
#[cfg(any(feature = "bigquery", feature = "firestore"))]
pub mod rest;

#[cfg(feature = "pubsub")]
pub use pubsub::{PubSub, TopicAsStore};
#[cfg(feature = "pubsub")]
pub use pull::{Puller, Pulling};

use std::path::Path;

use google_cloud_auth::credentials::service_account::AccessSpecifier;
use google_cloud_auth::credentials::{
    AccessTokenCredentials, Builder, external_account, service_account, user_account,
};

use crate::config::GoogleConfig;

/// What may be done is said where permissions are given, not here
/// (<https://cloud.google.com/docs/authentication#authorization-gcp>).
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
/// The name under which Google's emulators let everything be done.
pub const OWNER: &str = "owner";

/// Credentials that can't be used.
#[derive(Debug, thiserror::Error)]
#[error("{what} can't be used as Google credentials: {why}")]
pub struct CredentialsError {
    what: String,
    why: String,
}

/// Whether a service at that address is an emulator.
#[must_use]
pub fn is_emulator(endpoint: &str) -> bool {
    endpoint.starts_with("http://")
}

/// Where tokens come from; none is asked for yet.
///
/// # Errors
/// The file can't be read, or holds no credentials that Google knows.
pub fn credentials(config: &GoogleConfig) -> Result<AccessTokenCredentials, CredentialsError> {
    let Some(path) = &config.credentials else {
        let built = Builder::default().with_scopes([SCOPE]).build_access_token_credentials();
        return built.map_err(|error| CredentialsError {
            what: "what this machine has".to_owned(),
            why: error.to_string(),
        });
    };
    from_file(path).map_err(|why| CredentialsError { what: path.display().to_string(), why })
}

fn from_file(path: &Path) -> Result<AccessTokenCredentials, String> {
    let text = std::fs::read(path).map_err(|error| error.to_string())?;
    let key: serde_json::Value = serde_json::from_slice(&text).map_err(|e| e.to_string())?;
    let kind = key.get("type").and_then(|kind| kind.as_str()).unwrap_or_default().to_owned();
    let built = match kind.as_str() {
        "service_account" => service_account::Builder::new(key)
            .with_access_specifier(AccessSpecifier::from_scopes([SCOPE]))
            .build_access_token_credentials(),
        "authorized_user" => {
            user_account::Builder::new(key).with_scopes([SCOPE]).build_access_token_credentials()
        }
        "external_account" => external_account::Builder::new(key)
            .with_scopes([SCOPE])
            .build_access_token_credentials(),
        _ => {
            return Err(format!(
                "its type is {kind:?}, and not service_account, external_account or \
                 authorized_user"
            ));
        }
    };
    built.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key.json");
        std::fs::write(&path, text).unwrap();
        let config = GoogleConfig { credentials: Some(path), ..GoogleConfig::default() };
        let error = credentials(&config).unwrap_err().to_string();
        error.replace(&dir.path().display().to_string(), "DIR")
    }

    #[test]
    fn a_file_that_holds_no_credentials_is_named_with_what_is_wrong() {
        assert_eq!(
            refused(r#"{"type": "gdch_service_account"}"#),
            "DIR/key.json can't be used as Google credentials: its type is \
             \"gdch_service_account\", and not service_account, external_account or \
             authorized_user"
        );
        let broken = refused("{");
        assert!(broken.contains("line 1 column 1"), "{broken}");
        let config =
            GoogleConfig { credentials: Some("/nowhere/key.json".into()), ..Default::default() };
        let missing = credentials(&config).unwrap_err().to_string();
        assert!(missing.contains("/nowhere/key.json") && missing.contains("No such file"));
    }
}
