// SPDX-License-Identifier: Apache-2.0
//! Many pods of one node at once: how long until all of them are ready, captured and not, what their proxies use, and what is left when
//! they are gone. `MAILLE_TEST_MANY` is how many; a hundred is what a node is made for.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, ensure};
use maille_cluster::agents::{self, Begin};
use maille_cluster::machine::Machine;
use maille_cluster::meshed::Meshed;
use serde_json::{Value, json};

/// How much longer captured pods may take, all together.
const MOST: f64 = 3.0;
/// What a proxy that has nothing to do may use, in MiB: what is asserted is three times that, for programs that are not optimised.
const MEMORY: f64 = 10.0;
const NAMESPACE: &str = "many";
/// What a node could tell of captured pods.
const LEFT: &str = "ls /run/maille/node/sandboxes; ip -o link | cut -d: -f2 | sed 's/@.*//'; ls /run/netns; \
    grep -o ' /run/maille/node/sandboxes[^ ]*' /proc/1/mounts; find /sys/fs/cgroup/*/$1/maille-proxies -mindepth 1 -type d; \
    for p in /proc/[0-9]*; do tr '\\0' ' ' <$p/cmdline | grep -o '^[^ ]*/maille-proxy'; done; true";
/// How many proxies there are, their memory, and the kernel's for them, in KiB.
const USED: &str = "count=0 pss=0 kernel=0; for g in /sys/fs/cgroup/memory/$1/maille-proxies/*/; do \
    kernel=$((kernel + $(cat $g/memory.kmem.usage_in_bytes) / 1024)); \
    for p in $(cat $g/cgroup.procs); do count=$((count + 1)); \
    pss=$((pss + $(sed -n 's/^Pss: *\\([0-9]*\\) kB/\\1/p' /proc/$p/smaps_rollup))); done; done; echo $count $pss $kernel";

fn many() -> usize {
    let said = std::env::var_os("MAILLE_TEST_MANY");
    said.and_then(|text| text.to_str()?.parse().ok())
        .unwrap_or(24)
}

fn deployment(name: &str, wish: &str) -> Value {
    let labels = json!({"app": name, "maille.io/inject": wish});
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": NAMESPACE}, "spec": {
        "replicas": many(), "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": {"labels": labels}, "spec": {
            "nodeName": "node1", "terminationGracePeriodSeconds": 1, "automountServiceAccountToken": false,
            "containers": [{"name": "app", "image": "maille.test/pause:1"}],
        }},
    }})
}

/// How long it takes until all are ready.
fn begin(up: &Meshed, name: &str, wish: &str) -> Duration {
    let begin = SystemTime::now();
    up.cluster()
        .apply(&deployment(name, wish).to_string())
        .unwrap();
    up.kubectl(&format!(
        "-n {NAMESPACE} rollout status deployment/{name} --timeout 900s"
    ))
    .unwrap();
    begin.elapsed().unwrap()
}

/// The same until all are gone.
fn end(up: &Meshed, name: &str) -> Duration {
    let begin = SystemTime::now();
    up.kubectl(&format!(
        "-n {NAMESPACE} delete deployment {name} --wait=false"
    ))
    .unwrap();
    up.kubectl(&format!(
        "-n {NAMESPACE} wait pod -l app={name} --for=delete --timeout 900s"
    ))
    .unwrap();
    begin.elapsed().unwrap()
}

fn on(node: &Machine, script: &str) -> String {
    agents::shell(node, &format!("set -- {}; {script}", node.cgroup())).unwrap()
}

fn told(node: &Machine) -> BTreeSet<String> {
    on(node, LEFT).lines().map(str::to_owned).collect()
}

/// What the agent took for a call of the plugin in the mean, in milliseconds.
fn call(node: &Machine, which: &str) -> f64 {
    let of = |name: &str| -> f64 {
        agents::said(node, &format!("maille_node_{name}{{call=\"{which}\"}}")).unwrap()
    };
    of("call_seconds_total") * 1000.0 / of("calls_total")
}

/// Count of proxies, and of one of them in the mean: its share of memory, and the kernel's for it, in MiB.
fn used(node: &Machine) -> (usize, f64, f64) {
    let said = on(node, USED);
    let numbers: Vec<u32> = said
        .split_whitespace()
        .map(|one| one.parse().unwrap())
        .collect();
    let [count, share, kernel] = numbers[..] else {
        panic!("{said}")
    };
    let of_one = |kib: u32| f64::from(kib) / f64::from(count) / 1024.0;
    (
        usize::try_from(count).unwrap(),
        of_one(share),
        of_one(kernel),
    )
}

#[test]
fn many_pods_of_a_node_are_captured_at_once_and_leave_nothing() {
    let program = Path::new(env!("CARGO_BIN_EXE_maille-cluster"));
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let up = agents::start(program, scratch, Begin::With).unwrap();
    up.kubectl(&format!("create namespace {NAMESPACE}"))
        .unwrap();
    up.until("a namespace's account", || {
        up.kubectl(&format!("-n {NAMESPACE} get serviceaccount default"))
    })
    .unwrap();
    let node = up.cluster().node(1);
    // The first of each kind finds things cold.
    let first = agents::pod("first", NAMESPACE, "node1", &["serve", "0"]);
    up.cluster().apply(&first.to_string()).unwrap();
    up.settled(NAMESPACE, "app=first", 1).unwrap();
    up.kubectl(&format!("-n {NAMESPACE} delete pod first"))
        .unwrap();
    up.until("the first one's end", || {
        ensure!(agents::captured(&node)?.is_empty());
        Ok(())
    })
    .unwrap();
    let before = told(&node);

    let without = begin(&up, "without", "disabled");
    let ended_without = end(&up, "without");
    let with = begin(&up, "with", "enabled");
    assert_eq!(agents::captured(&node).unwrap().len(), many());
    let (count, share, kernel) = used(&node);
    assert_eq!(count, many(), "each has a proxy in a group of its own");
    // A pod is ready as soon as its sockets listen; its proxy a moment later, and its agent looks every few seconds.
    up.until("proxies that are ready, within their limits", || {
        let listed: Value = serde_json::from_str(&up.maille("node node1 -o json")?)?;
        let pods = listed["nodes"][0]["pods"].as_array().context("no pods")?;
        ensure!(pods.len() == many(), "{} pods", pods.len());
        for pod in pods {
            let limited = pod["proxy"]["memory_limit"].as_u64().unwrap_or_default();
            let uses = pod["proxy"]["memory"].as_u64().unwrap_or_default();
            ensure!(0 < uses && uses < limited, "{pod:#}");
            ensure!(pod["proxy"]["ready"] == true, "{pod:#}");
        }
        Ok(())
    })
    .unwrap();
    let ended_with = end(&up, "with");
    eprintln!(
        "{} pods: ready after {:.1} s captured, {:.1} s not; gone after {:.1} s and {:.1} s; the agent takes {:.0} ms for ADD and {:.0} ms for \
         DEL in the mean; a proxy has {share:.1} MiB, and the kernel {kernel:.1} MiB for it",
        many(),
        with.as_secs_f64(),
        without.as_secs_f64(),
        ended_with.as_secs_f64(),
        ended_without.as_secs_f64(),
        call(&node, "add"),
        call(&node, "del"),
    );
    assert!(
        with.as_secs_f64() < MOST * without.as_secs_f64(),
        "{with:?} and {without:?}"
    );
    assert!(share + kernel < 3.0 * MEMORY, "{share} and {kernel} MiB");
    up.until("nothing left", || {
        let now = told(&node);
        let left: Vec<_> = now.symmetric_difference(&before).collect();
        ensure!(left.is_empty(), "{left:#?}");
        Ok(())
    })
    .unwrap();
}
