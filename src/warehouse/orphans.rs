//! Objects of the lake that no job has: of machines that are gone with their ledgers, which alone
//! would have had them loaded.
//!
//! In: what the lake says that it has, whoever stored it. Out: what of it the warehouse knows no
//! job of, and then each row of that in its table, once. Nothing of this has to be durable: of a
//! process that was killed the warehouse knows the jobs that it has been given, and the rest is an
//! orphan as before. Two may not do it at once, nor one before the last call of another has come
//! through; and nobody else may still have to load what is called an orphan here.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::{Progress, Stage, WarehouseError, WarehouseLoader, recall};
use crate::config::WarehouseConfig;
use crate::event::StreamName;
use crate::ledger::{Adopted, Ledger, Load, LoadState, Member};
use crate::sqlite::SqliteError;
use crate::store::OfLog;

/// What the warehouse says of the lake's objects.
#[derive(Debug, Default)]
pub struct Orphans {
    /// Those that no job has, whether it runs or has landed.
    pub objects: Vec<OfLog>,
    /// How many are in jobs that run: they land, or are orphans later.
    pub running: usize,
    /// Loads of which jobs have failed.
    failed: Vec<Load>,
}

/// Asks which of the objects no job has.
///
/// # Errors
/// The warehouse can't be asked.
pub async fn orphans(
    loader: &impl WarehouseLoader,
    config: &WarehouseConfig,
    mut objects: Vec<OfLog>,
) -> Result<Orphans, WarehouseError> {
    let dataset = config.dataset.as_deref().unwrap_or_default();
    loader.check().await?;
    let members: Vec<Member> = objects.iter().map(member).collect();
    let names = members.iter().map(|member| member.object.clone()).collect();
    let since = recall::since(&members, crate::time::now(), loader.memory());
    let jobs = loader.history(dataset, since, &names).await?;
    let failed = recall::used_up(dataset, &jobs);
    let (recalled, left) = recall::taken(dataset, members, jobs);
    let runs = recalled.iter().filter(|recalled| recalled.load.state == LoadState::Open);
    let running = runs.map(|recalled| recalled.batches.len()).sum();
    let left: HashSet<_> = left.into_iter().map(|member| member.batch).collect();
    objects.retain(|object| left.contains(&object.found.id));
    Ok(Orphans { objects, running, failed })
}

/// Tells a ledger that knows nothing else of orphans. Not within a runtime.
///
/// # Errors
/// What SQLite said.
pub fn take_orphans(ledger: &Ledger, orphans: Orphans) -> Result<(), SqliteError> {
    ledger.serve_warehouse()?;
    ledger.know_loads(orphans.failed)?;
    let mut orphans = orphans.objects;
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
