//! `eventkit ledger`: what was loaded into the warehouse.

use std::fmt::Write as _;

use clap::builder::PossibleValuesParser;
use eventkit::admin::ListLoads;
use eventkit::ledger::{Load, LoadId, LoadState};

#[cfg(feature = "bigquery")]
use super::orphans::LoadOrphans;
use super::print::{self, Form, safe, size, time};
use super::{Done, Options, block_on};

/// Look at the loads into the warehouse
#[derive(clap::Subcommand)]
pub enum Ledger {
    /// List loads into the warehouse, those that changed last first
    Loads(Loads),
    /// Try a load again that failed for good, or was dismissed
    RetryLoad(OneLoad),
    /// Give up a load that failed for good: nothing of it is loaded, and it is no trouble any more
    DismissLoad(OneLoad),
    #[cfg(feature = "bigquery")]
    LoadOrphans(LoadOrphans),
}

/// List loads into the warehouse
#[derive(clap::Args)]
pub struct Loads {
    /// Only those in that state
    #[arg(long, value_parser = states())]
    state: Option<String>,
    /// Show so many
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: u32,
    #[command(flatten)]
    form: Form,
}

/// Names a load
#[derive(clap::Args)]
pub struct OneLoad {
    /// Its id, as `ledger loads` shows it
    id: LoadId,
    #[command(flatten)]
    form: Form,
}

fn states() -> PossibleValuesParser {
    PossibleValuesParser::new(LoadState::ALL.map(LoadState::as_str))
}

impl Ledger {
    pub fn run(self, options: &Options) -> Done {
        match self {
            #[cfg(feature = "bigquery")]
            Self::LoadOrphans(orphans) => orphans.run(options),
            Self::Loads(Loads { state, limit, form }) => {
                let state = state.as_deref().and_then(LoadState::from_name);
                let list = ListLoads { state, limit };
                let loads = block_on(async { Ok(options.client()?.loads(&list).await?) })?;
                print::answer(&form, &loads, |loads| text(loads))
            }
            Self::RetryLoad(OneLoad { id, form }) => {
                let load = block_on(async { Ok(options.client()?.retry_load(id).await?) })?;
                print::answer(&form, &load, |load| {
                    format!("load {} is open again: attempt {}", load.id, load.attempt)
                })
            }
            Self::DismissLoad(OneLoad { id, form }) => {
                let load = block_on(async { Ok(options.client()?.dismiss_load(id).await?) })?;
                print::answer(&form, &load, |load| {
                    let (objects, table) = (load.objects, &load.table);
                    format!("load {id} is dismissed: {objects} objects are not loaded into {table}")
                })
            }
        }
    }
}

fn text(loads: &[Load]) -> String {
    if loads.is_empty() {
        return "no loads".to_owned();
    }
    let mut out = format!(
        "{:<32}  {:<9} {:>7} {:>8} {:>10} {:>10}  {:<20}  table",
        "load", "state", "attempt", "objects", "rows", "bytes", "changed"
    );
    for load in loads {
        // Writing to a String can't fail.
        let _ = write!(
            out,
            "\n{}  {:<9} {:>7} {:>8} {:>10} {:>10}  {:<20}  {}.{}",
            load.id,
            load.state.as_str(),
            load.attempt,
            load.objects,
            load.rows,
            size(load.bytes),
            time(load.changed_at),
            load.dataset,
            load.table
        );
        if let Some(error) = &load.error {
            let _ = match load.objects {
                1 => write!(out, "\n  {}: {}", safe(&load.object), safe(error)),
                // The error may be of any of them.
                _ => write!(out, "\n  {}", safe(error)),
            };
        }
    }
    out
}
