//! A service in trouble, for tests: busy, skewed, with a slow sink and a bug in a library.

use std::sync::Arc;
use std::time::Duration;

use eventkit::errors::{Attempt, Counts, Group, Letter, LetterSummary, Page, Status};
use eventkit::event::{Kind, LetterId, Micros, Phase, Receipt, Rejection, StreamName};
use eventkit::status::{
    API_VERSION, Capacity, Change, Damage, Finding, Level, Load, LoadId, LoadState,
    PartitionStatus, QueueStatus, Role, Severity, Sink, Snapshot, Stage, State, Step, StreamStatus,
    View, WalStatus, WarehouseStatus,
};

use super::Options;
use super::message::{Msg, What};
use super::model::Model;
use super::safe_text::Charset;
use super::theme::Theme;
use super::update::update;

/// 2026-11-23T14:32:07Z
pub const NOW: Micros = 1_795_444_327_000_000;
const SECOND: Micros = 1_000_000;

/// Options of an attached console.
pub fn options() -> Options {
    Options {
        socket: "/nowhere/admin.sock".into(),
        refresh: Duration::from_secs(1),
        ascii: false,
        no_color: false,
        plain: false,
        read_only: false,
        embedded: false,
    }
}

/// Colours and Unicode.
pub const UNICODE: Theme = Theme { charset: Charset::Unicode, colour: true };
/// Seven bits, no colours.
pub const ASCII: Theme = Theme { charset: Charset::Ascii, colour: false };
/// Unicode, no colours.
pub const COLOURLESS: Theme = Theme { charset: Charset::Unicode, colour: false };

/// A console of that size that has just got the snapshot.
pub fn model(theme: Theme, width: u16, height: u16) -> Model {
    let mut model = Model::new(theme, &options(), (width, height));
    let what = What::Snapshot(Arc::new(snapshot()));
    update(&mut model, Msg { at: Duration::from_secs(1), what });
    model
}

pub fn name(text: &str) -> StreamName {
    StreamName::new(text).expect("a stream name")
}

fn wave(level: f32, spike_at: usize) -> Vec<f32> {
    (0..60)
        .map(|i| {
            let swing = [0.0, 0.1, 0.2, 0.3, 0.2, 0.1][i / 5 % 6];
            level * (0.6 + swing + if i == spike_at { 0.5 } else { 0.0 })
        })
        .collect()
}

fn stage(name: &str, state: State, rate: f64, note: &str, detail: &str) -> Stage {
    Stage {
        name: name.to_owned(),
        state,
        events: 81_230_401,
        rate,
        seconds: wave(rate as f32, 50),
        quarters: wave(rate as f32, 40),
        note: note.to_owned(),
        detail: detail.to_owned(),
    }
}

fn stream(text: &str, rate: f64, rejected_rate: f64, lag: u64) -> StreamStatus {
    let events = (rate * 4_000.0) as u64;
    let partitions = (0..16_u64)
        .map(|i| PartitionStatus {
            events: events / 16 * if i == 5 && text == "checkout" { 9 } else { 1 } + i * 37,
            pending: lag / 16,
        })
        .collect();
    StreamStatus {
        name: name(text),
        state: if rejected_rate > 1.0 { State::Slow } else { State::Ok },
        received_events: events,
        received_bytes: events * 1_100,
        adapted_events: events - events / 50,
        rejected_events: events / 50,
        duplicate_events: 312,
        damaged_records: 0,
        unreadable_objects: 0,
        lost_letters: 0,
        torn_tails: 0,
        skewed_events: 4,
        undated_events: 0,
        published_events: 0,
        pulled_events: 0,
        stored_events: events - events / 50 - lag.min(events / 2),
        stored_bytes: events * 140,
        stored_batches: events / 10_000 + 1,
        refused_requests: 0,
        rate,
        rejected_rate,
        seconds: wave(rate as f32, 10),
        quarters: wave(rate as f32, 33),
        dead_open: (rejected_rate * 240.0) as u64,
        wal: WalStatus {
            head: events + 1,
            cursor: events + 1 - lag.min(events),
            lag_events: lag,
            bytes: 41 << 20,
            bytes_max: 256 << 20,
            segments: 6,
            sync_p50_us: 850,
            sync_p99_us: 3_100,
            syncs: 902_117,
        },
        pending_events: lag,
        pending_bytes: lag * 1_100,
        pending_age_ms: 12_400,
        store_failures: u64::from(rejected_rate > 1.0) * 3,
        store_error: (rejected_rate > 1.0).then(|| "put timed out after 30s".to_owned()),
        partitions,
    }
}

fn finding(severity: Severity, view: View, text: &str, stream: Option<&str>) -> Finding {
    Finding { severity, view, text: text.to_owned(), stream: stream.map(name) }
}

fn findings() -> Vec<Finding> {
    vec![
        finding(
            Severity::Critical,
            View::DeadLetters,
            "4.6/s rejected: validate.missing_field at /userId, 1,102 open",
            Some("checkout"),
        ),
        finding(Severity::Warning, View::Partitions, "p05 carries 6.0x the mean", Some("checkout")),
        finding(Severity::Warning, View::Loads, "bigquery lags: 12 objects wait", None),
    ]
}

fn stages() -> Vec<Stage> {
    vec![
        stage("ingest", State::Ok, 18_420.0, "p99 accept 3.1ms", "503s 0/s"),
        stage("wal", State::Ok, 18_420.0, "lag 9.8k", "sync p99 3.1ms"),
        stage("validate", State::Slow, 18_420.0, "rejected 4.6/s", "duplicates 0.2/s"),
        stage("partition", State::Ok, 18_410.0, "skew 6.0x", "64 partitions"),
        stage("batch", State::Ok, 18_410.0, "71 open", "oldest 12s"),
        stage("load", State::Full, 17_940.0, "lake slow", "backlog 9.8k"),
    ]
}

fn streams() -> Vec<StreamStatus> {
    vec![
        stream("page_view", 9_820.0, 0.0, 1_200),
        stream("checkout", 4_402.0, 4.6, 8_400),
        stream("search", 2_911.0, 0.0, 120),
        stream("signup", 803.0, 0.0, 60),
        stream("crash_report", 311.0, 0.1, 9),
        stream("default", 101.0, 0.0, 0),
        stream("users", 60.0, 0.0, 0),
        stream("events", 12.0, 0.0, 0),
        stream("pages", 0.0, 0.0, 0),
    ]
}

/// The service.
pub fn snapshot() -> Snapshot {
    Snapshot {
        api: API_VERSION,
        version: "0.9.2".to_owned(),
        boot_id: "boot-1".to_owned(),
        sequence: 1,
        now: NOW,
        uptime_ms: 1_051_200_000,
        host: "prod-eu-1".to_owned(),
        listen: "127.0.0.1:8000".to_owned(),
        findings: findings(),
        stages: stages(),
        streams: streams(),
        sinks: vec![Sink {
            name: "lake".to_owned(),
            state: State::Slow,
            rate: 17_940.0,
            events: 81_000_112,
            failures: 3,
            backlog: 9_789,
            last_ms: 48_100,
            error: Some("put timed out after 30s".to_owned()),
        }],
        warehouse: None,
        queue: None,
        dead_letters: Counts {
            open: 1_284,
            replaying: 2,
            resolved: 220,
            discarded: 4,
            malformed_dropped: 0,
            payload_bytes: 1_400_000,
            open_by_stream: [(name("checkout"), 1_102), (name("page_view"), 182)].into(),
        },
        capacity: Capacity {
            wal_bytes: 412 << 20,
            wal_bytes_max: 16 << 30,
            disk_free_bytes: 11 << 30,
            disk_level: Level::Low,
            disk_bytes: 80 << 30,
            memory_bytes: 1_288_490_188,
            memory_bytes_max: 4 << 30,
            cpu_cores: 1.04,
            cpu_cores_max: 4,
            errors_bytes: 38 << 20,
        },
        damage: Damage::default(),
        changes: [
            (27, "lake put failed, try 3: timed out after 30s"),
            (245, "first validate.missing_field in checkout"),
            (5_216, "replay 41 finished: 220 in the log again, 0 refused (ana)"),
            (90_000, "started, version 0.9.2"),
        ]
        .map(|(ago, text)| Change { at: NOW - ago * SECOND, text: text.to_owned() })
        .into(),
    }
}

/// One of several instances. Of the streams only the busiest are its.
pub fn instance(role: Role) -> Snapshot {
    let of = |step: &Step| match step {
        Step::Publish if role == Role::Collect => ("12 unconfirmed", "9031 messages"),
        Step::Publish => ("ok", "9031 messages"),
        Step::Pull => ("12 held", "9019 acked"),
        Step::Wal => ("lag 12", "sync p99 3.1ms"),
        Step::Batch => ("71 open", "oldest 12s"),
        _ => ("ok", "fine"),
    };
    let mut stages = Vec::new();
    for step in Step::of(Some(role)) {
        let (note, detail) = of(step);
        stages.push(stage(step.as_str(), State::Ok, 1_803.0, note, detail));
    }
    let mut streams = vec![stream("page_view", 982.0, 0.0, 12), stream("search", 2.0, 0.0, 0)];
    let stores = Step::of(Some(role)).contains(&Step::Load);
    for stream in &mut streams {
        let events = stream.received_events;
        (stream.published_events, stream.pulled_events) = (events - events / 50, events);
        if !stores {
            (stream.adapted_events, stream.stored_events) = (0, 0);
            stream.partitions.fill(PartitionStatus::default());
        }
    }
    let (pulled_rate, outstanding_messages) = (1_803.0, 12);
    let queue = QueueStatus { role, pulled_rate, outstanding_messages, ..QueueStatus::default() };
    let usual = snapshot();
    let sink = Sink { error: None, state: State::Ok, ..usual.sinks[0].clone() };
    let sink = if stores { sink } else { Sink { name: "pubsub".to_owned(), ..sink } };
    let dead_letters = Counts::default();
    Snapshot {
        stages,
        streams,
        sinks: vec![sink],
        queue: Some(queue),
        findings: Vec::new(),
        dead_letters,
        ..usual
    }
}

fn group(stream: &str, reason: &str, path: &str, library: Option<&str>, open: u64) -> Group {
    Group {
        stream: name(stream),
        phase: if reason == "malformed_json" { Phase::Parse } else { Phase::Validate },
        reason: reason.to_owned(),
        path: path.to_owned(),
        library: library.map(str::to_owned),
        open,
        total: open + 20,
        first_at: NOW - 245 * SECOND,
        last_at: NOW - SECOND,
        sample: 1_300,
    }
}

/// As long as they come, with an escape in it.
const LOAD_ERROR: &str = "BigQuery: Error while reading data, error message: Input file is not in \
     Parquet format, the file ends with bytes that no Parquet file ends with\u{1b}[2J File: \
     gs://events-lake/production/stream=events/date=2026-01-01/hour=00/\
     019b7a3e-0000-7000-8000-000000000002.parquet; mend the file or delete it, and retry the \
     load, or dismiss it";

/// Loads, of which the second has failed for good.
pub fn warehouse() -> WarehouseStatus {
    let load = |id: u128, state, error: Option<&str>| Load {
        id: LoadId(id),
        dataset: "raw".to_owned(),
        table: "events".to_owned(),
        attempt: 2,
        state,
        objects: 1 + u64::from(error.is_none()) * 311,
        rows: 48_112,
        bytes: 7_340_032,
        object: format!("stream=events/date=2026-01-01/hour=00/{id}.parquet"),
        error: error.map(str::to_owned),
        parent: None,
        planned_at: NOW - 90_000_000,
        changed_at: NOW - 60_000_000,
    };
    WarehouseStatus {
        name: "bigquery".to_owned(),
        waiting_objects: 12,
        waiting_bytes: 88_000_000,
        failed_now: 1,
        loads: vec![
            load(1, LoadState::Open, None),
            load(2, LoadState::Failed, Some(LOAD_ERROR)),
            load(3, LoadState::Loaded, None),
        ],
        ..WarehouseStatus::default()
    }
}

/// The groups, largest first.
pub fn groups() -> Vec<Group> {
    vec![
        group("checkout", "missing_field", "/userId", Some("analytics-ios"), 1_102),
        group("checkout", "wrong_type", "/properties/price", Some("analytics-ios"), 121),
        group("page_view", "bad_timestamp", "/originalTimestamp", None, 40),
        group("default", "malformed_json", "", None, 14),
        group("crash_report", "too_large", "", Some("crash\u{1b}[31m\u{202e}"), 7),
    ]
}

/// A line of the list. Every seventh is hostile.
pub fn summary(id: LetterId) -> LetterSummary {
    let preview = if id % 7 == 0 {
        "{\"event\":\"evil\u{202e}\",\"x\":\"\u{1b}[31m👩\u{200d}💻\u{e0041}\""
    } else {
        "{\"type\":\"track\",\"event\":\"checkout\",\"properties\":{\"uid\":\"8f3a77c1\",\"price\":\"19.9\"}}"
    };
    LetterSummary {
        id,
        stream: name("checkout"),
        phase: Phase::Validate,
        reason: "missing_field".to_owned(),
        path: "/userId".to_owned(),
        status: Status::Open,
        attempts: u32::from(id % 5 == 0),
        received_at: NOW - (1_300 - id) * SECOND / 2,
        rejected_at: NOW - (1_300 - id) * SECOND / 2,
        message_id: Some(format!("7d1e-{id}")),
        library: Some("analytics-ios".to_owned()),
        payload_bytes: 1_228,
        preview: preview.to_owned(),
    }
}

/// A page of a list of 1,300 letters.
pub fn page(before: Option<LetterId>, limit: u32) -> Page {
    let top = before.unwrap_or(1_301);
    let bottom = (top - i64::from(limit)).max(1);
    Page {
        letters: (bottom..top).rev().map(summary).collect(),
        total: 1_102,
        next_before: (bottom > 1).then_some(bottom),
    }
}

/// A whole letter.
pub fn letter(id: LetterId) -> Letter {
    let payload = r#"{"type":"track","event":"checkout","properties":{"uid":"8f3a77c1","price":"19.9","note":"ok\u001b[31m"},"context":{"library":{"name":"analytics-ios","version":"8.2.0"}},"originalTimestamp":"2026-11-23T14:32:05.911Z"}"#;
    let rejection = |reason: &str, path: &str, message: &str| Rejection {
        phase: Phase::Validate,
        reason: reason.to_owned(),
        path: path.to_owned(),
        message: message.to_owned(),
    };
    Letter {
        summary: summary(id),
        rejections: vec![
            rejection("missing_field", "/userId", "one of userId, anonymousId is required"),
            rejection("wrong_type", "/properties/price", "\"19.9\" is a string, not a number"),
        ],
        payload: Some(payload.to_owned()),
        payload_base64: None,
        receipt: Receipt {
            received_at: NOW - SECOND,
            sent_at: Some(NOW - 2 * SECOND),
            kind: Some(Kind::Track),
            message_id: None,
            write_key_id: Some("ios-app".into()),
            source: Some([203, 0, 113, 7].into()),
            route: Some("/v1/batch".into()),
            item: 3,
            replay: None,
            origin: None,
            outline: None,
        },
        library_version: Some("8.2.0".to_owned()),
        seq: Some(88_120),
        replay_seq: None,
        history: vec![Attempt {
            at: NOW - SECOND,
            what: "rejected".to_owned(),
            by: None,
            detail: "missing_field at /userId, and one more".to_owned(),
        }],
    }
}
