// SPDX-License-Identifier: Apache-2.0
//! What a response head changes, whichever side it came from; and how a server's connection ends.
//!
//! Must never begin a second answer. Next: `ends.rs`.

use super::Core;
use super::exchange::{Carries, End, Exchange, Last, Side};
use super::head::ResponseFacts;
use crate::failure::Failure;
use crate::table::{ConnId, Id};

/// Interim responses before the final one (`docs/wire.md`, section 3).
const INTERIM: u8 = 16;

impl Core {
    /// Whether a response head is one interim response too many: then the exchange is over.
    pub(super) fn too_often(&mut self, id: Id<Exchange>, facts: &ResponseFacts) -> bool {
        let before = self.exchanges.get(id).map(|exchange| exchange.interim);
        let too_often = facts.interim && before == Some(INTERIM);
        if too_often {
            self.drop_upstream(id);
            self.fail(id, Failure::MalformedResponse);
        }
        too_often
    }

    /// A response head was understood and has been passed on: what follows it, and what it ends.
    pub(super) fn note_response(&mut self, id: Id<Exchange>, facts: ResponseFacts) {
        self.established(id);
        let Some(exchange) = self.exchanges.get_mut(id) else {
            return;
        };
        exchange.answered = true;
        exchange.answered_at.get_or_insert(self.now);
        if exchange.replayable {
            exchange.replayable = false;
            let replay = std::mem::take(&mut exchange.replay);
            self.conns.store(replay);
        }
        let Some(exchange) = self.exchanges.get_mut(id) else {
            return;
        };
        if facts.interim {
            exchange.interim += 1;
            return;
        }
        exchange.status = facts.status;
        exchange.keep_down &= facts.keep_alive;
        // Neither side may have said `close`.
        exchange.keep_up = exchange.keep_down;
        let said = !exchange.grpc || exchange.grpc_status.is_some() || facts.status != 200;
        self.tap_answered(id);
        // Every call that came through is answered with 200: its first message, or its end, says more.
        if said {
            self.answer_heard(id);
        }
        if facts.tunnel {
            self.become_raw(id);
            return self.set_deadline(id);
        }
        self.set_deadline(id);
        let Some(exchange) = self.exchanges.get_mut(id) else {
            return;
        };
        let all = facts.is_all();
        exchange.response.body = facts.body;
        if all {
            exchange.answer_ended();
        }
        if exchange.request_head.may_tunnel {
            // It does not: the end of the request, which had to wait for this, follows.
            exchange.request_head.may_tunnel = false;
            if exchange.request.ended {
                self.end_flow(id, End::Up, Last::End);
            }
        }
        if all {
            self.end_flow(id, End::Down, Last::End);
        }
    }

    /// Passes a head on to an HTTP/1 client, verbatim. While the proxy drains or its workload leaves, a final one also says that it is the last on its connection.
    pub(super) fn forward_head(&mut self, id: Id<Exchange>, bytes: &[u8], facts: &ResponseFacts) {
        let Some(exchange) = self.exchanges.get(id) else {
            return;
        };
        let plain = matches!(exchange.down, Side::Plain(_));
        let stays = exchange.keep_down && facts.keep_alive && !facts.interim && !facts.tunnel;
        let direction = exchange.facts.direction;
        match bytes.strip_suffix(b"\r\n") {
            Some(fields) if plain && stays && self.is_last(direction) => {
                if let Some(exchange) = self.exchanges.get_mut(id) {
                    exchange.keep_down = false;
                }
                self.forward(id, End::Down, fields, false);
                self.forward(id, End::Down, b"connection: close\r\n\r\n", false);
            }
            _ => self.forward(id, End::Down, bytes, false),
        }
    }

    /// The server said its last.
    pub(super) fn server_eof(&mut self, conn: ConnId) {
        let Some(server) = self.conns.get_mut(conn) else {
            return;
        };
        server.input_ended = true;
        let Some((id, _)) = server.exchange else {
            return self.conns.close(conn);
        };
        let Some(exchange) = self.exchanges.get_mut(id) else {
            return;
        };
        if exchange.status == 0 || !exchange.response.body.ends_with_connection() {
            return self.server_lost(conn);
        }
        exchange.keep_down = false;
        exchange.keep_up = false;
        self.end_flow(id, End::Down, Last::End);
        if self.exchanges.get(id).is_some() {
            self.stop_request(id);
        }
    }

    /// The server's connection is gone, in whatever way.
    pub(super) fn server_lost(&mut self, conn: ConnId) {
        let Some(server) = self.conns.get(conn) else {
            return;
        };
        let (used, key) = (server.used, server.pool_key);
        let Some((id, _)) = server.exchange else {
            return self.conns.abort(conn);
        };
        let Some(exchange) = self.exchanges.get_mut(id) else {
            return;
        };
        if exchange.response.ended {
            // The rest of the request has nobody to go to.
            return self.stop_request(id);
        }
        if exchange.begun() {
            return self.broken(id, End::Up);
        }
        self.conns.abort(conn);
        if let Some(key) = key.filter(|_| used) {
            self.pool.doubt(key.to);
        }
        let again = used && exchange.replayable && exchange.request_head.idempotent;
        if again && !exchange.fresh {
            exchange.fresh = true;
            exchange.up = Side::None;
            self.attach(id);
        } else {
            exchange.up = Side::None;
            self.unanswered(id, Failure::UpstreamClosed);
        }
    }

    /// The answer is complete, the request is not, and the server has gone: the client is told to stop.
    pub(super) fn stop_request(&mut self, id: Id<Exchange>) {
        let Some(exchange) = self.exchanges.get_mut(id) else {
            return;
        };
        exchange.keep_down = false;
        let up = std::mem::replace(&mut exchange.up, Side::None);
        match up {
            Side::Plain(conn) => self.conns.abort(conn),
            Side::Stream { link, stream } => self.stream_done(link, stream, End::Up, false),
            Side::None => {}
        }
        let Some(exchange) = self.exchanges.get_mut(id) else {
            return;
        };
        exchange.cut = true;
        exchange.request.ended = true;
        exchange.request.last = Last::Sent;
        exchange.request.pending.clear();
        // An answer that still waits for a window ends the exchange later.
        self.finish_if_done(id);
    }

    /// The upstream could not be reached, or said that it has not seen the request: another endpoint is tried while that is safe.
    pub(super) fn upstream_failed(&mut self, id: Id<Exchange>, failure: Failure) {
        let Some(exchange) = self.exchanges.get_mut(id) else {
            return;
        };
        exchange.up = Side::None;
        exchange.established = false;
        let unseen = failure.retry() == crate::failure::Retry::Elsewhere;
        if unseen && exchange.replayable && !exchange.answered {
            self.attempt_elsewhere(id, failure);
        } else if exchange.begun() {
            self.broken(id, End::Up);
        } else {
            self.unanswered(id, failure);
        }
    }

    /// The exchange is TCP.
    pub(super) fn is_tcp(&self, id: Id<Exchange>) -> bool {
        self.exchanges
            .get(id)
            .is_some_and(|exchange| exchange.carries == Carries::Tcp)
    }
}
