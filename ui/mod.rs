//! The console: an operator's view of one running service, over its Unix socket.
//!
//! It is healthy or it is not; if not, where; and what to do with the events that failed. It
//! runs on a thread of its own with a runtime of its own, attached from another process or
//! embedded in the service's: a terminal that stops reading stops this thread and nothing else.
//!
//! `model` is all that is known, `update` the only thing that changes it, `view` draws it,
//! `client` talks to the service, `term` holds the terminal, `safe_text` stands between hostile
//! text and the screen.

pub mod actions;
pub mod backends;
pub mod client;
pub mod dialogs;
pub mod filter;
#[cfg(test)]
pub mod fixture;
pub mod format;
pub mod json;
pub mod keys;
pub mod letters;
#[cfg(test)]
mod live_tests;
pub mod message;
pub mod model;
pub mod opened;
pub mod paint;
pub mod plain;
pub mod run;
pub mod safe_text;
pub mod term;
#[cfg(test)]
mod tests;
pub mod theme;
pub mod update;
pub mod view;

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};

/// How the console is started.
#[derive(Clone, Debug)]
pub struct Options {
    /// The service's admin socket.
    pub socket: PathBuf,
    /// How often a snapshot is asked for.
    pub refresh: Duration,
    /// Draw with seven bits, whatever the locale says.
    pub ascii: bool,
    /// Draw without colours, whatever the terminal can.
    pub no_color: bool,
    /// Print lines of text instead of drawing.
    pub plain: bool,
    /// Offer no actions.
    pub read_only: bool,
    /// Whether this is the service's own process.
    pub embedded: bool,
}

/// How the console was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Attached: the operator, a signal, or the end of the output. Embedded: the service's end.
    Quit,
    /// Embedded: the console is closed, the service goes on.
    CloseConsole,
    /// Embedded: the operator asked for the service's graceful stop.
    StopService,
}

/// Shows the console until it is left, or `ended` is ready. Blocks; runs on a thread and a runtime of its own.
///
/// Without a terminal on the standard output, or with `plain`, it prints lines instead.
///
/// # Errors
/// Where the terminal cannot be taken or drawn on. A service that cannot be reached is no error:
/// it is tried again for ever.
pub fn attach(options: Options, ended: impl Future<Output = ()> + Send + 'static) -> Result<Exit> {
    let console = move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("the console's runtime")?;
        let theme = theme::Theme::choose(options.ascii, options.no_color);
        runtime.block_on(async {
            let shown = async {
                if options.plain || !std::io::stdout().is_terminal() {
                    plain::run(&options, theme).await
                } else {
                    run::run(&options, theme).await
                }
            };
            tokio::select! {
                left = shown => left,
                () = ended => Ok(Exit::Quit),
            }
        })
    };
    std::thread::Builder::new()
        .name("console".to_owned())
        .spawn(console)
        .context("the console's thread")?
        .join()
        .map_err(|_| anyhow!("the console's thread panicked"))?
}
