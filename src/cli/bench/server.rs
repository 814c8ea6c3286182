//! The servers that are measured: processes of their own, so that their CPU time, memory and
//! bytes written are nobody else's.
//!
//! Both are this binary: the service as `eventkit run` has it, and a bare axum handler that reads
//! the body and drops it. A child is killed when its handle is dropped; where the parent itself is
//! killed, the child sees the end of its standard input and ends, and the bare one, which is there
//! from the beginning to the end, removes the directory.

use std::io::{BufRead, BufReader, Read, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::DefaultBodyLimit;
use axum::http::header::CONTENT_TYPE;
use axum::routing::post;
use eventkit::admin::Client;
use eventkit::status::Snapshot;

use super::super::run::Run;
use super::super::{Done, Failure, IO, Options};
use super::load::Outcome;
use super::report;
use super::requests;

/// How long a child may take to be there.
const START_MAX: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// How long a flush may take: the service gives up after a minute.
const FLUSH_MAX: Duration = Duration::from_secs(70);
/// The end of a service's log that is shown when it does not start.
const LOG_LINES: usize = 5;

/// Which child a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// The service.
    Service,
    /// The bare handler.
    Bare,
}

impl Part {
    /// What the child does: it ends when its standard input does, at the latest.
    pub fn run(self, options: &Options, dir: Option<PathBuf>) -> Done {
        std::thread::Builder::new().name("bench-parent".to_owned()).spawn(move || {
            outlive_parent();
            if let Some(dir) = dir {
                remove(&dir);
            }
            std::process::exit(i32::from(IO));
        })?;
        match self {
            Self::Service => Run::default().run(options),
            Self::Bare => {
                let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
                Ok(runtime.block_on(bare())?)
            }
        }
    }
}

/// Returns when the parent is gone.
fn outlive_parent() {
    let mut input = std::io::stdin().lock();
    let mut byte = [0];
    // An end and an error say the same.
    while matches!(input.read(&mut byte), Ok(1)) {}
}

/// Removes the directory, also while a service that is about to end still writes to it.
fn remove(dir: &Path) {
    let end = Instant::now() + START_MAX;
    while std::fs::remove_dir_all(dir).is_err() && dir.exists() && Instant::now() < end {
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// Serves until it is killed; its address is the first line of the standard output.
async fn bare() -> std::io::Result<()> {
    async fn take(body: Bytes) -> ([(axum::http::HeaderName, &'static str); 1], &'static str) {
        drop(body);
        ([(CONTENT_TYPE, "application/json")], r#"{"success":true}"#)
    }
    let routes = axum::Router::new()
        .route("/v1/track", post(take))
        .route("/v1/batch", post(take))
        .layer(DefaultBodyLimit::max(16 << 20));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    writeln!(std::io::stdout(), "{}", listener.local_addr()?)?;
    axum::serve(listener, routes).await
}

/// A child process and what the system knows of it.
pub struct Child(std::process::Child);

impl Drop for Child {
    fn drop(&mut self) {
        // One that has ended already can't be killed, and that is as well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Child {
    fn start(part: &[&str], arguments: &[&Path], output: [Stdio; 2]) -> Result<Self, Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(part).args(arguments).stdin(Stdio::piped());
        let [stdout, stderr] = output;
        command.stdout(stdout).stderr(stderr);
        // What is measured is the service with its defaults.
        for (name, _) in std::env::vars_os() {
            if is_configuration(&name.to_string_lossy()) {
                command.env_remove(name);
            }
        }
        // A key press is for the parent, which ends its children.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        Ok(Self(command.spawn()?))
    }

    /// User and system time of the whole process so far; the system counts in hundredths.
    pub fn cpu(&self) -> std::io::Result<Duration> {
        let stat = self.read("stat")?;
        // The second field is the name in parentheses, which may hold anything.
        let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let times = fields.split_ascii_whitespace().skip(11).take(2);
        let ticks: u64 = times.filter_map(|n| n.parse::<u64>().ok()).sum();
        Ok(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
    }

    /// CPU time of each living thread, in nanoseconds: finer than [`cpu`](Self::cpu), and without
    /// threads that have ended.
    pub fn threads_cpu(&self) -> std::io::Result<Vec<(String, u64)>> {
        let mut threads = Vec::new();
        for entry in std::fs::read_dir(format!("/proc/{}/task", self.0.id()))? {
            let entry = entry?;
            // A thread may end while it is looked at.
            let Ok(text) = std::fs::read_to_string(entry.path().join("schedstat")) else {
                continue;
            };
            let ns = text.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0);
            threads.push((entry.file_name().to_string_lossy().into_owned(), ns));
        }
        Ok(threads)
    }

    /// The most memory that was resident at once, in bytes.
    pub fn memory_bytes_max(&self) -> std::io::Result<u64> {
        Ok(field(&self.read("status")?, "VmHWM:").unwrap_or(0) << 10)
    }

    fn read(&self, file: &str) -> std::io::Result<String> {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.0.id()))
    }

    fn ended(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().ok().flatten()
    }
}

/// Whether a variable would configure the service.
fn is_configuration(name: &str) -> bool {
    const OTHERS: [&str; 5] =
        ["STATE_DIRECTORY", "RUNTIME_DIRECTORY", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];
    name.starts_with("EVENTKIT_") || OTHERS.contains(&name)
}

/// The number behind a name in a file of `/proc`.
fn field(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

/// The bare handler.
pub struct Bare {
    /// Its process.
    pub child: Child,
    /// Where it listens.
    pub listen: SocketAddr,
}

impl Bare {
    /// Starts it; it removes `dir` when the parent has not lived to do so.
    pub fn start(dir: &Path) -> Result<Self, Failure> {
        let part = ["bench", "--child", "bare", "--dir"];
        let mut child = Child::start(&part, &[dir], [Stdio::piped(), Stdio::inherit()])?;
        let mut line = String::new();
        if let Some(stdout) = child.0.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let listen = line.trim().parse();
        let listen = listen.map_err(|_| Failure::new(IO, "the bare handler did not start"))?;
        Ok(Self { child, listen })
    }

    /// Fails where it gave an answer that was none: then it is no measure.
    pub fn judge(&self, outcome: &Outcome) -> Result<(), Failure> {
        if outcome.faults.is_empty() {
            return Ok(());
        }
        let faults = report::list(&outcome.faults);
        Err(Failure::new(IO, format!("the bare handler fails: {faults}")))
    }
}

/// A service on a directory of its own, with the defaults but for what was asked for.
pub struct Service {
    /// Its process.
    pub child: Child,
    /// Where events come in.
    pub listen: SocketAddr,
    /// Its data directory.
    data: PathBuf,
    client: Client,
}

impl Service {
    /// Starts it below `dir`, this process's current directory, with a data directory of that
    /// name, new or as an earlier one has left it, and with those settings; returns when it is
    /// ready.
    pub async fn start(dir: &Path, name: &str, settings: &Settings) -> Result<Self, Failure> {
        let data = dir.join(name);
        std::fs::create_dir_all(&data)?;
        let (config, log) = (data.join("eventkit.toml"), data.join("service.log"));
        // A socket's path has 107 bytes at most: relative, it is short wherever the directory is.
        let socket = Path::new(".").join(name).join("admin.sock");
        std::fs::write(&config, configuration(&data, &socket, settings)?)?;
        let part = ["bench", "--child", "service", "--config"];
        let output = [Stdio::null(), Stdio::from(std::fs::File::create(&log)?)];
        let mut child = Child::start(&part, &[&config], output)?;
        let client = Client::new(&socket).with_timeout(FLUSH_MAX);
        let end = Instant::now() + START_MAX;
        let snapshot = loop {
            if let Ok(snapshot) = client.snapshot().await {
                break snapshot;
            }
            if child.ended().is_some() || Instant::now() > end {
                return Err(Failure::new(IO, format!("no service: {}", last_lines(&log))));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        };
        let listen = snapshot.listen.parse().map_err(|error| {
            Failure::new(IO, format!("{:?} is not where it listens: {error}", snapshot.listen))
        })?;
        Ok(Self { child, listen, data, client })
    }

    /// Ends it, and removes its data directory.
    pub fn remove(self) -> std::io::Result<()> {
        drop(self.child);
        std::fs::remove_dir_all(&self.data)
    }

    /// Its lake.
    pub fn lake(&self) -> PathBuf {
        self.data.join("lake")
    }

    /// Its logs, a directory each.
    pub fn logs(&self) -> std::io::Result<Vec<PathBuf>> {
        std::fs::read_dir(self.data.join("wal"))?.map(|entry| Ok(entry?.path())).collect()
    }

    /// Stores everything that was acknowledged; returns what could not be stored.
    pub async fn flush(&self) -> Result<Vec<String>, Failure> {
        Ok(self.client.flush().await?.unfinished)
    }

    /// The first snapshot that `is_done` likes, or the last within that time.
    pub async fn snapshot(
        &self,
        time: Duration,
        is_done: impl Fn(&Snapshot) -> bool,
    ) -> Result<Snapshot, Failure> {
        let end = Instant::now() + time;
        loop {
            let snapshot = self.client.snapshot().await?;
            if is_done(&snapshot) || Instant::now() > end {
                return Ok(snapshot);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}

/// What a service has other than the defaults.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings {
    /// `partitions`
    pub partitions: Option<u16>,
    /// `ingest.connections_max`
    pub connections_max: Option<u32>,
    /// So many of [`requests::streams`] are declared, and their logs made at the start.
    pub streams: u64,
}

/// The configuration: the defaults, below that directory, at ports of the kernel's choice.
fn configuration(data: &Path, socket: &Path, settings: &Settings) -> Result<String, Failure> {
    let mut table = toml::Table::new();
    let text = |text: &str| toml::Value::String(text.to_owned());
    table.insert("data_dir".to_owned(), text(&data.to_string_lossy()));
    table.insert("admin_socket".to_owned(), text(&socket.to_string_lossy()));
    table.insert("listen".to_owned(), text("127.0.0.1:0"));
    table.insert("metrics_listen".to_owned(), text("127.0.0.1:0"));
    // What is stored is gone with its directory.
    let disk = toml::Table::from_iter([("allow_any_filesystem".to_owned(), true.into())]);
    table.insert("disk".to_owned(), disk.into());
    if let Some(partitions) = settings.partitions {
        table.insert("partitions".to_owned(), i64::from(partitions).into());
    }
    if let Some(max) = settings.connections_max {
        let ingest =
            toml::Table::from_iter([("connections_max".to_owned(), i64::from(max).into())]);
        table.insert("ingest".to_owned(), ingest.into());
    }
    if settings.streams > 0 {
        let declared = |n| (requests::stream(n), toml::Table::new().into());
        let declared: toml::Table = (0..settings.streams).map(declared).collect();
        // Beside them there are those that every service has.
        let max = i64::try_from(settings.streams + 16).unwrap_or(i64::MAX);
        table.insert("max_streams".to_owned(), max.into());
        table.insert("streams".to_owned(), declared.into());
    }
    toml::to_string(&table).map_err(|error| Failure::new(IO, error))
}

fn last_lines(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_with_any_name_is_configured() {
        let dir = Path::new("/tmp/a \"b\" \\ c");
        let settings = Settings { partitions: Some(64), connections_max: Some(9), streams: 2 };
        let text = configuration(dir, Path::new("./admin.sock"), &settings).unwrap();
        let table: toml::Table = text.parse().unwrap();
        assert_eq!(table["data_dir"].as_str(), dir.to_str());
        assert_eq!(table["disk"]["allow_any_filesystem"].as_bool(), Some(true));
        assert_eq!(table["partitions"].as_integer(), Some(64));
        assert_eq!(table["ingest"]["connections_max"].as_integer(), Some(9));
        assert_eq!(table["streams"].as_table().unwrap().len(), 2);
    }

    #[test]
    fn a_number_is_found_by_its_whole_name() {
        let status = "Name:\tVmHWM\nVmPeak:\t 5 kB\nVmHWM:\t  123 kB\n";
        assert_eq!(field(status, "VmHWM:"), Some(123));
        assert_eq!(field(status, "VmRSS:"), None);
    }

    #[test]
    fn what_configures_a_service_is_kept_from_the_child() {
        assert!(is_configuration("EVENTKIT_DATA_DIR") && is_configuration("NOTIFY_SOCKET"));
        assert!(!is_configuration("PATH") && !is_configuration("TMPDIR"));
    }

    #[test]
    fn a_child_dies_with_its_handle_and_its_time_is_told() {
        let spawned = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn();
        let child = Child(spawned.unwrap());
        let proc = PathBuf::from(format!("/proc/{}", child.0.id()));
        assert!(child.memory_bytes_max().unwrap() > 0 && child.cpu().is_ok());
        assert_eq!(child.threads_cpu().unwrap().len(), 1);
        drop(child);
        assert!(!proc.exists());
    }
}
