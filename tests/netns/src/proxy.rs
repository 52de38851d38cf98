// SPDX-License-Identifier: Apache-2.0
//! The smallest transparent proxy: takes captured connections, dials where they were going, copies. It tells the test what
//! it saw, so that addresses can be compared.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use maille_node::capture::{Captured, TO_POD};
use maille_sys::socket::{ConnectSpec, across, connect, original_destination};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::LocalSet;

/// Which listener took a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the pod.
    Outbound,
    /// To the pod.
    Inbound,
    /// To the mesh port.
    Mesh,
    /// To the proxy's own port.
    Metrics,
}

/// A connection as the proxy saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// By which listener.
    pub way: Way,
    /// Who connected.
    pub peer: SocketAddr,
    /// Where to.
    pub to: SocketAddr,
}

/// A running proxy; dropping it kills it and every connection, while the listeners stay with their holder.
#[derive(Debug)]
pub struct Proxy {
    seen: Receiver<Seen>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Runs in the mesh namespace of `captured`.
    pub fn start(captured: &Captured) -> Self {
        let listeners = &captured.listeners;
        let sockets = [
            (Way::Outbound, copy(&listeners.outbound)),
            (Way::Inbound, copy(&listeners.inbound)),
            (Way::Mesh, copy(&listeners.mesh)),
            (Way::Metrics, copy(&listeners.metrics)),
        ];
        let (told, seen) = channel();
        let (stop, stopped) = oneshot::channel();
        let run = move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let tasks = LocalSet::new();
            for (way, listener) in sockets {
                let told = told.clone();
                tasks.spawn_local(async move {
                    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                    loop {
                        let (stream, peer) = listener.accept().await.unwrap();
                        let to = original_destination(&stream).unwrap();
                        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
                        // Nobody listens once the test is over.
                        let _ = told.send(Seen { way, peer, to });
                        tokio::task::spawn_local(relay(way, stream, peer, to));
                    }
                });
            }
            let _ = runtime.block_on(tasks.run_until(stopped));
        };
        // A thread that is made inside a namespace stays there.
        let thread = captured.mesh.run(|| std::thread::spawn(run)).unwrap();
        Self {
            seen,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// The next connection that it saw.
    pub fn saw(&self) -> Seen {
        self.seen
            .recv_timeout(Duration::from_secs(5))
            .expect("the proxy saw no connection")
    }

    /// What it saw and nobody asked for yet.
    pub fn rest(&self) -> Vec<Seen> {
        self.seen.try_iter().collect()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn relay(way: Way, mut client: TcpStream, peer: SocketAddr, to: SocketAddr) {
    if matches!(way, Way::Mesh | Way::Metrics) {
        // Answers for itself: nothing else speaks on these ports here.
        let mut heard = [0; 5];
        if client.read_exact(&mut heard).await.is_ok() {
            let _ = client.write_all(b"mesh\n").await;
        }
        return;
    }
    let spec = match way {
        Way::Outbound => ConnectSpec {
            to,
            source: None,
            mark: None,
            near: false,
        },
        Way::Inbound | Way::Mesh | Way::Metrics => ConnectSpec {
            to,
            source: Some(peer.ip()),
            mark: Some(TO_POD),
            near: true,
        },
    };
    let spec = ConnectSpec {
        to: across(to).unwrap(),
        ..spec
    };
    let Ok(socket) = connect(&spec) else { return };
    let Ok(mut server) = TcpStream::from_std(socket.into()) else {
        return;
    };
    if server.writable().await.is_err() || server.take_error().ok().flatten().is_some() {
        return;
    }
    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
}

fn copy(listener: &OwnedFd) -> TcpListener {
    listener.try_clone().unwrap().into()
}
