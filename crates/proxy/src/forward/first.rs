// SPDX-License-Identifier: Apache-2.0
//! The first bytes of a plain connection, and the time before them: declaration decides, or whoever speaks first.
//!
//! A client that says nothing may wait for the server's first word, so after a moment its upstream is opened, which address and
//! identity alone decide. As long as neither side has said a byte this can be taken back (`docs/wire.md`, section 4): a client
//! that speaks HTTP after all is an HTTP client, however late. Must never send a byte before it is known what it is.
//! Next: `raw.rs`, `client.rs`.

use std::time::Duration;

use maille_engine::client_hello::{self, Hello};
use maille_engine::detect::{
    Detected, detect, given_up, is_half_hello, is_half_request, is_http, is_http2_server,
};
use maille_model::Protocol;

use super::Core;
use super::attempt;
use super::conns::{Hold, Role};
use super::exchange::{Carries, End, Exchange, Side};
use super::timers::Timer;
use crate::detect::{self, Early};
use crate::failure::Failure;
use crate::route::Facts;
use crate::table::{ConnId, Id};

/// How long a word may be half said before it is taken for what it is. Nobody waits but the client.
const HALF_WORD: Duration = Duration::from_millis(100);
/// The same for a ClientHello: no server speaks before it is whole.
const HALF_HELLO: Duration = Duration::from_secs(10);
/// How many bytes of a server of HTTP/2 are kept until the client says its preface.
const UNASKED: usize = 4_096;

impl Core {
    /// A plain connection was accepted, or control said something: what is declared decides, or the first bytes will.
    pub(super) fn detect_begin(&mut self, conn: ConnId) {
        let Some(client) = self.conns.get_mut(conn) else {
            return;
        };
        let Some(accepted) = client.accepted else {
            return;
        };
        match detect::early(&self.snapshot, &Facts::of(&accepted)) {
            Early::Known(detected) => self.detected(conn, detected),
            Early::Listen(declared) => {
                client.declared = Some(declared);
                if client.inbuf.is_empty() && !client.input_ended {
                    // HTTP has no server that speaks first.
                    if !is_http(declared) {
                        self.timers
                            .set(self.now + detect::PATIENCE, Timer::Detect(conn));
                    }
                } else {
                    self.detect_kept(conn);
                }
            }
            Early::Wait(key) => {
                if !std::mem::replace(&mut client.parked, true) {
                    self.timers
                        .set(self.now + attempt::PATIENCE, Timer::Unknown(conn));
                }
                self.ask(key);
                self.undetected.push(conn);
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
        let Some(client) = self.conns.get(conn) else {
            return;
        };
        let declared = client.declared.unwrap_or_default();
        // Nearly every client says enough at once: then nothing is copied.
        if client.inbuf.is_empty() && detect(bytes, declared) == Detected::Http1 {
            self.detected(conn, Detected::Http1);
            return self.client_input(conn, bytes);
        }
        self.keep_rest(conn, bytes);
        self.detect_kept(conn);
    }

    /// Looks at everything that the client has said so far.
    fn detect_kept(&mut self, conn: ConnId) {
        let Some(client) = self.conns.get_mut(conn) else {
            return;
        };
        let known = client.declared;
        match detect(&client.inbuf, known.unwrap_or_default()) {
            detected @ (Detected::Http1 | Detected::Http2) => self.detected(conn, detected),
            // It may be declared HTTP yet, which never becomes bytes.
            Detected::Opaque(_) if known.is_none() => self.conns.hold(conn, Hold::Undecided),
            detected @ Detected::Opaque(_) => self.detected(conn, detected),
            Detected::NeedMore if client.input_ended && known.is_some() => {
                self.detect_settle(conn);
            }
            Detected::NeedMore => {
                if client.head_until.is_none() {
                    let until = self.now + HALF_WORD;
                    client.head_until = Some(until);
                    self.timers.set(until, Timer::Detect(conn));
                }
            }
        }
    }

    /// The client said its last before it was known what it speaks.
    pub(super) fn detect_eof(&mut self, conn: ConnId) {
        if let Some(client) = self.conns.get_mut(conn) {
            client.input_ended = true;
            self.detect_kept(conn);
        }
    }

    /// A moment has passed. Without a word of the client the server is let speak; half a word is waited for a little longer.
    pub(super) fn detect_late(&mut self, conn: ConnId) {
        let Some(client) = self.conns.get(conn) else {
            return;
        };
        if client.role != Role::Detect || client.declared.is_none() {
            return;
        }
        match client.head_until.filter(|until| *until <= self.now) {
            Some(until) if is_half_hello(&client.inbuf) && self.now < until + HALF_HELLO => {
                self.timers.set(until + HALF_HELLO, Timer::Detect(conn));
            }
            Some(_) => self.detect_settle(conn),
            None if client.exchange.is_none() => self.begin_silent(conn),
            None => {}
        }
    }

    /// Control has not said in time what the destination is.
    pub(super) fn detect_unknown(&mut self, conn: ConnId) {
        let waits = |client: &super::Conn| client.role == Role::Detect && client.declared.is_none();
        if self.conns.get(conn).is_some_and(waits)
            && let Some(id) = self.begin_tcp(conn)
        {
            self.fail(id, Failure::UnknownAddress);
        }
    }

    fn detected(&mut self, conn: ConnId, detected: Detected) {
        match detected {
            Detected::NeedMore => {}
            Detected::Opaque(protocol) => self.begin_raw(conn, protocol),
            Detected::Http2 => {
                self.detect_take_back(conn);
                if let Some(client) = self.conns.get_mut(conn) {
                    client.head_until = None;
                }
                self.conns.release(conn, Hold::Undecided);
                self.http2_accepted(conn);
            }
            Detected::Http1 => {
                self.detect_take_back(conn);
                let Some(client) = self.conns.get_mut(conn) else {
                    return;
                };
                client.role = Role::Client;
                client.head_until = None;
                let ended = client.input_ended;
                let waits = !client.inbuf.is_empty();
                self.conns.release(conn, Hold::Undecided);
                if waits {
                    self.client_pump(conn);
                }
                if ended {
                    self.client_eof(conn);
                }
            }
        }
    }

    /// What was said so far is all that comes for now.
    fn detect_settle(&mut self, conn: ConnId) {
        if let Some(client) = self.conns.get(conn) {
            let opened = client.exchange.and_then(|(id, _)| self.exchanges.get(id));
            let half_request = opened.is_none_or(|exchange| exchange.silent)
                && client.declared == Some(Protocol::Undeclared)
                && is_half_request(&client.inbuf);
            if half_request || client.declared.is_some_and(is_http) {
                // Nothing, or half a preface or line: HTTP/1 knows what to say to it.
                return self.detected(conn, Detected::Http1);
            }
            let protocol = given_up(&client.inbuf, client.declared.unwrap_or_default());
            self.begin_raw(conn, protocol);
        }
    }

    /// Opens the upstream of a client that says nothing.
    fn begin_silent(&mut self, conn: ConnId) {
        if let Some(id) = self.begin_tcp(conn) {
            if let Some(exchange) = self.exchanges.get_mut(id) {
                exchange.silent = true;
            }
            self.decide(id);
        }
    }

    fn begin_tcp(&mut self, conn: ConnId) -> Option<Id<Exchange>> {
        let accepted = self.conns.get(conn).and_then(|client| client.accepted)?;
        let mut exchange = self.new_exchange(Carries::Tcp, Facts::of(&accepted));
        exchange.down = Side::Plain(conn);
        let id = self.exchanges.insert(exchange);
        if let Some(client) = self.conns.get_mut(conn) {
            client.exchange = Some((id, End::Down));
        }
        Some(id)
    }

    /// Bytes both ways from here on.
    fn begin_raw(&mut self, conn: ConnId, protocol: Protocol) {
        let Some(client) = self.conns.get_mut(conn) else {
            return;
        };
        client.role = Role::Raw;
        client.head_until = None;
        let first = std::mem::take(&mut client.inbuf);
        let ended = client.input_ended;
        let opened = client.exchange.map(|(id, _)| id);
        let Some(id) = opened.or_else(|| self.begin_tcp(conn)) else {
            return;
        };
        self.conns.release(conn, Hold::Undecided);
        if let Some(exchange) = self.exchanges.get_mut(id) {
            exchange.silent = false;
            exchange.facts.protocol = protocol;
            if let Hello::Whole(name) = client_hello::read(&first) {
                exchange.facts.server_name = name;
            }
        }
        if opened.is_some() {
            self.report_if_opened(id);
            self.forward_unasked(id);
            self.forward_request(id, &first, false);
        } else if let Some(exchange) = self.exchanges.get_mut(id) {
            exchange.request.bytes = first.len() as u64;
            exchange.replay.extend_from_slice(&first);
            self.decide(id);
        }
        self.conns.store(first);
        if ended {
            self.raw_eof(conn);
        }
    }

    /// A side of an exchange that was opened in silence says something, be it that it has nothing to say.
    pub(super) fn spoken(&mut self, id: Id<Exchange>) {
        let Some(exchange) = self.exchanges.get_mut(id) else {
            return;
        };
        if !std::mem::replace(&mut exchange.silent, false) {
            return;
        }
        let down = exchange.down;
        match down {
            Side::Plain(conn) if self.role(conn) == Some(Role::Detect) => self.detect_settle(conn),
            Side::Plain(_) | Side::Stream { .. } | Side::None => {
                self.report_if_opened(id);
                self.forward_unasked(id);
            }
        }
    }

    /// Whether these bytes of a server are no word that decides anything: one of HTTP/2 need not wait for the client's preface, which decides. They are kept.
    pub(super) fn is_unasked(&mut self, id: Id<Exchange>, bytes: &[u8]) -> bool {
        let Some(exchange) = self.exchanges.get_mut(id) else {
            return false;
        };
        let kept = exchange.unasked.len();
        let first = kept == 0;
        if !exchange.silent || first && !is_http2_server(bytes) || kept + bytes.len() > UNASKED {
            return false;
        }
        exchange.unasked.extend_from_slice(bytes);
        if first {
            self.timers.set(self.now + HALF_HELLO, Timer::Unasked(id));
        }
        true
    }

    fn forward_unasked(&mut self, id: Id<Exchange>) {
        if let Some(exchange) = self.exchanges.get_mut(id) {
            let unasked = std::mem::take(&mut exchange.unasked);
            if !unasked.is_empty() && !exchange.misplaced {
                self.forward(id, End::Down, &unasked, false);
            }
        }
    }

    fn report_if_opened(&mut self, id: Id<Exchange>) {
        let established = |exchange: &Exchange| exchange.established;
        if self.exchanges.get(id).is_some_and(established) {
            self.report_opened(id);
        }
    }

    /// The client speaks HTTP: the upstream that was opened in silence is none of its requests'.
    fn detect_take_back(&mut self, conn: ConnId) {
        let opened = self
            .conns
            .get_mut(conn)
            .and_then(|client| client.exchange.take());
        if let Some((id, _)) = opened {
            self.take_back(id);
        }
    }

    /// Ends an exchange of which nobody has seen anything, and which therefore never was. Its upstream waits for a request.
    pub(super) fn take_back(&mut self, id: Id<Exchange>) {
        let Some(mut exchange) = self.exchanges.remove(id) else {
            return;
        };
        if let Some(picked) = &mut exchange.picked {
            self.balance.done(picked, self.now);
        }
        match exchange.up {
            Side::Plain(server) if exchange.unasked.is_empty() => self.server_unused(server),
            Side::Plain(server) => self.close(server),
            Side::Stream { link, stream } => self.stream_take_back(link, stream),
            Side::None => {}
        }
        self.conns.store(std::mem::take(&mut exchange.replay));
    }
}
