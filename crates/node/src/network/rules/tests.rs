// SPDX-License-Identifier: Apache-2.0
use maille_manifest::{Object, load_text};

use super::*;

const APP: &str = "
apiVersion: v1
kind: Pod
metadata: {name: one, labels: {app: web}}
spec:
  containers: [{name: c, command: [x], ports: [{name: http, containerPort: 8080}, {name: dns, containerPort: 5353, protocol: UDP}]}]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  ipFamilyPolicy: RequireDualStack
  clusterIPs: [10.96.1.1, 'fd00:96::101']
  selector: {app: web}
  ports:
    - {name: http, port: 80, targetPort: http}
    - {name: dns, port: 53, targetPort: dns, protocol: UDP}
";

fn app() -> (Vec<Service>, Pod) {
    let loaded = load_text(&[("app.yaml".to_owned(), APP.to_owned())]).unwrap();
    let mut services = Vec::new();
    let mut pods = Vec::new();
    for object in loaded.objects {
        match object {
            Object::Service(service) => services.push(service),
            Object::Pod(pod) => pods.push(*pod),
            other => panic!("{other:?}"),
        }
    }
    (services, pods.remove(0))
}

fn with(pod: &Pod, addresses: [&str; 2], ready: &str) -> Pod {
    let mut pod = pod.clone();
    let status = format!(
        r#"{{"podIPs":[{{"ip":"{}"}},{{"ip":"{}"}}],"conditions":[{{"type":"Ready","status":"{ready}"}}]}}"#,
        addresses[0], addresses[1]
    );
    pod.status = serde_json::from_str(&status).unwrap();
    pod
}

#[test]
fn ready_pods_are_behind_their_service() {
    let (services, pod) = app();
    let pods = [
        with(&pod, ["10.244.0.2", "fd00:244::2"], "True"),
        with(&pod, ["10.244.0.3", "fd00:244::3"], "True"),
        with(&pod, ["10.244.0.4", "fd00:244::4"], "False"),
    ];
    let expected = "table inet maille_services
delete table inet maille_services
table inet maille_services {
\tchain services {
\t\ttype nat hook prerouting priority dstnat; policy accept;
\t\tip daddr 10.96.1.1 tcp dport 80 dnat ip to numgen random mod 2 map { 0 : 10.244.0.2 . 8080, 1 : 10.244.0.3 . 8080 }
\t\tip daddr 10.96.1.1 udp dport 53 dnat ip to numgen random mod 2 map { 0 : 10.244.0.2 . 5353, 1 : 10.244.0.3 . 5353 }
\t\tip6 daddr fd00:96::101 tcp dport 80 dnat ip6 to numgen random mod 2 map { 0 : fd00:244::2 . 8080, 1 : fd00:244::3 . 8080 }
\t\tip6 daddr fd00:96::101 udp dport 53 dnat ip6 to numgen random mod 2 map { 0 : fd00:244::2 . 5353, 1 : fd00:244::3 . 5353 }
\t}
\tchain own {
\t\ttype nat hook output priority -100; policy accept;
\t\tip daddr 10.96.1.1 tcp dport 80 dnat ip to numgen random mod 2 map { 0 : 10.244.0.2 . 8080, 1 : 10.244.0.3 . 8080 }
\t\tip daddr 10.96.1.1 udp dport 53 dnat ip to numgen random mod 2 map { 0 : 10.244.0.2 . 5353, 1 : 10.244.0.3 . 5353 }
\t\tip6 daddr fd00:96::101 tcp dport 80 dnat ip6 to numgen random mod 2 map { 0 : fd00:244::2 . 8080, 1 : fd00:244::3 . 8080 }
\t\tip6 daddr fd00:96::101 udp dport 53 dnat ip6 to numgen random mod 2 map { 0 : fd00:244::2 . 5353, 1 : fd00:244::3 . 5353 }
\t}
\tchain back {
\t\ttype nat hook postrouting priority srcnat; policy accept;
\t\tip saddr . ip daddr { 10.244.0.2 . 10.244.0.2, 10.244.0.3 . 10.244.0.3 } masquerade
\t\tip6 saddr . ip6 daddr { fd00:244::2 . fd00:244::2, fd00:244::3 . fd00:244::3 } masquerade
\t}
\tchain nobody {
\t\ttype filter hook forward priority filter; policy accept;
\t\toifname \"lo\" reject
\t}
}
";
    assert_eq!(render(&services, &[], &pods), expected);
}

#[test]
fn a_service_of_one_family_has_rules_of_that_family_only() {
    let (mut services, pod) = app();
    for service in &mut services {
        service.spec.cluster_ips.truncate(1);
    }
    let rules = render(
        &services,
        &[],
        &[with(&pod, ["10.244.0.2", "fd00:244::2"], "True")],
    );
    assert_eq!(rules.matches("dnat ip to").count(), 4, "{rules}");
    assert!(!rules.contains("ip6"), "{rules}");
}

#[test]
fn a_service_without_ready_pods_has_no_rule() {
    let (services, pod) = app();
    let rules = render(
        &services,
        &[],
        &[with(&pod, ["10.244.0.4", "fd00:244::4"], "False")],
    );
    assert!(!rules.contains("dnat ip"), "{rules}");
}

#[test]
fn pods_that_go_are_the_last_resort() {
    let (services, pod) = app();
    let mut going = with(&pod, ["10.244.0.2", "fd00:244::2"], "True");
    going.metadata.deletion_timestamp = Some("2026-01-01T00:00:00Z".to_owned());
    let stays = with(&pod, ["10.244.0.3", "fd00:244::3"], "True");
    let rules = render(&services, &[], &[going.clone(), stays]);
    assert!(!rules.contains("10.244.0.2"), "{rules}");
    let rules = render(&services, &[], &[going]);
    assert!(rules.contains("10.244.0.2 . 8080"), "{rules}");
}

#[test]
fn a_service_without_a_selector_leads_where_its_slices_say() {
    let (mut services, _) = app();
    services.truncate(1);
    services[0].spec.selector.clear();
    let (namespace, name) = (
        services[0].metadata.namespace(),
        services[0].metadata.name.as_str(),
    );
    let ports: Vec<String> = services[0]
        .spec
        .ports
        .iter()
        .map(|port| port.name.clone())
        .collect();
    let slice = serde_json::json!({
        "metadata": {"name": "s", "namespace": namespace, "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["192.0.2.7"]}, {"addresses": ["192.0.2.8"], "conditions": {"ready": false}}],
        "ports": [{"name": ports[0], "port": 9000}],
    });
    let slice: EndpointSlice = serde_json::from_value(slice).unwrap();
    let rules = render(&services, std::slice::from_ref(&slice), &[]);
    assert!(rules.contains("0 : 192.0.2.7 . 9000"), "{rules}");
    assert!(!rules.contains("192.0.2.8"), "{rules}");
    let mut others = slice;
    others.metadata.labels.clear();
    assert!(!render(&services, &[others], &[]).contains("192.0.2.7"));
}
