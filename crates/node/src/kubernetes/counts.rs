// SPDX-License-Identifier: Apache-2.0
//! Every metric of a node's agent, declared once, and what it counts. `docs/reference/metrics-node.md` is made of this file.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use maille_chassis::metrics::{Labels, Metric, Text};

use super::seen::{self, Seen};

/// What is captured.
const PODS: Metric = Metric::gauge(
    "maille_node_captured_pods",
    &[],
    "Pods of this node that are captured now",
);
/// What was refused.
const REFUSALS: Metric = Metric::counter(
    "maille_node_refusals_total",
    &["by"],
    "Pods that did not begin because they were not captured: refused to the CNI plugin (`plugin`), or to the runtime (`runtime`)",
);
/// What was mended.
const REPAIRS: Metric = Metric::counter(
    "maille_node_repairs_total",
    &["what"],
    "What was put in order again: the rules of a pod's capture (`capture`), the node's CNI files (`files`), a sandbox that began uncaptured and was \
     made anew (`sandbox`)",
);
/// How sure it is.
const GUARANTEE: Metric = Metric::gauge(
    "maille_node_guarantee",
    &["level"],
    "1 for what keeps a pod of the mesh from beginning uncaptured: the CNI plugin alone (`plugin`), the runtime's questions too (`asked`), and \
     also while there is no agent (`required`); `unknown` until the first container of the node begins after the agent",
);
/// What the plugin asked for.
const CALLS: Metric = Metric::counter(
    "maille_node_calls_total",
    &["call"],
    "Questions of the CNI plugin that were answered: `add` and `del`",
);
/// How long it took.
const SECONDS: Metric = Metric::counter(
    "maille_node_call_seconds_total",
    &["call"],
    "How long those took, together",
);

/// All of them, in the order in which they are written.
pub const ALL: [Metric; 12] = [
    PODS,
    REFUSALS,
    REPAIRS,
    GUARANTEE,
    CALLS,
    SECONDS,
    seen::READY,
    seen::MEMORY,
    seen::MEMORY_LIMIT,
    seen::CPU,
    seen::DRIFT,
    seen::MENDED,
];

/// What stands between a pod that is meant for the mesh and its begin outside of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Guarantee {
    /// The CNI plugin alone: the runtime does not ask this agent.
    Plugin,
    /// The runtime asks this agent too, as long as it is there.
    Asked,
    /// It asks, and whether it requires this agent shows when something begins.
    Unknown,
    /// The same, and while there is no agent no container of the mesh begins.
    Required,
}

/// What happened since this agent began.
#[derive(Debug, Default)]
pub(super) struct Counts {
    plugin: AtomicU64,
    runtime: AtomicU64,
    captures: AtomicU64,
    files: AtomicU64,
    sandboxes: AtomicU64,
    add: Calls,
    del: Calls,
}

/// How often something was asked for, and for how long.
#[derive(Debug, Default)]
pub(super) struct Calls {
    count: AtomicU64,
    micros: AtomicU64,
}

// === impl Guarantee ===

impl Guarantee {
    /// In a word, for metrics.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Plugin => "plugin",
            Self::Asked => "asked",
            Self::Unknown => "unknown",
            Self::Required => "required",
        }
    }
}

// === impl Counts ===

impl Counts {
    /// The CNI plugin was refused.
    pub(super) fn refused_plugin(&self) {
        self.plugin.fetch_add(1, Ordering::Relaxed);
    }

    /// The runtime was refused.
    pub(super) fn refused_runtime(&self) {
        self.runtime.fetch_add(1, Ordering::Relaxed);
    }

    /// A capture was mended.
    pub(super) fn mended(&self) {
        self.captures.fetch_add(1, Ordering::Relaxed);
    }

    /// A file of the node was written again.
    pub(super) fn written(&self) {
        self.files.fetch_add(1, Ordering::Relaxed);
    }

    /// A sandbox was ended.
    pub(super) fn ended(&self) {
        self.sandboxes.fetch_add(1, Ordering::Relaxed);
    }

    /// The plugin was answered when a pod began, after this time.
    pub(super) fn added(&self, took: Duration) {
        self.add.answered(took);
    }

    /// The same when one ended.
    pub(super) fn deleted(&self, took: Duration) {
        self.del.answered(took);
    }

    /// As Prometheus has it.
    pub(super) fn text(&self, pods: &[Seen], guarantee: Guarantee) -> String {
        let mut text = Text::default();
        text.single(&PODS, pods.len());
        let label = |name: &str, value: &str| Labels::new().with(name, value);
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        text.family(&REFUSALS);
        for (by, counter) in [("plugin", &self.plugin), ("runtime", &self.runtime)] {
            text.sample(&REFUSALS, &label("by", by), read(counter));
        }
        text.family(&REPAIRS);
        for (what, counter) in [
            ("capture", &self.captures),
            ("files", &self.files),
            ("sandbox", &self.sandboxes),
        ] {
            text.sample(&REPAIRS, &label("what", what), read(counter));
        }
        text.family(&GUARANTEE);
        for level in [
            Guarantee::Plugin,
            Guarantee::Unknown,
            Guarantee::Asked,
            Guarantee::Required,
        ] {
            let is = u8::from(level == guarantee);
            text.sample(&GUARANTEE, &label("level", level.word()), is);
        }
        let calls = [("add", &self.add), ("del", &self.del)];
        text.family(&CALLS);
        for (call, calls) in calls {
            text.sample(&CALLS, &label("call", call), read(&calls.count));
        }
        text.family(&SECONDS);
        for (call, calls) in calls {
            let seconds = Duration::from_micros(read(&calls.micros)).as_secs_f64();
            text.sample(&SECONDS, &label("call", call), seconds);
        }
        seen::write(&mut text, pods);
        text.into_string()
    }
}

// === impl Calls ===

impl Calls {
    fn answered(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.count.fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use maille_chassis::metrics::reference;

    use super::*;

    const BEFORE: &str = "# Metrics of a node's agent

Made from `crates/node/src/kubernetes/counts.rs`; `MAILLE_WRITE_REFERENCE=1 cargo test -p maille-node reference` writes it anew.

An agent answers `GET /metrics` in Prometheus text at port 15020 of its node.

";

    #[test]
    fn the_reference_is_of_these_declarations() {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/metrics-node.md");
        let text = format!("{BEFORE}{}", reference(&ALL));
        if std::env::var_os("MAILLE_WRITE_REFERENCE").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    }

    #[test]
    fn what_happened_can_be_read() {
        let counts = Counts::default();
        counts.refused_runtime();
        counts.written();
        counts.written();
        counts.added(Duration::from_millis(30));
        counts.added(Duration::from_millis(20));
        let text = counts.text(&vec![Seen::default(); 3], Guarantee::Asked);
        for line in [
            "maille_node_captured_pods 3",
            "maille_node_refusals_total{by=\"runtime\"} 1",
            "maille_node_refusals_total{by=\"plugin\"} 0",
            "maille_node_repairs_total{what=\"files\"} 2",
            "maille_node_guarantee{level=\"asked\"} 1",
            "maille_node_calls_total{call=\"add\"} 2",
            "maille_node_call_seconds_total{call=\"add\"} 0.05",
            "maille_node_call_seconds_total{call=\"del\"} 0",
            "maille_node_guarantee{level=\"required\"} 0",
        ] {
            assert!(text.lines().any(|one| one == line), "{line}: {text}");
        }
    }
}
