// SPDX-License-Identifier: Apache-2.0
//! The forwarding core between clients and servers that say anything, in any order: nothing panics, what waits for a reader is bounded,
//! and once everybody has gone nothing is left.
#![no_main]

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use maille_engine::route::Direction;
use maille_engine::snapshot::{Known, Snapshot};
use maille_model::terms::{Retry, RetryOn};
use maille_model::{
    AddressOwner, ClusterRanges, Endpoint, Endpoints, Membership, Mesh, Own, Protocol, Service,
    ServiceId, ServicePort, Terms, Workload, WorkloadUid,
};
use maille_proxy::accept::{Accepted, Door};
use maille_proxy::failure::Failure;
use maille_proxy::forward::{ConnId, Core, Effect, Settings};

const PROTOCOLS: [Protocol; 6] = [
    Protocol::Undeclared,
    Protocol::Http1,
    Protocol::Http2,
    Protocol::Grpc,
    Protocol::Tls,
    Protocol::Tcp,
];
/// What the core may hold for one reader.
const MOST: usize = 4 << 20;

static START: LazyLock<(Instant, Arc<Snapshot>)> =
    LazyLock::new(|| (Instant::now(), Arc::new(snapshot())));

// A step: what happens, to whom, and how many of the bytes that follow are said.
fuzz_target!(|input: &[u8]| {
    let (now, snapshot) = &*START;
    let mut core = Core::new(Settings::default(), *now);
    core.learn(Arc::clone(snapshot));
    let mut world = World {
        core,
        now: *now,
        sockets: Vec::new(),
        patient: false,
    };
    let mut rest = input;
    while let [what, whom, length, more @ ..] = rest {
        rest = world.step(*what, usize::from(*whom), usize::from(*length), more);
        world.turn();
    }
    world.end();
});

struct World {
    core: Core,
    now: Instant,
    sockets: Vec<Socket>,
    /// Connects wait until somebody says how they went.
    patient: bool,
}

struct Socket {
    id: ConnId,
    connected: bool,
    /// Its peer sends no more.
    ended: bool,
    /// So many bytes of each turn are taken.
    room: usize,
}

impl World {
    fn step<'a>(&mut self, what: u8, whom: usize, length: usize, more: &'a [u8]) -> &'a [u8] {
        self.core.begin_turn(self.now);
        match what % 16 {
            0 | 1 => self.dial(whom),
            2 => self.patient = length % 2 == 0,
            3 => self.now += Duration::from_millis((length * length) as u64),
            what => {
                let count = self.sockets.len().max(1);
                let Some(socket) = self.sockets.get_mut(whom % count) else {
                    return more;
                };
                let id = socket.id;
                match what {
                    4 if !socket.connected => {
                        socket.connected = true;
                        self.core.connected(id);
                    }
                    5 if !socket.connected => self.core.connect_failed(id, Failure::ConnectRefused),
                    6 if socket.connected && !socket.ended => {
                        socket.ended = true;
                        self.core.eof(id);
                    }
                    7 if socket.connected => {
                        socket.ended = true;
                        self.core.reset(id);
                    }
                    8 => {
                        socket.room = length * 64;
                        self.core.mark_dirty(id);
                    }
                    9.. if socket.connected && !socket.ended && self.core.wants_read(id) => {
                        let (bytes, after) = more.split_at(length.min(more.len()));
                        self.core.input(id, &mut bytes.to_vec());
                        return after;
                    }
                    _ => {}
                }
            }
        }
        more
    }

    /// A client of a port by its protocol, from within or from without.
    fn dial(&mut self, whom: usize) {
        let n = whom % PROTOCOLS.len();
        let port = 80 + u16::try_from(n).expect("few ports");
        let (direction, to) = match whom & 0x40 {
            0 => (Direction::Outbound, [10, 96, 0, 1]),
            _ => (Direction::Inbound, [10, 244, 0, 1]),
        };
        let accepted = Accepted {
            door: Door::Plain(direction),
            client: SocketAddr::from(([10, 244, 0, 9], 40_000)),
            destination: SocketAddr::from((to, port)),
        };
        if let Some(id) = self.core.accept(accepted) {
            self.place(id, true);
        }
    }

    fn place(&mut self, id: ConnId, connected: bool) {
        self.sockets.push(Socket {
            id,
            connected,
            ended: false,
            room: usize::MAX,
        });
    }

    /// As `worker.rs` does it.
    fn turn(&mut self) {
        self.core.begin_turn(self.now);
        self.core.finish_turn();
        loop {
            while let Some(effect) = self.core.next_effect() {
                self.apply(effect);
            }
            let mut wrote = false;
            while let Some(id) = self.core.next_dirty_plain() {
                wrote |= self.write(id);
            }
            self.core.seal();
            while let Some(id) = self.core.next_dirty_link() {
                wrote |= self.write(id);
            }
            if !wrote && !self.core.has_effects() {
                self.core.end_turn(false);
                return;
            }
        }
    }

    fn write(&mut self, id: ConnId) -> bool {
        let Some(socket) = self.sockets.iter_mut().find(|socket| socket.id == id) else {
            return false;
        };
        let waiting = self.core.output(id).len();
        assert!(waiting <= MOST, "{waiting} bytes wait for one reader");
        let taken = waiting.min(socket.room);
        if !socket.connected || taken == 0 && waiting > 0 {
            return false;
        }
        socket.room = if socket.room == usize::MAX { socket.room } else { socket.room - taken };
        self.core.wrote(id, taken);
        true
    }

    fn apply(&mut self, effect: Effect) {
        match effect {
            Effect::Connect { conn, .. } => {
                self.place(conn, !self.patient);
                if !self.patient {
                    self.core.connected(conn);
                }
            }
            Effect::Resume(_) | Effect::Shutdown(_) => {}
            Effect::Close(id) | Effect::Reset(id) => {
                self.sockets.retain(|socket| socket.id != id);
                self.core.closed(id);
            }
        }
    }

    /// Everybody goes.
    fn end(&mut self) {
        self.patient = false;
        for _ in 0..8 {
            for id in self.sockets.iter().map(|socket| socket.id).collect::<Vec<_>>() {
                self.core.begin_turn(self.now);
                self.core.reset(id);
                self.turn();
            }
            self.now += Duration::from_secs(60);
            self.turn();
        }
        assert!(self.core.is_quiet(), "{:?}", self.core);
    }
}

fn snapshot() -> Snapshot {
    let mut snapshot = Snapshot::new();
    snapshot.set_mesh(Mesh {
        trust_domain: "cluster.local".parse().expect("a trust domain"),
        trust_anchors: Vec::new(),
        cluster_ranges: ClusterRanges(vec!["10.0.0.0/8".parse().expect("a range")]),
    });
    let ports = || (80..).zip(PROTOCOLS);
    snapshot.set_own(Own {
        workload: pod(1, Membership::Meshed),
        ports: ports().collect(),
        leaving: false,
    });
    let id: ServiceId = "shop/web".parse().expect("a service");
    let address = [10, 96, 0, 1].into();
    let owner = AddressOwner::Service(id.clone());
    snapshot.set_address(address, Known::Present(owner));
    let on = RetryOn {
        server_error: true,
        reset: true,
        ..RetryOn::default()
    };
    let retry = Retry {
        on,
        limit: Retry::MOST,
        ..Retry::DEFAULT
    };
    let service = Service {
        id: id.clone(),
        addresses: vec![address],
        ports: ports()
            .map(|(port, protocol)| ServicePort {
                port,
                name: String::new(),
                protocol,
            })
            .collect(),
        terms: Terms {
            request_timeout: Some(Duration::from_secs(20)),
            response_timeout: Some(Duration::from_secs(5)),
            retry,
            ..Terms::default()
        },
    };
    snapshot.set_service(id.clone(), Known::Present(service));
    let endpoints = (2..5).map(|n| Endpoint {
        workload: pod(n, Membership::Unmeshed),
        ready: true,
        targets: ports().map(|(port, _)| (port, port)).collect(),
    });
    snapshot.set_endpoints(id, Known::Present(Endpoints(endpoints.collect())));
    snapshot
}

fn pod(n: u8, membership: Membership) -> Workload {
    Workload {
        uid: WorkloadUid::new(&format!("uid-{n}")).expect("a uid"),
        namespace: "shop".parse().expect("a name"),
        name: format!("pod-{n}").parse().expect("a name"),
        service_account: "web".parse().expect("a name"),
        addresses: vec![[10, 244, 0, n].into()],
        owner: None,
        membership,
        zone: None,
    }
}
