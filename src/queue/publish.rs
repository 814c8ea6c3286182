//! Where a log's records go: to the stages of this process, or into a topic.

use std::time::Duration;

use super::message::Message;
use super::outbox::Outbox;
use crate::event::{RawEvent, Seq};

/// What is published is confirmed soon: a crash before the cursor is saved publishes it again.
const SAVE_CURSOR: Duration = Duration::from_secs(1);

/// What one stream's worker does with the records of its log. By default it processes all.
#[derive(Default)]
pub struct Flow {
    /// Into the topic goes what was acknowledged here.
    pub outbox: Option<Outbox>,
    /// Whether messages are pulled into the log, to be processed here.
    pub pulls: bool,
}

/// A record's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Adapted and stored by this process.
    Here,
    /// Published.
    Topic,
    /// Nowhere: it was pulled by an earlier process, and what that did not finish it did not
    /// acknowledge either, so that the topic delivers it again, to somebody.
    Again,
}

/// How records are told apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct Route {
    publishes: bool,
    pulls: bool,
    head_at_start: Seq,
}

impl Flow {
    pub(super) fn route(&self, head_at_start: Seq) -> Route {
        Route { publishes: self.outbox.is_some(), pulls: self.pulls, head_at_start }
    }

    /// Whether each record that an earlier process left is adapted again here. Of what is published
    /// or was pulled some others take care.
    pub(super) fn keeps_all(&self) -> bool {
        self.outbox.is_none() && !self.pulls
    }

    pub(super) fn has_room(&self) -> bool {
        self.outbox.as_ref().is_none_or(Outbox::has_room)
    }

    pub(super) fn publish(&self, messages: Vec<Message>) {
        if let Some(outbox) = &self.outbox {
            outbox.send(messages);
        }
    }

    pub(super) fn save_every(&self, usually: Duration) -> Duration {
        if self.outbox.is_some() { SAVE_CURSOR } else { usually }
    }
}

impl Route {
    pub(super) fn of(self, raw: &RawEvent<'_>) -> Way {
        let (replay, origin) = (raw.receipt.replay, raw.receipt.origin);
        let was_pulled = origin.is_some() && replay.is_none();
        // A letter is mended where it lies: where events are processed, its replay is too.
        let stays = was_pulled || (self.pulls && replay.is_some());
        if was_pulled && (self.publishes || self.pulls) && raw.seq < self.head_at_start {
            Way::Again
        } else if stays || !self.publishes {
            Way::Here
        } else {
            Way::Topic
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Origin, Receipt, ReplayOrigin, StreamName};

    #[test]
    fn each_record_has_one_way_in_each_role() {
        let stream = StreamName::new("s").unwrap();
        let of = |publishes, pulls, seq, is_pulled: bool, is_replay: bool| {
            let receipt = Receipt {
                origin: is_pulled.then_some(Origin { log_uuid: 1, seq: 1 }),
                replay: is_replay.then_some(ReplayOrigin { letter: 1, replayed_at: 1 }),
                ..Receipt::default()
            };
            let raw = RawEvent { stream: &stream, seq, payload: b"{}", receipt };
            Route { publishes, pulls, head_at_start: 10 }.of(&raw)
        };
        let (local, collect, process, all) =
            ((false, false), (true, false), (false, true), (true, true));
        for (role, collected, pulled, replay) in [
            (local, Way::Here, Way::Here, Way::Here),
            (collect, Way::Topic, Way::Here, Way::Topic),
            (process, Way::Here, Way::Here, Way::Here),
            (all, Way::Topic, Way::Here, Way::Here),
        ] {
            let of = |seq, is_pulled, is_replay| of(role.0, role.1, seq, is_pulled, is_replay);
            assert_eq!((of(9, false, false), of(10, false, false)), (collected, collected));
            assert_eq!(of(10, true, false), pulled, "{role:?}");
            assert_eq!((of(9, false, true), of(9, true, true)), (replay, replay), "{role:?}");
            let of_earlier = if role == local { Way::Here } else { Way::Again };
            assert_eq!(of(9, true, false), of_earlier, "{role:?}");
        }
    }
}
