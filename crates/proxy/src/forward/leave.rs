// SPDX-License-Identifier: Apache-2.0
//! How links end: left by a GOAWAY, a rotation or a drain, lost, refused, dead, unused, or cut because trust was withdrawn.
//!
//! Who dialled closes; the other side only waits, so that nothing under way is lost. Streams that the peer cannot have seen go
//! elsewhere. Must never cut what merely rests on an older certificate. Next: `stream.rs`.

use std::time::{Duration, Instant};

use maille_engine::http2::Code;
use maille_engine::route::Direction;
use maille_engine::snapshot::{Known, Snapshot};
use maille_identity::{Anchors, Credentials, SessionError};
use maille_model::AddressOwner;

use super::Core;
use super::exchange::End;
use super::head::PATIENCE as HALF_SAID;
use super::hear::{WARNED, WARNING};
use super::links::{Link, With};
use crate::accept::Door;
use crate::connect::mesh::MeshKey;
use crate::failure::Failure;
use crate::table::LinkId;
use crate::telemetry::Handshake;

/// `docs/wire.md`, limits and windows.
const QUIET: Duration = Duration::from_secs(30);
const DEAD: Duration = Duration::from_secs(50);
const UNUSED: Duration = Duration::from_secs(300);
/// How long a peer may take to close a connection that was left.
const LEFT: Duration = Duration::from_secs(5);

/// How a handshake ended that the connection's end has cut short.
fn unmade(failure: Failure) -> Handshake {
    match failure {
        Failure::PeerIdentity => Handshake::Refused,
        Failure::ConnectTimeout => Handshake::Late,
        _ => Handshake::Lost,
    }
}

impl Link {
    /// Who began it.
    pub(super) fn direction(&self) -> Direction {
        match self.end() {
            End::Up => Direction::Outbound,
            End::Down => Direction::Inbound,
        }
    }

    /// Both sides have taken each other: who dialled knows it only by the peer's first word.
    fn made(&self) -> bool {
        match &self.with {
            With::Proxy(proxy) if proxy.dialled.is_none() => proxy.tls.is_established(),
            With::Proxy(_) => self.proved,
            With::Client(_) | With::Server(_) => true,
        }
    }

    /// How long it may be without streams.
    fn patience(&self) -> Option<Duration> {
        match (self.leaving, &self.with) {
            (true, _) => Some(LEFT),
            (false, With::Proxy(_) | With::Server(_)) => Some(UNUSED),
            // It may be the only thing that its application does for hours.
            (false, With::Client(_)) => None,
        }
    }

    /// Whether the peer began something too long ago and has not ended it: a head, most often, that holds up every stream.
    fn is_half_said(&self, now: Instant) -> bool {
        self.unfinished
            .is_some_and(|(_, since)| now.saturating_duration_since(since) >= HALF_SAID)
    }

    /// Whom a mesh connection of ours was made to.
    fn made_to(&self) -> Option<&MeshKey> {
        self.proxy().and_then(|proxy| proxy.dialled.as_ref())
    }
}

// === impl Core ===

impl Core {
    /// TLS has failed: whoever is there is not whom we take.
    pub(super) fn session_failed(&mut self, id: LinkId, error: &SessionError) {
        let Some(link) = self.links.get(id) else {
            return;
        };
        maille_chassis::limited!(
            warn,
            error = error as &dyn std::error::Error,
            reason = error.reason(),
            remote = %link.remote,
            expected = link.made_to().map(|key| tracing::field::display(&key.identity)),
            "mesh connection refused"
        );
        self.link_cut(id);
    }

    pub(super) fn handshake_late(&mut self, id: LinkId) {
        if self.links.get(id).is_some_and(|link| !link.proved) {
            self.link_end(id, Failure::ConnectTimeout);
        }
    }

    /// The end of every link. Streams that the peer cannot have seen go elsewhere.
    pub(super) fn link_end(&mut self, id: LinkId, failure: Failure) {
        let exchanges = self.link_exchanges(id);
        self.link_forget(id);
        let Some(mut link) = self.links.table.remove(id) else {
            return;
        };
        let connecting = self
            .conns
            .get(link.conn)
            .is_some_and(|conn| conn.connecting);
        if !connecting && !link.made() {
            self.recorder.handshake(link.direction(), unmade(failure));
        }
        if !connecting {
            self.link_last_words(&mut link);
        }
        match link.with {
            With::Client(_) => self.linger(link.conn),
            With::Proxy(_) | With::Server(_) => self.close(link.conn),
        }
        for exchange in exchanges {
            if link.dialled() && !link.proved {
                self.stream_unprocessed(exchange, failure);
            } else {
                self.stream_lost(exchange, link.end());
            }
        }
    }

    fn link_last_words(&mut self, link: &mut Link) {
        let out = &mut link.out;
        match &mut link.with {
            With::Client(_) | With::Server(_) => self.conns.give(link.conn, out),
            With::Proxy(proxy) => {
                let tls = &mut proxy.tls;
                self.conns.put_with(link.conn, |sealed| {
                    // Without a session there is nothing left to say.
                    if tls.seal(out, sealed).is_ok() {
                        tls.close(sealed);
                    }
                });
            }
        }
    }

    /// No new streams; over with the last one.
    pub(super) fn link_leave(&mut self, id: LinkId) {
        let Some(link) = self.links.table.get_mut(id) else {
            return;
        };
        link.leaving = true;
        link.used = self.now;
        self.link_forget(id);
    }

    /// A client has heard that its connection is left, or had time to: what it opens from now on it opens elsewhere.
    pub(super) fn link_warned(&mut self, id: LinkId) {
        if let Some(link) = self.links.table.get_mut(id)
            && link.warned.take().is_some()
        {
            link.codec.goaway(Code::NO_ERROR, &mut link.out);
            self.link_mark(id);
            self.link_leave(id);
            self.link_maybe_over(id);
        }
    }

    /// Who dialled ends a connection that is left, after its last stream: then nothing of the other side's is lost on the way.
    /// An application that called may keep its connection for ever, so its proxy ends it.
    pub(super) fn link_maybe_over(&mut self, id: LinkId) {
        let over = self.links.get(id).is_some_and(|link| {
            let ours = link.dialled() || matches!(link.with, With::Client(_));
            (link.leaving || self.draining) && ours && link.proved && link.codec.streams_open() == 0
        });
        if over {
            self.link_end(id, Failure::Draining);
        }
    }

    /// New streams rest on the new certificate; what is open goes on with the old one.
    pub(super) fn mesh_renew(&mut self, credentials: Credentials) {
        let generation = credentials.generation();
        self.links.credentials = Some(credentials);
        self.links_cut_for_test();
        self.links_retire(|link| {
            link.proxy()
                .is_some_and(|proxy| proxy.generation != generation)
        });
    }

    pub(super) fn links_drain(&mut self) {
        self.links_retire(|_| true);
    }

    /// Clients outside the mesh are told to open another connection elsewhere.
    pub(super) fn links_warn(&mut self) {
        self.links_retire(|link| match &link.with {
            With::Client(accepted) => accepted.door == Door::Plain(Direction::Inbound),
            With::Proxy(_) | With::Server(_) => false,
        });
    }

    fn links_retire(&mut self, which: impl Fn(&Link) -> bool) {
        for id in self.links.table.ids().collect::<Vec<_>>() {
            let Some(link) = self.links.table.get_mut(id).filter(|link| which(link)) else {
                continue;
            };
            if matches!(link.with, With::Client(_)) && !link.leaving {
                // Applications do not all try again what a GOAWAY met on its way: they are warned first.
                if link.warned.is_none() {
                    link.warned = Some(self.now);
                    link.codec.goaway_soon(&mut link.out);
                    link.codec.ping(WARNING, &mut link.out);
                    self.link_mark(id);
                }
                continue;
            }
            if !link.dialled() && !link.leaving {
                link.codec.goaway(Code::NO_ERROR, &mut link.out);
                self.link_mark(id);
            }
            self.link_leave(id);
            self.link_maybe_over(id);
        }
    }

    /// Where a test took the patience away: what rests on anything older goes at once.
    fn links_cut_for_test(&mut self) {
        if self.settings.impatient {
            for id in self.links.table.ids().collect::<Vec<_>>() {
                self.link_end(id, Failure::Draining);
            }
        }
    }

    /// Trust that was withdrawn cuts what rests on it: an anchor that is gone, an address that is somebody else's now.
    pub(super) fn withdraw(&mut self, before: &Snapshot) {
        self.links_cut_for_test();
        self.retire_anchors(before);
        let anchors = self.links.anchors.as_ref();
        let is_cut = |id: &LinkId| {
            let link = self.links.get(*id);
            link.is_some_and(|link| {
                let proxy = link.proxy();
                self.is_somebody_else(link)
                    || proxy.is_some_and(|proxy| proxy.is_disbelieved(anchors))
            })
        };
        for id in self.links.table.ids().filter(is_cut).collect::<Vec<_>>() {
            self.link_cut(id);
        }
    }

    /// Ends a connection to somebody whom we do not take for whom we took it: what was not said yet never is.
    fn link_cut(&mut self, id: LinkId) {
        if let Some(link) = self.links.table.get_mut(id) {
            link.codec.flushed();
            link.out.clear();
        }
        self.link_end(id, Failure::PeerIdentity);
    }

    /// From the first retired anchor on what is believed is what control says, whatever older credentials believe.
    fn retire_anchors(&mut self, before: &Snapshot) {
        let (Some(before), Some(now)) = (before.mesh(), self.snapshot.mesh()) else {
            return;
        };
        let (before, now) = (&before.trust_anchors, &now.trust_anchors);
        let retired = before.iter().any(|anchor| !now.contains(anchor));
        if before != now && (retired || self.links.anchors.is_some()) {
            match Anchors::new(now) {
                Ok(anchors) => self.links.anchors = Some(anchors),
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(
                        error,
                        "control's trust anchors cannot be used, the last good ones hold"
                    );
                }
            }
        }
    }

    fn is_somebody_else(&self, link: &Link) -> bool {
        let Some(key) = link.made_to() else {
            return false;
        };
        match self.snapshot.address(key.to.ip()).map(|owner| &**owner) {
            Known::Present(AddressOwner::Workload(workload)) => workload.uid != key.uid,
            Known::Present(AddressOwner::Service(_)) => true,
            Known::Absent | Known::Unknown => false,
        }
    }

    /// Once in a while: asks quiet peers for a sign of life, ends the dead and the unused.
    pub(super) fn links_sweep(&mut self) {
        for id in self.links.table.ids().collect::<Vec<_>>() {
            self.stream_codes_later(id);
            let Some(link) = self.links.table.get_mut(id) else {
                continue;
            };
            if link
                .warned
                .is_some_and(|since| self.now.saturating_duration_since(since) >= WARNED)
            {
                self.link_warned(id);
                continue;
            }
            if link.is_half_said(self.now) {
                link.codec.goaway(Code::ENHANCE_YOUR_CALM, &mut link.out);
                self.link_end(id, Failure::UpstreamClosed);
                continue;
            }
            let mesh = link.proxy().is_some();
            let quiet = self.now.saturating_duration_since(link.heard);
            if link.codec.streams_open() > 0 {
                link.used = self.now;
                if !mesh {
                    // Applications count PINGs as abuse, and may be silent for hours: the socket finds the dead.
                } else if quiet >= DEAD && link.proved {
                    self.link_end(id, Failure::ConnectTimeout);
                } else if quiet >= QUIET && link.proved && !link.pinged {
                    link.pinged = true;
                    link.codec.ping([0; 8], &mut link.out);
                    self.link_mark(id);
                }
            } else if link
                .patience()
                .is_some_and(|patience| self.now.saturating_duration_since(link.used) >= patience)
            {
                link.codec.goaway(Code::NO_ERROR, &mut link.out);
                self.link_end(id, Failure::Draining);
            }
        }
    }
}
