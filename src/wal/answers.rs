//! Answers to appends on their way back, many at a time.
//!
//! To wake another thread's task is a system call. A thread that waits for many appends has a box:
//! what one sync has made durable arrives there as one message, and a task on that thread hands
//! it on, which wakes nobody but tasks of its own.

use tokio::sync::{mpsc, oneshot};

use super::{AppendError, Durable};

/// Whom an append's answer is for.
pub(super) type Reply = oneshot::Sender<Result<Durable, AppendError>>;

type Answered = Vec<(Reply, Durable)>;

/// Where the answers to one thread's appends go.
#[derive(Clone, Debug)]
pub struct Answers(mpsc::UnboundedSender<Answered>);

/// Where they arrive: no more at a time than there are appends under way.
#[derive(Debug)]
pub struct AnswerBox(mpsc::UnboundedReceiver<Answered>);

impl Answers {
    /// A box and the way to it.
    #[must_use]
    pub fn new() -> (Self, AnswerBox) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), AnswerBox(receiver))
    }
}

impl AnswerBox {
    /// Hands on what arrives, as long as anybody may send.
    pub async fn deliver(mut self) {
        while let Some(answered) = self.0.recv().await {
            hand_on(answered);
        }
    }
}

fn hand_on(answered: Answered) {
    for (reply, durable) in answered {
        // The request may have gone away; its records are durable all the same.
        let _ = reply.send(Ok(durable));
    }
}

/// Answers that are sorted by their boxes before they are sent.
#[derive(Default)]
pub(super) struct Post {
    /// Few: one a core.
    boxes: Vec<(Answers, Answered)>,
    rest: Answered,
}

impl Post {
    pub(super) fn add(&mut self, to: Option<Answers>, reply: Reply, durable: Durable) {
        let Some(to) = to else { return self.rest.push((reply, durable)) };
        match self.boxes.iter_mut().find(|(other, _)| other.0.same_channel(&to.0)) {
            Some((_, answered)) => answered.push((reply, durable)),
            None => self.boxes.push((to, vec![(reply, durable)])),
        }
    }

    /// Sends all of them, in the order of the appends of each box.
    pub(super) fn send(self) {
        for (to, answered) in self.boxes {
            // A box whose thread has ended: nobody waits there any more.
            let _ = to.0.send(answered);
        }
        hand_on(self.rest);
    }
}
