// SPDX-License-Identifier: Apache-2.0
//! Which process does what, for the API: proxies and containers by pod, control and observer.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::drift::Rules;

/// What a process is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    /// The control plane.
    Control,
    /// The witness.
    Observer,
    /// The proxy of the pod with this uid.
    Proxy(String),
    /// Pod's uid and the container's name.
    Container(String, String),
}

/// The pids of everything that runs, as this process sees them.
#[derive(Debug, Default)]
pub(crate) struct Processes {
    pids: Mutex<BTreeMap<Role, i32>>,
    rules: Rules,
}

impl Processes {
    /// What captured pods' rules were.
    pub(crate) const fn rules(&self) -> &Rules {
        &self.rules
    }

    /// It runs as `pid`, or not at all.
    pub(crate) fn note(&self, role: Role, pid: Option<i32>) {
        let mut pids = self.pids.lock();
        match pid {
            Some(pid) => pids.insert(role, pid),
            None => pids.remove(&role),
        };
    }

    /// Its pid, while it runs.
    pub(crate) fn pid(&self, role: &Role) -> Option<i32> {
        self.pids.lock().get(role).copied()
    }

    /// The containers of a pod that run.
    pub(crate) fn containers(&self, uid: &str) -> BTreeMap<String, i32> {
        let pids = self.pids.lock();
        pids.iter()
            .filter_map(|(role, pid)| match role {
                Role::Container(pod, name) if pod == uid => Some((name.clone(), *pid)),
                _ => None,
            })
            .collect()
    }
}
