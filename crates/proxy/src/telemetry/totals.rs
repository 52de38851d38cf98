// SPDX-License-Identifier: Apache-2.0
//! Sums since the start, and their Prometheus text: the names that people know from Conduit and Linkerd.
//!
//! Must never hold more edges than a recorder counts (the one that was quiet longest goes first), nor write them all at once: a
//! text of all edges is large, so it is made in pages. Read `report.rs` next.

use std::collections::HashMap;
use std::sync::Arc;

use maille_chassis::metrics::{Kind, Labels, Metric, Text};
use maille_engine::balance::Tally;
use maille_engine::route::Direction;
use maille_model::latency;

use super::{Batch, Carries, EDGES, EdgeKey, Gauges, HANDSHAKES, Handshake, Increment, OTHERS};
use crate::metrics;

/// Upper bounds of `response_latency_ms` and `tcp_connection_duration_ms`, in milliseconds.
const BOUNDS_MS: [u64; 25] = [
    1, 2, 3, 4, 5, 10, 20, 30, 40, 50, 100, 200, 300, 400, 500, 1_000, 2_000, 3_000, 4_000, 5_000,
    10_000, 20_000, 30_000, 40_000, 50_000,
];

/// Everything counted since the start.
#[derive(Debug, Default)]
pub struct Totals {
    edges: HashMap<Arc<EdgeKey>, Total>,
    handshakes: [[u64; HANDSHAKES]; 2],
    gauges: Gauges,
    batches: u64,
    overflow: u64,
    dropped: u64,
    tally: Tally,
}

#[derive(Debug, Default)]
struct Total {
    /// Without latencies.
    sum: Increment,
    /// Counts by [`BOUNDS_MS`], and what is above.
    latency: [u64; BOUNDS_MS.len() + 1],
    /// The batch that last added something.
    seen: u64,
}

/// Writes what one metric says about an edge.
type Write = fn(&mut Text, &Metric, &EdgeKey, &Total);

/// The families that have a sample, or several, for each edge.
const FAMILIES: [(Metric, Write); 10] = [
    (metrics::REQUESTS, |text, metric, key, total| {
        if key.carries == Carries::Http {
            text.sample(metric, &labels(key), total.sum.requests);
        }
    }),
    (metrics::RESPONSES, write_responses),
    (metrics::LATENCY, |text, metric, key, total| {
        if key.carries == Carries::Http {
            write_latency(text, metric, &labels(key), total);
        }
    }),
    (metrics::TCP_OPEN, |text, metric, key, total| {
        if key.carries == Carries::Tcp {
            text.sample(metric, &transport(key), total.sum.opened);
        }
    }),
    (metrics::TCP_CLOSE, |text, metric, key, total| {
        if key.carries == Carries::Tcp {
            let (closed, broken) = (total.sum.closed, total.sum.broken);
            for (class, count) in [("success", closed - broken), ("failure", broken)] {
                text.sample(metric, &transport(key).with("classification", class), count);
            }
        }
    }),
    (metrics::TCP_CONNECTIONS, |text, metric, key, total| {
        if key.carries == Carries::Tcp {
            let open = total.sum.opened.saturating_sub(total.sum.closed);
            text.sample(metric, &transport(key), open);
        }
    }),
    (metrics::TCP_WRITE, |text, metric, key, total| {
        // HTTP and TCP of the same destination are two edges, and one sample.
        text.sample(
            metric,
            &transport(key).with("carries", carries(key)),
            total.sum.sent,
        );
    }),
    (metrics::TCP_READ, |text, metric, key, total| {
        text.sample(
            metric,
            &transport(key).with("carries", carries(key)),
            total.sum.received,
        );
    }),
    (metrics::TCP_DURATION, |text, metric, key, total| {
        if key.carries == Carries::Tcp {
            write_latency(text, metric, &transport(key), total);
        }
    }),
    (metrics::FAILURES, |text, metric, key, total| {
        for (failure, count) in &total.sum.failed {
            let labels = labels(key)
                .with("carries", carries(key))
                .with("flag", failure.flag())
                .with("stage", failure.stage().name())
                .with("blame", failure.blame().name())
                .with("status_code", failure.http_status());
            text.sample(metric, &labels, count);
        }
    }),
];

// === impl Totals ===

impl Totals {
    /// Adds what was counted.
    pub fn add(&mut self, batch: &Batch) {
        self.batches += 1;
        self.dropped += batch.dropped;
        self.overflow += batch.overflow;
        self.gauges = batch.gauges;
        self.tally.add(&batch.tally);
        for (sums, more) in self.handshakes.iter_mut().zip(&batch.handshakes) {
            for (sum, more) in sums.iter_mut().zip(more) {
                *sum += more;
            }
        }
        for (key, increment) in &batch.edges {
            let key = public(key);
            if !self.edges.contains_key(&key) && self.edges.len() >= EDGES + OTHERS {
                self.drop_quietest();
            }
            let total = self.edges.entry(key).or_default();
            total.seen = self.batches;
            total.add(increment);
        }
    }

    fn drop_quietest(&mut self) {
        let quietest = self.edges.iter().min_by_key(|(_, total)| total.seen);
        if let Some(key) = quietest.map(|(key, _)| Arc::clone(key)) {
            self.edges.remove(&key);
        }
    }

    /// What was counted for an edge, but for latencies.
    pub fn of(&self, key: &EdgeKey) -> Option<&Increment> {
        self.edges.get(key).map(|total| &total.sum)
    }

    /// Every edge, in a stable order: what [`Self::page`] goes through.
    pub fn keys(&self) -> Vec<Arc<EdgeKey>> {
        let mut keys: Vec<_> = self.edges.keys().cloned().collect();
        keys.sort();
        keys
    }

    /// Writes what belongs to no edge.
    pub fn write(&self, text: &mut Text) {
        text.family(&metrics::HANDSHAKES);
        for (direction, counts) in ["outbound", "inbound"].iter().zip(&self.handshakes) {
            for (result, count) in Handshake::ALL.iter().zip(counts) {
                let labels = Labels::new()
                    .with("direction", direction)
                    .with("result", result.name());
                text.sample(&metrics::HANDSHAKES, &labels, count);
            }
        }
        let Gauges {
            sockets,
            mesh_connections,
            exchanges,
        } = self.gauges;
        text.single(&metrics::MESH_CONNECTIONS, mesh_connections);
        text.single(&metrics::SOCKETS, sockets);
        text.single(&metrics::EXCHANGES, exchanges);
        text.single(&metrics::EDGES, self.edges.len());
        text.single(&metrics::OVERFLOW, self.overflow);
        text.single(&metrics::DROPPED, self.dropped);
        let Tally {
            retries,
            retries_refused,
            ejections,
            readmissions,
            limited,
        } = self.tally;
        text.single(&metrics::RETRIES, retries);
        text.single(&metrics::RETRIES_REFUSED, retries_refused);
        text.single(&metrics::EJECTIONS, ejections);
        text.single(&metrics::READMISSIONS, readmissions);
        text.single(&metrics::LIMITED, limited);
    }

    /// Writes what belongs to edges, from `place` on, until `text` is `enough` bytes long. Where to go on: `None` at the end.
    pub fn page(
        &self,
        text: &mut Text,
        keys: &[Arc<EdgeKey>],
        place: Place,
        enough: usize,
    ) -> Option<Place> {
        let Place { family, edge } = place;
        let (metric, write) = FAMILIES.get(family)?;
        if edge == 0 {
            text.family(metric);
        }
        for (at, key) in keys.iter().enumerate().skip(edge) {
            // One that was forgotten meanwhile has nothing to say.
            if let Some(total) = self.edges.get(key) {
                write(text, metric, key, total);
            }
            if text.len() >= enough && at + 1 < keys.len() {
                let edge = at + 1;
                return Some(Place { family, edge });
            }
        }
        Some(Place {
            family: family + 1,
            edge: 0,
        })
    }
}

/// How far a text has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    family: usize,
    edge: usize,
}

// === impl Total ===

impl Total {
    fn add(&mut self, more: &Increment) {
        for (bucket, count) in &more.latency {
            let micros = latency::floor(usize::from(*bucket));
            let above = BOUNDS_MS.partition_point(|bound| bound * 1_000 <= micros);
            self.latency[above] += count;
        }
        self.sum.merge_without_latency(more);
    }
}

/// The edge as Prometheus sees it: clients without an identity are not told apart by their addresses, which are without number.
fn public(key: &Arc<EdgeKey>) -> Arc<EdgeKey> {
    if key.peer_address.is_none() {
        return Arc::clone(key);
    }
    Arc::new(EdgeKey {
        peer_address: None,
        ..(**key).clone()
    })
}

fn carries(key: &EdgeKey) -> &'static str {
    match key.carries {
        Carries::Http => "http",
        Carries::Tcp => "tcp",
    }
}

fn labels(key: &EdgeKey) -> Labels {
    let direction = match key.direction {
        Direction::Outbound => "outbound",
        Direction::Inbound => "inbound",
    };
    let mut out = Labels::new()
        .with("direction", direction)
        .with("tls", if key.protected { "true" } else { "no_identity" });
    out = if key.is_other() {
        out.with("dst_port", "other")
    } else {
        out.with("dst_port", key.port)
    };
    let place = key.workload.as_ref().map(|workload| &workload.namespace);
    let service = key.service.as_ref();
    match key.direction {
        Direction::Outbound => {
            if let Some(namespace) = service.map(|service| &service.namespace).or(place) {
                out = out.with("dst_namespace", namespace);
            }
            if let Some(service) = service {
                out = out.with("dst_service", &service.name);
            }
            if let Some(workload) = &key.workload {
                out = out.with("dst_pod", &workload.name);
                if let Some(owner) = &workload.owner {
                    let kind = format!("dst_{}", owner.kind.to_ascii_lowercase());
                    out = out.with(&kind, &owner.name);
                }
            }
            if let Some(identity) = &key.peer {
                out = out
                    .with("dst_serviceaccount", &identity.service_account)
                    .with("server_id", identity);
            }
        }
        Direction::Inbound => {
            if let Some(identity) = &key.peer {
                out = out
                    .with("client_id", identity)
                    .with("src_namespace", &identity.namespace)
                    .with("src_serviceaccount", &identity.service_account);
            }
        }
    }
    out
}

/// Labels of what is counted by connection.
fn transport(key: &EdgeKey) -> Labels {
    let peer = match key.direction {
        Direction::Outbound => "dst",
        Direction::Inbound => "src",
    };
    let labels = labels(key).with("peer", peer);
    match &key.server_name {
        Some(name) => labels.with("sni", name),
        None => labels,
    }
}

fn write_responses(text: &mut Text, metric: &Metric, key: &EdgeKey, total: &Total) {
    if key.carries != Carries::Http {
        return;
    }
    for (response, count) in &total.sum.responses {
        let class = if response.is_success() {
            "success"
        } else {
            "failure"
        };
        let mut labels = labels(key)
            .with("classification", class)
            .with("status_code", response.status);
        if let Some(grpc) = response.grpc {
            labels = labels.with("grpc_status", grpc);
        }
        text.sample(metric, &labels, count);
    }
}

fn write_latency(text: &mut Text, metric: &Metric, labels: &Labels, total: &Total) {
    debug_assert!(metric.kind == Kind::Histogram);
    let sum = total.sum.latency_micros as f64 / 1_000.0;
    text.histogram(metric, labels, (&BOUNDS_MS, &total.latency), sum);
}
