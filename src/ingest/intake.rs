//! A request's way: read, decode, sort, append, wait for the sync.
//!
//! In: a request that takes events. Out: `Ok` once everything of it is durable, each event in its
//! stream's log or the error store; else the refusal, and nothing of it is acknowledged (a part
//! may be durable nonetheless: the client sends all of it again, and each event's id tells the
//! copies). Small bodies are worked on in place; large ones on a blocking thread, at most as many
//! at a time as there are cores, so that they don't hold up the small.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use axum::body::HttpBody;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use bytes::Bytes;
use smallvec::SmallVec;

use super::Edge;
use super::auth;
use super::body::{self, Reservation};
use super::encoding::Encoding;
use super::lane;
use super::respond::Refusal;
use super::routes::Intake;
use super::sort::{self, Facts, Lot, Lots};
use super::split::Form;
use crate::errors::NewLetter;
use crate::event::StreamName;
use crate::streams::Stream;
use crate::wal::{AppendError, Appending, Durable};

/// As much of a malformed body is kept.
const MALFORMED_BYTES_MAX: usize = 64 << 10;
/// From here on a body is worked on apart: about a millisecond's work.
const LARGE_BYTES: usize = 256 << 10;

/// A body that can't be accepted: the answer, and the dead letter where the body is not JSON.
type Refused = (Refusal, Option<Box<NewLetter>>);

/// Takes a request's events. A body that was read to its end is not there any more.
///
/// # Errors
/// The answer to give instead.
pub(super) async fn take<B>(
    edge: &Arc<Edge>,
    intake: Intake,
    source: Option<IpAddr>,
    head: &Parts,
    unread: &mut Option<B>,
) -> Result<(), Refusal>
where
    B: HttpBody<Data = Bytes> + Unpin,
{
    if edge.is_draining() {
        return Err(Refusal::Stopping);
    }
    if !edge.space.takes_events() {
        return Err(Refusal::DiskFull);
    }
    let encoding = Encoding::of(&head.headers)?;
    let facts = Facts {
        form: if says_lines(&head.headers) { Form::Lines } else { intake.form() },
        intake,
        path: head.uri.path().into(),
        received_at: edge.clock.now(),
        source,
        key: auth::key_id(&head.headers, &head.uri),
    };
    let mut reservation = Reservation::new(&edge.budget);
    let wire = match unread {
        Some(body) => body::read(body, edge.limits.body_bytes_max, &mut reservation).await?,
        None => Bytes::new(),
    };
    *unread = None;
    let bytes_max = encoding.bytes_max(wire.len(), edge.limits.inflated_bytes_max);
    let sorted = if bytes_max <= LARGE_BYTES {
        work(edge, &wire, encoding, &facts, &mut reservation)
    } else {
        // Boxed, since few need its room.
        Box::pin(work_apart(edge, wire, encoding, facts.into_owned(), &mut reservation)).await
    };
    match sorted {
        Ok(lots) => deliver(edge, lots).await,
        Err((refusal, letter)) => {
            if let Some(letter) = letter {
                edge.stats.malformed.add(1);
                // A courtesy to the operator: the answer is the same without it, and the error
                // store's own state shows that it fails.
                let _ = Box::pin(edge.errors.put_malformed(*letter)).await;
            }
            Err(refusal)
        }
    }
}

fn says_lines(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = value.and_then(|value| value.split(';').next()).unwrap_or_default().trim();
    ["application/x-ndjson", "application/ndjson"]
        .iter()
        .any(|lines| media_type.eq_ignore_ascii_case(lines))
}

async fn work_apart(
    edge: &Arc<Edge>,
    wire: Bytes,
    encoding: Encoding,
    facts: Facts<'static>,
    reservation: &mut Reservation,
) -> Result<Lots, Refused> {
    let gone = |_| (Refusal::Stopping, None);
    let _turn = edge.large.acquire().await.map_err(|_| gone(()))?;
    let mut held = Reservation::new(&edge.budget);
    let edge = Arc::clone(edge);
    let (done, held) = tokio::task::spawn_blocking(move || {
        let done = work(&edge, &wire, encoding, &facts, &mut held);
        (done, held)
    })
    .await
    .map_err(|_| gone(()))?;
    reservation.absorb(held);
    done
}

/// Decodes and sorts a body.
fn work(
    edge: &Edge,
    wire: &[u8],
    encoding: Encoding,
    facts: &Facts,
    reservation: &mut Reservation,
) -> Result<Lots, Refused> {
    let refuse = |refusal| (refusal, None);
    let limits = &edge.limits;
    let body = if encoding == Encoding::Identity || wire.is_empty() {
        Cow::Borrowed(wire)
    } else {
        let bytes_max = encoding.bytes_max(wire.len(), limits.inflated_bytes_max);
        reservation.grow(bytes_max).map_err(refuse)?;
        let body = encoding.decode(wire, bytes_max).map_err(refuse)?;
        reservation.shrink(bytes_max - body.len());
        Cow::Owned(body)
    };
    let lots = sort::sort(&body, facts, limits).map_err(|refusal| {
        let letter = match &refusal {
            Refusal::InvalidJson(fault) => {
                sort::letter_of_body(&body, facts, fault, MALFORMED_BYTES_MAX).ok().map(Box::new)
            }
            _ => None,
        };
        (refusal, letter)
    })?;
    let bytes = |lot: &Lot| {
        let letters: usize = lot.letters.iter().map(|letter| letter.payload.len()).sum();
        lot.records.bytes().len() + letters
    };
    reservation.grow(lots.iter().map(bytes).sum()).map_err(refuse)?;
    Ok(lots)
}

/// Makes the lots durable, all of them or none acknowledged.
async fn deliver(edge: &Edge, lots: Lots) -> Result<(), Refusal> {
    let mut sent = SmallVec::<[_; 1]>::new();
    let mut letters = Vec::new();
    // Every stream is there before the first append: what is refused here leaves no trace.
    let mut streams = SmallVec::<[_; 1]>::new();
    for lot in &lots {
        streams.push(stream(edge, &lot.stream).await?);
    }
    for (lot, stream) in lots.into_iter().zip(streams) {
        let (count, bytes) = (u64::from(lot.records.count()), lot.records.payload_bytes());
        let dead = lot.letters.len() as u64;
        letters.extend(lot.letters);
        let appending = if lot.records.is_empty() {
            None
        } else {
            let appended = stream.wal.append_for(lot.records, lane::answers());
            Some(appended.map_err(|error| refused(&stream, &error))?)
        };
        // Counted here and not after the sync: a client that goes away takes nothing back.
        stream.stats.received_events.add(count);
        stream.stats.received_bytes.add(bytes);
        sent.push((stream, count, bytes, dead, appending));
    }
    if !letters.is_empty() {
        // The error store says itself what fails; its message names files.
        let failed = |_| Refusal::LogUnavailable("the error store can't be written".into());
        Box::pin(edge.errors.put(letters)).await.map_err(failed)?;
    }
    for (stream, count, bytes, dead, appending) in sent {
        stream.stats.received_events.add(dead);
        stream.stats.rejected_events.add(dead);
        if let Some(Err(error)) = settled(appending).await {
            stream.stats.received_events.take_back(count);
            stream.stats.received_bytes.take_back(bytes);
            return Err(refused(&stream, &error));
        }
    }
    Ok(())
}

async fn settled(appending: Option<Appending>) -> Option<Result<Durable, AppendError>> {
    Some(appending?.await)
}

fn refused(stream: &Stream, error: &AppendError) -> Refusal {
    stream.stats.refused_requests.add(1);
    Refusal::of_append(&stream.name, error)
}

/// The stream of that name. To make one is work on the disk, so that is done apart.
async fn stream(edge: &Edge, name: &StreamName) -> Result<Arc<Stream>, Refusal> {
    if let Some(stream) = edge.streams.get(name) {
        return Ok(stream);
    }
    let (streams, name) = (edge.streams.clone(), name.clone());
    tokio::task::spawn_blocking(move || streams.get_or_create(&name))
        .await
        .map_err(|_| Refusal::Stopping)?
        .map_err(Refusal::of_streams)
}
