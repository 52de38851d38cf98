// SPDX-License-Identifier: Apache-2.0
//! The node's network: addresses, one veth a pod, routes, service addresses, DNS. Everything lives in this process's namespace,
//! and goes with it.
//!
//! Packets between pods are routed: each pod has its /32 and /128 on `eth0` and the node as its only neighbour.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use maille_chassis::clock::Clock;
use maille_manifest::addresses::{DNS_V4, DNS_V6, ranges};

use crate::capture::Captured;
use crate::cluster::{Capture, Cluster};
use crate::host::{self, NODE, NetNs};

pub(crate) mod rules;

/// Addresses given out: 10.244.0.2 to 10.244.255.254.
const FIRST: u32 = 2;
const SLOTS: u32 = 65_533;
/// Rules are made again at most so often.
const SETTLE: Duration = Duration::from_millis(20);

/// Gives pods their network.
#[derive(Debug, Default)]
pub(crate) struct Network {
    next: AtomicU32,
}

/// A pod's place in the network.
#[derive(Debug)]
pub(crate) struct Attached {
    addresses: [IpAddr; 2],
    node_side: String,
    captured: Option<Arc<Captured>>,
}

impl Attached {
    /// IPv4, IPv6.
    pub(crate) fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// How it is captured, if it is.
    pub(crate) fn captured(&self) -> Option<Arc<Captured>> {
        self.captured.clone()
    }
}

impl Network {
    /// Makes this process's namespace the node's: forwarding, and the addresses of DNS.
    pub(crate) async fn prepare() -> io::Result<Self> {
        let dns = [DNS_V4.into(), DNS_V6.into()];
        let own = NODE.into_iter().chain(dns);
        let own = own.chain(crate::kube_dns::ENDPOINTS).collect();
        host::prepare_node(own, ranges().to_vec()).await?;
        Ok(Self::default())
    }

    /// Connects `pod` to the node; captured whole, or not at all and an error.
    pub(crate) async fn attach(&self, pod: &NetNs, capture: Capture) -> io::Result<Attached> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let addresses = addresses(number);
        let node_side = format!("m{number}");
        let attached = Attached {
            addresses,
            node_side: node_side.clone(),
            captured: None,
        };
        let done = async {
            host::attach(pod.clone(), node_side, addresses.to_vec()).await?;
            match capture {
                Capture::None => Ok(None),
                Capture::Outboard => {
                    Ok::<_, io::Error>(Some(Arc::new(host::insert(pod.clone()).await?)))
                }
            }
        };
        match done.await {
            Ok(captured) => Ok(Attached {
                captured,
                ..attached
            }),
            Err(error) => {
                self.detach(attached).await;
                Err(error)
            }
        }
    }

    /// Takes a pod's network away. Its namespace goes with its last process.
    pub(crate) async fn detach(&self, attached: Attached) {
        drop(attached.captured);
        if let Err(error) = host::detach(attached.node_side.clone()).await {
            tracing::debug!(link = attached.node_side, %error, "is gone already");
        }
    }
}

/// The addresses of the pod with this number; used again only after all others.
fn addresses(number: u32) -> [IpAddr; 2] {
    let slot = FIRST + number % SLOTS;
    let v4 = Ipv4Addr::from_bits(Ipv4Addr::new(10, 244, 0, 0).to_bits() | slot);
    let v6 = Ipv6Addr::from_bits(
        Ipv6Addr::new(0xfd00, 0x244, 0, 0, 0, 0, 0, 0).to_bits() | u128::from(slot),
    );
    [v4.into(), v6.into()]
}

/// Keeps service addresses and names true, until the runtime ends.
pub(crate) async fn follow(cluster: Arc<Cluster>, names: crate::dns::Shared, clock: Clock) {
    let mut changes = cluster.changes();
    let mut applied = String::new();
    loop {
        changes.mark_unchanged();
        *names.write() = Arc::new(cluster.names());
        let rules = rules::render(&cluster.services(), &cluster.slices(), &cluster.pods());
        if rules != applied {
            match host::apply(rules.clone()).await {
                Ok(()) => applied = rules,
                Err(error) => tracing::error!(%error, "service addresses cannot be applied"),
            }
        }
        clock.wait(SETTLE).await;
        if changes.changed().await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_in_the_ranges_and_come_again_late() {
        let text = |number| addresses(number).map(|ip| ip.to_string());
        assert_eq!(text(0), ["10.244.0.2", "fd00:244::2"]);
        assert_eq!(text(254), ["10.244.1.0", "fd00:244::100"]);
        assert_eq!(text(SLOTS - 1), ["10.244.255.254", "fd00:244::fffe"]);
        assert_eq!(text(SLOTS), text(0));
    }
}
