// SPDX-License-Identifier: Apache-2.0
//! The upstream side as a plain HTTP/1 server: its response head is parsed strictly, its body is followed to the end.
//!
//! A connection is used again only when both directions of its message ended cleanly and neither said `close`: anything else
//! would let the rest of one request be read as the next. So would a request that went on when its answer had ended. Must never reuse a connection that sent a byte too much. Next: `stream.rs`.

use super::Core;
use super::exchange::{End, Exchange, Last, Side};
use super::head::{Head, ResponseFacts};
use crate::table::{ConnId, Id};
use crate::telemetry::Response;

impl Core {
    /// Bytes from a server.
    pub(super) fn server_input(&mut self, conn: ConnId, bytes: &[u8]) {
        let Some(server) = self.conns.get_mut(conn) else {
            return;
        };
        let Some((id, _)) = server.exchange else {
            return self.conns.close(conn);
        };
        if server.inbuf.is_empty() {
            let taken = self.server_bytes(conn, id, bytes);
            return self.keep_rest(conn, &bytes[taken..]);
        }
        let mut inbuf = std::mem::take(&mut server.inbuf);
        inbuf.extend_from_slice(bytes);
        let taken = self.server_bytes(conn, id, &inbuf);
        inbuf.drain(..taken);
        match self.conns.get_mut(conn) {
            Some(server) if !inbuf.is_empty() => server.inbuf = inbuf,
            _ => self.conns.store(inbuf),
        }
    }

    /// Follows the response. How many bytes were understood; the rest is a part of a head.
    fn server_bytes(&mut self, conn: ConnId, id: Id<Exchange>, bytes: &[u8]) -> usize {
        let mut at = 0;
        while at < bytes.len() {
            let Some(exchange) = self.exchanges.get_mut(id) else {
                return bytes.len();
            };
            if exchange.raw {
                self.raw_bytes(id, End::Up, &bytes[at..]);
                return bytes.len();
            }
            if exchange.response.ended {
                exchange.excess = true;
                return bytes.len();
            }
            if exchange.status == 0 {
                let asked = exchange.request_head.kind;
                match self.parse_response(conn, asked, &bytes[at..]) {
                    Head::Partial => return at,
                    Head::Bad(failure) => {
                        self.conns.abort(conn);
                        self.upstream_failed(id, failure);
                        return bytes.len();
                    }
                    Head::Whole(_)
                        if !self.response.interim()
                            && self.answer_is_retried(id, Response::http(self.response.status)) =>
                    {
                        return bytes.len();
                    }
                    Head::Whole(length) => {
                        let all = ResponseFacts::of(&self.response).is_all();
                        if let Some(exchange) = self.exchanges.get_mut(id) {
                            exchange.excess |= all && at + length < bytes.len();
                        }
                        self.response_head(id, &bytes[at..at + length]);
                        at += length;
                    }
                }
                continue;
            }
            match exchange.response.body.advance(&bytes[at..]) {
                Ok(step) => {
                    if step.ended {
                        exchange.excess |= at + step.taken < bytes.len();
                        exchange.answer_ended();
                    }
                    self.forward(id, End::Down, &bytes[at..at + step.taken], step.ended);
                    at += step.taken;
                    if step.ended {
                        self.end_flow(id, End::Down, Last::End);
                    }
                }
                Err(_) => {
                    self.conns.abort(conn);
                    self.broken(id, End::Up);
                    return bytes.len();
                }
            }
        }
        at
    }

    /// Passes on a head that was just parsed: verbatim to a client, as fields to a peer.
    fn response_head(&mut self, id: Id<Exchange>, bytes: &[u8]) {
        let facts = ResponseFacts::of(&self.response);
        if self.too_often(id, &facts) {
            return;
        }
        let Some(exchange) = self.exchanges.get_mut(id) else {
            return;
        };
        exchange.tap_answer(&self.response, bytes);
        match exchange.down {
            Side::Stream { link, stream } => {
                self.stream_respond(link, stream, bytes, facts.is_all());
                if let Some(exchange) = self.exchanges.get_mut(id) {
                    exchange.response.bytes += bytes.len() as u64;
                    if facts.is_all() {
                        exchange.response.last = Last::Sent;
                    }
                }
            }
            Side::Plain(_) | Side::None => self.forward_head(id, bytes, &facts),
        }
        self.note_response(id, facts);
    }
}
