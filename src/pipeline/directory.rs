//! The data directory: one process has it, its format is known, its file system keeps what was
//! synced.
//!
//! In: a path. Out: a [`DataDir`], held for the process's whole life. The steps, in order, so
//! that a refused start has changed nothing: lock the directory itself, look at its file system,
//! read `IDENTITY`, and write it where there is none.
//!
//! `IDENTITY` is four lines of text: what it is, `format N`, `uuid …`, and `crc …`, the CRC32C of
//! what stands above. It is written beside, synced and renamed. A newer format is left untouched.
//! A damaged one says nothing that logs and databases don't say of themselves (each has a format
//! of its own): where those are there it is moved aside and written anew.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use uuid::Uuid;

/// The format of a data directory that this version writes, and the newest that it reads.
const FORMAT: u32 = 1;
const TITLE: &str = "eventkit data directory";
/// An `IDENTITY` has about 100 bytes; nothing else is read.
const IDENTITY_BYTES_MAX: u64 = 4096;

/// A process that was killed holds its lock until the system has cleared its memory away.
const LOCK_PATIENCE: Duration = Duration::from_millis(500);

/// Why a data directory can't be used.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// Another process uses it.
    #[error("data directory {} is in use by another eventkit", .0.display())]
    InUse(PathBuf),
    /// A newer eventkit wrote it; it was left untouched.
    #[error("{}: format {found} is newer than {FORMAT}, the newest known", path.display())]
    NewerFormat {
        /// Its `IDENTITY`.
        path: PathBuf,
        /// The format found.
        found: u32,
    },
    /// `IDENTITY` is not what eventkit writes, and the directory has nothing else of eventkit's.
    #[error(
        "{} is damaged, and nothing beside it is eventkit's: remove it if the directory is meant",
        .0.display()
    )]
    Damaged(PathBuf),
    /// Its file system does not keep what was synced.
    #[error(
        "data directory {} is on {kind}, which may lose what was synced: use a directory (in a \
         container, a volume) on ext4 or xfs, or set disk.allow_any_filesystem = true if losing \
         events is acceptable",
        path.display()
    )]
    FileSystem {
        /// The directory.
        path: PathBuf,
        /// The file system's name.
        kind: &'static str,
    },
    /// The system said no.
    #[error("{}: {source}", path.display())]
    Io {
        /// What was touched.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl DirectoryError {
    /// The process's exit code: 75 in use, 78 format or file system, 74 anything else.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::InUse(_) => 75,
            Self::NewerFormat { .. } | Self::Damaged(_) | Self::FileSystem { .. } => 78,
            Self::Io { .. } => 74,
        }
    }
}

/// A data directory that this process has.
#[derive(Debug)]
pub struct DataDir {
    /// What an operator should know: one sentence each.
    pub warnings: Vec<String>,
    /// Locked while it is open.
    _lock: File,
}

/// Takes the directory, which is created if missing.
///
/// # Errors
/// [`DirectoryError`]; nothing below the directory was changed then.
pub fn open(path: &Path, allow_any_filesystem: bool) -> Result<DataDir, DirectoryError> {
    let fail = |source| DirectoryError::Io { path: path.to_owned(), source };
    std::fs::create_dir_all(path).map_err(fail)?;
    let mut directory = look(path, allow_any_filesystem)?;
    directory.warnings.extend(identify(path, &directory._lock)?);
    Ok(directory)
}

/// Takes a directory that is there, and changes nothing.
///
/// # Errors
/// [`DirectoryError`], but for `IDENTITY`, which is not looked at.
pub fn look(path: &Path, allow_any_filesystem: bool) -> Result<DataDir, DirectoryError> {
    let fail = |source| DirectoryError::Io { path: path.to_owned(), source };
    let lock = lock(path)?;
    let mut warnings = Vec::new();
    let kind = rustix::fs::fstatfs(&lock).map_err(|e| fail(e.into()))?.f_type as u32;
    match trust(kind) {
        Trust::Full => {}
        Trust::Some(kind) => warnings.push(format!(
            "{} is on {kind}: when the disk is full, writing to space that was set aside may fail",
            path.display()
        )),
        Trust::None(kind) if allow_any_filesystem => {
            warnings.push(format!("{} is on {kind}: it may lose events", path.display()));
        }
        Trust::None(kind) => {
            return Err(DirectoryError::FileSystem { path: path.to_owned(), kind });
        }
    }
    Ok(DataDir { warnings, _lock: lock })
}

/// Locks the directory itself: a lock file could be removed, and a record lock would end with any
/// close.
fn lock(path: &Path) -> Result<File, DirectoryError> {
    let fail = |source| DirectoryError::Io { path: path.to_owned(), source };
    let dir = File::open(path).map_err(fail)?;
    let patience = Instant::now() + LOCK_PATIENCE;
    loop {
        match rustix::fs::flock(&dir, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(dir),
            Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < patience => {
                std::thread::sleep(LOCK_PATIENCE / 10);
            }
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(DirectoryError::InUse(path.to_owned()));
            }
            Err(error) => return Err(fail(error.into())),
        }
    }
}

/// How far a file system keeps its promises.
#[derive(Debug, PartialEq, Eq)]
enum Trust {
    Full,
    /// It syncs, but space that was set aside is no promise.
    Some(&'static str),
    /// A sync may not reach a disk of this machine, or there is none below.
    None(&'static str),
}

/// By the magic number of statfs(2). A file system that is not known is not refused: the list of
/// those that lose is shorter than that of those that don't.
fn trust(magic: u32) -> Trust {
    match magic {
        0xEF53 | 0x5846_5342 => Trust::Full,
        0x9123_683E => Trust::Some("btrfs"),
        0x2FC1_2FC1 => Trust::Some("zfs"),
        0x6969 => Trust::None("nfs"),
        0x0102_1997 => Trust::None("9p"),
        0x6573_5546 => Trust::None("fuse"),
        0x794C_7630 => Trust::None("overlay"),
        0x0102_1994 => Trust::None("tmpfs"),
        0x8584_58F6 => Trust::None("ramfs"),
        0xFF53_4D42 | 0xFE53_4D42 | 0x517B => Trust::None("smb"),
        _ => Trust::Some("a file system that eventkit was not tested on"),
    }
}

/// What an operator should know of `IDENTITY`.
///
/// # Errors
/// [`DirectoryError`], where a service would not start with it.
pub fn identity(dir: &Path) -> Result<Option<String>, DirectoryError> {
    let path = dir.join("IDENTITY");
    match read(&path).map_err(|source| DirectoryError::Io { path: path.clone(), source })? {
        Identity::Known | Identity::Absent => Ok(None),
        Identity::Newer(found) => Err(DirectoryError::NewerFormat { path, found }),
        Identity::Damaged if !is_ours(dir) => Err(DirectoryError::Damaged(path)),
        Identity::Damaged => Ok(Some(format!("{} is damaged", path.display()))),
    }
}

/// Whether eventkit's files are in that directory.
fn is_ours(dir: &Path) -> bool {
    ["ledger.db", "errors.db", "wal"].iter().any(|name| dir.join(name).exists())
}

/// Reads `IDENTITY`, or writes it; returns what an operator should know of it.
fn identify(dir: &Path, handle: &File) -> Result<Option<String>, DirectoryError> {
    let path = dir.join("IDENTITY");
    let fail = |source| DirectoryError::Io { path: path.clone(), source };
    let mut warning = None;
    match read(&path).map_err(fail)? {
        Identity::Known => return Ok(None),
        Identity::Newer(found) => return Err(DirectoryError::NewerFormat { path, found }),
        Identity::Absent => {}
        Identity::Damaged => {
            if !is_ours(dir) {
                return Err(DirectoryError::Damaged(path));
            }
            let aside = dir.join("IDENTITY.damaged");
            std::fs::rename(&path, &aside).map_err(fail)?;
            warning = Some(format!(
                "{} was damaged and is written anew; the old one is {}",
                path.display(),
                aside.display()
            ));
        }
    }
    match write(dir, &path, handle) {
        // A disk that is full must not keep stored data from going out: the next start writes it.
        Err(error) if error.kind() == io::ErrorKind::StorageFull => {
            Ok(Some(format!("{} can't be written: {error}", path.display())))
        }
        written => written.map(|()| warning).map_err(fail),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Identity {
    Absent,
    Known,
    Newer(u32),
    Damaged,
}

fn read(path: &Path) -> io::Result<Identity> {
    use std::io::Read as _;
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Identity::Absent),
        other => other?,
    };
    let mut bytes = Vec::new();
    file.take(IDENTITY_BYTES_MAX).read_to_end(&mut bytes)?;
    let format = String::from_utf8(bytes).ok().and_then(|text| format_of(&text));
    Ok(match format {
        None => Identity::Damaged,
        Some(found) if found > FORMAT => Identity::Newer(found),
        Some(_) => Identity::Known,
    })
}

/// The format that a whole `IDENTITY` names; later ones begin with the same lines.
fn format_of(text: &str) -> Option<u32> {
    let (above, crc) = text.rsplit_once("crc ")?;
    let crc = u32::from_str_radix(crc.trim_end(), 16).ok()?;
    if crc32c::crc32c(above.as_bytes()) != crc {
        return None;
    }
    let mut lines = above.lines();
    let titled = lines.next()? == TITLE;
    let format = lines.next()?.strip_prefix("format ")?.parse().ok()?;
    titled.then_some(format)
}

fn text(uuid: Uuid) -> String {
    let above = format!("{TITLE}\nformat {FORMAT}\nuuid {uuid}\n");
    let crc = crc32c::crc32c(above.as_bytes());
    format!("{above}crc {crc:08x}\n")
}

/// Whole or not at all, whatever happens meanwhile.
fn write(dir: &Path, path: &Path, handle: &File) -> io::Result<()> {
    let beside = dir.join("IDENTITY.new");
    let mut file = File::create(&beside)?;
    file.write_all(text(Uuid::now_v7()).as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    handle.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(dir: &Path) -> String {
        std::fs::read_to_string(dir.join("IDENTITY")).unwrap()
    }

    #[test]
    fn a_directory_gets_one_identity_for_good() {
        let dir = tempfile::tempdir().unwrap();
        drop(open(dir.path(), true).unwrap());
        let first = identity(dir.path());
        assert_eq!(format_of(&first), Some(FORMAT));
        drop(open(dir.path(), true).unwrap());
        assert_eq!(identity(dir.path()), first);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_second_process_is_refused_and_touches_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let held = open(dir.path(), true).unwrap();
        std::fs::remove_file(dir.path().join("IDENTITY")).unwrap();
        let error = open(dir.path(), true).unwrap_err();
        assert_eq!((error.exit_code(), dir.path().join("IDENTITY").exists()), (75, false));
        drop(held);
        open(dir.path(), true).unwrap();
    }

    #[test]
    fn a_newer_format_is_left_untouched() {
        let dir = tempfile::tempdir().unwrap();
        let above = format!("{TITLE}\nformat 2\nuuid x\nsomething new\n");
        let text = format!("{above}crc {:08x}\n", crc32c::crc32c(above.as_bytes()));
        std::fs::write(dir.path().join("IDENTITY"), &text).unwrap();
        let error = open(dir.path(), true).unwrap_err();
        assert!(matches!(error, DirectoryError::NewerFormat { found: 2, .. }), "{error}");
        assert_eq!((error.exit_code(), identity(dir.path())), (78, text));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn any_flipped_bit_of_an_identity_is_seen() {
        let whole = text(Uuid::from_u128(7));
        for at in 0..whole.len() - 1 {
            for bit in 0..7 {
                let mut bytes = whole.clone().into_bytes();
                bytes[at] ^= 1 << bit;
                let flipped = String::from_utf8(bytes).unwrap();
                // The CRC's digits mean the same in capitals.
                let same = flipped.eq_ignore_ascii_case(&whole) && at > whole.len() - 10;
                assert!(same || format_of(&flipped).is_none(), "bit {bit} of byte {at}");
            }
        }
    }

    #[test]
    fn a_damaged_identity_is_written_anew_beside_files_that_speak_for_themselves() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("IDENTITY"), "?").unwrap();
        let error = open(dir.path(), true).unwrap_err();
        assert!(error.to_string().contains("IDENTITY is damaged"), "{error}");
        assert_eq!((error.exit_code(), identity(dir.path()).as_str()), (78, "?"));
        std::fs::write(dir.path().join("ledger.db"), "").unwrap();
        let warnings = open(dir.path(), true).unwrap().warnings;
        assert!(warnings.iter().any(|w| w.contains("written anew")), "{warnings:?}");
        assert_eq!(format_of(&identity(dir.path())), Some(FORMAT));
        assert!(dir.path().join("IDENTITY.damaged").exists());
    }

    #[test]
    fn what_may_lose_a_sync_is_not_trusted() {
        assert_eq!((trust(0xEF53), trust(0x5846_5342)), (Trust::Full, Trust::Full));
        assert_eq!(trust(0x794C_7630), Trust::None("overlay"));
        assert_eq!(trust(0x9123_683E), Trust::Some("btrfs"));
        assert!(matches!(trust(1), Trust::Some(_)));
    }

    #[test]
    fn a_refused_file_system_is_named_with_what_to_do() {
        // The system's own memory file system, where there is one.
        let shm = Path::new("/dev/shm");
        if !shm.is_dir() || rustix::fs::statfs(shm).unwrap().f_type as u32 != 0x0102_1994 {
            return;
        }
        let dir = tempfile::tempdir_in(shm).unwrap();
        let error = open(dir.path(), false).unwrap_err();
        assert_eq!(error.exit_code(), 78);
        assert!(error.to_string().contains("tmpfs") && error.to_string().contains("volume"));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(open(dir.path(), true).is_ok());
    }
}
