//! The threads that make files: half of the cores, behind all others.
//!
//! They do nothing else, and they are always the same ones: what encoding a file takes of memory is
//! taken from the system once, not once by every thread that ever encoded one.

use std::io;

use tokio::runtime::{Builder, Handle};

use crate::priority;

/// A cheap handle.
#[derive(Clone, Debug)]
pub(super) struct Encoders(Handle);

impl Encoders {
    /// # Errors
    /// What the system said.
    pub fn new() -> io::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = Builder::new_current_thread()
            .max_blocking_threads((cores / 2).max(1))
            .thread_name("encode")
            .on_thread_start(priority::of_a_store)
            .build()?;
        let handle = threads.handle().clone();
        // It has no thread of its own, and can't be dropped where a store is.
        std::mem::forget(threads);
        Ok(Self(handle))
    }

    /// Does that work when its turn has come. Fails where it panicked.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, tokio::task::JoinError> {
        self.0.spawn_blocking(work).await
    }
}
