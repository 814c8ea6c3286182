//! The machine while something is measured on it: which it is, how quiet it was, and what that and
//! the account of the events say of the figures.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::super::Failure;
use super::super::print::safe;
use super::account::Account;
use super::ceilings::Syncs;
use super::figures::{Machine, Quiet};
use super::quiet::{self, Reading};
use super::report;
use super::rig::Rig;
use super::server::Bare;

/// The machine, from the beginning of a run.
pub struct Watch {
    /// The bare handler; it also clears up where this process is killed.
    pub bare: Bare,
    /// The device, before everything else.
    syncs: Syncs,
    began: Instant,
    before: Reading,
}

/// What was seen until the end of a run.
pub struct Watched {
    /// On what it was measured.
    pub machine: Machine,
    /// What others did.
    pub quiet: Quiet,
    /// The device, before everything else.
    pub syncs_before: Syncs,
    /// The device, after it.
    pub syncs_after: Syncs,
}

/// A part of a run: its name, its events, and the faults that were not asked for.
pub type Part<'a> = (String, &'a Account, &'a BTreeMap<String, u64>);

impl Watch {
    /// From now on; the device's syncs are measured for so long.
    pub async fn begin(rig: &Rig, time: Duration) -> Result<Self, Failure> {
        let (began, before) = (Instant::now(), Reading::take()?);
        let bare = Bare::start(&rig.dir)?;
        Ok(Self { bare, syncs: rig.syncs(time).await?, began, before })
    }

    /// Until now; the device's syncs are measured again.
    pub async fn end(self, rig: &Rig, time: Duration) -> Result<Watched, Failure> {
        let syncs_after = rig.syncs(time).await?;
        drop(self.bare);
        let others = Reading::take()?.since(&self.before);
        let machine = Machine {
            cores: quiet::cores(),
            dir: rig.parent.display().to_string(),
            filesystem: filesystem(&rig.parent),
            asked_s: rig.asked.as_secs_f64(),
            took_s: self.began.elapsed().as_secs_f64(),
        };
        let quiet = Quiet::new(others, &self.syncs, &syncs_after);
        Ok(Watched { machine, quiet, syncs_before: self.syncs, syncs_after })
    }
}

impl Watched {
    /// Events of those parts that are not accounted for, and why figures are not to be trusted.
    pub fn judge(&self, parts: &[Part<'_>]) -> (Vec<String>, Vec<String>) {
        let (mut problems, mut distrust) = (Vec::new(), self.quiet.distrust());
        if self.machine.filesystem == "tmpfs" {
            let dir = safe(&self.machine.dir);
            distrust.push(format!(
                "{dir} is in memory (tmpfs): a sync there is none; --dir says where"
            ));
        }
        for (name, account, faults) in parts {
            problems.extend(account.problems().iter().map(|problem| format!("{name}: {problem}")));
            if !faults.is_empty() {
                distrust.push(format!("{name}: {}", report::list(faults)));
            }
        }
        (problems, distrust)
    }
}

/// Figures with what they are to be judged by.
#[derive(Debug, Serialize)]
pub struct Document<T> {
    /// The version that was measured.
    version: &'static str,
    machine: Machine,
    #[serde(flatten)]
    figures: T,
    syncs_before: Syncs,
    syncs_after: Syncs,
    quiet: Quiet,
    /// Events that are not accounted for: the figures are worth nothing.
    pub problems: Vec<String>,
    distrust: Vec<String>,
}

impl<T> Document<T> {
    /// Figures that consist of those parts.
    pub fn new(figures: T, watched: Watched, parts: impl Fn(&T) -> Vec<Part<'_>>) -> Self {
        let (problems, distrust) = watched.judge(&parts(&figures));
        let Watched { machine, quiet, syncs_before, syncs_after } = watched;
        let version = env!("CARGO_PKG_VERSION");
        Self { version, machine, figures, syncs_before, syncs_after, quiet, problems, distrust }
    }

    /// For people, with what `write` makes of the figures.
    pub fn table(&self, write: fn(&mut String, &T) -> fmt::Result) -> String {
        let mut out = String::new();
        // Writing to a String can't fail.
        let _ = report::write_machine(&mut out, self.version, &self.machine)
            .and_then(|()| write(&mut out, &self.figures))
            .and_then(|()| writeln!(out))
            .and_then(|()| {
                report::write_verdict(&mut out, &self.quiet, &self.distrust, &self.problems)
            });
        out.truncate(out.trim_end().len());
        out
    }
}

/// The file system's name, by the magic number of statfs(2).
fn filesystem(dir: &Path) -> String {
    let magic = rustix::fs::statfs(dir).map_or(0, |fs| fs.f_type as u32);
    let known = [
        (0xEF53, "ext4"),
        (0x5846_5342, "xfs"),
        (0x9123_683E, "btrfs"),
        (0x2FC1_2FC1, "zfs"),
        (0x794C_7630, "overlay"),
        (0x0102_1994, "tmpfs"),
    ];
    let name = known.iter().find(|(known, _)| *known == magic).map(|(_, name)| *name);
    name.map_or_else(|| format!("file system {magic:#x}"), str::to_owned)
}
