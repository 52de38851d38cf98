// SPDX-License-Identifier: Apache-2.0
//! The door for proxies of a cluster: TLS connections, each with what it showed. Must never let one in whose handshake is not
//! over, and must never keep one for long that showed nothing ([`super::strangers`]). Read [`super::caller`] for what follows
//! from what was shown.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use maille_chassis::drain::Watch;
use maille_chassis::limited;
use maille_chassis::tasks::Tasks;
use maille_identity::tls::{Acceptor, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

use super::Shown;
use super::strangers::{Stranger, Strangers};
use crate::causes::with_causes;
use crate::listen::{self, Place};

/// Connections at a time: each proxy has one, and a second one while it changes its certificate.
const CONNECTIONS: usize = 40_000;
/// Connections that wait to be served.
const WAITING: usize = 64;
/// For a handshake.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection of a proxy.
#[derive(Debug)]
pub struct Connection {
    stream: Stream<TcpStream>,
    /// It has proved nothing.
    stranger: Option<Stranger>,
    _place: Place,
}

/// The connections that come in on `listener`, shaken hands with by whatever `acceptor` holds, and the task that lets them in.
pub fn open(
    listener: TcpListener,
    acceptor: watch::Receiver<Option<Acceptor>>,
    tasks: Tasks,
    drain: Watch,
) -> (
    ReceiverStream<io::Result<Connection>>,
    impl Future<Output = ()> + use<>,
) {
    let (give, connections) = mpsc::channel(WAITING);
    let strangers = Strangers::default();
    let handle = move |stream: TcpStream, place: Place, _| {
        let source = stream.peer_addr().map(|source| source.ip().to_canonical());
        // Without an address it has gone already.
        let stranger = source
            .as_ref()
            .ok()
            .and_then(|source| strangers.admit(*source));
        let acceptor = acceptor.borrow().clone();
        let give = give.clone();
        async move {
            // Without an authority nobody can be spoken to: he comes again.
            let Some(acceptor) = acceptor else { return };
            let Some(stranger) = stranger else {
                limited!(info, ?source, "too many connections without a certificate");
                return;
            };
            match timeout(PATIENCE, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => {
                    let stranger = stream.peer().is_none().then_some(stranger);
                    let connection = Connection {
                        stream,
                        stranger,
                        _place: place,
                    };
                    // The server has gone: so does the connection.
                    drop(give.send(Ok(connection)).await);
                }
                Ok(Err(error)) => {
                    limited!(info, error = %with_causes(&error), "TLS handshake with a proxy failed");
                }
                Err(_) => limited!(info, "TLS handshake with a proxy took too long"),
            }
        }
    };
    let served = listen::serve(listener, CONNECTIONS, handle, tasks, drain);
    (ReceiverStream::new(connections), served)
}

// === impl Connection ===

impl Connected for Connection {
    type ConnectInfo = Shown;

    fn connect_info(&self) -> Shown {
        Shown(self.stream.peer().cloned())
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(stranger) = &mut self.stranger
            && stranger.poll_over(context).is_ready()
        {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
