// SPDX-License-Identifier: Apache-2.0
//! What the agents of nodes say of themselves: whether each answers, whether the runtime calls the mesh's plugin, and last, and how sure
//! it is that no pod of the mesh begins uncaptured. Pure but for the question. Read `docs/cni.md` for what keeps pods from that.

use futures_util::{StreamExt as _, stream};
use serde_json::Value;

use super::judge::Line;
use crate::cluster::Cluster;
use crate::nodes::{self, Node};
use crate::text::clean;

/// Agents that are asked at a time.
const AT_A_TIME: usize = 16;
/// Repairs of CNI files from which on somebody changes them again and again.
const MANY: u64 = 3;

/// Asks the agents among the mesh's pods; without agents there is nothing to say.
pub(super) async fn look(cluster: &Cluster, pods: &[Value], mesh: &str) -> Vec<Line> {
    let agents = pods.iter().filter(|pod| {
        pod["metadata"]["namespace"] == mesh
            && pod["metadata"]["labels"]["app.kubernetes.io/component"] == "node"
    });
    let asked = agents.map(|pod| nodes::ask(cluster, mesh, pod));
    let asked: Vec<_> = stream::iter(asked).buffered(AT_A_TIME).collect().await;
    if asked.is_empty() {
        return Vec::new();
    }
    judge(&asked)
}

fn judge(all: &[Node]) -> Vec<Line> {
    let silent = all.iter().filter(|node| !node.error.is_empty());
    let silent: Vec<_> = silent
        .map(|node| {
            format!(
                "that of {} does not ({})",
                clean(&node.node),
                clean(&node.error)
            )
        })
        .collect();
    let answered = || all.iter().filter(|node| node.error.is_empty());
    let weak: Vec<_> = answered().filter_map(weaker).collect();
    let troubles = answered().filter(|node| !node.chain.trouble.is_empty());
    let troubles: Vec<_> = troubles
        .map(|node| format!("{}: {}", node.node, node.chain.trouble))
        .collect();
    let alone = answered().filter(|node| node.chain.alone);
    let alone: Vec<_> = alone
        .map(|node| {
            format!(
                "{}: only for pods that name it as a network of theirs",
                node.node
            )
        })
        .collect();
    let called = "every node's runtime calls the mesh's CNI plugin";
    let called = match (&*alone, &*troubles) {
        ([_, ..], []) => Line::warned(
            "nodes",
            called,
            &alone,
            "the mesh was installed with --no-chain: a pod of the mesh that names no such network is refused by the runtime, where that asks \
             the agent (docs/cni.md)",
        ),
        _ => Line::new(
            "nodes",
            called,
            &troubles,
            "the runtime takes the first file of /etc/cni/net.d by name, and that must be 00-maille.conflist: rename or remove what comes \
             before it; the agent writes its own as soon as a network's is there (docs/cni.md)",
        ),
    };
    let contested: Vec<_> = answered().filter_map(contested).collect();
    vec![
        Line::new(
            "nodes",
            "every node's agent answers",
            &silent,
            "see `kubectl -n maille-system get pods -o wide` and `kubectl -n maille-system logs daemonset/maille-node`; asking takes the right \
             to get pods/proxy there",
        ),
        called,
        Line::warned(
            "nodes",
            "nobody changes the mesh's CNI configuration",
            &contested,
            "have the other plugin chained into its network's own file, not into 00-maille.conflist, or take it away: the agent writes its \
             file anew every four seconds, with its plugin last, and a pod that is made meanwhile gets the other's order",
        ),
        Line::warned(
            "nodes",
            "no pod of the mesh begins uncaptured, also while a node's agent is away",
            &weak,
            "switch on the default validator of the runtime's NRI (docs/cni.md): until then such a pod may begin outside the mesh, and is made \
             anew when the agent comes",
        ),
    ]
}

/// Why a node is less sure than it could be.
fn weaker(node: &Node) -> Option<String> {
    let why = match node.guarantee.as_str() {
        "required" => return None,
        "unknown" => "not known until a container begins there",
        "asked" => "the runtime does not require the agent while it is away",
        _ => "the runtime does not ask the agent",
    };
    Some(format!("{}: {why}", node.node))
}

/// Who changes a node's CNI files.
fn contested(node: &Node) -> Option<String> {
    let (chain, name) = (&node.chain, &node.node);
    if !chain.behind.is_empty() {
        let others = chain.behind.join(", ");
        return Some(format!("{name}: somebody put {others} behind maille-cni"));
    }
    let times = chain.repairs;
    (times >= MANY).then(|| format!("{name}: they were written anew {times} times"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nodes::Chain;

    fn said(node: &str, guarantee: &str) -> Node {
        Node {
            node: node.to_owned(),
            guarantee: guarantee.to_owned(),
            ..Node::default()
        }
    }

    fn checks(all: &[Node]) -> Vec<crate::api::Check> {
        judge(all).into_iter().map(Line::check).collect()
    }

    #[test]
    fn a_weaker_guarantee_is_said_and_no_failure() {
        let good = checks(&[said("a", "required"), said("b", "required")]);
        assert!(
            good.iter().all(|one| one.ok && one.hint.is_none()),
            "{good:?}"
        );
        let silent = Node {
            node: "e".to_owned(),
            error: "the API server says 503".to_owned(),
            ..Node::default()
        };
        let mixed = checks(&[
            said("a", "required"),
            said("b", "asked"),
            said("c", "plugin"),
            said("d", "unknown"),
            silent,
        ]);
        assert!(!mixed[0].ok && mixed[0].message.as_ref().unwrap().contains("of e"));
        assert!(mixed[3].ok && mixed[3].hint.is_some());
        let weaker = mixed[3].message.as_ref().unwrap();
        for text in [
            "b: the runtime does not require",
            "c: the runtime does not ask",
            "d: not known",
        ] {
            assert!(weaker.contains(text), "{weaker}");
        }
        assert!(!weaker.contains("e:"), "{weaker}");
    }

    #[test]
    fn a_plugin_that_is_not_called_or_not_last_is_said() {
        let of = |chain: Chain| {
            let node = Node {
                chain,
                ..said("a", "required")
            };
            let all = checks(&[node]);
            [all[1].clone(), all[2].clone()]
        };
        let [called, alone] = of(Chain {
            trouble: "00-a.conf comes before 00-maille.conflist".to_owned(),
            ..Chain::default()
        });
        assert!(!called.ok && alone.hint.is_none());
        assert!(called.message.unwrap().contains("a: 00-a.conf comes"));
        assert!(called.hint.unwrap().contains("rename or remove"));
        let [called, _] = of(Chain {
            alone: true,
            ..Chain::default()
        });
        assert!(called.ok && called.hint.unwrap().contains("--no-chain"));
        let [called, alone] = of(Chain {
            behind: vec!["istio-cni".to_owned()],
            repairs: 1,
            ..Chain::default()
        });
        assert!(called.ok && alone.ok && alone.hint.is_some());
        assert!(
            alone
                .message
                .unwrap()
                .contains("istio-cni behind maille-cni")
        );
        let repaired = |repairs| {
            of(Chain {
                repairs,
                ..Chain::default()
            })[1]
                .hint
                .is_some()
        };
        assert!(!repaired(1) && repaired(3));
    }
}
