// SPDX-License-Identifier: Apache-2.0
//! Whether captured pods are still captured as they were: their rules and what keeps their mesh namespaces from forwarding, then and now.
//!
//! In `maille up` nothing is mended: whoever changed it is somebody to be found. On a node of a cluster it is told and mended. Read
//! `capture.rs` next.

use std::collections::BTreeMap;
use std::io;

use maille_sys::{NetNs, nft};
use parking_lot::Mutex;

/// What has to stay as it is (`capture/plan.rs`).
const SWITCHES: [(&str, &str); 2] = [
    ("net/ipv4/ip_forward", "0"),
    ("net/ipv6/conf/all/forwarding", "0"),
];

/// Rules of mesh namespaces as they were when their pods were captured, by the pod's uid.
#[derive(Debug, Default)]
pub(crate) struct Rules(Mutex<BTreeMap<String, String>>);

impl Rules {
    /// Remembers what is in force now. Blocks.
    pub(crate) fn remember(&self, uid: &str, mesh: &NetNs) {
        if let Ok(rules) = nft::stateless(mesh) {
            self.0.lock().insert(uid.to_owned(), rules);
        }
    }

    /// Remembers what was in force when the pod was captured, as somebody else wrote it down.
    pub(crate) fn recall(&self, uid: &str, rules: String) {
        self.0.lock().insert(uid.to_owned(), rules);
    }

    /// The pod has gone.
    pub(crate) fn forget(&self, uid: &str) {
        self.0.lock().remove(uid);
    }

    /// What they were.
    pub(crate) fn of(&self, uid: &str) -> Option<String> {
        self.0.lock().get(uid).cloned()
    }

    /// The pods of which they are known.
    pub(crate) fn uids(&self) -> Vec<String> {
        self.0.lock().keys().cloned().collect()
    }
}

/// What differs, if anything does.
pub(crate) fn drift(mesh: &NetNs, before: &str) -> Option<String> {
    switched(mesh).or_else(|| changed(mesh, before))
}

/// The first switch that is not as it has to be.
pub(crate) fn switched(mesh: &NetNs) -> Option<String> {
    for (name, wanted) in SWITCHES {
        match mesh.read_sysctl(name) {
            Ok(value) if value != wanted => return Some(format!("{name} is {value}")),
            // A kernel without IPv6 has no such switch.
            Ok(_) | Err(_) => {}
        }
    }
    None
}

/// How the rules differ.
fn changed(mesh: &NetNs, before: &str) -> Option<String> {
    match nft::stateless(mesh) {
        Err(error) => Some(error.to_string()),
        Ok(now) => between(before, &now),
    }
}

/// How rules differ from what they were.
pub(crate) fn between(before: &str, now: &str) -> Option<String> {
    if now == before {
        return None;
    }
    let count = |these: &str, others: &str| {
        let others: Vec<_> = others.lines().collect();
        these.lines().filter(|line| !others.contains(line)).count()
    };
    let (added, gone) = (count(now, before), count(before, now));
    Some(format!(
        "{added} lines of its rules are new, {gone} are gone"
    ))
}

/// Makes everything as it was, in one transaction where it is rules: connections go on.
pub(crate) fn mend(mesh: &NetNs, before: &str) -> io::Result<()> {
    for (name, wanted) in SWITCHES {
        match mesh.read_sysctl(name) {
            Ok(value) if value != wanted => drop(mesh.sysctl(name, wanted)?),
            Ok(_) | Err(_) => {}
        }
    }
    nft::apply(mesh, &format!("flush ruleset\n{before}")).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_that_is_gone_is_noticed() {
        let mesh = NetNs::create().unwrap();
        let rules =
            "table inet t {\n chain c {\n type filter hook input priority 0;\n counter drop\n }\n}";
        nft::apply(&mesh, rules).unwrap();
        let before = nft::stateless(&mesh).unwrap();
        assert_eq!(drift(&mesh, &before), None);
        nft::apply(&mesh, "flush chain inet t c").unwrap();
        let what = drift(&mesh, &before).unwrap();
        assert!(what.contains("gone"), "{what}");
        nft::apply(&mesh, "add rule inet t c counter drop").unwrap();
        assert_eq!(drift(&mesh, &before), None);
        mesh.sysctl("net/ipv4/ip_forward", "1").unwrap();
        assert_eq!(
            drift(&mesh, &before).as_deref(),
            Some("net/ipv4/ip_forward is 1")
        );
        nft::apply(&mesh, "delete table inet t").unwrap();
        mend(&mesh, &before).unwrap();
        assert_eq!(drift(&mesh, &before), None);
    }
}
