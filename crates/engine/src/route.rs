// SPDX-License-Identifier: Apache-2.0
//! Where a connection or a request goes: a pure function of one snapshot and the facts of the connection (`docs/wire.md`, section 6).
//!
//! Must never let a workload that control lists as meshed be dialled in plain text, whatever else is or is not known.
//! Read `balance.rs` next, which picks one of a service's endpoints.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use maille_model::{
    AddressOwner, Identity, MESH_PORT, Membership, Mesh, Own, Protocol, Service, ServiceId, Terms,
    TrustDomain, Workload, WorkloadUid, Zone,
};

use crate::snapshot::{Candidate, Group, Key, Known, Snapshot};

/// Which way a connection goes, seen from the own workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// The own application dials.
    Outbound,
    /// Somebody dials the own application.
    Inbound,
}

/// What is known about a connection before it is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Facts {
    /// Which way it goes.
    pub direction: Direction,
    /// What the client dialled; for a stream of another proxy, its `:authority`.
    pub destination: SocketAddr,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Go there.
    Forward(Plan),
    /// Do not go.
    Refuse(Refusal),
    /// Ask control for this and decide again; `docs/wire.md` says for how long.
    Wait(Key),
}

/// Why a connection goes nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// The service has no ready endpoint for that port.
    #[error("the service has no ready endpoint for this port")]
    NoEndpoint,
    /// The service has no such port, whoever is behind it.
    #[error("the service has no such port")]
    NoPort,
    /// The address or port is not one that this workload serves.
    #[error("the address is not one of this workload")]
    Misdirected,
}

/// Where it may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// To one place.
    One(Hop),
    /// To any of a service's endpoints: [`crate::balance::pick`] says which.
    Service(Backends),
}

/// The endpoints of one service port, with what turns one of them into a [`Hop`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backends {
    service: ServiceId,
    port: u16,
    like: IpAddr,
    trust_domain: TrustDomain,
    own: WorkloadUid,
    /// The own zone.
    zone: Option<Zone>,
    /// The service itself; `None` where control says that it is gone.
    facts: Option<Arc<Service>>,
    group: Arc<Group>,
}

/// One leg of the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hop {
    /// Mutual TLS to the proxy of another workload.
    Mesh {
        /// Where its proxy listens.
        to: SocketAddr,
        /// What the stream asks for: the workload's address and port.
        target: SocketAddr,
        /// Whom the certificate must be for.
        identity: Identity,
        /// Which workload it is.
        uid: WorkloadUid,
    },
    /// Plain bytes to somebody without a proxy.
    Plain {
        /// Where.
        to: SocketAddr,
        /// Which workload it is, where control said so.
        uid: Option<WorkloadUid>,
    },
    /// The own application, over the own pod's link and nobody else's: also when it dialled a service that it is behind itself.
    /// A client that is the own workload cannot keep its source address there.
    Local {
        /// Where it listens.
        to: SocketAddr,
    },
}

/// What the destination was declared to speak.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hint {
    /// This, or [`Protocol::Undeclared`]: the first bytes decide.
    Declared(Protocol),
    /// Control has not said: ask, and wait before reading anything into silence. The first bytes may decide meanwhile.
    Wait(Key),
}

/// Where `facts` go.
pub fn decide(snapshot: &Snapshot, facts: &Facts) -> Decision {
    match facts.direction {
        Direction::Outbound => decide_outbound(snapshot, facts.destination),
        Direction::Inbound => decide_inbound(snapshot, facts.destination),
    }
}

/// Where what somebody sent to this workload goes: to the application, if the workload serves that address at all.
pub fn decide_inbound(snapshot: &Snapshot, target: SocketAddr) -> Decision {
    let own = match admitted(snapshot) {
        Ok((_, own)) => own,
        Err(key) => return Decision::Wait(key),
    };
    // A pod that its node captures is reached before anybody has told control which addresses it was given.
    if own.workload.addresses.is_empty() && !is_on_link(target) {
        return Decision::Wait(Key::Own);
    }
    // The mesh port belongs to the proxy: `docs/wire.md`, section 1.
    let here = is_own(own, target.ip()) || is_on_link(target);
    if here && target.port() != MESH_PORT {
        Decision::Forward(Plan::One(Hop::Local {
            to: canonical(target),
        }))
    } else {
        Decision::Refuse(Refusal::Misdirected)
    }
}

fn decide_outbound(snapshot: &Snapshot, dialled: SocketAddr) -> Decision {
    let dialled = canonical(dialled);
    let (mesh, own) = match admitted(snapshot) {
        Ok(known) => known,
        Err(key) => return Decision::Wait(key),
    };
    match snapshot.address(dialled.ip()).map(|owner| &**owner) {
        Known::Present(AddressOwner::Workload(workload)) => Decision::Forward(Plan::One(hop(
            &mesh.trust_domain,
            &own.workload.uid,
            workload,
            dialled,
        ))),
        Known::Present(AddressOwner::Service(id)) => {
            decide_service(snapshot, (mesh, own), id, dialled)
        }
        Known::Absent | Known::Unknown if is_own(own, dialled.ip()) => {
            Decision::Forward(Plan::One(Hop::Local { to: dialled }))
        }
        // Nobody's yet, or no longer: a workload that comes and goes there must not be mistaken for a stranger.
        Known::Absent | Known::Unknown if mesh.cluster_ranges.contains(dialled.ip()) => {
            Decision::Wait(Key::Address(dialled.ip()))
        }
        Known::Absent | Known::Unknown => Decision::Forward(Plan::One(Hop::Plain {
            to: dialled,
            uid: None,
        })),
    }
}

fn decide_service(
    snapshot: &Snapshot,
    (mesh, own): (&Mesh, &Own),
    id: &ServiceId,
    dialled: SocketAddr,
) -> Decision {
    let facts = match snapshot.service(id) {
        Known::Unknown => return Decision::Wait(Key::Service(id.clone())),
        Known::Absent => None,
        Known::Present(facts) => Some(Arc::clone(facts)),
    };
    match snapshot.endpoints(id) {
        Known::Unknown => Decision::Wait(Key::Endpoints(id.clone())),
        Known::Present(group) if !group.candidates(dialled.port()).is_empty() => {
            Decision::Forward(Plan::Service(Backends {
                service: id.clone(),
                port: dialled.port(),
                like: dialled.ip(),
                trust_domain: mesh.trust_domain.clone(),
                own: own.workload.uid.clone(),
                zone: own.workload.zone.clone(),
                facts,
                group: Arc::clone(group),
            }))
        }
        Known::Present(_) | Known::Absent => {
            let has = |facts: &Service| facts.ports.iter().any(|port| port.port == dialled.port());
            Decision::Refuse(match facts {
                Some(facts) if !has(&facts) => Refusal::NoPort,
                _ => Refusal::NoEndpoint,
            })
        }
    }
}

/// What the destination was declared to speak. Never the last word: bytes that are something else are found out later.
pub fn hint(snapshot: &Snapshot, facts: &Facts) -> Hint {
    let destination = canonical(facts.destination);
    let (mesh, own) = match admitted(snapshot) {
        Ok(known) => known,
        Err(key) => return Hint::Wait(key),
    };
    if facts.direction == Direction::Inbound || is_own(own, destination.ip()) {
        return Hint::Declared(own.protocol(destination.port()));
    }
    let id = match snapshot.address(destination.ip()).map(|owner| &**owner) {
        Known::Present(AddressOwner::Service(id)) => id,
        Known::Absent | Known::Unknown if mesh.cluster_ranges.contains(destination.ip()) => {
            return Hint::Wait(Key::Address(destination.ip()));
        }
        Known::Present(AddressOwner::Workload(_)) | Known::Absent | Known::Unknown => {
            return Hint::Declared(Protocol::Undeclared);
        }
    };
    match snapshot.service(id) {
        Known::Unknown => Hint::Wait(Key::Service(id.clone())),
        Known::Absent => Hint::Declared(Protocol::Undeclared),
        Known::Present(service) => {
            let port = service
                .ports
                .iter()
                .find(|port| port.port == destination.port());
            Hint::Declared(port.map_or(Protocol::Undeclared, |port| port.protocol))
        }
    }
}

/// Before the first complete snapshot nothing is admitted.
fn admitted(snapshot: &Snapshot) -> Result<(&Mesh, &Own), Key> {
    let mesh = snapshot.mesh().ok_or(Key::Mesh)?;
    let own = snapshot.own().ok_or(Key::Own)?;
    Ok((mesh, own))
}

fn is_own(own: &Own, address: IpAddr) -> bool {
    own.workload.addresses.contains(&address.to_canonical())
}

/// Whether it is a link-local address of a known link. Capture lets only the own one in; what another proxy asks for has no link.
fn is_on_link(address: SocketAddr) -> bool {
    matches!(address, SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() && v6.scope_id() != 0)
}

/// `::ffff:10.0.0.1` is `10.0.0.1`. A link-local address keeps its link.
fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V6(_) => address,
        v4 @ IpAddr::V4(_) => SocketAddr::new(v4, address.port()),
    }
}

/// The one place that turns a workload into a hop.
fn hop(
    trust_domain: &TrustDomain,
    own: &WorkloadUid,
    workload: &Workload,
    target: SocketAddr,
) -> Hop {
    if workload.uid == *own {
        return Hop::Local { to: target };
    }
    match workload.membership {
        Membership::Meshed => Hop::Mesh {
            to: SocketAddr::new(target.ip(), MESH_PORT),
            target,
            identity: workload.identity(trust_domain),
            uid: workload.uid.clone(),
        },
        Membership::Unmeshed => Hop::Plain {
            to: target,
            uid: Some(workload.uid.clone()),
        },
    }
}

// === impl Plan ===

impl Plan {
    /// The service that was addressed, where it was one, with the port that was dialled.
    pub fn service(&self) -> Option<(&ServiceId, u16)> {
        match self {
            Self::One(_) => None,
            Self::Service(backends) => Some((&backends.service, backends.port)),
        }
    }

    /// How the destination wants to be called.
    pub fn terms(&self) -> &Terms {
        match self {
            Self::One(_) => &Terms::DEFAULT,
            Self::Service(backends) => backends.terms(),
        }
    }
}

// === impl Backends ===

impl Backends {
    /// The service and its port.
    pub fn service(&self) -> (&ServiceId, u16) {
        (&self.service, self.port)
    }

    /// How the service wants to be called.
    pub fn terms(&self) -> &Terms {
        self.facts
            .as_ref()
            .map_or(&Terms::DEFAULT, |facts| &facts.terms)
    }

    /// The zone of the own workload.
    pub fn zone(&self) -> Option<&Zone> {
        self.zone.as_ref()
    }

    /// Where the candidates come from: the same group is the same pointer.
    pub fn group(&self) -> &Arc<Group> {
        &self.group
    }

    /// Who answers.
    pub fn candidates(&self) -> &[Candidate] {
        self.group.candidates(self.port)
    }

    /// Where a candidate is reached. `None` for a workload without addresses.
    pub fn target(&self, candidate: &Candidate) -> Option<SocketAddr> {
        candidate
            .address(self.like)
            .map(|address| SocketAddr::new(address, candidate.port()))
    }

    /// The hop to a candidate.
    pub fn hop(&self, candidate: &Candidate) -> Option<Hop> {
        let target = self.target(candidate)?;
        Some(hop(
            &self.trust_domain,
            &self.own,
            candidate.workload(),
            target,
        ))
    }
}

// === impl Hop ===

impl Hop {
    /// The address and port of the application at the other end.
    pub fn target(&self) -> SocketAddr {
        match self {
            Self::Mesh { target, .. } => *target,
            Self::Plain { to, .. } | Self::Local { to } => *to,
        }
    }

    /// The other workload, where it is known; never the own one.
    pub fn uid(&self) -> Option<&WorkloadUid> {
        match self {
            Self::Mesh { uid, .. } => Some(uid),
            Self::Plain { uid, .. } => uid.as_ref(),
            Self::Local { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests;
