//! The other end of the socket: what console and commands call.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use tokio::net::UnixStream;

use super::{Acknowledged, Flushed, ListLetters, ListLoads, Replay, Replayed};
use crate::damage::Report;
use crate::errors::{Group, Letter, Page};
use crate::event::LetterId;
use crate::ledger::{Load, LoadId};
use crate::status::Snapshot;

/// An answer above this is not read.
const ANSWER_BYTES_MAX: usize = 32 << 20;

/// Talks to a running service. Each call is a connection of its own: a call is rare, and a
/// service that was restarted in between is simply reached again.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
    timeout: Duration,
}

/// Why a call had no result.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("no eventkit answers at {}", socket.display())]
    Unreachable {
        /// Where it was looked for.
        socket: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The connection broke or the answer made no sense.
    #[error("the service's answer could not be read: {0}")]
    Broken(String),
    /// No answer in time.
    #[error("the service gave no answer within {0:?}")]
    TimedOut(Duration),
    /// The service said no.
    #[error("{message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// A stable code.
        code: String,
        /// One sentence.
        message: String,
    },
}

#[derive(serde::Deserialize)]
struct Refusal {
    code: String,
    message: String,
}

impl Client {
    /// A client for the service at that socket; connects with each call.
    #[must_use]
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned(), timeout: Duration::from_secs(10) }
    }

    /// The same client with another limit for each call.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The newest snapshot.
    ///
    /// # Errors
    /// [`ClientError`], as every call.
    pub async fn snapshot(&self) -> Result<Snapshot, ClientError> {
        self.get("/v1/snapshot").await
    }

    /// A page of dead letters.
    ///
    /// # Errors
    /// [`ClientError`], as every call.
    pub async fn letters(&self, list: &ListLetters) -> Result<Page, ClientError> {
        self.post("/v1/letters", list).await
    }

    /// Everything about one letter.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with status 404 where there is none of that number.
    pub async fn letter(&self, id: LetterId) -> Result<Letter, ClientError> {
        self.get(&format!("/v1/letters/{id}")).await
    }

    /// The letters' groups, largest first.
    ///
    /// # Errors
    /// [`ClientError`], as every call.
    pub async fn groups(&self) -> Result<Vec<Group>, ClientError> {
        self.get("/v1/groups").await
    }

    /// Puts letters back into the log.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with status 403 where the peer may only look, 404 where a letter
    /// that is named is not there.
    pub async fn replay(&self, replay: &Replay) -> Result<Replayed, ClientError> {
        self.post("/v1/replay", replay).await
    }

    /// Closes and stores all open batches.
    ///
    /// # Errors
    /// [`ClientError`], as every call.
    pub async fn flush(&self) -> Result<Flushed, ClientError> {
        self.post("/v1/flush", &()).await
    }

    /// Loads into the warehouse, those that changed last first.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with status 404 where there is no warehouse.
    pub async fn loads(&self, list: &ListLoads) -> Result<Vec<Load>, ClientError> {
        self.post("/v1/loads", list).await
    }

    /// Opens a load that has failed for good, or was dismissed.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with status 403 where the peer may only look, 404 where none of
    /// that id has failed.
    pub async fn retry_load(&self, id: LoadId) -> Result<Load, ClientError> {
        self.post(&format!("/v1/loads/{id}/retry"), &()).await
    }

    /// Ends a load that has failed for good: nothing of it is loaded.
    ///
    /// # Errors
    /// As [`Self::retry_load`].
    pub async fn dismiss_load(&self, id: LoadId) -> Result<Load, ClientError> {
        self.post(&format!("/v1/loads/{id}/dismiss"), &()).await
    }

    /// Every report of damage, oldest first.
    ///
    /// # Errors
    /// [`ClientError`], as every call.
    pub async fn damage(&self) -> Result<Vec<Report>, ClientError> {
        self.get("/v1/damage").await
    }

    /// Says that the operator has seen every report of damage.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with status 403 where the peer may only look.
    pub async fn acknowledge_damage(&self) -> Result<Acknowledged, ClientError> {
        self.post("/v1/damage/acknowledge", &()).await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.call(Method::GET, path, Bytes::new()).await
    }

    async fn post<B: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).map_err(|e| ClientError::Broken(e.to_string()))?;
        self.call(Method::POST, path, body.into()).await
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, ClientError> {
        tokio::time::timeout(self.timeout, self.exchange(method, path, body))
            .await
            .map_err(|_| ClientError::TimedOut(self.timeout))?
    }

    async fn exchange<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, ClientError> {
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|source| ClientError::Unreachable { socket: self.socket.clone(), source })?;
        let broken = |e: &dyn std::fmt::Display| ClientError::Broken(e.to_string());
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| broken(&e))?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost")
            .header("content-type", "application/json")
            .body(Full::new(body))
            .map_err(|e| broken(&e))?;
        let driver = tokio::spawn(connection);
        let answer = async {
            let answer = sender.send_request(request).await.map_err(|e| broken(&e))?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX)
                .collect()
                .await
                .map_err(|e| broken(&e))?
                .to_bytes();
            Ok((status, body))
        }
        .await;
        driver.abort();
        let (status, body) = answer?;
        if status == StatusCode::OK {
            return serde_json::from_slice(&body).map_err(|e| broken(&e));
        }
        let refusal: Refusal = serde_json::from_slice(&body)
            .map_err(|_| ClientError::Broken(format!("status {status}")))?;
        Err(ClientError::Refused {
            status: status.as_u16(),
            code: refusal.code,
            message: refusal.message,
        })
    }
}
