// SPDX-License-Identifier: Apache-2.0
//! The runner's own API: HTTP/1.1 on a 0600 unix socket, for `maille` and the tests. What runs, and orders.
//!
//! | request | does |
//! |---|---|
//! | `GET /v1/pods` | the pods with the pids of proxy and containers, and control's |
//! | `GET /v1/objects` | every object as it runs, pods and Deployments with their status, as Kubernetes writes them |
//! | `POST /v1/apply` | takes new manifests in place of all earlier ones: `{"files":[[NAME, TEXT], ...]}`; tells what changed |
//! | `POST /v1/diff` | tells what differs from what runs, and changes nothing |
//! | `POST /v1/deployments/NAMESPACE/NAME/scale?replicas=N` | another number of pods |
//! | `POST /v1/deployments/NAMESPACE/NAME/restart` | replaces every pod, step by step |
//! | `GET /v1/pods/NAMESPACE/NAME/log?container=NAME&tail=N&follow=1&previous=1` | what a container wrote |
//! | `POST /v1/pods/NAMESPACE/NAME/exec` | runs a command beside a container's: `{"command":[...],"container","stdin","tty","size","term"}` |
//! | `POST /v1/pods/NAMESPACE/NAME/port-forward?port=N` | a connection to a port, from inside |
//! | `POST /v1/pods/NAMESPACE/NAME/delete` | ends a pod gracefully; its Deployment makes another one first |
//! | `POST /v1/control/restart` | kills control, which is started again |
//! | `POST /v1/control/away?seconds=N` | the same, but only after so long |

use std::convert::Infallible;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use maille_chassis::clock::Clock;
use maille_chassis::tasks::Tasks;
use maille_manifest::marks::CAPTURE;
use maille_manifest::object_json;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::UnixListener;
use tokio::sync::Semaphore;

use crate::cluster::Cluster;
use crate::daemon::Daemon;
use crate::objects::{ApplyError, Changed, Objects};
use crate::processes::{Processes, Role};
use crate::runner::Pods;

const CONNECTIONS: usize = 256;
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a body may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// All manifests together.
const BODY_BYTES: usize = 32 << 20;

/// What the API speaks of.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) processes: Arc<Processes>,
    pub(crate) pods: Arc<Pods>,
    pub(crate) objects: Arc<Objects>,
    pub(crate) control: Option<Arc<Daemon>>,
    pub(crate) clock: Clock,
    pub(crate) tasks: Tasks,
}

/// Manifests.
#[derive(Debug, Deserialize)]
struct Files {
    /// Name and text.
    files: Vec<(String, String)>,
}

type Reply = (StatusCode, Value);

type Body = UnsyncBoxBody<Bytes, Infallible>;

mod streams;

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
            let service = service_fn(move |request| {
                let api = api.clone();
                async move { Ok::<_, Infallible>(api.respond(request).await) }
            });
            let mut server = hyper::server::conn::http1::Builder::new();
            server
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT);
            let connection = server.serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "api connection ended");
            }
            drop(place);
        });
    }
}

impl Api {
    async fn respond(&self, request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let steps: Vec<&str> = path.split('/').skip(1).collect();
        match (request.method(), &steps[..]) {
            (&Method::GET, ["v1", "pods", namespace, name, "log"]) => {
                self.log(namespace, name, request.uri().query().unwrap_or_default())
            }
            (&Method::POST, ["v1", "pods", namespace, name, "exec"]) => {
                self.exec(namespace, name, request).await
            }
            (&Method::POST, ["v1", "pods", namespace, name, "port-forward"]) => {
                self.forward(namespace, name, request).await
            }
            _ => reply(self.answer(request).await),
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Reply {
        let (parts, body) = request.into_parts();
        let query = parts.uri.query().unwrap_or_default();
        let steps: Vec<&str> = parts.uri.path().split('/').skip(1).collect();
        match (&parts.method, &steps[..]) {
            (&Method::GET, ["v1", "pods"]) => (StatusCode::OK, self.list()),
            (&Method::GET, ["v1", "objects"]) => (StatusCode::OK, self.every_object()),
            (&Method::POST, ["v1", what @ ("apply" | "diff")]) => match files(body).await {
                Ok(files) if *what == "apply" => changes(self.objects.apply(&files)),
                Ok(files) => changes(self.objects.differ(&files)),
                Err(reply) => reply,
            },
            (&Method::POST, ["v1", "deployments", namespace, name, "scale"]) => {
                self.scale(namespace, name, query)
            }
            (&Method::POST, ["v1", "deployments", namespace, name, "restart"]) => {
                self.restart(namespace, name)
            }
            (&Method::POST, ["v1", "pods", namespace, name, "delete"]) => {
                self.delete(namespace, name)
            }
            (&Method::POST, ["v1", "control", "restart"]) => match &self.control {
                Some(control) => {
                    control.restart();
                    (StatusCode::ACCEPTED, json!({}))
                }
                None => refused(StatusCode::CONFLICT, "there is no control here"),
            },
            (&Method::POST, ["v1", "control", "away"]) => self.away(query),
            _ => refused(StatusCode::NOT_FOUND, "no such page"),
        }
    }

    fn delete(&self, namespace: &str, name: &str) -> Reply {
        if self.pods.delete(namespace, name) {
            (StatusCode::ACCEPTED, json!({}))
        } else {
            refused(StatusCode::NOT_FOUND, &format!("no pod {namespace}/{name}"))
        }
    }

    fn scale(&self, namespace: &str, name: &str, query: &str) -> Reply {
        let replicas = query.strip_prefix("replicas=");
        let Some(replicas) = replicas.and_then(|number| number.parse().ok()) else {
            return refused(StatusCode::BAD_REQUEST, "say ?replicas=N");
        };
        match self.objects.scale(namespace, name, replicas) {
            Ok(before) => (StatusCode::ACCEPTED, json!({ "before": before })),
            Err(error) => failed(&error),
        }
    }

    fn restart(&self, namespace: &str, name: &str) -> Reply {
        let when = crate::runner::timestamp(self.clock.wall());
        match self.objects.restart(namespace, name, when.clone()) {
            Ok(()) => (StatusCode::ACCEPTED, json!({ "restartedAt": when })),
            Err(error) => failed(&error),
        }
    }

    fn away(&self, query: &str) -> Reply {
        let seconds = query.strip_prefix("seconds=");
        let seconds = seconds.and_then(|number| number.parse::<u16>().ok());
        match (&self.control, seconds) {
            (Some(control), Some(seconds)) => {
                control.away(Duration::from_secs(seconds.into()));
                (StatusCode::ACCEPTED, json!({}))
            }
            (None, _) => refused(StatusCode::CONFLICT, "there is no control here"),
            (_, None) => refused(StatusCode::BAD_REQUEST, "say ?seconds=N"),
        }
    }

    fn every_object(&self) -> Value {
        let mut items: Vec<Value> = Vec::new();
        for object in self.objects.live() {
            // A pod of the manifests is shown as it runs, below.
            if object.kind() == "Pod" {
                continue;
            }
            let mut item = read(&object_json(&object));
            if object.kind() == "Deployment" {
                let metadata = object.metadata();
                let status = self
                    .pods
                    .status(metadata.namespace(), metadata.name.as_str());
                if let (Some(status), Some(item)) = (status, item.as_object_mut()) {
                    item.insert("status".to_owned(), status);
                }
            }
            items.push(item);
        }
        let pods = self.cluster.pods();
        items.extend(pods.iter().map(|pod| read(&maille_manifest::to_json(pod))));
        json!({ "items": items })
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
                    "owner": pod.metadata.owner_references.first().map(|owner| {
                        json!({"kind": owner.kind, "name": owner.name})
                    }),
                    "ready": pod.is_ready(),
                    "phase": pod.status.phase,
                    "message": pod.status.message,
                    "statuses": pod.status.container_statuses,
                    "init_statuses": pod.status.init_container_statuses,
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

fn reply((status, body): Reply) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())).boxed_unsync());
    *response.status_mut() = status;
    let json = http::HeaderValue::from_static("application/json");
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, json);
    response
}

/// JSON of our own making.
fn read(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_default()
}

async fn files(body: Incoming) -> Result<Vec<(String, String)>, Reply> {
    let bad = |text: String| refused(StatusCode::BAD_REQUEST, &text);
    let read = Limited::new(body, BODY_BYTES).collect();
    let read = tokio::time::timeout(BODY_TIMEOUT, read).await;
    let read = read.map_err(|_| bad("the body did not come in time".to_owned()))?;
    let bytes = read.map_err(|error| bad(error.to_string()))?.to_bytes();
    let files: Files = serde_json::from_slice(&bytes).map_err(|error| bad(error.to_string()))?;
    Ok(files.files)
}

fn changes(changed: Result<Vec<Changed>, ApplyError>) -> Reply {
    let one = |changed: Changed| {
        json!({
            "kind": changed.key.kind,
            "namespace": changed.key.namespace,
            "name": changed.key.name,
            "before": changed.before.map(|object| read(&object_json(&object))),
            "after": changed.after.map(|object| read(&object_json(&object))),
        })
    };
    match changed {
        Ok(changed) => {
            let all: Vec<Value> = changed.into_iter().map(one).collect();
            (StatusCode::OK, json!({ "changes": all }))
        }
        Err(error) => failed(&error),
    }
}

fn failed(error: &ApplyError) -> Reply {
    let status = match error {
        ApplyError::Manifests(_) | ApplyError::Replicas(_) => StatusCode::BAD_REQUEST,
        ApplyError::Absent { .. } => StatusCode::NOT_FOUND,
        ApplyError::Write { source, .. } => {
            let text = format!("{error}: {source}");
            return refused(StatusCode::INTERNAL_SERVER_ERROR, &text);
        }
    };
    refused(status, &error.to_string())
}

fn refused(status: StatusCode, reason: &str) -> Reply {
    (status, json!({ "error": reason }))
}
