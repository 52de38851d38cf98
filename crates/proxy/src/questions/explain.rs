// SPDX-License-Identifier: Apache-2.0
//! What would be done with a connection, and why, by the very functions that connections are decided by. Pure.
//!
//! Must never decide anything itself. Read `maille_engine::route` next.

use maille_engine::route::{self, Decision, Facts, Hint, Hop, Plan};
use maille_engine::snapshot::{Key, Known, Snapshot};
use maille_model::{AddressOwner, Protocol};
use maille_wire::v1;
use maille_wire::v1::explanation::Verdict;

/// The answer by `snapshot`. `ready`: the proxy takes part.
pub fn explain(snapshot: &Snapshot, facts: &Facts, ready: bool) -> v1::Explanation {
    let address = facts.destination.ip().to_canonical();
    let mut said = v1::Explanation {
        inside: snapshot
            .mesh()
            .is_some_and(|mesh| mesh.cluster_ranges.contains(address)),
        protocol: match route::hint(snapshot, facts) {
            Hint::Declared(protocol) => name(protocol).to_owned(),
            Hint::Wait(_) => String::new(),
        },
        ready,
        ..v1::Explanation::default()
    };
    if let Known::Present(owner) = snapshot.address(address) {
        match &**owner {
            AddressOwner::Workload(workload) => said.owner_uid = workload.uid.to_string(),
            AddressOwner::Service(id) => said.owner_service = id.to_string(),
        }
    }
    match route::decide(snapshot, facts) {
        Decision::Forward(plan) => {
            said.set_verdict(Verdict::Forward);
            said.terms = maille_wire::terms(plan.terms());
            said.legs = match &plan {
                Plan::One(hop) => vec![leg(hop)],
                Plan::Service(backends) => {
                    let hops = backends.candidates().iter();
                    hops.filter_map(|candidate| backends.hop(candidate))
                        .map(|hop| leg(&hop))
                        .collect()
                }
            };
        }
        Decision::Refuse(refusal) => {
            let failure = crate::route::refused(refusal);
            said.set_verdict(Verdict::Refuse);
            failure.flag().clone_into(&mut said.flag);
            said.why = failure.to_string();
        }
        Decision::Wait(key) => {
            let failure = crate::failure::Failure::UnknownAddress;
            said.set_verdict(Verdict::Wait);
            failure.flag().clone_into(&mut said.flag);
            said.why = format!("control has not said {}", question(&key));
        }
    }
    said
}

/// What a port was declared to speak, in a word; nothing where nobody declared anything.
pub const fn name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Undeclared => "",
        Protocol::Http1 => "http/1",
        Protocol::Http2 => "http/2",
        Protocol::Grpc => "grpc",
        Protocol::Tls => "tls",
        Protocol::Tcp => "tcp",
    }
}

/// What control is asked with a key.
pub fn question(key: &Key) -> String {
    match key {
        Key::Mesh => "what the mesh is".to_owned(),
        Key::Own => "what the own workload is".to_owned(),
        Key::Address(address) => format!("whose {address} is"),
        Key::Service(id) => format!("what service {id} is"),
        Key::Endpoints(id) => format!("who is behind service {id}"),
    }
}

fn leg(hop: &Hop) -> v1::Leg {
    let uid = hop.uid().map(ToString::to_string).unwrap_or_default();
    let target = hop.target().to_string();
    let (word, to, identity) = match hop {
        Hop::Mesh { to, identity, .. } => ("mesh", *to, identity.to_string()),
        Hop::Plain { to, .. } => ("plain", *to, String::new()),
        Hop::Local { to } => ("local", *to, String::new()),
    };
    v1::Leg {
        hop: word.to_owned(),
        to: to.to_string(),
        target,
        uid,
        identity,
    }
}
