// SPDX-License-Identifier: Apache-2.0
//! Who may do what, each right with its reason. Must never grant `*`, nor reading of Secrets outside the mesh's own namespace.

use serde_json::{Value, json};

use super::{CONTROL, Options, global, metadata};
use crate::emit::COMMENT;
use crate::names::TRUST_CONFIG_MAP;

/// What people may be granted: the resources of the mesh's API.
const VIEW: [&str; 7] = [
    "check", "edges", "explain", "identity", "pods", "stat", "version",
];

/// A rule, and why.
struct Rule {
    why: &'static str,
    group: &'static str,
    resources: &'static [&'static str],
    names: &'static [&'static str],
    verbs: &'static [&'static str],
}

const CLUSTER: [Rule; 12] = [
    Rule {
        why: "Who runs where, behind which service: what proxies are told. Nodes say which addresses pods have.",
        group: "",
        resources: &["namespaces", "nodes", "pods", "services"],
        names: &[],
        verbs: &["list", "watch"],
    },
    Rule {
        why: "Which pods are ready behind a service.",
        group: "discovery.k8s.io",
        resources: &["endpointslices"],
        names: &[],
        verbs: &["list", "watch"],
    },
    Rule {
        why: "Which addresses services have.",
        group: "networking.k8s.io",
        resources: &["servicecidrs"],
        names: &[],
        verbs: &["list", "watch"],
    },
    Rule {
        why: "What a pod runs on: whether its node may look into it.",
        group: "node.k8s.io",
        resources: &["runtimeclasses"],
        names: &[],
        verbs: &["list", "watch"],
    },
    Rule {
        why: "Trust anchors go into every namespace with meshed pods; a right to create cannot name what is created.",
        group: "",
        resources: &["configmaps"],
        names: &[],
        verbs: &["create"],
    },
    Rule {
        why: "The same, kept as they should be.",
        group: "",
        resources: &["configmaps"],
        names: &[TRUST_CONFIG_MAP],
        verbs: &["delete", "get", "list", "patch", "watch"],
    },
    Rule {
        why: "They are owned by this role, so that they go when it goes: its uid is needed for that.",
        group: "rbac.authorization.k8s.io",
        resources: &["clusterroles"],
        names: &[CONTROL],
        verbs: &["get"],
    },
    Rule {
        why: "Whether a pod's token is genuine, and whose: before it gets a certificate.",
        group: "authentication.k8s.io",
        resources: &["tokenreviews"],
        names: &[],
        verbs: &["create"],
    },
    Rule {
        why: "What a node's agent mended of a pod's capture is told in the pod's events.",
        group: "",
        resources: &["events"],
        names: &[],
        verbs: &["create"],
    },
    Rule {
        why: "Whether somebody who asks the mesh's API may.",
        group: "authorization.k8s.io",
        resources: &["subjectaccessreviews"],
        names: &[],
        verbs: &["create"],
    },
    Rule {
        why: "The webhooks' certificate authority is written by control, which makes it, and renewed.",
        group: "admissionregistration.k8s.io",
        resources: &[
            "mutatingwebhookconfigurations",
            "validatingwebhookconfigurations",
        ],
        names: &["maille-inject", "maille-verify"],
        verbs: &["get", "list", "patch", "watch"],
    },
    Rule {
        why: "The same for the mesh's API.",
        group: "apiregistration.k8s.io",
        resources: &["apiservices"],
        names: &["v1.api.maille.io"],
        verbs: &["get", "list", "patch", "watch"],
    },
];

const OWN: [Rule; 5] = [
    Rule {
        why: "The certificate authority's key is made at the first start; a right to create cannot name what is created.",
        group: "",
        resources: &["secrets"],
        names: &[],
        verbs: &["create"],
    },
    Rule {
        why: "The same, read at every start and when it changes, and replaced when it ends.",
        group: "",
        resources: &["secrets"],
        names: &["maille-ca"],
        verbs: &["get", "list", "update", "watch"],
    },
    Rule {
        why: "One of several replicas writes; they agree on which by a Lease.",
        group: "coordination.k8s.io",
        resources: &["leases"],
        names: &[],
        verbs: &["create"],
    },
    Rule {
        why: "The same, held.",
        group: "coordination.k8s.io",
        resources: &["leases"],
        names: &[CONTROL],
        verbs: &["get", "update"],
    },
    Rule {
        why: "What was chosen at installation.",
        group: "",
        resources: &["configmaps"],
        names: &[super::CONFIG],
        verbs: &["get"],
    },
];

pub(super) fn objects(options: &Options) -> Vec<Value> {
    let group = "rbac.authorization.k8s.io";
    let version = "rbac.authorization.k8s.io/v1";
    let subject = json!([{"kind": "ServiceAccount", "name": CONTROL, "namespace": options.namespace.as_str()}]);
    let reader = "extension-apiserver-authentication-reader";
    vec![
        json!({
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": metadata(options, CONTROL, "control"),
        }),
        json!({
            "apiVersion": version,
            "kind": "ClusterRole",
            "metadata": global(CONTROL, "control"),
            "rules": rules(&CLUSTER),
        }),
        json!({
            "apiVersion": version,
            "kind": "ClusterRoleBinding",
            "metadata": global(CONTROL, "control"),
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": CONTROL},
            "subjects": subject,
        }),
        json!({
            "apiVersion": version,
            "kind": "Role",
            "metadata": metadata(options, CONTROL, "control"),
            "rules": rules(&OWN),
        }),
        json!({
            "apiVersion": version,
            "kind": "RoleBinding",
            "metadata": metadata(options, CONTROL, "control"),
            "roleRef": {"apiGroup": group, "kind": "Role", "name": CONTROL},
            "subjects": subject,
        }),
        json!({
            COMMENT: "The API server shows, by a certificate, that a caller of the mesh's API was verified: this says by which authority.",
            "apiVersion": version,
            "kind": "RoleBinding",
            "metadata": {
                "name": format!("{CONTROL}-front-proxy"),
                "namespace": "kube-system",
                "labels": super::labels("control"),
            },
            "roleRef": {"apiGroup": group, "kind": "Role", "name": reader},
            "subjects": subject,
        }),
        people(
            "maille-view",
            "What people may be granted: numbers and names of the mesh. Whoever may view a namespace may see its.",
            &VIEW,
        ),
        people(
            "maille-tap",
            "What people may be granted: heads of requests as they pass. In no other role, because they may hold secrets.",
            &["tap"],
        ),
    ]
}

fn people(name: &str, why: &str, resources: &[&str]) -> Value {
    let mut metadata = global(name, "api");
    if name == "maille-view" {
        metadata["labels"]["rbac.authorization.k8s.io/aggregate-to-view"] = json!("true");
    }
    json!({
        COMMENT: why,
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": metadata,
        "rules": [{"apiGroups": ["api.maille.io"], "resources": resources, "verbs": ["get", "list"]}],
    })
}

fn rules(rules: &[Rule]) -> Vec<Value> {
    let rule = |rule: &Rule| {
        let mut value = json!({
            COMMENT: rule.why,
            "apiGroups": [rule.group],
            "resources": rule.resources,
        });
        if !rule.names.is_empty() {
            value["resourceNames"] = json!(rule.names);
        }
        value["verbs"] = json!(rule.verbs);
        value
    };
    rules.iter().map(rule).collect()
}
