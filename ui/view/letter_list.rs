//! The letters of a group, or all that the filter admits, newest first.

use eventkit::errors::Status;
use ratatui::layout::Rect;

use super::first_row;
use crate::ui::format;
use crate::ui::letters::{GroupKey, Letters, Pane, Row};
use crate::ui::model::Model;
use crate::ui::paint::Painter;

fn list_title(letters: &Letters) -> (String, String) {
    let title = match &letters.group {
        Some(GroupKey { phase, reason, .. }) => format!("{}.{reason}", phase.as_str()),
        None => "All letters".to_owned(),
    };
    let position = if letters.rows.is_empty() { 0 } else { letters.line() + 1 };
    let upper = letters.group.as_ref().is_some_and(|key| letters.is_ambiguous(key));
    let note = match letters.total {
        None => String::new(),
        Some(total) => {
            let bound = if upper { "<=" } else { "" };
            let more = if letters.awaited[1].is_some() && letters.page_before.is_some() {
                ", reading on"
            } else {
                ""
            };
            format!("{} of {bound}{}{more}", format::count(position as u64), format::count(total))
        }
    };
    (title, note)
}

/// Draws the list.
pub fn draw(model: &Model, p: &mut Painter, area: Rect) {
    let letters = &model.letters;
    let focused = letters.pane == Pane::List;
    let (title, note) = list_title(letters);
    let inner = p.pane(area, &title, &note, focused);
    if inner.height < 2 {
        return;
    }
    let columns = Columns::of(letters, inner);
    columns.heading(p, inner.y);
    let mut body = Rect { y: inner.y + 1, height: inner.height - 1, ..inner };
    if letters.rows.is_empty() {
        let text = match (&letters.error, letters.total) {
            (Some(error), _) => error.clone(),
            (None, None) => "waiting for data".to_owned(),
            (None, Some(_)) => nothing(model),
        };
        p.text(body.x + 1, body.y, body.width.saturating_sub(2), &text, p.theme.normal());
        return;
    }
    let new = letters.new_above();
    if new > 0 {
        body.height -= 1;
        let text = format!("{} new above, g to go", format::count(new as u64));
        p.text(body.x + 3, body.bottom(), body.width.saturating_sub(4), &text, p.theme.dim());
    }
    let height = usize::from(body.height);
    let line = letters.line();
    let first = first_row(line, letters.rows.len(), height);
    for (y, (i, row)) in (body.y..).zip(letters.rows.iter().enumerate().skip(first).take(height)) {
        let at = Rect { y, height: 1, ..body };
        columns.row(model, row, p, at);
        if i == line {
            if focused {
                p.restyle(at, p.theme.reversed());
            } else {
                p.text(at.x, y, 1, ">", p.theme.heading());
            }
        }
    }
}

fn nothing(model: &Model) -> String {
    let counts = model.shown().map(|snapshot| snapshot.dead_letters.clone()).unwrap_or_default();
    if model.letters.filter.status == Some(Status::Open) && counts.open == 0 {
        return format!(
            "No open dead letters. {} were resolved: / status:resolved",
            format::count(counts.resolved)
        );
    }
    let all = counts.open + counts.replaying + counts.resolved + counts.discarded;
    format!("0 of {} match; Esc in the groups clears the filter", format::count(all))
}

/// Where the columns of the list start (text) or end (numbers).
struct Columns {
    rejected: u16,
    /// None where all letters are of one stream: the preview needs the room.
    stream: Option<u16>,
    size: u16,
    tries: u16,
    state: u16,
    preview: u16,
}

impl Columns {
    fn of(letters: &Letters, inner: Rect) -> Self {
        let one = letters.list_filter().stream.is_some();
        let x = inner.x + if one { 14 } else { 27 };
        Self {
            rejected: inner.x + 3,
            stream: (!one).then_some(inner.x + 16),
            size: x + 5,
            tries: x + 11,
            state: x + 13,
            preview: x + 24,
        }
    }

    fn heading(&self, p: &mut Painter, y: u16) {
        let style = p.theme.heading();
        p.text(self.rejected, y, 10, "rejected", style);
        if let Some(x) = self.stream {
            p.text(x, y, 10, "stream", style);
        }
        p.right(self.size, y, 5, "size", style);
        p.right(self.tries, y, 5, "tries", style);
        p.text(self.state, y, 10, "state", style);
        p.text(self.preview, y, 10, "preview", style);
    }

    fn row(&self, model: &Model, row: &Row, p: &mut Painter, at: Rect) {
        let letter = &row.letter;
        let marked = model.letters.marks.contains(&letter.id);
        let style = match (marked, row.gone) {
            (true, _) => p.theme.marked(),
            (false, true) => p.theme.dim(),
            (false, false) => p.theme.normal(),
        };
        let now = model.screen_clock().unwrap_or(letter.rejected_at);
        if marked {
            p.text(at.x + 1, at.y, 1, "x", style);
        }
        let stamp = format::stamp(letter.rejected_at, now);
        p.text(self.rejected, at.y, 11, &stamp, style);
        if let Some(x) = self.stream {
            p.text(x, at.y, 11, letter.stream.as_str(), style);
        }
        p.right(self.size, at.y, 5, &format::short_bytes(letter.payload_bytes), style);
        p.right(self.tries, at.y, 5, &letter.attempts.to_string(), style);
        let state = match (row.gone, letter.status, letter.attempts) {
            (true, _, _) => "(gone)",
            (false, Status::Open, 1..) => "failed",
            (false, status, _) => status.as_str(),
        };
        p.text(self.state, at.y, 10, state, style);
        let room = at.right().saturating_sub(self.preview + 1);
        p.last(self.preview, at.y, room, &letter.preview, style);
    }
}
