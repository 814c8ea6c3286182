//! One letter: every violation, the facts of its receipt, the payload with the failing places
//! marked in the margin, its history. As a preview under the list, or full screen.

use ratatui::layout::Rect;

use crate::ui::format;
use crate::ui::json;
use crate::ui::model::Model;
use crate::ui::opened::{DetailRow, Opened};
use crate::ui::paint::Painter;

/// A preview lower than this shows the failing place instead of starting at the top.
const PREVIEW_ROWS_MIN: u16 = 13;

/// Draws the letter under the cursor.
pub fn draw(model: &Model, p: &mut Painter, area: Rect, full: bool) {
    let letters = &model.letters;
    let current = letters.current().map(|row| row.letter.id);
    let opened = letters.opened.as_ref().filter(|o| Some(o.letter.summary.id) == current);
    let (title, note) = match (current, opened) {
        (Some(id), Some(opened)) => {
            let rows = opened.rows.len();
            let at = letters.scroll + 1;
            let note = if full { format!("row {at} of {rows}") } else { "Enter opens".to_owned() };
            let reason = &opened.letter.summary.reason;
            let path = &opened.letter.summary.path;
            (format!("Letter {id}  {reason} {path}"), note)
        }
        (Some(id), None) => (format!("Letter {id}"), String::new()),
        (None, _) => ("Letter".to_owned(), String::new()),
    };
    let inner = p.pane(area, title.trim_end(), &note, full);
    let Some(opened) = opened else {
        let text = if current.is_some() { "waiting for data" } else { "no letter" };
        p.text(inner.x + 1, inner.y, inner.width.saturating_sub(2), text, p.theme.dim());
        return;
    };
    let (first, left) = match (full, inner.height < PREVIEW_ROWS_MIN) {
        (true, _) => (letters.scroll, letters.left),
        (false, true) => (preview_start(opened, inner.height), 0),
        (false, false) => (0, 0),
    };
    let first = first.min(opened.rows.len().saturating_sub(1));
    let now = model.screen_clock().unwrap_or_default();
    for (y, row) in (inner.y..inner.bottom()).zip(&opened.rows[first..]) {
        let at = Rect { y, height: 1, ..inner };
        draw_row(opened, *row, p, at, left, now);
    }
}

/// In a low preview the title already says what is wrong: start so that the failing place shows.
fn preview_start(opened: &Opened, height: u16) -> usize {
    let payload = opened.payload_row(0).unwrap_or(0);
    let failing = opened.next_failing_row(None).unwrap_or(payload);
    failing.saturating_sub(usize::from(height) / 2).max(payload)
}

fn draw_row(opened: &Opened, row: DetailRow, p: &mut Painter, at: Rect, left: usize, now: i64) {
    let x = at.x + 1;
    let room = at.width.saturating_sub(2);
    match row {
        DetailRow::Violation(i) => violation(opened, i, p, at),
        DetailRow::Why(i) => {
            let message = &opened.letter.rejections[i].message;
            let message: String = message.chars().skip(left).collect();
            p.last(x + 2, at.y, room.saturating_sub(2), &message, p.theme.normal());
        }
        DetailRow::Fact(i) => {
            let fact: String = opened.facts[i].chars().skip(left).collect();
            p.last(x, at.y, room, &fact, p.theme.normal());
        }
        DetailRow::Blank => {}
        DetailRow::Heading(text) => {
            p.text(x, at.y, room, text, p.theme.heading());
        }
        DetailRow::NotJson => {
            let error = opened.payload.error.as_deref().unwrap_or_default();
            p.text(x, at.y, room, &format!("not JSON: {error}"), p.theme.warning());
        }
        DetailRow::Payload(i) => payload(opened, i, p, at, left),
        DetailRow::Hex(i) => {
            p.text(x, at.y, room, &opened.hex(i), p.theme.normal());
        }
        DetailRow::Cut => {
            let text = format!("only the first {} lines are shown", json::LINES_MAX);
            p.text(x, at.y, room, &text, p.theme.dim());
        }
        DetailRow::History(i) => {
            let attempt = &opened.letter.history[i];
            let x = p.text(x, at.y, 12, &format::stamp(attempt.at, now), p.theme.dim()) + 2;
            let x = p.text(x, at.y, 14, &attempt.what, p.theme.normal()) + 2;
            let by = attempt.by.as_deref().map(|by| format!("by {by}: ")).unwrap_or_default();
            let text: String = format!("{by}{}", attempt.detail).chars().skip(left).collect();
            p.last(x, at.y, at.right().saturating_sub(x + 1), &text, p.theme.normal());
        }
    }
}

fn violation(opened: &Opened, i: usize, p: &mut Painter, at: Rect) {
    let rejection = &opened.letter.rejections[i];
    let code = format!("{}.{}", rejection.phase.as_str(), rejection.reason);
    let x = p.text(at.x + 1, at.y, 30, &code, p.theme.heading()) + 2;
    let path = if rejection.path.is_empty() { "the whole payload" } else { &rejection.path };
    p.last(x, at.y, at.right().saturating_sub(x + 1), &format!("at {path}"), p.theme.normal());
}

fn payload(opened: &Opened, i: usize, p: &mut Painter, at: Rect, left: usize) {
    let line = &opened.payload.lines[i];
    let text = opened.letter.payload.as_deref().unwrap_or_default();
    let violation = opened.violation_at(i).map(|i| &opened.letter.rejections[i]);
    let margin = if violation.is_some() { ">" } else { " " };
    p.text(at.x, at.y, 1, margin, p.theme.warning());
    p.right(at.x + 6, at.y, 5, &(i + 1).to_string(), p.theme.dim());
    let indent = usize::from(line.depth) * 2;
    let shift = left.saturating_sub(indent);
    let x = at.x + 7 + indent.saturating_sub(left) as u16;
    let source = text.get(line.source.clone()).unwrap_or_default();
    // Only what can be seen is read: a line may be a megabyte long.
    let shown = source.char_indices().nth(shift).map_or("", |(at, _)| &source[at..]);
    let Some(rejection) = violation else {
        p.last(x, at.y, at.right().saturating_sub(x + 1), shown, p.theme.normal());
        return;
    };
    let exists = line.pointer.as_deref() == Some(&*rejection.path);
    let note = if exists {
        format!("<- {}", rejection.reason)
    } else {
        let missing = rejection.path.rsplit('/').next().unwrap_or_default();
        format!("<- {}: {missing}", rejection.reason)
    };
    let note_cells = 40.min(at.width / 2);
    let room = at.right().saturating_sub(x + 1 + note_cells);
    let end = p.text(x, at.y, room, shown, p.theme.normal());
    p.text(end + 2, at.y, at.right().saturating_sub(end + 3), &note, p.theme.warning());
}
