//! From hostile text to cells.
//!
//! In: any text of the service: stream names, reasons, previews, payload lines, errors. Out: a
//! [`SafeText`], whose every unit is one printable base of known width with at most two
//! combining marks. It is the only thing [`Painter`](super::paint::Painter) writes into a cell,
//! and it has no `Display`, so that nothing finds another way to the terminal. What terminals
//! act upon or disagree about (controls, direction overrides, zero-width and tag characters,
//! joiners, private and unassigned code points) becomes a visible escape.
//!
//! Only as much is read as fits: a line of a megabyte costs as much as its visible part. It
//! does not shape, reorder or wrap.

use std::ops::Range;

use unicode_width::UnicodeWidthChar;

/// More combining marks than this on one base are escaped: nobody writes them in good faith.
const MARKS_MAX: usize = 2;

/// What the terminal can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charset {
    /// UTF-8.
    Unicode,
    /// Seven bits; everything else is escaped.
    Ascii,
}

/// Where on its line the text stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// Something follows on the line: right-to-left letters would reorder it, so they are escaped.
    Inner,
    /// Nothing follows.
    Last,
}

/// Text that may be drawn. It has no `Display` and no public constructor but the escaping one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SafeText {
    text: String,
    /// Byte ranges of `text` that stand for something that could not be drawn.
    escapes: Vec<Range<usize>>,
    cells: usize,
}

/// One base character with its marks: what goes into one cell, or two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unit<'a> {
    /// What is written into the cell.
    pub symbol: &'a str,
    /// 1 or 2.
    pub cells: usize,
    /// Whether it is part of an escape.
    pub escaped: bool,
}

impl SafeText {
    /// As much of `text` as fits into `cells`; where it goes on, the last cell says so.
    #[must_use]
    pub fn fit(text: &str, cells: usize, charset: Charset, column: Column) -> Self {
        let mut safe = Self::default();
        let mut marks = MARKS_MAX;
        // Where to cut back to, should the text turn out to be longer than the room.
        let mut room_for_cut = (0, 0, 0);
        for c in text.chars() {
            if is_variation_selector(c) {
                continue;
            }
            if is_mark(c) && charset == Charset::Unicode && marks < MARKS_MAX {
                safe.text.push(c);
                marks += 1;
                continue;
            }
            let width = drawn_width(c, charset, column);
            marks = if width.is_some() { 0 } else { MARKS_MAX };
            let before = (safe.text.len(), safe.escapes.len(), safe.cells);
            if before.2 < cells {
                room_for_cut = before;
            }
            match width {
                Some(width) => {
                    safe.text.push(c);
                    safe.cells += width;
                }
                None => safe.push_escape(c),
            }
            if safe.cells > cells {
                safe.cut(room_for_cut, cells, charset);
                break;
            }
        }
        safe
    }

    fn push_escape(&mut self, c: char) {
        let start = self.text.len();
        match c {
            '\n' => self.text.push_str("\\n"),
            '\r' => self.text.push_str("\\r"),
            '\t' => self.text.push_str("\\t"),
            c if u32::from(c) < 0x100 => self.text.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => self.text.push_str(&format!("\\u{{{:x}}}", u32::from(c))),
        }
        self.cells += self.text.len() - start;
        self.escapes.push(start..self.text.len());
    }

    /// Cuts to `cells`, of which the last one is the sign that there was more.
    fn cut(&mut self, (bytes, escapes, at): (usize, usize, usize), cells: usize, charset: Charset) {
        // An escape that straddles the edge is cut whole: half of one reads as something else.
        let (mut bytes, mut at) = (bytes, at);
        while at >= cells && cells > 0 {
            let Some((index, c)) = self.text[..bytes].char_indices().next_back() else {
                break;
            };
            at -= c.width().unwrap_or(0);
            bytes = index;
        }
        self.text.truncate(bytes);
        self.escapes.truncate(escapes);
        self.escapes.retain(|escape| escape.end <= bytes);
        self.cells = at;
        if cells > 0 {
            self.text.push(match charset {
                Charset::Unicode => '…',
                Charset::Ascii => '~',
            });
            self.cells += 1;
        }
        while self.cells < cells {
            self.text.push(' ');
            self.cells += 1;
        }
    }

    /// How many cells it takes.
    #[must_use]
    pub fn cells(&self) -> usize {
        self.cells
    }

    /// The escaped text, for output that has no cells.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The units from left to right.
    pub fn units(&self) -> impl Iterator<Item = Unit<'_>> {
        let mut escapes = self.escapes.iter().peekable();
        let mut rest = self.text.char_indices().peekable();
        std::iter::from_fn(move || {
            let (start, base) = rest.next()?;
            let mut end = start + base.len_utf8();
            while let Some((index, mark)) = rest.next_if(|(_, c)| is_mark(*c)) {
                end = index + mark.len_utf8();
            }
            while escapes.next_if(|escape| escape.end <= start).is_some() {}
            Some(Unit {
                symbol: &self.text[start..end],
                cells: base.width().unwrap_or(0),
                escaped: escapes.peek().is_some_and(|escape| escape.contains(&start)),
            })
        })
    }
}

/// The cells that a base character takes; `None` where it must be escaped.
fn drawn_width(c: char, charset: Charset, column: Column) -> Option<usize> {
    if c.is_ascii() {
        return (!c.is_ascii_control()).then_some(1);
    }
    let refused = charset == Charset::Ascii
        || is_never_drawn(c)
        || (column == Column::Inner && is_right_to_left(c));
    if refused || !is_printable(c) {
        return None;
    }
    c.width().filter(|width| (1..=2).contains(width))
}

/// Whether the standard library would print it in `{:?}`: false for controls, formats, separators
/// other than the space, private use and whatever Unicode has not assigned.
fn is_printable(c: char) -> bool {
    c.escape_debug().len() == 1
}

/// Printable by category, and still a trap: fillers that draw nothing, and halves of clusters
/// (flags, skin tones) that terminals join or don't.
fn is_never_drawn(c: char) -> bool {
    matches!(u32::from(c),
        0x115f..=0x1160 | 0x17b4..=0x17b5 | 0x3164 | 0xffa0
        | 0x1f1e6..=0x1f1ff | 0x1f3fb..=0x1f3ff)
}

fn is_variation_selector(c: char) -> bool {
    matches!(u32::from(c), 0xfe00..=0xfe0f | 0xe0100..=0xe01ef)
}

/// A mark that stands on its base: zero cells wide, assigned, and not a format character.
fn is_mark(c: char) -> bool {
    let block = matches!(u32::from(c),
        0x0300..=0x034e | 0x0350..=0x036f | 0x0483..=0x0489 | 0x0591..=0x05c7 | 0x0610..=0x061a
        | 0x064b..=0x065f | 0x0670 | 0x06d6..=0x06ed | 0x0900..=0x0dff | 0x0e31..=0x0e4e
        | 0x0eb1..=0x0ece | 0x1ab0..=0x1ace | 0x1dc0..=0x1dff | 0x20d0..=0x20f0
        | 0x3099..=0x309a | 0xfe20..=0xfe2f);
    block && c.width() == Some(0)
}

fn is_right_to_left(c: char) -> bool {
    matches!(u32::from(c),
        0x0590..=0x08ff | 0xfb1d..=0xfdff | 0xfe70..=0xfeff
        | 0x10800..=0x10fff | 0x1e800..=0x1efff)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn unicode(text: &str) -> SafeText {
        SafeText::fit(text, 1000, Charset::Unicode, Column::Last)
    }

    #[test]
    fn what_terminals_act_upon_is_escaped() {
        for (hostile, shown) in [
            ("\u{1b}[31mred", "\\x1b[31mred"),
            ("a\nb\tc\rd", "a\\nb\\tc\\rd"),
            ("\u{9b}31m\u{7f}", "\\x9b31m\\x7f"),
            ("abc\u{202e}def", "abc\\u{202e}def"),
            ("zero\u{200b}width", "zero\\u{200b}width"),
            ("\u{2028}\u{e0041}\u{e000}", "\\u{2028}\\u{e0041}\\u{e000}"),
            ("👩\u{200d}💻", "👩\\u{200d}💻"),
            ("❤\u{fe0f}", "❤"),
            ("\u{1f1e9}\u{1f1ea}", "\\u{1f1e9}\\u{1f1ea}"),
            ("\u{378}", "\\u{378}"),
            ("e\u{301}\u{302}\u{303}", "e\u{301}\u{302}\\u{303}"),
            ("\u{301}x", "\\u{301}x"),
        ] {
            assert_eq!(unicode(hostile).as_str(), shown, "{hostile:?}");
        }
    }

    #[test]
    fn a_cut_text_ends_in_a_sign_and_never_in_half_an_escape() {
        let fit = |text, cells| {
            let safe = SafeText::fit(text, cells, Charset::Unicode, Column::Last);
            assert_eq!(safe.cells(), cells, "{text:?} in {cells}");
            safe.as_str().to_owned()
        };
        assert_eq!(fit("abcdef", 6), "abcdef");
        assert_eq!(fit("abcdef", 5), "abcd…");
        assert_eq!(fit("ab\u{1b}cdef", 5), "ab…  ");
        assert_eq!(fit("日本語", 5), "日本…");
        assert_eq!(fit("日本語", 4), "日… ");
        assert_eq!(fit("abc", 0), "");
        let ascii = SafeText::fit("abcdef", 4, Charset::Ascii, Column::Last);
        assert_eq!(ascii.as_str(), "abc~");
    }

    #[test]
    fn right_to_left_letters_stand_only_where_nothing_follows() {
        let fit = |column| SafeText::fit("אב", 100, Charset::Unicode, column);
        assert_eq!(fit(Column::Last).as_str(), "אב");
        assert_eq!(fit(Column::Inner).as_str(), "\\u{5d0}\\u{5d1}");
    }

    #[test]
    fn the_ascii_tier_draws_seven_bits() {
        let safe = SafeText::fit("é▁", 100, Charset::Ascii, Column::Last);
        assert_eq!(safe.as_str(), "\\xe9\\u{2581}");
        assert!(safe.units().all(|unit| unit.escaped));
    }

    proptest! {
        #[test]
        fn any_text_becomes_units_of_known_width(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            scalars in prop::collection::vec(any::<char>(), 0..60),
            cells in 0_usize..50,
        ) {
            let scalars: String = scalars.into_iter().collect();
            for text in [&*String::from_utf8_lossy(&bytes), &scalars] {
                for column in [Column::Inner, Column::Last] {
                    let safe = SafeText::fit(text, cells, Charset::Unicode, column);
                    prop_assert!(safe.cells() <= cells);
                    let sum: usize = safe.units().map(|unit| unit.cells).sum();
                    prop_assert_eq!(sum, safe.cells());
                    for unit in safe.units() {
                        prop_assert!((1..=2).contains(&unit.cells), "{:?}", unit);
                        prop_assert!(!unit.symbol.chars().any(char::is_control));
                    }
                }
            }
        }
    }
}
