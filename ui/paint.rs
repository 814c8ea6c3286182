//! The brush: the only code that writes cells.
//!
//! Text of every origin passes through [`SafeText`] here, labels of the console's own included:
//! there is no second way. Columns are given in cells; what does not fit is cut with a sign.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};

use unicode_width::UnicodeWidthStr as _;

use super::safe_text::{Column, SafeText};
use super::theme::Theme;

/// Draws into one buffer with one theme.
pub struct Painter<'a> {
    buffer: &'a mut Buffer,
    /// What things look like.
    pub theme: Theme,
}

impl<'a> Painter<'a> {
    /// A brush for a buffer.
    pub fn new(buffer: &'a mut Buffer, theme: Theme) -> Self {
        Self { buffer, theme }
    }

    /// Draws text from `x` on, in at most `cells`; answers where it ended.
    pub fn text(&mut self, x: u16, y: u16, cells: u16, text: &str, style: Style) -> u16 {
        let safe = SafeText::fit(text, cells.into(), self.theme.charset, Column::Inner);
        self.draw(x, y, &safe, style)
    }

    /// Draws text behind which nothing follows on its line.
    pub fn last(&mut self, x: u16, y: u16, cells: u16, text: &str, style: Style) -> u16 {
        let safe = SafeText::fit(text, cells.into(), self.theme.charset, Column::Last);
        self.draw(x, y, &safe, style)
    }

    /// Draws text that ends at `right` (exclusive), in at most `cells`; answers where it starts.
    pub fn right(&mut self, right: u16, y: u16, cells: u16, text: &str, style: Style) -> u16 {
        let safe = SafeText::fit(text, cells.into(), self.theme.charset, Column::Inner);
        let x = right.saturating_sub(safe.cells() as u16);
        self.draw(x, y, &safe, style);
        x
    }

    /// Draws text over as many lines as there are, broken between words; what does not fit the
    /// last line is cut with a sign. Answers the line below.
    pub fn paragraph(&mut self, area: Rect, text: &str, style: Style) -> u16 {
        let mut rest = text.trim_start();
        for y in area.y..area.bottom() {
            if rest.is_empty() {
                return y;
            }
            let is_last = y + 1 == area.bottom();
            let line = if is_last { rest } else { self.first_line(rest, area.width.into()) };
            self.last(area.x, y, area.width, line, style);
            rest = rest[line.len()..].trim_start();
        }
        area.bottom()
    }

    /// How many lines a paragraph of so many cells has.
    pub fn lines(&self, text: &str, cells: u16) -> u16 {
        let (mut rest, mut lines) = (text.trim_start(), 0_u16);
        while !rest.is_empty() && cells > 0 {
            rest = rest[self.first_line(rest, cells.into()).len()..].trim_start();
            lines = lines.saturating_add(1);
        }
        lines
    }

    /// As much of the text as fits, up to the end of a word where one ends.
    fn first_line<'t>(&self, text: &'t str, cells: usize) -> &'t str {
        let (mut used, mut fits, mut word) = (0, 0, 0);
        for (start, c) in text.char_indices() {
            let alone =
                SafeText::fit(c.encode_utf8(&mut [0; 4]), cells, self.theme.charset, Column::Last);
            used += alone.cells();
            if c == ' ' {
                word = start;
            }
            if used > cells && fits > 0 {
                return if word > 0 { &text[..word] } else { &text[..fits] };
            }
            fits = start + c.len_utf8();
        }
        text
    }

    fn draw(&mut self, x: u16, y: u16, text: &SafeText, style: Style) -> u16 {
        let escaped = self.theme.escaped();
        let mut at = x;
        for unit in text.units() {
            let end = at.saturating_add(unit.cells as u16);
            if end > self.buffer.area.right() {
                break;
            }
            let Some(cell) = self.buffer.cell_mut((at, y)) else {
                break;
            };
            cell.set_symbol(unit.symbol);
            // On a reversed row an escape stands out by being unreversed.
            let style = if unit.escaped { toggled(style, escaped) } else { style };
            cell.set_style(style);
            for covered in at + 1..end {
                if let Some(cell) = self.buffer.cell_mut((covered, y)) {
                    cell.reset();
                }
            }
            at = end;
        }
        at
    }

    /// Restyles cells that are already drawn.
    pub fn restyle(&mut self, area: Rect, style: Style) {
        self.buffer.set_style(area, style);
    }

    /// Empties an area.
    pub fn clear(&mut self, area: Rect) {
        let area = area.intersection(self.buffer.area);
        for y in area.top()..area.bottom() {
            // A wide character must not reach in from the left.
            let left = area.left().checked_sub(1);
            let left = left.and_then(|x| self.buffer.cell_mut((x, y)));
            if let Some(cell) = left.filter(|cell| cell.symbol().width() > 1) {
                cell.reset();
            }
            for x in area.left()..area.right() {
                if let Some(cell) = self.buffer.cell_mut((x, y)) {
                    cell.reset();
                }
            }
        }
    }

    /// Draws a border with a title on its left and a note on its right; answers what is inside.
    pub fn pane(&mut self, area: Rect, title: &str, note: &str, focused: bool) -> Rect {
        if area.width < 4 || area.height < 2 {
            return Rect { width: 0, height: 0, ..area };
        }
        let [flat, upright, top_left, top_right, bottom_right, bottom_left] = self.theme.border();
        let (right, bottom) = (area.right() - 1, area.bottom() - 1);
        let plain = self.theme.normal();
        for x in area.left() + 1..right {
            self.text(x, area.y, 1, flat, plain);
            self.text(x, bottom, 1, flat, plain);
        }
        for y in area.top() + 1..bottom {
            self.text(area.x, y, 1, upright, plain);
            self.text(right, y, 1, upright, plain);
        }
        for (x, y, corner) in [
            (area.x, area.y, top_left),
            (right, area.y, top_right),
            (right, bottom, bottom_right),
            (area.x, bottom, bottom_left),
        ] {
            self.text(x, y, 1, corner, plain);
        }
        let room = area.width.saturating_sub(6);
        let style = if focused { self.theme.reversed() } else { self.theme.heading() };
        let end = self.text(area.x + 2, area.y, room, &format!(" {title} "), style);
        let left_over = right.saturating_sub(1).saturating_sub(end + 1);
        if !note.is_empty() && left_over > 4 {
            self.right(right - 1, area.y, left_over, &format!(" {note} "), plain);
        }
        Rect::new(area.x + 1, area.y + 1, area.width - 2, area.height - 2)
    }

    /// Draws a history into `cells` columns, newest right; a group of points shows its maximum,
    /// because an average would hide the spike.
    pub fn sparkline(&mut self, x: u16, y: u16, cells: u16, points: &[f32]) {
        let heights = self.theme.heights();
        let values = columns(points, cells.into());
        let top = values.iter().copied().fold(0.0_f32, f32::max);
        let offset = usize::from(cells) - values.len();
        for (i, value) in values.into_iter().enumerate() {
            let glyph = heights[height_of(value, top, heights.len())];
            self.text(x + (offset + i) as u16, y, 1, glyph, self.theme.normal());
        }
    }

    /// Draws a bar of `part` in `whole` into `cells` columns.
    pub fn bar(&mut self, x: u16, y: u16, cells: u16, part: f64, whole: f64) {
        let share = if whole > 0.0 { (part / whole).clamp(0.0, 1.0) } else { 0.0 };
        let mut eighths = (share * f64::from(cells) * 8.0).round() as usize;
        if part > 0.0 && whole > 0.0 {
            eighths = eighths.max(1);
        }
        let mut at = x;
        while eighths > 0 {
            at = self.text(at, y, 1, self.theme.bar(eighths.min(8)), self.theme.normal());
            eighths = eighths.saturating_sub(8);
        }
    }
}

/// `escaped` over `style`, visible on a reversed row too.
fn toggled(style: Style, escaped: Style) -> Style {
    if style.add_modifier.contains(Modifier::REVERSED) {
        style.patch(escaped).remove_modifier(Modifier::REVERSED)
    } else {
        style.patch(escaped)
    }
}

/// Points put together into at most `cells` columns.
fn columns(points: &[f32], cells: usize) -> Vec<f32> {
    if cells == 0 {
        return Vec::new();
    }
    let group = points.len().div_ceil(cells).max(1);
    // From the newest backwards, so that an incomplete group is the oldest.
    let mut values: Vec<f32> = points
        .rchunks(group)
        .map(|group| group.iter().copied().filter(|v| v.is_finite()).fold(0.0, f32::max))
        .collect();
    values.reverse();
    values
}

/// Which of `steps` heights shows a value; only zero is as low as nothing.
fn height_of(value: f32, top: f32, steps: usize) -> usize {
    if value <= 0.0 || top <= 0.0 {
        return 0;
    }
    ((value / top * steps as f32).ceil() as usize).clamp(1, steps) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_paragraph_breaks_between_words_and_loses_none() {
        use crate::ui::fixture::UNICODE;
        let mut buffer = Buffer::empty(Rect::new(0, 0, 12, 6));
        let mut p = Painter::new(&mut buffer, UNICODE);
        let text = "one two three gs://bucket/object\u{1b} end";
        let below = p.paragraph(Rect::new(0, 0, 11, 6), text, UNICODE.normal());
        let row = |y| (0..12).map(|x| buffer[(x, y)].symbol()).collect::<String>();
        let rows: Vec<String> = (0..6).map(|y| row(y).trim_end().to_owned()).collect();
        assert_eq!(rows, ["one two", "three", "gs://bucket", "/object\\x1b", "end", ""]);
        assert_eq!(below, 5);
        let mut small = Buffer::empty(Rect::new(0, 0, 12, 1));
        let mut p = Painter::new(&mut small, UNICODE);
        assert_eq!(p.paragraph(Rect::new(0, 0, 11, 1), text, UNICODE.normal()), 1);
        assert_eq!(small[(10, 0)].symbol(), "…");
    }

    #[test]
    fn a_spike_survives_the_putting_together() {
        let mut points = vec![1.0_f32; 60];
        points[31] = 100.0;
        let columns = columns(&points, 12);
        assert_eq!(columns.len(), 12);
        assert_eq!(columns.iter().filter(|v| **v == 100.0).count(), 1);
        assert_eq!(height_of(100.0, 100.0, 8), 7);
        assert_eq!(height_of(0.0, 100.0, 8), 0);
        assert_eq!(height_of(0.1, 100.0, 8), 0);
    }
}
