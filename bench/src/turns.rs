// SPDX-License-Identifier: Apache-2.0
//! Two forwarding cores with the network between them in memory, and so many requests in each turn: the same work in every run, for counting
//! instructions and allocations without any noise of a scheduler. What it counts is everything that a request costs but for system calls:
//! parsing, deciding, counting, framing, sealing and opening.
//!
//! Must never allocate once it runs: what is counted is the cores' own. Read `counts.rs` for who counts.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail, ensure};
use maille_chassis::clock::Clock;
use maille_engine::route::Direction;
use maille_engine::snapshot::{Known, Snapshot};
use maille_identity::{Authority, Credentials, PrivateKey};
use maille_model::{
    AddressOwner, ClusterRanges, Endpoint, Endpoints, MESH_PORT, Membership, Mesh, Own, Protocol,
    Service, ServiceId, ServicePort, Terms, TrustDomain, Workload, WorkloadUid,
};
use maille_proxy::accept::{Accepted, Door};
use maille_proxy::forward::{ConnId, Core, Effect, Settings};
use maille_proxy::outcome::Access;

use crate::load::Heads;

/// Clients, each with one request a turn.
pub(crate) const CLIENTS: usize = 64;
/// How much later the next turn is.
const TURN: Duration = Duration::from_micros(500);
/// Turns until everybody has its answer, at most: connects, handshakes and questions among them.
const MOST_TURNS: usize = 200;
const SERVICE: &str = "10.96.0.1:80";
const CLIENT_SIDE: usize = 0;
const SERVER_SIDE: usize = 1;

/// Who is at the other end of a core's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Core(usize, ConnId),
    Client(usize),
    Application,
    Gone,
}

/// A core's connection, and what is on its way to it.
#[derive(Debug)]
struct Wire {
    conn: ConnId,
    other: Place,
    bytes: Vec<u8>,
}

/// The pair, its clients and its application.
#[derive(Debug)]
struct World {
    cores: [Core; 2],
    wires: [Vec<Wire>; 2],
    clients: Vec<(ConnId, usize)>,
    clock: Clock,
    passed: Duration,
    answer: Vec<u8>,
    requests: u32,
    heads: Heads,
}

/// Lets [`CLIENTS`] requests of the shape `heads` through the pair, `rounds` times. With an access log where `logged`, which is how a regression is planted.
pub(crate) fn run(rounds: u32, heads: Heads, logged: bool) -> anyhow::Result<()> {
    let mut world = World::new(heads, logged)?;
    for _ in 0..CLIENTS {
        world.connect()?;
    }
    for _ in 0..rounds {
        world.round()?;
    }
    Ok(())
}

// === impl World ===

impl World {
    fn new(heads: Heads, logged: bool) -> anyhow::Result<Self> {
        let clock = Clock::start();
        let domain: TrustDomain = "cluster.local".parse()?;
        let authority = Authority::create(&domain, SystemTime::now())?;
        let core = |n: u8| core(n, &authority, &domain, clock, logged);
        let body = "x".repeat(1024);
        Ok(Self {
            cores: [core(1)?, core(2)?],
            wires: [Vec::new(), Vec::new()],
            clients: Vec::new(),
            clock,
            passed: Duration::ZERO,
            answer: format!(
                "HTTP/1.1 200 OK\r\nServer: bench\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )
            .into_bytes(),
            requests: 0,
            heads,
        })
    }

    fn begin(&mut self, core: usize) {
        let now = self.clock.now().into_std();
        // Counted from the start, so that a run is the same however long it takes.
        let now = now - self.clock.elapsed() + self.passed;
        self.cores[core].begin_turn(now);
    }

    fn connect(&mut self) -> anyhow::Result<()> {
        let client = self.clients.len();
        let door = Door::Plain(Direction::Outbound);
        let conn = self.accept(CLIENT_SIDE, door, SERVICE.parse()?, Place::Client(client))?;
        self.clients.push((conn, 0));
        Ok(())
    }

    fn accept(
        &mut self,
        core: usize,
        door: Door,
        destination: SocketAddr,
        other: Place,
    ) -> anyhow::Result<ConnId> {
        self.begin(core);
        let accepted = Accepted {
            door,
            client: SocketAddr::from(([10, 244, 0, 1], 40_000)),
            destination,
        };
        let conn = self.cores[core].accept(accepted).context("no room")?;
        self.place(core, conn, other);
        Ok(conn)
    }

    fn place(&mut self, core: usize, conn: ConnId, other: Place) {
        let wire = |other| Wire {
            conn,
            other,
            bytes: Vec::new(),
        };
        let wires = &mut self.wires[core];
        while wires.len() <= conn.index() {
            wires.push(wire(Place::Gone));
        }
        wires[conn.index()] = wire(other);
    }

    /// Each client asks once, and has its answer.
    fn round(&mut self) -> anyhow::Result<()> {
        for client in 0..CLIENTS {
            let (conn, _) = self.clients[client];
            let wire = &mut self.wires[CLIENT_SIDE][conn.index()];
            self.requests += 1;
            write_request(&mut wire.bytes, self.heads, self.requests);
            self.clients[client].1 = 0;
        }
        for _ in 0..MOST_TURNS {
            self.passed += TURN;
            self.turn(CLIENT_SIDE)?;
            self.turn(SERVER_SIDE)?;
            if self
                .clients
                .iter()
                .all(|(_, got)| *got >= self.answer.len())
            {
                ensure!(
                    self.clients
                        .iter()
                        .all(|(_, got)| *got < self.answer.len() + 256)
                );
                return Ok(());
            }
        }
        bail!("not every request was answered")
    }

    /// Everything that has arrived is read, then everything that is dirty is written, as the driver does it (`proxy/src/worker.rs`).
    fn turn(&mut self, core: usize) -> anyhow::Result<()> {
        self.begin(core);
        for at in 0..self.wires[core].len() {
            let wire = &mut self.wires[core][at];
            let conn = wire.conn;
            if wire.bytes.is_empty() || !self.cores[core].wants_read(conn) {
                continue;
            }
            let mut bytes = std::mem::take(&mut wire.bytes);
            self.cores[core].input(conn, &mut bytes);
            bytes.clear();
            self.wires[core][at].bytes = bytes;
        }
        self.cores[core].finish_turn();
        loop {
            while let Some(effect) = self.cores[core].next_effect() {
                self.apply(core, effect)?;
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
                return Ok(());
            }
        }
    }

    fn write(&mut self, core: usize, conn: ConnId) {
        let wires = &mut self.wires;
        let other = wires[core][conn.index()].other;
        let out = self.cores[core].output(conn);
        let n = out.len();
        match other {
            Place::Core(there, other) => wires[there][other.index()].bytes.extend_from_slice(out),
            Place::Client(client) => self.clients[client].1 += n,
            // It answers what begins like a request, which comes in one piece.
            Place::Application if n > 0 => wires[core][conn.index()]
                .bytes
                .extend_from_slice(&self.answer),
            Place::Application | Place::Gone => {}
        }
        self.cores[core].wrote(conn, n);
    }

    fn apply(&mut self, core: usize, effect: Effect) -> anyhow::Result<()> {
        match effect {
            Effect::Connect { conn, spec } => {
                if spec.to.port() == MESH_PORT {
                    let own = Place::Core(core, conn);
                    let there = self.accept(SERVER_SIDE, Door::Mesh, spec.to, own)?;
                    self.place(core, conn, Place::Core(SERVER_SIDE, there));
                } else {
                    self.place(core, conn, Place::Application);
                }
                self.cores[core].connected(conn);
            }
            Effect::Resume(_) | Effect::Shutdown(_) => {}
            Effect::Close(conn) | Effect::Reset(conn) => bail!("{conn:?} was closed"),
        }
        Ok(())
    }
}

/// A request as `wrk` sends them in `load/others.rs`.
fn write_request(out: &mut Vec<u8>, heads: Heads, n: u32) {
    use std::io::Write as _;
    let written = match heads {
        Heads::Plain => out.write_all(b"GET / HTTP/1.1\r\nHost: bench.local\r\n\r\n"),
        Heads::Real => write!(
            out,
            "GET /v1/items/{}?page={} HTTP/1.1\r\nHost: bench.local\r\n\
             User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Safari/537.36\r\n\
             Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\nAccept-Encoding: gzip, deflate, br\r\n\
             Accept-Language: en-GB,en;q=0.9,fr;q=0.8\r\nCache-Control: no-cache\r\nReferer: http://bench.local/catalog\r\n\
             Sec-Fetch-Mode: cors\r\nSec-Fetch-Site: same-origin\r\nSec-Fetch-Dest: empty\r\nX-Forwarded-Proto: https\r\nX-Tenant: blue\r\n\
             X-Request-Id: {:08x}-4bf9-{:04x}\r\nCookie: session=0123456789abcdef{}\r\n\r\n",
            n % 5000,
            n % 7,
            n.wrapping_mul(2_654_435_761),
            n % 65_536,
            n % 8
        ),
    };
    // A vector takes whatever is written to it.
    debug_assert!(written.is_ok());
}

// --- what both cores know ---

fn core(
    n: u8,
    authority: &Authority,
    domain: &TrustDomain,
    clock: Clock,
    logged: bool,
) -> anyhow::Result<Core> {
    let pod = pod(n)?;
    let identity = pod.identity(domain);
    let mut snapshot = Snapshot::new();
    snapshot.set_mesh(Mesh {
        trust_domain: domain.clone(),
        trust_anchors: authority.trust_anchors(),
        cluster_ranges: ClusterRanges(vec!["10.0.0.0/8".parse()?]),
    });
    snapshot.set_own(Own {
        workload: pod,
        ports: vec![(8080, Protocol::Http1)],
        leaving: false,
    });
    service(&mut snapshot)?;
    let key = PrivateKey::generate()?;
    let hour = Duration::from_secs(3600);
    let signed = authority.sign(&key.csr(), &identity, hour, SystemTime::now())?;
    let access = if logged {
        Access::On("json".parse()?)
    } else {
        Access::Off
    };
    let settings = Settings {
        access,
        ..Settings::default()
    };
    let mut core = Core::new(settings, clock.now().into_std());
    core.renew(Credentials::new(
        key,
        signed.chain,
        &authority.trust_anchors(),
    )?);
    core.learn(Arc::new(snapshot));
    Ok(core)
}

fn pod(n: u8) -> anyhow::Result<Workload> {
    Ok(Workload {
        uid: WorkloadUid::new(&format!("uid-{n}")).context("no uid")?,
        namespace: "bench".parse()?,
        name: format!("pod-{n}").parse()?,
        service_account: format!("sa-{n}").parse()?,
        addresses: vec![[10, 244, 0, n].into()],
        owner: None,
        membership: Membership::Meshed,
        zone: None,
    })
}

fn service(snapshot: &mut Snapshot) -> anyhow::Result<()> {
    let id: ServiceId = "bench/web".parse()?;
    let at: SocketAddr = SERVICE.parse()?;
    snapshot.set_address(at.ip(), Known::Present(AddressOwner::Service(id.clone())));
    let service = Service {
        id: id.clone(),
        addresses: vec![at.ip()],
        ports: vec![ServicePort {
            port: 80,
            name: String::new(),
            protocol: Protocol::Http1,
        }],
        terms: Terms::default(),
    };
    snapshot.set_service(id.clone(), Known::Present(service));
    let endpoint = Endpoint {
        workload: pod(2)?,
        ready: true,
        targets: vec![(80, 8080)],
    };
    snapshot.set_endpoints(id, Known::Present(Endpoints(vec![endpoint])));
    Ok(())
}
