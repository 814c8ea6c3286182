//! Drawing: one file a view, each a pure function of the model.
//!
//! [`draw`] picks the layout class from the size alone and leaves the model as it is. A screen
//! that is too small for a view shows what matters most, never a request for a larger window.

pub mod capacity;
pub mod dead_letters;
pub mod dialog;
pub mod frame;
pub mod help;
pub mod letter;
pub mod letter_list;
pub mod loads;
pub mod overview;
pub mod partitions;
pub mod streams;
pub mod wal;

use eventkit::status::Snapshot;
use ratatui::Frame;
use ratatui::layout::{Position, Rect};

use super::model::{Link, Model, Tab};
use super::paint::Painter;

/// How much room there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Less than 40x10: one line.
    Line,
    /// From 40x10: the worst finding.
    Minimal,
    /// From 80x24.
    Compact,
    /// From 100x30.
    Wide,
}

impl Class {
    /// The class of a size.
    #[must_use]
    pub fn of(area: Rect) -> Self {
        match (area.width, area.height) {
            (100.., 30..) => Self::Wide,
            (80.., 24..) => Self::Compact,
            (40.., 10..) => Self::Minimal,
            _ => Self::Line,
        }
    }
}

/// Draws the whole screen.
pub fn draw(model: &Model, frame: &mut Frame) {
    let area = frame.area();
    if area.is_empty() {
        return;
    }
    let mut painter = Painter::new(frame.buffer_mut(), model.theme);
    let p = &mut painter;
    let class = Class::of(area);
    let cursor = match class {
        Class::Line => {
            frame::one_line(model, p, area);
            None
        }
        Class::Minimal => {
            frame::minimal(model, p, area);
            model.dialog.as_ref().and_then(|question| dialog::draw(model, question, p, area))
        }
        Class::Compact | Class::Wide => {
            let body = frame::draw(model, p, area, class);
            draw_body(model, p, body, class);
            let line = frame::message(model, p, area);
            let asked =
                model.dialog.as_ref().map(|question| dialog::draw(model, question, p, area));
            asked.unwrap_or(line)
        }
    };
    if let Some(cursor) = cursor {
        frame.set_cursor_position(cursor);
    }
}

fn draw_body(model: &Model, p: &mut Painter, body: Rect, class: Class) {
    if let Some(scroll) = model.help {
        return help::draw(model, scroll, p, body);
    }
    let Some(snapshot) = model.shown() else {
        p.text(body.x + 1, body.y + 1, body.width, "waiting for data", p.theme.dim());
        return;
    };
    // A service that was restarted may have another role.
    if let Some(why) = model.tab.lacks(snapshot) {
        p.text(body.x + 1, body.y + 1, body.width, why, p.theme.dim());
        return;
    }
    match model.tab {
        Tab::Overview => overview::draw(model, snapshot, p, body, class),
        Tab::Streams => streams::draw(model, snapshot, p, body),
        Tab::Partitions => partitions::draw(model, snapshot, p, body),
        Tab::Wal => wal::draw(model, snapshot, p, body),
        Tab::DeadLetters => dead_letters::draw(model, p, body, class),
        Tab::Loads => loads::draw(model, snapshot, p, body),
    }
    let old = model.is_stale() || matches!(model.link, Link::Lost { .. });
    if old && model.frozen.is_none() {
        p.restyle(body, p.theme.dim());
    }
}

/// The line of the stream under the cursor of views 1, 2 and 4.
#[must_use]
pub fn stream_line(model: &Model, snapshot: &Snapshot) -> usize {
    let cursor = model.cursors.stream.as_ref();
    cursor
        .and_then(|name| snapshot.streams.iter().position(|stream| stream.name == *name))
        .unwrap_or(0)
}

/// The first of `rows` rows to be shown in `height` lines so that `line` is among them.
#[must_use]
pub fn first_row(line: usize, rows: usize, height: usize) -> usize {
    let last_first = rows.saturating_sub(height);
    line.saturating_sub(height / 2).min(last_first)
}

/// Where a text cursor stands, if it is inside the area.
#[must_use]
pub fn cursor_at(x: u16, y: u16, area: Rect) -> Option<Position> {
    area.contains(Position { x, y }).then_some(Position { x, y })
}
