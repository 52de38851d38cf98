// SPDX-License-Identifier: Apache-2.0
//! Who speaks first where nobody has declared anything.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use maille_chassis::clock::Clock;
use maille_model::{Membership, Protocol};
use maille_proxy::telemetry::Carries;

use crate::http::Pair;
use crate::lab::Lab;
use crate::origin::{Origin, PATIENCE, Wire, patterned, serve_http};

/// The un-meshed time may grow by so much.
const STALL: Duration = Duration::from_millis(10);

fn get(wire: &mut Wire, path: &str) -> Vec<u8> {
    wire.send(format!("GET {path} HTTP/1.1\r\nHost: web\r\n\r\n"));
    let (head, body) = wire.response();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    body
}

/// HTTP that tells of every connection before it is read.
fn telling(at: SocketAddr) -> Origin {
    Origin::start(at, |stream, report| {
        report.send(0).unwrap();
        serve_http(stream, report);
    })
}

fn greeting(at: SocketAddr) -> Origin {
    Origin::start(at, |mut stream: TcpStream, _| {
        stream.write_all(b"220 ready\r\n").unwrap();
        let mut got = [0; 5];
        while stream.read_exact(&mut got).is_ok() {
            stream.write_all(&got).unwrap();
        }
    })
}

#[test]
fn a_request_after_the_upstream_was_opened_is_a_request() {
    let pair = Pair::new(telling, Protocol::Undeclared);
    let mut wire = pair.dial();
    pair.origin.reports.recv_timeout(PATIENCE).unwrap();
    for n in [7, 0, 20_000] {
        assert_eq!(get(&mut wire, &format!("/bytes/{n}")), patterned(n));
    }
    drop(wire);
    for counted in [pair.client.stop(), pair.server.stop()] {
        let (edge, sum) = counted.only();
        assert_eq!((edge.carries, edge.protected), (Carries::Http, true));
        assert_eq!((sum.requests, sum.failures, sum.opened), (3, 0, 0));
    }
    // What was opened in silence waits for the requests, unless the first of them came before the far side was connected.
    assert!(pair.origin.accepted() <= 2);
}

#[test]
fn the_same_without_a_mesh_between() {
    let lab = Lab::new();
    let web = lab.pod(2, Membership::Unmeshed);
    let origin = telling(SocketAddr::new(web.ip, 0));
    let port = origin.address.port();
    let app = lab.pod(1, Membership::Meshed);
    let mut snapshot = lab.own(&app, 9, Protocol::Undeclared);
    lab.add_service(&mut snapshot, Protocol::Undeclared, &[(&web, port)]);
    let client = lab.start(&app, snapshot, lab.service(), SocketAddr::new(app.ip, 9));
    let mut wire = Wire::connect(client.outbound);
    origin.reports.recv_timeout(PATIENCE).unwrap();
    assert_eq!(get(&mut wire, "/bytes/5"), patterned(5));
    drop(wire);
    let counted = client.stop();
    let (edge, sum) = counted.only();
    assert_eq!((edge.carries, sum.requests), (Carries::Http, 1));
    assert!(origin.accepted() <= 2);
}

#[test]
fn a_client_that_leaves_in_silence_is_seen_by_the_server() {
    let watch = |at| {
        Origin::start(at, |mut stream: TcpStream, report| {
            report.send(0).unwrap();
            let end = stream.read(&mut [0]).map_err(|error| error.kind());
            report.send(1 + usize::from(end.is_err())).unwrap();
        })
    };
    for (linger, end) in [(None, 1), (Some(Duration::ZERO), 2)] {
        let pair = Pair::new(watch, Protocol::Undeclared);
        let wire = pair.dial();
        assert_eq!(pair.origin.reports.recv_timeout(PATIENCE), Ok(0));
        socket2::SockRef::from(&wire.stream)
            .set_linger(linger)
            .unwrap();
        drop(wire);
        assert_eq!(pair.origin.reports.recv_timeout(PATIENCE), Ok(end));
    }
}

#[test]
fn a_server_that_leaves_in_silence_is_seen_by_the_client() {
    let leave = |at| {
        Origin::start(at, |stream: TcpStream, _| {
            stream.shutdown(Shutdown::Write).unwrap();
            let _ = (&stream).read_to_end(&mut Vec::new());
        })
    };
    let slam = |at| {
        Origin::start(at, |stream: TcpStream, _| {
            let socket = socket2::SockRef::from(&stream);
            socket.set_linger(Some(Duration::ZERO)).unwrap();
        })
    };
    let (rest, end) = Pair::new(leave, Protocol::Undeclared).dial().rest();
    assert!(rest.is_empty() && end.is_ok());
    let (rest, end) = Pair::new(slam, Protocol::Undeclared).dial().rest();
    assert!(rest.is_empty());
    assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
}

#[test]
fn a_client_that_says_half_a_word_is_passed_on() {
    let pair = Pair::new(Origin::echo, Protocol::Undeclared);
    let mut wire = pair.dial();
    wire.send("ruok");
    assert_eq!(wire.exactly(4), b"ruok");
    let mut wire = pair.dial();
    wire.send("GE");
    wire.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(wire.rest().0, b"GE");
}

#[test]
fn a_command_that_begins_like_a_request_is_passed_on() {
    let pair = Pair::new(Origin::echo, Protocol::Undeclared);
    for line in [
        "get /page?x\r\n",
        "GET http://web/\r\n",
        "OPTIONS * RTSP/1.0\r\n\r\n",
        "CONNECT /_goRPC_ HTTP/1.0\n\n",
    ] {
        let mut wire = pair.dial();
        wire.send(line);
        assert_eq!(wire.exactly(line.len()), line.as_bytes());
    }
}

#[test]
fn half_a_line_of_a_request_is_waited_for() {
    let pair = Pair::new(telling, Protocol::Undeclared);
    let mut wire = pair.dial();
    wire.send("GET /byt");
    // Its connection is open by now, and then nothing more has come in time.
    pair.origin.reports.recv_timeout(PATIENCE).unwrap();
    wire.send("es/7 HTTP/1.1\r\nHost: web\r\n\r\n");
    let (head, body) = wire.response();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert_eq!(body, patterned(7));
}

#[test]
fn a_port_declared_http_is_never_bytes() {
    let pair = Pair::http();
    let mut wire = pair.dial();
    wire.send("220 what is this?\r\n\r\n");
    let (head, _) = wire.response();
    assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
    assert_eq!(pair.origin.accepted(), 0);
}

#[test]
fn a_port_that_only_its_own_side_declares_http_is_never_bytes() {
    let count = |at| {
        Origin::start(at, |mut stream: TcpStream, report| {
            report.send(0).unwrap();
            let mut got = Vec::new();
            let _ = stream.read_to_end(&mut got);
            report.send(1 + got.len()).unwrap();
        })
    };
    let only_own = |origin: fn(SocketAddr) -> Origin| {
        Pair::declared(origin, Protocol::Undeclared, Protocol::Http1)
    };
    let reset = |wire: &mut Wire| {
        let (rest, end) = wire.rest();
        assert!(rest.is_empty(), "{rest:?}");
        assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    };
    // The upstream is open before the first byte comes: it must not be that byte's.
    let pair = only_own(count);
    let mut wire = pair.dial();
    assert_eq!(pair.origin.reports.recv_timeout(PATIENCE), Ok(0));
    wire.send([1, 2, 3]);
    reset(&mut wire);
    assert_eq!(pair.origin.reports.recv_timeout(PATIENCE), Ok(1));
    // Nothing is opened for what says at once that it is something else.
    let pair = only_own(count);
    let mut wire = pair.dial();
    wire.send(client_hello());
    reset(&mut wire);
    assert_eq!(pair.origin.accepted(), 0);
    // Nor does such a port speak first.
    let pair = only_own(greeting);
    reset(&mut pair.dial());
    // What is HTTP is welcome, be it late.
    let pair = only_own(telling);
    let mut wire = pair.dial();
    pair.origin.reports.recv_timeout(PATIENCE).unwrap();
    assert_eq!(get(&mut wire, "/bytes/7"), patterned(7));
}

/// The time from the dial to the banner, of the middle one of many.
fn banner(to: SocketAddr) -> Duration {
    let mut times: Vec<_> = (0..41)
        .map(|_| {
            let clock = Clock::start();
            let mut wire = Wire::connect(to);
            assert_eq!(wire.line(), "220 ready");
            let took = clock.elapsed();
            wire.send("HELO ");
            assert_eq!(wire.exactly(5), b"HELO ");
            took
        })
        .collect();
    times.sort();
    // The quarter that other work on the machine has disturbed least.
    times[times.len() / 4]
}

#[test]
fn a_server_that_speaks_first_is_not_kept_waiting() {
    let pair = Pair::new(greeting, Protocol::Undeclared);
    let direct = banner(pair.origin.address);
    let meshed = banner(pair.client.outbound);
    println!("banner after {direct:?} un-meshed, {meshed:?} meshed");
    assert!(
        meshed < direct + STALL,
        "{direct:?} un-meshed, {meshed:?} meshed"
    );
    let counted = pair.client.stop();
    let (edge, sum) = counted.only();
    assert_eq!((edge.carries, edge.protected), (Carries::Tcp, true));
    assert_eq!((sum.opened, sum.closed), (41, 41));
}

/// A ClientHello that asks for `shop.example`.
fn client_hello() -> Vec<u8> {
    let name = b"shop.example";
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0x13, 1, 1, 0]);
    let n = u8::try_from(name.len()).unwrap();
    body.extend([0, n + 9, 0, 0, 0, n + 5, 0, n + 3, 0, 0, n]);
    body.extend(name);
    let n = u8::try_from(body.len()).unwrap();
    let mut hello = vec![22, 3, 1, 0, n + 4, 1, 0, 0, n];
    hello.extend(body);
    hello
}

#[test]
fn tls_is_passed_through_in_whatever_pieces() {
    for protocol in [Protocol::Undeclared, Protocol::Tls] {
        let pair = Pair::new(Origin::echo, protocol);
        let hello = client_hello();
        for cut in [1, 4, 5, 6, 40, hello.len() - 1, hello.len()] {
            let mut wire = pair.dial();
            wire.send(&hello[..cut]);
            wire.send(&hello[cut..]);
            assert_eq!(wire.exactly(hello.len()), hello);
        }
        for proxy in [pair.client, pair.server] {
            let counted = proxy.stop().0;
            let mut names = counted
                .iter()
                .filter_map(|(edge, _)| edge.server_name.as_ref());
            assert_eq!(names.next().unwrap().as_str(), "shop.example");
        }
    }
}
