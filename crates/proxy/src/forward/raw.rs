// SPDX-License-Identifier: Apache-2.0
//! Opaque bytes: TCP connections, upgraded HTTP, and the moment before it is known which of all it is.
//!
//! Each way ends on its own (FIN stays FIN), a reset stays a reset. Must never look into the bytes after detection. Next: `attempt.rs`.

use maille_engine::detect::Detected;
use maille_model::Protocol;

use super::Core;
use super::conns::Role;
use super::exchange::{Carries, End, Exchange, Last, Side};
use super::timers::Timer;
use crate::detect::{self, Early};
use crate::route::Facts;
use crate::table::{ConnId, Id};

impl Core {
    /// A plain connection was accepted, or control said something: what is declared decides, or the first bytes will.
    pub(super) fn detect_begin(&mut self, conn: ConnId) {
        let Some(accepted) = self.conns.get(conn).and_then(|conn| conn.accepted) else {
            return;
        };
        match detect::early(&self.snapshot, &Facts::of(&accepted)) {
            Early::Known(detected) => self.detected(conn, detected),
            Early::Listen => self
                .timers
                .set(self.now + detect::PATIENCE, Timer::Detect(conn)),
            Early::Wait(key) => {
                self.ask(key);
                self.undetected.push(conn);
                self.timers
                    .set(self.now + super::attempt::PATIENCE, Timer::Detect(conn));
            }
        }
    }

    /// Control said something: clients of whom nothing was known are looked at again.
    pub(super) fn detect_again(&mut self) {
        for conn in std::mem::take(&mut self.undetected) {
            if self.role(conn) == Some(Role::Detect) {
                self.detect_begin(conn);
            }
        }
    }

    /// Bytes of a client that has not said what it speaks.
    pub(super) fn detect_input(&mut self, conn: ConnId, bytes: &[u8]) {
        let Some(client) = self.conns.get_mut(conn) else {
            return;
        };
        let kept = !client.inbuf.is_empty();
        let detected = if kept {
            client.inbuf.extend_from_slice(bytes);
            detect::by_bytes(&client.inbuf)
        } else {
            detect::by_bytes(bytes)
        };
        match detected {
            // The deadline stands: a client that stops in the middle of a word is opaque.
            Detected::NeedMore if kept => {}
            Detected::NeedMore => self.keep_rest(conn, bytes),
            Detected::Http1 | Detected::Opaque(_) => {
                self.detected(conn, detected);
                if !kept {
                    self.plain_input(conn, bytes);
                }
            }
        }
    }

    /// The client did not speak in time (or ended its side): bytes, whoever begins.
    pub(super) fn detect_quiet(&mut self, conn: ConnId) {
        if self.role(conn) == Some(Role::Detect) {
            self.begin_raw(conn, Protocol::Undeclared);
        }
    }

    fn detected(&mut self, conn: ConnId, detected: Detected) {
        match detected {
            Detected::NeedMore => {}
            Detected::Opaque(protocol) => self.begin_raw(conn, protocol),
            Detected::Http1 => {
                let Some(client) = self.conns.get_mut(conn) else {
                    return;
                };
                client.role = Role::Client;
                if !client.inbuf.is_empty() {
                    self.client_pump(conn);
                }
            }
        }
    }

    fn begin_raw(&mut self, conn: ConnId, protocol: Protocol) {
        let Some(client) = self.conns.get_mut(conn) else {
            return;
        };
        client.role = Role::Raw;
        let first = std::mem::take(&mut client.inbuf);
        let Some(accepted) = client.accepted else {
            return;
        };
        let mut exchange = self.new_exchange(Carries::Tcp, Facts::of(&accepted));
        exchange.facts.protocol = protocol;
        exchange.down = Side::Plain(conn);
        exchange.request.bytes = first.len() as u64;
        exchange.replay.extend_from_slice(&first);
        self.conns.store(first);
        let id = self.exchanges.insert(exchange);
        if let Some(client) = self.conns.get_mut(conn) {
            client.exchange = Some((id, End::Down));
        }
        self.decide(id);
    }

    /// Bytes of one side of an opaque exchange.
    pub(super) fn raw_input(&mut self, conn: ConnId, bytes: &[u8]) {
        if let Some((id, end)) = self.conns.get(conn).and_then(|conn| conn.exchange) {
            self.raw_bytes(id, end, bytes);
        }
    }

    pub(super) fn raw_bytes(&mut self, id: Id<Exchange>, from: End, bytes: &[u8]) {
        match from {
            End::Down => self.forward_request(id, bytes, false),
            End::Up => {
                self.established(id);
                self.forward(id, End::Down, bytes, false);
            }
        }
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
