// SPDX-License-Identifier: Apache-2.0
//! What admission wrote on a pod stays: its node reads it again whenever the pod's sandbox is made anew, and peers read it to know whether
//! the pod is in the mesh.
//!
//! A policy that the API server holds by itself, so that it holds while control is away. Read `webhook.rs` for who writes.

use maille_manifest::marks::{OURS, REQUIRED_PLUGINS};
use serde_json::{Value, json};

use super::global;
use crate::emit::COMMENT;

/// What policy and binding are called.
const NAME: &str = "maille-kept";

pub(super) fn objects() -> Vec<Value> {
    let rule = |operation: &str, resources: &[&str]| json!({"apiGroups": [""], "apiVersions": ["v1"], "operations": [operation], "resources": resources, "scope": "Namespaced"});
    let policy = json!({
        COMMENT: "Annotations by which a node captures a pod are those of its admission: whoever could change them later would take\n\
                  the pod out of the mesh when its sandbox is made anew. Bindings are among it, because theirs become the pod's.",
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": global(NAME, "inject"),
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {
                "matchPolicy": "Equivalent",
                "resourceRules": [
                    rule("UPDATE", &["pods", "pods/ephemeralcontainers", "pods/resize", "pods/status"]),
                    rule("CREATE", &["bindings", "pods/binding"]),
                ],
            },
            "variables": [
                {"name": "before", "expression": of("oldObject", "oldObject != null && ")},
                {"name": "after", "expression": of("object", "")},
            ],
            "validations": [{
                "expression": expression(),
                "message": format!(
                    "annotations {OURS}* and {REQUIRED_PLUGINS}* of a pod are those of its admission: make a new pod for others"
                ),
                "reason": "Forbidden",
            }],
        },
    });
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": global(NAME, "inject"),
        "spec": {"policyName": NAME, "validationActions": ["Deny"]},
    });
    vec![policy, binding]
}

fn of(object: &str, condition: &str) -> String {
    format!("{condition}has({object}.metadata.annotations) ? {object}.metadata.annotations : {{}}")
}

/// Nothing of ours is gone or has another value, and nothing is new. Mostly nothing was changed at all, which is found at once.
fn expression() -> String {
    let other = format!("!key.startsWith('{OURS}') && !key.startsWith('{REQUIRED_PLUGINS}')");
    let kept = "key in variables.after && variables.after[key] == variables.before[key]";
    format!(
        "variables.before == variables.after || (\
         variables.before.all(key, ({other}) || ({kept})) && \
         variables.after.all(key, ({other}) || key in variables.before))"
    )
}
