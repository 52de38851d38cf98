// SPDX-License-Identifier: Apache-2.0
//! Pods in gVisor and in virtual machines, captured from outside on a real kubelet, beside pods of the node's kernel with and without a sidecar: everybody
//! reaches everybody, in every way, and witnesses on the nodes and between them see nothing but TLS. What fails with a sandbox fails closed, and is mended.
//!
//! `cargo xtask test cluster` builds the programs and images that this takes.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, ensure};
use maille_cluster::meshed::{Meshed, is_ready, text};
use maille_cluster::processes::Process;
use maille_cluster::witness::Witness;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

const IMAGE: &str = "maille.test/pairs:1";
const NAMESPACE: &str = "shop";
/// Name, node, RuntimeClass, and how it is captured where its namespace is not asked.
type Who = (
    &'static str,
    &'static str,
    Option<&'static str>,
    Option<&'static str>,
);
/// Who is there.
const PODS: [Who; 5] = [
    ("sandbox-one", "node1", Some("gvisor"), None),
    ("sandbox-two", "node2", Some("gvisor"), None),
    ("shared-one", "node1", None, None),
    ("shared-two", "node2", None, None),
    ("sidecar", "node2", None, Some("inboard")),
];

/// The deck's picture: every kind of sandbox side by side.
const MACHINES: [Who; 4] = [
    ("machine-pci", "node1", Some("machine-pci"), None),
    ("machine-mmio", "node2", Some("machine-mmio"), None),
    ("sandbox-one", "node1", Some("gvisor"), None),
    ("shared-two", "node2", None, None),
];

fn up() -> Meshed {
    let program = Path::new(env!("CARGO_BIN_EXE_maille-cluster"));
    meshed(Meshed::start(program, Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap())
}

/// With the mesh and the application.
fn meshed(up: Meshed) -> Meshed {
    up.load_built("node.tar").unwrap();
    up.load_program(IMAGE, &up.program("maille-pairs").unwrap())
        .unwrap();
    up.install_as("install --cni").unwrap();
    up.kubectl("-n maille-system rollout status daemonset/maille-node --timeout 120s")
        .unwrap();
    up
}

/// A pod that answers, and its service of both families.
fn apply(up: &Meshed, namespace: &str, name: &str, node: &str, more: &Value) {
    let port = |name, port| json!({"name": name, "port": port});
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": {"app": name}, "ipFamilyPolicy": "RequireDualStack",
            "ports": [port("http", 8080), port("grpc", 8081), port("tcp", 8082)]}});
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod",
    "metadata": {"name": name, "namespace": namespace, "labels": {"app": name, "pairs": "yes"}},
    "spec": {"nodeName": node, "terminationGracePeriodSeconds": 1, "containers": [{
        "name": "pairs", "image": IMAGE, "args": ["serve", name],
        "readinessProbe": {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1},
    }]}});
    if let Some(class) = more["class"].as_str() {
        pod["spec"]["runtimeClassName"] = json!(class);
    }
    if let Some(capture) = more["capture"].as_str() {
        pod["metadata"]["annotations"] = json!({"maille.io/capture": capture});
    }
    up.cluster().apply(&service.to_string()).unwrap();
    up.cluster().apply(&pod.to_string()).unwrap();
}

fn apply_namespace(up: &Meshed) {
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": NAMESPACE, "labels": {"maille.io/inject": "enabled"}}});
    up.cluster().apply(&namespace.to_string()).unwrap();
}

fn start(up: &Meshed, all: &[Who]) -> Vec<Value> {
    apply_namespace(up);
    for &(name, node, class, capture) in all {
        let more = json!({"class": class, "capture": capture});
        apply(up, NAMESPACE, name, node, &more);
    }
    up.settled(NAMESPACE, "pairs=yes", all.len()).unwrap();
    up.pods(NAMESPACE, "pairs=yes").unwrap()
}

/// The pod is as its owner wrote it, but for what the mesh says of it.
fn nothing_inside(pod: &Value) {
    let containers = pod["spec"]["containers"].as_array().unwrap();
    assert_eq!(containers.len(), 1, "{pod:#}");
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

/// Its addresses, one of each family.
fn addresses(pod: &Value) -> Vec<String> {
    let all = pod["status"]["podIPs"].as_array().unwrap();
    all.iter().map(|one| text(one, "/ip").to_owned()).collect()
}

/// What a pod hears from each host that it asks, by host.
fn ask(up: &Meshed, from: &str, hosts: &[String]) -> anyhow::Result<BTreeMap<String, Value>> {
    ask_in(up, NAMESPACE, from, hosts)
}

fn ask_in(
    up: &Meshed,
    namespace: &str,
    from: &str,
    hosts: &[String],
) -> anyhow::Result<BTreeMap<String, Value>> {
    let line = format!(
        "-n {namespace} exec {from} -c pairs -- /usr/local/bin/maille-pairs ask {}",
        hosts.join(" ")
    );
    heard(&up.kubectl(&line)?)
}

/// The same of a pod in which no program can be started: it is asked by another what it hears.
fn ask_through(
    up: &Meshed,
    by: &str,
    from: &str,
    hosts: &[String],
) -> anyhow::Result<BTreeMap<String, Value>> {
    let line = format!(
        "-n {NAMESPACE} exec {by} -c pairs -- /usr/local/bin/maille-pairs through {from} {}",
        hosts.join(" ")
    );
    heard(&up.kubectl(&line)?)
}

fn heard(said: &str) -> anyhow::Result<BTreeMap<String, Value>> {
    let lines = said.lines().map(serde_json::from_str::<Value>);
    let by_host = |one: Value| (text(&one, "/host").to_owned(), one);
    let all = lines.collect::<Result<Vec<_>, _>>()?;
    Ok(all.into_iter().map(by_host).collect())
}

/// Everybody asks everybody: by name, by every address of the pod, and by every address of its service.
fn everybody_reaches_everybody(up: &Meshed, pods: &[Value]) -> usize {
    let services = up
        .kubectl(&format!("-n {NAMESPACE} get services -o json"))
        .unwrap();
    let services: Value = serde_json::from_str(&services).unwrap();
    let mut hosts: BTreeMap<String, String> = BTreeMap::new();
    for pod in pods {
        let name = text(pod, "/metadata/name").to_owned();
        hosts.insert(name.clone(), name.clone());
        hosts.insert(
            format!("{name}.{NAMESPACE}.svc.cluster.local"),
            name.clone(),
        );
        hosts.extend(addresses(pod).into_iter().map(|ip| (ip, name.clone())));
    }
    for service in services["items"].as_array().unwrap() {
        let name = text(service, "/metadata/name").to_owned();
        let all = service["spec"]["clusterIPs"].as_array().unwrap();
        hosts.extend(
            all.iter()
                .map(|ip| (ip.as_str().unwrap().to_owned(), name.clone())),
        );
    }
    let list: Vec<String> = hosts.keys().cloned().collect();
    let mut answers = 0;
    for pod in pods {
        let from = text(pod, "/metadata/name");
        // What is ready is known to everybody a moment later.
        up.until("everybody", || {
            let class = text(pod, "/spec/runtimeClassName");
            let heard = if class.starts_with("machine-") {
                ask_through(up, "shared-two", from, &list)?
            } else {
                ask(up, from, &list)?
            };
            ensure!(heard.len() == list.len(), "{heard:#?}");
            for (host, name) in &hosts {
                for way in ["http", "grpc", "tcp"] {
                    let said = text(&heard[host][way], "/said");
                    let (who, whom) = said.split_once(' ').unwrap_or_default();
                    ensure!(
                        who == name,
                        "{from} asks {name} at {host} by {way}: {}",
                        heard[host]
                    );
                    // From outside a proxy shows its pod who the client is; a sidecar is the client itself.
                    let own = addresses(pod).iter().any(|ip| ip == whom);
                    ensure!(
                        own || from == name || name == "sidecar",
                        "{from} is {whom} to {name} at {host} by {way}"
                    );
                }
            }
            Ok(())
        })
        .unwrap();
        answers += list.len() * 3;
    }
    answers
}

/// Microseconds of a round trip from one pod to another.
fn round_trip(up: &Meshed, namespace: &str, from: &str, to: &str) -> Value {
    let line = format!(
        "-n {namespace} exec {from} -c pairs -- /usr/local/bin/maille-pairs time {to} 2000"
    );
    // What is ready is in the packets' way a moment later.
    let said = up.until("a round trip", || up.kubectl(&line)).unwrap();
    serde_json::from_str(&said).unwrap()
}

#[test]
fn pods_in_gvisor_and_beside_it_speak_tls_with_nothing_of_the_mesh_in_them() {
    let up = up();
    let nodes = [up.cluster().node(1), up.cluster().node(2)];
    let mut witnesses: Vec<Witness> = nodes
        .iter()
        .map(|node| Witness::on(&up, node).unwrap())
        .collect();
    witnesses.push(Witness::start(&up).unwrap());
    let pods = start(&up, &PODS);
    for witness in &mut witnesses {
        witness.expect(&pods).unwrap();
    }
    for pod in &pods {
        let name = text(pod, "/metadata/name");
        if name != "sidecar" {
            nothing_inside(pod);
        }
        // It is gVisor indeed: a kernel that says so.
        let kernel = format!("-n {NAMESPACE} exec {name} -c pairs -- /bin/busybox dmesg");
        let sandboxed = pod["spec"]["runtimeClassName"] == "gvisor";
        let says = up
            .kubectl(&kernel)
            .is_ok_and(|text| text.contains("gVisor"));
        assert_eq!(says, sandboxed, "{name}");
    }
    let answers = everybody_reaches_everybody(&up, &pods);
    eprintln!("{answers} answers");
    frames_are_shown(&up, "sandbox-one");
    for witness in witnesses {
        let seen = witness.end().unwrap();
        eprintln!("TLS {}, plain {}", seen["bytes_tls"], seen["bytes_plain"]);
    }
    costs(&up);
}

#[test]
fn virtual_machines_gvisor_and_the_node_s_kernel_are_one_mesh() {
    let program = Path::new(env!("CARGO_BIN_EXE_maille-cluster"));
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let up = meshed(Meshed::start_with_machines(program, scratch).unwrap());
    let nodes = [up.cluster().node(1), up.cluster().node(2)];
    let mut witnesses: Vec<Witness> = nodes
        .iter()
        .map(|node| Witness::on(&up, node).unwrap())
        .collect();
    witnesses.push(Witness::start(&up).unwrap());
    let pods = start(&up, &MACHINES);
    for witness in &mut witnesses {
        witness.expect(&pods).unwrap();
    }
    pods.iter().for_each(nothing_inside);
    for (name, devices) in [("machine-pci", true), ("machine-mmio", false)] {
        let log = up.kubectl(&format!("-n {NAMESPACE} logs {name}")).unwrap();
        let said = log.lines().find(|line| line.contains("PCI devices"));
        let none = said.unwrap().contains(", 0 PCI devices");
        assert_eq!(!none, devices, "{log}");
    }
    let answers = everybody_reaches_everybody(&up, &pods);
    eprintln!("{answers} answers");
    frames_are_shown(&up, "machine-pci");
    for witness in witnesses {
        let seen = witness.end().unwrap();
        eprintln!("TLS {}, plain {}", seen["bytes_tls"], seen["bytes_plain"]);
    }
}

/// Interfaces of a file on which frames pass a filter, as tshark has them.
fn interfaces(file: &Path, filter: &str) -> BTreeSet<String> {
    let mut tshark = Command::new("tshark");
    tshark.arg("-r").arg(file).args(["-Y", filter]);
    tshark.args(["-T", "fields", "-e", "frame.interface_name"]);
    let output = tshark.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let names = String::from_utf8(output.stdout).unwrap();
    names.lines().map(str::to_owned).collect()
}

/// `maille capture` of a pod in a sandbox while it is asked: its node's end of the wire and both sides of its proxy in one file, and
/// the application's words on one side alone.
fn frames_are_shown(up: &Meshed, name: &str) {
    let file = up.path(&format!("{name}.pcapng"));
    let line = format!(
        "capture {name} -n {NAMESPACE} --seconds 6 -w {}",
        file.display()
    );
    let said = std::thread::scope(|scope| {
        let recording = scope.spawn(|| up.maille(&line));
        while !recording.is_finished() {
            ask(up, "shared-two", &[name.to_owned()]).unwrap();
        }
        recording.join().unwrap()
    });
    said.unwrap();
    let all = interfaces(&file, "tcp");
    assert_eq!(all.len(), 3, "{all:?}");
    let own = BTreeSet::from(["dn0".to_owned()]);
    // The kubelet's probes are no mesh's.
    let asked = "http.request && !(http.user_agent contains \"kube-probe\")";
    assert_eq!(interfaces(&file, asked), own);
    let wire: BTreeSet<_> = all.difference(&own).cloned().collect();
    assert!(wire.contains("up0"), "{wire:?}");
    assert_eq!(interfaces(&file, "tcp.port == 15008"), wire);
    let state = std::fs::read_to_string(file.with_extension("pcapng.txt")).unwrap();
    for part in [
        "# mesh namespace",
        "# node",
        "# guest\nnot seen from here",
        "LISTEN",
        "neighbour",
        "table",
    ] {
        assert!(state.contains(part), "{part}: {state}");
    }
    let refused = up.maille(&format!("capture sidecar-or-nobody -n {NAMESPACE} --state"));
    let refused = refused.unwrap_err().to_string();
    assert!(
        refused.contains("there is no pod/sidecar-or-nobody"),
        "{refused}"
    );
}

/// What the mesh costs a pod in gVisor, beside the same pod outside: printed for `SPECIFICATION.md`.
fn costs(up: &Meshed) {
    for (name, node) in [("outside-one", "node1"), ("outside-two", "node2")] {
        apply(up, "default", name, node, &json!({"class": "gvisor"}));
    }
    up.settled("default", "pairs=yes", 2).unwrap();
    // The opposite: who is outside the mesh is seen by a witness that takes them for its own.
    let mut witness = Witness::start(up).unwrap();
    witness
        .expect(&up.pods("default", "pairs=yes").unwrap())
        .unwrap();
    for _ in 0..3 {
        let outside = round_trip(up, "default", "outside-one", "outside-two");
        let inside = round_trip(up, NAMESPACE, "sandbox-one", "sandbox-two");
        eprintln!("gVisor to gVisor on another node, outside: {outside}");
        eprintln!("gVisor to gVisor on another node, in the mesh: {inside}");
    }
    let seen = witness.end().unwrap_err().to_string();
    assert!(seen.contains("bytes_plain_between_meshed"), "{seen}");
    let mut begun = [Vec::new(), Vec::new()];
    for _ in 0..5 {
        for (times, namespace) in begun.iter_mut().zip(["default", NAMESPACE]) {
            times.push(until_ready(up, namespace));
        }
    }
    let [outside, inside] = begun.map(|mut times| {
        times.sort_unstable();
        times[times.len() / 2]
    });
    eprintln!("gVisor pod until ready, median of 5: {outside:?} outside, {inside:?} in the mesh");
    let script = "for f in /run/maille/node/sandboxes/*/proxy.pid; do \
        grep ^Pss: /proc/$(cut -d' ' -f1 $f)/smaps_rollup; done";
    eprintln!("proxies of node 1, kB: {}", on(up, 1, script).unwrap());
    assert!(
        inside < outside + Duration::from_secs(3),
        "{outside:?} {inside:?}"
    );
}

/// How long a pod in gVisor takes until it is ready.
fn until_ready(up: &Meshed, namespace: &str) -> Duration {
    let begin = SystemTime::now();
    apply(up, namespace, "brief", "node1", &json!({"class": "gvisor"}));
    up.settled(namespace, "app=brief", 1).unwrap();
    let took = begin.elapsed().unwrap();
    up.kubectl(&format!("-n {namespace} delete pod brief"))
        .unwrap();
    took
}

/// Runs a script on a node.
fn on(up: &Meshed, node: usize, script: &str) -> anyhow::Result<String> {
    let mut shell = up.cluster().node(node).enter("sh")?;
    up.output_of(shell.args(["-c", script]), "")
}

/// What a pod could leave on its node.
fn inventory(up: &Meshed) -> BTreeSet<String> {
    let script = "ls -d /run/maille/node/sandboxes/* /run/netns/*; ip -o link | cut -d: -f2; \
        for p in /proc/[0-9]*; do readlink $p/exe | grep -E 'maille-proxy|runsc'; done; true";
    let all = on(up, 1, script).unwrap();
    all.lines().map(str::to_owned).collect()
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
    let selector = "app.kubernetes.io/component=node";
    if there {
        return up.settled("maille-system", selector, 2).unwrap();
    }
    up.until("the agents' end", || {
        ensure!(up.pods("maille-system", selector)?.is_empty());
        Ok(())
    })
    .unwrap();
}

/// Ends the proxy of the one sandbox of node 1, at once.
fn kill_proxy(up: &Meshed) {
    let script = "kill -9 $(cut -d' ' -f1 /run/maille/node/sandboxes/*/proxy.pid)";
    on(up, 1, script).unwrap();
}

fn the_sandbox(up: &Meshed) -> anyhow::Result<Value> {
    let pods = up.pods(NAMESPACE, "app=sandbox-one")?;
    let pod = pods.into_iter().next().context("the pod in gVisor")?;
    ensure!(is_ready(&pod), "{pod:#}");
    Ok(pod)
}

/// Waits until both reach it in each way: who is in the mesh by its name and address, who is outside by its address.
fn is_reached(up: &Meshed) -> Value {
    up.until("the pod in gVisor", || {
        let pod = the_sandbox(up)?;
        let mut hosts = addresses(&pod);
        let outside = ask_in(up, "default", "outside-two", &hosts)?;
        hosts.push("sandbox-one".to_owned());
        let inside = ask(up, "shared-two", &hosts)?;
        for answer in outside.values().chain(inside.values()) {
            for way in ["http", "grpc", "tcp"] {
                let said = text(&answer[way], "/said");
                ensure!(said.starts_with("sandbox-one "), "{answer}");
            }
        }
        Ok(pod)
    })
    .unwrap()
}

#[test]
fn what_fails_with_a_sandbox_is_closed_and_mended_and_leaves_nothing() {
    let up = up();
    apply_namespace(&up);
    let before = inventory(&up);
    let mut witness = Witness::start(&up).unwrap();
    apply(&up, NAMESPACE, "shared-two", "node2", &json!({}));
    apply(
        &up,
        NAMESPACE,
        "sandbox-one",
        "node1",
        &json!({"class": "gvisor"}),
    );
    apply(&up, "default", "outside-two", "node2", &json!({}));
    up.settled(NAMESPACE, "pairs=yes", 2).unwrap();
    up.settled("default", "pairs=yes", 1).unwrap();
    let first = is_reached(&up);
    witness
        .expect(&up.pods(NAMESPACE, "pairs=yes").unwrap())
        .unwrap();

    // Nobody but the proxy lets anything through, and nobody is there to start another.
    agents(&up, false);
    is_reached(&up);
    kill_proxy(&up);
    let hosts = addresses(&first);
    let outside = ask_in(&up, "default", "outside-two", &hosts).unwrap();
    let inside = ask(&up, "shared-two", &hosts).unwrap();
    for answer in outside.values().chain(inside.values()) {
        for way in ["http", "grpc", "tcp"] {
            assert!(answer[way]["error"].is_string(), "{answer}");
        }
    }
    agents(&up, true);
    let second = is_reached(&up);
    kill_proxy(&up);
    let third = is_reached(&up);
    for later in [&second, &third] {
        for same in ["/metadata/uid", "/status/podIP"] {
            assert_eq!(
                text(later, same),
                text(&first, same),
                "the pod was left alone"
            );
        }
        assert_eq!(later["status"]["containerStatuses"][0]["restartCount"], 0);
    }

    // The sandbox itself: the kubelet makes another one, with a network of its own.
    let uid = text(&first, "/metadata/uid");
    let sandbox = Process::of_pod(uid, "runsc-sandbox").unwrap();
    sandbox.signal(Signal::SIGKILL).unwrap();
    let again = up.until("another sandbox", || {
        let pod = the_sandbox(&up)?;
        ensure!(
            pod["status"]["containerStatuses"][0]["restartCount"] != 0,
            "{pod:#}"
        );
        Ok(pod)
    });
    again.unwrap();
    is_reached(&up);
    witness
        .expect(&up.pods(NAMESPACE, "pairs=yes").unwrap())
        .unwrap();

    up.kubectl(&format!("-n {NAMESPACE} delete pod sandbox-one"))
        .unwrap();
    up.until("nothing left", || {
        let now = inventory(&up);
        let left: Vec<_> = now.difference(&before).collect();
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    })
    .unwrap();
    witness.end().unwrap();
}
