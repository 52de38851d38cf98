// SPDX-License-Identifier: Apache-2.0
//! The annotations and labels that are Maille's own, each spelled once. Read [`crate::objects`] for what carries them.

/// What every annotation and label of ours begins with. Those of Services are in [`crate::terms`].
pub const OURS: &str = "maille.io/";
/// The label by which a pod says in which failure domain it runs (Kubernetes' own, which clusters copy from the node).
pub const ZONE: &str = "topology.kubernetes.io/zone";
/// Annotation and label with which people choose: `enabled` or `disabled`.
pub const INJECT: &str = "maille.io/inject";
/// Annotation with the decision, written once and read by everyone after: `outboard` or `none`.
pub const CAPTURE: &str = "maille.io/capture";
/// Annotation with which people switch a pod's access log on: `json`, `text` or `off`.
pub const ACCESS_LOG: &str = "maille.io/access-log";
/// Annotation of a template with the time of its last restart, which kubectl writes too.
pub const RESTARTED: &str = "kubectl.kubernetes.io/restartedAt";
