//! `eventkit console`, and the console inside a service's own process.

use std::path::PathBuf;
use std::time::Duration;

use eventkit::pipeline::Service;

use super::service::{self, Stop};
use super::{Done, Failure, Options};
use crate::ui;

/// Watch and steer a running service in the terminal
#[derive(clap::Args)]
pub struct Console {
    /// Ask for news this often, in seconds
    #[arg(long, default_value_t = 1.0, value_name = "SECONDS")]
    refresh: f64,
    /// Draw with seven bits, whatever the locale says
    #[arg(long)]
    ascii: bool,
    /// Draw without colours
    #[arg(long)]
    no_color: bool,
    /// Print lines of text instead of drawing
    #[arg(long)]
    plain: bool,
    /// Offer no actions
    #[arg(long)]
    read_only: bool,
}

impl Console {
    pub fn run(self, options: &Options) -> Done {
        let refresh = Duration::try_from_secs_f64(self.refresh.clamp(0.1, 3600.0))
            .map_err(|error| Failure::new(super::USAGE, error))?;
        ui::attach(ui::Options {
            socket: options.socket()?,
            refresh,
            ascii: self.ascii,
            no_color: self.no_color,
            plain: self.plain,
            read_only: self.read_only,
            embedded: false,
        })?;
        Ok(())
    }
}

/// Runs the service with the console on this terminal. Closing the console leaves the service
/// running; the service's end closes the console.
pub async fn beside(service: Service, stop: &Stop, socket: PathBuf) -> Done {
    let options = ui::Options {
        socket,
        refresh: Duration::from_secs(1),
        ascii: false,
        no_color: false,
        plain: false,
        read_only: false,
        embedded: true,
    };
    let asked = stop.clone();
    let console = tokio::task::spawn_blocking(move || {
        let exit = ui::attach(options);
        if !matches!(exit, Ok(ui::Exit::CloseConsole)) {
            asked.stop();
        }
        exit
    });
    let ended = service::run(service, stop).await;
    if console.is_finished() {
        // A console that failed is why the service was stopped.
        console.await.map_err(|error| Failure::new(super::IO, error))??;
    }
    ended
}
