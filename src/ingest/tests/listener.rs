//! The listener, over real sockets.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::fixture::Fixture;
use crate::ingest::serve;

const DEADLINE: Duration = Duration::from_secs(20);
const TRACK: &str = "POST /v1/track HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n{}";

struct Serving {
    edge: Fixture,
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    server: JoinHandle<std::io::Result<()>>,
}

async fn serving(connections_max: usize) -> Serving {
    let edge = Fixture::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let shutdown = async { drop(stopped.await) };
    let server = tokio::spawn(serve(listener, Arc::clone(&edge.edge), connections_max, shutdown));
    Serving { edge, address, stop, server }
}

async fn within<T>(what: impl Future<Output = T>) -> T {
    timeout(DEADLINE, what).await.expect("the deadline")
}

async fn say(connection: &mut TcpStream, text: &str) {
    connection.write_all(text.as_bytes()).await.unwrap();
}

/// Reads until the answer has that text.
async fn hear(connection: &mut TcpStream, end: &str) -> String {
    let mut heard = Vec::new();
    within(async {
        while !String::from_utf8_lossy(&heard).contains(end) {
            assert_ne!(connection.read_buf(&mut heard).await.unwrap(), 0, "closed: {heard:?}");
        }
    })
    .await;
    String::from_utf8(heard).unwrap()
}

async fn hear_all(connection: &mut TcpStream) -> String {
    let mut heard = Vec::new();
    // A reset after the answer is an end like another.
    let _ = within(connection.read_to_end(&mut heard)).await;
    String::from_utf8_lossy(&heard).into_owned()
}

#[tokio::test]
async fn a_connection_carries_requests_and_its_address_is_known() {
    let serving = serving(8).await;
    let mut connection = TcpStream::connect(serving.address).await.unwrap();
    for _ in 0..3 {
        say(&mut connection, TRACK).await;
        let answer = hear(&mut connection, "true}").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    }
    assert_eq!(serving.edge.stats.connections.get(), 1);
    let stored = serving.edge.stored("events");
    assert_eq!(stored.len(), 3);
    assert_eq!(stored[0].0.source, Some("127.0.0.1".parse().unwrap()));
}

#[tokio::test]
async fn a_request_in_flight_is_answered_after_the_stop_and_no_other() {
    let serving = serving(8).await;
    let mut connection = TcpStream::connect(serving.address).await.unwrap();
    let mut idle = TcpStream::connect(serving.address).await.unwrap();
    say(&mut idle, TRACK).await;
    hear(&mut idle, "true}").await;
    let head = TRACK.strip_suffix("\r\n{}").unwrap();
    say(&mut connection, &format!("{head}expect: 100-continue\r\n\r\n")).await;
    hear(&mut connection, "100 Continue").await;
    serving.stop.send(()).unwrap();
    assert_eq!(hear_all(&mut idle).await, "");
    say(&mut connection, "{}").await;
    let answer = hear_all(&mut connection).await;
    assert!(answer.contains("HTTP/1.1 200 OK\r\n"), "{answer}");
    within(serving.server).await.unwrap().unwrap();
    assert!(TcpStream::connect(serving.address).await.is_err());
    assert_eq!(serving.edge.stats.connections.get(), 0);
    assert_eq!(serving.edge.stored("events").len(), 2);
}

#[tokio::test]
async fn a_silent_connection_does_not_delay_the_stop() {
    let serving = serving(8).await;
    let mut silent = TcpStream::connect(serving.address).await.unwrap();
    within(async {
        while serving.edge.stats.connections.get() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    serving.stop.send(()).unwrap();
    within(serving.server).await.unwrap().unwrap();
    assert_eq!(hear_all(&mut silent).await, "");
}

#[tokio::test]
async fn a_full_disk_waits_for_no_body_and_says_that_the_connection_ends() {
    let serving = serving(8).await;
    serving.edge.space.observe(0, 1 << 30);
    let mut connection = TcpStream::connect(serving.address).await.unwrap();
    say(&mut connection, &TRACK.replace("content-length: 2", "content-length: 200000")).await;
    let answer = hear_all(&mut connection).await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
    assert!(answer.contains("\r\nretry-after: 30\r\n"), "{answer}");
    assert_eq!(serving.edge.stored_count(), 0);
}

#[tokio::test]
async fn an_answer_before_the_body_says_that_the_connection_ends() {
    let serving = serving(8).await;
    let length = "content-length: 2\r\n\r\n{}";
    for (request, status) in [
        (TRACK.replace("/v1/track", "/nowhere"), 404),
        (TRACK.replace("POST", "PUT"), 405),
        (TRACK.replace("host: a", "content-encoding: lzma"), 415),
        (TRACK.replace("/v1/track", "/collect/Not_A_Stream"), 400),
        (TRACK.replace("/v1/track", "/v1/m"), 200),
    ] {
        let mut connection = TcpStream::connect(serving.address).await.unwrap();
        let large = request.replace(length, "content-length: 2000000\r\n\r\n{");
        assert_ne!(large, request);
        say(&mut connection, &large).await;
        let answer = hear_all(&mut connection).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
    }
    // Once a body was read, its connection goes on, whatever is said of it.
    let mut connection = TcpStream::connect(serving.address).await.unwrap();
    let chunked = "transfer-encoding: chunked\r\n\r\n1\r\n{\r\n0\r\n\r\n";
    for body in [length.replace("{}", "{]"), chunked.to_owned(), length.to_owned()] {
        say(&mut connection, &TRACK.replace(length, &body)).await;
        let answer = hear(&mut connection, "}").await;
        assert!(!answer.contains("connection: close"), "{answer}");
    }
}

#[tokio::test]
async fn a_connection_above_the_limit_waits_for_a_slot() {
    let serving = serving(1).await;
    let mut first = TcpStream::connect(serving.address).await.unwrap();
    say(&mut first, TRACK).await;
    hear(&mut first, "true}").await;
    let mut second = TcpStream::connect(serving.address).await.unwrap();
    say(&mut second, TRACK).await;
    say(&mut first, TRACK).await;
    hear(&mut first, "true}").await;
    assert_eq!(serving.edge.stored("events").len(), 2);
    drop(first);
    hear(&mut second, "true}").await;
    assert_eq!(serving.edge.stored("events").len(), 3);
}

#[tokio::test]
async fn what_is_not_http_is_refused_and_nothing_is_stored() {
    let serving = serving(8).await;
    let post = |rest: &str| format!("POST /collect HTTP/1.1\r\nhost: a\r\n{rest}");
    for hostile in [
        "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{7c}\r\n\r\n".to_owned(),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
        "GET /\r\n\r\n".to_owned(),
        post("content-length: -1\r\n\r\n{}"),
        post("content-length: 2\r\ncontent-length: 3\r\n\r\n{}"),
        post("x: a\0b\r\ncontent-length: 2\r\n\r\n{}"),
        post("transfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n{}"),
        post("content-length: 9999999\r\n\r\n{}"),
        post(&format!("x: {}\r\n\r\n", "a".repeat(70_000))),
        post(&format!("{}\r\n", "x: y\r\n".repeat(1000))),
    ] {
        let mut connection = TcpStream::connect(serving.address).await.unwrap();
        // The server may answer and close before it has read everything.
        let _ = connection.write_all(hostile.as_bytes()).await;
        let answer = hear_all(&mut connection).await;
        let refused = answer.is_empty() || answer.starts_with("HTTP/1.1 4");
        assert!(refused, "{hostile:.80?}: {answer}");
    }
    assert_eq!(serving.edge.stored_count(), 0);
    let mut connection = TcpStream::connect(serving.address).await.unwrap();
    say(&mut connection, TRACK).await;
    hear(&mut connection, "true}").await;
}

#[tokio::test]
async fn a_body_that_ends_early_is_not_stored() {
    let serving = serving(8).await;
    let mut connection = TcpStream::connect(serving.address).await.unwrap();
    let short = TRACK.replace("content-length: 2", "content-length: 3");
    say(&mut connection, &short).await;
    connection.shutdown().await.unwrap();
    let answer = hear_all(&mut connection).await;
    assert!(answer.is_empty() || answer.contains("broken_body"), "{answer}");
    assert_eq!(serving.edge.stored_count(), 0);
}
