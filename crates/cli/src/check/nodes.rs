// SPDX-License-Identifier: Apache-2.0
//! What the agents of nodes say of themselves: whether each answers, and how sure it is that no pod of the mesh begins uncaptured.
//!
//! They are asked by way of the API server, at the port where they are counted. Must never ask without a bound. Read `docs/cni.md` for
//! what keeps pods from beginning uncaptured.

use futures_util::{StreamExt as _, stream};
use maille_inject::install::NODE_PORT;
use serde_json::Value;

use super::judge::Line;
use crate::cluster::Cluster;
use crate::failure::Expected;
use crate::shapes::text;
use crate::text::clean;

/// Agents that are asked at a time.
const AT_A_TIME: usize = 16;
/// What an agent says how sure it is by.
const GUARANTEE: &str = "maille_node_guarantee{level=\"";

/// An agent, and what it says; nothing where it does not answer.
struct Said {
    node: String,
    metrics: Option<String>,
}

/// Asks the agents among the mesh's pods; without agents there is nothing to say.
pub(super) async fn look(cluster: &Cluster, pods: &[Value], mesh: &str) -> Vec<Line> {
    let agents = pods.iter().filter(|pod| {
        pod["metadata"]["namespace"] == mesh
            && pod["metadata"]["labels"]["app.kubernetes.io/component"] == "node"
    });
    let ask = async |pod: &Value| {
        let name = text(pod, "/metadata/name");
        let path = format!("/api/v1/namespaces/{mesh}/pods/{name}:{NODE_PORT}/proxy/metrics");
        let said: Result<_, Expected> = cluster.ask(&path).await;
        let good = said.ok().filter(|(status, _)| status.is_success());
        Said {
            node: text(pod, "/spec/nodeName").to_owned(),
            metrics: good.map(|(_, body)| String::from_utf8_lossy(&body).into_owned()),
        }
    };
    let asked: Vec<_> = stream::iter(agents.map(ask))
        .buffered(AT_A_TIME)
        .collect()
        .await;
    if asked.is_empty() {
        return Vec::new();
    }
    judge(&asked)
}

fn judge(all: &[Said]) -> Vec<Line> {
    let (mut silent, mut weak) = (Vec::new(), Vec::new());
    for said in all {
        let node = clean(&said.node);
        let Some(metrics) = &said.metrics else {
            silent.push(format!("that of {node} does not"));
            continue;
        };
        match level(metrics) {
            Some("required") => {}
            Some("unknown") => {
                weak.push(format!("{node}: not known until a container begins there"))
            }
            Some("asked") => {
                weak.push(format!(
                    "{node}: the runtime does not require the agent while it is away"
                ));
            }
            _ => weak.push(format!("{node}: the runtime does not ask the agent")),
        }
    }
    vec![
        Line::new(
            "nodes",
            "every node's agent answers",
            &silent,
            "see `kubectl -n maille-system get pods -o wide` and `kubectl -n maille-system logs daemonset/maille-node`; asking takes the right \
             to get pods/proxy there",
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

/// How sure an agent is.
fn level(metrics: &str) -> Option<&str> {
    let lines = metrics
        .lines()
        .filter_map(|line| line.strip_prefix(GUARANTEE));
    let mut levels = lines.filter_map(|line| line.strip_suffix("\"} 1"));
    levels.next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(node: &str, level: Option<&str>) -> Said {
        let one = |level| {
            format!(
                "# TYPE maille_node_guarantee gauge\n{GUARANTEE}other\"}} 0\n{GUARANTEE}{level}\"}} 1\n"
            )
        };
        Said {
            node: node.to_owned(),
            metrics: level.map(one),
        }
    }

    #[test]
    fn a_weaker_guarantee_is_said_and_no_failure() {
        let checks = |all: &[Said]| -> Vec<_> { judge(all).into_iter().map(Line::check).collect() };
        let good = checks(&[said("a", Some("required")), said("b", Some("required"))]);
        assert!(
            good.iter().all(|one| one.ok && one.hint.is_none()),
            "{good:?}"
        );
        let mixed = checks(&[
            said("a", Some("required")),
            said("b", Some("asked")),
            said("c", Some("plugin")),
            said("d", Some("unknown")),
            said("e", None),
        ]);
        assert!(!mixed[0].ok && mixed[0].message.as_ref().unwrap().contains("of e"));
        assert!(mixed[1].ok && mixed[1].hint.is_some());
        let weaker = mixed[1].message.as_ref().unwrap();
        for text in [
            "b: the runtime does not require",
            "c: the runtime does not ask",
            "d: not known",
        ] {
            assert!(weaker.contains(text), "{weaker}");
        }
    }
}
