// SPDX-License-Identifier: Apache-2.0
//! A program in a container of a cluster, started by way of the API server (`pods/exec`), and what it writes as it comes.
//!
//! The API server speaks WebSocket, each message with the number of its stream before it (`v4.channel.k8s.io`, kubernetes/apimachinery
//! `pkg/util/remotecommand/constants.go`). The program's standard input is open for as long as somebody reads: by that it knows when to end.

use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use kube::client::Body;
use serde_json::Value;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::cluster::{self, Cluster};
use crate::failure::Expected;
use crate::query::Query;
use crate::reach::Stream;
use crate::text::clean;

/// How both sides tell streams apart.
const PROTOCOL: &str = "v4.channel.k8s.io";
/// The number of its standard output.
const OUTPUT: u8 = 1;
/// Of its standard error.
const ERROR: u8 = 2;
/// How it ended, as a `Status`.
const STATUS: u8 = 3;
/// Of what it says on standard error, the last that is kept.
const SAID: usize = 4_096;

/// One that runs.
struct Entered {
    socket: WebSocketStream<TokioIo<Upgraded>>,
    /// Its last words.
    said: Vec<u8>,
}

/// Starts `command` in a container: namespace, pod, name. That it fails is the end of what it writes.
pub(crate) async fn stream(
    cluster: &Cluster,
    (namespace, pod, container): (&str, &str, &str),
    command: &[String],
) -> Result<Stream, Expected> {
    let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}/exec");
    let mut query = Query::of(&path).with("container", container);
    for one in ["stdin", "stdout", "stderr"] {
        query = query.with(one, true);
    }
    for word in command {
        query = query.with("command", word);
    }
    let request = Request::get(query.path())
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_VERSION, "13")
        .header(header::SEC_WEBSOCKET_KEY, generate_key())
        .header(header::SEC_WEBSOCKET_PROTOCOL, PROTOCOL)
        .body(Body::empty());
    let request = request.map_err(|error| cluster.silent(anyhow!(error)))?;
    let answer = cluster.send(request).await?;
    let status = answer.status();
    if status != StatusCode::SWITCHING_PROTOCOLS {
        let body = cluster.whole(answer.into_body()).await?;
        return Err(cluster::refused(status, &body));
    }
    let upgraded = hyper::upgrade::on(answer).await;
    let upgraded = upgraded.map_err(|error| cluster.silent(anyhow!(error)))?;
    let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, None);
    let entered = Entered {
        socket: socket.await,
        said: Vec::new(),
    };
    let pieces = stream::unfold(Some(entered), next);
    Ok(StreamBody::new(pieces).boxed_unsync())
}

type Piece = (anyhow::Result<Frame<Bytes>>, Option<Entered>);

/// The next piece, and what is read from then on.
async fn next(entered: Option<Entered>) -> Option<Piece> {
    let mut entered = entered?;
    match entered.piece().await {
        Ok(Some(piece)) => Some((Ok(Frame::data(piece)), Some(entered))),
        Ok(None) => None,
        Err(error) => Some((Err(error), None)),
    }
}

// === impl Entered ===

impl Entered {
    /// What it writes next; nothing when it is done.
    async fn piece(&mut self) -> anyhow::Result<Option<Bytes>> {
        loop {
            let message = self.socket.next().await;
            let message = message.context("the connection to its container has ended")??;
            let Message::Binary(mut bytes) = message else {
                continue;
            };
            if bytes.is_empty() {
                continue;
            }
            let stream = bytes.split_to(1);
            match stream[..] {
                [OUTPUT] if !bytes.is_empty() => return Ok(Some(bytes)),
                [ERROR] => {
                    self.said.extend_from_slice(&bytes);
                    let more = self.said.len().saturating_sub(SAID);
                    self.said.drain(..more);
                }
                [STATUS] => return failure(&bytes, &self.said).map_or(Ok(None), Err),
                _ => {}
            }
        }
    }
}

/// Why a program ended, by its `Status` and its last words; nothing where it was done.
fn failure(status: &[u8], said: &[u8]) -> Option<anyhow::Error> {
    let status: Value = serde_json::from_slice(status).unwrap_or_default();
    if status["status"] == "Success" {
        return None;
    }
    let said = String::from_utf8_lossy(said);
    let why = match said.trim() {
        "" => status["message"].as_str().unwrap_or("it failed"),
        said => said,
    };
    Some(anyhow!(clean(why)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_a_program_ended_is_said_in_its_own_words() {
        assert!(failure(br#"{"status":"Success"}"#, b"a remark\n").is_none());
        let failed =
            br#"{"status":"Failure","message":"command terminated with non-zero exit code"}"#;
        let why = |said: &[u8]| failure(failed, said).unwrap().to_string();
        assert_eq!(why(b"no such pod\x1b\n"), "no such pod\\u{1b}");
        assert!(why(b"").contains("non-zero"));
        assert!(failure(b"junk", b"").is_some());
    }
}
