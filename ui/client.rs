//! The console's end of the socket.
//!
//! Snapshots are latest-wins: one poll per interval into a single place, so that a slow terminal
//! skips snapshots instead of queueing them. Answers to questions come in order through a
//! bounded channel, each with the number of its question; a newer question of the same kind
//! gives the older one up. A lost service is tried again for ever, after 0.25 s doubling to
//! 5 s, with jitter. Embedded or attached, this is the only way to the service.

use std::sync::Arc;
use std::time::Duration;

use eventkit::admin::{Client, ClientError, ListLetters};
use eventkit::errors::LetterFilter;
use eventkit::status::Snapshot;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::letters::PAGE_ROWS;
use super::message::{Failure, LoadChange, Reply, Request, Scope, What};

/// A poll that takes longer counts as lost.
const POLL_TIMEOUT: Duration = Duration::from_secs(5);
const RETRY_MIN: Duration = Duration::from_millis(250);
const RETRY_MAX: Duration = Duration::from_secs(5);
/// A group's replay names up to this many letters one by one; beyond, it names their filter.
const NAMED_IDS_MAX: usize = 1000;
/// A page more than this is not turned to find a group's letters among those of others.
const SCOPE_PAGES_MAX: usize = 50;
/// A replay syncs every letter to the log before it is answered.
const REPLAY_TIMEOUT: Duration = Duration::from_secs(600);
/// Answers on their way to the screen.
const REPLIES_MAX: usize = 16;

/// What the last poll brought.
#[derive(Clone, Debug)]
pub enum News {
    /// A snapshot.
    Snapshot(Arc<Snapshot>),
    /// Nothing.
    Lost {
        /// Why.
        reason: String,
        /// How often it was tried.
        tries: u32,
        /// How long until the next try.
        retry_in: Duration,
    },
}

impl From<News> for What {
    fn from(news: News) -> Self {
        match news {
            News::Snapshot(snapshot) => Self::Snapshot(snapshot),
            News::Lost { reason, tries, retry_in } => Self::Lost { reason, tries, retry_in },
        }
    }
}

/// Polls snapshots until it is dropped.
#[derive(Debug)]
pub struct Poller {
    news: watch::Receiver<Option<News>>,
    wake: Arc<Notify>,
    task: AbortHandle,
}

impl Poller {
    /// Starts to poll.
    #[must_use]
    pub fn start(client: Client, interval: Duration) -> Self {
        let (sender, news) = watch::channel(None);
        let wake = Arc::new(Notify::new());
        let client = client.with_timeout(POLL_TIMEOUT);
        let task = tokio::spawn(poll(client, interval, sender, Arc::clone(&wake)));
        Self { news, wake, task: task.abort_handle() }
    }

    /// Waits for news newer than the last; older ones are skipped. Cancel safe.
    pub async fn next(&mut self) -> Option<News> {
        self.news.changed().await.ok()?;
        self.news.borrow_and_update().clone()
    }

    /// Tries again at once.
    pub fn wake(&self) {
        self.wake.notify_one();
    }
}

impl Drop for Poller {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn poll(
    client: Client,
    interval: Duration,
    news: watch::Sender<Option<News>>,
    wake: Arc<Notify>,
) {
    let mut tries = 0;
    loop {
        let started = Instant::now();
        let wait = match client.snapshot().await {
            Ok(snapshot) => {
                tries = 0;
                news.send_replace(Some(News::Snapshot(Arc::new(snapshot))));
                interval.saturating_sub(started.elapsed())
            }
            Err(error) => {
                tries += 1;
                let retry_in = backoff(tries).mul_f64(rand::random_range(0.8..1.2));
                let reason = short_reason(&error);
                news.send_replace(Some(News::Lost { reason, tries, retry_in }));
                retry_in
            }
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = wake.notified(), if tries > 0 => {}
        }
    }
}

/// The pause after that many failures, before jitter.
fn backoff(tries: u32) -> Duration {
    RETRY_MIN.saturating_mul(1 << tries.saturating_sub(1).min(10)).min(RETRY_MAX)
}

/// What fits on the state line: the system's words where nobody listens.
fn short_reason(error: &ClientError) -> String {
    match error {
        ClientError::Unreachable { socket, source } => match source.kind() {
            std::io::ErrorKind::NotFound => format!("no socket at {}", socket.display()),
            std::io::ErrorKind::ConnectionRefused => "nobody listens on the socket".to_owned(),
            std::io::ErrorKind::PermissionDenied => "no permission for the socket".to_owned(),
            _ => source.to_string(),
        },
        other => other.to_string(),
    }
}

/// Puts questions to the service.
#[derive(Debug)]
pub struct Asker {
    client: Client,
    replies: mpsc::Sender<(u64, Reply)>,
    running: [Option<AbortHandle>; 4],
}

impl Asker {
    /// Also the end where the answers come out.
    #[must_use]
    pub fn new(client: Client) -> (Self, mpsc::Receiver<(u64, Reply)>) {
        let (replies, answers) = mpsc::channel(REPLIES_MAX);
        let asker = Self { client, replies, running: [None, None, None, None] };
        (asker, answers)
    }

    /// Asks in a task of its own; gives the running question of the same slot up.
    pub fn ask(&mut self, number: u64, request: Request) {
        let client = self.client.clone();
        let replies = self.replies.clone();
        let slot = request.slot();
        let task = tokio::spawn(async move {
            let reply = answer(&client, request).await;
            // The console may have gone meanwhile; then nobody wants to know.
            let _ = replies.send((number, reply)).await;
        });
        if let Some(slot) = slot {
            let before = self.running[slot].replace(task.abort_handle());
            if let Some(before) = before {
                before.abort();
            }
        }
    }
}

fn failure(error: &ClientError) -> Failure {
    Failure {
        text: match error {
            ClientError::Unreachable { .. } => short_reason(error),
            other => other.to_string(),
        },
        denied: matches!(error, ClientError::Refused { status: 403, .. }),
    }
}

async fn answer(client: &Client, request: Request) -> Reply {
    let failed = |error| failure(&error);
    match request {
        Request::Groups => Reply::Groups(client.groups().await.map_err(failed)),
        Request::Page(list) => Reply::Page(client.letters(&list).await.map_err(failed)),
        Request::Letter(id) => Reply::Letter(Box::new(client.letter(id).await.map_err(failed))),
        Request::Scope { filter, library, ambiguous } => {
            Reply::Scope(scope(client, filter, library, ambiguous).await)
        }
        Request::Load(change, id) => {
            let changed = match change {
                LoadChange::Retry => client.retry_load(id).await,
                LoadChange::Dismiss => client.dismiss_load(id).await,
            };
            Reply::Load(changed.map(Box::new).map_err(failed))
        }
        Request::Replay(replay) => {
            let client = client.clone().with_timeout(REPLAY_TIMEOUT);
            Reply::Replayed(client.replay(&replay).await.map_err(|error| not_replayed(&error)))
        }
    }
}

/// A replay that was refused has not happened; of one without an answer nobody knows.
fn not_replayed(error: &ClientError) -> Failure {
    let failure = failure(error);
    let outcome = match error {
        ClientError::Refused { .. } | ClientError::Unreachable { .. } => "not replayed",
        ClientError::Broken(_) | ClientError::TimedOut(_) => {
            "it is not known whether they were replayed; look at their state"
        }
    };
    Failure { text: format!("{outcome}: {}", failure.text), ..failure }
}

/// Freezes a group: its open letters one by one where they are few, else the filter, which ends
/// at the moment of asking. A group without a library has letters of other libraries beside it
/// that no filter can leave out; then there is only the one-by-one way.
async fn scope(
    client: &Client,
    filter: LetterFilter,
    library: Option<String>,
    ambiguous: bool,
) -> Result<Scope, Failure> {
    let mut ids = Vec::new();
    let mut before = None;
    for page_number in 1.. {
        let list = ListLetters { filter: filter.clone(), before, limit: PAGE_ROWS };
        let page = client.letters(&list).await.map_err(|error| failure(&error))?;
        let of_group = page.letters.iter().filter(|letter| letter.library == library);
        ids.extend(of_group.map(|letter| letter.id));
        let total = page.total;
        before = page.next_before;
        if before.is_none() || page.letters.is_empty() {
            break;
        }
        if ids.len() > NAMED_IDS_MAX || page_number == SCOPE_PAGES_MAX {
            if !ambiguous {
                return Ok(Scope { filter, count: total });
            }
            let text = "too many letters to name one by one, and other libraries fail the same \
                        way; mark them instead"
                .to_owned();
            return Err(Failure { text, denied: false });
        }
    }
    let count = ids.len() as u64;
    let filter = LetterFilter { ids, ..LetterFilter::default() };
    Ok(Scope { filter, count })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_doubles_up_to_five_seconds() {
        let pauses = [1, 2, 3, 4, 5, 6, 60].map(|tries| backoff(tries).as_millis());
        assert_eq!(pauses, [250, 500, 1000, 2000, 4000, 5000, 5000]);
    }
}
