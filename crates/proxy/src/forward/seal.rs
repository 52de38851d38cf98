// SPDX-License-Identifier: Apache-2.0
//! How links are written: once a turn, sealed where there is a session.
//!
//! Must never seal more than a connection can write. Next: `leave.rs`.

use super::Core;
use super::conns::{HIGH, Hold, KEEP};
use super::inside::Way;
use super::links::{Link, Proxy, With};
use super::recover::Work;
use crate::table::{ConnId, LinkId};

impl Link {
    /// The socket and the session, where the other end is a proxy.
    pub(super) fn session(&mut self) -> Option<(ConnId, &mut Proxy)> {
        match &mut self.with {
            With::Proxy(proxy) => Some((self.conn, proxy)),
            With::Client(_) | With::Server(_) => None,
        }
    }

    fn may_speak(&self) -> bool {
        self.proxy().is_none_or(|proxy| proxy.tls.is_established())
    }
}

impl Core {
    /// Has the link written at the end of the turn.
    pub(super) fn link_mark(&mut self, id: LinkId) {
        if let Some(link) = self.links.table.get_mut(id)
            && !link.dirty
            && !link.out.is_empty()
        {
            link.dirty = true;
            self.links.dirty.push(id);
        }
    }

    /// Seals what the codecs have said, as far as the sockets keep up.
    pub fn seal(&mut self) {
        let mut sealing = std::mem::take(&mut self.links.sealing);
        std::mem::swap(&mut sealing, &mut self.links.dirty);
        for id in sealing.drain(..) {
            self.work = Work::Link(id);
            self.seal_one(id);
        }
        self.links.sealing = sealing;
    }

    fn seal_one(&mut self, id: LinkId) {
        let Some(link) = self.links.table.get_mut(id) else {
            return;
        };
        link.dirty = false;
        let full = self
            .conns
            .get(link.conn)
            .is_none_or(|conn| conn.unsent() > HIGH);
        if full || !link.may_speak() {
            // Comes again when the socket has drained, or with the end of the handshake.
            return;
        }
        if self.tapping.looking.is_on() && link.proxy().is_some() {
            let out = std::mem::take(&mut link.out);
            let (looking, told) = (&mut self.tapping.looking, &mut self.tapping.told);
            looking.passes((id, link), (Way::Out, &out), self.now, told);
            link.out = out;
        }
        link.codec.flushed();
        let (conn, out) = (link.conn, &mut link.out);
        let sealed = match &mut link.with {
            With::Proxy(proxy) => {
                let tls = &mut proxy.tls;
                let sealed = self.conns.put_with(conn, |sealed| tls.seal(out, sealed));
                if out.capacity() > KEEP {
                    *out = Vec::new();
                } else {
                    out.clear();
                }
                sealed
            }
            With::Client(_) | With::Server(_) => {
                self.conns.give(conn, out);
                None
            }
        };
        let starved = std::mem::take(&mut link.starved);
        let end = link.end();
        if let Some(Err(error)) = sealed {
            return self.session_failed(id, &error);
        }
        for exchange in starved {
            self.stream_writable(exchange, end);
        }
    }

    /// The socket has room again.
    pub(super) fn link_drained(&mut self, id: LinkId) {
        if let Some(link) = self.links.get(id)
            && link.out.len() <= HIGH
        {
            self.conns.release(link.conn, Hold::Full);
        }
        self.link_mark(id);
    }
}
