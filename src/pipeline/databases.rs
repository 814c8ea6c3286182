//! Ledger and error store, opened together: each knows something of what the other may have lost.

use std::io;
use std::sync::Arc;

use super::StartError;
use crate::config::{Config, WarehouseKind};
use crate::damage::{Report, Reports};
use crate::errors::ErrorStore;
use crate::ledger::Ledger;

/// Opening databases checks every row of them: off the runtime's threads.
pub(super) async fn open_databases(
    config: Arc<Config>,
) -> Result<(Ledger, ErrorStore), StartError> {
    let opened = tokio::task::spawn_blocking(move || {
        let (ledger, errors) =
            (config.data_dir.join("ledger.db"), config.data_dir.join("errors.db"));
        // The error store is made first, so it is never the one that is not there yet.
        let (knew, is_gone) = (ledger.exists(), ledger.exists() && !errors.exists());
        let errors = ErrorStore::open(&errors, config.errors.clone())?;
        let ledger = Ledger::open(&ledger)?;
        if config.warehouse.kind != WarehouseKind::None {
            ledger.serve_warehouse()?;
        }
        // The ledger knows letters by their numbers alone: one that it knows is never another's.
        errors.number_above(ledger.last_letter()?)?;
        if is_gone {
            report_gone(&config);
        }
        // The lake knows letters by their numbers too, and a new ledger does not know them.
        if !knew && config.data_dir.join("wal").exists() {
            errors.number_above(crate::time::now())?;
        }
        Ok((ledger, errors))
    });
    match opened.await {
        Ok(opened) => opened,
        Err(error) => {
            Err(StartError::File { path: "ledger.db".into(), source: io::Error::other(error) })
        }
    }
}

fn report_gone(config: &Config) {
    let report = Report {
        what: "dead letters".to_owned(),
        text: "errors.db was not there and begins anew: dead letters whose events the logs still \
               have come back, others are lost"
            .to_owned(),
        found_at: crate::time::now(),
        ..Report::default()
    };
    if let Err(error) = Reports::open(&config.data_dir.join("quarantine")).add(report) {
        tracing::error!(%error, "the report can't be kept");
    }
}
