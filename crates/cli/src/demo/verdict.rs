// SPDX-License-Identifier: Apache-2.0
//! What a run of the example amounts to: numbers for people and programs, and every reason to call it bad.
//!
//! Must never take a proxy's word for what was protected: that is the witness's. Read `../demo.rs` for where it comes from.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::app::LOAD;
use crate::api::{Edge, Pods, Ref, Stat};
use crate::screen::Screen;
use crate::stat;

/// Everything that was seen of one run.
#[derive(Debug)]
pub(super) struct Evidence {
    /// The load generator's summary.
    pub(super) load: Value,
    pub(super) pods: Pods,
    pub(super) stat: Stat,
    /// Pods that were asked for.
    pub(super) wanted: usize,
    /// Seconds until all were ready.
    pub(super) start_s: f64,
    /// Workloads outside the mesh on purpose.
    pub(super) left_out: Vec<&'static str>,
    /// The witness's report; `None` if there is none, which is a problem of its own.
    pub(super) observer: Option<Value>,
}

/// A run of the demo.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "DemoSummary")]
pub(crate) struct Summary {
    /// Nothing is to be said against it.
    ok: bool,
    /// What is.
    problems: Vec<String>,
    /// Pods that were asked for.
    pods: usize,
    /// Pods that are ready.
    pods_ready: usize,
    /// Seconds until all were.
    ready_s: f64,
    /// Requests that the load generator sent; `null` where it said nothing.
    #[schemars(with = "Option<u64>")]
    requests: Value,
    /// Those without a proper answer.
    #[schemars(with = "Option<u64>")]
    failed: Value,
    /// Requests a second.
    #[schemars(with = "Option<f64>")]
    rps: Value,
    /// Half of them were faster.
    #[schemars(with = "Option<f64>")]
    p50_ms: Value,
    /// 95 % of them were faster.
    #[schemars(with = "Option<f64>")]
    p95_ms: Value,
    /// 99 % of them were faster.
    #[schemars(with = "Option<f64>")]
    p99_ms: Value,
    /// Share of the bytes under mutual TLS, by the proxies' word; `null` without bytes.
    mtls_share: Option<f64>,
    /// What the first different failures said.
    #[schemars(with = "Option<Vec<String>>")]
    errors: Value,
    /// The report of the witness on the wire; `null` where there is none.
    observer: Option<Value>,
    /// Who talked to whom.
    edges: Vec<SummaryEdge>,
}

/// Who talked to whom.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "DemoEdge")]
struct SummaryEdge {
    /// `namespace/name` of the client.
    from: String,
    /// `namespace/name` of the server.
    to: String,
    /// `namespace/name` of the service that was addressed.
    service: Option<String>,
    /// The port that was addressed.
    port: u16,
    /// `http` or `tcp`.
    protocol: String,
    /// `mtls` or `plain`.
    protection: String,
    /// Requests, in all.
    requests: u64,
    /// Of these, failed ones.
    failed: u64,
    /// Requests a second, of late; so are the next three.
    rps: f64,
    /// Half of them were faster.
    p50_ms: Option<f64>,
    /// 95 % of them were faster.
    p95_ms: Option<f64>,
    /// 99 % of them were faster.
    p99_ms: Option<f64>,
    /// Bytes, in all.
    bytes: u64,
    /// Share of these under mutual TLS; `null` without bytes.
    mtls_share: Option<f64>,
    /// Connections, in all.
    connections: u64,
}

/// The outcome.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) json: Value,
    pub(super) problems: Vec<String>,
}

/// One line while it runs.
pub(super) fn progress(stat: &Stat) -> String {
    let requests = requests_of_load(stat);
    let failures: u64 = stat.edges.iter().map(|edge| edge.total.failures).sum();
    format!("{requests} requests, {failures} failures on all edges")
}

/// What the load generator's edges have counted.
pub(super) fn requests_of_load(stat: &Stat) -> u64 {
    let of_load = |end: &Option<Ref>| end.as_ref().is_some_and(|end| end.name == LOAD);
    let edges = stat.edges.iter().filter(|edge| of_load(&edge.from));
    edges.map(|edge| edge.total.requests).sum()
}

impl Evidence {
    /// The summary, and every problem.
    pub(super) fn report(&self) -> Report {
        let problems = self.problems();
        let ready = self.pods.pods.iter().filter(|pod| pod.ready).count();
        let bytes = |of: fn(&Edge) -> u64| self.stat.edges.iter().map(of).sum::<u64>();
        let (all, protected) = (
            bytes(|edge| edge.total.bytes),
            bytes(|edge| edge.total.bytes_protected),
        );
        let load = |key: &str| self.load[key].clone();
        let summary = Summary {
            ok: problems.is_empty(),
            problems: problems.clone(),
            pods: self.wanted,
            pods_ready: ready,
            ready_s: round(self.start_s),
            requests: load("requests"),
            failed: load("failed"),
            rps: load("rps"),
            p50_ms: load("p50_ms"),
            p95_ms: load("p95_ms"),
            p99_ms: load("p99_ms"),
            mtls_share: ratio(protected, all),
            errors: load("errors"),
            observer: self.observer.clone(),
            edges: self.stat.edges.iter().map(summed).collect(),
        };
        // Texts and numbers always have a JSON form.
        let json = serde_json::to_value(summary).unwrap_or_default();
        Report { json, problems }
    }

    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut check = |bad: bool, what: String| {
            if bad {
                problems.push(what);
            }
        };
        let ready = self.pods.pods.iter().filter(|pod| pod.ready).count();
        check(
            ready < self.wanted,
            format!("{ready} of {} pods are ready", self.wanted),
        );
        match (self.load["requests"].as_u64(), self.load["failed"].as_u64()) {
            (Some(0) | None, _) | (_, None) => check(true, "no request was sent".to_owned()),
            (Some(all), Some(failed)) => {
                check(failed > 0, format!("{failed} of {all} requests failed"))
            }
        }
        // Whoever is no pod of the application is the node, whose probes may fail until a pod is ready.
        for edge in self.stat.edges.iter().filter(|edge| edge.from.is_some()) {
            let (failed, (from, to)) = (edge.total.failures, names(edge));
            check(
                failed > 0,
                format!("{failed} requests from {from} to {to} failed"),
            );
        }
        for edge in self
            .stat
            .edges
            .iter()
            .filter(|edge| self.should_be_protected(edge))
        {
            let plain = edge.total.bytes.saturating_sub(edge.total.bytes_protected);
            let (from, to) = names(edge);
            check(
                plain > 0,
                format!("proxies report {plain} unprotected bytes from {from} to {to}"),
            );
        }
        for pod in &self.pods.pods {
            let on_purpose = self.left_out.iter().any(|name| belongs(&pod.name, name));
            check(
                !on_purpose && pod.capture.as_deref() != Some("outboard"),
                format!("{} is not in the mesh", pod.name),
            );
        }
        problems.extend(self.objections());
        problems
    }

    /// What the witness says against it.
    fn objections(&self) -> Vec<String> {
        let Some(observer) = &self.observer else {
            return vec!["the observer left no report".to_owned()];
        };
        let mut objections = Vec::new();
        let count = |key: &str| observer[key].as_u64();
        let zero = [
            (
                "bytes_plain_between_meshed",
                "plain bytes between meshed pods",
            ),
            (
                "marker_hits_between_meshed",
                "markers readable between meshed pods",
            ),
            ("frames_dropped", "frames that the observer lost"),
            ("gaps", "gaps in what the observer saw"),
        ];
        for (key, what) in zero {
            match count(key) {
                Some(0) => {}
                Some(number) => objections.push(format!("observer: {number} {what}")),
                None => objections.push(format!("observer: does not say {key}")),
            }
        }
        if count("bytes_tls").unwrap_or(0) == 0 {
            objections.push("observer: saw no TLS at all".to_owned());
        }
        for violation in observer["violations"]
            .as_array()
            .into_iter()
            .flatten()
            .take(8)
        {
            objections.push(format!("observer: {violation}"));
        }
        objections
    }

    fn should_be_protected(&self, edge: &Edge) -> bool {
        let inside = |end: &Option<Ref>| {
            end.as_ref()
                .is_some_and(|end| !self.left_out.contains(&end.name.as_str()))
        };
        inside(&edge.from) && inside(&edge.to)
    }

    /// For people.
    pub(super) fn text(&self, report: &Report, screen: Screen) -> String {
        let number = |key: &str| report.json[key].as_f64().unwrap_or(0.0);
        let seen = |key: &str| {
            let value = self
                .observer
                .as_ref()
                .and_then(|observer| observer[key].as_u64());
            value.map_or_else(|| "?".to_owned(), |value| value.to_string())
        };
        let mut text = stat::edges(&self.stat.edges, screen);
        text.push_str(&format!(
            "\n{} requests, {} failed, {:.1} rps, p50 {:.1} ms, p99 {:.1} ms; {:.1}% of all bytes under mTLS\n",
            number("requests"),
            number("failed"),
            number("rps"),
            number("p50_ms"),
            number("p99_ms"),
            number("mtls_share") * 100.0,
        ));
        text.push_str(&format!(
            "observer on the wire: {} bytes of TLS; between meshed pods {} plain bytes, {} markers; {} frames lost, {} gaps\n",
            seen("bytes_tls"),
            seen("bytes_plain_between_meshed"),
            seen("marker_hits_between_meshed"),
            seen("frames_dropped"),
            seen("gaps"),
        ));
        text
    }
}

fn summed(edge: &Edge) -> SummaryEdge {
    let (from, to) = names(edge);
    let window = &edge.window;
    SummaryEdge {
        from,
        to,
        service: edge.service.clone(),
        port: edge.port,
        protocol: edge.protocol.clone(),
        protection: edge.protection.clone(),
        requests: edge.total.requests,
        failed: edge.total.failures,
        rps: window.rps,
        p50_ms: window.p50_ms,
        p95_ms: window.p95_ms,
        p99_ms: window.p99_ms,
        bytes: edge.total.bytes,
        mtls_share: ratio(edge.total.bytes_protected, edge.total.bytes),
        connections: edge.total.connections,
    }
}

fn names(edge: &Edge) -> (String, String) {
    let to = stat::end(edge.to.as_ref(), edge.service.as_deref());
    (stat::end(edge.from.as_ref(), None), to)
}

/// Whether a pod's name was made from a workload's: `legacy-5d4f-x1` from `legacy`.
fn belongs(pod: &str, workload: &str) -> bool {
    pod.strip_prefix(workload)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

fn round(seconds: f64) -> f64 {
    (seconds * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests;
