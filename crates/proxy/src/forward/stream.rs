// SPDX-License-Identifier: Apache-2.0
//! Streams as sides of exchanges: what the peer opened, answered, sent or reset, turned into the same steps that plain connections take.
//!
//! A peer is authenticated and still not trusted: a head that came as fields is written as HTTP/1 and parsed as strictly as
//! one from a stranger, and its body is followed by its own framing. Must never let one stream's fault touch another. Next: `links.rs`.

use maille_engine::balance::Heard;
use maille_engine::detect::is_http;
use maille_engine::http1;
use maille_engine::http2::{Carried, Code, HopFields, RequestFields, ResponseFields};
use maille_engine::route::{Direction, Hint, hint};
use maille_model::{Protocol, ServerName};

use super::Core;
use super::ends::LAST_WRITE;
use super::exchange::{Carries, End, Exchange, Last, Side};
use super::head::ResponseFacts;
use super::links::With;
use super::timers::Timer;
use crate::failure::Failure;
use crate::route::Facts;
use crate::table::{Id, LinkId};
use crate::telemetry::Response;

/// How often one exchange meets a peer that is about to leave.
const REOPENED: u8 = 3;

impl Core {
    /// A peer opened a stream.
    pub(super) fn stream_request(
        &mut self,
        link: LinkId,
        stream: u32,
        fields: &RequestFields<'_>,
        end: bool,
    ) {
        if self.exchanges.len() >= self.settings.max_connections || self.takes_nothing(link) {
            return self.stream_code(link, stream, Code::REFUSED_STREAM);
        }
        let Some(facts) = self.stream_facts(link, fields.hop) else {
            return self.stream_code(link, stream, Code::PROTOCOL_ERROR);
        };
        let carries = match fields.carries {
            Carried::Http1 { .. } => Carries::Http,
            Carried::Http2(_) => Carries::Http2,
            Carried::Tcp => Carries::Tcp,
        };
        let mut exchange = self.new_exchange(carries, facts);
        exchange.protected = exchange.facts.peer.is_some();
        exchange.down = Side::Stream { link, stream };
        exchange.silent =
            carries == Carries::Tcp && exchange.facts.protocol == Protocol::Undeclared;
        exchange.misplaced = carries == Carries::Tcp && self.is_for_http(&exchange.facts);
        let whole = match fields.carries {
            Carried::Http1 { target, version } => {
                let mut text = self.conns.spare();
                let all = fields.fields.iter();
                http1::write_request(&mut text, fields.method, target, version, all);
                let whole = self.parse_whole_request(&text);
                if whole {
                    exchange.take_request(&self.request, &text);
                }
                self.conns.store(text);
                // A body that the framing promises has to come.
                whole && (!end || exchange.request.ended)
            }
            Carried::Http2(target) => exchange.take_message(fields, target, end).is_ok(),
            Carried::Tcp => true,
        };
        if !whole {
            self.conns.store(exchange.replay);
            return self.stream_code(link, stream, Code::PROTOCOL_ERROR);
        }
        exchange.request.ended |= end;
        let bytes = exchange.misplaced && !exchange.silent;
        exchange.silent &= !end;
        let id = self.exchanges.insert(exchange);
        self.stream_bind(link, stream, id);
        if bytes {
            return self.fail(id, Failure::MalformedRequest);
        }
        self.decide(id);
    }

    /// Whether the own workload has declared that what is addressed speaks HTTP: then nothing else passes, whoever brings it.
    fn is_for_http(&self, facts: &Facts) -> bool {
        matches!(hint(&self.snapshot, &facts.asked()), Hint::Declared(protocol) if is_http(protocol))
    }

    /// Whether a link's new streams are refused: all are once the drain has begun, but those of an application that was only warned.
    fn takes_nothing(&self, link: LinkId) -> bool {
        self.draining
            && self
                .links
                .get(link)
                .is_none_or(|link| link.warned.is_none())
    }

    /// Who asks, and for what. A proxy says so itself; of an application the socket does.
    fn stream_facts(&self, link: LinkId, hop: Option<HopFields<'_>>) -> Option<Facts> {
        let link = self.links.get(link)?;
        match (&link.with, hop) {
            (With::Proxy(proxy), Some(hop)) => Some(Facts {
                direction: Direction::Inbound,
                client: link.remote,
                destination: hop.authority,
                claimed: hop.source,
                dialled: hop.dialled,
                protocol: hop.protocol.map_or(Protocol::Undeclared, protocol_of),
                // What is no name says nothing.
                server_name: hop
                    .server_name
                    .and_then(|name| ServerName::from_bytes(name).ok()),
                peer: proxy.peer.clone(),
            }),
            (With::Client(accepted), None) => {
                let mut facts = Facts::of(accepted);
                facts.protocol = Protocol::Http2;
                Some(facts)
            }
            _ => None,
        }
    }

    /// The far proxy answered, or an application that speaks HTTP/2.
    pub(super) fn stream_response(
        &mut self,
        id: Id<Exchange>,
        fields: &ResponseFields<'_>,
        end: bool,
    ) {
        let Some(exchange) = self.exchanges.get_mut(id) else {
            return;
        };
        if let Some(flag) = fields.flag {
            let failure = Failure::from_flag(flag, fields.status);
            self.drop_upstream(id);
            return self.upstream_failed(id, failure.unwrap_or(Failure::UpstreamClosed));
        }
        if exchange.carries == Carries::Http2 {
            return self.message_response(id, fields, end);
        }
        if exchange.carries == Carries::Tcp {
            if fields.status != 200 || exchange.established {
                return self.stream_bad(id, End::Up);
            }
            self.established(id);
            if end {
                self.end_flow(id, End::Down, Last::End);
            }
            return;
        }
        let (asked, begun) = (exchange.request_head.kind, exchange.status != 0);
        let mut text = self.conns.spare();
        let canonical = http1::canonical_reason(fields.status).as_bytes();
        let reason = fields.reason.unwrap_or(canonical);
        let all = fields.fields.iter();
        http1::write_response(&mut text, fields.version, fields.status, reason, all);
        let whole = self.parse_whole_response(asked, &text);
        let facts = ResponseFacts::of(&self.response);
        // Only what has no body, or one that the end of the stream ends, may end here.
        let ends = facts.is_all() || facts.body.ends_with_connection();
        if !whole || begun || (end && !ends) {
            self.conns.store(text);
            return self.stream_bad(id, End::Up);
        }
        if self.too_often(id, &facts) {
            return self.conns.store(text);
        }
        if !facts.interim && self.answer_is_retried(id, Response::http(facts.status)) {
            return self.conns.store(text);
        }
        if let Some(exchange) = self.exchanges.get_mut(id) {
            exchange.tap_answer(&self.response, &text);
        }
        self.forward_head(id, &text, &facts);
        self.conns.store(text);
        let until_close = facts.body.ends_with_connection();
        self.note_response(id, facts);
        if end && until_close {
            self.response_until_close(id);
        }
    }

    /// Bytes of a stream, from whichever side opened it. `end` says that the peer has said its last.
    pub(super) fn stream_data(&mut self, id: Id<Exchange>, from: End, bytes: &[u8], end: bool) {
        let Some(exchange) = self.exchanges.get(id) else {
            return;
        };
        if exchange.raw {
            if !bytes.is_empty() {
                self.raw_bytes(id, from, bytes);
            }
            if end {
                self.end_flow(id, from.other(), Last::End);
            }
            return;
        }
        if exchange.carries == Carries::Http2 {
            return self.message_data(id, from, bytes, end);
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
                return self.stream_bad(id, End::Down);
            };
            ended = over;
            self.forward_request(id, bytes, over);
            if over {
                self.end_flow(id, End::Up, Last::End);
            }
        }
        if end && !ended {
            self.stream_bad(id, End::Down);
        }
    }

    fn stream_response_body(&mut self, id: Id<Exchange>, bytes: &[u8], end: bool) {
        let Some(exchange) = self.exchanges.get_mut(id) else {
            return;
        };
        let mut ended = exchange.response.ended;
        let until_close = exchange.response.body.ends_with_connection();
        if exchange.status == 0 {
            return self.stream_bad(id, End::Up);
        }
        if !bytes.is_empty() {
            let whole = match exchange.response.body.advance(bytes) {
                Ok(step) if !ended && step.taken == bytes.len() => Some(step.ended),
                _ => None,
            };
            let Some(over) = whole else {
                return self.stream_bad(id, End::Up);
            };
            ended = over;
            self.forward(id, End::Down, bytes, over);
            if over {
                self.end_flow(id, End::Down, Last::End);
            }
        }
        if end && until_close {
            self.response_until_close(id);
        } else if end && !ended {
            self.stream_bad(id, End::Up);
        }
    }

    fn response_until_close(&mut self, id: Id<Exchange>) {
        if let Some(exchange) = self.exchanges.get_mut(id) {
            exchange.keep_down = false;
        }
        self.end_flow(id, End::Down, Last::End);
    }

    /// The peer broke the rules of the message that a stream carries.
    pub(super) fn stream_bad(&mut self, id: Id<Exchange>, from: End) {
        let Some(exchange) = self.exchanges.get_mut(id) else {
            return;
        };
        if let (Side::Stream { link, stream }, End::Down) = (exchange.down, from) {
            // The application behind us must not see the rest.
            exchange.down = Side::None;
            exchange.failure.get_or_insert(Failure::MalformedRequest);
            self.stream_code(link, stream, Code::PROTOCOL_ERROR);
            self.drop_upstream(id);
            return self.finish(id);
        }
        if let (Side::Stream { link, stream }, End::Up) = (exchange.up, from) {
            exchange.up = Side::None;
            let begun = exchange.begun();
            exchange.failure = Some(Failure::MalformedResponse);
            self.stream_code(link, stream, Code::PROTOCOL_ERROR);
            if begun {
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
        let http2 = exchange.carries == Carries::Http2;
        match from {
            End::Down if exchange.silent && code == Code::NO_ERROR => self.take_back(id),
            End::Up if code == Code::REFUSED_STREAM && http2 => {
                self.upstream_failed(id, Failure::StreamRefused)
            }
            End::Up if code == Code::REFUSED_STREAM => {
                self.upstream_failed(id, Failure::Overloaded)
            }
            End::Up if exchange.response.ended => self.stop_request(id),
            _ if http2 => {
                exchange.code = Some(code);
                let unanswered = from == End::Up && !exchange.begun();
                if unanswered {
                    self.heard(id, Heard::Nothing);
                }
                self.broken(id, from);
            }
            End::Down => self.broken(id, End::Down),
            End::Up if exchange.begun() || exchange.raw => self.broken(id, End::Up),
            End::Up => self.unanswered(id, Failure::UpstreamClosed),
        }
    }

    /// The connection under a stream is gone.
    pub(super) fn stream_lost(&mut self, id: Id<Exchange>, from: End) {
        let Some(exchange) = self.exchanges.get_mut(id) else {
            return;
        };
        match from {
            End::Down => exchange.down = Side::None,
            End::Up => exchange.up = Side::None,
        }
        match from {
            // It has said all and was answered: what it said still goes on, as it would without a mesh between.
            End::Down if exchange.is_past_its_client() => {
                self.timers.set(self.now + LAST_WRITE, Timer::Rest(id));
            }
            End::Down => self.broken(id, End::Down),
            End::Up if exchange.response.ended => self.stop_request(id),
            End::Up if exchange.begun() || exchange.raw => self.broken(id, End::Up),
            End::Up => self.fail(id, Failure::UpstreamClosed),
        }
    }

    /// A server that does not take the rest of a request is not waited for when its client has gone.
    pub(super) fn rest_late(&mut self, id: Id<Exchange>) {
        if self.exchanges.get(id).is_some() {
            self.broken(id, End::Down);
        }
    }

    /// The peer left before it looked at a stream: it is opened again, on a new connection to the same endpoint.
    pub(super) fn stream_reopen(&mut self, id: Id<Exchange>) {
        let Some(exchange) = self.exchanges.get_mut(id) else {
            return;
        };
        exchange.up = Side::None;
        exchange.reopened += 1;
        if exchange.replayable && !exchange.answered && exchange.reopened <= REOPENED {
            self.attach(id);
        } else {
            self.upstream_failed(id, Failure::Draining);
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

/// The protocol as it travels in `:m-protocol`; nothing where nobody knows.
pub(super) fn protocol_name(protocol: Protocol) -> Option<&'static str> {
    match protocol {
        Protocol::Undeclared => None,
        Protocol::Http1 => Some("http1"),
        Protocol::Http2 => Some("http2"),
        Protocol::Grpc => Some("grpc"),
        Protocol::Tls => Some("tls"),
        Protocol::Tcp => Some("tcp"),
    }
}

/// A name that this version does not know says nothing.
fn protocol_of(name: &[u8]) -> Protocol {
    [
        Protocol::Http1,
        Protocol::Http2,
        Protocol::Grpc,
        Protocol::Tls,
        Protocol::Tcp,
    ]
    .into_iter()
    .find(|protocol| protocol_name(*protocol).map(str::as_bytes) == Some(name))
    .unwrap_or_default()
}
