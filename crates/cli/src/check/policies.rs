// SPDX-License-Identifier: Apache-2.0
//! NetworkPolicies that would keep other proxies from a pod's mesh port. Pure.

use serde_json::Value;

use super::judge::Line;
use crate::shapes::{is_injected, text};

/// Where proxies take what others send, by number and by name.
const MESH_PORT: (u64, &str) = (15_008, "maille-mesh");

/// Pods with a sidecar whose policies let nobody reach it.
pub(super) fn reachable(pods: &[Value], policies: &[Value]) -> Line {
    let mut trouble = Vec::new();
    for pod in pods.iter().filter(|pod| is_injected(pod)) {
        let selecting: Vec<&Value> = policies.iter().filter(|one| selects(one, pod)).collect();
        if !selecting.is_empty() && !selecting.iter().any(|one| lets_in(one)) {
            let names: Vec<_> = selecting
                .iter()
                .map(|one| text(one, "/metadata/name"))
                .collect();
            trouble.push(format!(
                "{}/{} (by {})",
                text(pod, "/metadata/namespace"),
                text(pod, "/metadata/name"),
                names.join(", ")
            ));
        }
    }
    let hint = "let port 15008 in, from where the application's own port is let in: meshed traffic arrives there";
    Line::new(
        "pods",
        "network policies let the mesh's port in",
        &trouble,
        hint,
    )
}

/// Whether a policy judges what comes to a pod.
fn selects(policy: &Value, pod: &Value) -> bool {
    let types = policy["spec"]["policyTypes"].as_array();
    let ingress = types.is_none_or(|types| types.iter().any(|one| one == "Ingress"));
    let same = text(policy, "/metadata/namespace") == text(pod, "/metadata/namespace");
    ingress && same && matches(&policy["spec"]["podSelector"], &pod["metadata"]["labels"])
}

/// Whether labels fit a selector.
fn matches(selector: &Value, labels: &Value) -> bool {
    let equal = selector["matchLabels"].as_object().into_iter().flatten();
    let expressions = selector["matchExpressions"]
        .as_array()
        .into_iter()
        .flatten();
    let fits = |expression: &Value| {
        let value = labels.get(text(expression, "/key")).and_then(Value::as_str);
        let values = expression["values"].as_array().into_iter().flatten();
        let named = values
            .into_iter()
            .any(|one| one.as_str().is_some_and(|one| Some(one) == value));
        match text(expression, "/operator") {
            "In" => named,
            "NotIn" => !named,
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            _ => false,
        }
    };
    equal
        .into_iter()
        .all(|(key, value)| labels.get(key) == Some(value))
        && expressions.into_iter().all(fits)
}

/// Whether a policy lets anybody reach the mesh's port.
fn lets_in(policy: &Value) -> bool {
    let rules = policy["spec"]["ingress"].as_array().into_iter().flatten();
    rules.into_iter().any(|rule| {
        let Some(ports) = rule["ports"].as_array().filter(|ports| !ports.is_empty()) else {
            return true;
        };
        ports.iter().any(|port| {
            let tcp = port["protocol"].as_str().is_none_or(|name| name == "TCP");
            let (number, name) = MESH_PORT;
            let first = port["port"].as_u64();
            let last = port["endPort"].as_u64().or(first);
            let within = first
                .zip(last)
                .is_some_and(|(low, high)| (low..=high).contains(&number));
            tcp && (port["port"].is_null() || within || port["port"] == name)
        })
    })
}

#[cfg(test)]
mod tests {
    use maille_manifest::marks::{INJECT, INJECTED};
    use serde_json::json;

    use super::*;

    #[test]
    fn policies_that_forget_the_mesh_are_found() {
        let pod = json!({"metadata": {"name": "p", "namespace": "shop", "labels": {"app": "web"}, "annotations": {INJECTED: "1"}}});
        let policy = |ingress: Value, selector: Value| json!({"metadata": {"name": "n", "namespace": "shop"}, "spec": {"podSelector": selector, "policyTypes": ["Ingress"], "ingress": ingress}});
        let web = json!({"matchLabels": {"app": "web"}});
        let only = json!([{"ports": [{"port": 8080}]}]);
        let found = |policies: &[Value]| !reachable(std::slice::from_ref(&pod), policies).ok;
        assert!(!found(&[]));
        assert!(found(&[policy(only.clone(), web.clone())]));
        assert!(found(&[policy(json!([]), json!({}))]));
        // Another policy lets it in, in each way that there is.
        for more in [
            json!([{}]),
            json!([{"ports": [{"port": 15008, "protocol": "TCP"}]}]),
            json!([{"ports": [{"port": 15000, "endPort": 15100}]}]),
            json!([{"ports": [{"port": "maille-mesh"}]}]),
        ] {
            assert!(!found(&[
                policy(only.clone(), web.clone()),
                policy(more, json!({}))
            ]));
        }
        assert!(found(&[policy(
            json!([{"ports": [{"port": 15008, "protocol": "UDP"}]}]),
            json!({})
        )]));
        // It is about others.
        let others =
            json!({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]});
        assert!(!found(&[policy(only.clone(), others)]));
        let exists = json!({"matchExpressions": [{"key": INJECT, "operator": "Exists"}]});
        assert!(!found(&[policy(only, exists)]));
    }
}
