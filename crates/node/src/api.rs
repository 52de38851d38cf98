// SPDX-License-Identifier: Apache-2.0
//! The runner's own API: HTTP/1.1 on a 0600 unix socket, for `maille` and the tests. Pods by what they run as, and orders.
//!
//! | request | does |
//! |---|---|
//! | `GET /v1/pods` | the pods with the pids of proxy and containers, and control's |
//! | `POST /v1/pods/NAMESPACE/NAME/delete` | ends a pod gracefully; its Deployment makes another one first |
//! | `POST /v1/control/restart` | kills control, which is started again |

use std::convert::Infallible;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use maille_chassis::tasks::Tasks;
use maille_manifest::marks::CAPTURE;
use serde_json::{Value, json};
use tokio::net::UnixListener;
use tokio::sync::Semaphore;

use crate::cluster::Cluster;
use crate::daemon::Daemon;
use crate::processes::{Processes, Role};
use crate::runner::Pods;

const CONNECTIONS: usize = 16;
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// What the API speaks of.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) processes: Arc<Processes>,
    pub(crate) pods: Arc<Pods>,
    pub(crate) control: Option<Arc<Daemon>>,
}

/// Binds `path` and serves until the process ends.
pub(crate) fn serve(path: &Path, api: Api, tasks: &Tasks) -> io::Result<()> {
    let listener = maille_chassis::admin::bind(path)?;
    let own = tasks.clone();
    tasks.spawn("node api", async move { accept(listener, api, own).await });
    Ok(())
}

async fn accept(listener: UnixListener, api: Api, tasks: Tasks) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else {
            return;
        };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::task::yield_now().await;
            continue;
        };
        let api = api.clone();
        tasks.spawn("node api connection", async move {
            let service = service_fn(|request| {
                let reply = api.respond(&request);
                async move { Ok::<_, Infallible>(reply) }
            });
            let mut server = hyper::server::conn::http1::Builder::new();
            server
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT);
            if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
                tracing::debug!(%error, "api connection ended");
            }
            drop(place);
        });
    }
}

impl Api {
    fn respond<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        let steps: Vec<&str> = request.uri().path().split('/').skip(1).collect();
        let (status, body) = match (request.method(), &steps[..]) {
            (&Method::GET, ["v1", "pods"]) => (StatusCode::OK, self.list()),
            (&Method::POST, ["v1", "pods", namespace, name, "delete"]) => {
                self.delete(namespace, name)
            }
            (&Method::POST, ["v1", "control", "restart"]) => match &self.control {
                Some(control) => {
                    control.restart();
                    (StatusCode::ACCEPTED, json!({}))
                }
                None => (
                    StatusCode::CONFLICT,
                    json!({"error": "there is no control here"}),
                ),
            },
            _ => (StatusCode::NOT_FOUND, json!({"error": "no such page"})),
        };
        let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
        *response.status_mut() = status;
        let json = http::HeaderValue::from_static("application/json");
        response
            .headers_mut()
            .insert(http::header::CONTENT_TYPE, json);
        response
    }

    fn delete(&self, namespace: &str, name: &str) -> (StatusCode, Value) {
        if self.pods.delete(namespace, name) {
            (StatusCode::ACCEPTED, json!({}))
        } else {
            (
                StatusCode::NOT_FOUND,
                json!({"error": format!("no pod {namespace}/{name}")}),
            )
        }
    }

    fn list(&self) -> Value {
        let pods: Vec<Value> = self
            .cluster
            .pods()
            .iter()
            .map(|pod| {
                let uid = &pod.metadata.uid;
                json!({
                    "namespace": pod.metadata.namespace(),
                    "name": pod.metadata.name.as_str(),
                    "uid": uid,
                    "ready": pod.is_ready(),
                    "phase": pod.status.phase,
                    "message": pod.status.message,
                    "capture": pod.metadata.annotations.get(CAPTURE),
                    "ips": pod.addresses().map(|ip| ip.to_string()).collect::<Vec<_>>(),
                    "proxy_pid": self.processes.pid(&Role::Proxy(uid.clone())),
                    "containers": self.processes.containers(uid),
                })
            })
            .collect();
        json!({
            "pods": pods,
            "control_pid": self.processes.pid(&Role::Control),
            "observer_pid": self.processes.pid(&Role::Observer),
        })
    }
}
