// SPDX-License-Identifier: Apache-2.0
//! The cluster's DNS as everybody else sees it: a Service and a Pod in `kube-system`, so that control can name who answers.
//!
//! Written before control starts and never changed: the pod stands for the node's own server (`dns.rs`), runs nothing, and is
//! none of the pods that the runner starts.

use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context as _, bail};
use maille_manifest::addresses::{DNS_SERVICE, DNS_V4, DNS_V6};
use maille_manifest::marks::CAPTURE;
use maille_manifest::objects::{Object, Pod, Service};
use maille_manifest::{from_json, to_json};
use serde_json::json;

use crate::cluster::replace;

/// Where the server listens as a pod: addresses of the pods' ranges that no pod is given.
pub(crate) const ENDPOINTS: [IpAddr; 2] = [
    IpAddr::V4(std::net::Ipv4Addr::new(10, 244, 0, 1)),
    IpAddr::V6(std::net::Ipv6Addr::new(0xfd00, 0x244, 0, 0, 0, 0, 0, 1)),
];

/// The file among the manifests.
const FILE: &str = "cluster-dns.json";
const UID: &str = "00000000-0000-4000-8000-000000000053";

/// Writes both below `state_dir` and adds the service to `objects`. Refuses manifests that have a service of this name.
pub(crate) fn declare(state_dir: &Path, objects: &mut Vec<Object>) -> anyhow::Result<()> {
    let (namespace, name) = DNS_SERVICE;
    let same = |object: &Object| {
        let metadata = object.metadata();
        matches!(object, Object::Service(_))
            && (metadata.namespace(), metadata.name.as_str()) == DNS_SERVICE
    };
    if objects.iter().any(same) {
        bail!("Service {namespace}/{name} is the cluster's own: the manifests may not declare it");
    }
    let service = service().context("the service of DNS makes no sense")?;
    let pod = pod().context("the pod of DNS makes no sense")?;
    replace(&state_dir.join("manifests").join(FILE), &to_json(&service))
        .context("the service of DNS cannot be written")?;
    let dir = state_dir.join("pods").join(UID);
    std::fs::create_dir_all(&dir)
        .and_then(|()| replace(&dir.join("pod.json"), &to_json(&pod)))
        .context("the pod of DNS cannot be written")?;
    objects.push(Object::Service(service));
    Ok(())
}

/// The service.
pub(crate) fn service() -> anyhow::Result<Service> {
    let (namespace, name) = DNS_SERVICE;
    let object = json!({
        "metadata": {"namespace": namespace, "name": name},
        "spec": {
            "selector": {"k8s-app": name},
            "clusterIP": DNS_V4,
            "clusterIPs": [IpAddr::from(DNS_V4), IpAddr::from(DNS_V6)],
            "ipFamilyPolicy": "PreferDualStack",
            "ipFamilies": ["IPv4", "IPv6"],
            "ports": [
                {"name": "dns", "port": 53, "targetPort": 53, "protocol": "UDP"},
                {"name": "dns-tcp", "port": 53, "targetPort": 53, "protocol": "TCP"},
            ],
        },
    });
    Ok(from_json(object.to_string().as_bytes())?)
}

fn pod() -> anyhow::Result<Pod> {
    let (namespace, name) = DNS_SERVICE;
    let [first, _] = ENDPOINTS;
    let object = json!({
        "metadata": {
            "namespace": namespace,
            "name": "node-dns",
            "uid": UID,
            "labels": {"k8s-app": name},
            "annotations": {CAPTURE: "none"},
        },
        "spec": {"containers": [{
            "name": "dns",
            "ports": [
                {"name": "dns", "containerPort": 53, "protocol": "UDP"},
                {"name": "dns-tcp", "containerPort": 53, "protocol": "TCP"},
            ],
        }]},
        "status": {
            "phase": "Running",
            "podIP": first,
            "podIPs": ENDPOINTS.map(|ip| json!({"ip": ip})),
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    });
    Ok(from_json(object.to_string().as_bytes())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back_beside_other_manifests_and_only_once() {
        let dir = std::env::temp_dir().join(format!("maille-kube-dns-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("manifests")).unwrap();
        let mut objects = Vec::new();
        declare(&dir, &mut objects).unwrap();
        assert!(declare(&dir, &mut objects).is_err());
        let written = std::fs::read_to_string(dir.join("manifests").join(FILE)).unwrap();
        let loaded = maille_manifest::load_text(&[(FILE.to_owned(), written)]).unwrap();
        let text = std::fs::read(dir.join("pods").join(UID).join("pod.json")).unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
        assert_eq!(loaded.objects, objects);
        let [Object::Service(service)] = &objects[..] else {
            panic!("{objects:?}");
        };
        let expected: [IpAddr; 2] = [DNS_V4.into(), DNS_V6.into()];
        assert!(service.addresses().eq(expected));
        let pod: Pod = from_json(&text).unwrap();
        assert!(pod.is_ready() && pod.addresses().eq(ENDPOINTS));
        for port in &service.spec.ports {
            assert_eq!(
                pod.spec.resolve_port(&port.target(), port.protocol),
                Some(53)
            );
        }
    }
}
