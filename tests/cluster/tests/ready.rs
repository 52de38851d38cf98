// SPDX-License-Identifier: Apache-2.0
//! What a sidecar costs until a pod is ready: pods with one, and the same pods whose two containers do nothing but be there, one after
//! the other in one run. The same of pods that their node captures, beside pods outside the mesh.
//!
//! A kubelet looks at a container that starts once a second, so that single pods differ by whole seconds and only the mean says
//! anything: it is judged with its own uncertainty. `MAILLE_TEST_PAIRS` is how many pairs there are.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Client, Config};
use maille_chassis::clock::Clock;
use maille_cluster::agents::{self, Begin};
use maille_cluster::machine::Machine;
use maille_cluster::meshed::{Meshed, is_ready};
use maille_cluster::twins::Load;
use maille_sys::netns::NetNs;
use serde_json::{Value, json};
use tokio::time::timeout;

/// What a sidecar may cost more than containers that do nothing.
const BUDGET: Duration = Duration::from_millis(150);
/// What capture by the node may cost.
const CAPTURED: Duration = Duration::from_millis(100);
/// What the agent may take for a pod's begin and for its end, in milliseconds: what is asserted is ten times that, for busy machines.
const ADD: f64 = 60.0;
const DEL: f64 = 20.0;
/// The same for the begin of one whose rules it writes inside.
const INSIDE: f64 = 50.0;
const DEADLINE: Duration = Duration::from_secs(60);
const NAMESPACE: &str = "timed";

/// How many pods of each kind are timed.
fn pairs() -> usize {
    let said = std::env::var_os("MAILLE_TEST_PAIRS");
    said.and_then(|text| text.to_str()?.parse().ok())
        .unwrap_or(12)
}

/// An application that is ready as soon as it runs.
fn application(wish: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "timed", "namespace": NAMESPACE, "labels": {"maille.io/inject": wish}},
        "spec": {"nodeName": "node1", "terminationGracePeriodSeconds": 1, "containers": [
            {"name": "app", "image": "maille.test/steady:1", "command": ["/bin/busybox", "sleep", "3600"]},
        ]},
    })
}

/// The pod that somebody else would make of `injected`: the same containers with the same rights, resources, volumes and probes, and
/// nothing done in them.
fn idle(mut injected: Value) -> Value {
    injected["metadata"]["labels"]["maille.io/inject"] = json!("disabled");
    let containers = injected["spec"]["initContainers"].as_array_mut().unwrap();
    assert_eq!(containers.len(), 2);
    for container in containers.iter_mut() {
        container["image"] = json!("maille.test/steady:1");
    }
    containers[0]["command"] = json!(["/bin/busybox", "true"]);
    let sidecar = &mut containers[1];
    sidecar["command"] = json!(["/usr/local/bin/maille-steady", "serve", "0"]);
    for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
        assert!(sidecar[probe].is_object(), "{sidecar:#}");
        sidecar[probe]["httpGet"]["port"] = json!(8080);
    }
    injected
}

/// Who makes pods and looks at a clock.
struct Timer {
    pods: Api<Pod>,
    clock: Clock,
    next: usize,
}

impl Timer {
    async fn new(kubeconfig: &Path) -> Self {
        let file = Kubeconfig::read_from(kubeconfig).unwrap();
        let options = KubeConfigOptions::default();
        let config = Config::from_custom_kubeconfig(file, &options).await;
        let client = Client::try_from(config.unwrap()).unwrap();
        Self {
            pods: Api::namespaced(client, NAMESPACE),
            clock: Clock::start(),
            next: 0,
        }
    }

    /// How long it takes until this pod is ready, from the call that makes it; it is gone afterwards.
    async fn time(&mut self, pod: &Value) -> Duration {
        let name = format!("timed-{}", self.next);
        self.next += 1;
        let mut pod = pod.clone();
        pod["metadata"]["name"] = json!(name);
        let pod: Pod = serde_json::from_value(pod).unwrap();
        let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let watched = watcher(self.pods.clone(), config).default_backoff();
        let mut states = watched.touched_objects().boxed();
        let begun = self.clock.elapsed();
        let params = PostParams::default();
        self.pods.create(&params, &pod).await.unwrap();
        let mut until = async |is: fn(&Value) -> bool| {
            let seen = async {
                loop {
                    // A watch that breaks is begun again.
                    let Ok(Some(state)) = states.try_next().await else {
                        continue;
                    };
                    if is(&serde_json::to_value(state).unwrap()) {
                        return;
                    }
                }
            };
            timeout(DEADLINE, seen).await.unwrap();
        };
        until(is_ready).await;
        let took = self.clock.elapsed() - begun;
        let params = DeleteParams::default();
        self.pods.delete(&name, &params).await.unwrap();
        until(has_ended).await;
        took
    }
}

/// Whether nothing of a pod runs any more.
fn has_ended(pod: &Value) -> bool {
    let all = pod["status"]["containerStatuses"].as_array();
    let is_over = |status: &Value| status["state"]["terminated"].is_object();
    all.is_some_and(|all| all.iter().all(is_over))
}

/// Mean and its standard error, in milliseconds.
fn mean(all: &[f64]) -> (f64, f64) {
    let count = all.len() as f64;
    let mean = all.iter().sum::<f64>() / count;
    let squares: f64 = all.iter().map(|one| (one - mean).powi(2)).sum();
    (mean, (squares / (count - 1.0) / count).sqrt())
}

fn milliseconds(all: &[Duration]) -> Vec<f64> {
    all.iter().map(|one| one.as_secs_f64() * 1000.0).collect()
}

/// Times both, one after the other.
async fn alternate(
    kubeconfig: &Path,
    (meshed, idle): (&Value, &Value),
    pairs: usize,
) -> (Vec<Duration>, Vec<Duration>) {
    let mut timer = Timer::new(kubeconfig).await;
    // The first of each kind finds things cold.
    timer.time(meshed).await;
    timer.time(idle).await;
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for _ in 0..pairs {
        with.push(timer.time(meshed).await);
        without.push(timer.time(idle).await);
    }
    (with, without)
}

/// [`alternate`] where the API server is.
fn alternated(up: &Meshed, both: (&Value, &Value), pairs: usize) -> (Vec<f64>, Vec<f64>) {
    let kubeconfig = up.cluster().pki().join("admin.conf");
    let control_plane = up.cluster().control_plane().pid().unwrap();
    let network = NetNs::of_pid(control_plane).unwrap();
    let (with, without) = network
        .run(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(alternate(&kubeconfig, both, pairs))
        })
        .unwrap();
    (milliseconds(&with), milliseconds(&without))
}

/// What the node's agent counted of the calls of the CNI plugin so far: milliseconds, and how many.
fn calls(node: &Machine, which: &str) -> (f64, f64) {
    let of = |name: &str| -> f64 {
        agents::said(node, &format!("maille_node_{name}{{call=\"{which}\"}}")).unwrap()
    };
    (of("call_seconds_total") * 1000.0, of("calls_total"))
}

/// How long it took for one of them, in the mean, in milliseconds.
fn call(node: &Machine, which: &str) -> f64 {
    let (took, count) = calls(node, which);
    took / count
}

/// The memory of the proxy of the captured pod `name`, its share of what it shares with others, in MiB.
fn share(node: &Machine, name: &str) -> f64 {
    let script = format!(
        "pid=$(cut -d' ' -f1 $(dirname $(grep -l '\"name\":\"{name}\"' /run/maille/node/sandboxes/*/sandbox.json))/proxy.pid); \
         sed -n 's/^Pss: *\\([0-9]*\\) kB/\\1/p' /proc/$pid/smaps_rollup"
    );
    let kib: f64 = agents::shell(node, &script)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    kib / 1024.0
}

#[test]
fn a_pod_that_its_node_captures_is_ready_little_later() {
    let program = Path::new(env!("CARGO_BIN_EXE_maille-cluster"));
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let up = agents::start(program, scratch, Begin::With).unwrap();
    up.kubectl(&format!("create namespace {NAMESPACE}"))
        .unwrap();
    let (with, without) = alternated(
        &up,
        (&application("enabled"), &application("disabled")),
        pairs(),
    );
    let ((with, one), (without, other)) = (mean(&with), mean(&without));
    let (more, uncertain) = (with - without, one.hypot(other));
    let node = up.cluster().node(1);
    let (add, del) = (call(&node, "add"), call(&node, "del"));
    let mut kept = application("enabled");
    kept["metadata"]["name"] = json!("kept");
    kept["metadata"]["labels"]["app"] = json!("kept");
    up.cluster().apply(&kept.to_string()).unwrap();
    up.settled(NAMESPACE, "app=kept", 1).unwrap();
    let share = share(&node, "kept");
    eprintln!(
        "until ready, {} pods each: {with:.0} ms captured, {without:.0} ms not; {more:.0} ms more, give or take {uncertain:.0}; the agent takes \
         {add:.0} ms for ADD and {del:.0} ms for DEL in the mean; a proxy that has nothing to do has {share:.1} MiB",
        pairs()
    );
    assert!(more - 2.0 * uncertain <= CAPTURED.as_secs_f64() * 1000.0);
    let mut inside = application("enabled");
    inside["metadata"]["annotations"] = json!({"maille.io/capture": "inboard-cni"});
    let (begun, count) = calls(&node, "add");
    let (with, _) = alternated(&up, (&inside, &application("disabled")), pairs() / 3);
    let (took, all) = calls(&node, "add");
    let inside = (took - begun) / (all - count);
    eprintln!(
        "a sidecar whose rules the node writes: {:.0} ms until ready; the agent takes {inside:.0} ms for ADD in the mean",
        mean(&with).0
    );
    assert!(inside <= 10.0 * INSIDE, "{inside} ms");
    // A mean is more than half of them; the machine may be busy with others.
    assert!(add <= 10.0 * ADD && del <= 10.0 * DEL, "{add} and {del} ms");
}

#[test]
fn a_sidecar_costs_little_until_a_pod_is_ready() {
    let program = Path::new(env!("CARGO_BIN_EXE_maille-cluster"));
    let up = Meshed::start(program, Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap();
    up.install().unwrap();
    Load::image(&up).unwrap();
    up.kubectl(&format!("create namespace {NAMESPACE}"))
        .unwrap();
    up.kubectl(&format!(
        "label namespace {NAMESPACE} maille.io/inject=enabled"
    ))
    .unwrap();
    let meshed = application("enabled");
    let injected = up.maille_of("inject -", &meshed.to_string()).unwrap();
    let idle = idle(serde_json::from_str(&injected).unwrap());
    let (with, without) = alternated(&up, (&meshed, &idle), pairs());
    let ((with, one), (without, other)) = (mean(&with), mean(&without));
    let (more, uncertain) = (with - without, one.hypot(other));
    eprintln!(
        "until ready, {} pods each: {with:.0} ms with a sidecar, {without:.0} ms with containers that do nothing; {more:.0} ms more, \
         give or take {uncertain:.0}",
        pairs()
    );
    assert!(more - 2.0 * uncertain <= BUDGET.as_secs_f64() * 1000.0);
}
