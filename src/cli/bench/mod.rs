//! `eventkit bench`: how fast the service is here, beside what this machine can do at best.
//!
//! In: what is measured, how long it may take, and where the files go. Out: [`Figures`], a
//! [`Curve`] or a [`Scale`], as a table or as JSON; the
//! exit code is 1 where an event that was acknowledged is not accounted for. Everything happens in
//! a directory of its own and with a configuration of its own; a configuration that lies around,
//! and its data directory, are not looked at. Steps come one after the other, so that each has the
//! machine to itself; every scenario has a fresh service. Whatever happens, it ends: calls have
//! limits, and so has the whole.

mod account;
mod answer;
mod ceilings;
mod curve;
mod fairness;
mod figures;
mod load;
mod quiet;
mod report;
mod requests;
mod rig;
mod scale;
mod schedule;
mod server;
mod steps;
mod variants;
mod watch;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use super::print::{self, Form};
use super::service::{Hangup, Stop};
use super::{Done, Failure, IO, Options, USAGE};
use curve::Curve;
use figures::Figures;
use rig::Rig;
use scale::Scale;
use serde::Serialize;
use server::Part;
use steps::Steps;
use watch::Document;

/// How long a run takes unless it is asked for something else; for [`Scale`] see there.
const TIME: Duration = Duration::from_secs(60);
const TIME_CURVE: Duration = Duration::from_secs(75);
/// Below that, nothing is measured long enough to say anything.
const TIME_MIN: Duration = Duration::from_secs(10);
const TIME_MAX: Duration = Duration::from_secs(3600);
/// What a run may take beyond its time: stores that are slow to take what was sent.
const OVERTIME: Duration = Duration::from_secs(120);
/// Bytes that a second of a run writes at most, about.
const BYTES_PER_SECOND: u64 = 100 << 20;
/// What is still under way in this process ends within that time.
const END_MAX: Duration = Duration::from_secs(10);

/// Measure how fast the service is on this machine, beside what the machine can do at best
#[derive(clap::Args)]
pub struct Bench {
    /// Take about this long, such as 30s, 5m; at least 10s [default: 60s; 75s for --curve, 150s
    /// for --scale]
    #[arg(long = "for", value_name = "DURATION", value_parser = super::duration)]
    time: Option<Duration>,
    /// Measure instead how long answers take at every load, from 10 % to 110 % of what is possible
    #[arg(long, conflicts_with = "scale")]
    curve: bool,
    /// Measure instead what an event costs while one thing grows: streams, partitions,
    /// connections, batches, payloads, backlog
    #[arg(long)]
    scale: bool,
    /// Where the temporary directory is made, on the device that is to be measured [default: the
    /// system's temporary directory]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    #[command(flatten)]
    form: Form,
    /// Be one of the servers that are measured
    #[arg(long, hide = true)]
    child: Option<Part>,
}

/// What was found.
#[derive(Serialize)]
#[serde(untagged)]
enum Found {
    All(Box<Figures>),
    Curve(Document<Curve>),
    Scale(Document<Scale>),
}

impl Found {
    fn table(&self) -> String {
        match self {
            Self::All(figures) => report::table(figures),
            Self::Curve(document) => document.table(curve::write),
            Self::Scale(document) => document.table(scale::write),
        }
    }

    fn problems(&self) -> &[String] {
        match self {
            Self::All(figures) => &figures.problems,
            Self::Curve(document) => &document.problems,
            Self::Scale(document) => &document.problems,
        }
    }
}

impl Bench {
    /// About how long it takes.
    fn time(&self) -> Duration {
        self.time.unwrap_or(match (self.curve, self.scale) {
            (true, _) => TIME_CURVE,
            (_, true) => scale::TIME,
            _ => TIME,
        })
    }

    pub fn run(self, options: &Options) -> Done {
        if let Some(part) = self.child {
            return part.run(options, self.dir);
        }
        self.check(options)?;
        let parent = self.dir.clone().unwrap_or_else(std::env::temp_dir);
        let at = |error| Failure::new(IO, format!("{}: {error}", parent.display()));
        let parent = std::path::absolute(&parent).map_err(at)?;
        std::fs::metadata(&parent).map_err(at)?;
        let free = eventkit::space::disk_bytes(&parent).0;
        let needed = BYTES_PER_SECOND * self.time().as_secs();
        if free < needed {
            let human = eventkit::space::human;
            let (free, needed) = (human(free), human(needed));
            return Err(at(std::io::Error::other(format!("{needed} are needed, {free} are free"))));
        }
        let dir =
            tempfile::Builder::new().prefix("eventkit-bench-").tempdir_in(&parent).map_err(at)?;
        std::env::set_current_dir(dir.path())?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let cancel = Arc::new(AtomicBool::new(false));
        let measured = runtime.block_on(self.measure(&parent, dir.path(), &cancel));
        cancel.store(true, Relaxed);
        // Nobody may write to the directory any more when it is removed.
        runtime.shutdown_timeout(END_MAX);
        dir.close().map_err(at)?;
        self.print(&measured?)
    }

    /// Whether what was asked for makes sense.
    fn check(&self, options: &Options) -> Done {
        if !(TIME_MIN..=TIME_MAX).contains(&self.time()) {
            let sentence =
                format!("--for {:?}: it can be between {TIME_MIN:?} and {TIME_MAX:?}", self.time());
            return Err(Failure::new(USAGE, sentence));
        }
        let Options { config, data_dir, listen, metrics_listen, admin_socket, role } = options;
        let paths = [config, data_dir, admin_socket].into_iter().any(Option::is_some);
        if paths || [listen, metrics_listen, role].into_iter().any(Option::is_some) {
            let sentence = "bench has a configuration of its own and takes none of the options \
                            of a service; --dir says where its files go";
            return Err(Failure::new(USAGE, sentence));
        }
        Ok(())
    }

    /// Measures, unless it is told to stop or takes for ever.
    async fn measure(
        &self,
        parent: &Path,
        dir: &Path,
        cancel: &Arc<AtomicBool>,
    ) -> Result<Found, Failure> {
        let stop = Stop::new();
        stop.on_signals(Hangup::Stops)?;
        let rig = Rig::new(dir, parent, self.time(), cancel, std::io::stderr().is_terminal());
        let found = async {
            Ok(match (self.curve, self.scale) {
                (true, _) => Found::Curve(curve::measure(&rig).await?),
                (_, true) => Found::Scale(scale::measure(&rig).await?),
                _ => Found::All(Box::new(Steps::new(&rig).run().await?)),
            })
        };
        let limit = self.time() + OVERTIME;
        tokio::select! {
            biased;
            () = stop.stopped() => Err(Failure::new(1, "stopped before there were any figures")),
            done = tokio::time::timeout(limit, found) => done.unwrap_or_else(|_| {
                Err(Failure::new(IO, format!("not done within {limit:?}")))
            }),
        }
    }

    fn print(&self, found: &Found) -> Done {
        print::answer(&self.form, found, Found::table)?;
        match found.problems().first() {
            None => Ok(()),
            Some(first) => {
                let sentence = format!("the figures are worth nothing: {first}");
                Err(Failure::new(1, sentence))
            }
        }
    }
}
