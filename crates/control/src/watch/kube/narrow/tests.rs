// SPDX-License-Identifier: Apache-2.0

use maille_manifest::objects::IntOrText;
use serde_json::json;

use super::*;

fn read<T: Watched>(mut object: Value) -> T {
    T::narrow(&mut object);
    serde_json::from_value(object).unwrap()
}

#[test]
fn a_pod_is_read_whatever_else_it_has() {
    let pod: Pod = read(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "a", "namespace": "n", "uid": "u", "managedFields": [{"manager": "x"}], "creationTimestamp": null,
            "labels": {"app": "a"}, "generation": 7,
            "annotations": {"maille.io/injected": "1", "kubectl.kubernetes.io/last-applied-configuration": "{}"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "a", "uid": "r", "controller": true, "blockOwnerDeletion": true}]},
        "spec": {"serviceAccountName": "sa", "restartPolicy": "Sometimes", "volumes": [{"name": "v", "csi": {"driver": "d"}}],
            "initContainers": [{"name": "p", "restartPolicy": "Always", "ports": [{"name": "m", "containerPort": 4191, "protocol": "TCP"}]}],
            "containers": [{"name": "c", "env": [{"name": "E", "valueFrom": {"novel": {}}}], "livenessProbe": {"novel": {}},
                "resources": {"limits": {"cpu": "what"}},
                "ports": [{"name": "h", "containerPort": 80, "protocol": "TCP", "hostPort": 1}, {"name": "s", "containerPort": 5, "protocol": "SCTP"}, {"name": "d", "containerPort": 6, "protocol": "UDP"}]}]},
        "status": {"phase": "Pending", "podIP": "", "podIPs": null, "qosClass": "Novel",
            "conditions": [{"type": "Ready", "status": "False", "lastProbeTime": null, "message": "m"}]},
    }));
    assert_eq!(pod.spec.containers[0].ports.len(), 1);
    assert_eq!(pod.spec.init_containers[0].name, "p");
    assert_eq!(pod.addresses().count(), 0);
    assert_eq!(pod.metadata.annotations.len(), 1);
    assert_eq!(pod.metadata.owner_references[0].kind, "ReplicaSet");
}

#[test]
fn services_of_every_type_are_read() {
    let service: Service = read(json!({
        "metadata": {"name": "a", "namespace": "n"},
        "spec": {"type": "LoadBalancer", "clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9", "fd00::9"], "sessionAffinity": "ClientIP",
            "externalTrafficPolicy": "Local", "loadBalancerClass": "x", "ports": [
                {"name": "s", "port": 1, "protocol": "SCTP"}, {"name": "h", "port": 80, "targetPort": "http", "nodePort": 30080, "protocol": "TCP"}]},
        "status": {"loadBalancer": {}},
    }));
    assert_eq!(service.spec.ports.len(), 1);
    assert_eq!(
        service.spec.ports[0].target(),
        IntOrText::Name("http".to_owned())
    );
    assert_eq!(service.addresses().count(), 2);
    let alias: Service = read(json!({
        "metadata": {"name": "a", "namespace": "n"},
        "spec": {"type": "ExternalName", "externalName": "example.test", "clusterIP": "", "clusterIPs": [""]},
    }));
    assert_eq!(alias.addresses().count(), 0);
    let headless: Service = read(json!({
        "metadata": {"name": "a", "namespace": "n"},
        "spec": {"clusterIP": "None", "clusterIPs": ["None"], "selector": null, "ports": null},
    }));
    assert!(headless.is_headless());
}

#[test]
fn slices_without_anything_and_of_names_are_read() {
    let empty: EndpointSlice = read(json!({
        "metadata": {"name": "a-1", "namespace": "n", "labels": {"kubernetes.io/service-name": "a"}},
        "addressType": "IPv4", "endpoints": null, "ports": null,
    }));
    assert_eq!(empty.service(), Some("a"));
    let names: EndpointSlice = read(json!({
        "metadata": {"name": "a-2", "namespace": "n"}, "addressType": "FQDN",
        "endpoints": [{"addresses": ["example.test"]}], "ports": [{"name": "h", "port": 80}],
    }));
    assert!(names.endpoints.is_empty());
    let full: EndpointSlice = read(json!({
        "metadata": {"name": "a-3", "namespace": "n"}, "addressType": "IPv4",
        "endpoints": [{"addresses": ["192.0.2.1"], "conditions": {"ready": null, "serving": true}, "zone": "z", "targetRef": {"kind": "Pod"}, "hostname": null}],
        "ports": [{"name": "", "port": 80, "protocol": "TCP"}, {"name": "all", "port": null}],
    }));
    assert_eq!((full.endpoints.len(), full.ports.len()), (1, 2));
}

#[test]
fn ranges_are_those_of_nodes_and_services() {
    let node: Node = read(json!({"metadata": {"name": "a"}, "status": {"images": []},
        "spec": {"podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24", "fd44:0:0:1::/64"], "taints": [{}]}}));
    assert_eq!(node.ranges().len(), 3);
    let bare: Node = read(json!({"metadata": {"name": "a"}, "spec": {"podCIDR": ""}}));
    assert_eq!(bare.ranges(), []);
    let service: ServiceCidr =
        read(json!({"spec": {"cidrs": ["10.96.0.0/16", "fd00:96::/112"]}, "status": {}}));
    assert_eq!(service.ranges().len(), 2);
}
