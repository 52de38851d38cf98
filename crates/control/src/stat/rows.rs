// SPDX-License-Identifier: Apache-2.0
//! The rows of `GET /v1/stat` for one kind of resource: what it was sent, or what passed between it and others. Pure.
//!
//! Each exchange is counted once, by its client's proxy where the client has one. Must never count for a pod what another of its owner had.
//! Read [`super::view`] for the windows, [`crate::resource`] for the names.

use std::collections::BTreeMap;

use maille_model::{ServiceId, WorkloadUid};
use schemars::JsonSchema;
use serde::Serialize;

use super::view::{PodsRow, WindowRow, window_row};
use super::{Direction, Edge, EdgeKey, Reporter, Spoken, Stats, Sum, Who};
use crate::index::{Index, Phase, Pod};
use crate::resource::{Kind, Resource};

/// One resource.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "StatRow")]
pub struct Row {
    /// `deploy`, `po`, `svc`, `ns`, ...
    pub kind: String,
    /// Its namespace; its own name where it is one.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What a pod is at: `Running`, `Pending`, `Finished`, `Terminating`; empty for everything else.
    pub status: &'static str,
    /// How many pods it has, or selects.
    pub pods: PodsRow,
    /// What was counted in the window.
    pub window: WindowRow,
    /// Share of the bytes under mutual TLS; `null` without bytes.
    pub mtls_share: Option<f64>,
    /// TCP connections open.
    pub tcp_open: u64,
    /// Bytes a second over TCP connections that carry no HTTP.
    pub tcp_bytes_per_second: f64,
}

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The rows.
    pub target: Resource,
    /// Only what these sent to them.
    pub from: Option<Resource>,
    /// Only what they sent to these.
    pub to: Option<Resource>,
}

/// What a row is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Namespace(String),
    Owner(String, &'static str, String),
    Other(String, String, String),
    Pod(String, String, WorkloadUid),
    Service(ServiceId),
}

#[derive(Default)]
struct Tally {
    pods: PodsRow,
    status: &'static str,
    /// A proxy of its own told what it was sent.
    told: bool,
    all: Sum,
    tcp: Sum,
    /// What clients say that it was sent: for those without proxies.
    heard: Sum,
    heard_tcp: Sum,
}

impl Stats {
    /// The rows, over the last `window` seconds before `second`.
    pub fn rows(
        &self,
        index: &Index,
        second: u64,
        window: u64,
        wanted: &Wanted,
    ) -> (u64, Vec<Row>) {
        let (since, window) = self.stretch(second, window);
        let mut tallies = subjects(index, &wanted.target);
        for (uid, reporter) in &self.reporters {
            for (key, edge) in &reporter.edges {
                let told = Told {
                    uid,
                    reporter,
                    key,
                    edge,
                };
                count(&mut tallies, &told, (index, wanted, since));
            }
        }
        let rows = tallies
            .into_iter()
            .map(|(subject, tally)| row(subject, tally, window))
            .collect();
        (window, rows)
    }
}

/// One edge of one reporter.
struct Told<'a> {
    uid: &'a WorkloadUid,
    reporter: &'a Reporter,
    key: &'a EdgeKey,
    edge: &'a Edge,
}

/// Every row there is, without numbers.
fn subjects(index: &Index, target: &Resource) -> BTreeMap<Subject, Tally> {
    let mut tallies: BTreeMap<Subject, Tally> = BTreeMap::new();
    let services = matches!(target.kind, Kind::Service | Kind::All);
    if services {
        let of = Resource {
            kind: Kind::Service,
            name: target.name.clone(),
            namespace: target.namespace.clone(),
        };
        for id in of.services(index) {
            let tally = tallies.entry(Subject::Service(id.clone())).or_default();
            for endpoint in index.endpoints(&id).unwrap_or_default().0 {
                if let Some(pod) = index.pod(&endpoint.workload.uid) {
                    tally.pods.count(pod);
                }
            }
        }
    }
    for pod in target.pods(index) {
        if !pod.has_addresses() && target.kind != Kind::Pod {
            continue;
        }
        for subject in subjects_of(pod, &target.kind) {
            let single = matches!(subject, Subject::Pod(..));
            let tally = tallies.entry(subject).or_default();
            tally.pods.count(pod);
            if single {
                tally.status = status(pod);
            }
        }
    }
    tallies
}

/// The rows that a pod belongs to.
fn subjects_of(pod: &Pod, kind: &Kind) -> Vec<Subject> {
    let workload = &pod.workload;
    let namespace = workload.namespace.to_string();
    let name = workload.name.to_string();
    let as_pod = || Subject::Pod(namespace.clone(), name.clone(), workload.uid.clone());
    match kind {
        Kind::Pod => vec![as_pod()],
        Kind::Namespace => vec![Subject::Namespace(namespace)],
        Kind::Owner(_) => vec![owner(&Who::of(pod))],
        Kind::All if workload.owner.is_none() => vec![as_pod()],
        Kind::All => vec![owner(&Who::of(pod))],
        Kind::Service => Vec::new(),
    }
}

fn owner(who: &Who) -> Subject {
    let (namespace, name) = (who.namespace.to_string(), who.name.to_string());
    match Kind::parse(&who.kind) {
        Some(Kind::Owner(kind)) => Subject::Owner(namespace, kind, name),
        _ => Subject::Other(namespace, who.kind.clone(), name),
    }
}

const fn status(pod: &Pod) -> &'static str {
    match pod.phase {
        _ if pod.terminating => "Terminating",
        Phase::Pending => "Pending",
        Phase::Running => "Running",
        Phase::Finished => "Finished",
    }
}

fn count(
    tallies: &mut BTreeMap<Subject, Tally>,
    told: &Told<'_>,
    (index, wanted, since): (&Index, &Wanted, u64),
) {
    let key = told.key;
    let outbound = key.direction == Direction::Outbound;
    // Whoever speaks mutual TLS has a proxy that tells it, and so has a meshed peer.
    let client_tells = key.protected || key.peer.as_deref().is_some_and(|peer| peer.meshed);
    if let Some(to) = &wanted.to {
        if outbound && is_peer(index, to, key) {
            each(
                tallies,
                |subject| is_reporter(subject, told),
                told,
                since,
                Place::Told,
            );
        } else if !outbound && !client_tells && is_sent_to(index, to, told) {
            each(
                tallies,
                |subject| is_peer_of(subject, key),
                told,
                since,
                Place::Told,
            );
        }
        return;
    }
    if let Some(from) = &wanted.from {
        if outbound && is_reporter_of(index, from, told) {
            each(
                tallies,
                |subject| is_peer_of(subject, key),
                told,
                since,
                Place::Told,
            );
        } else if !outbound && !client_tells && is_peer(index, from, key) {
            let service = service_of(index, told);
            each(
                tallies,
                |subject| is_reporter(subject, told) || is_service(subject, service.as_ref()),
                told,
                since,
                Place::Told,
            );
        }
        return;
    }
    if outbound {
        each(
            tallies,
            |subject| is_peer_of(subject, key),
            told,
            since,
            Place::Heard,
        );
    } else {
        let service = service_of(index, told).filter(|_| !client_tells);
        each(
            tallies,
            |subject| is_reporter(subject, told) || is_service(subject, service.as_ref()),
            told,
            since,
            Place::Told,
        );
    }
}

/// By which service a pod without a proxy came to the reporter: as far as there is only one that leads there. The proxy does not know the name
/// that was called. Who is no pod (the node with its probes, say) mostly calls none.
fn service_of(index: &Index, told: &Told<'_>) -> Option<ServiceId> {
    told.key.peer.as_deref()?;
    let pod = index.pod(told.uid)?;
    let mut leading = index.services().filter(|service| {
        service.facts.id.namespace == pod.workload.namespace
            && service.selects(&pod.labels)
            && service
                .resolve(pod)
                .any(|(_, target, _)| target == told.key.port)
    });
    let only = leading.next()?;
    leading.next().is_none().then(|| only.facts.id.clone())
}

/// Whether what a client without a proxy sent to the reporter was sent to a resource.
fn is_sent_to(index: &Index, to: &Resource, told: &Told<'_>) -> bool {
    if to.kind != Kind::Service {
        return is_reporter_of(index, to, told);
    }
    let service = service_of(index, told);
    service.is_some_and(|id| to.services(index).contains(&id))
}

fn is_service(subject: &Subject, service: Option<&ServiceId>) -> bool {
    matches!((subject, service), (Subject::Service(id), Some(service)) if id == service)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Counts as it is.
    Told,
    /// Counts where nobody of the row tells it.
    Heard,
}

fn each(
    tallies: &mut BTreeMap<Subject, Tally>,
    is: impl Fn(&Subject) -> bool,
    told: &Told<'_>,
    since: u64,
    place: Place,
) {
    let (key, series) = (told.key, &told.edge.series);
    for (subject, tally) in tallies.iter_mut().filter(|(subject, _)| is(subject)) {
        // A service has no proxy: what its clients say is all there is.
        let heard = place == Place::Heard && !matches!(subject, Subject::Service(_));
        tally.told |= !heard;
        let (all, tcp) = if heard {
            (&mut tally.heard, &mut tally.heard_tcp)
        } else {
            (&mut tally.all, &mut tally.tcp)
        };
        series.sum_since(since, key.protected, all);
        if key.spoken == Spoken::Tcp {
            series.sum_since(since, key.protected, tcp);
        }
    }
}

/// Whether the reporter is of the row.
fn is_reporter(subject: &Subject, told: &Told<'_>) -> bool {
    let who = &told.reporter.who;
    match subject {
        Subject::Namespace(namespace) => who.namespace.as_str() == namespace,
        Subject::Owner(..) | Subject::Other(..) => owner(who) == *subject,
        Subject::Pod(_, _, uid) => uid == told.uid,
        // It is known by what its clients say: its pods do not know by which name they were called. See [`service_of`] for clients that say nothing.
        Subject::Service(_) => false,
    }
}

/// Whether the peer is of the row, or the service is the row.
fn is_peer_of(subject: &Subject, key: &EdgeKey) -> bool {
    let peer = key.peer.as_deref();
    match subject {
        Subject::Service(id) => key.service.as_ref() == Some(id),
        Subject::Pod(_, _, uid) => key.pod.as_ref() == Some(uid),
        Subject::Namespace(namespace) => {
            peer.is_some_and(|who| who.namespace.as_str() == namespace)
        }
        Subject::Owner(..) | Subject::Other(..) => peer.is_some_and(|who| owner(who) == *subject),
    }
}

/// Whether the reporter is of a resource.
fn is_reporter_of(index: &Index, resource: &Resource, told: &Told<'_>) -> bool {
    let who = &told.reporter.who;
    match (&resource.kind, index.pod(told.uid)) {
        (_, Some(pod)) => resource.has(index, pod),
        (kind, None) => is_who(resource, kind, who),
    }
}

/// Whether the peer is of a resource, or the service that was addressed is.
fn is_peer(index: &Index, resource: &Resource, key: &EdgeKey) -> bool {
    if resource.kind == Kind::Service {
        return key.service.as_ref().is_some_and(|id| {
            resource.within(id.namespace.as_str())
                && resource
                    .name
                    .as_ref()
                    .is_none_or(|name| name == id.name.as_str())
        });
    }
    if let Some(pod) = key.pod.as_ref().and_then(|uid| index.pod(uid)) {
        return resource.has(index, pod);
    }
    let who = key.peer.as_deref();
    who.is_some_and(|who| is_who(resource, &resource.kind, who))
}

/// As far as an owner says it.
fn is_who(resource: &Resource, kind: &Kind, who: &Who) -> bool {
    let named = |name: &str| resource.name.as_ref().is_none_or(|only| only == name);
    resource.within(who.namespace.as_str())
        && match kind {
            Kind::All | Kind::Namespace => true,
            Kind::Owner(kind) => who.kind == *kind && named(who.name.as_str()),
            Kind::Pod => who.kind == "Pod" && named(who.name.as_str()),
            Kind::Service => false,
        }
}

fn row(subject: Subject, tally: Tally, window: u64) -> Row {
    let (all, tcp) = if tally.told {
        (tally.all, tally.tcp)
    } else {
        (tally.heard, tally.heard_tcp)
    };
    let bytes = all.counters.bytes;
    let share = all.bytes_protected as f64 / bytes.max(1) as f64;
    let (kind, namespace, name) = match subject {
        Subject::Namespace(name) => ("ns".to_owned(), name.clone(), name),
        Subject::Owner(namespace, kind, name) => (Kind::short(kind), namespace, name),
        Subject::Other(namespace, kind, name) => (Kind::short(&kind), namespace, name),
        Subject::Pod(namespace, name, _) => ("po".to_owned(), namespace, name),
        Subject::Service(id) => (
            "svc".to_owned(),
            id.namespace.to_string(),
            id.name.to_string(),
        ),
    };
    Row {
        kind,
        namespace,
        name,
        status: tally.status,
        pods: tally.pods,
        window: window_row(&all, window),
        mtls_share: (bytes > 0).then_some(share),
        tcp_open: tcp.open,
        tcp_bytes_per_second: tcp.counters.bytes as f64 / window.max(1) as f64,
    }
}

#[cfg(test)]
mod tests;
