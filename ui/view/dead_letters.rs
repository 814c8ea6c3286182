//! View 5: groups, the letters of a group, one letter.
//!
//! Wide: three panes side by side, one letter full screen. Compact: one level at a time (groups,
//! list with preview, letter), and Esc goes up one.

use eventkit::errors::{Group, Status};
use ratatui::layout::Rect;

use super::{Class, first_row, letter};
use crate::ui::filter;
use crate::ui::format;
use crate::ui::letters::{GroupKey, Letters, Pane, Row};
use crate::ui::model::Model;
use crate::ui::paint::Painter;

/// Draws the view.
pub fn draw(model: &Model, p: &mut Painter, body: Rect, class: Class) {
    filter_line(model, p, Rect { height: 1, ..body });
    let area = Rect {
        y: body.y + 1,
        height: body.height.saturating_sub(1),
        ..body
    };
    let pane = model.letters.pane;
    if pane == Pane::Letter {
        return letter::draw(model, p, area, true);
    }
    if class == Class::Wide {
        let left = Rect {
            width: 44.max(area.width * 2 / 5),
            ..area
        };
        groups(model, p, left);
        let right = Rect {
            x: left.right(),
            width: area.width - left.width,
            ..area
        };
        let list_rows = right.height * 2 / 5;
        list(
            model,
            p,
            Rect {
                height: list_rows,
                ..right
            },
        );
        let below = Rect {
            y: right.y + list_rows,
            height: right.height - list_rows,
            ..right
        };
        letter::draw(model, p, below, false);
    } else if pane == Pane::Groups {
        groups(model, p, area);
    } else {
        let list_rows = area.height / 2 + 1;
        list(
            model,
            p,
            Rect {
                height: list_rows,
                ..area
            },
        );
        let below = Rect {
            y: area.y + list_rows,
            height: area.height.saturating_sub(list_rows),
            ..area
        };
        letter::draw(model, p, below, false);
    }
}

fn filter_line(model: &Model, p: &mut Painter, at: Rect) {
    let letters = &model.letters;
    let filter = filter::print(&letters.filter);
    let filter = if filter.is_empty() { "none" } else { &filter };
    let mut notes = Vec::new();
    if let Some(total) = letters.total {
        notes.push(format!("{} match", format::count(total)));
    }
    if !letters.marks.is_empty() {
        let mut text = format!("{} marked", letters.marks.len());
        if letters.hidden_marks() > 0 {
            text += &format!(", {} hidden", letters.hidden_marks());
        }
        notes.push(text);
    }
    let right = p.right(
        at.right() - 1,
        at.y,
        40,
        &notes.join("   "),
        p.theme.normal(),
    );
    let x = p.text(at.x + 1, at.y, 8, "filter: ", p.theme.dim());
    p.text(
        x,
        at.y,
        right.saturating_sub(x + 2),
        filter,
        p.theme.normal(),
    );
}

fn groups(model: &Model, p: &mut Painter, area: Rect) {
    let letters = &model.letters;
    let count = letters.shown_groups().count();
    let focused = letters.pane == Pane::Groups;
    let inner = p.pane(area, "Groups", &format!("{count} ways to fail"), focused);
    if inner.height < 3 {
        return;
    }
    let Some(_) = letters.groups else {
        let text = letters.error.as_deref().unwrap_or("waiting for data");
        p.text(inner.x + 1, inner.y, inner.width - 2, text, p.theme.dim());
        return;
    };
    p.right(inner.x + 8, inner.y, 7, "open", p.theme.heading());
    p.text(
        inner.x + 10,
        inner.y,
        inner.width - 11,
        "reason, place, stream",
        p.theme.heading(),
    );
    // The panel on what a group has in common takes five rows; a group takes two.
    let panel = if inner.height >= 12 { 5 } else { 0 };
    let body = Rect {
        y: inner.y + 1,
        height: inner.height - 1 - panel,
        ..inner
    };
    let line = letters.group_line();
    let two = usize::from(body.height) / 2;
    let first = first_row(line, count + 1, two.max(1));
    let everything = (first == 0).then_some(None);
    let shown = everything
        .into_iter()
        .chain(letters.shown_groups().skip(first.max(1) - 1).map(Some));
    for (i, group) in shown.take(two).enumerate() {
        let row = Rect {
            y: body.y + 2 * i as u16,
            height: 2,
            ..body
        };
        match group {
            Some(group) => draw_group(group, model, p, row),
            None => draw_everything(letters, p, row),
        }
        if first + i == line {
            if focused {
                p.restyle(row, p.theme.reversed());
            } else {
                p.text(row.x, row.y, 1, ">", p.theme.heading());
            }
        }
    }
    if panel > 0 {
        let y = inner.bottom() - panel;
        common(
            model,
            p,
            Rect {
                y,
                height: panel,
                ..inner
            },
        );
    }
}

fn draw_everything(letters: &Letters, p: &mut Painter, row: Rect) {
    let open: u64 = letters.shown_groups().map(|group| group.open).sum();
    p.right(
        row.x + 8,
        row.y,
        7,
        &format::short_count(open),
        p.theme.normal(),
    );
    let text = if open == 0 {
        "no open dead letters"
    } else {
        "all letters"
    };
    p.text(
        row.x + 10,
        row.y,
        row.width.saturating_sub(11),
        text,
        p.theme.normal(),
    );
}

fn draw_group(group: &Group, model: &Model, p: &mut Painter, row: Rect) {
    let style = if group.open == 0 {
        p.theme.dim()
    } else {
        p.theme.normal()
    };
    p.right(row.x + 8, row.y, 7, &format::short_count(group.open), style);
    let room = row.width.saturating_sub(11);
    let reason = format!("{}.{}", group.phase.as_str(), group.reason);
    p.text(row.x + 10, row.y, room, &reason, style);
    let now = model.screen_clock().unwrap_or(group.last_at);
    let ago = now.saturating_sub(group.last_at).max(0) as u64 / 1000;
    let age = format!("{} ago", format::age(ago));
    let right = p.right(row.right() - 1, row.y + 1, 9, &age, p.theme.dim());
    let path = if group.path.is_empty() {
        "-"
    } else {
        &group.path
    };
    let x = p.text(row.x + 10, row.y + 1, room / 2, path, style) + 2;
    p.text(
        x,
        row.y + 1,
        right.saturating_sub(x + 1),
        group.stream.as_str(),
        style,
    );
}

fn common(model: &Model, p: &mut Painter, area: Rect) {
    let now = model.screen_clock().unwrap_or_default();
    let Some(group) = model.letters.current_group() else {
        let lines = [
            "Choose a group with Up and Down; its",
            "letters stand beside it.",
            "",
        ];
        for (y, text) in (area.y + 1..area.bottom()).zip(lines) {
            p.text(
                area.x + 1,
                y,
                area.width.saturating_sub(2),
                text,
                p.theme.dim(),
            );
        }
        return;
    };
    let lines = [
        ("first", format::stamp(group.first_at, now)),
        ("last", format::stamp(group.last_at, now)),
        (
            "library",
            group
                .library
                .clone()
                .unwrap_or_else(|| "none named".to_owned()),
        ),
        (
            "in all",
            format!("{}, whatever their state", format::count(group.total)),
        ),
    ];
    for (y, (label, text)) in (area.y + 1..area.bottom()).zip(lines) {
        p.text(area.x + 1, y, 8, label, p.theme.dim());
        p.text(
            area.x + 10,
            y,
            area.width.saturating_sub(11),
            &text,
            p.theme.normal(),
        );
    }
}

fn list_title(letters: &Letters) -> (String, String) {
    let title = match &letters.group {
        Some(GroupKey { phase, reason, .. }) => format!("{}.{reason}", phase.as_str()),
        None => "All letters".to_owned(),
    };
    let position = if letters.rows.is_empty() {
        0
    } else {
        letters.line() + 1
    };
    let upper = letters
        .group
        .as_ref()
        .is_some_and(|key| letters.is_ambiguous(key));
    let note = match letters.total {
        None => String::new(),
        Some(total) => {
            let bound = if upper { "<=" } else { "" };
            let more = if letters.awaited[1].is_some() && letters.page_before.is_some() {
                ", reading on"
            } else {
                ""
            };
            format!(
                "{} of {bound}{}{more}",
                format::count(position as u64),
                format::count(total)
            )
        }
    };
    (title, note)
}

fn list(model: &Model, p: &mut Painter, area: Rect) {
    let letters = &model.letters;
    let focused = letters.pane == Pane::List;
    let (title, note) = list_title(letters);
    let inner = p.pane(area, &title, &note, focused);
    if inner.height < 2 {
        return;
    }
    let columns = Columns::of(letters, inner);
    columns.heading(p, inner.y);
    let mut body = Rect {
        y: inner.y + 1,
        height: inner.height - 1,
        ..inner
    };
    if letters.rows.is_empty() {
        let text = match (&letters.error, letters.total) {
            (Some(error), _) => error.clone(),
            (None, None) => "waiting for data".to_owned(),
            (None, Some(_)) => nothing(model),
        };
        p.text(
            body.x + 1,
            body.y,
            body.width.saturating_sub(2),
            &text,
            p.theme.normal(),
        );
        return;
    }
    let new = letters.new_above();
    if new > 0 {
        body.height -= 1;
        let text = format!("{} new above, g to go", format::count(new as u64));
        p.text(
            body.x + 3,
            body.bottom(),
            body.width.saturating_sub(4),
            &text,
            p.theme.dim(),
        );
    }
    let height = usize::from(body.height);
    let line = letters.line();
    let first = first_row(line, letters.rows.len(), height);
    for (y, (i, row)) in (body.y..).zip(letters.rows.iter().enumerate().skip(first).take(height)) {
        let at = Rect {
            y,
            height: 1,
            ..body
        };
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
    let counts = model
        .shown()
        .map(|snapshot| snapshot.dead_letters.clone())
        .unwrap_or_default();
    if model.letters.filter.status == Some(Status::Open) && counts.open == 0 {
        return format!(
            "No open dead letters. {} were resolved: / status:resolved",
            format::count(counts.resolved)
        );
    }
    let all = counts.open + counts.replaying + counts.resolved + counts.discarded;
    format!(
        "0 of {} match; Esc in the groups clears the filter",
        format::count(all)
    )
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
        p.right(
            self.size,
            at.y,
            5,
            &format::short_bytes(letter.payload_bytes),
            style,
        );
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
