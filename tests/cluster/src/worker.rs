// SPDX-License-Identifier: Apache-2.0
//! A node: its cable to the control plane, its routes, containerd, the kubelet and kube-proxy.
//!
//! Booting one again after its plug was pulled is the same as booting it first. Read `machine.rs` for what it is made of.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::json;

use crate::cluster::Cluster;
use crate::components::SERVER;
use crate::machine::Machine;
use crate::machined;
use crate::shell::{output, output_of, until};

/// The configuration files, by name.
const FILES: &[(&str, &str)] = &[
    ("containerd.toml", include_str!("../config/containerd.toml")),
    ("runsc.toml", include_str!("../config/runsc.toml")),
    ("runsc-raw.toml", include_str!("../config/runsc-raw.toml")),
    ("kubelet.yaml", include_str!("../config/kubelet.yaml")),
    ("kube-proxy.yaml", include_str!("../config/kube-proxy.yaml")),
    (
        "network.conflist",
        include_str!("../config/network.conflist"),
    ),
];

/// How many nodes a cluster may have: each has its routes on every other.
pub(crate) const MOST: usize = 9;

const LIMIT: Duration = Duration::from_secs(60);

/// The numbers of node `index` (from 1).
struct Numbers {
    index: usize,
    ip4: String,
    ip6: String,
    pods4: String,
    pods6: String,
}

impl Numbers {
    fn of(index: usize) -> Self {
        Self {
            index,
            ip4: format!("10.77.0.{}", 10 + index),
            ip6: format!("fd77::{}", 10 + index),
            pods4: format!("10.244.{index}.0/24"),
            pods6: format!("fd44:0:0:{index}::/64"),
        }
    }
}

/// Boots node `index` of a cluster whose control plane's machine runs; returns when its kubelet is started.
///
/// # Errors
///
/// What did not start, with what it said.
pub(crate) fn boot(cluster: &Cluster, index: usize) -> anyhow::Result<()> {
    let numbers = Numbers::of(index);
    let machine = cluster.node(index);
    machine.boot(cluster.init())?;
    wire(cluster.control_plane(), &machine, &numbers)?;
    configure(cluster, &machine, &numbers)?;
    start(cluster, &machine, &numbers, "containerd")?;
    images(cluster, &machine)?;
    register(cluster, &machine, &numbers)?;
    start(cluster, &machine, &numbers, "kubelet")?;
    start(cluster, &machine, &numbers, "kube-proxy")
}

/// Ends a daemon of node `index` at once and starts it again, with its configuration of now.
///
/// # Errors
///
/// It does not run; it cannot be started.
pub(crate) fn restart(cluster: &Cluster, index: usize, daemon: &str) -> anyhow::Result<()> {
    let machine = cluster.node(index);
    let mut kill = machine.enter("sh")?;
    let script = "kill -9 $(cat /run/$1.pid)";
    output(kill.args(["-c", script, "sh", daemon]))?;
    start(cluster, &machine, &Numbers::of(index), daemon)?;
    if daemon == "containerd" {
        until("containerd", LIMIT, || {
            output(ctr(cluster, &machine)?.arg("version"))
        })?;
    }
    Ok(())
}

/// Starts one of a node's daemons.
fn start(
    cluster: &Cluster,
    machine: &Machine,
    numbers: &Numbers,
    daemon: &str,
) -> anyhow::Result<()> {
    let bin = cluster.parts().bin();
    let (dir, name) = (machine.dir().display(), machine.name());
    let pki = cluster.pki();
    let (pki, ip4, ip6) = (pki.display(), &numbers.ip4, &numbers.ip6);
    let flags = match daemon {
        "containerd" => format!("--config {dir}/containerd.toml"),
        "kubelet" => format!(
            "--config {dir}/kubelet.yaml --kubeconfig {pki}/{name}.conf --hostname-override {name} \
             --node-ip {ip4},{ip6} --root-dir /var/lib/kubelet"
        ),
        other => format!("--config {dir}/{other}.yaml"),
    };
    let program = bin.join(daemon).display().to_string();
    let flags = flags.split_ascii_whitespace().map(str::to_owned);
    let line: Vec<_> = std::iter::once(program).chain(flags).collect();
    machine.daemon(daemon, &bin, &line)
}

/// One cable to the switch in the control plane's network, and plain routes to every pod.
fn wire(control: &Machine, machine: &Machine, numbers: &Numbers) -> anyhow::Result<()> {
    let Numbers {
        index,
        ip4,
        ip6,
        pods4,
        pods6,
    } = numbers;
    let pid = machine.pid().context("the machine ended at once")?;
    // Left by an earlier life of this node, if at all.
    let _ = control.ip(&format!("link del port{index}"));
    // Only the network is entered here: elsewhere the pid would mean another process.
    output(control.on_network("ip")?.args([
        "link",
        "add",
        &format!("port{index}"),
        "type",
        "veth",
        "peer",
        "name",
        "eth0",
        "netns",
        &pid.to_string(),
    ]))?;
    control.ip(&format!("link set port{index} master lan up"))?;
    for args in [
        "link set lo up".to_owned(),
        format!("addr add {ip4}/24 dev eth0"),
        format!("addr add {ip6}/64 dev eth0 nodad"),
        "link set eth0 up".to_owned(),
        format!("route add default via {SERVER}"),
        "route add default via fd77::1".to_owned(),
    ] {
        machine.ip(&args)?;
    }
    control.ip(&format!("route replace {pods4} via {ip4}"))?;
    control.ip(&format!("route replace {pods6} via {ip6}"))?;
    for other in (1..=MOST).filter(|other| other != index).map(Numbers::of) {
        machine.ip(&format!("route add {} via {}", other.pods4, other.ip4))?;
        machine.ip(&format!("route add {} via {}", other.pods6, other.ip6))?;
    }
    Ok(())
}

/// Fills in the node's files; plugins and network go to its own /opt and /etc, if they are not there from an earlier life.
fn configure(cluster: &Cluster, machine: &Machine, numbers: &Numbers) -> anyhow::Result<()> {
    let parts = cluster.parts();
    let show = |path: &Path| path.display().to_string();
    let values = [
        ("NODE", machine.name().to_owned()),
        ("CGROUP", machine.cgroup().to_owned()),
        ("IP", numbers.ip4.clone()),
        ("PODS4", numbers.pods4.clone()),
        ("PODS6", numbers.pods6.clone()),
        ("PKI", show(&cluster.pki())),
        ("BIN", show(&parts.bin())),
        ("GVISOR", show(&cluster.gvisor().runtime())),
        ("GVISOR_SHIM", show(&cluster.gvisor().shim())),
        ("DIR", show(machine.dir())),
    ];
    for (name, text) in FILES {
        let mut text = (*text).to_owned();
        for (word, value) in &values {
            text = text.replace(&format!("${{{word}}}"), value);
        }
        fs::write(machine.dir().join(name), text)?;
    }
    fs::write(
        machine.dir().join("resolv.conf"),
        format!("nameserver {SERVER}\n"),
    )?;
    for model in machined::models() {
        let Some(guest) = cluster.guest() else { break };
        let (init, runc) = (cluster.init(), parts.program("runc"));
        let script = format!(
            "#!/bin/sh\nexec {} machine {model} {} {} \"$@\"\n",
            show(init),
            show(guest.dir()),
            show(&runc)
        );
        let path = machine.dir().join(format!("machine-{model}"));
        fs::write(&path, script)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    }
    let script = "cp \"$1\"/* /opt/cni/bin/ && \
        { [ -n \"$(ls /etc/cni/net.d)\" ] || cp \"$2\" /etc/cni/net.d/10-test.conflist; }";
    let mut copy = machine.enter("sh")?;
    copy.args(["-c", script, "sh"])
        .arg(parts.plugins())
        .arg(machine.dir().join("network.conflist"));
    output(&mut copy).map(|_| ())
}

/// `ctr` on a node, in the kubelet's namespace of images.
pub(crate) fn ctr(cluster: &Cluster, machine: &Machine) -> anyhow::Result<Command> {
    let mut command = machine.enter(cluster.parts().program("ctr"))?;
    command.args(["-n", "k8s.io"]);
    Ok(command)
}

/// Waits for containerd and loads what it lacks.
fn images(cluster: &Cluster, machine: &Machine) -> anyhow::Result<()> {
    until("containerd", LIMIT, || {
        output(ctr(cluster, machine)?.arg("version"))
    })?;
    let there = output(ctr(cluster, machine)?.args(["images", "ls", "-q"]))?;
    for image in cluster.parts().images()? {
        let stem = image.file_stem().unwrap_or_default().to_string_lossy();
        if !there.contains(&format!("maille.test/{stem}:1")) {
            load(cluster, machine, &image)?;
        }
    }
    Ok(())
}

/// Loads an archive into a node's containerd.
///
/// # Errors
///
/// What `ctr` said.
pub(crate) fn load(cluster: &Cluster, machine: &Machine, image: &Path) -> anyhow::Result<()> {
    output(ctr(cluster, machine)?.args(["images", "import"]).arg(image)).map(|_| ())
}

/// Gives an image another name beside its own.
///
/// # Errors
///
/// What `ctr` said.
pub(crate) fn tag(
    cluster: &Cluster,
    machine: &Machine,
    image: &str,
    other: &str,
) -> anyhow::Result<()> {
    output(ctr(cluster, machine)?.args(["images", "tag", image, other])).map(|_| ())
}

/// The Node comes before its kubelet, so that the pods' network is known from the start.
fn register(cluster: &Cluster, machine: &Machine, numbers: &Numbers) -> anyhow::Result<()> {
    let name = machine.name();
    until("the API server", LIMIT, || {
        cluster.kubectl(&["get", "--raw", "/readyz"])
    })?;
    if cluster.kubectl(&["get", "node", name]).is_ok() {
        return Ok(());
    }
    let node = json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name},
        "spec": {"podCIDR": numbers.pods4, "podCIDRs": [numbers.pods4, numbers.pods6]},
    });
    let mut create = cluster.kubectl_command()?;
    create.args(["create", "-f", "-"]);
    output_of(&mut create, node.to_string().as_bytes()).map(|_| ())
}
