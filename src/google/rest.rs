//! Google's REST services: one call, one answer or one [`RestError`].
//!
//! Nothing is tried again here: who calls knows whether a call may be repeated. What matters for
//! that is told apart: not sent, sent without an answer, answered with an error.

use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Client, Method, Response};
use serde_json::Value;

use super::{Credentials, OWNER, is_emulator};
use crate::config::GoogleConfig;
use crate::sentence::{cause, line};

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// An answer above this is not read.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// A service at an address.
pub struct Rest {
    http: Client,
    base: String,
    /// None for an emulator.
    credentials: Option<Credentials>,
}

/// Why a call has no answer to show.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestError {
    /// There is nothing to show to the service: a whole sentence, which says what to do.
    #[error("{0}")]
    NoToken(String),
    /// It did not reach the service.
    #[error("{0}")]
    NotSent(String),
    /// It may have reached the service, and may have been done.
    #[error("{0}")]
    Unanswered(String),
    /// The service refused it.
    #[error("{}", .0.message)]
    Refused(Refusal),
}

/// A service's refusal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// The first error's reason, such as `rateLimitExceeded`; the status alone says too little.
    pub reason: String,
    /// The service's own sentence, cut.
    pub message: String,
    /// How long the service wishes to be left alone.
    pub after: Option<Duration>,
}

/// What a service answered, whatever it is.
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// How long the service wishes to be left alone.
    pub after: Option<Duration>,
    /// What it said.
    pub body: Vec<u8>,
}

impl Rest {
    /// A service at that address, asked with those credentials unless it is an emulator; a call may
    /// take `timeout` in all.
    ///
    /// # Errors
    /// One sentence: the credentials or the certificates of this machine can't be used.
    pub fn new(base: String, google: &GoogleConfig, timeout: Duration) -> Result<Self, String> {
        let builder = Client::builder().connect_timeout(CONNECT_TIMEOUT).timeout(timeout);
        let (builder, credentials) = match is_emulator(&base) {
            // An emulator is on this machine or beside it.
            true => (builder.no_proxy(), None),
            false => (builder, Some(Credentials::find(google).map_err(|error| error.to_string())?)),
        };
        let http = builder.build().map_err(|error| cause(&error))?;
        Ok(Self { http, base, credentials })
    }

    /// Calls a method of the service that takes and gives JSON; `path` begins with `/`.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, String)],
        body: Option<&Value>,
    ) -> Result<Value, RestError> {
        let body = body.map(|body| body.to_string().into_bytes());
        let Answer { status, after, body } = self.ask(method, path, query, body).await?;
        let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
        match (200..300).contains(&status) {
            true if answer.is_null() && !body.is_empty() => {
                Err(RestError::Unanswered("its answer is not JSON".to_owned()))
            }
            true => Ok(answer),
            false => Err(RestError::Refused(refusal(status, &answer, &body, after))),
        }
    }

    /// Asks the service; what it answers is the caller's to read.
    ///
    /// # Errors
    /// [`RestError`], and never that it refused.
    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, String)],
        body: Option<Vec<u8>>,
    ) -> Result<Answer, RestError> {
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        request = match &self.credentials {
            Some(shown) => request.headers(shown.headers().await.map_err(RestError::NoToken)?),
            None => request.bearer_auth(OWNER),
        };
        request = request.query(query);
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, "application/json").body(body);
        }
        let answer = request.send().await.map_err(|error| match error.is_connect() {
            true => RestError::NotSent(cause(&error)),
            false => RestError::Unanswered(cause(&error)),
        })?;
        let status = answer.status().as_u16();
        let after = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let after = after.and_then(seconds);
        Ok(Answer { status, after, body: bytes(answer).await? })
    }
}

/// The answer's bytes, which are bounded.
async fn bytes(mut answer: Response) -> Result<Vec<u8>, RestError> {
    let mut bytes = Vec::new();
    while let Some(chunk) =
        answer.chunk().await.map_err(|error| RestError::Unanswered(cause(&error)))?
    {
        if bytes.len() + chunk.len() > ANSWER_BYTES_MAX {
            let why = format!("its answer is larger than {} MiB", ANSWER_BYTES_MAX >> 20);
            return Err(RestError::Unanswered(why));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

fn refusal(status: u16, answer: &Value, body: &[u8], after: Option<Duration>) -> Refusal {
    let error = &answer["error"];
    let reason = error["errors"][0]["reason"].as_str().or(error["status"].as_str());
    let text = String::from_utf8_lossy(body);
    let message = error["message"].as_str().unwrap_or(if answer.is_null() { &text } else { "" });
    let message = match line(message) {
        message if message.is_empty() => format!("it answered with status {status}"),
        message => message,
    };
    Refusal { status, reason: reason.unwrap_or_default().to_owned(), message, after }
}

/// A number of seconds, as `3`, `3s` or `3.5s`.
#[must_use]
pub fn seconds(text: &str) -> Option<Duration> {
    let seconds = text.strip_suffix('s').unwrap_or(text).parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use axum::Json;
    use axum::http::HeaderMap;
    use axum::routing::{get, post};
    use serde_json::json;

    use super::*;

    #[test]
    fn a_number_of_seconds_may_have_a_fraction_and_a_unit() {
        let read = ["3", "3s", "3.5s"].map(|text| seconds(text).unwrap().as_millis());
        assert_eq!(read, [3_000, 3_000, 3_500]);
        assert_eq!(["", "x", "-1", "1e400"].map(seconds), [None; 4]);
    }

    #[test]
    fn a_refusal_has_its_first_reason_and_one_line() {
        let answer = serde_json::json!({"error": {"code": 403, "message": "Exceeded\n rate limits",
            "errors": [{"reason": "rateLimitExceeded"}], "status": "PERMISSION_DENIED"}});
        let refused = refusal(403, &answer, b"", Some(Duration::from_secs(7)));
        assert_eq!((refused.reason.as_str(), refused.status), ("rateLimitExceeded", 403));
        assert_eq!(refused.message, "Exceeded rate limits");
        let bare = refusal(502, &Value::Null, b"<html>bad gateway</html>", None);
        assert_eq!(
            refusal(429, &serde_json::json!({}), b"{}", None).message,
            "it answered with status 429"
        );
        assert_eq!((bare.reason.as_str(), bare.message.as_str()), ("", "<html>bad gateway</html>"));
    }

    #[tokio::test]
    async fn a_users_own_credentials_name_the_project_whose_quota_a_call_uses() {
        let told = |headers: HeaderMap| {
            let of = |name: &str| {
                headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
            };
            Json(json!([of("authorization"), of("x-goog-user-project")]))
        };
        let token = json!({"access_token": "secret", "token_type": "Bearer", "expires_in": 3600});
        let service = axum::Router::new()
            .route("/token", post(|| async { Json(token) }))
            .route("/told", get(move |headers| async move { told(headers) }));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, service).await });
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("adc.json");
        let own = json!({"type": "authorized_user", "client_id": "i", "client_secret": "s",
            "refresh_token": "r", "quota_project_id": "billed", "token_uri": format!("{base}/token")});
        std::fs::write(&path, own.to_string()).unwrap();
        let google = GoogleConfig { credentials: Some(path), ..GoogleConfig::default() };
        let credentials = Some(Credentials::find(&google).unwrap());
        let rest = Rest { credentials, ..Rest::new(base, &google, CONNECT_TIMEOUT).unwrap() };
        let said = rest.call(Method::GET, "/told", &[], None).await.unwrap();
        assert_eq!(said, json!(["Bearer secret", "billed"]));
    }

    #[tokio::test]
    async fn a_service_that_does_not_listen_was_not_asked() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let rest =
            Rest::new(format!("http://{free}"), &GoogleConfig::default(), CONNECT_TIMEOUT).unwrap();
        let error = rest.ask(Method::GET, "/x", &[], None).await.err().unwrap();
        assert!(matches!(&error, RestError::NotSent(why) if why.contains("refused")), "{error:?}");
    }
}
