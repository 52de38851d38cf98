// SPDX-License-Identifier: Apache-2.0
//! A connection whose TLS handshake is over, beside what its other side showed. Bytes pass through it; who was shown is for
//! [`crate::tls`] and [`crate::front`] to say.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsStream;

/// The connection; `P` is what is known of the other side.
#[derive(Debug)]
pub struct Stream<S, P> {
    pub(crate) tls: TlsStream<S>,
    pub(crate) peer: P,
}

impl<S, P> Stream<S, P> {
    /// What it runs over.
    pub fn below(&self) -> &S {
        self.tls.get_ref().0
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin, P: Unpin> AsyncRead for Stream<S, P> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_read(context, into)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin, P: Unpin> AsyncWrite for Stream<S, P> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write(context, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_shutdown(context)
    }
}
