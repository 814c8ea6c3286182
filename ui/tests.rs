//! Screens as snapshots, cells as assertions, and the model driven through whole stories.

use std::sync::Arc;
use std::time::Duration;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use eventkit::admin::Replayed;
use eventkit::errors::{LetterFilter, Status};
use eventkit::status::{Snapshot, View};
use proptest::prelude::*;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::style::{Color, Modifier};
use unicode_width::UnicodeWidthStr as _;

mod loads;
mod roles;

use super::Exit;
use super::fixture::{self, ASCII, COLOURLESS, UNICODE};
use super::keys::{KEYS, Place};
use super::letters::Pane;
use super::message::{Effect, Failure, Msg, Reply, Request, Scope, What};
use super::model::{Dialog, Link, Model, Question, Tab};
use super::theme::Theme;
use super::update::{places, update};
use super::view;

fn buffer(model: &Model) -> Buffer {
    let (width, height) = model.size;
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| view::draw(model, frame)).unwrap();
    terminal.backend().buffer().clone()
}

fn rows(buffer: &Buffer) -> Vec<String> {
    (0..buffer.area.height)
        .map(|y| {
            let mut row = String::new();
            let mut x = 0;
            while x < buffer.area.width {
                let symbol = buffer[(x, y)].symbol();
                row.push_str(symbol);
                x += symbol.width().max(1) as u16;
            }
            row
        })
        .collect()
}

fn screen(model: &Model) -> String {
    let rows = rows(&buffer(model));
    let rows: Vec<&str> = rows.iter().map(|row| row.trim_end()).collect();
    rows.join("\n")
}

fn tell(model: &mut Model, what: What) -> Vec<Effect> {
    let at = model.now;
    update(model, Msg { at, what })
}

fn press(model: &mut Model, code: KeyCode) -> Vec<Effect> {
    tell(model, What::Key(KeyEvent::new(code, KeyModifiers::NONE)))
}

fn type_text(model: &mut Model, text: &str) -> Vec<Effect> {
    text.chars().flat_map(|c| press(model, KeyCode::Char(c))).collect()
}

/// Answers what was asked, as the service would, until nothing more is asked.
fn serve(model: &mut Model, effects: Vec<Effect>) {
    let mut waiting = effects;
    while let Some(effect) = waiting.pop() {
        let Effect::Ask { number, request } = effect else {
            continue;
        };
        let reply = match request {
            Request::Groups => Reply::Groups(Ok(fixture::groups())),
            Request::Page(list) => Reply::Page(Ok(fixture::page(list.before, list.limit))),
            Request::Letter(id) => Reply::Letter(Box::new(Ok(fixture::letter(id)))),
            Request::Scope { filter, .. } => Reply::Scope(Ok(Scope { filter, count: 1_102 })),
            Request::Load(..) => Reply::Load(Ok(Box::new(fixture::warehouse().loads[1].clone()))),
            Request::Replay(_) => Reply::Replayed(Ok(Replayed {
                replay: 42,
                replayed: 1_089,
                refused: 13,
                refusal: Some("the log of checkout is full".to_owned()),
            })),
        };
        waiting.extend(tell(model, What::Reply { number, reply }));
    }
}

fn dead_letters(theme: Theme, width: u16, height: u16, pane: Pane) -> Model {
    let mut model = fixture::model(theme, width, height);
    let effects = press(&mut model, KeyCode::Char('5'));
    serve(&mut model, effects);
    if pane != Pane::Groups {
        let effects = press(&mut model, KeyCode::Down);
        serve(&mut model, effects);
        press(&mut model, KeyCode::Enter);
        for code in [KeyCode::Down, KeyCode::Char(' '), KeyCode::Char(' ')] {
            let effects = press(&mut model, code);
            serve(&mut model, effects);
        }
    }
    if pane == Pane::Letter {
        press(&mut model, KeyCode::Enter);
    }
    model
}

fn assert_screen(name: &str, model: &Model) {
    insta::with_settings!({prepend_module_to_snapshot => false, omit_expression => true}, {
        insta::assert_snapshot!(name, screen(model));
    });
}

#[test]
fn the_overview_looks_as_agreed() {
    for (name, width, height) in [("wide", 120, 36), ("compact", 80, 24), ("minimal", 40, 10)] {
        assert_screen(&format!("overview_{name}"), &fixture::model(UNICODE, width, height));
        assert_screen(&format!("overview_{name}_ascii"), &fixture::model(ASCII, width, height));
    }
    assert_screen("one_line", &fixture::model(UNICODE, 30, 3));
}

#[test]
fn the_other_views_look_as_agreed() {
    for (key, view) in [('2', "streams"), ('3', "partitions"), ('4', "wal"), ('?', "help")] {
        for (name, width, height) in [("wide", 120, 36), ("compact", 80, 24)] {
            let mut model = fixture::model(UNICODE, width, height);
            press(&mut model, KeyCode::Char(key));
            assert_screen(&format!("{view}_{name}"), &model);
        }
    }
}

#[test]
fn dead_letters_look_as_agreed() {
    for (pane, view) in [(Pane::Groups, "groups"), (Pane::List, "list"), (Pane::Letter, "letter")] {
        for (name, width, height) in [("wide", 120, 36), ("compact", 80, 24)] {
            assert_screen(&format!("{view}_{name}"), &dead_letters(UNICODE, width, height, pane));
        }
    }
    assert_screen("list_compact_ascii", &dead_letters(ASCII, 80, 24, Pane::List));
    assert_screen("list_minimal", &dead_letters(UNICODE, 40, 10, Pane::List));
}

#[test]
fn every_state_of_the_connection_looks_as_agreed() {
    let connecting = Model::new(UNICODE, &fixture::options(), (80, 24));
    assert_screen("state_connecting", &connecting);
    let mut stale = fixture::model(UNICODE, 80, 24);
    stale.now += Duration::from_secs(7);
    assert_screen("state_stale", &stale);
    let mut lost = fixture::model(UNICODE, 80, 24);
    lost.now += Duration::from_secs(12);
    let reason = "nobody listens on the socket".to_owned();
    tell(&mut lost, What::Lost { reason, tries: 5, retry_in: Duration::from_secs(2) });
    assert_screen("state_disconnected", &lost);
    let mut frozen = fixture::model(UNICODE, 80, 24);
    press(&mut frozen, KeyCode::Char('f'));
    frozen.now += Duration::from_secs(42);
    let mut later = fixture::snapshot();
    later.dead_letters.open += 193;
    tell(&mut frozen, What::Snapshot(Arc::new(later)));
    assert_screen("state_frozen", &frozen);
    let mut restarted = fixture::model(UNICODE, 120, 36);
    let again = Snapshot { boot_id: "boot-2".to_owned(), ..fixture::snapshot() };
    tell(&mut restarted, What::Snapshot(Arc::new(again)));
    let newer = Snapshot { api: 9, ..fixture::snapshot() };
    assert_screen("state_restarted", &restarted);
    tell(&mut restarted, What::Snapshot(Arc::new(newer)));
    assert_screen("state_other_api", &restarted);
}

#[test]
fn a_service_without_traffic_says_how_to_send_some() {
    let mut snapshot = Snapshot { findings: Vec::new(), ..fixture::snapshot() };
    for stage in &mut snapshot.stages {
        stage.events = 0;
    }
    let mut model = fixture::model(UNICODE, 80, 24);
    tell(&mut model, What::Snapshot(Arc::new(snapshot)));
    assert!(screen(&model).contains("http://127.0.0.1:8000/collect"));
}

#[test]
fn questions_look_as_agreed() {
    let mut one = dead_letters(UNICODE, 80, 24, Pane::Letter);
    one.letters.marks.clear();
    press(&mut one, KeyCode::Char('R'));
    assert_screen("ask_one", &one);
    let mut group = dead_letters(UNICODE, 120, 36, Pane::List);
    press(&mut group, KeyCode::Esc);
    let effects = press(&mut group, KeyCode::Char('R'));
    serve(&mut group, effects);
    assert_screen("ask_group", &group);
    let mut leave = fixture::model(UNICODE, 80, 24);
    leave.embedded = true;
    press(&mut leave, KeyCode::Char('q'));
    assert_screen("ask_leave", &leave);
}

/// All models whose cells are worth a look.
fn models(theme: Theme) -> Vec<Model> {
    let mut models = Vec::new();
    for (width, height) in [(120, 36), (80, 24), (40, 10), (30, 3)] {
        for key in ['1', '2', '3', '4', '?'] {
            let mut model = fixture::model(theme, width, height);
            press(&mut model, KeyCode::Char(key));
            models.push(model);
        }
        for pane in [Pane::Groups, Pane::List, Pane::Letter] {
            models.push(dead_letters(theme, width, height, pane));
        }
    }
    models
}

#[test]
fn the_colourless_theme_writes_no_colour_and_keeps_the_cursor_row() {
    for model in models(COLOURLESS) {
        let buffer = buffer(&model);
        for cell in buffer.content() {
            assert_eq!((cell.fg, cell.bg), (Color::Reset, Color::Reset));
        }
        if model.size.0 >= 80 && model.help.is_none() && model.letters.pane != Pane::Letter {
            let row_of_cursor = (2..model.size.1 - 2).any(|y| {
                let row = (0..model.size.0).map(|x| &buffer[(x, y)]);
                row.filter(|cell| cell.modifier.contains(Modifier::REVERSED)).count() > 40
            });
            assert!(row_of_cursor, "{:?}:\n{}", model.tab, screen(&model));
        }
    }
}

#[test]
fn what_is_critical_is_bold() {
    for model in models(UNICODE).into_iter().chain(models(COLOURLESS)) {
        let buffer = buffer(&model);
        for y in 0..model.size.1 {
            for x in 1..model.size.0 {
                let pair = [&buffer[(x - 1, y)], &buffer[(x, y)]];
                // The help explains the sign in a sentence.
                if model.help.is_none() && pair.iter().all(|cell| cell.symbol() == "!") {
                    for cell in pair {
                        assert!(cell.modifier.contains(Modifier::BOLD), "{}", screen(&model));
                    }
                }
            }
        }
    }
}

#[test]
fn nothing_but_ascii_reaches_an_ascii_terminal() {
    for model in models(ASCII) {
        for cell in buffer(&model).content() {
            assert!(cell.symbol().is_ascii(), "{:?}", cell.symbol());
        }
    }
}

#[test]
fn every_size_can_be_drawn() {
    for width in (1..140).step_by(7) {
        for height in (1..45).step_by(3) {
            for pane in [Pane::Groups, Pane::List, Pane::Letter] {
                let mut model = dead_letters(UNICODE, width, height, pane);
                buffer(&model);
                press(&mut model, KeyCode::Char('R'));
                buffer(&model);
            }
            for key in ['1', '2', '3', '4', '?'] {
                let mut model = fixture::model(UNICODE, width, height);
                press(&mut model, KeyCode::Char(key));
                buffer(&model);
            }
        }
    }
}

#[test]
fn a_service_of_another_shape_can_be_drawn() {
    let usual = fixture::snapshot();
    let mut crowded = usual.clone();
    crowded.stages = usual.stages.iter().cycle().take(200).cloned().collect();
    crowded.streams = usual.streams.iter().cycle().take(100).cloned().collect();
    crowded.sinks = usual.sinks.iter().cycle().take(50).cloned().collect();
    crowded.findings = usual.findings.iter().cycle().take(70).cloned().collect();
    for stream in &mut crowded.streams {
        stream.partitions = stream.partitions.iter().cycle().take(5_000).copied().collect();
        stream.rate = f64::NAN;
        stream.seconds = vec![f32::INFINITY; 300];
        stream.wal.bytes = u64::MAX;
        stream.received_bytes = u64::MAX;
    }
    crowded.now = i64::MIN;
    crowded.capacity.wal_bytes_max = 0;
    crowded.capacity.cpu_cores = f64::NAN;
    crowded.uptime_ms = u64::MAX;
    for snapshot in [Snapshot { api: usual.api, ..Snapshot::default() }, crowded] {
        for (width, height) in [(200, 60), (120, 36), (80, 24), (40, 10), (3, 1)] {
            for key in ['1', '2', '3', '4', '5'] {
                let mut model = fixture::model(UNICODE, width, height);
                tell(&mut model, What::Snapshot(Arc::new(snapshot.clone())));
                press(&mut model, KeyCode::Char(key));
                press(&mut model, KeyCode::Down);
                press(&mut model, KeyCode::Char('w'));
                assert_eq!(rows(&buffer(&model)).len(), usize::from(height));
            }
        }
    }
}

#[test]
fn an_outdated_answer_is_dropped() {
    let mut model = fixture::model(UNICODE, 120, 36);
    press(&mut model, KeyCode::Char('5'));
    let old = model.letters.awaited[1].unwrap();
    let effects = press(&mut model, KeyCode::Down);
    assert!(effects.is_empty(), "there are no groups yet");
    let groups = model.letters.awaited[0].unwrap();
    tell(&mut model, What::Reply { number: groups, reply: Reply::Groups(Ok(fixture::groups())) });
    press(&mut model, KeyCode::Down);
    assert_ne!(model.letters.awaited[1], Some(old));
    let reply = Reply::Page(Ok(fixture::page(None, 5)));
    tell(&mut model, What::Reply { number: old, reply: reply.clone() });
    assert!(model.letters.rows.is_empty());
    let number = model.letters.awaited[1].unwrap();
    tell(&mut model, What::Reply { number, reply });
    assert_eq!(model.letters.rows.len(), 5);
}

#[test]
fn cursor_and_marks_outlive_a_restart_of_the_service() {
    let mut model = dead_letters(UNICODE, 120, 36, Pane::List);
    let before = model.letters.current().unwrap().letter.id;
    let marks = model.letters.marks.clone();
    assert_eq!(marks.len(), 2);
    let lost = What::Lost { reason: "gone".to_owned(), tries: 1, retry_in: Duration::ZERO };
    tell(&mut model, lost);
    assert!(press(&mut model, KeyCode::Char('R')).is_empty());
    assert!(model.notice.as_ref().unwrap().text.contains("no connection"));
    assert!(model.dialog.is_none());
    let again = Snapshot { boot_id: "boot-2".to_owned(), ..fixture::snapshot() };
    let effects = tell(&mut model, What::Snapshot(Arc::new(again)));
    assert!(!effects.is_empty(), "the lists are asked for again");
    serve(&mut model, effects);
    assert_eq!(model.letters.current().unwrap().letter.id, before);
    assert_eq!(model.letters.marks, marks);
    assert_eq!(model.link, Link::Live);
    assert!(model.restarted.is_some());
}

#[test]
fn moving_down_reads_the_next_page_by_its_key() {
    let mut model = dead_letters(UNICODE, 120, 36, Pane::List);
    let effects = press(&mut model, KeyCode::End);
    let page = effects.iter().find_map(|effect| match effect {
        Effect::Ask { request: Request::Page(list), .. } => Some(list.clone()),
        _ => None,
    });
    assert_eq!(page.unwrap().before, Some(1_101));
    serve(&mut model, effects);
    assert_eq!(model.letters.rows.len(), 400);
}

fn asked_replay(effects: &[Effect]) -> Option<LetterFilter> {
    effects.iter().find_map(|effect| match effect {
        Effect::Ask { request: Request::Replay(replay), .. } => Some(replay.filter.clone()),
        _ => None,
    })
}

#[test]
fn marked_letters_are_replayed_only_after_the_focus_has_left_cancel() {
    let mut model = dead_letters(UNICODE, 80, 24, Pane::List);
    press(&mut model, KeyCode::Char('R'));
    // Typed before the question was drawn: dropped.
    press(&mut model, KeyCode::Tab);
    assert!(press(&mut model, KeyCode::Enter).is_empty() && model.dialog.is_some());
    tell(&mut model, What::Drawn);
    assert!(asked_replay(&press(&mut model, KeyCode::Enter)).is_none());
    assert!(model.dialog.is_none(), "Enter pressed Cancel");
    press(&mut model, KeyCode::Char('R'));
    tell(&mut model, What::Drawn);
    press(&mut model, KeyCode::Tab);
    let effects = press(&mut model, KeyCode::Enter);
    let ids: Vec<i64> = model.letters.marks.iter().copied().collect();
    assert_eq!(asked_replay(&effects).unwrap().ids, ids);
    serve(&mut model, effects);
    let notice = model.notice.clone().unwrap();
    assert!(notice.text.contains("1,089 in the log again, 13 refused"), "{}", notice.text);
    assert!(notice.failed && model.letters.marks.is_empty());
}

#[test]
fn a_group_is_replayed_only_after_its_exact_number_was_typed() {
    let mut model = dead_letters(UNICODE, 120, 36, Pane::List);
    press(&mut model, KeyCode::Esc);
    let effects = press(&mut model, KeyCode::Char('R'));
    let Effect::Ask { request: Request::Scope { filter, .. }, .. } = &effects[0] else {
        panic!("{effects:?}")
    };
    assert_eq!(filter.status, Some(Status::Open));
    assert_eq!(filter.until, Some(fixture::NOW));
    serve(&mut model, effects);
    tell(&mut model, What::Drawn);
    type_text(&mut model, "1103");
    assert!(asked_replay(&press(&mut model, KeyCode::Enter)).is_none());
    press(&mut model, KeyCode::Backspace);
    type_text(&mut model, "2");
    let effects = press(&mut model, KeyCode::Enter);
    assert_eq!(asked_replay(&effects).unwrap().until, Some(fixture::NOW));
    assert!(model.dialog.is_none());
}

#[test]
fn there_is_no_replay_of_everything() {
    let mut model = dead_letters(UNICODE, 120, 36, Pane::Groups);
    assert!(press(&mut model, KeyCode::Char('R')).is_empty());
    assert!(model.dialog.is_none() && model.notice.unwrap().failed);
}

#[test]
fn a_console_that_may_only_look_asks_for_no_change() {
    let denied = |model: &mut Model| {
        model.replaying = Some((7, Vec::new()));
        let failure = Failure { text: "uid 1001 may only look".to_owned(), denied: true };
        tell(model, What::Reply { number: 7, reply: Reply::Replayed(Err(failure)) });
    };
    let other_api = |model: &mut Model| {
        let newer = Snapshot { api: 9, ..fixture::snapshot() };
        tell(model, What::Snapshot(Arc::new(newer)));
    };
    let ways: [&dyn Fn(&mut Model); 3] = [&|model| model.read_only = true, &denied, &other_api];
    for way in ways {
        for pane in [Pane::Groups, Pane::List, Pane::Letter] {
            let mut model = dead_letters(UNICODE, 120, 36, pane);
            way(&mut model);
            for key in KEYS.iter().flat_map(|line| line.presses) {
                let mut model = model.clone();
                let effects = tell(&mut model, What::Key(key.event()));
                assert!(asked_replay(&effects).is_none());
                assert!(!matches!(
                    model.dialog,
                    Some(Dialog {
                        question: Question::Replay { .. } | Question::Counting { .. },
                        ..
                    })
                ));
            }
        }
    }
}

#[test]
fn only_the_keys_that_say_so_lead_to_a_change() {
    for pane in [Pane::Groups, Pane::List, Pane::Letter] {
        let mut model = dead_letters(UNICODE, 120, 36, pane);
        if pane == Pane::Groups {
            let effects = press(&mut model, KeyCode::Down);
            serve(&mut model, effects);
        }
        let here = places(&model);
        for line in KEYS.iter().filter(|line| here.contains(&line.place)) {
            let mut model = model.clone();
            let effects = tell(&mut model, What::Key(line.presses[0].event()));
            let asks = model.dialog.is_some();
            assert_eq!(asks, line.changes(), "{} in {:?}", line.help, line.place);
            assert!(asked_replay(&effects).is_none(), "a question comes first");
        }
    }
}

#[test]
fn the_hints_line_shows_the_table() {
    let model = dead_letters(UNICODE, 120, 36, Pane::List);
    let screen = screen(&model);
    let hints = screen.lines().last().unwrap();
    for line in KEYS.iter().filter(|line| line.place == Place::Letters) {
        if let Some(hint) = line.hint {
            let shown = format!("{} {hint}", line.presses[0].name());
            assert!(hints.contains(&shown), "{shown:?} in {hints:?}");
        }
    }
}

#[test]
fn the_filter_narrows_both_panes_and_a_mistake_changes_nothing() {
    let mut model = dead_letters(UNICODE, 120, 36, Pane::Groups);
    press(&mut model, KeyCode::Char('/'));
    assert_eq!(model.filter_line.as_ref().unwrap().text, "status:open ");
    type_text(&mut model, "size:9");
    assert!(press(&mut model, KeyCode::Enter).is_empty());
    assert!(model.filter_line.is_some() && model.notice.as_ref().unwrap().failed);
    (0..6).for_each(|_| drop(press(&mut model, KeyCode::Backspace)));
    type_text(&mut model, "stream:page_view");
    let effects = press(&mut model, KeyCode::Enter);
    serve(&mut model, effects);
    assert_eq!(model.letters.shown_groups().count(), 1);
    let effects = press(&mut model, KeyCode::Esc);
    assert_eq!(effects.len(), 2, "groups and list are asked for");
    assert_eq!(model.letters.shown_groups().count(), 5);
}

#[test]
fn a_finding_opens_the_view_that_explains_it() {
    let mut model = fixture::model(UNICODE, 120, 36);
    press(&mut model, KeyCode::Enter);
    assert_eq!(model.tab, Tab::DeadLetters);
    assert_eq!(model.letters.filter.stream, Some(fixture::name("checkout")));
    let mut model = fixture::model(UNICODE, 120, 36);
    press(&mut model, KeyCode::Down);
    // Another finding comes in above: the cursor stays on its own.
    let mut snapshot = fixture::snapshot();
    let mut more = snapshot.findings[0].clone();
    more.stream = Some(fixture::name("signup"));
    snapshot.findings.insert(0, more);
    tell(&mut model, What::Snapshot(Arc::new(snapshot)));
    press(&mut model, KeyCode::Enter);
    assert_eq!(model.tab, Tab::Partitions);
    assert_eq!(model.cursors.profile, Some(fixture::name("checkout")));
}

#[test]
fn a_long_finding_is_shown_whole_under_the_cursor_and_says_where_it_leads() {
    let mut snapshot = fixture::snapshot();
    snapshot.findings[1].text =
        "store fails for events: 12 events wait; no Google credentials were \
         found: name a key file by google.credentials or GOOGLE_APPLICATION_CREDENTIALS, run \
         `gcloud auth application-default login`, or give this machine a service account"
            .to_owned();
    snapshot.findings[1].view = View::Overview;
    for (width, height) in [(80, 24), (120, 36)] {
        let mut model = fixture::model(UNICODE, width, height);
        tell(&mut model, What::Snapshot(Arc::new(snapshot.clone())));
        let before = screen(&model);
        assert!(!before.contains("a service account"), "{before}");
        press(&mut model, KeyCode::Down);
        let below = screen(&model);
        assert!(below.contains("a service account"), "{below}");
        let row = below.lines().find(|row| row.contains("store fails for")).unwrap();
        assert!(!row.contains("->"), "it leads nowhere else: {row}");
        press(&mut model, KeyCode::Enter);
        assert_eq!(model.tab, Tab::Overview);
        assert!(screen(&model).contains("no other view has more of it"));
        press(&mut model, KeyCode::Down);
        let last = screen(&model);
        assert!(last.contains("12 objects wait"), "all of the others are still there:\n{last}");
    }
}

#[test]
fn leaving_asks_only_inside_the_service() {
    let mut attached = fixture::model(UNICODE, 80, 24);
    assert_eq!(press(&mut attached, KeyCode::Char('q')), [Effect::Exit(Exit::Quit)]);
    let interrupt = || What::Key(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL));
    assert_eq!(tell(&mut attached, interrupt()), [Effect::Exit(Exit::Quit)]);
    let mut embedded = fixture::model(UNICODE, 80, 24);
    embedded.embedded = true;
    assert!(tell(&mut embedded, interrupt()).is_empty());
    let mut twice = embedded.clone();
    assert_eq!(tell(&mut twice, interrupt()), [Effect::Exit(Exit::StopService)]);
    tell(&mut embedded, What::Drawn);
    press(&mut embedded, KeyCode::Tab);
    assert_eq!(press(&mut embedded, KeyCode::Enter), [Effect::Exit(Exit::CloseConsole)]);
    let suspend = KeyEvent::new(KeyCode::Char('z'), KeyModifiers::CONTROL);
    embedded.dialog = None;
    assert!(tell(&mut embedded, What::Key(suspend)).is_empty());
}

#[test]
fn a_frozen_screen_does_not_move() {
    let mut model = dead_letters(UNICODE, 120, 36, Pane::List);
    press(&mut model, KeyCode::Char('f'));
    let before = screen(&model);
    let mut later = fixture::snapshot();
    later.dead_letters.resolved += 1;
    later.now += 1_000_000;
    let effects = tell(&mut model, What::Snapshot(Arc::new(later)));
    assert!(effects.is_empty());
    assert_eq!(screen(&model), before);
    let effects = press(&mut model, KeyCode::Char('f'));
    assert!(!effects.is_empty(), "now is asked for");
}

/// What must never reach a terminal.
fn is_hostile(c: char) -> bool {
    c.is_control()
        || matches!(u32::from(c),
            0x61c | 0x200b..=0x200f | 0x2028..=0x202e | 0x2060..=0x206f | 0xfeff
            | 0xe000..=0xf8ff | 0xe0000..=0xe0fff)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_the_bytes_each_row_has_its_width_and_no_cell_is_hostile(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        scalars in prop::collection::vec(any::<char>(), 0..80),
        nasty in prop::sample::select(vec![
            "\u{1b}]0;x\u{7}", "\u{202e}x", "👩\u{200d}👩\u{200d}👧", "e\u{301}\u{301}\u{301}",
            "\u{200b}\u{2028}", "\u{e0041}", "日本語", "\u{1100}\u{1161}", "क्षि", "\r\n\t", "אב",
        ]),
        ascii in any::<bool>(),
    ) {
        let mut text: String = scalars.into_iter().collect();
        text.push_str(nasty);
        text.push_str(&String::from_utf8_lossy(&bytes));
        text = text.repeat(2);
        let theme = if ascii { ASCII } else { UNICODE };
        for (width, height) in [(120, 36), (80, 24), (40, 10)] {
            for model in hostile_models(theme, width, height, &text) {
                let buffer = buffer(&model);
                for row in rows(&buffer) {
                    prop_assert_eq!(row.width(), usize::from(width), "{:?}", row);
                    prop_assert!(!row.chars().any(is_hostile), "{:?}", row);
                }
            }
        }
    }
}

/// Every place that shows a service's text, showing this one.
fn hostile_models(theme: Theme, width: u16, height: u16, text: &str) -> Vec<Model> {
    let mut snapshot = fixture::snapshot();
    snapshot.host = text.to_owned();
    snapshot.version = text.to_owned();
    snapshot.findings[0].text = text.to_owned();
    snapshot.changes[0].text = text.to_owned();
    snapshot.stages[1].note = text.to_owned();
    snapshot.stages[2].name = text.to_owned();
    snapshot.sinks[0].name = text.to_owned();
    snapshot.streams[1].store_error = Some(text.to_owned());
    let mut warehouse = fixture::warehouse();
    warehouse.loads[0].error = Some(text.to_owned());
    warehouse.loads[0].object = text.to_owned();
    warehouse.loads[0].table = text.to_owned();
    snapshot.warehouse = Some(warehouse);
    let mut models = Vec::new();
    for pane in [Pane::Groups, Pane::List, Pane::Letter] {
        let mut model = dead_letters(theme, width, height, pane);
        tell(&mut model, What::Snapshot(Arc::new(snapshot.clone())));
        for row in &mut model.letters.rows {
            row.letter.preview = text.to_owned();
        }
        let mut groups = fixture::groups();
        groups[0].reason = text.to_owned();
        groups[1].path = text.to_owned();
        groups[2].library = Some(text.to_owned());
        model.letters.groups = Some(groups);
        let id = model.letters.current().unwrap().letter.id;
        let mut letter = fixture::letter(id);
        letter.payload = Some(text.to_owned());
        letter.rejections[0].message = text.to_owned();
        letter.rejections[1].path = text.to_owned();
        letter.history[0].detail = text.to_owned();
        letter.receipt.route = Some(text.to_owned().into());
        letter.summary.reason = text.to_owned();
        model.letters.opened = Some(super::opened::Opened::new(letter));
        model.complain(text);
        let mut asked = model.clone();
        press(&mut asked, KeyCode::Char('R'));
        models.extend([model, asked]);
    }
    for key in ['1', '2', '6'] {
        let mut model = models[0].clone();
        press(&mut model, KeyCode::Char(key));
        models.push(model);
    }
    models
}
