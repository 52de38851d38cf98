// SPDX-License-Identifier: Apache-2.0
//! What `explain` says, and what then happens to a real request: worlds are drawn, each answer is compared.
//!
//! `MAILLE_TEST_EXCHANGES` is how many answers (a tenth of it: 1,000; `cargo xtask test --all` asks for 10,000), `MAILLE_TEST_SEED` repeats a run.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use maille_engine::route::{Direction, Facts};
use maille_engine::snapshot::{Key, Known, Snapshot};
use maille_model::{
    AddressOwner, Endpoint, Endpoints, Membership, Protocol, Service, ServiceId, ServicePort, Terms,
};
use maille_proxy::questions::explain::explain;
use maille_proxy::tap::{self, Filter, Headers, Moment, Tap, Told};
use maille_wire::v1;
use maille_wire::v1::explanation::Verdict;

use crate::lab::{Lab, PORT, Pod, Proxy};
use crate::origin::{Origin, Wire};

/// Requests in one world.
const IN_A_WORLD: usize = 100;

/// Somebody who can be asked: a pod, its application, and what its proxy knows.
struct Server {
    pod: Pod,
    origin: Origin,
    snapshot: Option<Snapshot>,
    _proxy: Option<Proxy>,
}

struct World {
    lab: Lab,
    client: Proxy,
    /// What is dialled, and the door that means it.
    doors: Vec<(SocketAddr, SocketAddr)>,
    servers: Vec<Server>,
    marks: [Origin; 2],
    mark: SocketAddr,
    _outside: Origin,
    own: Origin,
    random: fastrand::Rng,
    asked: u64,
}

fn number(name: &str) -> Option<u64> {
    std::env::var_os(name)?.to_str()?.parse().ok()
}

#[test]
fn what_is_explained_is_what_happens() {
    let seed = number("MAILLE_TEST_SEED").unwrap_or_else(|| fastrand::u64(..));
    let answers = number("MAILLE_TEST_EXCHANGES").unwrap_or(10_000) / 10;
    let mut world = World::new(seed);
    let mut kinds = [0_u64; 4];
    for round in 0.. {
        let compared: u64 = kinds.iter().sum();
        if compared >= answers {
            break;
        }
        let snapshot = world.draw(round);
        for _ in 0..IN_A_WORLD {
            let (to, door) = world.doors[world.random.usize(..world.doors.len() - 1)];
            let facts = Facts {
                direction: Direction::Outbound,
                destination: to,
            };
            let said = explain(&snapshot, &facts, true);
            let place = match said.verdict() {
                Verdict::Forward if said.legs.iter().any(|leg| leg.hop == "mesh") => 0,
                Verdict::Forward => 1,
                Verdict::Refuse => 2,
                Verdict::Wait | Verdict::Unspecified => 3,
            };
            world
                .compare(&said, door)
                .unwrap_or_else(|why| panic!("MAILLE_TEST_SEED={seed}: to {to}: {said:?}: {why}"));
            kinds[place] += 1;
        }
    }
    assert!(
        kinds.iter().all(|count| *count > 0),
        "mesh, plain, refused, waiting: {kinds:?}"
    );
}

impl World {
    fn new(seed: u64) -> Self {
        let lab = Lab::new();
        let pods = [
            (2, Membership::Meshed),
            (3, Membership::Meshed),
            (4, Membership::Unmeshed),
            // Its proxy believes that it has another address.
            (6, Membership::Meshed),
        ];
        let servers: Vec<Server> = pods
            .iter()
            .map(|(n, membership)| server(&lab, *n, *membership))
            .collect();
        let app = lab.pod(1, Membership::Meshed);
        let own = Origin::http(SocketAddr::new(app.ip, 0));
        let outside = Origin::http(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0));
        let mark = SocketAddr::new(lab.address(200), PORT);
        let marks = [b'a', b'b'].map(|_| Origin::http(SocketAddr::new(servers[2].pod.ip, 0)));
        let other_port = SocketAddr::new(lab.service().ip(), PORT + 1);
        let nobody = SocketAddr::new(lab.address(250), PORT);
        let mut dialled = vec![
            lab.service(),
            other_port,
            nobody,
            outside.address,
            own.address,
        ];
        dialled.extend(servers.iter().map(|server| server.origin.address));
        dialled.push(mark);
        let credentials = lab.credentials(&app);
        let first = lab.own(&app, own.address.port(), Protocol::Http1);
        let (client, doors) = lab.start_many(&app, first, credentials, (&dialled, own.address));
        client.tap(&[Tap {
            id: 1,
            filter: Filter::default(),
            max_rps: 1_000_000,
            headers: Headers::None,
            ends_only: true,
        }]);
        let mut world = Self {
            doors: dialled.into_iter().zip(doors).collect(),
            lab,
            client,
            servers,
            marks,
            mark,
            _outside: outside,
            own,
            random: fastrand::Rng::with_seed(seed),
            asked: 0,
        };
        // The first world in force says that the tap is, too: its end is told.
        world.draw(0);
        while world.client.try_told().is_none() {
            world.ask_mark();
        }
        world
    }

    /// Draws what the client's proxy knows, and waits until that is in force.
    fn draw(&mut self, round: usize) -> Snapshot {
        let app = self.client.pod.clone();
        let mut snapshot = self.lab.own(&app, self.own.address.port(), Protocol::Http1);
        let ready = |random: &mut fastrand::Rng| random.u8(..4) > 0;
        let backends: Vec<Endpoint> = self
            .servers
            .iter()
            .map(|server| Endpoint {
                workload: server.pod.workload.clone(),
                ready: ready(&mut self.random),
                targets: vec![(PORT, server.origin.address.port())],
            })
            .collect();
        let protocols = [Protocol::Undeclared, Protocol::Http1];
        let protocol = protocols[self.random.usize(..2)];
        add(
            &mut snapshot,
            "shop/web",
            self.lab.service(),
            protocol,
            backends,
        );
        for server in &self.servers {
            if ready(&mut self.random) {
                let owner = AddressOwner::Workload(server.pod.workload.clone());
                snapshot.set_address(server.pod.ip, Known::Present(owner));
            }
        }
        let marked = Endpoint {
            workload: self.servers[2].pod.workload.clone(),
            ready: true,
            targets: vec![(PORT, self.marks[round % 2].address.port())],
        };
        add(
            &mut snapshot,
            "shop/mark",
            self.mark,
            Protocol::Http1,
            vec![marked],
        );
        let before = self.marks[round % 2].accepted();
        self.client.learn(snapshot.clone());
        // The other mark answered until now; its connection may still be kept.
        while self.marks[round % 2].accepted() == before {
            self.ask_mark();
        }
        while self.client.try_told().is_some() {}
        snapshot
    }

    fn ask_mark(&self) {
        let (_, door) = self.doors[self.doors.len() - 1];
        let mut wire = Wire::connect(door);
        // Closed by its server: the next one is a new connection.
        wire.send("GET /early-close HTTP/1.1\r\nHost: mark\r\n\r\n");
        wire.response();
    }

    /// Sends a request through `door` and compares. The error says what differs.
    fn compare(&mut self, said: &v1::Explanation, door: SocketAddr) -> Result<(), String> {
        let mut wire = Wire::connect(door);
        // Who waited in vain is told of late: every request has a name of its own.
        self.asked += 1;
        let path = format!("/bytes/3?{}", self.asked);
        wire.send(format!("GET {path} HTTP/1.1\r\nHost: web\r\n\r\n"));
        if said.verdict() == Verdict::Wait {
            // It would wait for seconds: that control is asked is what is waited for.
            return match self.client.questions.blocking_recv() {
                Some(Key::Address(_) | Key::Service(_) | Key::Endpoints(_)) => Ok(()),
                other => Err(format!("control was asked {other:?}")),
            };
        }
        let (head, _) = wire.response();
        let facts = loop {
            match self.client.told() {
                Told::Seen(seen)
                    if seen.moment == Moment::End
                        && *seen.request.path.kept == *path.as_bytes() =>
                {
                    break seen.facts;
                }
                Told::Seen(_) | Told::Untold { .. } | Told::Piece(_) | Told::Lost(_) => {}
            }
        };
        match said.verdict() {
            Verdict::Refuse if facts.flag == Some(&said.flag) => Ok(()),
            Verdict::Refuse => Err(format!("{head}: {:?}", facts.flag)),
            Verdict::Forward => self.forwarded(said, &facts),
            Verdict::Wait | Verdict::Unspecified => Err("it makes no sense".to_owned()),
        }
    }

    fn forwarded(&self, said: &v1::Explanation, facts: &tap::Facts) -> Result<(), String> {
        let took = facts.endpoint.map(|to| to.to_string());
        let mut legs = said.legs.iter();
        let leg = legs.find(|leg| Some(&leg.target) == took.as_ref());
        let leg = leg.ok_or_else(|| format!("it went to {took:?}"))?;
        if facts.protected != (leg.hop == "mesh") {
            return Err(format!("protected: {}", facts.protected));
        }
        let accepts = |leg: &v1::Leg| {
            let mut servers = self.servers.iter();
            let server = servers.find(|server| server.origin.address.to_string() == leg.target);
            let Some(snapshot) = server.and_then(|server| server.snapshot.as_ref()) else {
                return Verdict::Forward;
            };
            let target = leg.target.parse().unwrap();
            let facts = Facts {
                direction: Direction::Inbound,
                destination: target,
            };
            explain(snapshot, &facts, true).verdict()
        };
        match facts.flag {
            None if facts.status == 200 && accepts(leg) == Verdict::Forward => {
                let proved = facts.peer.as_ref().map(ToString::to_string);
                let wanted = Some(leg.identity.clone()).filter(|identity| !identity.is_empty());
                (proved == wanted)
                    .then_some(())
                    .ok_or_else(|| format!("it was {proved:?}"))
            }
            Some("misdirected") if said.legs.iter().any(|leg| accepts(leg) == Verdict::Refuse) => {
                Ok(())
            }
            flag => Err(format!("{} {flag:?} from {took:?}", facts.status)),
        }
    }
}

fn server(lab: &Lab, n: u8, membership: Membership) -> Server {
    let pod = lab.pod(n, membership);
    let origin = Origin::http(SocketAddr::new(pod.ip, 0));
    if membership == Membership::Unmeshed {
        return Server {
            pod,
            origin,
            snapshot: None,
            _proxy: None,
        };
    }
    let mut known = pod.clone();
    if n == 6 {
        known.workload.addresses = vec![lab.address(7)];
    }
    let snapshot = lab.own(&known, origin.address.port(), Protocol::Http1);
    let proxy = lab.start(&pod, snapshot.clone(), lab.service(), origin.address);
    Server {
        pod,
        origin,
        snapshot: Some(snapshot),
        _proxy: Some(proxy),
    }
}

fn add(
    snapshot: &mut Snapshot,
    name: &str,
    at: SocketAddr,
    protocol: Protocol,
    endpoints: Vec<Endpoint>,
) {
    let id: ServiceId = name.parse().unwrap();
    let owner = AddressOwner::Service(id.clone());
    snapshot.set_address(at.ip(), Known::Present(owner));
    let port = ServicePort {
        port: at.port(),
        name: String::new(),
        protocol,
    };
    let service = Service {
        id: id.clone(),
        addresses: vec![at.ip()],
        ports: vec![port],
        terms: Terms::DEFAULT,
    };
    snapshot.set_service(id.clone(), Known::Present(service));
    snapshot.set_endpoints(id, Known::Present(Endpoints(endpoints)));
}
