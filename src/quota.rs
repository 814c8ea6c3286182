//! How the disk's room is shared out among the logs.
//!
//! In: the configuration, how many streams there are, and what the file system has: what is free
//! and what eventkit's own files have already. Out: each log's quota, or the sentence that says
//! what does not fit. It allots; it does not measure what is used later (`space` does).
//!
//! The reserve, the databases (256 MiB, or a sixteenth) and the free space below which no events
//! are taken are set aside; the rest is the logs'. A `wal.bytes_max` that was set is each log's
//! quota, and has to fit into the room there is. Unset, a quota is a 32nd of the logs' part of the
//! file system, but no less than four segments (32 MiB) and no more than 4 GiB: sixteen busy
//! streams fill half of it, and the lake has the other half. A stream that is made later gets as
//! much, or a quarter of what is left where that is less, or four segments at the least; where that
//! does not fit either, it is not made.

use std::path::Path;

use crate::config::{Config, WalConfig};
use crate::space::{self, human};

/// What ledger and error store may have.
const DATABASES_BYTES: u64 = 256 << 20;
/// A quota has so many segments at least.
const SEGMENTS_MIN: u64 = 4;
/// An unset quota is this part of the logs' room.
const PART: u64 = 32;

/// The configured sizes do not fit the disk.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the disk has {} for eventkit ({}), and {} are asked for: {streams} logs of {} each \
     (wal.bytes_max), {} of reserve (disk.reserve_bytes), {} for databases and {} that stay free; \
     make wal.bytes_max smaller or the disk larger",
    human(*room), place, human(*asked), human(*log_bytes), human(*reserve), human(*databases),
    human(*free)
)]
pub struct TooSmall {
    /// The data directory.
    pub place: String,
    /// Bytes there are.
    pub room: u64,
    /// Bytes asked for.
    pub asked: u64,
    /// Logs.
    pub streams: u64,
    /// Bytes of each.
    pub log_bytes: u64,
    /// Bytes of the reserve.
    pub reserve: u64,
    /// Bytes of ledger and error store.
    pub databases: u64,
    /// Bytes below which no events are taken.
    pub free: u64,
}

/// What there is to share.
#[derive(Clone, Debug)]
pub struct Disk {
    /// The data directory, for messages.
    pub place: String,
    /// Bytes free.
    pub free_bytes: u64,
    /// Bytes of the file system.
    pub bytes: u64,
    /// Bytes that eventkit's logs, databases and reserve have already.
    pub used_bytes: u64,
}

impl Disk {
    /// What the file system of a data directory has; `None` where it does not tell.
    #[must_use]
    pub fn of(data_dir: &Path) -> Option<Self> {
        let (free_bytes, bytes) = space::disk_bytes(data_dir);
        let used =
            ["wal", "ledger.db", "ledger.db-wal", "errors.db", "errors.db-wal", "reserve.bin"];
        (bytes > 0).then(|| Self {
            place: data_dir.display().to_string(),
            free_bytes,
            bytes,
            used_bytes: used.iter().map(|name| bytes_below(&data_dir.join(name))).sum(),
        })
    }
}

/// The blocks of a file, or of all files below a directory; nothing of what can't be read.
fn bytes_below(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(metadata) = path.symlink_metadata() else { return 0 };
    if !metadata.is_dir() {
        return metadata.blocks() * 512;
    }
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries.map(|entry| bytes_below(&entry.path())).sum()
}

/// Each log's quota, and what is left for streams that come later.
#[derive(Clone, Debug)]
pub struct Quotas {
    wal: WalConfig,
    is_set: bool,
    left: u64,
}

impl Quotas {
    /// Shares out a disk among that many streams; `present` says whether some have a log already.
    /// With it a sentence for the operator, where what was set does not fit, and stored data must
    /// go out nonetheless.
    ///
    /// # Errors
    /// [`TooSmall`] where what was set can't fit, or does not and nothing is there yet.
    pub fn plan(
        config: &Config,
        streams: usize,
        present: bool,
        disk: &Disk,
    ) -> Result<(Self, Option<String>), TooSmall> {
        let streams = streams.max(1) as u64;
        let is_set = config.origins.contains_key("wal.bytes_max");
        let room = disk.free_bytes + disk.used_bytes;
        let reserve = reserve_bytes(config, disk.bytes);
        let databases = DATABASES_BYTES.min(disk.bytes / 16);
        let free = space::share(disk.bytes, config.disk.refuse_below);
        let aside = reserve + databases + free;
        // By its size and not by its room: a disk that is full now is not for good.
        let pool = disk.bytes.saturating_sub(aside);
        let mut wal = config.wal.clone();
        if !is_set {
            let each = (pool / PART).max(floor(&wal)).min(wal.bytes_max);
            wal.bytes_max = each.min(pool / streams);
        }
        let logs = wal.bytes_max.saturating_mul(streams);
        let quotas = Self { is_set, left: pool.saturating_sub(logs), wal };
        let asked = logs.saturating_add(aside);
        if !is_set || asked <= room {
            return Ok((quotas, None));
        }
        let log_bytes = quotas.wal.bytes_max;
        let place = disk.place.clone();
        let error = TooSmall { place, room, asked, streams, log_bytes, reserve, databases, free };
        match present && asked <= disk.bytes {
            true => Ok((quotas, Some(error.to_string()))),
            false => Err(error),
        }
    }

    /// Every stream has what is configured, whatever the disk has.
    #[must_use]
    pub fn unbounded(wal: WalConfig) -> Self {
        Self { wal, is_set: true, left: u64::MAX }
    }

    /// The log of a stream that was counted when the disk was shared out.
    #[must_use]
    pub fn log(&self) -> WalConfig {
        self.wal.clone()
    }

    /// The log of a stream that is made now; `None` where it does not fit. What is granted is
    /// taken with [`take`](Self::take), once the log is there.
    #[must_use]
    pub fn grant(&self) -> Option<WalConfig> {
        let most = self.wal.bytes_max;
        let bytes_max = match self.is_set {
            true => most,
            false => (self.left / 4).max(floor(&self.wal)).min(most),
        };
        (bytes_max <= self.left).then(|| WalConfig { bytes_max, ..self.wal.clone() })
    }

    /// A granted log is there.
    pub fn take(&mut self, granted: &WalConfig) {
        self.left = self.left.saturating_sub(granted.bytes_max);
    }
}

/// The least that an unset quota may be.
fn floor(wal: &WalConfig) -> u64 {
    SEGMENTS_MIN * wal.segment_bytes
}

/// Bytes held back on a file system of that many: unless set, at most a sixteenth of it.
#[must_use]
pub fn reserve_bytes(config: &Config, disk_bytes: u64) -> u64 {
    match config.origins.contains_key("disk.reserve_bytes") {
        true => config.disk.reserve_bytes,
        false => config.disk.reserve_bytes.min(disk_bytes / 16),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Place;

    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;

    fn disk(free_bytes: u64, bytes: u64) -> Disk {
        Disk { place: "/data".to_owned(), free_bytes, bytes, used_bytes: 0 }
    }

    fn set_to(bytes_max: u64) -> Config {
        let mut config = Config::default();
        config.wal.bytes_max = bytes_max;
        config.origins.insert("wal.bytes_max".to_owned(), Place::Option("x".to_owned()));
        config
    }

    fn quota(disk: &Disk) -> u64 {
        let (quotas, warning) = Quotas::plan(&Config::default(), 4, false, disk).unwrap();
        assert_eq!(warning, None);
        quotas.log().bytes_max
    }

    #[test]
    fn an_unset_quota_follows_the_disk() {
        assert_eq!(quota(&disk(900 * GIB, 1000 * GIB)), 4 * GIB);
        let of_a_small_vm = quota(&disk(8 * GIB, 10 * GIB));
        assert!((256 * MIB..320 * MIB).contains(&of_a_small_vm), "{of_a_small_vm}");
        assert_eq!(quota(&disk(270 * MIB, 300 * MIB)), 32 * MIB);
        // Far too small a disk is no reason not to start.
        assert!((MIB..16 * MIB).contains(&quota(&disk(32 * MIB, 40 * MIB))));
    }

    #[test]
    fn a_disk_that_is_full_at_the_start_leaves_the_quotas_as_they_are() {
        assert_eq!(quota(&disk(0, 10 * GIB)), quota(&disk(8 * GIB, 10 * GIB)));
    }

    #[test]
    fn what_eventkit_has_already_is_room() {
        let full = disk(2 * GIB, 20 * GIB);
        let of_ours = Disk { used_bytes: 6 * GIB, ..full.clone() };
        assert!(Quotas::plan(&set_to(GIB), 4, false, &full).is_err());
        assert!(Quotas::plan(&set_to(GIB), 4, false, &of_ours).is_ok());
    }

    #[test]
    fn a_set_quota_that_does_not_fit_is_refused_with_its_numbers() {
        let error = Quotas::plan(&set_to(4 * GIB), 4, false, &disk(8 * GIB, 40 * GIB)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the disk has 8.0 GiB for eventkit (/data), and 18.3 GiB are asked for: 4 logs of \
             4.0 GiB each (wal.bytes_max), 64.0 MiB of reserve (disk.reserve_bytes), 256.0 MiB \
             for databases and 2.0 GiB that stay free; make wal.bytes_max smaller or the disk larger"
        );
        assert!(Quotas::plan(&set_to(GIB), 4, false, &disk(8 * GIB, 40 * GIB)).is_ok());
    }

    #[test]
    fn stored_data_goes_out_although_a_set_quota_fits_no_more() {
        let full = disk(GIB, 40 * GIB);
        let (quotas, warning) = Quotas::plan(&set_to(4 * GIB), 4, true, &full).unwrap();
        assert!(warning.unwrap().contains("18.3 GiB are asked for"));
        assert_eq!(quotas.log().bytes_max, 4 * GIB);
        // What never fits is a mistake, whatever is there.
        assert!(Quotas::plan(&set_to(20 * GIB), 4, true, &full).is_err());
    }

    #[test]
    fn later_streams_get_what_is_left_until_nothing_is() {
        let (mut quotas, _) =
            Quotas::plan(&Config::default(), 4, false, &disk(GIB, 4 * GIB)).unwrap();
        let (mut granted, mut logs) = (Vec::new(), 4 * quotas.log().bytes_max);
        while let Some(log) = quotas.grant() {
            quotas.take(&log);
            logs += log.bytes_max;
            granted.push(log.bytes_max);
        }
        assert!(
            granted.len() >= 8 && granted.iter().all(|bytes| *bytes >= 32 * MIB),
            "{granted:?}"
        );
        assert!(logs <= 4 * GIB, "{logs}");
    }

    #[test]
    fn files_are_measured_wherever_they_lie() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("wal/events")).unwrap();
        std::fs::write(dir.path().join("wal/events/seg"), vec![1; 3 << 20]).unwrap();
        std::fs::write(dir.path().join("errors.db"), vec![1; 1 << 20]).unwrap();
        std::fs::write(dir.path().join("another"), vec![1; 1 << 20]).unwrap();
        let disk = Disk::of(dir.path()).unwrap();
        // Directories have blocks of their own on some file systems.
        assert!((4 * MIB..4 * MIB + MIB / 2).contains(&disk.used_bytes), "{}", disk.used_bytes);
    }
}
