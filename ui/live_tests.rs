//! The console's end of the socket against a service that answers from the fixture.

use std::path::Path;
use std::time::Duration;

use axum::extract::Path as UrlPath;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use eventkit::admin::{Client, ListLetters, Replay, Replayed};
use eventkit::errors::LetterFilter;
use eventkit::status::Snapshot;
use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::client::{Asker, News, Poller};
use super::fixture;
use super::message::{Reply, Request};

const DEADLINE: Duration = Duration::from_secs(20);

/// Serves the fixture at `socket` until it is aborted.
fn serve(socket: &Path, boot: &'static str) -> JoinHandle<()> {
    let listener = tokio::net::UnixListener::bind(socket).unwrap();
    let snapshot =
        move || async move { Json(Snapshot { boot_id: boot.to_owned(), ..fixture::snapshot() }) };
    let letters =
        |Json(list): Json<ListLetters>| async move { Json(fixture::page(list.before, list.limit)) };
    let replay = |Json(replay): Json<Replay>| async move {
        if replay.filter == LetterFilter::default() {
            let refusal = json!({"code": "forbidden", "message": "uid 1001 may only look"});
            return Err((StatusCode::FORBIDDEN, Json(refusal)));
        }
        let replayed = replay.filter.ids.len() as u64;
        Ok(Json(Replayed { replayed, ..Replayed::default() }))
    };
    let router = Router::new()
        .route("/v1/snapshot", get(snapshot))
        .route("/v1/groups", get(|| async { Json(fixture::groups()) }))
        .route("/v1/letters", post(letters))
        .route(
            "/v1/letters/{id}",
            get(|UrlPath(id): UrlPath<i64>| async move { Json(fixture::letter(id)) }),
        )
        .route("/v1/replay", post(replay));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() })
}

async fn next(poller: &mut Poller) -> News {
    timeout(DEADLINE, poller.next()).await.expect("news in time").expect("a running poller")
}

#[tokio::test]
async fn a_service_that_comes_goes_and_comes_again_is_seen() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("admin.sock");
    let mut poller = Poller::start(Client::new(&socket), Duration::from_millis(10));
    let News::Lost { reason, tries: 1, .. } = next(&mut poller).await else {
        panic!("there is no service yet")
    };
    assert!(reason.contains("no socket"), "{reason}");
    for boot in ["first", "second"] {
        let service = serve(&socket, boot);
        let snapshot = loop {
            poller.wake();
            if let News::Snapshot(snapshot) = next(&mut poller).await {
                break snapshot;
            }
        };
        assert_eq!(snapshot.boot_id, boot);
        service.abort();
        let _ = service.await;
        std::fs::remove_file(&socket).unwrap();
        while let News::Snapshot(_) = next(&mut poller).await {}
    }
}

#[tokio::test]
async fn answers_carry_the_number_of_their_question() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("admin.sock");
    let _service = serve(&socket, "only");
    let (mut asker, mut answers) = Asker::new(Client::new(&socket));
    let mut ask = async |number, request| {
        asker.ask(number, request);
        let answer = timeout(DEADLINE, answers.recv()).await.expect("an answer in time");
        let (answered, reply) = answer.expect("an open channel");
        assert_eq!(answered, number);
        reply
    };
    let Reply::Groups(Ok(groups)) = ask(1, Request::Groups).await else { panic!() };
    assert_eq!(groups, fixture::groups());
    let Reply::Letter(letter) = ask(2, Request::Letter(7)).await else { panic!() };
    assert_eq!(letter.unwrap(), fixture::letter(7));
    let replay = |ids: &[i64]| {
        let filter = LetterFilter { ids: ids.to_vec(), ..LetterFilter::default() };
        Request::Replay(Replay { filter, note: None })
    };
    let Reply::Replayed(Ok(done)) = ask(3, replay(&[1, 2])).await else { panic!() };
    assert_eq!(done.replayed, 2);
    let Reply::Replayed(Err(failure)) = ask(4, replay(&[])).await else { panic!() };
    assert!(failure.denied && failure.text.contains("may only look"));
}

#[tokio::test]
async fn a_small_group_is_frozen_as_ids_and_a_large_one_as_its_filter() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("admin.sock");
    let _service = serve(&socket, "only");
    let (mut asker, mut answers) = Asker::new(Client::new(&socket));
    let filter = LetterFilter { until: Some(fixture::NOW), ..LetterFilter::default() };
    let scope = |library: Option<&str>, ambiguous| Request::Scope {
        filter: filter.clone(),
        library: library.map(str::to_owned),
        ambiguous,
    };
    let mut ask = async |request| {
        asker.ask(1, request);
        match timeout(DEADLINE, answers.recv()).await.expect("an answer in time") {
            Some((_, Reply::Scope(result))) => result,
            other => panic!("{other:?}"),
        }
    };
    // The list's 1,300 letters are all of one library.
    let large = ask(scope(Some("analytics-ios"), false)).await.unwrap();
    assert_eq!((large.filter, large.count), (filter.clone(), 1_102));
    let none = ask(scope(None, true)).await.unwrap();
    assert_eq!((none.filter.ids.len(), none.count), (0, 0));
    let refused = ask(scope(Some("analytics-ios"), true)).await.unwrap_err();
    assert!(refused.text.contains("mark them instead"));
}
