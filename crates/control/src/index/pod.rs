// SPDX-License-Identifier: Apache-2.0
//! What the index keeps of a Pod, read once from the Kubernetes object. Pure. Read [`super`] next.

use std::collections::BTreeMap;

use maille_manifest::marks::{CAPTURE, INJECTED, OURS, ZONE};
use maille_manifest::objects::{self, ObjectMeta, Transport};
use maille_model::{Membership, Name, NameError, Owner, Workload, WorkloadUid, Zone};

/// The label by which a ReplicaSet's name is its Deployment's name.
const TEMPLATE_HASH: &str = "pod-template-hash";
/// Bytes of a pod's message that are kept.
const MESSAGE_BYTES: usize = 512;

/// A Pod, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Who it is for its peers.
    pub workload: Workload,
    /// What selectors see.
    pub labels: BTreeMap<String, String>,
    /// How its packets reach its proxy.
    pub capture: Capture,
    /// The mesh's own annotations, of one whose rules its node writes: a node that nobody told asks for them. Nobody needs others'.
    pub marks: BTreeMap<String, String>,
    /// The node that it is bound to.
    pub node: Option<String>,
    /// Named TCP ports of its containers.
    pub ports: BTreeMap<String, u16>,
    /// It has the node's network: its addresses are not its own, and it has no proxy.
    pub host_network: bool,
    /// How far its life is.
    pub phase: Phase,
    /// Kubernetes' Ready condition, asked to go or not.
    pub ready: bool,
    /// It was asked to go: it finishes what it has and gets nothing new.
    pub terminating: bool,
    /// Why it is not ready, in the words of whoever runs it; empty otherwise.
    pub message: String,
}

/// How a pod's packets reach its proxy, by what was written on it when that was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capture {
    /// They do not: it is not in the mesh.
    None,
    /// The proxy is in a network namespace between the wire and the pod.
    Outboard,
    /// The proxy is one of the pod's containers, and another wrote the rules.
    Inboard,
    /// The same, but its node wrote the rules.
    InboardCni,
}

/// Why an object is no pod that can be served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PodError {
    /// Every pod of a cluster has one.
    #[error("pod {0} has no usable metadata.uid")]
    Uid(Name),
    /// Every pod is in one.
    #[error("pod {0} has no metadata.namespace")]
    Namespace(Name),
    /// Its identity is made of it.
    #[error("pod {pod} has an impossible spec.serviceAccountName")]
    ServiceAccount {
        /// Which pod.
        pod: Name,
        /// What is wrong with it.
        #[source]
        source: NameError,
    },
}

/// `status.phase`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// It ended and will not run again: its addresses are no longer its own.
    Finished,
    /// Not every container runs yet.
    Pending,
    /// It runs.
    Running,
}

// === impl Pod ===

impl Pod {
    /// Reads the Kubernetes object, defaults included.
    pub fn read(object: &objects::Pod) -> Result<Self, PodError> {
        let meta = &object.metadata;
        let pod = || meta.name.clone();
        let account = object.service_account().parse();
        let sidecars = object.spec.init_containers.iter();
        let containers = sidecars.filter(|init| init.is_sidecar());
        let containers = object.spec.containers.iter().chain(containers);
        let named = containers.flat_map(|container| &container.ports);
        let named = named.filter(|port| !port.name.is_empty() && port.protocol == Transport::Tcp);
        let mut ports = BTreeMap::new();
        for port in named {
            ports
                .entry(port.name.clone())
                .or_insert(port.container_port);
        }
        let capture = Capture::of(meta, object.spec.host_network);
        Ok(Self {
            workload: Workload {
                uid: WorkloadUid::new(&meta.uid).ok_or_else(|| PodError::Uid(pod()))?,
                namespace: meta
                    .namespace
                    .clone()
                    .ok_or_else(|| PodError::Namespace(pod()))?,
                name: pod(),
                service_account: account
                    .map_err(|source| PodError::ServiceAccount { pod: pod(), source })?,
                addresses: object
                    .addresses()
                    .map(|address| address.to_canonical())
                    .collect(),
                owner: owner(meta),
                membership: capture.membership(),
                zone: meta.labels.get(ZONE).and_then(|zone| Zone::new(zone)),
            },
            labels: meta.labels.clone(),
            capture,
            marks: match capture {
                Capture::InboardCni => marks(meta),
                Capture::None | Capture::Outboard | Capture::Inboard => BTreeMap::new(),
            },
            node: object.spec.node_name.clone(),
            ports,
            host_network: object.spec.host_network,
            phase: match object.status.phase.as_str() {
                "Running" => Phase::Running,
                "Succeeded" | "Failed" => Phase::Finished,
                _ => Phase::Pending,
            },
            ready: object.answers(),
            terminating: meta.deletion_timestamp.is_some(),
            message: message(object),
        })
    }

    /// Whether it may hold a certificate and be told anything.
    pub fn is_served(&self) -> bool {
        self.workload.membership == Membership::Meshed && self.phase != Phase::Finished
    }

    /// Whether its addresses are its own.
    ///
    /// From the first moment it has them: an address that control calls nobody's may be dialled in plain text, so a
    /// meshed pod's must never be called that, not even before the pod runs.
    pub fn owns_addresses(&self) -> bool {
        self.has_addresses() && !self.host_network
    }

    /// Whether it is reached at its addresses.
    pub fn has_addresses(&self) -> bool {
        self.phase != Phase::Finished
    }

    /// Whether it takes new connections.
    pub fn takes_connections(&self) -> bool {
        self.answers() && !self.terminating
    }

    /// Whether it would serve a connection, asked to go or not: what EndpointSlices call `serving`.
    pub fn answers(&self) -> bool {
        self.ready && self.phase == Phase::Running
    }
}

// === impl Capture ===

impl Capture {
    fn of(meta: &ObjectMeta, host_network: bool) -> Self {
        let said = meta.annotations.get(CAPTURE).map(String::as_str);
        let is_injected = meta.annotations.contains_key(INJECTED);
        match (host_network, said, is_injected) {
            (true, _, _) => Self::None,
            (false, Some("outboard"), _) => Self::Outboard,
            (false, Some("inboard-cni"), true) => Self::InboardCni,
            (false, _, true) => Self::Inboard,
            (false, _, false) => Self::None,
        }
    }

    fn membership(self) -> Membership {
        match self {
            Self::None => Membership::Unmeshed,
            Self::Outboard | Self::Inboard | Self::InboardCni => Membership::Meshed,
        }
    }

    /// As reports and annotations say it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Outboard => "outboard",
            Self::Inboard => "inboard",
            Self::InboardCni => "inboard-cni",
        }
    }
}

/// The annotations that are the mesh's own.
fn marks(meta: &ObjectMeta) -> BTreeMap<String, String> {
    let ours = meta.annotations.iter();
    let ours = ours.filter(|(key, _)| key.starts_with(OURS));
    ours.map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

/// The controller, with a ReplicaSet seen through: people know Deployments.
fn owner(meta: &ObjectMeta) -> Option<Owner> {
    let owners = &meta.owner_references;
    let found = owners
        .iter()
        .find(|o| o.controller)
        .or_else(|| owners.first())?;
    let found = Some(found).filter(|owner| !owner.kind.is_empty())?;
    let deployment = (found.kind == "ReplicaSet")
        .then(|| meta.labels.get(TEMPLATE_HASH))
        .flatten()
        .and_then(|hash| found.name.strip_suffix(hash.as_str())?.strip_suffix('-'));
    Some(Owner {
        kind: deployment.map_or_else(|| found.kind.clone(), |_| "Deployment".to_owned()),
        name: deployment.unwrap_or(&found.name).parse().ok()?,
    })
}

fn message(object: &objects::Pod) -> String {
    let mut texts = std::iter::once(&object.status.message).chain(
        object
            .status
            .conditions
            .iter()
            .filter(|c| c.kind == "Ready" && c.status != "True")
            .map(|c| &c.message),
    );
    let text = texts.find(|text| !text.is_empty());
    let mut text = text.cloned().unwrap_or_default();
    text.truncate(text.floor_char_boundary(MESSAGE_BYTES));
    text
}
