// SPDX-License-Identifier: Apache-2.0
//! Stage 4, thin: what the core knows of an exchange becomes facts for `engine::route`, and its answer a decision of ours.
//!
//! Must never decide anything itself. Next: `balance.rs`.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use maille_engine::route::{self, Direction, Hop, Plan, Refusal};
use maille_engine::snapshot::{Key, Snapshot};
use maille_model::{Identity, METRICS_PORT, Protocol, ServerName};

use crate::accept::{Accepted, Door};
use crate::connect::tcp::ConnectSpec;
use crate::failure::Failure;

/// What is known about an exchange.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) direction: Direction,
    /// Who began it, as the socket says.
    pub(crate) client: SocketAddr,
    /// Where it goes: what the client dialled, or `:authority`.
    pub(crate) destination: SocketAddr,
    /// The client's address as a mesh peer tells it: a claim, reported and nothing else.
    pub(crate) claimed: Option<IpAddr>,
    /// What the client dialled at the far end of a mesh hop, where that differs.
    pub(crate) dialled: Option<SocketAddr>,
    /// What the bytes are, where somebody knows it.
    pub(crate) protocol: Protocol,
    /// Whom a TLS client asked for.
    pub(crate) server_name: Option<ServerName>,
    /// The proven identity of a mesh peer.
    pub(crate) peer: Option<Arc<Identity>>,
}

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Decision {
    /// Go there.
    Forward(Plan),
    /// Say this.
    Refuse(Failure),
    /// Ask control first.
    Wait(Key),
}

/// A port of the proxy in front of one of the application's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Front {
    /// What clients dial.
    pub port: u16,
    /// Where the application is.
    pub application: SocketAddr,
}

/// How sockets towards the own application are dressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dress {
    /// Bind to the client's address (`IP_TRANSPARENT`).
    pub keep_source: bool,
    /// `SO_MARK`.
    pub mark: Option<u32>,
    /// Where the proxy itself answers what is sent to port 4191 of its workload.
    pub metrics: Option<SocketAddr>,
    /// The port that clients dial in place of the application's.
    pub front: Option<Front>,
}

// === impl Facts ===

impl Facts {
    /// Facts of an accepted plain connection.
    pub(crate) fn of(accepted: &Accepted) -> Self {
        Self {
            direction: match accepted.door {
                Door::Plain(direction) => direction,
                Door::Mesh => Direction::Inbound,
            },
            client: accepted.client,
            destination: accepted.destination,
            claimed: None,
            dialled: None,
            protocol: Protocol::Undeclared,
            server_name: None,
            peer: None,
        }
    }

    /// What a mesh peer says of its client, where the connection does not say it too.
    pub(crate) fn claim(&self) -> Option<IpAddr> {
        self.claimed.filter(|claimed| *claimed != self.client.ip())
    }

    /// It is a question to the proxy itself.
    pub(crate) fn is_own_question(&self, dress: &Dress) -> bool {
        self.direction == Direction::Inbound
            && self.destination.port() == METRICS_PORT
            && dress.metrics.is_some()
    }

    /// The part that decisions read.
    pub(crate) fn asked(&self) -> route::Facts {
        route::Facts {
            direction: self.direction,
            destination: self.destination,
        }
    }
}

/// Decides by `snapshot`.
pub(crate) fn decide(snapshot: &Snapshot, facts: &Facts) -> Decision {
    match route::decide(snapshot, &facts.asked()) {
        route::Decision::Forward(plan) => Decision::Forward(plan),
        route::Decision::Refuse(refusal) => Decision::Refuse(refused(refusal)),
        route::Decision::Wait(key) => Decision::Wait(key),
    }
}

/// A refusal, as clients and reports see it.
pub(crate) fn refused(refusal: Refusal) -> Failure {
    match refusal {
        Refusal::NoEndpoint => Failure::NoEndpoint,
        Refusal::NoPort => Failure::NoPort,
        Refusal::Misdirected => Failure::Misdirected,
    }
}

/// The socket of a plain hop. `None` for a mesh hop, which never becomes one.
pub(crate) fn spec(hop: &Hop, facts: &Facts, own: &[IpAddr], dress: Dress) -> Option<ConnectSpec> {
    match hop {
        Hop::Mesh { .. } => None,
        Hop::Plain { to, .. } => Some(ConnectSpec::far(*to)),
        Hop::Local { to } if to.port() == METRICS_PORT && dress.metrics.is_some() => {
            dress.metrics.map(ConnectSpec::near)
        }
        // What goes to a port of the proxy's own would come back to it.
        Hop::Local { to } if dress.front.is_some_and(|front| front.port == to.port()) => dress
            .front
            .map(|front| ConnectSpec::near(front.application)),
        Hop::Local { to } => {
            // An application that dialled a service it is behind itself cannot be spoken to from its own address; from the
            // service's it can, and nobody else has that.
            let source = match facts.direction {
                Direction::Inbound => facts.client.ip(),
                Direction::Outbound => facts.destination.ip(),
            };
            let bind = dress.keep_source
                && source.is_ipv4() == to.is_ipv4()
                && !own.contains(&source)
                && !source.is_loopback();
            Some(ConnectSpec {
                source: bind.then_some(source),
                mark: dress.mark,
                ..ConnectSpec::near(*to)
            })
        }
    }
}
