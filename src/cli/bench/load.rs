//! The load generator: one thread, non-blocking connections, and as little else as can be, for it
//! has its share of the cores that the server is measured on.
//!
//! In: a server's address, requests, how many connections, for how long. Out: an [`Outcome`]: what
//! was acknowledged, how long each answer took, and every answer that was none. Closed loop: each
//! connection sends its next request when the answer is there. Open loop: requests are due at a
//! fixed pace whether or not answers come, and their time is counted from when they were due, so
//! that a server that stalls can't hide what it kept waiting.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::time::{ClockId, clock_gettime};

use super::answer;
use super::requests::Request;

/// How long answers are waited for after the last request.
const PATIENCE: Duration = Duration::from_secs(10);
/// Whoever wants the load to end is heard this often.
const TICK: Duration = Duration::from_millis(50);
/// After so many faults nothing is measured any more; a refusal is an answer, and a load goes on.
const FAULTS_MAX: u64 = 1000;
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// A service's first answers are those of so long, or of a quarter of a shorter time.
const WARM_UP: Duration = Duration::from_millis(500);

/// What is to be done.
pub struct Load {
    /// Whom to send to.
    pub target: SocketAddr,
    /// How many connections are used at once.
    pub connections: usize,
    /// For how long requests are sent.
    pub time: Duration,
    /// Requests a second, sent when they are due; without it, each connection's next request
    /// follows its answer.
    pub pace: Option<f64>,
    /// How long the answers took that were due so soon is not told: a server's first ones.
    pub warm_up: Duration,
    /// In a closed loop, no request is sent after so many events.
    pub events_max: u64,
    /// The first event's number; a stream's earlier loads have those below.
    pub first_number: u64,
}

/// What has become of it.
pub struct Outcome {
    /// Requests that were answered 200 or 202.
    pub requests: u64,
    /// Events of those.
    pub acknowledged: u64,
    /// Of those, events that break a rule.
    pub bad_acknowledged: u64,
    /// Events of requests with another answer, or none: they may be stored or not.
    pub in_doubt: u64,
    /// Every event that was sent has a number below this.
    pub numbers: u64,
    /// What went wrong and how often.
    pub faults: BTreeMap<String, u64>,
    /// How long answers took, in microseconds.
    pub latency_us: Histogram<u64>,
    /// From the first request to the last answer.
    pub elapsed: Duration,
    /// CPU time of the generator itself.
    pub cpu: Duration,
}

impl Outcome {
    /// Takes the answers of 503 out of the faults: under too much load they are right. Returns
    /// how many they are.
    pub fn take_refusals(&mut self) -> u64 {
        let refusals = self.faults.extract_if(.., |fault, _| is_refusal(fault));
        refusals.map(|(_, times)| times).sum()
    }

    /// Adds the requests, events and faults of an earlier load of the same stream.
    pub fn add_earlier(&mut self, earlier: Self) {
        self.requests += earlier.requests;
        self.acknowledged += earlier.acknowledged;
        self.bad_acknowledged += earlier.bad_acknowledged;
        self.in_doubt += earlier.in_doubt;
        self.numbers = self.numbers.max(earlier.numbers);
        for (fault, times) in earlier.faults {
            *self.faults.entry(fault).or_default() += times;
        }
    }
}

struct Connection {
    stream: TcpStream,
    out: Vec<u8>,
    written: usize,
    /// Whether it is watched for room to write.
    is_blocked: bool,
    answer: Vec<u8>,
    /// The request that is under way.
    sent: Option<Sent>,
}

#[derive(Clone, Copy)]
struct Sent {
    since: Instant,
    events: u64,
    bad_events: u64,
}

/// CPU time of the calling thread.
pub fn thread_cpu() -> Duration {
    duration(clock_gettime(ClockId::ThreadCPUTime))
}

/// A clock's time as a duration.
pub fn duration(time: Timespec) -> Duration {
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// A histogram of microseconds, three digits exact; longer than a minute is a minute.
pub fn histogram() -> io::Result<Histogram<u64>> {
    Histogram::new_with_bounds(1, 60_000_000, 3).map_err(io::Error::other)
}

/// Counts a duration.
pub fn record(histogram: &mut Histogram<u64>, duration: Duration) {
    histogram.saturating_record(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
}

/// A load generator whose connections are open.
pub struct Generator {
    load: Load,
    requests: Vec<Request>,
    epoll: OwnedFd,
    connections: Vec<Connection>,
    /// Which connections have nothing to do.
    idle: VecDeque<usize>,
    in_flight: usize,
    turn: usize,
    /// Answers to requests that were due from then on are timed.
    warm_from: Instant,
    outcome: Outcome,
}

impl Load {
    /// Sent for so long in a closed loop.
    pub fn closed(target: SocketAddr, connections: usize, time: Duration) -> Self {
        Self {
            target,
            connections,
            time,
            pace: None,
            warm_up: Duration::ZERO,
            events_max: u64::MAX,
            first_number: 0,
        }
    }

    /// The same, but a service's first answers are not timed: while it makes its first segment it
    /// answers nothing, and in a short run that would be all that the 99th percentile says.
    pub fn warmed_up(self) -> Self {
        Self { warm_up: WARM_UP.min(self.time / 4), ..self }
    }

    /// Opens the connections, so that what that costs is not part of what is measured.
    ///
    /// # Errors
    /// What the system said when a connection could not be made.
    pub fn connect(self, requests: Vec<Request>) -> io::Result<Generator> {
        let (connections, first_number) = (self.connections, self.first_number);
        let mut generator = Generator {
            load: self,
            requests,
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            connections: Vec::with_capacity(connections),
            idle: VecDeque::with_capacity(connections),
            in_flight: 0,
            turn: 0,
            warm_from: Instant::now(),
            outcome: Outcome {
                requests: 0,
                acknowledged: 0,
                bad_acknowledged: 0,
                in_doubt: 0,
                numbers: first_number,
                faults: BTreeMap::new(),
                latency_us: histogram()?,
                elapsed: Duration::ZERO,
                cpu: Duration::ZERO,
            },
        };
        for index in 0..connections {
            let stream = generator.stream(index)?;
            generator.connections.push(Connection {
                stream,
                out: Vec::new(),
                written: 0,
                is_blocked: false,
                answer: Vec::with_capacity(1024),
                sent: None,
            });
            generator.idle.push_back(index);
        }
        Ok(generator)
    }
}

impl Generator {
    /// Sends the requests in turn until the time is over or `cancel` says so, and waits for what
    /// is under way.
    ///
    /// # Errors
    /// What the system said when a connection could not be made anew.
    pub fn run(mut self, cancel: &Arc<AtomicBool>) -> io::Result<Outcome> {
        let cpu = thread_cpu();
        let start = Instant::now();
        let end = start + self.load.time;
        self.warm_from = start + self.load.warm_up;
        match self.load.pace {
            None => self.closed(end, cancel)?,
            Some(pace) => self.open(start, end, pace, cancel)?,
        }
        let mut outcome = self.finish();
        outcome.elapsed = start.elapsed();
        outcome.cpu = thread_cpu().saturating_sub(cpu);
        Ok(outcome)
    }

    fn stream(&self, index: usize) -> io::Result<TcpStream> {
        let stream = TcpStream::connect_timeout(&self.load.target, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let data = epoll::EventData::new_u64(index as u64);
        epoll::add(&self.epoll, &stream, data, epoll::EventFlags::IN)?;
        Ok(stream)
    }

    /// Every connection sends when its answer is there.
    fn closed(&mut self, mut end: Instant, cancel: &AtomicBool) -> io::Result<()> {
        let numbers_max = self.load.first_number.saturating_add(self.load.events_max);
        loop {
            let now = Instant::now();
            while now < end
                && self.outcome.numbers < numbers_max
                && let Some(index) = self.idle.pop_front()
            {
                self.send(index, Instant::now())?;
            }
            if self.outcome.numbers >= numbers_max {
                end = end.min(now);
            }
            if self.is_over(now, end, cancel) {
                return Ok(());
            }
            self.turn_of_events(TICK)?;
        }
    }

    /// Requests are due at a pace.
    fn open(
        &mut self,
        start: Instant,
        end: Instant,
        pace: f64,
        cancel: &AtomicBool,
    ) -> io::Result<()> {
        let mut due_count = 0_u64;
        loop {
            let due = start + Duration::from_secs_f64(due_count as f64 / pace.max(1.0));
            let now = Instant::now();
            let is_due = due <= now && due < end;
            if is_due && let Some(index) = self.idle.pop_front() {
                due_count += 1;
                self.send(index, due)?;
                continue;
            }
            if (due >= end || now >= end + PATIENCE) && self.is_over(now, end, cancel)
                || cancel.load(Relaxed)
            {
                return Ok(());
            }
            // Where no connection is free, only an answer helps.
            let wait = if is_due || due >= end { TICK } else { (due - now).min(TICK) };
            self.turn_of_events(wait)?;
        }
    }

    fn is_over(&self, now: Instant, end: Instant, cancel: &AtomicBool) -> bool {
        let faults = self.outcome.faults.iter().filter(|(fault, _)| !is_refusal(fault));
        let faults: u64 = faults.map(|(_, times)| times).sum();
        let is_answered = now >= end && self.in_flight == 0;
        is_answered || now >= end + PATIENCE || cancel.load(Relaxed) || faults > FAULTS_MAX
    }

    /// Waits for sockets and serves those that are ready.
    fn turn_of_events(&mut self, wait: Duration) -> io::Result<()> {
        let mut ready = Vec::<epoll::Event>::with_capacity(self.connections.len());
        let wait = Timespec {
            tv_sec: i64::try_from(wait.as_secs()).unwrap_or(0),
            tv_nsec: wait.subsec_nanos().into(),
        };
        match epoll::wait(&self.epoll, spare_capacity(&mut ready), Some(&wait)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in ready {
            let (index, flags) = (event.data.u64() as usize, event.flags);
            if flags.contains(epoll::EventFlags::OUT) {
                self.write(index)?;
            }
            if !flags.difference(epoll::EventFlags::OUT).is_empty() {
                self.read(index)?;
            }
        }
        Ok(())
    }

    fn send(&mut self, index: usize, since: Instant) -> io::Result<()> {
        let request = &self.requests[self.turn % self.requests.len()];
        self.turn += 1;
        let connection = &mut self.connections[index];
        request.write(self.outcome.numbers, &mut connection.out);
        self.outcome.numbers += request.events;
        connection.written = 0;
        connection.sent =
            Some(Sent { since, events: request.events, bad_events: request.bad_events });
        self.in_flight += 1;
        self.write(index)
    }

    fn write(&mut self, index: usize) -> io::Result<()> {
        let connection = &mut self.connections[index];
        while connection.written < connection.out.len() {
            match connection.stream.write(&connection.out[connection.written..]) {
                Ok(bytes) => connection.written += bytes,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return self.watch(index, true);
                }
                Err(error) => return self.broken(index, &format!("connection: {error}")),
            }
        }
        self.watch(index, false)
    }

    fn watch(&mut self, index: usize, is_blocked: bool) -> io::Result<()> {
        let connection = &mut self.connections[index];
        if connection.is_blocked != is_blocked {
            connection.is_blocked = is_blocked;
            let mut flags = epoll::EventFlags::IN;
            flags.set(epoll::EventFlags::OUT, is_blocked);
            let data = epoll::EventData::new_u64(index as u64);
            epoll::modify(&self.epoll, &connection.stream, data, flags)?;
        }
        Ok(())
    }

    fn read(&mut self, index: usize) -> io::Result<()> {
        let connection = &mut self.connections[index];
        let mut bytes = [0; 4096];
        match connection.stream.read(&mut bytes) {
            Ok(0) => return self.broken(index, "connection: closed by the server"),
            Ok(count) => connection.answer.extend_from_slice(&bytes[..count]),
            Err(error) if is_later(&error) => return Ok(()),
            Err(error) => return self.broken(index, &format!("connection: {error}")),
        }
        let Some(sent) = connection.sent else {
            return self.broken(index, "connection: an answer without a request");
        };
        let status = match answer::parse(&connection.answer) {
            Ok(Some(answer)) => answer.status,
            Ok(None) if connection.answer.len() < ANSWER_BYTES_MAX => return Ok(()),
            Ok(None) => return self.broken(index, "an answer that does not end"),
            Err(why) => return self.broken(index, why),
        };
        let outcome = &mut self.outcome;
        if status == 200 || status == 202 {
            if sent.since >= self.warm_from {
                record(&mut outcome.latency_us, sent.since.elapsed());
            }
            outcome.requests += 1;
            outcome.acknowledged += sent.events;
            outcome.bad_acknowledged += sent.bad_events;
        } else {
            let body = String::from_utf8_lossy(&connection.answer);
            let code = body.split("\"code\":\"").nth(1).and_then(|rest| rest.split('"').next());
            let fault = format!("status {status} {}", code.unwrap_or_default());
            *outcome.faults.entry(fault.trim_end().to_owned()).or_default() += 1;
            outcome.in_doubt += sent.events;
        }
        connection.answer.clear();
        connection.sent = None;
        self.in_flight -= 1;
        self.idle.push_back(index);
        Ok(())
    }

    /// Counts a fault and makes the connection anew.
    fn broken(&mut self, index: usize, why: &str) -> io::Result<()> {
        *self.outcome.faults.entry(why.to_owned()).or_default() += 1;
        let stream = self.stream(index)?;
        let connection = &mut self.connections[index];
        // The old stream is closed with this, and epoll forgets it.
        connection.stream = stream;
        connection.is_blocked = false;
        connection.answer.clear();
        connection.out.clear();
        connection.written = 0;
        if let Some(sent) = connection.sent.take() {
            self.outcome.in_doubt += sent.events;
            self.in_flight -= 1;
            self.idle.push_back(index);
        }
        Ok(())
    }

    /// What is still under way has no answer.
    fn finish(mut self) -> Outcome {
        for sent in self.connections.iter().filter_map(|connection| connection.sent) {
            self.outcome.in_doubt += sent.events;
            *self.outcome.faults.entry("no answer in time".to_owned()).or_default() += 1;
        }
        self.outcome
    }
}

fn is_refusal(fault: &str) -> bool {
    fault.starts_with("status 503")
}

fn is_later(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread::JoinHandle;

    use super::super::requests;
    use super::*;

    const HAPPENED: &str = "2026-11-23T06:59:00.123Z";

    /// Serves so many connections, one after the other, until their clients close them; each
    /// request is answered with what `answer` says of its number. Returns how many there were.
    fn server(
        connections: usize,
        answer: impl Fn(u64) -> String + Send + 'static,
    ) -> (SocketAddr, JoinHandle<u64>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let serve = move || {
            let mut requests = 0;
            for _ in 0..connections {
                let (mut stream, _) = listener.accept().unwrap();
                let mut bytes = [0; 8 << 10];
                // A request of a single event comes in one piece.
                while stream.read(&mut bytes).is_ok_and(|count| count > 0) {
                    let answer = answer(requests);
                    requests += 1;
                    if answer.is_empty() || stream.write_all(answer.as_bytes()).is_err() {
                        break;
                    }
                }
            }
            requests
        };
        (address, std::thread::spawn(serve))
    }

    fn ok() -> String {
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}".to_owned()
    }

    fn send(load: Load, cancel: &Arc<AtomicBool>) -> Outcome {
        load.connect(requests::single(HAPPENED).requests).unwrap().run(cancel).unwrap()
    }

    fn run(target: SocketAddr, ms: u64, pace: Option<f64>) -> Outcome {
        send(Load { pace, ..Load::closed(target, 1, Duration::from_millis(ms)) }, &Arc::default())
    }

    #[test]
    fn every_request_is_answered_and_counted_once() {
        let (address, server) = server(1, |_| ok());
        let outcome = run(address, 30, None);
        let served = server.join().unwrap();
        assert!(served > 0 && outcome.faults.is_empty(), "{:?}", outcome.faults);
        let counts = [outcome.requests, outcome.acknowledged, outcome.numbers];
        assert_eq!(counts, [served; 3]);
        assert_eq!((outcome.latency_us.len(), outcome.in_doubt), (served, 0));
    }

    #[test]
    fn a_refusal_is_a_fault_and_never_acknowledged() {
        let refusal = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 21\r\n\r\n\
                       {\"code\":\"overloaded\"}";
        let (address, server) = server(1, |n| if n == 2 { refusal.to_owned() } else { ok() });
        let mut outcome = run(address, 30, None);
        let served = server.join().unwrap();
        assert_eq!(outcome.faults, BTreeMap::from([("status 503 overloaded".to_owned(), 1)]));
        assert_eq!((outcome.acknowledged, outcome.in_doubt), (served - 1, 1));
        outcome.faults.insert("status 500".to_owned(), 2);
        assert_eq!(outcome.take_refusals(), 1);
        assert_eq!(outcome.faults, BTreeMap::from([("status 500".to_owned(), 2)]));
    }

    #[test]
    fn a_connection_that_is_closed_is_a_fault_and_made_anew() {
        let (address, server) = server(2, |n| if n == 3 { String::new() } else { ok() });
        let outcome = run(address, 100, None);
        let served = server.join().unwrap();
        assert_eq!(outcome.faults.values().sum::<u64>(), 1, "{:?}", outcome.faults);
        assert_eq!((outcome.acknowledged, outcome.in_doubt), (served - 1, 1));
    }

    #[test]
    fn what_a_stall_keeps_waiting_is_counted_from_when_it_was_due() {
        let stall = Duration::from_millis(300);
        let answer = move |n| {
            if n == 0 {
                std::thread::sleep(stall);
            }
            ok()
        };
        let (address, server) = server(1, answer);
        let outcome = run(address, 200, Some(100.0));
        assert_eq!((server.join().unwrap(), outcome.requests), (20, 20));
        // All were due while the first was not answered, the last of them 100 ms before it was.
        assert!(outcome.latency_us.min() >= 99_000, "{} us", outcome.latency_us.min());
    }

    #[test]
    fn the_first_answers_are_counted_and_not_timed_where_a_server_warms_up() {
        let (address, server) = server(1, |_| ok());
        let load = Load::closed(address, 1, Duration::from_millis(100));
        let warm_up = Duration::from_millis(60);
        let load = Load { pace: Some(100.0), warm_up, ..load };
        let outcome = send(load, &Arc::default());
        assert_eq!((server.join().unwrap(), outcome.requests), (10, 10));
        assert_eq!(outcome.latency_us.len(), 4);
    }

    #[test]
    fn what_is_not_timed_is_never_most_of_a_load() {
        let target = SocketAddr::from(([127, 0, 0, 1], 1));
        let warm_up = |ms| Load::closed(target, 1, Duration::from_millis(ms)).warmed_up().warm_up;
        assert_eq!([warm_up(60_000), warm_up(400)], [WARM_UP, Duration::from_millis(100)]);
    }

    #[test]
    fn a_load_that_is_cancelled_ends() {
        let (address, server) = server(1, |_| ok());
        let cancel = Arc::new(AtomicBool::new(true));
        send(Load::closed(address, 1, Duration::from_secs(3600)), &cancel);
        server.join().unwrap();
    }

    #[test]
    fn a_load_of_so_many_events_ends_with_the_last_of_them() {
        let (address, server) = server(1, |_| ok());
        let load = Load::closed(address, 1, Duration::from_secs(3600));
        let outcome = send(Load { events_max: 7, ..load }, &Arc::default());
        assert_eq!((server.join().unwrap(), outcome.acknowledged), (7, 7));
    }

    #[test]
    fn a_load_that_is_refused_goes_on_and_one_that_fails_does_not() {
        for (status, is_ended) in [("503 Service Unavailable", false), ("500 Error", true)] {
            let refusal = format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\n\r\n{{}}");
            let (address, server) = server(1, move |_| refusal.clone());
            let load = Load::closed(address, 1, Duration::from_secs(3600));
            let outcome = send(Load { events_max: FAULTS_MAX * 2, ..load }, &Arc::default());
            assert_eq!(outcome.in_doubt, server.join().unwrap());
            assert_eq!(outcome.in_doubt < FAULTS_MAX * 2, is_ended, "{}", outcome.in_doubt);
        }
    }

    #[test]
    fn a_streams_second_load_goes_on_with_the_numbers_and_both_have_one_account() {
        let (address, server) = server(3, |n| if n == 2 { String::new() } else { ok() });
        let load = |events_max, first_number| {
            let load = Load::closed(address, 1, Duration::from_secs(3600));
            send(Load { events_max, first_number, ..load }, &Arc::default())
        };
        let first = load(2, 0);
        let mut both = load(3, first.numbers);
        both.add_earlier(first);
        assert_eq!(server.join().unwrap(), 5);
        assert_eq!((both.requests, both.acknowledged, both.in_doubt), (4, 4, 1));
        assert_eq!((both.numbers, both.faults.values().sum::<u64>()), (5, 1));
    }
}
