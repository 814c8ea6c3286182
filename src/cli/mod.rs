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
mod log;
mod print;
mod run;
mod service;
mod status;
mod traffic;
mod wal;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use eventkit::admin::{Client, ClientError};
use eventkit::config::{Config, Sources};

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

/// What every command understands. Each key of the configuration has an environment variable too;
/// the order is default < file < environment < option.
#[derive(clap::Args, Clone)]
struct Options {
    /// The configuration file [env: EVENTKIT_CONFIG]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where log, ledger, error store and lake are [env: EVENTKIT_DATA_DIR] [default: ./eventkit-data]
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where events come in [env: EVENTKIT_LISTEN] [default: 127.0.0.1:8000]
    #[arg(long, global = true, value_name = "ADDR")]
    listen: Option<String>,
    /// Where Prometheus looks [env: EVENTKIT_METRICS_LISTEN] [default: 127.0.0.1:9090]
    #[arg(long, global = true, value_name = "ADDR")]
    metrics_listen: Option<String>,
    /// The running service's socket [env: EVENTKIT_ADMIN_SOCKET] [default: DIR/admin.sock]
    #[arg(long, global = true, value_name = "PATH")]
    admin_socket: Option<PathBuf>,
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

/// A command's failure: what to say, and the exit code.
#[derive(Debug)]
struct Failure {
    message: String,
    code: u8,
}

impl Failure {
    fn new(code: u8, message: impl std::fmt::Display) -> Self {
        Self { message: message.to_string(), code }
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
    let cli = match Cli::try_parse() {
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
            eprintln!("eventkit: {}", failure.message);
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
            Command::Check(form) => config::check(&options, &form),
            Command::Config(show) => show.run(&options),
            Command::Bench(bench) => bench.run(&options),
            Command::Completions { shell } => {
                let mut command = Cli::command();
                clap_complete::generate(shell, &mut command, "eventkit", &mut std::io::stdout());
                Ok(())
            }
        }
    }
}

impl Options {
    fn sources(&self) -> Sources {
        let path = |path: &PathBuf| path.to_string_lossy().into_owned();
        let options = [
            ("data_dir", self.data_dir.as_ref().map(path)),
            ("listen", self.listen.clone()),
            ("metrics_listen", self.metrics_listen.clone()),
            ("admin_socket", self.admin_socket.as_ref().map(path)),
        ];
        let given = options.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
        let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        Sources {
            file: self.config.clone(),
            env: std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect(),
            options: given.collect(),
        }
    }

    /// The configuration; warnings go to the standard error.
    fn load(&self) -> Result<Config, Failure> {
        match eventkit::config::load(self.sources()) {
            Ok((config, warnings)) => {
                for warning in warnings {
                    eprintln!("eventkit: warning: {warning}");
                }
                Ok(config)
            }
            Err(mistakes) => Err(Failure::new(CONFIGURATION, mistakes)),
        }
    }

    /// A client for the running service.
    fn client(&self) -> Result<Client, Failure> {
        Ok(Client::new(&self.socket()?))
    }

    /// The running service's socket: where the configuration has it, else where the unit has it.
    fn socket(&self) -> Result<PathBuf, Failure> {
        let config = self.load()?;
        let named = config.origins.contains_key("admin_socket");
        let of_unit = PathBuf::from("/run/eventkit/admin.sock");
        let elsewhere = !named && !config.admin_socket.exists() && of_unit.exists();
        Ok(if elsewhere { of_unit } else { config.admin_socket })
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
