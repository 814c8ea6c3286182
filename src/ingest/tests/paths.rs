//! Every route, its exact answer, and what is no route.

use std::sync::atomic::Ordering::Relaxed;

use axum::body::Body;
use axum::http::{Method, Request, header};

use super::fixture::{Answer, Fixture};
use crate::ingest::KeyId;

async fn ask(edge: &Fixture, method: Method, path: &str) -> Answer {
    edge.send(Request::builder().method(method).uri(path).body(Body::from("{}")).unwrap()).await
}

#[tokio::test]
async fn every_route_answers_exactly() {
    let edge = Fixture::new();
    let accepted = (202, r#"{"status":"accepted"}"#.to_owned());
    let success = (200, r#"{"success":true}"#.to_owned());
    let names = ["identify", "track", "page", "screen", "group", "alias", "i", "t", "p", "s", "g"];
    let segment = names.iter().chain(&["a", "m"]).map(|name| (format!("/v1/{name}"), &success));
    let collect = ["/collect", "/collect/own_stream-1"].map(|path| (path.to_owned(), &accepted));
    let routes: Vec<_> = segment.chain(collect).collect();
    for (path, expected) in &routes {
        for path in [path.clone(), format!("{path}/"), format!("{path}?a=b")] {
            let answer = ask(&edge, Method::POST, &path).await;
            assert_eq!(&answer.brief(), *expected, "{path}");
            assert_eq!(answer.headers[header::CONTENT_TYPE], "application/json");
        }
        let answer = ask(&edge, Method::GET, path).await;
        assert_eq!(answer.brief(), (405, "method_not_allowed".to_owned()), "{path}");
    }
    let batches = ["/v1/batch", "/v1/b", "/v1/import", "/beacon/v1/batch?writeKey=k", "/v1/batch/"];
    for path in batches {
        assert_eq!(edge.post(path, r#"{"batch":[{}]}"#).await.brief(), success, "{path}");
    }
    assert_eq!(edge.stats.requests.get(), 15 * 4 + 5);
    assert_eq!(edge.stats.client_errors.get(), 15);
    let events = edge.stored("events");
    let keys: Vec<_> = events.iter().filter_map(|(r, _)| r.write_key_id.as_deref()).collect();
    assert_eq!(keys, [KeyId::of("k").unwrap().as_str()]);
}

#[tokio::test]
async fn health_and_readiness_are_told_apart() {
    let edge = Fixture::new();
    let health = ask(&edge, Method::GET, "/health").await;
    assert_eq!(health.brief(), (200, r#"{"status":"ok"}"#.to_owned()));
    let ready = ask(&edge, Method::GET, "/ready").await;
    let json: serde_json::Value = serde_json::from_str(&ready.body).unwrap();
    assert_eq!((ready.status.as_u16(), &json["status"]), (200, &"ready".into()));
    let line = serde_json::json!({"name": "log", "ok": true, "detail": "a detail"});
    assert_eq!(json["dependencies"], serde_json::json!([line]));
    edge.ready.store(false, Relaxed);
    let ready = ask(&edge, Method::GET, "/ready").await;
    assert_eq!(ready.status, 503);
    assert!(ready.body.contains(r#""status":"not_ready""#), "{}", ready.body);
    assert_eq!(ask(&edge, Method::GET, "/health").await.status, 200);
    assert_eq!(ask(&edge, Method::HEAD, "/health").await.status, 200);
}

#[tokio::test]
async fn a_draining_edge_refuses_events_and_says_when_to_come_again() {
    let edge = Fixture::new();
    edge.edge.drain();
    let answer = edge.post("/v1/track", "{}").await;
    assert_eq!(answer.brief(), (503, "overloaded".to_owned()));
    assert_eq!(answer.headers[header::CONNECTION], "close");
    assert!(answer.headers.contains_key(header::RETRY_AFTER));
    assert_eq!(ask(&edge, Method::GET, "/ready").await.status, 503);
    assert_eq!(ask(&edge, Method::GET, "/health").await.status, 200);
    assert_eq!(edge.stats.refused.get(), 1, "what /ready says refuses nothing");
    assert_eq!(edge.stored_count(), 0);
}

#[tokio::test]
async fn analytics_js_finds_its_settings() {
    let edge = Fixture::new();
    let request = Request::get("/v1/projects/ab%22c/settings").header("host", "events.example");
    let answer = edge.send(request.body(Body::empty()).unwrap()).await;
    let json: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(answer.status, 200);
    let segment = serde_json::json!({"apiKey": "ab%22c", "apiHost": "events.example/v1"});
    assert_eq!(json["integrations"]["Segment.io"], segment);
}

#[tokio::test]
async fn what_is_no_route_is_said_in_json() {
    let edge = Fixture::new();
    for path in ["/", "/v2/track", "/metrics", "/collectx", "/v1/projects/k"] {
        let answer = ask(&edge, Method::POST, path).await;
        assert_eq!(answer.brief(), (404, "not_found".to_owned()), "{path}");
    }
    let long = format!("/collect/{}", "a".repeat(65));
    for path in ["/collect/Big", "/collect/..", "/collect/%2e%2e", "/collect/a%00", &long] {
        let answer = ask(&edge, Method::POST, path).await;
        assert_eq!(answer.brief(), (400, "bad_stream_name".to_owned()), "{path}");
    }
    let answer = ask(&edge, Method::DELETE, "/collect").await;
    assert_eq!(
        (answer.status.as_u16(), &answer.headers[header::ALLOW]),
        (405, &"POST".parse().unwrap())
    );
    assert_eq!(ask(&edge, Method::POST, "/ready").await.headers[header::ALLOW], "GET, HEAD");
    assert!(edge.kept().await.is_empty());
}

#[tokio::test]
async fn a_stream_too_many_is_unknown() {
    let edge = Fixture::new();
    for (name, status) in [("one", 202), ("two", 202), ("three", 404), ("one", 202)] {
        assert_eq!(edge.post(&format!("/collect/{name}"), "{}").await.status, status, "{name}");
    }
    let edge = Fixture::with(|config| config.auto_create = false);
    let answer = edge.post("/collect/one", "{}").await;
    assert_eq!(answer.brief(), (404, "unknown_stream".to_owned()));
    assert_eq!(edge.post("/collect", "{}").await.status, 202);
}

#[tokio::test]
async fn a_full_log_refuses_the_whole_request_and_says_when_to_come_again() {
    let edge = Fixture::with(|config| config.wal.bytes_max = 64 << 10);
    let padding = "x".repeat(40 << 10);
    let body = format!(r#"{{"batch":[{{"type":"track","p":"{padding}"}},{{"type":"page"}}]}}"#);
    assert_eq!(edge.post("/v1/batch", body.clone()).await.status, 200);
    let answer = edge.post("/v1/batch", body.clone()).await;
    assert_eq!(answer.brief(), (503, "overloaded".to_owned()));
    assert!(answer.headers.contains_key(header::RETRY_AFTER));
    let stats = &edge.stream("events").stats;
    assert_eq!((stats.refused_requests.get(), stats.received_events.get()), (1, 1));
}

#[tokio::test]
async fn what_no_log_could_take_is_too_large() {
    let edge = Fixture::with(|config| config.wal.bytes_max = 64 << 10);
    let body = format!(r#"{{"type":"track","p":"{}"}}"#, "x".repeat(64 << 10));
    let answer = edge.post("/v1/track", body).await;
    assert_eq!(answer.brief(), (413, "payload_too_large".to_owned()));
    assert!(!answer.headers.contains_key(header::RETRY_AFTER), "it would be no better later");
}

#[tokio::test]
async fn a_closed_log_is_unavailable() {
    let edge = Fixture::new();
    edge.stream("default").wal.close();
    let answer = edge.post("/collect", "{}").await;
    assert_eq!(answer.brief(), (503, "log_unavailable".to_owned()));
    assert!(answer.headers.contains_key(header::RETRY_AFTER));
    assert_eq!(edge.post("/v1/track", "{}").await.status, 200);
}

#[tokio::test]
async fn browsers_may_send_from_anywhere() {
    let edge = Fixture::new();
    let request = Request::options("/v1/track")
        .header("origin", "https://shop.example")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "authorization,content-type");
    let answer = edge.send(request.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers["access-control-allow-origin"], "*");
    for (header, name) in [("headers", "authorization"), ("methods", "POST")] {
        let list = &answer.headers[format!("access-control-allow-{header}")];
        let list = list.to_str().unwrap();
        assert!(list.split(',').any(|listed| listed == name), "{list}");
    }
    let origin = [("origin", "https://shop.example")];
    for (body, status) in [("{}", 200), ("{", 400)] {
        let answer = edge.post_with("/v1/track", &origin, body).await;
        assert_eq!(answer.status, status);
        assert_eq!(answer.headers["access-control-allow-origin"], "*");
        assert_eq!(answer.headers["access-control-expose-headers"], "retry-after");
    }
}

#[tokio::test]
async fn without_the_error_store_what_needs_it_is_refused_and_the_rest_is_not() {
    let edge = Fixture::new();
    edge.errors.shutdown();
    let lines = [("content-type", "application/x-ndjson")];
    let answer = edge.post_with("/collect", &lines, "{}\n{").await;
    assert_eq!(answer.brief(), (503, "log_unavailable".to_owned()));
    assert!(answer.headers.contains_key(header::RETRY_AFTER));
    let answer = edge.post("/collect", "{").await;
    assert_eq!(answer.brief(), (400, "invalid_json".to_owned()));
    assert_eq!(edge.post("/collect", "{}").await.status, 202);
}

#[tokio::test]
async fn a_disk_without_room_refuses_events_on_every_route_and_nothing_else() {
    let edge = Fixture::new();
    edge.space.observe(1, 1000);
    for path in ["/collect", "/collect/a", "/v1/track", "/v1/batch", "/beacon/v1/batch"] {
        let answer = edge.post(path, r#"{"userId":"u"}"#).await;
        assert_eq!(answer.brief(), (503, "overloaded".to_owned()), "{path}");
        assert_eq!(answer.headers["retry-after"], "30");
    }
    assert_eq!(ask(&edge, Method::GET, "/health").await.status, 200);
    assert!(edge.streams.get(&crate::event::StreamName::new("a").unwrap()).is_none());
    edge.space.observe(79, 1000);
    assert_eq!(edge.post("/collect", r#"{"userId":"u"}"#).await.status, 503);
    edge.space.observe(80, 1000);
    assert_eq!(edge.post("/collect", r#"{"userId":"u"}"#).await.status, 202);
}
