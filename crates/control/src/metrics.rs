// SPDX-License-Identifier: Apache-2.0
//! Every metric of control, declared once: `docs/reference/metrics-control.md` is made of this file, and nothing else is ever written.
//!
//! Must never hold a value: it reads the hub at the moment of the question. Read `hub.rs` for what is counted where.

use std::sync::atomic::Ordering;

use maille_chassis::metrics::process::{self, seconds};
use maille_chassis::metrics::{Labels, Metric, Text};
use maille_model::Membership;

use crate::hub::{Hub, Phase};
use crate::keyring::Keyring;

/// Where the process is in its life.
pub const SERVING: Metric = Metric::gauge(
    "maille_control_serving",
    &[],
    "1 once every source told everything, until the process is told to stop",
);
/// What exists.
pub const WORKLOADS: Metric = Metric::gauge(
    "maille_control_workloads",
    &["membership"],
    "Workloads that are known: `meshed` or `unmeshed`",
);
/// What exists.
pub const SERVICES: Metric =
    Metric::gauge("maille_control_services", &[], "Services that are known");
/// What makes no sense.
pub const PROBLEMS: Metric = Metric::gauge(
    "maille_control_problems",
    &["kind"],
    "Files that cannot be read (`broken`) and objects that cannot be taken (`refused`): their last good state holds",
);
/// Who is connected.
pub const STREAMS: Metric = Metric::gauge(
    "maille_control_streams",
    &["kind"],
    "Streams of proxies: `discovery` and `reports`",
);
/// What was said.
pub const RESOURCES: Metric = Metric::counter(
    "maille_control_resources_sent_total",
    &["result"],
    "Resources that proxies were sent: `sent`, or `removed` where one was told that there is none",
);
/// What was not taken.
pub const REJECTIONS: Metric = Metric::counter(
    "maille_control_rejections_total",
    &[],
    "Answers that a proxy refused, keeping what it had",
);
/// What was signed.
pub const CERTIFICATES: Metric = Metric::counter(
    "maille_control_certificates_total",
    &["result"],
    "Certificates that were asked for: `signed` or `refused`",
);
/// The watches.
pub const RESTARTS: Metric = Metric::counter(
    "maille_control_watch_restarts_total",
    &[],
    "Watches on the API server that had to be begun again; what was known held meanwhile",
);
/// The lease.
pub const LEASE: Metric = Metric::gauge(
    "maille_control_lease_held",
    &[],
    "1 on the replica that writes what all share",
);
/// The lease.
pub const LEASE_CHANGES: Metric = Metric::counter(
    "maille_control_lease_changes_total",
    &[],
    "How often this replica took the lease or lost it",
);
/// The CA.
pub const AUTHORITY: Metric = Metric::gauge(
    "maille_control_authority_expiration_timestamp_seconds",
    &[],
    "When the certificate ends that signs all others, since 1970",
);

/// Control's own; what every process says comes before.
pub const OWN: [Metric; 12] = [
    SERVING,
    WORKLOADS,
    SERVICES,
    PROBLEMS,
    STREAMS,
    RESOURCES,
    REJECTIONS,
    CERTIFICATES,
    RESTARTS,
    LEASE,
    LEASE_CHANGES,
    AUTHORITY,
];

/// Prometheus text of this moment.
pub fn text(hub: &Hub, keyring: &Keyring) -> String {
    let mut text = Text::default();
    process::write(&mut text, hub.started());
    let serving = *hub.phase().borrow() == Phase::Serving;
    text.single(&SERVING, u64::from(serving));
    write_world(&mut text, hub);
    let (discovery, reports) = hub.streams();
    family(
        &mut text,
        &STREAMS,
        "kind",
        [("discovery", discovery), ("reports", reports)],
    );
    let counted = hub.counted();
    family(
        &mut text,
        &RESOURCES,
        "result",
        [("sent", counted.sent), ("removed", counted.removed)],
    );
    text.single(&REJECTIONS, counted.rejections);
    family(
        &mut text,
        &CERTIFICATES,
        "result",
        [("signed", counted.signed), ("refused", counted.refused)],
    );
    text.single(&RESTARTS, hub.restarts().load(Ordering::Relaxed));
    text.single(&LEASE, u64::from(counted.leads));
    text.single(&LEASE_CHANGES, counted.lease_changes);
    if let Some((_, ends)) = keyring.validity() {
        text.single(&AUTHORITY, seconds(ends));
    }
    text.into_string()
}

fn write_world(text: &mut Text, hub: &Hub) {
    let world = hub.world();
    let meshed = |pod: &&crate::index::Pod| pod.workload.membership == Membership::Meshed;
    let all = world.index.pods().count();
    let meshed = world.index.pods().filter(meshed).count();
    let rows = [("meshed", meshed), ("unmeshed", all - meshed)];
    family(text, &WORKLOADS, "membership", rows);
    text.single(&SERVICES, world.index.services().count());
    let rows = [
        ("broken", world.broken.len()),
        ("refused", world.refused.len()),
    ];
    family(text, &PROBLEMS, "kind", rows);
}

/// A family with one label.
fn family<T: std::fmt::Display>(
    text: &mut Text,
    metric: &Metric,
    label: &str,
    rows: [(&str, T); 2],
) {
    text.family(metric);
    for (value, count) in rows {
        text.sample(metric, &Labels::new().with(label, value), count);
    }
}

#[cfg(test)]
mod tests;
