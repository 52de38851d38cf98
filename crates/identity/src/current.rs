// SPDX-License-Identifier: Apache-2.0
//! A connection that ends when another certificate came into force than the one by which it was opened: whoever dials next
//! shows that one. To its other side the old one counts for nothing once it has expired, however long the connection lives.
//!
//! Must never end before: calls are on it. Read [`crate::tls`] for how it is opened.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::{fmt, io};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;

use crate::Credentials;

/// A connection opened by one certificate.
pub struct Current<S> {
    stream: S,
    /// Done, and gone, when another certificate is in force.
    replaced: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl<S> Current<S> {
    /// `stream` was opened by `own`; `credentials` say what is in force.
    pub fn new(
        stream: S,
        own: &Credentials,
        mut credentials: watch::Receiver<Option<Credentials>>,
    ) -> Self {
        let opened = own.generation();
        let replaced = async move {
            let another = |now: &Option<Credentials>| {
                now.as_ref().is_some_and(|now| now.generation() != opened)
            };
            if credentials.wait_for(another).await.is_err() {
                // There will be no other: the process is ending.
                std::future::pending::<()>().await;
            }
        };
        Self {
            stream,
            replaced: Some(Box::pin(replaced)),
        }
    }

    fn is_over(&mut self, context: &mut Context<'_>) -> bool {
        if let Some(replaced) = &mut self.replaced
            && replaced.as_mut().poll(context).is_ready()
        {
            self.replaced = None;
        }
        self.replaced.is_none()
    }
}

impl<S: fmt::Debug> fmt::Debug for Current<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Current");
        debug.field("stream", &self.stream).finish_non_exhaustive()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Current<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_over(context) {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Current<S> {
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
