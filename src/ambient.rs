//! What a process takes from its surroundings and can't decide itself: the time that passes, new
//! identities, chance.
//!
//! The stages between log and store ask here, and nowhere else, so that a test can put a simulated
//! world in the system's place, on its own thread ([`simulated::World`]); a build without tests
//! holds the system's calls and nothing beside them.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use uuid::Uuid;

/// The monotonic clock.
pub(crate) fn now() -> Instant {
    #[cfg(test)]
    if let Some(now) = simulated::with(|world| world.now()) {
        return now;
    }
    Instant::now()
}

/// An identity that nothing else has, above those that were made a millisecond before.
pub(crate) fn new_id() -> Uuid {
    #[cfg(test)]
    if let Some(id) = simulated::with(|world| world.new_id()) {
        return id;
    }
    Uuid::now_v7()
}

/// A random part of a duration: full jitter, but never next to nothing.
pub(crate) fn part_of(whole: Duration) -> Duration {
    #[cfg(test)]
    if let Some(part) = simulated::with(|world| whole.mul_f64(0.1 + 0.9 * world.fraction())) {
        return part;
    }
    whole.mul_f64(rand::RngExt::random_range(&mut rand::rng(), 0.1..=1.0))
}

/// The next message, waited for that long.
///
/// # Errors
/// As [`Receiver::recv_timeout`].
pub(crate) fn receive<T>(from: &Receiver<T>, patience: Duration) -> Result<T, RecvTimeoutError> {
    #[cfg(test)]
    if let Some(ends) = simulated::with(|world| world.is_over()) {
        // Nobody else runs while this thread waits: either it is there, or time passes.
        return from.try_recv().map_err(|_| {
            simulated::with(|world| world.pass(patience));
            if ends { RecvTimeoutError::Disconnected } else { RecvTimeoutError::Timeout }
        });
    }
    from.recv_timeout(patience)
}

/// A world in which time passes when it is told to, and chance follows from a seed.
#[cfg(test)]
pub(crate) mod simulated {
    use std::cell::RefCell;
    use std::time::{Duration, Instant};

    use uuid::Uuid;

    use crate::event::Micros;
    use crate::sim::{Chance, Machine};

    thread_local! {
        static WORLD: RefCell<Option<World>> = const { RefCell::new(None) };
    }

    /// The time and the chance of one thread.
    pub(crate) struct World {
        begun: Instant,
        passed: Duration,
        chance: Chance,
        machine: Machine,
    }

    /// Leaves the simulated world when it is dropped.
    pub(crate) struct Entered(());

    impl Drop for Entered {
        fn drop(&mut self) {
            WORLD.set(None);
        }
    }

    /// From now on this thread lives in a simulated world.
    pub(crate) fn enter(seed: u64, machine: Machine) -> Entered {
        let (begun, passed, chance) = (Instant::now(), Duration::ZERO, Chance(seed));
        let world = World { begun, passed, chance, machine };
        WORLD.set(Some(world));
        Entered(())
    }

    /// Asks the world of this thread, if it is a simulated one.
    pub(crate) fn with<T>(ask: impl FnOnce(&mut World) -> T) -> Option<T> {
        WORLD.with_borrow_mut(|world| world.as_mut().map(ask))
    }

    /// What has passed since the world began.
    pub(crate) fn passed() -> Duration {
        with(|world| world.passed).unwrap_or_default()
    }

    /// The wall clock: a summer's day in 2025, and what has passed since.
    pub(crate) fn wall() -> Option<Micros> {
        const BEGUN: Micros = 1_751_371_200_000_000;
        with(|world| BEGUN + Micros::try_from(world.passed.as_micros()).unwrap_or(0))
    }

    impl World {
        pub(crate) fn now(&self) -> Instant {
            self.begun + self.passed
        }

        /// Whoever waits on a dead machine waits for nothing.
        pub(super) fn is_over(&self) -> bool {
            !self.machine.is_alive()
        }

        pub(crate) fn pass(&mut self, time: Duration) {
            self.passed += time;
        }

        pub(super) fn new_id(&mut self) -> Uuid {
            let ms = u64::try_from(self.passed.as_millis()).unwrap_or(0);
            let random = [self.chance.next().to_le_bytes(), self.chance.next().to_le_bytes()];
            let mut bytes = [0; 10];
            bytes.copy_from_slice(&random.as_flattened()[..10]);
            uuid::Builder::from_unix_timestamp_millis(1_751_371_200_000 + ms, &bytes).into_uuid()
        }

        pub(super) fn fraction(&mut self) -> f64 {
            self.chance.below(1 << 20) as f64 / f64::from(1 << 20)
        }
    }
}
