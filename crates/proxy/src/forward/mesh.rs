// SPDX-License-Identifier: Apache-2.0
//! Mesh connections: a TLS session and a codec over one socket; made, proved, read and sealed.
//!
//! A connection takes streams before it is connected: what they say waits unsealed. It counts as proved only when the first
//! byte of the peer came out of the session: before that the peer has judged nobody, and every stream may go elsewhere.
//! Must never seal more than a connection can write. Next: `leave.rs`, `link.rs`.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use maille_engine::hpack::List;
use maille_engine::mesh::{Code, Connection, Event, Settings};
use maille_engine::route::{Direction, Hop};
use maille_identity::{Anchors, Credentials, PeerError, Session, SessionError};
use maille_model::Identity;

use super::Core;
use super::conns::{Conn, Effect, HIGH, Role};
use super::exchange::{Carries, End, Exchange, Side};
use super::texts::Texts;
use super::timers::Timer;
use crate::connect::mesh::{MeshKey, MeshPool};
use crate::connect::tcp::ConnectSpec;
use crate::failure::Failure;
use crate::table::{ConnId, Id, Link, MeshId, Table};
use crate::telemetry::Handshake;

/// `docs/wire.md`, limits and windows.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Decrypted bytes of one read are kept in a vector of at most this size between reads.
const PLAIN: usize = 512 * 1024;

/// One mesh connection.
#[derive(Debug)]
pub(super) struct Mesh {
    pub(super) conn: ConnId,
    pub(super) tls: Session,
    pub(super) link: Connection,
    /// What the codec said and was not sealed yet.
    pub(super) out: Vec<u8>,
    /// Whom it was made to; `None` for a connection that the other side made.
    pub(super) dialled: Option<MeshKey>,
    pub(super) remote: SocketAddr,
    peer: Option<Arc<Identity>>,
    pub(super) generation: u64,
    /// A byte of the peer came through the session.
    pub(super) proved: bool,
    /// Takes no new streams; ends with its last one.
    pub(super) leaving: bool,
    pub(super) dirty: bool,
    /// Exchanges that wait until the unsealed bytes are fewer.
    pub(super) starved: Vec<Id<Exchange>>,
    /// Resets since the last sweep, and those that wait for the next: the peer bears only so many.
    pub(super) resets: usize,
    pub(super) resets_later: VecDeque<(u32, Code)>,
    pub(super) heard: Instant,
    pub(super) used: Instant,
    pub(super) pinged: bool,
}

/// All mesh connections of a worker.
#[derive(Debug, Default)]
pub(super) struct Meshes {
    pub(super) table: Table<Mesh, Link>,
    pub(super) pool: MeshPool<MeshId>,
    pub(super) credentials: Option<Credentials>,
    /// Whom we believe since an anchor was retired: credentials may be older than that, and believe more.
    pub(super) anchors: Option<Anchors>,
    pub(super) dirty: Vec<MeshId>,
    sealing: Vec<MeshId>,
    plain: Vec<u8>,
    list: List,
    pub(super) texts: Texts,
    started: Option<Instant>,
}

// === impl Meshes ===

impl Meshes {
    pub(super) fn is_empty(&self) -> bool {
        self.table.len() == 0
    }

    pub(super) fn get(&self, id: MeshId) -> Option<&Mesh> {
        self.table.get(id)
    }

    pub(super) fn get_mut(&mut self, id: MeshId) -> Option<&mut Mesh> {
        self.table.get_mut(id)
    }
}

// === impl Mesh ===

impl Mesh {
    /// Whether its peer rests on nobody in `anchors`, where they are known better than by the credentials that it was made with.
    /// A session that is not established yet is judged when it is.
    pub(super) fn is_disbelieved(&self, anchors: Option<&Anchors>) -> bool {
        self.tls.is_established() && anchors.is_some_and(|anchors| !self.tls.rests_on(anchors))
    }

    /// At which end of an exchange its streams are.
    pub(super) fn end(&self) -> End {
        match self.dialled {
            Some(_) => End::Up,
            None => End::Down,
        }
    }
}

// === impl Core: how they begin ===

impl Core {
    /// Another proxy connected.
    pub(super) fn mesh_accepted(&mut self, conn: ConnId, client: SocketAddr) {
        let Some(credentials) = &self.meshes.credentials else {
            maille_chassis::limited!(warn, "a peer was refused: there is no certificate yet");
            return self.conns.abort(conn);
        };
        match Session::server(credentials) {
            Ok(tls) => {
                let generation = credentials.generation();
                let mut out = Vec::new();
                let link = Connection::server(Settings::default(), &mut out);
                self.mesh_insert(conn, (tls, link, out), None, (client, generation));
            }
            Err(error) => {
                maille_chassis::limited!(
                    error,
                    error = &error as &dyn std::error::Error,
                    "no TLS session"
                );
                self.conns.abort(conn);
            }
        }
    }

    /// The connection that takes a stream for `hop`, or a new one.
    pub(super) fn mesh_for(&mut self, hop: &Hop) -> Result<MeshId, Failure> {
        let Hop::Mesh {
            to, identity, uid, ..
        } = hop
        else {
            return Err(Failure::ConnectUnreachable);
        };
        let Some(credentials) = &self.meshes.credentials else {
            return Err(Failure::Overloaded);
        };
        let generation = credentials.generation();
        let table = &self.meshes.table;
        let takes = |id| {
            table
                .get(id)
                .is_some_and(|mesh: &Mesh| !mesh.leaving && mesh.link.can_open())
        };
        if let Some(mesh) = self
            .meshes
            .pool
            .find((*to, identity, uid, generation), takes)
        {
            return Ok(mesh);
        }
        if self.conns.len() >= self.settings.max_connections {
            return Err(Failure::Overloaded);
        }
        let tls = Session::client(credentials, identity).map_err(|_| Failure::Overloaded)?;
        let mut out = Vec::new();
        let link = Connection::client(Settings::default(), &mut out);
        let key = MeshKey {
            to: *to,
            identity: identity.clone(),
            uid: uid.clone(),
            generation,
        };
        let mut fresh = Conn::new(Role::Gone);
        fresh.connecting = true;
        let conn = self.conns.insert(fresh);
        let mesh = self.mesh_insert(conn, (tls, link, out), Some(key.clone()), (*to, generation));
        self.meshes.pool.put(key, mesh);
        let spec = ConnectSpec {
            to: *to,
            source: None,
            mark: None,
        };
        self.conns.effect(Effect::Connect { conn, spec });
        self.timers.set(
            self.now + self.settings.connect_timeout,
            Timer::Connect(conn),
        );
        // The first message of the handshake waits for the connection.
        self.mesh_input(mesh, &mut []);
        Ok(mesh)
    }

    fn mesh_insert(
        &mut self,
        conn: ConnId,
        (tls, link, out): (Session, Connection, Vec<u8>),
        dialled: Option<MeshKey>,
        (remote, generation): (SocketAddr, u64),
    ) -> MeshId {
        let mesh = self.meshes.table.insert(Mesh {
            conn,
            tls,
            link,
            out,
            dialled,
            remote,
            peer: None,
            generation,
            proved: false,
            leaving: false,
            dirty: false,
            starved: Vec::new(),
            resets: 0,
            resets_later: VecDeque::new(),
            heard: self.now,
            used: self.now,
            pinged: false,
        });
        if let Some(conn) = self.conns.get_mut(conn) {
            conn.role = Role::Mesh(mesh);
        }
        self.meshes.started.get_or_insert(self.now);
        self.timers
            .set(self.now + HANDSHAKE, Timer::Handshake(mesh));
        self.sweep_later();
        mesh
    }

    /// Who is at the other end of a connection: its address and its proven identity.
    pub(super) fn mesh_peer(&self, id: MeshId) -> Option<(SocketAddr, Option<Arc<Identity>>)> {
        let mesh = self.meshes.get(id)?;
        Some((mesh.remote, mesh.peer.clone()))
    }
}

// === impl Core: what the peer says ===

impl Core {
    /// Ciphertext of a peer.
    pub(super) fn mesh_input(&mut self, id: MeshId, bytes: &mut [u8]) {
        let mut plain = std::mem::take(&mut self.meshes.plain);
        plain.clear();
        let Some(mesh) = self.meshes.table.get_mut(id) else {
            self.meshes.plain = plain;
            return;
        };
        mesh.heard = self.now;
        mesh.pinged = false;
        let tls = &mut mesh.tls;
        let fed = self
            .conns
            .put_with(mesh.conn, |out| tls.feed_slice(bytes, &mut plain, out));
        match fed {
            None => {}
            Some(Err(error)) => self.session_failed(id, &error),
            Some(Ok(progress))
                if progress.established
                    && mesh.peer.is_none()
                    && mesh.is_disbelieved(self.meshes.anchors.as_ref()) =>
            {
                let error = SessionError::Certificate(PeerError::UnknownCa);
                self.session_failed(id, &error);
            }
            Some(Ok(progress)) => {
                if progress.established && mesh.peer.is_none() {
                    mesh.peer = mesh.tls.peer().cloned().map(Arc::new);
                    if mesh.dialled.is_none() {
                        self.recorder.handshake(Direction::Inbound, Handshake::Done);
                    }
                    self.mesh_mark(id);
                }
                if !plain.is_empty() {
                    self.mesh_plain(id, &plain);
                }
                if progress.closed {
                    self.mesh_end(id, Failure::ConnectRefused);
                }
            }
        }
        if plain.capacity() <= PLAIN {
            self.meshes.plain = plain;
        }
    }

    fn mesh_plain(&mut self, id: MeshId, plain: &[u8]) {
        self.mesh_proved(id);
        let mut list = std::mem::take(&mut self.meshes.list);
        let started = self.meshes.started.unwrap_or(self.now);
        let elapsed = self.now.saturating_duration_since(started).as_millis();
        let now = u64::try_from(elapsed).unwrap_or(u64::MAX);
        let mut at = 0;
        while let Some(mesh) = self.meshes.table.get_mut(id) {
            match mesh
                .link
                .receive(now, &plain[at..], &mut list, &mut mesh.out)
            {
                Ok(received) => {
                    at += received.taken;
                    let Some(event) = received.event else { break };
                    let end = mesh.end();
                    self.mesh_event(id, end, event);
                }
                Err(error) => {
                    let peer = mesh.peer.as_deref().map(tracing::field::display);
                    maille_chassis::limited!(
                        warn,
                        error = &error as &dyn std::error::Error,
                        peer.id = peer,
                        "mesh connection ended: the peer broke the protocol"
                    );
                    self.mesh_end(id, Failure::UpstreamClosed);
                    break;
                }
            }
        }
        self.meshes.list = list;
        self.mesh_mark(id);
        self.mesh_maybe_over(id);
    }

    fn mesh_event(&mut self, id: MeshId, end: End, event: Event<'_>) {
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
            Event::Goaway { .. } => self.mesh_leave(id),
            Event::Settings | Event::Pong { .. } => {}
        }
    }

    /// The exchange that a stream belongs to now: one that went elsewhere has nothing to do with it any more.
    fn stream_owner(
        &self,
        mesh: MeshId,
        stream: u32,
        token: u64,
        end: End,
    ) -> Option<Id<Exchange>> {
        let id = Id::from_bits(token);
        let owner = self.exchanges.get(id)?;
        (owner.side(end) == Side::Stream { mesh, stream }).then_some(id)
    }

    /// The peer has spoken through the session: it has judged us as we have judged it.
    fn mesh_proved(&mut self, id: MeshId) {
        let Some(mesh) = self.meshes.get_mut(id) else {
            return;
        };
        if std::mem::replace(&mut mesh.proved, true) || mesh.dialled.is_none() {
            return;
        }
        self.recorder
            .handshake(Direction::Outbound, Handshake::Done);
        for exchange in self.mesh_exchanges(id) {
            let http = self
                .exchanges
                .get(exchange)
                .map(|exchange| exchange.carries)
                == Some(Carries::Http);
            if http {
                self.established(exchange);
            }
        }
    }

    /// Whether the peer of a stream has been proved.
    pub(super) fn mesh_is_proved(&self, id: MeshId) -> bool {
        self.meshes.get(id).is_some_and(|mesh| mesh.proved)
    }

    pub(super) fn mesh_exchanges(&self, id: MeshId) -> Vec<Id<Exchange>> {
        let on = |side: Side| matches!(side, Side::Stream { mesh, .. } if mesh == id);
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

// === impl Core: how they are written ===

impl Core {
    /// Has the connection sealed and written at the end of the turn.
    pub(super) fn mesh_mark(&mut self, id: MeshId) {
        if let Some(mesh) = self.meshes.table.get_mut(id)
            && !mesh.dirty
            && !mesh.out.is_empty()
        {
            mesh.dirty = true;
            self.meshes.dirty.push(id);
        }
    }

    /// Seals what the codecs have said, as far as the sockets keep up.
    pub fn seal(&mut self) {
        let mut sealing = std::mem::take(&mut self.meshes.sealing);
        std::mem::swap(&mut sealing, &mut self.meshes.dirty);
        for id in sealing.drain(..) {
            self.seal_one(id);
        }
        self.meshes.sealing = sealing;
    }

    fn seal_one(&mut self, id: MeshId) {
        let Some(mesh) = self.meshes.table.get_mut(id) else {
            return;
        };
        mesh.dirty = false;
        let full = self
            .conns
            .get(mesh.conn)
            .is_none_or(|conn| conn.unsent() > HIGH);
        if full || !mesh.tls.is_established() {
            // Comes again when the socket has drained, or with the end of the handshake.
            return;
        }
        let (tls, out) = (&mut mesh.tls, &mut mesh.out);
        let sealed = self
            .conns
            .put_with(mesh.conn, |sealed| tls.seal(out, sealed));
        if out.capacity() > super::conns::KEEP {
            *out = Vec::new();
        } else {
            out.clear();
        }
        let starved = std::mem::take(&mut mesh.starved);
        let end = mesh.end();
        if let Some(Err(error)) = sealed {
            return self.session_failed(id, &error);
        }
        for exchange in starved {
            self.stream_writable(exchange, end);
        }
    }

    /// The socket has room again.
    pub(super) fn mesh_drained(&mut self, id: MeshId) {
        self.mesh_mark(id);
    }
}
