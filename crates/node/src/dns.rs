// SPDX-License-Identifier: Apache-2.0
//! The cluster's DNS, on UDP and TCP. Bounded: questions over UDP are answered in turn, TCP has a number of connections and a deadline.
//!
//! It never asks anybody: `answer.rs` holds all that it knows.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use maille_chassis::tasks::Tasks;
use parking_lot::RwLock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::timeout;

mod answer;

pub(crate) use answer::{Names, ServiceNames, Transport, answer};

const TCP_CONNECTIONS: usize = 64;
const TCP_IDLE: Duration = Duration::from_secs(5);
const UDP_LARGEST: usize = 4096;

/// The names as they are now; replaced whole.
pub(crate) type Shared = Arc<RwLock<Arc<Names>>>;

/// Answers on `addresses` until the runtime ends. The addresses must be the machine's.
pub(crate) async fn serve(
    addresses: &[SocketAddr],
    names: &Shared,
    tasks: &Tasks,
) -> io::Result<()> {
    for address in addresses {
        let udp = UdpSocket::bind(address).await?;
        let tcp = TcpListener::bind(address).await?;
        tasks.spawn("dns udp", udp_loop(udp, names.clone()));
        tasks.spawn("dns tcp", tcp_loop(tcp, names.clone(), tasks.clone()));
    }
    Ok(())
}

async fn udp_loop(socket: UdpSocket, names: Shared) {
    let mut buffer = vec![0; UDP_LARGEST];
    loop {
        // An error here is an ICMP message about an earlier answer: nothing to do about it.
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else {
            continue;
        };
        let current = names.read().clone();
        let bytes = buffer.get(..length).unwrap_or_default();
        if let Some(response) = answer(bytes, &current, Transport::Udp) {
            // A client that is gone, or a full socket buffer: it will ask again.
            let _ = socket.try_send_to(&response, from);
        }
    }
}

async fn tcp_loop(listener: TcpListener, names: Shared, tasks: Tasks) {
    let free = Arc::new(Semaphore::new(TCP_CONNECTIONS));
    loop {
        let Ok(permit) = free.clone().acquire_owned().await else {
            return;
        };
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let names = names.clone();
        tasks.spawn("dns tcp connection", async move {
            let _held = permit;
            // The client closed, or was too slow: both end the connection.
            let _ = connection(stream, &names).await;
        });
    }
}

async fn connection(mut stream: TcpStream, names: &Shared) -> io::Result<()> {
    loop {
        let length = timeout(TCP_IDLE, stream.read_u16()).await??;
        let mut bytes = vec![0; usize::from(length)];
        timeout(TCP_IDLE, stream.read_exact(&mut bytes)).await??;
        let current = names.read().clone();
        let Some(response) = answer(&bytes, &current, Transport::Tcp) else {
            return Ok(());
        };
        let Ok(length) = u16::try_from(response.len()) else {
            return Ok(());
        };
        let mut framed = Vec::with_capacity(response.len() + 2);
        framed.extend_from_slice(&length.to_be_bytes());
        framed.extend_from_slice(&response);
        timeout(TCP_IDLE, stream.write_all(&framed)).await??;
    }
}
