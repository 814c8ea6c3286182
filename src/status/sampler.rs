//! Builds the snapshot, once a second, from the counters.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::history::History;
use super::process::{self, Cpu};
use super::stages::{Seen, Stages};
use super::{
    API_VERSION, Capacity, Change, Damage, DamageNote, PartitionStatus, QueueStatus, Sink,
    Snapshot, State, Step, StreamStatus, WalStatus, findings,
};
use crate::config::Role;
use crate::damage::Reports;
use crate::errors::ErrorStore;
use crate::event::StreamName;
use crate::queue::Returned;
use crate::space::Space;
use crate::stats::{Count, EdgeStats, StreamStats};
use crate::streams::{Stream, Streams};
use crate::warehouse::Progress;

/// Changes that a snapshot holds.
const CHANGES: usize = 20;
/// Reports of damage that a snapshot holds.
const REPORTS: usize = 20;
/// Streams whose history a snapshot holds.
const CHARTED: usize = 16;

/// The list of the last changes; a cheap handle that every stage may write to.
#[derive(Clone, Default)]
pub struct Changes(Arc<Mutex<VecDeque<Change>>>);

impl Changes {
    /// Adds a line; the oldest goes when there are too many.
    pub fn add(&self, text: String) {
        let mut changes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        changes.truncate(CHANGES - 1);
        changes.push_front(Change { at: crate::time::now(), text });
    }

    fn list(&self) -> Vec<Change> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

/// What a store's last check said; `None` before the first.
pub type Reached = Option<Result<(), String>>;

/// What the sampler looks at.
pub struct Sources {
    /// The streams.
    pub streams: Streams,
    /// The error store.
    pub errors: ErrorStore,
    /// The edge's counters.
    pub edge: Arc<EdgeStats>,
    /// The store's name.
    pub store: String,
    /// Whether it could be reached and written to.
    pub store_now: watch::Receiver<Reached>,
    /// What the warehouse does, where there is one.
    pub warehouse: Option<Progress>,
    /// The role in which a topic of several instances is used, and whether that can be reached.
    pub queue: Option<(Role, watch::Receiver<Reached>)>,
    /// Messages of it that go back.
    pub returned: Returned,
    /// The last changes.
    pub changes: Changes,
    /// What was found damaged.
    pub reports: Reports,
    /// The disk's room.
    pub space: Space,
    /// Where events come in.
    pub listen: String,
    /// What was found at the start and holds until the next: one sentence each.
    pub standing: Vec<String>,
    /// When the process started.
    pub started: Instant,
}

/// Builds snapshots; keeps the histories between them.
pub struct Sampler {
    sources: Sources,
    boot_id: String,
    host: String,
    sequence: u64,
    at: Instant,
    /// Now and up to five ticks ago.
    cpu: VecDeque<Cpu>,
    stages: Stages,
    streams: HashMap<StreamName, (History, History)>,
    stored: History,
    published: History,
    pulled: History,
    failing: HashMap<StreamName, bool>,
    queue_fails: bool,
}

impl Sources {
    fn role(&self) -> Option<Role> {
        self.queue.as_ref().map(|(role, _)| *role)
    }

    fn has(&self, step: Step) -> bool {
        Step::of(self.role()).contains(&step)
    }
}

impl Sampler {
    /// A sampler whose first snapshot has no rates yet.
    #[must_use]
    pub fn new(sources: Sources) -> Self {
        Self {
            boot_id: uuid::Uuid::now_v7().to_string(),
            host: process::host(),
            sequence: 0,
            at: Instant::now(),
            cpu: VecDeque::from([Cpu::new()]),
            stages: Stages::of(sources.role()),
            streams: HashMap::new(),
            stored: History::default(),
            published: History::default(),
            pulled: History::default(),
            failing: HashMap::new(),
            queue_fails: false,
            sources,
        }
    }

    /// The snapshot of now, with a new point in every history.
    pub fn sample(&mut self) -> Snapshot {
        let now = Instant::now();
        let elapsed = now.duration_since(self.at).as_secs_f64();
        self.at = now;
        self.build(Some(elapsed))
    }

    /// The snapshot of now, between two points.
    pub fn refresh(&mut self) -> Snapshot {
        self.build(None)
    }

    fn build(&mut self, elapsed: Option<f64>) -> Snapshot {
        self.sequence += 1;
        let dead_letters = self.sources.errors.counts();
        let streams = self.sources.streams.all();
        let mut rows: Vec<StreamStatus> = streams
            .iter()
            .map(|stream| {
                let mut row = self.stream(stream, elapsed);
                row.dead_open = dead_letters.open_by_stream.get(&row.name).copied().unwrap_or(0);
                row
            })
            .collect();
        rows.sort_by(|a, b| b.rate.total_cmp(&a.rate).then_with(|| a.name.cmp(&b.name)));
        for row in rows.iter_mut().skip(CHARTED) {
            row.seconds.clear();
            row.quarters.clear();
        }
        let queue = self.queue(&rows, elapsed);
        self.note_changes(&rows, queue.as_ref());
        let (streams, edge) = (&streams, &self.sources.edge);
        let seen = Seen { rows: &rows, streams, edge, queue: queue.as_ref() };
        let stages = self.stages.take(&seen, elapsed);
        let mut snapshot = Snapshot {
            api: API_VERSION,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            boot_id: self.boot_id.clone(),
            sequence: self.sequence,
            now: crate::time::now(),
            uptime_ms: millis(self.sources.started.elapsed()),
            host: self.host.clone(),
            listen: self.sources.listen.clone(),
            findings: Vec::new(),
            stages,
            sinks: vec![self.sink(&rows, elapsed)],
            queue,
            capacity: self.capacity(&rows, elapsed.is_some()),
            streams: rows,
            warehouse: self.sources.warehouse.as_ref().map(Progress::status),
            dead_letters,
            changes: self.sources.changes.list(),
            damage: damage(&self.sources.reports),
        };
        snapshot.findings = findings::of(&snapshot, &self.sources.standing);
        snapshot
    }

    fn stream(&mut self, stream: &Arc<Stream>, elapsed: Option<f64>) -> StreamStatus {
        let stats = &stream.stats;
        let (rate, rejected) = self.streams.entry(stream.name.clone()).or_default();
        let collects = self.sources.has(Step::Ingest);
        let taken = if collects { &stats.received_events } else { &stats.pulled_events };
        rate.take(taken.get(), elapsed);
        rejected.take(stats.rejected_events.get(), elapsed);
        let (bytes, segments) = stream.wal.extent();
        let head = stream.wal.head();
        let cursor = stats.cursor.get().min(head);
        let wal = WalStatus {
            head,
            cursor,
            lag_events: stream.lag(),
            bytes,
            bytes_max: stream.wal.bytes_max(),
            segments,
            sync_p50_us: stream.wal.stats().sync.quantile_us(0.5),
            sync_p99_us: stream.wal.stats().sync.quantile_us(0.99),
            syncs: stream.wal.stats().syncs.get(),
        };
        let uptime_ms = millis(self.sources.started.elapsed());
        let since_ms = stats.pending_since_ms.get();
        let partitions = stats.partition_events.iter().zip(&stats.partition_pending);
        let store_error = stats.store_trouble();
        let mut row = StreamStatus {
            name: stream.name.clone(),
            state: State::Idle,
            received_events: stats.received_events.get(),
            received_bytes: stats.received_bytes.get(),
            adapted_events: stats.adapted_events.get(),
            rejected_events: stats.rejected_events.get(),
            duplicate_events: stats.duplicate_events.get(),
            damaged_records: stats.damaged_records.get(),
            unreadable_objects: stats.unreadable_objects.get(),
            lost_letters: stats.lost_letters.get(),
            torn_tails: stats.suspect_tails.get(),
            skewed_events: stats.skewed_events.get(),
            undated_events: stats.undated_events.get(),
            published_events: stats.published_events.get(),
            pulled_events: stats.pulled_events.get(),
            stored_events: stats.stored_events.get(),
            stored_bytes: stats.stored_bytes.get(),
            stored_batches: stats.stored_batches.get(),
            refused_requests: stats.refused_requests.get(),
            rate: rate.rate(),
            rejected_rate: rejected.rate(),
            seconds: rate.seconds(),
            quarters: rate.quarters(),
            dead_open: 0,
            wal,
            pending_events: stats.pending_events.get(),
            pending_bytes: stats.pending_bytes.get(),
            pending_age_ms: if since_ms == 0 { 0 } else { uptime_ms.saturating_sub(since_ms) },
            store_failures: stats.store_failures.get(),
            store_error,
            partitions: partitions
                .map(|(e, p)| PartitionStatus { events: e.get(), pending: p.get() })
                .collect(),
        };
        row.state = state_of(&row, stream);
        row
    }

    fn sink(&mut self, rows: &[StreamStatus], elapsed: Option<f64>) -> Sink {
        let stored = rows.iter().map(self.last_step()).sum();
        self.stored.take(stored, elapsed);
        let error = rows.iter().find_map(|r| r.store_error.clone());
        let reached = self.sources.store_now.borrow().clone();
        let error = error.or_else(|| reached?.err());
        let backlog = rows.iter().map(|r| r.wal.lag_events).sum();
        let rate = self.stored.rate();
        let streams = self.sources.streams.all();
        Sink {
            name: self.sources.store.clone(),
            state: match (&error, rate > 0.0 || backlog > 0) {
                (Some(_), _) => State::Stopped,
                (None, true) => State::Ok,
                (None, false) => State::Idle,
            },
            rate,
            events: stored,
            failures: rows.iter().map(|r| r.store_failures).sum(),
            backlog,
            last_ms: streams.iter().map(|s| s.stats.store_ms_last.get()).max().unwrap_or(0),
            error,
        }
    }

    /// What counts an event at the end of its way through this instance.
    fn last_step(&self) -> fn(&StreamStatus) -> u64 {
        match self.sources.has(Step::Load) {
            true => |row| row.stored_events,
            false => |row| row.published_events,
        }
    }

    fn queue(&mut self, rows: &[StreamStatus], elapsed: Option<f64>) -> Option<QueueStatus> {
        let (role, reached) = self.sources.queue.as_ref()?;
        let sum = |of: fn(&StreamStatus) -> u64| rows.iter().map(of).sum::<u64>();
        let (published, pulled) = (sum(|r| r.published_events), sum(|r| r.pulled_events));
        self.published.take(published, elapsed);
        self.pulled.take(pulled, elapsed);
        let streams = self.sources.streams.all();
        let total =
            |of: fn(&StreamStats) -> &Count| streams.iter().map(|s| of(&s.stats).get()).sum();
        Some(QueueStatus {
            role: *role,
            published_events: published,
            published_messages: total(|stats| &stats.published_messages),
            published_bytes: total(|stats| &stats.published_bytes),
            published_rate: self.published.rate(),
            pulled_events: pulled,
            pulled_messages: total(|stats| &stats.pulled_messages),
            pulled_bytes: total(|stats| &stats.pulled_bytes),
            pulled_rate: self.pulled.rate(),
            acked_messages: total(|stats| &stats.acked_messages),
            outstanding_messages: total(|stats| &stats.outstanding_messages),
            outstanding_bytes: total(|stats| &stats.outstanding_bytes),
            error: reached.borrow().as_ref().and_then(|reached| reached.clone().err()),
            returned: self.sources.returned.why(),
        })
    }

    fn capacity(&mut self, rows: &[StreamStatus], tick: bool) -> Capacity {
        if tick {
            if self.cpu.len() > 5 {
                self.cpu.pop_front();
            }
            self.cpu.push_back(Cpu::new());
        }
        let cpu = self.cpu.back().zip(self.cpu.front());
        let room = self.sources.space.room();
        Capacity {
            wal_bytes: rows.iter().map(|r| r.wal.bytes).sum(),
            wal_bytes_max: rows.iter().map(|r| r.wal.bytes_max).sum(),
            disk_free_bytes: room.free_bytes,
            disk_bytes: room.bytes,
            disk_level: room.level,
            memory_bytes: process::memory_bytes(),
            memory_bytes_max: process::memory_bytes_max(),
            cpu_cores: cpu.map_or(0.0, |(now, then)| now.cores_since(then)),
            cpu_cores_max: std::thread::available_parallelism().map_or(1, |n| n.get() as u64),
            errors_bytes: self.sources.errors.bytes(),
        }
    }

    /// A store or a topic that fails or recovers is a change worth a line.
    fn note_changes(&mut self, rows: &[StreamStatus], queue: Option<&QueueStatus>) {
        let stores = self.sources.has(Step::Load);
        for row in rows {
            let fails = row.store_error.is_some();
            if self.failing.insert(row.name.clone(), fails).unwrap_or(false) != fails {
                let name = &row.name;
                let text = match (&row.store_error, stores) {
                    (Some(error), true) => format!("store fails for {name}: {error}"),
                    (None, true) => format!("store takes batches of {name} again"),
                    (Some(error), false) => format!("{name} can't be published: {error}"),
                    (None, false) => format!("{name} is published again"),
                };
                self.sources.changes.add(text);
            }
        }
        let Some(queue) = queue else { return };
        if std::mem::replace(&mut self.queue_fails, queue.error.is_some()) != self.queue_fails {
            let text = match &queue.error {
                Some(error) => format!("{}: {error}", queue.trouble()),
                None => "the topic and its subscription can be used again".to_owned(),
            };
            self.sources.changes.add(text);
        }
    }
}

fn state_of(row: &StreamStatus, stream: &Stream) -> State {
    if !stream.wal.is_writable() || row.store_error.is_some() {
        State::Stopped
    } else if row.wal.bytes.saturating_mul(10) > row.wal.bytes_max.saturating_mul(9) {
        State::Full
    } else if row.rate > 0.0 || row.wal.lag_events > 0 {
        State::Ok
    } else {
        State::Idle
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn damage(reports: &Reports) -> Damage {
    let news = reports.news();
    let note = |report: &crate::damage::Report| DamageNote {
        text: report.text.clone(),
        stream: report.stream.clone(),
        from: report.from,
        to: report.to,
        lost: report.lost,
        found_at: report.found_at,
    };
    Damage {
        reports: news.len() as u64,
        lost: news.iter().map(|report| report.lost).sum(),
        newest: news.iter().rev().take(REPORTS).map(note).collect(),
    }
}
