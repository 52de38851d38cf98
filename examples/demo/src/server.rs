// SPDX-License-Identifier: Apache-2.0
//! The listener that every role uses, and the HTTP server of those that speak it: `/ready`, and the role's own answers.
//!
//! Must never close a connection whose client was not told. Read a role (`catalog.rs`) next.

use std::convert::Infallible;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::stop::{Phase, Stop};

/// How long open exchanges may take once the role closes.
pub(crate) const LAST_WORDS: Duration = Duration::from_secs(1);

/// Connections served at once; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 4096;

/// A role's own part.
pub(crate) trait Role: Send + Sync + 'static {
    /// Answers everything but `/ready`.
    fn answer(
        &self,
        request: Request<Incoming>,
    ) -> impl Future<Output = anyhow::Result<String>> + Send;

    /// Whether it can do its work.
    fn ready(&self) -> impl Future<Output = bool> + Send {
        async { true }
    }
}

/// Serves `role` on every address, IPv4 and IPv6, until `stop`.
pub(crate) async fn serve<R: Role>(port: u16, role: R, stop: Stop) -> anyhow::Result<()> {
    let role = Arc::new(role);
    each(listen(port).await?, stop, move |socket, stop| {
        connection(socket, Arc::clone(&role), stop)
    })
    .await
}

/// Runs `work` for each connection, until the role closes; then what is left has a moment for its last words.
pub(crate) async fn each<F, W>(listener: TcpListener, mut stop: Stop, work: F) -> anyhow::Result<()>
where
    F: Fn(TcpStream, Stop) -> W,
    W: Future<Output: Send> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let room = connections.len() < MAX_CONNECTIONS;
        tokio::select! {
            accepted = listener.accept(), if room => {
                let (socket, _) = accepted.context("failed to accept a connection")?;
                // Nagle's algorithm would add its delay to every latency that the example shows.
                let _ = socket.set_nodelay(true);
                connections.spawn(work(socket, stop.clone()));
            }
            _ = connections.join_next(), if !room => {}
            () = stop.reached(Phase::Closing) => break,
        }
    }
    drop(listener);
    let all = async { while connections.join_next().await.is_some() {} };
    // What is left after the deadline is cut by leaving.
    let _ = timeout(LAST_WORDS, all).await;
    Ok(())
}

/// A listener on `port` of every address.
pub(crate) async fn listen(port: u16) -> anyhow::Result<TcpListener> {
    let six = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    let four = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    TcpListener::bind([six, four].as_slice())
        .await
        .with_context(|| format!("failed to listen on port {port}"))
}

async fn connection<R: Role>(socket: TcpStream, role: Arc<R>, mut stop: Stop) {
    let phase = stop.clone();
    let service = hyper::service::service_fn(move |request| {
        let (role, phase) = (Arc::clone(&role), phase.clone());
        async move { Ok::<_, Infallible>(exchange(request, &*role, &phase).await) }
    });
    let connection =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        // A client that breaks off is its own business.
        _ = connection.as_mut() => return,
        () = stop.reached(Phase::Closing) => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

async fn exchange<R: Role>(
    request: Request<Incoming>,
    role: &R,
    stop: &Stop,
) -> Response<Full<Bytes>> {
    let (status, text) = if request.uri().path() == "/ready" {
        if stop.phase() == Phase::Serving && role.ready().await {
            (StatusCode::OK, "ready\n".to_owned())
        } else {
            (StatusCode::SERVICE_UNAVAILABLE, "not ready\n".to_owned())
        }
    } else {
        match role.answer(request).await {
            Ok(text) => (StatusCode::OK, text),
            Err(error) => (StatusCode::BAD_GATEWAY, format!("{error:#}\n")),
        }
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    if stop.phase() != Phase::Serving {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
