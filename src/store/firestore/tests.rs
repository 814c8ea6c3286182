use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use axum::Router;
use axum::extract::{Request as Asked, State};
use axum::http::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;

use super::*;
use crate::event::{StreamName, TypedEvent};
use crate::store::Retry;

/// What a database is told to answer next: to which document with which code, or to all with a
/// status and a body.
#[derive(Clone)]
enum Next {
    Documents(&'static str, i32),
    Whole(u16, &'static str),
}

#[derive(Default)]
struct Database {
    documents: BTreeMap<String, Value>,
    /// Each request's method, and how many documents it had.
    asked: Vec<(String, usize)>,
    next: VecDeque<Next>,
}

type Shared = Arc<Mutex<Database>>;

async fn answer(State(database): State<Shared>, asked: Asked) -> (StatusCode, String) {
    let method = asked.uri().path().rsplit_once(':').unwrap().1.to_owned();
    assert_eq!(asked.headers()["authorization"], "Bearer owner");
    let body = axum::body::to_bytes(asked.into_body(), 10 << 20).await.unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap();
    let mut database = database.lock().unwrap_or_else(PoisonError::into_inner);
    let writes = body["writes"].as_array().cloned().unwrap_or_default();
    database.asked.push((method, writes.len()));
    let next = database.next.pop_front();
    if let Some(Next::Whole(status, body)) = next {
        return (StatusCode::from_u16(status).unwrap(), body.to_owned());
    }
    let mut status = Vec::new();
    for write in writes {
        let name = write["update"]["name"].as_str().unwrap().to_owned();
        let failure = match next {
            Some(Next::Documents(end, code)) if name.ends_with(end) => Some(code),
            _ if database.documents.contains_key(&name) => Some(code::ALREADY_EXISTS),
            _ => None,
        };
        match failure {
            Some(code) => status.push(json!({"code": code, "message": "because\n of it"})),
            None => {
                status.push(json!({}));
                database.documents.insert(name, write["update"]["fields"].clone());
            }
        }
    }
    (StatusCode::OK, json!({"status": status}).to_string())
}

/// A store and the database behind it.
async fn store(next: &[Next]) -> (Firestore, Shared) {
    let database = Shared::default();
    database.lock().unwrap().next.extend(next.iter().cloned());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().fallback(answer).with_state(Arc::clone(&database));
    tokio::spawn(async move { axum::serve(listener, router).await });
    let mut config = StoreConfig::in_directory("lake".into());
    config.endpoint = Some(endpoint);
    let google = GoogleConfig { project: Some("shop".to_owned()), ..GoogleConfig::default() };
    (Firestore::open(&config, &google).unwrap(), database)
}

fn batch<'a>(ids: impl IntoIterator<Item = &'a str>, properties: &str) -> Arc<Batch> {
    let mut batch = Batch::new(Uuid::nil(), StreamName::new("events").unwrap(), 7);
    for (seq, id) in (1..).zip(ids) {
        let event = TypedEvent {
            kind: "track".into(),
            message_id: id.into(),
            properties: Some(properties.into()),
            ..TypedEvent::default()
        };
        assert!(batch.push(seq, 0, 0, b"{}", &event));
    }
    Arc::new(batch)
}

fn put_of(database: &Shared) -> (usize, Vec<usize>) {
    let database = database.lock().unwrap();
    let mut sizes: Vec<usize> = database.asked.iter().map(|(_, documents)| *documents).collect();
    sizes.sort_unstable();
    (database.documents.len(), sizes)
}

#[tokio::test]
async fn a_large_batch_is_written_in_requests_of_five_hundred() {
    let (store, database) = store(&[]).await;
    let ids: Vec<String> = (0..1_203).map(|n| format!("m{n}")).collect();
    let batch = batch(ids.iter().map(String::as_str), "{}");
    let stored = store.put(&batch).await.unwrap();
    assert_eq!(stored.object, "eventkit/events/events");
    assert_eq!(put_of(&database), (1_203, vec![203, 500, 500]));
    let again = store.put(&batch).await.unwrap();
    assert_eq!(again, stored, "what is there already is success");
    let name = "projects/shop/databases/(default)/documents/eventkit/events/events/m7";
    let database = database.lock().unwrap();
    assert_eq!(database.documents[name]["log_seq"], json!({"integerValue": "8"}));
}

#[tokio::test]
async fn a_request_has_no_more_bytes_than_firestore_takes() {
    let (store, database) = store(&[]).await;
    let properties = format!("{{\"x\":\"{}\"}}", "y".repeat(900 << 10));
    store.put(&batch(["a", "b", "c", "d", "e", "f"], &properties)).await.unwrap();
    assert_eq!(put_of(&database), (6, vec![2, 4]));
}

#[tokio::test]
async fn of_two_events_with_one_id_the_first_is_written() {
    let (store, database) = store(&[]).await;
    store.put(&batch(["a", "b", "a"], "{}")).await.unwrap();
    assert_eq!(put_of(&database), (2, vec![2]));
    let database = database.lock().unwrap();
    let first = database.documents.values().next().unwrap();
    assert_eq!(first["log_seq"], json!({"integerValue": "1"}));
}

#[tokio::test]
async fn only_what_was_not_taken_is_written_again() {
    let (store, database) = store(&[Next::Documents("/b", 10)]).await;
    store.put(&batch(["a", "b", "c"], "{}")).await.unwrap();
    assert_eq!(put_of(&database), (3, vec![1, 3]));
}

#[tokio::test]
async fn what_is_never_taken_now_is_the_surroundings_fault() {
    let (store, database) = store(&vec![Next::Documents("/b", 14); 4]).await;
    let error = store.put(&batch(["a", "b", "c"], "{}")).await.unwrap_err();
    assert_eq!(error.retry(), Retry::After(None));
    let sentence = "firestore does not take 1 of 3 documents now (UNAVAILABLE: because of it)";
    assert_eq!(error.to_string(), sentence);
    assert_eq!(put_of(&database), (2, vec![1, 1, 1, 3]));
}

#[tokio::test]
async fn a_document_that_is_refused_is_named_and_the_rest_is_written() {
    let (store, database) = store(&[Next::Documents("/b", code::INVALID_ARGUMENT)]).await;
    let Err(StoreError::Rows(rows)) = store.put(&batch(["a", "b", "c"], "{}")).await else {
        panic!("no rows");
    };
    let told: Vec<_> = rows.iter().map(|r| (r.row, r.rejection.message.as_str())).collect();
    assert_eq!(told, [(1, "because of it")]);
    assert_eq!((rows[0].rejection.phase, &*rows[0].rejection.reason), (Phase::Store, "refused"));
    assert_eq!(put_of(&database), (2, vec![3]));
}

#[tokio::test]
async fn what_is_too_large_is_refused_without_being_sent() {
    let (store, database) = store(&[]).await;
    let properties = format!("\"{}\"", "y".repeat(1 << 20));
    let Err(StoreError::Rows(rows)) = store.put(&batch(["a"], &properties)).await else {
        panic!("no rows");
    };
    assert_eq!((rows[0].row, &*rows[0].rejection.reason), (0, "too_large"));
    assert_eq!(put_of(&database), (0, vec![]));
}

#[tokio::test]
async fn a_request_that_is_refused_whole_names_no_row() {
    let body = r#"{"error":{"status":"INVALID_ARGUMENT","message":"some document is bad"}}"#;
    let (store, _) = store(&[Next::Whole(400, body)]).await;
    let error = store.put(&batch(["a", "b"], "{}")).await.unwrap_err();
    assert!(matches!(&error, StoreError::Refused(why) if why == "some document is bad"));
}

#[tokio::test]
async fn an_answer_that_tells_of_fewer_documents_is_no_success() {
    for body in [r#"{"status":[{}]}"#, "{}", "<html>"] {
        let (store, _) = store(&[Next::Whole(200, body)]).await;
        let error = store.put(&batch(["a", "b"], "{}")).await.unwrap_err();
        assert_eq!(error.retry(), Retry::After(None), "{error}");
    }
}

#[tokio::test]
async fn nobody_at_the_address_is_told_in_one_sentence() {
    let mut config = StoreConfig::in_directory("lake".into());
    config.endpoint = Some("http://127.0.0.1:9".to_owned());
    let google = GoogleConfig { project: Some("shop".to_owned()), ..GoogleConfig::default() };
    let store = Firestore::open(&config, &google).unwrap();
    let error = store.check().await.unwrap_err().to_string();
    assert!(error.starts_with("firestore can't be reached at http://127.0.0.1:9: "), "{error}");
    assert!(error.contains("refused"), "{error}");
}

#[tokio::test]
async fn a_check_writes_until_it_could_and_then_reads() {
    let refusal = r#"{"error":{"status":"INVALID_ARGUMENT","message":"no"}}"#;
    let (store, database) = store(&[Next::Whole(400, refusal)]).await;
    assert_eq!(store.check().await.unwrap_err().retry(), Retry::After(None));
    store.check().await.unwrap();
    store.check().await.unwrap();
    let methods: Vec<String> =
        database.lock().unwrap().asked.iter().map(|(method, _)| method.clone()).collect();
    assert_eq!(methods, ["commit", "commit", "batchGet"]);
}
