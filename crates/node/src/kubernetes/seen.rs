// SPDX-License-Identifier: Apache-2.0
//! What an agent says of each pod that it has captured: whether its proxy is ready, what that uses and may use, and whether somebody
//! changed the capture. Counted for Prometheus, and as one document for `maille node`.
//!
//! Whoever reaches the node may read it: it must never hold more than names and numbers.

use std::time::Duration;

use maille_chassis::metrics::{Labels, Metric, Text};
use serde::Serialize;

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
pub(super) fn document(pods: &[Seen], guarantee: &str) -> String {
    serde_json::json!({"guarantee": guarantee, "pods": pods}).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let document = document(&[pod], "required");
        assert!(document.contains("\"name\":\"web-1\""), "{document}");
    }
}
