//! The only place where the model changes.
//!
//! In: a message with its time. Out: effects, which the console's loop carries out. No I/O, no
//! clock, no waiting: the same messages make the same model.

use std::sync::Arc;
use std::time::Duration;

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use eventkit::admin::ListLetters;
use eventkit::status::Snapshot;

use super::Exit;
use super::actions;
use super::dialogs;
use super::keys::{self, Action, Place};
use super::letters::{PAGE_ROWS, Pane};
use super::message::{Effect, Failure, Msg, Reply, Request, What};
use super::model::{Link, Model, Tab};
use super::opened::Opened;

/// Typed text longer than this is not taken.
const TYPED_MAX: usize = 400;

/// Takes a message in.
pub fn update(model: &mut Model, msg: Msg) -> Vec<Effect> {
    model.now = model.now.max(msg.at);
    let mut effects = Vec::new();
    match msg.what {
        What::Key(event) => on_key(model, event, &mut effects),
        What::Paste(text) => on_paste(model, &text),
        What::Resize(width, height) => model.size = (width, height),
        What::Tick => {}
        What::Drawn => {
            if let Some(dialog) = &mut model.dialog {
                dialog.drawn = true;
            }
        }
        What::Snapshot(snapshot) => on_snapshot(model, snapshot, &mut effects),
        What::Lost { reason, tries, retry_in } => on_lost(model, reason, tries, retry_in),
        What::Reply { number, reply } => on_reply(model, number, reply, &mut effects),
    }
    if model.tab == Tab::DeadLetters {
        read_on(model, &mut effects);
    }
    effects
}

/// The places whose keys mean something now, innermost first.
#[must_use]
pub fn places(model: &Model) -> &'static [Place] {
    use Place::{Dialog, FilterLine, Help};
    if model.dialog.is_some() {
        return &[Dialog];
    }
    if model.filter_line.is_some() {
        return &[FilterLine];
    }
    if model.help.is_some() {
        return &[Help];
    }
    view_places(model)
}

/// The places of the view and its focused pane, innermost first.
#[must_use]
pub fn view_places(model: &Model) -> &'static [Place] {
    use Place::{Everywhere, Lists};
    match (model.tab, model.letters.pane) {
        (Tab::Overview, _) => &[Place::Overview, Lists, Everywhere],
        (Tab::Streams, _) => &[Place::Streams, Lists, Everywhere],
        (Tab::Partitions, _) => &[Place::Partitions, Lists, Everywhere],
        (Tab::Wal, _) => &[Place::Wal, Lists, Everywhere],
        (Tab::Loads, _) => &[Place::Loads, Lists, Everywhere],
        (Tab::DeadLetters, Pane::Groups) => &[Place::Groups, Lists, Everywhere],
        (Tab::DeadLetters, Pane::List) => &[Place::Letters, Lists, Everywhere],
        (Tab::DeadLetters, Pane::Letter) => &[Place::Letter, Lists, Everywhere],
    }
}

fn on_key(model: &mut Model, event: KeyEvent, effects: &mut Vec<Effect>) {
    if event.kind == KeyEventKind::Release {
        return;
    }
    // What was typed before the question could be seen was not meant for it.
    let unseen = model.dialog.as_ref().is_some_and(|dialog| !dialog.drawn);
    let found = keys::find(places(model), event).map(|line| line.action);
    if unseen && found != Some(Action::Interrupt) {
        return;
    }
    match found {
        Some(action) => {
            if model.dialog.is_none() && model.filter_line.is_none() {
                model.notice = None;
            }
            on_action(model, action, effects);
        }
        None => on_typed(model, event),
    }
}

fn on_typed(model: &mut Model, event: KeyEvent) {
    let plain = !event.modifiers.intersects(KeyModifiers::CONTROL | KeyModifiers::ALT);
    let typed = if let Some(dialog) = &mut model.dialog {
        &mut dialog.typed
    } else if let Some(line) = &mut model.filter_line {
        &mut line.text
    } else {
        return;
    };
    match event.code {
        KeyCode::Backspace => {
            typed.pop();
        }
        KeyCode::Char('u') if event.modifiers == KeyModifiers::CONTROL => typed.clear(),
        KeyCode::Char(c) if plain && typed.len() < TYPED_MAX => typed.push(c),
        _ => {}
    }
}

fn on_paste(model: &mut Model, text: &str) {
    match &mut model.filter_line {
        Some(line) if model.dialog.is_none() => {
            let room = TYPED_MAX.saturating_sub(line.text.len());
            let printable = text.chars().filter(|c| !c.is_control());
            line.text.extend(printable.take(room));
        }
        _ => model.complain("pasted text was ignored; open the filter with / first"),
    }
}

fn on_action(model: &mut Model, action: Action, effects: &mut Vec<Effect>) {
    if model.dialog.is_some() {
        return dialogs::on_action(model, action, effects);
    }
    if model.filter_line.is_some() {
        return actions::on_filter_line(model, action, effects);
    }
    if model.help.is_some() && action != Action::Interrupt {
        return actions::on_help(model, action);
    }
    match action {
        Action::View(tab) => go(model, tab, effects),
        Action::Freeze => freeze(model, effects),
        Action::Window => model.seconds = !model.seconds,
        Action::Help => model.help = Some(0),
        Action::Redraw => effects.push(Effect::Redraw),
        Action::Suspend if model.embedded => {
            model.complain("not here: suspending would stop the service itself");
        }
        Action::Suspend => effects.push(Effect::Suspend),
        Action::Quit | Action::Interrupt if model.embedded => dialogs::ask_leave(model),
        Action::Quit | Action::Interrupt => effects.push(Effect::Exit(Exit::Quit)),
        Action::Open if matches!(model.link, Link::Lost { .. }) => {
            effects.push(Effect::Reconnect);
            actions::on_view_action(model, action, effects);
        }
        _ => actions::on_view_action(model, action, effects),
    }
}

/// Opens a view.
pub fn go(model: &mut Model, tab: Tab, effects: &mut Vec<Effect>) {
    if let Some(why) = model.shown().and_then(|snapshot| tab.lacks(snapshot)) {
        return model.say(why);
    }
    model.tab = tab;
    if tab == Tab::DeadLetters && model.letters.counts.is_none() {
        ask_lists(model, effects);
    }
}

fn freeze(model: &mut Model, effects: &mut Vec<Effect>) {
    if model.frozen.take().is_some() {
        refresh_lists(model, effects);
    } else if model.newest.is_some() {
        model.frozen.clone_from(&model.newest);
    } else {
        model.complain("nothing to freeze yet");
    }
}

/// A service that runs for less has no long window to show.
const YOUNG_MS: u64 = 5 * 60 * 1000;

fn on_snapshot(model: &mut Model, snapshot: Arc<Snapshot>, effects: &mut Vec<Effect>) {
    if model.newest.is_none() && snapshot.uptime_ms < YOUNG_MS {
        // Of a service this young, the long window shows next to nothing.
        model.seconds = true;
    }
    if let Some((before, _)) = &model.newest
        && before.boot_id != snapshot.boot_id
    {
        model.restarted = Some(snapshot.now);
        model.denied = false;
        model.letters.counts = None;
    }
    let was_lost = matches!(model.link, Link::Lost { .. });
    model.link = Link::Live;
    model.newest = Some((snapshot, model.now));
    if was_lost {
        model.letters.counts = None;
    }
    refresh_lists(model, effects);
}

fn on_lost(model: &mut Model, reason: String, tries: u32, retry_in: Duration) {
    let since = match &model.link {
        Link::Lost { since, .. } => *since,
        _ => model.newest.as_ref().map_or(Duration::ZERO, |(_, at)| *at),
    };
    model.link = Link::Lost { since, reason, tries, retry_at: model.now + retry_in };
}

/// Asks for groups and list again if the counts have moved since they were last asked for.
fn refresh_lists(model: &mut Model, effects: &mut Vec<Effect>) {
    if model.tab != Tab::DeadLetters || model.frozen.is_some() {
        return;
    }
    let counts = model.newest.as_ref().map(|(snapshot, _)| &snapshot.dead_letters);
    let busy = model.letters.awaited[0].is_some() || model.letters.awaited[1].is_some();
    if !busy && counts.is_some() && model.letters.counts.as_ref() != counts {
        ask_lists(model, effects);
    }
}

/// Asks for the groups and the first page of the list.
pub fn ask_lists(model: &mut Model, effects: &mut Vec<Effect>) {
    model.letters.counts = model.newest.as_ref().map(|(snapshot, _)| snapshot.dead_letters.clone());
    ask(model, Request::Groups, effects);
    ask_page(model, None, effects);
}

/// Asks for a page of the list.
pub fn ask_page(model: &mut Model, before: Option<i64>, effects: &mut Vec<Effect>) {
    model.letters.page_before = before;
    let list = ListLetters { filter: model.letters.list_filter(), before, limit: PAGE_ROWS };
    ask(model, Request::Page(list), effects);
}

/// Numbers a request; an earlier one of its slot is given up.
pub fn ask(model: &mut Model, request: Request, effects: &mut Vec<Effect>) -> u64 {
    let number = model.number();
    if let Some(slot) = request.slot() {
        model.letters.awaited[slot] = Some(number);
    }
    effects.push(Effect::Ask { number, request });
    number
}

/// What the position of the cursor calls for: the letter under it, or the next page.
fn read_on(model: &mut Model, effects: &mut Vec<Effect>) {
    if model.letters.wants_more() {
        ask_page(model, model.letters.next_before, effects);
    }
    if let Some(id) = model.letters.wanted() {
        model.letters.asked = Some(id);
        ask(model, Request::Letter(id), effects);
    }
}

/// Whether the answer is the awaited one of its slot.
fn take_awaited(model: &mut Model, slot: usize, number: u64) -> bool {
    let awaited = model.letters.awaited[slot] == Some(number);
    if awaited {
        model.letters.awaited[slot] = None;
    }
    awaited
}

fn on_reply(model: &mut Model, number: u64, reply: Reply, effects: &mut Vec<Effect>) {
    match reply {
        Reply::Groups(result) if take_awaited(model, 0, number) => match result {
            Ok(groups) => model.letters.groups = Some(groups),
            Err(failure) => list_failed(model, failure),
        },
        Reply::Page(result) if take_awaited(model, 1, number) => match result {
            Ok(page) => {
                model.letters.error = None;
                model.letters.merge(page, model.letters.page_before);
            }
            Err(failure) => list_failed(model, failure),
        },
        Reply::Letter(result) if take_awaited(model, 2, number) => match *result {
            Ok(letter) => actions::open(model, Opened::new(letter)),
            Err(failure) => model.complain(failure.text),
        },
        Reply::Scope(result) if take_awaited(model, 3, number) => {
            dialogs::on_scope(model, result);
        }
        Reply::Replayed(result) => {
            if let Some((_, ids)) = model.replaying.take_if(|(awaited, _)| *awaited == number) {
                dialogs::on_replayed(model, &ids, result);
                ask_lists(model, effects);
            }
        }
        Reply::Load(result) => dialogs::on_load(model, result),
        // An answer to a question that nobody has any more.
        _ => {}
    }
}

fn list_failed(model: &mut Model, failure: Failure) {
    model.letters.error = Some(failure.text);
    // The next snapshot asks again.
    model.letters.counts = None;
}
