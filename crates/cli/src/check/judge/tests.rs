// SPDX-License-Identifier: Apache-2.0
use maille_inject::Capture;
use serde_json::json;

use super::*;

fn node(kubelet: &str, kernel: &str) -> Value {
    json!({"metadata": {"name": "n1"}, "status": {"nodeInfo": {"kubeletVersion": kubelet, "kernelVersion": kernel, "operatingSystem": "linux"}}})
}

fn pod(namespace: &str, label: Option<&str>, injected: Option<&str>) -> Value {
    let mut pod = json!({"metadata": {"name": "p", "namespace": namespace, "labels": {}, "annotations": {}}, "status": {"phase": "Running"}});
    if let Some(label) = label {
        pod["metadata"]["labels"][INJECT] = json!(label);
    }
    if let Some(version) = injected {
        pod["metadata"]["annotations"][INJECTED] = json!(version);
    }
    pod
}

fn namespace(name: &str, label: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {INJECT: label}}})
}

#[test]
fn versions_of_what_carries_the_mesh() {
    assert!(version("https://x", &json!({"gitVersion": "v1.37.1"})).ok);
    assert!(!version("https://x", &json!({"gitVersion": "v1.28.9-eks-1"})).ok);
    assert!(!version("https://x", &json!({})).ok);
    assert!(kubelets(&[node("v1.29.0", "6.1.0")]).ok);
    assert!(!kubelets(&[node("v1.27.0+k3s1", "6.1.0")]).ok);
    assert!(kernels(&[node("v1.29.0", "5.15.0-91-generic")]).ok);
    let old = kernels(&[node("v1.29.0", "4.19.0")]);
    assert_eq!((old.ok, old.message.as_str()), (false, "n1 has 4.19.0"));
    assert!(!kernels(&[]).ok);
}

#[test]
fn an_api_server_without_policies_is_said_before_agents_are_installed() {
    let version = json!({"gitVersion": "v1.29.4"});
    let resources = |name: &str| json!({"resources": [{"name": "mutatingwebhookconfigurations"}, {"name": name}]});
    let with = resources("validatingadmissionpolicies");
    let has = kept(&version, Some(&with), Nodes::Agents(Capture::Outboard)).check();
    assert!(has.ok && has.hint.is_none());
    let without = resources("validatingwebhookconfigurations");
    for list in [Some(&without), None] {
        let before = kept(&version, list, Nodes::Bare).check();
        assert!(before.ok && before.hint.is_some());
        let message = before.message.unwrap();
        assert!(
            message.contains("v1.29.4") && message.contains("1.30"),
            "{message}"
        );
        assert!(!kept(&version, list, Nodes::Agents(Capture::Outboard)).ok);
    }
}

#[test]
fn cilium_that_hides_services_is_found() {
    let config = |hostns: &str| json!({"data": {"kube-proxy-replacement": "true", "bpf-lb-sock-hostns-only": hostns}});
    assert!(cilium(None).ok);
    assert!(!cilium(Some(&config("false"))).ok);
    assert!(cilium(Some(&config("true"))).ok);
    for (key, value) in [
        ("kube-proxy-replacement", "strict"),
        ("enable-host-reachable-services", "true"),
        ("bpf-lb-sock", "true"),
    ] {
        assert!(!cilium(Some(&json!({"data": {key: value}}))).ok, "{key}");
    }
    assert!(cilium(Some(&json!({"data": {"kube-proxy-replacement": "false"}}))).ok);
}

#[test]
fn cilium_that_wants_nodes_for_itself_is_warned_of() {
    let warned = |config: Option<Value>| exclusive(config.as_ref()).check().hint.is_some();
    assert!(!warned(None));
    // It is so unless something else is said.
    assert!(warned(Some(json!({"data": {}}))));
    assert!(warned(Some(json!({"data": {"cni-exclusive": "true"}}))));
    assert!(!warned(Some(json!({"data": {"cni-exclusive": "false"}}))));
    assert!(exclusive(Some(&json!({"data": {}}))).ok);
}

#[test]
fn the_meshs_own_objects() {
    assert!(!control(None).ok);
    assert!(
        !control(Some(
            &json!({"spec": {"replicas": 3}, "status": {"readyReplicas": 2}})
        ))
        .ok
    );
    assert!(
        control(Some(
            &json!({"spec": {"replicas": 1}, "status": {"readyReplicas": 1}})
        ))
        .ok
    );
    let hook = |bundle: &str, policy: &str| json!({"webhooks": [{"name": "w", "clientConfig": {"caBundle": bundle}, "failurePolicy": policy}]});
    let both = |last: Option<Value>| webhooks(&[("i", Some(hook("abc", "Fail"))), ("v", last)]);
    assert!(both(Some(hook("abc", "Fail"))).ok);
    assert!(!both(Some(hook("", "Fail"))).ok);
    assert!(!both(Some(hook("abc", "Ignore"))).ok);
    assert_eq!(both(None).message, "the webhook configuration v is gone");
    let service = |status: &str| json!({"status": {"conditions": [{"type": "Available", "status": status, "message": "no route"}]}});
    assert!(api(Some(&service("True"))).ok);
    assert_eq!(api(Some(&service("False"))).message, "no route");
    assert!(!api(Some(&json!({}))).ok);
}

#[test]
fn pods_that_are_not_where_they_should_be() {
    let namespaces = [
        namespace("shop", "enabled"),
        namespace("kube-system", "enabled"),
    ];
    let pods = |pods: &[Value]| outside(&namespaces, pods, "maille-system").ok;
    assert!(!pods(&[pod("shop", None, None)]));
    assert!(pods(&[
        pod("shop", Some("disabled"), None),
        pod("shop", None, Some("1")),
        pod("other", None, None)
    ]));
    assert!(!pods(&[pod("other", Some("enabled"), None)]));
    // What the webhook does not see is another check's.
    assert!(pods(&[pod("kube-system", Some("enabled"), None)]));
    let found = excluded(
        &namespaces,
        &[pod("kube-system", Some("enabled"), None)],
        "maille-system",
    );
    assert_eq!(found.message, "namespace kube-system; pod kube-system/p");
    let wrong = labels(&[namespace("shop", "true"), namespace("db", "disabled")]);
    assert_eq!(wrong.message, "namespace shop has \"true\"");
    let config = BTreeMap::from([("version".to_owned(), "2".to_owned())]);
    assert!(!versions(&[pod("shop", None, Some("1"))], &config).ok);
    assert!(
        versions(
            &[pod("shop", None, Some("2")), pod("shop", None, None)],
            &config
        )
        .ok
    );
}

#[test]
fn many_troubles_are_counted() {
    let many: Vec<_> = (0..9).map(|n| n.to_string()).collect();
    assert_eq!(
        Line::new("c", "n", &many, "h").message,
        "0; 1; 2; 3; 4; and 4 more"
    );
}

#[test]
fn calico_that_hides_services_is_found() {
    let judged = |spec: Value| calico(Some(&json!({"spec": spec}))).ok;
    assert!(calico(None).ok && judged(json!({})) && judged(json!({"bpfEnabled": false})));
    assert!(!judged(json!({"bpfEnabled": true})));
    assert!(!judged(
        json!({"bpfEnabled": true, "bpfConnectTimeLoadBalancing": "TCP"})
    ));
    assert!(judged(
        json!({"bpfEnabled": true, "bpfConnectTimeLoadBalancing": "Disabled"})
    ));
    assert!(judged(
        json!({"bpfEnabled": true, "bpfConnectTimeLoadBalancingEnabled": false})
    ));
}
