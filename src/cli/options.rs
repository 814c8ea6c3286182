//! The options that stand before or behind every command, and what they lead to: a configuration,
//! and a running service's socket.

use std::path::PathBuf;

use clap::CommandFactory;
use eventkit::admin::Client;
use eventkit::config::{Config, Sources};

use super::{CONFIGURATION, Failure, print};

/// What every command understands. Each key of the configuration has an environment variable too;
/// the order is default < file < environment < option.
#[derive(clap::Args, Clone)]
pub struct Options {
    /// The configuration file [env: EVENTKIT_CONFIG]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where log, ledger, error store and lake are [env: EVENTKIT_DATA_DIR] [default: ./eventkit-data]
    #[arg(long, global = true, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Where events come in [env: EVENTKIT_LISTEN] [default: 127.0.0.1:8000]
    #[arg(long, global = true, value_name = "ADDR")]
    pub listen: Option<String>,
    /// Where Prometheus looks [env: EVENTKIT_METRICS_LISTEN] [default: 127.0.0.1:9090]
    #[arg(long, global = true, value_name = "ADDR")]
    pub metrics_listen: Option<String>,
    /// The running service's socket [env: EVENTKIT_ADMIN_SOCKET] [default: DIR/admin.sock]
    #[arg(long, global = true, value_name = "PATH")]
    pub admin_socket: Option<PathBuf>,
}

/// The command line.
pub fn command<C: CommandFactory>() -> clap::Command {
    C::command()
}

impl Options {
    pub fn sources(&self) -> Sources {
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
    pub fn load(&self) -> Result<Config, Failure> {
        match eventkit::config::load(self.sources()) {
            Ok((config, warnings)) => {
                for warning in warnings {
                    print::tell(&format!("warning: {warning}"));
                }
                Ok(config)
            }
            Err(mistakes) => Err(Failure::new(CONFIGURATION, mistakes)),
        }
    }

    /// A client for the running service.
    pub fn client(&self) -> Result<Client, Failure> {
        Ok(Client::new(&self.socket()?))
    }

    /// The running service's socket: where the configuration has it, else where the unit has it.
    pub fn socket(&self) -> Result<PathBuf, Failure> {
        let config = self.load()?;
        let named = config.origins.contains_key("admin_socket");
        let of_unit = PathBuf::from("/run/eventkit/admin.sock");
        let elsewhere = !named && !config.admin_socket.exists() && of_unit.exists();
        Ok(if elsewhere { of_unit } else { config.admin_socket })
    }
}
