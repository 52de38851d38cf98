// SPDX-License-Identifier: Apache-2.0
//! What this side says on streams. Each call appends to what a link will write at the end of the turn.
//!
//! Must never say anything on a stream that is gone; the codec swallows it. Next: `stream.rs`.

use maille_engine::http1::{Limits, Version, canonical_reason, parse_request};
use maille_engine::http2::{Code, Fields, OpenError};
use maille_engine::route::Hop;

use super::Core;
use super::answer::{self, Asked};
use super::conns::HIGH;
use super::exchange::{Carries, End, Exchange, Side};
use super::fields;
use super::links::Link;
use super::stream::protocol_name;
use crate::connect::tcp::ConnectSpec;
use crate::failure::Failure;
use crate::table::{Id, LinkId};

/// Heads that wait for a handshake, or for a slow peer, at most: then new streams are refused.
const HEADS: usize = 4 * 1024 * 1024;

/// Streams of one connection with another proxy that are reset in a second, so that clients who leave do not spend what it bears
/// (`docs/wire.md`, limits: streams that were reset). One that waits hurts nobody: its exchange is over.
const RESETS: usize = 1_500;

// === impl Core ===

impl Core {
    /// Opens a stream for an exchange whose endpoint is picked, with its head. The body follows. `plain` is how the socket of a plain hop is made.
    pub(super) fn open_stream(
        &mut self,
        id: Id<Exchange>,
        plain: Option<ConnectSpec>,
    ) -> Result<Side, Failure> {
        let Some(exchange) = self.exchanges.get(id) else {
            return Err(Failure::Overloaded);
        };
        let Some(picked) = &exchange.picked else {
            return Err(Failure::NoEndpoint);
        };
        let hop = picked.hop().clone();
        if exchange.carries == Carries::Http && self.parsed != Some(id) {
            let head = &exchange.replay[..exchange.request_head.length];
            let whole = parse_request(head, &Limits::default(), &mut self.request);
            if !matches!(whole, Ok(Some(_))) {
                return Err(Failure::MalformedRequest);
            }
            self.parsed = Some(id);
        }
        // A connection that is full or leaving is passed over the second time.
        for _ in 0..2 {
            let link = self.link_for(&hop, plain)?;
            let opened = match plain {
                None => self.open_on_mesh(id, link, &hop),
                Some(_) if self.lacks_protocols(id, link) => {
                    return Err(Failure::NoExtendedConnect);
                }
                Some(_) => self.open_on_server(id, link),
            };
            match opened {
                Ok(stream) => {
                    self.link_mark(link);
                    return Ok(Side::Stream { link, stream });
                }
                Err(OpenError::HeadTooLarge) => return Err(Failure::HeadTooLarge),
                Err(OpenError::Full | OpenError::Leaving) => {}
            }
        }
        Err(Failure::Overloaded)
    }

    /// Whether the request names a protocol (RFC 8441), and the server has said that it takes none.
    fn lacks_protocols(&self, id: Id<Exchange>, link: LinkId) -> bool {
        let asked = self.exchanges.get(id).is_some_and(|exchange| {
            let mut head = exchange.message_head();
            head.any(|(name, _)| name == b":protocol")
        });
        asked
            && self
                .links
                .get(link)
                .is_some_and(|link| link.codec.is_settled() && !link.codec.takes_protocols())
    }

    fn open_on_server(&mut self, id: Id<Exchange>, link: LinkId) -> Result<u32, OpenError> {
        let (Some(exchange), Some(link)) = (self.exchanges.get(id), self.links.table.get_mut(link))
        else {
            return Err(OpenError::Leaving);
        };
        if link.out.len() > HEADS {
            return Err(OpenError::Full);
        }
        let end = exchange.ends_with_head();
        let fields = exchange.message_head();
        link.speaking = true;
        let opened = link
            .codec
            .open_stream(id.to_bits(), fields, end, &mut link.out);
        link.speaking = false;
        opened
    }

    fn open_on_mesh(
        &mut self,
        id: Id<Exchange>,
        link: LinkId,
        hop: &Hop,
    ) -> Result<u32, OpenError> {
        let (Some(exchange), Some(link)) = (self.exchanges.get(id), self.links.table.get_mut(link))
        else {
            return Err(OpenError::Leaving);
        };
        if link.out.len() > HEADS {
            return Err(OpenError::Full);
        }
        let texts = &mut self.links.texts;
        let facts = &exchange.facts;
        let target = hop.target();
        let dialled = (facts.destination != target)
            .then(|| (&b":m-dst"[..], texts.dialled.of(facts.destination)));
        let authority = (&b":authority"[..], texts.authority.of(target));
        let source = (&b":m-src"[..], texts.source.of(facts.client.ip()));
        let hop = [Some(authority), dialled, Some(source)];
        let hop = hop.into_iter().flatten();
        let (codec, out) = (&mut link.codec, &mut link.out);
        link.speaking = true;
        let opened = match exchange.carries {
            Carries::Http => {
                let bytes = &exchange.replay[..exchange.request_head.length];
                let head = &self.request;
                let version =
                    (head.version == Version::Http10).then_some((&b":m-version"[..], &b"1.0"[..]));
                let line = [
                    (&b":method"[..], head.method.of(bytes)),
                    (&b":path"[..], head.target.of(bytes)),
                ];
                let pseudo = line.into_iter().chain(hop).chain(version);
                let fields = pseudo.chain(head.fields(bytes));
                codec.open_stream(id.to_bits(), fields, exchange.ends_with_head(), out)
            }
            Carries::Http2 => {
                let version = (&b":m-version"[..], &b"2"[..]);
                let head = exchange.message_head().map(|(name, value)| {
                    let name = match name {
                        b":authority" => &b":m-authority"[..],
                        b":protocol" => &b":m-connect"[..],
                        name => name,
                    };
                    (name, value)
                });
                // The application's pseudo-fields come first in its head: ours go before them.
                let fields = std::iter::once(version).chain(hop).chain(head);
                codec.open_stream(id.to_bits(), fields, exchange.ends_with_head(), out)
            }
            Carries::Tcp => {
                let protocol = protocol_name(facts.protocol)
                    .map(|name| (&b":m-protocol"[..], name.as_bytes()));
                let name = facts.server_name.as_ref();
                let name = name.map(|name| (&b":m-sni"[..], name.as_str().as_bytes()));
                let method = (&b":method"[..], &b"CONNECT"[..]);
                let fields = std::iter::once(method).chain(hop);
                let fields = fields.chain(protocol).chain(name);
                codec.open_stream(id.to_bits(), fields, false, out)
            }
        };
        link.speaking = false;
        opened
    }

    /// Names the exchange that a peer's stream began.
    pub(super) fn stream_bind(&mut self, link: LinkId, stream: u32, exchange: Id<Exchange>) {
        if let Some(link) = self.links.get_mut(link) {
            link.codec.set_token(stream, exchange.to_bits());
        }
    }

    /// Sends bytes, as many as may be sent now; `end` goes with the last of them.
    pub(super) fn stream_send(
        &mut self,
        id: Id<Exchange>,
        (link, stream): (LinkId, u32),
        bytes: &[u8],
        end: bool,
    ) -> usize {
        let Some(of) = self.links.get_mut(link) else {
            return bytes.len();
        };
        if of.out.len() > HIGH {
            of.starved.push(id);
            return 0;
        }
        of.speaking = true;
        let taken = of.codec.send_data(stream, bytes, end, &mut of.out);
        of.speaking = false;
        self.link_mark(link);
        taken
    }

    /// END_STREAM.
    pub(super) fn stream_end(&mut self, link: LinkId, stream: u32) {
        self.on_link(link, |link| {
            link.codec.send_data(stream, &[], true, &mut link.out);
        });
    }

    /// Bytes of the stream were written to a socket.
    pub(super) fn stream_credit(&mut self, link: LinkId, stream: u32, n: usize) {
        self.on_link(link, |link| link.codec.consumed(stream, n, &mut link.out));
    }

    /// Nobody waits for what the stream still brings.
    pub(super) fn stream_release(&mut self, link: LinkId, stream: u32) {
        self.on_link(link, |link| link.codec.release(stream, &mut link.out));
    }

    pub(super) fn stream_code(&mut self, link: LinkId, stream: u32, code: Code) {
        self.on_link(link, |link| {
            if link.resets < RESETS || link.proxy().is_none() {
                link.resets += 1;
                link.codec.reset(stream, code, &mut link.out);
            } else {
                link.resets_later.push_back((stream, code));
            }
        });
    }

    /// Once a second: resets that waited.
    pub(super) fn stream_codes_later(&mut self, link: LinkId) {
        let mut waited = false;
        self.on_link(link, |link| {
            link.resets = link.resets_later.len().min(RESETS);
            for (stream, code) in link.resets_later.drain(..link.resets) {
                waited = true;
                link.codec.reset(stream, code, &mut link.out);
            }
        });
        if waited {
            self.link_maybe_over(link);
        }
    }

    /// Nobody has said anything on the stream, and nobody will.
    pub(super) fn stream_take_back(&mut self, link: LinkId, stream: u32) {
        self.stream_release(link, stream);
        self.stream_code(link, stream, Code::NO_ERROR);
        self.link_maybe_over(link);
    }

    /// The exchange is over. A request that had not ended need not go on.
    pub(super) fn stream_done(&mut self, link: LinkId, stream: u32, end: End, whole: bool) {
        self.stream_release(link, stream);
        if whole {
            self.on_link(link, |link| link.resets = link.resets.saturating_sub(1));
        } else {
            let code = match end {
                End::Up => Code::CANCEL,
                End::Down => Code::NO_ERROR,
            };
            self.stream_code(link, stream, code);
        }
        self.link_maybe_over(link);
    }

    /// The mesh's own answer: the request reached nobody. A proxy is told why, an application in the words that it understands.
    pub(super) fn stream_refuse(
        &mut self,
        link: LinkId,
        stream: u32,
        failure: Failure,
        asked: Asked,
        about: &str,
    ) {
        if failure == Failure::StreamRefused {
            // It may be sent again, which no status says.
            return self.stream_code(link, stream, Code::REFUSED_STREAM);
        }
        let status = digits(failure.http_status());
        let proxy = self
            .links
            .get(link)
            .is_some_and(|link| link.proxy().is_some());
        if proxy {
            let fields = [
                (&b":status"[..], &status[..]),
                (&b":m-flag"[..], failure.flag().as_bytes()),
            ];
            return self.stream_head(link, stream, fields, true);
        }
        if asked.grpc {
            let mut told = self.conns.spare();
            answer::grpc_trailers(&mut told, failure, about);
            let head: [(&[u8], &[u8]); 2] =
                [(b":status", b"200"), (b"content-type", b"application/grpc")];
            let fields = head.into_iter().chain(fields::iter(&told));
            self.stream_head(link, stream, fields, true);
            return self.conns.store(told);
        }
        let text = answer::line(failure, about);
        let length = text.len().to_string();
        let head: [(&[u8], &[u8]); 3] = [
            (b":status", &status),
            (b"content-type", b"text/plain"),
            (b"content-length", length.as_bytes()),
        ];
        self.stream_head(link, stream, head, asked.head);
        if !asked.head {
            self.on_link(link, |link| {
                link.codec
                    .send_data(stream, text.as_bytes(), true, &mut link.out);
            });
        }
    }

    /// The head of an HTTP/2 answer.
    pub(super) fn stream_answer(
        &mut self,
        (link, stream): (LinkId, u32),
        status: u16,
        fields: Fields<'_>,
        end: bool,
    ) {
        let status = digits(status);
        let head = std::iter::once((&b":status"[..], &status[..])).chain(fields.iter());
        self.stream_head(link, stream, head, end);
    }

    /// Trailers, as `fields.rs` keeps them.
    pub(super) fn stream_trailers(&mut self, link: LinkId, stream: u32, trailers: &[u8]) {
        self.on_link(link, |link| {
            let fields = fields::iter(trailers);
            let (codec, out) = (&mut link.codec, &mut link.out);
            if codec.send_trailers(stream, fields, out).is_err() {
                codec.reset(stream, Code::INTERNAL_ERROR, out);
            }
        });
    }

    /// The application has taken a TCP connection.
    pub(super) fn stream_accepted(&mut self, link: LinkId, stream: u32) {
        self.stream_head(link, stream, [(&b":status"[..], &b"200"[..])], false);
    }

    /// The response head that was just parsed from `bytes`.
    pub(super) fn stream_respond(&mut self, link: LinkId, stream: u32, bytes: &[u8], end: bool) {
        let head = std::mem::take(&mut self.response);
        let status = digits(head.status);
        let reason = head.reason.of(bytes);
        let version =
            (head.version == Version::Http10).then_some((&b":m-version"[..], &b"1.0"[..]));
        let other = (reason != canonical_reason(head.status).as_bytes())
            .then_some((&b":m-reason"[..], reason));
        let pseudo = [Some((&b":status"[..], &status[..])), version, other];
        let fields = pseudo.into_iter().flatten().chain(head.fields(bytes));
        self.stream_head(link, stream, fields, end);
        self.response = head;
    }

    fn stream_head<'f>(
        &mut self,
        link: LinkId,
        stream: u32,
        fields: impl IntoIterator<Item = (&'f [u8], &'f [u8])>,
        end: bool,
    ) {
        self.on_link(link, |link| {
            if link
                .codec
                .send_head(stream, fields, end, &mut link.out)
                .is_err()
            {
                // Larger than the peer takes: it cannot be told in any other way.
                link.codec
                    .reset(stream, Code::INTERNAL_ERROR, &mut link.out);
            }
        });
    }

    fn on_link(&mut self, id: LinkId, say: impl FnOnce(&mut Link)) {
        if let Some(link) = self.links.get_mut(id) {
            link.speaking = true;
            say(link);
            link.speaking = false;
            self.link_mark(id);
        }
    }
}

fn digits(status: u16) -> [u8; 3] {
    [100, 10, 1].map(|place| b'0' + (status / place % 10).to_le_bytes()[0])
}
