// SPDX-License-Identifier: Apache-2.0
//! Connections of people, of an API server and of proxies: few enough at a time, none for ever. Says nothing about what is
//! answered; that is [`crate::api`]'s, [`crate::gate`]'s and [`crate::serve`]'s.

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use maille_chassis::drain::{Phase, Watch};
use maille_chassis::limited;
use maille_chassis::tasks::Tasks;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// For a request's head, and between requests, of who sits on this machine.
pub const BRIEF: Duration = Duration::from_secs(10);
/// The same of an API server: longer than it keeps a connection that it may use again (90 s), so that it is the one to close it. A
/// question that crosses with our close is lost, and with it a pod.
pub const PATIENT: Duration = Duration::from_secs(150);
/// For a whole connection: it must not hold its place for ever. Who only sits there is ended by the other deadline; a tap may be watched for a day.
const LIFETIME: Duration = Duration::from_secs(24 * 3_600);

/// A socket that takes connections.
pub trait Listener: Send + 'static {
    /// A connection.
    type Stream: Send + 'static;

    /// The next one.
    fn next(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

/// A place among the connections of a listener; given back on drop.
#[derive(Debug)]
pub struct Place {
    _permit: OwnedSemaphorePermit,
}

impl Listener for UnixListener {
    type Stream = UnixStream;

    async fn next(&self) -> io::Result<UnixStream> {
        Ok(self.accept().await?.0)
    }
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    async fn next(&self) -> io::Result<TcpStream> {
        let (stream, _) = self.accept().await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// Binds `address`; where the kernel has no IPv6, every address of IPv4 stands for every address.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Err(error)
            if address.ip().is_unspecified()
                && address.is_ipv6()
                && error.kind() != io::ErrorKind::AddrInUse =>
        {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await
        }
        bound => bound,
    }
}

/// Gives each connection to `handle`, in a task of its own, until the drain begins. At most `places` at a time have a place;
/// others wait in the kernel's queue.
pub async fn serve<L, H, F>(listener: L, places: usize, handle: H, tasks: Tasks, mut drain: Watch)
where
    L: Listener + Sync,
    H: Fn(L::Stream, Place, Watch) -> F + Send,
    F: Future<Output = ()> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(places));
    loop {
        let next = async {
            let place = places.clone().acquire_owned().await;
            (place, listener.next().await)
        };
        let (place, stream) = tokio::select! {
            () = drain.reached(Phase::Graceful) => return,
            next = next => match next {
                (Ok(place), Ok(stream)) => (Place { _permit: place }, stream),
                (_, Err(error)) => {
                    limited!(warn, %error, "connection not accepted");
                    tokio::task::yield_now().await;
                    continue;
                }
                (Err(_), Ok(_)) => return,
            },
        };
        tasks.spawn("connection", handle(stream, place, drain.clone()));
    }
}

/// Answers HTTP/1 on a connection by `router`, each head within `head`; what was begun when the drain begins may end.
pub async fn talk<S>(stream: S, router: Router, head: Duration, mut drain: Watch)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = TowerToHyperService::new(router);
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(head);
    let mut connection = std::pin::pin!(server.serve_connection(TokioIo::new(stream), service));
    let ended = timeout(LIFETIME, async {
        tokio::select! {
            ended = connection.as_mut() => ended,
            () = drain.reached(Phase::Graceful) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        }
    });
    if let Ok(Err(error)) = ended.await {
        tracing::debug!(%error, "connection ended");
    }
}
