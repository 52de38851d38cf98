// SPDX-License-Identifier: Apache-2.0
//! Why a pod gets no sidecar though it should: a closed list, each with the field and what to do. Read `decide.rs` for who refuses.

use maille_model::PortsError;

use crate::names::PROXY_UID;

/// One reason, and where it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {cause}")]
pub struct Refusal {
    /// From the pod's template: `metadata.annotations.maille.io/sidecar`, `spec.containers[0].name`.
    pub path: String,
    /// What is wrong.
    pub cause: Cause,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the texts are the documentation")]
pub enum Cause {
    #[error("is {found}, must be {expected}")]
    Type {
        found: &'static str,
        expected: &'static str,
    },
    #[error("missing: {what}")]
    Missing { what: &'static str },
    #[error("{value:?} is not {expected}")]
    Malformed {
        value: String,
        expected: &'static str,
    },
    #[error("{0}")]
    Ports(PortsError),
    #[error("names more than {0} ports and ranges: use fewer, wider ones")]
    TooManyPorts(usize),
    #[error("port {port} is the proxy's own: it is never captured, leave it out")]
    OwnPort { port: u16 },
    #[error("unknown annotation of the mesh{}", meant(.suggestion))]
    Unknown { suggestion: Option<String> },
    #[error("is {request}, more than the limit {limit} in {of}: lower one or raise the other")]
    MoreThanLimit {
        request: String,
        limit: String,
        of: &'static str,
    },
    #[error(
        "the label says {label:?} and the annotation {annotation:?}: say it once, by the label"
    )]
    Conflict { label: String, annotation: String },
    #[error(
        "the pod uses its node's network, where there is nothing to capture: leave out hostNetwork, or the label that wants a sidecar"
    )]
    HostNetwork,
    #[error(
        "{value:?} needs the mesh's agent on every node, which this installation does not have: use \"inboard\" or leave it out"
    )]
    Outboard { value: String },
    #[error(
        "{sandbox} keeps what is in the pod from its node, or runs it elsewhere: a proxy of the node would read it, or never see it; \
         leave this out, and the pod gets a sidecar"
    )]
    Closed { sandbox: String },
    #[error(
        "{sandbox} has a kernel of its own, which rules that the node writes do not reach: leave this out, and the node captures from outside \
         where it can"
    )]
    OwnKernel { sandbox: String },
    #[error(
        "{sandbox} cannot be captured from inside as it comes: gVisor lets nobody change its packet filter; install the mesh's agent on the \
         nodes (maille install --cni), which captures from outside, or say \"inboard\" here if the nodes run it with net-raw"
    )]
    NoRules { sandbox: String },
    #[error(
        "{sandbox} gives the pod a kernel of its own, which shares no such thing with its node: leave this out, or the sandbox"
    )]
    Shared { sandbox: String },
    #[error(
        "is {value:?}, by which Kata may connect the machine past the pod's network, and past the mesh: leave this out"
    )]
    PastNetwork { value: String },
    #[error(
        "containerd refuses a pod with this and spec.runtimeClassName {class:?}: leave this out, the class says what the pod runs on"
    )]
    UntrustedTwice { class: String },
    #[error(
        "ports cannot be left out where the node captures, whose rules know no ports: use maille.io/capture: inboard, or leave this out"
    )]
    PortsOutboard,
    #[error(
        "{value:?} would let containers begin without the node's agent: write a list in JSON that names \"maille\" too, or leave it out"
    )]
    Plugins { value: String },
    #[error(
        "a sidecar of {mesh} is there already: two meshes cannot both have a pod's connections; take one of them out"
    )]
    OtherMesh { mesh: &'static str },
    #[error(
        "runs as user {PROXY_UID}, which is the proxy's: its connections would leave the pod without the proxy; choose another user"
    )]
    ProxyUser,
    #[error("port {port} is the proxy's in every meshed pod: choose another")]
    TakenPort { port: u16 },
    #[error(
        "{name:?} is a name of the mesh's own, and what it names is not all of a sidecar: take it out (`maille uninject`), or rename it"
    )]
    Half { name: String },
    #[error(
        "the pod is meant for the mesh, and what captures it is not there: another admission webhook took it out after it was put in; \
         let that one leave pods of the mesh alone"
    )]
    Gone,
    #[error(
        "{name:?} is no longer where the mesh put it: what runs before it is not captured; put {name:?} first, or uninject and inject again"
    )]
    Order { name: &'static str },
    #[error(
        "namespace {namespace} enforces the Pod Security Standard {level:?}, which forbids the init container that captures (it needs NET_ADMIN): \
         allow \"privileged\" there{or}"
    )]
    PodSecurity {
        namespace: String,
        level: &'static str,
        /// What else helps.
        or: &'static str,
    },
    #[error(
        "a {kind} ends when all its containers end, and a classic sidecar never does: use \"native\" or leave it out"
    )]
    ClassicEnds { kind: &'static str },
}

fn meant(suggestion: &Option<String>) -> String {
    suggestion
        .as_ref()
        .map(|one| format!(": did you mean {one}?"))
        .unwrap_or_default()
}

impl Refusal {
    pub(crate) fn new(path: impl Into<String>, cause: Cause) -> Self {
        Self {
            path: path.into(),
            cause,
        }
    }
}
