//! The handle: what the stages, the admin socket and the commands call.
//!
//! Cheap to clone; the database is owned by a thread of its own (see `worker`). An `Ok` means
//! that the transaction is synced. What waits is bounded in calls and in bytes; a caller waits
//! for room. The `_blocking` calls are for plain threads: in an async task they would hold up
//! its worker.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, JoinHandle, Thread};

use tokio::sync::{Semaphore, mpsc, oneshot};

use super::ErrorStoreError;
use super::database::Database;
use super::letter::{
    AuditEntry, Claim, Counts, Group, Letter, LetterFilter, NewLetter, Page, Position, Status,
};
use super::worker::{self, Call, Message, QUEUE_MAX};
use crate::config::ErrorsConfig;
use crate::event::{LetterId, Rejection, Seq, StreamName};
use crate::sqlite::Damage;

/// What waiting calls may hold together, in KiB.
const QUEUE_KIB_MAX: u32 = 64 << 10;

/// What a letter costs beside its payload, roughly.
const LETTER_BYTES: usize = 512;

/// A handle of the error store. When the last one is dropped, the store is closed.
#[derive(Clone)]
pub struct ErrorStore(Arc<Shared>);

struct Shared {
    path: PathBuf,
    messages: mpsc::Sender<Message>,
    room: Arc<Semaphore>,
    counts: Arc<Mutex<Counts>>,
    damage: Option<Damage>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Instead of the thread, in the simulation.
    #[cfg(test)]
    in_memory: Option<super::in_memory::InMemory>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Dropping the real sender ends the thread; waiting for it lets the file be opened again.
        self.messages = mpsc::channel(1).0;
        join(&self.thread);
    }
}

fn join(thread: &Mutex<Option<JoinHandle<()>>>) {
    let handle = thread.lock().unwrap_or_else(PoisonError::into_inner).take();
    if handle.is_some_and(|handle| handle.join().is_err()) {
        tracing::error!("the error store's thread panicked");
    }
}

#[cfg(test)]
impl ErrorStore {
    /// A store of the simulation.
    pub(crate) fn in_memory(database: super::in_memory::InMemory) -> Self {
        Self(Arc::new(Shared {
            path: PathBuf::from("in memory"),
            messages: mpsc::channel(1).0,
            room: Arc::new(Semaphore::new(0)),
            counts: Arc::default(),
            thread: Mutex::default(),
            damage: None,
            in_memory: Some(database),
        }))
    }
}

impl ErrorStore {
    /// Says whether the file is what a start would believe; changes nothing.
    ///
    /// # Errors
    /// As [`ErrorStore::open`], and [`ErrorStoreError::Corrupt`].
    pub fn look(path: &Path) -> Result<(), ErrorStoreError> {
        crate::sqlite::look(path, &*super::open::MIGRATIONS, super::open::check)
    }

    /// Opens the store; makes it where there is none. A damaged file is moved, with its side
    /// files, into `quarantine` beside it, with a report; what of it is whole goes into a new one.
    ///
    /// # Errors
    /// [`ErrorStoreError::NewerFormat`] where a newer eventkit wrote the file (it is left as it
    /// is), [`ErrorStoreError::Io`] and [`ErrorStoreError::Full`] as the disk has it.
    pub fn open(path: &Path, limits: ErrorsConfig) -> Result<Self, ErrorStoreError> {
        let counts = Arc::default();
        let database = Database::open(path, limits, Arc::clone(&counts))?;
        let damage = database.damage.clone();
        let (messages, receiver) = mpsc::channel(QUEUE_MAX);
        let thread = thread::Builder::new()
            .name("errors".to_owned())
            .spawn(move || worker::run(database, receiver))
            .map_err(|e| ErrorStoreError::io(path, e))?;
        Ok(Self(Arc::new(Shared {
            path: path.to_owned(),
            messages,
            room: Arc::new(Semaphore::new(QUEUE_KIB_MAX as usize)),
            counts,
            damage,
            thread: Mutex::new(Some(thread)),
            #[cfg(test)]
            in_memory: None,
        })))
    }

    /// What was wrong with the file that this store replaces.
    #[must_use]
    pub fn damage(&self) -> Option<&Damage> {
        self.0.damage.as_ref()
    }

    /// Writes letters and returns their numbers, in their order. Writing a log position again
    /// returns the number it has and changes nothing.
    ///
    /// # Errors
    /// [`ErrorStoreError`], as every call; then nothing of this call was kept.
    pub async fn put(&self, letters: Vec<NewLetter>) -> Result<Vec<LetterId>, ErrorStoreError> {
        let bytes = letters.iter().map(letter_bytes).sum();
        let letters: Vec<_> = letters.into_iter().map(|letter| (None, letter)).collect();
        self.write(bytes, move |db| db.put(&letters)).await
    }

    /// [`put`](Self::put) for plain threads.
    ///
    /// # Errors
    /// [`ErrorStoreError`], as every call.
    pub fn put_blocking(&self, letters: Vec<NewLetter>) -> Result<Vec<LetterId>, ErrorStoreError> {
        wait(self.put(letters))
    }

    /// [`put`](Self::put) for plain threads and for letters that had a number before this store
    /// lost them: it is theirs again.
    ///
    /// # Errors
    /// [`ErrorStoreError`], as every call.
    pub fn put_numbered_blocking(
        &self,
        letters: Vec<(Option<LetterId>, NewLetter)>,
    ) -> Result<Vec<LetterId>, ErrorStoreError> {
        let bytes = letters.iter().map(|(_, letter)| letter_bytes(letter)).sum();
        wait(self.write(bytes, move |db| db.put(&letters)))
    }

    /// Writes a body that is not JSON into the bounded ring. The oldest open bodies make room
    /// and are counted in [`Counts::malformed_dropped`]; a body larger than the ring is counted
    /// there itself.
    ///
    /// # Errors
    /// [`ErrorStoreError`], as every call.
    pub async fn put_malformed(&self, letter: NewLetter) -> Result<(), ErrorStoreError> {
        self.write(letter_bytes(&letter), move |db| db.put_malformed(&letter)).await
    }

    /// A page of matching letters, newest first, with their exact number. `limit` is held
    /// between 1 and 1,000.
    ///
    /// # Errors
    /// [`ErrorStoreError`], as every call.
    pub async fn list(
        &self,
        filter: LetterFilter,
        before: Option<LetterId>,
        limit: u32,
    ) -> Result<Page, ErrorStoreError> {
        self.read(move |db| db.list(&filter, before, limit)).await
    }

    /// Everything about one letter; `None` where there is none of that number. A row that
    /// contradicts its checksum has the reason [`DAMAGED_ROW`](super::DAMAGED_ROW).
    ///
    /// # Errors
    /// [`ErrorStoreError`], as every call.
    pub async fn get(&self, id: LetterId) -> Result<Option<Letter>, ErrorStoreError> {
        self.read(move |db| db.get(id)).await
    }

    /// The groups with exact counts, those with the most open letters first, at most 1,000.
    ///
    /// # Errors
    /// [`ErrorStoreError`], as every call.
    pub async fn groups(&self) -> Result<Vec<Group>, ErrorStoreError> {
        self.read(|db| db.groups()).await
    }

    /// How many letters there are, as of the last commit; from memory.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.0.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Begins a replay: open letters that match become `replaying`, at most `max`, 10,000, and about
    /// 16 MiB of them, in the order of their logs. Letters whose payload is no log record
    /// (malformed, too large) stay open. Returns the replay's number in the audit.
    ///
    /// The claims belong to the caller from then on: each has to be appended to its log or
    /// unclaimed. Await this where it is not cancelled; what a crash leaves claimed is in
    /// [`replaying`](Self::replaying) at the next start.
    ///
    /// # Errors
    /// [`ErrorStoreError`], as every call.
    pub async fn claim(
        &self,
        filter: LetterFilter,
        max: u32,
        by: String,
        note: Option<String>,
    ) -> Result<(i64, Vec<Claim>), ErrorStoreError> {
        self.write(0, move |db| db.claim(&filter, max, &by, note.as_deref())).await
    }

    /// The next claims of a replay; empty when there are no more. A letter is claimed once in a
    /// replay, even if it has failed again meanwhile, so that a loop over this ends.
    ///
    /// # Errors
    /// [`ErrorStoreError`], as every call.
    pub async fn claim_more(
        &self,
        replay: i64,
        filter: LetterFilter,
        max: u32,
        by: String,
    ) -> Result<Vec<Claim>, ErrorStoreError> {
        self.write(0, move |db| db.claim_more(replay, &filter, max, &by)).await
    }

    /// Puts claimed letters back that could not be appended; no attempt is counted.
    ///
    /// # Errors
    /// [`ErrorStoreError`], as every call.
    pub async fn unclaim(&self, ids: Vec<LetterId>, why: String) -> Result<(), ErrorStoreError> {
        self.write(0, move |db| db.unclaim(&ids, &why)).await
    }

    /// Writes a replay's outcome into the audit: letters in the log again, letters refused.
    ///
    /// # Errors
    /// [`ErrorStoreError`], as every call.
    pub async fn finish_replay(
        &self,
        replay: i64,
        replayed: u64,
        refused: u64,
    ) -> Result<(), ErrorStoreError> {
        self.write(0, move |db| db.finish_replay(replay, replayed, refused)).await
    }

    /// Gives up matching open letters, newest first, at most `max` and
    /// 10,000 in one call; returns how many.
    ///
    /// # Errors
    /// [`ErrorStoreError`], as every call.
    pub async fn discard(
        &self,
        filter: LetterFilter,
        max: u32,
        by: String,
        note: Option<String>,
    ) -> Result<u64, ErrorStoreError> {
        self.write(0, move |db| db.decide(&filter, true, max, &by, note.as_deref())).await
    }

    /// Opens matching discarded letters again, newest first, at most `max` and
    /// 10,000 in one call; returns how many.
    ///
    /// # Errors
    /// [`ErrorStoreError`], as every call.
    pub async fn reopen(
        &self,
        filter: LetterFilter,
        max: u32,
        by: String,
        note: Option<String>,
    ) -> Result<u64, ErrorStoreError> {
        self.write(0, move |db| db.decide(&filter, false, max, &by, note.as_deref())).await
    }

    /// Records that replayed events, at these log positions, were rejected again: their letters
    /// are open with one attempt more. Recording a position again changes nothing. Returns the
    /// letters that the store does not have: those events need a letter of their own.
    ///
    /// # Errors
    /// [`ErrorStoreError`], as every call.
    pub fn failed_again_blocking(
        &self,
        failures: Vec<(LetterId, Seq, Vec<Rejection>)>,
    ) -> Result<Vec<LetterId>, ErrorStoreError> {
        wait(self.write(failures.len() * LETTER_BYTES, move |db| db.failed_again(&failures)))
    }

    /// Marks letters whose event is stored, and returns how many that changed; others are as
    /// they were.
    ///
    /// # Errors
    /// [`ErrorStoreError`], as every call.
    pub fn resolve_blocking(
        &self,
        ids: Vec<LetterId>,
        detail: String,
    ) -> Result<u64, ErrorStoreError> {
        wait(self.write(0, move |db| db.resolve(&ids, &detail)))
    }

    /// Every position of the stream's log from `from` on whose rejection is stored, ascending:
    /// of letters, and of their failed replays. Blocks.
    ///
    /// # Errors
    /// [`ErrorStoreError`], as every call.
    pub fn positions(
        &self,
        stream: &StreamName,
        from: Seq,
    ) -> Result<Vec<Position>, ErrorStoreError> {
        let stream = stream.clone();
        wait(self.read(move |db| db.positions(&stream, from)))
    }

    /// The position above every one that this store knows of that stream, in whatever log: none
    /// of them may be given to another record. Blocks.
    ///
    /// # Errors
    /// [`ErrorStoreError`], as every call.
    pub fn floor(&self, stream: &StreamName) -> Result<Seq, ErrorStoreError> {
        let stream = stream.clone();
        wait(self.read(move |db| db.floor(&stream)))
    }

    /// Letters that are put from now on have numbers above that one. Blocks.
    ///
    /// # Errors
    /// [`ErrorStoreError`], as every call.
    pub fn number_above(&self, id: LetterId) -> Result<(), ErrorStoreError> {
        wait(self.write(0, move |db| db.number_above(id)))
    }

    /// The stream's letters that are open or were claimed and have come to no end: up to 1,000
    /// with numbers above that one, in their order. Blocks.
    ///
    /// # Errors
    /// [`ErrorStoreError`], as every call.
    pub fn waiting(
        &self,
        stream: &StreamName,
        after: LetterId,
    ) -> Result<Vec<(LetterId, Status)>, ErrorStoreError> {
        let stream = stream.clone();
        wait(self.read(move |db| db.waiting(&stream, after)))
    }

    /// Which of these numbers no letter has.
    ///
    /// # Errors
    /// [`ErrorStoreError`], as every call.
    pub async fn unknown(&self, ids: Vec<LetterId>) -> Result<Vec<LetterId>, ErrorStoreError> {
        self.read(move |db| {
            let found = db.unfinished(&ids)?;
            let unknown = ids.into_iter().zip(found).filter(|(_, found)| found.is_none());
            Ok(unknown.map(|(id, _)| id).collect())
        })
        .await
    }

    /// Of each of these letters whether it is open or on its way; `None` where there is no such
    /// letter. Blocks.
    ///
    /// # Errors
    /// [`ErrorStoreError`], as every call.
    pub fn unfinished(&self, ids: Vec<LetterId>) -> Result<Vec<Option<bool>>, ErrorStoreError> {
        wait(self.read(move |db| db.unfinished(&ids)))
    }

    /// The last commands that changed letters, newest first, at most 1,000.
    ///
    /// # Errors
    /// [`ErrorStoreError`], as every call.
    pub async fn audit(&self, limit: u32) -> Result<Vec<AuditEntry>, ErrorStoreError> {
        self.read(move |db| db.audit(limit)).await
    }

    /// Bytes of the database and its side files on disk.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        ["", "-wal"]
            .into_iter()
            .filter_map(|suffix| {
                std::fs::metadata(crate::sqlite::with_suffix(&self.0.path, suffix)).ok()
            })
            .map(|metadata| metadata.len())
            .sum()
    }

    /// Answers what was asked before, checkpoints and ends the thread; returns when it has
    /// ended. Later calls get [`ErrorStoreError::Closed`]. Blocks.
    pub fn shutdown(&self) {
        // An error means that the thread has ended already.
        let _ = wait(self.0.messages.send(Message::Close));
        join(&self.0.thread);
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Database) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, ErrorStoreError> {
        self.call(false, 0, work).await
    }

    pub(super) async fn write<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnOnce(&mut Database) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, ErrorStoreError> {
        self.call(true, bytes, work).await
    }

    async fn call<T: Send + 'static>(
        &self,
        writes: bool,
        bytes: usize,
        work: impl FnOnce(&mut Database) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, ErrorStoreError> {
        #[cfg(test)]
        if let Some(database) = &self.0.in_memory {
            return database.serve(writes, work);
        }
        let kib = u32::try_from(bytes / 1024 + 1).unwrap_or(QUEUE_KIB_MAX).min(QUEUE_KIB_MAX);
        let permit = Arc::clone(&self.0.room)
            .acquire_many_owned(kib)
            .await
            .map_err(|_| ErrorStoreError::Closed)?;
        let (reply, answer) = oneshot::channel();
        let call = Call { writes, work: Some(work), value: None, reply, permit };
        self.0
            .messages
            .send(Message::Job(Box::new(call)))
            .await
            .map_err(|_| ErrorStoreError::Closed)?;
        answer.await.map_err(|_| ErrorStoreError::Closed)?
    }
}

fn letter_bytes(letter: &NewLetter) -> usize {
    letter.payload.len() + LETTER_BYTES
}

/// Waits for a future on a plain thread.
pub(super) fn wait<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}
