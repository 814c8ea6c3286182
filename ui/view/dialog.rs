//! Questions over the screen. They show no payload text; a reason or path at most 40 cells wide.

use ratatui::layout::{Position, Rect};

use super::cursor_at;
use crate::ui::dialogs::{BUTTON_MAX, focus};
use crate::ui::format;
use crate::ui::message::LoadChange;
use crate::ui::model::{Dialog, Model, Question};
use crate::ui::paint::Painter;

/// Draws the question; full screen where it does not fit.
pub fn draw(model: &Model, dialog: &Dialog, p: &mut Painter, area: Rect) -> Option<Position> {
    let rows = 11.min(area.height);
    let width = 72.min(area.width);
    let at = Rect {
        x: area.x + (area.width - width) / 2,
        y: area.y + (area.height - rows) / 2,
        width,
        height: rows,
    };
    p.clear(at);
    match &dialog.question {
        Question::Counting { scope } => {
            let inner = p.pane(at, "Replay", "Esc cancels", true);
            line(p, inner, 1, "Scope", scope);
            line(p, inner, 3, "", "counting its open letters");
            None
        }
        Question::Replay { scope, count, as_of, .. } => {
            let inner = p.pane(at, "Replay", "Esc cancels", true);
            replay(model, dialog, p, inner, (scope, *count, *as_of))
        }
        Question::Load { change, scope, .. } => {
            let (title, effect, more) = match change {
                LoadChange::Retry => (
                    "Retry",
                    "a new job with the same objects: all land, or none",
                    "none: what lands stays",
                ),
                LoadChange::Dismiss => (
                    "Dismiss",
                    "not loaded, and no trouble any more",
                    "nothing in the lake changes; R here opens it again",
                ),
            };
            let inner = p.pane(at, title, "Esc cancels", true);
            line(p, inner, 1, "Load", scope);
            line(p, inner, 3, "Effect", effect);
            line(p, inner, 4, "Undo", more);
            draw_buttons(p, inner, dialog.focus, &["Cancel", title]);
            None
        }
        Question::Leave => {
            let inner = p.pane(at, "Leave", "Esc cancels", true);
            line(p, inner, 1, "", "This console runs inside the service.");
            line(p, inner, 3, "", "Stop service: intake ends, open batches are stored.");
            line(p, inner, 4, "", "Close console: the service goes on without it.");
            let buttons = ["Cancel", "Close console", "Stop service"];
            draw_buttons(p, inner, dialog.focus, &buttons);
            None
        }
    }
}

fn line(p: &mut Painter, inner: Rect, row: u16, label: &str, text: &str) {
    if row >= inner.height {
        return;
    }
    let y = inner.y + row;
    let x = if label.is_empty() { inner.x + 2 } else { inner.x + 12 };
    p.text(inner.x + 2, y, 10, label, p.theme.dim());
    p.text(x, y, inner.right().saturating_sub(x + 1), text, p.theme.normal());
}

fn replay(
    model: &Model,
    dialog: &Dialog,
    p: &mut Painter,
    inner: Rect,
    (scope, count, as_of): (&str, u64, i64),
) -> Option<Position> {
    line(p, inner, 1, "Scope", scope);
    let counted = format!("{} as of {}; later ones stay out", letters(count), format::clock(as_of));
    line(p, inner, 2, "", "");
    line(p, inner, 3, "Letters", &counted);
    line(p, inner, 4, "Effect", "back into the log, as they are, under today's rules");
    let label = format!("Replay {}", format::count(count));
    draw_buttons(p, inner, dialog.focus, &["Cancel", &label]);
    if let Some(notice) = model.notice.as_ref().filter(|notice| notice.failed) {
        line(p, inner, 5, "", &notice.text);
    }
    if count <= BUTTON_MAX {
        return None;
    }
    let y = inner.y + 6.min(inner.height.saturating_sub(3));
    let x = p.text(inner.x + 2, y, 40, "Type the number of letters: ", p.theme.normal());
    let focused = dialog.focus == focus::OTHER;
    let style = if focused { p.theme.heading() } else { p.theme.normal() };
    let x = p.text(x, y, 2, "[ ", style);
    let end = p.text(x, y, 12, &dialog.typed, style);
    p.text(end.max(x + 8), y, 2, " ]", style);
    if focused { cursor_at(end, y, inner) } else { None }
}

fn letters(count: u64) -> String {
    if count == 1 { "1 letter".to_owned() } else { format!("{} letters", format::count(count)) }
}

fn draw_buttons(p: &mut Painter, inner: Rect, focused: usize, buttons: &[&str]) {
    let y = inner.bottom().saturating_sub(1);
    let mut x = inner.x + 2;
    for (i, label) in buttons.iter().enumerate() {
        let style = if i == focused { p.theme.reversed() } else { p.theme.normal() };
        let room = inner.right().saturating_sub(x);
        x = p.text(x, y, room, &format!("[ {label} ]"), style) + 3;
    }
}
