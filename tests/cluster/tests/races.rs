// SPDX-License-Identifier: Apache-2.0
//! What can come between a pod's making and its capture: a node without the plugin yet, files that somebody removes, an agent that is
//! stopped, killed or last at a boot, a runtime and a kubelet that begin anew. No byte leaves uncaptured, events say why a pod waits, and
//! everything is well again without a person.
//!
//! Each protection is tried with its opposite: the runtime does not require the agent, and a witness sees plain text.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, ensure};
use maille_cluster::Cluster;
use maille_cluster::agents::{self, Begin, CONFIGURATIONS};
use maille_cluster::machine::Machine;
use maille_cluster::meshed::{Meshed, is_ready, text};
use maille_cluster::twins::{APP, Load, Twin};
use maille_cluster::witness::Witness;
use nix::sys::signal::Signal;
use serde_json::Value;

/// Requests a second of each load.
const RATE: u64 = 100;
/// How often an agent is killed while all of them are made, about, at moments of chance.
const KILLS: usize = 8;
/// Of so many pods that are made while agents are killed, is waited for together.
const PART: usize = 40;
/// Within which what was removed is there again.
const REPAIR: Duration = Duration::from_secs(5);

fn start(begin: Begin) -> Meshed {
    let program = Path::new(env!("CARGO_BIN_EXE_maille-cluster"));
    agents::start(program, Path::new(env!("CARGO_TARGET_TMPDIR")), begin).unwrap()
}

/// Pods that are made while agents are killed: two nodes' full of them with `MAILLE_TEST_MANY=100`.
fn many() -> usize {
    let said = std::env::var_os("MAILLE_TEST_MANY");
    let of_a_node = said.and_then(|text| text.to_str()?.parse().ok());
    2 * of_a_node.unwrap_or(PART / 2)
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
    says_how_sure(&up);
}

/// `maille check` says what keeps pods from beginning uncaptured, and when less does.
fn says_how_sure(up: &Meshed) {
    let line = "no pod of the mesh begins uncaptured";
    let check = || {
        // Whatever else is not well is another test's.
        let text = up.maille("check").unwrap_or_else(|error| error.to_string());
        text.lines()
            .skip_while(|one| !one.contains(line))
            .take(2)
            .collect::<Vec<_>>()
            .join("\n")
    };
    let whole = check();
    assert!(whole.contains('√'), "{whole}");
    agents::require(up, 1, false).unwrap();
    let weak = agents::pod("weak", "default", "node1", &["serve", "0"]);
    up.cluster().apply(&weak.to_string()).unwrap();
    up.settled("default", "app=weak", 1).unwrap();
    let weaker = check();
    assert!(
        weaker.contains("node1: the runtime does not require"),
        "{weaker}"
    );
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

/// Takes the plugin's file and its configuration from a node, and says how long they were away. `then` is done at once.
fn torn(node: &Machine, then: impl FnOnce()) -> Duration {
    let files = format!("{CONFIGURATIONS}/00-maille.conflist");
    let network = format!("{CONFIGURATIONS}/10-test.conflist");
    let begin = SystemTime::now();
    agents::shell(
        node,
        &format!("rm /opt/cni/bin/maille-cni; cp {network} {files}"),
    )
    .unwrap();
    then();
    let whole = format!("test -x /opt/cni/bin/maille-cni && grep -q maille-cni {files}");
    while agents::shell(node, &whole).is_err() {
        assert!(begin.elapsed().unwrap() < 2 * REPAIR, "they are away still");
    }
    begin.elapsed().unwrap()
}

#[test]
fn what_is_taken_from_a_node_comes_back_and_no_pod_begins_meanwhile() {
    let up = start(Begin::With);
    let mut witness = Witness::start(&up).unwrap();
    Twin::Meshed.start(&up, 2).unwrap();
    let loads = Load::start(&up, &[(Twin::Meshed, RATE)], "node1").unwrap();
    witness.expect(&up.pods("meshed", "app").unwrap()).unwrap();
    let node = up.cluster().node(1);
    let make = |name: &str| {
        let pod = agents::pod(name, "meshed", "node1", &["serve", "0"]);
        up.cluster().apply(&pod.to_string()).unwrap();
    };
    let whole = |name: &str| {
        up.settled("meshed", &format!("app={name}"), 1)
            .and_then(|()| all_captured(&up, "meshed", &format!("app={name}")))
            .context(name.to_owned())
            .unwrap();
    };

    let away = torn(&node, || make("torn"));
    eprintln!("plugin and configuration were away for {away:?}");
    assert!(away < REPAIR, "{away:?}");
    whole("torn");

    // A wedged agent: its node's kubelet starts it again, and nothing begins until then.
    agents::process(&up, "node1")
        .unwrap()
        .signal(Signal::SIGSTOP)
        .unwrap();
    agents::shell(&node, &format!("rm {CONFIGURATIONS}/00-maille.conflist")).unwrap();
    make("wedged");
    agents::says(
        &up,
        "meshed",
        "wedged",
        "required plugin \"maille\" not present",
    )
    .unwrap();
    let wedged = up.pods("meshed", "app=wedged").unwrap();
    assert!(!wedged.iter().any(has_begun), "{wedged:#?}");
    whole("wedged");

    for daemon in ["containerd", "kubelet"] {
        up.cluster().restart(1, daemon).unwrap();
        make(daemon);
        whole(daemon);
        loads[0].share(2).context(daemon).unwrap();
    }
    agents::are_there(&up).unwrap();
    assert_eq!(loads[0].failed().unwrap(), 0, "nobody else noticed");
    witness.expect(&up.pods("meshed", "app").unwrap()).unwrap();
    witness.end().unwrap();
}

#[test]
fn a_node_boots_with_its_agent_last() {
    let up = start(Begin::With);
    let (kept, other) = up.kept_and_other().unwrap();
    let index = if other == "node1" { 1 } else { 2 };
    let mut witness = Witness::start(&up).unwrap();
    Twin::Meshed.start(&up, 2).unwrap();
    let loads = Load::start(&up, &[(Twin::Meshed, RATE)], &kept).unwrap();
    witness.expect(&up.pods("meshed", "app").unwrap()).unwrap();
    let on = |pod: &Value| pod["spec"]["nodeName"] == other;
    let pod = up
        .pods("meshed", APP)
        .unwrap()
        .into_iter()
        .find(on)
        .unwrap();
    let name = text(&pod, "/metadata/name");

    agents::let_be(&up, false).unwrap();
    up.cluster().node(index).halt().unwrap();
    up.cluster().boot(index).unwrap();
    agents::says(&up, "meshed", name, "node agent is away").unwrap();
    let after = up
        .pods("meshed", APP)
        .unwrap()
        .into_iter()
        .find(on)
        .unwrap();
    assert!(!is_ready(&after), "{after:#}");
    loads[0].share(3).unwrap();

    agents::let_be(&up, true).unwrap();
    Twin::Meshed.settled(&up, 2).unwrap();
    witness.expect(&up.pods("meshed", "app").unwrap()).unwrap();
    assert_eq!(all_captured(&up, "meshed", APP).unwrap(), 2);
    loads[0].share(3).unwrap();
    witness.end().unwrap();
}

#[test]
fn many_pods_are_made_while_their_agents_are_killed() {
    let up = start(Begin::With);
    let mut witness = Witness::start(&up).unwrap();
    Twin::Meshed.start(&up, 2).unwrap();
    let namespace = "meshed";
    let seed = fastrand::u64(..);
    let (mut chance, begin) = (fastrand::Rng::with_seed(seed), SystemTime::now());
    for index in 0..many() {
        let node = ["node1", "node2"][index % 2];
        let name = format!("many-{index}");
        // It speaks as soon as it begins, and is ready when it was answered.
        let mut pod = agents::pod(&name, namespace, node, &[]);
        pod["metadata"]["labels"]["app"] = "many".into();
        let script = "until wget -q -O /told/ready http://app:8080/ready; do sleep 1; done; touch /told/answered; exec sleep 600";
        let container = &mut pod["spec"]["containers"][0];
        container["command"] = serde_json::json!(["/bin/busybox", "sh", "-c", script]);
        // Asked until it was, and not for ever: so many processes a second would be all that the machine does.
        container["startupProbe"] = serde_json::json!({
            "exec": {"command": ["/bin/busybox", "test", "-e", "/told/answered"]}, "periodSeconds": 1, "failureThreshold": 900,
        });
        container["volumeMounts"] = serde_json::json!([{"name": "told", "mountPath": "/told"}]);
        pod["spec"]["volumes"] = serde_json::json!([{"name": "told", "emptyDir": {}}]);
        up.cluster().apply(&pod.to_string()).unwrap();
        // An agent that is killed already is none that could be. Its kubelet waits longer each time before it starts it again.
        if chance.usize(..many()) < KILLS || index / 2 == many() / 4 {
            let _ = agents::process(&up, node).and_then(|agent| agent.signal(Signal::SIGKILL));
        }
    }
    for part in (PART..many()).step_by(PART) {
        up.patiently("some of them", || {
            let pods = up.pods(namespace, "app=many")?;
            let ready = pods.iter().filter(|pod| is_ready(pod)).count();
            ensure!(ready >= part, "{ready} of {part}");
            Ok(())
        })
        .unwrap();
    }
    let ready = || up.settled(namespace, "app=many", many());
    up.patiently("all of them", ready).unwrap();
    let all = begin.elapsed().unwrap();
    let pods = up.pods(namespace, "app").unwrap();
    witness.expect(&pods).unwrap();
    assert_eq!(all_captured(&up, namespace, "app=many").unwrap(), many());
    agents::are_there(&up).unwrap();
    let agents = up.pods("maille-system", agents::AGENTS).unwrap();
    let killed: u64 = agents
        .iter()
        .filter_map(|pod| pod["status"]["containerStatuses"][0]["restartCount"].as_u64())
        .sum();
    eprintln!(
        "{} pods; agents were killed {killed} times (seed {seed}); all were ready after {all:?}",
        many()
    );
    assert!(killed >= 2, "{agents:#?}");
    witness.end().unwrap();
}
