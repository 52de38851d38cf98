// SPDX-License-Identifier: Apache-2.0
//! The kinds of objects that have pods, and where in them the pod's template is. Read `decide.rs` next.

use serde_json::Value;

/// A kind of object that is or makes pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "they are Kubernetes' own kinds")]
pub enum Kind {
    Pod,
    Deployment,
    StatefulSet,
    DaemonSet,
    ReplicaSet,
    ReplicationController,
    Job,
    CronJob,
    PodTemplate,
}

/// Kind, as written, its API group, as in `kubectl get`, and the keys that lead to the template.
type Row = (
    Kind,
    &'static str,
    &'static str,
    &'static str,
    &'static [&'static str],
);

const TEMPLATE: &[&str] = &["spec", "template"];

const KINDS: [Row; 9] = [
    (Kind::Pod, "Pod", "", "pod", &[]),
    (
        Kind::Deployment,
        "Deployment",
        "apps",
        "deployment",
        TEMPLATE,
    ),
    (
        Kind::StatefulSet,
        "StatefulSet",
        "apps",
        "statefulset",
        TEMPLATE,
    ),
    (Kind::DaemonSet, "DaemonSet", "apps", "daemonset", TEMPLATE),
    (
        Kind::ReplicaSet,
        "ReplicaSet",
        "apps",
        "replicaset",
        TEMPLATE,
    ),
    (
        Kind::ReplicationController,
        "ReplicationController",
        "",
        "replicationcontroller",
        TEMPLATE,
    ),
    (Kind::Job, "Job", "batch", "job", TEMPLATE),
    (
        Kind::CronJob,
        "CronJob",
        "batch",
        "cronjob",
        &["spec", "jobTemplate", "spec", "template"],
    ),
    (
        Kind::PodTemplate,
        "PodTemplate",
        "",
        "podtemplate",
        &["template"],
    ),
];

// === impl Kind ===

impl Kind {
    /// What `object` is, where it has pods.
    pub fn of(object: &Value) -> Option<Self> {
        Self::named(object["apiVersion"].as_str()?, object["kind"].as_str()?)
    }

    /// The kind of that name in that version.
    pub(crate) fn named(version: &str, kind: &str) -> Option<Self> {
        let group = match version.split_once('/').map_or("", |(group, _)| group) {
            // Where the same kinds were until Kubernetes 1.16, and still are in files.
            "extensions" => "apps",
            group => group,
        };
        let found = KINDS
            .iter()
            .find(|(_, name, of, _, _)| *name == kind && *of == group)?;
        Some(found.0)
    }

    const fn row(self) -> &'static Row {
        // The table is in the order of the kinds; a test holds them together.
        &KINDS[self as usize]
    }

    /// As `kubectl get` writes it: `deployment`.
    pub const fn word(self) -> &'static str {
        self.row().3
    }

    /// The keys that lead from the object to what has `metadata` and `spec` of its pods. None for a pod.
    pub const fn template(self) -> &'static [&'static str] {
        self.row().4
    }

    /// Whether its pods are to end.
    pub const fn ends(self) -> bool {
        matches!(self, Self::Job | Self::CronJob)
    }

    /// The pod's template in `object`.
    pub fn template_in(self, object: &Value) -> Option<&Value> {
        let mut keys = self.template().iter();
        keys.try_fold(object, |value, key| value.get(*key))
    }

    /// The same, to be changed.
    pub fn template_in_mut(self, object: &mut Value) -> Option<&mut Value> {
        let mut keys = self.template().iter();
        keys.try_fold(object, |value, key| value.get_mut(*key))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn kinds_are_found_by_group_and_name() {
        for (kind, name, group, word, keys) in KINDS {
            let version = if group.is_empty() {
                "v1".to_owned()
            } else {
                format!("{group}/v1")
            };
            let object = json!({"apiVersion": version, "kind": name});
            assert_eq!(Kind::of(&object), Some(kind));
            assert_eq!((kind.word(), kind.template()), (word, keys));
        }
        for (version, kind) in [
            ("v1", "Deployment"),
            ("apps/v1", "Pod"),
            ("v1", "Service"),
            ("example.com/v1", "Job"),
        ] {
            assert_eq!(
                Kind::of(&json!({"apiVersion": version, "kind": kind})),
                None
            );
        }
        assert_eq!(Kind::of(&json!({"kind": "Pod"})), None);
    }
}
