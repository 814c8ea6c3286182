//! What the process and its machine use and have.

use std::time::Instant;

/// Resident bytes of this process; 0 where `/proc` does not tell.
pub(super) fn memory_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
    pages * rustix::param::page_size() as u64
}

/// Memory that may be used: the cgroup's limit, else the machine's.
pub(super) fn memory_bytes_max() -> u64 {
    let of_machine = rustix::system::sysinfo();
    let machine = of_machine.totalram as u64 * u64::from(of_machine.mem_unit);
    let cgroup = std::fs::read_to_string("/sys/fs/cgroup/memory.max").unwrap_or_default();
    cgroup.trim().parse().map_or(machine, |limit: u64| limit.min(machine))
}

/// The machine's name.
pub(super) fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Measures how many cores this process keeps busy between two calls.
pub(super) struct Cpu {
    ticks: u64,
    at: Instant,
}

impl Cpu {
    pub(super) fn new() -> Self {
        Self { ticks: ticks(), at: Instant::now() }
    }

    /// The cores that were busy since then; none where that is too short for a clock that counts
    /// hundredths of a second.
    pub(super) fn cores_since(&self, then: &Self) -> f64 {
        let seconds = self.at.duration_since(then.at).as_secs_f64();
        let used = self.ticks.saturating_sub(then.ticks) as f64;
        if seconds < 0.1 {
            return 0.0;
        }
        used / rustix::param::clock_ticks_per_second() as f64 / seconds
    }
}

/// User and system time of this process, see proc_pid_stat(5).
fn ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The second field is the name in parentheses, which may hold anything.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    fields.split_ascii_whitespace().skip(11).take(2).filter_map(|n| n.parse::<u64>().ok()).sum()
}
