//! What bodies become, and which are refused.

use super::fixture::{BODY_BYTES_MAX, EVENT_BYTES_MAX, Fixture, Kept};
use crate::ingest::{ITEMS_MAX, KeyId};

const NDJSON: &[(&str, &str)] = &[("content-type", "Application/X-NDJSON; charset=utf-8")];

fn accepted() -> (u16, String) {
    (202, r#"{"status":"accepted"}"#.to_owned())
}

fn success() -> (u16, String) {
    (200, r#"{"success":true}"#.to_owned())
}

fn invalid() -> (u16, String) {
    (400, "invalid_json".to_owned())
}

fn too_large() -> (u16, String) {
    (413, "payload_too_large".to_owned())
}

#[tokio::test]
async fn any_json_value_is_accepted_as_it_is() {
    let edge = Fixture::new();
    let values = [
        "{}",
        "7",
        "null",
        "\"text\"",
        "1e999",
        "-0",
        "123456789012345678901234567890",
        "9007199254740993",
        r#"{"a":1,"a":2}"#,
        r#"{"a":"\u0000"}"#,
        r#"{"a":"\ud800","\udfff":1}"#,
        "{\"a\":\"\u{9b}\u{202e}\"}",
    ];
    for value in values {
        assert_eq!(edge.post("/collect", value).await.brief(), accepted(), "{value}");
    }
    assert_eq!(edge.payloads("default"), values);
    assert_eq!(edge.post("/collect/", " \n{} \t").await.brief(), accepted());
    assert_eq!(edge.post("/collect", "\u{feff}{\"bom\":1}").await.brief(), accepted());
    assert_eq!(edge.payloads("default")[values.len()..], ["{}", "{\"bom\":1}"]);
    assert!(edge.kept().await.is_empty());
}

#[tokio::test]
async fn what_is_not_json_is_refused_and_kept() {
    let edge = Fixture::new();
    let bodies: &[&[u8]] = &[
        b"{\"a\":1,}",
        b"",
        b" \r\n\t",
        b"\xef\xbb\xbf",
        b"{}{}",
        b"{} x",
        b"[1,]",
        b"[1 2]",
        b"[,]",
        b"[1}",
        b"[}",
        b"]",
        b"NaN",
        b"Infinity",
        b"{\"a\":NaN}",
        b"{a:1}",
        b"'a'",
        b"01",
        b"\"raw \x01 control\"",
        b"\"\xff\"",
        b"{\"a\":\"\xed\xa0\x80\"}",
        b"\x1f\x8bno header says gzip",
        b"\0",
    ];
    for body in bodies {
        let answer = edge.post("/collect/hostile", *body).await;
        let shown = String::from_utf8_lossy(body);
        assert_eq!(answer.brief(), invalid(), "{shown:?}");
        let json: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        assert!(json["line"].is_u64() && json["column"].is_u64(), "{shown:?}: {json}");
    }
    assert_eq!(edge.stored_count(), 0);
    assert_eq!(edge.stats.malformed.get(), bodies.len() as u64);
    assert_eq!(edge.stats.client_errors.get(), bodies.len() as u64);
    let kept = edge.kept().await;
    let payloads: Vec<_> = kept.iter().map(|letter| letter.payload.as_slice()).collect();
    assert_eq!(payloads, bodies);
    assert!(kept.iter().all(|letter| letter.reason() == "malformed_json"));
    assert!(kept.iter().all(|letter| letter.letter.summary.stream.as_str() == "hostile"));
    assert_eq!(kept[0].message(), "key must be a string at line 1 column 8");
}

#[tokio::test]
async fn a_body_cut_at_any_byte_is_refused() {
    let edge = Fixture::new();
    let event = r#"{"type":"track","properties":{"a":[1,2.5e3,"x\n"],"b":null,"c":true}}"#;
    let batch = format!(r#"{{"batch":[{event},{event}],"sentAt":"2026-01-01T00:00:00Z"}}"#);
    for (path, body) in [("/v1/track", event), ("/v1/batch", batch.as_str())] {
        for length in 0..body.len() {
            let answer = edge.post(path, body[..length].to_owned()).await;
            assert_eq!(answer.brief(), invalid(), "{length} bytes to {path}");
        }
    }
    assert_eq!(edge.stored_count(), 0);
    assert_eq!(edge.post("/v1/batch", batch).await.brief(), success());
    assert_eq!(edge.stored_count(), 2);
}

#[tokio::test]
async fn depth_is_bounded_without_recursion() {
    let edge = Fixture::new();
    let arrays = |n: usize| "[".repeat(n) + &"]".repeat(n);
    let objects = |n: usize| "{\"a\":".repeat(n) + "1" + &"}".repeat(n);
    assert_eq!(edge.post("/collect", arrays(64)).await.brief(), accepted());
    assert_eq!(edge.post("/collect", objects(64)).await.brief(), accepted());
    for n in [65, 128, 100_000] {
        for body in [arrays(n), objects(n)] {
            assert_eq!(edge.post("/collect", body).await.brief(), invalid(), "{n}");
        }
    }
    for body in [arrays(1_000_000), "[".repeat(1_000_000), "{\"a\":".repeat(700_000)] {
        assert_eq!(edge.post("/collect", body).await.brief(), invalid());
    }
    let kept = edge.kept().await;
    assert_eq!(kept[0].reason(), "too_deep");
    assert!(kept.iter().all(|letter| letter.payload.len() <= 64 << 10));
    assert_eq!(edge.stored_count(), 2);
}

#[tokio::test]
async fn the_limit_is_accepted_and_one_byte_more_is_not() {
    let edge = Fixture::new();
    let event = |bytes: usize| format!("\"{}\"", "x".repeat(bytes - 2));
    for bytes in [EVENT_BYTES_MAX - 1, EVENT_BYTES_MAX] {
        assert_eq!(edge.post("/collect", event(bytes)).await.brief(), accepted(), "{bytes}");
    }
    let answer = edge.post("/collect", event(EVENT_BYTES_MAX + 1)).await;
    assert_eq!(answer.brief(), too_large());
    assert_eq!(edge.stored_count(), 2);

    let padded = |bytes: usize| "{}".to_owned() + &" ".repeat(bytes - 2);
    assert_eq!(edge.post("/collect", padded(BODY_BYTES_MAX)).await.brief(), accepted());
    assert_eq!(edge.post("/collect", padded(BODY_BYTES_MAX + 1)).await.brief(), too_large());
    assert_eq!(edge.stored_count(), 3);
    assert_eq!(edge.edge.budget.used(), 0);
}

#[tokio::test]
async fn an_array_is_a_batch() {
    let edge = Fixture::new();
    assert_eq!(edge.post("/collect", "[]").await.brief(), accepted());
    assert_eq!(edge.stored_count(), 0);
    assert_eq!(edge.post("/collect/mine", r#" [ {"n":1} , 2,[] ] "#).await.brief(), accepted());
    assert_eq!(edge.payloads("mine"), [r#"{"n":1}"#, "2", "[]"]);
    let items: Vec<u32> = edge.stored("mine").iter().map(|(receipt, _)| receipt.item).collect();
    assert_eq!(items, [0, 1, 2]);
}

#[tokio::test]
async fn one_item_too_large_or_too_deep_becomes_a_letter_alone() {
    let edge = Fixture::new();
    let library = r#"{"library":{"name":"lib","version":"1"}}"#;
    let filler = "x".repeat(EVENT_BYTES_MAX);
    let large = format!(r#"{{"messageId":"big","context":{library},"x":"{filler}"}}"#);
    let deep = "[".repeat(70) + &"]".repeat(70);
    let body = format!(r#"[{{"n":1}},{large},{deep},{{"n":2}}]"#);
    assert_eq!(edge.post("/collect", body).await.brief(), accepted());
    assert_eq!(edge.payloads("default"), [r#"{"n":1}"#, r#"{"n":2}"#]);
    let letters = edge.kept().await;
    let reasons: Vec<_> = letters.iter().map(Kept::reason).collect();
    assert_eq!(reasons, ["too_large", "too_deep"]);
    assert_eq!(letters[0].payload, large.as_bytes());
    assert_eq!(letters[0].letter.summary.message_id.as_deref(), Some("big"));
    assert_eq!(letters[0].letter.summary.library.as_deref(), Some("lib"));
    assert_eq!((letters[0].letter.receipt.item, letters[1].letter.receipt.item), (1, 2));
    let stats = &edge.stream("default").stats;
    assert_eq!((stats.received_events.get(), stats.rejected_events.get()), (4, 2));
}

#[tokio::test]
async fn a_broken_line_becomes_a_letter_and_the_others_events() {
    let edge = Fixture::new();
    let body = b"\xef\xbb\xbf{\"n\":1}\r\n\n  \n{\"n\":2\n\"\xff\"\n{\"n\":3}".as_slice();
    assert_eq!(edge.post_with("/collect", NDJSON, body).await.brief(), accepted());
    assert_eq!(edge.payloads("default"), [r#"{"n":1}"#, r#"{"n":3}"#]);
    let letters = edge.kept().await;
    assert_eq!(letters[0].payload, b"{\"n\":2");
    assert_eq!(letters[0].message(), "EOF while parsing an object at line 4 column 6");
    assert_eq!(letters[1].payload, b"\"\xff\"");
    assert_eq!(letters[1].message(), "invalid UTF-8 at line 5 column 2");
    assert_eq!(edge.stats.malformed.get(), 0);
}

#[tokio::test]
async fn lines_of_which_none_is_json_are_refused_as_a_whole() {
    let edge = Fixture::new();
    let body = "<html>\n</html>\n";
    assert_eq!(edge.post_with("/collect", NDJSON, body).await.brief(), invalid());
    assert_eq!(edge.post_with("/collect", NDJSON, "\n \n").await.brief(), invalid());
    let kept = edge.kept().await;
    let payloads: Vec<_> = kept.iter().map(|letter| letter.payload.as_slice()).collect();
    assert_eq!(payloads, [body.as_bytes(), b"\n \n"]);
    assert_eq!(edge.stats.malformed.get(), 2);
}

#[tokio::test]
async fn a_batch_sends_each_item_to_the_stream_of_its_type() {
    let edge = Fixture::new();
    let body = r#"{"batch":[{"type":"identify","messageId":"a"},{"type":"track","messageId":"b"},
        {"type":"page"},{"type":"screen"},{"type":"group"},{"type":"alias"},{"type":"odd"},{},
        {"type":null}, 7],"sentAt":"2026-01-02T03:04:05Z","writeKey":"secret"}"#;
    assert_eq!(edge.post("/v1/batch", body).await.brief(), success());
    let counts = ["users", "pages", "events"].map(|stream| edge.payloads(stream).len());
    assert_eq!(counts, [3, 2, 5]);
    let (receipt, _) = &edge.stored("users")[0];
    assert!(receipt.sent_at.is_some());
    assert_eq!(receipt.sent_at, crate::time::parse("2026-01-02T03:04:05Z"));
    assert_eq!((receipt.message_id.as_deref(), receipt.kind), (None, None));
    assert_eq!(receipt.route.as_deref(), Some("/v1/batch"));
    let id = KeyId::of("secret").unwrap();
    assert_eq!(receipt.write_key_id.as_deref(), Some(id.as_str()));
}

#[tokio::test]
async fn a_batchs_context_and_integrations_merge_into_its_items() {
    let edge = Fixture::new();
    let body = r#"{"context":{"ip":"1","app":{"n":1}},"integrations":{"All":true},"batch":[
        {"type":"track","context":{"ip":"2"}},{"type":"track","integrations":{}}]}"#;
    assert_eq!(edge.post("/v1/batch", body).await.brief(), success());
    assert_eq!(
        edge.payloads("events"),
        [
            r#"{"integrations":{"All":true},"type":"track","context":{"app":{"n":1},"ip":"2"}}"#,
            r#"{"context":{"ip":"1","app":{"n":1}},"type":"track","integrations":{}}"#,
        ]
    );
}

#[tokio::test]
async fn what_one_request_may_become_is_bounded() {
    let edge = Fixture::new();
    let context = format!(r#"{{"a":"{}"}}"#, "x".repeat(1 << 20));
    let body = format!(r#"{{"context":{context},"batch":[{}{{}}]}}"#, "{},".repeat(1000));
    assert_eq!(edge.post("/v1/batch", body).await.brief(), too_large());
    let numbers = |n: usize| format!("[{}0]", "0,".repeat(n - 1));
    assert_eq!(edge.post("/collect", numbers(ITEMS_MAX + 1)).await.brief(), too_large());
    assert_eq!(edge.stored_count(), 0);
    assert_eq!(edge.post("/collect", numbers(ITEMS_MAX)).await.brief(), accepted());
    assert_eq!(edge.stored_count(), ITEMS_MAX);
}

#[tokio::test]
async fn a_batch_that_is_none_is_refused_with_the_place() {
    let edge = Fixture::new();
    let twice = r#"{"batch":[],"batch":[]}"#;
    for body in ["{}", "[]", "7", r#"{"batch":null}"#, r#"{"batch":{}}"#, twice] {
        let answer = edge.post("/v1/batch", body).await;
        assert_eq!(answer.brief(), invalid(), "{body}");
        assert!(answer.body.contains("/batch"), "{}", answer.body);
    }
    let kept = edge.kept().await;
    assert_eq!((kept.len(), kept[0].letter.rejections[0].path.as_str()), (6, "/batch"));
    assert_eq!(edge.post("/v1/batch", r#"{"batch":[]}"#).await.brief(), success());
    assert_eq!(edge.stored_count(), 0);
}

#[tokio::test]
async fn the_path_supplies_a_missing_type_and_the_edge_a_missing_id() {
    let edge = Fixture::new();
    let known = r#"{"type":"identify","messageId":"m"}"#;
    for body in [r#"{"userId":"u"}"#, known, r#"{"type":"odd","messageId":""}"#] {
        assert_eq!(edge.post("/v1/track", body).await.brief(), success());
    }
    let events = edge.stored("events");
    assert_eq!(events[0].0.kind, Some(crate::event::Kind::Track));
    assert_eq!(events[1].0.kind, None);
    let ids: Vec<_> = events.iter().map(|(receipt, _)| receipt.message_id.clone()).collect();
    for id in &ids {
        let id = uuid::Uuid::parse_str(id.as_ref().unwrap()).unwrap();
        assert_eq!(id.get_version_num(), 7);
    }
    assert_ne!(ids[0], ids[1]);
    let (receipt, _) = &edge.stored("users")[0];
    assert_eq!((receipt.message_id.as_deref(), receipt.kind), (None, None));
}

#[tokio::test]
async fn the_type_of_the_body_is_not_believed() {
    let edge = Fixture::new();
    for content_type in ["text/plain", "application/x-www-form-urlencoded", "image/png", ""] {
        let headers = [("content-type", content_type)];
        let answer = edge.post_with("/v1/track", &headers, "{}").await;
        assert_eq!(answer.brief(), success(), "{content_type}");
    }
    assert_eq!(edge.stored_count(), 4);
}
