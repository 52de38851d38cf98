// SPDX-License-Identifier: Apache-2.0
//! Where an exchange goes: decide, pick, connect, and once more elsewhere when that failed before anybody saw the request.
//!
//! A connection accepts bytes before it is connected, so there is no queue in front of it: what was put into a connect that
//! fails is put again, from the replay, into the next. Must never try a meshed endpoint in plain text. Next: `client.rs`.

use std::time::Duration;

use super::Core;
use super::conns::{Conn, Effect, Role};
use super::exchange::{Carries, End, Exchange, Last, Side};
use super::recover::Work;
use super::timers::Timer;
use crate::connect::pool::PoolKey;
use crate::connect::tcp::ConnectSpec;
use crate::failure::Failure;
use crate::route::{self, Decision};
use crate::table::Id;

/// How long control may take to say whose an address is (`docs/wire.md`, section 6).
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// How long a service may be without a ready endpoint, or without a port: news of one is still on the way.
const NEWS: Duration = Duration::from_secs(1);
/// Destinations that are known to be without, and for which nobody waits until control says something.
const BARREN: usize = 1_024;

impl Core {
    /// Decides where the exchange goes, by the snapshot of this moment.
    pub(super) fn decide(&mut self, id: Id<Exchange>) {
        let Some(exchange) = self.exchanges.get_mut(id) else {
            return;
        };
        match route::decide(&self.snapshot, &exchange.facts) {
            Decision::Forward(plan) => {
                exchange.plan = Some(plan);
                self.attach_next(id, None);
            }
            Decision::Refuse(failure @ (Failure::NoEndpoint | Failure::NoPort))
                if !self.barren.contains(&exchange.facts.destination) =>
            {
                self.park(id, failure, NEWS);
            }
            Decision::Refuse(failure) => self.fail(id, failure),
            Decision::Wait(key) => {
                self.ask(key);
                self.park(id, Failure::UnknownAddress, PATIENCE);
            }
        }
    }

    /// Waits for control to say something; what is set first for how long holds.
    fn park(&mut self, id: Id<Exchange>, failure: Failure, patience: Duration) {
        let Some(exchange) = self.exchanges.get_mut(id) else {
            return;
        };
        if exchange.parked.replace(failure).is_none() {
            self.timers.set(self.now + patience, Timer::Wait(id));
        }
        self.waiting.push(id);
    }

    /// Control said something: whoever waits is decided again.
    pub(super) fn decide_waiting(&mut self) {
        self.detect_again();
        self.barren.clear();
        for id in std::mem::take(&mut self.waiting) {
            self.work = Work::Exchange(id);
            self.decide(id);
        }
        self.work = Work::Nobody;
    }

    /// Control has not said in time.
    pub(super) fn waited(&mut self, id: Id<Exchange>) {
        let exchange = self.exchanges.get(id);
        let Some(exchange) = exchange.filter(|exchange| exchange.plan.is_none()) else {
            return;
        };
        let failure = exchange.parked.unwrap_or(Failure::UnknownAddress);
        let barren = matches!(failure, Failure::NoEndpoint | Failure::NoPort);
        if barren && self.barren.len() < BARREN {
            self.barren.insert(exchange.facts.destination);
        }
        self.waiting.retain(|waiting| *waiting != id);
        self.fail(id, failure);
    }

    /// An endpoint failed before it saw anything: the next one, by the snapshot of this moment.
    pub(super) fn attempt_elsewhere(&mut self, id: Id<Exchange>, failure: Failure) {
        self.heard_failure(id, failure);
        let plan = self.plan_now(id);
        let Some(exchange) = self.exchanges.get_mut(id) else {
            return;
        };
        exchange.fresh = false;
        match plan {
            Some(plan) => exchange.plan = Some(plan),
            None => return self.fail(id, failure),
        }
        self.attach_next(id, Some(failure));
    }

    /// `after` is why the endpoint before failed: what is told if there is no other.
    fn attach_next(&mut self, id: Id<Exchange>, after: Option<Failure>) {
        let Some(exchange) = self.exchanges.get_mut(id) else {
            return;
        };
        let Some(plan) = &exchange.plan else {
            return;
        };
        if let Some(before) = &mut exchange.picked {
            self.balance.done(before, self.now);
        }
        let mut picked = self.balance.pick(plan, &mut exchange.tried, self.now);
        if matches!(picked, Err(Failure::NoEndpoint))
            && after == Some(Failure::StreamRefused)
            // Another proxy has more endpoints, or tries again itself.
            && exchange.facts.peer.is_none()
        {
            // A server that had not said yet how much it takes has said it by now.
            picked = (self.balance).pick_again(plan, &mut exchange.tried, self.now);
        }
        match picked {
            Ok(picked) => {
                exchange.picked = Some(picked);
                self.set_deadline(id);
                if !self.is_tcp(id) {
                    self.tap_begun(id);
                }
                self.attach(id);
            }
            Err(failure) => self.fail(id, after.unwrap_or(failure)),
        }
    }

    /// Gives the exchange its upstream side, and that side everything that came so far.
    pub(super) fn attach(&mut self, id: Id<Exchange>) {
        // Who was worked for may have nothing to do with it any more.
        self.attaching = Some(id);
        self.attach_upstream(id);
        self.attaching = None;
    }

    fn attach_upstream(&mut self, id: Id<Exchange>) {
        let Some(exchange) = self.exchanges.get_mut(id) else {
            return;
        };
        let Some(picked) = &exchange.picked else {
            return;
        };
        exchange.established = false;
        exchange.keep_up = true;
        let hop = picked.hop();
        let own = self
            .snapshot
            .own()
            .map_or(&[][..], |own| &own.workload.addresses);
        match route::spec(hop, &exchange.facts, own, self.settings.dress) {
            Some(spec) if exchange.carries != Carries::Http2 => self.attach_plain(id, spec),
            plain => self.attach_stream(id, plain),
        }
    }

    fn attach_plain(&mut self, id: Id<Exchange>, spec: ConnectSpec) {
        let Some(exchange) = self.exchanges.get_mut(id) else {
            return;
        };
        exchange.protected = matches!(exchange.down, Side::Stream { .. });
        let key = PoolKey {
            to: spec.to,
            source: spec.source,
        };
        let http = exchange.carries == Carries::Http;
        let again = exchange.request_head.idempotent;
        let pooled = if http && !exchange.fresh {
            self.pool.take(&key, again, self.now)
        } else {
            None
        };
        let conn = pooled.or_else(|| self.connect_plain(spec));
        let Some(conn) = conn else {
            return self.fail(id, Failure::Overloaded);
        };
        let Some(server) = self.conns.get_mut(conn) else {
            return;
        };
        server.role = if http { Role::Server } else { Role::Raw };
        server.exchange = Some((id, End::Up));
        server.pool_key = Some(key);
        let connected = !server.connecting;
        self.give_replay(id, conn);
        if connected {
            self.established(id);
        }
    }

    fn connect_plain(&mut self, spec: ConnectSpec) -> Option<super::ConnId> {
        if self.conns.len() >= self.settings.max_connections {
            return None;
        }
        let mut server = Conn::new(Role::Server);
        server.connecting = true;
        let conn = self.conns.insert(server);
        self.conns.effect(Effect::Connect { conn, spec });
        self.timers.set(
            self.now + self.settings.connect_timeout,
            Timer::Connect(conn),
        );
        Some(conn)
    }

    fn give_replay(&mut self, id: Id<Exchange>, conn: super::ConnId) {
        let Some(exchange) = self.exchanges.get_mut(id) else {
            return;
        };
        exchange.up = Side::Plain(conn);
        self.conns.put(conn, &exchange.replay);
        let body = exchange.replay.len() - exchange.request_head.length;
        let from_stream = matches!(exchange.down, Side::Stream { .. });
        let fin = exchange.raw && exchange.request.ended;
        if from_stream && let Some(server) = self.conns.get_mut(conn) {
            server.owed = body;
        }
        if fin {
            self.conns.finish_output(conn);
        }
    }

    /// A plain connect succeeded.
    pub(super) fn plain_connected(&mut self, id: Id<Exchange>) {
        self.established(id);
        if self.is_tcp(id)
            && let Some(exchange) = self.exchanges.get(id)
            && let Side::Stream { link, stream } = exchange.down
        {
            self.stream_accepted(link, stream);
        }
    }

    fn attach_stream(&mut self, id: Id<Exchange>, plain: Option<ConnectSpec>) {
        let mesh = plain.is_none();
        let side = match self.open_stream(id, plain) {
            Ok(side) => side,
            Err(failure) => return self.fail(id, failure),
        };
        let Some(exchange) = self.exchanges.get_mut(id) else {
            return;
        };
        exchange.up = side;
        exchange.protected = mesh || exchange.facts.peer.is_some();
        exchange.request.pending.clear();
        let head = exchange.request_head.length;
        let ended = exchange.request.ended;
        let bytes = exchange.request.bytes;
        exchange.request.last = Last::Open;
        if exchange.ends_with_head() {
            // END_STREAM was on the head.
            exchange.request.last = Last::Sent;
        }
        let replay = std::mem::take(&mut exchange.replay);
        self.forward(id, End::Up, &replay[head..], false);
        if let Some(exchange) = self.exchanges.get_mut(id) {
            exchange.replay = replay;
            // The same bytes are not counted twice.
            exchange.request.bytes = bytes;
        }
        if ended {
            self.end_flow(id, End::Up, Last::End);
        }
        if let Side::Stream { link, .. } = side
            && !self.is_tcp(id)
            && self.link_is_proved(link)
        {
            self.established(id);
        }
    }
}
