//! The HTTP edge: a request's events are in the log, synced, before it is answered.
//!
//! In: HTTP/1.1 requests, hostile until proven otherwise. Out: one append per stream and request,
//! dead letters for the items that can't be events, and the answer. It fails by refusing: 4xx for
//! the client's fault, 503 with `Retry-After` for ours; never by dropping what it acknowledged.
//! It does not validate (any JSON is accepted), it does not know a user from another, and it logs
//! nothing about a request.
//!
//! | route | takes | answers |
//! | --- | --- | --- |
//! | `POST /collect`, `/collect/{stream}` | any JSON value; an array is several events | 202 `{"status":"accepted"}` |
//! | `POST /v1/identify` `/track` `/page` `/screen` `/group` `/alias`, or `/v1/i` … | an event; the path supplies a missing `type` | 200 `{"success":true}` |
//! | `POST /v1/batch` `/v1/b` `/v1/import` `/beacon/v1/batch` | `{"batch":[…],…}` | 200 `{"success":true}` |
//! | `POST /v1/m` | anything, unread | 200 `{"success":true}` |
//! | `GET /v1/projects/{writeKey}/settings` | | 200, settings for analytics.js |
//! | `GET /health` | | 200 `{"status":"ok"}` |
//! | `GET /ready` | | 200 or 503 [`Readiness`] |
//!
//! On every route that takes events a body of type `application/x-ndjson` is an event per line;
//! no other type is believed. An array where one event is expected is several events. A slash at
//! a path's end is tolerated. Errors are `{"code":…,"message":…}`, see [`Refusal`].
//!
//! The way of a body: `body` reads it within its limits → `encoding` inflates it → `split`
//! finds its items, without recursion → `item` checks and looks at each, once → `merge` gives
//! it what its batch says of all → `sort` encodes the records → `intake` appends and waits.

mod auth;
mod bell;
mod body;
mod cors;
mod encoding;
mod fault;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod intake;
mod item;
mod lane;
mod merge;
mod respond;
mod routes;
mod scan;
mod serve;
mod sort;
mod split;
mod stall;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use axum::body::HttpBody;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use bytes::Bytes;
use serde::Serialize;
use tokio::sync::Semaphore;

pub use auth::KeyId;
pub use body::IN_FLIGHT_BYTES_MAX;
pub use fault::Fault;
pub use respond::Refusal;
pub use serve::serve;
pub use split::ITEMS_MAX;

use crate::config::{IngestConfig, Role};
use crate::errors::ErrorStore;
use crate::space::Space;
use crate::stats::EdgeStats;
use crate::streams::Streams;
use crate::time::Clock;
use body::Budget;
use respond::{Answer, json};
use routes::Route;

/// Whether the service can take events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    /// A line for each thing it depends on; it is ready if all that it needs are.
    pub dependencies: Vec<Dependency>,
}

/// One thing the service depends on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Dependency {
    /// `log`, `store`, `disk`, …
    pub name: String,
    /// Whether it is all right.
    pub ok: bool,
    /// Whether no events should come while it is not.
    #[serde(skip)]
    pub is_needed: bool,
    /// One sentence.
    pub detail: String,
}

impl Readiness {
    /// Whether every dependency is all right that is needed.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.dependencies.iter().all(|dependency| dependency.ok || !dependency.is_needed)
    }
}

/// What the routes share.
pub struct Edge {
    streams: Streams,
    errors: ErrorStore,
    space: Space,
    limits: IngestConfig,
    stats: Arc<EdgeStats>,
    readiness: Box<dyn Fn() -> Readiness + Send + Sync>,
    clock: Clock,
    draining: AtomicBool,
    collects: bool,
    budget: Arc<Budget>,
    /// Turns for work on large bodies, which is the processor's.
    large: Semaphore,
}

impl Edge {
    /// An edge that accepts into these streams. `readiness` is asked at each `GET /ready`; it
    /// must not block.
    #[must_use]
    pub fn new(
        streams: Streams,
        errors: ErrorStore,
        space: Space,
        limits: IngestConfig,
        stats: Arc<EdgeStats>,
        readiness: impl Fn() -> Readiness + Send + Sync + 'static,
    ) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            streams,
            errors,
            space,
            limits,
            stats,
            readiness: Box::new(readiness),
            clock: Clock::default(),
            draining: AtomicBool::new(false),
            collects: true,
            budget: Budget::new(IN_FLIGHT_BYTES_MAX),
            large: Semaphore::new(cores),
        }
    }

    /// The same with another clock.
    #[must_use]
    pub fn with_clock(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }

    /// The same in an instance of that role: one that only processes takes no events.
    #[must_use]
    pub fn with_role(self, role: Role) -> Self {
        Self { collects: role != Role::Process, ..self }
    }

    /// From now on new events are refused with 503 and `Connection: close`, and the service is
    /// not ready. Requests that are being worked on are answered.
    pub fn drain(&self) {
        self.draining.store(true, Relaxed);
    }

    /// Whether [`Edge::drain`] was called.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.load(Relaxed)
    }
}

/// One function answers everything, so that nothing is answered and not counted.
async fn answer<B>(edge: &Arc<Edge>, source: Option<IpAddr>, request: Request<B>) -> Answer
where
    B: HttpBody<Data = Bytes> + Unpin,
{
    // The head stays where it is: what is handed on by value is copied, at each step.
    let (head, body) = request.into_parts();
    let mut unread = Some(body);
    let mut response = match dispatch(edge, source, &head, &mut unread).await {
        Ok(response) => response,
        Err(refusal) => refusal.response(),
    };
    if unread.is_some_and(|body| !body.is_end_stream()) {
        // The connection ends with it: what is on its way is not waited for.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    if cors::asks(&head) {
        cors::permit(response.headers_mut());
    }
    edge.stats.requests.add(1);
    let status = response.status();
    if status.is_client_error() {
        edge.stats.client_errors.add(1);
    } else if status == StatusCode::SERVICE_UNAVAILABLE && head.uri.path() != "/ready" {
        // That asks for no event to be taken.
        edge.stats.refused.add(1);
    }
    response
}

async fn dispatch<B>(
    edge: &Arc<Edge>,
    source: Option<IpAddr>,
    head: &Parts,
    body: &mut Option<B>,
) -> Result<Answer, Refusal>
where
    B: HttpBody<Data = Bytes> + Unpin,
{
    if head.method == Method::OPTIONS {
        return Ok(cors::preflight());
    }
    let route = Route::of(head.uri.path())?.ok_or(Refusal::NotFound)?;
    let (method, takes) = (&head.method, route.method());
    if *method != takes && !(takes == Method::GET && *method == Method::HEAD) {
        return Err(Refusal::WrongMethod(takes));
    }
    Ok(match route {
        Route::Intake(_) if !edge.collects => return Err(Refusal::NotCollecting),
        Route::Intake(intake) => {
            let collect = matches!(intake, routes::Intake::Collect(_));
            intake::take(edge, intake, source, head, body).await?;
            if collect {
                json(StatusCode::ACCEPTED, r#"{"status":"accepted"}"#)
            } else {
                json(StatusCode::OK, r#"{"success":true}"#)
            }
        }
        Route::SdkMetrics => json(StatusCode::OK, r#"{"success":true}"#),
        Route::Settings { write_key } => settings(write_key, &head.headers),
        Route::Health => json(StatusCode::OK, r#"{"status":"ok"}"#),
        Route::Ready => ready(edge),
    })
}

fn ready(edge: &Edge) -> Answer {
    let mut readiness = (edge.readiness)();
    if edge.is_draining() {
        let (name, detail) = ("intake".to_owned(), "the service is stopping".to_owned());
        readiness.dependencies.push(Dependency { name, ok: false, is_needed: true, detail });
    }
    let (status, word) = if readiness.is_ready() {
        (StatusCode::OK, "ready")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not_ready")
    };
    let body = serde_json::json!({"status": word, "dependencies": readiness.dependencies});
    json(status, body.to_string())
}

/// analytics.js sends events only if the settings name "Segment.io", and to its `apiHost`: here.
fn settings(write_key: &str, headers: &HeaderMap) -> Answer {
    let mut segment = serde_json::json!({"apiKey": write_key});
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    if let Some(host) = host {
        segment["apiHost"] = format!("{host}/v1").into();
    }
    let body = serde_json::json!({"integrations": {"Segment.io": segment}, "plan": {}});
    json(StatusCode::OK, body.to_string())
}

#[cfg(test)]
mod tests;
