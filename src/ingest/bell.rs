//! What wakes connections that nobody talks to: a stop, and every few seconds the time.
//!
//! A connection that had a timer of its own would set and clear it with each request, and one that
//! waited for the stop would ask for it whenever it is woken. All of a lane have one bell instead:
//! it rings every [`EVERY`], and when the service stops; whoever is woken looks at the clock and at
//! a flag.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use hyper::rt::{Sleep, Timer};
use slab::Slab;

/// How much later than its deadline an idle connection may be closed.
pub(super) const EVERY: Duration = Duration::from_secs(5);

/// One lane's bell.
#[derive(Debug, Default)]
pub(super) struct Bell {
    stopping: AtomicBool,
    seats: Mutex<Slab<Waker>>,
}

impl Bell {
    fn seats(&self) -> MutexGuard<'_, Slab<Waker>> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes everybody.
    pub fn ring(&self) {
        self.seats().iter().for_each(|(_, waker)| waker.wake_by_ref());
    }

    /// Wakes everybody, and says that the service stops.
    pub fn stop(&self) {
        self.stopping.store(true, Relaxed);
        // Whoever takes a seat later sees the flag: the lock is between.
        self.ring();
    }

    /// A seat for the task that waits on it.
    pub fn seat(self: &Arc<Self>) -> Seat {
        Seat { bell: Arc::clone(self), key: None }
    }
}

/// One connection's seat; it is left when this is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    bell: Arc<Bell>,
    key: Option<usize>,
}

impl Seat {
    /// Ready once the service stops. As long as it is waited for, its task hears the bell: it must
    /// be one task all the time.
    pub async fn stopped(&mut self) {
        poll_fn(|context| {
            if self.key.is_none() {
                self.key = Some(self.bell.seats().insert(context.waker().clone()));
            }
            if self.bell.stopping.load(Relaxed) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.bell.seats().try_remove(key);
        }
    }
}

/// Time for connections that hear a bell: a deadline is looked at whenever they are woken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Glances;

impl Timer for Glances {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(Instant::now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(Until(deadline))
    }
}

struct Until(Instant);

impl Future for Until {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if Instant::now() >= self.0 { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Sleep for Until {}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stop_is_heard_by_who_waits_and_by_who_comes_later() {
        let bell = Arc::new(Bell::default());
        let mut waiting = bell.seat();
        let waits = tokio::spawn(async move { waiting.stopped().await });
        while bell.seats().is_empty() {
            tokio::task::yield_now().await;
        }
        bell.stop();
        waits.await.unwrap();
        assert!(bell.seats().is_empty(), "a seat is left with its task");
        bell.seat().stopped().await;
    }

    #[tokio::test]
    async fn the_bell_wakes_who_has_nothing_else_to_wait_for() {
        let bell = Arc::new(Bell::default());
        let mut seat = bell.seat();
        let (ringing, mut polls) = (Arc::clone(&bell), 0);
        let deadline = poll_fn(move |_| {
            polls += 1;
            if polls == 2 { Poll::Ready(()) } else { Poll::Pending }
        });
        let waits = tokio::spawn(async move {
            tokio::select! { biased; () = seat.stopped() => false, () = deadline => true }
        });
        while !waits.is_finished() {
            ringing.ring();
            tokio::task::yield_now().await;
        }
        assert!(waits.await.unwrap());
    }
}
