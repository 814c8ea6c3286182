//! What keys do inside the views: cursors, panes, marks, the filter line, the help.

use super::dialogs;
use super::filter;
use super::keys::Action;
use super::letters::Pane;
use super::message::{Effect, LoadChange};
use super::model::{FilterLine, Model, Tab};
use super::opened::Opened;
use super::update::{ask_lists, ask_page, go};
use super::view;

/// Cells by which Left and Right scroll a letter.
const SIDEWAYS_CELLS: usize = 16;

/// An action of the view that is shown.
pub fn on_view_action(model: &mut Model, action: Action, effects: &mut Vec<Effect>) {
    match (model.tab, action) {
        (Tab::DeadLetters, _) => on_letters(model, action, effects),
        (Tab::Overview, Action::NextPane | Action::PreviousPane) => {
            model.cursors.overview_streams = !model.cursors.overview_streams;
        }
        (Tab::Overview, Action::Open) => open_from_overview(model, effects),
        (Tab::Partitions, Action::Left | Action::Right) => {
            choose_profile(model, action == Action::Right);
        }
        (Tab::Loads, Action::Replay) => dialogs::ask_load(model, LoadChange::Retry),
        (Tab::Loads, Action::Dismiss) => dialogs::ask_load(model, LoadChange::Dismiss),
        (_, Action::DeadLetters) => dead_letters_of(model, effects),
        (_, Action::Back) => model.tab = Tab::Overview,
        _ => move_in_table(model, action),
    }
}

/// Where a cursor at `line` of `rows` lines goes.
fn moved(action: Action, line: usize, rows: usize, page: usize) -> Option<usize> {
    let last = rows.saturating_sub(1);
    let to = match action {
        Action::Up => line.saturating_sub(1),
        Action::Down => line + 1,
        Action::PageUp => line.saturating_sub(page),
        Action::PageDown => line + page,
        Action::HalfUp => line.saturating_sub(page / 2),
        Action::HalfDown => line + page / 2,
        Action::Top => 0,
        Action::Bottom => last,
        _ => return None,
    };
    Some(to.min(last))
}

/// Rows of a page, as far as keys are concerned.
fn page_rows(model: &Model) -> usize {
    usize::from(model.size.1).saturating_sub(10).max(1)
}

fn move_in_table(model: &mut Model, action: Action) {
    let page = page_rows(model);
    let Some(snapshot) = model.shown() else {
        return;
    };
    match model.tab {
        Tab::Overview if !model.cursors.overview_streams => {
            let line = view::overview::finding_line(model, snapshot);
            let to = moved(action, line, snapshot.findings.len(), page);
            let finding = to.and_then(|to| snapshot.findings.get(to));
            if let Some(finding) = finding {
                model.cursors.finding = Some((finding.view, finding.stream.clone()));
            }
        }
        Tab::Partitions => {
            let rows = view::partitions::profile(model, snapshot).len();
            let order = view::partitions::order(model, snapshot);
            let line = view::partitions::line(model, &order);
            let to = moved(action, line, rows, page);
            if let Some(id) = to.and_then(|to| order.get(to)) {
                model.cursors.partition = Some(*id);
            }
        }
        Tab::Loads => {
            let loads = view::loads::shown(snapshot);
            let to = moved(action, view::loads::line(model, snapshot), loads.len(), page);
            if let Some(load) = to.and_then(|to| loads.get(to)) {
                model.cursors.load = Some(load.id);
            }
        }
        _ => {
            let streams = &snapshot.streams;
            let to = moved(action, view::stream_line(model, snapshot), streams.len(), page);
            if let Some(stream) = to.and_then(|to| streams.get(to)) {
                model.cursors.stream = Some(stream.name.clone());
            }
        }
    }
}

fn open_from_overview(model: &mut Model, effects: &mut Vec<Effect>) {
    let Some(snapshot) = model.shown() else {
        return;
    };
    if model.cursors.overview_streams {
        let line = view::stream_line(model, snapshot);
        model.cursors.stream = snapshot.streams.get(line).map(|stream| stream.name.clone());
        return go(model, Tab::Streams, effects);
    }
    let line = view::overview::finding_line(model, snapshot);
    let Some(finding) = snapshot.findings.get(line).cloned() else {
        return model.say("nothing needs attention");
    };
    let tab = Tab::of(finding.view, snapshot).filter(|tab| *tab != Tab::Overview);
    let Some(tab) = tab else {
        return model.say("no other view has more of it");
    };
    match (tab, finding.stream) {
        (Tab::DeadLetters, Some(stream)) => filter_stream(model, stream, effects),
        (Tab::Partitions, stream) => {
            model.cursors.profile = stream;
            go(model, tab, effects);
        }
        (_, Some(stream)) => {
            model.cursors.stream = Some(stream);
            go(model, tab, effects);
        }
        (_, None) => go(model, tab, effects),
    }
}

fn choose_profile(model: &mut Model, next: bool) {
    let Some(snapshot) = model.shown() else {
        return;
    };
    let names: Vec<_> = snapshot.streams.iter().map(|stream| &stream.name).collect();
    // Place 0 is all streams together.
    let current = model.cursors.profile.as_ref();
    let at = current.and_then(|name| names.iter().position(|other| *other == name));
    let places = names.len() + 1;
    let at = at.map_or(0, |i| i + 1);
    let to = if next { (at + 1) % places } else { (at + places - 1) % places };
    model.cursors.profile = to.checked_sub(1).map(|i| names[i].clone());
    model.cursors.partition = None;
}

fn dead_letters_of(model: &mut Model, effects: &mut Vec<Effect>) {
    let Some(snapshot) = model.shown() else {
        return;
    };
    let stream = if model.tab == Tab::Partitions {
        model.cursors.profile.clone()
    } else {
        let line = view::stream_line(model, snapshot);
        snapshot.streams.get(line).map(|stream| stream.name.clone())
    };
    match stream {
        Some(stream) => filter_stream(model, stream, effects),
        None => go(model, Tab::DeadLetters, effects),
    }
}

fn filter_stream(
    model: &mut Model,
    stream: eventkit::event::StreamName,
    effects: &mut Vec<Effect>,
) {
    let letters = &mut model.letters;
    letters.filter.stream = Some(stream);
    letters.group = None;
    letters.pane = Pane::Groups;
    letters.clear_rows();
    model.tab = Tab::DeadLetters;
    ask_lists(model, effects);
}

fn on_letters(model: &mut Model, action: Action, effects: &mut Vec<Effect>) {
    match action {
        Action::Filter => {
            let mut text = filter::print(&model.letters.filter);
            if !text.is_empty() {
                text.push(' ');
            }
            model.filter_line = Some(FilterLine { text });
        }
        Action::Replay => dialogs::ask_replay(model, effects),
        Action::Mark => mark(model),
        Action::ClearMarks => model.letters.marks.clear(),
        Action::Open => match model.letters.pane {
            Pane::Groups => model.letters.pane = Pane::List,
            Pane::List => enter_letter(model),
            Pane::Letter => {}
        },
        Action::Back => back(model, effects),
        Action::NextPane | Action::PreviousPane => {
            model.letters.pane = match model.letters.pane {
                Pane::Groups => Pane::List,
                Pane::List => Pane::Groups,
                Pane::Letter => Pane::Letter,
            };
        }
        Action::Left => {
            model.letters.left = model.letters.left.saturating_sub(SIDEWAYS_CELLS);
        }
        Action::Right => model.letters.left += SIDEWAYS_CELLS,
        Action::NextViolation => {
            let top = model.letters.scroll + 2;
            let opened = model.letters.opened.as_ref();
            if let Some(row) = opened.and_then(|opened| opened.next_failing_row(Some(top))) {
                model.letters.scroll = row.saturating_sub(2);
            }
        }
        _ => move_in_letters(model, action, effects),
    }
}

fn move_in_letters(model: &mut Model, action: Action, effects: &mut Vec<Effect>) {
    let page = page_rows(model);
    let letters = &mut model.letters;
    match letters.pane {
        Pane::Groups => {
            let rows = letters.shown_groups().count() + 1;
            let to = moved(action, letters.group_line(), rows, page);
            if to.is_some_and(|to| letters.select_group(to)) {
                letters.clear_rows();
                ask_page(model, None, effects);
            }
        }
        Pane::List if action == Action::Top => letters.follow(),
        Pane::List => {
            if let Some(to) = moved(action, letters.line(), letters.rows.len(), page) {
                letters.select(to);
            }
        }
        Pane::Letter => {
            let rows = letters.opened.as_ref().map_or(0, |opened| opened.rows.len());
            let scrolls = rows.saturating_sub(page) + 1;
            if let Some(to) = moved(action, letters.scroll, scrolls, page) {
                letters.scroll = to;
            }
        }
    }
}

fn mark(model: &mut Model) {
    let letters = &mut model.letters;
    let line = letters.line();
    let Some(id) = letters.current().map(|row| row.letter.id) else {
        return;
    };
    if !letters.marks.remove(&id) {
        letters.marks.insert(id);
    }
    letters.select(line + 1);
}

fn enter_letter(model: &mut Model) {
    let letters = &mut model.letters;
    let Some(id) = letters.current().map(|row| row.letter.id) else {
        return;
    };
    letters.cursor = Some(id);
    letters.pane = Pane::Letter;
    scroll_to_failure(model);
}

/// Shows a letter that has arrived. One that is shown already keeps its place.
pub fn open(model: &mut Model, opened: Opened) {
    let id = opened.letter.summary.id;
    let shown = model.letters.opened.as_ref().map(|opened| opened.letter.summary.id);
    model.letters.opened = Some(opened);
    if shown != Some(id) {
        model.letters.left = 0;
        scroll_to_failure(model);
    }
}

/// Starts at the top, or further down if the failing line would not be seen from there.
fn scroll_to_failure(model: &mut Model) {
    let page = page_rows(model);
    model.letters.scroll = 0;
    let opened = model.letters.opened.as_ref();
    if let Some(row) = opened.and_then(|opened| opened.next_failing_row(None))
        && row >= page
    {
        model.letters.scroll = row.saturating_sub(2);
    }
}

fn back(model: &mut Model, effects: &mut Vec<Effect>) {
    let letters = &mut model.letters;
    match letters.pane {
        Pane::Letter => letters.pane = Pane::List,
        Pane::List => letters.pane = Pane::Groups,
        Pane::Groups => {
            let usual = super::letters::Letters::default().filter;
            if letters.filter == usual {
                return;
            }
            letters.filter = usual;
            letters.group = None;
            letters.clear_rows();
            ask_lists(model, effects);
        }
    }
}

/// An action while the filter is typed.
pub fn on_filter_line(model: &mut Model, action: Action, effects: &mut Vec<Effect>) {
    let Some(line) = model.filter_line.take() else {
        return;
    };
    match action {
        Action::Interrupt if !model.embedded => effects.push(Effect::Exit(super::Exit::Quit)),
        Action::Interrupt => dialogs::ask_leave(model),
        Action::Open => match filter::parse(&line.text) {
            Ok(filter) => {
                model.notice = None;
                model.letters.filter = filter;
                model.letters.group = None;
                model.letters.clear_rows();
                ask_lists(model, effects);
            }
            Err(mistake) => {
                model.complain(format!("{mistake}; the filter stays as it was"));
                model.filter_line = Some(line);
            }
        },
        _ => {}
    }
}

/// An action while the help is open.
pub fn on_help(model: &mut Model, action: Action) {
    let Some(scroll) = model.help else { return };
    let page = page_rows(model);
    model.help = match action {
        Action::Back => None,
        action => {
            let lines = view::help::lines(&[]).len();
            moved(action, scroll, lines.saturating_sub(page), page).or(Some(scroll))
        }
    };
}
