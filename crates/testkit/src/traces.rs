// SPDX-License-Identifier: Apache-2.0
//! What a `maille up` holds of the machine, written down to see later that it is gone. Read `up.rs` for who holds it.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crate::proc::{Process, holders, tree};
use crate::up::Up;
use crate::wait::until;

/// What a mesh holds, to see that it is gone later.
#[derive(Debug, Clone)]
pub struct Traces {
    /// Its processes.
    pub processes: Vec<Process>,
    namespaces: BTreeSet<String>,
    interfaces: BTreeSet<String>,
    mounts: String,
    /// What its control groups are below: names that no other run has.
    groups: BTreeSet<String>,
}

impl Traces {
    /// What `up` holds now.
    pub fn of(up: &Up) -> Self {
        let processes = up.processes();
        let own: BTreeSet<String> = tree(i32::try_from(std::process::id()).unwrap())
            .into_iter()
            .find(|process| process.pid == i32::try_from(std::process::id()).unwrap())
            .unwrap()
            .namespaces();
        let held: BTreeSet<String> = processes.iter().flat_map(Process::namespaces).collect();
        let mut groups: BTreeSet<String> = processes.iter().flat_map(Process::groups).collect();
        // And as it noted them: no process may be in one any more.
        let noted = up.groups();
        let noted = noted.iter().filter_map(|path| path.file_name()?.to_str());
        groups.extend(noted.map(str::to_owned));
        Self {
            groups,
            namespaces: held.difference(&own).cloned().collect(),
            processes,
            interfaces: interfaces(),
            mounts: mounts(),
        }
    }

    /// Waits until all of it is gone.
    ///
    /// # Panics
    ///
    /// Something stays; it is named.
    pub async fn gone(&self) {
        self.ended().await;
        let left = directories(&self.groups);
        assert!(left.is_empty(), "control groups are left: {left:?}");
    }

    /// Waits until all of it is gone that the kernel takes away by itself, whoever was killed: everything but empty control groups.
    ///
    /// # Panics
    ///
    /// Something stays; it is named.
    pub async fn ended(&self) {
        let gone = || {
            self.processes
                .iter()
                .all(|process| !process.alive())
                .then_some(())
        };
        let ended = until("every process to end", Duration::from_secs(5), gone).await;
        let left: Vec<_> = self
            .processes
            .iter()
            .filter(|process| process.alive())
            .collect();
        assert!(ended.is_ok(), "still there: {left:?}");
        // The kernel lets go of a process's namespaces a moment after the process has ended.
        let free = || holders(&self.namespaces).is_empty().then_some(());
        let free = until("every namespace to go", Duration::from_secs(5), free).await;
        let held = holders(&self.namespaces);
        assert!(free.is_ok(), "namespaces are still held: {held:?}");
        assert_eq!(interfaces(), self.interfaces);
        assert_eq!(mounts(), self.mounts);
    }
}

/// Every directory of control groups that has one of these names.
fn directories(names: &BTreeSet<String>) -> Vec<PathBuf> {
    let (mut found, mut below) = (Vec::new(), vec![PathBuf::from("/sys/fs/cgroup")]);
    while let Some(directory) = below.pop() {
        // One that has just gone has nothing in it.
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            let name = entry.file_name();
            if name.to_str().is_some_and(|name| names.contains(name)) {
                found.push(entry.path());
            }
            below.push(entry.path());
        }
    }
    found
}

fn interfaces() -> BTreeSet<String> {
    let entries = fs::read_dir("/sys/class/net").unwrap().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

fn mounts() -> String {
    fs::read_to_string("/proc/self/mountinfo").unwrap()
}
