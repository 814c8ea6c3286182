//! Objects of the lake that no job has: of machines that are gone with their ledgers, which alone
//! would have had them loaded.
//!
//! In: what the lake says that it has, whoever stored it. Out: what of it the warehouse knows no
//! job of, and then each row of that in its table, once. Nothing of this has to be durable: after
//! a crash the warehouse knows which jobs there were, and the rest is an orphan as before. Two
//! may not do it at once, and nobody else may still have what is called one here.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::{Progress, Stage, WarehouseError, WarehouseLoader, recall};
use crate::config::WarehouseConfig;
use crate::event::StreamName;
use crate::ledger::{Adopted, Ledger, Member};
use crate::sqlite::SqliteError;
use crate::store::OfLog;

/// Those of the objects that no job has, whether it runs or has landed.
///
/// # Errors
/// The warehouse can't be asked.
pub async fn orphans(
    loader: &impl WarehouseLoader,
    config: &WarehouseConfig,
    objects: Vec<OfLog>,
) -> Result<Vec<OfLog>, WarehouseError> {
    let dataset = config.dataset.as_deref().unwrap_or_default();
    let members: Vec<Member> = objects.iter().map(member).collect();
    let names = members.iter().map(|member| member.object.clone()).collect();
    let now = crate::time::now();
    let since = recall::since(&members, now, loader.memory());
    let jobs = loader.history(dataset, since, &names).await?;
    let (_, left) = recall::taken(dataset, members, jobs);
    let left: HashSet<_> = left.into_iter().map(|member| member.batch).collect();
    Ok(objects.into_iter().filter(|object| left.contains(&object.found.id)).collect())
}

/// Tells a ledger that knows nothing else of orphans. Not within a runtime.
///
/// # Errors
/// What SQLite said.
pub fn take_orphans(ledger: &Ledger, mut orphans: Vec<OfLog>) -> Result<(), SqliteError> {
    ledger.serve_warehouse()?;
    orphans.sort_by(|one, other| log_of(one).cmp(&log_of(other)));
    for of_a_log in orphans.chunk_by(|one, other| log_of(one) == log_of(other)) {
        let adopted = |orphan: &OfLog| Adopted { found: orphan.found.clone(), ids: Vec::new() };
        let Some((stream, log_uuid)) = of_a_log.first().map(log_of) else { continue };
        ledger.adopt(stream, log_uuid, of_a_log.iter().map(adopted).collect())?;
    }
    Ok(())
}

/// Loads what a ledger was told of; ends once each has landed or failed for good. As long as the
/// warehouse can't be used, it waits.
pub async fn load_orphans(
    loader: impl WarehouseLoader,
    mut config: WarehouseConfig,
    ledger: Ledger,
    progress: Progress,
) {
    // One load of a table after the other.
    config.interval = Duration::ZERO;
    let told = Arc::new(|what: String| tracing::info!("{what}"));
    let stage = Stage::new(loader, ledger, config, progress, told, Arc::new(Notify::new()));
    stage.finish().await;
}

fn log_of(object: &OfLog) -> (&StreamName, u128) {
    (&object.stream, object.log_uuid)
}

fn member(object: &OfLog) -> Member {
    let OfLog { stream, found, .. } = object;
    Member {
        batch: found.id,
        stream: stream.as_str().to_owned(),
        object: found.object.clone(),
        rows: found.seqs.len(),
        bytes: found.bytes,
        received: found.received,
    }
}
