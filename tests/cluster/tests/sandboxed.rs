// SPDX-License-Identifier: Apache-2.0
//! Pods in gVisor and in virtual machines, captured from outside on a real kubelet, beside pods of the node's kernel with and without a sidecar: everybody
//! reaches everybody, in every way, and witnesses on the nodes and between them see nothing but TLS.
//!
//! `cargo xtask test cluster` builds the programs and images that this takes.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::ensure;
use maille_cluster::agents;
use maille_cluster::meshed::{Meshed, text};
use maille_cluster::pairs::{self, ALL, NAMESPACE, OUTSIDE, WAYS, addresses, ask, ask_through};
use maille_cluster::witness::Witness;
use serde_json::{Value, json};

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

/// The deck's picture: every kind of sandbox side by side, first on one node, then where each is said to be.
const MACHINES: [Who; 4] = [
    ("machine-pci", "node1", Some("machine-pci"), None),
    ("machine-mmio", "node2", Some("machine-mmio"), None),
    ("sandbox-one", "node1", Some("gvisor"), None),
    ("shared-two", "node2", None, None),
];

fn up(machines: bool) -> Meshed {
    let program = Path::new(env!("CARGO_BIN_EXE_maille-cluster"));
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
    pairs::start(program, scratch, machines).unwrap()
}

fn start(up: &Meshed, all: &[Who]) -> Vec<Value> {
    for &(name, node, class, capture) in all {
        let mut pod = pairs::pod(NAMESPACE, name, node, class);
        if let Some(capture) = capture {
            pod["metadata"]["annotations"] = json!({"maille.io/capture": capture});
        }
        pairs::apply(up, &pod).unwrap();
    }
    up.settled(NAMESPACE, ALL, all.len()).unwrap();
    up.pods(NAMESPACE, ALL).unwrap()
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
                ask(up, NAMESPACE, from, &list)?
            };
            ensure!(heard.len() == list.len(), "{heard:#?}");
            for (host, name) in &hosts {
                for way in WAYS {
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

#[test]
fn pods_in_gvisor_and_beside_it_speak_tls_with_nothing_of_the_mesh_in_them() {
    let up = up(false);
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
    for name in ["sandbox-one", "shared-one"] {
        frames_are_shown(&up, name);
    }
    for witness in witnesses {
        let seen = witness.end().unwrap();
        eprintln!("TLS {}, plain {}", seen["bytes_tls"], seen["bytes_plain"]);
    }
    costs(&up);
}

#[test]
fn virtual_machines_gvisor_and_the_node_s_kernel_are_one_mesh() {
    let up = up(true);
    let nodes = [up.cluster().node(1), up.cluster().node(2)];
    let mut witnesses: Vec<Witness> = nodes
        .iter()
        .map(|node| Witness::on(&up, node).unwrap())
        .collect();
    witnesses.push(Witness::start(&up).unwrap());
    for spread in [false, true] {
        let placed = MACHINES.map(|(name, node, class, capture)| {
            let node = if spread { node } else { "node1" };
            (name, node, class, capture)
        });
        let pods = start(&up, &placed);
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
        eprintln!("{answers} answers, spread over two nodes: {spread}");
        if spread {
            frames_are_shown(&up, "machine-pci");
        }
        let all = format!("-n {NAMESPACE} delete pod -l {ALL}");
        up.kubectl(&all).unwrap();
    }
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

/// `maille capture` of a pod while it is asked, whatever it runs in: its node's end of the wire and both sides of its proxy in one file, and
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
            ask(up, NAMESPACE, "shared-two", &[name.to_owned()]).unwrap();
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
    guest_is_shown(up, name);
    let refused = up.maille(&format!("capture sidecar-or-nobody -n {NAMESPACE} --state"));
    let refused = refused.unwrap_err().to_string();
    assert!(
        refused.contains("there is no pod/sidecar-or-nobody"),
        "{refused}"
    );
}

/// What the pod's own kernel holds, which nobody sees from outside: where its application listens, and its addresses.
fn guest_is_shown(up: &Meshed, name: &str) {
    let line = format!("capture {name} -n {NAMESPACE} --state --guest");
    let state = up.maille(&line).unwrap();
    let guest = state.split_once("# guest\n");
    let (_, guest) = guest.unwrap_or_else(|| panic!("{state}"));
    let listens = |line: &str| line.starts_with("LISTEN") && line.contains(":8080 ");
    assert!(guest.lines().any(listens), "{guest}");
    let pods = up.pods(NAMESPACE, &format!("app={name}")).unwrap();
    for address in addresses(&pods[0]) {
        assert!(guest.contains(&format!("address {address}")), "{guest}");
    }
}

/// What the mesh costs a pod in gVisor, beside the same pod outside: printed for `SPECIFICATION.md`. A sidecar is compared in `sidecars.rs`.
fn costs(up: &Meshed) {
    for (name, node) in [("outside-one", "node1"), ("outside-two", "node2")] {
        let pod = pairs::pod(OUTSIDE, name, node, Some("gvisor"));
        pairs::apply(up, &pod).unwrap();
    }
    up.settled(OUTSIDE, ALL, 2).unwrap();
    // The opposite: who is outside the mesh is seen by a witness that takes them for its own.
    let mut witness = Witness::start(up).unwrap();
    witness.expect(&up.pods(OUTSIDE, ALL).unwrap()).unwrap();
    for _ in 0..3 {
        let trip = |namespace, from, to| pairs::round_trip(up, namespace, from, to, 2000).unwrap();
        let outside = trip(OUTSIDE, "outside-one", "outside-two");
        let inside = trip(NAMESPACE, "sandbox-one", "sandbox-two");
        eprintln!("gVisor to gVisor on another node, outside: {outside}");
        eprintln!("gVisor to gVisor on another node, in the mesh: {inside}");
    }
    let seen = witness.end().unwrap_err().to_string();
    assert!(seen.contains("bytes_plain_between_meshed"), "{seen}");
    let mut begun = [Vec::new(), Vec::new()];
    for _ in 0..5 {
        for (times, namespace) in begun.iter_mut().zip([OUTSIDE, NAMESPACE]) {
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
    let said = agents::shell(&up.cluster().node(1), script).unwrap();
    eprintln!("proxies of node 1, kB: {said}");
    assert!(
        inside < outside + Duration::from_secs(3),
        "{outside:?} {inside:?}"
    );
}

/// How long a pod in gVisor takes until it is ready.
fn until_ready(up: &Meshed, namespace: &str) -> Duration {
    let begin = SystemTime::now();
    let pod = pairs::pod(namespace, "brief", "node1", Some("gvisor"));
    pairs::apply(up, &pod).unwrap();
    up.settled(namespace, "app=brief", 1).unwrap();
    let took = begin.elapsed().unwrap();
    up.kubectl(&format!("-n {namespace} delete pod brief"))
        .unwrap();
    took
}
