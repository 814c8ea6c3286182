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

use reqwest::{Method, StatusCode};
use serde::Deserialize;

use crate::config::{GoogleConfig, StoreConfig};
use crate::google::api;
use crate::google::rest::{Answer, Rest as Service, RestError, seconds};
use crate::sentence::line;
use crate::store::StoreError;

/// Where Firestore is.
const ENDPOINT: &str = "https://firestore.googleapis.com";
/// A request is given so long in all; Firestore gives a write one minute.
const TIMEOUT: Duration = Duration::from_secs(60);
/// No wish for later is granted longer.
const AFTER_MAX: Duration = Duration::from_secs(60);

/// A Firestore that can't be used as it is configured.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct FirestoreError(String);

/// One database.
pub(super) struct Rest {
    service: Service,
    endpoint: String,
    project: String,
    database: String,
    /// `projects/P/databases/D/documents`.
    pub root: String,
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
        let service = Service::new(endpoint.clone(), google, TIMEOUT).map_err(FirestoreError)?;
        let Some(project) = google.project.clone() else {
            return Err(FirestoreError("firestore needs google.project".to_owned()));
        };
        let database = config.database.clone();
        let root = format!("projects/{project}/databases/{database}/documents");
        Ok(Self { service, endpoint, project, database, root })
    }

    /// Asks a method of the database's documents; returns the answer's body.
    pub async fn ask(&self, method: &str, body: Vec<u8>) -> Result<Vec<u8>, StoreError> {
        let path = format!("/v1/{}:{method}", self.root);
        let asked = self.service.ask(Method::POST, &path, &[], Some(body)).await;
        let Answer { status, after, body } = asked.map_err(|error| self.unheard(error))?;
        match StatusCode::from_u16(status) {
            Ok(StatusCode::OK) => Ok(body),
            status => Err(self.refused(status.unwrap_or_default(), after, &body)),
        }
    }

    /// No answer, or not the whole of it: what was asked for may have been done.
    fn unheard(&self, error: RestError) -> StoreError {
        let endpoint = &self.endpoint;
        unavailable(match error {
            RestError::NoToken(sentence) => sentence,
            RestError::NotSent(why) => format!("firestore can't be reached at {endpoint}: {why}"),
            other => format!("no answer from firestore at {endpoint}: {other}"),
        })
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
                message => line(message),
            });
        }
        let message = self.sentence(status, &answered);
        StoreError::Unavailable { message, after: after.map(|after| after.min(AFTER_MAX)) }
    }

    /// What an answer means, and what can be done about it.
    fn sentence(&self, status: StatusCode, answered: &Answered) -> String {
        let Self { project, database, .. } = self;
        let has = |reason: &str| answered.details.iter().any(|detail| detail.reason == reason);
        let message = line(&answered.message);
        let mut reasons = answered.details.iter().map(|detail| detail.reason.as_str());
        let reason = reasons.find(|reason| !reason.is_empty()).unwrap_or_default();
        match answered.status.as_str() {
            "PERMISSION_DENIED"
                if let Some(off) =
                    api::FIRESTORE.not_enabled(Some(project), reason, &answered.message) =>
            {
                off
            }
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
                 firestore.googleapis.com --project shop` (the answer names the project 1)",
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
