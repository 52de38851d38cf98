// SPDX-License-Identifier: Apache-2.0
//! What is read of each kind. Pure: JSON in, less JSON out.
//!
//! A cluster's objects have fields and values that the mesh knows nothing about (a protocol, a kind of volume, a probe): they
//! are left out before anything is parsed, so that they cannot make a pod unknown. Read [`super::book`] next.

use ipnet::IpNet;
use maille_manifest::marks::OURS;
use maille_manifest::objects::EndpointSlice;
use maille_manifest::{Pod, Service};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::seen::Watched;

/// A Node, for the pods' ranges that it has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Node {
    #[serde(default)]
    spec: NodeSpec,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
struct NodeSpec {
    #[serde(rename = "podCIDR", default)]
    first: Option<IpNet>,
    #[serde(rename = "podCIDRs", default)]
    all: Vec<IpNet>,
}

/// A ServiceCIDR: ranges of which services have their addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct ServiceCidr {
    #[serde(default)]
    spec: ServiceCidrSpec,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
struct ServiceCidrSpec {
    #[serde(default)]
    cidrs: Vec<IpNet>,
}

/// A kind of which ranges follow.
pub(super) trait Ranges {
    /// Pod or service ranges.
    fn ranges(&self) -> Vec<IpNet>;
}

// === impl Watched ===

impl Watched for Pod {
    const GROUP: &'static str = "";
    const VERSION: &'static str = "v1";
    const KIND: &'static str = "Pod";
    const PLURAL: &'static str = "pods";

    fn narrow(object: &mut Value) {
        keep(object, &["metadata", "spec", "status"]);
        narrow_meta(object);
        if let Some(spec) = object.get_mut("spec") {
            let read = [
                "containers",
                "initContainers",
                "hostNetwork",
                "nodeName",
                "serviceAccountName",
            ];
            keep(spec, &read);
            for list in ["containers", "initContainers"] {
                for container in items(spec, list) {
                    keep(container, &["name", "ports", "restartPolicy"]);
                    keep_tcp(container);
                    if container
                        .get("restartPolicy")
                        .is_some_and(|it| it != "Always")
                    {
                        keep(container, &["name", "ports"]);
                    }
                }
            }
        }
        if let Some(status) = object.get_mut("status") {
            keep(
                status,
                &["phase", "message", "podIP", "podIPs", "conditions"],
            );
            drop_empty(status, "podIP");
            for condition in items(status, "conditions") {
                keep(condition, &["type", "status", "reason", "message"]);
            }
        }
    }
}

impl Watched for Service {
    const GROUP: &'static str = "";
    const VERSION: &'static str = "v1";
    const KIND: &'static str = "Service";
    const PLURAL: &'static str = "services";

    fn narrow(object: &mut Value) {
        keep(object, &["metadata", "spec"]);
        narrow_meta(object);
        if let Some(spec) = object.get_mut("spec") {
            let read = [
                "type",
                "clusterIP",
                "clusterIPs",
                "selector",
                "ports",
                "trafficDistribution",
                "publishNotReadyAddresses",
            ];
            keep(spec, &read);
            drop_empty(spec, "clusterIP");
            if let Some(Value::Array(all)) = spec.get_mut("clusterIPs") {
                all.retain(|address| address != "");
            }
            keep_tcp(spec);
        }
    }
}

impl Watched for EndpointSlice {
    const GROUP: &'static str = "discovery.k8s.io";
    const VERSION: &'static str = "v1";
    const KIND: &'static str = "EndpointSlice";
    const PLURAL: &'static str = "endpointslices";

    fn narrow(object: &mut Value) {
        keep(object, &["metadata", "addressType", "endpoints", "ports"]);
        narrow_meta(object);
        // Names in place of addresses: nobody can be dialled there without asking DNS.
        if object.get("addressType").and_then(Value::as_str) == Some("FQDN") {
            keep(object, &["metadata", "addressType"]);
        }
        keep_tcp(object);
        for endpoint in items(object, "endpoints") {
            keep(endpoint, &["addresses", "conditions", "hostname"]);
        }
    }
}

impl Watched for Node {
    const GROUP: &'static str = "";
    const VERSION: &'static str = "v1";
    const KIND: &'static str = "Node";
    const PLURAL: &'static str = "nodes";

    fn narrow(object: &mut Value) {
        keep(object, &["spec"]);
        if let Some(spec) = object.get_mut("spec") {
            keep(spec, &["podCIDR", "podCIDRs"]);
            drop_empty(spec, "podCIDR");
        }
    }
}

impl Watched for ServiceCidr {
    const GROUP: &'static str = "networking.k8s.io";
    const VERSION: &'static str = "v1";
    const KIND: &'static str = "ServiceCIDR";
    const PLURAL: &'static str = "servicecidrs";

    fn narrow(object: &mut Value) {
        keep(object, &["spec"]);
    }
}

// === impl Ranges ===

impl Ranges for Node {
    fn ranges(&self) -> Vec<IpNet> {
        self.spec
            .first
            .iter()
            .chain(&self.spec.all)
            .copied()
            .collect()
    }
}

impl Ranges for ServiceCidr {
    fn ranges(&self) -> Vec<IpNet> {
        self.spec.cidrs.clone()
    }
}

/// Leaves these fields, where they say anything: an absent list is `null` in what some servers send.
fn keep(value: &mut Value, fields: &[&str]) {
    if let Value::Object(map) = value {
        map.retain(|name, value| fields.contains(&name.as_str()) && !value.is_null());
    }
}

fn narrow_meta(object: &mut Value) {
    let Some(meta) = object.get_mut("metadata") else {
        return;
    };
    let read = [
        "name",
        "namespace",
        "uid",
        "labels",
        "annotations",
        "ownerReferences",
        "deletionTimestamp",
    ];
    keep(meta, &read);
    if let Some(Value::Object(annotations)) = meta.get_mut("annotations") {
        annotations.retain(|name, _| name.starts_with(OURS));
    }
    for owner in items(meta, "ownerReferences") {
        keep(owner, &["apiVersion", "kind", "name", "uid", "controller"]);
    }
}

/// Ports of other transports are not the mesh's, whatever they are.
fn keep_tcp(value: &mut Value) {
    if let Some(Value::Array(ports)) = value.get_mut("ports") {
        ports.retain(|port| {
            port.get("protocol")
                .is_none_or(|protocol| protocol.is_null() || protocol == "TCP")
        });
        for port in ports {
            let read = [
                "name",
                "port",
                "targetPort",
                "containerPort",
                "appProtocol",
                "protocol",
            ];
            keep(port, &read);
        }
    }
}

/// A field that has no text says nothing.
fn drop_empty(value: &mut Value, field: &str) {
    if let Value::Object(map) = value
        && map.get(field).is_some_and(|value| value == "")
    {
        map.remove(field);
    }
}

fn items<'a>(value: &'a mut Value, list: &str) -> impl Iterator<Item = &'a mut Value> {
    let list = value.get_mut(list).and_then(Value::as_array_mut);
    list.into_iter().flatten().filter(|item| {
        item.as_object()
            .is_some_and(|map: &Map<_, _>| !map.is_empty())
    })
}

#[cfg(test)]
mod tests;
