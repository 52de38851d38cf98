// SPDX-License-Identifier: Apache-2.0
//! The answer of `GET /v1/stat`: edges and workloads over the last seconds. Pure.
//!
//! Each edge is told once: by its source where that has a proxy, else by its destination. Nothing here is kept.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use super::{Counters, Direction, EdgeKey, Spoken, Stats, Sum, Who};
use crate::index::{Index, Pod};
use maille_model::Membership;

/// `GET /v1/stat`.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Stat {
    /// Seconds that `window` fields cover: as asked for, or less when reports are younger.
    pub window_s: u64,
    /// Who talks to whom.
    pub edges: Vec<EdgeRow>,
    /// Everybody that control knows, meshed or not.
    pub workloads: Vec<WorkloadRow>,
    /// Replicas of control that did not answer: what their proxies counted is missing.
    pub missing: Vec<String>,
}

/// One end of an edge.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[schemars(rename = "EdgeEnd")]
pub struct Ref {
    /// Its namespace.
    pub namespace: String,
    /// `Deployment`, `Pod`, ...
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Whether it has proxies.
    pub meshed: bool,
}

/// One edge.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct EdgeRow {
    /// Who opened the connections; `null`: nobody that control knows.
    pub from: Option<Ref>,
    /// Who took them; `null`: nobody that control knows.
    pub to: Option<Ref>,
    /// What an end that is `null` is: `outside` (a machine, the node itself, another network).
    pub class: Option<&'static str>,
    /// `namespace/name` of the service that was addressed.
    pub service: Option<String>,
    /// The port that was addressed.
    pub port: u16,
    /// `http` or `tcp`.
    pub protocol: &'static str,
    /// `mtls` or `plain`.
    pub protection: &'static str,
    /// Since control started.
    pub total: TotalRow,
    /// In the window.
    pub window: WindowRow,
    /// Failure flag -> count, since control started.
    pub flags: BTreeMap<&'static str, u64>,
}

/// Counts since control started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct TotalRow {
    /// HTTP requests that ended.
    pub requests: u64,
    /// Of these, failed ones.
    pub failures: u64,
    /// Payload bytes, both ways.
    pub bytes: u64,
    /// Of these, under mutual TLS.
    pub bytes_protected: u64,
    /// Connections opened.
    pub connections: u64,
}

/// Counts of a window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct WindowRow {
    /// HTTP requests that ended.
    pub requests: u64,
    /// Of these, failed ones.
    pub failures: u64,
    /// 0 to 1; `null` without requests.
    pub success_rate: Option<f64>,
    /// Requests a second.
    pub rps: f64,
    /// Half of the requests were faster; `null` without requests.
    pub p50_ms: Option<f64>,
    /// 95 % of the requests were faster.
    pub p95_ms: Option<f64>,
    /// 99 % of the requests were faster.
    pub p99_ms: Option<f64>,
    /// Payload bytes, both ways.
    pub bytes: u64,
    /// Of these, under mutual TLS.
    pub bytes_protected: u64,
    /// Open at the end.
    pub connections_open: u64,
}

/// One workload: an owner and its pods.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct WorkloadRow {
    /// Its namespace.
    pub namespace: String,
    /// `Deployment`, `Pod`, ...
    pub kind: String,
    /// Its name.
    pub name: String,
    /// How many pods it has.
    pub pods: PodsRow,
    /// What it was sent.
    pub inbound: WindowRow,
    /// Share of those bytes under mutual TLS; `null` without bytes.
    pub mtls_share: Option<f64>,
    /// TCP connections open to it.
    pub tcp_connections: u64,
}

/// Pods of a workload that are not finished.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PodsRow {
    /// In the mesh.
    pub meshed: u64,
    /// In all.
    pub total: u64,
    /// Taking connections.
    pub ready: u64,
}

/// What edges are told apart by.
type EdgeId<'a> = (Option<&'a Who>, Option<&'a Who>, EdgeFacts);
type EdgeFacts = (Option<String>, u16, Spoken, bool);
/// A workload, its pods meshed or not.
type Owner<'a> = (&'a str, &'a str, &'a str);

#[derive(Default)]
struct Tally {
    total: Counters,
    sum: Sum,
    flags: BTreeMap<&'static str, u64>,
}

#[derive(Default)]
struct Received {
    pods: PodsRow,
    told: bool,
    inbound: Sum,
    tcp: Sum,
}

// === impl PodsRow ===

impl PodsRow {
    /// One more.
    pub(super) fn count(&mut self, pod: &Pod) {
        self.total += 1;
        self.meshed += u64::from(pod.workload.membership == Membership::Meshed);
        self.ready += u64::from(pod.takes_connections());
    }
}

// === impl Who ===

impl Who {
    /// What `pod` is counted under.
    pub fn of(pod: &Pod) -> Self {
        let workload = &pod.workload;
        let owner = workload.owner.as_ref();
        Self {
            namespace: workload.namespace.clone(),
            kind: owner.map_or_else(|| "Pod".to_owned(), |owner| owner.kind.clone()),
            name: owner.map_or_else(|| workload.name.clone(), |owner| owner.name.clone()),
            meshed: workload.membership == Membership::Meshed,
        }
    }

    fn id(&self) -> Owner<'_> {
        (self.namespace.as_str(), &self.kind, self.name.as_str())
    }

    fn to_ref(&self) -> Ref {
        Ref {
            namespace: self.namespace.to_string(),
            kind: self.kind.clone(),
            name: self.name.to_string(),
            meshed: self.meshed,
        }
    }
}

// === impl Stats ===

impl Stats {
    /// The last `window` seconds before `second`, of what `index` knows.
    pub fn view(&self, index: &Index, second: u64, window: u64) -> Stat {
        let (since, window) = self.stretch(second, window);
        let edges = self.tally(since);
        let whos: Vec<(Who, &Pod)> = index.pods().map(|pod| (Who::of(pod), pod)).collect();
        let mut received: BTreeMap<Owner<'_>, Received> = BTreeMap::new();
        for (who, pod) in whos.iter().filter(|(_, pod)| pod.owns_addresses()) {
            received.entry(who.id()).or_default().pods.count(pod);
        }
        self.receive(since, &edges, &mut received);
        Stat {
            window_s: window,
            edges: edges
                .iter()
                .map(|(id, tally)| edge_row(id, tally, window))
                .collect(),
            workloads: received
                .iter()
                .map(|(id, received)| workload_row(id, received, window))
                .collect(),
            missing: Vec::new(),
        }
    }

    /// The first second of a window, and how long it is: not longer than there are reports.
    pub(super) fn stretch(&self, second: u64, window: u64) -> (u64, u64) {
        let first = self.reporters.values().map(|r| r.first).min();
        let age = second.saturating_sub(first.unwrap_or(second)) + 1;
        let window = window.clamp(1, super::KEPT_SECONDS).min(age);
        ((second + 1).saturating_sub(window), window)
    }

    fn told(&self) -> impl Iterator<Item = (&super::Reporter, &EdgeKey, &super::Edge)> {
        let reporters = self.reporters.values();
        reporters.flat_map(|r| r.edges.iter().map(move |(key, edge)| (r, key, edge)))
    }

    /// Every edge once, by owners.
    fn tally(&self, since: u64) -> BTreeMap<EdgeId<'_>, Tally> {
        let mut edges: BTreeMap<EdgeId<'_>, Tally> = BTreeMap::new();
        for (reporter, key, edge) in self.told() {
            let (me, peer) = (Some(&*reporter.who), key.peer.as_deref());
            let (from, to) = match key.direction {
                Direction::Outbound => (me, peer),
                // The source has a proxy, which tells it: whoever speaks mutual TLS has one, known here or not.
                Direction::Inbound if key.protected || peer.is_some_and(|peer| peer.meshed) => {
                    continue;
                }
                Direction::Inbound => (peer, me),
            };
            let service = key.service.as_ref().map(ToString::to_string);
            let facts = (service, key.port, key.spoken, key.protected);
            let tally = edges.entry((from, to, facts)).or_default();
            tally.total.add(edge.series.total());
            edge.series.sum_since(since, key.protected, &mut tally.sum);
            for (flag, count) in &edge.flags {
                let total = tally.flags.entry(flag).or_default();
                *total = total.saturating_add(*count);
            }
        }
        edges
    }

    /// What workloads were sent: by their own word where they have proxies, else by that of their meshed clients.
    fn receive<'a>(
        &'a self,
        since: u64,
        edges: &BTreeMap<EdgeId<'a>, Tally>,
        received: &mut BTreeMap<Owner<'a>, Received>,
    ) {
        let inbound = |key: &EdgeKey| key.direction == Direction::Inbound;
        for (reporter, key, edge) in self.told().filter(|(_, key, _)| inbound(key)) {
            let row = received.entry(reporter.who.id()).or_default();
            row.told = true;
            edge.series
                .sum_since(since, key.protected, &mut row.inbound);
            if key.spoken == Spoken::Tcp {
                edge.series.sum_since(since, key.protected, &mut row.tcp);
            }
        }
        for ((_, to, facts), tally) in edges {
            let Some(to) = to.filter(|to| !to.meshed) else {
                continue;
            };
            let row = received.entry(to.id()).or_default();
            if !row.told {
                row.inbound.merge(&tally.sum);
                if facts.2 == Spoken::Tcp {
                    row.tcp.merge(&tally.sum);
                }
            }
        }
    }
}

fn edge_row((from, to, facts): &EdgeId<'_>, tally: &Tally, window: u64) -> EdgeRow {
    let (service, port, spoken, protected) = facts;
    let total = &tally.total;
    EdgeRow {
        from: from.map(Who::to_ref),
        to: to.map(Who::to_ref),
        class: (from.is_none() || to.is_none()).then_some("outside"),
        service: service.clone(),
        port: *port,
        protocol: match spoken {
            Spoken::Http => "http",
            Spoken::Tcp => "tcp",
        },
        protection: if *protected { "mtls" } else { "plain" },
        total: TotalRow {
            requests: total.requests,
            failures: total.failures,
            bytes: total.bytes,
            bytes_protected: if *protected { total.bytes } else { 0 },
            connections: total.opened,
        },
        window: window_row(&tally.sum, window),
        flags: tally.flags.clone(),
    }
}

fn workload_row((namespace, kind, name): &Owner<'_>, received: &Received, w: u64) -> WorkloadRow {
    let inbound = &received.inbound;
    let share = inbound.bytes_protected as f64 / inbound.counters.bytes.max(1) as f64;
    WorkloadRow {
        namespace: (*namespace).to_owned(),
        kind: (*kind).to_owned(),
        name: (*name).to_owned(),
        pods: received.pods.clone(),
        inbound: window_row(inbound, w),
        mtls_share: (inbound.counters.bytes > 0).then_some(share),
        tcp_connections: received.tcp.open,
    }
}

pub(super) fn window_row(sum: &Sum, window: u64) -> WindowRow {
    let counters = &sum.counters;
    let good = counters.requests.saturating_sub(counters.failures);
    let rate = good as f64 / counters.requests.max(1) as f64;
    WindowRow {
        requests: counters.requests,
        failures: counters.failures,
        success_rate: (counters.requests > 0).then_some(rate),
        rps: counters.requests as f64 / window.max(1) as f64,
        p50_ms: sum.quantile_ms(0.5),
        p95_ms: sum.quantile_ms(0.95),
        p99_ms: sum.quantile_ms(0.99),
        bytes: counters.bytes,
        bytes_protected: sum.bytes_protected,
        connections_open: sum.open,
    }
}
