// SPDX-License-Identifier: Apache-2.0
//! Outboard capture: a network namespace of the proxy's own between the wire and the pod. (Inboard capture, where the proxy is in
//! the pod, is [`inboard`] alone.)
//!
//! `wire -- up0 [mesh namespace: proxy] dn0 -- eth0 [pod]`. TCP goes to the proxy's listeners with its addresses kept; the
//! few other things a pod needs pass between `up0` and `dn0` at layer 2, checked; everything else is dropped and counted.
//! The namespace does not forward, so that without a proxy nothing passes either.
//!
//! Must never leave a pod half captured: read `capture/plan.rs` (what is done), `rules.rs` (what passes), `apply.rs` (whole
//! or undone).

use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::OwnedFd;

use ipnet::IpNet;
use maille_sys::NetNs;
use maille_sys::link::{self, LinkError, Mac, Route, Scope};

/// Doing a plan, whole or undone.
pub mod apply;
/// Capture from inside the pod.
pub mod inboard;
/// What is to be done.
pub mod plan;
/// What passes.
pub mod rules;

#[cfg(test)]
mod testing;

pub use apply::{ApplyError, Kernel};
pub use plan::{Place, Plan, Step, plan};

/// Takes what the pod begins.
pub const OUTBOUND_PORT: u16 = maille_model::OUTBOUND_PORT;
/// Takes what comes to the pod in plain text.
pub const INBOUND_PORT: u16 = maille_model::INBOUND_PORT;
/// Takes what comes from other proxies.
pub const MESH_PORT: u16 = maille_model::MESH_PORT;
/// Where the proxy answers for itself.
pub const METRICS_PORT: u16 = maille_model::METRICS_PORT;
/// `SO_MARK` of sockets towards the pod.
pub const TO_POD: u32 = 2;
/// The mark of packets that are delivered to a listener whatever their destination.
const TO_LISTENER: u32 = 1;
/// The wire's interface in the mesh namespace.
pub const WIRE: &str = "up0";
/// The pod's interface in the mesh namespace.
pub const POD: &str = "dn0";

/// What may differ from pod to pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// How many connections may wait on each listener while no proxy takes them (at most the kernel's `somaxconn`).
    pub backlog: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { backlog: 4096 }
    }
}

/// A pod's network as its CNI made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodNet {
    /// The interface, `eth0`.
    pub interface: String,
    /// Its hardware address.
    pub mac: Mac,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Its addresses but for link-local ones.
    pub addresses: Vec<IpNet>,
    /// Routes that somebody set, on-link ones first.
    pub routes: Vec<Route>,
    /// Permanent neighbours.
    pub neighbours: Vec<(IpAddr, Mac)>,
}

impl PodNet {
    /// Reads it. Blocks.
    pub fn read(pod: &NetNs, interface: &str) -> Result<Self, CaptureError> {
        let read = link::inside(pod, async |net| {
            let link = net.link(interface).await?;
            Ok((
                link,
                net.addresses(interface, Scope::Global).await?,
                net.routes(interface).await?,
                net.neighbours(interface).await?,
            ))
        });
        let (link, addresses, routes, neighbours) = read.map_err(CaptureError::Read)?;
        let missing = |what| CaptureError::Unfit {
            interface: interface.to_owned(),
            what,
        };
        if addresses.is_empty() {
            return Err(missing(
                "no address: whatever runs in the pod took it away, or none was given",
            ));
        }
        Ok(Self {
            interface: interface.to_owned(),
            mac: link.mac.ok_or_else(|| missing("no hardware address"))?,
            mtu: link.mtu,
            addresses,
            routes,
            neighbours,
        })
    }

    /// The link-local address that the pod's kernel makes of its hardware address (RFC 4291, appendix A).
    pub fn link_local(&self) -> Ipv6Addr {
        let [a, b, c, d, e, f] = self.mac;
        let id = [a ^ 2, b, c, 0xff, 0xfe, d, e, f];
        Ipv6Addr::from_bits(0xfe80 << 112 | u128::from(u64::from_be_bytes(id)))
    }
}

/// The listening sockets of a captured pod, made in its mesh namespace before anything is sent to them. Whoever holds
/// them keeps connections waiting while no proxy is there.
#[derive(Debug)]
pub struct Listeners {
    /// Takes what the pod begins.
    pub outbound: OwnedFd,
    /// Takes what comes to the pod in plain text.
    pub inbound: OwnedFd,
    /// Takes what comes to port 15008.
    pub mesh: OwnedFd,
    /// Takes what comes to port 4191: questions to the proxy itself.
    pub metrics: OwnedFd,
}

/// A captured pod. The pod's network goes away with the last holder of `mesh`: this value, and processes inside.
#[derive(Debug)]
pub struct Captured {
    /// Where the proxy lives.
    pub mesh: NetNs,
    /// Its sockets.
    pub listeners: Listeners,
}

/// Why a pod is not captured. It is then as it was before, unless it says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The pod's network cannot be read.
    #[error("the pod's network cannot be read")]
    Read(#[source] LinkError),
    /// The pod's interface cannot be captured.
    #[error("the pod's interface {interface} has {what}")]
    Unfit {
        /// Which.
        interface: String,
        /// Why.
        what: &'static str,
    },
    /// The mesh namespace cannot be made.
    #[error("the mesh namespace cannot be made")]
    Namespace(#[source] std::io::Error),
    /// A step failed.
    #[error("the capture was not applied")]
    Apply(#[from] ApplyError),
    /// A capture cannot be taken up again.
    #[error("the capture cannot be taken up again")]
    Resume(#[source] apply::StepError),
    /// A captured pod's links cannot be removed.
    #[error("the mesh namespace cannot be emptied")]
    Remove(#[source] LinkError),
}

/// Captures `pod`, whose wire is its interface `interface`, before anything runs in it. Blocks.
pub fn insert(pod: &NetNs, interface: &str, options: &Options) -> Result<Captured, CaptureError> {
    let facts = PodNet::read(pod, interface)?;
    let mesh = NetNs::create().map_err(CaptureError::Namespace)?;
    let mut linux = apply::Linux::new(pod.clone(), mesh);
    apply::apply(&plan(&facts, options), &mut linux)?;
    Ok(linux.finish()?)
}

/// Takes up the capture that is in `mesh`, whose holder is gone: it gets listeners again. Blocks.
pub fn resume(mesh: NetNs, options: &Options) -> Result<Captured, CaptureError> {
    let there = link::inside(&mesh, async |net| {
        net.link(WIRE).await?;
        net.link(POD).await
    });
    there.map_err(CaptureError::Read)?;
    let mut linux = apply::Linux::new(mesh.clone(), mesh);
    for step in plan::listeners(options) {
        Kernel::run(&mut linux, &step).map_err(CaptureError::Resume)?;
    }
    Ok(linux.finish()?)
}

/// Ends a capture by taking the pod's wire away. Ending one that has ended is no error. Blocks.
pub fn remove(mesh: &NetNs) -> Result<(), CaptureError> {
    let removed = link::inside(mesh, async |net| {
        net.delete(POD).await?;
        net.delete(WIRE).await
    });
    removed.map_err(CaptureError::Remove)
}
