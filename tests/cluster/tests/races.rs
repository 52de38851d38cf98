// SPDX-License-Identifier: Apache-2.0
//! What can come between a pod's making and its capture: a node without the plugin yet. No byte leaves uncaptured, events say why a pod
//! waits, and everything is well again without a person.
//!
//! Each protection is tried with its opposite: the runtime does not require the agent, and a witness sees plain text.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use anyhow::ensure;
use maille_cluster::Cluster;
use maille_cluster::agents::{self, Begin};
use maille_cluster::machine::Machine;
use maille_cluster::meshed::{Meshed, text};
use maille_cluster::twins::{APP, Load, Twin};
use maille_cluster::witness::Witness;
use serde_json::Value;

/// Requests a second of each load.
const RATE: u64 = 100;

fn start(begin: Begin) -> Meshed {
    let program = Path::new(env!("CARGO_BIN_EXE_maille-cluster"));
    agents::start(program, Path::new(env!("CARGO_TARGET_TMPDIR")), begin).unwrap()
}

fn nodes(cluster: &Cluster) -> [Machine; 2] {
    [cluster.node(1), cluster.node(2)]
}

/// Whether a container of the pod has ever begun.
fn has_begun(pod: &Value) -> bool {
    let all = pod["status"]["containerStatuses"].as_array();
    all.into_iter().flatten().any(|one| {
        one["restartCount"] != 0 || one["state"]["waiting"].is_null() || one["started"] == true
    })
}

/// Every pod that `selector` finds has been captured by its node.
fn all_captured(up: &Meshed, namespace: &str, selector: &str) -> anyhow::Result<usize> {
    let mut captured = Vec::new();
    for node in nodes(up.cluster()) {
        captured.extend(agents::captured(&node)?);
    }
    let pods = up.pods(namespace, selector)?;
    for pod in &pods {
        let name = format!("{namespace}/{}", text(pod, "/metadata/name"));
        ensure!(captured.contains(&name), "{name} is not in {captured:?}");
    }
    Ok(pods.len())
}

#[test]
fn pods_made_before_their_node_has_the_plugin_wait_for_it() {
    let up = start(Begin::Without);
    // The opposite first: the runtime does not require the agent.
    for index in [1, 2] {
        agents::require(&up, index, false).unwrap();
    }
    let witness = unprotected(&up);
    let (report, is_content) = witness.report().unwrap();
    assert!(!is_content, "{report:#}");
    assert_ne!(report["bytes_plain_between_meshed"], 0, "{report:#}");

    up.kubectl("delete namespace meshed --timeout 60s").unwrap();
    for index in [1, 2] {
        agents::require(&up, index, true).unwrap();
    }
    let mut witness = Witness::start(&up).unwrap();
    Twin::Meshed.begin(&up, 2).unwrap();
    let pods = up
        .until("pods with sandboxes", || {
            let pods = up.pods("meshed", APP)?;
            let with = |pod: &Value| !text(pod, "/status/podIP").is_empty();
            ensure!(pods.len() == 2 && pods.iter().all(with), "{pods:#?}");
            Ok(pods)
        })
        .unwrap();
    witness.expect(&pods).unwrap();
    for pod in &pods {
        let name = text(pod, "/metadata/name");
        agents::says(
            &up,
            "meshed",
            name,
            "required plugin \"maille\" not present",
        )
        .unwrap();
    }
    let pods = up.pods("meshed", APP).unwrap();
    assert!(!pods.iter().any(has_begun), "{pods:#?}");
    // One that began uncaptured is there still, and begins anew when the agents come.
    let early = up.pods("default", "app=early").unwrap();
    assert!(early.iter().all(has_begun), "{early:#?}");

    agents::let_be(&up, true).unwrap();
    Twin::Meshed.settled(&up, 2).unwrap();
    up.settled("default", "app=early", 1).unwrap();
    up.until("everybody's capture", || {
        ensure!(all_captured(&up, "default", "app=early")? == 1);
        all_captured(&up, "meshed", APP)
    })
    .unwrap();
    let loads = Load::start(&up, &[(Twin::Meshed, RATE)], "node1").unwrap();
    witness.expect(&up.pods("meshed", "app").unwrap()).unwrap();
    loads[0].share(3).unwrap();
    witness.end().unwrap();
    let ended: u64 = nodes(up.cluster())
        .iter()
        .map(|node| agents::counted(node, "maille_node_repairs_total{what=\"sandbox\"}").unwrap())
        .sum();
    assert!(
        ended >= 3,
        "three sandboxes began uncaptured, {ended} were made anew"
    );
    let guarantee = agents::counted(
        &up.cluster().node(1),
        "maille_node_guarantee{level=\"required\"}",
    );
    assert_eq!(guarantee.unwrap(), 1);
}

/// Pods that are meant for the mesh begin outside of it, and a witness sees what they say.
fn unprotected(up: &Meshed) -> Witness {
    let mut witness = Witness::start(up).unwrap();
    Twin::Meshed.start(up, 2).unwrap();
    let loads = Load::start(up, &[(Twin::Meshed, RATE)], "node1").unwrap();
    witness.expect(&up.pods("meshed", "app").unwrap()).unwrap();
    loads[0].share(2).unwrap();
    up.until("a pod of another namespace", || {
        let early = agents::pod("early", "default", "node1", &["serve", "0"]);
        up.cluster().apply(&early.to_string())
    })
    .unwrap();
    up.settled("default", "app=early", 1).unwrap();
    witness
}
