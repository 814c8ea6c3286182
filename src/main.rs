//! The `eventkit` binary: one file a command.
// They panic where whoever reads has gone; `cli::print` does not.
#![warn(clippy::print_stdout, clippy::print_stderr)]

mod cli;
#[cfg(feature = "console")]
#[path = "../ui/mod.rs"]
mod ui;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
