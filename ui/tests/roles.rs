//! What one of several instances shows: the stages that it has, and where its events are.

use eventkit::status::{Role, State, Step};

use super::*;

const ROLES: [Role; 3] = [Role::Collect, Role::Process, Role::All];

fn model(role: Role, width: u16, height: u16) -> Model {
    let mut model = fixture::model(UNICODE, width, height);
    tell(&mut model, What::Snapshot(Arc::new(fixture::instance(role))));
    model
}

#[test]
fn every_role_looks_as_agreed() {
    for role in ROLES {
        for (size, width, height) in [("compact", 80, 24), ("large", 160, 50)] {
            let mut model = model(role, width, height);
            let name = |view: &str| format!("{view}_{}_{size}", role.as_str());
            assert_screen(&name("overview"), &model);
            press(&mut model, KeyCode::Char('2'));
            assert_screen(&name("streams"), &model);
        }
    }
}

#[test]
fn each_size_says_the_role_and_an_instance_alone_has_none() {
    for (width, height) in [(160, 50), (80, 24), (40, 10)] {
        for role in ROLES {
            let says = format!("role {}", role.as_str());
            assert!(screen(&model(role, width, height)).contains(&says), "{says} at {width}");
        }
        assert!(!screen(&fixture::model(UNICODE, width, height)).contains("role "));
    }
}

#[test]
fn a_stage_that_an_instance_does_not_have_is_not_shown() {
    let names = |role| {
        let shown = screen(&model(role, 80, 24));
        let steps = Step::of(None).iter().chain(Step::of(Some(Role::All)));
        let mut found: Vec<&str> = steps.map(|step| step.as_str()).collect();
        found.retain(|name| shown.contains(&name.to_uppercase()));
        found.dedup();
        found
    };
    assert!(
        ["validate", "partition", "batch", "load"]
            .iter()
            .all(|n| !names(Role::Collect).contains(n))
    );
    assert!(["ingest", "publish"].iter().all(|name| !names(Role::Process).contains(name)));
    for role in ROLES {
        assert!(Step::of(Some(role)).iter().all(|step| names(role).contains(&step.as_str())));
    }
}

#[test]
fn a_collector_says_that_partitions_and_loads_are_worked_elsewhere() {
    for (key, tab) in [('3', Tab::Partitions), ('6', Tab::Loads)] {
        let mut collector = model(Role::Collect, 80, 24);
        press(&mut collector, KeyCode::Char(key));
        assert_eq!(collector.tab, Tab::Overview);
        let shown = screen(&collector);
        assert!(shown.contains("this instance only collects"), "{shown}");
        assert!(!shown.contains(tab.label().2), "{shown}");
        // A console that shows it while the service becomes a collector.
        let mut before = fixture::model(UNICODE, 80, 24);
        before.tab = tab;
        tell(&mut before, What::Snapshot(Arc::new(fixture::instance(Role::Collect))));
        assert!(screen(&before).contains("this instance only collects"));
    }
    let mut processor = model(Role::Process, 80, 24);
    press(&mut processor, KeyCode::Char('3'));
    assert_eq!(processor.tab, Tab::Partitions);
}

#[test]
fn a_processor_without_traffic_asks_nobody_to_send_it_some() {
    let mut snapshot = fixture::instance(Role::Process);
    snapshot.stages.iter_mut().for_each(|stage| stage.events = 0);
    let mut model = fixture::model(UNICODE, 80, 24);
    tell(&mut model, What::Snapshot(Arc::new(snapshot)));
    let shown = screen(&model);
    assert!(shown.contains("nothing was pulled yet") && !shown.contains("curl"), "{shown}");
}

#[test]
fn a_topic_that_is_away_is_marked_where_it_is_missed() {
    let missing = [(Role::Collect, 2), (Role::Process, 0), (Role::All, 2), (Role::All, 3)];
    for (role, missed) in missing {
        let mut snapshot = fixture::instance(role);
        snapshot.stages[missed].state = State::Stopped;
        for (width, height) in [(80, 24), (160, 50)] {
            let mut model = fixture::model(UNICODE, width, height);
            tell(&mut model, What::Snapshot(Arc::new(snapshot.clone())));
            let name = snapshot.stages[missed].name.to_uppercase();
            let marked = [" ", "", " stopped "].map(|gap| format!("{name}{gap}!!"));
            let shown = screen(&model);
            assert!(marked.iter().any(|text| shown.contains(text)), "{shown}");
        }
    }
}
