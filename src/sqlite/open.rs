//! Opening: checked, set up, migrated; what is damaged is set aside whole.

use std::fs::{self, File};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ffi};
use rusqlite_migration::{M, Migrations};

use super::error::SqliteError;

/// Another connection is a mistake; a backup tool's short lock is not worth an error.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

const STATEMENTS_CACHED: usize = 64;

/// Opens, checks, sets up and migrates.
pub(crate) fn connect(path: &Path, migrations: &[M<'static>]) -> Result<Connection, SqliteError> {
    // One migration, one format.
    let known = migrations.len() as i64;
    let sqlite = |error| SqliteError::sqlite(path, error);
    // Payloads are nobody else's business; SQLite gives its side files the same mode.
    let private = fs::OpenOptions::new().append(true).create(true).mode(0o600).open(path);
    private.map_err(|error| SqliteError::io(path, error))?;
    let mut connection = Connection::open(path).map_err(sqlite)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(sqlite)?;
    // Closing must not change a file that is about to be refused or set aside.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(sqlite)?;
    let found: i64 =
        connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(sqlite)?;
    if found > known {
        return Err(SqliteError::NewerFormat { path: path.to_owned(), found, known });
    }
    check(&connection).map_err(sqlite)?;
    for (pragma, value) in [
        ("journal_mode", "WAL"),
        ("synchronous", "FULL"),
        ("mmap_size", "0"),
        ("journal_size_limit", "67108864"),
        ("cache_size", "-16384"),
    ] {
        connection.pragma_update(None, pragma, value).map_err(sqlite)?;
    }
    connection.set_prepared_statement_cache_capacity(STATEMENTS_CACHED);
    Migrations::from_slice(migrations).to_latest(&mut connection).map_err(|error| match error {
        rusqlite_migration::Error::RusqliteError { err, .. } => sqlite(err),
        other => SqliteError::Refused { path: path.to_owned(), source: Arc::new(other) },
    })?;
    Ok(connection)
}

fn check(connection: &Connection) -> rusqlite::Result<()> {
    let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if verdict == "ok" {
        return Ok(());
    }
    Err(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_CORRUPT), Some(verdict)))
}

/// Moves the database, its -wal and its -shm into `quarantine` beside it; returns its new path.
pub(crate) fn quarantine(path: &Path) -> std::io::Result<PathBuf> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let directory = parent.join("quarantine");
    fs::create_dir_all(&directory)?;
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let stamp = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%S%.6fZ");
    let mut target = directory.join(format!("{stem}-{stamp}.db"));
    let mut attempt = 1;
    while target.exists() {
        target = directory.join(format!("{stem}-{stamp}-{attempt}.db"));
        attempt += 1;
    }
    // The database goes last: while it stands, the next start finds the damage again.
    for suffix in ["-wal", "-shm", ""] {
        match fs::rename(with_suffix(path, suffix), with_suffix(&target, suffix)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            other => other?,
        }
    }
    File::open(&directory)?.sync_all()?;
    File::open(parent)?.sync_all()?;
    Ok(target)
}

/// The path with something behind it, as SQLite names its side files.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
