//! An edge on a temporary directory, and what it stored.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::BodyExt as _;

use crate::config::{Config, Sources, load};
use crate::errors::{ErrorStore, Letter, LetterFilter};
use crate::event::{Receipt, StreamName};
use crate::ingest::{Dependency, Edge, Readiness, answer};
use crate::quota::Quotas;
use crate::space::Space;
use crate::stats::EdgeStats;
use crate::streams::{Stream, Streams};

pub const EVENT_BYTES_MAX: usize = 1 << 20;
pub const BODY_BYTES_MAX: usize = 4 << 20;

pub struct Fixture {
    pub edge: Arc<Edge>,
    pub streams: Streams,
    pub stats: Arc<EdgeStats>,
    pub ready: Arc<AtomicBool>,
    pub errors: ErrorStore,
    pub space: Space,
    _dir: tempfile::TempDir,
}

/// What came back.
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: String,
}

impl Answer {
    /// The status, and the code of an error or the body of anything else.
    pub fn brief(&self) -> (u16, String) {
        let json = serde_json::from_str::<serde_json::Value>(&self.body).unwrap_or_default();
        let code = json["code"].as_str().map(str::to_owned);
        assert_eq!(code.is_some(), json["message"].is_string(), "{}", self.body);
        (self.status.as_u16(), code.unwrap_or_else(|| self.body.clone()))
    }
}

fn config(dir: &Path) -> Config {
    let option = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let options = vec![
        option("data_dir", dir.to_str().unwrap()),
        option("max_streams", "6"),
        option("ingest.event_bytes_max", &EVENT_BYTES_MAX.to_string()),
        option("ingest.body_bytes_max", &BODY_BYTES_MAX.to_string()),
        option("ingest.depth_max", "64"),
    ];
    let (config, _) = load(Sources { options, ..Sources::default() }).unwrap();
    config
}

impl Fixture {
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    /// With a configuration that differs.
    pub fn with(change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(dir.path());
        change(&mut config);
        let config = Arc::new(config);
        let quotas = Quotas::unbounded(config.wal.clone());
        let opened = Streams::open(Arc::clone(&config), quotas, Arc::default(), |_| Ok(0), |_| {});
        let streams = opened.unwrap();
        let path = dir.path().join("errors.db");
        let errors = ErrorStore::open(&path, config.errors.clone()).unwrap();
        let stats = Arc::new(EdgeStats::default());
        let ready = Arc::new(AtomicBool::new(true));
        let is_ready = Arc::clone(&ready);
        let readiness = move || {
            let (name, detail) = ("log".to_owned(), "a detail".to_owned());
            Readiness {
                dependencies: vec![Dependency {
                    name,
                    ok: is_ready.load(Relaxed),
                    is_needed: true,
                    detail,
                }],
            }
        };
        let limits = config.ingest.clone();
        let space = Space::new(config.disk.clone());
        let edge = Edge::new(
            streams.clone(),
            errors.clone(),
            space.clone(),
            limits,
            Arc::clone(&stats),
            readiness,
        );
        let edge = Arc::new(edge);
        Self { edge, streams, stats, ready, errors, space, _dir: dir }
    }

    pub async fn send(&self, request: Request<Body>) -> Answer {
        let answer = answer(&self.edge, None, request).await;
        let (head, body) = answer.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let body = String::from_utf8(body.to_vec()).unwrap();
        Answer { status: head.status, headers: head.headers, body }
    }

    pub async fn post(&self, path: &str, body: impl Into<Bytes>) -> Answer {
        self.post_with(path, &[], body).await
    }

    pub async fn post_with(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let mut request = Request::post(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(Body::from(body.into())).unwrap()).await
    }

    pub fn stream(&self, name: &str) -> Arc<Stream> {
        self.streams.get(&StreamName::new(name).unwrap()).expect(name)
    }

    /// Everything in a stream's log.
    pub fn stored(&self, stream: &str) -> Vec<(Receipt<'static>, String)> {
        let mut reader = self.stream(stream).wal.reader(0);
        let mut stored = Vec::new();
        while let Some(chunk) = reader.read().unwrap() {
            for (_, record) in chunk.unwrap().records() {
                let (receipt, payload) = record.unwrap();
                let receipt = serde_json::to_value(&receipt).unwrap();
                let receipt = serde_json::from_value(receipt).unwrap();
                stored.push((receipt, String::from_utf8(payload.to_vec()).unwrap()));
            }
        }
        stored
    }

    /// The payloads in a stream's log.
    pub fn payloads(&self, stream: &str) -> Vec<String> {
        self.stored(stream).into_iter().map(|(_, payload)| payload).collect()
    }

    /// How many events all logs hold.
    pub fn stored_count(&self) -> usize {
        self.streams.all().iter().map(|stream| self.payloads(stream.name.as_str()).len()).sum()
    }

    /// What the error store keeps, oldest first.
    pub async fn kept(&self) -> Vec<Kept> {
        let page = self.errors.list(LetterFilter::default(), None, 200).await.unwrap();
        let mut kept = Vec::new();
        for summary in page.letters.iter().rev() {
            let letter = self.errors.get(summary.id).await.unwrap().unwrap();
            let binary = letter.payload_base64.as_ref().map(|text| STANDARD.decode(text).unwrap());
            let payload = binary.or(letter.payload.clone().map(String::into_bytes)).unwrap();
            kept.push(Kept { letter, payload });
        }
        kept
    }
}

/// A dead letter or malformed body.
pub struct Kept {
    pub letter: Letter,
    pub payload: Vec<u8>,
}

impl Kept {
    pub fn reason(&self) -> &str {
        &self.letter.rejections[0].reason
    }

    pub fn message(&self) -> &str {
        &self.letter.rejections[0].message
    }
}
