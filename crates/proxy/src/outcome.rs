// SPDX-License-Identifier: Apache-2.0
//! The one place that reports an exchange: to telemetry, and as a line of the access log where that is switched on.
//!
//! Must be called exactly once for each exchange, and must never block. Next: `telemetry.rs`.

use std::net::SocketAddr;
use std::time::Duration;

use maille_engine::route::{Direction, Hop, Plan};

use crate::failure::Failure;
use crate::route::Facts;
use crate::telemetry::{Carries, EdgeId, EdgeKey, Ended, Recorder};

/// How an exchange ended.
#[derive(Debug)]
pub(crate) struct Outcome<'a> {
    pub(crate) carries: Carries,
    pub(crate) facts: &'a Facts,
    pub(crate) plan: Option<&'a Plan>,
    pub(crate) hop: Option<&'a Hop>,
    /// The hop to the other side is mutual TLS.
    pub(crate) protected: bool,
    /// 0 where the client got none.
    pub(crate) status: u16,
    pub(crate) failure: Option<Failure>,
    /// To the first byte of the answer; the whole time for TCP.
    pub(crate) latency: Duration,
    pub(crate) request_bytes: u64,
    pub(crate) response_bytes: u64,
}

/// The edge on which an exchange counts.
pub(crate) fn edge(recorder: &mut Recorder, outcome: &Outcome<'_>) -> EdgeId {
    let facts = outcome.facts;
    let service = outcome.plan.and_then(Plan::service);
    let (peer_uid, peer) = match (facts.direction, outcome.hop) {
        (Direction::Inbound, _) => (None, facts.peer.as_deref().cloned()),
        (Direction::Outbound, Some(hop)) => (hop.uid().cloned(), proven(hop, outcome)),
        (Direction::Outbound, None) => (None, None),
    };
    recorder.edge(&EdgeKey {
        direction: facts.direction,
        peer_uid,
        peer_address: (facts.direction == Direction::Inbound && peer.is_none())
            .then(|| facts.client.ip()),
        peer,
        service: service.map(|(id, _)| id.clone()),
        port: facts.destination.port(),
        carries: outcome.carries,
        protected: outcome.protected,
    })
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
pub(crate) fn report(recorder: &mut Recorder, edge: EdgeId, outcome: &Outcome<'_>) {
    match outcome.carries {
        Carries::Http => recorder.request(
            edge,
            &Ended {
                status: outcome.status,
                failure: outcome.failure,
                latency: outcome.latency,
            },
        ),
        Carries::Tcp => recorder.closed(edge, outcome.failure),
    }
    log(outcome);
}

fn log(outcome: &Outcome<'_>) {
    if !tracing::enabled!(target: "access", tracing::Level::INFO) {
        return;
    }
    let facts = outcome.facts;
    let target = outcome
        .hop
        .map_or(facts.destination, |hop: &Hop| -> SocketAddr {
            hop.target()
        });
    tracing::info!(
        target: "access",
        direction = ?facts.direction,
        carries = ?outcome.carries,
        src.addr = %facts.client,
        src.claimed = facts.claim().map(tracing::field::display),
        dst.addr = %facts.dialled.unwrap_or(facts.destination),
        dst.endpoint = %target,
        peer.id = facts.peer.as_deref().map(tracing::field::display),
        protected = outcome.protected,
        status = outcome.status,
        flag = outcome.failure.map(Failure::flag),
        dur.us = u64::try_from(outcome.latency.as_micros()).unwrap_or(u64::MAX),
        bytes.request = outcome.request_bytes,
        bytes.response = outcome.response_bytes,
    );
}
