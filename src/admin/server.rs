//! This end of the socket.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::extract::{DefaultBodyLimit, Path as UrlPath, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::IncomingStream;
use axum::{Json, Router};
use serde_json::json;
use tokio::net::unix::UCred;
use tokio::net::{UnixListener, UnixStream};

use super::loads::{self, Loads};
use super::{Acknowledged, Flushed, ListLetters, Replay, Replayed};
use crate::damage::{Report, Reports};
use crate::errors::{Claim, ErrorStore, ErrorStoreError, LetterFilter, Status};
use crate::event::{LetterId, ReplayOrigin};
use crate::streams::{Stream, Streams};
use crate::wal::{PAYLOAD_BYTES_MAX, Records};

/// Letters claimed and appended at a time: bounds memory, not the replay.
const CLAIM_MAX: u32 = 500;
/// A page of letters has at most as many.
const PAGE_MAX: u32 = 200;
/// Numbers that a message names at most.
const NAMED_MAX: usize = 10;
/// A request's bytes.
const REQUEST_BYTES_MAX: usize = 1 << 20;
/// How long a full log may hold up a replay before the rest is refused.
const REPLAY_PATIENCE: Duration = Duration::from_secs(5);
/// Why a letter that matches may stay as it is.
const NO_RECORD: &str = "what is not JSON, too large, not ours or damaged can't be an event of a log \
     again: have it sent again, mended";
/// A disk that is full is asked for room this often.
const BIND_AGAIN: Duration = Duration::from_secs(1);

/// Empties streams into their stores: what the pipeline lends to this door.
pub type Flush =
    Arc<dyn Fn() -> std::pin::Pin<Box<dyn Future<Output = Flushed> + Send>> + Send + Sync>;

/// What the routes look at and act on.
#[derive(Clone)]
pub struct Admin {
    /// The newest snapshot as JSON, shared by everybody who asks.
    pub snapshot: tokio::sync::watch::Receiver<Arc<[u8]>>,
    /// The error store.
    pub errors: ErrorStore,
    /// The streams that letters are replayed into.
    pub streams: Streams,
    /// What was found damaged.
    pub reports: Reports,
    /// Stores everything that is in the logs.
    pub flush: Flush,
    /// The loads, where there is a warehouse.
    pub loads: Option<Loads>,
    /// Notes what operators did.
    pub changed: Arc<dyn Fn(String) + Send + Sync>,
}

/// Who is on the other end.
#[derive(Clone, Debug)]
pub(super) struct Peer(Option<u32>);

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        let credentials: Option<UCred> = UnixStream::peer_cred(stream.io()).ok();
        Self(credentials.map(|peer| peer.uid()))
    }
}

impl Peer {
    /// Who acts, for the audit.
    pub(super) fn name(&self) -> String {
        self.0.map_or("unknown".to_owned(), |uid| format!("uid {uid}"))
    }

    /// Who may act: root and the user the service runs as. (The socket's mode keeps others from
    /// looking, until roles by group exist.)
    fn may_act(&self) -> bool {
        self.0.is_some_and(|uid| uid == 0 || uid == rustix::process::geteuid().as_raw())
    }
}

/// An answer other than 200.
pub(super) struct Refusal(pub(super) StatusCode, pub(super) &'static str, pub(super) String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, Json(json!({"code": self.1, "message": self.2}))).into_response()
    }
}

impl From<ErrorStoreError> for Refusal {
    fn from(error: ErrorStoreError) -> Self {
        Self(StatusCode::SERVICE_UNAVAILABLE, "error_store_unavailable", error.to_string())
    }
}

/// Makes the socket. One that a dead process left is replaced; the data directory's lock has made
/// sure that no living one uses it.
///
/// # Errors
/// What the system said about the path.
pub fn bind(path: &Path) -> io::Result<UnixListener> {
    match std::fs::symlink_metadata(path) {
        Ok(found) => {
            use std::os::unix::fs::FileTypeExt;
            if !found.file_type().is_socket() {
                return Err(io::Error::other("something that is no socket is there already"));
            }
            std::fs::remove_file(path)?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    Ok(listener)
}

async fn bind_when_there_is_room(path: &Path) -> io::Result<UnixListener> {
    loop {
        tokio::time::sleep(BIND_AGAIN).await;
        match bind(path) {
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {}
            bound => return bound,
        }
    }
}

/// Serves until the process ends; where there is no socket yet, once the disk has room for one.
///
/// # Errors
/// What the socket failed with.
pub async fn serve(bound: Option<UnixListener>, path: &Path, admin: Admin) -> io::Result<()> {
    let listener = match bound {
        Some(listener) => listener,
        None => bind_when_there_is_room(path).await?,
    };
    let router = Router::new()
        .route("/v1/snapshot", get(snapshot))
        .route("/v1/letters", post(letters))
        .route("/v1/letters/{id}", get(letter))
        .route("/v1/groups", get(groups))
        .route("/v1/replay", post(replay))
        .route("/v1/flush", post(flush))
        .route("/v1/loads", post(loads::list))
        .route("/v1/loads/{id}/retry", post(loads::retry))
        .route("/v1/loads/{id}/dismiss", post(loads::dismiss))
        .route("/v1/damage", get(damage))
        .route("/v1/damage/acknowledge", post(acknowledge))
        .layer(DefaultBodyLimit::max(REQUEST_BYTES_MAX))
        .fallback(|| async { Refusal(StatusCode::NOT_FOUND, "not_found", "no such route".into()) })
        .with_state(admin);
    axum::serve(listener, router.into_make_service_with_connect_info::<Peer>()).await
}

async fn snapshot(State(admin): State<Admin>) -> Response {
    let bytes = bytes::Bytes::from_owner(Arc::clone(&admin.snapshot.borrow()));
    ([(header::CONTENT_TYPE, "application/json")], Body::from(bytes)).into_response()
}

async fn letters(
    State(admin): State<Admin>,
    Json(list): Json<ListLetters>,
) -> Result<Response, Refusal> {
    let limit = if list.limit == 0 { PAGE_MAX } else { list.limit.min(PAGE_MAX) };
    Ok(Json(admin.errors.list(list.filter, list.before, limit).await?).into_response())
}

async fn letter(
    State(admin): State<Admin>,
    UrlPath(id): UrlPath<LetterId>,
) -> Result<Response, Refusal> {
    match admin.errors.get(id).await? {
        Some(letter) => Ok(Json(letter).into_response()),
        None => Err(no_such_letter(&[id])),
    }
}

fn no_such_letter(ids: &[LetterId]) -> Refusal {
    let named = ids.iter().take(NAMED_MAX).map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let more = match ids.len().saturating_sub(NAMED_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let message = format!("there is no dead letter {named}{more}");
    Refusal(StatusCode::NOT_FOUND, "no_such_letter", message)
}

async fn groups(State(admin): State<Admin>) -> Result<Response, Refusal> {
    Ok(Json(admin.errors.groups().await?).into_response())
}

async fn flush(
    State(admin): State<Admin>,
    ConnectInfo(peer): ConnectInfo<Peer>,
) -> Result<Json<Flushed>, Refusal> {
    allowed(&peer)?;
    Ok(Json((admin.flush)().await))
}

async fn damage(State(admin): State<Admin>) -> Json<Vec<Report>> {
    Json(admin.reports.all())
}

async fn acknowledge(
    State(admin): State<Admin>,
    ConnectInfo(peer): ConnectInfo<Peer>,
) -> Result<Json<Acknowledged>, Refusal> {
    allowed(&peer)?;
    let reports = admin.reports.clone();
    let acknowledged = tokio::task::spawn_blocking(move || reports.acknowledge()).await;
    match acknowledged.map_err(io::Error::other).flatten() {
        Ok(reports) => {
            if reports > 0 {
                (admin.changed)(format!(
                    "{reports} damage reports acknowledged by {}",
                    peer.name()
                ));
            }
            Ok(Json(Acknowledged { reports }))
        }
        Err(error) => {
            let message = format!("a report can't be written: {error}");
            Err(Refusal(StatusCode::SERVICE_UNAVAILABLE, "io", message))
        }
    }
}

pub(super) fn allowed(peer: &Peer) -> Result<(), Refusal> {
    if peer.may_act() {
        return Ok(());
    }
    let message = format!("{} may look, but not act", peer.name());
    Err(Refusal(StatusCode::FORBIDDEN, "forbidden", message))
}

async fn replay(
    State(admin): State<Admin>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Json(request): Json<Replay>,
) -> Result<Json<Replayed>, Refusal> {
    allowed(&peer)?;
    if request.filter == LetterFilter::default() {
        let message = "a replay needs a filter: ids, stream, phase, reason, path, library or time";
        return Err(Refusal(StatusCode::BAD_REQUEST, "empty_filter", message.to_owned()));
    }
    // Whoever names a letter means that one: nothing is done by halves.
    let unknown = admin.errors.unknown(request.filter.ids.clone()).await?;
    if !unknown.is_empty() {
        return Err(no_such_letter(&unknown));
    }
    // A client that goes away does not stop a replay half way: claimed letters are appended.
    let running = tokio::spawn(async move { run_replay(&admin, &peer.name(), request).await });
    match running.await {
        Ok(result) => Ok(Json(result?)),
        Err(error) => Err(Refusal(StatusCode::INTERNAL_SERVER_ERROR, "failed", error.to_string())),
    }
}

async fn run_replay(admin: &Admin, by: &str, request: Replay) -> Result<Replayed, ErrorStoreError> {
    let Replay { filter, note } = request;
    let errors = &admin.errors;
    let open = open(errors, &filter).await?;
    let (number, mut claims) = errors.claim(filter.clone(), CLAIM_MAX, by.to_owned(), note).await?;
    let mut done = Replayed { replay: number, ..Replayed::default() };
    while !claims.is_empty() {
        let refused = append(admin, claims, &mut done).await;
        if !refused.is_empty() {
            done.refused += refused.len() as u64;
            let why = done.refusal.clone().unwrap_or_default();
            errors.unclaim(refused, why).await?;
            break;
        }
        claims = errors.claim_more(number, filter.clone(), CLAIM_MAX, by.to_owned()).await?;
    }
    // What matches, is open and was not claimed is nothing that a log has had.
    let left = open.saturating_sub(done.replayed);
    if done.refused == 0 && left > 0 {
        done.refused = left;
        done.refusal = Some(NO_RECORD.to_owned());
    }
    errors.finish_replay(number, done.replayed, done.refused).await?;
    if done.replayed + done.refused > 0 {
        (admin.changed)(format!(
            "replay {number}: {} in the log again, {} refused ({by})",
            done.replayed, done.refused
        ));
    }
    Ok(done)
}

/// How many open letters match.
async fn open(errors: &ErrorStore, filter: &LetterFilter) -> Result<u64, ErrorStoreError> {
    if filter.status.is_some_and(|status| status != Status::Open) {
        return Ok(0);
    }
    let filter = LetterFilter { status: Some(Status::Open), ..filter.clone() };
    Ok(errors.list(filter, None, 1).await?.total)
}

/// Puts claimed letters into their logs, in order; returns those that are not there.
async fn append(admin: &Admin, claims: Vec<Claim>, done: &mut Replayed) -> Vec<LetterId> {
    let mut refused = Vec::new();
    let mut claims = claims.into_iter().peekable();
    while let Some(first) = claims.next() {
        let name = first.stream.clone();
        let mut run = vec![first];
        // A payload that no record can have is refused alone.
        let fits = |claim: &Claim| claim.payload.len() <= PAYLOAD_BYTES_MAX;
        while let Some(next) =
            claims.next_if(|claim| claim.stream == name && fits(claim) && fits(&run[0]))
        {
            run.push(next);
        }
        // To make a stream is work on the disk.
        let streams = admin.streams.clone();
        let found = tokio::task::spawn_blocking(move || streams.get_or_create(&name)).await;
        let appended = match found {
            Ok(Ok(stream)) => append_run(&stream, &run).await,
            Ok(Err(error)) => Err(error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match appended {
            Ok(()) => done.replayed += run.len() as u64,
            Err(why) => {
                done.refusal.get_or_insert(why);
                refused.extend(run.iter().map(|claim| claim.id));
            }
        }
    }
    refused
}

/// One stream's letters. A log that is full has a moment to make room: live traffic goes first.
async fn append_run(stream: &Stream, run: &[Claim]) -> Result<(), String> {
    let replayed_at = crate::time::now();
    let until = Instant::now() + REPLAY_PATIENCE;
    loop {
        let mut records = Records::default();
        for claim in run {
            let mut receipt = claim.receipt.clone();
            receipt.replay = Some(ReplayOrigin { letter: claim.id, replayed_at });
            if !records.push(&receipt, &claim.payload) {
                let bytes = claim.payload.len();
                return Err(format!(
                    "the payload has {bytes} bytes, and a log's record may have {PAYLOAD_BYTES_MAX}"
                ));
            }
        }
        let appended = match stream.wal.append(records) {
            Ok(appending) => appending.await.map(drop),
            Err(error) => Err(error),
        };
        match appended {
            Ok(()) => return Ok(()),
            Err(crate::wal::AppendError::QueueFull | crate::wal::AppendError::Full { .. })
                if Instant::now() < until =>
            {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(error) => return Err(error.to_string()),
        }
    }
}
