// SPDX-License-Identifier: Apache-2.0
//! A mesh that ran is uninstalled, and nothing tells that it was there: no object of any kind that the API server has, and on the nodes
//! no file of the container network, no link, route, network namespace or table of packet rules.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::ensure;
use maille_cluster::meshed::Meshed;
use maille_cluster::twins::Load;
use serde_json::json;

/// A namespace that is there before, and stays.
const KEPT: &str = "kept";
/// What comes and goes by itself.
const RESTLESS: [&str; 2] = ["events", "events.events.k8s.io"];
/// What a node could tell.
const NODE: &str = "find /etc/cni /opt/cni -type f; ip -o link | cut -d: -f2 | sed 's/@.*//'; ip route; ip -6 route; ls /run/netns; \
    nft list tables";

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
        let told = look.args(["-c", NODE]).output()?;
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

#[test]
fn a_mesh_that_ran_is_uninstalled_without_a_trace() {
    let program = Path::new(env!("CARGO_BIN_EXE_maille-cluster"));
    let up = Meshed::start(program, Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap();
    Load::image(&up).unwrap();
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
    let kinds = kinds(&up);
    let before = inventory(&up, &kinds).unwrap();
    up.install().unwrap();
    up.until("a pod in the mesh", || {
        up.cluster().apply(&pod("node1", "enabled"))
    })
    .unwrap();
    up.settled(KEPT, "one=one", 1).unwrap();
    let between = inventory(&up, &kinds).unwrap();
    for trace in ["secret/maille-ca", "configmap/maille-trust"] {
        assert!(between.contains(trace), "{trace}: {between:#?}");
    }
    assert!(up.maille("uninstall").is_err(), "somebody is in the mesh");

    up.kubectl(&format!("-n {KEPT} delete pod one")).unwrap();
    let removal = up.maille("uninstall").unwrap();
    let mut delete = up.cluster().kubectl_command().unwrap();
    delete.args(["delete", "--ignore-not-found", "--timeout=120s", "-f", "-"]);
    up.output_of(&mut delete, &removal).unwrap();
    up.until("nothing", || {
        let after = inventory(&up, &kinds)?;
        let left: Vec<_> = after.symmetric_difference(&before).collect();
        ensure!(left.is_empty(), "{left:#?}");
        Ok(())
    })
    .unwrap();
}
