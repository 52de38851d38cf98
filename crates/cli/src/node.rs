// SPDX-License-Identifier: Apache-2.0
//! The runner's API: what runs, and orders. HTTP and JSON on a unix socket that only its owner may open.
//!
//! Must never wait without a deadline or read without a bound. Read `names.rs` for how people name what the answers hold.

use std::io;
use std::time::Duration;

use anyhow::anyhow;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::api;
use crate::failure::Expected;
use crate::state::State;
use crate::text::clean_lines;

/// How long an answer may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// The longest answer that is read whole.
const MAX_ANSWER: usize = 64 << 20;

#[derive(Debug, Deserialize)]
struct Items {
    items: Vec<Value>,
}

/// Every object as it runs.
pub(crate) async fn objects(state: &State) -> Result<Vec<Value>, Expected> {
    let answer = order(state, Method::GET, "/v1/objects", None).await?;
    let items: Items =
        serde_json::from_value(answer).map_err(|error| silent(state, error.into()))?;
    Ok(items.items)
}

/// Asks for something and reads the answer whole. A refusal is an error with the runner's words.
pub(crate) async fn order(
    state: &State,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> Result<Value, Expected> {
    let exchange = async {
        let response = open(state, method, path, body).await?;
        let (status, bytes) = whole(response)
            .await
            .map_err(|error| silent(state, error))?;
        if !status.is_success() {
            return Err(refused(status, &bytes));
        }
        serde_json::from_slice(&bytes).map_err(|error| silent(state, error.into()))
    };
    timeout(DEADLINE, exchange)
        .await
        .unwrap_or_else(|_| Err(silent(state, anyhow!("no answer in {DEADLINE:?}"))))
}

/// Sends a request on a connection of its own; the answer's body, or what it is upgraded to, is the caller's.
pub(crate) async fn open(
    state: &State,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> Result<Response<Incoming>, Expected> {
    let request = Request::builder().method(method).uri(path);
    send(state, request, body).await
}

/// Asks for a connection that is no HTTP any more once the answer is 101.
pub(crate) async fn upgrade(
    state: &State,
    path: &str,
    body: Option<&Value>,
) -> Result<Response<Incoming>, Expected> {
    let request = Request::post(path)
        .header(header::CONNECTION, "upgrade")
        .header(header::UPGRADE, "maille");
    send(state, request, body).await
}

async fn send(
    state: &State,
    request: http::request::Builder,
    body: Option<&Value>,
) -> Result<Response<Incoming>, Expected> {
    let mut sender = connect(state).await?;
    let text = body.map(Value::to_string).unwrap_or_default();
    let request = request
        .header(header::HOST, "maille")
        .body(Full::new(Bytes::from(text)))
        .map_err(|error| silent(state, error.into()))?;
    let response = timeout(DEADLINE, sender.send_request(request)).await;
    let response = response.map_err(|_| silent(state, anyhow!("no answer in {DEADLINE:?}")))?;
    response.map_err(|error| silent(state, error.into()))
}

async fn connect(state: &State) -> Result<SendRequest<Full<Bytes>>, Expected> {
    let socket = match UnixStream::connect(state.dir().join("node.sock")).await {
        Ok(socket) => socket,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            let name = state.name().to_owned();
            return Err(Expected::NotRunning { name });
        }
        Err(error) => return Err(silent(state, error.into())),
    };
    let (sender, connection) = http1::handshake(TokioIo::new(socket))
        .await
        .map_err(|error| silent(state, error.into()))?;
    let connection = async move {
        // Its errors are those of the exchange on it, which tells them.
        let _ = connection.with_upgrades().await;
    };
    drop(tokio::runtime::Handle::current().spawn(connection));
    Ok(sender)
}

/// Status and body of an answer.
pub(crate) async fn whole(response: Response<Incoming>) -> anyhow::Result<(StatusCode, Bytes)> {
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_ANSWER);
    let body = body.collect().await.map_err(|error| anyhow!(error))?;
    Ok((status, body.to_bytes()))
}

/// What the runner said instead of doing it.
pub(crate) fn refused(status: StatusCode, body: &[u8]) -> Expected {
    // Problems of manifests are a line each.
    let (what, hint) = api::reason(status, body, clean_lines);
    Expected::Refused {
        what,
        hint,
        wrong: false,
    }
}

/// Something runs under that name and does not answer as it should.
pub(crate) fn silent(state: &State, source: anyhow::Error) -> Expected {
    Expected::Silent {
        name: state.name().to_owned(),
        source,
    }
}
