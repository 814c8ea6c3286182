//! `eventkit bench`: how fast the service is here, beside what this machine can do at best.
//!
//! In: how long it may take, and where the files go. Out: [`Figures`], as a table or as JSON; the
//! exit code is 1 where an event that was acknowledged is not accounted for. Everything happens in
//! a directory of its own and with a configuration of its own; a configuration that lies around,
//! and its data directory, are not looked at. Steps come one after the other, so that each has the
//! machine to itself; every scenario has a fresh service. Whatever happens, it ends: calls have
//! limits, and so has the whole.

mod account;
mod answer;
mod ceilings;
mod figures;
mod load;
mod quiet;
mod report;
mod requests;
mod schedule;
mod server;
mod steps;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use super::print::{self, Form};
use super::service::Stop;
use super::{Done, Failure, IO, Options, USAGE};
use figures::Figures;
use server::Part;
use steps::Steps;

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
    /// Take about this long, such as 30s, 5m; at least 10s
    #[arg(long = "for", value_name = "DURATION", default_value = "60s", value_parser = super::duration)]
    time: Duration,
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

impl Bench {
    pub fn run(self, options: &Options) -> Done {
        if let Some(part) = self.child {
            return part.run(options, self.dir);
        }
        self.check(options)?;
        let parent = self.dir.clone().unwrap_or_else(std::env::temp_dir);
        let at = |error| Failure::new(IO, format!("{}: {error}", parent.display()));
        let parent = std::path::absolute(&parent).map_err(at)?;
        let free = eventkit::space::disk_bytes(&parent).0;
        let needed = BYTES_PER_SECOND * self.time.as_secs();
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
        if !(TIME_MIN..=TIME_MAX).contains(&self.time) {
            let sentence =
                format!("--for {:?}: between {TIME_MIN:?} and {TIME_MAX:?} it can be", self.time);
            return Err(Failure::new(USAGE, sentence));
        }
        let Options { config, data_dir, listen, metrics_listen, admin_socket } = options;
        let paths = [config, data_dir, admin_socket].into_iter().any(Option::is_some);
        if paths || listen.is_some() || metrics_listen.is_some() {
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
    ) -> Result<Figures, Failure> {
        let stop = Stop::new();
        stop.on_signals()?;
        let steps = Steps::new(dir, self.time, cancel, std::io::stderr().is_terminal());
        let limit = self.time + OVERTIME;
        tokio::select! {
            biased;
            () = stop.stopped() => Err(Failure::new(1, "stopped before there were any figures")),
            done = tokio::time::timeout(limit, steps.run(parent)) => done.unwrap_or_else(|_| {
                Err(Failure::new(IO, format!("not done within {limit:?}")))
            }),
        }
    }

    fn print(&self, figures: &Figures) -> Done {
        print::answer(&self.form, figures, report::table)?;
        match figures.problems.first() {
            None => Ok(()),
            Some(first) => {
                let sentence = format!("the figures are worth nothing: {first}");
                Err(Failure::new(1, sentence))
            }
        }
    }
}
