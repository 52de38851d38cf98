// SPDX-License-Identifier: Apache-2.0
//! Processes and the namespaces they hold, as /proc shows them. Read `up.rs` for the user.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A process, told from a later one with the same pid by its start time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    /// Its pid.
    pub pid: i32,
    /// In clock ticks since boot.
    pub started: u64,
    /// The name of its program.
    pub name: String,
}

/// Every process below `root`, `root` included.
pub fn tree(root: i32) -> Vec<Process> {
    let all: Vec<(i32, Process)> = pids().filter_map(read).collect();
    let mut found: BTreeSet<i32> = [root].into();
    // Parents may have higher pids than their children: look until nothing new is found.
    loop {
        let more = all
            .iter()
            .filter(|(parent, process)| found.contains(parent) && !found.contains(&process.pid));
        let more: Vec<i32> = more.map(|(_, process)| process.pid).collect();
        if more.is_empty() {
            break;
        }
        found.extend(more);
    }
    let tree = all.into_iter().map(|(_, process)| process);
    tree.filter(|process| found.contains(&process.pid))
        .collect()
}

fn pids() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Parent and process of `pid`, after proc_pid_stat(5).
fn read(pid: i32) -> Option<(i32, Process)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (head, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let parent = fields.nth(1)?.parse().ok()?;
    let process = Process {
        pid,
        started: fields.nth(17)?.parse().ok()?,
        name: head.split_once('(')?.1.to_owned(),
    };
    Some((parent, process))
}

impl Process {
    /// Whether it still runs.
    pub fn alive(&self) -> bool {
        let zombie = || {
            let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
            stat.rsplit_once(") ")
                .is_some_and(|(_, rest)| rest.starts_with('Z'))
        };
        read(self.pid).is_some_and(|(_, now)| now.started == self.started) && !zombie()
    }

    /// Signals it, if it still runs. Whether it did.
    pub fn signal(&self, signal: Signal) -> bool {
        self.alive() && kill(Pid::from_raw(self.pid), signal).is_ok()
    }

    /// A variable of the environment it was started with.
    pub fn env(&self, name: &str) -> Option<String> {
        let environ = fs::read(format!("/proc/{}/environ", self.pid)).ok()?;
        let environ = String::from_utf8_lossy(&environ).into_owned();
        let value = environ
            .split('\0')
            .find_map(|entry| entry.strip_prefix(name)?.strip_prefix('='));
        value.map(str::to_owned)
    }

    /// Its command line.
    pub fn args(&self) -> Vec<String> {
        let line = fs::read(format!("/proc/{}/cmdline", self.pid)).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        line.split_terminator('\0').map(str::to_owned).collect()
    }

    /// The directories of control groups that a `maille up` made for what it is in, by the last part of their names, which no other run has.
    pub fn groups(&self) -> BTreeSet<String> {
        let groups = fs::read_to_string(format!("/proc/{}/cgroup", self.pid)).unwrap_or_default();
        let parts = groups.lines().flat_map(|line| line.split('/'));
        let own = parts.filter(|part| part.starts_with("maille."));
        own.map(str::to_owned).collect()
    }

    /// The namespaces it is in, `net:[4026531840]`.
    pub fn namespaces(&self) -> BTreeSet<String> {
        links(&PathBuf::from(format!("/proc/{}/ns", self.pid)))
    }
}

/// Who is in one of these namespaces or holds it open, but for what other `maille up` run meanwhile: the kernel gives the number of
/// a namespace that is gone to the next one.
pub fn holders(namespaces: &BTreeSet<String>) -> Vec<Process> {
    let all: BTreeMap<i32, (i32, Process)> =
        pids().filter_map(|pid| Some((pid, read(pid)?))).collect();
    let of_another = |pid: i32| {
        let above = std::iter::successors(all.get(&pid), |(parent, _)| all.get(parent));
        above
            .into_iter()
            .any(|(_, process)| process.name == "maille")
    };
    let holds = |pid: i32| {
        let dirs = [format!("/proc/{pid}/ns"), format!("/proc/{pid}/fd")];
        let mut held = dirs.into_iter().flat_map(|dir| links(&PathBuf::from(dir)));
        held.any(|link| namespaces.contains(&link))
    };
    let found = all
        .iter()
        .filter(|(pid, _)| holds(**pid) && !of_another(**pid));
    found.map(|(_, (_, process))| process.clone()).collect()
}

fn links(dir: &PathBuf) -> BTreeSet<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let targets = entries.filter_map(|entry| {
        fs::read_link(entry.path())
            .ok()?
            .into_os_string()
            .into_string()
            .ok()
    });
    let kinds = [
        "net:[", "mnt:[", "pid:[", "uts:[", "ipc:[", "user:[", "cgroup:[", "time:[",
    ];
    targets
        .filter(|target| kinds.iter().any(|kind| target.starts_with(kind)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_found() {
        let own = i32::try_from(std::process::id()).unwrap();
        let tree = tree(own);
        let process = tree.iter().find(|process| process.pid == own).unwrap();
        assert!(process.alive());
        assert!(holders(&process.namespaces()).contains(process));
        let older = Process {
            started: process.started - 1,
            ..process.clone()
        };
        assert!(!older.alive());
    }
}
