//! `eventkit console`, and the console inside a service's own process.

use std::path::PathBuf;
use std::time::Duration;

use eventkit::pipeline::Service;
use tokio::sync::oneshot;

use super::service::{self, Stop};
use super::{Done, Failure, Options};
use crate::ui;

/// How long a terminal may take to show that the service has ended.
const PATIENCE: Duration = Duration::from_secs(2);

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
        let options = ui::Options {
            socket: options.socket()?,
            refresh,
            ascii: self.ascii,
            no_color: self.no_color,
            plain: self.plain,
            read_only: self.read_only,
            embedded: false,
        };
        // It waits for a service that has ended to come back.
        ui::attach(options, std::future::pending())?;
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
    let (lasts, ended) = oneshot::channel::<()>();
    let asked = stop.clone();
    let console = tokio::task::spawn_blocking(move || {
        let exit = ui::attach(options, async { drop(ended.await) });
        if !matches!(exit, Ok(ui::Exit::CloseConsole)) {
            asked.stop();
        }
        exit
    });
    let done = service::run(service, stop).await;
    drop(lasts);
    // A terminal that reads no more keeps nobody from ending.
    if let Ok(console) = tokio::time::timeout(PATIENCE, console).await {
        // A console that failed is why the service was stopped.
        console.map_err(|error| Failure::new(super::IO, error))??;
    }
    done
}
