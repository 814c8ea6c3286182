//! The service's own log output.

use std::fs::OpenOptions;
use std::path::Path;

use eventkit::config::{LogConfig, LogFormat};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use super::Failure;

/// Log lines go to the standard error.
pub fn to_stderr(config: &LogConfig) -> Result<(), Failure> {
    install(config, std::io::stderr)
}

/// Log lines go to a file: the terminal belongs to the console.
pub fn to_file(config: &LogConfig, path: &Path) -> Result<(), Failure> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    install(config, std::sync::Mutex::new(OpenOptions::new().create(true).append(true).open(path)?))
}

fn install<W>(config: &LogConfig, writer: W) -> Result<(), Failure>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = EnvFilter::try_new(&config.level)
        .map_err(|error| Failure::new(super::CONFIGURATION, format!("log.level: {error}")))?;
    // A database that was made has nothing to say to the operator.
    let quiet = "rusqlite_migration=warn".parse().map_err(|e| Failure::new(super::IO, e))?;
    let filter = filter.add_directive(quiet);
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    let installed = match config.format {
        LogFormat::Text => lines.with_ansi(false).with_target(false).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    installed.map_err(|error| Failure::new(super::IO, error))
}
