// SPDX-License-Identifier: Apache-2.0
//! Endpoints: made of Services and the pods that they select, as the control plane makes them. Nothing stores them here.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::names::{name, namespace};
use crate::pods_of::{belongs, is_ready};

/// One object for each Service that selects pods.
pub(super) fn of(objects: &[Value]) -> Vec<Value> {
    let services = objects.iter().filter(|object| object["kind"] == "Service");
    let services = services.filter(|service| service["spec"]["selector"].is_object());
    services.map(|service| one(service, objects)).collect()
}

fn one(service: &Value, objects: &[Value]) -> Value {
    let pods = objects.iter().filter(|pod| belongs(pod, service));
    // By the ports that they have, as pods of one service may number a named port differently.
    let mut subsets: BTreeMap<String, (Value, Vec<Value>, Vec<Value>)> = BTreeMap::new();
    for pod in pods {
        let Some(ip) = pod["status"]["podIP"].as_str() else {
            continue;
        };
        let ports = ports(service, pod);
        let target = json!({"kind": "Pod", "namespace": namespace(pod), "name": name(pod)});
        let address = json!({"ip": ip, "targetRef": target});
        let subset = subsets.entry(ports.to_string()).or_default();
        subset.0 = ports;
        if is_ready(pod) {
            subset.1.push(address);
        } else {
            subset.2.push(address);
        }
    }
    let subsets: Vec<Value> = subsets
        .into_values()
        .map(|(ports, ready, unready)| {
            json!({"addresses": ready, "notReadyAddresses": unready, "ports": ports})
        })
        .collect();
    let mut metadata = json!({"namespace": namespace(service), "name": name(service)});
    if let Some(made) = service["metadata"]["creationTimestamp"].as_str() {
        metadata["creationTimestamp"] = made.into();
    }
    json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": metadata, "subsets": subsets})
}

/// The service's ports as `pod` numbers them.
fn ports(service: &Value, pod: &Value) -> Value {
    let ports = service["spec"]["ports"].as_array().into_iter().flatten();
    let resolved = ports.filter_map(|port| {
        let target = &port["targetPort"];
        let number = match target {
            Value::Null => port["port"].as_u64()?,
            Value::Number(number) => number.as_u64()?,
            named => {
                let containers = pod["spec"]["containers"].as_array()?.iter();
                let mut all = containers
                    .filter_map(|one| one["ports"].as_array())
                    .flatten();
                all.find(|one| one["name"] == *named)?["containerPort"].as_u64()?
            }
        };
        let protocol = port["protocol"].as_str().unwrap_or("TCP");
        Some(json!({"name": port["name"], "port": number, "protocol": protocol}))
    });
    Value::Array(resolved.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_services_endpoints_are_its_ready_pods_at_their_ports() {
        let pod = |name: &str, ip: &str, ready: &str| {
            json!({"kind": "Pod", "metadata": {"namespace": "a", "name": name, "labels": {"app": "web"}},
                "spec": {"containers": [{"ports": [{"name": "http", "containerPort": 8080}]}]},
                "status": {"podIP": ip, "conditions": [{"type": "Ready", "status": ready}]}})
        };
        let service = json!({"kind": "Service", "metadata": {"namespace": "a", "name": "web"},
            "spec": {"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]}});
        let all = [
            pod("one", "10.0.0.1", "True"),
            pod("two", "10.0.0.2", "False"),
            service,
        ];
        let found = of(&all);
        assert_eq!(found.len(), 1);
        let subset = &found[0]["subsets"][0];
        assert_eq!(subset["addresses"][0]["ip"], "10.0.0.1");
        assert_eq!(subset["notReadyAddresses"][0]["targetRef"]["name"], "two");
        assert_eq!(
            subset["ports"],
            json!([{"name": "http", "port": 8080, "protocol": "TCP"}])
        );
    }
}
