//! Tries the console on a socket: `eventkit --socket PATH`.
#[path = "../ui/mod.rs"]
mod ui;

use std::time::Duration;

use clap::Parser;

#[derive(Parser)]
struct Options {
    #[arg(long)]
    socket: std::path::PathBuf,
    #[arg(long)]
    ascii: bool,
    #[arg(long)]
    no_color: bool,
    #[arg(long)]
    plain: bool,
    #[arg(long)]
    read_only: bool,
    #[arg(long)]
    embedded: bool,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let exit = ui::attach(ui::Options {
        socket: options.socket,
        refresh: Duration::from_secs(1),
        ascii: options.ascii,
        no_color: options.no_color,
        plain: options.plain,
        read_only: options.read_only,
        embedded: options.embedded,
    })?;
    eprintln!("{exit:?}");
    Ok(())
}
