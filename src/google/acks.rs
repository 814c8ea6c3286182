//! What is stored is acknowledged: in order under each key, and confirmed.
//!
//! In: messages that are done. Out: their acknowledgement, confirmed where the subscription does
//! that (exactly-once delivery). Such a subscription takes a message only when all before it under
//! its key are acknowledged, and until then each is tried again; hence a key's next wait for the
//! answer to its last, and keys wait for none but themselves. A message whose acknowledgement was
//! refused comes again, to somebody. Bounded by what an instance may hold.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use futures::stream::{FuturesUnordered, StreamExt};
use google_cloud_gax::error::rpc::Code;
use google_cloud_pubsub::error::AckError;
use google_cloud_pubsub::subscriber::handler::Handler;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::answers::code;
use super::pubsub::PubSub;

/// So many are looked at in one piece.
const AT_ONCE: usize = 1_000;
/// The client tries for ten minutes. What is not confirmed by then is told, and its key goes on:
/// the message may come again.
const PATIENCE: Duration = Duration::from_secs(60);

/// A message that is done.
pub(super) struct Done {
    /// Its ordering key.
    pub key: String,
    /// The right to say so.
    pub handler: Handler,
    /// Called once the service knows.
    pub told: Box<dyn FnOnce() + Send>,
}

/// Where those go that are done.
pub(super) type Acks = mpsc::UnboundedSender<Done>;

/// The way of acknowledgements. Once it was dropped, with all its copies, it ends with the last
/// answer.
pub(super) fn acks(pubsub: Arc<PubSub>) -> (Acks, JoinHandle<()>) {
    let (sender, done) = mpsc::unbounded_channel();
    (sender, tokio::spawn(acknowledge(pubsub, done)))
}

async fn acknowledge(pubsub: Arc<PubSub>, mut done: mpsc::UnboundedReceiver<Done>) {
    // By key, while an answer to others of it is awaited.
    let mut waiting: HashMap<String, Vec<Done>> = HashMap::new();
    let (mut asked, mut some, mut open) = (FuturesUnordered::new(), Vec::new(), true);
    while open || !asked.is_empty() {
        tokio::select! {
            count = done.recv_many(&mut some, AT_ONCE), if open => open = count > 0,
            Some((key, refused)) = asked.next() => {
                report(&pubsub, refused);
                match waiting.remove(&key) {
                    Some(next) if !next.is_empty() => some = next,
                    _ => {}
                }
            }
        }
        let mut keys: HashMap<String, Vec<Done>> = HashMap::new();
        for one in some.drain(..) {
            match waiting.get_mut(&one.key) {
                Some(waiting) => waiting.push(one),
                None => keys.entry(one.key.clone()).or_default().push(one),
            }
        }
        for (key, all) in keys {
            waiting.insert(key.clone(), Vec::new());
            asked.push(async move { (key, ask(all).await) });
        }
    }
}

/// Why a message may come again although it is stored.
enum Refused {
    /// Because of this answer.
    Answer(AckError),
    /// There was none.
    Silence,
}

/// Acknowledges these, in their order; returns what was refused.
async fn ask(done: Vec<Done>) -> Vec<Refused> {
    let answers = join_all(done.into_iter().map(|Done { handler, told, .. }| async {
        match handler {
            Handler::ExactlyOnce(handler) => {
                let confirmed = tokio::time::timeout(PATIENCE, handler.confirmed_ack()).await;
                confirmed.map_err(|_| Refused::Silence)?.map_err(Refused::Answer)?;
            }
            other => other.ack(),
        }
        told();
        Ok(())
    }));
    answers.await.into_iter().filter_map(Result::err).collect()
}

fn report(pubsub: &PubSub, refused: Vec<Refused>) {
    let Some(first) = refused.first() else { return };
    let error = match first {
        Refused::Answer(AckError::Rpc { source, .. }) => pubsub.sentence(source),
        Refused::Answer(other) => other.to_string(),
        Refused::Silence => {
            let (name, seconds) = (pubsub.subscription(), PATIENCE.as_secs());
            format!("{name} has confirmed no acknowledgement for {seconds} s")
        }
    };
    let messages = refused.len();
    tracing::warn!(messages, error, "acknowledgements were refused: what is stored comes again");
    if !refused.iter().all(is_late) {
        pubsub.pulling_fails(error);
    }
}

/// Its lease had ended, here or as the service sees it: nothing is wrong with the rest.
fn is_late(refused: &Refused) -> bool {
    match refused {
        Refused::Answer(AckError::Rpc { source, .. }) => {
            matches!(code(source), Some(Code::InvalidArgument | Code::FailedPrecondition))
        }
        Refused::Answer(_) => true,
        Refused::Silence => false,
    }
}
