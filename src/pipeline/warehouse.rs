//! The warehouse's stage beside the others: built when there is one, run in the background.

use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::admin::Loads;
use crate::config::{Config, WarehouseConfig, WarehouseKind};
use crate::ledger::{Ledger, Waiting};
use crate::warehouse::{Progress, Stage, WarehouseLoader};

/// Waits of so many intervals are a finding.
const LAG_INTERVALS: u32 = 3;

type Running = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A warehouse that is configured.
pub(super) struct Loading {
    pub(super) progress: Progress,
    config: WarehouseConfig,
    hurry: Arc<Notify>,
    stage: Option<Running>,
}

impl Loading {
    /// What the configuration says; nothing where it names no warehouse, or where this instance
    /// stores nothing that could be loaded.
    pub(super) fn of(config: &Config) -> Option<Self> {
        if config.warehouse.kind == WarehouseKind::None || !config.stores() {
            return None;
        }
        // A batch is as old as its buffer may be when it is stored.
        let lag_max = config.warehouse.interval * LAG_INTERVALS + config.load.age_max;
        Some(Self {
            progress: Progress::new(config.warehouse.kind.as_str(), lag_max),
            config: config.warehouse.clone(),
            hurry: Arc::default(),
            stage: None,
        })
    }

    pub(super) fn with(
        mut self,
        loader: impl WarehouseLoader,
        ledger: Ledger,
        changed: Arc<dyn Fn(String) + Send + Sync>,
    ) -> Self {
        let (config, progress) = (self.config.clone(), self.progress.clone());
        let stage = Stage::new(loader, ledger, config, progress, changed, Arc::clone(&self.hurry));
        self.stage = Some(Box::pin(stage.run()));
        self
    }

    /// Runs it; returns what operators steer it with.
    pub(super) fn spawn(self, background: &mut JoinSet<()>, ledger: &Ledger) -> Loads {
        if let Some(stage) = self.stage {
            background.spawn(stage);
        }
        Loads { ledger: ledger.clone(), hurry: self.hurry }
    }
}

/// Says at a stop what only this ledger knows not to be loaded yet.
pub(super) fn say_what_waits(ledger: &Ledger) {
    if !ledger.serves_a_warehouse() {
        return;
    }
    match ledger.waiting() {
        Ok(Waiting { objects: 0, .. }) => {}
        Ok(Waiting { objects, .. }) => {
            tracing::info!(objects, "what waits for the warehouse is loaded after the next start");
        }
        Err(error) => tracing::error!(%error, "the ledger can't say what waits for the warehouse"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{QueueMode, Role};

    #[test]
    fn who_only_collects_has_nothing_to_load() {
        let mut config = Config::default();
        assert!(Loading::of(&config).is_none(), "no warehouse");
        config.warehouse.kind = WarehouseKind::BigQuery;
        config.queue.mode = QueueMode::PubSub;
        for (role, loads) in [(Role::All, true), (Role::Process, true), (Role::Collect, false)] {
            config.role = role;
            assert_eq!(Loading::of(&config).is_some(), loads, "{role:?}");
        }
    }
}
