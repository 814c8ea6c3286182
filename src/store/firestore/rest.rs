//! Firestore's REST API: one request, and what its answer means.
//!
//! An answer that is not the wished one becomes one sentence that names project and database and
//! says what to do; what the data is at fault for is told from what the surroundings are.
//!
//! Why not the crate `firestore` (0.61), which speaks gRPC: it writes batches, tells of each
//! document and serves an emulator, but its errors are text. Of an answer to a whole request it
//! keeps the code and the message and drops the details, and only those tell an API that is
//! switched off from a missing permission, or say when to come again. Its writer tries again by
//! itself. Past that writer, what it offers is the generated client, at the cost of 22 crates
//! (`backoff` and `instant` are without a maintainer) and of roots of its own beside the system's.
//! JSON is 1.6 times the bytes: an event of 300 bytes is a write of 993, and of 639 in protobuf.

use std::time::Duration;

use google_cloud_auth::credentials::AccessTokenCredentials;
use reqwest::{Client, StatusCode};
use serde::Deserialize;

use crate::config::{GoogleConfig, StoreConfig};
use crate::google;
use crate::store::StoreError;
use crate::store::answer::cause;

/// Where Firestore is.
const ENDPOINT: &str = "https://firestore.googleapis.com";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A request is given so long in all; Firestore gives a write one minute.
const TIMEOUT: Duration = Duration::from_secs(60);
/// No wish for later is granted longer.
const AFTER_MAX: Duration = Duration::from_secs(60);
/// What is shown of an answer.
const MESSAGE_CHARS_MAX: usize = 300;

/// A Firestore that can't be used as it is configured.
#[derive(Debug, thiserror::Error)]
#[error("firestore: {0}")]
pub struct FirestoreError(String);

/// One database.
pub(super) struct Rest {
    http: Client,
    endpoint: String,
    bearer: Bearer,
    project: String,
    database: String,
    /// `projects/P/databases/D/documents`.
    pub root: String,
}

enum Bearer {
    /// Of an emulator.
    Owner,
    Lent(AccessTokenCredentials),
}

/// The codes that Google's services share
/// (<https://github.com/googleapis/googleapis/blob/master/google/rpc/code.proto>).
pub(super) mod code {
    pub const OK: i32 = 0;
    pub const INVALID_ARGUMENT: i32 = 3;
    pub const ALREADY_EXISTS: i32 = 6;
    pub const OUT_OF_RANGE: i32 = 11;
    const NAMES: [&str; 17] = [
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];

    /// As Google's documentation has it.
    pub fn name(code: i32) -> &'static str {
        let at = usize::try_from(code).ok();
        at.and_then(|at| NAMES.get(at)).copied().unwrap_or("UNKNOWN")
    }
}

#[derive(Deserialize)]
struct Refusal {
    error: Answered,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Answered {
    message: String,
    status: String,
    details: Vec<Detail>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Detail {
    reason: String,
    /// As `3.5s`.
    retry_delay: String,
}

impl Rest {
    /// The configured database; nothing is asked yet.
    pub fn open(config: &StoreConfig, google: &GoogleConfig) -> Result<Self, FirestoreError> {
        let endpoint = config.endpoint.clone().unwrap_or_else(|| ENDPOINT.to_owned());
        let is_emulator = google::is_emulator(&endpoint);
        let bearer = match is_emulator {
            true => Bearer::Owner,
            false => Bearer::Lent(
                google::credentials(google).map_err(|error| FirestoreError(error.to_string()))?,
            ),
        };
        let builder = Client::builder().connect_timeout(CONNECT_TIMEOUT).timeout(TIMEOUT);
        // An emulator is on this machine or beside it.
        let builder = if is_emulator { builder.no_proxy() } else { builder };
        let http = builder.build().map_err(|error| FirestoreError(cause(&error)))?;
        let Some(project) = google.project.clone() else {
            return Err(FirestoreError("google.project is not set".to_owned()));
        };
        let database = config.database.clone();
        let root = format!("projects/{project}/databases/{database}/documents");
        Ok(Self { http, endpoint, bearer, project, database, root })
    }

    /// Asks a method of the database's documents; returns the answer's body.
    pub async fn ask(&self, method: &str, body: Vec<u8>) -> Result<Vec<u8>, StoreError> {
        let url = format!("{}/v1/{}:{method}", self.endpoint, self.root);
        let request = self
            .http
            .post(url)
            .bearer_auth(self.token().await?)
            .header("content-type", "application/json")
            .body(body);
        let response = request.send().await.map_err(|error| self.unheard(&error))?;
        let status = response.status();
        let after = response.headers().get("retry-after").and_then(|value| value.to_str().ok());
        let after = after.and_then(seconds);
        let body = response.bytes().await.map_err(|error| self.unheard(&error))?;
        match status {
            StatusCode::OK => Ok(body.into()),
            _ => Err(self.refused(status, after, &body)),
        }
    }

    async fn token(&self) -> Result<String, StoreError> {
        match &self.bearer {
            Bearer::Owner => Ok(google::OWNER.to_owned()),
            Bearer::Lent(credentials) => {
                let token = credentials.access_token().await;
                let token = token.map_err(|error| {
                    let (project, why) = (&self.project, cause(&error));
                    unavailable(format!(
                        "no access token for Firestore of project {project}, see \
                         google.credentials: {why}"
                    ))
                })?;
                Ok(token.token)
            }
        }
    }

    /// No answer, or not the whole of it: what was asked for may have been done.
    fn unheard(&self, error: &reqwest::Error) -> StoreError {
        let what = match (error.is_connect(), error.is_timeout()) {
            (true, _) => "can't be reached",
            (_, true) => "did not answer in time",
            _ => "broke off",
        };
        unavailable(format!("firestore {what} at {}: {}", self.endpoint, cause(error)))
    }

    fn refused(&self, status: StatusCode, after: Option<Duration>, body: &[u8]) -> StoreError {
        // A list of one comes from methods that stream; it could be read as a refusal too.
        let refusal = match serde_json::from_slice::<Vec<Refusal>>(body) {
            Ok(mut refusals) => refusals.pop(),
            Err(_) => serde_json::from_slice(body).ok(),
        };
        let answered = refusal.map(|refusal: Refusal| refusal.error).unwrap_or_default();
        let after = after.or_else(|| answered.details.iter().find_map(|d| seconds(&d.retry_delay)));
        let is_datas_fault =
            matches!(answered.status.as_str(), "INVALID_ARGUMENT" | "OUT_OF_RANGE")
                || status == StatusCode::PAYLOAD_TOO_LARGE;
        if is_datas_fault {
            return StoreError::Refused(match answered.message.as_str() {
                "" => format!("firestore answered {status}"),
                message => short(message),
            });
        }
        let message = self.sentence(status, &answered);
        StoreError::Unavailable { message, after: after.map(|after| after.min(AFTER_MAX)) }
    }

    /// What an answer means, and what can be done about it.
    fn sentence(&self, status: StatusCode, answered: &Answered) -> String {
        let Self { project, database, .. } = self;
        let has = |reason: &str| answered.details.iter().any(|detail| detail.reason == reason);
        let message = short(&answered.message);
        match answered.status.as_str() {
            "PERMISSION_DENIED" if has("SERVICE_DISABLED") => format!(
                "the Cloud Firestore API is not enabled in project {project}: `gcloud services \
                 enable firestore.googleapis.com --project {project}`"
            ),
            "PERMISSION_DENIED" if has("CONSUMER_INVALID") || has("USER_PROJECT_DENIED") => {
                format!(
                    "there is no project {project}, or the credentials may not use it: see \
                 google.project ({message})"
                )
            }
            "PERMISSION_DENIED" => format!(
                "the credentials may not write to Firestore's database {database} of project \
                 {project}; the role roles/datastore.user lets them ({message})"
            ),
            "UNAUTHENTICATED" => {
                format!("the credentials are not accepted by Firestore ({message})")
            }
            "NOT_FOUND" => format!(
                "project {project} has no Firestore database {database}: see google.project and \
                 store.database, or `gcloud firestore databases create --project {project} \
                 --database '{database}'` ({message})"
            ),
            "FAILED_PRECONDITION" => format!(
                "database {database} of project {project} does not work as Firestore in native \
                 mode ({message})"
            ),
            "RESOURCE_EXHAUSTED" => {
                format!("a quota of project {project} is used up at Firestore ({message})")
            }
            "" => format!("firestore at {} answered {status}", self.endpoint),
            code => format!("firestore answered {code} ({message})"),
        }
    }
}

/// The environment's fault, without a wish for when to come again.
pub(super) fn unavailable(message: String) -> StoreError {
    StoreError::Unavailable { message, after: None }
}

/// The beginning of a message, on one line.
pub(super) fn short(message: &str) -> String {
    let line = message.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(MESSAGE_CHARS_MAX).collect()
}

/// A number of seconds, as `3`, `3s` or `3.5s`.
fn seconds(text: &str) -> Option<Duration> {
    let seconds = text.strip_suffix('s').unwrap_or(text).parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Retry;

    fn rest() -> Rest {
        let mut config = StoreConfig::in_directory("lake".into());
        config.endpoint = Some("http://127.0.0.1:1".to_owned());
        let google = GoogleConfig { project: Some("shop".to_owned()), ..GoogleConfig::default() };
        Rest::open(&config, &google).unwrap()
    }

    fn meaning(status: u16, body: &str) -> (String, Retry) {
        let error = rest().refused(StatusCode::from_u16(status).unwrap(), None, body.as_bytes());
        (error.to_string(), error.retry())
    }

    #[test]
    fn an_answer_becomes_one_sentence_that_says_what_to_do() {
        let later = Retry::After(None);
        for (status, body, sentence) in [
            (
                403,
                r#"{"error":{"code":403,"message":"Cloud Firestore API has not been used in project 1 before or it is disabled. Enable it by visiting https://...","status":"PERMISSION_DENIED","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"SERVICE_DISABLED","domain":"googleapis.com"}]}}"#,
                "the Cloud Firestore API is not enabled in project shop: `gcloud services enable \
                 firestore.googleapis.com --project shop`",
            ),
            (
                403,
                r#"{"error":{"code":403,"message":"Permission denied on resource project shop.","status":"PERMISSION_DENIED","details":[{"reason":"CONSUMER_INVALID"}]}}"#,
                "there is no project shop, or the credentials may not use it: see google.project \
                 (Permission denied on resource project shop.)",
            ),
            (
                403,
                r#"{"error":{"code":403,"message":"Missing or insufficient permissions.","status":"PERMISSION_DENIED"}}"#,
                "the credentials may not write to Firestore's database (default) of project shop; \
                 the role roles/datastore.user lets them (Missing or insufficient permissions.)",
            ),
            (
                404,
                r#"[{"error":{"code":404,"message":"The database (default) does not exist","status":"NOT_FOUND"}}]"#,
                "project shop has no Firestore database (default): see google.project and \
                 store.database, or `gcloud firestore databases create --project shop --database \
                 '(default)'` (The database (default) does not exist)",
            ),
            (
                502,
                "<html>\n bad gateway",
                "firestore at http://127.0.0.1:1 answered 502 Bad Gateway",
            ),
            (
                409,
                r#"{"error":{"status":"ABORTED","message":"Too much contention\n on these documents."}}"#,
                "firestore answered ABORTED (Too much contention on these documents.)",
            ),
        ] {
            assert_eq!(meaning(status, body), (sentence.to_owned(), later), "{body}");
        }
    }

    #[test]
    fn the_service_says_when_to_come_again() {
        let body = r#"{"error":{"status":"RESOURCE_EXHAUSTED","message":"Quota exceeded.","details":[{"@type":"x","violations":[]},{"retryDelay":"2.5s"}]}}"#;
        let wish = Retry::After(Some(Duration::from_millis(2_500)));
        let sentence = "a quota of project shop is used up at Firestore (Quota exceeded.)";
        assert_eq!(meaning(429, body), (sentence.to_owned(), wish));
        let long = rest().refused(StatusCode::SERVICE_UNAVAILABLE, seconds("86400"), b"");
        assert_eq!(long.retry(), Retry::After(Some(AFTER_MAX)));
        assert_eq!(["", "x", "-1", "1e400"].map(seconds), [None; 4]);
    }

    #[test]
    fn what_the_data_is_at_fault_for_is_not_tried_again() {
        let body = r#"{"error":{"status":"INVALID_ARGUMENT","message":"field name '__a__' is reserved."}}"#;
        assert_eq!(
            meaning(400, body),
            ("refused: field name '__a__' is reserved.".to_owned(), Retry::Never)
        );
        assert_eq!(
            meaning(413, ""),
            ("refused: firestore answered 413 Payload Too Large".to_owned(), Retry::Never)
        );
        let body = r#"{"error":{"status":"FAILED_PRECONDITION","message":"The Cloud Firestore API is not available for Firestore in Datastore Mode database."}}"#;
        let (sentence, retry) = meaning(400, body);
        assert_eq!(retry, Retry::After(None));
        assert!(sentence.starts_with("database (default) of project shop does not work as"));
    }
}
