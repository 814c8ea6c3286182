//! View 4: the log of every stream: depth, bytes, segments, how long syncs take.

use eventkit::status::{Severity, Snapshot, StreamStatus};
use ratatui::layout::Rect;

use super::{first_row, stream_line};
use crate::ui::format;
use crate::ui::model::Model;
use crate::ui::paint::Painter;
use crate::ui::theme::mark;

/// Draws the view.
pub fn draw(model: &Model, snapshot: &Snapshot, p: &mut Painter, body: Rect) {
    let capacity = &snapshot.capacity;
    let note = format!(
        "{} of {}   disk free {}",
        format::bytes(capacity.wal_bytes),
        format::bytes(capacity.wal_bytes_max),
        format::bytes(capacity.disk_free_bytes)
    );
    let inner = p.pane(body, "Logs", &note, true);
    if inner.height < 2 {
        return;
    }
    let name_cells = inner.width.saturating_sub(66).clamp(14, 30);
    let x = inner.x + 1;
    let heading = p.theme.heading();
    let numbers = x + name_cells;
    let wide = inner.width >= 98;
    p.text(x, inner.y, 10, "stream", heading);
    for (right, text) in columns(wide) {
        p.right(numbers + right, inner.y, 10, text, heading);
    }
    let line = stream_line(model, snapshot);
    let height = usize::from(inner.height - 1);
    let first = first_row(line, snapshot.streams.len(), height);
    let shown = snapshot.streams.iter().enumerate().skip(first).take(height);
    for (y, (i, stream)) in (inner.y + 1..).zip(shown) {
        let severity = fullness(stream);
        let end = p.text(x, y, name_cells - 2, stream.name.as_str(), p.theme.normal());
        p.text(end + 1, y, 2, mark(severity), p.theme.severity(severity));
        for ((right, _), text) in columns(wide).iter().zip(values(stream)) {
            p.right(numbers + right, y, 10, &text, p.theme.normal());
        }
        if i == line {
            p.restyle(Rect { y, height: 1, ..inner }, p.theme.reversed());
        }
    }
}

/// A full log refuses requests.
fn fullness(stream: &StreamStatus) -> Option<Severity> {
    let wal = &stream.wal;
    match wal.bytes.saturating_mul(100).checked_div(wal.bytes_max) {
        Some(95..) => Some(Severity::Critical),
        Some(80..) => Some(Severity::Warning),
        _ => None,
    }
}

/// Right edges of the columns with their headings; the last two only where there is room.
fn columns(wide: bool) -> &'static [(u16, &'static str)] {
    const ALL: [(u16, &str); 9] = [
        (8, "lag"),
        (17, "bytes"),
        (23, "full"),
        (33, "segments"),
        (43, "sync p50"),
        (53, "sync p99"),
        (62, "syncs"),
        (75, "head"),
        (88, "cursor"),
    ];
    if wide { &ALL } else { &ALL[..7] }
}

fn values(stream: &StreamStatus) -> [String; 9] {
    let wal = &stream.wal;
    [
        format::short_count(wal.lag_events),
        format::bytes(wal.bytes),
        format::percent(wal.bytes, wal.bytes_max),
        format::count(wal.segments),
        format::micros(wal.sync_p50_us),
        format::micros(wal.sync_p99_us),
        format::short_count(wal.syncs),
        wal.head.to_string(),
        wal.cursor.to_string(),
    ]
}
