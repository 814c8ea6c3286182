//! The one table of keys: input looks actions up in it, the hints line and the help are made
//! from it, so that none of them can promise what another doesn't keep.
//!
//! A key that changes something in the service says so (`changes`); every other key only looks.
//! Typed text (filter, count) is what the table doesn't hold for its place.

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::model::Tab;

/// Where a key means something. Places are searched from the innermost outwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// On every screen, but not in a dialog or a text line.
    Everywhere,
    /// Wherever there are rows and a cursor.
    Lists,
    /// View 1.
    Overview,
    /// View 2.
    Streams,
    /// View 3.
    Partitions,
    /// View 4.
    Wal,
    /// View 5, groups pane.
    Groups,
    /// View 5, list of letters.
    Letters,
    /// View 5, one letter.
    Letter,
    /// View 6.
    Loads,
    /// The filter line.
    FilterLine,
    /// A question with buttons.
    Dialog,
    /// The help.
    Help,
}

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the table's help texts say what each does")]
pub enum Action {
    View(Tab),
    NextPane,
    PreviousPane,
    Up,
    Down,
    PageUp,
    PageDown,
    HalfUp,
    HalfDown,
    Top,
    Bottom,
    Left,
    Right,
    Open,
    Back,
    Filter,
    Window,
    Freeze,
    Mark,
    ClearMarks,
    DeadLetters,
    NextViolation,
    Replay,
    Dismiss,
    Help,
    Redraw,
    Suspend,
    Quit,
    Interrupt,
}

/// One key press, without the modifiers that are part of the character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Press {
    code: KeyCode,
    ctrl: bool,
}

/// A line of the table.
#[derive(Debug)]
pub struct Key {
    /// The presses that ask for it; the first one is shown in the hints.
    pub presses: &'static [Press],
    /// Where.
    pub place: Place,
    /// What is done.
    pub action: Action,
    /// The word in the hints line; none where it goes without saying.
    pub hint: Option<&'static str>,
    /// What the help says.
    pub help: &'static str,
}

impl Key {
    /// Whether it changes something in the service.
    #[must_use]
    pub fn changes(&self) -> bool {
        matches!(self.action, Action::Replay | Action::Dismiss)
    }
}

const fn key(code: KeyCode) -> Press {
    Press { code, ctrl: false }
}
const fn char(c: char) -> Press {
    key(KeyCode::Char(c))
}
const fn ctrl(c: char) -> Press {
    Press { code: KeyCode::Char(c), ctrl: true }
}
const fn line(
    presses: &'static [Press],
    place: Place,
    action: Action,
    hint: Option<&'static str>,
    help: &'static str,
) -> Key {
    Key { presses, place, action, hint, help }
}

use KeyCode::{
    BackTab, Down, End, Enter, Esc, Home, Left, PageDown, PageUp, Right, Tab as TabKey, Up,
};
use Place::{
    Dialog, Everywhere, FilterLine, Groups, Help, Letter, Letters, Lists, Loads, Overview,
    Partitions, Streams, Wal,
};

/// The table. Hints appear in its order.
#[rustfmt::skip] // A table is read by its columns.
pub static KEYS: &[Key] = &[
    line(&[key(Enter)], Overview, Action::Open, Some("open"), "open the view that explains the row"),
    line(&[key(Enter)], Groups, Action::Open, Some("letters"), "go to the group's letters"),
    line(&[key(Enter)], Letters, Action::Open, Some("open"), "show the whole letter"),
    line(&[char('d')], Streams, Action::DeadLetters, Some("dead letters"), "dead letters of the stream under the cursor"),
    line(&[char('d')], Partitions, Action::DeadLetters, Some("dead letters"), "dead letters of the chosen stream"),
    line(&[char('d')], Wal, Action::DeadLetters, Some("dead letters"), "dead letters of the stream under the cursor"),
    line(&[key(Left), char('h')], Partitions, Action::Left, Some("previous stream"), "profile of the previous stream, or of all"),
    line(&[key(Right), char('l')], Partitions, Action::Right, Some("next stream"), "profile of the next stream"),
    line(&[char(' ')], Letters, Action::Mark, Some("mark"), "mark the letter, or take the mark away"),
    line(&[char('c')], Letters, Action::ClearMarks, None, "clear all marks"),
    line(&[char('n')], Letter, Action::NextViolation, Some("next violation"), "go to the next failing place"),
    line(&[key(Left), char('h')], Letter, Action::Left, None, "scroll long lines to the left"),
    line(&[key(Right), char('l')], Letter, Action::Right, None, "scroll long lines to the right"),
    line(&[char('R')], Groups, Action::Replay, Some("replay group"), "replay the group's open letters, after a question"),
    line(&[char('R')], Letters, Action::Replay, Some("replay"), "replay the marked letters, else the one under the cursor, after a question"),
    line(&[char('R')], Letter, Action::Replay, Some("replay"), "replay this letter, after a question"),
    line(&[char('R')], Loads, Action::Replay, Some("retry"), "try the failed load under the cursor again, after a question"),
    line(&[char('D')], Loads, Action::Dismiss, Some("dismiss"), "give the failed load under the cursor up, after a question"),
    line(&[char('/')], Groups, Action::Filter, Some("filter"), "filter: stream: reason: phase: status: library: path:"),
    line(&[char('/')], Letters, Action::Filter, Some("filter"), "filter: stream: reason: phase: status: library: path:"),
    line(&[key(Esc)], Letters, Action::Back, Some("groups"), "back to the groups"),
    line(&[key(Esc)], Letter, Action::Back, Some("back"), "back to the list"),
    line(&[key(Up), char('k')], Lists, Action::Up, None, "one row up"),
    line(&[key(Down), char('j')], Lists, Action::Down, None, "one row down"),
    line(&[key(PageUp)], Lists, Action::PageUp, None, "one page up"),
    line(&[key(PageDown)], Lists, Action::PageDown, None, "one page down"),
    line(&[ctrl('u')], Lists, Action::HalfUp, None, "half a page up"),
    line(&[ctrl('d')], Lists, Action::HalfDown, None, "half a page down"),
    line(&[char('g'), key(Home)], Lists, Action::Top, None, "first row; in time order, follow the newest"),
    line(&[char('G'), key(End)], Lists, Action::Bottom, None, "last row that is loaded"),
    line(&[key(TabKey), key(BackTab)], Overview, Action::NextPane, Some("pane"), "the other pane"),
    line(&[key(TabKey), key(BackTab)], Groups, Action::NextPane, Some("pane"), "the other pane"),
    line(&[key(TabKey), key(BackTab)], Letters, Action::NextPane, Some("pane"), "the other pane"),
    line(&[char('w')], Overview, Action::Window, Some("window"), "charts over 15 minutes or 60 seconds"),
    line(&[char('w')], Streams, Action::Window, Some("window"), "charts over 15 minutes or 60 seconds"),
    line(&[char('f')], Everywhere, Action::Freeze, Some("freeze"), "pin the screen to this moment; again for now"),
    line(&[char('1')], Everywhere, Action::View(Tab::Overview), None, "Overview: where to look first"),
    line(&[char('2')], Everywhere, Action::View(Tab::Streams), None, "Streams: rates, rejections, lag"),
    line(&[char('3')], Everywhere, Action::View(Tab::Partitions), None, "Partitions: skew"),
    line(&[char('4')], Everywhere, Action::View(Tab::Wal), None, "WAL: log depth and syncs"),
    line(&[char('5')], Everywhere, Action::View(Tab::DeadLetters), None, "Dead letters: understand and replay"),
    line(&[char('6')], Everywhere, Action::View(Tab::Loads), None, "Loads: what goes into the warehouse, where there is one"),
    line(&[key(Esc)], Everywhere, Action::Back, None, "one level up; clears the filter; never quits"),
    line(&[key(Enter)], Everywhere, Action::Open, None, "without a connection: connect now"),
    line(&[char('q')], Everywhere, Action::Quit, Some("quit"), "quit the console; the service goes on"),
    line(&[char('?')], Everywhere, Action::Help, Some("help"), "this help"),
    line(&[ctrl('c')], Everywhere, Action::Interrupt, None, "quit"),
    line(&[ctrl('l')], Everywhere, Action::Redraw, None, "draw the screen anew"),
    line(&[ctrl('z')], Everywhere, Action::Suspend, None, "suspend (attached only)"),
    line(&[key(Enter)], FilterLine, Action::Open, Some("apply"), "apply the filter"),
    line(&[key(Esc)], FilterLine, Action::Back, Some("leave it as it was"), "leave the filter as it was"),
    line(&[ctrl('c')], FilterLine, Action::Interrupt, None, "quit"),
    line(&[key(TabKey), key(Right)], Dialog, Action::NextPane, Some("next button"), "next button or field"),
    line(&[key(BackTab), key(Left)], Dialog, Action::PreviousPane, None, "previous button or field"),
    line(&[key(Enter)], Dialog, Action::Open, Some("press"), "press the button that has the focus"),
    line(&[key(Esc)], Dialog, Action::Back, Some("cancel"), "cancel"),
    line(&[ctrl('c')], Dialog, Action::Interrupt, None, "cancel and quit"),
    line(&[key(Up), char('k')], Help, Action::Up, None, "one row up"),
    line(&[key(Down), char('j')], Help, Action::Down, Some("more"), "one row down"),
    line(&[key(PageUp)], Help, Action::PageUp, None, "one page up"),
    line(&[key(PageDown)], Help, Action::PageDown, None, "one page down"),
    line(&[char('g'), key(Home)], Help, Action::Top, None, "the beginning"),
    line(&[char('G'), key(End)], Help, Action::Bottom, None, "the end"),
    line(&[key(Esc), char('?'), char('q')], Help, Action::Back, Some("close"), "close the help"),
    line(&[ctrl('c')], Help, Action::Interrupt, None, "quit"),
];

/// The line of the table that a key means in the innermost of these places.
#[must_use]
pub fn find(places: &[Place], event: KeyEvent) -> Option<&'static Key> {
    if event.kind == KeyEventKind::Release || event.modifiers.contains(KeyModifiers::ALT) {
        return None;
    }
    let press = Press { code: event.code, ctrl: event.modifiers.contains(KeyModifiers::CONTROL) };
    places.iter().find_map(|place| {
        KEYS.iter().find(|line| line.place == *place && line.presses.contains(&press))
    })
}

/// The lines that the hints show in these places. An inner place's key hides an outer one's.
#[must_use]
pub fn hints(places: &[Place]) -> Vec<&'static Key> {
    let mut lines: Vec<&Key> = Vec::new();
    for place in places {
        for line in KEYS.iter().filter(|line| line.place == *place) {
            let taken = lines.iter().any(|inner| inner.presses[0] == line.presses[0]);
            if line.hint.is_some() && !taken {
                lines.push(line);
            }
        }
    }
    lines
}

impl Press {
    /// The key's name.
    #[must_use]
    pub fn name(self) -> String {
        match self.code {
            KeyCode::Char(' ') => "Space".to_owned(),
            KeyCode::Char(c) if self.ctrl => format!("Ctrl-{c}"),
            KeyCode::Char(c) => c.to_string(),
            KeyCode::BackTab => "Shift-Tab".to_owned(),
            KeyCode::PageUp => "PgUp".to_owned(),
            KeyCode::PageDown => "PgDn".to_owned(),
            code => format!("{code:?}"),
        }
    }

    /// The event a terminal sends for it.
    #[cfg(test)]
    pub fn event(self) -> KeyEvent {
        let modifiers = if self.ctrl { KeyModifiers::CONTROL } else { KeyModifiers::NONE };
        KeyEvent::new(self.code, modifiers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_hides_another_of_its_place() {
        for line in KEYS {
            assert!(!line.help.is_empty());
            for press in line.presses {
                let found = find(&[line.place], press.event()).expect("in the table");
                assert!(std::ptr::eq(found, line), "{} in {:?}", press.name(), line.place);
            }
        }
    }

    #[test]
    fn only_capitals_change_something_and_no_control_key_does() {
        for line in KEYS.iter().filter(|line| line.changes()) {
            for press in line.presses {
                assert!(!press.ctrl);
                assert!(matches!(press.code, KeyCode::Char('R' | 'E' | 'P' | 'D' | 'U' | 'S')));
            }
        }
    }

    #[test]
    fn an_inner_place_wins() {
        let escape = key(Esc).event();
        let found = find(&[Letters, Lists, Everywhere], escape).unwrap();
        assert_eq!(found.place, Letters);
        let hinted = hints(&[Letters, Lists, Everywhere]);
        assert_eq!(hinted.iter().filter(|line| line.presses[0] == key(Esc)).count(), 1);
    }

    #[test]
    fn a_released_key_means_nothing() {
        let mut event = char('q').event();
        event.kind = KeyEventKind::Release;
        assert!(find(&[Everywhere], event).is_none());
    }
}
