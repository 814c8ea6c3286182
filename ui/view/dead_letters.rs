//! View 5: groups, the letters of a group, one letter.
//!
//! Wide: three panes side by side, one letter full screen. Compact: one level at a time (groups,
//! list with preview, letter), and Esc goes up one.

use eventkit::errors::Group;
use ratatui::layout::Rect;

use super::{Class, first_row, letter, letter_list};
use crate::ui::filter;
use crate::ui::format;
use crate::ui::letters::{Letters, Pane};
use crate::ui::model::Model;
use crate::ui::paint::Painter;

/// Draws the view.
pub fn draw(model: &Model, p: &mut Painter, body: Rect, class: Class) {
    filter_line(model, p, Rect { height: 1, ..body });
    let area = Rect { y: body.y + 1, height: body.height.saturating_sub(1), ..body };
    let pane = model.letters.pane;
    if pane == Pane::Letter {
        return letter::draw(model, p, area, true);
    }
    if class == Class::Wide {
        let left = Rect { width: 44.max(area.width * 2 / 5), ..area };
        groups(model, p, left);
        let right = Rect { x: left.right(), width: area.width - left.width, ..area };
        let list_rows = right.height * 2 / 5;
        letter_list::draw(model, p, Rect { height: list_rows, ..right });
        let below = Rect { y: right.y + list_rows, height: right.height - list_rows, ..right };
        letter::draw(model, p, below, false);
    } else if pane == Pane::Groups {
        groups(model, p, area);
    } else {
        let list_rows = area.height / 2 + 1;
        letter_list::draw(model, p, Rect { height: list_rows, ..area });
        let below =
            Rect { y: area.y + list_rows, height: area.height.saturating_sub(list_rows), ..area };
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
    let right = p.right(at.right() - 1, at.y, 40, &notes.join("   "), p.theme.normal());
    let x = p.text(at.x + 1, at.y, 8, "filter: ", p.theme.dim());
    p.text(x, at.y, right.saturating_sub(x + 2), filter, p.theme.normal());
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
    p.text(inner.x + 10, inner.y, inner.width - 11, "reason, place, stream", p.theme.heading());
    p.right(inner.right() - 1, inner.y, 4, "last", p.theme.heading());
    // The panel on what a group has in common takes five rows; a group takes two.
    let panel = if inner.height >= 12 { 5 } else { 0 };
    let body = Rect { y: inner.y + 1, height: inner.height - 1 - panel, ..inner };
    let line = letters.group_line();
    let two = usize::from(body.height) / 2;
    let first = first_row(line, count + 1, two.max(1));
    let everything = (first == 0).then_some(None);
    let shown =
        everything.into_iter().chain(letters.shown_groups().skip(first.max(1) - 1).map(Some));
    for (i, group) in shown.take(two).enumerate() {
        let row = Rect { y: body.y + 2 * i as u16, height: 2, ..body };
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
        common(model, p, Rect { y, height: panel, ..inner });
    }
}

fn draw_everything(letters: &Letters, p: &mut Painter, row: Rect) {
    let open: u64 = letters.shown_groups().map(|group| group.open).sum();
    p.right(row.x + 8, row.y, 7, &format::short_count(open), p.theme.normal());
    let text = if open == 0 { "no open dead letters" } else { "all letters" };
    p.text(row.x + 10, row.y, row.width.saturating_sub(11), text, p.theme.normal());
}

fn draw_group(group: &Group, model: &Model, p: &mut Painter, row: Rect) {
    let style = if group.open == 0 { p.theme.dim() } else { p.theme.normal() };
    p.right(row.x + 8, row.y, 7, &format::short_count(group.open), style);
    let room = row.width.saturating_sub(11);
    let reason = format!("{}.{}", group.phase.as_str(), group.reason);
    p.text(row.x + 10, row.y, room, &reason, style);
    let now = model.screen_clock().unwrap_or(group.last_at);
    let ago = now.saturating_sub(group.last_at).max(0) as u64 / 1000;
    let age = format::age(ago);
    let right = p.right(row.right() - 1, row.y + 1, 9, &age, p.theme.dim());
    let path = if group.path.is_empty() { "-" } else { &group.path };
    let x = p.text(row.x + 10, row.y + 1, room / 2, path, style) + 2;
    p.text(x, row.y + 1, right.saturating_sub(x + 1), group.stream.as_str(), style);
}

fn common(model: &Model, p: &mut Painter, area: Rect) {
    let now = model.screen_clock().unwrap_or_default();
    let Some(group) = model.letters.current_group() else {
        let lines = ["Up and Down choose a group,", "Enter goes to its letters."];
        for (y, text) in (area.y + 1..area.bottom()).zip(lines) {
            p.text(area.x + 1, y, area.width.saturating_sub(2), text, p.theme.dim());
        }
        return;
    };
    let lines = [
        ("first", format::stamp(group.first_at, now)),
        ("last", format::stamp(group.last_at, now)),
        ("library", group.library.clone().unwrap_or_else(|| "none named".to_owned())),
        ("in all", format!("{}, whatever their state", format::count(group.total))),
    ];
    for (y, (label, text)) in (area.y + 1..area.bottom()).zip(lines) {
        p.text(area.x + 1, y, 8, label, p.theme.dim());
        p.text(area.x + 10, y, area.width.saturating_sub(11), &text, p.theme.normal());
    }
}
