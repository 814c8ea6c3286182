//! The log's threads in every order that two or three of them can have, and in random ones where
//! there are more: nobody waits for ever, and nobody is told or shown what is not durable.
//!
//! What runs is the log itself, with its writer's thread, over a disk in memory. loom tries every
//! order in which the threads come to the log's locks, with at most two interruptions of one that
//! could go on; shuttle takes random orders, half of them with few changes between threads, which
//! finds what needs one to stand still for long.
//!
//! `EVENTKIT_PREEMPTIONS` allows more interruptions, or `all`. `EVENTKIT_SCHEDULES` says how many
//! random orders there are; 100,000 are the long run. `EVENTKIT_SEED` gives others.

use std::collections::BTreeMap;

use shuttle::rand::Rng;
use shuttle::scheduler::{PctScheduler, RandomScheduler};

use super::super::memory::MemoryDisk;
use super::scheduled::{Condvar, Mutex, World, thread, within};
use super::*;

/// Syncs of a new segment before its first frame: one of its zeros, two of its header.
const SYNCS_OF_START: u32 = 3;

fn open(disk: &MemoryDisk, segment_blocks: u64) -> Wal {
    let segment_bytes = FRAMES + segment_blocks * BLOCK;
    let config = WalConfig { bytes_max: 4 * segment_bytes, segment_bytes, ..config() };
    let place = Place { disk: Arc::new(disk.clone()), ..place(Path::new("/"), 0) };
    Wal::open(place, config).unwrap().0
}

fn record(text: &str) -> Records {
    let mut records = Records::default();
    assert!(records.push(&Receipt::default(), text.as_bytes()));
    records
}

/// Appends and waits; whoever was not refused is told how it went, and never that the log is
/// closed.
fn append(wal: &Wal, text: &str) -> Result<Seq, AppendError> {
    let answer = scheduled::answer(wal.append(record(text))?);
    assert!(!matches!(answer, Err(AppendError::Closed)), "dropped without an answer");
    let Durable { first_seq, count } = answer?;
    assert_eq!(count, 1);
    assert!(wal.head() > first_seq, "answered before it was published");
    Ok(first_seq)
}

/// What a reader that starts now finds from there on.
fn texts(wal: &Wal, from: Seq) -> Vec<(Seq, String)> {
    let mut found = Vec::new();
    let mut reader = wal.reader(from);
    while let Some(chunk) = reader.read().unwrap() {
        found.extend(texts_of(&chunk.unwrap()));
    }
    found.retain(|(seq, _)| *seq >= from);
    found
}

fn texts_of(chunk: &Chunk<'_>) -> Vec<(Seq, String)> {
    let text = |payload: &[u8]| String::from_utf8_lossy(payload).into_owned();
    chunk.records().map(|(seq, record)| (seq, text(record.unwrap().1))).collect()
}

mod in_every_order {
    use super::*;

    /// Segments in which a scenario finds room without another thread that makes them.
    const BLOCKS: u64 = 12;

    fn try_all(model: impl Fn(MemoryDisk) + Send + Sync + 'static) {
        let model = Arc::new(model);
        let bound = match std::env::var("EVENTKIT_PREEMPTIONS") {
            Ok(all) if all == "all" => None,
            Ok(number) => Some(number.parse().unwrap()),
            Err(_) => Some(2),
        };
        for elapses in [false, true] {
            let (model, orders) = (Arc::clone(&model), Arc::new(AtomicU64::new(0)));
            let counted = Arc::clone(&orders);
            within(World::Loom { elapses }, || {
                let mut builder = loom::model::Builder::new();
                builder.max_branches = 100_000;
                builder.preemption_bound = bound;
                builder.check(move || {
                    counted.fetch_add(1, Relaxed);
                    // Nothing is decided by who comes first to the disk's own lock.
                    model(within(World::System, MemoryDisk::default));
                });
            });
            println!("{} orders", orders.load(Relaxed));
            assert!(orders.load(Relaxed) > 10, "there is more than one order");
        }
    }

    #[test]
    fn whoever_appends_while_the_log_is_closed_is_refused_or_answered() {
        try_all(|disk| {
            let wal = open(&disk, BLOCKS);
            append(&wal, "a").unwrap();
            let other = wal.clone();
            let appender = thread::spawn(move || append(&other, "b"));
            wal.close();
            match appender.join().unwrap() {
                Ok(2) => assert_eq!(texts(&wal, 2), [(2, "b".to_owned())]),
                Err(AppendError::Closed) => assert_eq!(texts(&wal, 2), []),
                other => panic!("{other:?}"),
            }
        });
    }

    #[test]
    fn two_that_append_have_two_positions_and_are_read_by_whoever_starts_then() {
        try_all(|disk| {
            let wal = open(&disk, BLOCKS);
            let other = wal.clone();
            let appender = thread::spawn(move || append(&other, "b").unwrap());
            let a = append(&wal, "a").unwrap();
            assert!(texts(&wal, a).contains(&(a, "a".to_owned())));
            let b = appender.join().unwrap();
            assert!(texts(&wal, b).contains(&(b, "b".to_owned())));
            assert_eq!(a + b, 3);
            wal.close();
        });
    }

    #[test]
    fn a_failed_sync_refuses_all_who_wait_and_all_who_come_later() {
        try_all(|disk| {
            let wal = open(&disk, BLOCKS);
            let failures = Arc::new(AtomicU64::new(0));
            let counted = Arc::clone(&failures);
            wal.on_failed(move |_| {
                counted.fetch_add(1, Relaxed);
            });
            disk.fail_sync_after(Some(SYNCS_OF_START));
            let other = wal.clone();
            let appender = thread::spawn(move || {
                let answer = append(&other, "b");
                // Whatever else fails later is no news.
                other.0.fail(Vec::new(), io::ErrorKind::Other.into());
                answer
            });
            assert!(matches!(append(&wal, "a"), Err(AppendError::Failed(_))));
            assert!(matches!(wal.append(record("c")), Err(AppendError::Failed(_))));
            assert!(matches!(appender.join().unwrap(), Err(AppendError::Failed(_))));
            wal.close();
            assert_eq!((texts(&wal, 1), failures.load(Relaxed)), (vec![], 1));
        });
    }

    #[test]
    fn whoever_waits_to_be_told_of_a_sync_is_told_and_finds_what_it_was_for() {
        try_all(|disk| {
            let wal = open(&disk, BLOCKS);
            let bell = Bell::of(&wal);
            let other = wal.clone();
            let consumer = thread::spawn(move || {
                let (mut reader, mut rung, mut next) = (other.reader(1), 0, 1);
                while next < 3 {
                    while let Some(chunk) = reader.read().unwrap() {
                        next = chunk.unwrap().end_seq();
                    }
                    if next < 3 {
                        rung = bell.wait(rung);
                    }
                }
            });
            append(&wal, "a").unwrap();
            append(&wal, "b").unwrap();
            consumer.join().unwrap();
            wal.close();
        });
    }
}

/// Rings after every sync.
struct Bell(Mutex<u64>, Condvar);

impl Bell {
    fn of(wal: &Wal) -> Arc<Self> {
        let bell = Arc::new(Self(Mutex::new(0), Condvar::new()));
        let rings = Arc::clone(&bell);
        wal.on_durable(move || rings.ring());
        bell
    }

    fn ring(&self) {
        *self.0.lock().unwrap() += 1;
        self.1.notify_one();
    }

    /// Waits until it has rung more often than that; returns how often it has.
    fn wait(&self, rung: u64) -> u64 {
        let mut count = self.0.lock().unwrap();
        while *count == rung {
            count = self.1.wait(count).unwrap();
        }
        *count
    }
}

mod in_random_orders {
    use super::*;
    use std::cell::Cell;
    use std::sync::Mutex as Plain;

    const APPENDERS: u32 = 2;
    const REQUESTS: u32 = 5;
    /// A frame of records and its mark: every frame has its own segment, which is soon used again.
    const BLOCKS: u64 = 2;

    /// What every thread of a run knows. No scheduler sees its locks.
    struct Run {
        disk: MemoryDisk,
        wal: Wal,
        bell: Arc<Bell>,
        closed: AtomicU64,
        acknowledged: Plain<BTreeMap<Seq, String>>,
        /// Every segment below was given back.
        consumed: AtomicU64,
    }

    /// What has come to pass in any of a test's runs: what never does is not tried.
    /// The last takes a thread that stands still for long.
    #[derive(Clone, Copy, Debug)]
    enum Passed {
        Acknowledged,
        Full,
        Failed,
        Closed,
        /// A segment was used again.
        Again,
        /// A segment was used again or removed under a reader that nobody waits for.
        Under,
    }

    thread_local! {
        static PASSED: [Cell<u64>; 6] = const { [const { Cell::new(0) }; 6] };
    }

    fn pass(what: Passed) {
        PASSED.with(|passed| passed[what as usize].update(|count| count + 1));
    }

    fn chance(of: u32) -> bool {
        shuttle::rand::thread_rng().gen_ratio(1, of)
    }

    impl Run {
        fn start() -> Arc<Self> {
            let disk = MemoryDisk::default();
            if chance(4) {
                disk.fail_sync_after(Some(shuttle::rand::thread_rng().gen_range(0..40)));
            }
            let wal = open(&disk, BLOCKS);
            let (bell, closed) = (Bell::of(&wal), AtomicU64::new(0));
            let (acknowledged, consumed) = (Plain::default(), AtomicU64::new(1));
            Arc::new(Self { disk, wal, bell, closed, acknowledged, consumed })
        }

        fn append_all(&self, appender: u32) {
            for request in 0..REQUESTS {
                let text = format!("{appender}/{request}");
                match append(&self.wal, &text) {
                    Ok(seq) => {
                        let before = self.acknowledged.lock().unwrap().insert(seq, text.clone());
                        assert_eq!(before, None, "{seq} is given twice");
                        pass(Passed::Acknowledged);
                        self.expect(seq, &text);
                    }
                    Err(AppendError::TooLarge { .. }) => unreachable!("none is so large"),
                    Err(AppendError::Full { .. } | AppendError::QueueFull) => pass(Passed::Full),
                    Err(AppendError::Closed) => return pass(Passed::Closed),
                    Err(AppendError::Failed(error)) => {
                        let again = self.wal.append(record("again"));
                        assert!(matches!(again, Err(AppendError::Failed(_))), "only once: {error}");
                        return pass(Passed::Failed);
                    }
                }
            }
        }

        /// A reader that starts now finds that record, unless its segment was given back.
        fn expect(&self, seq: Seq, text: &str) {
            let found = self.read_behind(seq);
            let is_there = found.contains(&(seq, text.to_owned()));
            assert!(is_there || self.consumed.load(Relaxed) > seq, "{seq} is gone: {found:?}");
        }

        /// What a reader finds that nobody waits for: segments may be used again below it.
        fn read_behind(&self, from: Seq) -> Vec<(Seq, String)> {
            let (mut reader, mut found) = (self.wal.reader(from), Vec::new());
            loop {
                let consumed = || self.consumed.load(Relaxed);
                match reader.read() {
                    Ok(Some(Ok(chunk))) => {
                        assert!(chunk.end_seq() <= self.wal.head(), "read before it is durable");
                        found.extend(texts_of(&chunk));
                    }
                    Ok(Some(Err(damage))) => {
                        assert!(damage.to <= consumed(), "{damage:?}");
                        pass(Passed::Under);
                    }
                    Ok(None) => return found,
                    Err(error) => {
                        assert_eq!(error.kind(), io::ErrorKind::NotFound);
                        assert!(reader.position() < consumed(), "{error}");
                        pass(Passed::Under);
                        return found;
                    }
                }
            }
        }

        /// Reads everything in order, and gives back what it has read.
        fn consume(&self) -> Vec<(Seq, String)> {
            let (mut reader, mut found, mut rung) = (self.wal.reader(1), Vec::new(), 0);
            loop {
                let is_last = self.closed.load(Relaxed) == 1;
                let head = self.wal.head();
                while let Some(chunk) = reader.read().unwrap() {
                    let chunk = chunk.expect("an unread segment was used again");
                    assert_eq!(chunk.first_seq, found.len() as Seq + 1);
                    assert!(chunk.end_seq() <= self.wal.head(), "read before it is durable");
                    found.extend(texts_of(&chunk));
                    if chance(2) {
                        // Whoever reads behind has to know before it can happen.
                        self.consumed.store(reader.position(), Relaxed);
                        self.wal.reclaim(reader.position()).unwrap();
                    }
                }
                assert!(reader.position() >= head, "the reader stops early");
                if is_last {
                    return found;
                }
                rung = self.bell.wait(rung);
            }
        }

        fn close(&self) {
            self.wal.close();
            self.closed.store(1, Relaxed);
            self.bell.ring();
        }

        /// The next process finds what was acknowledged and not given back.
        fn check_next_process(&self) {
            let next = self.disk.copy();
            next.fail_sync_after(None);
            let place = Place { disk: Arc::new(next), ..place(Path::new("/"), 0) };
            let (wal, writer, _) = Wal::prepare(place, config()).unwrap();
            let consumed = self.consumed.load(Relaxed);
            let mut found = texts(&wal, consumed);
            let generation = self.wal.0.state().segments.back().map_or(0, |s| s.key.generation);
            if generation > self.disk.list(Path::new("/log")).unwrap().len() as u64 {
                pass(Passed::Again);
            }
            let acknowledged = self.acknowledged.lock().unwrap();
            found.retain(|(seq, _)| acknowledged.contains_key(seq));
            let expected = acknowledged.range(consumed..).map(|(seq, text)| (*seq, text.clone()));
            assert_eq!(found, expected.collect::<Vec<_>>());
            assert!(writer.next_seq() >= self.wal.head());
        }
    }

    fn run() {
        let run = Run::start();
        let start = |work: fn(&Run) -> Vec<(Seq, String)>| {
            let run = Arc::clone(&run);
            thread::spawn(move || work(&run))
        };
        let readers = [
            start(Run::consume),
            start(|run| (0..4).flat_map(|_| run.read_behind(1)).collect()),
            start(|run| {
                for _ in 0..6 {
                    run.wal.shrink();
                }
                run.read_behind(1)
            }),
        ];
        let appenders: Vec<_> = (0..APPENDERS)
            .map(|appender| {
                let run = Arc::clone(&run);
                thread::spawn(move || run.append_all(appender))
            })
            .collect();
        let closes_early = chance(4);
        if closes_early {
            run.close();
        }
        for appender in appenders {
            appender.join().unwrap();
        }
        if !closes_early {
            run.close();
        }
        let found = readers.map(|reader| reader.join().unwrap());
        let acknowledged: Vec<(Seq, String)> =
            run.acknowledged.lock().unwrap().clone().into_iter().collect();
        assert_eq!(found[0], acknowledged);
        for other in &found[1..] {
            assert!(other.iter().all(|read| acknowledged.contains(read)), "{other:?}");
        }
        run.check_next_process();
    }

    fn number(name: &str, default: u64) -> u64 {
        std::env::var(name).map_or(default, |number| number.parse().unwrap())
    }

    /// Everything up to `tried` has to come to pass.
    fn try_some(scheduler: impl shuttle::scheduler::Scheduler + 'static, tried: Passed) {
        let mut config = shuttle::Config::new();
        config.stack_size = 256 << 10;
        within(World::Shuttle, || shuttle::Runner::new(scheduler, config).run(run));
        let passed = PASSED.with(|passed| passed.each_ref().map(Cell::get));
        println!("passed: {passed:?}");
        assert!(!passed[..=tried as usize].contains(&0), "something is never tried: {passed:?}");
    }

    fn schedules() -> usize {
        number("EVENTKIT_SCHEDULES", 1000) as usize / 2
    }

    #[test]
    fn nobody_loses_anything_whoever_goes_on_next() {
        let scheduler = RandomScheduler::new_from_seed(number("EVENTKIT_SEED", 0), schedules());
        try_some(scheduler, Passed::Again);
    }

    #[test]
    fn nobody_loses_anything_however_long_one_has_to_wait() {
        let scheduler = PctScheduler::new_from_seed(number("EVENTKIT_SEED", 0), 4, schedules());
        try_some(scheduler, Passed::Under);
    }
}
