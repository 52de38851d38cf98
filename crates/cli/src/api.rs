// SPDX-License-Identifier: Apache-2.0
//! The API of a running mesh: HTTP and JSON on a unix socket that only its owner may open.
//!
//! Must never wait without a deadline or read without a bound. Read `stat.rs` for a user.

use std::io;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::failure::Expected;
use crate::state::State;
use crate::text::clean;

/// How long an answer may take to begin.
pub(crate) const DEADLINE: Duration = Duration::from_secs(15);

/// The longest answer that is read.
pub(crate) const MAX_ANSWER: usize = 32 << 20;

/// One end of an edge. Absent fields mean: nobody that the mesh knows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ref {
    #[serde(default)]
    pub(crate) namespace: String,
    #[serde(default)]
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) meshed: bool,
}

/// `/v1/pods`, of control and of the runner.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Pods {
    pub(crate) pods: Vec<Pod>,
}

/// One pod.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Pod {
    pub(crate) namespace: String,
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) uid: String,
    #[serde(default)]
    pub(crate) owner: Option<Value>,
    /// `outboard` or `none`.
    #[serde(default)]
    pub(crate) capture: Option<String>,
    #[serde(default)]
    pub(crate) ready: bool,
    #[serde(default)]
    pub(crate) phase: String,
    #[serde(default)]
    pub(crate) message: Option<String>,
    #[serde(default)]
    pub(crate) ips: Vec<String>,
    #[serde(default)]
    pub(crate) reporting: bool,
}

/// `/v1/stat`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Stat {
    pub(crate) window_s: f64,
    pub(crate) edges: Vec<Edge>,
    pub(crate) workloads: Vec<Workload>,
}

/// `/v1/stat?resource=...`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Rows {
    pub(crate) window_s: f64,
    pub(crate) rows: Vec<Row>,
}

/// One resource with its traffic.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) kind: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) status: String,
    #[serde(default)]
    pub(crate) pods: PodCount,
    #[serde(default)]
    pub(crate) window: Window,
    #[serde(default)]
    pub(crate) mtls_share: Option<f64>,
    #[serde(default)]
    pub(crate) tcp_open: u64,
    #[serde(default)]
    pub(crate) tcp_bytes_per_second: f64,
}

/// Who talks to whom over what.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Edge {
    pub(crate) from: Option<Ref>,
    pub(crate) to: Option<Ref>,
    #[serde(default)]
    pub(crate) service: Option<String>,
    #[serde(default)]
    pub(crate) port: u16,
    #[serde(default)]
    pub(crate) protocol: String,
    /// `mtls` or `plain`.
    #[serde(default)]
    pub(crate) protection: String,
    pub(crate) total: Total,
    pub(crate) window: Window,
    #[serde(default)]
    pub(crate) flags: Value,
}

/// Since the mesh began.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Total {
    pub(crate) requests: u64,
    pub(crate) failures: u64,
    pub(crate) bytes: u64,
    pub(crate) bytes_protected: u64,
    pub(crate) connections: u64,
}

/// Within the time window.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Window {
    pub(crate) requests: u64,
    pub(crate) failures: u64,
    pub(crate) success_rate: Option<f64>,
    pub(crate) rps: f64,
    pub(crate) p50_ms: Option<f64>,
    pub(crate) p95_ms: Option<f64>,
    pub(crate) p99_ms: Option<f64>,
    pub(crate) bytes: u64,
    pub(crate) bytes_protected: u64,
    pub(crate) connections_open: u64,
}

/// What made some pods, with their traffic.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Workload {
    pub(crate) namespace: String,
    #[serde(default)]
    pub(crate) kind: String,
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) pods: PodCount,
    #[serde(default)]
    pub(crate) inbound: Window,
    #[serde(default)]
    pub(crate) mtls_share: Option<f64>,
    #[serde(default)]
    pub(crate) tcp_connections: u64,
}

/// Pods of one workload.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct PodCount {
    pub(crate) meshed: u64,
    pub(crate) total: u64,
    pub(crate) ready: u64,
}

/// `/v1/check`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Checks {
    pub(crate) checks: Vec<Check>,
    pub(crate) ok: bool,
}

/// One check.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Check {
    #[serde(default)]
    pub(crate) category: String,
    pub(crate) name: String,
    pub(crate) ok: bool,
    #[serde(default)]
    pub(crate) message: Option<String>,
    #[serde(default)]
    pub(crate) hint: Option<String>,
}

/// Asks the mesh of `state` for `path`. Nobody there and no answer are [`Expected`].
pub(crate) async fn get<T: for<'a> Deserialize<'a>>(
    state: &State,
    path: &str,
) -> Result<T, Expected> {
    ask(state, "api.sock", path).await
}

/// The pods as the runner sees them, which it does without control, too.
pub(crate) async fn pods(state: &State) -> Result<Pods, Expected> {
    ask(state, "node.sock", "/v1/pods").await
}

async fn ask<T: for<'a> Deserialize<'a>>(
    state: &State,
    socket: &str,
    path: &str,
) -> Result<T, Expected> {
    let silent = |source| Expected::Silent {
        name: state.name().to_owned(),
        source,
    };
    let socket = connect(state, socket).await?;
    match timeout(DEADLINE, exchange(socket, path)).await {
        Ok(Ok((status, body))) if status.is_success() => serde_json::from_slice(&body)
            .with_context(|| format!("{path}: not the answer this version expects"))
            .map_err(silent),
        Ok(Ok((status, body))) => Err(refused(status, &body)),
        Ok(Err(error)) => Err(silent(error)),
        Err(_) => Err(silent(anyhow!("no answer in {DEADLINE:?}"))),
    }
}

/// What the socket at `socket`, below the directory of `state`, answers to `path`, as it is.
pub(crate) async fn text(state: &State, socket: &str, path: &str) -> Result<Vec<u8>, Expected> {
    let silent = |source| Expected::Silent {
        name: state.name().to_owned(),
        source,
    };
    let socket = connect(state, socket).await?;
    match timeout(DEADLINE, exchange(socket, path)).await {
        Ok(Ok((status, body))) if status.is_success() => Ok(body.to_vec()),
        Ok(Ok((status, body))) => Err(refused(status, &body)),
        Ok(Err(error)) => Err(silent(error)),
        Err(_) => Err(silent(anyhow!("no answer in {DEADLINE:?}"))),
    }
}

/// A connection to one of the sockets of `state`.
pub(crate) async fn connect(state: &State, socket: &str) -> Result<UnixStream, Expected> {
    match UnixStream::connect(state.dir().join(socket)).await {
        Ok(socket) => Ok(socket),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Expected::NotRunning {
            name: state.name().to_owned(),
        }),
        Err(error) => Err(Expected::Silent {
            name: state.name().to_owned(),
            source: error.into(),
        }),
    }
}

/// An answer that says no, in the API's own words where it has any.
pub(crate) fn refused(status: StatusCode, body: &[u8]) -> Expected {
    let (what, hint) = reason(status, body, clean);
    Expected::Refused {
        what,
        hint,
        wrong: status == StatusCode::BAD_REQUEST,
    }
}

/// What such an answer says, made harmless by `harmless`, and what to do about it.
pub(crate) fn reason(
    status: StatusCode,
    body: &[u8],
    harmless: impl Fn(&str) -> String,
) -> (String, Option<String>) {
    #[derive(Deserialize)]
    struct Body {
        error: Text,
    }
    #[derive(Deserialize)]
    struct Text {
        message: String,
        #[serde(default)]
        hint: String,
    }
    let (what, hint) = match serde_json::from_slice::<Body>(body) {
        Ok(body) => (harmless(&body.error.message), clean(&body.error.hint)),
        Err(_) => (harmless(&String::from_utf8_lossy(body)), String::new()),
    };
    let what = match what.trim_end() {
        "" => status.to_string(),
        said => said.to_owned(),
    };
    (what, Some(hint).filter(|hint| !hint.is_empty()))
}

async fn exchange(socket: UnixStream, path: &str) -> anyhow::Result<(StatusCode, Bytes)> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(socket)).await?;
    let request = Request::get(path)
        .header(header::HOST, "maille")
        .body(Empty::<Bytes>::new())?;
    let answer = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER)
            .collect()
            .await;
        let body = body.map_err(|error| anyhow!(error))?.to_bytes();
        anyhow::Ok((status, body))
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::UnixListener;

    use super::*;
    use crate::state::Base;

    /// Asks a state directory whose API answers each request with `answer`, or nobody at all.
    async fn check(answer: Option<&str>) -> Result<Checks, Expected> {
        let dir = tempfile::tempdir().unwrap();
        let state = Base::at(&dir.path().join("m")).state("x").unwrap();
        let held = state.hold().unwrap();
        let Some(answer) = answer else {
            return get(&state, "/v1/check").await;
        };
        let listener = UnixListener::bind(state.dir().join("api.sock")).unwrap();
        let serve = async {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let read = socket.read(&mut request).await.unwrap();
            assert!(request[..read].starts_with(b"GET /v1/check HTTP/1.1\r\n"));
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{answer}",
                answer.len()
            );
            socket.write_all(head.as_bytes()).await.unwrap();
        };
        let (answer, ()) = tokio::join!(get(&state, "/v1/check"), serve);
        drop(held);
        answer
    }

    #[tokio::test]
    async fn answers_and_their_absence() {
        let good = check(Some(
            r#"{"checks":[{"name":"a","ok":true}],"ok":true,"new":1}"#,
        ))
        .await;
        assert!(good.unwrap().ok);
        assert!(matches!(
            check(None).await,
            Err(Expected::NotRunning { .. })
        ));
        assert!(matches!(
            check(Some("[]")).await,
            Err(Expected::Silent { .. })
        ));
        assert!(matches!(
            check(Some("")).await,
            Err(Expected::Silent { .. })
        ));
    }
}
