use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::event::{Kind, Receipt, ReplayOrigin, StreamName};
use crate::outline::Outline;

const RECEIVED: i64 = 1_795_444_325_911_000;

fn receipt() -> Receipt<'static> {
    Receipt { received_at: RECEIVED, message_id: Some("minted".into()), ..Receipt::default() }
}

/// Runs the rules and hands the result to `look`, for it borrows from the payload.
fn with<T>(
    rules: &StreamRules,
    receipt: Receipt<'static>,
    payload: &[u8],
    look: impl FnOnce(Result<TypedEvent<'_>, Rejected>) -> T,
) -> T {
    let stream = StreamName::new("events").unwrap();
    let raw = RawEvent { stream: &stream, seq: 1, payload, receipt };
    look(Adapter::new(rules).run(&raw))
}

fn owned(event: &TypedEvent<'_>) -> Value {
    let text = |cow: &Option<Cow<'_, str>>| cow.as_deref().map(str::to_owned);
    serde_json::json!({
        "kind": event.kind, "message_id": event.message_id, "event": text(&event.event),
        "name": text(&event.name), "user_id": text(&event.user_id),
        "anonymous_id": text(&event.anonymous_id), "group_id": text(&event.group_id),
        "previous_id": text(&event.previous_id), "timestamp": event.timestamp,
        "original_timestamp": event.original_timestamp, "sent_at": event.sent_at,
        "context": text(&event.context), "properties": text(&event.properties),
        "traits": text(&event.traits), "integrations": text(&event.integrations),
        "extra": text(&event.extra),
    })
}

fn run(rules: &StreamRules, payload: &str) -> Value {
    with(rules, receipt(), payload.as_bytes(), |result| {
        owned(&result.unwrap_or_else(|rejected| panic!("{rejected:?}")))
    })
}

fn reject(rules: &StreamRules, payload: &str) -> Vec<String> {
    with(rules, receipt(), payload.as_bytes(), |result| {
        let line = |r: Rejection| format!("{} {} {}", r.phase.as_str(), r.reason, r.path);
        result.unwrap_err().rejections.into_iter().map(line).collect()
    })
}

#[test]
fn a_segment_event_finds_its_columns() {
    let payload = r#"{"type":"track","event":"Paid","messageId":"m","userId":7,
        "anonymousId":"\u00e4","originalTimestamp":"2026-11-23T14:00:00Z",
        "timestamp":"2026-11-23T14:00:09Z","sentAt":"2026-11-23T14:00:10Z",
        "context":{"ip":"::1"},"properties":{ "price": 1.50 },"integrations":{},
        "receivedAt":"2020-01-01","channel":"web","version":null,"traits":null}"#;
    let event = run(&StreamRules::segment_strict(), payload);
    let expected = serde_json::json!({
        "kind": "track", "message_id": "m", "event": "Paid", "name": null, "user_id": "7",
        "anonymous_id": "ä", "group_id": null, "previous_id": null,
        "timestamp": RECEIVED - 10_000_000,
        "original_timestamp": 1_795_442_400_000_000_i64, "sent_at": 1_795_442_410_000_000_i64,
        "context": r#"{"ip":"::1"}"#, "properties": r#"{ "price": 1.50 }"#, "traits": null,
        "integrations": "{}",
        "extra": r#"{"timestamp":"2026-11-23T14:00:09Z","receivedAt":"2020-01-01","channel":"web","version":null}"#,
    });
    assert_eq!(event, expected);
}

#[test]
fn what_needs_no_unescaping_is_borrowed() {
    let payload = br#"{"type":"page","name":"Home","userId":"u","messageId":"m"}"#;
    with(&StreamRules::lenient(), receipt(), payload, |result| {
        let event = result.unwrap();
        assert!(matches!(event.kind, Cow::Borrowed("page")));
        assert!(matches!(event.name, Some(Cow::Borrowed("Home"))));
        assert!(matches!(event.message_id, Cow::Borrowed("m")));
        assert_eq!(event.extra, None);
    });
}

#[test]
fn an_outline_that_is_not_the_payloads_changes_nothing() {
    let payload = r#"{"type":"page","userId":"u","x":[1]}"#;
    let parsed = run(&StreamRules::lenient(), payload);
    for bytes in [&[][..], &[4 << 2, 6], &[4 << 2, 200, 1], &[0xff; 3], &[16, 6, 24, 3, 5, 3]] {
        let outline = Some(Outline::from_bytes(bytes));
        let receipt = Receipt { outline, ..receipt() };
        with(&StreamRules::lenient(), receipt, payload.as_bytes(), |result| {
            assert_eq!(owned(&result.unwrap()), parsed, "{bytes:?}");
        });
    }
}

#[test]
fn the_traits_of_an_identify_are_found_in_its_context_too() {
    let traits =
        |payload: &str| run(&StreamRules::lenient(), payload)["traits"].as_str().map(str::to_owned);
    let within = r#""userId":"u","context":{"traits":{"a":1}}"#;
    let sent = |kind: &str| traits(&format!(r#"{{"type":"{kind}","event":"e",{within}}}"#));
    assert_eq!(sent("identify").as_deref(), Some(r#"{"a":1}"#));
    assert_eq!(sent("group").as_deref(), Some(r#"{"a":1}"#));
    assert_eq!(sent("track"), None, "there they tell of the user, not of the event");
    let both = traits(&format!(r#"{{"type":"identify","traits":{{"b":2}},{within}}}"#));
    assert_eq!(both.as_deref(), Some(r#"{"b":2}"#));
}

#[test]
fn the_receipt_supplies_what_the_payload_lacks() {
    let facts = Receipt {
        kind: Some(Kind::Identify),
        sent_at: Some(RECEIVED - 1000),
        write_key_id: Some("web".into()),
        replay: Some(ReplayOrigin { letter: 3, replayed_at: 4 }),
        ..receipt()
    };
    with(&StreamRules::lenient(), facts.clone(), b"{\"messageId\":\"\"}", |result| {
        let event = result.unwrap();
        assert_eq!((event.kind.as_ref(), event.message_id.as_ref()), ("identify", "minted"));
        assert_eq!((event.timestamp, event.sent_at), (RECEIVED, Some(RECEIVED - 1000)));
        assert_eq!((event.write_key_id, event.replay), (Some("web".into()), facts.replay));
        assert_eq!(event.extra.as_deref(), Some(r#"{"messageId":""}"#));
    });
    assert_eq!(run(&StreamRules::lenient(), "{}")["kind"], "custom");
    assert_eq!(run(&StreamRules::lenient(), r#"{"type":"Order"}"#)["kind"], "Order");
}

#[test]
fn camel_case_wins_and_the_other_spelling_stays() {
    let event = run(
        &StreamRules::segment_strict(),
        r#"{"user_id":"snake","userId":"camel","message_id":"m","sent_at":1795444325,"group_id":"g"}"#,
    );
    assert_eq!(event["user_id"], "camel");
    assert_eq!(event["message_id"], "m");
    assert_eq!(event["group_id"], "g");
    assert_eq!(event["sent_at"], 1_795_444_325_000_000_i64);
    assert_eq!(event["extra"], r#"{"user_id":"snake"}"#);
    let event = run(&StreamRules::segment_strict(), r#"{"userId":null,"user_id":"snake"}"#);
    assert_eq!(
        (&event["user_id"], &event["extra"]),
        (&"snake".into(), &r#"{"userId":null}"#.into())
    );
}

#[test]
fn a_bad_event_is_rejected_for_every_reason_at_once() {
    let rules = StreamRules::segment_strict();
    let payload = r#"{"type":"track","type":"track","userId":{},"timestamp":"x",
        "context":[],"traits":"","groupId":true}"#;
    assert_eq!(
        reject(&rules, payload),
        [
            "validate duplicate_key /type",
            "validate wrong_type /userId",
            "validate wrong_type /groupId",
            "validate invalid_timestamp /timestamp",
            "adapt missing_field /event",
            "adapt wrong_type /context",
            "adapt wrong_type /traits",
        ]
    );
    assert_eq!(reject(&rules, "{}"), ["validate missing_field /userId"]);
    assert_eq!(reject(&rules, "[]"), ["adapt not_an_object "]);
    assert_eq!(
        reject(&StreamRules::lenient(), r#"{"user_id":[],"messageId":{}}"#),
        ["adapt wrong_type /messageId", "adapt wrong_type /user_id"]
    );
}

#[test]
fn a_track_event_needs_a_name_even_where_another_field_is_wrong() {
    for payload in [
        r#"{"type":"track"}"#,
        r#"{"type":"track","event":""}"#,
        r#"{"type":"track","event":null}"#,
    ] {
        assert_eq!(reject(&StreamRules::lenient(), payload), ["adapt missing_field /event"]);
    }
    let wrong = r#"{"type":"track","event":{}}"#;
    assert_eq!(reject(&StreamRules::lenient(), wrong), ["adapt wrong_type /event"]);
}

#[test]
fn a_webhooks_own_event_and_name_stay_as_they_are() {
    let event = run(&StreamRules::lenient(), r#"{"event":{"id":1},"name":["a"]}"#);
    assert_eq!(event["extra"], r#"{"event":{"id":1},"name":["a"]}"#);
}

#[test]
fn without_the_rule_an_unreadable_time_stays_in_extra() {
    let rules = StreamRules { timestamps: Vec::new(), ..StreamRules::lenient() };
    let event = run(&rules, r#"{"originalTimestamp":"soon","timestamp":0}"#);
    assert_eq!((&event["timestamp"], &event["original_timestamp"]), (&0.into(), &0.into()));
    assert_eq!(event["extra"], r#"{"originalTimestamp":"soon"}"#);
}

#[test]
fn no_message_id_anywhere_is_a_rejection() {
    for (payload, expected) in [
        ("{}", &["/messageId"][..]),
        (r#"{"type":"track","context":1}"#, &["/event", "/messageId", "/context"]),
    ] {
        let receipt = Receipt::default();
        with(&StreamRules::lenient(), receipt, payload.as_bytes(), |result| {
            let rejections = result.unwrap_err().rejections;
            let paths: Vec<&str> = rejections.iter().map(|r| r.path.as_str()).collect();
            assert_eq!(paths, expected);
        });
    }
}

#[test]
fn a_rejected_event_tells_its_id_and_library() {
    let payload = br#"{"messageId":"m\n","context":{"library":{"name":"js","version":"1.2"}}}"#;
    with(&StreamRules::segment_strict(), receipt(), payload, |result| {
        let rejected = result.unwrap_err();
        assert_eq!(rejected.message_id.as_deref(), Some("m\n"));
        assert_eq!(rejected.library.as_deref(), Some("js"));
        assert_eq!(rejected.library_version.as_deref(), Some("1.2"));
    });
    with(&StreamRules::segment_strict(), receipt(), b"7", |result| {
        assert_eq!(result.unwrap_err().message_id.as_deref(), Some("minted"));
    });
}

fn json(key: &str, kind: &str, time: &str, id: &str) -> StreamRules {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    StreamRules::json(AdapterRule::Json {
        key: some(key),
        kind: some(kind),
        time: some(time),
        id: some(id),
    })
}

#[test]
fn the_json_adapter_picks_by_pointer_and_keeps_the_rest() {
    let rules = json("/who/id", "/what", "/at", "/ids/0");
    let payload = r#"{"who":{"id":9},"what":"sold","at":1795444325911,"ids":["i"],"userId":"x"}"#;
    let event = run(&rules, payload);
    assert_eq!(event["kind"], "sold");
    assert_eq!(event["user_id"], "9");
    assert_eq!(event["message_id"], "i");
    assert_eq!(event["timestamp"], RECEIVED);
    assert_eq!(event["extra"], r#"{"who":{"id":9},"ids":["i"],"userId":"x"}"#);
    assert_eq!(
        reject(&rules, r#"{"who":{"id":[]},"at":"never"}"#),
        ["validate invalid_timestamp /at", "adapt wrong_type /who/id"]
    );
}

#[test]
fn the_json_adapters_defaults_are_the_common_fields() {
    let rules = json("", "", "", "");
    let event = run(&rules, r#"{"user_id":"u","type":"t","messageId":"m","properties":{}}"#);
    assert_eq!(event["user_id"], "u");
    assert_eq!((&event["kind"], &event["message_id"]), (&"t".into(), &"m".into()));
    assert_eq!(event["extra"], r#"{"properties":{}}"#);
    let event = run(&rules, r#"{"anonymousId":"a","userId":""}"#);
    assert_eq!((&event["anonymous_id"], &event["user_id"]), (&"a".into(), &Value::Null));
}

/// JSON with the keys that matter, and with others.
fn any_json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("1795444325911".to_owned()),
        Just("\"2026-11-23T14:32:05Z\"".to_owned()),
        Just("\"\"".to_owned()),
        Just("123456789012345678901234567890.50".to_owned()),
        "[a-z\\\\n]{0,6}".prop_map(|text| Value::from(text).to_string()),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|v| format!("[{}]", v.join(", "))),
            any_object(inner),
        ]
    })
}

fn any_object(value: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    let key = prop_oneof![
        prop::sample::select(vec![
            "type",
            "messageId",
            "message_id",
            "userId",
            "user_id",
            "anonymousId",
            "event",
            "name",
            "timestamp",
            "originalTimestamp",
            "original_timestamp",
            "sentAt",
            "sent_at",
            "context",
            "properties",
            "traits",
            "integrations",
            "groupId",
            "previousId",
        ])
        .prop_map(str::to_owned),
        "\\PC{0,5}",
    ];
    prop::collection::btree_map(key, value, 0..12).prop_map(|fields: BTreeMap<String, String>| {
        let fields: Vec<String> = fields
            .into_iter()
            .map(|(key, value)| format!("{}: {value}", Value::from(key)))
            .collect();
        format!("{{{}}}", fields.join(" , "))
    })
}

/// The column of each field, for an event that the segment adapter has accepted.
fn is_in_its_column(event: &TypedEvent<'_>, key: &str, value: &RawValueText<'_>) -> bool {
    let text = |column: Option<&str>| match column {
        Some(column) => value.text.as_deref() == Some(column),
        None => value.raw == "null",
    };
    let json = |column: &Option<Cow<'_, str>>| column.as_deref().unwrap_or("null") == value.raw;
    let time = |column: Option<i64>| column == crate::time::parse_json(value.raw);
    match key {
        "type" => value.raw == "null" || text(Some(&event.kind)),
        "messageId" | "message_id" => value.raw == "null" || text(Some(&event.message_id)),
        "userId" | "user_id" => text(event.user_id.as_deref()),
        "anonymousId" => text(event.anonymous_id.as_deref()),
        "groupId" => text(event.group_id.as_deref()),
        "previousId" => text(event.previous_id.as_deref()),
        "event" => text(event.event.as_deref()),
        "name" => text(event.name.as_deref()),
        "timestamp" | "originalTimestamp" | "original_timestamp" => time(event.original_timestamp),
        "sentAt" | "sent_at" => time(event.sent_at),
        "context" => json(&event.context),
        "properties" => json(&event.properties),
        "traits" => json(&event.traits),
        "integrations" => json(&event.integrations),
        _ => false,
    }
}

struct RawValueText<'a> {
    raw: &'a str,
    text: Option<Cow<'a, str>>,
}

proptest! {
    #[test]
    fn every_field_of_an_accepted_event_is_found_again(payload in any_object(any_json())) {
        let rules = StreamRules { timestamps: Vec::new(), ..StreamRules::lenient() };
        with(&rules, receipt(), payload.as_bytes(), |result| {
            let Ok(event) = result else { return Ok(()) };
            let sent = Document::parse(payload.as_bytes()).unwrap();
            let extra = event.extra.clone().unwrap_or(Cow::Borrowed("{}"));
            let extra = Document::parse(extra.as_bytes()).unwrap();
            let mut in_extra = 0;
            for field in sent.fields() {
                if let Some(at) = extra.position(&field.key) {
                    prop_assert_eq!(extra.fields()[at].value, field.value);
                    in_extra += 1;
                } else {
                    let value = RawValueText { raw: field.value, text: text_of(field.value) };
                    prop_assert!(is_in_its_column(&event, &field.key, &value), "{}", field.key);
                }
            }
            prop_assert_eq!(in_extra, extra.fields().len());
            Ok(())
        })?;
    }

    #[test]
    fn every_field_survives_the_json_adapter(payload in any_object(any_json())) {
        with(&json("/userId", "/a/b", "", ""), receipt(), payload.as_bytes(), |result| {
            let Ok(event) = result else { return Ok(()) };
            let extra = event.extra.clone().unwrap_or(Cow::Borrowed("{}"));
            let extra = Document::parse(extra.as_bytes()).unwrap();
            for field in Document::parse(payload.as_bytes()).unwrap().fields() {
                let value = RawValueText { raw: field.value, text: text_of(field.value) };
                prop_assert!(
                    extra.position(&field.key).is_some()
                        || is_in_its_column(&event, &field.key, &value)
                );
            }
            Ok(())
        })?;
    }

    #[test]
    fn no_bytes_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..80),
        jsonish in "[{}\\[\\]\":,a-z0-9\\\\u ]{0,60}",
    ) {
        for rules in [StreamRules::segment_strict(), json("/a/0", "", "/b", "")] {
            for payload in [&bytes[..], jsonish.as_bytes()] {
                let is_json = serde_json::from_slice::<serde::de::IgnoredAny>(payload).is_ok();
                with(&rules, Receipt::default(), payload, |result| {
                    prop_assert!(result.is_err() || is_json);
                    Ok(())
                })?;
            }
        }
    }
}
