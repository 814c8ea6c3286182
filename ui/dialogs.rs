//! Questions: whether to replay exactly these letters, to retry or dismiss a load, and what
//! leaving means inside the service.
//!
//! What is asked about is frozen when it is counted: ids, or a filter that ends at that moment.
//! Up to ten letters are confirmed with a button, more by typing their exact number. The focus
//! starts where Enter does no harm.

use eventkit::admin::{Replay, Replayed};
use eventkit::errors::{LetterFilter, Status};
use eventkit::event::LetterId;
use eventkit::status::{Load, LoadState};

use super::Exit;
use super::format;
use super::keys::Action;
use super::letters::{GroupKey, Pane};
use super::message::{Effect, Failure, LoadChange, Request, Scope};
use super::model::{Dialog, Model, Question, Role};
use super::update::ask;
use super::view;

/// Up to this many are confirmed with a button.
pub const BUTTON_MAX: u64 = 10;

/// A reason or path in a question is cut to this.
const NAMED_CHARS_MAX: usize = 40;

/// The field or button that has the focus.
pub mod focus {
    /// Nothing happens.
    pub const CANCEL: usize = 0;
    /// Replay, retry, dismiss, or close the console.
    pub const DO: usize = 1;
    /// The count, or stop the service.
    pub const OTHER: usize = 2;
}

impl Question {
    /// How many buttons and fields there are.
    #[must_use]
    pub fn stops(&self) -> usize {
        match self {
            Self::Counting { .. } => 1,
            Self::Load { .. } => 2,
            Self::Replay { count, .. } if *count <= BUTTON_MAX => 2,
            Self::Replay { .. } | Self::Leave => 3,
        }
    }
}

fn show(model: &mut Model, question: Question) {
    let typed_count = matches!(question, Question::Replay { .. }) && question.stops() == 3;
    model.dialog = Some(Dialog {
        focus: if typed_count { focus::OTHER } else { focus::CANCEL },
        question,
        typed: String::new(),
        drawn: false,
    });
}

/// Asks what leaving means inside the service's own process.
pub fn ask_leave(model: &mut Model) {
    show(model, Question::Leave);
}

/// `R`: says why not, or starts the question.
pub fn ask_replay(model: &mut Model, effects: &mut Vec<Effect>) {
    if let Role::Looks { why, .. } = model.role() {
        return model.complain(format!("can't replay: {why}"));
    }
    if model.replaying.is_some() {
        return model.complain("a replay is still running; wait for its result");
    }
    match model.letters.pane {
        Pane::Groups => ask_group(model, effects),
        Pane::List if !model.letters.marks.is_empty() => {
            let ids: Vec<LetterId> = model.letters.marks.iter().copied().collect();
            let hidden = model.letters.hidden_marks();
            let count = format::count(ids.len() as u64);
            let plural = if ids.len() == 1 { "" } else { "s" };
            let mut scope = format!("{count} marked letter{plural}");
            if hidden > 0 {
                scope += &format!(", {hidden} of them not in this list");
            }
            ask_ids(model, ids, scope);
        }
        Pane::List | Pane::Letter => {
            let Some(row) = model.letters.current() else {
                return model.complain("there is no letter under the cursor");
            };
            let letter = &row.letter;
            if letter.status != Status::Open {
                let status = letter.status.as_str();
                let why = format!("letter {} is {status}; only open ones are replayed", letter.id);
                return model.complain(why);
            }
            let reason = brief(&letter.reason);
            let scope = format!("letter {} of {}: {reason}", letter.id, letter.stream);
            ask_ids(model, vec![letter.id], scope);
        }
    }
}

/// `R` and `D` in the loads: says why not, or starts the question.
pub fn ask_load(model: &mut Model, change: LoadChange) {
    let verb = change.verb();
    if let Role::Looks { why, .. } = model.role() {
        return model.complain(format!("can't {verb}: {why}"));
    }
    let Some(load) = model.shown().and_then(|snapshot| view::loads::current(model, snapshot))
    else {
        return model.complain("there is no load under the cursor");
    };
    let (may, which) = match change {
        LoadChange::Retry => (load.may_be_retried(), "failed or dismissed ones are retried"),
        LoadChange::Dismiss => (load.is_failed(), "failed ones are dismissed"),
    };
    if !may {
        return model.complain(format!("it is {}; only {which}", load.state.as_str()));
    }
    let objects = if load.objects == 1 { "object" } else { "objects" };
    let scope = format!("{} {objects} into {}", format::count(load.objects), brief(&load.table));
    let load = load.id;
    show(model, Question::Load { change, scope, load });
}

/// A change of a load was answered.
pub fn on_load(model: &mut Model, result: Result<Box<Load>, Failure>) {
    match result {
        Ok(load) => model.say(match load.state {
            LoadState::Dismissed => format!("load {} is dismissed", load.id),
            _ => format!("load {} is open again: attempt {}", load.id, load.attempt),
        }),
        Err(failure) => {
            model.denied |= failure.denied;
            model.complain(failure.text);
        }
    }
}

/// A client's text as a question may hold it: it must not push the count out of sight.
fn brief(text: &str) -> String {
    text.chars().take(NAMED_CHARS_MAX).collect()
}

fn ask_ids(model: &mut Model, ids: Vec<LetterId>, scope: String) {
    let count = ids.len() as u64;
    let filter = LetterFilter { ids, ..LetterFilter::default() };
    let as_of = model.service_clock().unwrap_or_default();
    show(model, Question::Replay { scope, filter, count, as_of });
}

fn ask_group(model: &mut Model, effects: &mut Vec<Effect>) {
    let Some(group) = model.letters.current_group().cloned() else {
        return model.complain("choose a group, or mark letters: there is no replay of everything");
    };
    if group.open == 0 {
        return model.complain("no letter of this group is open");
    }
    let key = GroupKey::of(&group);
    let mut scope = format!("{} of {}", brief(&group.reason), group.stream);
    if !group.path.is_empty() {
        scope += &format!(" at {}", brief(&group.path));
    }
    if let Some(library) = &group.library {
        scope += &format!(" from {}", brief(library));
    }
    let request = Request::Scope {
        filter: LetterFilter {
            stream: Some(group.stream),
            phase: Some(group.phase),
            reason: Some(group.reason),
            path: Some(group.path),
            status: Some(Status::Open),
            library: group.library.clone(),
            until: model.service_clock(),
            ..LetterFilter::default()
        },
        ambiguous: model.letters.is_ambiguous(&key),
        library: group.library,
    };
    show(model, Question::Counting { scope });
    ask(model, request, effects);
}

/// The letters of a group were counted.
pub fn on_scope(model: &mut Model, result: Result<Scope, Failure>) {
    let Some(Dialog { question: Question::Counting { scope }, .. }) = model.dialog.take() else {
        return;
    };
    match result {
        Ok(Scope { count: 0, .. }) => model.complain("no letter of this group is open any more"),
        Ok(Scope { filter, count }) => {
            let as_of = model.service_clock().unwrap_or_default();
            show(model, Question::Replay { scope, filter, count, as_of });
        }
        Err(failure) => {
            model.denied |= failure.denied;
            model.complain(format!("can't replay: {}", failure.text));
        }
    }
}

/// An action while a question is open.
pub fn on_action(model: &mut Model, action: Action, effects: &mut Vec<Effect>) {
    let Some(dialog) = &mut model.dialog else {
        return;
    };
    let stops = dialog.question.stops();
    match action {
        Action::NextPane => dialog.focus = (dialog.focus + 1) % stops,
        Action::PreviousPane => dialog.focus = (dialog.focus + stops - 1) % stops,
        Action::Back => close(model),
        Action::Open => press(model, effects),
        // The second Ctrl-C means it.
        Action::Interrupt if dialog.question == Question::Leave => {
            effects.push(Effect::Exit(Exit::StopService));
        }
        Action::Interrupt if model.embedded => ask_leave(model),
        Action::Interrupt => effects.push(Effect::Exit(Exit::Quit)),
        _ => {}
    }
}

fn close(model: &mut Model) {
    model.dialog = None;
    // The count is no longer waited for.
    model.letters.awaited[3] = None;
    model.notice = None;
}

fn press(model: &mut Model, effects: &mut Vec<Effect>) {
    let Some(dialog) = model.dialog.clone() else {
        return;
    };
    match (dialog.question, dialog.focus) {
        (Question::Leave, focus::DO) => effects.push(Effect::Exit(Exit::CloseConsole)),
        (Question::Leave, focus::OTHER) => effects.push(Effect::Exit(Exit::StopService)),
        (Question::Load { change, load, .. }, focus::DO) => {
            if let Role::Looks { why, .. } = model.role() {
                return model.complain(format!("can't {}: {why}", change.verb()));
            }
            model.dialog = None;
            ask(model, Request::Load(change, load), effects);
        }
        (Question::Replay { filter, count, .. }, focus::DO | focus::OTHER) => {
            let typed = dialog.typed.replace([',', ' '], "");
            if count > BUTTON_MAX && typed != count.to_string() {
                return model.complain(format!("type {count} to replay them, or Esc"));
            }
            if let Role::Looks { why, .. } = model.role() {
                return model.complain(format!("can't replay: {why}"));
            }
            model.dialog = None;
            model.say(format!("replaying {} letters", format::count(count)));
            let ids = filter.ids.clone();
            let request = Request::Replay(Replay { filter, note: None });
            model.replaying = Some((ask(model, request, effects), ids));
        }
        _ => close(model),
    }
}

/// A replay that named these letters, or a filter, was answered.
pub fn on_replayed(model: &mut Model, ids: &[LetterId], result: Result<Replayed, Failure>) {
    match result {
        Ok(done) => {
            let mut text = format!(
                "replay {}: {} in the log again",
                done.replay,
                format::count(done.replayed)
            );
            if done.refused > 0 {
                text += &format!(", {} refused", format::count(done.refused));
            }
            if let Some(why) = &done.refusal {
                text += &format!(": {why}");
            }
            if done.refused > 0 {
                model.complain(text);
            } else {
                model.say(text);
            }
            model.letters.marks.retain(|id| !ids.contains(id));
            model.letters.asked = None;
        }
        Err(failure) => {
            model.denied |= failure.denied;
            model.complain(failure.text);
        }
    }
}
