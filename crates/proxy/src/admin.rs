// SPDX-License-Identifier: Apache-2.0
//! Questions to one proxy, over its admin socket: metrics, readiness, what it knows, and what it would decide. On port 4191 of its pod
//! anybody may ask for the first two.
//!
//! `/decide` calls the very function that connections are decided by. Must never change anything. Read `metrics.rs` and `telemetry/totals.rs` for numbers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use maille_chassis::admin::{Answer, Reply};
use maille_chassis::metrics::{CONTENT_TYPE, Text};
use maille_engine::route::{self, Decision, Direction, Facts, Hint, Hop, Plan};
use maille_engine::snapshot::{Candidate, Known, Snapshot};
use maille_model::{AddressOwner, Membership};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::identity_feed;
use crate::metrics;
use crate::questions::explain::question;
use crate::telemetry::report::Counted;

/// Answers from what is in force.
#[derive(Clone, Debug)]
pub struct Admin {
    /// What is known.
    pub snapshots: watch::Receiver<Arc<Snapshot>>,
    /// The own certificate.
    pub credentials: identity_feed::Feed,
    /// What passed through.
    pub counted: Counted,
    /// When the process began.
    pub started: SystemTime,
}

/// The part of it that is for everybody who can reach the pod: numbers and readiness, and no word of what is known or decided.
#[derive(Clone, Debug)]
pub struct Public(pub Admin);

impl Answer for Public {
    fn answer(&self, path: &str, query: &str) -> Reply {
        match path {
            "/metrics" | "/ready" => self.0.answer(path, query),
            // That there is an answer is the answer.
            "/live" => Reply::text("live\n"),
            "/" => Reply::text("/metrics /ready /live\n"),
            _ => Reply::not_found(),
        }
    }
}

// === impl Admin ===

impl Answer for Admin {
    fn answer(&self, path: &str, query: &str) -> Reply {
        match path {
            "/metrics" => self.metrics(),
            "/ready" => self.ready(),
            "/snapshot" => pretty(&view(&self.snapshots.borrow())),
            "/decide" => self.decide(query),
            "/" => {
                Reply::text("/metrics /ready /snapshot /decide?dst=IP:PORT[&direction=inbound]\n")
            }
            _ => Reply::not_found(),
        }
    }
}

impl Admin {
    fn metrics(&self) -> Reply {
        let mut text = Text::default();
        let credentials = self.credentials.borrow().clone();
        metrics::process::write(
            &mut text,
            self.started,
            &self.snapshots.borrow(),
            credentials.as_ref(),
        );
        let first = std::iter::once(text.into_string().into_bytes());
        Reply::pages(CONTENT_TYPE, first.chain(self.counted.pages()))
    }

    fn ready(&self) -> Reply {
        let missing = if self.credentials.borrow().is_none() {
            "no certificate yet\n"
        } else if !self.snapshots.borrow().is_complete() {
            "no complete snapshot yet\n"
        } else {
            return Reply::text("ready\n");
        };
        Reply::of(
            http::StatusCode::SERVICE_UNAVAILABLE,
            "text/plain; charset=utf-8",
            missing.into(),
        )
    }

    fn decide(&self, query: &str) -> Reply {
        let refuse = |text: &str| {
            Reply::of(
                http::StatusCode::BAD_REQUEST,
                "text/plain; charset=utf-8",
                format!("{text}\n"),
            )
        };
        let value = |key: &str| {
            query
                .split('&')
                .find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='))
        };
        let Some(destination) = value("dst").and_then(address) else {
            return refuse(
                "dst must be IP:PORT, such as dst=10.96.0.20:80 or dst=[fd00:96::20]:80",
            );
        };
        let direction = match value("direction") {
            None | Some("outbound") => Direction::Outbound,
            Some("inbound") => Direction::Inbound,
            Some(_) => return refuse("direction must be outbound or inbound"),
        };
        let snapshot = Arc::clone(&self.snapshots.borrow());
        pretty(&explain(
            &snapshot,
            &Facts {
                direction,
                destination,
            },
        ))
    }
}

/// A socket address whose brackets and colons may be percent-encoded.
fn address(text: &str) -> Option<SocketAddr> {
    let plain = [
        ("%5B", "["),
        ("%5b", "["),
        ("%5D", "]"),
        ("%5d", "]"),
        ("%3A", ":"),
        ("%3a", ":"),
    ];
    let text = plain
        .iter()
        .fold(text.to_owned(), |text, (from, to)| text.replace(from, to));
    text.parse().ok()
}

/// What would be done with a connection, and why.
pub fn explain(snapshot: &Snapshot, facts: &Facts) -> Value {
    let (verdict, detail) = match route::decide(snapshot, facts) {
        Decision::Forward(Plan::One(one)) => ("forward", json!([hop(&one)])),
        Decision::Forward(Plan::Service(backends)) => {
            let hops = backends
                .candidates()
                .iter()
                .filter_map(|candidate| backends.hop(candidate));
            ("forward", hops.map(|one| hop(&one)).collect())
        }
        Decision::Refuse(refusal) => ("refuse", json!(refusal.to_string())),
        Decision::Wait(key) => (
            "wait",
            json!(format!("for control to say: {}", question(&key))),
        ),
    };
    let hint = match route::hint(snapshot, facts) {
        Hint::Declared(protocol) => json!(format!("{protocol:?}").to_lowercase()),
        Hint::Wait(key) => json!(format!("for control to say: {}", question(&key))),
    };
    json!({
        "destination": facts.destination.to_string(),
        "direction": format!("{:?}", facts.direction).to_lowercase(),
        "owner": owner(snapshot, facts),
        "decision": verdict,
        "detail": detail,
        "protocol": hint,
    })
}

fn owner(snapshot: &Snapshot, facts: &Facts) -> Value {
    let address = facts.destination.ip().to_canonical();
    match snapshot.address(address).map(|owner| &**owner) {
        Known::Present(AddressOwner::Workload(workload)) => json!({
            "workload": format!("{}/{}", workload.namespace, workload.name),
            "uid": workload.uid.as_str(),
            "meshed": workload.membership == Membership::Meshed,
        }),
        Known::Present(AddressOwner::Service(id)) => json!({ "service": id.to_string() }),
        Known::Absent => json!("nobody's, says control"),
        Known::Unknown
            if snapshot
                .mesh()
                .is_some_and(|mesh| mesh.cluster_ranges.contains(address)) =>
        {
            json!("inside the cluster's ranges, and control has not said")
        }
        Known::Unknown => json!("outside the cluster's ranges"),
    }
}

fn hop(hop: &Hop) -> Value {
    match hop {
        Hop::Mesh {
            to,
            target,
            identity,
            uid,
        } => json!({
            "hop": "mesh",
            "to": to.to_string(),
            "target": target.to_string(),
            "identity": identity.to_string(),
            "uid": uid.as_str(),
        }),
        Hop::Plain { to, uid } => json!({
            "hop": "plain",
            "to": to.to_string(),
            "uid": uid.as_ref().map(|uid| uid.as_str()),
        }),
        Hop::Local { to } => json!({ "hop": "local", "to": to.to_string() }),
    }
}

/// Everything in force, names in order.
pub fn view(snapshot: &Snapshot) -> Value {
    let mesh = snapshot.mesh().map(|mesh| {
        let ranges = mesh.cluster_ranges.0.iter();
        json!({
            "trust_domain": mesh.trust_domain.as_str(),
            "trust_anchors": mesh.trust_anchors.len(),
            "cluster_ranges": ranges.map(ToString::to_string).collect::<Vec<_>>(),
        })
    });
    let own = snapshot.own().map(|own| {
        let addresses = own.workload.addresses.iter();
        json!({
            "uid": own.workload.uid.as_str(),
            "workload": format!("{}/{}", own.workload.namespace, own.workload.name),
            "service_account": own.workload.service_account.as_str(),
            "addresses": addresses.map(ToString::to_string).collect::<Vec<_>>(),
        })
    });
    let addresses = sorted(snapshot.addresses().map(|(address, owner)| {
        let said = match owner.map(|owner| &**owner) {
            Known::Present(AddressOwner::Workload(workload)) => {
                format!(
                    "workload {}/{} {}",
                    workload.namespace, workload.name, workload.uid
                )
            }
            Known::Present(AddressOwner::Service(id)) => format!("service {id}"),
            Known::Absent | Known::Unknown => "nobody".to_owned(),
        };
        (address.to_string(), json!(said))
    }));
    let services = sorted(snapshot.services().map(|(id, service)| {
        let port = |port: &maille_model::ServicePort| {
            format!("{} {:?}", port.port, port.protocol).to_lowercase()
        };
        let ports = service
            .present()
            .map(|service| service.ports.iter().map(port).collect::<Vec<_>>());
        (id.to_string(), json!(ports))
    }));
    let endpoints = sorted(snapshot.groups().map(|(id, group)| {
        let ports = group.present().map(|group| {
            let ports = group.ports().map(|(port, all)| {
                (
                    port.to_string(),
                    all.iter().map(endpoint).collect::<Vec<_>>().into(),
                )
            });
            ports.collect::<serde_json::Map<_, _>>()
        });
        (id.to_string(), json!(ports))
    }));
    json!({ "mesh": mesh, "own": own, "addresses": addresses, "services": services, "endpoints": endpoints })
}

fn endpoint(candidate: &Candidate) -> String {
    let workload = candidate.workload();
    let membership = if candidate.meshed() {
        "meshed"
    } else {
        "plain"
    };
    format!(
        "{}/{} port {} {membership}",
        workload.namespace,
        workload.name,
        candidate.port()
    )
}

fn sorted(entries: impl Iterator<Item = (String, Value)>) -> Value {
    let mut entries: Vec<_> = entries.collect();
    entries.sort_by(|(a, _), (b, _)| a.cmp(b));
    Value::Object(entries.into_iter().collect())
}

fn pretty(value: &Value) -> Reply {
    Reply::json(format!("{value:#}\n"))
}

#[cfg(test)]
mod tests;
