//! Why a database did not do what it was asked for.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::ErrorCode;

/// The environment's fault, told to every caller whose request was in the failed transaction.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SqliteError {
    /// The disk has no room, or a quota is reached.
    #[error("{}: no space left", path.display())]
    Full {
        /// The database.
        path: PathBuf,
        /// What SQLite said.
        source: Arc<dyn Error + Send + Sync>,
    },
    /// Reading or writing failed.
    #[error("{}: {source}", path.display())]
    Io {
        /// The database.
        path: PathBuf,
        /// What SQLite or the system said.
        source: Arc<dyn Error + Send + Sync>,
    },
    /// The file is damaged. The next start moves it into quarantine.
    #[error("{}: the database is damaged: {source}", path.display())]
    Corrupt {
        /// The database.
        path: PathBuf,
        /// What SQLite said.
        source: Arc<dyn Error + Send + Sync>,
    },
    /// The file was written by a newer eventkit and was left untouched.
    #[error("{}: format {found} is newer than {known}, the newest known", path.display())]
    NewerFormat {
        /// The database.
        path: PathBuf,
        /// Its format.
        found: i64,
        /// The newest format this version reads.
        known: i64,
    },
    /// A statement was refused: a defect of eventkit, not of the disk.
    #[error("{}: refused: {source}", path.display())]
    Refused {
        /// The database.
        path: PathBuf,
        /// What SQLite said.
        source: Arc<dyn Error + Send + Sync>,
    },
    /// The database was closed before the request was served.
    #[error("the database is closed")]
    Closed,
}

impl SqliteError {
    /// Whether the same request can succeed later without anybody mending the store: when there
    /// is room again, when the disk answers again. Nothing of the request was kept.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Full { .. } | Self::Io { .. })
    }

    /// Whether only another version of eventkit can open the file.
    #[must_use]
    pub fn is_newer_format(&self) -> bool {
        matches!(self, Self::NewerFormat { .. })
    }

    /// Whether the file has to be replaced.
    #[must_use]
    pub fn is_corrupt(&self) -> bool {
        matches!(self, Self::Corrupt { .. })
    }

    pub(crate) fn io(path: &Path, source: std::io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                Self::Full { path, source: Arc::new(source) }
            }
            _ => Self::Io { path, source: Arc::new(source) },
        }
    }

    /// While a file is opened nothing but the file itself can be at fault for a statement that
    /// is refused, or for a file that can't be written although its mode allows it.
    pub(crate) fn at_open(path: &Path, source: rusqlite::Error) -> Self {
        let read_only = source.sqlite_error_code() == Some(ErrorCode::ReadOnly);
        match Self::sqlite(path, source) {
            Self::Refused { path, source } => Self::Corrupt { path, source },
            Self::Io { path, source } if read_only => Self::Corrupt { path, source },
            other => other,
        }
    }

    pub(crate) fn sqlite(path: &Path, source: rusqlite::Error) -> Self {
        let path = path.to_owned();
        let code = source.sqlite_error_code();
        let source: Arc<dyn Error + Send + Sync> = Arc::new(source);
        match code {
            Some(ErrorCode::DiskFull) => Self::Full { path, source },
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Self::Corrupt { path, source }
            }
            Some(
                ErrorCode::SystemIoFailure
                | ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::CannotOpen
                | ErrorCode::PermissionDenied
                | ErrorCode::ReadOnly
                | ErrorCode::OutOfMemory
                | ErrorCode::FileLockingProtocolFailed,
            ) => Self::Io { path, source },
            _ => Self::Refused { path, source },
        }
    }
}
