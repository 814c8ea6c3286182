//! View 2: every stream with its rates, rejections and backlog, and one stream in detail.

use eventkit::status::{Snapshot, StreamStatus};
use ratatui::layout::Rect;

use super::{first_row, stream_line};
use crate::ui::format;
use crate::ui::model::Model;
use crate::ui::paint::Painter;
use crate::ui::theme::{mark, severity_of};

const DETAIL_ROWS: u16 = 7;

/// Right edges of the number columns, counted from the chart's end, with their headings.
const NUMBERS: [(u16, &str); 5] =
    [(8, "valid"), (16, "dead/s"), (24, "open"), (32, "lag"), (40, "waiting")];

/// Draws the view.
pub fn draw(model: &Model, snapshot: &Snapshot, p: &mut Painter, body: Rect) {
    let table = Rect { height: body.height.saturating_sub(DETAIL_ROWS), ..body };
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
    for (right, text) in NUMBERS {
        p.right(numbers + right, inner.y, 8, text, heading);
    }
    let line = stream_line(model, snapshot);
    let height = usize::from(inner.height - 1);
    let first = first_row(line, snapshot.streams.len(), height);
    let shown = snapshot.streams.iter().enumerate().skip(first).take(height);
    for (y, (i, stream)) in (inner.y + 1..).zip(shown) {
        let style = p.theme.normal();
        let severity = severity_of(stream.state);
        let x = p.text(inner.x + 1, y, name_cells - 2, stream.name.as_str(), style);
        p.text(x + 1, y, 2, mark(severity), p.theme.severity(severity));
        p.right(chart - 2, y, 9, &format::rate(stream.rate), style);
        let points = if model.seconds { &stream.seconds } else { &stream.quarters };
        p.sparkline(chart, y, chart_cells, points);
        for ((right, _), text) in NUMBERS.into_iter().zip(numbers_of(stream)) {
            p.right(numbers + right, y, 8, &text, style);
        }
        if i == line {
            p.restyle(Rect { y, height: 1, ..inner }, p.theme.reversed());
        }
    }
    if let Some(stream) = snapshot.streams.get(line) {
        detail(stream, p, Rect { y: table.bottom(), height: DETAIL_ROWS, ..body });
    }
}

fn numbers_of(stream: &StreamStatus) -> [String; 5] {
    let judged = stream.adapted_events + stream.rejected_events;
    [
        format::percent(stream.adapted_events, judged),
        format::rate(stream.rejected_rate),
        format::short_count(stream.dead_open),
        format::short_count(stream.wal.lag_events),
        format::short_count(stream.pending_events),
    ]
}

fn detail(stream: &StreamStatus, p: &mut Painter, area: Rect) {
    let severity = severity_of(stream.state);
    let state = format!("{} {}", stream.state.as_str(), mark(severity));
    let inner = p.pane(area, stream.name.as_str(), state.trim_end(), false);
    let count = format::count;
    let lines = [
        format!(
            "received {}   {}   refused requests {}",
            count(stream.received_events),
            format::bytes(stream.received_bytes),
            count(stream.refused_requests)
        ),
        format!(
            "valid {}   rejected {}   duplicates {}   dead letters open {}",
            count(stream.adapted_events),
            count(stream.rejected_events),
            count(stream.duplicate_events),
            count(stream.dead_open)
        ),
        format!(
            "waiting {}   {}   oldest {}",
            count(stream.pending_events),
            format::bytes(stream.pending_bytes),
            format::age(stream.pending_age_ms)
        ),
        format!(
            "stored {}   {}   in {} batches   failed attempts {}",
            count(stream.stored_events),
            format::bytes(stream.stored_bytes),
            count(stream.stored_batches),
            count(stream.store_failures)
        ),
    ];
    let room = inner.width.saturating_sub(2);
    for (y, text) in (inner.y..inner.bottom()).zip(&lines) {
        p.text(inner.x + 1, y, room, text, p.theme.normal());
    }
    if let Some(error) = &stream.store_error {
        let y = inner.bottom().saturating_sub(1);
        p.last(inner.x + 1, y, room, &format!("store: {error}"), p.theme.warning());
    }
}
