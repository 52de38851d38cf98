// SPDX-License-Identifier: Apache-2.0
//! Pods with several interfaces, by a meta-plugin that delegates as the Network Plumbing Working Group's specification says: the plugin is
//! chained behind it, the pod's own interface is captured, and those that stay as they are are named in the pod's events and by `explain`.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use anyhow::ensure;
use maille_cluster::agents::{self, Begin, CONFIGURATIONS};
use maille_cluster::machine::Machine;
use maille_cluster::meshed::is_ready;
use serde_json::{Value, json};

/// The annotation by which a pod asks for more networks, and the one in which the meta-plugin writes what it has.
const NETWORKS: &str = "k8s.v1.cni.cncf.io/networks";
const STATUS: &str = "k8s.v1.cni.cncf.io/network-status";
/// The default network's result is the pod's; another network is added beside it for who asks for it.
const META: &str = r#"#!/bin/sh
conf=$(cat); bridge=${CNI_PATH%%:*}/bridge; dir=/etc/cni/meta
extra() { CNI_IFNAME=net1 $bridge <$dir/extra.json; }
case $CNI_COMMAND in
VERSION) echo '{"cniVersion":"1.1.0","supportedVersions":["0.4.0","1.0.0","1.1.0"]}' ;;
ADD)
    result=$($bridge <$dir/default.json) || { echo "$result"; exit 1; }
    case $conf in *'cncf.io/networks":"extra"'*) said=$(extra) || { echo "$said"; exit 1; } ;; esac
    echo "$result" ;;
DEL) extra && $bridge <$dir/default.json ;;
esac
"#;

/// Puts the meta-plugin before everything that the node has.
fn put(node: &Machine) {
    let write = |path: &str, text: &str| {
        let script = format!("mkdir -p $(dirname {path}); cat >{path} <<'END'\n{text}\nEND\n");
        agents::shell(node, &script).unwrap();
    };
    let list = agents::shell(node, &format!("cat {CONFIGURATIONS}/10-test.conflist")).unwrap();
    let list: Value = serde_json::from_str(&list).unwrap();
    let mut default = list["plugins"][0].clone();
    default["cniVersion"] = list["cniVersion"].clone();
    default["name"] = list["name"].clone();
    let extra = json!({"cniVersion": "1.1.0", "name": "extra", "type": "bridge", "bridge": "cni1",
        "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.99.1.0/24"}]], "dataDir": "/run/cni-extra"}});
    write("/etc/cni/meta/default.json", &default.to_string());
    write("/etc/cni/meta/extra.json", &extra.to_string());
    write("/opt/cni/bin/meta", META);
    agents::shell(node, "chmod 755 /opt/cni/bin/meta").unwrap();
    let capabilities = json!({"io.kubernetes.cri.pod-annotations": true});
    let meta = json!({"cniVersion": "1.1.0", "name": "meta", "plugins": [{"type": "meta", "capabilities": capabilities}]});
    write(
        &format!("{CONFIGURATIONS}/05-meta.conflist"),
        &meta.to_string(),
    );
}

fn pod(name: &str, capture: &str, networks: Option<&str>) -> Value {
    let mut pod = agents::pod(name, "default", "node1", &["serve", "0"]);
    pod["metadata"]["annotations"] = json!({"maille.io/capture": capture});
    if let Some(networks) = networks {
        pod["metadata"]["annotations"][NETWORKS] = json!(networks);
    }
    pod
}

#[test]
fn interfaces_that_stay_uncaptured_are_named() {
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
        ("outside", "outboard", Some("extra")),
        ("inside", "inboard-cni", Some("extra")),
        ("usual", "outboard", None),
    ] {
        let pod = pod(name, capture, networks).to_string();
        up.until(name, || up.cluster().apply(&pod)).unwrap();
        up.settled("default", &format!("app={name}"), 1).unwrap();
        let pods = up.pods("default", &format!("app={name}")).unwrap();
        assert!(pods.iter().all(is_ready));
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
    let status = json!([{"name": "meta", "interface": "eth0", "default": true}, {"name": "extra", "interface": "net1"}]).to_string();
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
}
