// SPDX-License-Identifier: Apache-2.0
//! Pods with a sidecar whose rules their node writes: none of their containers has a right, a witness between the nodes sees TLS, what
//! somebody changes of the rules is as it was within five seconds, and without the node's agent none of them begins and none is disturbed.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, ensure};
use maille_cluster::agents::{self, Begin};
use maille_cluster::image::Image;
use maille_cluster::machine::Machine;
use maille_cluster::meshed::{Meshed, is_ready, text};
use maille_cluster::twins::{APP, Load, Twin};
use maille_cluster::witness::Witness;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

/// Within which everything is as it was.
const REPAIR: Duration = Duration::from_secs(5);
/// What somebody changes of the rules in a pod, and how it is seen that they are as they were.
const CHANGES: [(&str, &str, &str); 3] = [
    (
        "every rule",
        "nft delete table inet maille_inboard",
        "nft list ruleset | grep -q 'redirect to :15001'",
    ),
    (
        "one rule more",
        "nft insert rule inet maille_inboard outbound counter accept",
        "! nft list ruleset | grep -q counter.*accept",
    ),
    (
        "one rule less",
        "nft flush chain inet maille_inboard inbound",
        "nft list ruleset | grep -q 'redirect to :15006'",
    ),
];

/// One container of the mesh, without a right.
fn only_a_proxy(pod: &Value) {
    let inits = pod["spec"]["initContainers"].as_array().unwrap();
    assert_eq!(inits.len(), 1, "{pod:#}");
    assert_eq!(inits[0]["name"], "maille-proxy");
    let rights = &inits[0]["securityContext"]["capabilities"];
    assert_eq!(*rights, json!({"drop": ["ALL"]}));
    let annotations = &pod["metadata"]["annotations"];
    assert_eq!(annotations["maille.io/capture"], "inboard-cni");
    assert_eq!(annotations["maille.io/capture-by"], "namespace");
}

/// What a shell says in the network of the pod `name`.
fn inside(node: &Machine, name: &str, script: &str) -> anyhow::Result<String> {
    let find = format!(
        "dir=$(dirname $(grep -l '\"name\":\"{name}\"' /run/maille/node/sandboxes/*/sandbox.json)); \
         nsenter --net=$dir/inside sh -c '{}'",
        script.replace('\'', "'\\''")
    );
    agents::shell(node, &find)
}

fn strict() -> Value {
    let mut pod = agents::pod("strict", "strict", "node1", &["serve", "0"]);
    pod["spec"]["securityContext"] =
        json!({"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}});
    pod["spec"]["containers"][0]["securityContext"] =
        json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}});
    pod
}

/// A program whose image says that it runs as the proxy's user.
fn as_the_proxy(up: &Meshed) -> Value {
    const NAME: &str = "maille.test/as-proxy:1";
    let archive = up.path("as-proxy.tar");
    let image = Image::new(NAME, &["/bin/busybox", "sleep", "1000"]).user("2102:2102");
    let image = image.program("/bin/busybox", "/bin/busybox");
    image.write(&archive).unwrap();
    up.cluster().load(&archive).unwrap();
    let mut pod = agents::pod("disguised", "meshed", "node1", &[]);
    pod["spec"]["containers"][0] = json!({"name": "app", "image": NAME});
    pod
}

/// What is changed is mended, and while the agent is stopped it is not.
fn changes_are_mended(up: &Meshed, load: &Load) {
    let node = up.cluster().node(1);
    let is_well = |change: &(&str, &str, &str)| inside(&node, "broken", change.2);
    for change in &CHANGES {
        is_well(change).context(change.0).unwrap();
        let begin = SystemTime::now();
        inside(&node, "broken", change.1).context(change.0).unwrap();
        up.until(change.0, || is_well(change)).unwrap();
        let away = begin.elapsed().unwrap();
        eprintln!("{} was away for {away:?}", change.0);
        assert!(away < REPAIR, "{}", change.0);
    }
    agents::says(up, "meshed", "broken", "it is as it was again").unwrap();
    let agent = agents::process(up, "node1").unwrap();
    agent.signal(Signal::SIGSTOP).unwrap();
    let [.., change] = &CHANGES;
    inside(&node, "broken", change.1).unwrap();
    load.share(REPAIR.as_secs() + 1).unwrap();
    assert!(is_well(change).is_err(), "who mended it?");
    agent.signal(Signal::SIGCONT).unwrap();
    up.until(change.0, || is_well(change)).unwrap();
}

/// How pods are captured, who chose that, and what another of them would be.
fn is_explained(up: &Meshed, app: &str) {
    let said = up.maille("explain --capture strict -n strict").unwrap();
    assert!(
        said.contains("inboard-cni") && said.contains("its namespace's label"),
        "{said}"
    );
    let of_app = format!("explain --capture {app} -n meshed");
    let said = up.maille(&of_app).unwrap();
    assert!(!said.contains("a new pod in its place"), "{said}");
    up.kubectl("label namespace meshed maille.io/capture-")
        .unwrap();
    let said = up.maille(&of_app).unwrap();
    assert!(
        said.contains("a new pod in its place would be: outboard"),
        "{said}"
    );
    up.kubectl("label namespace meshed maille.io/capture=inboard-cni")
        .unwrap();
}

#[test]
fn a_sidecar_without_rights_is_captured_by_its_node() {
    let program = Path::new(env!("CARGO_BIN_EXE_maille-cluster"));
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let up = agents::start(program, scratch, Begin::With).unwrap();
    for namespace in ["meshed", "strict"] {
        up.kubectl(&format!("create namespace {namespace}"))
            .unwrap();
        let labels = "maille.io/inject=enabled maille.io/capture=inboard-cni";
        up.kubectl(&format!("label namespace {namespace} {labels}"))
            .unwrap();
    }
    up.kubectl("label namespace strict pod-security.kubernetes.io/enforce=restricted")
        .unwrap();
    let mut witness = Witness::start(&up).unwrap();
    Twin::Meshed.start(&up, 2).unwrap();
    let loads = Load::start(&up, &[(Twin::Meshed, 50)], "node1").unwrap();
    let [load] = &loads[..] else {
        panic!("{loads:?}")
    };
    let pods = up.pods("meshed", "app").unwrap();
    pods.iter().for_each(only_a_proxy);
    witness.expect(&pods).unwrap();
    up.until("a pod in a strict namespace", || {
        up.cluster().apply(&strict().to_string())
    })
    .unwrap();
    up.settled("strict", "app=strict", 1).unwrap();
    only_a_proxy(&up.pods("strict", "app=strict").unwrap()[0]);
    agents::says(&up, "strict", "strict", "as its namespace's label").unwrap();
    let captured = agents::captured(&up.cluster().node(1)).unwrap();
    assert!(
        captured.iter().any(|one| one == "strict/strict"),
        "{captured:?}"
    );

    is_explained(&up, text(&pods[0], "/metadata/name"));
    up.cluster().apply(&as_the_proxy(&up).to_string()).unwrap();
    agents::says(&up, "meshed", "disguised", "runs as user 2102").unwrap();
    up.kubectl("-n meshed delete pod disguised").unwrap();

    let broken = agents::pod("broken", "meshed", "node1", &["serve", "0"]);
    up.cluster().apply(&broken.to_string()).unwrap();
    up.settled("meshed", "app=broken", 1).unwrap();
    changes_are_mended(&up, load);

    without_agents(&up, load);
    witness.expect(&up.pods("meshed", "app").unwrap()).unwrap();
    load.share(3).unwrap();
    assert_eq!(load.failed().unwrap(), 0, "beside what was changed");
    witness.end().unwrap();
    up.kubectl("delete namespace meshed strict --timeout 120s")
        .unwrap();
    up.until("nothing left", || {
        for index in [1, 2] {
            let node = up.cluster().node(index);
            let left = agents::shell(
                &node,
                "ls /run/maille/node/sandboxes; grep -c /inside /proc/1/mounts; true",
            )?;
            ensure!(left.trim() == "0", "{left}");
        }
        Ok(())
    })
    .unwrap();
}

/// None begins, others do, and those that run are not disturbed; what was changed meanwhile is mended by the next agent.
fn without_agents(up: &Meshed, load: &Load) {
    agents::let_be(up, false).unwrap();
    let node = up.cluster().node(1);
    let late = agents::pod("late", "meshed", "node1", &["serve", "0"]);
    let mut outside = agents::pod("outside", "default", "node1", &["serve", "0"]);
    outside["metadata"]["labels"]["maille.io/inject"] = json!("disabled");
    for pod in [&late, &outside] {
        up.cluster().apply(&pod.to_string()).unwrap();
    }
    agents::says(up, "meshed", "late", "node agent is away").unwrap();
    up.settled("default", "app=outside", 1).unwrap();
    let pods = up.pods("meshed", "app=late").unwrap();
    assert!(pods.iter().all(|pod| !is_ready(pod)), "{pods:#?}");
    inside(&node, "broken", CHANGES[0].1).unwrap();
    load.share(3).context("without agents").unwrap();
    assert!(inside(&node, "broken", CHANGES[0].2).is_err());
    agents::let_be(up, true).unwrap();
    up.settled("meshed", "app=late", 1).unwrap();
    up.settled("meshed", APP, 2).unwrap();
    up.until("rules", || inside(&node, "broken", CHANGES[0].2))
        .unwrap();
}
