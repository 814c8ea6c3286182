//! The table of streams: a name, its log, its counters.
//!
//! A declared stream is opened at start, and so is every stream that has a log on disk; any
//! other is created on first use, up to `max_streams`. Whoever processes the streams is told of
//! each new one before its first event can be acknowledged.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use crate::config::{Config, StreamConfig, WalConfig};
use crate::event::{Seq, StreamName};
use crate::queue::Leases;
use crate::quota::Quotas;
use crate::stats::StreamStats;
use crate::wal::disk::OsDisk;
use crate::wal::{Place, Recovered, Wal, WalError};

/// One stream.
pub struct Stream {
    /// Its name.
    pub name: StreamName,
    /// Its log.
    pub wal: Wal,
    /// Its counters.
    pub stats: Arc<StreamStats>,
    /// What it does with its events.
    pub config: StreamConfig,
    /// What its log found when it was opened.
    pub recovered: Recovered,
    /// Messages of a topic that its log has and that are not done.
    pub leases: Leases,
}

impl Stream {
    /// Events in the log that are neither stored nor dead-lettered.
    #[must_use]
    pub fn lag(&self) -> u64 {
        let unread = self.wal.records_from(self.stats.read_to.get());
        unread + self.stats.pending_events.get()
    }
}

/// Why there is no such stream.
#[derive(Debug, thiserror::Error)]
pub enum StreamsError {
    /// It is not declared, and `auto_create` is off.
    #[error("stream {0} is not declared, and auto_create is off")]
    Unknown(StreamName),
    /// There are as many streams as there may be.
    #[error("stream {name} would be one more than max_streams = {max}")]
    TooMany {
        /// The one asked for.
        name: StreamName,
        /// How many there may be.
        max: usize,
    },
    /// The disk has no room for another log.
    #[error("stream {0} would be one more than the disk has room for")]
    NoRoom(StreamName),
    /// Its log can't be opened.
    #[error(transparent)]
    Log(#[from] WalError),
}

/// A cheap handle to the table.
#[derive(Clone)]
pub struct Streams(Arc<Table>);

/// The lowest position a stream's log may hand out next, from what else knows of the stream.
type Floor = Box<dyn Fn(&StreamName) -> io::Result<Seq> + Send + Sync>;
type OnNew = Box<dyn Fn(&Arc<Stream>) + Send + Sync>;

struct Table {
    config: Arc<Config>,
    dir: PathBuf,
    /// Asked for by every request, changed hardly ever: whoever reads it waits for nobody.
    open: ArcSwap<BTreeMap<StreamName, Arc<Stream>>>,
    /// Held while a stream is made, so that two first uses make one log, and take one quota.
    making: Mutex<Quotas>,
    ledger_tx: Arc<AtomicU64>,
    floor: Floor,
    on_new: OnNew,
}

/// The streams that have a log in that data directory.
///
/// # Errors
/// What the system said; a directory without logs is none.
pub fn present(data_dir: &Path) -> io::Result<Vec<StreamName>> {
    let entries = match std::fs::read_dir(data_dir.join("wal")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_str().and_then(|name| StreamName::new(name).ok());
        names.extend(name.filter(|_| entry.path().is_dir()));
    }
    Ok(names)
}

/// The streams that are opened at start: those that are declared, and those that are present.
#[must_use]
pub fn names(config: &Config, present: &[StreamName]) -> Vec<StreamName> {
    let mut names: Vec<StreamName> = config.streams.keys().chain(present).cloned().collect();
    names.sort();
    names.dedup();
    names
}

impl Streams {
    /// Opens the declared streams and those with a log on disk, whose quotas were planned; their
    /// segments note `ledger_tx`, the ledger's counter. `floor` says which position a log
    /// may hand out next at the lowest ([`Wal::open`]). `on_new` is called for each of
    /// these and for every later one, before anything can be appended to it.
    ///
    /// # Errors
    /// The first log that can't be opened.
    pub fn open(
        config: Arc<Config>,
        quotas: Quotas,
        ledger_tx: Arc<AtomicU64>,
        floor: impl Fn(&StreamName) -> io::Result<Seq> + Send + Sync + 'static,
        on_new: impl Fn(&Arc<Stream>) + Send + Sync + 'static,
    ) -> Result<Self, WalError> {
        let dir = config.data_dir.join("wal");
        let fail = |what| {
            let path = dir.clone();
            move |source| WalError::io(&path, what, source)
        };
        std::fs::create_dir_all(&dir).map_err(fail("create directory"))?;
        let present = present(&config.data_dir).map_err(fail("list streams"))?;
        let names = names(&config, &present);
        let table = Self(Arc::new(Table {
            config,
            dir: dir.clone(),
            open: ArcSwap::default(),
            making: Mutex::new(quotas),
            ledger_tx,
            floor: Box::new(floor),
            on_new: Box::new(on_new),
        }));
        let log = table.0.making.lock().unwrap_or_else(PoisonError::into_inner).log();
        for name in names {
            table.make(&name, log.clone())?;
        }
        Ok(table)
    }

    /// The stream of that name, made if need be.
    ///
    /// # Errors
    /// [`StreamsError`] says why it can't be.
    pub fn get_or_create(&self, name: &StreamName) -> Result<Arc<Stream>, StreamsError> {
        if let Some(stream) = self.get(name) {
            return Ok(stream);
        }
        let mut quotas = self.0.making.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(stream) = self.get(name) {
            return Ok(stream);
        }
        let config = &self.0.config;
        if !config.auto_create {
            return Err(StreamsError::Unknown(name.clone()));
        }
        if self.0.open.load().len() >= config.max_streams {
            return Err(StreamsError::TooMany { name: name.clone(), max: config.max_streams });
        }
        let granted = quotas.grant().ok_or_else(|| StreamsError::NoRoom(name.clone()))?;
        let stream = self.make(name, granted.clone())?;
        quotas.take(&granted);
        Ok(stream)
    }

    /// The stream of that name, if there is one.
    #[must_use]
    pub fn get(&self, name: &StreamName) -> Option<Arc<Stream>> {
        self.0.open.load().get(name).cloned()
    }

    /// Every stream, by name.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Stream>> {
        self.0.open.load().values().cloned().collect()
    }

    fn make(&self, name: &StreamName, log: WalConfig) -> Result<Arc<Stream>, WalError> {
        let config = &self.0.config;
        let dir = self.0.dir.join(name.as_str());
        let floor = (self.0.floor)(name)
            .map_err(|source| WalError::io(&dir, "learn its last position", source))?;
        let place = Place {
            disk: OsDisk::shared(),
            quarantine: config.data_dir.join("quarantine").join(name.as_str()),
            dir,
            floor,
            ledger_tx: Arc::clone(&self.0.ledger_tx),
        };
        let (wal, recovered) = Wal::open(place, log)?;
        let config = config.streams.get(name).unwrap_or(&config.default_stream).clone();
        let stream = Arc::new(Stream {
            name: name.clone(),
            wal,
            stats: Arc::new(StreamStats::new(config.partitions)),
            config,
            recovered,
            leases: Leases::default(),
        });
        (self.0.on_new)(&stream);
        self.0.open.rcu(|open| {
            let mut open = BTreeMap::clone(open);
            open.insert(name.clone(), Arc::clone(&stream));
            open
        });
        Ok(stream)
    }
}
