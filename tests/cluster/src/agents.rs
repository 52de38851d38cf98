// SPDX-License-Identifier: Apache-2.0
//! The mesh on nodes: its agents taken away and given back, what they have captured, what they say.
//!
//! Everything is looked at where it is: files and processes on a node, events at the API server. Read `meshed.rs` for the cluster.

use std::path::Path;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use crate::machine::Machine;
use crate::meshed::{Meshed, text};
use crate::processes::Process;
use crate::shell::output;
use crate::twins::{IMAGE, Load};
use crate::worker;

/// The selector of agents.
pub const AGENTS: &str = "app.kubernetes.io/component=node";
/// The label by which a node is none for an agent.
const NOWHERE: &str = "maille.test/agents";
/// Where a node's networks are configured.
pub const CONFIGURATIONS: &str = "/etc/cni/net.d";

/// Whether agents are on the nodes from the beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// They are.
    With,
    /// The mesh is installed, and its agents are on no node yet.
    Without,
}

/// A cluster whose nodes capture.
///
/// # Errors
///
/// What was said by whom.
pub fn start(init: &Path, scratch: &Path, begin: Begin) -> anyhow::Result<Meshed> {
    install(Meshed::start(init, scratch)?, begin, "install --cni")
}

/// The same, whose agents leave their nodes' CNI configurations alone.
///
/// # Errors
///
/// What was said by whom.
pub fn start_unchained(init: &Path, scratch: &Path) -> anyhow::Result<Meshed> {
    let up = Meshed::start(init, scratch)?;
    install(up, Begin::With, "install --cni --no-chain")
}

/// The same, whose nodes can run pods in virtual machines.
///
/// # Errors
///
/// What was said by whom.
pub fn start_with_machines(init: &Path, scratch: &Path, begin: Begin) -> anyhow::Result<Meshed> {
    let up = Meshed::start_with_machines(init, scratch)?;
    install(up, begin, "install --cni")
}

fn install(up: Meshed, begin: Begin, words: &str) -> anyhow::Result<Meshed> {
    up.load_built("node.tar")?;
    Load::image(&up)?;
    let manifest = up.maille(words)?;
    up.cluster().apply(&match begin {
        Begin::With => manifest,
        Begin::Without => nowhere(&manifest)?,
    })?;
    up.control_is_there()?;
    if begin == Begin::With {
        are_there(&up)?;
    }
    Ok(up)
}

/// A manifest whose agents run on no node.
fn nowhere(manifest: &str) -> anyhow::Result<String> {
    let (before, set) = manifest
        .split_once("kind: DaemonSet")
        .context("a DaemonSet")?;
    let selector = "kubernetes.io/os: linux";
    ensure!(set.contains(selector), "a DaemonSet with a selector");
    let changed = set.replacen(selector, &format!("{NOWHERE}: nowhere"), 1);
    Ok(format!("{before}kind: DaemonSet{changed}"))
}

/// Waits until every node has its agent.
///
/// # Errors
///
/// Not in time.
pub fn are_there(up: &Meshed) -> anyhow::Result<()> {
    up.rolled_out("daemonset/maille-node")?;
    up.settled("maille-system", AGENTS, 2)
}

/// Takes the agents from the nodes, or gives them back.
///
/// # Errors
///
/// What `kubectl` said; not in time.
pub fn let_be(up: &Meshed, there: bool) -> anyhow::Result<()> {
    let label = if there { Value::Null } else { json!("nowhere") };
    let patch = json!({"spec": {"template": {"spec": {"nodeSelector": {NOWHERE: label}}}}});
    up.kubectl(&format!(
        "-n maille-system patch daemonset maille-node --type merge -p {patch}"
    ))?;
    if there {
        return are_there(up);
    }
    up.until("the agents' end", || {
        ensure!(up.pods("maille-system", AGENTS)?.is_empty());
        Ok(())
    })
}

/// Has every agent replaced by one of another image: the same programs, of another name. Returns when they are there.
///
/// # Errors
///
/// What containerd or `kubectl` said; not in time.
pub fn replace(up: &Meshed) -> anyhow::Result<()> {
    let other = begin_to_replace(up)?;
    are_there(up)?;
    are_of(up, &other)
}

/// The same, and returns at once: the name of the image.
///
/// # Errors
///
/// What containerd or `kubectl` said.
pub fn begin_to_replace(up: &Meshed) -> anyhow::Result<String> {
    let agents = up.pods("maille-system", AGENTS)?;
    let agent = agents.first().context("an agent")?;
    let image = text(agent, "/spec/containers/0/image");
    let other = format!("{image}-next");
    for index in [1, 2] {
        up.cluster().tag(&up.cluster().node(index), image, &other)?;
    }
    up.kubectl(&format!(
        "-n maille-system set image daemonset/maille-node node={other}"
    ))?;
    Ok(other)
}

/// Every agent is of this image.
///
/// # Errors
///
/// One is of another.
pub fn are_of(up: &Meshed, image: &str) -> anyhow::Result<()> {
    for agent in up.pods("maille-system", AGENTS)? {
        let of = text(&agent, "/spec/containers/0/image");
        ensure!(of == image, "one is of {of}");
    }
    Ok(())
}

/// Removes what agents that are gone came in from every node.
///
/// # Errors
///
/// What containerd said.
pub fn forget(up: &Meshed) -> anyhow::Result<()> {
    for index in [1, 2] {
        let node = up.cluster().node(index);
        let mut images = worker::ctr(up.cluster(), &node)?;
        let all = output(images.args(["images", "ls", "-q"]))?;
        let image = all.lines().find(|image| image.contains("/node:"));
        up.cluster()
            .forget(&node, image.context("the agent's image")?)?;
    }
    Ok(())
}

/// Where something is mounted for each proxy of a node.
///
/// # Errors
///
/// The node does not run.
pub fn mounts_of_proxies(node: &Machine) -> anyhow::Result<Vec<String>> {
    let script = "for f in /run/maille/node/sandboxes/*/proxy.pid; do \
        cut -d' ' -f5 /proc/$(cut -d' ' -f1 $f)/mountinfo; done";
    Ok(shell(node, script)?.lines().map(str::to_owned).collect())
}

/// The process of the agent on `node`.
///
/// # Errors
///
/// There is none.
pub fn process(up: &Meshed, node: &str) -> anyhow::Result<Process> {
    let agents = up.pods("maille-system", AGENTS)?;
    let agent = agents.iter().find(|pod| pod["spec"]["nodeName"] == node);
    let agent = agent.with_context(|| format!("no agent on {node}"))?;
    Process::of_pod(text(agent, "/metadata/uid"), "/maille-node")
}

/// A pod of the mesh on `node` that does nothing, or serves.
pub fn pod(name: &str, namespace: &str, node: &str, args: &[&str]) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": name, "maille.io/inject": "enabled"}},
        "spec": {
            "nodeName": node, "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "app", "image": IMAGE, "args": args}],
        },
    })
}

/// Waits until the pod's events say this.
///
/// # Errors
///
/// Not in time; what they say.
pub fn says(up: &Meshed, namespace: &str, pod: &str, what: &str) -> anyhow::Result<()> {
    let line =
        format!("-n {namespace} get events --field-selector involvedObject.name={pod} -o json");
    up.until("an event", || {
        let events: Value = serde_json::from_str(&up.kubectl(&line)?)?;
        let items = events["items"].as_array().into_iter().flatten();
        let said: Vec<_> = items.map(|event| text(event, "/message")).collect();
        ensure!(said.iter().any(|said| said.contains(what)), "{said:#?}");
        Ok(())
    })
}

/// What a shell says in the mesh namespace of the pod `name`, where `$dir` is what its node keeps of it.
///
/// # Errors
///
/// It is not captured; what the shell said.
pub fn inside(node: &Machine, name: &str, script: &str) -> anyhow::Result<String> {
    let find = format!(
        "dir=$(dirname $(grep -l '\"name\":\"{name}\"' /run/maille/node/sandboxes/*/sandbox.json)); export dir; \
         nsenter --net=$dir/mesh sh -c '{}'",
        script.replace('\'', "'\\''")
    );
    shell(node, &find)
}

/// What a shell says on a node.
///
/// # Errors
///
/// What it said.
pub fn shell(machine: &Machine, script: &str) -> anyhow::Result<String> {
    output(machine.enter("sh")?.args(["-c", script]))
}

/// The pods that a node has captured, as `namespace/name`.
///
/// # Errors
///
/// The node does not run.
pub fn captured(machine: &Machine) -> anyhow::Result<Vec<String>> {
    let records = shell(
        machine,
        "for f in /run/maille/node/sandboxes/*/sandbox.json; do [ ! -f $f ] || { cat $f; echo; }; done",
    )?;
    let read = |line: &str| {
        let record: Value = serde_json::from_str(line)?;
        Ok(format!(
            "{}/{}",
            text(&record, "/namespace"),
            text(&record, "/name")
        ))
    };
    records.lines().map(read).collect()
}

/// A number that the agent of a node says, by the whole name with its labels.
///
/// # Errors
///
/// It does not answer, or does not say.
pub fn said<T>(machine: &Machine, name: &str) -> anyhow::Result<T>
where
    T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>,
{
    let address = "$(ip -4 -o addr show dev eth0 | sed 's#.* inet ##; s#/.*##')";
    let text = shell(
        machine,
        &format!("/bin/busybox wget -q -O - http://{address}:15020/metrics"),
    )?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let value = line.with_context(|| format!("no {name} in {text}"))?;
    Ok(value.trim().parse()?)
}

/// The same of what is counted.
///
/// # Errors
///
/// It does not answer, or does not say.
pub fn counted(machine: &Machine, name: &str) -> anyhow::Result<u64> {
    said(machine, name)
}

/// Whether the runtime of a node heeds what pods require.
///
/// # Errors
///
/// Its configuration is not as it was written; it did not start again.
pub fn require(up: &Meshed, index: usize, required: bool) -> anyhow::Result<()> {
    let path = up.cluster().node(index).dir().join("containerd.toml");
    let was = std::fs::read_to_string(&path)?;
    let (before, after) = was
        .split_once("default_validator]\n")
        .context("a validator")?;
    let rest = after.split_once('\n').map_or("", |(_, rest)| rest);
    std::fs::write(
        &path,
        format!("{before}default_validator]\nenable = {required}\n{rest}"),
    )?;
    up.cluster().restart(index, "containerd")
}
