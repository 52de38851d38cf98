// SPDX-License-Identifier: Apache-2.0
//! A sidecar inside a sandbox, in a virtual machine and in gVisor: it is in the mesh as everybody is, and what it costs beside capture from outside and
//! beside no mesh. Where the sandbox lets nobody change its packet filter its pod says so and never begins.
//!
//! `cargo xtask test cluster` builds the programs and images that this takes.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::time::SystemTime;

use anyhow::{Context as _, ensure};
use maille_cluster::meshed::{Meshed, text};
use maille_cluster::pairs::{self, ALL, NAMESPACE, OUTSIDE, all_hear_all};
use maille_cluster::witness::Witness;
use serde_json::{Value, json};

/// Of the node's kernel, in the mesh and outside.
const SHARED: &str = "shared";
const STRANGER: &str = "stranger";
/// What runs in a sandbox.
const INSIDE: &str = "inside";

fn up(machines: bool) -> Meshed {
    let program = Path::new(env!("CARGO_BIN_EXE_maille-cluster"));
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let up = pairs::start(program, scratch, machines).unwrap();
    pairs::apply(&up, &pairs::pod(NAMESPACE, SHARED, "node2", None)).unwrap();
    pairs::apply(&up, &pairs::pod(OUTSIDE, STRANGER, "node2", None)).unwrap();
    up.settled(NAMESPACE, ALL, 1).unwrap();
    up.settled(OUTSIDE, ALL, 1).unwrap();
    up
}

fn in_sandbox(namespace: &str, class: &str, capture: Option<&str>) -> Value {
    let mut pod = pairs::pod(namespace, INSIDE, "node1", Some(class));
    if let Some(capture) = capture {
        pod["metadata"]["annotations"] = json!({"maille.io/capture": capture});
    }
    pod
}

/// What its containers of the mesh said.
fn told(up: &Meshed, namespace: &str) -> String {
    let said = ["maille-init", "maille-proxy"].map(|container| {
        let line = format!("-n {namespace} logs {INSIDE} -c {container} --tail 30");
        up.kubectl(&line).unwrap_or_else(|error| error.to_string())
    });
    said.join("\n")
}

/// The same pod outside the mesh, captured from outside, and with a sidecar, in turns: it is heard and hears, and what it takes is printed for
/// `SPECIFICATION.md`.
fn compared(up: &Meshed, class: &str, count: usize) {
    let mut witness = Witness::start(up).unwrap();
    for round in 0..3 {
        for (what, namespace, from, capture) in [
            ("outside", OUTSIDE, STRANGER, None),
            ("outboard", NAMESPACE, SHARED, None),
            ("inboard", NAMESPACE, SHARED, Some("inboard")),
        ] {
            let begin = SystemTime::now();
            pairs::apply(up, &in_sandbox(namespace, class, capture)).unwrap();
            up.settled(namespace, &format!("app={INSIDE}"), 1)
                .with_context(|| told(up, namespace))
                .unwrap();
            let until_ready = begin.elapsed().unwrap();
            if namespace == NAMESPACE {
                let pod = pairs::there(up, INSIDE).unwrap();
                let has_sidecar = pod["spec"]["initContainers"].is_array();
                assert_eq!(has_sidecar, capture.is_some(), "{pod:#}");
                witness.expect(&up.pods(NAMESPACE, ALL).unwrap()).unwrap();
                all_hear_all(up, SHARED, &[INSIDE], |_| true).unwrap();
            }
            let took = pairs::round_trip(up, namespace, from, INSIDE, count).unwrap();
            eprintln!(
                "round {round}, {class} on another node, {what}, ready after {until_ready:?}: {took}"
            );
            up.kubectl(&format!("-n {namespace} delete pod {INSIDE}"))
                .unwrap();
        }
    }
    let seen = witness.end().unwrap();
    assert!(seen["bytes_tls"].as_u64() > Some(0), "{seen}");
}

#[test]
fn a_machine_with_a_sidecar_is_meshed_and_costs_what_is_said() {
    compared(&up(true), "machine-mmio", 400);
}

#[test]
fn gvisor_with_a_sidecar_is_meshed_where_its_node_lets_it_and_says_so_elsewhere() {
    let up = up(false);
    compared(&up, "gvisor-raw", 2_000);

    // As gVisor comes.
    let pod = in_sandbox(NAMESPACE, "gvisor", Some("inboard"));
    pairs::apply(&up, &pod).unwrap();
    let why = up.until("a reason", || {
        let pod = pairs::there(&up, INSIDE)?;
        let init = &pod["status"]["initContainerStatuses"][0];
        let ended = ["state", "lastState"].map(|state| &init[state]["terminated"]);
        let why = ended.map(|ended| text(ended, "/message")).concat();
        ensure!(!why.is_empty(), "{init:#}");
        let proxy = &pod["status"]["initContainerStatuses"][1];
        ensure!(proxy["started"] == false, "{proxy:#}");
        let own = &pod["status"]["containerStatuses"][0];
        ensure!(own["started"] == false, "{own:#}");
        Ok(why)
    });
    let why = why.unwrap();
    assert!(why.contains("where it runs with --net-raw"), "{why}");
}
