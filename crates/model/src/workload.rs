// SPDX-License-Identifier: Apache-2.0
//! Workloads: one pod, or one machine, with an identity.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::identity::{Identity, Name, TrustDomain};
use crate::protocol::Protocol;

/// The uid that tells a workload from its successor of the same name and address.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkloadUid(Arc<str>);

/// A failure domain: what `topology.kubernetes.io/zone` says.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Zone(Arc<str>);

/// A workload as its peers see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Unique for ever.
    pub uid: WorkloadUid,
    /// Where it runs.
    pub namespace: Name,
    /// The pod's name.
    pub name: Name,
    /// The service account it runs as.
    pub service_account: Name,
    /// Every address of the pod, the primary one first.
    pub addresses: Vec<IpAddr>,
    /// What made it, for reports: a Deployment and its name, say.
    pub owner: Option<Owner>,
    /// Whether it is reached through its proxy.
    pub membership: Membership,
    /// Where it runs, where somebody said so.
    pub zone: Option<Zone>,
}

/// The controller that a workload belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner {
    /// `Deployment`, `StatefulSet`, ...
    pub kind: String,
    /// Its name in the workload's namespace.
    pub name: Name,
}

/// Whether a workload is in the mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Membership {
    /// Reached on the mesh port, by mutual TLS, and never in plain text.
    Meshed,
    /// Left out: reached in plain text on its own ports.
    Unmeshed,
}

/// What a proxy must know about the workload it serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Own {
    /// The workload itself.
    pub workload: Workload,
    /// What its ports were declared to speak, by the services that select it.
    pub ports: Vec<(u16, Protocol)>,
    /// It was asked to go: its services list it no more, it still serves, and soon it will not.
    pub leaving: bool,
}

// === impl WorkloadUid ===

impl WorkloadUid {
    /// Takes any non-empty text of at most 253 visible ASCII bytes without `/`; nothing else is a uid.
    pub fn new(text: &str) -> Option<Self> {
        let ok = (1..=253).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_graphic() && b != b'/');
        ok.then(|| Self(text.into()))
    }

    /// The bytes of the uid.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for WorkloadUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for WorkloadUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

// === impl Zone ===

impl Zone {
    /// Takes what a label's value may be, but for nothing at all: 1 to 63 visible ASCII bytes.
    pub fn new(text: &str) -> Option<Self> {
        let ok = (1..=63).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        ok.then(|| Self(text.into()))
    }

    /// Its name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

// === impl Workload ===

impl Workload {
    /// The identity that its certificate must carry.
    pub fn identity(&self, trust_domain: &TrustDomain) -> Identity {
        Identity {
            trust_domain: trust_domain.clone(),
            namespace: self.namespace.clone(),
            service_account: self.service_account.clone(),
        }
    }
}

// === impl Own ===

impl Own {
    /// What `port` was declared to speak.
    pub fn protocol(&self, port: u16) -> Protocol {
        self.ports
            .iter()
            .find(|(p, _)| *p == port)
            .map_or(Protocol::Undeclared, |(_, protocol)| *protocol)
    }
}
