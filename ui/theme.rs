//! What things look like: colours, attributes, glyphs.
//!
//! Healthy is colourless; each colour is accompanied by a mark or an attribute, so that the
//! colourless theme loses nothing. Colourlessness is decided here and nowhere else, because the
//! terminal library's own way (`NO_COLOR`) resets reverse video and hides the cursor row.

use ratatui::style::{Color, Modifier, Style};

use super::safe_text::Charset;
use eventkit::status::{Severity, State};

/// Colours and glyphs of one terminal.
#[derive(Clone, Copy, Debug)]
pub struct Theme {
    /// What the terminal can show.
    pub charset: Charset,
    /// Whether colours are written.
    pub colour: bool,
}

/// Border pieces: horizontal, vertical, and the corners from top left clockwise.
pub type Border = [&'static str; 6];

impl Theme {
    /// The theme that the options and the environment ask for.
    #[must_use]
    pub fn choose(ascii: bool, no_color: bool) -> Self {
        let variable = |name: &str| std::env::var(name).unwrap_or_default();
        let term = variable("TERM");
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
            .into_iter()
            .map(variable)
            .find(|value| !value.is_empty())
            .unwrap_or_default()
            .to_lowercase();
        let utf8 = locale.contains("utf-8") || locale.contains("utf8");
        let ascii = ascii || !utf8 || matches!(&*term, "linux" | "dumb");
        Self {
            charset: if ascii { Charset::Ascii } else { Charset::Unicode },
            colour: !no_color && variable("NO_COLOR").is_empty() && term != "dumb",
        }
    }

    fn coloured(self, style: Style, colour: Color) -> Style {
        if self.colour { style.fg(colour) } else { style }
    }

    /// Normal text.
    #[must_use]
    pub fn normal(self) -> Style {
        Style::new()
    }

    /// Secondary, stale or disabled.
    #[must_use]
    pub fn dim(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    /// A heading.
    #[must_use]
    pub fn heading(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// The cursor row, the focused title, keys that change something.
    #[must_use]
    pub fn reversed(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    /// Marked by the operator.
    #[must_use]
    pub fn marked(self) -> Style {
        self.coloured(Style::new().add_modifier(Modifier::UNDERLINED), Color::Cyan)
    }

    /// Something that stands for a byte that can't be drawn.
    #[must_use]
    pub fn escaped(self) -> Style {
        self.coloured(Style::new().add_modifier(Modifier::REVERSED), Color::Magenta)
    }

    /// Look at it today.
    #[must_use]
    pub fn warning(self) -> Style {
        self.coloured(Style::new(), Color::Yellow)
    }

    /// Look at it now.
    #[must_use]
    pub fn critical(self) -> Style {
        self.coloured(Style::new().add_modifier(Modifier::BOLD), Color::Red)
    }

    /// The style of a severity; none is normal.
    #[must_use]
    pub fn severity(self, severity: Option<Severity>) -> Style {
        match severity {
            Some(Severity::Critical) => self.critical(),
            Some(Severity::Warning) => self.warning(),
            None => self.normal(),
        }
    }

    /// The border of a pane.
    #[must_use]
    pub fn border(self) -> Border {
        match self.charset {
            Charset::Unicode => ["─", "│", "┌", "┐", "┘", "└"],
            Charset::Ascii => ["-", "|", "+", "+", "+", "+"],
        }
    }

    /// Heights of a chart, lowest first.
    #[must_use]
    pub fn heights(self) -> [&'static str; 8] {
        match self.charset {
            Charset::Unicode => ["▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"],
            Charset::Ascii => [".", ":", "-", "=", "+", "*", "#", "@"],
        }
    }

    /// A bar's cell filled by that many eighths, 1 to 8.
    #[must_use]
    pub fn bar(self, eighths: usize) -> &'static str {
        match self.charset {
            Charset::Unicode => ["▏", "▎", "▍", "▌", "▋", "▊", "▉", "█"][eighths.clamp(1, 8) - 1],
            Charset::Ascii => "#",
        }
    }
}

/// The mark of a severity; never a colour alone.
#[must_use]
pub fn mark(severity: Option<Severity>) -> &'static str {
    match severity {
        Some(Severity::Critical) => "!!",
        Some(Severity::Warning) => "!",
        None => "",
    }
}

/// How bad a stage's or sink's state is.
#[must_use]
pub fn severity_of(state: State) -> Option<Severity> {
    match state {
        State::Idle | State::Ok => None,
        State::Slow => Some(Severity::Warning),
        State::Full | State::Stopped => Some(Severity::Critical),
    }
}
