//! The thread that owns the database.
//!
//! In: jobs from a bounded channel. Writes that wait together run in one transaction, in their
//! order, and are answered after its COMMIT; where it fails, every one of them is told. A read
//! sees all writes that were sent before it. The thread ends when it is told to or when nobody
//! can send any more, after everything that was sent has been answered.

use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::ErrorStoreError;
use super::database::Database;

/// Jobs in one transaction at most; their bytes are bounded by the permits they hold.
const JOBS_MAX: usize = 256;

/// Jobs that may wait.
pub(super) const QUEUE_MAX: usize = 1_024;

/// What is sent to the thread.
pub(super) enum Message {
    Job(Box<dyn Job>),
    /// Answer what was sent before, then end.
    Close,
}

/// Work for the database and the place its result goes to.
pub(super) trait Job: Send {
    fn writes(&self) -> bool;
    fn run(&mut self, database: &mut Database) -> rusqlite::Result<()>;
    /// Called once, when it is certain whether the work is on disk.
    fn answer(self: Box<Self>, outcome: Result<(), ErrorStoreError>);
}

/// The one kind of job there is: a closure.
pub(super) struct Call<T, F> {
    pub writes: bool,
    pub work: Option<F>,
    pub value: Option<T>,
    pub reply: oneshot::Sender<Result<T, ErrorStoreError>>,
    pub permit: OwnedSemaphorePermit,
}

impl<T, F> Job for Call<T, F>
where
    T: Send,
    F: FnOnce(&mut Database) -> rusqlite::Result<T> + Send,
{
    fn writes(&self) -> bool {
        self.writes
    }

    fn run(&mut self, database: &mut Database) -> rusqlite::Result<()> {
        if let Some(work) = self.work.take() {
            self.value = Some(work(database)?);
        }
        Ok(())
    }

    fn answer(self: Box<Self>, outcome: Result<(), ErrorStoreError>) {
        let Self { value, reply, permit, .. } = *self;
        drop(permit);
        let answer = outcome.and_then(|()| value.ok_or(ErrorStoreError::Closed));
        // Whoever asked may have gone; what was written stays written.
        let _ = reply.send(answer);
    }
}

/// Serves until the end.
pub(super) fn run(mut database: Database, mut messages: mpsc::Receiver<Message>) {
    let mut batch = Vec::with_capacity(JOBS_MAX);
    let mut writes: Vec<Box<dyn Job>> = Vec::new();
    while messages.blocking_recv_many(&mut batch, JOBS_MAX) > 0 {
        for message in batch.drain(..) {
            match message {
                Message::Close => messages.close(),
                Message::Job(job) if job.writes() => writes.push(job),
                Message::Job(mut job) => {
                    commit(&mut database, &mut writes);
                    let outcome = job.run(&mut database);
                    let path = &database.path;
                    job.answer(outcome.map_err(|e| ErrorStoreError::sqlite(path, e)));
                }
            }
        }
        commit(&mut database, &mut writes);
    }
    database.checkpoint();
}

fn commit(database: &mut Database, writes: &mut Vec<Box<dyn Job>>) {
    if writes.is_empty() {
        return;
    }
    let outcome =
        database.transaction(|database| writes.iter_mut().try_for_each(|job| job.run(database)));
    for job in writes.drain(..) {
        job.answer(outcome.clone());
    }
}
