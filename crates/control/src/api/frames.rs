// SPDX-License-Identifier: Apache-2.0
//! `GET /v1/capture` and `GET /v1/state`: frames of a pod, and what its kernels hold, as the pod's node tells them. Passed on, never looked at.
//!
//! Who asks names a pod; the node is found here, so that he need not know where the pod runs. Next: [`super`].

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{Request, StatusCode, Uri, header};
use axum::response::Response;
use futures_util::FutureExt as _;
use hyper_util::rt::TokioIo;
use maille_chassis::tasks::Tasks;
use maille_model::WorkloadUid;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::check::Check;
use super::{Api, ApiError};

/// How long the node may take to begin.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of its checks.
const CHECKS: usize = 1 << 20;

/// The parameters.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FramesQuery {
    /// `KIND/NAME`: one of its pods.
    pod: String,
    /// Where.
    namespace: Option<String>,
    /// Which frames, in tcpdump's words.
    filter: Option<String>,
    /// Bytes of a frame that are kept.
    snaplen: Option<u32>,
}

/// Where the node is asked.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its socket.
    pub socket: PathBuf,
    /// What runs connections.
    pub tasks: Tasks,
}

pub(super) async fn capture(
    State(api): State<Arc<Api>>,
    query: Result<Query<FramesQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    pass(&api, query, "frames").await
}

pub(super) async fn state(
    State(api): State<Arc<Api>>,
    query: Result<Query<FramesQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    pass(&api, query, "state").await
}

async fn pass(
    api: &Api,
    query: Result<Query<FramesQuery>, QueryRejection>,
    what: &str,
) -> Result<Response, ApiError> {
    let Query(query) = query.map_err(|rejection| {
        ApiError::bad(
            rejection.body_text(),
            "for example /v1/capture?pod=deploy/web",
        )
    })?;
    let uid = pod(&query.pod, query.namespace.as_deref(), api)?;
    let mut path = format!("/v1/{what}/{uid}?");
    for (name, value) in [
        ("filter", query.filter),
        ("snaplen", query.snaplen.map(|length| length.to_string())),
    ] {
        if let Some(value) = value {
            path.push_str(&format!("{name}={}&", escaped(&value)));
        }
    }
    let away = || {
        ApiError::of(
            StatusCode::BAD_GATEWAY,
            "the pod's node does not answer".to_owned(),
            "see node.log in the state directory",
        )
    };
    let node = api.node.as_ref().ok_or_else(|| {
        ApiError::of(
            StatusCode::NOT_IMPLEMENTED,
            "frames are told by the node of one machine, and this is a cluster".to_owned(),
            "`maille capture` asks the agent of the pod's node itself; where there is none, tcpdump in the pod's network namespace shows them",
        )
    })?;
    let asked = timeout(PATIENCE, ask(node, &path)).await;
    asked.ok().flatten().ok_or_else(away)
}

/// The pod that is meant: one that takes connections before others, and of those the first by its uid, so that two questions mean the same.
pub(super) fn pod(text: &str, namespace: Option<&str>, api: &Api) -> Result<WorkloadUid, ApiError> {
    let resource = super::explain::named(text, namespace, &api.hub)?;
    let world = api.hub.world();
    let pods = resource.pods(&world.index).into_iter();
    let best = pods
        .filter(|pod| pod.has_addresses() && !pod.host_network)
        .max_by_key(|pod| {
            let uid = std::cmp::Reverse(pod.workload.uid.as_str());
            (pod.takes_connections(), !pod.terminating, uid)
        });
    if let Some(pod) = best {
        return Ok(pod.workload.uid.clone());
    }
    ApiError::exists(&resource, &world.index)?;
    Err(ApiError::missing(format!("no pod of {resource} runs")))
}

/// What the node says of its machine and of its captures; nothing where there is none.
pub(super) async fn checks(node: &Option<Node>) -> Vec<Check> {
    let Some(node) = node else {
        return Vec::new();
    };
    said(node).await.unwrap_or_else(|| vec![Check::silent()])
}

async fn said(node: &Node) -> Option<Vec<Check>> {
    #[derive(Deserialize)]
    struct Said {
        checks: Vec<Check>,
    }
    let asked = async {
        let answer = ask(node, "/v1/checks").await?;
        let body = axum::body::to_bytes(answer.into_body(), CHECKS)
            .await
            .ok()?;
        let said: Said = serde_json::from_slice(&body).ok()?;
        Some(said.checks)
    };
    timeout(PATIENCE, asked).await.ok().flatten()
}

async fn ask(node: &Node, path: &str) -> Option<Response> {
    let socket = UnixStream::connect(&node.socket).await.ok()?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake::<_, Body>(TokioIo::new(socket))
            .await
            .ok()?;
    node.tasks.spawn("node question", connection.map(drop));
    let uri: Uri = path.parse().ok()?;
    let request = Request::get(uri)
        .header(header::HOST, "node")
        .body(Body::from(Bytes::new()))
        .ok()?;
    let answer = sender.send_request(request).await.ok()?;
    Some(answer.map(Body::new))
}

/// A value as it stands in a query.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_passed_on_whole() {
        assert_eq!(escaped("port 80 & (tcp)"), "port%2080%20%26%20%28tcp%29");
    }
}
