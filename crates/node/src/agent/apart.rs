// SPDX-License-Identifier: Apache-2.0
//! Proxies that go on without their agent: in control groups that are not the agent's, for whoever ends a container ends everything in
//! its groups; and written down, so that the next agent finds them. Each pod's has a group of its own, in which it is limited and by
//! which it is seen what it uses.
//!
//! Must never take another process for a proxy: a number is believed only with the time at which its process began.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use maille_sys::cgroup::{self, Limits};

use crate::host::Child;

/// Where a proxy is written down, beside its own directory, which it can write to itself.
const PROCESS: &str = "proxy.pid";
/// Where its groups are, there too, where they are not beside the pods'.
const PLACES: &str = "groups";
/// What the groups are called.
const GROUP: &str = "maille-proxies";

/// What a proxy uses, as far as the kernel says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Used {
    /// Bytes, the kernel's for it among them.
    pub(crate) memory: Option<u64>,
    /// Processor time in microseconds, of all proxies that the pod has had.
    pub(crate) cpu_micros: Option<u64>,
}

/// Where they are. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Apart {
    /// One a hierarchy.
    groups: Vec<PathBuf>,
}

// === impl Apart ===

impl Apart {
    /// Makes the groups beside that of process 1 of the machine, whose hierarchies are mounted below `mounted`.
    pub(crate) fn make(mounted: &Path) -> io::Result<Self> {
        let groups = groups(mounted, &fs::read_to_string("/proc/1/cgroup")?);
        for group in &groups {
            match fs::create_dir(group) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    let text = format!("{}: {error}", group.display());
                    return Err(io::Error::new(error.kind(), text));
                }
                _ => inherit(group)?,
            }
            for giver in group.parent().into_iter().chain([group.as_path()]) {
                cgroup::give(giver)?;
            }
        }
        Ok(Self { groups })
    }

    /// Ends what is in the groups that [`Self::make`] makes, and removes them. What is not there is removed.
    pub(crate) fn remove(mounted: &Path) -> io::Result<()> {
        let groups = groups(mounted, &fs::read_to_string("/proc/1/cgroup")?);
        let apart = Self {
            groups: groups.into_iter().filter(|one| one.exists()).collect(),
        };
        apart.end_others(&[])?;
        for group in &apart.groups {
            cgroup::remove(group).map_err(|error| {
                let text = format!("{}: {error}", group.display());
                io::Error::new(error.kind(), text)
            })?;
        }
        Ok(())
    }

    /// Makes the group of the pod whose proxy's directory is `dir`, limited: one a hierarchy, for a proxy that is to be born there. In the group
    /// of the pod `within` itself where that has room for it, so that it is counted to the pod. Blocks.
    pub(super) fn ready(
        &self,
        dir: &Path,
        limits: Limits,
        within: Option<&str>,
    ) -> io::Result<Vec<PathBuf>> {
        let known = dir.with_file_name(PLACES);
        if let (Some(uid), false) = (within, known.exists()) {
            // Not every hierarchy has groups of pods: beside those of version 1, that of version 2 has none.
            let found: Vec<_> = self.groups.iter().map(|group| pod(group, uid)).collect();
            if found.iter().all(Option::is_none) {
                tracing::warn!(
                    pod.uid = uid,
                    "no control group of the pod is found: its proxy is not counted to it"
                );
            } else {
                let places = found.into_iter().zip(self.of(dir));
                let places: Vec<_> = places.map(|(pod, own)| pod.unwrap_or(own)).collect();
                fs::write(known, lines(&places))?;
            }
        }
        let own = self.of(dir);
        for above in own.iter().filter_map(|group| group.parent()) {
            cgroup::give(above)?;
        }
        for group in &own {
            match fs::create_dir(group) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => inherit(group)?,
            }
        }
        let limited = cgroup::limit(&own, limits)?;
        if limits.memory.is_some() && !limited.contains(&"memory") {
            return Err(io::Error::other("no control group limits its memory"));
        }
        Ok(own)
    }

    /// Writes a proxy down beside its directory.
    pub(super) fn note(&self, child: &Child, dir: &Path) -> io::Result<()> {
        let pid = child.pid();
        let began = began(pid).ok_or_else(|| io::Error::other("it has ended"))?;
        let new = dir.with_file_name("proxy.pid.new");
        fs::write(&new, format!("{pid} {began}\n"))?;
        fs::rename(new, dir.with_file_name(PROCESS))
    }

    /// Removes the group of a pod whose proxies have ended.
    pub(crate) fn clear(&self, dir: &Path) -> io::Result<()> {
        for group in self.of(dir) {
            match fs::remove_dir(&group) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Removes the groups of pods that have no directory in `sandboxes` any more.
    pub(crate) fn sweep(&self, sandboxes: &Path) {
        let names = self
            .groups
            .first()
            .and_then(|group| fs::read_dir(group).ok());
        let names = names.into_iter().flatten().flatten();
        for entry in names.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            let dir = sandboxes.join(entry.file_name());
            if dir.exists() {
                continue;
            }
            // One that is not empty yet is removed at the next look.
            if let Err(error) = self.clear(&dir.join("p")) {
                tracing::debug!(%error, "a control group stays for now");
            }
        }
    }

    /// The groups of the pod whose proxy's directory is `dir`, one a hierarchy.
    fn of(&self, dir: &Path) -> Vec<PathBuf> {
        let known = fs::read_to_string(dir.with_file_name(PLACES)).unwrap_or_default();
        if !known.is_empty() {
            return known.lines().map(PathBuf::from).collect();
        }
        let name = dir.parent().and_then(Path::file_name).unwrap_or_default();
        self.groups.iter().map(|group| group.join(name)).collect()
    }

    /// What the proxy of a pod uses, the kernel's memory for it among it, in bytes; and processor time in microseconds.
    pub(crate) fn used(&self, dir: &Path) -> Used {
        let mut used = Used::default();
        for group in self.of(dir) {
            let read = |name: &str| fs::read_to_string(group.join(name)).ok();
            let number = |name: &str| read(name)?.trim().parse().ok();
            let memory = number("memory.usage_in_bytes").or_else(|| number("memory.current"));
            used.memory = used.memory.or(memory);
            let nanos = number("cpuacct.usage").map(|nanos: u64| nanos / 1000);
            let micros = || {
                let text = read("cpu.stat")?;
                let line = text
                    .lines()
                    .find_map(|line| line.strip_prefix("usage_usec "));
                line?.parse().ok()
            };
            used.cpu_micros = used.cpu_micros.or(nanos).or_else(micros);
        }
        used
    }

    /// Ends what is in the groups and is none of `known`: proxies whose pods ended while there was no agent.
    pub(crate) fn end_others(&self, known: &[i32]) -> io::Result<usize> {
        let Some(group) = self.groups.first() else {
            return Ok(0);
        };
        let mut all: Vec<i32> = Vec::new();
        let below = fs::read_dir(group)?.filter_map(|entry| Some(entry.ok()?.path()));
        for group in below.chain([group.clone()]).filter(|path| path.is_dir()) {
            let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
            all.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
        }
        let others: Vec<i32> = all.into_iter().filter(|pid| !known.contains(pid)).collect();
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

/// The group for a proxy in that of the pod `uid`, in the hierarchy that `group` is of. Kubelets name a pod's group after it, below their own
/// (`kubelet --cgroup-driver`, either of both).
fn pod(group: &Path, uid: &str) -> Option<PathBuf> {
    let plain = format!("pod{uid}");
    let slice = format!("-pod{}.slice", uid.replace('-', "_"));
    let is_pods = |name: &str| name == plain || name.ends_with(&slice);
    let named = |path: &PathBuf, is: &dyn Fn(&str) -> bool| {
        let name = path.file_name().and_then(|name| name.to_str());
        path.is_dir() && name.is_some_and(is)
    };
    let below = |path: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(path).into_iter().flatten();
        entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .collect()
    };
    let kubelets = below(group.parent()?);
    let mut level: Vec<_> = kubelets
        .into_iter()
        .filter(|path| named(path, &|name| name.starts_with("kubepods")))
        .collect();
    // Pods of the class Guaranteed are at the top, others in the group of their class.
    for _ in 0..2 {
        level = level.iter().flat_map(|path| below(path)).collect();
        if let Some(found) = level.iter().find(|path| named(path, &is_pods)) {
            return Some(found.join("maille-proxy"));
        }
    }
    None
}

fn lines(paths: &[PathBuf]) -> String {
    let lines = paths.iter().map(|path| format!("{}\n", path.display()));
    lines.collect()
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
    fn groups_of_pods_that_are_gone_are_swept_and_others_kept() {
        let dir = tempfile::tempdir().unwrap();
        let (group, sandboxes) = (dir.path().join("group"), dir.path().join("sandboxes"));
        for path in [
            group.join("one"),
            group.join("two"),
            sandboxes.join("one/p"),
        ] {
            fs::create_dir_all(path).unwrap();
        }
        fs::write(group.join("one/memory.current"), "4096\n").unwrap();
        fs::write(group.join("one/cpu.stat"), "usage_usec 17\nuser_usec 1\n").unwrap();
        let apart = Apart {
            groups: vec![group.clone()],
        };
        apart.sweep(&sandboxes);
        assert!(group.join("one").exists() && !group.join("two").exists());
        let used = apart.used(&sandboxes.join("one/p"));
        assert_eq!((used.memory, used.cpu_micros), (Some(4096), Some(17)));
        assert_eq!(apart.used(&sandboxes.join("two/p")), Used::default());
    }

    #[test]
    fn a_proxy_is_in_the_group_of_its_pod_where_that_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let (mine, theirs) = ("0a-1", "0b-2");
        for path in [
            "one/kubepods/burstable/pod0a-1",
            "two/kubepods.slice/kubepods-pod0a_1.slice",
        ] {
            fs::create_dir_all(dir.path().join(path)).unwrap();
        }
        let group = |name: &str| dir.path().join(name).join(GROUP);
        let found = dir
            .path()
            .join("one/kubepods/burstable/pod0a-1/maille-proxy");
        assert_eq!(pod(&group("one"), mine), Some(found.clone()));
        let slice = "two/kubepods.slice/kubepods-pod0a_1.slice/maille-proxy";
        assert_eq!(pod(&group("two"), mine), Some(dir.path().join(slice)));
        assert_eq!(pod(&group("one"), theirs), None);
        let apart = Apart {
            groups: vec![group("one"), group("none")],
        };
        for name in ["one", "none"] {
            fs::create_dir_all(group(name)).unwrap();
        }
        let limits = Limits::default();
        for (name, uid, place) in [
            ("in", Some(mine), found),
            ("gone", Some(theirs), group("one").join("gone")),
            ("out", None, group("one").join("out")),
        ] {
            let proxys = dir.path().join(name).join("p");
            fs::create_dir_all(&proxys).unwrap();
            let all = [place.clone(), group("none").join(name)];
            assert_eq!(apart.ready(&proxys, limits, uid).unwrap(), all);
            // Whoever asks later, and the next agent, find the same.
            assert_eq!(apart.of(&proxys), all);
            assert!(place.is_dir());
            apart.clear(&proxys).unwrap();
            assert!(!place.exists());
        }
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
