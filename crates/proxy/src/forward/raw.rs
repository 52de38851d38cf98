// SPDX-License-Identifier: Apache-2.0
//! Opaque bytes: TCP connections and upgraded HTTP.
//!
//! Each way ends on its own (FIN stays FIN), a reset stays a reset. Must never look into the bytes after detection. Next: `attempt.rs`.

use super::Core;
use super::conns::Role;
use super::exchange::{End, Exchange, Last, Side};
use crate::failure::Failure;
use crate::table::{ConnId, Id};

impl Core {
    /// Bytes of one side of an opaque exchange.
    pub(super) fn raw_input(&mut self, conn: ConnId, bytes: &[u8]) {
        if let Some((id, end)) = self.conns.get(conn).and_then(|conn| conn.exchange) {
            self.raw_bytes(id, end, bytes);
        }
    }

    pub(super) fn raw_bytes(&mut self, id: Id<Exchange>, from: End, bytes: &[u8]) {
        if from == End::Up && self.is_unasked(id, bytes) {
            return;
        }
        if self
            .exchanges
            .get(id)
            .is_some_and(|exchange| exchange.misplaced)
        {
            return self.refuse_bytes(id);
        }
        self.spoken(id);
        match from {
            End::Down => self.forward_request(id, bytes, false),
            End::Up => {
                self.established(id);
                self.forward(id, End::Down, bytes, false);
            }
        }
    }

    /// Somebody has said something that is not HTTP to a port that is declared HTTP, or such a port speaks unasked.
    fn refuse_bytes(&mut self, id: Id<Exchange>) {
        let Some(exchange) = self.exchanges.get_mut(id) else {
            return;
        };
        if exchange.established {
            exchange.failure = Some(Failure::MalformedRequest);
            return self.broken(id, End::Up);
        }
        self.drop_upstream(id);
        self.fail(id, Failure::MalformedRequest);
    }

    /// FIN of one side.
    pub(super) fn raw_eof(&mut self, conn: ConnId) {
        let Some(side) = self.conns.get_mut(conn) else {
            return;
        };
        side.input_ended = true;
        if let Some((id, end)) = side.exchange {
            self.end_flow(id, end.other(), Last::End);
        }
    }

    /// Both sides carry bytes from here on: 101, or 2xx to CONNECT. What the client sent ahead follows.
    pub(super) fn become_raw(&mut self, id: Id<Exchange>) {
        let Some(exchange) = self.exchanges.get_mut(id) else {
            return;
        };
        exchange.raw = true;
        exchange.keep_down = false;
        exchange.keep_up = false;
        exchange.request.ended = false;
        let sides = [exchange.down, exchange.up];
        for side in sides {
            let Side::Plain(conn) = side else { continue };
            let Some(plain) = self.conns.get_mut(conn) else {
                continue;
            };
            plain.role = Role::Raw;
            let first = std::mem::take(&mut plain.inbuf);
            let ended = plain.input_ended;
            self.conns.release(conn, super::conns::Hold::Pipeline);
            if !first.is_empty() {
                self.raw_input(conn, &first);
            }
            self.conns.store(first);
            if ended {
                self.raw_eof(conn);
            }
        }
    }
}
