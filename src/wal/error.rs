//! Why records are not in a log, or a log is not open.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why records are not in the log.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AppendError {
    /// The log has as many bytes as it may have; its consumer is behind.
    #[error("the log is full: {bytes} bytes of at most {bytes_max} wait to be stored")]
    Full {
        /// Bytes it has.
        bytes: u64,
        /// Bytes it may have.
        bytes_max: u64,
    },
    /// They are more than the log may have, however empty it is.
    #[error("{bytes} bytes at once are more than the log's {bytes_max}")]
    TooLarge {
        /// Bytes they have.
        bytes: u64,
        /// Bytes the log may have.
        bytes_max: u64,
    },
    /// More waits for the writer than may wait.
    #[error("the log's queue is full")]
    QueueFull,
    /// It could not be written.
    #[error("the log can't be written: {0}")]
    Failed(Arc<io::Error>),
    /// The service is stopping.
    #[error("the log is closed")]
    Closed,
}

/// Why a log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// A file or directory.
    #[error("log {}: {what}: {source}", path.display())]
    Io {
        /// The log's directory or file.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It was written by a newer eventkit; nothing of it was changed.
    #[error("log {}: format version {version} is newer than this eventkit understands", path.display())]
    NewerFormat {
        /// The segment.
        path: PathBuf,
        /// Its format's version.
        version: u16,
    },
}

impl WalError {
    pub(crate) fn io(path: &Path, what: &'static str, source: io::Error) -> Self {
        Self::Io { path: path.to_owned(), what, source }
    }
}
