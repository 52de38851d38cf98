// SPDX-License-Identifier: Apache-2.0
//! The runner's own API: HTTP/1.1 on a 0600 unix socket, for `maille` and the tests. What runs, and orders.
//! Read `api/routes.rs` for every path, `api/streams.rs` for those whose answer goes on.

use std::convert::Infallible;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use maille_chassis::clock::Clock;
use maille_chassis::tasks::Tasks;
use maille_manifest::changes::ObjectKey;
use maille_manifest::marks::CAPTURE;
use maille_manifest::object_json;
use maille_manifest::objects::Pod;
use maille_openapi::Refusal;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::net::UnixListener;
use tokio::sync::Semaphore;

use crate::cluster::Cluster;
use crate::daemon::Daemon;
use crate::limits::Limiter;
use crate::objects::{ApplyError, Changed, Objects};
use crate::processes::{Processes, Role};
use crate::runner::{OwnerKey, Pods};

const CONNECTIONS: usize = 256;
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a body may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// What can be scaled and restarted.
const MAKERS: &str =
    "deployments, statefulsets and replicasets can be scaled and restarted, daemonsets restarted";
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
    pub(crate) limiter: Arc<Limiter>,
    pub(crate) clock: Clock,
    pub(crate) tasks: Tasks,
}

type Reply = (StatusCode, Value);

type Body = UnsyncBoxBody<Bytes, Infallible>;

pub(crate) mod routes;
mod streams;

use routes::{Change, Changes, Files, Order, Restarted, Scaled, Taken, find};

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
        let query = request.uri().query().unwrap_or_default().to_owned();
        let Some((order, [plural, namespace, name])) = find(request.method(), &path) else {
            let why = format!("there is no {} {path}", request.method());
            let hint = "docs/reference/api.md lists every path";
            return reply(refused(StatusCode::NOT_FOUND, &why, hint));
        };
        match order {
            Order::Log => self.log(namespace, name, &query),
            Order::Exec => self.exec(namespace, name, request).await,
            Order::Forward => self.forward(namespace, name, request).await,
            Order::Pods => reply(said(StatusCode::OK, &self.list())),
            Order::Objects => reply(said(StatusCode::OK, &self.every_object())),
            Order::Apply => reply(match files(request.into_body()).await {
                Ok(files) => changes(self.objects.apply(&files)),
                Err(reply) => reply,
            }),
            Order::Diff => reply(match files(request.into_body()).await {
                Ok(files) => changes(self.objects.differ(&files)),
                Err(reply) => reply,
            }),
            Order::Scale | Order::Restart => {
                let Some(key) = key(plural, namespace, name) else {
                    let why = format!("no kind {plural} makes pods");
                    return reply(refused(StatusCode::NOT_FOUND, &why, MAKERS));
                };
                reply(match order {
                    Order::Scale => self.scale(&key, &query),
                    _ => self.restart(&key),
                })
            }
            Order::Delete => reply(self.delete(namespace, name)),
            Order::ControlRestart => reply(self.again()),
            Order::ControlAway => reply(self.away(&query)),
        }
    }

    fn again(&self) -> Reply {
        match &self.control {
            Some(control) => {
                control.restart();
                said(StatusCode::ACCEPTED, &Taken {})
            }
            None => uncontrolled(),
        }
    }

    fn delete(&self, namespace: &str, name: &str) -> Reply {
        if self.pods.delete(namespace, name) {
            said(StatusCode::ACCEPTED, &Taken {})
        } else {
            absent(namespace, name)
        }
    }

    fn scale(&self, key: &ObjectKey, query: &str) -> Reply {
        let replicas = query.strip_prefix("replicas=");
        let Some(replicas) = replicas.and_then(|number| number.parse().ok()) else {
            let why = "it does not say how many pods there are to be";
            return refused(StatusCode::BAD_REQUEST, why, "say ?replicas=N");
        };
        match self.objects.scale(key, replicas) {
            Ok(before) => said(StatusCode::ACCEPTED, &Scaled { before }),
            Err(error) => failed(&error),
        }
    }

    fn restart(&self, key: &ObjectKey) -> Reply {
        let when = crate::runner::timestamp(self.clock.wall());
        match self.objects.restart(key, when.clone()) {
            Ok(()) => said(StatusCode::ACCEPTED, &Restarted { restarted_at: when }),
            Err(error) => failed(&error),
        }
    }

    fn away(&self, query: &str) -> Reply {
        let seconds = query.strip_prefix("seconds=");
        let seconds = seconds.and_then(|number| number.parse::<u16>().ok());
        match (&self.control, seconds) {
            (Some(control), Some(seconds)) => {
                control.away(Duration::from_secs(seconds.into()));
                said(StatusCode::ACCEPTED, &Taken {})
            }
            (None, _) => uncontrolled(),
            (_, None) => {
                let why = "it does not say for how long";
                refused(StatusCode::BAD_REQUEST, why, "say ?seconds=N")
            }
        }
    }

    fn every_object(&self) -> routes::Objects {
        let mut items: Vec<Value> = Vec::new();
        for object in self.objects.live() {
            // A pod of the manifests is shown as it runs, below.
            if object.kind() == "Pod" {
                continue;
            }
            let mut item = read(&object_json(&object));
            let status = self.pods.status(&OwnerKey::of(&object));
            if let (Some(status), Some(item)) = (status, item.as_object_mut()) {
                item.insert("status".to_owned(), status);
            }
            items.push(item);
        }
        let pods = self.cluster.pods();
        items.extend(pods.iter().map(|pod| read(&maille_manifest::to_json(pod))));
        routes::Objects { items }
    }

    fn list(&self) -> routes::Pods {
        let pods = self.cluster.pods();
        routes::Pods {
            pods: pods.iter().map(|pod| self.pod_row(pod)).collect(),
            control_pid: self.processes.pid(&Role::Control),
            observer_pid: self.processes.pid(&Role::Observer),
        }
    }

    fn pod_row(&self, pod: &Pod) -> routes::Pod {
        let metadata = &pod.metadata;
        let owner = metadata.owner_references.first();
        routes::Pod {
            namespace: metadata.namespace().to_owned(),
            name: metadata.name.as_str().to_owned(),
            uid: metadata.uid.clone(),
            owner: owner.map(|owner| json!({"kind": owner.kind, "name": owner.name})),
            ready: pod.is_ready(),
            phase: pod.status.phase.clone(),
            message: pod.status.message.clone(),
            statuses: json!(pod.status.container_statuses),
            init_statuses: json!(pod.status.init_container_statuses),
            capture: metadata.annotations.get(CAPTURE).cloned(),
            ips: pod.addresses().map(|ip| ip.to_string()).collect(),
            proxy_pid: self.processes.pid(&Role::Proxy(metadata.uid.clone())),
            containers: json!(self.processes.containers(&metadata.uid)),
        }
    }
}

/// What a path of this API names, where that makes pods.
fn key(plural: &str, namespace: &str, name: &str) -> Option<ObjectKey> {
    let kind = match plural {
        "deployments" => "Deployment",
        "statefulsets" => "StatefulSet",
        "daemonsets" => "DaemonSet",
        "replicasets" => "ReplicaSet",
        "jobs" => "Job",
        "cronjobs" => "CronJob",
        _ => return None,
    };
    Some(ObjectKey {
        kind,
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    })
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

/// An answer of ours always has a JSON form.
fn said(status: StatusCode, answer: &impl Serialize) -> Reply {
    (status, serde_json::to_value(answer).unwrap_or_default())
}

/// JSON of our own making.
fn read(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_default()
}

async fn files(body: Incoming) -> Result<Vec<(String, String)>, Reply> {
    let hint = "a body is JSON, as in {\"files\":[[\"app.yaml\",\"TEXT\"]]}";
    let bad = |text: String| refused(StatusCode::BAD_REQUEST, &text, hint);
    let read = Limited::new(body, BODY_BYTES).collect();
    let read = tokio::time::timeout(BODY_TIMEOUT, read).await;
    let read = read.map_err(|_| bad("the body did not come in time".to_owned()))?;
    let bytes = read.map_err(|error| bad(error.to_string()))?.to_bytes();
    let files: Files = serde_json::from_slice(&bytes).map_err(|error| bad(error.to_string()))?;
    Ok(files.files)
}

fn changes(changed: Result<Vec<Changed>, ApplyError>) -> Reply {
    let one = |changed: Changed| Change {
        kind: changed.key.kind,
        namespace: changed.key.namespace,
        name: changed.key.name,
        before: changed.before.map(|object| read(&object_json(&object))),
        after: changed.after.map(|object| read(&object_json(&object))),
    };
    match changed {
        Ok(changed) => {
            let changes = changed.into_iter().map(one).collect();
            said(StatusCode::OK, &Changes { changes })
        }
        Err(error) => failed(&error),
    }
}

fn failed(error: &ApplyError) -> Reply {
    let status = match error {
        ApplyError::Manifests(_) | ApplyError::Replicas(_) => StatusCode::BAD_REQUEST,
        ApplyError::Absent { .. } => StatusCode::NOT_FOUND,
        ApplyError::Fixed { .. } => StatusCode::CONFLICT,
        ApplyError::Write { source, .. } => {
            let text = format!("{error}: {source}");
            let hint = "make room in the state directory, and say it again";
            return refused(StatusCode::INTERNAL_SERVER_ERROR, &text, hint);
        }
    };
    let hint = match error {
        ApplyError::Manifests(_) => "correct them; nothing was changed",
        ApplyError::Absent { .. } => "maille get all shows what there is",
        ApplyError::Fixed { .. } => MAKERS,
        ApplyError::Replicas(_) | ApplyError::Write { .. } => "",
    };
    refused(status, &error.to_string(), hint)
}

fn absent(namespace: &str, name: &str) -> Reply {
    let why = format!("no pod {namespace}/{name}");
    refused(StatusCode::NOT_FOUND, &why, "maille get pods -A shows all")
}

fn uncontrolled() -> Reply {
    let hint = "a run without the mesh has none";
    refused(StatusCode::CONFLICT, "there is no control here", hint)
}

/// What, and why; and what to do, where there is something.
fn refused(status: StatusCode, why: &str, hint: &str) -> Reply {
    said(status, &Refusal::new(why, hint))
}
