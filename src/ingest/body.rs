//! A body from the wire: limited in bytes, in time, and in what all bodies hold together.
//!
//! In: hyper's body. Out: its bytes and a [`Reservation`] that stands for them in the [`Budget`]
//! of all requests in flight, until the answer. A body that arrives in one piece is not copied.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use axum::body::HttpBody;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use tokio::time::{Instant, timeout_at};

use super::respond::Refusal;

/// Bytes that the bodies of all requests in flight may hold together, on the wire, decoded and
/// on their way to the log.
pub const IN_FLIGHT_BYTES_MAX: usize = 96 << 20;

/// How long a body may take however small it is.
const READ_MIN: Duration = Duration::from_secs(10);
/// Beyond that, it must come at least this fast.
const BYTES_PER_SECOND_MIN: usize = 16 << 10;

/// What all requests in flight may hold.
#[derive(Debug)]
pub(super) struct Budget {
    used: AtomicUsize,
    max: usize,
}

impl Budget {
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { used: AtomicUsize::new(0), max })
    }

    #[cfg(test)]
    pub fn used(&self) -> usize {
        self.used.load(Relaxed)
    }
}

/// A part of the budget; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Reservation {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Reservation {
    pub fn new(budget: &Arc<Budget>) -> Self {
        Self { budget: Arc::clone(budget), bytes: 0 }
    }

    /// Reserves more.
    ///
    /// # Errors
    /// [`Refusal::Overloaded`] where there is no more; what was reserved before stays.
    pub fn grow(&mut self, bytes: usize) -> Result<(), Refusal> {
        let used = self.budget.used.fetch_add(bytes, Relaxed);
        self.bytes += bytes;
        if used + bytes > self.budget.max {
            return Err(Refusal::Overloaded("the requests in flight hold too much".into()));
        }
        Ok(())
    }

    /// Takes over what another one holds.
    pub fn absorb(&mut self, mut other: Self) {
        self.bytes += std::mem::take(&mut other.bytes);
    }

    /// Gives a part back.
    pub fn shrink(&mut self, bytes: usize) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.budget.used.fetch_sub(bytes, Relaxed);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.shrink(self.bytes);
    }
}

/// Reads a body of at most `bytes_max` bytes.
///
/// # Errors
/// [`Refusal::TooLarge`], at once where the length is announced; [`Refusal::TooSlow`];
/// [`Refusal::BrokenBody`] where the client went away; [`Refusal::Overloaded`].
pub(super) async fn read<B>(
    mut body: B,
    bytes_max: usize,
    reservation: &mut Reservation,
) -> Result<Bytes, Refusal>
where
    B: HttpBody<Data = Bytes> + Unpin,
{
    let too_large = || Refusal::TooLarge { what: "the body", max: bytes_max };
    let announced = body.size_hint().lower();
    if announced > bytes_max as u64 {
        return Err(too_large());
    }
    let start = Instant::now();
    let mut first = Bytes::new();
    let mut joined = Vec::new();
    let mut received = 0;
    loop {
        let seconds = (received / BYTES_PER_SECOND_MIN) as u64;
        let deadline = start + READ_MIN + Duration::from_secs(seconds);
        let frame = timeout_at(deadline, body.frame()).await.map_err(|_| Refusal::TooSlow)?;
        let Some(frame) = frame else { break };
        let Ok(chunk) = frame.map_err(|_| Refusal::BrokenBody)?.into_data() else { continue };
        received += chunk.len();
        if received > bytes_max {
            return Err(too_large());
        }
        reservation.grow(chunk.len())?;
        if first.is_empty() {
            first = chunk;
            continue;
        }
        if joined.is_empty() {
            // `announced` is at most the limit; still only what came is taken on trust.
            joined.reserve((announced as usize).min(4 * received));
            joined.extend_from_slice(&first);
        }
        joined.extend_from_slice(&chunk);
    }
    Ok(if joined.is_empty() { first } else { joined.into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;

    #[test]
    fn what_is_reserved_is_given_back_once() {
        let budget = Budget::new(10);
        let mut first = Reservation::new(&budget);
        first.grow(6).unwrap();
        let mut second = Reservation::new(&budget);
        assert!(matches!(second.grow(5), Err(Refusal::Overloaded(_))));
        drop(second);
        assert_eq!(budget.used(), 6);
        let mut third = Reservation::new(&budget);
        third.grow(4).unwrap();
        third.shrink(100);
        third.grow(4).unwrap();
        first.absorb(third);
        assert_eq!(budget.used(), 10);
        drop(first);
        assert_eq!(budget.used(), 0);
    }

    #[tokio::test]
    async fn a_body_in_pieces_is_joined_in_order_and_counted() {
        let budget = Budget::new(100);
        let body = || {
            let pieces = ["ab", "", "c", "def"].map(Ok::<_, std::io::Error>);
            Body::from_stream(futures::stream::iter(pieces))
        };
        let mut reservation = Reservation::new(&budget);
        assert_eq!(read(body(), 6, &mut reservation).await.unwrap(), "abcdef");
        assert_eq!(budget.used(), 6);
        let refusal = read(body(), 5, &mut reservation).await;
        assert!(matches!(refusal, Err(Refusal::TooLarge { max: 5, .. })));
    }
}
