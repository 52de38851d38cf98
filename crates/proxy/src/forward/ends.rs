// SPDX-License-Identifier: Apache-2.0
//! How exchanges end: done, refused, or broken on one side; and what becomes of the connections they used.
//!
//! Every exchange passes [`Core::finish`] exactly once; it is reported when its last bytes are on their way. Must never leave a side waiting. Next: `timers.rs`.

use std::time::Duration;

use maille_engine::http1::RequestKind;
use maille_engine::http2::Code;

use super::Core;
use super::answer::{self, After, Asked};
use super::conns::{Hold, Role};
use super::exchange::{Carries, End, Exchange, Last, Side};
use super::timers::Timer;
use crate::failure::Failure;
use crate::table::{ConnId, Id};

/// How long a client is listened to after its last answer, and a connection may take to accept its last bytes.
pub(super) const LINGER: Duration = Duration::from_secs(2);
/// How long the last bytes of a closed connection may wait for a reader.
pub(super) const LAST_WRITE: Duration = Duration::from_secs(30);

impl Core {
    /// Refuses: the exchange never reached an application, or its answer has not begun.
    pub(super) fn fail(&mut self, id: Id<Exchange>, failure: Failure) {
        self.heard_failure(id, failure);
        let facts = self.exchanges.get(id).map(|exchange| &exchange.facts);
        let last = facts.is_some_and(|facts| self.is_last(facts.direction));
        let Some(exchange) = self.exchanges.get_mut(id) else {
            return;
        };
        exchange.failure = Some(failure);
        exchange.status = failure.http_status();
        exchange.response.ended = true;
        let whole = exchange.request.ended;
        let down = exchange.down;
        match down {
            Side::Plain(conn) if exchange.carries == Carries::Http => {
                let after = if whole && exchange.keep_down && !last {
                    After::Keep
                } else {
                    After::Close
                };
                exchange.keep_down = after == After::Keep;
                let head = exchange.request_head.kind == RequestKind::Head;
                let about = exchange.about(&self.snapshot);
                self.conns.put_with(conn, |out| {
                    let start = out.len();
                    answer::write(out, failure, &about, after);
                    if head {
                        answer::cut_body(out, start);
                    }
                });
            }
            Side::Plain(conn) => {
                self.conns.abort(conn);
                exchange_down_gone(self.exchanges.get_mut(id));
            }
            Side::Stream { link, stream } => {
                let asked = Asked {
                    head: exchange.request_head.kind == RequestKind::Head,
                    grpc: exchange.grpc,
                };
                let about = exchange.about(&self.snapshot);
                let caller = self
                    .links
                    .get(link)
                    .is_some_and(|link| link.proxy().is_none());
                if asked.grpc && caller && failure != Failure::StreamRefused {
                    // What the client is told is what logs, counts and taps say of it.
                    exchange.grpc_status = Some(failure.grpc_status());
                }
                self.stream_refuse(link, stream, failure, asked, &about);
                self.stream_done(link, stream, End::Down, whole);
                exchange_down_gone(self.exchanges.get_mut(id));
            }
            Side::None => {}
        }
        self.finish(id);
    }

    /// One side of the exchange is gone before its time: the other one is told, each in its own way.
    pub(super) fn broken(&mut self, id: Id<Exchange>, gone: End) {
        let Some(exchange) = self.exchanges.get_mut(id) else {
            return;
        };
        let raw = exchange.raw;
        let until_close = exchange.begun() && exchange.response.body.ends_with_connection();
        let code = exchange.reset_code(gone.other());
        let near_code = exchange.reset_code(gone);
        let near = exchange.side(gone);
        let far = exchange.side(gone.other());
        match gone {
            End::Down => exchange.down = Side::None,
            End::Up => {
                exchange.up = Side::None;
                exchange.failure.get_or_insert(Failure::UpstreamClosed);
            }
        }
        exchange.keep_down = false;
        exchange.keep_up = false;
        match near {
            Side::Plain(conn) => self.conns.abort(conn),
            Side::Stream { link, stream } => self.stream_code(link, stream, near_code),
            Side::None => {}
        }
        match far {
            Side::Plain(conn) if raw => {
                self.conns.abort(conn);
                self.finish(id);
            }
            // The end of the connection would say that the body is whole.
            Side::Plain(conn) if gone == End::Up && until_close => {
                self.forget(id, End::Down);
                self.timers.set(self.now + LAST_WRITE, Timer::Close(conn));
                self.conns.reset(conn);
                self.finish(id);
            }
            Side::Stream { link, stream } if raw || gone == End::Down => {
                self.stream_code(link, stream, code);
                self.forget(id, gone.other());
                self.finish(id);
            }
            // What came before is still delivered: the reset waits for the window.
            Side::Stream { .. } => self.cut_short(id, code),
            Side::Plain(_) | Side::None => self.finish(id),
        }
    }

    /// The server is gone in the middle of its answer: what came before is still delivered. A gRPC client is told in its own words.
    fn cut_short(&mut self, id: Id<Exchange>, code: Code) {
        let Some(exchange) = self.exchanges.get_mut(id) else {
            return;
        };
        let plain = matches!(exchange.down, Side::Stream { link, .. }
            if self.links.get(link).is_some_and(|link| link.proxy().is_none()));
        let told = exchange.grpc && exchange.code.is_none() && plain && exchange.status != 0;
        if told {
            let failure = exchange.failure.unwrap_or(Failure::UpstreamClosed);
            let about = exchange.about(&self.snapshot);
            let mut trailers = self.conns.spare();
            answer::grpc_trailers(&mut trailers, failure, &about);
            exchange.grpc_status = Some(failure.grpc_status());
            exchange.response.trailers = Some(trailers);
            exchange.request.ended = true;
            exchange.request.last = Last::Sent;
            exchange.cut = true;
            return self.end_flow(id, End::Down, Last::End);
        }
        self.end_flow(id, End::Down, Last::Broken(code));
    }

    fn forget(&mut self, id: Id<Exchange>, end: End) {
        if let Some(exchange) = self.exchanges.get_mut(id) {
            match end {
                End::Down => exchange.down = Side::None,
                End::Up => exchange.up = Side::None,
            }
        }
    }

    /// Takes the upstream away: the client's message was no message, or another endpoint is tried.
    pub(super) fn drop_upstream(&mut self, id: Id<Exchange>) {
        let Some(exchange) = self.exchanges.get_mut(id) else {
            return;
        };
        let code = exchange.reset_code(End::Up);
        let up = std::mem::replace(&mut exchange.up, Side::None);
        exchange.keep_up = false;
        match up {
            Side::Plain(conn) => self.conns.abort(conn),
            Side::Stream { link, stream } => self.stream_code(link, stream, code),
            Side::None => {}
        }
    }

    /// The end of every exchange.
    pub(super) fn finish(&mut self, id: Id<Exchange>) {
        let Some(mut exchange) = self.exchanges.remove(id) else {
            return;
        };
        self.clear_deadline(id, &exchange);
        if let Some(picked) = &mut exchange.picked {
            self.balance.done(picked, self.now);
        }
        let whole = exchange.request.ended && exchange.response.ended && !exchange.cut;
        match exchange.up {
            Side::Plain(conn) => self.finish_server(conn, &exchange, whole),
            Side::Stream { link, stream } => {
                self.stream_done(link, stream, End::Up, whole);
            }
            Side::None => {}
        }
        match exchange.down {
            Side::Plain(conn) => self.finish_client(conn, &exchange, whole),
            Side::Stream { link, stream } => {
                self.stream_done(link, stream, End::Down, whole);
            }
            Side::None => {}
        }
        self.conns.store(std::mem::take(&mut exchange.replay));
        self.conns
            .store(std::mem::take(&mut exchange.request.pending));
        self.conns
            .store(std::mem::take(&mut exchange.response.pending));
        for flow in [&mut exchange.request, &mut exchange.response] {
            if let Some(trailers) = flow.trailers.take() {
                self.conns.store(trailers);
            }
        }
        self.report_later(exchange);
    }

    fn finish_server(&mut self, conn: ConnId, exchange: &Exchange, whole: bool) {
        let Some(server) = self.conns.get_mut(conn) else {
            return;
        };
        server.exchange = None;
        server.owed = 0;
        if whole && !exchange.raw && exchange.keep_up && !exchange.excess {
            let again = std::mem::replace(&mut server.answered, true);
            if let Some(key) = server.pool_key.filter(|_| again) {
                self.pool.prove(key.to);
            }
            self.server_unused(conn);
        } else {
            self.close(conn);
        }
    }

    /// A server's connection with nothing under way waits for the next request.
    pub(super) fn server_unused(&mut self, conn: ConnId) {
        let Some(server) = self.conns.get_mut(conn) else {
            return;
        };
        server.exchange = None;
        let reusable = !server.input_ended
            && !server.connecting
            && server.unsent() == 0
            && server.inbuf.is_empty()
            && !self.draining;
        if reusable && let Some(key) = server.pool_key {
            server.role = Role::Idle;
            server.used = true;
            let answered = server.answered;
            self.conns.release(conn, Hold::Full);
            if let Some(old) = self.pool.put(conn, answered, key, self.now) {
                self.close(old);
            }
            self.sweep_later();
        } else {
            self.close(conn);
        }
    }

    fn finish_client(&mut self, conn: ConnId, exchange: &Exchange, whole: bool) {
        let Some(client) = self.conns.get_mut(conn) else {
            return;
        };
        client.exchange = None;
        client.owed = 0;
        if exchange.raw || exchange.carries == Carries::Tcp {
            return self.close(conn);
        }
        // Bytes that a client sent ahead into a tunnel it was refused are no requests (RFC 9931).
        let ahead = exchange.request_head.kind == RequestKind::Connect && !client.inbuf.is_empty();
        if whole && exchange.keep_down && !self.parted && !ahead {
            let more = !client.inbuf.is_empty() || client.input_ended;
            self.conns.release(conn, Hold::Full);
            self.conns.release(conn, Hold::Undecided);
            self.conns.release(conn, Hold::Pipeline);
            if more {
                self.conns.pump_later(conn);
            }
        } else if whole && client.inbuf.is_empty() || client.input_ended {
            self.close(conn);
        } else {
            self.linger(conn);
        }
    }

    /// Closes after the last byte, which may not wait for ever.
    pub(super) fn close(&mut self, conn: ConnId) {
        let waits = self.conns.get(conn).is_some_and(|conn| conn.unsent() > 0);
        if waits {
            self.timers.set(self.now + LAST_WRITE, Timer::Close(conn));
        }
        self.conns.close(conn);
    }

    /// FIN after the last byte; what the client still sends is thrown away for a while, lest a reset destroys the answer.
    pub(super) fn linger(&mut self, conn: ConnId) {
        let Some(client) = self.conns.get_mut(conn) else {
            return;
        };
        if client.input_ended {
            return self.close(conn);
        }
        client.role = Role::Linger;
        client.exchange = None;
        client.inbuf.clear();
        self.conns.finish_output(conn);
        self.conns.release(conn, Hold::Full);
        self.conns.release(conn, Hold::Undecided);
        self.conns.release(conn, Hold::Pipeline);
        self.timers.set(self.now + LINGER, Timer::Close(conn));
    }
}

impl Exchange {
    /// The code for the stream at `end`, when the exchange breaks.
    fn reset_code(&self, end: End) -> Code {
        match (self.code, end) {
            (Some(code), _) => code,
            (None, _) if self.raw => Code::CONNECT_ERROR,
            (None, End::Up) => Code::CANCEL,
            (None, End::Down) => Code::INTERNAL_ERROR,
        }
    }
}

fn exchange_down_gone(exchange: Option<&mut Exchange>) {
    if let Some(exchange) = exchange {
        exchange.down = Side::None;
    }
}
