// SPDX-License-Identifier: Apache-2.0
//! The requests whose answer is a stream: a container's log, a command, a connection to a port.
//!
//! The last two answer 101 and are then no HTTP any more: channels (`maille_chassis::channels`), or bytes as they are.

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use maille_manifest::objects::Pod;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::{Api, Body, Reply, absent, refused, reply};
use crate::enter::{self, EnterError, Order};
use crate::logs::follow::{self, Wanted};

/// The largest order.
const ORDER_BYTES: usize = 1 << 20;
/// Pieces of a log on their way.
const PIECES: usize = 8;

impl Api {
    fn pod(&self, namespace: &str, name: &str) -> Result<Pod, Box<Response<Body>>> {
        let pods = self.cluster.pods();
        let is =
            |pod: &Pod| pod.metadata.namespace() == namespace && pod.metadata.name.as_str() == name;
        pods.into_iter()
            .find(is)
            .ok_or_else(|| Box::new(reply(absent(namespace, name))))
    }

    /// `GET .../log?container=NAME&tail=N&follow=1&previous=1`
    pub(super) fn log(&self, namespace: &str, name: &str, query: &str) -> Response<Body> {
        let pod = match self.pod(namespace, name) {
            Ok(pod) => pod,
            Err(reply) => return *reply,
        };
        let wanted = match Wanted::read(&pod, query) {
            Ok(wanted) => wanted,
            Err(reason) => {
                let hint = "for example ?container=NAME&tail=10&follow=1";
                return reply(refused(StatusCode::BAD_REQUEST, &reason, hint));
            }
        };
        let dir = self.cluster.pod_dir(&pod.metadata.uid);
        let (pieces, heard) = mpsc::channel(PIECES);
        let (cluster, clock, uid) = (self.cluster.clone(), self.clock, pod.metadata.uid);
        self.tasks.spawn("log", async move {
            let exists = || cluster.pods().iter().any(|pod| pod.metadata.uid == uid);
            follow::send(&dir, &wanted, exists, clock, pieces).await;
        });
        let pieces = ReceiverStream::new(heard).map(|piece| Ok(Frame::data(Bytes::from(piece))));
        let mut response = Response::new(StreamBody::new(pieces).boxed_unsync());
        let text = http::HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, text);
        response
    }

    /// `POST .../exec` with an [`Order`].
    pub(super) async fn exec(
        &self,
        namespace: &str,
        name: &str,
        mut request: Request<Incoming>,
    ) -> Response<Body> {
        let pod = match self.pod(namespace, name) {
            Ok(pod) => pod,
            Err(reply) => return *reply,
        };
        let upgrade = hyper::upgrade::on(&mut request);
        let body = Limited::new(request.into_body(), ORDER_BYTES)
            .collect()
            .await;
        let body = body
            .map(http_body_util::Collected::to_bytes)
            .unwrap_or_default();
        let order: Order = match serde_json::from_slice(&body) {
            Ok(order) => order,
            Err(error) => {
                let hint = "a body is JSON, as in {\"command\":[\"ls\"]}";
                return reply(refused(StatusCode::BAD_REQUEST, &error.to_string(), hint));
            }
        };
        let running = self.processes.containers(&pod.metadata.uid);
        let entered = enter::container(&pod, &running, order.container.as_deref()).and_then(
            |(container, pid)| {
                let group = self.limiter.of(&pod.metadata.uid, &container);
                enter::start(&order, &pod, (&container, pid), group.as_ref())
            },
        );
        match entered {
            Ok(entered) => {
                self.tasks.spawn("exec", async move {
                    let Ok(upgraded) = upgrade.await else { return };
                    let (from, to) = tokio::io::split(TokioIo::new(upgraded));
                    if let Err(error) = enter::talk::carry(entered, from, to).await {
                        tracing::debug!(%error, "a command's streams broke off");
                    }
                });
                switching()
            }
            Err(error) => reply(unentered(&error)),
        }
    }

    /// `POST .../port-forward?port=N`
    pub(super) async fn forward(
        &self,
        namespace: &str,
        name: &str,
        mut request: Request<Incoming>,
    ) -> Response<Body> {
        let pod = match self.pod(namespace, name) {
            Ok(pod) => pod,
            Err(reply) => return *reply,
        };
        let port = request
            .uri()
            .query()
            .and_then(|query| query.strip_prefix("port="));
        let Some(port) = port
            .and_then(|port| port.parse::<u16>().ok())
            .filter(|port| *port > 0)
        else {
            let why = "it does not say to which port";
            return reply(refused(StatusCode::BAD_REQUEST, why, "say ?port=N"));
        };
        let upgrade = hyper::upgrade::on(&mut request);
        let running = self.processes.containers(&pod.metadata.uid);
        let connected = match running.values().next() {
            Some(pid) => enter::connect(*pid, port).await,
            None => Err(EnterError::Nothing),
        };
        match connected {
            Ok(stream) => {
                self.tasks.spawn("port-forward", join(upgrade, stream));
                switching()
            }
            Err(error) => reply(unentered(&error)),
        }
    }
}

/// Bytes both ways until both have ended.
async fn join(upgrade: OnUpgrade, mut stream: tokio::net::TcpStream) {
    let Ok(upgraded) = upgrade.await else { return };
    let mut upgraded = TokioIo::new(upgraded);
    // A side that breaks off is its own business.
    let _ = tokio::io::copy_bidirectional(&mut upgraded, &mut stream).await;
}

fn switching() -> Response<Body> {
    let mut response = Response::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(
        header::CONNECTION,
        http::HeaderValue::from_static("upgrade"),
    );
    headers.insert(header::UPGRADE, http::HeaderValue::from_static("maille"));
    response
}

fn unentered(error: &EnterError) -> Reply {
    let (status, hint) = match error {
        EnterError::Container(..) | EnterError::NoCommand => (StatusCode::BAD_REQUEST, ""),
        EnterError::NotRunning(_) | EnterError::Nothing => (
            StatusCode::CONFLICT,
            "maille logs --previous shows why it ended",
        ),
        EnterError::Enter(_) | EnterError::Start(_) => (
            StatusCode::BAD_GATEWAY,
            "is the program there, for this container's user?",
        ),
        EnterError::Port { .. } => (
            StatusCode::BAD_GATEWAY,
            "does the application listen there, on every address or on 127.0.0.1?",
        ),
    };
    refused(status, &error.to_string(), hint)
}
