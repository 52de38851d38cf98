// SPDX-License-Identifier: Apache-2.0
//! A mesh that ran is uninstalled, and nothing tells that it was there: no object of any kind that the API server has, and on the nodes
//! no file of the container network, no link, route, network namespace or table of packet rules; where nodes captured, no process, socket,
//! mount or control group either.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::ensure;
use maille_cluster::agents;
use maille_cluster::meshed::Meshed;
use maille_cluster::twins::Load;
use serde_json::json;

/// A namespace that is there before, and stays.
const KEPT: &str = "kept";
/// What comes and goes by itself.
const RESTLESS: [&str; 2] = ["events", "events.events.k8s.io"];
/// What a node could tell; its control group comes behind it.
const NODE: &str = "find /etc/cni /opt/cni -type f -exec md5sum {} +; ip -o link | cut -d: -f2 | sed 's/@.*//'; ip route; ip -6 route; \
    ip rule; ls /run/netns; nft list tables; find /run/maille -type f -o -type s; grep -o ' /run/maille[^ ]*' /proc/1/mounts; \
    for p in /proc/[0-9]*; do tr '\\0' ' ' <$p/cmdline | grep -o '^[^ ]*/maille-[a-z]*'; done; ls -d /sys/fs/cgroup/*/$1/maille-proxies";

/// Every kind of object that there is without a mesh.
fn kinds(up: &Meshed) -> String {
    let all = up.kubectl("api-resources --verbs=list -o name").unwrap();
    let kinds = all.lines().filter(|kind| !RESTLESS.contains(kind));
    kinds.collect::<Vec<_>>().join(",")
}

/// Everything that could tell of a mesh, a line each.
fn inventory(up: &Meshed, kinds: &str) -> anyhow::Result<BTreeSet<String>> {
    let objects = up.kubectl(&format!("get {kinds} -A -o name"))?;
    let mut all: BTreeSet<String> = objects.lines().map(str::to_owned).collect();
    for machine in up.cluster().machines()? {
        let mut look = machine.enter("sh")?;
        let told = look.args(["-c", NODE, "sh", machine.cgroup()]).output()?;
        let lines = String::from_utf8(told.stdout)?;
        let name = machine.name();
        all.extend(lines.lines().map(|line| format!("{name}: {line}")));
    }
    Ok(all)
}

/// A pod on `node` that wants a sidecar, or does not.
fn pod(node: &str, wish: &str) -> String {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "one", "namespace": KEPT, "labels": {"one": "one", "maille.io/inject": wish}},
        "spec": {"nodeName": node, "terminationGracePeriodSeconds": 1, "containers": [
            {"name": "app", "image": "maille.test/steady:1", "args": ["serve", "0"]},
        ]},
    });
    pod.to_string()
}

/// A cluster in which pods have been, none of them in a mesh.
fn start() -> Meshed {
    let program = Path::new(env!("CARGO_BIN_EXE_maille-cluster"));
    let up = Meshed::start(program, Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap();
    Load::image(&up).unwrap();
    up.load_built("node.tar").unwrap();
    up.kubectl(&format!("create namespace {KEPT}")).unwrap();
    up.until("a namespace with what it always has", || {
        up.kubectl(&format!("-n {KEPT} get serviceaccount default"))?;
        up.kubectl(&format!("-n {KEPT} get configmap kube-root-ca.crt"))
    })
    .unwrap();
    // The first pod of a node leaves a bridge behind, in the mesh or not.
    for node in ["node1", "node2"] {
        up.cluster().apply(&pod(node, "disabled")).unwrap();
        up.settled(KEPT, "one=one", 1).unwrap();
        up.kubectl(&format!("-n {KEPT} delete pod one")).unwrap();
    }
    up
}

/// Waits until a pod is in the mesh; says everything that could tell.
fn used(up: &Meshed, kinds: &str) -> BTreeSet<String> {
    up.until("a pod in the mesh", || {
        up.cluster().apply(&pod("node1", "enabled"))
    })
    .unwrap();
    up.settled(KEPT, "one=one", 1).unwrap();
    inventory(up, kinds).unwrap()
}

/// Uninstalls, and waits until nothing tells of it.
fn without_a_trace(up: &Meshed, kinds: &str, before: &BTreeSet<String>) {
    let removal = up.maille("uninstall").unwrap();
    let mut delete = up.cluster().kubectl_command().unwrap();
    delete.args(["delete", "--ignore-not-found", "--timeout=120s", "-f", "-"]);
    up.output_of(&mut delete, &removal).unwrap();
    up.until("nothing", || {
        let after = inventory(up, kinds)?;
        let left: Vec<_> = after.symmetric_difference(before).collect();
        ensure!(left.is_empty(), "{left:#?}");
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_mesh_that_ran_is_uninstalled_without_a_trace() {
    let up = start();
    let kinds = kinds(&up);
    let before = inventory(&up, &kinds).unwrap();
    up.install().unwrap();
    let between = used(&up, &kinds);
    for trace in ["secret/maille-ca", "configmap/maille-trust"] {
        assert!(between.contains(trace), "{trace}: {between:#?}");
    }
    assert!(up.maille("uninstall").is_err(), "somebody is in the mesh");

    up.kubectl(&format!("-n {KEPT} delete pod one")).unwrap();
    without_a_trace(&up, &kinds, &before);
}

#[test]
fn nodes_that_captured_are_as_they_were() {
    let up = start();
    let kinds = kinds(&up);
    let before = inventory(&up, &kinds).unwrap();
    up.install_as("install --cni").unwrap();
    agents::are_there(&up).unwrap();
    let between = used(&up, &kinds);
    for trace in [
        "/run/maille/node/cni.sock",
        "maille-proxies",
        "/maille-proxy",
        "/opt/cni/bin/maille-cni",
    ] {
        let has = between.iter().any(|line| line.contains(trace));
        assert!(has, "{trace}: {between:#?}");
    }
    let refused = up.maille("uninstall").unwrap_err().to_string();
    assert!(refused.contains("1 pod(s)"), "{refused}");
    // Told to leave while a pod of it is captured, a node does not.
    up.cluster()
        .apply(&up.maille("uninstall --nodes").unwrap())
        .unwrap();
    up.until("a node that waits for its pod", || {
        let logs = "-n maille-system logs -l app.kubernetes.io/component=node --tail 50 --prefix";
        let said = up.kubectl(logs)?;
        ensure!(
            said.contains("1 pods of this node are captured still"),
            "{said}"
        );
        Ok(())
    })
    .unwrap();
    up.settled(KEPT, "one=one", 1).unwrap();
    up.kubectl(&format!("-n {KEPT} delete pod one")).unwrap();
    let refused = up.maille("uninstall").unwrap_err().to_string();
    assert!(refused.contains("of 2 nodes have left"), "{refused}");
    agents::are_there(&up).unwrap();
    without_a_trace(&up, &kinds, &before);
}
