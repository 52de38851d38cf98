// SPDX-License-Identifier: Apache-2.0
//! The annotations and labels that are Maille's own, each spelled once. Read [`crate::objects`] for what carries them.

/// What every annotation and label of ours begins with. Those of Services are in [`crate::terms`].
pub const OURS: &str = "maille.io/";
/// The label by which a pod says in which failure domain it runs (Kubernetes' own, which clusters copy from the node).
pub const ZONE: &str = "topology.kubernetes.io/zone";
/// Annotation and label with which people choose: `enabled` or `disabled`.
pub const INJECT: &str = "maille.io/inject";
/// Annotation with how a pod's packets reach its proxy: `outboard` (the node puts it between wire and pod), `inboard-cni` (a sidecar, whose rules
/// the node writes), `inboard` (a sidecar, whose rules an init container writes) or `none`. On a namespace the same as a label, for pods that do not say.
pub const CAPTURE: &str = "maille.io/capture";
/// Annotation with who chose [`CAPTURE`], written with it: `pod`, `namespace`, `install`, or `sandbox` where what the pod runs on left one way.
pub const CAPTURE_BY: &str = "maille.io/capture-by";
/// Annotation with which people switch a pod's access log on: `json`, `text` or `off`.
pub const ACCESS_LOG: &str = "maille.io/access-log";
/// Annotation with which people let a pod's proxy show what goes through it in plain text, to whoever may ask: `allowed` or `refused`, which it is where
/// nobody says.
pub const INSIDE: &str = "maille.io/capture-inside";
/// Annotation with whether a pod may have interfaces that nobody captures, beside the one that its proxy has: `allowed`, which they are where
/// nobody says, or `refused`. On a namespace the same as a label, for pods that do not say; admission then writes [`BY_NAMESPACE`].
pub const UNCAPTURED: &str = "maille.io/uncaptured-interfaces";
/// What people say of them.
pub const ALLOWED: &str = "allowed";
/// See [`ALLOWED`].
pub const REFUSED: &str = "refused";
/// The same as [`REFUSED`], written for a namespace that says so.
pub const BY_NAMESPACE: &str = "refused-by-namespace";
/// Annotation of a template with the time of its last restart, which kubectl writes too.
pub const RESTARTED: &str = "kubectl.kubernetes.io/restartedAt";
/// Annotation with the version whose sidecar a pod has: written with the sidecar, never by people.
pub const INJECTED: &str = "maille.io/injected";
/// Annotation with what was added beside the sidecar and goes with it.
pub const ADDED: &str = "maille.io/added";
/// Annotation with the ports and ranges that reach the application without its proxy.
pub const SKIP_INBOUND: &str = "maille.io/skip-inbound-ports";
/// Annotation with the ports and ranges that the application dials without its proxy.
pub const SKIP_OUTBOUND: &str = "maille.io/skip-outbound-ports";
/// Annotation with the CPU that a proxy asks for.
pub const CPU_REQUEST: &str = "maille.io/proxy-cpu-request";
/// Annotation with the CPU that a proxy may use.
pub const CPU_LIMIT: &str = "maille.io/proxy-cpu-limit";
/// Annotation with the memory that a proxy asks for.
pub const MEMORY_REQUEST: &str = "maille.io/proxy-memory-request";
/// Annotation with the memory that a proxy may use.
pub const MEMORY_LIMIT: &str = "maille.io/proxy-memory-limit";
/// Annotation with how much a proxy says: `error`, `warn`, `info`, `debug` or `trace`.
pub const LOG_LEVEL: &str = "maille.io/proxy-log-level";
/// Annotation with what the proxy of an outboard pod is counted to: [`ROOM_POD`], where room for more than its containers was declared (a RuntimeClass'
/// overhead, resources of the pod as a whole) and no sandbox can use that up. Admission writes it.
pub const ROOM: &str = "maille.io/proxy-room";
/// What it says.
pub const ROOM_POD: &str = "pod";
/// Annotation with the form of a sidecar: `native` or `classic`.
pub const SIDECAR: &str = "maille.io/sidecar";
/// Annotation with the container that `kubectl exec` and `kubectl logs` mean unless told.
pub const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";
/// Annotation with the plugins of the container runtime without which no container of a pod begins, where the runtime heeds it (NRI's default
/// validator). With `/pod` or `/container.NAME` behind it, it means more than without.
pub const REQUIRED_PLUGINS: &str = "required-plugins.noderesource.dev";
/// What it says of a pod that its node captures.
pub const REQUIRES_AGENT: &str = "[\"maille\"]";
/// Label of a namespace with the Pod Security Standard that is enforced in it.
pub const POD_SECURITY: &str = "pod-security.kubernetes.io/enforce";
