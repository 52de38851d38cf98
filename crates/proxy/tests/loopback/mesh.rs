// SPDX-License-Identifier: Apache-2.0
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use maille_chassis::drain::Ended;
use maille_engine::snapshot::{Key, Known};
use maille_model::{AddressOwner, Membership, Protocol};
use maille_proxy::failure::Failure;
use socket2::{Domain, Socket, Type};

use crate::http::Pair;
use crate::lab::{Lab, Proxy, authority};
use crate::origin::{Origin, PATIENCE, Wire, field, patterned};

fn get(wire: &mut Wire, path: &str) -> (String, Vec<u8>) {
    wire.send(format!("GET {path} HTTP/1.1\r\nHost: web\r\n\r\n"));
    wire.response()
}

/// A client whose service has these backends, of which some are there.
fn client(lab: &Lab, protocol: Protocol, backends: &[(&crate::lab::Pod, u16)]) -> Proxy {
    let app = lab.pod(1, Membership::Meshed);
    let mut snapshot = lab.own(&app, 9, Protocol::Undeclared);
    lab.add_service(&mut snapshot, protocol, backends);
    lab.start(&app, snapshot, lab.service(), SocketAddr::new(app.ip, 9))
}

fn server(lab: &Lab, pod: &crate::lab::Pod, origin: &Origin) -> Proxy {
    server_of(lab, pod, Protocol::Http1, origin)
}

fn server_of(lab: &Lab, pod: &crate::lab::Pod, protocol: Protocol, origin: &Origin) -> Proxy {
    let snapshot = lab.own(pod, origin.address.port(), protocol);
    lab.start(pod, snapshot, lab.service(), origin.address)
}

#[test]
fn endpoints_that_are_gone_are_passed_over() {
    let lab = Lab::new();
    let (here, gone) = (
        lab.pod(2, Membership::Meshed),
        lab.pod(3, Membership::Meshed),
    );
    let origin = Origin::http(SocketAddr::new(here.ip, 0));
    let port = origin.address.port();
    let _server = server(&lab, &here, &origin);
    let client = client(&lab, Protocol::Http1, &[(&here, port), (&gone, port)]);
    for _ in 0..20 {
        let mut wire = Wire::connect(client.outbound);
        wire.send("POST /echo HTTP/1.1\r\nHost: web\r\nContent-Length: 4\r\n\r\nbody");
        let (head, body) = wire.response();
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert_eq!(body, b"body");
    }
    let counted = client.stop();
    let (_, sum) = counted.only();
    assert_eq!((sum.requests, sum.failures), (20, 0));
}

/// The address is taken, and nobody listens: else a proxy could be given that port for itself, and would go on connecting to itself.
fn taken(address: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
    socket.bind(&address.into()).unwrap();
    socket
}

#[test]
fn an_application_that_is_gone_behind_its_proxy_is_passed_over() {
    for protocol in [Protocol::Http1, Protocol::Tcp] {
        let lab = Lab::new();
        let (here, gone) = (
            lab.pod(2, Membership::Meshed),
            lab.pod(3, Membership::Meshed),
        );
        let origin = Origin::http(SocketAddr::new(here.ip, 0));
        let port = origin.address.port();
        let _nobody = taken(SocketAddr::new(gone.ip, port));
        let _servers = (server_of(&lab, &here, protocol, &origin), {
            let snapshot = lab.own(&gone, port, protocol);
            lab.start(
                &gone,
                snapshot,
                lab.service(),
                SocketAddr::new(gone.ip, port),
            )
        });
        let client = client(&lab, protocol, &[(&here, port), (&gone, port)]);
        for _ in 0..20 {
            let mut wire = Wire::connect(client.outbound);
            let (head, body) = get(&mut wire, "/bytes/7");
            assert!(head.starts_with("HTTP/1.1 200 "), "{protocol:?} {head}");
            assert_eq!(body, patterned(7));
        }
    }
}

#[test]
fn nobody_left_is_said() {
    let lab = Lab::new();
    let gone = lab.pod(3, Membership::Meshed);
    let client = client(&lab, Protocol::Http1, &[(&gone, 7)]);
    let mut wire = Wire::connect(client.outbound);
    let (head, body) = get(&mut wire, "/");
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    assert_eq!(
        String::from_utf8(body).unwrap(),
        format!(
            "maille: connect-refused: shop/web:80 at {}:7: the connection was refused\n",
            gone.ip
        )
    );
    let counted = client.stop();
    let (edge, sum) = counted.only();
    assert!(edge.protected, "it was never tried in plain text");
    assert_eq!(sum.failed, [(Failure::ConnectRefused, 1)]);
}

#[test]
fn somebody_else_at_the_address_gets_nothing() {
    let lab = Lab::new();
    let web = lab.pod(2, Membership::Meshed);
    let origin = Origin::http(SocketAddr::new(web.ip, 0));
    let port = origin.address.port();
    let other = lab.pod(7, Membership::Meshed);
    let snapshot = lab.own(&web, port, Protocol::Http1);
    let _server = lab.start_with(
        &web,
        snapshot,
        lab.credentials(&other),
        (lab.service(), origin.address),
    );
    let client = client(&lab, Protocol::Http1, &[(&web, port)]);
    let mut wire = Wire::connect(client.outbound);
    let (head, body) = get(&mut wire, "/");
    assert!(head.starts_with("HTTP/1.1 503 "));
    assert!(body.starts_with(b"maille: peer-identity: "));
    assert_eq!(origin.accepted(), 0);
}

#[test]
fn a_peer_of_another_authority_is_refused() {
    let lab = Lab::new();
    let web = lab.pod(2, Membership::Meshed);
    let origin = Origin::http(SocketAddr::new(web.ip, 0));
    let port = origin.address.port();
    let _server = server(&lab, &web, &origin);
    let app = lab.pod(1, Membership::Meshed);
    let mut snapshot = lab.own(&app, 9, Protocol::Undeclared);
    lab.add_service(&mut snapshot, Protocol::Http1, &[(&web, port)]);
    let strangers = Lab::with_authority(authority());
    let client = lab.start_with(
        &app,
        snapshot,
        strangers.credentials(&app),
        (lab.service(), SocketAddr::new(app.ip, 9)),
    );
    let mut wire = Wire::connect(client.outbound);
    let (head, body) = get(&mut wire, "/");
    assert!(head.starts_with("HTTP/1.1 503 "));
    assert!(
        body.starts_with(b"maille: peer-identity: "),
        "{:?}",
        String::from_utf8(body)
    );
    assert_eq!(origin.accepted(), 0);
}

#[test]
fn plain_text_on_the_mesh_port_is_not_answered() {
    let pair = Pair::http();
    let mut wire = Wire::connect(SocketAddr::new(pair.server.pod.ip, 15008));
    wire.send("GET / HTTP/1.1\r\nHost: web\r\n\r\n");
    assert!(wire.rest().0.is_empty());
    assert_eq!(pair.origin.accepted(), 0);
}

#[test]
fn without_a_proxy_on_either_side_it_is_plain_and_said_so() {
    let lab = Lab::new();
    let web = lab.pod(2, Membership::Unmeshed);
    let origin = Origin::http(SocketAddr::new(web.ip, 0));
    let client = client(&lab, Protocol::Http1, &[(&web, origin.address.port())]);
    let mut wire = Wire::connect(client.outbound);
    for n in 0..10 {
        assert_eq!(get(&mut wire, &format!("/bytes/{n}")).1, patterned(n));
    }
    assert_eq!(origin.accepted(), 1);
    drop(wire);
    let counted = client.stop();
    let (edge, sum) = counted.only();
    assert!(!edge.protected);
    assert_eq!((sum.requests, sum.failures), (10, 0));

    let own = lab.pod(4, Membership::Meshed);
    let server = server(&lab, &own, &Origin::http(SocketAddr::new(own.ip, 0)));
    let mut wire = Wire::connect(server.inbound);
    for n in 0..10 {
        assert_eq!(get(&mut wire, &format!("/bytes/{n}")).1, patterned(n));
    }
    drop(wire);
    let counted = server.stop();
    let (edge, sum) = counted.only();
    assert!(!edge.protected && edge.peer.is_none());
    assert_eq!((sum.requests, sum.failures), (10, 0));
}

#[test]
fn an_address_nobody_has_spoken_of_is_waited_for() {
    let lab = Lab::new();
    let web = lab.pod(2, Membership::Unmeshed);
    let origin = Origin::http(SocketAddr::new(web.ip, 0));
    let app = lab.pod(1, Membership::Meshed);
    let snapshot = lab.own(&app, 9, Protocol::Undeclared);
    let mut client = lab.start(
        &app,
        snapshot.clone(),
        origin.address,
        SocketAddr::new(app.ip, 9),
    );
    let mut wire = Wire::connect(client.outbound);
    wire.send("GET /bytes/5 HTTP/1.1\r\nHost: web\r\n\r\n");
    assert_eq!(client.questions.blocking_recv(), Some(Key::Address(web.ip)));
    let mut said = snapshot;
    said.set_address(web.ip, Known::Present(AddressOwner::Workload(web.workload)));
    client.learn(said);
    assert_eq!(wire.response().1, patterned(5));
}

#[test]
fn an_endpoint_that_is_on_its_way_is_waited_for() {
    for protocol in [Protocol::Http1, Protocol::Tcp] {
        let lab = Lab::new();
        let web = lab.pod(2, Membership::Meshed);
        let origin = Origin::http(SocketAddr::new(web.ip, 0));
        let port = origin.address.port();
        let _server = server_of(&lab, &web, protocol, &origin);
        let client = client(&lab, protocol, &[]);
        let mut wire = Wire::connect(client.outbound);
        wire.send("GET /bytes/5 HTTP/1.1\r\nHost: web\r\n\r\n");
        // News of something else helps nobody.
        let app = client.pod.clone();
        let mut said = lab.own(&app, 9, Protocol::Undeclared);
        lab.add_service(&mut said, protocol, &[]);
        said.set_address(lab.address(77), Known::Absent);
        client.learn(said.clone());
        lab.add_service(&mut said, protocol, &[(&web, port)]);
        client.learn(said);
        assert_eq!(wire.response().1, patterned(5), "{protocol:?}");
        drop(wire);
        let counted = client.stop();
        assert_eq!(counted.only().1.failed, [], "{protocol:?}");
    }
}

#[test]
fn an_endpoint_that_never_comes_is_waited_for_once() {
    let lab = Lab::new();
    let client = client(&lab, Protocol::Http1, &[]);
    let mut wire = Wire::connect(client.outbound);
    let clock = maille_chassis::clock::Clock::start();
    let mut took = Vec::new();
    for _ in 0..20 {
        let begin = clock.elapsed();
        let (head, body) = get(&mut wire, "/");
        assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
        assert!(body.starts_with(b"maille: no-endpoint: shop/web:"));
        took.push(clock.elapsed() - begin);
    }
    assert!(took[0] >= Duration::from_millis(900), "{took:?}");
    // As long as control says nothing new there is nothing to wait for.
    assert!(
        took[1..].iter().sum::<Duration>() < Duration::from_secs(10),
        "{took:?}"
    );
}

#[test]
fn a_port_that_the_service_does_not_have_is_told_as_that() {
    let lab = Lab::new();
    let app = lab.pod(1, Membership::Meshed);
    let mut snapshot = lab.own(&app, 9, Protocol::Undeclared);
    lab.add_service(&mut snapshot, Protocol::Http1, &[]);
    let wrong = SocketAddr::new(lab.service().ip(), lab.service().port() + 1);
    let client = lab.start(&app, snapshot, wrong, SocketAddr::new(app.ip, 9));
    let mut wire = Wire::connect(client.outbound);
    for _ in 0..2 {
        let (head, body) = get(&mut wire, "/");
        assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
        let line = format!(
            "maille: no-port: shop/web:{}: the service has no such port\n",
            wrong.port()
        );
        assert_eq!(String::from_utf8(body).unwrap(), line);
    }
}

/// Stops the load, also when something else fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn certificates_rotate_under_load() {
    let pair = Pair::http();
    let (stop, to) = (AtomicBool::new(false), pair.client.outbound);
    std::thread::scope(|scope| {
        let load: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let mut wire = Wire::connect(to);
                    let mut done = 0;
                    while !stop.load(Ordering::SeqCst) || done == 0 {
                        let (head, body) = get(&mut wire, "/bytes/3000");
                        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
                        assert_eq!(body.len(), 3000);
                        done += 1;
                    }
                    done
                })
            })
            .collect();
        let _stop = Stop(&stop);
        let mut watch = Wire::connect(to);
        for _ in 0..10 {
            pair.client.renew(pair.lab.credentials(&pair.client.pod));
            assert_eq!(get(&mut watch, "/bytes/1").1, patterned(1));
            pair.server.renew(pair.lab.credentials(&pair.server.pod));
            assert_eq!(get(&mut watch, "/bytes/1").1, patterned(1));
        }
        stop.store(true, Ordering::SeqCst);
        for one in load {
            assert!(one.join().unwrap() > 0);
        }
    });
    let counted = pair.client.stop();
    assert_eq!(counted.only().1.failures, 0);
}

#[test]
fn a_reader_that_stops_stops_the_sender() {
    // Sends until the other side has taken nothing for a while, and says how much went in.
    let flood = |at| {
        Origin::start(at, |mut stream: TcpStream, report| {
            let mut go = [0];
            stream.read_exact(&mut go).unwrap();
            stream
                .set_write_timeout(Some(Duration::from_millis(500)))
                .unwrap();
            let block = patterned(65536);
            let mut sent = 0;
            while let Ok(n) = stream.write(&block[sent % 65536..]) {
                sent += n;
            }
            report.send(sent).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            // The rest is for the client to read; it says when it has.
            let _ = stream.read(&mut go);
        })
    };
    let pair = Pair::new(flood, Protocol::Tcp);
    let mut wire = pair.dial();
    wire.send("x");
    let sent = pair.origin.reports.recv_timeout(PATIENCE).unwrap();
    // Windows and marks of both proxies are under 2 MiB; the rest is the sockets of four hops, which grow to some MiB each.
    assert!(
        sent < 40 << 20,
        "{sent} bytes went into a mesh that nobody reads from"
    );
    let got = wire.exactly(sent);
    assert!(
        got.iter()
            .enumerate()
            .all(|(i, byte)| *byte == patterned_at(i))
    );
    assert!(wire.rest().0.is_empty());
}

fn patterned_at(at: usize) -> u8 {
    crate::origin::pattern(at % 65536)
}

#[test]
fn a_drain_lets_what_is_open_end() {
    let mut pair = Pair::http();
    let mut wire = pair.dial();
    wire.send("POST /echo HTTP/1.1\r\nHost: web\r\nContent-Length: 4\r\n\r\nbo");
    let mut idle = pair.dial();
    assert_eq!(get(&mut idle, "/bytes/1").1, patterned(1));
    std::thread::scope(|scope| {
        let ending = scope.spawn(|| pair.client.drain(PATIENCE));
        // An idle connection is closed; a listener that has closed refuses.
        assert!(idle.rest().0.is_empty());
        wire.send("dy");
        assert_eq!(wire.response().1, b"body");
        assert!(wire.rest().0.is_empty());
        assert_eq!(ending.join().unwrap(), Ended::Gracefully);
    });
    assert_eq!(pair.server.drain(PATIENCE), Ended::Gracefully);
}

/// A workload that was asked to go still serves; clients outside the mesh are told to come elsewhere, its own application not.
#[test]
fn who_leaves_tells_clients_outside_the_mesh() {
    let lab = Lab::new();
    let pod = lab.pod(2, Membership::Meshed);
    let origin = Origin::http(SocketAddr::new(pod.ip, 0));
    let port = origin.address.port();
    let mut snapshot = lab.own(&pod, port, Protocol::Http1);
    lab.add_service(&mut snapshot, Protocol::Http1, &[(&pod, port)]);
    let proxy = lab.start(&pod, snapshot.clone(), lab.service(), origin.address);
    let [mut idle, mut busy] = [0, 1].map(|_| Wire::connect(proxy.inbound));
    let mut own = Wire::connect(proxy.outbound);
    let stays = |(head, body): (String, Vec<u8>)| {
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert_eq!(body, patterned(5));
        field(&head, "connection").as_deref() != Some("close")
    };
    for wire in [&mut idle, &mut busy, &mut own] {
        assert!(stays(get(wire, "/bytes/5")));
    }
    let mut leaving = (**snapshot.own().unwrap()).clone();
    leaving.leaving = true;
    snapshot.set_own(leaving);
    proxy.learn(snapshot);
    while stays(get(&mut busy, "/bytes/5")) {}
    for wire in [&mut busy, &mut idle] {
        let (rest, end) = wire.rest();
        assert!(rest.is_empty() && end.is_ok(), "{rest:?} {end:?}");
    }
    assert!(stays(get(&mut own, "/bytes/5")));
    let mut late = Wire::connect(proxy.inbound);
    assert!(!stays(get(&mut late, "/bytes/5")));
    proxy.stop();
}

/// Clients that keep their connection are told with the next answer, and lose nothing; those that ask nothing are let go.
#[test]
fn a_drain_tells_those_who_stay() {
    let mut pair = Pair::http();
    let mut idle = pair.dial();
    let mut busy = pair.dial();
    for wire in [&mut idle, &mut busy] {
        let (head, _) = get(wire, "/bytes/5");
        assert!(field(&head, "connection").is_none(), "{head}");
    }
    std::thread::scope(|scope| {
        let ending = scope.spawn(|| pair.client.drain(PATIENCE));
        loop {
            let (head, body) = get(&mut busy, "/bytes/5");
            assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
            assert_eq!(body, patterned(5));
            if field(&head, "connection").as_deref() == Some("close") {
                break;
            }
        }
        for wire in [&mut busy, &mut idle] {
            let (rest, end) = wire.rest();
            assert!(rest.is_empty() && end.is_ok(), "{rest:?} {end:?}");
        }
        assert_eq!(ending.join().unwrap(), Ended::Gracefully);
    });
    assert_eq!(pair.server.drain(PATIENCE), Ended::Gracefully);
}

#[test]
fn a_drain_ends_by_its_deadline() {
    let mut pair = Pair::new(Origin::echo, Protocol::Tcp);
    let mut wire = pair.dial();
    wire.send("x");
    wire.exactly(1);
    assert_eq!(pair.client.drain(Duration::from_millis(10)), Ended::Forced);
    assert!(wire.rest().0.is_empty());
    assert_eq!(pair.server.drain(PATIENCE), Ended::Gracefully);
}

#[test]
fn requests_to_an_address_of_somebody_else_are_misdirected() {
    let lab = Lab::new();
    let web = lab.pod(2, Membership::Meshed);
    let origin = Origin::http(SocketAddr::new(web.ip, 0));
    let port = origin.address.port();
    // The server's proxy believes that it serves another address.
    let other = lab.pod(5, Membership::Meshed);
    let _server = lab.start_with(
        &web,
        lab.own(&other, port, Protocol::Http1),
        lab.credentials(&web),
        (lab.service(), origin.address),
    );
    let client = client(&lab, Protocol::Http1, &[(&web, port)]);
    let mut wire = Wire::connect(client.outbound);
    let (head, body) = get(&mut wire, "/");
    assert!(head.starts_with("HTTP/1.1 421 "), "{head}");
    assert!(body.starts_with(b"maille: misdirected: "));
    assert_eq!(origin.accepted(), 0);
}

#[test]
fn a_used_connection_that_closed_is_tried_again() {
    // Answers one request on each connection, says that there may be more, and leaves with the next one.
    let once = |at| {
        Origin::start(at, |stream: TcpStream, _| {
            let mut wire = Wire::new(stream);
            assert!(wire.head().is_some());
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            wire.head();
        })
    };
    let pair = Pair::new(once, Protocol::Http1);
    let mut wire = pair.dial();
    for _ in 0..10 {
        assert_eq!(get(&mut wire, "/").1, b"ok");
    }
    // What must not be sent twice has a connection of its own with such a server.
    for _ in 0..10 {
        wire.send("POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 0\r\n\r\n");
        assert!(wire.response().0.starts_with("HTTP/1.1 200 "));
    }
}
