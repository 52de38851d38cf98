// SPDX-License-Identifier: Apache-2.0
//! From whatever somebody named to a pod: itself, or one of a Deployment's or a Service's, one that serves first.
//!
//! Must never choose among pods that differ in name only without saying so. Read `names.rs` for how things are named.

use serde_json::Value;

use crate::failure::Expected;
use crate::names::{Named, name, namespace};
use crate::node;
use crate::screen::Screen;
use crate::state::State;

/// A pod, and what led to it.
#[derive(Debug, Clone)]
pub(crate) struct Chosen {
    /// What was named.
    pub(crate) object: Value,
    pub(crate) pod: Value,
}

impl Chosen {
    /// The pod's part of a path.
    pub(crate) fn path(&self) -> String {
        format!("/v1/pods/{}/{}", namespace(&self.pod), name(&self.pod))
    }

    /// The names of its containers.
    pub(crate) fn containers(&self) -> Vec<&str> {
        self.names("containers")
    }

    /// The same with those of init containers, which come first.
    pub(crate) fn every_container(&self) -> Vec<&str> {
        [self.names("initContainers"), self.names("containers")].concat()
    }

    fn names(&self, list: &str) -> Vec<&str> {
        let containers = self.pod["spec"][list].as_array();
        let names = containers.into_iter().flatten();
        names
            .filter_map(|container| container["name"].as_str())
            .collect()
    }
}

/// The pod that `target` means. Where it is one of several, that is said.
pub(crate) async fn choose(
    state: &State,
    target: &str,
    wanted: Option<&str>,
    screen: Screen,
) -> Result<Chosen, Expected> {
    let named = Named::parse(target, "pod")?;
    let objects = node::objects(state).await?;
    let object = named.find(&objects, wanted)?;
    if named.kind.name == "Pod" {
        let (object, pod) = (object.clone(), object.clone());
        return Ok(Chosen { object, pod });
    }
    let mut pods: Vec<&Value> = objects.iter().filter(|pod| belongs(pod, object)).collect();
    pods.sort_by_key(|pod| (!is_ready(pod), name(pod).to_owned()));
    let Some(pod) = pods.first().copied() else {
        let what = format!("{} has no pod", named.kind.report(&named.name));
        let hint = "`maille get pods` shows all".to_owned();
        return Err(Expected::Unknown { what, hint });
    };
    if pods.len() > 1 {
        screen.say(&format!(
            "Found {} pods, using pod/{}",
            pods.len(),
            name(pod)
        ));
    }
    Ok(Chosen {
        object: object.clone(),
        pod: pod.clone(),
    })
}

/// Whether `pod` is one of `object`'s: made by it, or selected.
pub(crate) fn belongs(pod: &Value, object: &Value) -> bool {
    if pod["kind"] != "Pod" || namespace(pod) != namespace(object) {
        return false;
    }
    if object["kind"] == "Service" {
        let selector = object["spec"]["selector"].as_object();
        let labels = &pod["metadata"]["labels"];
        return selector.is_some_and(|selector| {
            !selector.is_empty() && selector.iter().all(|(key, value)| labels[key] == *value)
        });
    }
    let owners = pod["metadata"]["ownerReferences"].as_array();
    owners.into_iter().flatten().any(|owner| {
        owner["kind"] == object["kind"] && owner["name"].as_str() == Some(name(object))
    })
}

/// Whether a pod may be sent work.
pub(crate) fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    let mut ready = conditions
        .into_iter()
        .flatten()
        .filter(|condition| condition["type"] == "Ready");
    pod["metadata"]["deletionTimestamp"].is_null()
        && ready.any(|condition| condition["status"] == "True")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pods_belong_to_whom_made_or_selects_them() {
        let pod = json!({"kind": "Pod", "metadata": {"namespace": "shop", "name": "web-1", "labels": {"app": "web", "tier": "front"},
            "ownerReferences": [{"kind": "Deployment", "name": "web"}]},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]}});
        let object = |kind: &str, namespace: &str, name: &str, selector: Value| json!({"kind": kind, "metadata": {"namespace": namespace, "name": name}, "spec": {"selector": selector}});
        assert!(belongs(
            &pod,
            &object("Deployment", "shop", "web", json!({}))
        ));
        assert!(!belongs(
            &pod,
            &object("Deployment", "shop", "other", json!({}))
        ));
        assert!(!belongs(
            &pod,
            &object("Deployment", "test", "web", json!({}))
        ));
        assert!(belongs(
            &pod,
            &object("Service", "shop", "s", json!({"app": "web"}))
        ));
        assert!(!belongs(
            &pod,
            &object(
                "Service",
                "shop",
                "s",
                json!({"app": "web", "tier": "back"})
            )
        ));
        assert!(!belongs(&pod, &object("Service", "shop", "s", json!({}))));
        assert!(is_ready(&pod));
    }
}
