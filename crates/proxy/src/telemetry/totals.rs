// SPDX-License-Identifier: Apache-2.0
//! Sums since the start, and their Prometheus text: the names that people know from Conduit and Linkerd.
//!
//! Must never hold more edges than a recorder counts: the one that was quiet longest goes first. Read `report.rs` next.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use maille_engine::route::Direction;
use maille_model::latency;

use super::{Batch, Carries, EDGES, EdgeKey, Increment};

/// Upper bounds of `response_latency_ms`, in milliseconds.
const BOUNDS_MS: [u64; 25] = [
    1, 2, 3, 4, 5, 10, 20, 30, 40, 50, 100, 200, 300, 400, 500, 1_000, 2_000, 3_000, 4_000, 5_000,
    10_000, 20_000, 30_000, 40_000, 50_000,
];

/// Everything counted since the start.
#[derive(Debug, Default)]
pub struct Totals {
    edges: HashMap<Arc<EdgeKey>, Total>,
    batches: u64,
    dropped: u64,
}

#[derive(Debug, Default)]
struct Total {
    sum: Increment,
    /// The batch that last added something.
    seen: u64,
}

/// One metric: its name, type and help, and what it says about an edge.
struct Family {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    carries: Carries,
    write: fn(&mut String, &'static str, &str, &Increment),
}

const FAMILIES: [Family; 8] = [
    Family {
        name: "request_total",
        kind: "counter",
        help: "HTTP requests that ended",
        carries: Carries::Http,
        write: |out, name, labels, sum| line(out, name, labels, sum.requests),
    },
    Family {
        name: "response_total",
        kind: "counter",
        help: "HTTP responses, by status code; code 0 is no answer",
        carries: Carries::Http,
        write: |out, name, labels, sum| {
            for (status, count) in &sum.statuses {
                let class = if (1..500).contains(status) {
                    "success"
                } else {
                    "failure"
                };
                let labels =
                    format!("{labels},classification=\"{class}\",status_code=\"{status}\"");
                line(out, name, &labels, *count);
            }
        },
    },
    Family {
        name: "response_latency_ms",
        kind: "histogram",
        help: "Milliseconds to the first byte of the response",
        carries: Carries::Http,
        write: write_latency,
    },
    Family {
        name: "tcp_open_total",
        kind: "counter",
        help: "Connections that began",
        carries: Carries::Tcp,
        write: |out, name, labels, sum| line(out, name, labels, sum.opened),
    },
    Family {
        name: "tcp_close_total",
        kind: "counter",
        help: "Connections that ended",
        carries: Carries::Tcp,
        write: |out, name, labels, sum| line(out, name, labels, sum.closed),
    },
    Family {
        name: "tcp_open_connections",
        kind: "gauge",
        help: "Connections that are open",
        carries: Carries::Tcp,
        write: |out, name, labels, sum| {
            line(out, name, labels, sum.opened.saturating_sub(sum.closed));
        },
    },
    Family {
        name: "tcp_write_bytes_total",
        kind: "counter",
        help: "Bytes towards the other side",
        carries: Carries::Tcp,
        write: |out, name, labels, sum| line(out, name, labels, sum.sent),
    },
    Family {
        name: "tcp_read_bytes_total",
        kind: "counter",
        help: "Bytes from the other side",
        carries: Carries::Tcp,
        write: |out, name, labels, sum| line(out, name, labels, sum.received),
    },
];

// === impl Totals ===

impl Totals {
    /// Adds what was counted.
    pub fn add(&mut self, batch: &Batch) {
        self.batches += 1;
        self.dropped += batch.dropped;
        for (key, increment) in &batch.edges {
            if !self.edges.contains_key(key) && self.edges.len() >= EDGES {
                self.drop_quietest();
            }
            let total = self.edges.entry(Arc::clone(key)).or_default();
            total.sum.merge(increment);
            total.seen = self.batches;
        }
    }

    fn drop_quietest(&mut self) {
        let quietest = self.edges.iter().min_by_key(|(_, total)| total.seen);
        if let Some(key) = quietest.map(|(key, _)| Arc::clone(key)) {
            self.edges.remove(&key);
        }
    }

    /// What was counted for an edge.
    pub fn of(&self, key: &EdgeKey) -> Option<&Increment> {
        self.edges.get(key).map(|total| &total.sum)
    }

    /// Prometheus text, in a stable order.
    pub fn write(&self, out: &mut String) {
        let mut edges: Vec<_> = self
            .edges
            .iter()
            .map(|(key, total)| (&**key, &total.sum))
            .collect();
        edges.sort_by_key(|(key, _)| *key);
        let edges: Vec<_> = edges
            .into_iter()
            .map(|(key, sum)| (key.carries, labels(key), sum))
            .collect();
        for family in &FAMILIES {
            head(out, family.name, family.kind, family.help);
            // Bytes are counted for HTTP too.
            let bytes = family.name.ends_with("_bytes_total");
            for (carries, labels, sum) in &edges {
                if *carries == family.carries || bytes {
                    (family.write)(out, family.name, labels, sum);
                }
            }
        }
        head(
            out,
            "mesh_refusal_total",
            "counter",
            "Requests and connections that the mesh refused, or that failed, by flag",
        );
        for (_, labels, sum) in &edges {
            for (flag, count) in &sum.flags {
                line(
                    out,
                    "mesh_refusal_total",
                    &format!("{labels},flag=\"{flag}\""),
                    *count,
                );
            }
        }
        head(
            out,
            "telemetry_dropped_total",
            "counter",
            "Events that were not counted for an edge, because all places were taken",
        );
        line(out, "telemetry_dropped_total", "", self.dropped);
    }
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "# HELP {name} {help}.\n# TYPE {name} {kind}");
}

fn line(out: &mut String, name: &str, labels: &str, value: impl std::fmt::Display) {
    let _ = if labels.is_empty() {
        writeln!(out, "{name} {value}")
    } else {
        writeln!(out, "{name}{{{labels}}} {value}")
    };
}

/// Every value is of an alphabet without quotes and backslashes.
fn labels(key: &EdgeKey) -> String {
    let (direction, peer) = match key.direction {
        Direction::Outbound => ("outbound", "dst"),
        Direction::Inbound => ("inbound", "src"),
    };
    let mut out = format!(
        "direction=\"{direction}\",peer=\"{peer}\",tls=\"{}\",dst_port=\"{}\"",
        key.protected, key.port
    );
    if let Some(service) = &key.service {
        let _ = write!(
            out,
            ",dst_namespace=\"{}\",dst_service=\"{}\"",
            service.namespace, service.name
        );
    }
    if let Some(identity) = &key.peer {
        let _ = write!(out, ",peer_id=\"{identity}\"");
    }
    if let Some(address) = key.peer_address {
        let _ = write!(out, ",peer_address=\"{address}\"");
    }
    if let Some(uid) = &key.peer_uid {
        // A uid is visible ASCII, quotes included.
        let uid = uid.as_str().replace('\\', "\\\\").replace('"', "\\\"");
        let _ = write!(out, ",peer_uid=\"{uid}\"");
    }
    out
}

fn write_latency(out: &mut String, name: &'static str, labels: &str, sum: &Increment) {
    let mut buckets = sum.latency.iter().peekable();
    let mut below = 0;
    for bound in BOUNDS_MS {
        while let Some((_, count)) =
            buckets.next_if(|(bucket, _)| latency::floor(usize::from(*bucket)) < bound * 1_000)
        {
            below += count;
        }
        line(
            out,
            &format!("{name}_bucket"),
            &format!("{labels},le=\"{bound}\""),
            below,
        );
    }
    let all = below + buckets.map(|(_, count)| count).sum::<u64>();
    line(
        out,
        &format!("{name}_bucket"),
        &format!("{labels},le=\"+Inf\""),
        all,
    );
    line(
        out,
        &format!("{name}_sum"),
        labels,
        sum.latency_micros as f64 / 1_000.0,
    );
    line(out, &format!("{name}_count"), labels, all);
}
