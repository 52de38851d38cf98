// SPDX-License-Identifier: Apache-2.0
//! `maille node`: what the agents of nodes say of the pods that they have captured: their proxies, what those use, and whether somebody
//! changed a capture.
//!
//! They are asked by way of the API server. Must never take an agent's words for anything but text.

use std::process::ExitCode;

use futures_util::{StreamExt as _, stream};
use maille_inject::install::NODE_PORT;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::args::Output;
use crate::args::kubernetes::Node as Args;
use crate::cluster::Cluster;
use crate::failure::Expected;
use crate::screen::{print, print_json, table};
use crate::shapes::text;
use crate::text::clean;

/// Agents that are asked at a time.
const AT_A_TIME: usize = 16;
/// By which agents are found.
const AGENTS: &str = "app.kubernetes.io/part-of=maille,app.kubernetes.io/component=node";

/// What `-o json` writes.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub(crate) struct Nodes {
    /// One a node that has an agent.
    nodes: Vec<Node>,
}

/// A node.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub(crate) struct Node {
    /// Its name.
    pub(crate) node: String,
    /// Why its agent said nothing; empty where it did.
    pub(crate) error: String,
    /// What keeps a pod of the mesh from beginning uncaptured: `required`, `asked`, `plugin`, or `unknown`.
    pub(crate) guarantee: String,
    /// Its CNI files.
    pub(crate) chain: Chain,
    /// Those that it has captured.
    pub(crate) pods: Vec<Pod>,
}

/// A node's CNI files, as its agent found them.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "NodeChain")]
pub(crate) struct Chain {
    /// Why no pod of the mesh would be captured; empty where they are in order.
    pub(crate) trouble: String,
    /// The plugins that the runtime calls for a pod, in order.
    pub(crate) plugins: Vec<String>,
    /// Those that somebody put behind the mesh's when that was mended last.
    pub(crate) behind: Vec<String>,
    /// How often a file was written anew, since this agent had them in order first.
    pub(crate) repairs: u64,
    /// The agent leaves them alone: pods name the plugin as a network of theirs.
    pub(crate) alone: bool,
}

/// What an agent answers.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Answer {
    guarantee: String,
    chain: Chain,
    pods: Vec<Pod>,
}

/// A captured pod.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "NodePod")]
pub(crate) struct Pod {
    /// Its namespace.
    namespace: String,
    /// Its name.
    name: String,
    /// Its uid.
    uid: String,
    /// How it is captured.
    capture: String,
    /// Its interface that is.
    interface: String,
    /// Its proxy.
    proxy: Proxy,
    /// What is not as it was when it was captured, and could not be mended; empty where everything is.
    drift: String,
    /// How often something was mended, since this agent began.
    repairs: u64,
    /// What that was last.
    repaired: String,
}

/// A pod's proxy.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "NodeProxy")]
struct Proxy {
    /// Whether it is ready; not said of one that is in the pod, whose readiness is the pod's.
    ready: Option<bool>,
    /// Bytes that it uses, the kernel's for it among them.
    memory: Option<u64>,
    /// Bytes that it may use.
    memory_limit: Option<u64>,
    /// Processor time that it used, in microseconds.
    cpu_micros: Option<u64>,
    /// Thousandths of a processor that it may use.
    cpu_limit_millis: Option<u64>,
}

pub(crate) async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let cluster = Cluster::connect(&args.cluster).await?;
    let mesh = args.namespace.namespace.as_str();
    let path = format!("/api/v1/namespaces/{mesh}/pods");
    let mut agents = cluster.all(&path, Some(AGENTS)).await?;
    if let Some(name) = &args.node {
        agents.retain(|agent| agent["spec"]["nodeName"] == name.as_str());
    }
    if agents.is_empty() {
        let of = args.node.as_deref().unwrap_or("any node");
        return Err(Expected::Unknown {
            what: format!("no agent of {of} is there", of = clean(of)),
            hint: "nodes have agents where the mesh was installed with `maille install --cni`"
                .to_owned(),
        }
        .into());
    }
    let mut nodes: Vec<Node> = stream::iter(agents.iter().map(|agent| ask(&cluster, mesh, agent)))
        .buffered(AT_A_TIME)
        .collect()
        .await;
    nodes.sort_by(|one, other| one.node.cmp(&other.node));
    let nodes = Nodes { nodes };
    match args.output {
        Output::Json => print_json(&nodes)?,
        Output::Table => print(&nodes.table())?,
    };
    match nodes.bad() {
        0 => Ok(ExitCode::SUCCESS),
        count => Err(Expected::Found {
            what: format!("{count} node(s) or pod(s) are not as they should be"),
        }
        .into()),
    }
}

/// The agent of one node.
pub(crate) async fn agent(cluster: &Cluster, mesh: &str, node: &str) -> Result<Value, Expected> {
    let path = format!("/api/v1/namespaces/{mesh}/pods");
    let mut agents = cluster.all(&path, Some(AGENTS)).await?.into_iter();
    let own = agents.find(|agent| text(agent, "/spec/nodeName") == node);
    own.ok_or_else(|| Expected::Unknown {
        what: format!("no agent of {} is there", clean(node)),
        hint: "see `kubectl -n maille-system get pods -o wide`".to_owned(),
    })
}

/// What one agent says.
pub(crate) async fn ask(cluster: &Cluster, mesh: &str, agent: &Value) -> Node {
    let name = text(agent, "/metadata/name");
    let mut node = Node {
        node: text(agent, "/spec/nodeName").to_owned(),
        ..Node::default()
    };
    let path = format!("/api/v1/namespaces/{mesh}/pods/{name}:{NODE_PORT}/proxy/pods");
    let answer = match cluster.ask(&path).await {
        Ok((status, body)) if status.is_success() => {
            serde_json::from_slice::<Answer>(&body).map_err(|error| error.to_string())
        }
        Ok((status, _)) => Err(format!("the API server says {status}")),
        Err(error) => Err(error.to_string()),
    };
    match answer {
        Ok(answer) => {
            node.guarantee = answer.guarantee;
            node.chain = answer.chain;
            node.pods = answer.pods;
            node.pods
                .sort_by(|one, other| one.place().cmp(&other.place()));
        }
        Err(error) => node.error = error,
    }
    node
}

// === impl Nodes ===

impl Nodes {
    /// What somebody should look at.
    fn bad(&self) -> usize {
        let bad = |pod: &&Pod| pod.proxy.ready == Some(false) || !pod.drift.is_empty();
        let of = |node: &Node| {
            let own = [&node.error, &node.chain.trouble];
            let own = own.into_iter().filter(|text| !text.is_empty());
            own.count() + node.pods.iter().filter(bad).count()
        };
        self.nodes.iter().map(of).sum()
    }

    fn table(&self) -> String {
        let head = [
            "NODE",
            "NAMESPACE",
            "POD",
            "CAPTURE",
            "PROXY",
            "MEMORY",
            "LIMIT",
            "CPU",
            "REPAIRS",
            "DRIFT",
        ];
        let mut rows = Vec::new();
        for node in &self.nodes {
            let name = clean(&node.node);
            if !node.error.is_empty() {
                rows.push(vec![name.clone(), format!("({})", clean(&node.error))]);
            } else if !node.chain.trouble.is_empty() {
                rows.push(vec![
                    name.clone(),
                    format!("({})", clean(&node.chain.trouble)),
                ]);
            } else if node.pods.is_empty() {
                rows.push(vec![name.clone(), "(no pod is captured)".to_owned()]);
            }
            rows.extend(node.pods.iter().map(|pod| pod.row(&name)));
        }
        table(&head, &rows, &[5, 6, 7, 8])
    }
}

// === impl Pod ===

impl Pod {
    fn place(&self) -> (&str, &str) {
        (&self.namespace, &self.name)
    }

    fn row(&self, node: &str) -> Vec<String> {
        let proxy = &self.proxy;
        let seconds = |micros: u64| format!("{}.{:02}s", micros / 1_000_000, micros / 10_000 % 100);
        let unknown = || "-".to_owned();
        vec![
            node.to_owned(),
            clean(&self.namespace),
            clean(&self.name),
            clean(&self.capture),
            match proxy.ready {
                Some(true) => "ready",
                Some(false) => "not ready",
                None => "in the pod",
            }
            .to_owned(),
            proxy.memory.map_or_else(unknown, mebibytes),
            proxy.memory_limit.map_or_else(unknown, mebibytes),
            proxy.cpu_micros.map_or_else(unknown, seconds),
            self.repairs.to_string(),
            clean(&self.drift),
        ]
    }
}

fn mebibytes(bytes: u64) -> String {
    let tenths = bytes.saturating_mul(10) >> 20;
    match tenths % 10 {
        0 => format!("{}Mi", tenths / 10),
        tenth => format!("{}.{tenth}Mi", tenths / 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(answer: &str) -> Node {
        let answer: Answer = serde_json::from_str(answer).unwrap();
        Node {
            node: "node1".to_owned(),
            guarantee: answer.guarantee,
            chain: answer.chain,
            pods: answer.pods,
            ..Node::default()
        }
    }

    #[test]
    fn a_pod_is_a_line_and_what_is_not_well_is_counted() {
        let answer = r#"{"guarantee":"required","pods":[
            {"namespace":"shop","name":"web","capture":"outboard","proxy":{"ready":true,"memory":7240000,"memory_limit":268435456,"cpu_micros":1230000},"repairs":2},
            {"namespace":"shop","name":"old","capture":"outboard","proxy":{"ready":false},"drift":"up0 is down\u001b[2J","more":1}]}"#;
        let silent = Node {
            node: "node2".to_owned(),
            error: "the API server says 403 Forbidden".to_owned(),
            ..Node::default()
        };
        let before = node(r#"{"chain":{"trouble":"00-a.conf comes before 00-maille.conflist"}}"#);
        let nodes = Nodes {
            nodes: vec![node(answer), silent, node("{}"), before],
        };
        let text = nodes.table();
        for part in [
            "6.9Mi",
            "256Mi",
            "1.23s",
            "not ready",
            "up0 is down",
            "(the API server",
            "(no pod",
            "(00-a.conf comes before",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains('\u{1b}'), "{text}");
        assert_eq!(nodes.bad(), 3);
    }
}
