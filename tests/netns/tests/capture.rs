// SPDX-License-Identifier: Apache-2.0
//! What a captured pod can do, seen from both ends: addresses are kept, what the mesh does not carry passes untouched, and
//! connections wait for a proxy that is away.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::thread;
use std::time::Duration;

use maille_node::capture::{self, Captured, MESH_PORT};
use maille_sys::NetNs;
use maille_tests_netns::lab::{Kind, Node, Pod, tracked};
use maille_tests_netns::proxy::{Proxy, Way};
use socket2::{Domain, Protocol, Socket, Type};

const PATIENCE: Duration = Duration::from_secs(5);
const APP: u16 = 8080;

/// Begins to answer each connection with the address that it came from, then with what it sent.
fn serve(namespace: &NetNs, port: u16) {
    let listener = namespace
        .run(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).unwrap())
        .unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || -> io::Result<()> {
                let peer = stream.peer_addr()?.ip().to_canonical();
                writeln!(stream, "{peer}")?;
                let mut text = [0; 5];
                stream.read_exact(&mut text)?;
                stream.write_all(&text)
            });
        }
    });
}

/// What a client in `namespace` is told by the server at `to`, after it was heard too.
fn ask(namespace: &NetNs, to: SocketAddr) -> io::Result<String> {
    namespace.run(|| {
        let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(b"hello")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    })?
}

fn captured(pod: &Pod) -> &Captured {
    pod.captured.as_ref().unwrap()
}

fn pairs<'a>(from: &'a Pod, to: &'a Pod) -> [(IpAddr, IpAddr); 2] {
    [
        (from.v4.into(), to.v4.into()),
        (from.v6.into(), to.v6.into()),
    ]
}

#[test]
fn both_sides_keep_their_addresses() {
    let node = Node::new(&[Kind::Meshed, Kind::Meshed, Kind::Plain]);
    let [a, b, c] = &node.pods[..] else {
        unreachable!()
    };
    for pod in &node.pods {
        serve(&pod.namespace, APP);
    }
    let (proxy_a, proxy_b) = (Proxy::start(captured(a)), Proxy::start(captured(b)));
    for (from, to) in pairs(a, b) {
        let told = ask(&a.namespace, SocketAddr::new(to, APP)).unwrap();
        assert_eq!(told, format!("{from}\nhello"));
        let (left, entered) = (proxy_a.saw(), proxy_b.saw());
        assert_eq!(
            (left.way, left.peer.ip(), left.to),
            (Way::Outbound, from, SocketAddr::new(to, APP))
        );
        assert_eq!(
            (entered.way, entered.peer.ip(), entered.to),
            (Way::Inbound, from, SocketAddr::new(to, APP))
        );
    }
    for (from, to) in pairs(a, c) {
        assert_eq!(
            ask(&a.namespace, SocketAddr::new(to, APP)).unwrap(),
            format!("{from}\nhello")
        );
        assert_eq!(proxy_a.saw().to, SocketAddr::new(to, APP));
    }
    for (from, to) in pairs(c, b) {
        assert_eq!(
            ask(&c.namespace, SocketAddr::new(to, APP)).unwrap(),
            format!("{from}\nhello")
        );
        assert_eq!(proxy_b.saw().peer.ip(), from);
    }
    // The node's own processes, which probe.
    for to in b.addresses() {
        let told = ask(&node.namespace, SocketAddr::new(to, APP)).unwrap();
        assert!(told.ends_with("\nhello"), "{told}");
        assert_eq!(proxy_b.saw().way, Way::Inbound);
    }
    // A pod that asks itself stays in itself.
    for (own, _) in pairs(a, b) {
        assert_eq!(
            ask(&a.namespace, SocketAddr::new(own, APP)).unwrap(),
            format!("{own}\nhello")
        );
    }
    assert_eq!((proxy_a.rest(), proxy_b.rest()), (vec![], vec![]));
    for namespace in [
        &captured(a).mesh,
        &captured(b).mesh,
        &a.namespace,
        &node.namespace,
    ] {
        assert_eq!(tracked(namespace), 0);
    }
}

#[test]
fn the_mesh_port_is_the_proxys() {
    let node = Node::new(&[Kind::Meshed, Kind::Meshed, Kind::Plain]);
    let [a, b, c] = &node.pods[..] else {
        unreachable!()
    };
    serve(&b.namespace, MESH_PORT);
    let proxy = Proxy::start(captured(b));
    for from in [&c.namespace, &node.namespace, &captured(a).mesh] {
        for to in b.addresses() {
            assert_eq!(ask(from, SocketAddr::new(to, MESH_PORT)).unwrap(), "mesh\n");
            assert_eq!(proxy.saw().way, Way::Mesh);
        }
    }
}

#[test]
fn the_proxys_ports_are_nobodys_from_outside() {
    let node = Node::new(&[Kind::Meshed, Kind::Plain]);
    let [a, c] = &node.pods[..] else {
        unreachable!()
    };
    let proxy = Proxy::start(captured(a));
    for port in [capture::OUTBOUND_PORT, capture::INBOUND_PORT] {
        serve(&a.namespace, port);
        for (from, to) in pairs(c, a) {
            // They are the application's ports like any other: captured as such, by the listener for what comes in.
            let to = SocketAddr::new(to, port);
            assert_eq!(ask(&c.namespace, to).unwrap(), format!("{from}\nhello"));
            let seen = proxy.saw();
            assert_eq!((seen.way, seen.to), (Way::Inbound, to));
            // Nor does the proxy meet itself.
            let error = ask(&captured(a).mesh, to).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        }
    }
    assert_eq!(proxy.rest(), []);
}

#[test]
fn connections_wait_for_a_proxy_that_is_away() {
    let node = Node::new(&[Kind::Meshed, Kind::Meshed]);
    let [a, b] = &node.pods[..] else {
        unreachable!()
    };
    serve(&b.namespace, APP);
    // Neither runs yet. The connection is begun, and its data is on its way.
    for (from, to) in pairs(a, b) {
        let mut stream = a
            .namespace
            .run(|| TcpStream::connect_timeout(&SocketAddr::new(to, APP), PATIENCE).unwrap())
            .unwrap();
        stream.write_all(b"hello").unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let first = (Proxy::start(captured(a)), Proxy::start(captured(b)));
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert_eq!(text, format!("{from}\nhello"));
        drop(first);
    }
    let _again = (Proxy::start(captured(a)), Proxy::start(captured(b)));
    assert!(ask(&a.namespace, SocketAddr::new(b.v4.into(), APP)).is_ok());
}

#[test]
fn a_dead_proxys_connections_end_and_new_ones_do_not_pass() {
    let node = Node::new(&[Kind::Meshed, Kind::Plain]);
    let [a, c] = &node.pods[..] else {
        unreachable!()
    };
    serve(&c.namespace, APP);
    serve(&a.namespace, APP);
    for (from, to) in [(a, c), (c, a)] {
        for to in to.addresses() {
            let proxy = Proxy::start(captured(a));
            let connect = || {
                let stream =
                    TcpStream::connect_timeout(&SocketAddr::new(to, APP), PATIENCE).unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                stream
            };
            let mut stream = from.namespace.run(connect).unwrap();
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            drop(proxy);
            let ended = stream.read_to_end(&mut Vec::new());
            let reset = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionReset;
            assert!(ended.as_ref().map_or_else(reset, |_| true), "{ended:?}");
            // A new one is begun, answered by nobody, and the server hears of nothing (it would say a line).
            let mut waiting = from.namespace.run(connect).unwrap();
            waiting
                .set_read_timeout(Some(Duration::from_millis(200)))
                .unwrap();
            let silent = waiting.read(&mut byte).unwrap_err();
            assert_eq!(silent.kind(), io::ErrorKind::WouldBlock);
        }
    }
}

/// Begins to send back datagrams.
fn reflect(namespace: &NetNs) {
    let socket = namespace
        .run(|| UdpSocket::bind((Ipv6Addr::UNSPECIFIED, APP)).unwrap())
        .unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 8000];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
            let text = [
                peer.ip().to_canonical().to_string().as_bytes(),
                b"\n",
                &buffer[..length],
            ]
            .concat();
            let _ = socket.send_to(&text, peer);
        }
    });
}

#[test]
fn datagrams_pass_untouched_with_the_proxy_dead() {
    let node = Node::new(&[Kind::Meshed, Kind::Plain]);
    let [a, c] = &node.pods[..] else {
        unreachable!()
    };
    for (client, server) in [(a, c), (c, a)] {
        reflect(&server.namespace);
        for (from, to) in pairs(client, server) {
            for length in [5, 1400, 4000] {
                let text = vec![b'x'; length];
                let got = client.namespace.run(|| {
                    let any: IpAddr = if to.is_ipv4() {
                        [0; 4].into()
                    } else {
                        [0_u16; 8].into()
                    };
                    let socket = UdpSocket::bind((any, 0)).unwrap();
                    socket.set_read_timeout(Some(PATIENCE)).unwrap();
                    socket.send_to(&text, (to, APP)).unwrap();
                    let mut buffer = vec![0; 8000];
                    let length = socket.recv(&mut buffer).unwrap();
                    buffer.truncate(length);
                    buffer
                });
                assert_eq!(
                    got.unwrap(),
                    [format!("{from}\n").as_bytes(), &text].concat()
                );
            }
        }
    }
    assert_eq!(tracked(&captured(a).mesh), 0);
}

/// Sends an echo request and gives whether its answer came.
fn ping(namespace: &NetNs, to: IpAddr, number: u8) -> bool {
    let exchange = || -> io::Result<bool> {
        let (domain, protocol, request, answer) = match to {
            IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4, 8, 0),
            IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6, 128, 129),
        };
        let mut socket = Socket::new(domain, Type::RAW, Some(protocol))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let message = match to {
            IpAddr::V4(_) => maille_tests_netns::frames::icmp(request, 0, &[0, 9, 0, number]),
            // The kernel seals these itself.
            IpAddr::V6(_) => vec![request, 0, 0, 0, 0, 9, 0, number],
        };
        socket.send_to(&message, &SocketAddr::new(to, 0).into())?;
        loop {
            let mut buffer = [0; 200];
            let length = socket.read(&mut buffer)?;
            let at = if to.is_ipv4() { 20 } else { 0 };
            let message = &buffer[at..length];
            if message[0] == answer && message[4..8] == [0, 9, 0, number] {
                return Ok(true);
            }
        }
    };
    namespace.run(exchange).unwrap().unwrap_or(false)
}

#[test]
fn pings_are_answered_by_the_pod() {
    let node = Node::new(&[Kind::Meshed, Kind::Meshed, Kind::Plain]);
    let [a, b, c] = &node.pods[..] else {
        unreachable!()
    };
    for (number, (from, to)) in (0..).zip([(a, c), (c, a), (a, b)]) {
        for address in to.addresses() {
            assert!(ping(&from.namespace, address, number), "{address}");
        }
    }
    // Not by the mesh namespace, which has the same addresses: a pod that is down does not answer.
    let down = || {
        Command::new("ip")
            .args(["link", "set", "eth0", "down"])
            .status()
            .unwrap()
            .success()
    };
    assert!(a.namespace.run(down).unwrap());
    let answered = c.namespace.run(|| {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4)).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(200)))
            .unwrap();
        let message = maille_tests_netns::frames::icmp(8, 0, &[0, 9, 0, 99]);
        socket
            .send_to(&message, &SocketAddr::new(a.v4.into(), 0).into())
            .unwrap();
        (&socket).read(&mut [0; 200]).is_ok()
    });
    assert!(!answered.unwrap());
}

#[test]
fn what_is_dropped_is_counted_by_name() {
    let node = Node::new(&[Kind::Meshed]);
    let wire = maille_tests_netns::lab::Wire::new();
    let captured = wire.capture();
    let port = maille_sys::packet::Port::open(&wire.pod, "eth0").unwrap();
    maille_tests_netns::lab::stay_on_one_cpu();
    for case in maille_tests_netns::evil::lies_of_a_pod(&wire.ends, 9) {
        for frame in case.frames {
            port.send(&frame).unwrap();
        }
    }
    let counters = maille_sys::nft::list(&captured.mesh).unwrap();
    for name in [
        "pod_mac",
        "pod_arp",
        "pod_v4_source",
        "pod_v4_form",
        "pod_v6_source",
        "pod_nd",
    ] {
        let after = counters
            .split(&format!("counter {name} {{"))
            .nth(1)
            .unwrap();
        let packets = after.trim_start().strip_prefix("packets ").unwrap();
        assert!(!packets.starts_with("0 "), "{name}: {counters}");
    }
    drop(node);
}

#[test]
fn removing_twice_is_no_error_and_takes_the_wire_away() {
    let node = Node::new(&[Kind::Meshed]);
    let captured = captured(&node.pods[0]);
    capture::remove(&captured.mesh).unwrap();
    capture::remove(&captured.mesh).unwrap();
    let links = |namespace| {
        maille_sys::link::inside(namespace, async |net| net.links().await)
            .unwrap()
            .into_iter()
            .map(|link| link.name)
            .filter(|name| name != "lo")
            .collect::<Vec<_>>()
    };
    assert_eq!(links(&node.pods[0].namespace), <[&str; 0]>::default());
    assert_eq!(links(&node.namespace), <[&str; 0]>::default());
}
