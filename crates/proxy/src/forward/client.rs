// SPDX-License-Identifier: Apache-2.0
//! The downstream side as a plain HTTP/1 client: heads are parsed strictly, bodies followed to their end, pipelined requests wait.
//!
//! Must never begin a request before the one before has ended, both ways. Next: `server.rs`.

use super::Core;
use super::conns::{Hold, LOW, Role};
use super::exchange::{Carries, End, Exchange, Last, Side};
use super::head::Head;
use crate::failure::Failure;
use crate::route::Facts;
use crate::table::{ConnId, Id};

impl Core {
    /// Bytes from a client that speaks HTTP/1.
    pub(super) fn client_input(&mut self, conn: ConnId, bytes: &[u8]) {
        let Some(client) = self.conns.get_mut(conn) else {
            return;
        };
        if client.inbuf.is_empty() {
            let taken = self.client_bytes(conn, bytes);
            self.keep_rest(conn, &bytes[taken..]);
            return;
        }
        client.inbuf.extend_from_slice(bytes);
        self.client_pump(conn);
    }

    /// Goes on with what waited: the request before has ended, or was written.
    pub(super) fn client_pump(&mut self, conn: ConnId) {
        let Some(client) = self.conns.get_mut(conn) else {
            return;
        };
        if client.role != Role::Client || client.closing() {
            return;
        }
        let mut inbuf = std::mem::take(&mut client.inbuf);
        let taken = self.client_bytes(conn, &inbuf);
        inbuf.drain(..taken);
        let Some(client) = self.conns.get_mut(conn) else {
            return self.conns.store(inbuf);
        };
        if inbuf.is_empty() {
            self.conns.store(inbuf);
        } else {
            client.inbuf = inbuf;
        }
        self.client_maybe_over(conn);
    }

    /// Keeps what was not understood yet.
    pub(super) fn keep_rest(&mut self, conn: ConnId, rest: &[u8]) {
        if rest.is_empty() {
            return;
        }
        let spare = self.conns.spare();
        let Some(kept) = self.conns.get_mut(conn) else {
            return self.conns.store(spare);
        };
        if kept.inbuf.capacity() == 0 {
            kept.inbuf = spare;
        } else {
            self.conns.store(spare);
        }
        if let Some(kept) = self.conns.get_mut(conn) {
            kept.inbuf.extend_from_slice(rest);
        }
    }

    /// How many bytes were understood. The rest waits in `inbuf`: a part of a head, or the next request.
    fn client_bytes(&mut self, conn: ConnId, bytes: &[u8]) -> usize {
        let mut at = 0;
        while at < bytes.len() {
            let Some(client) = self.conns.get_mut(conn) else {
                return bytes.len();
            };
            if client.role == Role::Linger || client.closing() {
                return bytes.len();
            }
            let Some((id, _)) = client.exchange else {
                if client.unsent() > LOW {
                    self.conns.hold(conn, Hold::Pipeline);
                    return at;
                }
                match self.parse_request(conn, &bytes[at..]) {
                    Head::Partial => return at,
                    Head::Bad(failure) => {
                        self.refuse_client(conn, failure);
                        return bytes.len();
                    }
                    Head::Whole(length) => {
                        let head = &bytes[at..at + length];
                        let connect = self.request.method.of(head) == b"CONNECT";
                        self.begin_http(conn, head);
                        at += length;
                        if connect && self.refused_ahead(conn, &bytes[at..]) {
                            return bytes.len();
                        }
                    }
                }
                continue;
            };
            let Some(exchange) = self.exchanges.get_mut(id) else {
                return bytes.len();
            };
            if exchange.raw {
                self.raw_bytes(id, End::Down, &bytes[at..]);
                return bytes.len();
            }
            if exchange.request.ended {
                self.conns.hold(conn, Hold::Pipeline);
                return at;
            }
            at += self.request_body(id, conn, &bytes[at..]);
        }
        at
    }

    /// Whether bytes came ahead of a tunnel that was refused at once: they are no requests (RFC 9931), and the connection ends.
    fn refused_ahead(&mut self, conn: ConnId, ahead: &[u8]) -> bool {
        let over = self
            .conns
            .get(conn)
            .is_some_and(|client| client.exchange.is_none());
        let refused = over && !ahead.is_empty();
        if refused {
            self.linger(conn);
        }
        refused
    }

    fn request_body(&mut self, id: Id<Exchange>, conn: ConnId, bytes: &[u8]) -> usize {
        let Some(exchange) = self.exchanges.get_mut(id) else {
            return bytes.len();
        };
        match exchange.request.body.advance(bytes) {
            Ok(step) => {
                self.forward_request(id, &bytes[..step.taken], step.ended);
                if step.ended {
                    self.end_flow(id, End::Up, Last::End);
                }
                step.taken
            }
            Err(_) => {
                if exchange.begun() {
                    self.conns.close(conn);
                    self.broken(id, End::Down);
                } else {
                    self.drop_upstream(id);
                    self.fail(id, Failure::MalformedRequest);
                }
                bytes.len()
            }
        }
    }

    /// A request whose head was just parsed.
    fn begin_http(&mut self, conn: ConnId, bytes: &[u8]) {
        let Some(accepted) = self.conns.get(conn).and_then(|client| client.accepted) else {
            return;
        };
        let mut exchange = self.new_exchange(Carries::Http, Facts::of(&accepted));
        exchange.down = Side::Plain(conn);
        exchange.take_request(&self.request, bytes);
        let id = self.exchanges.insert(exchange);
        if let Some(client) = self.conns.get_mut(conn) {
            client.exchange = Some((id, End::Down));
        }
        // The spans of the head are those of the replay, if nothing stood before it.
        self.parsed = (self.request.start == 0).then_some(id);
        self.decide(id);
        self.parsed = None;
    }

    /// The client said its last. A request that is complete still gets its answer.
    pub(super) fn client_eof(&mut self, conn: ConnId) {
        let Some(client) = self.conns.get_mut(conn) else {
            return;
        };
        client.input_ended = true;
        let Some((id, _)) = client.exchange else {
            return self.client_maybe_over(conn);
        };
        let complete = self
            .exchanges
            .get(id)
            .is_none_or(|exchange| exchange.request.ended);
        if !complete {
            self.broken(id, End::Down);
        }
    }

    /// The proxy stops: a client that waits for nothing is closed.
    pub(super) fn client_drained(&mut self, conn: ConnId) {
        if let Some(client) = self.conns.get(conn)
            && client.exchange.is_none()
            && client.inbuf.is_empty()
        {
            self.linger(conn);
        }
    }

    /// A client whose input ended and who waits for nothing is closed; not before it was visited, if a request may still lie in its input.
    fn client_maybe_over(&mut self, conn: ConnId) {
        if let Some(client) = self.conns.get(conn)
            && client.input_ended
            && !client.pumping()
            && client.exchange.is_none()
            && client.unsent() <= LOW
        {
            self.conns.close(conn);
        }
    }

    /// Answers what is no request, for the last time.
    fn refuse_client(&mut self, conn: ConnId, failure: Failure) {
        self.conns.put_with(conn, |out| {
            super::answer::write(out, failure, "", super::answer::After::Close)
        });
        self.report_refused(conn, failure);
        self.linger(conn);
    }
}
