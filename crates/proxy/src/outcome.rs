// SPDX-License-Identifier: Apache-2.0
//! The one place that reports an exchange: to telemetry, and as a line of the access log where that is switched on.
//!
//! Must be called exactly once for each exchange, and must never block. Next: `telemetry.rs`.

use std::net::IpAddr;
use std::time::Duration;

use maille_engine::route::{Direction, Hop, Plan};
use maille_engine::snapshot::Snapshot;
use maille_model::{AddressOwner, ServiceId, Workload, WorkloadUid};

use crate::failure::{Failure, Level};
use crate::route::Facts;
use crate::telemetry::{Carries, EdgeId, EdgeKey, Ended, PeerWorkload, Recorder, Response};

/// One line for each exchange.
pub mod access;

pub use access::Access;
pub(crate) use access::Asked;

/// How an exchange ended.
#[derive(Debug)]
pub(crate) struct Outcome<'a> {
    pub(crate) carries: Carries,
    pub(crate) facts: &'a Facts,
    pub(crate) plan: Option<&'a Plan>,
    pub(crate) hop: Option<&'a Hop>,
    /// The hop to the other side is mutual TLS.
    pub(crate) protected: bool,
    /// What the request asked for, where there is an access log.
    pub(crate) asked: Option<&'a Asked>,
    /// What the client got.
    pub(crate) response: Response,
    pub(crate) failure: Option<Failure>,
    /// To the first byte of the answer.
    pub(crate) latency: Duration,
    /// To the end.
    pub(crate) lasted: Duration,
    pub(crate) request_bytes: u64,
    pub(crate) response_bytes: u64,
}

/// The edge on which an exchange counts.
pub(crate) fn edge(recorder: &mut Recorder, snapshot: &Snapshot, outcome: &Outcome<'_>) -> EdgeId {
    let facts = outcome.facts;
    let service = service(outcome, snapshot);
    let peer = peer(outcome);
    let peer_uid = match (facts.direction, outcome.hop) {
        (Direction::Outbound, Some(hop)) => hop.uid().cloned(),
        (Direction::Inbound, _) | (Direction::Outbound, None) => None,
    };
    recorder.edge(&EdgeKey {
        direction: facts.direction,
        workload: peer_uid
            .as_ref()
            .and_then(|uid| called(uid, snapshot, outcome)),
        peer_uid,
        peer_address: stranger(facts, snapshot),
        peer,
        service,
        port: facts.destination.port(),
        carries: outcome.carries,
        protected: outcome.protected,
        server_name: facts.server_name.clone(),
    })
}

/// What the other workload is called.
fn called(uid: &WorkloadUid, snapshot: &Snapshot, outcome: &Outcome<'_>) -> Option<PeerWorkload> {
    let named = |workload: &Workload| PeerWorkload {
        namespace: workload.namespace.clone(),
        name: workload.name.clone(),
        owner: workload.owner.clone(),
    };
    if let Some(Plan::Service(backends)) = outcome.plan {
        let candidates = backends.candidates().iter();
        let mut workloads = candidates.map(|candidate| candidate.workload());
        return workloads.find(|known| known.uid == *uid).map(named);
    }
    match snapshot
        .address(outcome.hop?.target().ip())
        .present()?
        .as_ref()
    {
        AddressOwner::Workload(workload) if workload.uid == *uid => Some(named(workload)),
        AddressOwner::Workload(_) | AddressOwner::Service(_) => None,
    }
}

/// The address of a client without an identity, if it is one of the cluster: of the others there are too many to tell apart.
pub(crate) fn stranger(facts: &Facts, snapshot: &Snapshot) -> Option<IpAddr> {
    let client = facts.client.ip();
    let unknown = facts.direction == Direction::Inbound && facts.peer.is_none();
    let inside = unknown && snapshot.mesh()?.cluster_ranges.contains(client);
    inside.then_some(client)
}

/// The service that was addressed, whether or not anybody was behind it.
pub(crate) fn service(outcome: &Outcome<'_>, snapshot: &Snapshot) -> Option<ServiceId> {
    if let Some((id, _)) = outcome.plan.and_then(Plan::service) {
        return Some(id.clone());
    }
    let facts = outcome.facts;
    let unplanned = facts.direction == Direction::Outbound && outcome.plan.is_none();
    let address = unplanned.then(|| facts.destination.ip().to_canonical())?;
    match snapshot.address(address).present()?.as_ref() {
        AddressOwner::Service(id) => Some(id.clone()),
        AddressOwner::Workload(_) => None,
    }
}

/// The proven identity of the other side.
pub(crate) fn peer(outcome: &Outcome<'_>) -> Option<maille_model::Identity> {
    match (outcome.facts.direction, outcome.hop) {
        (Direction::Inbound, _) => outcome.facts.peer.as_deref().cloned(),
        (Direction::Outbound, Some(hop)) => proven(hop, outcome),
        (Direction::Outbound, None) => None,
    }
}

/// Whom the other end of a mesh hop has proved to be: nobody else gets an answer through.
fn proven(hop: &Hop, outcome: &Outcome<'_>) -> Option<maille_model::Identity> {
    match hop {
        Hop::Mesh { identity, .. } if outcome.failure != Some(Failure::PeerIdentity) => {
            Some(identity.clone())
        }
        Hop::Mesh { .. } | Hop::Plain { .. } | Hop::Local { .. } => None,
    }
}

/// Counts bytes: of the request and of the response.
pub(crate) fn bytes(recorder: &mut Recorder, edge: EdgeId, way: Direction, passed: (u64, u64)) {
    let (sent, received) = match way {
        Direction::Outbound => passed,
        Direction::Inbound => (passed.1, passed.0),
    };
    if sent + received > 0 {
        recorder.bytes(edge, sent, received);
    }
}

/// Counts the end of an exchange, and logs it. Its bytes are counted by [`bytes`].
pub(crate) fn report(recorder: &mut Recorder, edge: EdgeId, outcome: &Outcome<'_>, access: Access) {
    match outcome.carries {
        Carries::Http => recorder.request(
            edge,
            &Ended {
                response: outcome.response,
                failure: outcome.failure,
                latency: outcome.latency,
            },
        ),
        Carries::Tcp => recorder.closed(edge, outcome.failure, outcome.lasted),
    }
    if let Some(failure) = outcome.failure {
        tell(failure, outcome.facts);
    }
    access::write(access, outcome);
}

/// A failure of the mesh is told, others only to those who look closely: they are the application's, and it knows.
fn tell(failure: Failure, facts: &Facts) {
    let (flag, stage, blame) = (failure.flag(), failure.stage(), failure.blame());
    let (stage, blame) = (stage.name(), blame.name());
    let (src, dst) = (facts.client, facts.destination);
    let peer = facts.peer.as_deref().map(tracing::field::display);
    match failure.level() {
        Level::Warn => {
            maille_chassis::limited!(warn, flag, stage, blame, src.addr = %src, dst.addr = %dst, peer.id = peer, "{failure}");
        }
        Level::Debug => {
            tracing::debug!(flag, stage, blame, src.addr = %src, dst.addr = %dst, peer.id = peer, "{failure}");
        }
    }
}
