// SPDX-License-Identifier: Apache-2.0
//! The HTTP client that the roles use among each other: keep-alive connections, no retries.
//!
//! Must never send a request twice: whoever counts lost requests counts them here. Read `front.rs` next.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use http::header::HOST;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// How long one request may take, connecting included.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// The longest answer that is read.
const MAX_ANSWER: usize = 1 << 20;

/// Idle connections kept.
const MAX_IDLE: usize = 256;

/// One HTTP/1.1 connection.
pub(crate) type Connection = SendRequest<Full<Bytes>>;

/// Connections to one `host:port`.
#[derive(Debug)]
pub(crate) struct Pool {
    to: String,
    marker: String,
    idle: Mutex<Vec<Connection>>,
}

impl Pool {
    /// A pool without connections yet. Every request will carry `marker`.
    pub(crate) const fn new(to: String, marker: String) -> Self {
        Self {
            to,
            marker,
            idle: Mutex::new(Vec::new()),
        }
    }

    /// Asks for `path` and gives the text, which must carry the marker too.
    pub(crate) async fn ask(&self, method: Method, path: &str) -> anyhow::Result<String> {
        let exchange = self.exchange(method, path);
        timeout(DEADLINE, exchange)
            .await
            .with_context(|| format!("{}{path}: no answer in {DEADLINE:?}", self.to))?
            .with_context(|| format!("{}{path}", self.to))
    }

    async fn exchange(&self, method: Method, path: &str) -> anyhow::Result<String> {
        let mut connection = match self.take().await {
            Some(connection) => connection,
            None => connect(&self.to).await?,
        };
        let request = request(method, path, &self.to, &self.marker)?;
        let text = send(&mut connection, request, &self.marker).await?;
        self.keep(connection);
        Ok(text)
    }

    async fn take(&self) -> Option<Connection> {
        loop {
            let popped = {
                let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
                idle.pop()
            };
            let mut connection = popped?;
            // One that the other side has closed meanwhile is not used; nothing was sent on it.
            if connection.ready().await.is_ok() {
                return Some(connection);
            }
        }
    }

    fn keep(&self, connection: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE && !connection.is_closed() {
            idle.push(connection);
        }
    }
}

/// A request that carries the marker in a header, and in the body where it has one.
pub(crate) fn request(
    method: Method,
    path: &str,
    host: &str,
    marker: &str,
) -> anyhow::Result<Request<Full<Bytes>>> {
    let body = match method {
        Method::POST => Bytes::from(format!("one thing, please: {marker}\n")),
        _ => Bytes::new(),
    };
    Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, host)
        .header("x-loom-marker", marker)
        .header("user-agent", "loom/0.1")
        .header("accept", "text/plain")
        .body(Full::new(body))
        .context("failed to build the request")
}

/// The name of those that are ready behind `to` (`host:port`): of the headless service `HOST-ready`. An address has none
/// but itself.
pub(crate) fn ready_name(to: &str) -> String {
    match to.rsplit_once(':') {
        Some((host, port)) if host.parse::<IpAddr>().is_err() => format!("{host}-ready:{port}"),
        _ => to.to_owned(),
    }
}

/// Waits until something serves behind `to` (`host:port`): until the headless service `HOST-ready` has an address, and `to`
/// takes a connection. So no request is sent that nobody could answer, whoever carries it.
pub(crate) async fn served(to: &str) {
    let ready = ready_name(to);
    if ready == to {
        // Whoever gives an address knows that it is served.
        return;
    }
    let mut tick = interval(Duration::from_millis(50));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let served = tokio::net::lookup_host(&ready).await.is_ok();
        // Names are quicker than routes.
        let connect = async { TcpStream::connect(to).await.is_ok() };
        if served && timeout(DEADLINE, connect).await == Ok(true) {
            return;
        }
    }
}

/// Connects to `host:port`.
pub(crate) async fn connect(to: &str) -> anyhow::Result<Connection> {
    let socket = TcpStream::connect(to).await.context("failed to connect")?;
    // A client whose latencies are measured does not wait for more bytes.
    let _ = socket.set_nodelay(true);
    let (sender, connection) = handshake(TokioIo::new(socket))
        .await
        .context("failed to start HTTP")?;
    // The task ends with the connection; its error reaches whoever waits for an answer.
    drop(tokio::runtime::Handle::current().spawn(connection));
    Ok(sender)
}

/// Sends one request and gives the whole answer, which must be 200 and carry `marker`.
pub(crate) async fn send(
    connection: &mut Connection,
    request: Request<Full<Bytes>>,
    marker: &str,
) -> anyhow::Result<String> {
    let response = connection.send_request(request).await?;
    let status = response.status();
    let body = match Limited::new(response.into_body(), MAX_ANSWER)
        .collect()
        .await
    {
        Ok(body) => body.to_bytes(),
        Err(error) => bail!("answer broke off: {error}"),
    };
    let text = String::from_utf8_lossy(&body).into_owned();
    ensure!(status.is_success(), "{status}: {}", text.trim());
    ensure!(text.contains(marker), "answer without the marker");
    Ok(text)
}
