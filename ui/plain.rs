//! The Overview as lines of text, one block per interval, without cursor control: for screen
//! readers, pipes and terminals that are none.

use std::io::{self, Write as _};

use anyhow::Result;
use eventkit::admin::Client;
use eventkit::status::Snapshot;
use tokio::signal::unix::{SignalKind, signal};

use super::backends::{self, Backend};
use super::client::{News, Poller};
use super::format;
use super::safe_text::{Column, SafeText};
use super::theme::{Theme, mark, severity_of};
use super::view::overview::health;
use super::{Exit, Options};

/// Longer lines are cut.
const LINE_CELLS: usize = 400;

/// Prints until the output is closed or a signal comes.
///
/// # Errors
/// Where signals cannot be awaited.
pub async fn run(options: &Options, theme: Theme) -> Result<Exit> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut poller = Poller::start(Client::new(&options.socket), options.refresh);
    let done = if options.embedded { Exit::CloseConsole } else { Exit::Quit };
    let mut lost = false;
    loop {
        let news = tokio::select! {
            news = poller.next() => news,
            _ = terminate.recv() => return Ok(done),
            _ = hangup.recv() => return Ok(done),
            _ = interrupt.recv() => return Ok(done),
        };
        let lines = match news {
            None => return Ok(done),
            Some(News::Snapshot(snapshot)) => {
                lost = false;
                lines(&snapshot)
            }
            // Once per loss: a line per try would bury the last numbers.
            Some(News::Lost { .. }) if lost => continue,
            Some(News::Lost { reason, .. }) => {
                lost = true;
                vec![format!("DISCONNECTED {reason}")]
            }
        };
        if print(&lines, theme).is_err() {
            return Ok(done);
        }
    }
}

fn print(lines: &[String], theme: Theme) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for line in lines {
        let safe = SafeText::fit(line, LINE_CELLS, theme.charset, Column::Last);
        writeln!(out, "{}", safe.as_str().trim_end())?;
    }
    out.flush()
}

/// The Overview in words. The lines hold the service's text and must be escaped.
#[must_use]
pub fn lines(snapshot: &Snapshot) -> Vec<String> {
    let worst = snapshot.findings.iter().map(|finding| finding.severity).max();
    let role = snapshot.role().map_or(String::new(), |role| format!("role {} ", role.as_str()));
    let mut lines = vec![format!(
        "eventkit {} {} {role}up {} version {}: {}",
        format::clock(snapshot.now),
        snapshot.host,
        format::uptime(snapshot.uptime_ms),
        snapshot.version,
        health(worst)
    )];
    for finding in &snapshot.findings {
        let word = health(Some(finding.severity));
        lines.push(format!("attention: {word} {}: {}", mark(Some(finding.severity)), finding.text));
    }
    for stage in &snapshot.stages {
        let facts = [&*stage.note, &*stage.detail].map(|fact| format!(", {fact}"));
        let facts: String = facts.into_iter().filter(|fact| fact.len() > 2).collect();
        let rate = format::rate(stage.rate);
        let state = stage.state.as_str();
        let mark = mark(severity_of(stage.state));
        lines.push(format!("stage {}: {state}{mark}, {rate}/s{facts}", stage.name));
    }
    lines.extend(destinations(snapshot));
    let capacity = &snapshot.capacity;
    lines.push(format!(
        "capacity: logs {} of {}, disk free {}, memory {} of {}, cpu {:.1} of {}",
        format::bytes(capacity.wal_bytes),
        format::bytes(capacity.wal_bytes_max),
        format::bytes(capacity.disk_free_bytes),
        format::bytes(capacity.memory_bytes),
        format::bytes(capacity.memory_bytes_max),
        capacity.cpu_cores,
        capacity.cpu_cores_max
    ));
    lines.push(format!("dead letters: {} open", format::count(snapshot.dead_letters.open)));
    lines.push(String::new());
    lines
}

/// Streams and sinks, a line each.
fn destinations(snapshot: &Snapshot) -> Vec<String> {
    let mut lines = Vec::new();
    for stream in &snapshot.streams {
        lines.push(format!(
            "stream {}: {}, {}/s, dead {}/s, {} open, lag {}",
            stream.name,
            stream.state.as_str(),
            format::rate(stream.rate),
            format::rate(stream.rejected_rate),
            format::count(stream.dead_open),
            format::count(stream.wal.lag_events)
        ));
    }
    for Backend { name, state, rate, backlog, error, .. } in backends::of(snapshot) {
        let rate = rate.map(|rate| format!("{}/s, ", format::rate(rate))).unwrap_or_default();
        let error = error.map(|error| format!(", {error}")).unwrap_or_default();
        lines.push(format!("sink {name}: {}, {rate}backlog {backlog}{error}", state.as_str()));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::fixture;

    #[test]
    fn the_overview_is_said_in_words() {
        insta::with_settings!({prepend_module_to_snapshot => false}, {
            insta::assert_snapshot!("plain", lines(&fixture::snapshot()).join("\n"));
        });
    }
}
