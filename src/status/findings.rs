//! Findings: where an operator should look, worst first.

use super::{Damage, Finding, Severity, Skew, Snapshot, Step, StreamStatus, View};
use crate::event::StreamName;
use crate::space::Level;

/// A log this full is a warning.
const LOG_FULL_WARNING: f64 = 0.5;
/// Events rejected per second that make open dead letters critical.
const REJECTED_RATE_CRITICAL: f64 = 1.0;

/// Everything worth a look, worst first.
pub(super) fn of(snapshot: &Snapshot, standing: &[String]) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(damage(snapshot));
    findings.extend(snapshot.streams.iter().filter_map(unreadable));
    findings.extend(snapshot.streams.iter().filter_map(|stream| store(stream, snapshot)));
    findings.extend(unreached(snapshot));
    findings.extend(queue(snapshot));
    findings.extend(returned(snapshot));
    findings.extend(warehouse(snapshot));
    findings.extend(dead_letters(snapshot));
    findings.extend(snapshot.streams.iter().filter_map(log));
    findings.extend(snapshot.streams.iter().filter_map(skew));
    findings.extend(disk(snapshot));
    findings.extend(snapshot.streams.iter().filter_map(undated));
    findings.extend(standing.iter().map(|text| Finding {
        severity: Severity::Warning,
        view: View::Overview,
        text: text.clone(),
        stream: None,
    }));
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    findings
}

/// Stays until an operator says that they have seen it.
fn damage(snapshot: &Snapshot) -> Option<Finding> {
    let Damage { reports, lost, newest } = &snapshot.damage;
    let newest = newest.first()?;
    let more = if *reports > 1 {
        format!(" ({reports} reports, {lost} events lost in all)")
    } else {
        String::new()
    };
    Some(Finding {
        severity: if *lost > 0 { Severity::Critical } else { Severity::Warning },
        view: View::Wal,
        text: format!("{}{more}; `eventkit wal damage` has more", newest.text),
        stream: newest.stream.as_deref().and_then(|name| StreamName::new(name).ok()),
    })
}

fn undated(stream: &StreamStatus) -> Option<Finding> {
    let (name, undated) = (&stream.name, stream.undated_events);
    (undated > 0).then(|| Finding {
        severity: Severity::Warning,
        view: View::Overview,
        text: format!(
            "{name}: {undated} events came when the clock had jumped; they are in date=unknown"
        ),
        stream: Some(name.clone()),
    })
}

fn unreadable(stream: &StreamStatus) -> Option<Finding> {
    let (name, objects) = (&stream.name, stream.unreadable_objects);
    (objects > 0).then(|| Finding {
        severity: Severity::Critical,
        view: View::Overview,
        text: format!("{name}: {objects} objects can't be read; the service's log has which"),
        stream: Some(name.clone()),
    })
}

fn store(stream: &StreamStatus, snapshot: &Snapshot) -> Option<Finding> {
    let error = stream.store_error.as_ref()?;
    let (name, waiting) = (&stream.name, stream.wal.lag_events);
    let what = match snapshot.has(Step::Load) {
        true => format!("store fails for {name}"),
        false => format!("{name} can't be published"),
    };
    Some(Finding {
        severity: Severity::Critical,
        view: View::Overview,
        text: format!("{what}: {waiting} events wait; {error}"),
        stream: Some(name.clone()),
    })
}

/// Whether a stream has found out that what it stores into, or publishes into, can't be used.
fn is_needed(snapshot: &Snapshot) -> bool {
    snapshot.streams.iter().any(|stream| stream.store_error.is_some())
}

/// A topic or a subscription that can't be used.
fn queue(snapshot: &Snapshot) -> Option<Finding> {
    let queue = snapshot.queue.as_ref()?;
    let is_told = !snapshot.has(Step::Load) && is_needed(snapshot);
    let error = queue.error.as_ref().filter(|_| !is_told)?;
    Some(Finding {
        severity: Severity::Critical,
        view: View::Overview,
        text: format!("{}: {error}", queue.trouble()),
        stream: None,
    })
}

/// Messages that wait for another instance, or for this one to be changed.
fn returned(snapshot: &Snapshot) -> Option<Finding> {
    let why = snapshot.queue.as_ref()?.returned.as_ref()?;
    Some(Finding {
        severity: Severity::Warning,
        view: View::Overview,
        text: format!("messages go back into the subscription again and again: {why}"),
        stream: None,
    })
}

/// A store that nobody has needed yet, and that could not be written to.
fn unreached(snapshot: &Snapshot) -> Option<Finding> {
    let is_looked_at = snapshot.has(Step::Load) && !is_needed(snapshot);
    let sink = snapshot.sinks.first().filter(|_| is_looked_at)?;
    let error = sink.error.as_ref()?;
    Some(Finding {
        severity: Severity::Critical,
        view: View::Overview,
        text: format!("{} can't be written to; events wait in the logs: {error}", sink.name),
        stream: None,
    })
}

/// A warehouse that fails, has files that it can't load, or lags: nothing is lost meanwhile.
fn warehouse(snapshot: &Snapshot) -> Option<Finding> {
    let warehouse = snapshot.warehouse.as_ref()?;
    let (name, waiting) = (&warehouse.name, warehouse.waiting_in_words());
    let minutes = warehouse.waiting_age_ms / 60_000;
    let text = match (&warehouse.error, warehouse.failed_in_words()) {
        (Some(error), _) => format!("{name} fails; {waiting}: {error}"),
        (None, Some(failed)) => format!("{name}: {failed}"),
        (None, None) if warehouse.waiting_age_ms > warehouse.age_ms_max => {
            format!("{name} lags: {waiting}, the oldest for {minutes} minutes")
        }
        (None, None) => format!("{name}: {}", warehouse.slowed.as_ref()?),
    };
    let view = View::Loads;
    Some(Finding { severity: Severity::Warning, view, text, stream: None })
}

fn dead_letters(snapshot: &Snapshot) -> Option<Finding> {
    let open = snapshot.dead_letters.open;
    if open == 0 {
        return None;
    }
    let rate: f64 = snapshot.streams.iter().map(|s| s.rejected_rate).sum();
    let worst = snapshot.dead_letters.open_by_stream.iter().max_by_key(|(_, open)| **open);
    let of = worst.map_or(String::new(), |(name, n)| format!("; {n} in {name}"));
    let severity =
        if rate >= REJECTED_RATE_CRITICAL { Severity::Critical } else { Severity::Warning };
    Some(Finding {
        severity,
        view: View::DeadLetters,
        text: format!("{open} open, +{rate:.1}/s{of}"),
        stream: worst.map(|(name, _)| name.clone()),
    })
}

fn log(stream: &StreamStatus) -> Option<Finding> {
    let used = stream.wal.bytes as f64 / stream.wal.bytes_max.max(1) as f64;
    if used < LOG_FULL_WARNING {
        return None;
    }
    let severity = if used > 0.9 { Severity::Critical } else { Severity::Warning };
    Some(Finding {
        severity,
        view: View::Wal,
        text: format!(
            "log of {} is {:.0}% full; at 100% it refuses events",
            stream.name,
            used * 100.0
        ),
        stream: Some(stream.name.clone()),
    })
}

fn skew(stream: &StreamStatus) -> Option<Finding> {
    let skew = Skew::of(&stream.partitions);
    let (partition, fullest) = fullest(stream)?;
    let severity = skew.severity(fullest)?;
    let (name, ratio) = (&stream.name, skew.ratio(fullest));
    Some(Finding {
        severity,
        view: View::Partitions,
        text: format!("p{partition:02} of {name} carries {ratio:.1}x the mean"),
        stream: Some(name.clone()),
    })
}

/// The stream's fullest partition and its events.
fn fullest(stream: &StreamStatus) -> Option<(usize, u64)> {
    let events = stream.partitions.iter().map(|partition| partition.events);
    events.enumerate().max_by_key(|(_, events)| *events)
}

/// The worst skew of any stream of which there is something to say, in a word.
pub(super) fn skew_note(streams: &[StreamStatus]) -> String {
    let known = streams.iter().filter_map(|stream| {
        let skew = Skew::of(&stream.partitions);
        let (_, fullest) = fullest(stream).filter(|_| skew.is_known())?;
        Some(skew.ratio(fullest))
    });
    known.reduce(f64::max).map_or("skew unknown".to_owned(), |ratio| format!("skew {ratio:.1}x"))
}

fn disk(snapshot: &Snapshot) -> Option<Finding> {
    let capacity = &snapshot.capacity;
    let free = capacity.disk_free_bytes as f64 / capacity.disk_bytes.max(1) as f64 * 100.0;
    let (severity, what) = match capacity.disk_level {
        Level::Ok => return None,
        Level::Low => (Severity::Warning, ""),
        Level::Full => (Severity::Critical, "; no events are taken until there is room"),
    };
    let text = format!("disk {free:.1}% free{what}");
    Some(Finding { severity, view: View::Overview, text, stream: None })
}
