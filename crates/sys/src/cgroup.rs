// SPDX-License-Identifier: Apache-2.0
//! Control groups: how much memory and CPU a process and its children may use, and how many they may be. Of both versions, each
//! controller where this machine has it: in a hierarchy of its own (version 1), or in the one (version 2).
//!
//! Groups are made below one directory a hierarchy, which [`remove`] takes away whole. Must never change a group that it did not
//! make, but for what version 2 asks of its root. Read `cgroup/find.rs` for how the hierarchies are found.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

mod find;

/// What is limited, and by which name the kernel knows it.
const CONTROLLERS: [&str; 3] = ["memory", "cpu", "pids"];

/// Over which time shares of CPU are given, in microseconds.
const PERIOD: u64 = 100_000;

/// The least share of CPU that the kernel takes, in microseconds of a period.
const LEAST_QUOTA: u64 = 1000;

/// Where the groups of one `maille up` are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    /// Which controllers, of which version, below which directory of groups that were there before.
    hierarchies: Vec<Hierarchy>,
    /// What the directory of our own is called.
    name: OsString,
}

/// One hierarchy of groups.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Hierarchy {
    version: Version,
    controllers: Vec<&'static str>,
    /// A group that was there before.
    base: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// How much the processes of a group may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Thousandths of a CPU.
    pub cpu_millis: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u32>,
}

/// A group that was made. It stays until [`Group::remove`], or until its tree is removed.
#[derive(Clone, Debug)]
pub struct Group {
    directories: Vec<(Version, Vec<&'static str>, PathBuf)>,
}

/// Why no groups can be made.
#[derive(Debug, thiserror::Error)]
pub enum Unavailable {
    /// They are root's to make.
    #[error("limits need root")]
    NotRoot,
    /// The kernel has no such controller, or it is mounted nowhere.
    #[error("this machine has no control group for {0}")]
    Missing(&'static str),
    /// It is there and closed.
    #[error("{path} cannot be written")]
    Closed {
        /// Which group.
        path: PathBuf,
    },
    /// Version 2 gives a group's controllers to groups below it only where no process is in the group itself.
    #[error("{path} holds processes, and gives no controllers to groups below it")]
    Occupied {
        /// Which group.
        path: PathBuf,
    },
}

// === impl Tree ===

impl Tree {
    /// The tree called `name`. Makes nothing; tells why nothing could be made.
    pub fn find(name: &str) -> Result<Self, Unavailable> {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let hierarchies =
            find::hierarchies(&read("/proc/self/cgroup"), &read("/proc/self/mountinfo"))?;
        if !nix::unistd::geteuid().is_root() {
            return Err(Unavailable::NotRoot);
        }
        for hierarchy in &hierarchies {
            hierarchy.check()?;
        }
        Ok(Self {
            hierarchies,
            name: name.into(),
        })
    }

    /// Makes a group with these limits and no process in it. Where one of the name is left, which must have no process, it goes first.
    pub fn make(&self, name: &str, limits: Limits) -> io::Result<Group> {
        let group = self.group(name);
        group.remove()?;
        for (hierarchy, (.., directory)) in self.hierarchies.iter().zip(&group.directories) {
            let own = hierarchy.base.join(&self.name);
            hierarchy.open(&hierarchy.base)?;
            make(&own)?;
            hierarchy.open(&own)?;
            make(directory)?;
        }
        let limited = group.limit(limits);
        if limited.is_err() {
            // It must not be taken for a group that limits.
            let _ = group.remove();
        }
        limited.map(|()| group)
    }

    /// The group of this name, where it was made and is there.
    pub fn there(&self, name: &str) -> Option<Group> {
        let group = self.group(name);
        let there = group.directories.iter().all(|(.., path)| path.is_dir());
        there.then_some(group)
    }

    /// The directories of this tree, one a hierarchy. [`remove`] takes each away.
    pub fn directories(&self) -> impl Iterator<Item = PathBuf> {
        let bases = self.hierarchies.iter();
        bases.map(|hierarchy| hierarchy.base.join(&self.name))
    }

    fn group(&self, name: &str) -> Group {
        let one = |hierarchy: &Hierarchy| {
            let directory = hierarchy.base.join(&self.name).join(name);
            (hierarchy.version, hierarchy.controllers.clone(), directory)
        };
        Group {
            directories: self.hierarchies.iter().map(one).collect(),
        }
    }
}

/// Limits what is in the groups `directories` are, one a hierarchy, each as far as its hierarchy's controllers do; what is limited is
/// told. Those above a group of version 2 have to give controllers on ([`give`]).
pub fn limit(directories: &[PathBuf], limits: Limits) -> io::Result<Vec<&'static str>> {
    let mut limited = Vec::new();
    for directory in directories {
        let version = version(directory);
        for (controller, file, value) in settings(version, limits) {
            let path = directory.join(file);
            if path.exists() {
                fs::write(path, value)?;
                limited.push(controller);
            }
        }
        for (_, file, value) in refinements(version, limits) {
            let path = directory.join(file);
            if path.exists() {
                fs::write(path, value)?;
            }
        }
    }
    Ok(limited)
}

/// Has a group give its controllers to the groups below it, where version 2 asks for that.
pub fn give(directory: &Path) -> io::Result<()> {
    let own = fs::read_to_string(directory.join("cgroup.controllers")).unwrap_or_default();
    let own = |one: &&str| own.split_whitespace().any(|given| given == *one);
    let hierarchy = Hierarchy {
        version: version(directory),
        controllers: CONTROLLERS.into_iter().filter(own).collect(),
        base: directory.to_owned(),
    };
    hierarchy.open(directory)
}

/// Whether a process can be born into the group `directory` (`CLONE_INTO_CGROUP`), as version 2 has it.
pub(crate) fn takes_births(directory: &Path) -> bool {
    version(directory) == Version::Two
}

fn version(directory: &Path) -> Version {
    match directory.join("cgroup.controllers").exists() {
        true => Version::Two,
        false => Version::One,
    }
}

/// Takes away a directory of [`Tree::directories`] with every group in it. `ResourceBusy`: a process is in one.
pub fn remove(directory: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            gone(fs::remove_dir(entry.path()))?;
        }
    }
    gone(fs::remove_dir(directory))
}

// === impl Hierarchy ===

impl Hierarchy {
    /// Whether groups could be made here.
    fn check(&self) -> Result<(), Unavailable> {
        let path = self.base.clone();
        let writable = access(&path, AccessFlags::W_OK | AccessFlags::X_OK).is_ok();
        if !writable {
            return Err(Unavailable::Closed { path });
        }
        if self.version == Version::One || self.missing(&path).is_empty() {
            return Ok(());
        }
        // Only the root of all, which has no type, gives controllers on while processes are in it.
        let root = !path.join("cgroup.type").exists();
        let empty = fs::read_to_string(path.join("cgroup.procs")).is_ok_and(|text| text.is_empty());
        match root || empty {
            true => Ok(()),
            false => Err(Unavailable::Occupied { path }),
        }
    }

    /// The controllers that `group` does not give on.
    fn missing(&self, group: &Path) -> Vec<&'static str> {
        let given = fs::read_to_string(group.join("cgroup.subtree_control")).unwrap_or_default();
        let own = self.controllers.iter().copied();
        own.filter(|own| !given.split_whitespace().any(|given| given == *own))
            .collect()
    }

    /// Has `group` give its controllers to the groups below it.
    fn open(&self, group: &Path) -> io::Result<()> {
        if self.version == Version::One {
            return Ok(());
        }
        let missing = self.missing(group);
        if missing.is_empty() {
            return Ok(());
        }
        let text: Vec<String> = missing.iter().map(|name| format!("+{name}")).collect();
        fs::write(group.join("cgroup.subtree_control"), text.join(" "))
    }
}

// === impl Group ===

impl Group {
    /// Its directories, one a hierarchy.
    pub(crate) fn directories(&self) -> impl Iterator<Item = &PathBuf> {
        self.directories.iter().map(|(.., directory)| directory)
    }

    /// How many processes of it the kernel has killed because it used too much memory.
    pub fn killed(&self) -> u64 {
        let memory = self.directories.iter();
        let memory = memory.filter(|(_, own, _)| own.contains(&"memory"));
        let memory = memory.map(|(version, _, path)| match version {
            Version::One => path.join("memory.oom_control"),
            Version::Two => path.join("memory.events"),
        });
        let count = |path: PathBuf| {
            let text = fs::read_to_string(path).unwrap_or_default();
            let mut lines = text.lines();
            let number = lines.find_map(|line| line.strip_prefix("oom_kill "));
            number.and_then(|number| number.parse().ok()).unwrap_or(0)
        };
        memory.map(count).sum()
    }

    /// Takes it away, where it is. `ResourceBusy`: a process is in it.
    pub fn remove(&self) -> io::Result<()> {
        for (.., directory) in &self.directories {
            gone(fs::remove_dir(directory))?;
        }
        Ok(())
    }

    fn limit(&self, limits: Limits) -> io::Result<()> {
        for (version, controllers, directory) in &self.directories {
            for (controller, file, value) in settings(*version, limits) {
                if controllers.contains(&controller) {
                    fs::write(directory.join(file), value)?;
                }
            }
            // Neither is there on every machine. Without them it is still limited: to more, where there is swap.
            for (controller, file, value) in refinements(*version, limits) {
                let path = directory.join(file);
                if controllers.contains(&controller) && path.exists() {
                    fs::write(path, value)?;
                }
            }
        }
        Ok(())
    }
}

/// Controller, file, and what to write there.
type Setting = (&'static str, &'static str, String);

fn settings(version: Version, limits: Limits) -> Vec<Setting> {
    let mut all = Vec::new();
    if let Some(bytes) = limits.memory {
        let file = match version {
            Version::One => "memory.limit_in_bytes",
            Version::Two => "memory.max",
        };
        all.push(("memory", file, bytes.to_string()));
    }
    if let Some(millis) = limits.cpu_millis {
        let quota = (millis.saturating_mul(PERIOD) / 1000).max(LEAST_QUOTA);
        match version {
            Version::One => all.extend([
                ("cpu", "cpu.cfs_period_us", PERIOD.to_string()),
                ("cpu", "cpu.cfs_quota_us", quota.to_string()),
            ]),
            Version::Two => all.push(("cpu", "cpu.max", format!("{quota} {PERIOD}"))),
        }
    }
    if let Some(pids) = limits.pids {
        all.push(("pids", "pids.max", pids.to_string()));
    }
    all
}

/// No swap beyond the limit; and a container of which one process is killed goes as a whole.
fn refinements(version: Version, limits: Limits) -> Vec<Setting> {
    match (version, limits.memory) {
        (_, None) => Vec::new(),
        (Version::One, Some(bytes)) => {
            vec![("memory", "memory.memsw.limit_in_bytes", bytes.to_string())]
        }
        (Version::Two, Some(_)) => vec![
            ("memory", "memory.swap.max", "0".to_owned()),
            ("memory", "memory.oom.group", "1".to_owned()),
        ],
    }
}

fn make(directory: &Path) -> io::Result<()> {
    match fs::create_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

#[cfg(test)]
mod tests;
