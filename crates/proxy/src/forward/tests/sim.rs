// SPDX-License-Identifier: Apache-2.0
//! Two cores and a network in memory. Sockets hold little, take part of a write, and deliver when the dice say so.

mod app;
mod turns;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use maille_chassis::clock::Clock;
use maille_engine::route::Direction;
use maille_engine::snapshot::{Known, Snapshot};
use maille_identity::{Authority, Credentials, PrivateKey};
use maille_model::{
    AddressOwner, ClusterRanges, Endpoint, Endpoints, Membership, Mesh, Own, Protocol, Service,
    ServiceId, ServicePort, Terms, TrustDomain, Workload, WorkloadUid,
};

pub(super) use app::{App, answer, patterned, post};

use crate::accept::{Accepted, Door};
use crate::forward::{ConnId, Core, Effect, Settings};
use crate::telemetry::{EdgeKey, Increment};

const SERVICE: &str = "10.96.0.1:80";
const ORIGIN: &str = "10.244.0.2:8080";
/// What a socket holds in each direction.
const SOCKET: usize = 40_000;

/// One direction of a connection.
#[derive(Default)]
struct Pipe {
    bytes: VecDeque<u8>,
    fin: bool,
    fin_taken: bool,
    reset: bool,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Place {
    Core(usize, ConnId),
    App(usize),
    Gone,
}

struct Link {
    ends: [Place; 2],
    /// `pipes[n]` goes away from `ends[n]`.
    pipes: [Pipe; 2],
}

pub(super) struct Sim {
    pub(super) random: fastrand::Rng,
    cores: [Core; 2],
    links: Vec<Link>,
    by_conn: BTreeMap<(usize, ConnId), usize>,
    apps: Vec<App>,
    /// Scripts of servers that nobody has reached yet.
    servers: VecDeque<usize>,
    pairs: Vec<(usize, usize)>,
    pub(super) http: bool,
    now: Instant,
    pub(super) clients_read: bool,
}

impl Sim {
    pub(super) fn tcp(seed: u64) -> Self {
        Self::new(seed, Protocol::Tcp, false)
    }

    pub(super) fn http(seed: u64) -> Self {
        Self::new(seed, Protocol::Http1, true)
    }

    /// Nobody has declared anything. `http`: what the servers speak.
    pub(super) fn undeclared(seed: u64, http: bool) -> Self {
        Self::new(seed, Protocol::Undeclared, http)
    }

    fn new(seed: u64, protocol: Protocol, http: bool) -> Self {
        let domain: TrustDomain = "cluster.local".parse().unwrap();
        let authority = Authority::create(&domain, SystemTime::now()).unwrap();
        let link = Mesh {
            trust_domain: domain.clone(),
            trust_anchors: authority.trust_anchors(),
            cluster_ranges: ClusterRanges(vec!["10.0.0.0/8".parse().unwrap()]),
        };
        let now = Clock::start().now().into_std();
        let settings = Settings {
            seed,
            ..Settings::default()
        };
        let cores = [1, 2].map(|n| {
            let pod = pod(n);
            let mut snapshot = Snapshot::new();
            snapshot.set_mesh(link.clone());
            snapshot.set_own(Own {
                workload: pod.clone(),
                ports: vec![(8080, protocol)],
                leaving: false,
            });
            service(&mut snapshot, protocol);
            let key = PrivateKey::generate().unwrap();
            let (identity, hour) = (pod.identity(&domain), Duration::from_secs(3600));
            let signed = authority
                .sign(&key.csr(), &identity, hour, SystemTime::now())
                .unwrap();
            let mut core = Core::new(settings, now);
            core.renew(Credentials::new(key, signed.chain, &authority.trust_anchors()).unwrap());
            core.learn(Arc::new(snapshot));
            core
        });
        Self {
            random: fastrand::Rng::with_seed(seed),
            cores,
            links: Vec::new(),
            by_conn: BTreeMap::new(),
            apps: Vec::new(),
            servers: VecDeque::new(),
            pairs: Vec::new(),
            http,
            now,
            clients_read: true,
        }
    }

    /// Mostly little, now and then more than two windows.
    pub(super) fn length(&mut self) -> usize {
        match self.random.u8(0..10) {
            0 => 0,
            1..6 => self.random.usize(1..2_000),
            6..9 => self.random.usize(1..100_000),
            _ => self.random.usize(500_000..700_000),
        }
    }

    /// A client connects; `server` will take its connection.
    pub(super) fn dial(&mut self, client: App, server: App) {
        self.apps.push(server);
        self.servers.push_back(self.apps.len() - 1);
        self.pairs.push((self.apps.len(), self.apps.len() - 1));
        self.connect(client);
    }

    /// A client that wants these answers.
    pub(super) fn request(&mut self, mut client: App, wanted: Vec<u8>) {
        client.wanted = wanted;
        self.pairs.push((self.apps.len(), self.apps.len()));
        self.connect(client);
    }

    fn connect(&mut self, client: App) {
        self.apps.push(client);
        let place = Place::App(self.apps.len() - 1);
        self.accept(0, Door::Plain(Direction::Outbound), SERVICE, place);
    }

    fn accept(&mut self, core: usize, door: Door, destination: &str, from: Place) -> bool {
        self.cores[core].begin_turn(self.now);
        let accepted = Accepted {
            door,
            client: "10.244.0.1:40000".parse().unwrap(),
            destination: destination.parse().unwrap(),
        };
        let Some(conn) = self.cores[core].accept(accepted) else {
            return false;
        };
        self.link([from, Place::Core(core, conn)]);
        true
    }

    fn link(&mut self, ends: [Place; 2]) {
        for end in ends {
            if let Place::Core(core, conn) = end {
                self.by_conn.insert((core, conn), self.links.len());
            }
        }
        self.links.push(Link {
            ends,
            pipes: Default::default(),
        });
    }

    /// One thing that may happen happens.
    pub(super) fn step(&mut self) {
        match self.random.u8(0..8) {
            0 | 1 => {
                let core = self.random.usize(0..2);
                self.turn(core);
            }
            2 if !self.apps.is_empty() => {
                let link = self.random.usize(0..self.links.len());
                self.speak(link);
            }
            _ if !self.links.is_empty() => {
                let (link, way) = (
                    self.random.usize(0..self.links.len()),
                    self.random.usize(0..2),
                );
                self.deliver(link, way);
            }
            _ => {}
        }
    }

    /// An application sends some of its script, or its FIN.
    fn speak(&mut self, link: usize) {
        for way in 0..2 {
            let Place::App(app) = self.links[link].ends[way] else {
                continue;
            };
            let app = &mut self.apps[app];
            let early = app.starts.is_some_and(|starts| self.now < starts);
            if early || app.received.len() < app.after {
                continue;
            }
            let pipe = &mut self.links[link].pipes[way];
            let room = SOCKET - pipe.bytes.len().min(SOCKET);
            let left = app.script.len() - app.at;
            let n = self.random.usize(0..=left.min(room));
            pipe.bytes.extend(&app.script[app.at..app.at + n]);
            app.at += n;
            if app.at == app.script.len() && app.fin {
                pipe.fin = true;
                app.fin_sent = true;
            }
        }
    }

    /// Some bytes arrive, or a FIN, or a reset.
    fn deliver(&mut self, link: usize, way: usize) {
        let to = self.links[link].ends[1 - way];
        let pipe = &mut self.links[link].pipes[way];
        if pipe.reset && !pipe.fin_taken {
            pipe.fin_taken = true;
            if let Place::Core(core, conn) = to {
                self.cores[core].begin_turn(self.now);
                self.cores[core].reset(conn);
            }
            return;
        }
        let n = self.random.usize(0..=pipe.bytes.len());
        let fin = pipe.bytes.is_empty() && pipe.fin && !pipe.fin_taken;
        match to {
            Place::Core(core, conn) if self.cores[core].wants_read(conn) => {
                self.cores[core].begin_turn(self.now);
                if fin {
                    pipe.fin_taken = true;
                    self.cores[core].eof(conn);
                } else if n > 0 {
                    let mut bytes: Vec<u8> = pipe.bytes.drain(..n).collect();
                    self.cores[core].input(conn, &mut bytes);
                    self.unblock(link, way);
                }
            }
            Place::App(app)
                if self.clients_read || !self.pairs.iter().any(|pair| pair.0 == app) =>
            {
                let app = &mut self.apps[app];
                app.received.extend(pipe.bytes.drain(..n));
                app.got_fin |= fin;
                pipe.fin_taken |= fin;
                if app.answers {
                    app.answer();
                    app.fin |= fin;
                }
                self.unblock(link, way);
            }
            Place::Core(..) | Place::App(_) => {}
            Place::Gone => pipe.bytes.clear(),
        }
    }

    /// The socket that fills the pipe has room again.
    fn unblock(&mut self, link: usize, way: usize) {
        if let Place::Core(core, conn) = self.links[link].ends[way] {
            self.cores[core].begin_turn(self.now);
            self.cores[core].mark_dirty(conn);
        }
    }

    /// The end of a turn, as the driver does it.
    fn turn(&mut self, core: usize) {
        self.cores[core].begin_turn(self.now);
        self.cores[core].finish_turn();
        loop {
            while let Some(effect) = self.cores[core].next_effect() {
                self.apply(core, effect);
            }
            let mut wrote = false;
            while let Some(conn) = self.cores[core].next_dirty_plain() {
                self.write(core, conn);
                wrote = true;
            }
            self.cores[core].seal();
            while let Some(conn) = self.cores[core].next_dirty_link() {
                self.write(core, conn);
                wrote = true;
            }
            if !wrote && !self.cores[core].has_effects() {
                self.cores[core].end_turn(false);
                return;
            }
        }
    }

    fn write(&mut self, core: usize, conn: ConnId) {
        let Some((link, way)) = self.place(core, conn) else {
            return;
        };
        let out = self.cores[core].output(conn);
        let pipe = &mut self.links[link].pipes[way];
        if pipe.reset || self.links[link].ends[1 - way] == Place::Gone && !out.is_empty() {
            return self.cores[core].reset(conn);
        }
        let pipe = &mut self.links[link].pipes[way];
        let n = out.len().min(SOCKET - pipe.bytes.len().min(SOCKET));
        pipe.bytes.extend(&out[..n]);
        if n > 0 || out.is_empty() {
            self.cores[core].wrote(conn, n);
        }
    }

    fn place(&self, core: usize, conn: ConnId) -> Option<(usize, usize)> {
        let link = *self.by_conn.get(&(core, conn))?;
        let way = usize::from(self.links[link].ends[1] == Place::Core(core, conn));
        Some((link, way))
    }

    fn apply(&mut self, core: usize, effect: Effect) {
        match effect {
            Effect::Connect { conn, spec } => self.connected(core, conn, spec.to),
            Effect::Resume(_) => {}
            Effect::Shutdown(conn) => {
                if let Some((link, way)) = self.place(core, conn) {
                    self.links[link].pipes[way].fin = true;
                }
            }
            Effect::Close(conn) => self.gone(core, conn, false),
            Effect::Reset(conn) => self.gone(core, conn, true),
        }
    }

    fn gone(&mut self, core: usize, conn: ConnId, reset: bool) {
        if let Some((link, way)) = self.place(core, conn) {
            self.links[link].ends[way] = Place::Gone;
            let pipe = &mut self.links[link].pipes[way];
            pipe.fin = true;
            pipe.reset |= reset;
            self.by_conn.remove(&(core, conn));
        }
        self.cores[core].closed(conn);
    }

    fn connected(&mut self, core: usize, conn: ConnId, to: SocketAddr) {
        let own = Place::Core(core, conn);
        if to.port() == maille_model::MESH_PORT {
            assert!(self.accept(1, Door::Mesh, "10.244.0.2:15008", own));
            self.by_conn.insert((core, conn), self.links.len() - 1);
        } else {
            assert_eq!(to, ORIGIN.parse().unwrap());
            let app = if self.http {
                let mut app = App::new(Vec::new(), false);
                app.answers = true;
                self.apps.push(app);
                self.apps.len() - 1
            } else {
                self.servers.pop_front().unwrap()
            };
            self.link([own, Place::App(app)]);
        }
        self.cores[core].connected(conn);
    }

    /// Goes on until everybody has what is coming.
    pub(super) fn run(&mut self, seed: u64) {
        for _ in 0..400 {
            for _ in 0..500 {
                self.step();
            }
            if self.done() {
                self.quiet(Duration::ZERO);
                return;
            }
        }
        panic!("seed {seed}: it stands still: {:?}", self.left());
    }

    fn done(&self) -> bool {
        self.pairs.iter().all(|(client, server)| {
            let (client, server) = (&self.apps[*client], &self.apps[*server]);
            if self.http {
                client.received.len() >= client.wanted.len()
            } else {
                client.got_fin && server.got_fin
            }
        })
    }

    /// Lets `time` pass, and everything that is under way arrive.
    pub(super) fn quiet(&mut self, time: Duration) {
        self.now += time;
        for _ in 0..200 {
            for core in 0..2 {
                self.turn(core);
            }
            for link in 0..self.links.len() {
                for way in 0..2 {
                    self.deliver(link, way);
                    self.deliver(link, way);
                }
            }
        }
    }

    /// A little of everything, over so much time.
    pub(super) fn pass(&mut self, time: Duration) {
        self.pass_until(self.now + time);
    }

    pub(super) fn pass_until(&mut self, until: Instant) {
        while self.now < until {
            self.now += Duration::from_micros(self.random.u64(0..2_000));
            for _ in 0..100 {
                self.step();
            }
        }
    }

    /// A moment that has not come yet.
    pub(super) fn soon(&mut self, within: Duration) -> Instant {
        let micros = u64::try_from(within.as_micros()).unwrap();
        self.now + Duration::from_micros(self.random.u64(0..micros))
    }

    /// What was counted, on both sides.
    pub(super) fn counted(&mut self) -> Vec<(Arc<EdgeKey>, Increment)> {
        let batches = self.cores.iter_mut().map(|core| {
            core.end_turn(true);
            core.recorder.take()
        });
        batches.flat_map(|batch| batch.edges).collect()
    }

    /// Every client and server resets its connections.
    pub(super) fn break_everything(&mut self) {
        for link in &mut self.links {
            for way in 0..2 {
                if let Place::App(_) = link.ends[way] {
                    link.pipes[way].reset = true;
                    link.pipes[1 - way].bytes.clear();
                    link.ends[way] = Place::Gone;
                }
            }
        }
    }

    pub(super) fn close_clients(&mut self) {
        for (client, _) in &self.pairs {
            self.apps[*client].fin = true;
        }
    }

    /// Only mesh connections, without streams, are left.
    pub(super) fn settled(&self) -> bool {
        self.cores
            .iter()
            .all(|core| core.exchanges.len() == 0 && core.conns.len() == core.links.table.len())
            && self.streams() == 0
    }

    fn streams(&self) -> usize {
        let of = |core: &Core| -> usize {
            let links = core.links.table.ids();
            links
                .filter_map(|id| core.links.get(id))
                .map(|link| link.codec.streams_open())
                .sum()
        };
        self.cores.iter().map(of).sum()
    }

    /// What is left, for a failure's message.
    pub(super) fn left(&self) -> Vec<String> {
        let of = |core: &Core| -> Vec<String> {
            let exchanges = core.exchanges.ids().filter_map(|id| core.exchanges.get(id));
            let conns = core
                .conns
                .ids()
                .into_iter()
                .filter_map(|id| core.conns.get(id));
            exchanges
                .map(|one| format!("{one:?}"))
                .chain(conns.map(|one| format!("{one:?}")))
                .collect()
        };
        self.cores.iter().flat_map(of).collect()
    }

    /// Bytes in the cores, sockets not counted.
    pub(super) fn held(&self) -> usize {
        let of = |core: &Core| -> usize {
            let conns = core
                .conns
                .ids()
                .into_iter()
                .filter_map(|id| core.conns.get(id));
            let out: usize = conns.map(|conn| conn.unsent() + conn.inbuf.len()).sum();
            let links = core.links.table.ids().filter_map(|id| core.links.get(id));
            let sealing: usize = links.map(|link| link.out.len()).sum();
            let exchanges = core.exchanges.ids().filter_map(|id| core.exchanges.get(id));
            let kept: usize = exchanges
                .map(|one| {
                    one.replay.len() + one.request.pending.len() + one.response.pending.len()
                })
                .sum();
            out + sealing + kept
        };
        self.cores.iter().map(of).sum()
    }

    pub(super) fn pairs(&self) -> impl Iterator<Item = (&App, &App)> {
        self.pairs
            .iter()
            .map(|(client, server)| (&self.apps[*client], &self.apps[*server]))
    }

    /// One of the two cores.
    pub(super) fn core(&mut self, which: usize) -> &mut Core {
        &mut self.cores[which]
    }

    /// Which clients' connections are no longer held by a core.
    pub(super) fn ended(&self) -> impl Iterator<Item = bool> {
        self.pairs().map(|(client, _)| {
            let of = |link: &&Link| {
                link.ends.iter().any(
                    |end| matches!(end, Place::App(app) if std::ptr::eq(&self.apps[*app], client)),
                )
            };
            let link = self.links.iter().find(of);
            link.is_none_or(|link| link.ends.contains(&Place::Gone))
        })
    }

    pub(super) fn clients(&self) -> impl Iterator<Item = &App> {
        self.pairs().map(|(client, _)| client)
    }
}

fn pod(n: u8) -> Workload {
    Workload {
        uid: WorkloadUid::new(&format!("uid-{n}")).unwrap(),
        namespace: "shop".parse().unwrap(),
        name: format!("pod-{n}").parse().unwrap(),
        service_account: format!("sa-{n}").parse().unwrap(),
        addresses: vec![[10, 244, 0, n].into()],
        owner: None,
        membership: Membership::Meshed,
        zone: None,
    }
}

fn service(snapshot: &mut Snapshot, protocol: Protocol) {
    let id: ServiceId = "shop/web".parse().unwrap();
    let at: SocketAddr = SERVICE.parse().unwrap();
    snapshot.set_address(at.ip(), Known::Present(AddressOwner::Service(id.clone())));
    let port = ServicePort {
        port: 80,
        name: String::new(),
        protocol,
    };
    let facts = Service {
        id: id.clone(),
        addresses: vec![at.ip()],
        ports: vec![port],
        terms: Terms::default(),
    };
    snapshot.set_service(id.clone(), Known::Present(facts));
    let endpoint = Endpoint {
        workload: pod(2),
        ready: true,
        targets: vec![(80, 8080)],
    };
    snapshot.set_endpoints(id, Known::Present(Endpoints(vec![endpoint])));
}
