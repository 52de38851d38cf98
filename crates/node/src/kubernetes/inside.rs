// SPDX-License-Identifier: Apache-2.0
//! A pod that is captured from inside without a right in it: this agent writes the rules that an init container would, into the pod's own
//! network namespace, before anything runs there; and keeps them.
//!
//! Must touch no table but its own: others' rules in the pod are the pod's. Read `capture/inboard.rs` for the rules.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use maille_manifest::marks::{SKIP_INBOUND, SKIP_OUTBOUND};
use maille_model::{Ports, PortsError};
use maille_sys::NetNs;
use maille_sys::nft::{self, NftError};
use parking_lot::Mutex;

use crate::capture::inboard::{Inboard, InsideError, Kinds, TABLE};

/// Why it is not.
#[derive(Debug, thiserror::Error)]
pub(super) enum InsideFailure {
    #[error("annotation {key} of the pod names no ports")]
    Ports {
        key: &'static str,
        #[source]
        source: PortsError,
    },
    #[error(transparent)]
    Rules(#[from] InsideError),
    #[error("the rules cannot be read back")]
    Read(#[source] NftError),
    #[error("the pod's network cannot be entered")]
    Enter(#[source] io::Error),
    #[error("the rules cannot be written down")]
    Note(#[source] io::Error),
}

/// One that is captured so.
#[derive(Debug)]
pub(super) struct Inside {
    pod: NetNs,
    inboard: Inboard,
    /// The rules as they were when the pod was captured.
    rules: Mutex<String>,
}

// === impl Inside ===

impl Inside {
    /// Captures `pod`, whose annotations are these, and writes its rules down in the file `rules`. Blocks.
    pub(super) fn begin(
        pod: &NetNs,
        annotations: &BTreeMap<String, String>,
        rules: &Path,
    ) -> Result<Self, InsideFailure> {
        let inboard = inboard(annotations)?;
        apply(pod, &inboard)?;
        let noted = listed(pod).and_then(|text| match fs::write(rules, &text) {
            Ok(()) => Ok(text),
            Err(error) => Err(InsideFailure::Note(error)),
        });
        let noted = noted.inspect_err(|_| undo(pod))?;
        Ok(Self {
            pod: pod.clone(),
            inboard,
            rules: Mutex::new(noted),
        })
    }

    /// One that an earlier agent captured. Blocks.
    pub(super) fn again(
        pod: NetNs,
        annotations: &BTreeMap<String, String>,
        rules: &Path,
    ) -> Result<Self, InsideFailure> {
        let rules = fs::read_to_string(rules).map_err(InsideFailure::Note)?;
        Ok(Self {
            pod,
            inboard: inboard(annotations)?,
            rules: Mutex::new(rules),
        })
    }

    /// How its rules differ from what they were, if they do. Blocks.
    pub(super) fn differs(&self) -> Option<String> {
        let now = match listed(&self.pod) {
            Ok(now) => now,
            Err(InsideFailure::Read(NftError::Refused(_))) => {
                return Some("its rules are gone".to_owned());
            }
            Err(error) => return Some(format!("{:#}", anyhow::Error::from(error))),
        };
        crate::drift::between(&self.rules.lock(), &now)
    }

    /// Writes its rules again, in one transaction. Connections go on. Blocks.
    pub(super) fn mend(&self) -> Result<(), InsideFailure> {
        apply(&self.pod, &self.inboard)?;
        *self.rules.lock() = listed(&self.pod)?;
        Ok(())
    }
}

/// The rules as they are. Blocks.
fn listed(pod: &NetNs) -> Result<String, InsideFailure> {
    nft::table(pod, &format!("inet {TABLE}")).map_err(InsideFailure::Read)
}

fn apply(pod: &NetNs, inboard: &Inboard) -> Result<(), InsideFailure> {
    // As outboard capture does; and only these rules can be seen to have been changed.
    let applied = pod.run(|| inboard.apply_here(Kinds::Nftables));
    applied.map_err(InsideFailure::Enter)??;
    Ok(())
}

/// Its sandbox does not begin, and its namespace goes; where it does not, it is as it was.
fn undo(pod: &NetNs) {
    let text = format!("table inet {TABLE} {{\n}}\ndelete table inet {TABLE}\n");
    if let Err(error) = nft::apply(pod, &text) {
        tracing::warn!(%error, "rules in a pod that does not begin cannot be taken back");
    }
}

/// What may differ from pod to pod.
fn inboard(annotations: &BTreeMap<String, String>) -> Result<Inboard, InsideFailure> {
    let ports = |key: &'static str| {
        let text = annotations.get(key).map(String::as_str);
        let ports = text.map_or_else(|| Ok(Ports::default()), str::parse);
        ports.map_err(|source| InsideFailure::Ports { key, source })
    };
    Ok(Inboard {
        skip_inbound: ports(SKIP_INBOUND)?,
        skip_outbound: ports(SKIP_OUTBOUND)?,
        ..Inboard::default()
    })
}

#[cfg(test)]
mod tests {
    use maille_sys::nft::Generation;

    use super::*;

    fn annotations(ports: &str) -> BTreeMap<String, String> {
        [(SKIP_INBOUND.to_owned(), ports.to_owned())].into()
    }

    #[test]
    fn rules_are_those_of_the_init_container_and_stay() {
        let (pod, dir) = (NetNs::create().unwrap(), tempfile::tempdir().unwrap());
        let others = "table inet others {\n chain c {\n  tcp dport 1 drop\n }\n}";
        nft::apply(&pod, others).unwrap();
        let file = dir.path().join("rules");
        let inside = Inside::begin(&pod, &annotations("22"), &file).unwrap();
        let init = NetNs::create().unwrap();
        let of_init = inboard(&annotations("22")).unwrap();
        init.run(|| of_init.apply_here(Kinds::Auto))
            .unwrap()
            .unwrap();
        assert_eq!(listed(&pod).unwrap(), listed(&init).unwrap());
        assert_eq!(inside.differs(), None);

        let generation = Generation::of(&pod).unwrap();
        let before = generation.now().unwrap();
        for (change, said) in [
            (format!("delete table inet {TABLE}"), "gone"),
            (format!("flush chain inet {TABLE} outbound"), "gone"),
            (
                format!("insert rule inet {TABLE} outbound accept"),
                "1 lines of its rules are new",
            ),
        ] {
            nft::apply(&pod, &change).unwrap();
            let what = inside.differs().unwrap();
            assert!(what.contains(said), "{change}: {what}");
            // The next agent says the same, and mends it.
            let next = Inside::again(pod.clone(), &annotations("22"), &file).unwrap();
            assert_eq!(next.differs(), Some(what));
            next.mend().unwrap();
            assert_eq!(inside.differs(), None);
        }
        assert_ne!(generation.now().unwrap(), before, "changes are counted");
        let all = nft::stateless(&pod).unwrap();
        assert!(all.contains("table inet others"), "{all}");
    }

    #[test]
    fn what_is_not_done_whole_is_undone() {
        let (pod, dir) = (NetNs::create().unwrap(), tempfile::tempdir().unwrap());
        let nowhere = dir.path().join("none/rules");
        let error = Inside::begin(&pod, &annotations("22"), &nowhere).unwrap_err();
        assert!(matches!(error, InsideFailure::Note(_)), "{error}");
        assert_eq!(nft::stateless(&pod).unwrap(), "");
        let error = Inside::begin(&pod, &annotations("ssh"), &nowhere).unwrap_err();
        assert!(error.to_string().contains(SKIP_INBOUND), "{error}");
    }
}
