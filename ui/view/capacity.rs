//! Where batches go, and what is used of what there is: as panes of the wide Overview, and as
//! single lines of the compact one.

use eventkit::status::{Level, Severity, Snapshot, State};
use ratatui::layout::Rect;

use crate::ui::backends;
use crate::ui::format;
use crate::ui::paint::Painter;
use crate::ui::theme::{mark, severity_of};

/// The lines that the table of sinks would have.
#[must_use]
pub fn sinks_height(snapshot: &Snapshot) -> u16 {
    let rows: usize =
        backends::of(snapshot).iter().map(|b| 1 + usize::from(b.error.is_some())).sum();
    u16::try_from(rows).unwrap_or(u16::MAX).saturating_add(3)
}

/// Draws a table of what this instance works with, with the error of what fails as long as each
/// has its line.
pub fn sinks(snapshot: &Snapshot, p: &mut Painter, area: Rect) {
    let inner = p.pane(area, "Sinks", "", false);
    if inner.height == 0 {
        return;
    }
    let x = inner.x + 1;
    let heading = p.theme.heading();
    p.text(x, inner.y, 10, "sink", heading);
    for (end, text) in [(19, "out/s"), (27, "last"), (36, "failures"), (46, "backlog")] {
        p.right(x + end, inner.y, 8, text, heading);
    }
    p.text(x + 47, inner.y, 8, "state", heading);
    let backends = backends::of(snapshot);
    let mut spare = usize::from(inner.height - 1).saturating_sub(backends.len());
    let mut y = inner.y + 1;
    for backend in &backends {
        if y >= inner.bottom() {
            break;
        }
        let style = p.theme.normal();
        let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        p.text(x, y, 11, backend.name, style);
        p.right(x + 19, y, 8, &or_none(backend.rate.map(format::rate)), style);
        let last = backend.last_ms.map(|ms| format::micros(ms.saturating_mul(1000)));
        p.right(x + 27, y, 8, &or_none(last), style);
        p.right(x + 36, y, 8, &or_none(backend.failures.map(format::short_count)), style);
        p.right(x + 46, y, 9, &backend.backlog, style);
        state(backend.state, p, x + 47, y);
        y += 1;
        if let Some(error) = backend.error.as_ref().filter(|_| spare > 0) {
            p.last(x + 2, y, inner.width.saturating_sub(4), error, p.theme.warning());
            (y, spare) = (y + 1, spare - 1);
        }
    }
}

fn state(state: State, p: &mut Painter, x: u16, y: u16) -> u16 {
    let severity = severity_of(state);
    let style = p.theme.severity(severity);
    let x = p.text(x, y, 7, state.as_str(), style);
    if severity.is_none() {
        return x;
    }
    p.text(x + 1, y, 2, mark(severity), style)
}

/// Label, part, whole, and the text behind the bar.
fn capacities(snapshot: &Snapshot) -> [(&'static str, f64, f64, String); 5] {
    let c = &snapshot.capacity;
    let of = |part: u64, whole: u64| {
        let text = format!("{} of {}", format::bytes(part), format::bytes(whole));
        (part as f64, whole as f64, text)
    };
    let labelled = |label, (part, whole, text)| (label, part, whole, text);
    let disk_used = c.disk_bytes.saturating_sub(c.disk_free_bytes);
    let (errors, _, _) = of(c.errors_bytes, c.disk_bytes);
    let dead = format!("{} on disk", format::bytes(c.errors_bytes));
    [
        labelled("logs (WAL)", of(c.wal_bytes, c.wal_bytes_max)),
        labelled("disk", of(disk_used, c.disk_bytes)),
        labelled("memory", of(c.memory_bytes, c.memory_bytes_max)),
        ("cpu", c.cpu_cores, c.cpu_cores_max as f64, {
            format!("{:.1} of {} cores", c.cpu_cores, c.cpu_cores_max)
        }),
        ("dead store", errors, c.disk_bytes as f64, dead),
    ]
}

fn share(part: f64, whole: f64) -> String {
    format::percent((part * 1000.0) as u64, (whole * 1000.0) as u64)
}

/// From 80 percent on somebody should look, from 95 at once.
fn fullness(part: f64, whole: f64) -> Option<Severity> {
    match part / whole {
        share if share >= 0.95 => Some(Severity::Critical),
        share if share >= 0.8 => Some(Severity::Warning),
        _ => None,
    }
}

/// Draws bars of what is used.
pub fn capacity(snapshot: &Snapshot, p: &mut Painter, area: Rect) {
    let inner = p.pane(area, "Capacity", "", false);
    let rows = capacities(snapshot);
    for (y, (label, part, whole, text)) in (inner.y..inner.bottom()).zip(&rows) {
        let x = inner.x + 1;
        p.text(x, y, 10, label, p.theme.normal());
        p.bar(x + 11, y, 16, *part, *whole);
        let severity = match *label {
            // How much of it is enough is configured.
            "disk" => match snapshot.capacity.disk_level {
                Level::Ok => None,
                Level::Low => Some(Severity::Warning),
                Level::Full => Some(Severity::Critical),
            },
            _ => fullness(*part, *whole),
        };
        p.right(x + 33, y, 5, &share(*part, *whole), p.theme.severity(severity));
        p.text(x + 34, y, 2, mark(severity), p.theme.severity(severity));
        p.text(x + 37, y, inner.width.saturating_sub(38), text, p.theme.normal());
    }
    let y = inner.y + rows.len() as u16;
    if y < inner.bottom() {
        let dead = &snapshot.dead_letters;
        let text = format!(
            "dead letters  {} open, {} replaying, {} resolved",
            format::count(dead.open),
            format::count(dead.replaying),
            format::short_count(dead.resolved)
        );
        p.text(inner.x + 1, y, inner.width.saturating_sub(2), &text, p.theme.normal());
    }
}

/// Draws the sinks on one line.
pub fn sink_line(snapshot: &Snapshot, p: &mut Painter, at: Rect) {
    let mut x = p.text(at.x + 1, at.y, 8, "sinks", p.theme.heading()) + 3;
    for backend in backends::of(snapshot) {
        let rate = backend.rate.map(|rate| format!("{}/s ", format::rate(rate)));
        let text = format!("{} {}", backend.name, rate.unwrap_or_default());
        x = p.text(x, at.y, at.right().saturating_sub(x), &text, p.theme.normal());
        x = state(backend.state, p, x, at.y) + 4;
    }
}

/// Draws what is used on one line.
pub fn capacity_line(snapshot: &Snapshot, p: &mut Painter, at: Rect) {
    let mut x = at.x + 1;
    for (i, (label, part, whole, text)) in capacities(snapshot).iter().enumerate() {
        let severity = fullness(*part, *whole);
        // A dead store has no limit of its own: its size says more than its share.
        let amount = if i == 4 { text.clone() } else { share(*part, *whole) };
        let text = format!("{} {amount}", label.trim_end_matches(" (WAL)"));
        x = p.text(x, at.y, at.right().saturating_sub(x), &text, p.theme.severity(severity));
        if severity.is_some() {
            x = p.text(x + 1, at.y, 2, mark(severity), p.theme.severity(severity));
        }
        x += 4;
    }
}
