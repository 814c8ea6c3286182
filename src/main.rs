//! The `eventkit` binary: one file a command.

mod cli;
#[cfg(feature = "console")]
#[path = "../ui/mod.rs"]
mod ui;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
