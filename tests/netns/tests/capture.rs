// SPDX-License-Identifier: Apache-2.0
//! What a captured pod can do, seen from both ends: addresses are kept, what the mesh does not carry passes untouched, and
//! connections wait for a proxy that is away.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use maille_node::capture::{self, Captured, MESH_PORT, METRICS_PORT, PodNet};
use maille_sys::NetNs;
use maille_testkit::until;
use maille_tests_netns::frames::icmp;
use maille_tests_netns::lab::{GATEWAY_V6, Kind, Node, Pod, tracked};
use maille_tests_netns::proxy::{Proxy, Way};
use nix::net::if_::if_nametoindex;
use socket2::{Domain, Protocol, Socket, Type};

const PATIENCE: Duration = Duration::from_secs(5);
const APP: u16 = 8080;
/// Datagrams are sent again after so long, so many times: a link that just came up drops some.
const AGAIN: Duration = Duration::from_millis(250);
const TIMES: usize = 40;

/// Begins to answer each connection with the address that it came from, then with what it sent. Tells who connected, in
/// order.
fn serve(namespace: &NetNs, port: u16) -> Receiver<IpAddr> {
    let listener = namespace
        .run(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).unwrap())
        .unwrap();
    let (tell, told) = channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let peer = stream.peer_addr().unwrap().ip().to_canonical();
            // Most tests do not listen.
            let _ = tell.send(peer);
            thread::spawn(move || -> io::Result<()> {
                writeln!(stream, "{peer}")?;
                let mut text = [0; 5];
                stream.read_exact(&mut text)?;
                stream.write_all(&text)
            });
        }
    });
    told
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

/// Whether `link` has an address of its own that may be used: the kernel makes one when the link comes up, and may ask
/// around first whether somebody else has it. Columns: Linux, `net/ipv6/addrconf.c`, `if6_seq_show`.
fn has_link_local(namespace: &NetNs, link: &str) -> bool {
    let text = namespace.run(|| fs::read_to_string("/proc/thread-self/net/if_inet6").unwrap());
    let text = text.unwrap();
    text.lines().any(|line| {
        let columns: Vec<_> = line.split_ascii_whitespace().collect();
        let [_, _, _, "20", flags, name] = columns[..] else {
            return false;
        };
        let tentative = 0x40;
        name == link && u8::from_str_radix(flags, 16).unwrap() & tentative == 0
    })
}

#[tokio::test]
async fn what_is_on_the_link_only_is_passed_on_between_its_two_halves() {
    let node = Node::new(&[Kind::Meshed]);
    let [a] = &node.pods[..] else { unreachable!() };
    for namespace in [&node.namespace, &a.namespace] {
        serve(namespace, APP);
    }
    for (namespace, link) in [(&a.namespace, "eth0"), (&node.namespace, "m2")] {
        let there = || has_link_local(namespace, link).then_some(());
        until(link, PATIENCE, there).await.unwrap();
    }
    let proxy = Proxy::start(captured(a));
    let own = PodNet::read(&a.namespace, "eth0").unwrap().link_local();
    for (namespace, link, to, way) in [
        (&a.namespace, "eth0", GATEWAY_V6, Way::Outbound),
        (&node.namespace, "m2", own, Way::Inbound),
    ] {
        let scope = namespace.run(|| if_nametoindex(link).unwrap()).unwrap();
        let told = ask(namespace, SocketAddrV6::new(to, APP, 0, scope).into()).unwrap();
        let seen = proxy.saw();
        assert_eq!((seen.way, seen.to.ip()), (way, to.into()));
        let from = seen.peer.ip();
        assert_eq!(told, format!("{from}\nhello"));
        assert!((from == own) == (way == Way::Outbound), "{seen:?}");
    }
    assert_eq!(proxy.rest(), []);
}

#[test]
fn two_ports_are_the_proxys() {
    let node = Node::new(&[Kind::Meshed, Kind::Meshed, Kind::Plain]);
    let [a, b, c] = &node.pods[..] else {
        unreachable!()
    };
    let proxy = Proxy::start(captured(b));
    for (port, way) in [(MESH_PORT, Way::Mesh), (METRICS_PORT, Way::Metrics)] {
        serve(&b.namespace, port);
        for from in [&c.namespace, &node.namespace, &captured(a).mesh] {
            for to in b.addresses() {
                assert_eq!(ask(from, SocketAddr::new(to, port)).unwrap(), "mesh\n");
                assert_eq!(proxy.saw().way, way);
            }
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
    // Each in a network of its own: connections that wait would come with the next proxy.
    for (leaves, family) in [(true, 0), (true, 1), (false, 0), (false, 1)] {
        let node = Node::new(&[Kind::Meshed, Kind::Plain]);
        let [a, c] = &node.pods[..] else {
            unreachable!()
        };
        let (from, to) = if leaves { (a, c) } else { (c, a) };
        let (own, address) = pairs(from, to)[family];
        let itself = [IpAddr::from([127, 0, 0, 1]), Ipv6Addr::LOCALHOST.into()][family];
        let told = serve(&to.namespace, APP);
        let connect = || {
            let stream =
                TcpStream::connect_timeout(&SocketAddr::new(address, APP), PATIENCE).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream
        };
        let proxy = Proxy::start(captured(a));
        let mut stream = from.namespace.run(connect).unwrap();
        stream.read_exact(&mut [0]).unwrap();
        assert_eq!(told.recv_timeout(PATIENCE).unwrap(), own);
        drop(proxy);
        let ended = stream.read_to_end(&mut Vec::new());
        let reset = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionReset;
        assert!(ended.as_ref().map_or_else(reset, |_| true), "{ended:?}");
        // A new one begins and waits. The next that the server hears of is its own machine's, made later.
        let waiting = from.namespace.run(connect).unwrap();
        ask(&to.namespace, SocketAddr::new(itself, APP)).unwrap();
        assert_eq!(told.recv_timeout(PATIENCE).unwrap(), itself);
        drop(waiting);
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
                    socket.set_read_timeout(Some(AGAIN)).unwrap();
                    let mut buffer = vec![0; 8000];
                    let heard = (0..TIMES).find_map(|_| {
                        socket.send_to(&text, (to, APP)).unwrap();
                        socket.recv(&mut buffer).ok()
                    });
                    buffer.truncate(heard.unwrap_or(0));
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

/// Pings `first` once and then `second` until it answers; gives the numbers of those that answered.
fn ping(namespace: &NetNs, first: IpAddr, second: IpAddr) -> Vec<u8> {
    let (domain, protocol, request, answer, header) = match second {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4, 8, 0, 20),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6, 128, 129, 0),
    };
    namespace
        .run(|| {
            let socket = Socket::new(domain, Type::RAW, Some(protocol)).unwrap();
            socket.set_read_timeout(Some(AGAIN)).unwrap();
            let send = |to: IpAddr, number: u8| {
                // The kernel seals those of version 6 again.
                let message = icmp(request, 0, &[0, 9, 0, number]);
                socket
                    .send_to(&message, &SocketAddr::new(to, 0).into())
                    .unwrap();
            };
            send(first, 1);
            send(second, 2);
            let mut answered = Vec::new();
            let mut left = TIMES;
            while left > 0 && !answered.contains(&2) {
                let mut buffer = [0; 200];
                let Ok(length) = (&socket).read(&mut buffer) else {
                    left -= 1;
                    send(second, 2);
                    continue;
                };
                let message = &buffer[header..length];
                if message[0] == answer && message[4..7] == [0, 9, 0] {
                    answered.push(message[7]);
                }
            }
            answered
        })
        .unwrap()
}

#[test]
fn pings_are_answered_by_the_pod() {
    let node = Node::new(&[Kind::Meshed, Kind::Meshed, Kind::Plain]);
    let [a, b, c] = &node.pods[..] else {
        unreachable!()
    };
    for (from, to) in [(a, c), (c, a), (a, b)] {
        for address in to.addresses() {
            assert!(
                ping(&from.namespace, address, address).contains(&2),
                "{address}"
            );
        }
    }
    // Not by the mesh namespace, which has the same addresses: a pod that is down is silent, while a later one is heard.
    let down = || {
        Command::new("ip")
            .args(["link", "set", "eth0", "down"])
            .status()
            .unwrap()
            .success()
    };
    assert!(a.namespace.run(down).unwrap());
    for (silent, heard) in pairs(a, b) {
        assert_eq!(ping(&c.namespace, silent, heard), [2]);
    }
}

#[test]
fn what_is_dropped_is_counted_by_name() {
    let wire = maille_tests_netns::lab::Wire::new();
    let captured = wire.capture();
    let port = maille_sys::packet::Port::open(&wire.pod, "eth0").unwrap();
    maille_tests_netns::lab::stay_on_one_cpu();
    let names = [
        "pod_mac",
        "pod_arp",
        "pod_v4_source",
        "pod_v4_form",
        "pod_v6_source",
        "pod_nd",
    ];
    let counted = || {
        for frame in maille_tests_netns::evil::lies_of_a_pod(&wire.ends, 9)
            .iter()
            .flat_map(|case| &case.frames)
        {
            port.send(frame).unwrap();
        }
        let counters = maille_sys::nft::list(&captured.mesh).unwrap();
        names.iter().all(|name| {
            let after = counters
                .split(&format!("counter {name} {{"))
                .nth(1)
                .unwrap();
            !after.trim_start().starts_with("packets 0 ")
        })
    };
    assert!(
        (0..TIMES).any(|_| counted()),
        "{}",
        maille_sys::nft::list(&captured.mesh).unwrap()
    );
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
