// SPDX-License-Identifier: Apache-2.0
//! Streams as sides of exchanges: what the peer opened, answered, sent or reset, turned into the same steps that plain connections take.
//!
//! A peer is authenticated and still not trusted: a head that came as fields is written as HTTP/1 and parsed as strictly as
//! one from a stranger, and its body is followed by its own framing. Must never let one stream's fault touch another. Next: `mesh.rs`.

use std::net::SocketAddr;

use maille_engine::mesh::{Code, Fields};
use maille_engine::route::Direction;
use maille_model::Protocol;

use super::Core;
use super::exchange::{Carries, End, Exchange, Last, Side};
use super::head::{self, Head, Pseudo};
use super::mesh::Mesh;
use super::table::Id;
use crate::failure::Failure;
use crate::route::Facts;

impl Core {
    /// A peer opened a stream.
    pub(super) fn stream_request(&mut self, mesh: Id<Mesh>, stream: u32, fields: &Fields<'_>, end: bool) {
        let pseudo = match Pseudo::request(fields) {
            Ok(pseudo) => pseudo,
            Err(code) => return self.stream_code(mesh, stream, code),
        };
        if self.draining {
            return self.stream_code(mesh, stream, Code::REFUSED_STREAM);
        }
        let Some((client, peer)) = self.mesh_peer(mesh) else {
            return;
        };
        let facts = Facts {
            direction: Direction::Inbound,
            client: SocketAddr::new(client.ip(), 0),
            destination: pseudo.authority,
            dialled: pseudo.dialled,
            protocol: pseudo.protocol,
            peer,
        };
        let side = Side::Stream { mesh, stream };
        let mut exchange = if pseudo.tcp {
            self.new_exchange(Carries::Tcp, facts)
        } else {
            let mut exchange = self.new_exchange(Carries::Http, facts);
            let mut text = self.conns.spare();
            pseudo.write_request(fields, &mut text);
            let taken = match head::request(&text) {
                Head::Whole(head) if head.length == text.len() && head.skip == 0 => {
                    exchange.take_request(&head, &text);
                    // A body that the framing promises has to come, and one that it does not must not.
                    !(end && !head.empty)
                }
                _ => false,
            };
            self.conns.store(text);
            if !taken {
                return self.stream_code(mesh, stream, Code::PROTOCOL_ERROR);
            }
            exchange
        };
        exchange.protected = true;
        exchange.down = side;
        exchange.request.ended |= end;
        let id = self.exchanges.insert(exchange);
        self.stream_bind(mesh, stream, id);
        self.decide(id);
    }

    /// The far proxy answered.
    pub(super) fn stream_response(&mut self, id: Id<Exchange>, fields: &Fields<'_>, end: bool) {
        let Some(exchange) = self.exchanges.get(id) else {
            return;
        };
        let pseudo = match Pseudo::response(fields) {
            Ok(pseudo) => pseudo,
            Err(_) => return self.stream_bad(id),
        };
        if let Some(flag) = pseudo.flag {
            let failure = Failure::from_flag(flag, pseudo.status).unwrap_or(Failure::UpstreamClosed);
            return self.upstream_failed(id, failure);
        }
        if exchange.carries == Carries::Tcp {
            return if pseudo.status == 200 {
                self.established(id);
                if end {
                    self.end_flow(id, End::Down, Last::End);
                }
            } else {
                self.stream_bad(id);
            };
        }
        let mut text = self.conns.spare();
        pseudo.write_response(fields, &mut text);
        let facts = match head::response(&text, &exchange.request_head) {
            Head::Whole(facts) if facts.length == text.len() => facts,
            _ => return self.stream_bad(id),
        };
        let bad_end = if end {
            // Only what has no body, or a body that the end of the stream ends, may end here.
            !(facts.empty || facts.body.ends_with_connection()) || facts.interim || facts.tunnel
        } else {
            exchange.status != 0
        };
        if bad_end {
            self.conns.store(text);
            return self.stream_bad(id);
        }
        self.forward(id, End::Down, &text);
        self.conns.store(text);
        let until_close = facts.body.ends_with_connection() && !facts.empty;
        self.note_response(id, facts);
        if end && until_close {
            self.response_until_close(id);
        }
    }

    /// Bytes of a stream, from whichever side opened it. `end` says that the peer has said its last.
    pub(super) fn stream_data(&mut self, id: Id<Exchange>, from: End, bytes: &[u8], end: bool) {
        let Some(exchange) = self.exchanges.get_mut(id) else {
            return;
        };
        let raw = exchange.raw;
        let flow = exchange.toward(from.other());
        flow.uncredited += bytes.len();
        if raw {
            if !bytes.is_empty() {
                self.raw_bytes(id, from, bytes);
            }
            if end {
                self.end_flow(id, from.other(), Last::End);
            }
            return;
        }
        match from {
            End::Down => self.stream_request_body(id, bytes, end),
            End::Up => self.stream_response_body(id, bytes, end),
        }
    }

    fn stream_request_body(&mut self, id: Id<Exchange>, bytes: &[u8], end: bool) {
        let Some(exchange) = self.exchanges.get_mut(id) else {
            return;
        };
        let mut ended = exchange.request.ended;
        if !bytes.is_empty() {
            let whole = match exchange.request.body.advance(bytes) {
                Ok(step) if !ended && step.taken == bytes.len() => Some(step.ended),
                _ => None,
            };
            let Some(over) = whole else {
                return self.stream_bad(id);
            };
            ended = over;
            self.forward_request(id, bytes);
            if over {
                self.end_flow(id, End::Up, Last::End);
            }
        }
        if end && !ended {
            self.stream_bad(id);
        }
    }

    fn stream_response_body(&mut self, id: Id<Exchange>, bytes: &[u8], end: bool) {
        let Some(exchange) = self.exchanges.get_mut(id) else {
            return;
        };
        let mut ended = exchange.response.ended;
        let until_close = exchange.response.body.ends_with_connection();
        if exchange.status == 0 {
            return self.stream_bad(id);
        }
        if !bytes.is_empty() {
            let whole = match exchange.response.body.advance(bytes) {
                Ok(step) if !ended && step.taken == bytes.len() => Some(step.ended),
                _ => None,
            };
            let Some(over) = whole else {
                return self.stream_bad(id);
            };
            ended = over;
            self.forward(id, End::Down, bytes);
            if over {
                self.end_flow(id, End::Down, Last::End);
            }
        }
        if end && until_close {
            self.response_until_close(id);
        } else if end && !ended {
            self.stream_bad(id);
        }
    }

    fn response_until_close(&mut self, id: Id<Exchange>) {
        if let Some(exchange) = self.exchanges.get_mut(id) {
            exchange.keep_down = false;
        }
        self.end_flow(id, End::Down, Last::End);
    }

    /// The peer broke the rules of the message that a stream carries.
    fn stream_bad(&mut self, id: Id<Exchange>) {
        let Some(exchange) = self.exchanges.get_mut(id) else {
            return;
        };
        if let Side::Stream { mesh, stream } = exchange.down {
            // From the client's proxy: the application behind us must not see the rest.
            exchange.down = Side::None;
            exchange.failure.get_or_insert(Failure::MalformedRequest);
            self.stream_code(mesh, stream, Code::PROTOCOL_ERROR);
            self.drop_upstream(id);
            return self.finish(id);
        }
        if let Side::Stream { mesh, stream } = exchange.up {
            exchange.up = Side::None;
            let answered = exchange.answered;
            exchange.failure = Some(Failure::MalformedResponse);
            self.stream_code(mesh, stream, Code::PROTOCOL_ERROR);
            if answered {
                self.broken(id, End::Up);
            } else {
                self.fail(id, Failure::MalformedResponse);
            }
        }
    }

    /// The peer reset a stream.
    pub(super) fn stream_was_reset(&mut self, id: Id<Exchange>, from: End, code: Code) {
        let Some(exchange) = self.exchanges.get_mut(id) else {
            return;
        };
        match from {
            End::Down => exchange.down = Side::None,
            End::Up => exchange.up = Side::None,
        }
        match from {
            End::Down => self.broken(id, End::Down),
            End::Up if code == Code::REFUSED_STREAM => self.upstream_failed(id, Failure::Overloaded),
            End::Up if exchange.response.ended => self.stop_request(id),
            End::Up if exchange.answered || exchange.raw => self.broken(id, End::Up),
            End::Up => self.fail(id, Failure::UpstreamClosed),
        }
    }

    /// The peer says that it never looked at a stream.
    pub(super) fn stream_unprocessed(&mut self, id: Id<Exchange>, failure: Failure) {
        if let Some(exchange) = self.exchanges.get_mut(id) {
            exchange.up = Side::None;
        }
        self.upstream_failed(id, failure);
    }
}

impl Exchange {
    /// The protocol as it travels in `:m-protocol`; nothing where nobody knows.
    pub(super) fn protocol_name(&self) -> Option<&'static str> {
        match self.facts.protocol {
            Protocol::Undeclared => None,
            Protocol::Http1 => Some("http1"),
            Protocol::Http2 => Some("http2"),
            Protocol::Grpc => Some("grpc"),
            Protocol::Tls => Some("tls"),
            Protocol::Tcp => Some("tcp"),
        }
    }
}
