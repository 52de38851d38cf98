// SPDX-License-Identifier: Apache-2.0
//! Every metric of a proxy, declared once: `docs/reference/metrics.md` is made of this file, and nothing else is ever written.
//!
//! Names and labels are Linkerd's where Linkerd has the thing; the rest begins with `maille_`. Next: `metrics/process.rs` (what the
//! process says about itself) and `telemetry/totals.rs` (what passed through it).

use maille_chassis::metrics::Metric;
use maille_chassis::metrics::process::{
    CPU, LINES_DROPPED, LINES_HELD_BACK, MAX_FDS, OPEN_FDS, PANICS, RESIDENT, START,
};

/// What the process says about itself.
pub mod process;

/// What tells edges apart. Labels without a value are left out.
const EDGE: &[&str] = &[
    "direction",
    "tls",
    "dst_port",
    "dst_namespace",
    "dst_service",
    "dst_pod",
    "dst_KIND",
    "dst_serviceaccount",
    "server_id",
    "client_id",
    "src_namespace",
    "src_serviceaccount",
];

macro_rules! edge_and {
    ($($label:literal),+) => {
        &[
            "direction", "tls", "dst_port", "dst_namespace", "dst_service", "dst_pod", "dst_KIND", "dst_serviceaccount",
            "server_id", "client_id", "src_namespace", "src_serviceaccount", $($label),+
        ]
    };
}

// --- HTTP, by edge ---

/// Linkerd's.
pub const REQUESTS: Metric = Metric::counter("request_total", EDGE, "HTTP requests that ended");
/// Linkerd's.
pub const RESPONSES: Metric = Metric::counter(
    "response_total",
    edge_and!("classification", "status_code", "grpc_status"),
    "HTTP responses. `classification` is `failure` for 5xx, for no answer (`status_code` 0, which also stands for what did not fit \
     among 32 codes of one edge), and for gRPC statuses that blame the server (2, 4, 7, 13, 14, 15)",
);
/// Linkerd's, without its `status_code`: that label multiplies the most expensive family by the number of codes.
pub const LATENCY: Metric = Metric::histogram(
    "response_latency_ms",
    EDGE,
    "Milliseconds from the first byte of a request to the first byte of its response. Counted in buckets a sixteenth wide, so that \
     a latency within 6.25 % above a bound may count below it",
);

// --- TCP, by edge ---

/// Linkerd's.
pub const TCP_OPEN: Metric = Metric::counter(
    "tcp_open_total",
    edge_and!("peer", "sni"),
    "TCP connections that began: those that applications see, however many share one mesh connection; HTTP is counted by request. \
     `peer` is the side that the other labels speak of: `dst` outbound, `src` inbound; `sni` is the name that a TLS client asked for, \
     of bytes that pass as they are",
);
/// Linkerd's.
pub const TCP_CLOSE: Metric = Metric::counter(
    "tcp_close_total",
    edge_and!("peer", "sni", "classification"),
    "TCP connections that ended; `classification` is `failure` where the mesh or a broken connection ended them",
);
/// Linkerd's.
pub const TCP_CONNECTIONS: Metric = Metric::gauge(
    "tcp_open_connections",
    edge_and!("peer", "sni"),
    "TCP connections that are open",
);
/// Linkerd's.
pub const TCP_WRITE: Metric = Metric::counter(
    "tcp_write_bytes_total",
    edge_and!("peer", "sni", "carries"),
    "Bytes written towards the other side, of TCP connections and of HTTP messages with their heads",
);
/// Linkerd's.
pub const TCP_READ: Metric = Metric::counter(
    "tcp_read_bytes_total",
    edge_and!("peer", "sni", "carries"),
    "Bytes read from the other side, of TCP connections and of HTTP messages with their heads",
);
/// Linkerd's.
pub const TCP_DURATION: Metric = Metric::histogram(
    "tcp_connection_duration_ms",
    edge_and!("peer", "sni"),
    "Milliseconds that TCP connections lasted which have ended",
);

// --- ours, by edge ---

/// By flag.
pub const FAILURES: Metric = Metric::counter(
    "maille_failure_total",
    edge_and!("carries", "flag", "stage", "blame", "status_code"),
    "Requests and connections that the mesh refused, or that failed: by flag (`docs/wire.md` section 5), the stage that failed, \
     who is to blame (`client`, `mesh`, `upstream`), and the status that an HTTP client gets",
);

// --- ours, of the worker ---

/// Handshakes.
pub const HANDSHAKES: Metric = Metric::counter(
    "maille_mesh_handshake_total",
    &["direction", "result"],
    "Handshakes with other proxies: `ok`, `refused` (by identity or TLS, either side), `timeout`, `lost`",
);
/// Mesh connections.
pub const MESH_CONNECTIONS: Metric = Metric::gauge(
    "maille_mesh_connections",
    &[],
    "Connections to and from other proxies, handshakes included",
);
/// Sockets.
pub const SOCKETS: Metric = Metric::gauge(
    "maille_sockets",
    &[],
    "Sockets of the data plane: clients, servers, idle ones, mesh connections",
);
/// Exchanges.
pub const EXCHANGES: Metric = Metric::gauge(
    "maille_exchanges",
    &[],
    "Requests and TCP connections that are under way",
);
/// The cap.
pub const EDGES: Metric = Metric::gauge(
    "maille_edges",
    &[],
    "Edges that are told apart here: at most 4,096, and 8 with `dst_port=\"other\"` for what did not fit",
);
/// What did not fit.
pub const OVERFLOW: Metric = Metric::counter(
    "maille_edges_overflow_total",
    &[],
    "Events that were counted for an edge with `dst_port=\"other\"`, because all places were taken",
);
/// What was lost.
pub const DROPPED: Metric = Metric::counter(
    "maille_edges_dropped_total",
    &[],
    "Events that were counted for no edge, because theirs had given its place away",
);

// --- balancing, for all services together ---

/// Ours.
pub const RETRIES: Metric = Metric::counter(
    "maille_retry_total",
    &[],
    "Tries beyond the first, whatever the cause",
);
/// Ours.
pub const RETRIES_REFUSED: Metric = Metric::counter(
    "maille_retry_budget_exhausted_total",
    &[],
    "Tries that the budget of their service did not allow",
);
/// Ours.
pub const EJECTIONS: Metric = Metric::counter(
    "maille_endpoint_ejection_total",
    &[],
    "Times that a failing endpoint was left alone for a while",
);
/// Ours.
pub const READMISSIONS: Metric = Metric::counter(
    "maille_endpoint_readmission_total",
    &[],
    "Times that one of them was found well again",
);
/// Ours.
pub const LIMITED: Metric = Metric::counter(
    "maille_concurrency_limit_total",
    &[],
    "Requests and connections refused because as many were under way as their service allows",
);

// --- the process ---

/// Linkerd's.
pub const BUILD: Metric = Metric::gauge("proxy_build_info", &["version"], "Always 1");
/// Linkerd's.
pub const CERTIFICATE: Metric = Metric::gauge(
    "identity_cert_expiration_timestamp_seconds",
    &[],
    "When the own certificate ends, since 1970; 0 without one",
);
/// Linkerd's.
pub const REFRESHES: Metric = Metric::counter(
    "identity_cert_refreshes_total",
    &[],
    "Certificates that were taken into use",
);
/// Ours.
pub const SNAPSHOT: Metric = Metric::gauge(
    "maille_snapshot_entries",
    &[],
    "Answers of control that are held",
);
/// Ours.
pub const COMPLETE: Metric = Metric::gauge(
    "maille_snapshot_complete",
    &[],
    "1 once enough is known to admit anything",
);
/// Everything that is ever written.
pub const ALL: [Metric; 35] = [
    REQUESTS,
    RESPONSES,
    LATENCY,
    TCP_OPEN,
    TCP_CLOSE,
    TCP_CONNECTIONS,
    TCP_WRITE,
    TCP_READ,
    TCP_DURATION,
    FAILURES,
    HANDSHAKES,
    MESH_CONNECTIONS,
    SOCKETS,
    EXCHANGES,
    EDGES,
    OVERFLOW,
    DROPPED,
    RETRIES,
    RETRIES_REFUSED,
    EJECTIONS,
    READMISSIONS,
    LIMITED,
    START,
    RESIDENT,
    CPU,
    OPEN_FDS,
    MAX_FDS,
    BUILD,
    CERTIFICATE,
    REFRESHES,
    SNAPSHOT,
    COMPLETE,
    PANICS,
    LINES_DROPPED,
    LINES_HELD_BACK,
];

#[cfg(test)]
mod tests;
