//! View 6: loads into the warehouse, those that failed, then those that changed last; and one of
//! them in detail, with its id and why it failed.

use eventkit::status::{Load, Severity, Snapshot, WarehouseStatus};
use ratatui::layout::Rect;

use super::first_row;
use crate::ui::format;
use crate::ui::model::Model;
use crate::ui::paint::Painter;
use crate::ui::theme::mark;

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
    // An error has to be read whole: it says what to do.
    let table = Rect { height: body.height * 2 / 5, ..body };
    let below = Rect { y: table.bottom(), height: body.height - table.height, ..body };
    let note = format!(
        "{} objects, {} wait   {} failed",
        format::count(warehouse.waiting_objects),
        format::bytes(warehouse.waiting_bytes),
        format::count(warehouse.failed_now)
    );
    let inner = p.pane(table, &format!("Loads into {}", warehouse.name), &note, true);
    let Some(rows) = inner.height.checked_sub(1).filter(|rows| *rows > 0) else { return };
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
    if loads.is_empty() {
        p.text(x, inner.y + 1, inner.width, "nothing was loaded yet", p.theme.dim());
    }
    detail((loads.get(at), warehouse), snapshot.now, p, below);
}

/// The load under the cursor, with its id for the command line; and what the warehouse says.
fn detail(
    (load, warehouse): (Option<&Load>, &WarehouseStatus),
    now: i64,
    p: &mut Painter,
    area: Rect,
) {
    let title = load.map_or_else(|| warehouse.name.clone(), |load| format!("Load {}", load.id));
    let inner = p.pane(area, &title, "", false);
    let room = inner.width.saturating_sub(2);
    let mut rest = Rect { x: inner.x + 1, width: room, ..inner };
    if let Some(load) = load {
        let into = format!("{}.{}, attempt {}", load.dataset, load.table, load.attempt);
        let more = match load.objects {
            0 | 1 => load.object.clone(),
            many => format!("{}, the first of {}", load.object, format::count(many)),
        };
        let changed = format!("{} {}", load.state.as_str(), format::stamp(load.changed_at, now));
        for (label, text) in [("state", &changed), ("into", &into), ("object", &more)] {
            if rest.height == 0 {
                return;
            }
            p.text(rest.x, rest.y, 8, label, p.theme.dim());
            p.last(rest.x + 8, rest.y, room.saturating_sub(8), text, p.theme.normal());
            rest = Rect { y: rest.y + 1, height: rest.height - 1, ..rest };
        }
    }
    let own = warehouse.error.as_ref().map(|error| format!("{} fails: {error}", warehouse.name));
    if let Some((load, error)) = load.and_then(|load| Some((load, load.error.as_deref()?))) {
        // Where both have something to say, neither takes all of the room.
        let kept = if own.is_some() { OWN_ROWS.min(rest.height) } else { 0 };
        let room = Rect { height: rest.height - kept, ..rest };
        let below = p.paragraph(room, error, p.theme.severity(severity(load)));
        rest = Rect { y: below, height: rest.bottom() - below, ..rest };
    }
    if let Some(error) = own {
        p.paragraph(rest, &error, p.theme.severity(Some(Severity::Warning)));
    }
}

/// Rows that are left for the warehouse's own error, at least.
const OWN_ROWS: u16 = 2;

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
    let end = p.text(x, y, 9, load.state.as_str(), p.theme.normal());
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
    load.is_failed().then_some(Severity::Warning)
}
