// SPDX-License-Identifier: Apache-2.0
//! Interfaces of a pod that is captured from outside, beside the captured one: a meta-plugin gives pods several. They go past the proxy, so
//! they are named, and refused where the pod or its namespace says so.
//!
//! Must never let a pod begin with one that it may not have, whenever that was added. Read `nri.rs` for the last moment before a pod begins.

use std::io;

use maille_cni::protocol::Sandbox;
use maille_manifest::marks::{ALLOWED, UNCAPTURED};
use maille_sys::NetNs;
use maille_sys::link::{self, Link, Net};
use maille_wire::v1::Happening;

use super::{Mode, Sandboxes};
use crate::kubernetes::failure::{SandboxError, blocking};

impl Sandboxes {
    /// Whether a pod that is captured from outside has interfaces now that it may not have: a meta-plugin may add them after the pod was
    /// captured. Where it may have them, they are named.
    pub(in crate::kubernetes) async fn may_begin(
        &self,
        container: &str,
        network: NetNs,
    ) -> Result<(), SandboxError> {
        let slot = self.slots.lock().get(container).cloned();
        let slot = slot.ok_or(SandboxError::Unknown)?;
        let held = slot.lock().await;
        let held = held.as_ref().ok_or(SandboxError::Unknown)?;
        if held.mode() != Mode::Outboard {
            return Ok(());
        }
        let own = held.sandbox.interface.clone();
        let now = blocking(move || others(&network, &own)).await?;
        may_have(&held.sandbox, &now)?;
        let mut known = held.others.lock();
        if !now.iter().all(|one| known.contains(one)) {
            let message = format!(
                "the pod's interfaces {} came after it was captured, and nobody captures them",
                now.join(", ")
            );
            self.agent
                .tell(&held.sandbox.uid, Happening::Captured, message);
        }
        *known = now;
        Ok(())
    }
}

/// Interfaces of a pod that stay as they are, beside the captured one: a meta-plugin gives pods several. Blocks.
pub(super) fn others(pod: &NetNs, own: &str) -> Result<Vec<String>, SandboxError> {
    let links = link::inside(pod, async |net: Net| net.links().await);
    let links = links.map_err(io::Error::other)?;
    let other = |link: &Link| link.up && link.name != "lo" && link.name != own;
    Ok(links
        .into_iter()
        .filter(other)
        .map(|link| link.name)
        .collect())
}

/// Whether these interfaces may stay as they are.
pub(super) fn may_have(pod: &Sandbox, others: &[String]) -> Result<(), SandboxError> {
    let said = pod.annotations.get(UNCAPTURED).map(String::as_str);
    if others.is_empty() || matches!(said, None | Some(ALLOWED)) {
        return Ok(());
    }
    Err(SandboxError::Uncaptured(others.join(", ")))
}

#[cfg(test)]
mod tests {
    use maille_sys::link::LinkError;

    use super::*;

    fn pod(said: Option<&str>) -> Sandbox {
        let said = said.map(|word| (UNCAPTURED.to_owned(), word.to_owned()));
        Sandbox {
            container: "c1".to_owned(),
            interface: "eth0".to_owned(),
            namespace: "shop".to_owned(),
            name: "web-1".to_owned(),
            uid: "u-1".to_owned(),
            annotations: said.into_iter().collect(),
        }
    }

    #[test]
    fn what_a_pod_may_have_is_what_it_or_its_namespace_says() {
        let two = ["net1".to_owned(), "net2".to_owned()];
        for (said, may) in [
            (None, true),
            (Some("allowed"), true),
            (Some("refused"), false),
            (Some("refused-by-namespace"), false),
            (Some("whatever"), false),
        ] {
            assert!(may_have(&pod(said), &[]).is_ok(), "{said:?}");
            let found = may_have(&pod(said), &two).map_err(|error| error.to_string());
            assert_eq!(found.is_ok(), may, "{said:?}");
            let named = |text: String| text.contains("its interfaces net1, net2");
            assert!(found.err().is_none_or(named));
        }
    }

    #[test]
    fn interfaces_that_are_up_are_found() {
        let pod = NetNs::create().unwrap();
        let make = async |net: Net| {
            let own = NetNs::current().map_err(LinkError::Open)?;
            net.add_veth("eth0", "far0", &own, 1500).await?;
            net.up("eth0").await?;
            net.up("lo").await
        };
        link::inside(&pod, make).unwrap();
        assert_eq!(others(&pod, "eth0").unwrap(), Vec::<String>::new());
        link::inside(&pod, async |net: Net| net.up("far0").await).unwrap();
        assert_eq!(others(&pod, "eth0").unwrap(), ["far0"]);
    }
}
