// SPDX-License-Identifier: Apache-2.0
//! Pods captured from outside on a real kubelet: nothing of the mesh is in them, a witness between the nodes sees what they say, without
//! their node's agent none of them starts and none of them is disturbed.
//!
//! `cargo xtask test cluster` builds the programs and images that this takes.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use anyhow::{Context as _, ensure};
use maille_cluster::meshed::{Meshed, is_ready, text};
use maille_cluster::twins::{APP, Load, Twin};
use maille_cluster::witness::Witness;
use serde_json::{Value, json};

/// The selector of agents.
const AGENTS: &str = "app.kubernetes.io/component=node";

fn up() -> Meshed {
    let program = Path::new(env!("CARGO_BIN_EXE_maille-cluster"));
    let up = Meshed::start(program, Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap();
    up.load_built("node.tar").unwrap();
    Load::image(&up).unwrap();
    up.install_as("install --cni").unwrap();
    agents_are_there(&up);
    up
}

fn agents_are_there(up: &Meshed) {
    up.kubectl("-n maille-system rollout status daemonset/maille-node --timeout 120s")
        .unwrap();
    up.settled("maille-system", AGENTS, 2).unwrap();
}

/// Takes the agents from the nodes, or gives them back.
fn agents(up: &Meshed, there: bool) {
    let nowhere = if there { Value::Null } else { json!("nowhere") };
    let patch =
        json!({"spec": {"template": {"spec": {"nodeSelector": {"maille.test/agents": nowhere}}}}});
    up.kubectl(&format!(
        "-n maille-system patch daemonset maille-node --type merge -p {patch}"
    ))
    .unwrap();
    if there {
        return agents_are_there(up);
    }
    up.until("the agents' end", || {
        ensure!(up.pods("maille-system", AGENTS)?.is_empty());
        Ok(())
    })
    .unwrap();
}

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

/// Waits until the pod's events say this.
fn says(up: &Meshed, namespace: &str, pod: &str, what: &str) {
    let line =
        format!("-n {namespace} get events --field-selector involvedObject.name={pod} -o json");
    up.until("an event", || {
        let events = up.kubectl(&line)?;
        ensure!(events.contains(what), "{events}");
        Ok(())
    })
    .unwrap();
}

#[test]
fn pods_with_nothing_in_them_speak_tls_and_none_starts_without_its_agent() {
    let up = up();
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

    agents(&up, false);
    up.cluster()
        .apply(&pause("late", "meshed").to_string())
        .unwrap();
    up.cluster()
        .apply(&pause("outside", "default").to_string())
        .unwrap();
    says(&up, "meshed", "late", "node agent is away");
    up.settled("default", "app=outside", 1).unwrap();
    let late = up.pods("meshed", "app=late").unwrap();
    assert!(
        late.iter()
            .all(|pod| !is_ready(pod) && pod["status"]["podIP"].is_null()),
        "{late:#?}"
    );
    load.share(3).context("without agents").unwrap();

    agents(&up, true);
    up.settled("meshed", "app=late", 1).unwrap();
    up.settled("meshed", APP, 2).unwrap();
    witness.expect(&up.pods("meshed", "app").unwrap()).unwrap();
    load.share(5).context("after the agents came back").unwrap();
    assert_eq!(load.failed().unwrap(), 0, "an agent's end is nobody's");
    witness.end().unwrap();
}
