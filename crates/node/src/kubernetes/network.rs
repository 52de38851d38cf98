// SPDX-License-Identifier: Apache-2.0
//! The network of one mesh namespace as it was when its pod was captured: addresses, neighbours, routes, policy rules, and that its links
//! are up. What somebody changed is made as it was, and nothing else is touched, so that connections go on.
//!
//! The rules of nftables are `drift.rs`'. Must never take for right what was there only when somebody looked for the first time, but for
//! what the kernel makes itself of an address a moment after it is given.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use maille_sys::NetNs;
use maille_sys::link::{self, Changes, Facts, Net};
use parking_lot::Mutex;

use crate::capture::{POD, WIRE};

/// Where it is written down, in the sandbox's directory.
const FILE: &str = "network";

/// As it was, and whether anything was changed since.
#[derive(Debug)]
pub(super) struct Network {
    facts: Mutex<Facts>,
    changes: Changes,
    /// Something changed, and it was not seen since that all is as it was.
    touched: AtomicBool,
    file: PathBuf,
}

// === impl Network ===

impl Network {
    /// As it is now, written down below `dir`: the pod has just been captured. Blocks.
    pub(super) fn begin(mesh: &NetNs, dir: &Path) -> io::Result<Self> {
        let changes = Changes::of(mesh)?;
        let facts = facts(mesh)?.made();
        let network = Self {
            facts: Mutex::new(facts),
            changes,
            touched: AtomicBool::new(true),
            file: dir.join(FILE),
        };
        network.keep()?;
        Ok(network)
    }

    /// As it was written down below `dir`. Blocks.
    pub(super) fn again(mesh: &NetNs, dir: &Path) -> io::Result<Self> {
        let file = dir.join(FILE);
        let text = match std::fs::read_to_string(&file) {
            // An agent that looked at no routes wrote none down.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Self::begin(mesh, dir);
            }
            text => text?,
        };
        Ok(Self {
            facts: Mutex::new(text.parse().map_err(io::Error::other)?),
            changes: Changes::of(mesh)?,
            touched: AtomicBool::new(true),
            file,
        })
    }

    /// Whether anything was changed since it was seen to be as it was, or cannot be told.
    pub(super) fn is_touched(&self) -> bool {
        if self.changes.any().unwrap_or(true) {
            self.touched.store(true, Ordering::Relaxed);
        }
        self.touched.load(Ordering::Relaxed) || !self.facts.lock().is_whole()
    }

    /// What differs, if anything does. Blocks.
    pub(super) fn differs(&self, mesh: &NetNs) -> io::Result<Option<String>> {
        if let Some(link) = down(mesh)? {
            return Ok(Some(format!("{link} is down")));
        }
        let now = facts(mesh)?;
        let before = self.facts.lock().clone();
        let what = match before.is_whole() {
            true => said(&before, &now),
            false => said(&before, &now.made()),
        };
        if what.is_none() {
            self.touched.store(false, Ordering::Relaxed);
        }
        if what.is_none() && !before.is_whole() {
            *self.facts.lock() = now;
            self.keep()?;
        }
        Ok(what)
    }

    /// Makes it as it was. Blocks.
    pub(super) fn mend(&self, mesh: &NetNs) -> io::Result<()> {
        let before = self.facts.lock().clone();
        let now = link::inside(mesh, async |net: Net| {
            for link in [POD, WIRE] {
                net.up(link).await?;
            }
            net.restore(&before).await?;
            net.facts().await
        });
        let now = now.map_err(io::Error::other)?;
        if let Some(left) = said(&before.made(), &now.made()) {
            return Err(io::Error::other(left));
        }
        // What the kernel made itself it may say in other words now.
        *self.facts.lock() = now;
        self.keep()
    }

    fn keep(&self) -> io::Result<()> {
        let new = self.file.with_extension("new");
        std::fs::write(&new, self.facts.lock().to_string())?;
        std::fs::rename(new, &self.file)
    }
}

fn facts(mesh: &NetNs) -> io::Result<Facts> {
    link::inside(mesh, async |net: Net| net.facts().await).map_err(io::Error::other)
}

/// The first link of a capture that somebody took down.
fn down(mesh: &NetNs) -> io::Result<Option<&'static str>> {
    let links = link::inside(mesh, async |net: Net| net.links().await).map_err(io::Error::other)?;
    let is_down = |name: &&str| links.iter().any(|link| link.name == **name && !link.up);
    Ok([POD, WIRE].into_iter().find(is_down))
}

fn said(before: &Facts, now: &Facts) -> Option<String> {
    let difference = before.difference(now);
    (!difference.is_none()).then(|| {
        format!(
            "{} of its addresses, neighbours, routes and policy rules are new, {} are gone",
            difference.new, difference.gone
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links() -> (NetNs, NetNs) {
        let (mesh, pod) = (NetNs::create().unwrap(), NetNs::create().unwrap());
        link::inside(&mesh, async |net: Net| {
            net.add_veth(POD, "eth0", &pod, 1500).await?;
            net.add_veth(WIRE, "wire", &pod, 1500).await?;
            net.up("lo").await?;
            net.up(POD).await?;
            net.up(WIRE).await?;
            net.add_local_default(101).await
        })
        .unwrap();
        (mesh, pod)
    }

    #[test]
    fn what_was_changed_is_noticed_and_mended_also_by_the_next_agent() {
        let (mesh, _pod) = links();
        let dir = tempfile::tempdir().unwrap();
        let network = Network::begin(&mesh, dir.path()).unwrap();
        assert!(network.is_touched(), "it was never looked at");
        assert_eq!(network.differs(&mesh).unwrap(), None);
        drop(network);
        let network = Network::again(&mesh, dir.path()).unwrap();
        assert_eq!(network.differs(&mesh).unwrap(), None);
        assert!(!network.is_touched());
        link::inside(&mesh, async |net: Net| net.down(WIRE).await).unwrap();
        for _ in 0..2 {
            assert!(network.is_touched(), "until it is as it was");
            assert_eq!(
                network.differs(&mesh).unwrap().as_deref(),
                Some("up0 is down")
            );
        }
        network.mend(&mesh).unwrap();
        assert_eq!(network.differs(&mesh).unwrap(), None);
        link::inside(&mesh, async |net: Net| net.add_local_default(100).await).unwrap();
        let what = network.differs(&mesh).unwrap().unwrap();
        assert!(what.starts_with("2 of its"), "{what}");
        network.mend(&mesh).unwrap();
        assert_eq!(network.differs(&mesh).unwrap(), None);
    }
}
