//! Whether the machine was quiet: what others took of its cores while something was measured.
//!
//! A process's time, with that of the children it has waited for, is found in its parent's when it
//! has ended; so the sum over all processes grows by what was used, and loses nothing. Kernel
//! threads are left out: they write what we have written.

use std::collections::HashMap;
use std::time::Instant;

use serde::Serialize;

/// How many of the others are named.
const NAMED: usize = 3;
/// The kernel's threads have this parent.
const KERNEL: u32 = 2;

/// What others have taken, in percent of all cores.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Others {
    /// All other processes together.
    pub others_percent: f64,
    /// What the machine below took for its other guests.
    pub steal_percent: f64,
    /// The busiest of the others.
    pub busiest: Vec<Busy>,
}

/// A process that was busy.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Busy {
    /// Its name.
    pub name: String,
    /// What it took, with its children, in percent of all cores.
    pub percent: f64,
}

/// A reading of every process's time.
pub struct Reading {
    at: Instant,
    processes: HashMap<u32, Process>,
    steal_ticks: u64,
}

struct Process {
    name: String,
    parent: u32,
    ticks: u64,
}

impl Reading {
    /// Reads all that `/proc` shows.
    pub fn take() -> std::io::Result<Self> {
        let mut processes = HashMap::new();
        for entry in std::fs::read_dir("/proc")? {
            let entry = entry?;
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            // A process may end while it is looked at.
            let stat = std::fs::read_to_string(entry.path().join("stat"));
            if let Some(process) = stat.ok().as_deref().and_then(process) {
                processes.insert(pid, process);
            }
        }
        let stat = std::fs::read_to_string("/proc/stat")?;
        Ok(Self { at: Instant::now(), processes, steal_ticks: steal(&stat) })
    }

    /// What has been used since `before` by all but this process and its children.
    pub fn since(&self, before: &Self) -> Others {
        let per_second = rustix::param::clock_ticks_per_second() as f64;
        let seconds = self.at.duration_since(before.at).as_secs_f64().max(0.001);
        let percent = |ticks: f64| ticks / per_second / seconds / cores() as f64 * 100.0;
        let us = std::process::id();
        let is_other = |pid: u32, parent: u32| {
            ![pid, parent].contains(&us) && ![pid, parent].contains(&KERNEL)
        };
        let inherited = self.inherited(before);
        let mut busiest = Vec::new();
        let mut ticks = 0.0;
        for (pid, process) in &self.processes {
            if is_other(*pid, process.parent) {
                let earlier = before.processes.get(pid).map_or(0, |earlier| earlier.ticks);
                let earlier = earlier + inherited.get(pid).copied().unwrap_or(0);
                // Below zero where somebody else has waited for its children.
                let used = process.ticks as f64 - earlier as f64;
                ticks += used;
                busiest.push(Busy { name: process.name.clone(), percent: percent(used) });
            }
        }
        busiest.retain(|busy| busy.percent >= 1.0);
        busiest.sort_by(|a, b| b.percent.total_cmp(&a.percent));
        busiest.truncate(NAMED);
        for busy in &mut busiest {
            busy.percent = busy.percent.min(percent(ticks.max(0.0)));
        }
        Others {
            others_percent: percent(ticks.max(0.0)),
            steal_percent: percent(self.steal_ticks.saturating_sub(before.steal_ticks) as f64),
            busiest,
        }
    }
}

impl Reading {
    /// What those that have ended meanwhile had used before: it is in the time of the ancestors
    /// that have waited for them, and was not used since.
    fn inherited(&self, before: &Self) -> HashMap<u32, u64> {
        let mut inherited = HashMap::new();
        for (pid, gone) in &before.processes {
            if self.processes.contains_key(pid) {
                continue;
            }
            let parents = std::iter::successors(Some(gone.parent), |parent| {
                before.processes.get(parent).map(|process| process.parent)
            });
            // Readings take a moment: what they say of each other's parents could be a circle.
            let mut living = parents.take(64).filter(|parent| self.processes.contains_key(parent));
            if let Some(heir) = living.next() {
                *inherited.entry(heir).or_insert(0) += gone.ticks;
            }
        }
        inherited
    }
}

/// How many cores this process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// A process of proc_pid_stat(5): its own time and that of the children it has waited for.
fn process(stat: &str) -> Option<Process> {
    let (front, fields) = stat.rsplit_once(')')?;
    let name = front.split_once('(')?.1.to_owned();
    let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
    let parent = fields.get(1)?.parse().ok()?;
    let ticks = fields.get(11..15)?.iter().filter_map(|n| n.parse::<u64>().ok()).sum();
    Some(Process { name, parent, ticks })
}

/// The eighth number of the first line of `/proc/stat`.
fn steal(stat: &str) -> u64 {
    let all = stat.lines().next().unwrap_or_default();
    all.split_ascii_whitespace().nth(8).and_then(|n| n.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn reading(at: Instant, processes: &[(u32, u32, u64)], steal_ticks: u64) -> Reading {
        let process = |&(pid, parent, ticks): &(u32, u32, u64)| {
            (pid, Process { name: format!("p{pid}"), parent, ticks })
        };
        Reading { at, processes: processes.iter().map(process).collect(), steal_ticks }
    }

    #[test]
    fn only_others_count_and_those_that_ended_are_in_their_parents() {
        let (us, start) = (std::process::id(), Instant::now());
        let ticks = rustix::param::clock_ticks_per_second() * cores() as u64;
        // A shell with a compiler that ends, a kernel thread, ourselves and our child.
        let before = [(10, 1, 50), (11, 10, 30), (3, 2, 5), (us, 10, 7), (us + 1, us, 0)];
        let after = [(10, 1, 50 + 30 + ticks), (3, 2, 900), (us, 10, 9999), (us + 1, us, 9999)];
        let later = start + Duration::from_secs(10);
        let others = reading(later, &after, ticks).since(&reading(start, &before, 0));
        assert!((others.others_percent - 10.0).abs() < 0.01, "{others:?}");
        assert!((others.steal_percent - 10.0).abs() < 0.01, "{others:?}");
        assert_eq!(others.busiest.len(), 1);
        assert_eq!(others.busiest[0].name, "p10");
        assert!((others.busiest[0].percent - 10.0).abs() < 0.01, "{others:?}");
    }

    #[test]
    fn a_process_with_any_name_is_read() {
        let line = "7 (a) b (c) S 3 7 7 0 -1 4194560 1 2 3 4 10 20 30 40 20 0 1 0 5 6";
        let process = process(line).unwrap();
        assert_eq!((process.name.as_str(), process.parent, process.ticks), ("a) b (c", 3, 100));
        assert_eq!(steal("cpu  1 2 3 4 5 6 7 88 9 10\ncpu0 1 1 1 1 1 1 1 1 1 1\n"), 88);
    }

    #[test]
    fn this_machine_can_be_read() {
        let before = Reading::take().unwrap();
        assert!(before.processes.contains_key(&std::process::id()));
        assert!(Reading::take().unwrap().since(&before).others_percent >= 0.0);
    }
}
