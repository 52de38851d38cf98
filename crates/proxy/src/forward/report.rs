// SPDX-License-Identifier: Apache-2.0
//! What is told to `outcome.rs`, and when: requests when they end, TCP connections when they are established, once a second, and when they end.
//!
//! Must never report an exchange twice. Next: `../outcome.rs`.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use maille_engine::route::Direction;
use maille_model::{Identity, ServerName, WorkloadUid};
use tokio::sync::mpsc;

use super::Core;
use super::exchange::{Carries, Exchange};
use super::recover::Work;
use crate::failure::Failure;
use crate::outcome::{self, Access, Outcome};
use crate::route::Facts;
use crate::table::{ConnId, Id};
use crate::telemetry::{self, Batch, EdgeId, Gauges, Response};

/// Edges that are found without building their key.
const RECENT: usize = 64;
/// Exchanges that have ended and wait to be reported.
const ENDED: usize = 32;

/// Where exchanges count that had the same facts as one of the last second: an edge's key is made of many strings.
#[derive(Debug)]
pub(super) struct Recent([Option<Entry>; RECENT]);

/// Exchanges that have ended and are not reported yet.
#[derive(Debug, Default)]
pub(super) struct Ended {
    waiting: VecDeque<Exchange>,
    /// Somebody is told of one of them.
    pressing: bool,
}

#[derive(Debug)]
struct Entry {
    facts: Cheap,
    edge: EdgeId,
}

/// What tells edges apart, as far as it costs nothing to compare.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Cheap {
    direction: Direction,
    destination: SocketAddr,
    carries: Carries,
    protected: bool,
    unproven: bool,
    uid: Option<WorkloadUid>,
    peer: Option<Arc<Identity>>,
    stranger: Option<IpAddr>,
    server_name: Option<ServerName>,
}

// === impl Recent ===

impl Default for Recent {
    fn default() -> Self {
        Self([const { None }; RECENT])
    }
}

impl Recent {
    fn place(facts: &Cheap) -> usize {
        let address = match facts.destination {
            SocketAddr::V4(address) => u32::from(*address.ip()),
            SocketAddr::V6(address) => {
                let [.., a, b, c, d] = address.ip().octets();
                u32::from_be_bytes([a, b, c, d])
            }
        };
        let mixed = (address ^ u32::from(facts.destination.port()).rotate_left(16))
            .wrapping_mul(0x9e37_79b9);
        mixed as usize >> 8 & (RECENT - 1)
    }
}

// === impl Core ===

impl Core {
    /// Hands over what was counted. Call it once a second.
    pub fn counts(&mut self, to: &mpsc::Sender<Batch>) {
        self.report_ended();
        for id in self.exchanges.ids().collect::<Vec<_>>() {
            self.count_bytes(id);
        }
        let tally = self.balance.take_tally();
        self.recorder.balanced(&tally);
        self.recorder.gauge(Gauges {
            sockets: self.conns.len(),
            mesh_connections: self.links.meshed(),
            exchanges: self.exchanges.len(),
        });
        self.recorder.flush(to);
        // An edge keeps its place while it is used: what was found in the last second still holds.
        self.recent = Recent::default();
    }

    /// A TCP connection goes on for long: its bytes are counted while it does.
    fn count_bytes(&mut self, id: Id<Exchange>) {
        let Some(exchange) = self.exchanges.get_mut(id) else {
            return;
        };
        let Some(edge) = exchange.edge else {
            return;
        };
        let passed = exchange.uncounted();
        outcome::bytes(&mut self.recorder, edge, exchange.facts.direction, passed);
    }

    /// A TCP connection has reached its server.
    pub(super) fn report_opened(&mut self, id: Id<Exchange>) {
        let Some(exchange) = self.exchanges.get(id) else {
            return;
        };
        let own = exchange.facts.is_own_question(&self.settings.dress);
        if exchange.carries != Carries::Tcp || exchange.silent || exchange.edge.is_some() || own {
            return;
        }
        let outcome = outcome_of(exchange, self.now);
        let edge = outcome::edge(&mut self.recorder, &self.snapshot, &outcome);
        self.recorder.opened(edge);
        if let Some(exchange) = self.exchanges.get_mut(id) {
            exchange.edge = Some(edge);
        }
        self.tap_begun(id);
    }

    /// The last thing of a turn: everything was written that can be. Counts that nobody waits for are left until there are more of them: what
    /// counts them is fetched into a cold processor once, and not for each. `all`: none are left.
    pub fn end_turn(&mut self, all: bool) {
        if all || self.ended.pressing {
            self.work = Work::Report;
            self.report_ended();
            self.work = Work::Nobody;
        }
    }

    /// An exchange has ended. It is reported at the end of the turn where somebody is told of it, else before counts are handed over.
    pub(super) fn report_later(&mut self, mut exchange: Exchange) {
        exchange.ended_at = Some(self.now);
        let told = exchange.failure.is_some()
            || exchange.tapped.is_some()
            || self.settings.access != Access::Off;
        self.ended.pressing |= told;
        self.ended.waiting.push_back(exchange);
        if self.ended.waiting.len() >= ENDED {
            self.report_ended();
        }
    }

    /// Reports what has ended, by the snapshot of this moment.
    pub(super) fn report_ended(&mut self) {
        while let Some(mut exchange) = self.ended.waiting.pop_front() {
            self.report(&mut exchange);
        }
        self.ended.pressing = false;
    }

    fn report(&mut self, exchange: &mut Exchange) {
        if exchange.facts.is_own_question(&self.settings.dress) {
            return;
        }
        let edge = match exchange.edge {
            Some(edge) => edge,
            None => {
                let edge = self.edge_of(exchange);
                if exchange.carries == Carries::Tcp {
                    self.recorder.opened(edge);
                }
                edge
            }
        };
        let passed = exchange.uncounted();
        outcome::bytes(&mut self.recorder, edge, exchange.facts.direction, passed);
        self.tap_ended(exchange);
        let outcome = outcome_of(exchange, self.now);
        outcome::report(&mut self.recorder, edge, &outcome, self.settings.access);
    }

    fn edge_of(&mut self, exchange: &Exchange) -> EdgeId {
        let hop = exchange.picked.as_ref().map(|picked| picked.hop());
        let facts = Cheap {
            direction: exchange.facts.direction,
            destination: exchange.facts.destination,
            carries: exchange.carries,
            protected: exchange.protected,
            unproven: exchange.failure == Some(Failure::PeerIdentity),
            uid: hop.and_then(|hop| hop.uid().cloned()),
            peer: exchange.facts.peer.clone(),
            stranger: outcome::stranger(&exchange.facts, &self.snapshot),
            server_name: exchange.facts.server_name.clone(),
        };
        let place = &mut self.recent.0[Recent::place(&facts)];
        if let Some(entry) = place
            && entry.facts == facts
        {
            return entry.edge;
        }
        let outcome = outcome_of(exchange, self.now);
        let edge = outcome::edge(&mut self.recorder, &self.snapshot, &outcome);
        *place = Some(Entry { facts, edge });
        edge
    }

    /// Counts a client whose bytes were no request at all.
    pub(super) fn report_refused(&mut self, conn: ConnId, failure: Failure) {
        let Some(accepted) = self.conns.get(conn).and_then(|conn| conn.accepted) else {
            return;
        };
        let mut exchange = self.new_exchange(Carries::Http, Facts::of(&accepted));
        exchange.failure = Some(failure);
        exchange.status = failure.http_status();
        self.report(&mut exchange);
        self.conns.store(exchange.replay);
    }
}

// === impl Exchange ===

impl Exchange {
    /// Bytes of the request and of the response since the last time.
    fn uncounted(&mut self) -> (u64, u64) {
        let now = (self.request.bytes, self.response.bytes);
        let before = std::mem::replace(&mut self.counted, now);
        (now.0 - before.0, now.1 - before.1)
    }
}

/// The exchange so far, or as it ended.
pub(super) fn outcome_of(exchange: &Exchange, now: std::time::Instant) -> Outcome<'_> {
    let now = exchange.ended_at.unwrap_or(now);
    Outcome {
        carries: match exchange.carries {
            Carries::Http | Carries::Http2 => telemetry::Carries::Http,
            Carries::Tcp => telemetry::Carries::Tcp,
        },
        facts: &exchange.facts,
        plan: exchange.plan.as_ref(),
        hop: exchange.picked.as_ref().map(|picked| picked.hop()),
        protected: exchange.protected,
        response: Response {
            status: exchange.status,
            grpc: exchange.grpc_status,
        },
        failure: exchange.failure,
        asked: exchange.asked.as_deref(),
        latency: exchange
            .answered_at
            .unwrap_or(now)
            .saturating_duration_since(exchange.began),
        lasted: now.saturating_duration_since(exchange.began),
        request_bytes: exchange.request.bytes,
        response_bytes: exchange.response.bytes,
    }
}
