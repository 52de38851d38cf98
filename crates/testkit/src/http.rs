// SPDX-License-Identifier: Apache-2.0
//! One HTTP exchange over a unix socket. Read `up.rs` for the user.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::time::timeout;

/// How long one exchange may take.
const DEADLINE: Duration = Duration::from_secs(5);

/// Asks the server at `socket`; anything but a 2xx answer is an error. An answer without a body is `null`.
pub async fn ask(socket: &Path, method: Method, path: &str) -> anyhow::Result<Value> {
    timeout(DEADLINE, exchange(socket, method.clone(), path))
        .await
        .map_err(|_| anyhow!("no answer in {DEADLINE:?}"))?
        .with_context(|| format!("{method} {path} at {}", socket.display()))
}

async fn exchange(socket: &Path, method: Method, path: &str) -> anyhow::Result<Value> {
    let socket = TokioIo::new(UnixStream::connect(socket).await?);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(socket).await?;
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "maille");
    let request = request.body(Empty::<Bytes>::new())?;
    let answer = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        ensure!(
            status.is_success(),
            "{status}: {}",
            String::from_utf8_lossy(&body).trim()
        );
        if body.is_empty() {
            return Ok(Value::Null);
        }
        Ok(serde_json::from_slice(&body)?)
    };
    let mut connection = std::pin::pin!(connection);
    let mut answer = std::pin::pin!(answer);
    tokio::select! {
        answer = answer.as_mut() => answer,
        ended = connection.as_mut() => {
            ended?;
            answer.await
        }
    }
}
