//! Loads into the warehouse: seen, retried, and dismissed.

use std::sync::Arc;

use axum::Json;
use axum::extract::connect_info::ConnectInfo;
use axum::extract::{Path as UrlPath, State};
use axum::http::StatusCode;
use tokio::sync::Notify;

use super::ListLoads;
use super::server::{Admin, Peer, Refusal, allowed};
use crate::ledger::{Ledger, Load, LoadId, NotALoadId};
use crate::sqlite::SqliteError;

/// An answer has at most as many.
const LOADS_MAX: u32 = 1_000;

/// The loads and who drives them: what the pipeline lends to this door.
#[derive(Clone)]
pub struct Loads {
    /// What knows them.
    pub ledger: Ledger,
    /// Ends every wait between attempts.
    pub hurry: Arc<Notify>,
}

fn loads(admin: &Admin) -> Result<Loads, Refusal> {
    let message = "no warehouse is configured (warehouse.kind)";
    admin
        .loads
        .clone()
        .ok_or_else(|| Refusal(StatusCode::NOT_FOUND, "no_warehouse", message.to_owned()))
}

async fn ask<T: Send + 'static>(
    ledger: Ledger,
    work: impl FnOnce(&Ledger) -> Result<T, SqliteError> + Send + 'static,
) -> Result<T, Refusal> {
    let unavailable =
        |why: String| Refusal(StatusCode::SERVICE_UNAVAILABLE, "ledger_unavailable", why);
    let asked = tokio::task::spawn_blocking(move || work(&ledger)).await;
    asked.map_err(|e| unavailable(e.to_string()))?.map_err(|e| unavailable(e.to_string()))
}

pub(super) async fn list(
    State(admin): State<Admin>,
    Json(list): Json<ListLoads>,
) -> Result<Json<Vec<Load>>, Refusal> {
    let limit = if list.limit == 0 { LOADS_MAX } else { list.limit.min(LOADS_MAX) };
    let found = ask(loads(&admin)?.ledger, move |l| l.loads(list.state, limit as usize));
    found.await.map(Json)
}

pub(super) async fn retry(
    State(admin): State<Admin>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    UrlPath(id): UrlPath<String>,
) -> Result<Json<Load>, Refusal> {
    let is_none = "that has failed, and whose objects are known";
    let load = change(&admin, &peer, &id, is_none, Ledger::retry_load).await?;
    loads(&admin)?.hurry.notify_waiters();
    (admin.changed)(format!("load {id} into {} retried by {}", load.table, peer.name()));
    Ok(Json(load))
}

pub(super) async fn dismiss(
    State(admin): State<Admin>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    UrlPath(id): UrlPath<String>,
) -> Result<Json<Load>, Refusal> {
    let load = change(&admin, &peer, &id, "that has failed", Ledger::dismiss_load).await?;
    (admin.changed)(format!("load {id} into {} dismissed by {}", load.table, peer.name()));
    Ok(Json(load))
}

/// Changes the load of that id; `which` says in words which can be changed.
async fn change(
    admin: &Admin,
    peer: &Peer,
    id: &str,
    which: &str,
    change: impl FnOnce(&Ledger, LoadId) -> Result<Option<Load>, SqliteError> + Send + 'static,
) -> Result<Load, Refusal> {
    allowed(peer)?;
    let no_load = |why: String| Refusal(StatusCode::NOT_FOUND, "no_such_load", why);
    let id: LoadId = id.parse().map_err(|error: NotALoadId| no_load(error.to_string()))?;
    let changed = ask(loads(admin)?.ledger, move |ledger| change(ledger, id)).await?;
    changed.ok_or_else(|| no_load(format!("there is no load {id} {which}")))
}
