//! What a client is told. An error is `{"code":…,"message":…}` (SDKs read both), never with a
//! part of the payload; a refusal that passes says with `Retry-After` when to come again.

use std::borrow::Cow;

use axum::http::{HeaderValue, Method, Response, StatusCode, header};
use bytes::Bytes;
use http_body_util::Full;
use serde::Serialize;

use super::fault::Fault;
use crate::event::{BadStreamName, StreamName};
use crate::streams::StreamsError;
use crate::wal::AppendError;

/// Why a request was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The body is not the JSON that the route takes.
    #[error("{0}")]
    InvalidJson(#[from] Fault),
    /// The body is not what its `Content-Encoding` says.
    #[error("the body is not valid {encoding}: {why}")]
    InvalidEncoding {
        /// The encoding that was named.
        encoding: &'static str,
        /// What is wrong.
        why: Cow<'static, str>,
    },
    /// Nothing here decodes that.
    #[error("content-encoding {0:?} is not one of gzip, deflate, br, zstd")]
    UnsupportedEncoding(String),
    /// Something has more bytes than it may.
    #[error("{what} has more than {max} bytes")]
    TooLarge {
        /// What.
        what: &'static str,
        /// The limit.
        max: usize,
    },
    /// The body has more events than a request may.
    #[error("the body has more than {0} events")]
    TooMany(usize),
    /// The stream's name is none.
    #[error(transparent)]
    BadStreamName(#[from] BadStreamName),
    /// There is no such stream, and it can't be made.
    #[error("{0}")]
    UnknownStream(StreamsError),
    /// The service has more to do than it can hold; nothing of the request is acknowledged.
    #[error("{0}; come again")]
    Overloaded(Cow<'static, str>),
    /// The disk has too little room; nothing of the request is acknowledged.
    #[error("the disk has too little room; come again")]
    DiskFull,
    /// The service is stopping.
    #[error("the service is stopping; come again")]
    Stopping,
    /// What was sent can't be made durable at present.
    #[error("{0}; come again")]
    LogUnavailable(Cow<'static, str>),
    /// The body ended before its end.
    #[error("the body ended early or is broken on the wire")]
    BrokenBody,
    /// The body came too slowly.
    #[error("the body came too slowly")]
    TooSlow,
    /// Another instance takes events.
    #[error("this instance processes events and takes none")]
    NotCollecting,
    /// There is no such route.
    #[error("there is no such route")]
    NotFound,
    /// The route takes another method.
    #[error("the route takes {0}")]
    WrongMethod(Method),
}

/// Seconds until a full queue may have room again.
const RETRY_OVERLOADED: &str = "1";
/// Seconds until a log or a restarted service may be there again.
const RETRY_UNAVAILABLE: &str = "5";
/// Seconds until a full disk may have room again: somebody or something has to make it.
const RETRY_DISK_FULL: &str = "30";

/// What a client is told.
pub(super) type Answer = Response<Full<Bytes>>;

#[derive(Serialize)]
struct Explanation<'a> {
    code: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<usize>,
}

impl Refusal {
    /// The HTTP status and the stable code.
    #[must_use]
    pub fn status(&self) -> (StatusCode, &'static str) {
        match self {
            Self::InvalidJson(_) => (StatusCode::BAD_REQUEST, "invalid_json"),
            Self::InvalidEncoding { .. } => (StatusCode::BAD_REQUEST, "invalid_encoding"),
            Self::BadStreamName(_) => (StatusCode::BAD_REQUEST, "bad_stream_name"),
            Self::BrokenBody => (StatusCode::BAD_REQUEST, "broken_body"),
            Self::UnsupportedEncoding(_) => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_encoding")
            }
            Self::TooLarge { .. } | Self::TooMany(_) => {
                (StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large")
            }
            Self::UnknownStream(_) => (StatusCode::NOT_FOUND, "unknown_stream"),
            Self::Overloaded(_) | Self::DiskFull | Self::Stopping => {
                (StatusCode::SERVICE_UNAVAILABLE, "overloaded")
            }
            Self::LogUnavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "log_unavailable"),
            Self::TooSlow => (StatusCode::REQUEST_TIMEOUT, "too_slow"),
            Self::NotCollecting => (StatusCode::NOT_FOUND, "not_collecting"),
            Self::NotFound => (StatusCode::NOT_FOUND, "not_found"),
            Self::WrongMethod(_) => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
        }
    }

    fn retry_after(&self) -> Option<&'static str> {
        match self {
            Self::Overloaded(_) => Some(RETRY_OVERLOADED),
            Self::Stopping | Self::LogUnavailable(_) => Some(RETRY_UNAVAILABLE),
            Self::DiskFull => Some(RETRY_DISK_FULL),
            _ => None,
        }
    }

    /// What that refusal of a log means for the request.
    pub(super) fn of_append(stream: &StreamName, error: &AppendError) -> Self {
        let message = Cow::Owned(format!("stream {stream}: {error}"));
        match error {
            AppendError::Full { .. } | AppendError::QueueFull => Self::Overloaded(message),
            AppendError::TooLarge { bytes_max, .. } => Self::TooLarge {
                what: "what goes into the stream's log at once",
                max: usize::try_from(*bytes_max).unwrap_or(usize::MAX),
            },
            _ => Self::LogUnavailable(message),
        }
    }

    /// What a missing stream means for the request.
    pub(super) fn of_streams(error: StreamsError) -> Self {
        match error {
            // What the system said names files; that is for the operator, not for the client.
            StreamsError::Log(error) => {
                tracing::error!(%error, "a stream's log can't be opened");
                Self::LogUnavailable("the stream's log can't be opened".into())
            }
            unknown => Self::UnknownStream(unknown),
        }
    }

    /// The answer.
    pub(super) fn response(&self) -> Answer {
        let (status, code) = self.status();
        let place = match self {
            Self::InvalidJson(fault) => Some((fault.line, fault.column)),
            _ => None,
        };
        let explanation = Explanation {
            code,
            message: &self.to_string(),
            line: place.map(|place| place.0),
            column: place.map(|place| place.1),
        };
        let mut response = json(status, serde_json::to_string(&explanation).unwrap_or_default());
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(seconds));
        }
        if matches!(self, Self::Stopping) {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if let Self::WrongMethod(method) = self {
            let allow = if *method == Method::GET { "GET, HEAD" } else { "POST" };
            headers.insert(header::ALLOW, HeaderValue::from_static(allow));
        }
        response
    }
}

/// An answer with a JSON body.
pub(super) fn json(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let content_type = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}
