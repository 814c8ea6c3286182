//! View 6: loads into the warehouse, those that failed, then those that changed last, and why one failed.

use eventkit::status::{Load, LoadState, Severity, Snapshot};
use ratatui::layout::Rect;

use super::first_row;
use crate::ui::format;
use crate::ui::model::Model;
use crate::ui::paint::Painter;
use crate::ui::theme::mark;

/// Lines below the table: the object and the error of the load under the cursor.
const DETAIL_ROWS: u16 = 3;

/// The loads that are shown.
#[must_use]
pub fn shown(snapshot: &Snapshot) -> &[Load] {
    snapshot.warehouse.as_ref().map_or(&[], |warehouse| &warehouse.loads)
}

/// The line of the load under the cursor.
#[must_use]
pub fn line(model: &Model, snapshot: &Snapshot) -> usize {
    let found = model.cursors.load.and_then(|id| shown(snapshot).iter().position(|l| l.id == id));
    found.unwrap_or(0)
}

/// The load under the cursor.
#[must_use]
pub fn current<'s>(model: &Model, snapshot: &'s Snapshot) -> Option<&'s Load> {
    shown(snapshot).get(line(model, snapshot))
}

/// Draws the view.
pub fn draw(model: &Model, snapshot: &Snapshot, p: &mut Painter, body: Rect) {
    let Some(warehouse) = &snapshot.warehouse else { return };
    let note = format!(
        "{} objects, {} wait   {} failed",
        format::count(warehouse.waiting_objects),
        format::bytes(warehouse.waiting_bytes),
        format::count(warehouse.failed_now)
    );
    let inner = p.pane(body, &format!("Loads into {}", warehouse.name), &note, true);
    let Some(rows) = inner.height.checked_sub(DETAIL_ROWS + 1).filter(|rows| *rows > 0) else {
        return;
    };
    let loads = shown(snapshot);
    let x = inner.x + 1;
    heading(p, x, inner.y);
    let at = line(model, snapshot);
    let first = first_row(at, loads.len(), rows.into());
    let visible = loads.iter().enumerate().skip(first).take(rows.into());
    for (y, (i, load)) in (inner.y + 1..).zip(visible) {
        row(p, (x, y), inner, load, snapshot.now);
        if i == at {
            p.restyle(Rect { y, height: 1, ..inner }, p.theme.reversed());
        }
    }
    let y = inner.bottom() - DETAIL_ROWS + 1;
    let Some(load) = loads.get(at) else {
        p.text(x, inner.y + 1, inner.width, "nothing was loaded yet", p.theme.dim());
        return;
    };
    let room = inner.right().saturating_sub(x);
    p.last(x, y, room, &load.object, p.theme.dim());
    let error = load.error.as_deref().or(warehouse.error.as_deref()).unwrap_or_default();
    p.last(x, y + 1, room, error, p.theme.severity(severity(load)));
}

const COLUMNS: [(u16, &str); 5] =
    [(19, "attempt"), (28, "objects"), (37, "rows"), (47, "bytes"), (58, "changed")];

fn heading(p: &mut Painter, x: u16, y: u16) {
    p.text(x, y, 10, "state", p.theme.heading());
    for (right, text) in COLUMNS {
        p.right(x + right, y, 10, text, p.theme.heading());
    }
    p.text(x + 60, y, 10, "table", p.theme.heading());
}

fn row(p: &mut Painter, (x, y): (u16, u16), inner: Rect, load: &Load, now: i64) {
    let severity = severity(load);
    let end = p.text(x, y, 8, load.state.as_str(), p.theme.normal());
    p.text(end + 1, y, 2, mark(severity), p.theme.severity(severity));
    let values = [
        load.attempt.to_string(),
        format::short_count(load.objects),
        format::short_count(load.rows),
        format::bytes(load.bytes),
        format::stamp(load.changed_at, now),
    ];
    for ((right, _), text) in COLUMNS.iter().zip(values) {
        p.right(x + right, y, 10, &text, p.theme.normal());
    }
    p.last(x + 60, y, inner.right().saturating_sub(x + 60), &load.table, p.theme.normal());
}

/// One that has failed for good waits for an operator.
fn severity(load: &Load) -> Option<Severity> {
    (load.state == LoadState::Failed).then_some(Severity::Warning)
}
