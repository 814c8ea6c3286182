//! The steps of an event's way, and which of them an instance of each role takes: the one table
//! from which the snapshot's stages are made, and every view learns what there is to show.

use super::Snapshot;
use crate::config::Role;

/// A step of an event's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It comes in over HTTP.
    Ingest,
    /// It stands in its stream's log.
    Wal,
    /// The topic has confirmed it.
    Publish,
    /// It was pulled from the subscription.
    Pull,
    /// It became typed, or a dead letter.
    Validate,
    /// It has its partition.
    Partition,
    /// It is in a batch.
    Batch,
    /// Its batch is stored.
    Load,
}

impl Step {
    /// The steps of an instance in the order of an event's way; `None` is the one instance of a
    /// service that has no topic.
    #[must_use]
    pub fn of(role: Option<Role>) -> &'static [Self] {
        use Step::{Batch, Ingest, Load, Partition, Publish, Pull, Validate, Wal};
        match role {
            None => &[Ingest, Wal, Validate, Partition, Batch, Load],
            Some(Role::Collect) => &[Ingest, Wal, Publish],
            Some(Role::Process) => &[Pull, Wal, Validate, Partition, Batch, Load],
            // Seven are as many as 80 columns show; what passes `partition` passes `validate`.
            Some(Role::All) => &[Ingest, Wal, Publish, Pull, Validate, Batch, Load],
        }
    }

    /// The name of its stage.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Wal => "wal",
            Self::Publish => "publish",
            Self::Pull => "pull",
            Self::Validate => "validate",
            Self::Partition => "partition",
            Self::Batch => "batch",
            Self::Load => "load",
        }
    }
}

impl Snapshot {
    /// The part of several instances' work that is this one's; `None` where there is no topic.
    #[must_use]
    pub fn role(&self) -> Option<Role> {
        self.queue.as_ref().map(|queue| queue.role)
    }

    /// Whether events take that step here.
    #[must_use]
    pub fn has(&self, step: Step) -> bool {
        Step::of(self.role()).contains(&step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_takes_the_steps_that_the_configuration_gives_it() {
        use crate::config::{Config, QueueMode};
        let mut config = Config::default();
        for role in [None, Some(Role::Collect), Some(Role::Process), Some(Role::All)] {
            config.queue.mode = role.map_or(QueueMode::Local, |_| QueueMode::PubSub);
            config.role = role.unwrap_or_default();
            let has = |step| Step::of(role).contains(&step);
            assert_eq!(has(Step::Publish), config.publishes(), "{role:?}");
            assert_eq!(has(Step::Pull), config.pulls(), "{role:?}");
            assert_eq!(has(Step::Load), config.stores(), "{role:?}");
            assert_eq!(has(Step::Ingest), role != Some(Role::Process), "{role:?}");
        }
    }
}
