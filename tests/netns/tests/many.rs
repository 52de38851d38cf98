// SPDX-License-Identifier: Apache-2.0
//! One client holds 10,000 connections to one destination, through the capture of both ends, and every one of them works.
//!
//! A process may not have that many descriptors, but a thread with a table of its own (`CLONE_FILES`) may.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::io::{Read as _, Write as _};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use maille_node::capture::{Captured, TO_POD};
use maille_sys::NetNs;
use maille_sys::socket::{ConnectSpec, connect, original_destination};
use maille_tests_netns::lab::{Kind, Node, Pod, tracked};
use maille_tests_netns::proxy::Way;
use nix::sched::{CloneFlags, unshare};
use socket2::{Domain, Socket, Type};

const CONNECTIONS: usize = 10_000;
/// A proxy needs two descriptors for each: shared between two tables it fits in the usual limit.
const SHARES: usize = 2;
const PATIENCE: Duration = Duration::from_secs(60);
const APP: u16 = 8080;
/// The client, the server, and the shares of two proxies.
const THREADS: usize = 2 + 2 * SHARES;

/// Where the threads wait for each other, but not for ever: one that failed does not come.
#[derive(Debug, Default)]
struct Meeting {
    came: Mutex<usize>,
    changed: Condvar,
}

impl Meeting {
    /// Waits until everybody came as often as the caller.
    fn wait(&self, times: usize) {
        let mut came = self.came.lock().unwrap();
        *came += 1;
        self.changed.notify_all();
        let missing = |came: &mut usize| *came < times * THREADS;
        let (_came, waited) = self
            .changed
            .wait_timeout_while(came, PATIENCE, missing)
            .unwrap();
        assert!(!waited.timed_out(), "somebody failed");
    }
}

/// Runs `work` on a thread inside `namespace` with descriptors of its own.
fn apart(namespace: &NetNs, work: impl FnOnce() + Send + 'static) -> thread::JoinHandle<()> {
    let run = move || {
        unshare(CloneFlags::CLONE_FILES).unwrap();
        work();
    };
    namespace.run(|| thread::spawn(run)).unwrap()
}

/// Accepting fails where nobody comes.
fn patient(listener: &TcpListener) {
    listener.set_nonblocking(false).unwrap();
    socket2::SockRef::from(listener)
        .set_read_timeout(Some(PATIENCE))
        .unwrap();
}

fn blocking(stream: TcpStream) -> TcpStream {
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// One share of a proxy: takes its connections, dials on, and passes one byte on and one back on each.
fn share(captured: &Captured, way: Way, all: &Arc<Meeting>) -> thread::JoinHandle<()> {
    let listener: &OwnedFd = match way {
        Way::Outbound => &captured.listeners.outbound,
        Way::Inbound | Way::Mesh | Way::Metrics => &captured.listeners.inbound,
    };
    let listener = TcpListener::from(listener.try_clone().unwrap());
    let all = all.clone();
    apart(&captured.mesh, move || {
        patient(&listener);
        let mut pairs = Vec::new();
        for _ in 0..CONNECTIONS / SHARES {
            let (client, peer) = listener.accept().unwrap();
            let to = original_destination(&client).unwrap();
            let spec = match way {
                Way::Outbound => ConnectSpec {
                    to,
                    source: None,
                    mark: None,
                    near: false,
                },
                Way::Inbound | Way::Mesh | Way::Metrics => ConnectSpec {
                    to,
                    source: Some(peer.ip().to_canonical()),
                    mark: Some(TO_POD),
                    near: true,
                },
            };
            let server = connect(&spec).unwrap();
            pairs.push((blocking(client), blocking(server.into())));
        }
        all.wait(1);
        for (client, server) in &mut pairs {
            pass(client, server);
        }
        for (client, server) in &mut pairs {
            pass(server, client);
        }
        all.wait(2);
    })
}

fn pass(from: &mut TcpStream, to: &mut TcpStream) {
    let mut byte = [0];
    from.read_exact(&mut byte).unwrap();
    to.write_all(&byte).unwrap();
}

fn server(pod: &Pod, all: &Arc<Meeting>) -> thread::JoinHandle<()> {
    let all = all.clone();
    let source = SocketAddr::from(([10, 244, 0, 2], 0)).ip();
    // With a short queue the pod's own kernel would answer by cookies and forget connections whose last ACK it dropped;
    // as nobody sends before all are there, nobody would ever hear of it.
    let listen = || {
        let socket = Socket::new(Domain::IPV6, Type::STREAM, None).unwrap();
        socket.set_only_v6(false).unwrap();
        socket
            .bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, APP)).into())
            .unwrap();
        socket.listen(4096).unwrap();
        TcpListener::from(socket)
    };
    let listener = pod.namespace.run(listen).unwrap();
    apart(&pod.namespace, move || {
        patient(&listener);
        let mut streams = Vec::new();
        for _ in 0..CONNECTIONS {
            let (stream, peer) = listener.accept().unwrap();
            assert_eq!(peer.ip().to_canonical(), source);
            streams.push(blocking(stream));
        }
        all.wait(1);
        for stream in &mut streams {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            stream.write_all(&[byte[0] + 1]).unwrap();
        }
        all.wait(2);
    })
}

#[test]
fn ten_thousand_connections_to_one_destination() {
    let node = Node::new(&[Kind::Meshed, Kind::Meshed]);
    let [a, b] = &node.pods[..] else {
        unreachable!()
    };
    let (near, far) = (a.captured.as_ref().unwrap(), b.captured.as_ref().unwrap());
    let all = Arc::new(Meeting::default());
    let mut threads = vec![server(b, &all)];
    for _ in 0..SHARES {
        threads.push(share(near, Way::Outbound, &all));
        threads.push(share(far, Way::Inbound, &all));
    }
    let to = SocketAddr::new(b.v4.into(), APP);
    let at = all;
    threads.push(apart(&a.namespace, move || {
        let connect = |_| blocking(TcpStream::connect_timeout(&to, PATIENCE).unwrap());
        let mut streams: Vec<_> = (0..CONNECTIONS).map(connect).collect();
        at.wait(1);
        for stream in &mut streams {
            stream.write_all(&[7]).unwrap();
        }
        for stream in &mut streams {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            assert_eq!(byte, [8]);
        }
        at.wait(2);
    }));
    for thread in threads {
        thread.join().unwrap();
    }
    for namespace in [&near.mesh, &far.mesh, &a.namespace, &b.namespace] {
        assert_eq!(tracked(namespace), 0);
    }
}
