// SPDX-License-Identifier: Apache-2.0
//! How mesh connections end: left by a GOAWAY, a rotation or a drain, lost, refused, dead, unused, or cut because trust was withdrawn.
//!
//! Who dialled closes; the other side only waits, so that nothing under way is lost. Streams that the peer cannot have seen go
//! elsewhere. Must never cut what merely rests on an older certificate. Next: `stream.rs`.

use std::time::Duration;

use maille_engine::mesh::Code;
use maille_engine::route::Direction;
use maille_engine::snapshot::{Known, Snapshot};
use maille_identity::{Anchors, Credentials, SessionError};
use maille_model::AddressOwner;

use super::Core;
use super::mesh::Mesh;
use crate::failure::Failure;
use crate::table::MeshId;
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

impl Mesh {
    /// Who began it.
    pub(super) fn direction(&self) -> Direction {
        match self.dialled {
            Some(_) => Direction::Outbound,
            None => Direction::Inbound,
        }
    }

    /// Both sides have taken each other: who dialled knows it only by the peer's first word.
    fn made(&self) -> bool {
        match self.dialled {
            Some(_) => self.proved,
            None => self.tls.is_established(),
        }
    }

    /// How long it may be without streams.
    fn patience(&self) -> Duration {
        if self.leaving { LEFT } else { UNUSED }
    }
}

// === impl Core ===

impl Core {
    /// TLS has failed: whoever is there is not whom we take.
    pub(super) fn session_failed(&mut self, id: MeshId, error: &SessionError) {
        let Some(mesh) = self.meshes.get(id) else {
            return;
        };
        maille_chassis::limited!(
            warn,
            error = error as &dyn std::error::Error,
            reason = error.reason(),
            remote = %mesh.remote,
            expected = mesh.dialled.as_ref().map(|key| tracing::field::display(&key.identity)),
            "mesh connection refused"
        );
        self.mesh_cut(id);
    }

    pub(super) fn handshake_late(&mut self, id: MeshId) {
        if self.meshes.get(id).is_some_and(|mesh| !mesh.proved) {
            self.mesh_end(id, Failure::ConnectTimeout);
        }
    }

    /// The end of every mesh connection. Streams that the peer cannot have seen go elsewhere.
    pub(super) fn mesh_end(&mut self, id: MeshId, failure: Failure) {
        let exchanges = self.mesh_exchanges(id);
        let Some(mut mesh) = self.meshes.table.remove(id) else {
            return;
        };
        if let Some(key) = &mesh.dialled {
            self.meshes.pool.forget(key.to, id);
        }
        let connecting = self
            .conns
            .get(mesh.conn)
            .is_some_and(|conn| conn.connecting);
        if !connecting && !mesh.made() {
            self.recorder.handshake(mesh.direction(), unmade(failure));
        }
        if !connecting {
            let (tls, out) = (&mut mesh.tls, &mesh.out);
            self.conns.put_with(mesh.conn, |sealed| {
                // Without a session there is nothing left to say.
                if tls.seal(out, sealed).is_ok() {
                    tls.close(sealed);
                }
            });
        }
        self.close(mesh.conn);
        for exchange in exchanges {
            if mesh.dialled.is_some() && !mesh.proved {
                self.stream_unprocessed(exchange, failure);
            } else {
                self.stream_lost(exchange, mesh.end());
            }
        }
    }

    /// No new streams; over with the last one.
    pub(super) fn mesh_leave(&mut self, id: MeshId) {
        let Some(mesh) = self.meshes.table.get_mut(id) else {
            return;
        };
        mesh.leaving = true;
        mesh.used = self.now;
        if let Some(key) = &mesh.dialled {
            self.meshes.pool.forget(key.to, id);
        }
    }

    /// Who dialled ends a connection that is left, after its last stream: then nothing of the other side's is lost on the way.
    pub(super) fn mesh_maybe_over(&mut self, id: MeshId) {
        let over = self.meshes.get(id).is_some_and(|mesh| {
            mesh.leaving && mesh.dialled.is_some() && mesh.proved && mesh.link.streams_open() == 0
        });
        if over {
            self.mesh_end(id, Failure::Draining);
        }
    }

    /// New streams rest on the new certificate; what is open goes on with the old one.
    pub(super) fn mesh_renew(&mut self, credentials: Credentials) {
        let generation = credentials.generation();
        self.meshes.credentials = Some(credentials);
        self.mesh_retire(|mesh| mesh.generation != generation);
    }

    pub(super) fn mesh_drain(&mut self) {
        self.mesh_retire(|_| true);
    }

    fn mesh_retire(&mut self, which: impl Fn(&Mesh) -> bool) {
        for id in self.meshes.table.ids().collect::<Vec<_>>() {
            let Some(mesh) = self.meshes.table.get_mut(id).filter(|mesh| which(mesh)) else {
                continue;
            };
            if mesh.dialled.is_none() && !mesh.leaving {
                mesh.link.goaway(Code::NO_ERROR, &mut mesh.out);
                self.mesh_mark(id);
            }
            self.mesh_leave(id);
            self.mesh_maybe_over(id);
        }
    }

    /// Trust that was withdrawn cuts what rests on it: an anchor that is gone, an address that is somebody else's now.
    pub(super) fn withdraw(&mut self, before: &Snapshot) {
        self.retire_anchors(before);
        let anchors = self.meshes.anchors.as_ref();
        let is_cut = |id: &MeshId| {
            let mesh = self.meshes.get(*id);
            mesh.is_some_and(|mesh| self.is_somebody_else(mesh) || mesh.is_disbelieved(anchors))
        };
        for id in self.meshes.table.ids().filter(is_cut).collect::<Vec<_>>() {
            self.mesh_cut(id);
        }
    }

    /// Ends a connection to somebody whom we do not take for whom we took it: what was not said yet never is.
    fn mesh_cut(&mut self, id: MeshId) {
        if let Some(mesh) = self.meshes.table.get_mut(id) {
            mesh.out.clear();
        }
        self.mesh_end(id, Failure::PeerIdentity);
    }

    /// From the first retired anchor on what is believed is what control says, whatever older credentials believe.
    fn retire_anchors(&mut self, before: &Snapshot) {
        let (Some(before), Some(now)) = (before.mesh(), self.snapshot.mesh()) else {
            return;
        };
        let (before, now) = (&before.trust_anchors, &now.trust_anchors);
        let retired = before.iter().any(|anchor| !now.contains(anchor));
        if before != now && (retired || self.meshes.anchors.is_some()) {
            match Anchors::new(now) {
                Ok(anchors) => self.meshes.anchors = Some(anchors),
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

    fn is_somebody_else(&self, mesh: &Mesh) -> bool {
        let Some(key) = &mesh.dialled else {
            return false;
        };
        match self.snapshot.address(key.to.ip()).map(|owner| &**owner) {
            Known::Present(AddressOwner::Workload(workload)) => workload.uid != key.uid,
            Known::Present(AddressOwner::Service(_)) => true,
            Known::Absent | Known::Unknown => false,
        }
    }

    /// Once in a while: asks quiet peers for a sign of life, ends the dead and the unused.
    pub(super) fn mesh_sweep(&mut self) {
        for id in self.meshes.table.ids().collect::<Vec<_>>() {
            self.stream_codes_later(id);
            let Some(mesh) = self.meshes.table.get_mut(id) else {
                continue;
            };
            let quiet = self.now.saturating_duration_since(mesh.heard);
            if mesh.link.streams_open() > 0 {
                mesh.used = self.now;
                if quiet >= DEAD && mesh.proved {
                    self.mesh_end(id, Failure::ConnectTimeout);
                } else if quiet >= QUIET && mesh.proved && !mesh.pinged {
                    mesh.pinged = true;
                    mesh.link.ping([0; 8], &mut mesh.out);
                    self.mesh_mark(id);
                }
            } else if self.now.saturating_duration_since(mesh.used) >= mesh.patience() {
                mesh.link.goaway(Code::NO_ERROR, &mut mesh.out);
                self.mesh_end(id, Failure::Draining);
            }
        }
    }
}
