// SPDX-License-Identifier: Apache-2.0
//! Links of pods that carry less than usual, or more: a captured pod's is as it was, whatever goes through it arrives whole, and who sends
//! more than a link further on carries learns it.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use maille_node::capture::{POD, WIRE};
use maille_sys::NetNs;
use maille_sys::link;
use maille_tests_netns::lab::{Kind, Node, Pod};
use maille_tests_netns::proxy::Proxy;

const PATIENCE: Duration = Duration::from_secs(10);
const APP: u16 = 8080;
/// Bytes that go each way: many segments on every link.
const MANY: usize = 1 << 18;
/// Datagrams are sent again after so long, so many times: the first ones tell the sender how much the way carries.
const AGAIN: Duration = Duration::from_millis(250);
const TIMES: usize = 40;
/// The least that is supported, that of an overlay, the usual, and that of a data centre.
const MTUS: [u32; 4] = [1300, 1440, 1500, 9000];

fn mtu(namespace: &NetNs, name: &str) -> u32 {
    let read = link::inside(namespace, async |net| net.link(name).await);
    read.unwrap().mtu
}

/// Sends back whatever comes, on TCP and UDP.
fn echo(namespace: &NetNs) {
    let any = (Ipv6Addr::UNSPECIFIED, APP);
    let (listener, socket) = namespace
        .run(|| {
            (
                TcpListener::bind(any).unwrap(),
                UdpSocket::bind(any).unwrap(),
            )
        })
        .unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || -> io::Result<()> {
                let mut all = vec![0; MANY];
                stream.read_exact(&mut all)?;
                stream.write_all(&all)
            });
        }
    });
    thread::spawn(move || {
        let mut buffer = vec![0; 16_000];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
            // One that cannot be sent whole yet is asked for again.
            let _ = socket.send_to(&buffer[..length], peer);
        }
    });
}

/// What comes back of `text` on TCP.
fn stream(from: &NetNs, to: IpAddr, text: &[u8]) -> Vec<u8> {
    let sent = from.run(|| -> io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect_timeout(&SocketAddr::new(to, APP), PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(text)?;
        let mut all = vec![0; text.len()];
        stream.read_exact(&mut all)?;
        Ok(all)
    });
    sent.unwrap().unwrap()
}

/// What comes back of `text` on UDP.
fn datagram(from: &NetNs, to: IpAddr, text: &[u8]) -> Vec<u8> {
    let any: IpAddr = match to {
        IpAddr::V4(_) => [0; 4].into(),
        IpAddr::V6(_) => [0_u16; 8].into(),
    };
    let heard = from.run(|| {
        let socket = UdpSocket::bind((any, 0)).unwrap();
        socket.set_read_timeout(Some(AGAIN)).unwrap();
        let mut buffer = vec![0; 16_000];
        let heard = (0..TIMES).find_map(|_| {
            // The first one may be too long for the way.
            let _ = socket.send_to(text, (to, APP));
            socket.recv(&mut buffer).ok()
        });
        buffer.truncate(heard.unwrap_or(0));
        buffer
    });
    heard.unwrap()
}

fn everything_arrives(client: &Pod, server: &Pod) {
    let text: Vec<u8> = (0..MANY).map(|n| u8::try_from(n % 251).unwrap()).collect();
    for to in server.addresses() {
        assert_eq!(stream(&client.namespace, to, &text), text);
        for length in [5, 1250, 1400, 8900] {
            let text = &text[..length];
            assert_eq!(
                datagram(&client.namespace, to, text),
                text,
                "{length} to {to}"
            );
        }
    }
}

#[test]
fn every_link_is_as_it_was_and_carries_everything() {
    for carries in MTUS {
        let node = Node::with_mtus(&[(Kind::Meshed, carries), (Kind::Plain, carries)]);
        let [a, c] = &node.pods[..] else {
            unreachable!()
        };
        let captured = a.captured.as_ref().unwrap();
        assert_eq!(mtu(&a.namespace, "eth0"), carries);
        assert_eq!(mtu(&captured.mesh, POD), carries);
        assert_eq!(mtu(&captured.mesh, WIRE), carries);
        let _proxy = Proxy::start(captured);
        for pod in [a, c] {
            echo(&pod.namespace);
        }
        everything_arrives(a, c);
        everything_arrives(c, a);
    }
}

#[test]
fn who_sends_more_than_the_way_carries_learns_it() {
    let node = Node::with_mtus(&[
        (Kind::Meshed, 9000),
        (Kind::Meshed, 1300),
        (Kind::Plain, 1300),
    ]);
    let [a, b, c] = &node.pods[..] else {
        unreachable!()
    };
    let _proxies = [a, b].map(|pod| Proxy::start(pod.captured.as_ref().unwrap()));
    for pod in [a, b, c] {
        echo(&pod.namespace);
    }
    for other in [b, c] {
        everything_arrives(a, other);
        everything_arrives(other, a);
    }
}
