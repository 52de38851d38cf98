// SPDX-License-Identifier: Apache-2.0
//! Pods captured from outside on a real kubelet: nothing of the mesh is in them, a witness between the nodes sees what they say, without
//! their node's agent none of them starts and none of them is disturbed.
//!
//! `cargo xtask test cluster` builds the programs and images that this takes.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use anyhow::Context as _;
use maille_cluster::agents::{self, Begin};
use maille_cluster::meshed::{Meshed, is_ready, text};
use maille_cluster::twins::{APP, Load, Twin};
use maille_cluster::witness::Witness;
use serde_json::{Value, json};

/// Neither a container nor a right nor a volume of the mesh.
fn nothing_inside(pod: &Value) {
    let containers = pod["spec"]["containers"].as_array().unwrap();
    let only = |value: &Value| value["name"] != "maille-proxy";
    assert!(
        containers.len() == 1 && containers.iter().all(only),
        "{pod:#}"
    );
    assert!(pod["spec"]["initContainers"].is_null(), "{pod:#}");
    assert!(containers[0]["securityContext"].is_null(), "{pod:#}");
    let volumes = pod["spec"]["volumes"].as_array().unwrap();
    let account = |volume: &Value| text(volume, "/name").starts_with("kube-api-access-");
    assert!(volumes.iter().all(account), "{pod:#}");
    assert_eq!(
        pod["metadata"]["annotations"]["maille.io/capture"],
        "outboard"
    );
}

fn pause(name: &str, namespace: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
        "spec": {"containers": [{"name": "pause", "image": "maille.test/pause:1"}]}})
}

/// Nothing of an image, nor of the host but what is theirs.
fn proxies_have_a_world_of_their_own(up: &Meshed) {
    let mounts = agents::mounts_of_proxies(&up.cluster().node(1)).unwrap();
    let (own, others): (Vec<_>, Vec<_>) = mounts
        .into_iter()
        .partition(|at| at.starts_with("/run/maille/node/sandboxes/") && at.ends_with("/p"));
    assert!(!own.is_empty());
    for at in others {
        assert!(["/", "/proc", "/maille-proxy"].contains(&&*at), "{at}");
    }
}

#[test]
fn pods_with_nothing_in_them_speak_tls_and_none_starts_without_its_agent() {
    let program = Path::new(env!("CARGO_BIN_EXE_maille-cluster"));
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let up = agents::start(program, scratch, Begin::With).unwrap();
    let mut witness = Witness::start(&up).unwrap();
    Twin::Meshed.start(&up, 2).unwrap();
    let loads = Load::start(&up, &[(Twin::Meshed, 50)], "node1").unwrap();
    let [load] = &loads[..] else {
        panic!("{loads:?}")
    };
    let pods = up.pods("meshed", "app").unwrap();
    pods.iter().for_each(nothing_inside);
    witness.expect(&pods).unwrap();
    load.share(5).unwrap();
    assert_eq!(load.failed().unwrap(), 0);

    // A namespace that allows nothing beyond the usual has nothing against a captured pod.
    up.kubectl("create namespace strict").unwrap();
    up.kubectl("label namespace strict pod-security.kubernetes.io/enforce=restricted maille.io/inject=enabled")
        .unwrap();
    let mut strict = agents::pod("strict", "strict", "node1", &["serve", "0"]);
    strict["spec"]["securityContext"] =
        json!({"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}});
    strict["spec"]["containers"][0]["securityContext"] =
        json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}});
    up.until("a pod in a strict namespace", || {
        up.cluster().apply(&strict.to_string())
    })
    .unwrap();
    up.settled("strict", "app=strict", 1).unwrap();
    let captured = agents::captured(&up.cluster().node(1)).unwrap();
    assert!(
        captured.iter().any(|one| one == "strict/strict"),
        "{captured:?}"
    );

    agents::let_be(&up, false).unwrap();
    agents::forget(&up).unwrap();
    proxies_have_a_world_of_their_own(&up);
    up.cluster()
        .apply(&pause("late", "meshed").to_string())
        .unwrap();
    up.cluster()
        .apply(&pause("outside", "default").to_string())
        .unwrap();
    agents::says(&up, "meshed", "late", "node agent is away").unwrap();
    up.settled("default", "app=outside", 1).unwrap();
    let late = up.pods("meshed", "app=late").unwrap();
    assert!(
        late.iter()
            .all(|pod| !is_ready(pod) && pod["status"]["podIP"].is_null()),
        "{late:#?}"
    );
    load.share(3).context("without agents").unwrap();

    up.load_built("node.tar").unwrap();
    agents::let_be(&up, true).unwrap();
    up.settled("meshed", "app=late", 1).unwrap();
    up.settled("meshed", APP, 2).unwrap();
    witness.expect(&up.pods("meshed", "app").unwrap()).unwrap();
    load.share(5).context("after the agents came back").unwrap();
    assert_eq!(load.failed().unwrap(), 0, "an agent's end is nobody's");
    witness.end().unwrap();
}
