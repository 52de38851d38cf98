// SPDX-License-Identifier: Apache-2.0
//! Heads of messages: parsed into one pair of values that is used again and again, and remembered only where one is incomplete.
//!
//! Must never let a connection's half head meet another connection's bytes. Next: `client.rs`, `server.rs`.

use std::time::Duration;

use maille_engine::http1::{
    Body, Framing, Limits, Malformed, RequestHead, RequestKind, ResponseHead, parse_request,
    parse_response,
};

use super::Core;
use super::conns::Partial;
use super::exchange::{Exchange, RequestFacts};
use super::timers::Timer;
use crate::failure::Failure;
use crate::table::ConnId;

/// How long a head may take from its first byte to its last.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// What a parse found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Head {
    /// More bytes are needed.
    Partial,
    /// So many bytes are a head; it is in [`Core::request`] or [`Core::response`].
    Whole(usize),
    /// No head.
    Bad(Failure),
}

/// What a response head says to those who only carry it.
#[derive(Clone, Debug)]
pub(super) struct ResponseFacts {
    pub(super) status: u16,
    pub(super) interim: bool,
    pub(super) tunnel: bool,
    pub(super) keep_alive: bool,
    pub(super) body: Body,
}

/// Heads written out of fields may be a little longer than what the other side read: `A:b` becomes `A: b`. The wire bounds them.
const REWRITTEN: Limits = Limits {
    head: 128 * 1024,
    fields: 256,
};

impl Core {
    /// Parses a request of `conn` into [`Core::request`].
    pub(super) fn parse_request(&mut self, conn: ConnId, bytes: &[u8]) -> Head {
        if let Some(conn) = self.conns.get_mut(conn)
            && let Partial::Request(partial) = std::mem::take(&mut conn.partial)
        {
            self.request = *partial;
        }
        match parse_request(bytes, &Limits::default(), &mut self.request) {
            Ok(Some(length)) => {
                if let Some(client) = self.conns.get_mut(conn) {
                    client.head_until = None;
                }
                Head::Whole(length)
            }
            Ok(None) => {
                let partial = Partial::Request(Box::new(std::mem::take(&mut self.request)));
                if let Some(client) = self.conns.get_mut(conn) {
                    client.partial = partial;
                    if client.head_until.is_none() {
                        let until = self.now + PATIENCE;
                        client.head_until = Some(until);
                        self.timers.set(until, Timer::Head(conn));
                    }
                }
                Head::Partial
            }
            Err(malformed) => {
                self.request = RequestHead::default();
                Head::Bad(of_request(malformed))
            }
        }
    }

    /// Parses a response of `conn` into [`Core::response`].
    pub(super) fn parse_response(
        &mut self,
        conn: ConnId,
        asked: RequestKind,
        bytes: &[u8],
    ) -> Head {
        if let Some(conn) = self.conns.get_mut(conn)
            && let Partial::Response(partial) = std::mem::take(&mut conn.partial)
        {
            self.response = *partial;
        }
        match parse_response(bytes, &Limits::default(), asked, &mut self.response) {
            Ok(Some(length)) => Head::Whole(length),
            Ok(None) => {
                let partial = Partial::Response(Box::new(std::mem::take(&mut self.response)));
                if let Some(conn) = self.conns.get_mut(conn) {
                    conn.partial = partial;
                }
                Head::Partial
            }
            Err(malformed) => {
                self.response = ResponseHead::default();
                Head::Bad(match malformed {
                    Malformed::HeadTooLarge | Malformed::TooManyFields => Failure::ResponseTooLarge,
                    _ => Failure::MalformedResponse,
                })
            }
        }
    }

    /// A client that began a head long ago and has not finished it is closed.
    pub(super) fn head_late(&mut self, conn: ConnId) {
        let Some(client) = self.conns.get(conn) else {
            return;
        };
        let late = client.head_until.is_some_and(|until| until <= self.now);
        if late && matches!(client.partial, Partial::Request(_)) {
            self.close(conn);
        }
    }

    /// Parses a head that is complete or wrong: one that was written out of a stream's fields.
    pub(super) fn parse_whole_request(&mut self, text: &[u8]) -> bool {
        let whole = parse_request(text, &REWRITTEN, &mut self.request);
        if matches!(whole, Ok(Some(length)) if length == text.len()) && self.request.start == 0 {
            return true;
        }
        self.request = RequestHead::default();
        false
    }

    /// The same for a response.
    pub(super) fn parse_whole_response(&mut self, asked: RequestKind, text: &[u8]) -> bool {
        let whole = parse_response(text, &REWRITTEN, asked, &mut self.response);
        if matches!(whole, Ok(Some(length)) if length == text.len()) {
            return true;
        }
        self.response = ResponseHead::default();
        false
    }
}

/// Which answers are possible. HEAD stays HEAD: no server can switch protocols and have no body.
fn asked(method: &[u8], upgrade: bool) -> RequestKind {
    match RequestKind::of(method) {
        RequestKind::Other if upgrade => RequestKind::Upgrade,
        kind => kind,
    }
}

impl Exchange {
    /// Becomes the exchange of the request that was parsed from `bytes` into `head`.
    pub(super) fn take_request(&mut self, head: &RequestHead, bytes: &[u8]) {
        let method = head.method.of(bytes);
        let whole = &bytes[head.start..];
        self.request_head = RequestFacts {
            length: whole.len(),
            kind: asked(method, head.upgrade),
            may_tunnel: head.upgrade || method == b"CONNECT",
            idempotent: idempotent(method),
        };
        if let Some(asked) = &mut self.asked {
            asked.take(head, bytes);
        }
        if let Some(tapped) = &mut self.tapped {
            tapped.take_request(head, bytes);
        }
        self.keep_down = head.keep_alive;
        self.request.body = Body::new(head.framing);
        self.request.ended = head.framing == Framing::None || self.request.body.ended();
        self.request.bytes = whole.len() as u64;
        self.replay.extend_from_slice(whole);
    }
}

impl Exchange {
    /// The head is the whole request, and no tunnel may follow it.
    pub(super) fn ends_with_head(&self) -> bool {
        !self.raw
            && self.request.ended
            && !self.request_head.may_tunnel
            && self.replay.len() == self.request_head.length
            && self.request.trailers.is_none()
    }
}

impl ResponseFacts {
    /// What `head` says.
    pub(super) fn of(head: &ResponseHead) -> Self {
        Self {
            status: head.status,
            interim: head.interim(),
            tunnel: head.tunnel,
            keep_alive: head.keep_alive,
            body: Body::new(head.framing),
        }
    }

    /// Nothing of this response follows its head.
    pub(super) fn is_all(&self) -> bool {
        !self.interim && !self.tunnel && self.body.ended()
    }
}

fn of_request(malformed: Malformed) -> Failure {
    match malformed.status() {
        414 => Failure::TargetTooLong,
        431 => Failure::HeadTooLarge,
        501 => Failure::UnknownCoding,
        505 => Failure::UnknownVersion,
        _ => Failure::MalformedRequest,
    }
}

/// RFC 9110, section 9.2.2.
pub(super) fn idempotent(method: &[u8]) -> bool {
    matches!(
        method,
        b"GET" | b"HEAD" | b"OPTIONS" | b"TRACE" | b"PUT" | b"DELETE"
    )
}
