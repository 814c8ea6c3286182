//! One process, from its start to its death, step by step in an order that chance decides.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use futures::FutureExt;

use super::Chance;
use super::client::{Client, Lost};
use super::machine::Machine;
use super::store::SimStore;
use super::world::World;
use crate::adapt::StreamRules;
use crate::ambient;
use crate::config::{LoadConfig, StreamConfig};
use crate::damage::Reports;
use crate::dedupe::Memory;
use crate::errors::{ErrorStore, LetterFilter, LetterSummary};
use crate::event::{Seq, StreamName};
use crate::ledger::Ledger;
use crate::load::{Budget, Delivery, EventLoader};
use crate::queue::{Flow, Hooks, Inbox, Leases, Running, Wake, Worker};
use crate::stats::StreamStats;
use crate::store::AnyStore;
use crate::streams::Stream;
use crate::wal::{Place, Turn, Wal, Writer};

/// A process that lives.
pub(crate) struct Life {
    runtime: tokio::runtime::Runtime,
    machine: Machine,
    pub stream: Arc<Stream>,
    writer: Writer,
    worker: Running,
    inbox: Inbox,
    errors: ErrorStore,
    store: SimStore,
    /// The process has said that it can't go on.
    failed: Arc<AtomicBool>,
    reports: Reports,
    /// The records of its last frame that was answered for.
    pub last_frame: Option<Lost>,
    /// How much of the world's time the runtime knows of.
    ticked: Duration,
}

/// Why there is no process: it died at its start, or could not start.
pub(crate) struct Stillborn(pub String);

impl From<crate::sqlite::SqliteError> for Stillborn {
    fn from(error: crate::sqlite::SqliteError) -> Self {
        Self(error.to_string())
    }
}

/// What an outage of the store has cost.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SatOut {
    /// Batches that were under way at once, at most.
    pub batches: u64,
    /// Bytes that were held in memory, at most.
    pub bytes: u64,
    /// How often a batch was put in vain.
    pub puts: u64,
}

/// The one stream there is.
fn stream_name() -> StreamName {
    StreamName::new("events").unwrap()
}

impl Life {
    /// Everything that the service does before its first request.
    ///
    /// # Errors
    /// What it ended with.
    pub fn begin(world: &World) -> Result<Self, Stillborn> {
        let (errors, ledger) = (world.errors.open()?, world.ledger.reopen()?);
        errors.number_above(ledger.last_letter()?)?;
        let name = stream_name();
        let floor = ledger.floor(&name)?.max(errors.floor(&name)?);
        let place = Place {
            disk: Arc::new(world.disk.clone()),
            dir: "/wal/events".into(),
            quarantine: QUARANTINE.into(),
            floor,
            ledger_tx: ledger.counter(),
        };
        let (wal, writer, recovered) = Wal::prepare(place, world.wal_config.clone())
            .map_err(|error| Stillborn(error.to_string()))?;
        let stream = Arc::new(Stream {
            name,
            wal,
            stats: Arc::new(StreamStats::new(PARTITIONS)),
            config: StreamConfig { partitions: PARTITIONS, rules: StreamRules::segment_strict() },
            recovered,
            leases: Leases::default(),
        });
        Self::assemble(world, errors, ledger, stream, writer)
    }

    fn assemble(
        world: &World,
        errors: ErrorStore,
        ledger: Ledger,
        stream: Arc<Stream>,
        writer: Writer,
    ) -> Result<Self, Stillborn> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .map_err(|error| Stillborn(error.to_string()))?;
        let (inbox, messages) = Inbox::new();
        let (woken, ended) = (inbox.clone(), inbox.clone());
        stream.wal.on_durable(move || woken.durable());
        let failed = Arc::new(AtomicBool::new(false));
        let reports = Reports::in_memory();
        let fails = Arc::clone(&failed);
        stream.wal.on_failed(move |_| fails.store(true, Relaxed));
        let store: Arc<AnyStore> = Arc::new(world.store.clone());
        let handle = runtime.handle().clone();
        let delivery = Delivery::new(Arc::clone(&store), &stream, handle.clone(), move |batch| {
            ended.send(Wake::Delivered(Box::new(batch)));
        });
        let budget = Budget::new(MEMORY);
        let policy = LoadConfig {
            events_max: BATCH,
            bytes_max: 32 << 10,
            age_max: Duration::from_secs(2),
            memory_bytes_max: MEMORY,
        };
        let worker = Worker {
            stream: Arc::clone(&stream),
            loader: EventLoader::new(Arc::clone(&stream), policy, budget.share(), delivery),
            errors: errors.clone(),
            ledger,
            store,
            runtime: handle,
            inbox: inbox.clone(),
            messages,
            flow: Flow::default(),
            hooks: hooks(&failed, &reports),
            started: ambient::now(),
            window: Duration::from_secs(24 * 3600),
            memory: Memory::new(1 << 20),
        };
        let worker = worker.recover().map_err(|_| Stillborn("the worker ended".to_owned()))?;
        let (machine, store) = (world.machine.clone(), world.store.clone());
        Ok(Self {
            runtime,
            machine,
            stream,
            writer,
            worker,
            inbox,
            errors,
            store,
            failed,
            reports,
            last_frame: None,
            ticked: ambient::simulated::passed(),
        })
    }

    /// One line on where it goes on.
    pub fn tell(&self) -> String {
        let (head, cursor) = (self.stream.wal.head(), self.low());
        format!("goes on at {head}, stored below {cursor}, {:?}", self.stream.recovered)
    }

    pub fn is_alive(&self) -> bool {
        self.machine.is_alive() && !self.failed.load(Relaxed)
    }

    /// Whoever chance chooses takes a step.
    pub fn step(&mut self, client: &mut Client, chance: &mut Chance) {
        match chance.below(16) {
            0..4 => client.send(&self.stream.wal, crate::time::now()),
            4..8 => self.write(client),
            8..12 => self.work(),
            12..15 => self.deliver(chance.below(4)),
            _ => self.happen(client, chance),
        }
    }

    /// The store is away for that long, while events trickle in.
    pub fn sit_out(
        &mut self,
        outage: Duration,
        client: &mut Client,
        chance: &mut Chance,
    ) -> SatOut {
        self.store.go_away(outage);
        let (ends, mut most) = (ambient::simulated::passed() + outage, SatOut::default());
        while ambient::simulated::passed() < ends {
            if chance.one_in(30) {
                client.send(&self.stream.wal, crate::time::now());
            }
            self.write(client);
            self.work();
            self.deliver(1);
            let stats = &self.stream.stats;
            most.batches = stats.pending_batches.get().max(most.batches);
            most.bytes = stats.pending_bytes.get().max(most.bytes);
        }
        SatOut { puts: self.store.content().puts, ..most }
    }

    /// The log's writer has a turn.
    fn write(&mut self, client: &mut Client) {
        let (from, before) = (self.writer.next_seq(), self.stream.wal.head());
        if self.writer.turn(false) == Turn::Ended {
            self.failed.store(true, Relaxed);
        }
        let head = self.stream.wal.head();
        if head > before {
            self.last_frame = Some((self.stream.wal.log_uuid(), from, head));
        }
        client.hear();
    }

    /// The worker has a turn; where it has nothing to do, time passes.
    fn work(&mut self) {
        if self.worker.turn().is_err() {
            self.failed.store(true, Relaxed);
        }
    }

    /// Deliveries go on, as far as they can until now.
    fn deliver(&mut self, turns: u64) {
        let now = ambient::simulated::passed();
        let time = now - self.ticked;
        self.ticked = now;
        self.runtime.block_on(async {
            tokio::time::advance(time).await;
            for _ in 0..=turns {
                tokio::task::yield_now().await;
            }
        });
    }

    /// Something that happens now and then.
    fn happen(&mut self, client: &mut Client, chance: &mut Chance) {
        match chance.below(8) {
            0 => self.store.go_away(Duration::from_millis(chance.below(120_000))),
            1 => self.store.arrive_late(),
            2 => self.replay(client, chance),
            _ => {
                let time = Duration::from_millis(chance.below(4_000));
                ambient::simulated::with(|world| world.pass(time));
            }
        }
    }

    /// An operator replays some letters.
    fn replay(&mut self, client: &mut Client, chance: &mut Chance) {
        let filter = LetterFilter { stream: Some(stream_name()), ..LetterFilter::default() };
        let most = 1 + chance.below(4) as u32;
        let claimed = self.errors.claim(filter, most, "operator".to_owned(), None).now_or_never();
        if let Some(Ok((_, claims))) = claimed {
            let claims = claims.into_iter().map(|c| (c.id, c.receipt, c.payload));
            client.replay(&self.stream.wal, claims.collect());
        }
    }

    /// Stores what the log holds; whether that came to an end.
    pub fn drain(&mut self, client: &mut Client) -> bool {
        self.write(client);
        let (reply, mut done) = tokio::sync::oneshot::channel();
        self.inbox.send(Wake::Flush(reply));
        for turn in 0..5_000 {
            if turn == 500 {
                // Too many rows were refused: the worker holds them until somebody mends that.
                self.store.take_anything();
                self.inbox.send(Wake::Flush(tokio::sync::oneshot::channel().0));
            }
            self.write(client);
            self.work();
            self.deliver(8);
            if !self.is_alive() {
                return false;
            }
            if done.try_recv().is_ok() {
                return self.low() == self.stream.wal.head();
            }
        }
        false
    }

    /// The position below which everything is stored, as it is published.
    pub fn low(&self) -> Seq {
        self.stream.stats.cursor.get()
    }

    /// Ranges of positions that it has reported as lost, from and up to.
    pub fn reported(&self) -> Vec<(Seq, Seq)> {
        let read = self.reports.all().into_iter().flat_map(|report| report.ranges);
        read.chain(self.stream.recovered.missing).collect()
    }

    /// Every letter there is.
    pub fn letters(&self) -> Vec<LetterSummary> {
        let (mut letters, mut before) = (Vec::new(), None);
        loop {
            let page = self.errors.list(LetterFilter::default(), before, 1_000).now_or_never();
            let Some(Ok(page)) = page else { return letters };
            letters.extend(page.letters);
            before = page.next_before;
            if before.is_none() {
                return letters;
            }
        }
    }
}

/// Where damaged bytes of the log go.
pub(crate) const QUARANTINE: &str = "/quarantine/events";
const PARTITIONS: u16 = 2;
/// Events in a batch, at most.
pub(crate) const BATCH: usize = 20;
/// Bytes that batches may hold.
pub(crate) const MEMORY: usize = 8 << 20;

fn hooks(failed: &Arc<AtomicBool>, reports: &Reports) -> Hooks {
    let failed = Arc::clone(failed);
    Hooks {
        fatal: Arc::new(move |_| failed.store(true, Relaxed)),
        reports: reports.clone(),
        changed: Arc::new(drop),
        no_space: Arc::new(|| ()),
    }
}
