// SPDX-License-Identifier: Apache-2.0
//! What an agent says of each pod that it has captured: whether its proxy is ready, what that uses and may use, and whether somebody
//! changed the capture; and of its node's CNI files. Counted for Prometheus, and as one document for `maille node` and `maille check`.
//!
//! Whoever reaches the node may read it: it must never hold more than names and numbers.

use std::time::Duration;

use maille_chassis::metrics::{Labels, Metric, Text};
use serde::Serialize;

use super::host::{HostError, Placed};

const POD: &[&str] = &["namespace", "pod"];

/// Whether its proxy is ready.
pub(super) const READY: Metric = Metric::gauge(
    "maille_node_proxy_ready",
    POD,
    "1 where the proxy of a captured pod is ready",
);
/// Memory.
pub(super) const MEMORY: Metric = Metric::gauge(
    "maille_node_proxy_memory_bytes",
    POD,
    "Memory that the proxy of a captured pod uses, the kernel's for it among it, by its control group",
);
/// Its limit.
pub(super) const MEMORY_LIMIT: Metric = Metric::gauge(
    "maille_node_proxy_memory_limit_bytes",
    POD,
    "Memory that it may use",
);
/// Processor time.
pub(super) const CPU: Metric = Metric::counter(
    "maille_node_proxy_cpu_seconds_total",
    POD,
    "Processor time that it used",
);
/// Whether something is not as it was.
pub(super) const DRIFT: Metric = Metric::gauge(
    "maille_node_pod_drift",
    POD,
    "1 where a pod was not captured as it was when it was looked at last, and that was not mended",
);
/// How often something was not.
pub(super) const MENDED: Metric = Metric::counter(
    "maille_node_pod_repairs_total",
    POD,
    "How often a pod was not captured as it was, and that was mended",
);

/// One pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Seen {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) uid: String,
    /// How it is captured.
    pub(super) capture: &'static str,
    /// The interface that is.
    pub(super) interface: String,
    pub(super) proxy: Using,
    /// What is not as it was and could not be mended; empty where everything is.
    pub(super) drift: String,
    /// How often something was mended.
    pub(super) repairs: u64,
    /// What that was last; empty where nothing ever was.
    pub(super) repaired: String,
}

/// The node's CNI files, as they were looked at last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Chain {
    /// Why no pod of the mesh would be captured; empty where they are in order.
    trouble: String,
    /// The plugins that the runtime calls for a pod, in order.
    plugins: Vec<String>,
    /// Those that somebody put behind ours when that was mended last.
    behind: Vec<String>,
    /// How often a file was written anew, since this agent had them in order first.
    repairs: u64,
    /// The agent leaves them alone.
    alone: bool,
    #[serde(skip)]
    is_in_order: bool,
}

/// A pod's proxy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Using {
    /// Not said of one that is in the pod.
    pub(super) ready: Option<bool>,
    /// Bytes, by its control group.
    pub(super) memory: Option<u64>,
    pub(super) memory_limit: Option<u64>,
    pub(super) cpu_micros: Option<u64>,
    /// Thousandths of a processor.
    pub(super) cpu_limit_millis: Option<u64>,
}

/// The samples of all pods.
pub(super) fn write(text: &mut Text, pods: &[Seen]) {
    let mut family = |metric: &Metric, value: &dyn Fn(&Seen) -> Option<String>| {
        text.family(metric);
        for pod in pods {
            let labels = Labels::new()
                .with("namespace", &pod.namespace)
                .with("pod", &pod.name);
            if let Some(value) = value(pod) {
                text.sample(metric, &labels, value);
            }
        }
    };
    let flag = |is: bool| Some(u8::from(is).to_string());
    let number = |value: Option<u64>| value.map(|value| value.to_string());
    family(&READY, &|pod| flag(pod.proxy.ready?));
    family(&MEMORY, &|pod| number(pod.proxy.memory));
    family(&MEMORY_LIMIT, &|pod| number(pod.proxy.memory_limit));
    family(&CPU, &|pod| {
        let time = Duration::from_micros(pod.proxy.cpu_micros?);
        Some(time.as_secs_f64().to_string())
    });
    family(&DRIFT, &|pod| flag(!pod.drift.is_empty()));
    family(&MENDED, &|pod| number(Some(pod.repairs)));
}

/// What `GET /pods` answers.
pub(super) fn document(pods: &[Seen], guarantee: &str, chain: &Chain) -> String {
    serde_json::json!({"guarantee": guarantee, "chain": chain, "pods": pods}).to_string()
}

// === impl Chain ===

impl Chain {
    /// They were looked at.
    pub(super) fn look(&mut self, came_to: &Result<Placed, HostError>) {
        match came_to {
            Ok(placed) => {
                self.trouble.clear();
                self.plugins.clone_from(&placed.plugins);
                self.alone = placed.alone;
                if !placed.behind.is_empty() {
                    self.behind.clone_from(&placed.behind);
                }
                self.repairs += u64::from(self.is_in_order && !placed.written.is_empty());
                self.is_in_order = true;
            }
            Err(error) => self.trouble = reasons(error),
        }
    }
}

/// An error, and what it comes from.
fn reasons(error: &HostError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_does_to_the_files_is_remembered() {
        let placed = |written: &[&str], behind: &[&str]| {
            let all = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
            Ok(Placed {
                written: all(written),
                plugins: all(&["ptp", "maille-cni"]),
                behind: all(behind),
                alone: false,
            })
        };
        let mut chain = Chain::default();
        chain.look(&Err(HostError::NoNetwork("/etc/cni/net.d".to_owned())));
        assert!(chain.trouble.contains("/etc/cni/net.d"));
        chain.look(&placed(&["a", "b"], &[]));
        assert!(chain.trouble.is_empty() && chain.repairs == 0, "{chain:?}");
        chain.look(&placed(&["b"], &["other-cni"]));
        chain.look(&placed(&[], &[]));
        let said = document(&[], "asked", &chain);
        for part in [
            r#""behind":["other-cni"]"#,
            r#""repairs":1"#,
            r#""trouble":"""#,
            r#""plugins":["ptp","maille-cni"]"#,
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
    }

    #[test]
    fn each_pod_is_said_by_its_name() {
        let pod = Seen {
            namespace: "shop".to_owned(),
            name: "web-1".to_owned(),
            proxy: Using {
                ready: Some(true),
                memory: Some(4096),
                cpu_micros: Some(1_500_000),
                ..Using::default()
            },
            repairs: 2,
            ..Seen::default()
        };
        let mut text = Text::default();
        write(&mut text, std::slice::from_ref(&pod));
        let text = text.into_string();
        for line in [
            "maille_node_proxy_ready{namespace=\"shop\",pod=\"web-1\"} 1",
            "maille_node_proxy_memory_bytes{namespace=\"shop\",pod=\"web-1\"} 4096",
            "maille_node_proxy_cpu_seconds_total{namespace=\"shop\",pod=\"web-1\"} 1.5",
            "maille_node_pod_drift{namespace=\"shop\",pod=\"web-1\"} 0",
            "maille_node_pod_repairs_total{namespace=\"shop\",pod=\"web-1\"} 2",
        ] {
            assert!(text.lines().any(|one| one == line), "{line}: {text}");
        }
        assert!(
            !text.contains("maille_node_proxy_memory_limit_bytes{"),
            "{text}"
        );
        let document = document(&[pod], "required", &Chain::default());
        assert!(document.contains("\"name\":\"web-1\""), "{document}");
    }
}
