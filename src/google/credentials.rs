//! Credentials: one source for all of Google's services, and what is said where it gives nothing.
//!
//! A key file, the identity of the machine or of a workload (federated with another identity
//! provider), or the user's own: the file that the configuration or
//! `GOOGLE_APPLICATION_CREDENTIALS` names, else what gcloud has written, else the machine's
//! metadata server. Which of them it was is part of every sentence.

use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::http::{Extensions, HeaderMap};
use google_cloud_auth::credentials::service_account::AccessSpecifier;
use google_cloud_auth::credentials::{
    AccessTokenCredentials, CacheableResource, CredentialsProvider, external_account, impersonated,
    mds, service_account, user_account,
};
use serde_json::Value;
use tokio::runtime::Handle;

use crate::config::{GoogleConfig, Place};
use crate::sentence::{cause, line};

/// What may be done is said where permissions are given, not here
/// (<https://cloud.google.com/docs/authentication#authorization-gcp>).
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
/// How long a token may take.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(30);
/// Where gcloud writes a user's own, below the home directory.
const OF_GCLOUD: &str = ".config/gcloud/application_default_credentials.json";

/// Credentials that can't be used.
#[derive(Debug, thiserror::Error)]
#[error("{origin} can't be used as Google credentials: {why}")]
pub struct CredentialsError {
    origin: Origin,
    why: String,
}

/// What Google's services are asked with.
#[derive(Clone, Debug)]
pub struct Credentials {
    tokens: AccessTokenCredentials,
    origin: Origin,
}

/// Where credentials come from.
#[derive(Clone, Debug)]
enum Origin {
    /// A file that somebody named there.
    Named(PathBuf, Place),
    /// What gcloud has written.
    Gcloud(PathBuf),
    /// The machine's metadata server.
    Machine,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Named(path, place @ (Place::Variable(_) | Place::Option(_))) => {
                write!(f, "{}, named by {place},", path.display())
            }
            Self::Named(path, Place::Default) => {
                write!(f, "{}, named by google.credentials,", path.display())
            }
            Self::Named(path, place) => {
                write!(f, "{}, named by google.credentials at {place},", path.display())
            }
            Self::Gcloud(path) => write!(f, "{}, written by gcloud,", path.display()),
            Self::Machine => f.write_str("this machine's metadata server"),
        }
    }
}

impl Credentials {
    /// Finds them; no token is asked for yet. They keep themselves fresh on the runtime that this is
    /// called within.
    ///
    /// # Errors
    /// The file can't be read, or holds no credentials that Google knows; there is no runtime.
    pub fn find(config: &GoogleConfig) -> Result<Self, CredentialsError> {
        let origin = match &config.credentials {
            Some(path) => Origin::Named(path.clone(), config.credentials_place.clone()),
            None => gcloud().map_or(Origin::Machine, Origin::Gcloud),
        };
        let found = match &origin {
            _ if Handle::try_current().is_err() => Err("there is no Tokio runtime here".to_owned()),
            Origin::Named(path, _) | Origin::Gcloud(path) => from_file(path),
            Origin::Machine => mds::Builder::default()
                .with_scopes([SCOPE])
                .build_access_token_credentials()
                .map_err(|error| error.to_string()),
        };
        match found {
            Ok(tokens) => Ok(Self { tokens, origin }),
            Err(why) => Err(CredentialsError { origin, why: line(&why) }),
        }
    }

    /// A token to show.
    ///
    /// # Errors
    /// One sentence: why there is none, and what to do.
    pub async fn token(&self) -> Result<String, String> {
        self.timely(self.tokens.access_token()).await.map(|token| token.token)
    }

    /// What a call has to show: a token, and for a user's own the project whose quota it uses.
    ///
    /// # Errors
    /// As [`token`](Self::token).
    pub async fn headers(&self) -> Result<HeaderMap, String> {
        match self.timely(self.tokens.headers(Extensions::new())).await? {
            CacheableResource::New { data, .. } => Ok(data),
            CacheableResource::NotModified => Err(self.lacking("nothing has changed")),
        }
    }

    async fn timely<T>(
        &self,
        asked: impl Future<Output = Result<T, google_cloud_auth::errors::CredentialsError>>,
    ) -> Result<T, String> {
        match tokio::time::timeout(TOKEN_TIMEOUT, asked).await {
            Ok(Ok(given)) => Ok(given),
            Ok(Err(error)) => Err(self.lacking(&cause(&error))),
            Err(_) => Err(self.lacking("no answer in time")),
        }
    }

    /// For a client that asks for tokens itself.
    #[must_use]
    pub fn tokens(&self) -> AccessTokenCredentials {
        self.tokens.clone()
    }

    /// What to say where there is no token.
    #[must_use]
    pub fn lacking(&self, why: &str) -> String {
        let why = line(why);
        match &self.origin {
            Origin::Machine => format!(
                "no Google credentials were found: name a key file by google.credentials or \
                 GOOGLE_APPLICATION_CREDENTIALS, run `gcloud auth application-default login`, or \
                 give this machine a service account ({}: {why})",
                self.origin
            ),
            file => format!("{file} gives no access token: {why}"),
        }
    }
}

/// What gcloud has written, if it has.
fn gcloud() -> Option<PathBuf> {
    let path = Path::new(&std::env::var_os("HOME")?).join(OF_GCLOUD);
    path.exists().then_some(path)
}

fn from_file(path: &Path) -> Result<AccessTokenCredentials, String> {
    let text = std::fs::read(path).map_err(|error| error.to_string())?;
    let key: Value =
        serde_json::from_slice(&text).map_err(|error| format!("it is not JSON: {error}"))?;
    let kind = key.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
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
        "impersonated_service_account" => {
            impersonated::Builder::new(key).with_scopes([SCOPE]).build_access_token_credentials()
        }
        _ => {
            return Err(format!(
                "its type is {kind:?}, and not service_account, external_account, \
                 impersonated_service_account or authorized_user"
            ));
        }
    };
    built.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(path: PathBuf) -> GoogleConfig {
        let credentials_place = Place::Variable("GOOGLE_APPLICATION_CREDENTIALS".to_owned());
        GoogleConfig { project: None, credentials: Some(path), credentials_place }
    }

    fn refused(text: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key.json");
        std::fs::write(&path, text).unwrap();
        let error = Credentials::find(&named(path)).unwrap_err().to_string();
        error.replace(&dir.path().display().to_string(), "DIR")
    }

    #[test]
    fn outside_of_a_runtime_there_is_an_error_and_no_panic() {
        let error = Credentials::find(&named("key.json".into())).unwrap_err().to_string();
        assert!(error.ends_with("there is no Tokio runtime here"), "{error}");
    }

    #[tokio::test]
    async fn a_file_that_holds_no_credentials_is_named_with_who_named_it_and_what_is_wrong() {
        let begins = "named by GOOGLE_APPLICATION_CREDENTIALS, can't be used as Google credentials";
        assert_eq!(
            refused(r#"{"type": "gdch_service_account"}"#),
            format!(
                "DIR/key.json, {begins}: its type is \"gdch_service_account\", and not \
                 service_account, external_account, impersonated_service_account or \
                 authorized_user"
            )
        );
        assert_eq!(
            refused("{"),
            format!(
                "DIR/key.json, {begins}: it is not JSON: EOF while parsing an object at line 1 \
                 column 1"
            )
        );
        let key = refused(r#"{"type": "service_account", "client_email": "a@b"}"#);
        assert!(key.starts_with(&format!("DIR/key.json, {begins}: ")), "{key}");
        let missing = Credentials::find(&named("/nowhere/key.json".into())).unwrap_err();
        assert_eq!(
            missing.to_string(),
            format!("/nowhere/key.json, {begins}: No such file or directory (os error 2)")
        );
    }

    #[tokio::test]
    async fn a_file_that_the_configuration_names_is_told_with_its_line() {
        let place = Place::File { path: "e.toml".into(), line: 3, column: 15 };
        let mut config = named("/nowhere/key.json".into());
        config.credentials_place = place;
        let error = Credentials::find(&config).unwrap_err().to_string();
        let said = "/nowhere/key.json, named by google.credentials at e.toml:3:15, can't be used";
        assert!(error.starts_with(said), "{error}");
    }
}
