//! Opening: checked, set up, migrated.

use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ffi};
use rusqlite_migration::{M, Migrations};

use super::error::SqliteError;

/// Another connection is a mistake; a backup tool's short lock is not worth an error.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

const STATEMENTS_CACHED: usize = 64;

/// A database's application id is its format with this, so that a flipped bit in the format is
/// not taken for a newer eventkit.
const TAG: i64 = 0x454B_0000;

/// Opens, checks, sets up and migrates.
///
/// # Errors
/// Where the file itself is what SQLite can't work with, that is [`SqliteError::Corrupt`].
pub(crate) fn connect(path: &Path, migrations: &[M<'static>]) -> Result<Connection, SqliteError> {
    // Payloads are nobody else's business; SQLite gives its side files the same mode.
    let private = fs::OpenOptions::new().append(true).create(true).mode(0o600).open(path);
    private.map_err(|error| SqliteError::io(path, error))?;
    let connection = prepare(path, migrations)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_CACHED);
    Ok(connection)
}

/// Checks a file as [`connect`] does, and changes nothing. One that is not there is right.
///
/// # Errors
/// As [`connect`]; what an older eventkit wrote is checked as a database only.
pub(crate) fn look(
    path: &Path,
    migrations: &[M<'static>],
    rows: impl Fn(&Connection) -> rusqlite::Result<()>,
) -> Result<(), SqliteError> {
    if !path.exists() {
        return Ok(());
    }
    let sqlite = |error| SqliteError::at_open(path, error);
    let known = migrations.len() as i64;
    let (connection, found) = open(path, known)?;
    if found > known {
        return Err(SqliteError::NewerFormat { path: path.to_owned(), found, known });
    }
    check(&connection).map_err(sqlite)?;
    if found == known { rows(&connection).map_err(sqlite) } else { Ok(()) }
}

/// Opens a file, and reads its format.
fn open(path: &Path, known: i64) -> Result<(Connection, i64), SqliteError> {
    let sqlite = |error| SqliteError::at_open(path, error);
    let connection = Connection::open(path).map_err(sqlite)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(sqlite)?;
    // Closing must not change a file that is about to be refused or set aside.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(sqlite)?;
    // Nobody else opens the file. And with this the index of the -wal is in memory: there is no
    // -shm, which would be mapped, and whose pages a full disk may have no room for.
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE").map_err(sqlite)?;
    let number = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let found = number("user_version").map_err(sqlite)?;
    let tag = number("application_id").map_err(sqlite)?;
    // The first eventkits wrote none; a newer one that does not either is none.
    if tag != TAG + found && (tag != 0 || found > known) {
        return Err(sqlite(corrupt("its format contradicts its tag")));
    }
    Ok((connection, found))
}

fn prepare(path: &Path, migrations: &[M<'static>]) -> Result<Connection, SqliteError> {
    // One migration, one format.
    let known = migrations.len() as i64;
    let sqlite = |error| SqliteError::at_open(path, error);
    let (mut connection, found) = open(path, known)?;
    if found > known {
        return Err(SqliteError::NewerFormat { path: path.to_owned(), found, known });
    }
    mend(path, &connection).map_err(sqlite)?;
    for (pragma, value) in [
        ("journal_mode", "WAL"),
        ("synchronous", "FULL"),
        ("mmap_size", "0"),
        ("journal_size_limit", "67108864"),
        ("cache_size", "-4096"),
    ] {
        connection.pragma_update(None, pragma, value).map_err(sqlite)?;
    }
    migrate(&mut connection, migrations).map_err(sqlite)?;
    let mut model = Connection::open_in_memory().map_err(sqlite)?;
    migrate(&mut model, migrations).map_err(sqlite)?;
    if schema(&connection).map_err(sqlite)? != schema(&model).map_err(sqlite)? {
        return Err(sqlite(corrupt("its tables are not what was made")));
    }
    let tag = |row: &rusqlite::Row<'_>| row.get::<_, i64>(0);
    let tag = connection.pragma_query_value(None, "application_id", tag).map_err(sqlite)?;
    if tag != TAG + known {
        connection.pragma_update(None, "application_id", TAG + known).map_err(sqlite)?;
    }
    Ok(connection)
}

fn migrate(connection: &mut Connection, migrations: &[M<'static>]) -> rusqlite::Result<()> {
    use rusqlite_migration::Error;
    Migrations::from_slice(migrations).to_latest(connection).map_err(|error| match error {
        Error::RusqliteError { err, .. } => err,
        other => rusqlite::Error::ToSqlConversionFailure(Box::new(other)),
    })
}

/// Every table and index as SQL.
fn schema(connection: &Connection) -> rusqlite::Result<Vec<(String, Option<String>)>> {
    let mut select = connection.prepare("SELECT name, sql FROM sqlite_schema ORDER BY name")?;
    let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.collect()
}

/// Tables and indexes, and that they say the same: a second for a million rows and five indexes.
fn check(connection: &Connection) -> rusqlite::Result<()> {
    verdict(connection, "integrity_check")
}

/// As [`check`]; but an index that contradicts its table is made from it again.
fn mend(path: &Path, connection: &Connection) -> rusqlite::Result<()> {
    let Err(error) = check(connection) else { return Ok(()) };
    verdict(connection, "quick_check").map_err(|_| error)?;
    tracing::warn!(path = %path.display(), "an index contradicts its table; it is made anew");
    connection.execute_batch("REINDEX")?;
    check(connection)
}

fn verdict(connection: &Connection, check: &str) -> rusqlite::Result<()> {
    let sql = format!("PRAGMA {check}(1)");
    let verdict: String = connection.query_row(&sql, [], |row| row.get(0))?;
    if verdict == "ok" { Ok(()) } else { Err(corrupt(&verdict)) }
}

fn corrupt(why: &str) -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_CORRUPT), Some(why.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_kept_as_the_contract_says() {
        let dir = tempfile::tempdir().unwrap();
        let c = connect(&dir.path().join("t.db"), &[M::up("CREATE TABLE t (n INTEGER)")]).unwrap();
        let text = |sql: &str| c.query_row(sql, [], |row| row.get::<_, String>(0)).unwrap();
        let number = |name| c.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!(text("PRAGMA journal_mode"), "wal");
        assert_eq!(text("PRAGMA locking_mode"), "exclusive");
        assert!(!dir.path().join("t.db-shm").exists());
        assert_eq!((number("synchronous"), number("mmap_size")), (2, 0));
        let version = text("SELECT sqlite_version()");
        let parts: Vec<u32> = version.split('.').map(|part| part.parse().unwrap()).collect();
        // Older ones may lose what a reset of the -wal file overtakes.
        assert!(parts >= vec![3, 51, 3], "{version}");
    }

    #[test]
    fn a_flipped_format_is_damage_and_not_a_newer_eventkit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.db");
        let migrations = [M::up("CREATE TABLE t (n INTEGER)")];
        for has_tag in [true, false] {
            let connection = connect(&path, &migrations).unwrap();
            connection.pragma_update(None, "user_version", 9).unwrap();
            if !has_tag {
                connection.pragma_update(None, "application_id", 0).unwrap();
            }
            drop(connection);
            let error = connect(&path, &migrations).err().unwrap();
            assert!(error.is_corrupt(), "{error}");
            fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn a_look_names_damage_and_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.db");
        let migrations = [M::up("CREATE TABLE t (n INTEGER)")];
        let look = || look(&path, &migrations, |_| Ok(()));
        look().unwrap();
        assert!(!path.exists());
        let connection = connect(&path, &migrations).unwrap();
        connection.execute_batch("INSERT INTO t VALUES (1)").unwrap();
        drop(connection);
        let files = || {
            let files = fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().path());
            let mut files: Vec<_> = files.map(|p| (fs::read(&p).unwrap(), p)).collect();
            files.sort();
            files
        };
        let before = files();
        assert_eq!(before.len(), 2, "with a -wal that holds the row");
        look().unwrap();
        assert!(files() == before);
        fs::write(&path, [0x5a; 8192]).unwrap();
        fs::remove_file(dir.path().join("t.db-wal")).unwrap();
        let before = files();
        assert!(look().unwrap_err().is_corrupt());
        assert!(files() == before);
    }

    #[test]
    fn an_index_that_contradicts_its_table_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.db");
        let migrations = [M::up("CREATE TABLE t (name TEXT); CREATE INDEX i ON t (name)")];
        let c = connect(&path, &migrations).unwrap();
        c.execute_batch("INSERT INTO t VALUES ('first'), ('second'), ('third')").unwrap();
        c.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
        let root = "SELECT rootpage FROM sqlite_schema WHERE name = 'i'";
        let root = c.query_row(root, [], |row| row.get::<_, u32>(0)).unwrap() as usize;
        drop(c);
        let whole = fs::read(&path).unwrap();
        let page = (root - 1) * 4096..root * 4096;
        let at = page.start + whole[page].windows(6).position(|bytes| bytes == b"second").unwrap();
        // A letter of the name; and the length of its record, which makes it none.
        for (at, byte) in [(at, b'z'), (at - 3, 0xff)] {
            let mut bytes = whole.clone();
            bytes[at] = byte;
            fs::write(&path, bytes).unwrap();
            assert!(look(&path, &migrations, |_| Ok(())).unwrap_err().is_corrupt());
            let c = connect(&path, &migrations).unwrap();
            let found = "SELECT count(*) FROM t INDEXED BY i WHERE name = 'second'";
            assert_eq!(c.query_row(found, [], |row| row.get::<_, i64>(0)).unwrap(), 1);
            drop(c);
            fs::remove_file(dir.path().join("t.db-wal")).unwrap();
        }
    }

    #[test]
    fn a_changed_table_is_damage() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.db");
        let migrations = [M::up("CREATE TABLE t (n INTEGER)")];
        let c = connect(&path, &migrations).unwrap();
        c.execute_batch("ALTER TABLE t RENAME COLUMN n TO m").unwrap();
        drop(c);
        assert!(connect(&path, &migrations).err().unwrap().is_corrupt());
    }
}
