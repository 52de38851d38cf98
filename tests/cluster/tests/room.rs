// SPDX-License-Identifier: Apache-2.0
//! Where a pod has room for more than its containers, by its RuntimeClass or by its own resources, the proxy that its node runs for it is counted
//! to it, from its first instruction; where it has none, to the mesh. Neither leaves anything.

use std::path::Path;

use anyhow::{Context as _, ensure};
use maille_cluster::agents::{self, Begin};
use maille_cluster::machine::Machine;
use maille_cluster::meshed::text;
use serde_json::{Value, json};

/// The name of each pod, and whether it has room for its proxy.
const PODS: [(&str, bool); 3] = [("by-class", true), ("by-itself", true), ("without", false)];

fn pod(name: &str) -> Value {
    let mut pod = agents::pod(name, "default", "node1", &["serve", "0"]);
    match name {
        "by-class" => pod["spec"]["runtimeClassName"] = json!("roomy"),
        "by-itself" => {
            pod["spec"]["resources"] = json!({"limits": {"memory": "256Mi", "cpu": "1"}});
        }
        _ => {}
    }
    pod
}

/// The group in which the memory of the proxy of the pod `name` is counted.
fn group(node: &Machine, name: &str) -> anyhow::Result<String> {
    let script = format!(
        "pid=$(cut -d' ' -f1 $(dirname $(grep -l '\"name\":\"{name}\"' /run/maille/node/sandboxes/*/sandbox.json))/proxy.pid); \
         grep -E '^[0-9]+:(memory|):' /proc/$pid/cgroup | sort -rn | head -1 | cut -d: -f3"
    );
    Ok(agents::shell(node, &script)?.trim().to_owned())
}

#[test]
fn a_proxy_is_counted_to_a_pod_that_has_room_for_it() {
    let program = Path::new(env!("CARGO_BIN_EXE_maille-cluster"));
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let up = agents::start(program, scratch, Begin::With).unwrap();
    let class = json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "roomy"}, "handler": "runc",
        "overhead": {"podFixed": {"memory": "64Mi", "cpu": "100m"}}});
    up.cluster().apply(&class.to_string()).unwrap();
    for (name, _) in PODS {
        up.until(name, || up.cluster().apply(&pod(name).to_string()))
            .unwrap();
    }
    let node = up.cluster().node(1);
    for (name, has_room) in PODS {
        up.settled("default", &format!("app={name}"), 1).unwrap();
        let pods = up.pods("default", &format!("app={name}")).unwrap();
        let own = format!("/pod{}/maille-proxy", text(&pods[0], "/metadata/uid"));
        let group = group(&node, name).unwrap();
        assert_eq!(group.ends_with(&own), has_room, "{name}: {group}");
        assert_eq!(
            group.contains("/maille-proxies/"),
            !has_room,
            "{name}: {group}"
        );
        let counted = format!(
            "cd /sys/fs/cgroup/memory{group} 2>/dev/null && cat memory.usage_in_bytes memory.limit_in_bytes || \
             {{ cd /sys/fs/cgroup{group} && cat memory.current memory.max; }}"
        );
        let counted = agents::shell(&node, &counted).unwrap();
        let numbers: Vec<u64> = counted
            .split_whitespace()
            .map(|one| one.parse().unwrap())
            .collect();
        // Whole, its first instruction among it: what a program is made of comes before it could be moved.
        assert!(
            numbers[0] > 1 << 20 && numbers[1] == 256 << 20,
            "{name}: {counted}"
        );
    }
    up.kubectl("delete pod by-class by-itself without").unwrap();
    up.until("nothing left", || {
        let left = "ls /run/maille/node/sandboxes; find /sys/fs/cgroup -name maille-proxy -o -path '*maille-proxies/*' -type d";
        let left = agents::shell(&node, left).context("what is left")?;
        let own = node.cgroup();
        let left: Vec<_> = left.lines().filter(|line| !line.contains('/') || line.contains(own)).collect();
        ensure!(left.is_empty(), "{left:#?}");
        Ok(())
    })
    .unwrap();
}
