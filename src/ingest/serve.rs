//! The listener: HTTP/1.1 connections, counted and limited, until told to stop.
//!
//! In: a bound listener and an edge. Out: `Ok` once it was told to stop and every request in
//! flight is answered. A connection that can't be accepted (no descriptors left) is tried again a
//! second later, while those that are open go on; a connection's own failure is its client's
//! affair and is not reported.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::bell::{Glances, Seat};
use super::lane::Lanes;
use super::stall::Impatient;
use super::{Edge, answer};
use crate::stats::{Count, EdgeStats};

/// A new connection must say something within this time.
const FIRST_BYTE_MAX: Duration = Duration::from_secs(5);
/// A request's headers must be there this long after the answer before it; a connection may be
/// idle for as long, and until the bell rings.
const HEADER_READ_MAX: Duration = Duration::from_secs(30);
const HEADER_BYTES_MAX: usize = 16 << 10;
/// What a connection reads at once.
const BUFFER_BYTES_MAX: usize = 64 << 10;
const ACCEPT_RETRY: Duration = Duration::from_secs(1);

/// Serves connections, at most `connections_max` at a time (those above wait to be accepted),
/// until `shutdown` is ready; then accepts no more and waits for the requests in flight. How long
/// that may take is the caller's to limit. The count of connections is kept.
///
/// # Errors
/// What the system said about the threads that connections live on; what accepting fails with is
/// waited out.
pub async fn serve(
    listener: TcpListener,
    edge: Arc<Edge>,
    connections_max: usize,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let connections_max = u32::try_from(connections_max.clamp(1, 1 << 20)).unwrap_or(1 << 20);
    let slots = Arc::new(Semaphore::new(connections_max as usize));
    let lanes = Lanes::open()?;
    let mut http = http1::Builder::new();
    // A client that has said all may still wait for its answer; and what reads on while a request
    // is worked on needs another buffer for that.
    http.half_close(true)
        .timer(Glances)
        .header_read_timeout(HEADER_READ_MAX)
        .max_header_size(HEADER_BYTES_MAX)
        .max_buf_size(BUFFER_BYTES_MAX);
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut shutdown => break,
            accepted = accept(&listener, &slots) => accepted,
        };
        let Some((stream, peer, slot)) = accepted else { continue };
        // It is registered anew where it will live.
        let Ok(stream) = stream.into_std() else { continue };
        let open = Open::new(&edge.stats);
        let (http, edge) = (http.clone(), Arc::clone(&edge));
        lanes.spawn(|seat| async move {
            if let Ok(stream) = TcpStream::from_std(stream) {
                connection(http, stream, peer, &edge, seat).await;
            }
            drop((open, slot));
        });
    }
    drop(listener);
    lanes.stop();
    // All slots are free once the last connection is closed. The semaphore is never closed.
    let _ = slots.acquire_many(connections_max).await;
    Ok(())
}

type Slot = tokio::sync::OwnedSemaphorePermit;

/// The next connection that there is a slot for; none where it must be tried again.
async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, Slot)> {
    let slot = Arc::clone(slots).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => Some((stream, peer, slot)),
        Err(error) if is_the_clients(&error) => None,
        Err(error) => {
            tracing::warn!(%error, "can't accept connections, trying again in a second");
            tokio::time::sleep(ACCEPT_RETRY).await;
            None
        }
    }
}

fn is_the_clients(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

async fn connection(
    http: http1::Builder,
    stream: TcpStream,
    peer: SocketAddr,
    edge: &Arc<Edge>,
    mut seat: Seat,
) {
    // Without it an answer may wait for the client's delayed acknowledgement; if it can't be
    // set, answers are slow and right.
    let _ = stream.set_nodelay(true);
    tokio::select! {
        said = timeout(FIRST_BYTE_MAX, stream.readable()) => match said {
            Ok(Ok(())) => {}
            _ => return,
        },
        () = seat.stopped() => return,
    }
    let source = Some(peer.ip().to_canonical());
    let service = service_fn(|request: hyper::Request<Incoming>| async move {
        Ok::<_, Infallible>(answer(edge, source, request).await)
    });
    let mut connection =
        std::pin::pin!(http.serve_connection(TokioIo::new(Impatient::new(stream)), service));
    tokio::select! {
        biased;
        () = seat.stopped() => {}
        // The client's failure: nothing to do about it, and too frequent to be worth a line.
        _ = connection.as_mut() => return,
    }
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}

/// Counts a connection as long as it lives.
struct Open(Arc<EdgeStats>);

impl Open {
    fn new(stats: &Arc<EdgeStats>) -> Self {
        stats.connections.add(1);
        Self(Arc::clone(stats))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        less(&self.0.connections);
    }
}

/// One less: the counter wraps, as atomics do.
fn less(count: &Count) {
    count.add(u64::MAX);
}
