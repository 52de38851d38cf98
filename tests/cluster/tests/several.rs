// SPDX-License-Identifier: Apache-2.0
//! Pods with several interfaces, by a meta-plugin that delegates as the Network Plumbing Working Group's specification says: what is captured,
//! what stays as it is and is named in the pod's events and by `explain`, and what is refused. The plugin is chained behind the meta-plugin, or
//! a network among those that it delegates to.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use anyhow::ensure;
use maille_cluster::agents::{self, Begin, CONFIGURATIONS};
use maille_cluster::machine::Machine;
use maille_cluster::meshed::{Meshed, is_ready, text};
use serde_json::{Value, json};

/// The annotation by which a pod asks for more networks, and the one in which the meta-plugin writes what it has.
const NETWORKS: &str = "k8s.v1.cni.cncf.io/networks";
const STATUS: &str = "k8s.v1.cni.cncf.io/network-status";
/// Where the test puts for the meta-plugin what it would read from NetworkAttachmentDefinitions: for each a directory of its namespace and
/// name, with a configuration and the name of its plugin.
const DEFINITIONS: &str = "/etc/cni/meta";
/// A network that gives an interface, and the mesh's own, in a namespace of somebody's choice.
const EXTRA: &str = "default/extra";
const OURS: &str = "networks/of-the-mesh";
/// The default network's result is the pod's; the networks that it asks for are added beside it, and told nothing of each other or of the pod.
const META: &str = r#"#!/bin/sh
conf=$(cat); bin=${CNI_PATH%%:*}; all=/etc/cni/meta
wishes() { printf %s "$conf" | sed -n 's#.*cncf.io/networks":"\([^"]*\)".*#\1#p' | tr , ' '; }
default() { $bin/bridge <$all/default.json; }
behind() { :; }
case $CNI_COMMAND in
VERSION) echo '{"cniVersion":"1.1.0","supportedVersions":["0.4.0","1.0.0","1.1.0"]}' ;;
ADD)
    result=$(default) || { echo "$result"; exit 1; }
    said=$(behind "$result") || { echo "$said"; exit 1; }
    n=0; for net in $(wishes); do
        n=$((n + 1))
        said=$(CNI_IFNAME=net$n $bin/$(cat $all/$net/plugin) <$all/$net/conf) || { echo "$said"; exit 1; }
    done
    echo "$result" ;;
DEL)
    for net in default/extra networks/of-the-mesh; do
        [ ! -e $all/$net ] || CNI_IFNAME=net1 $bin/$(cat $all/$net/plugin) <$all/$net/conf || exit 1
    done
    behind '{}' && default ;;
esac
"#;
/// The mesh's plugin in the default network, so that whatever the pod asks for comes after it.
const EARLY: &str = r#"behind() {
    touch /run/early
    [ $CNI_COMMAND != ADD ] || conf="${conf%\}},\"prevResult\":$1}"
    printf %s "$conf" | $bin/maille-cni
}"#;

fn write(node: &Machine, path: &str, text: &str) {
    let script = format!("mkdir -p $(dirname {path}); cat >{path} <<'END'\n{text}\nEND\n");
    agents::shell(node, &script).unwrap();
}

/// A configuration of the node with this plugin alone.
fn list(plugin: &str) -> String {
    let capabilities = json!({"io.kubernetes.cri.pod-annotations": true});
    json!({"cniVersion": "1.1.0", "name": "meta", "plugins": [{"type": plugin, "capabilities": capabilities}]})
        .to_string()
}

/// Makes a network known to the meta-plugin.
fn define(node: &Machine, name: &str, plugin: &str, conf: &Value) {
    write(node, &format!("{DEFINITIONS}/{name}/plugin"), plugin);
    write(
        node,
        &format!("{DEFINITIONS}/{name}/conf"),
        &conf.to_string(),
    );
}

/// Puts the meta-plugin before everything that the node has.
fn put(node: &Machine) {
    let before = agents::shell(node, &format!("cat {CONFIGURATIONS}/10-test.conflist")).unwrap();
    let before: Value = serde_json::from_str(&before).unwrap();
    let mut default = before["plugins"][0].clone();
    default["cniVersion"] = before["cniVersion"].clone();
    default["name"] = before["name"].clone();
    let extra = json!({"cniVersion": "1.1.0", "name": "extra", "type": "bridge", "bridge": "cni1",
        "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.99.1.0/24"}]], "dataDir": "/run/cni-extra"}});
    write(
        node,
        &format!("{DEFINITIONS}/default.json"),
        &default.to_string(),
    );
    define(node, EXTRA, "bridge", &extra);
    write(node, "/opt/cni/bin/meta", META);
    let early = META.replace("behind() { :; }", EARLY);
    write(node, "/opt/cni/bin/early", &early);
    agents::shell(node, "chmod 755 /opt/cni/bin/meta /opt/cni/bin/early").unwrap();
    write(
        node,
        &format!("{CONFIGURATIONS}/05-meta.conflist"),
        &list("meta"),
    );
}

fn pod(name: &str, annotations: &Value) -> Value {
    let mut pod = agents::pod(name, "default", "node1", &["serve", "0"]);
    pod["metadata"]["annotations"] = annotations.clone();
    pod
}

fn make(up: &Meshed, pod: &Value) {
    let text = pod.to_string();
    up.until("a pod", || up.cluster().apply(&text)).unwrap();
}

/// Waits until a pod runs.
fn runs(up: &Meshed, namespace: &str, name: &str) {
    let which = format!("app={name}");
    up.settled(namespace, &which, 1).unwrap();
    let pods = up.pods(namespace, &which).unwrap();
    assert!(pods.iter().all(is_ready), "{pods:#?}");
}

/// Waits until a pod's events say why it does not begin, and looks whether it has.
fn does_not_begin(up: &Meshed, namespace: &str, name: &str, why: &str) {
    agents::says(up, namespace, name, why).unwrap();
    let pods = up.pods(namespace, &format!("app={name}")).unwrap();
    let containers = ["containerStatuses", "initContainerStatuses"];
    let began = pods.iter().flat_map(|pod| {
        let all = containers.map(|key| pod["status"][key].as_array().into_iter().flatten());
        all.into_iter().flatten()
    });
    let began = began.filter(|one| one["state"].get("waiting").is_none());
    assert_eq!(began.count(), 0, "{pods:#?}");
}

fn is_captured(node: &Machine, pod: &str) -> bool {
    agents::captured(node).unwrap().contains(&pod.to_owned())
}

#[test]
fn interfaces_that_stay_uncaptured_are_named_and_refused_where_the_namespace_says_so() {
    let program = Path::new(env!("CARGO_BIN_EXE_maille-cluster"));
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let up = agents::start(program, scratch, Begin::With).unwrap();
    let node = up.cluster().node(1);
    put(&node);
    up.until("the plugin behind another network", || {
        let list = agents::shell(&node, &format!("cat {CONFIGURATIONS}/00-maille.conflist"))?;
        ensure!(
            list.contains("\"meta\"") && list.contains("maille-cni"),
            "{list}"
        );
        Ok(())
    })
    .unwrap();
    for (name, capture, networks) in [
        ("outside", "outboard", EXTRA),
        ("inside", "inboard-cni", EXTRA),
        ("usual", "outboard", ""),
    ] {
        make(
            &up,
            &pod(
                name,
                &json!({"maille.io/capture": capture, NETWORKS: networks}),
            ),
        );
        runs(&up, "default", name);
        agents::says(&up, "default", name, "another capture takes another pod").unwrap();
        if name == "outside" {
            agents::says(&up, "default", name, "but for its interfaces net1").unwrap();
        }
    }
    let events = up.kubectl("get events -o json").unwrap();
    let events: Value = serde_json::from_str(&events).unwrap();
    for event in events["items"].as_array().unwrap() {
        let says = event["message"].as_str().unwrap_or_default();
        let of = &event["involvedObject"]["name"];
        assert_eq!(
            says.contains("interfaces net1"),
            *of == "outside" && says.contains("is captured"),
            "{says}"
        );
    }
    // What a meta-plugin writes on the pods that it made.
    let status = json!([{"name": "meta", "interface": "eth0", "default": true}, {"name": EXTRA, "interface": "net1"}]).to_string();
    for name in ["outside", "inside"] {
        let said = format!("{STATUS}={status}");
        up.cluster()
            .kubectl(&["annotate", "pod", name, &said])
            .unwrap();
        let said = up.maille(&format!("explain --capture {name}")).unwrap();
        assert_eq!(
            said.contains("not captured: net1"),
            name == "outside",
            "{said}"
        );
    }
    refused(&up, "meta");
    // Where interfaces come after the pod was captured, the runtime asks last.
    write(
        &node,
        &format!("{CONFIGURATIONS}/00-early.conflist"),
        &list("early"),
    );
    up.until("the runtime with that file", || {
        up.kubectl("delete pod first --ignore-not-found --timeout 60s")?;
        make(&up, &pod("first", &json!({})));
        runs(&up, "default", "first");
        agents::shell(&node, "ls /run/early").map(drop)
    })
    .unwrap();
    make(&up, &pod("late", &json!({NETWORKS: EXTRA})));
    runs(&up, "default", "late");
    let said = "interfaces net1 came after it was captured";
    agents::says(&up, "default", "late", said).unwrap();
    refused(&up, "early");
}

/// In a namespace that refuses them, such interfaces keep a pod from beginning, but where it says otherwise itself, or has none.
fn refused(up: &Meshed, namespace: &str) {
    let labels =
        json!({"maille.io/inject": "enabled", "maille.io/uncaptured-interfaces": "refused"});
    let made = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}});
    up.cluster().apply(&made.to_string()).unwrap();
    let make = |name: &str, annotations: Value| {
        let mut pod = pod(name, &annotations);
        pod["metadata"]["namespace"] = json!(namespace);
        make(up, &pod);
    };
    make("refused", json!({NETWORKS: EXTRA}));
    let why = "its interfaces net1 would go past its proxy";
    does_not_begin(up, namespace, "refused", why);
    let allowed = json!({NETWORKS: EXTRA, "maille.io/uncaptured-interfaces": "allowed"});
    make("allowed", allowed);
    runs(up, namespace, "allowed");
    agents::says(up, namespace, "allowed", "interfaces net1").unwrap();
    make("alone", json!({}));
    runs(up, namespace, "alone");
    make(
        "inside",
        json!({NETWORKS: EXTRA, "maille.io/capture": "inboard-cni"}),
    );
    runs(up, namespace, "inside");
    let pods = up.pods(namespace, "app=refused").unwrap();
    assert_eq!(
        text(
            &pods[0],
            "/metadata/annotations/maille.io~1uncaptured-interfaces"
        ),
        "refused-by-namespace"
    );
    assert!(!pods.iter().any(is_ready));
}

#[test]
fn as_a_network_of_its_own_the_plugin_captures_inside_whoever_is_meant_for_the_mesh() {
    let program = Path::new(env!("CARGO_BIN_EXE_maille-cluster"));
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let up = agents::start_unchained(program, scratch).unwrap();
    let node = up.cluster().node(1);
    put(&node);
    let conf = json!({"cniVersion": "1.0.0", "name": "of-the-mesh", "type": "maille-cni", "delegate": true});
    define(&node, OURS, "maille-cni", &conf);
    let files = agents::shell(&node, &format!("ls {CONFIGURATIONS}")).unwrap();
    assert!(!files.contains("00-maille"), "{files}");
    let both = format!("{EXTRA},{OURS}");
    for (name, networks) in [("alone", OURS), ("both", both.as_str())] {
        make(&up, &pod(name, &json!({NETWORKS: networks})));
        runs(&up, "default", name);
        agents::says(&up, "default", name, "the pod is captured inside").unwrap();
        assert!(is_captured(&node, &format!("default/{name}")));
        let said = up.maille(&format!("explain --capture {name}")).unwrap();
        assert!(said.contains("is captured: inboard-cni"), "{said}");
        assert!(!said.contains("not captured"), "{said}");
    }
    // Who is not meant for the mesh has a network more, and nothing of it.
    let mut outside = pod("outside", &json!({NETWORKS: OURS}));
    outside["metadata"]["labels"]["maille.io/inject"] = json!("disabled");
    make(&up, &outside);
    runs(&up, "default", "outside");
    assert!(!is_captured(&node, "default/outside"));
    // Who does not name the network, or wants what it cannot do.
    make(&up, &pod("forgets", &json!({})));
    does_not_begin(&up, "default", "forgets", "the pod is not captured");
    let outboard = json!({"maille.io/capture": "outboard", NETWORKS: OURS});
    make(&up, &pod("outboard", &outboard));
    let why = "which a network of its own cannot do";
    does_not_begin(&up, "default", "outboard", why);

    // Nobody else knows what a pod is meant for.
    let mut waits = pod("waits", &json!({NETWORKS: OURS}));
    let spec = waits["spec"].as_object_mut().unwrap();
    spec.remove("nodeName");
    spec.insert(
        "nodeSelector".into(),
        json!({"kubernetes.io/hostname": "node1"}),
    );
    spec.insert(
        "schedulingGates".into(),
        json!([{"name": "maille.test/waits"}]),
    );
    make(&up, &waits);
    let control = |replicas: u32| {
        up.kubectl(&format!(
            "-n maille-system scale deployment maille-control --replicas {replicas}"
        ))
    };
    control(0).unwrap();
    up.kubectl("-n maille-system wait pod -l app.kubernetes.io/component=control --for=delete --timeout 120s")
        .unwrap();
    let gone = json!({"spec": {"schedulingGates": null}}).to_string();
    up.cluster()
        .kubectl(&["patch", "pod", "waits", "--type", "merge", "-p", &gone])
        .unwrap();
    does_not_begin(&up, "default", "waits", "control could not be asked");
    control(1).unwrap();
    up.control_is_there().unwrap();
    runs(&up, "default", "waits");
    assert!(is_captured(&node, "default/waits"));
    up.kubectl("delete pod alone both waits --timeout 60s")
        .unwrap();
    up.until("nothing of them", || {
        let left = agents::captured(&node)?;
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    })
    .unwrap();

    // Who thinks better of it is chained, and may go back.
    upgraded(&up, &node, "--chain", true);
    make(&up, &pod("chained", &json!({})));
    runs(&up, "default", "chained");
    let said = up.maille("explain --capture chained").unwrap();
    assert!(said.contains("is captured: outboard"), "{said}");
    up.kubectl("delete pod chained --timeout 60s").unwrap();
    upgraded(&up, &node, "--no-chain", false);
}

/// Changes what was chosen at installation, and waits until the node has the plugin in its configurations, or has not.
fn upgraded(up: &Meshed, node: &Machine, how: &str, chained: bool) {
    let manifest = up.maille(&format!("upgrade {how}")).unwrap();
    up.cluster().apply(&manifest).unwrap();
    up.kubectl("-n maille-system rollout status deployment/maille-control --timeout 120s")
        .unwrap();
    agents::are_there(up).unwrap();
    up.until("a configuration as it was chosen", || {
        let files = agents::shell(node, &format!("ls {CONFIGURATIONS}"))?;
        ensure!(files.contains("00-maille") == chained, "{files}");
        Ok(())
    })
    .unwrap();
}
