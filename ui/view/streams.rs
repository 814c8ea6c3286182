//! View 2: every stream with its rates, rejections and backlog, and one stream in detail.

use eventkit::status::{Snapshot, Step, StreamStatus};
use ratatui::layout::Rect;

use super::{first_row, stream_line};
use crate::ui::format;
use crate::ui::model::Model;
use crate::ui::paint::Painter;
use crate::ui::theme::{mark, severity_of};

/// Right edges of the number columns, counted from the chart's end.
const NUMBERS: [u16; 5] = [9, 16, 24, 32, 40];

/// Draws the view.
pub fn draw(model: &Model, snapshot: &Snapshot, p: &mut Painter, body: Rect) {
    let at = stream_line(model, snapshot);
    let details = snapshot.streams.get(at).map_or(Vec::new(), |stream| lines(stream, snapshot));
    // A border, and a line for what the store or the topic says.
    let detail_rows = details.len() as u16 + 3;
    let table = Rect { height: body.height.saturating_sub(detail_rows), ..body };
    let note = format!("{} streams, busiest first", snapshot.streams.len());
    let inner = p.pane(table, "Streams", &note, true);
    if inner.height < 2 {
        return;
    }
    let name_cells = inner.width.saturating_sub(66).clamp(14, 30);
    let chart = inner.x + 1 + name_cells + 11;
    let chart_cells = inner.width.saturating_sub(name_cells + 12 + 42).min(30);
    let numbers = chart + chart_cells;
    let heading = p.theme.heading();
    p.text(inner.x + 1, inner.y, 10, "stream", heading);
    p.right(chart - 2, inner.y, 9, "in/s", heading);
    p.text(chart, inner.y, chart_cells, "history", heading);
    let stores = snapshot.has(Step::Load);
    let passed = if stores { "valid" } else { "published" };
    for (right, text) in NUMBERS.into_iter().zip([passed, "dead/s", "open", "lag", "waiting"]) {
        p.right(numbers + right, inner.y, 9, text, heading);
    }
    let height = usize::from(inner.height - 1);
    let first = first_row(at, snapshot.streams.len(), height);
    let shown = snapshot.streams.iter().enumerate().skip(first).take(height);
    for (y, (i, stream)) in (inner.y + 1..).zip(shown) {
        let style = p.theme.normal();
        let severity = severity_of(stream.state);
        let x = p.text(inner.x + 1, y, name_cells - 2, stream.name.as_str(), style);
        p.text(x + 1, y, 2, mark(severity), p.theme.severity(severity));
        p.right(chart - 2, y, 9, &format::rate(stream.rate), style);
        let points = if model.seconds { &stream.seconds } else { &stream.quarters };
        p.sparkline(chart, y, chart_cells, points);
        for (right, text) in NUMBERS.into_iter().zip(numbers_of(stream, stores)) {
            p.right(numbers + right, y, 8, &text, style);
        }
        if i == at {
            p.restyle(Rect { y, height: 1, ..inner }, p.theme.reversed());
        }
    }
    if let Some(stream) = snapshot.streams.get(at) {
        let area = Rect { y: table.bottom(), height: detail_rows, ..body };
        detail(stream, (&details, stores), p, area);
    }
}

fn numbers_of(stream: &StreamStatus, stores: bool) -> [String; 5] {
    let judged = stream.adapted_events + stream.rejected_events;
    let passed = match stores {
        true => format::percent(stream.adapted_events, judged),
        false => format::short_count(stream.published_events),
    };
    [
        passed,
        format::rate(stream.rejected_rate),
        format::short_count(stream.dead_open),
        format::short_count(stream.wal.lag_events),
        format::short_count(stream.pending_events),
    ]
}

/// What has become of the stream's events, a line for each of the steps that they take here.
fn lines(stream: &StreamStatus, snapshot: &Snapshot) -> Vec<String> {
    let count = format::count;
    let (stores, mut lines) = (snapshot.has(Step::Load), Vec::new());
    if snapshot.has(Step::Ingest) {
        lines.push(format!(
            "received {}   {}   refused requests {}",
            count(stream.received_events),
            format::bytes(stream.received_bytes),
            count(stream.refused_requests)
        ));
    }
    let mut through = Vec::new();
    if snapshot.has(Step::Publish) {
        through.push(format!("published {}", count(stream.published_events)));
    }
    if snapshot.has(Step::Pull) {
        through.push(format!("pulled {}", count(stream.pulled_events)));
    }
    if !through.is_empty() {
        lines.push(through.join("   "));
    }
    let (rejected, open) = (count(stream.rejected_events), count(stream.dead_open));
    let waiting = count(stream.pending_events);
    let failures = count(stream.store_failures);
    if !stores {
        lines.push(format!("rejected {rejected}   dead letters open {open}"));
        lines.push(format!("unconfirmed {waiting}   failed attempts {failures}"));
        return lines;
    }
    let (valid, twice) = (count(stream.adapted_events), count(stream.duplicate_events));
    lines.push(format!(
        "valid {valid}   rejected {rejected}   duplicates {twice}   dead letters open {open}"
    ));
    let (bytes, age) = (format::bytes(stream.pending_bytes), format::age(stream.pending_age_ms));
    lines.push(format!("waiting {waiting}   {bytes}   oldest {age}"));
    lines.push(format!(
        "stored {}   {}   in {} batches   failed attempts {failures}",
        count(stream.stored_events),
        format::bytes(stream.stored_bytes),
        count(stream.stored_batches)
    ));
    lines
}

fn detail(stream: &StreamStatus, (lines, stores): (&[String], bool), p: &mut Painter, area: Rect) {
    let severity = severity_of(stream.state);
    let state = format!("{} {}", stream.state.as_str(), mark(severity));
    let inner = p.pane(area, stream.name.as_str(), state.trim_end(), false);
    let room = inner.width.saturating_sub(2);
    for (y, text) in (inner.y..inner.bottom()).zip(lines) {
        p.text(inner.x + 1, y, room, text, p.theme.normal());
    }
    if let Some(error) = &stream.store_error {
        let y = inner.bottom().saturating_sub(1);
        let what = if stores { "store" } else { "topic" };
        p.last(inner.x + 1, y, room, &format!("{what}: {error}"), p.theme.warning());
    }
}
