// SPDX-License-Identifier: Apache-2.0
//! Links: connections that carry many streams. A mesh connection is one through a TLS session; so is, in plain, the HTTP/2 connection of an
//! application that calls or is called.
//!
//! A link takes streams before it is connected: what they say waits. It counts as proved only when the peer's first byte was
//! understood: before that the peer has judged nobody, and every stream may go elsewhere. Must never let a stream onto a link that
//! was made for somebody else. Next: `hear.rs`, `speak.rs`, `seal.rs`, `leave.rs`.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use maille_engine::hpack::List;
use maille_engine::http2::{Code, Connection, Settings};
use maille_engine::route::Hop;
use maille_identity::{Anchors, Credentials, Session};
use maille_model::Identity;

use super::Core;
use super::conns::{Conn, Effect, Role};
use super::exchange::{End, Exchange};
use super::pace::Pace;
use super::texts::Texts;
use super::timers::Timer;
use crate::accept::Accepted;
use crate::connect::mesh::{MeshKey, MeshPool};
use crate::connect::pool::PoolKey;
use crate::connect::tcp::ConnectSpec;
use crate::failure::Failure;
use crate::inside::Passed;
use crate::table::{ConnId, Id, LinkId, Multiplexed, Table};

/// `docs/wire.md`, limits and windows; of an application's first SETTINGS as well.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// One link.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) conn: ConnId,
    pub(super) with: With,
    pub(super) codec: Connection,
    /// What the codec said and was not written (or sealed) yet.
    pub(super) out: Vec<u8>,
    pub(super) remote: SocketAddr,
    /// A byte of the peer came through.
    pub(super) proved: bool,
    /// Takes no new streams; ends with its last one.
    pub(super) leaving: bool,
    /// A client was told to leave at this time, and may not have heard it.
    pub(super) warned: Option<Instant>,
    pub(super) dirty: bool,
    /// Its codec is at work: what a panic leaves of that is not to be read by a peer.
    pub(super) speaking: bool,
    /// Exchanges that wait until the unwritten bytes are fewer.
    pub(super) starved: Vec<Id<Exchange>>,
    /// Resets since the last sweep, and those that wait for the next: another proxy bears only so many.
    pub(super) resets: usize,
    pub(super) resets_later: VecDeque<(u32, Code)>,
    pub(super) pace: Pace,
    pub(super) heard: Instant,
    /// What the peer has begun to say and not ended, and since when ([`Connection::unfinished`]).
    pub(super) unfinished: Option<(u64, Instant)>,
    pub(super) used: Instant,
    pub(super) pinged: bool,
    pub(super) passed: Passed,
}

/// Who is at the other end.
#[derive(Debug)]
pub(super) enum With {
    /// Another proxy.
    Proxy(Box<Proxy>),
    /// An application that calls.
    Client(Accepted),
    /// An application that is called.
    Server(PoolKey),
}

/// The session with another proxy.
#[derive(Debug)]
pub(super) struct Proxy {
    pub(super) tls: Session,
    /// Whom it was made to; `None` for a connection that the other side made.
    pub(super) dialled: Option<MeshKey>,
    pub(super) peer: Option<Arc<Identity>>,
    pub(super) generation: u64,
}

/// All links of a worker.
#[derive(Debug, Default)]
pub(super) struct Links {
    pub(super) table: Table<Link, Multiplexed>,
    pub(super) pool: MeshPool<LinkId>,
    /// Links to applications, by what makes two connections the same.
    pub(super) servers: HashMap<PoolKey, Vec<LinkId>>,
    pub(super) credentials: Option<Credentials>,
    /// Whom we believe since an anchor was retired: credentials may be older than that, and believe more.
    pub(super) anchors: Option<Anchors>,
    pub(super) dirty: Vec<LinkId>,
    /// Requests that were begun by all but crowds ([`Pace`]).
    pub(super) modest: u64,
    pub(super) sealing: Vec<LinkId>,
    pub(super) plain: Vec<u8>,
    pub(super) list: List,
    pub(super) texts: Texts,
    pub(super) started: Option<Instant>,
}

// === impl Links ===

impl Links {
    pub(super) fn is_empty(&self) -> bool {
        self.table.len() == 0
    }

    pub(super) fn get(&self, id: LinkId) -> Option<&Link> {
        self.table.get(id)
    }

    pub(super) fn get_mut(&mut self, id: LinkId) -> Option<&mut Link> {
        self.table.get_mut(id)
    }

    /// How many go to or come from other proxies.
    pub(super) fn meshed(&self) -> usize {
        let links = self.table.ids().filter_map(|id| self.get(id));
        links.filter(|link| link.proxy().is_some()).count()
    }

    fn takes(&self, id: LinkId) -> bool {
        self.get(id)
            .is_some_and(|link| !link.leaving && link.codec.can_open())
    }
}

// === impl Proxy ===

impl Proxy {
    /// Whether its peer rests on nobody in `anchors`, where they are known better than by the credentials that it was made with.
    /// A session that is not established yet is judged when it is.
    pub(super) fn is_disbelieved(&self, anchors: Option<&Anchors>) -> bool {
        self.tls.is_established() && anchors.is_some_and(|anchors| !self.tls.rests_on(anchors))
    }
}

// === impl Link ===

impl Link {
    /// At which end of an exchange its streams are.
    pub(super) fn end(&self) -> End {
        match &self.with {
            With::Proxy(proxy) if proxy.dialled.is_none() => End::Down,
            With::Client(_) => End::Down,
            With::Proxy(_) | With::Server(_) => End::Up,
        }
    }

    /// Whether it says what many clients or servers have to say, who are not to wait for one of them.
    pub(super) fn is_of_many(&self) -> bool {
        !matches!(self.with, With::Client(_))
    }

    /// Whether this side made it.
    pub(super) fn dialled(&self) -> bool {
        self.end() == End::Up
    }

    /// The session, where the other end is a proxy.
    pub(super) fn proxy(&self) -> Option<&Proxy> {
        match &self.with {
            With::Proxy(proxy) => Some(proxy),
            With::Client(_) | With::Server(_) => None,
        }
    }
}

// === impl Core: how they begin ===

impl Core {
    /// Another proxy connected.
    pub(super) fn mesh_accepted(&mut self, conn: ConnId, client: SocketAddr) {
        let Some(credentials) = &self.links.credentials else {
            maille_chassis::limited!(warn, "a peer was refused: there is no certificate yet");
            return self.conns.abort(conn);
        };
        match Session::server(credentials) {
            Ok(tls) => {
                let proxy = Proxy {
                    tls,
                    dialled: None,
                    peer: None,
                    generation: credentials.generation(),
                };
                let mut out = Vec::new();
                let codec = Connection::server(Settings::mesh(), &mut out);
                let with = With::Proxy(Box::new(proxy));
                self.link_insert(conn, with, (codec, out), client);
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

    /// An application has begun to speak HTTP/2; what it said so far is heard.
    pub(super) fn http2_accepted(&mut self, conn: ConnId) {
        let Some(client) = self.conns.get_mut(conn) else {
            return;
        };
        let Some(accepted) = client.accepted else {
            return;
        };
        let mut first = std::mem::take(&mut client.inbuf);
        let mut out = Vec::new();
        let codec = Connection::server(Settings::rfc9113(), &mut out);
        let with = With::Client(accepted);
        let link = self.link_insert(conn, with, (codec, out), accepted.client);
        self.link_mark(link);
        if !first.is_empty() {
            self.link_input(link, &mut first);
        }
        self.conns.store(first);
    }

    /// The link that takes a stream for `hop`, or a new one. `plain` is how the socket of a plain hop is made.
    pub(super) fn link_for(
        &mut self,
        hop: &Hop,
        plain: Option<ConnectSpec>,
    ) -> Result<LinkId, Failure> {
        match plain {
            Some(spec) => self.server_for(spec),
            None => self.mesh_for(hop),
        }
    }

    fn mesh_for(&mut self, hop: &Hop) -> Result<LinkId, Failure> {
        let Hop::Mesh {
            to, identity, uid, ..
        } = hop
        else {
            return Err(Failure::ConnectUnreachable);
        };
        let Some(credentials) = &self.links.credentials else {
            return Err(Failure::Overloaded);
        };
        let generation = credentials.generation();
        let links = &self.links;
        let wanted = (*to, identity, uid, generation);
        if let Some(link) = links.pool.find(wanted, |id| links.takes(id)) {
            return Ok(link);
        }
        let tls = Session::client(credentials, identity).map_err(|_| Failure::Overloaded)?;
        let key = MeshKey {
            to: *to,
            identity: identity.clone(),
            uid: uid.clone(),
            generation,
        };
        let proxy = Proxy {
            tls,
            dialled: Some(key.clone()),
            peer: None,
            generation,
        };
        let spec = ConnectSpec::far(*to);
        let with = With::Proxy(Box::new(proxy));
        let link = self.link_dial(spec, with, Settings::mesh())?;
        self.links.pool.put(key, link);
        // The first message of the handshake waits for the connection.
        self.link_input(link, &mut []);
        Ok(link)
    }

    fn server_for(&mut self, spec: ConnectSpec) -> Result<LinkId, Failure> {
        let key = PoolKey {
            to: spec.to,
            source: spec.source,
        };
        let known = self.links.servers.get(&key).map_or(&[][..], Vec::as_slice);
        if let Some(link) = known.iter().copied().find(|id| self.links.takes(*id)) {
            return Ok(link);
        }
        let settled = known.iter().filter_map(|id| self.links.get(*id));
        let settled = settled.filter(|link| link.codec.is_settled());
        let most = settled.map(|link| link.codec.most_streams()).min();
        let link = self.link_dial(spec, With::Server(key), Settings::rfc9113())?;
        // A server takes on each of its connections as much as on the others.
        if let (Some(most), Some(link)) = (most, self.links.get_mut(link)) {
            link.codec.assume_streams(most.max(1));
        }
        self.links.servers.entry(key).or_default().push(link);
        self.link_mark(link);
        Ok(link)
    }

    fn link_dial(
        &mut self,
        spec: ConnectSpec,
        with: With,
        settings: Settings,
    ) -> Result<LinkId, Failure> {
        if self.conns.len() >= self.settings.max_connections {
            return Err(Failure::Overloaded);
        }
        let mut out = Vec::new();
        let codec = Connection::client(settings, &mut out);
        let mut fresh = Conn::new(Role::Gone);
        fresh.connecting = true;
        let conn = self.conns.insert(fresh);
        let to = spec.to;
        let link = self.link_insert(conn, with, (codec, out), to);
        self.conns.effect(Effect::Connect { conn, spec });
        self.timers.set(
            self.now + self.settings.connect_timeout,
            Timer::Connect(conn),
        );
        Ok(link)
    }

    fn link_insert(
        &mut self,
        conn: ConnId,
        with: With,
        (codec, out): (Connection, Vec<u8>),
        remote: SocketAddr,
    ) -> LinkId {
        let link = self.links.table.insert(Link {
            conn,
            with,
            codec,
            out,
            remote,
            proved: false,
            leaving: false,
            warned: None,
            dirty: false,
            starved: Vec::new(),
            resets: 0,
            resets_later: VecDeque::new(),
            pace: Pace::default(),
            heard: self.now,
            unfinished: None,
            used: self.now,
            pinged: false,
            passed: Passed::default(),
            speaking: false,
        });
        if let Some(conn) = self.conns.get_mut(conn) {
            conn.role = Role::Link(link);
        }
        self.links.started.get_or_insert(self.now);
        self.timers
            .set(self.now + HANDSHAKE, Timer::Handshake(link));
        self.sweep_later();
        link
    }

    /// A link takes no more streams.
    pub(super) fn link_forget(&mut self, id: LinkId) {
        let Some(link) = self.links.table.get(id) else {
            return;
        };
        match &link.with {
            With::Proxy(proxy) => {
                if let Some(key) = &proxy.dialled {
                    self.links.pool.forget(key.to, id);
                }
            }
            With::Server(key) => {
                if let Some(known) = self.links.servers.get_mut(key) {
                    known.retain(|other| *other != id);
                    if known.is_empty() {
                        self.links.servers.remove(key);
                    }
                }
            }
            With::Client(_) => {}
        }
    }
}
