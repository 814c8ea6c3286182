//! The help: every key, made from the one table; then what the signs mean.

use ratatui::layout::Rect;

use super::first_row;
use crate::ui::keys::{KEYS, Key, Place};
use crate::ui::model::Model;
use crate::ui::paint::Painter;
use crate::ui::update::view_places;

const PLACES: [(Place, &str); 13] = [
    (Place::Groups, "dead letters: groups"),
    (Place::Letters, "dead letters: list"),
    (Place::Letter, "dead letters: one letter"),
    (Place::Lists, "lists"),
    (Place::Overview, "overview"),
    (Place::Streams, "streams"),
    (Place::Partitions, "partitions"),
    (Place::Wal, "WAL"),
    (Place::Loads, "loads"),
    (Place::Everywhere, "everywhere"),
    (Place::FilterLine, "while a filter is typed"),
    (Place::Dialog, "in a question"),
    (Place::Help, "in this help"),
];

const SIGNS: [&str; 6] = [
    "!  look at it today        !!  look at it now",
    "STALE: no data for three intervals; what is dim is old",
    "chart: each column is the highest rate in its stretch of time, newest right",
    "filter terms stand side by side and must all match: stream:users status:open",
    "\\x1b \\u{202e}: a byte or character that is not drawn but named",
    "reversed key in the last line: it changes something in the service",
];

/// A line of the help.
#[derive(Clone, Copy, Debug)]
pub enum Line {
    /// A heading.
    Heading(&'static str),
    /// A key.
    Key(&'static Key),
    /// A sentence.
    Text(&'static str),
    /// Nothing.
    Blank,
}

/// All lines of the help, those of the `near` places first.
#[must_use]
pub fn lines(near: &[Place]) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut places = PLACES;
    places.sort_by_key(|(place, _)| {
        let nearness = near.iter().position(|other| other == place);
        nearness.unwrap_or(near.len())
    });
    for (place, heading) in places {
        lines.push(Line::Heading(heading));
        lines.extend(KEYS.iter().filter(|key| key.place == place).map(Line::Key));
        lines.push(Line::Blank);
    }
    lines.push(Line::Heading("signs"));
    lines.extend(SIGNS.map(Line::Text));
    lines
}

/// Draws the help, `scroll` lines down.
pub fn draw(model: &Model, scroll: usize, p: &mut Painter, body: Rect) {
    let all = lines(view_places(model));
    let inner = p.pane(body, "Help", "Esc closes", true);
    let height = usize::from(inner.height);
    let first = scroll.min(first_row(all.len(), all.len(), height));
    for (y, line) in (inner.y..inner.bottom()).zip(&all[first..]) {
        let x = inner.x + 1;
        let room = inner.width.saturating_sub(2);
        match line {
            Line::Heading(text) => p.text(x, y, room, text, p.theme.heading()),
            Line::Text(text) => p.text(x + 2, y, room.saturating_sub(2), text, p.theme.normal()),
            Line::Blank => x,
            Line::Key(key) => {
                let names: Vec<String> = key.presses.iter().map(|press| press.name()).collect();
                let style = if key.changes() { p.theme.reversed() } else { p.theme.normal() };
                p.text(x + 2, y, 18, &names.join("  "), style);
                p.text(x + 21, y, room.saturating_sub(21), key.help, p.theme.normal())
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_names_every_key_of_the_table_once() {
        let lines = lines(&[Place::Letters]);
        for key in KEYS {
            let named = lines.iter().filter(|line| match line {
                Line::Key(other) => std::ptr::eq(*other, key),
                _ => false,
            });
            assert_eq!(named.count(), 1, "{} in {:?}", key.help, key.place);
        }
    }
}
