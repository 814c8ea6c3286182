//! Locks, wake-ups and threads whose order a scheduler decides: [loom](::loom) tries every one
//! there is, [shuttle](::shuttle) a random one. Both run a model's threads one at a time, on the
//! thread of the test, so that [`WORLD`] is the same for all of them; on any other thread these
//! are the standard library's.
//!
//! Neither knows time. A wait that may end by itself does so at once or never, as loom's world
//! says, and by chance in shuttle's: whatever others do meanwhile, they can do before the lock is
//! taken again.

use std::cell::Cell;
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::sync::{Arc, LockResult, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use shuttle::rand::Rng;

use super::{AppendError, Appending, Durable};

/// Who decides which thread goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum World {
    /// The operating system.
    System,
    /// Every order is tried; the flag says whether waits end by themselves.
    Loom { elapses: bool },
    /// Chance.
    Shuttle,
}

thread_local! {
    static WORLD: Cell<World> = const { Cell::new(World::System) };
}

/// Makes something in that world.
pub(crate) fn within<T>(world: World, make: impl FnOnce() -> T) -> T {
    let before = WORLD.replace(world);
    let made = make();
    WORLD.set(before);
    made
}

/// Which of them what is made now belongs to.
pub(crate) fn world() -> World {
    WORLD.get()
}

/// Waits for an answer; a model's thread does so as a request does, and is woken.
pub(crate) fn answer(appending: Appending) -> Result<Durable, AppendError> {
    match world() {
        World::System => appending.wait(),
        World::Loom { .. } => park_on(appending),
        World::Shuttle => shuttle::future::block_on(appending),
    }
}

/// As loom's own `block_on`, but for its counted waker: each clone of it would be a thing that
/// comes before or after others, though to nobody's knowledge.
fn park_on(mut appending: Appending) -> Result<Durable, AppendError> {
    struct Unpark(loom::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(loom::thread::current())));
    loop {
        match Pin::new(&mut appending).poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(answer) => return answer,
            Poll::Pending => loom::thread::park(),
        }
    }
}

/// One of a kind for each world.
#[derive(Debug)]
enum Of<S, L, H> {
    System(S),
    Loom(L),
    Shuttle(H),
}

impl<S, L, H> Of<S, L, H> {
    fn new(
        system: impl FnOnce() -> S,
        loom: impl FnOnce() -> L,
        shuttle: impl FnOnce() -> H,
    ) -> Self {
        match world() {
            World::System => Self::System(system()),
            World::Loom { .. } => Self::Loom(loom()),
            World::Shuttle => Self::Shuttle(shuttle()),
        }
    }
}

/// The value has a lock of its own, which nobody ever waits for in a model.
#[derive(Debug)]
pub(crate) struct Mutex<T> {
    turn: Of<(), loom::sync::Mutex<()>, shuttle::sync::Mutex<()>>,
    value: std::sync::Mutex<T>,
}

type Turn<'a> = Of<(), loom::sync::MutexGuard<'a, ()>, shuttle::sync::MutexGuard<'a, ()>>;

pub(crate) struct MutexGuard<'a, T> {
    // Given back before the turn is.
    value: std::sync::MutexGuard<'a, T>,
    turn: Turn<'a>,
    mutex: &'a Mutex<T>,
}

impl<T> Mutex<T> {
    pub fn new(value: T) -> Self {
        let turn = Of::new(|| (), || loom::sync::Mutex::new(()), || shuttle::sync::Mutex::new(()));
        Self { turn, value: std::sync::Mutex::new(value) }
    }

    pub fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        self.enter(match &self.turn {
            Of::System(()) => Of::System(()),
            Of::Loom(mutex) => Of::Loom(mutex.lock().unwrap_or_else(PoisonError::into_inner)),
            Of::Shuttle(mutex) => Of::Shuttle(mutex.lock().unwrap_or_else(PoisonError::into_inner)),
        })
    }

    fn enter<'a>(&'a self, turn: Turn<'a>) -> LockResult<MutexGuard<'a, T>> {
        match self.value.lock() {
            Ok(value) => Ok(MutexGuard { value, turn, mutex: self }),
            Err(poisoned) => {
                let value = poisoned.into_inner();
                Err(PoisonError::new(MutexGuard { value, turn, mutex: self }))
            }
        }
    }
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

pub(crate) struct Condvar(Of<std::sync::Condvar, loom::sync::Condvar, shuttle::sync::Condvar>);

pub(crate) struct TimedOut(bool);

impl TimedOut {
    pub fn timed_out(&self) -> bool {
        self.0
    }
}

impl Condvar {
    pub fn new() -> Self {
        Self(Of::new(
            std::sync::Condvar::new,
            loom::sync::Condvar::new,
            shuttle::sync::Condvar::new,
        ))
    }

    pub fn notify_one(&self) {
        match &self.0 {
            Of::System(condvar) => condvar.notify_one(),
            Of::Loom(condvar) => condvar.notify_one(),
            Of::Shuttle(condvar) => condvar.notify_one(),
        }
    }

    pub fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> LockResult<MutexGuard<'a, T>> {
        let MutexGuard { value, turn, mutex } = guard;
        match (&self.0, turn) {
            (Of::System(condvar), turn) => {
                let value = condvar.wait(value).unwrap_or_else(PoisonError::into_inner);
                Ok(MutexGuard { value, turn, mutex })
            }
            (Of::Loom(condvar), Of::Loom(turn)) => {
                drop(value);
                mutex.enter(Of::Loom(condvar.wait(turn).unwrap_or_else(PoisonError::into_inner)))
            }
            (Of::Shuttle(condvar), Of::Shuttle(turn)) => {
                drop(value);
                let turn = condvar.wait(turn).unwrap_or_else(PoisonError::into_inner);
                mutex.enter(Of::Shuttle(turn))
            }
            _ => unreachable!("a mutex of another world"),
        }
    }

    pub fn wait_timeout<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        timeout: Duration,
    ) -> LockResult<(MutexGuard<'a, T>, TimedOut)> {
        let elapses = match world() {
            World::System => {
                let (Of::System(condvar), MutexGuard { value, turn, mutex }) = (&self.0, guard)
                else {
                    unreachable!("a mutex of another world")
                };
                let waited = condvar.wait_timeout(value, timeout);
                let (value, result) = waited.unwrap_or_else(PoisonError::into_inner);
                let guard = MutexGuard { value, turn, mutex };
                return Ok((guard, TimedOut(result.timed_out())));
            }
            World::Loom { elapses } => elapses,
            World::Shuttle => shuttle::rand::thread_rng().r#gen(),
        };
        let guard = if elapses {
            let mutex = guard.mutex;
            drop(guard);
            mutex.lock()
        } else {
            self.wait(guard)
        };
        Ok((guard.unwrap_or_else(PoisonError::into_inner), TimedOut(elapses)))
    }
}

/// Threads of this thread's world.
pub(crate) mod thread {
    use super::Of;
    use std::io;

    /// What a thread's stack has at least, in bytes.
    const STACK_BYTES: usize = 256 << 10;

    #[derive(Default)]
    pub struct Builder(String);

    pub struct JoinHandle<T>(
        Of<std::thread::JoinHandle<T>, loom::thread::JoinHandle<T>, shuttle::thread::JoinHandle<T>>,
    );

    impl Builder {
        pub fn new() -> Self {
            Self::default()
        }

        pub fn name(self, name: String) -> Self {
            Self(name)
        }

        pub fn spawn<T: Send + 'static>(
            self,
            run: impl FnOnce() -> T + Send + 'static,
        ) -> io::Result<JoinHandle<T>> {
            let Self(name) = self;
            Ok(JoinHandle(match super::world() {
                super::World::System => {
                    Of::System(std::thread::Builder::new().name(name).spawn(run)?)
                }
                super::World::Loom { .. } => Of::Loom(
                    loom::thread::Builder::new().name(name).stack_size(STACK_BYTES).spawn(run)?,
                ),
                super::World::Shuttle => {
                    Of::Shuttle(shuttle::thread::Builder::new().name(name).spawn(run)?)
                }
            }))
        }
    }

    impl<T> JoinHandle<T> {
        pub fn join(self) -> std::thread::Result<T> {
            match self.0 {
                Of::System(thread) => thread.join(),
                Of::Loom(thread) => thread.join(),
                Of::Shuttle(thread) => thread.join(),
            }
        }
    }

    /// Starts a thread.
    pub fn spawn<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        Builder::new().spawn(run).expect("a thread")
    }
}
