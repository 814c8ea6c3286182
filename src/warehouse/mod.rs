//! The warehouse: tables that the lake's objects are loaded into, in the background.
//!
//! In: objects that the ledger knows as stored. Out: each row of them in its table, once. A load is
//! durable in the ledger, with its objects and its attempt, before its job is submitted, and the
//! job's id follows from them: what was submitted before a crash, or before a reply was lost, is
//! recognised and waited for. Nothing here keeps an event from being taken or stored: what can't
//! be loaded waits in the lake.
//!
//! [`Stage`] drives; a [`WarehouseLoader`] speaks with a service, and says of each failure whether
//! it lies with the service, with how things are set up, or with the objects.

#[cfg(feature = "bigquery")]
mod bigquery;
mod failing;
mod group;
mod orphans;
mod pace;
mod recall;
mod stage;
mod state;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::time::Duration;

#[cfg(feature = "bigquery")]
pub use bigquery::{BigQuery, BigQueryError};
pub use group::Limits;
pub use orphans::{Orphans, load_orphans, orphans, take_orphans};
pub use stage::Stage;
pub use state::{Progress, WarehouseStatus};

use crate::event::Micros;
use crate::ledger::{Load, Member};

/// Where a failure lies, and so what is done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// With the service, or the way to it, for now: it is tried again.
    Service,
    /// With what an operator has set up: project, dataset, permission. It is tried again, and told.
    Setup,
    /// With the objects: the one that can't be loaded is looked for.
    Objects,
}

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct WarehouseError {
    /// Where it lies.
    pub fault: Fault,
    /// One sentence that names the place.
    pub message: String,
    /// How long the service wishes to be left alone.
    pub after: Option<Duration>,
    /// The objects that are named as the cause, in the store's words.
    pub objects: Vec<String>,
}

/// How a job does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Job {
    /// There is none of that id.
    Unknown,
    /// It waits or runs.
    Running,
    /// Every row of its objects has landed.
    Loaded,
    /// Nothing of it has landed, and nothing will.
    Failed(WarehouseError),
}

/// A job of an earlier time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastJob {
    /// Its id.
    pub job: String,
    /// Its table.
    pub table: String,
    /// When it was created.
    pub created_at: Micros,
    /// Those of its objects that were asked for, in the store's words.
    pub objects: Vec<String>,
    /// How it does now.
    pub state: Job,
}

/// A service that loads objects of a bucket into tables, with jobs that it runs by itself and that
/// land whole or not at all.
pub trait WarehouseLoader: Send + Sync + 'static {
    /// Its name in the console and the metrics.
    fn name(&self) -> &str;

    /// What one job may hold, and how many there may be.
    fn limits(&self) -> Limits;

    /// Whether it could be asked, and has what tables are made in.
    fn check(&self) -> impl Future<Output = Result<(), WarehouseError>> + Send;

    /// Makes the load's table, or adds the columns that it lacks.
    fn prepare(&self, load: &Load) -> impl Future<Output = Result<(), WarehouseError>> + Send;

    /// Submits the job of the load's present attempt. One of that id that is there already is
    /// success: [`status`](Self::status) says what has become of it, and of one whose submission
    /// had no answer. A failure with [`Fault::Objects`] means that there will be no such job.
    fn submit(
        &self,
        load: &Load,
        members: &[Member],
    ) -> impl Future<Output = Result<(), WarehouseError>> + Send;

    /// How the job of the load's present attempt does.
    fn status(&self, load: &Load) -> impl Future<Output = Result<Job, WarehouseError>> + Send;

    /// Our jobs into that dataset which were created since then and have one of those objects.
    fn history(
        &self,
        dataset: &str,
        since: Micros,
        objects: &HashSet<String>,
    ) -> impl Future<Output = Result<Vec<PastJob>, WarehouseError>> + Send;

    /// For how long it remembers a job.
    fn memory(&self) -> Duration;
}
