//! A whole service within a test: real sockets, real files, the store of the test's choice.
#![allow(dead_code)] // Each test uses what it needs.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use bytes::Bytes;
use eventkit::admin::{Client, ListLetters};
use eventkit::config::Config;
use eventkit::errors::LetterSummary;
use eventkit::event::{Seq, StreamName};
use eventkit::pipeline::Service;
use eventkit::store::{Batch, EventStore, Lake, Listing, Plan, StoreError, Stored};
use eventkit::time::Clock;
use http_body_util::{BodyExt as _, Full};
use hyper::http::request;
use hyper_util::rt::TokioIo;

/// A service on a directory of its own, until `work` is done.
pub async fn with_service<S: EventStore, F: Future>(
    dir: &Path,
    store: Arc<S>,
    work: impl FnOnce(SocketAddr, Client) -> F,
) {
    with_configured(dir, |_| {}, store, work).await;
}

/// The same with another configuration.
pub async fn with_configured<S: EventStore, F: Future>(
    dir: &Path,
    change: impl FnOnce(&mut Config),
    store: Arc<S>,
    work: impl FnOnce(SocketAddr, Client) -> F,
) {
    with_clock(dir, change, Clock::default(), store, work).await;
}

/// The same with another clock.
pub async fn with_clock<S: EventStore, F: Future>(
    dir: &Path,
    change: impl FnOnce(&mut Config),
    clock: Clock,
    store: Arc<S>,
    work: impl FnOnce(SocketAddr, Client) -> F,
) {
    let mut config = Config::with_data_dir(dir);
    // Temporary directories are in memory on many machines.
    config.disk.allow_any_filesystem = true;
    config.disk.reserve_bytes = 1 << 20;
    change(&mut config);
    config.listen = "127.0.0.1:0".parse().unwrap();
    config.metrics_listen = "127.0.0.1:0".parse().unwrap();
    let client = Client::new(&config.admin_socket);
    let service = Service::start_with(config, store, clock).await.unwrap();
    let listen = service.listen();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(service.run(async move { drop(stopped.await) }));
    work(listen, client).await;
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
}

/// Sends a batch of these message ids, all of one user, and expects it to be acknowledged.
pub async fn send(listen: SocketAddr, ids: impl IntoIterator<Item = String>) {
    let event = |id: String| serde_json::json!({"type": "track", "event": "e", "userId": "u", "messageId": id});
    send_events(listen, ids.into_iter().map(event).collect()).await;
}

/// Sends a batch and expects it to be acknowledged.
pub async fn send_events(listen: SocketAddr, batch: Vec<serde_json::Value>) {
    let body = serde_json::json!({ "batch": batch }).to_string();
    assert_eq!(ask(listen, hyper::Request::post("/v1/batch"), body).await.0, 200);
}

/// What `/ready` says of a dependency.
pub async fn readiness(listen: SocketAddr, dependency: &str) -> String {
    let (_, answer) = ask(listen, hyper::Request::get("/ready"), String::new()).await;
    let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
    let all = answer["dependencies"].as_array().unwrap();
    let found = all.iter().find(|d| d["name"] == dependency).unwrap();
    found["detail"].as_str().unwrap().to_owned()
}

async fn ask(listen: SocketAddr, request: request::Builder, body: String) -> (u16, Bytes) {
    let stream = tokio::net::TcpStream::connect(listen).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    let driver = tokio::spawn(connection);
    let request = request.header("host", "localhost").body(Full::new(Bytes::from(body)));
    let answer = sender.send_request(request.unwrap()).await.unwrap();
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    driver.abort();
    (status, body)
}

/// Every dead letter, newest first.
pub async fn letters(client: &Client) -> Vec<LetterSummary> {
    client.letters(&ListLetters::default()).await.unwrap().letters
}

/// Waits until that is so, for a minute at most.
pub async fn until(mut holds: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "it never came to be so");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

/// A lake that can be shut off.
pub struct Gate {
    lake: Lake,
    closed: AtomicBool,
}

impl Gate {
    /// An open one.
    pub fn new(lake: Lake) -> Arc<Self> {
        Arc::new(Self { lake, closed: AtomicBool::new(false) })
    }

    /// From now on nothing can be put.
    pub fn close(&self) {
        self.closed.store(true, SeqCst);
    }
}

impl EventStore for Gate {
    fn name(&self) -> &str {
        "lake"
    }
    fn object(&self, batch: &Batch) -> String {
        EventStore::object(&self.lake, batch)
    }
    async fn put(&self, batch: &Arc<Batch>) -> Result<Stored, StoreError> {
        if self.closed.load(SeqCst) {
            return Err(StoreError::Unavailable { message: "shut off".to_owned(), after: None });
        }
        EventStore::put(&self.lake, batch).await
    }
    async fn find(&self, plan: &Plan) -> Result<Option<Stored>, StoreError> {
        EventStore::find(&self.lake, plan).await
    }
    async fn check(&self) -> Result<(), StoreError> {
        EventStore::check(&self.lake).await
    }
    async fn list(
        &self,
        stream: &StreamName,
        log_uuid: u128,
        hour: i64,
        from: Seq,
    ) -> Result<Option<Listing>, StoreError> {
        EventStore::list(&self.lake, stream, log_uuid, hour, from).await
    }
    async fn hours(&self, stream: &StreamName) -> Result<Vec<i64>, StoreError> {
        EventStore::hours(&self.lake, stream).await
    }
    async fn message_ids(&self, object: &str) -> Result<Option<Vec<String>>, StoreError> {
        EventStore::message_ids(&self.lake, object).await
    }
}
