// SPDX-License-Identifier: Apache-2.0
//! The upstream side as a plain HTTP/1 server: its response head is parsed strictly, its body is followed to the end.
//!
//! A connection is used again only when both directions of its message ended cleanly and neither said `close`: anything else
//! would let the rest of one request be read as the next. Must never reuse a connection that sent a byte too much. Next: `stream.rs`.

use super::Core;
use super::conns::{ConnId, Role};
use super::exchange::{End, Exchange, Last, Side};
use super::head::{self, Head, ResponseFacts};
use super::table::Id;
use crate::failure::Failure;

/// Interim responses before the final one (`docs/wire.md`, section 3).
const INTERIM: u8 = 16;

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
            self.keep_rest(conn, &bytes[taken..]);
        } else {
            let mut inbuf = std::mem::take(&mut server.inbuf);
            inbuf.extend_from_slice(bytes);
            let taken = self.server_bytes(conn, id, &inbuf);
            inbuf.drain(..taken);
            self.put_back(conn, inbuf);
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
                // More than the response: whatever it is, nobody asked for it.
                exchange.keep_up = false;
                return bytes.len();
            }
            if exchange.status == 0 {
                match head::response(&bytes[at..], &exchange.request_head) {
                    Head::Partial => return at,
                    Head::Bad(_) => {
                        self.conns.abort(conn);
                        self.upstream_failed(id, Failure::MalformedResponse);
                        return bytes.len();
                    }
                    Head::Whole(facts) => {
                        let head = &bytes[at..at + facts.length];
                        at += facts.length;
                        self.response_head(id, head, facts);
                    }
                }
                continue;
            }
            match exchange.response.body.advance(&bytes[at..]) {
                Ok(step) => {
                    self.forward(id, End::Down, &bytes[at..at + step.taken]);
                    at += step.taken;
                    if step.ended {
                        self.response_ended(id);
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
}
