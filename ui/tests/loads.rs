//! View 6: the loads, why one failed, and what is done with it.

use eventkit::status::{Load, LoadState, Role, WarehouseStatus};

use super::super::message::LoadChange;
use super::*;

/// A console of that size in view 6.
fn model(width: u16, height: u16) -> Model {
    let mut model = fixture::model(UNICODE, width, height);
    let with = Snapshot { warehouse: Some(fixture::warehouse()), ..fixture::snapshot() };
    let _ = tell(&mut model, What::Snapshot(Arc::new(with)));
    press(&mut model, KeyCode::Char('6'));
    model
}

#[test]
fn the_loads_look_as_agreed() {
    for (size, width, height) in [("compact", 80, 24), ("wide", 120, 36), ("large", 160, 50)] {
        let mut model = model(width, height);
        press(&mut model, KeyCode::Down);
        assert_screen(&format!("loads_{size}"), &model);
    }
    let mut asked = model(80, 24);
    press(&mut asked, KeyCode::Down);
    press(&mut asked, KeyCode::Char('D'));
    assert_screen("ask_dismiss", &asked);
}

#[test]
fn what_fails_the_warehouse_itself_is_seen_beside_a_loads_error_and_on_the_overview() {
    let error = "BigQuery: no dataset raw in project shop; make it, or set warehouse.dataset";
    let warehouse =
        WarehouseStatus { error: Some(error.to_owned()), retried: 4, ..fixture::warehouse() };
    let snapshot = Snapshot { warehouse: Some(warehouse), ..fixture::instance(Role::Process) };
    for (size, width, height) in [("compact", 80, 24), ("wide", 120, 36)] {
        let mut model = fixture::model(UNICODE, width, height);
        tell(&mut model, What::Snapshot(Arc::new(snapshot.clone())));
        assert_screen(&format!("overview_failing_warehouse_{size}"), &model);
        press(&mut model, KeyCode::Char('6'));
        let on_one_that_works = screen(&model);
        press(&mut model, KeyCode::Down);
        assert_screen(&format!("loads_failing_warehouse_{size}"), &model);
        for screen in [on_one_that_works, screen(&model)] {
            assert!(screen.contains("bigquery fails: BigQuery: no dataset raw"), "{screen}");
        }
    }
}

#[test]
fn without_a_warehouse_there_is_no_view_of_its_loads() {
    let mut model = fixture::model(UNICODE, 100, 30);
    press(&mut model, KeyCode::Char('6'));
    assert_eq!(model.tab, Tab::Overview);
    assert!(screen(&model).contains("no warehouse is configured"));
}

#[test]
fn the_whole_error_of_a_load_can_be_read_beside_its_id() {
    for (width, height) in [(80, 24), (160, 50)] {
        let mut model = model(width, height);
        press(&mut model, KeyCode::Down);
        let load = fixture::warehouse().loads[1].clone();
        let shown = screen(&model);
        assert!(shown.contains(&load.id.to_string()), "{shown}");
        // Its lines end where there is room no more.
        let joined = |text: &str| text.replace(['│', ' ', '\n'], "");
        let error = load.error.unwrap().replace('\u{1b}', "\\x1b");
        assert!(joined(&shown).contains(&joined(&error)), "{shown}");
        assert!(!shown.contains('\u{1b}'));
    }
}

#[test]
fn a_load_that_has_failed_is_changed_after_a_question_and_no_other_is() {
    for (key, change, state) in [
        ('R', LoadChange::Retry, LoadState::Open),
        ('D', LoadChange::Dismiss, LoadState::Dismissed),
    ] {
        let mut model = model(100, 30);
        assert!(press(&mut model, KeyCode::Char(key)).is_empty() && model.dialog.is_none());
        press(&mut model, KeyCode::Down);
        assert!(press(&mut model, KeyCode::Char(key)).is_empty());
        let _ = tell(&mut model, What::Drawn);
        assert!(screen(&model).contains("1 object into events"));
        let mut cancelled = model.clone();
        assert!(press(&mut cancelled, KeyCode::Enter).is_empty() && cancelled.dialog.is_none());
        press(&mut model, KeyCode::Tab);
        let effects = press(&mut model, KeyCode::Enter);
        let load = Load { state, ..fixture::warehouse().loads[1].clone() };
        let [Effect::Ask { number, request }] = effects.as_slice() else { panic!("{effects:?}") };
        assert_eq!(*request, Request::Load(change, load.id));
        let reply = Reply::Load(Ok(Box::new(load)));
        let _ = tell(&mut model, What::Reply { number: *number, reply });
        let notice = model.notice.unwrap();
        assert!(!notice.failed && notice.text.contains(" is "), "{}", notice.text);
    }
}

#[test]
fn a_dismissed_load_can_be_retried_and_not_dismissed_again() {
    let mut model = model(100, 30);
    let mut warehouse = fixture::warehouse();
    warehouse.loads[1].state = LoadState::Dismissed;
    let with = Snapshot { warehouse: Some(warehouse), ..fixture::snapshot() };
    let _ = tell(&mut model, What::Snapshot(Arc::new(with)));
    press(&mut model, KeyCode::Down);
    press(&mut model, KeyCode::Char('D'));
    assert!(model.dialog.is_none());
    press(&mut model, KeyCode::Char('R'));
    assert!(model.dialog.is_some());
}

#[test]
fn a_console_that_may_only_look_changes_no_load() {
    let mut model = model(100, 30);
    model.read_only = true;
    press(&mut model, KeyCode::Down);
    for key in ['R', 'D'] {
        press(&mut model, KeyCode::Char(key));
        assert!(model.dialog.is_none() && model.notice.take().unwrap().failed);
    }
}
