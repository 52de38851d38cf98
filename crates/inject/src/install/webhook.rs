// SPDX-License-Identifier: Apache-2.0
//! What makes the API server ask control: for a sidecar when a pod is made, and for the mesh's own API.
//!
//! There is no certificate authority in them: control writes it, and until then the API server refuses, as it should.

use maille_manifest::marks::INJECT;
use serde_json::{Value, json};

use super::{CONTROL, Options, global};
use crate::emit::COMMENT;

/// How long the API server waits: a pod that is tried again later is better than an API server that hangs.
const SECONDS: u32 = 5;

pub(super) fn objects(options: &Options) -> Vec<Value> {
    let namespace = options.namespace.as_str();
    let api = json!({
        COMMENT: "stat, tap and the other questions, by way of the API server, which knows who asks.",
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": global("v1.api.maille.io", "api"),
        "spec": {
            "group": "api.maille.io",
            "groupPriorityMinimum": 1000,
            "service": {"name": CONTROL, "namespace": namespace, "port": 443},
            "version": "v1",
            "versionPriority": 15,
        },
    });
    let inject = json!({
        COMMENT: "Pods that are meant for the mesh, by a label of their own or of their namespace, and no others.\n\
                  Where control cannot be asked such a pod is not made: it would run outside the mesh.",
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": global("maille-inject", "inject"),
        // Whoever adds a container after us makes us look again.
        "webhooks": webhooks(namespace, "inject", &[("reinvocationPolicy", json!("IfNeeded"))]),
    });
    let verify = json!({
        COMMENT: "The same pods once more, when nobody changes them any more: what another webhook undid is refused.",
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": global("maille-verify", "inject"),
        "webhooks": webhooks(namespace, "verify", &[]),
    });
    vec![api, verify, inject]
}

/// Who is asked `what` of a pod that is meant for the mesh: by its namespace, or by itself.
fn webhooks(namespace: &str, what: &str, more: &[(&str, Value)]) -> Value {
    let of = |whose: &str, namespaces: &Value, pods: &Value| {
        let mut one = webhook(namespace, whose, what, namespaces, pods);
        for (key, value) in more {
            one[*key] = value.clone();
        }
        one
    };
    json!([
        of(
            "namespace",
            &json!([in_or_not("In", INJECT, &["enabled"]), elsewhere(namespace)]),
            &json!([in_or_not("NotIn", INJECT, &["disabled"])]),
        ),
        of(
            "pod",
            &json!([
                in_or_not("NotIn", INJECT, &["enabled"]),
                elsewhere(namespace)
            ]),
            &json!([{"key": INJECT, "operator": "Exists"}, in_or_not("NotIn", INJECT, &["disabled"])]),
        ),
    ])
}

fn in_or_not(operator: &str, key: &str, values: &[&str]) -> Value {
    json!({"key": key, "operator": operator, "values": values})
}

/// Not where the cluster and the mesh themselves run: what they need to start must not wait for the mesh.
fn elsewhere(namespace: &str) -> Value {
    let own = ["kube-node-lease", "kube-system", namespace];
    in_or_not("NotIn", "kubernetes.io/metadata.name", &own)
}

fn webhook(namespace: &str, whose: &str, what: &str, namespaces: &Value, pods: &Value) -> Value {
    json!({
        "name": format!("{whose}.{what}.maille.io"),
        "admissionReviewVersions": ["v1"],
        "clientConfig": {"service": {"name": CONTROL, "namespace": namespace, "path": format!("/{what}"), "port": 443}},
        "failurePolicy": "Fail",
        "matchPolicy": "Equivalent",
        "namespaceSelector": {"matchExpressions": namespaces},
        "objectSelector": {"matchExpressions": pods},
        "rules": [{
            "apiGroups": [""],
            "apiVersions": ["v1"],
            "operations": ["CREATE"],
            "resources": ["pods"],
            "scope": "Namespaced",
        }],
        "sideEffects": "None",
        "timeoutSeconds": SECONDS,
    })
}
