//! `eventkit run`: the service.

use super::service::{self, Hangup, Stop};
use super::{Done, Options, log};

/// Run the service
#[derive(clap::Args, Default)]
pub struct Run {
    /// Show the console in this terminal; the log goes to DIR/eventkit.log
    #[cfg(feature = "console")]
    #[arg(long)]
    console: bool,
    /// Run on any file system, although it may lose what was synced (disk.allow_any_filesystem)
    #[arg(long)]
    force_filesystem: bool,
}

impl Run {
    pub fn run(self, options: &Options) -> Done {
        let mut config = options.load()?;
        config.disk.allow_any_filesystem |= self.force_filesystem;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        #[cfg(feature = "console")]
        if self.console {
            log::to_file(&config.log, &config.data_dir.join("eventkit.log"))?;
            let stop = Stop::new();
            let socket = config.admin_socket.clone();
            let done = runtime.block_on(async {
                // Before the start, which may have much to recover.
                stop.on_signals(Hangup::IsTold)?;
                let service = service::start(config.clone(), service::store(&config)?).await?;
                super::console::beside(service, &stop, socket).await
            });
            runtime.shutdown_background();
            return done;
        }
        log::to_stderr(&config.log)?;
        let done = runtime.block_on(async {
            let stop = Stop::new();
            stop.on_signals(Hangup::IsTold)?;
            let service = service::start(config.clone(), service::store(&config)?).await?;
            service::run(service, &stop).await
        });
        // All is drained: what still runs, such as a name server's silence, is waited for by nobody.
        runtime.shutdown_background();
        done
    }
}
