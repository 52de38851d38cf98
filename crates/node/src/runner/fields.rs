// SPDX-License-Identifier: Apache-2.0
//! What a pod can be told about itself, as text: its fields, and what its containers ask for or may use. Pure.

use maille_manifest::objects::{Container, Pod, Quantity, ResourceFieldRef, TextMap};

use crate::machine::Machine;

/// A field of the pod, as text; an address that it does not have is empty, as is an absent label. `None`: there is no such field.
pub(crate) fn field(path: &str, pod: &Pod) -> Option<String> {
    let keyed = |prefix: &str| {
        path.strip_prefix(prefix)
            .and_then(|rest| rest.strip_suffix("']"))
    };
    let of = |map: &TextMap, key: &str| Some(map.get(key).cloned().unwrap_or_default());
    if let Some(key) = keyed("metadata.labels['") {
        return of(&pod.metadata.labels, key);
    }
    if let Some(key) = keyed("metadata.annotations['") {
        return of(&pod.metadata.annotations, key);
    }
    let addresses = pod.addresses().map(|ip| ip.to_string());
    let node = crate::host::NODE.map(|ip| ip.to_string());
    Some(match path {
        "metadata.name" => pod.metadata.name.to_string(),
        "metadata.namespace" => pod.metadata.namespace().to_owned(),
        "metadata.uid" => pod.metadata.uid.clone(),
        "metadata.labels" => lines(&pod.metadata.labels),
        "metadata.annotations" => lines(&pod.metadata.annotations),
        "spec.nodeName" => "maille".to_owned(),
        "spec.serviceAccountName" => pod.service_account().to_owned(),
        "status.hostIP" => crate::host::NODE_V4.to_string(),
        "status.hostIPs" => node.join(","),
        "status.podIP" => addresses.take(1).collect(),
        "status.podIPs" => addresses.collect::<Vec<_>>().join(","),
        _ => return None,
    })
}

/// `KEY="VALUE"` lines, as Kubernetes writes them into files.
fn lines(map: &TextMap) -> String {
    let line = |(key, value): (&String, &String)| format!("{key}={value:?}");
    map.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// What a container asks for or may use, in the reference's unit, rounded up. `own`: the container that asks.
pub(crate) fn resource(
    reference: &ResourceFieldRef,
    pod: &Pod,
    own: Option<&Container>,
    machine: Machine,
) -> Option<String> {
    let named = |name: &String| pod.spec.all_containers().find(|c| c.name == *name);
    let container = match &reference.container_name {
        Some(name) => named(name)?,
        None => own?,
    };
    let path = reference.resource.as_str();
    let all = |amount: u64| Quantity::parse(&amount.to_string());
    let amount = match (container.resource(path), path) {
        (Some(amount), _) => amount.clone(),
        // Without a limit it may use everything.
        (None, "limits.cpu") => all(machine.cores)?,
        (None, "limits.memory") => all(machine.memory)?,
        (None, "requests.cpu" | "requests.memory") => all(0)?,
        _ => return None,
    };
    let told = match &reference.divisor {
        Some(divisor) => amount.over(divisor),
        None => amount.whole(),
    };
    Some(told.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACHINE: Machine = Machine {
        cores: 2,
        memory: 4 << 30,
    };

    #[test]
    fn resources_are_told_in_their_unit() {
        let pod: Pod = serde_json::from_str(
            r#"{"metadata":{"name":"a","labels":{"b":"x \"y\"","a":"1"}},"spec":{"containers":[
                {"name":"c","resources":{"limits":{"cpu":"1500m","memory":"64Mi"}}},{"name":"d"}]}}"#,
        )
        .unwrap();
        let own = pod.spec.containers.first();
        let ask = |text: &str, own| {
            let reference: ResourceFieldRef = serde_json::from_str(text).unwrap();
            resource(&reference, &pod, own, MACHINE).unwrap()
        };
        for (text, told) in [
            (r#"{"resource":"limits.cpu"}"#, "2"),
            (r#"{"resource":"limits.cpu","divisor":"1m"}"#, "1500"),
            (r#"{"resource":"limits.memory","divisor":"1Mi"}"#, "64"),
            (r#"{"resource":"requests.memory"}"#, "67108864"),
            (
                r#"{"resource":"limits.memory","containerName":"d","divisor":"1Gi"}"#,
                "4",
            ),
            (r#"{"resource":"limits.cpu","containerName":"d"}"#, "2"),
            (r#"{"resource":"requests.cpu","containerName":"d"}"#, "0"),
        ] {
            assert_eq!(ask(text, own), told, "{text}");
        }
        assert_eq!(
            field("metadata.labels", &pod).unwrap(),
            "a=\"1\"\nb=\"x \\\"y\\\"\""
        );
        assert_eq!(field("status.phase", &pod), None);
    }
}
