//! The command line: what is asked for becomes a configuration and a command.
//!
//! Exit codes: 0 done, 1 the answer is no, 64 usage, 74 I/O, 75 data directory in use, 78
//! configuration or format.

mod bench;
mod config;
#[cfg(feature = "console")]
mod console;
mod demo;
mod dlq;
mod export;
mod ledger;
mod log;
mod options;
#[cfg(feature = "bigquery")]
mod orphans;
mod print;
mod run;
mod service;
mod status;
mod traffic;
mod wal;

use std::process::ExitCode;

use clap::{FromArgMatches as _, Parser, Subcommand};
use eventkit::admin::ClientError;
use options::Options;

const USAGE: u8 = 64;
const IO: u8 = 74;
const CONFIGURATION: u8 = 78;

/// Collects events over HTTP, never loses one it has acknowledged, and lands each exactly once
/// in a lake of Parquet files; what fails rests with its reason until you have mended it.
#[derive(Parser)]
#[command(name = "eventkit", version, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: Command,
}

// One is made in the life of the process: its size is of no account.
#[allow(clippy::large_enum_variant)]
#[derive(Subcommand)]
enum Command {
    /// Run the service
    Run(run::Run),
    /// Run everything on a temporary directory with synthetic traffic
    Demo(demo::Demo),
    /// Watch and steer a running service in the terminal
    #[cfg(feature = "console")]
    Console(console::Console),
    /// Show how a running service does
    Status(print::Form),
    /// Store all open batches now, and wait until they are committed
    Flush(print::Form),
    /// Look at dead letters and replay them
    #[command(subcommand)]
    Dlq(dlq::Dlq),
    /// Look at the logs, and at what was found damaged
    #[command(subcommand)]
    Wal(wal::Wal),
    /// Look at the loads into the warehouse, and retry or dismiss those that failed
    #[command(subcommand)]
    Ledger(ledger::Ledger),
    /// Check a configuration and the state of its data directory
    Check(print::Form),
    /// Show every setting, its value and where it comes from
    Config(config::Show),
    /// Measure how fast the service is on this machine
    Bench(bench::Bench),
    /// Print a shell's completions
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

/// What ends a command early: what to say, and the exit code.
#[derive(Debug)]
struct Failure {
    message: String,
    code: u8,
}

impl Failure {
    fn new(code: u8, message: impl std::fmt::Display) -> Self {
        Self { message: message.to_string(), code }
    }

    /// Nobody reads what the command prints any more (`| head`): it ends, as if it were done.
    fn unheard() -> Self {
        Self { message: String::new(), code: 0 }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let code = match &error {
            ClientError::Refused { status: 400..=499, .. } => 1,
            _ => IO,
        };
        Self::new(code, error)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::new(IO, format!("{error:#}"))
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new(IO, error)
    }
}

type Done = Result<(), Failure>;

/// Parses, runs, and turns the outcome into the process's exit code.
pub fn main() -> ExitCode {
    let mut command = options::command::<Cli>();
    let parsed = command.try_get_matches_from_mut(std::env::args_os());
    let cli = match parsed.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() { USAGE } else { 0 };
            // Without a standard output there is nobody to tell.
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    match cli.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.message.is_empty() {
                print::tell(&failure.message);
            }
            ExitCode::from(failure.code)
        }
    }
}

impl Cli {
    fn run(self) -> Done {
        let options = self.options;
        match self.command {
            Command::Run(run) => run.run(&options),
            Command::Demo(demo) => demo.run(&options),
            #[cfg(feature = "console")]
            Command::Console(console) => console.run(&options),
            Command::Status(form) => status::status(&options, &form),
            Command::Flush(form) => status::flush(&options, &form),
            Command::Dlq(dlq) => dlq.run(&options),
            Command::Wal(wal) => wal.run(&options),
            Command::Ledger(ledger) => ledger.run(&options),
            Command::Check(form) => config::check(&options, &form),
            Command::Config(show) => show.run(&options),
            Command::Bench(bench) => bench.run(&options),
            Command::Completions { shell } => {
                let (mut command, mut script) = (options::command::<Cli>(), Vec::new());
                clap_complete::generate(shell, &mut command, "eventkit", &mut script);
                print::line(String::from_utf8_lossy(&script).trim_end())
            }
        }
    }
}

/// Runs a command's calls to the service.
fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

/// A length of time on the command line.
fn duration(text: &str) -> Result<std::time::Duration, String> {
    let units = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)];
    units
        .into_iter()
        .find_map(|(unit, ms)| {
            let count: u64 = text.strip_suffix(unit)?.parse().ok()?;
            Some(std::time::Duration::from_millis(count.checked_mul(ms)?))
        })
        .ok_or_else(|| format!("{text:?} is not a duration such as 60s"))
}
