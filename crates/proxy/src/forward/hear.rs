// SPDX-License-Identifier: Apache-2.0
//! What the peers of links say: decrypted where there is a session, understood by the codec, and handed to the exchange whose stream it is.
//!
//! Must never let one stream's fault touch another, nor an event reach an exchange that went elsewhere. Next: `stream.rs`, `message.rs`.

use std::sync::Arc;
use std::time::Duration;

use maille_engine::http2::{ConnectionError, Event};
use maille_engine::route::Direction;
use maille_identity::{PeerError, SessionError};

use super::Core;
use super::conns::{HIGH, Hold};
use super::exchange::{Carries, End, Exchange, Side};
use super::inside::Way;
use super::links::{Link, With};
use super::timers::Timer;
use crate::failure::Failure;
use crate::table::{Id, LinkId};
use crate::telemetry::Handshake;

/// Decrypted bytes of one read are kept in a vector of at most this size between reads.
const PLAIN: usize = 512 * 1024;
/// A peer that does not read what it makes us say is not read either.
const DEAF: usize = 4 * HIGH;
/// Of the PING that follows the warning that a connection is about to be left.
pub(super) const WARNING: [u8; 8] = *b"leaving.";
/// How long the answer to that may take.
pub(super) const WARNED: Duration = Duration::from_secs(1);

impl Core {
    /// Bytes of a link's peer, encrypted if it is a proxy.
    pub(super) fn link_input(&mut self, id: LinkId, bytes: &mut [u8]) {
        let Some(link) = self.links.table.get_mut(id) else {
            return;
        };
        link.heard = self.now;
        link.pinged = false;
        match link.with {
            With::Proxy(_) => self.session_input(id, bytes),
            With::Client(_) | With::Server(_) => self.link_plain(id, bytes),
        }
    }

    fn session_input(&mut self, id: LinkId, bytes: &mut [u8]) {
        let mut plain = std::mem::take(&mut self.links.plain);
        plain.clear();
        let Some((conn, proxy)) = self.links.table.get_mut(id).and_then(Link::session) else {
            self.links.plain = plain;
            return;
        };
        let tls = &mut proxy.tls;
        let fed = self
            .conns
            .put_with(conn, |out| tls.feed_slice(bytes, &mut plain, out));
        match fed {
            None => {}
            Some(Err(error)) => self.session_failed(id, &error),
            Some(Ok(progress))
                if progress.established
                    && proxy.peer.is_none()
                    && proxy.is_disbelieved(self.links.anchors.as_ref()) =>
            {
                let error = SessionError::Certificate(PeerError::UnknownCa);
                self.session_failed(id, &error);
            }
            Some(Ok(progress)) => {
                if progress.established && proxy.peer.is_none() {
                    proxy.peer = proxy.tls.peer().cloned().map(Arc::new);
                    if proxy.dialled.is_none() {
                        self.recorder.handshake(Direction::Inbound, Handshake::Done);
                    }
                    self.link_mark(id);
                }
                if !plain.is_empty() {
                    if self.tapping.looking.is_on()
                        && let Some(link) = self.links.get_mut(id)
                    {
                        let (looking, told) = (&mut self.tapping.looking, &mut self.tapping.told);
                        looking.passes((id, link), (Way::In, &plain), self.now, told);
                    }
                    self.link_plain(id, &mut plain);
                }
                if progress.closed {
                    self.link_end(id, Failure::ConnectRefused);
                }
            }
        }
        if plain.capacity() <= PLAIN {
            self.links.plain = plain;
        }
    }

    /// Bytes that need no decryption.
    pub(super) fn link_plain(&mut self, id: LinkId, plain: &mut [u8]) {
        self.link_proved(id);
        let mut list = std::mem::take(&mut self.links.list);
        let started = self.links.started.unwrap_or(self.now);
        let elapsed = self.now.saturating_duration_since(started).as_millis();
        let now = u64::try_from(elapsed).unwrap_or(u64::MAX);
        let mut at = 0;
        while let Some(link) = self.links.table.get_mut(id) {
            link.speaking = true;
            let heard = link
                .codec
                .receive(now, &mut plain[at..], &mut list, &mut link.out);
            link.speaking = false;
            match heard {
                Ok(received) => {
                    at += received.taken;
                    let Some(event) = received.event else { break };
                    let end = link.end();
                    self.link_event(id, end, event);
                }
                Err(error) => {
                    self.link_broken(id, &error);
                    break;
                }
            }
        }
        self.links.list = list;
        self.link_note_unfinished(id);
        self.link_mark(id);
        self.link_maybe_deaf(id);
        self.link_maybe_over(id);
    }

    /// A client of the application's side was heard, and began so many requests: it may have to wait before it is read again.
    pub(super) fn link_paced(&mut self, id: LinkId, begun: u64) {
        let Some(link) = self.links.table.get_mut(id) else {
            return;
        };
        let With::Client(_) = link.with else {
            return;
        };
        let heard = (begun, link.codec.streams_open(), link.codec.last_stream());
        if let Some(breath) = link.pace.breath(heard, &mut self.links.modest) {
            self.conns.hold(link.conn, Hold::Breath);
            self.timers.set(self.now + breath, Timer::Breath(link.conn));
        }
    }

    /// The peer broke the protocol of the whole connection.
    fn link_broken(&mut self, id: LinkId, error: &ConnectionError) {
        let Some(link) = self.links.table.get(id) else {
            return;
        };
        let peer = link.proxy().and_then(|proxy| proxy.peer.as_deref());
        maille_chassis::limited!(
            warn,
            error = error as &dyn std::error::Error,
            peer.id = peer.map(tracing::field::display),
            remote = %link.remote,
            "connection ended: the peer broke the protocol"
        );
        self.link_end(id, Failure::UpstreamClosed);
    }

    /// Notes since when the peer has left something half said. A slow peer makes progress: what it begins next has its own time.
    fn link_note_unfinished(&mut self, id: LinkId) {
        if let Some(link) = self.links.get_mut(id) {
            let since = link.unfinished;
            link.unfinished = link.codec.unfinished().map(|number| match since {
                Some((same, since)) if same == number => (same, since),
                _ => (number, self.now),
            });
        }
    }

    fn link_event(&mut self, id: LinkId, end: End, event: Event<'_>) {
        match event {
            Event::Request {
                stream,
                fields,
                end,
            } => self.stream_request(id, stream, &fields, end),
            Event::Response {
                stream,
                token,
                fields,
                end: over,
            } => {
                if let Some(exchange) = self.stream_owner(id, stream, token, end) {
                    self.stream_response(exchange, &fields, over);
                }
            }
            Event::Data {
                stream,
                token,
                bytes,
                end: over,
            } => match self.stream_owner(id, stream, token, end) {
                Some(exchange) => self.stream_data(exchange, end, bytes, over),
                // Nobody waits for it: the answer came before the request had ended.
                None => self.stream_release(id, stream),
            },
            Event::Trailers {
                stream,
                token,
                fields,
            } => {
                if let Some(exchange) = self.stream_owner(id, stream, token, end) {
                    self.message_trailers(exchange, end, fields);
                }
            }
            Event::Reset {
                stream,
                token,
                code,
            } => {
                if let Some(exchange) = self.stream_owner(id, stream, token, end) {
                    self.stream_was_reset(exchange, end, code);
                }
            }
            Event::Unprocessed { stream, token } => {
                if let Some(exchange) = self.stream_owner(id, stream, token, end) {
                    self.stream_reopen(exchange);
                }
            }
            Event::Writable { stream, token } => {
                if let Some(exchange) = self.stream_owner(id, stream, token, end) {
                    self.stream_writable(exchange, end);
                }
            }
            Event::Goaway { .. } => self.link_leave(id),
            Event::Pong { payload } if payload == WARNING => self.link_warned(id),
            Event::Settings | Event::Pong { .. } => {}
        }
    }

    /// The exchange that a stream belongs to now: one that went elsewhere has nothing to do with it any more.
    fn stream_owner(
        &self,
        link: LinkId,
        stream: u32,
        token: u64,
        end: End,
    ) -> Option<Id<Exchange>> {
        let id = Id::from_bits(token);
        let owner = self.exchanges.get(id)?;
        (owner.side(end) == Side::Stream { link, stream }).then_some(id)
    }

    /// The peer has spoken: it has judged us as we have judged it.
    fn link_proved(&mut self, id: LinkId) {
        let Some(link) = self.links.get_mut(id) else {
            return;
        };
        if std::mem::replace(&mut link.proved, true) || !link.dialled() {
            return;
        }
        if link.proxy().is_some() {
            self.recorder
                .handshake(Direction::Outbound, Handshake::Done);
        }
        for exchange in self.link_exchanges(id) {
            let tcp = self
                .exchanges
                .get(exchange)
                .is_none_or(|exchange| exchange.carries == Carries::Tcp);
            if !tcp {
                self.established(exchange);
            }
        }
    }

    /// Whether the peer of a stream has been proved.
    pub(super) fn link_is_proved(&self, id: LinkId) -> bool {
        self.links.get(id).is_some_and(|link| link.proved)
    }

    /// A peer that makes us speak and does not listen is not heard until it does.
    fn link_maybe_deaf(&mut self, id: LinkId) {
        if let Some(link) = self.links.get(id)
            && let Some(conn) = self.conns.get(link.conn)
            && link.out.len() + conn.unsent() > DEAF
        {
            self.conns.hold(link.conn, Hold::Full);
        }
    }

    pub(super) fn link_exchanges(&self, id: LinkId) -> Vec<Id<Exchange>> {
        let on = |side: Side| matches!(side, Side::Stream { link, .. } if link == id);
        self.exchanges
            .ids()
            .filter(|exchange| {
                self.exchanges
                    .get(*exchange)
                    .is_some_and(|exchange| on(exchange.up) || on(exchange.down))
            })
            .collect()
    }
}
