//! The options that stand before or behind every command, and what they lead to: a configuration,
//! and a running service's socket.
//!
//! All commands understand all of them, so that a service's options can be given to each as they
//! are; a command's help lists those that mean something to it.

use std::path::PathBuf;

use clap::CommandFactory;
use eventkit::admin::Client;
use eventkit::config::{Config, GoogleConfig, Mistakes, Sources, StoreConfig, Warning};

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
    /// What this instance does with queue.mode = "pubsub": collect, process, or all
    /// [env: EVENTKIT_ROLE] [default: all]
    #[arg(long, global = true, value_name = "ROLE")]
    pub role: Option<String>,
}

/// What an option means to a command that understands it in its own way.
const OTHERWISE: (&str, &str, &str) = (
    "demo",
    "data_dir",
    "Where its files are, which then stay [default: a temporary directory, removed at the end]",
);

/// The options that mean something to a command; all of them to one that is not here.
const MEANT: &[(&str, &[&str])] = &[
    ("demo", &["data_dir", "listen", "metrics_listen"]),
    ("console", &["config", "data_dir", "admin_socket"]),
    ("status", &["config", "data_dir", "admin_socket"]),
    ("flush", &["config", "data_dir", "admin_socket"]),
    ("dlq", &["config", "data_dir", "admin_socket"]),
    ("wal", &["config", "data_dir", "admin_socket"]),
    ("ledger", &["config", "data_dir", "admin_socket"]),
    ("bench", &[]),
    ("completions", &[]),
];

/// The command line, with each command's help as [`MEANT`] has it.
pub fn command<C: CommandFactory>() -> clap::Command {
    let mut command = C::command();
    let options: Vec<clap::Arg> =
        command.get_arguments().filter(|option| option.is_global_set()).cloned().collect();
    for (name, meant) in MEANT {
        // One that a command has already is not handed down to it.
        let hidden = options.iter().filter(|option| !meant.contains(&option.get_id().as_str()));
        let mut own: Vec<clap::Arg> = hidden.map(|option| option.clone().hide(true)).collect();
        let (of, id, help) = OTHERWISE;
        let differs = options.iter().filter(|option| of == *name && option.get_id() == id);
        own.extend(differs.map(|option| option.clone().help(help)));
        if command.find_subcommand(name).is_some() {
            command = command.mut_subcommand(name, |subcommand| subcommand.args(own));
        }
    }
    command
}

impl Options {
    pub fn sources(&self) -> Sources {
        let path = |path: &PathBuf| path.to_string_lossy().into_owned();
        let options = [
            ("data_dir", self.data_dir.as_ref().map(path)),
            ("listen", self.listen.clone()),
            ("metrics_listen", self.metrics_listen.clone()),
            ("admin_socket", self.admin_socket.as_ref().map(path)),
            ("role", self.role.clone()),
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
        told(eventkit::config::load(self.sources()))
    }

    /// Where the service keeps its data.
    pub fn data_dir(&self) -> Result<PathBuf, Failure> {
        Ok(told(eventkit::config::load_part(self.sources(), &["data_dir"]))?.data_dir)
    }

    /// The lake, and what it is opened with.
    pub fn store(&self) -> Result<(StoreConfig, GoogleConfig), Failure> {
        let keys = ["data_dir", "store", "google"];
        let config = told(eventkit::config::load_part(self.sources(), &keys))?;
        Ok((config.store, config.google))
    }

    /// A client for the running service.
    pub fn client(&self) -> Result<Client, Failure> {
        Ok(Client::new(&self.socket()?))
    }

    /// The running service's socket: where the configuration has it, else where the unit has it.
    pub fn socket(&self) -> Result<PathBuf, Failure> {
        let keys = ["data_dir", "admin_socket"];
        let config = told(eventkit::config::load_part(self.sources(), &keys))?;
        let named = config.origins.contains_key("admin_socket");
        let of_unit = PathBuf::from("/run/eventkit/admin.sock");
        let elsewhere = !named && !config.admin_socket.exists() && of_unit.exists();
        Ok(if elsewhere { of_unit } else { config.admin_socket })
    }
}

/// Warnings go to the standard error.
fn told(loaded: Result<(Config, Vec<Warning>), Mistakes>) -> Result<Config, Failure> {
    let (config, warnings) = loaded.map_err(|mistakes| Failure::new(CONFIGURATION, mistakes))?;
    for warning in warnings {
        print::tell(&format!("warning: {warning}"));
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::super::Cli;
    use super::*;

    fn help_of(path: &[&str]) -> String {
        let mut command = command::<Cli>();
        command.build();
        let of = path.iter().fold(&mut command, |of, name| of.find_subcommand_mut(name).unwrap());
        of.render_long_help().to_string()
    }

    #[test]
    fn a_command_s_help_lists_the_options_that_mean_something_to_it() {
        let of_socket = ["--config", "--data-dir", "--admin-socket"];
        let all =
            ["--config", "--data-dir", "--listen", "--metrics-listen", "--admin-socket", "--role"];
        for (path, listed) in [
            (&["run"][..], &all[..]),
            (&["config"], &all),
            (&["check"], &all),
            (&["demo"], &all[1..4]),
            (&["status"], &of_socket),
            (&["dlq", "replay"], &of_socket),
            (&["wal", "verify"], &of_socket),
            (&["ledger", "loads"], &of_socket),
            (&["bench"], &[]),
            (&["completions"], &[]),
        ] {
            let help = help_of(path);
            let found: Vec<&str> =
                all.into_iter().filter(|option| help.contains(&format!("{option} <"))).collect();
            assert_eq!(found, listed, "{path:?}:\n{help}");
        }
    }

    #[test]
    fn every_command_understands_every_option_before_and_behind_it() {
        for (name, _) in MEANT.iter().filter(|(name, _)| *name != "console") {
            let tail: &[&str] = match *name {
                "dlq" => &["list"],
                "wal" => &["verify"],
                "ledger" => &["loads"],
                "completions" => &["bash"],
                _ => &[],
            };
            let given = ["--listen", "127.0.0.1:1", "--data-dir", "/d", "--role", "collect"];
            let before = [&["eventkit"], &given[..], &[*name], tail].concat();
            let behind = [&["eventkit", *name], tail, &given[..]].concat();
            for words in [before, behind] {
                let matches = command::<Cli>().try_get_matches_from(&words).unwrap();
                let options =
                    <Cli as clap::FromArgMatches>::from_arg_matches(&matches).unwrap().options;
                assert_eq!(options.listen.as_deref(), Some("127.0.0.1:1"), "{words:?}");
                assert_eq!(options.data_dir, Some("/d".into()), "{words:?}");
            }
        }
    }
}
