// SPDX-License-Identifier: Apache-2.0
//! Proxies that go on without their agent: in control groups that are not the agent's, for whoever ends a container ends everything in
//! its groups; and written down, so that the next agent finds them.
//!
//! Must never take another process for a proxy: a number is believed only with the time at which its process began.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::host::Child;

/// Where a proxy is written down, beside its own directory, which it can write to itself.
const PROCESS: &str = "proxy.pid";
/// What the groups are called.
const GROUP: &str = "maille-proxies";

/// Where they are. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Apart {
    /// One a hierarchy.
    groups: Vec<PathBuf>,
    /// What they do not see.
    hidden: Vec<PathBuf>,
}

// === impl Apart ===

impl Apart {
    /// Makes the groups beside that of process 1 of the machine, whose hierarchies are mounted below `mounted`. Proxies see nothing of
    /// the directories `hidden`.
    pub(crate) fn make(mounted: &Path, hidden: Vec<PathBuf>) -> io::Result<Self> {
        let groups = groups(mounted, &fs::read_to_string("/proc/1/cgroup")?);
        for group in &groups {
            match fs::create_dir(group) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    let text = format!("{}: {error}", group.display());
                    return Err(io::Error::new(error.kind(), text));
                }
                _ => inherit(group)?,
            }
        }
        Ok(Self { groups, hidden })
    }

    /// Ends what is in the groups that [`Self::make`] makes, and removes them. What is not there is removed.
    pub(crate) fn remove(mounted: &Path) -> io::Result<()> {
        let groups = groups(mounted, &fs::read_to_string("/proc/1/cgroup")?);
        let apart = Self {
            groups: groups.into_iter().filter(|one| one.exists()).collect(),
            hidden: Vec::new(),
        };
        apart.end_others(&[])?;
        for group in &apart.groups {
            match fs::remove_dir(group) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    let text = format!("{}: {error}", group.display());
                    return Err(io::Error::new(error.kind(), text));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// What proxies do not see.
    pub(super) fn hidden(&self) -> &[PathBuf] {
        &self.hidden
    }

    /// Takes a proxy there, and writes it down beside its directory.
    pub(super) fn take(&self, child: &Child, dir: &Path) -> io::Result<()> {
        let pid = child.pid();
        for group in &self.groups {
            fs::write(group.join("cgroup.procs"), pid.to_string())?;
        }
        let began = began(pid).ok_or_else(|| io::Error::other("it has ended"))?;
        let new = dir.with_file_name("proxy.pid.new");
        fs::write(&new, format!("{pid} {began}\n"))?;
        fs::rename(new, dir.with_file_name(PROCESS))
    }

    /// Ends what is in the groups and is none of `known`: proxies whose pods ended while there was no agent.
    pub(crate) fn end_others(&self, known: &[i32]) -> io::Result<usize> {
        let Some(group) = self.groups.first() else {
            return Ok(0);
        };
        let text = fs::read_to_string(group.join("cgroup.procs"))?;
        let all = text.lines().filter_map(|line| line.parse().ok());
        let others: Vec<i32> = all.filter(|pid| !known.contains(pid)).collect();
        for pid in &others {
            // Dropped, it is killed. One that has ended meanwhile cannot be taken hold of.
            drop(Child::adopt(*pid));
        }
        Ok(others.len())
    }
}

/// The proxy that was written down beside `dir`, where it is there still.
pub(crate) fn find(dir: &Path) -> Option<Child> {
    let text = fs::read_to_string(dir.with_file_name(PROCESS)).ok()?;
    let (pid, then) = text.trim().split_once(' ')?;
    let pid: i32 = pid.parse().ok()?;
    let found = Child::adopt(pid).ok()?;
    // Looked at after it was taken hold of, so that nobody else can have the number by now.
    if began(pid)? == then.parse::<u64>().ok()? {
        return Some(found);
    }
    found.leave();
    None
}

/// cpuset of version 1 gives a new group nothing, and then takes no process into it.
fn inherit(group: &Path) -> io::Result<()> {
    let Some(above) = group.parent() else {
        return Ok(());
    };
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let own = group.join(file);
        if !group.join("cgroup.controllers").exists() && own.exists() {
            fs::write(own, fs::read(above.join(file))?)?;
        }
    }
    Ok(())
}

/// The groups, by what the machine's process 1 is in (`cgroups(7)`).
fn groups(mounted: &Path, of_init: &str) -> Vec<PathBuf> {
    let mut groups = Vec::new();
    for line in of_init.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
            continue;
        };
        // Seen from a control group namespace it is said by the way there.
        let path = path.trim_start_matches("/..").trim_matches('/');
        let beside = Path::new(path).parent().unwrap_or_else(|| Path::new(""));
        let name = controllers.strip_prefix("name=").unwrap_or(controllers);
        // Beside hierarchies of version 1 that of version 2 has a name of its own.
        let both = mounted.join("unified");
        let hierarchy = match name {
            "" if both.exists() => both,
            name => mounted.join(name),
        };
        if hierarchy.join("cgroup.procs").exists() {
            groups.push(hierarchy.join(beside).join(GROUP));
        }
    }
    groups
}

/// When a process began, by which it is told from others that had its number (`proc_pid_stat(5)`).
fn began(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let is_dead = fields.next()? == "Z";
    let time = fields.nth(18)?.parse().ok()?;
    (!is_dead).then_some(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_beside_process_one() {
        let dir = tempfile::tempdir().unwrap();
        let top = |name: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(&path).unwrap();
            fs::write(path.join("cgroup.procs"), "").unwrap();
        };
        top("cpu,cpuacct");
        top("systemd");
        top("unified");
        let text =
            "9:cpu,cpuacct:/m/node1/daemons\n8:memory:/m\n1:name=systemd:/init.scope\n0::/m/a\n";
        let found = groups(dir.path(), text);
        let at = |path: &str| dir.path().join(path);
        assert_eq!(
            found,
            [
                at("cpu,cpuacct/m/node1/maille-proxies"),
                at("systemd/maille-proxies"),
                at("unified/m/maille-proxies"),
            ]
        );
        fs::remove_dir_all(dir.path().join("unified")).unwrap();
        top("");
        let found = groups(dir.path(), "0::/../../../init.scope\n");
        assert_eq!(found, [at("maille-proxies")]);
    }

    #[test]
    fn a_process_is_found_by_number_and_time() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("own");
        assert!(find(&own).is_none());
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let time = began(pid).unwrap();
        fs::write(dir.path().join(PROCESS), format!("{pid} {}\n", time + 1)).unwrap();
        assert!(find(&own).is_none(), "another one had its number");
        assert!(child.try_wait().unwrap().is_none(), "and is left alone");
        fs::write(dir.path().join(PROCESS), format!("{pid} {time}\n")).unwrap();
        drop(find(&own).unwrap());
        child.wait().unwrap();
        assert!(find(&own).is_none());
    }
}
