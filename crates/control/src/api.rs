// SPDX-License-Identifier: Apache-2.0
//! The API for people: `GET /v1/...` with JSON, on a unix socket that only its owner may open.
//!
//! Fields are only ever added within `/v1`. Errors are `{"error":{"message","hint"}}`. Read only: nothing is changed through
//! it yet. Read [`crate::stat::view`] and [`check`] for what the answers mean.

use std::sync::Arc;
use std::time::SystemTime;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use maille_model::Membership;
use serde::{Deserialize, Serialize};

use crate::hub::Hub;
use crate::index::{Index, Phase, Pod};
use crate::metrics;
use crate::resource::{Kind, Resource};
use crate::stat::Stats;
use crate::stat::rows::{Row, Wanted};

/// What `GET /v1/check` says.
pub mod check;
/// Who talks to whom.
pub mod edges;
/// What would become of a connection.
pub mod explain;
/// Frames of a pod.
pub mod frames;
/// Certificates that proxies hold.
pub mod identity;
/// Connections.
pub mod listen;
/// Exchanges as they pass.
pub mod tap;

/// Seconds without a report after which a proxy counts as silent; one with nothing to say says so every 10 s.
const SILENT_SECONDS: u64 = 25;
/// The window of `GET /v1/stat` where none is asked for.
const WINDOW_SECONDS: u64 = 60;

/// What the API needs beside the hub.
#[derive(Clone, Debug)]
pub struct Api {
    /// Everything that is known.
    pub hub: Arc<Hub>,
    /// Where pods' frames are asked for.
    pub node: frames::Node,
    /// When the CA's certificate begins and ends.
    pub ca_validity: (SystemTime, SystemTime),
}

#[derive(Debug, Serialize)]
struct Version {
    version: &'static str,
    trust_domain: String,
}

#[derive(Debug, Serialize)]
struct Pods {
    pods: Vec<PodRow>,
}

#[derive(Debug, Serialize)]
struct PodRow {
    namespace: String,
    name: String,
    uid: String,
    owner: Option<OwnerRow>,
    capture: &'static str,
    ready: bool,
    phase: &'static str,
    message: String,
    ips: Vec<String>,
    reporting: bool,
}

#[derive(Debug, Serialize)]
struct OwnerRow {
    kind: String,
    name: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StatQuery {
    window: Option<String>,
    resource: Option<String>,
    namespace: Option<String>,
    from: Option<String>,
    from_namespace: Option<String>,
    to: Option<String>,
    to_namespace: Option<String>,
}

/// `GET /v1/stat?resource=...`.
#[derive(Debug, Serialize)]
struct Rows {
    window_s: u64,
    rows: Vec<Row>,
}

/// Something that was asked for and cannot be given.
#[derive(Debug)]
struct ApiError {
    status: StatusCode,
    message: String,
    hint: String,
}

#[derive(Debug, Serialize)]
struct ErrorBody<'a> {
    error: ErrorText<'a>,
}

#[derive(Debug, Serialize)]
struct ErrorText<'a> {
    message: &'a str,
    hint: &'a str,
}

/// The routes.
pub fn router(api: Api) -> Router {
    Router::new()
        .route("/v1/version", get(version))
        .route("/v1/pods", get(pods))
        .route("/v1/stat", get(stat))
        .route("/v1/check", get(checks))
        .route("/v1/edges", get(edges::edges))
        .route("/v1/tap", get(tap::tap))
        .route("/v1/capture", get(frames::capture))
        .route("/v1/state", get(frames::state))
        .route("/v1/explain", get(explain::explain))
        .route("/v1/identity", get(identity::identity))
        .route("/metrics", get(metrics_text))
        .fallback(unknown)
        .method_not_allowed_fallback(not_allowed)
        .with_state(Arc::new(api))
}

async fn version(State(api): State<Arc<Api>>) -> Json<Version> {
    Json(Version {
        version: env!("CARGO_PKG_VERSION"),
        trust_domain: api.hub.world().mesh.trust_domain.to_string(),
    })
}

async fn metrics_text(State(api): State<Arc<Api>>) -> Response {
    let text = metrics::text(&api.hub, api.ca_validity.1);
    (
        [(CONTENT_TYPE, maille_chassis::metrics::CONTENT_TYPE)],
        text,
    )
        .into_response()
}

async fn pods(State(api): State<Arc<Api>>) -> Json<Pods> {
    let second = api.hub.second();
    let world = api.hub.world();
    let stats = api.hub.stats();
    let rows = world.index.pods();
    let rows = rows.map(|pod| pod_row(pod, is_reporting(&api.hub, &stats, pod, second)));
    let mut pods: Vec<PodRow> = rows.collect();
    pods.sort_by(|a, b| (&a.namespace, &a.name, &a.uid).cmp(&(&b.namespace, &b.name, &b.uid)));
    Json(Pods { pods })
}

/// Whether a pod's proxy has its stream open, and was not silent for too long.
fn is_reporting(hub: &Hub, stats: &Stats, pod: &Pod, second: u64) -> bool {
    let uid = &pod.workload.uid;
    let last = stats.last_report(uid);
    hub.proxy(uid).reports > 0
        && last.is_none_or(|last| second.saturating_sub(last) <= SILENT_SECONDS)
}

fn pod_row(pod: &Pod, reporting: bool) -> PodRow {
    let workload = &pod.workload;
    PodRow {
        namespace: workload.namespace.to_string(),
        name: workload.name.to_string(),
        uid: workload.uid.to_string(),
        owner: workload.owner.as_ref().map(|owner| OwnerRow {
            kind: owner.kind.clone(),
            name: owner.name.to_string(),
        }),
        capture: match workload.membership {
            Membership::Meshed => "outboard",
            Membership::Unmeshed => "none",
        },
        ready: pod.takes_connections(),
        phase: match pod.phase {
            _ if pod.terminating => "Terminating",
            Phase::Pending => "Pending",
            Phase::Running => "Running",
            Phase::Finished => "Finished",
        },
        message: pod.message.clone(),
        ips: workload.addresses.iter().map(ToString::to_string).collect(),
        reporting,
    }
}

async fn stat(
    State(api): State<Arc<Api>>,
    query: Result<Query<StatQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(query) = query.map_err(|rejection| ApiError {
        status: StatusCode::BAD_REQUEST,
        message: rejection.body_text(),
        hint: "for example /v1/stat?window=60 or /v1/stat?resource=deploy&from=po/web".to_owned(),
    })?;
    let window = match &query.window {
        None => WINDOW_SECONDS,
        Some(text) => seconds(text)?,
    };
    let second = api.hub.second();
    let world = api.hub.world();
    let Some(resource) = &query.resource else {
        if query.from.is_some() || query.to.is_some() {
            return Err(ApiError::bad(
                "from and to need a resource".to_owned(),
                "for example /v1/stat?resource=deploy&from=po/web",
            ));
        }
        let stat = api.hub.stats().view(&world.index, second, window);
        return Ok(Json(stat).into_response());
    };
    let named = |text: &Option<String>, namespace: &Option<String>| -> Result<_, ApiError> {
        let Some(text) = text else { return Ok(None) };
        let resource = ApiError::resource(text, namespace.as_deref())?;
        ApiError::exists(&resource, &world.index)?;
        Ok(Some(resource))
    };
    let wanted = Wanted {
        target: ApiError::resource(resource, query.namespace.as_deref())?,
        from: named(&query.from, &query.from_namespace)?,
        to: named(&query.to, &query.to_namespace)?,
    };
    if wanted.target.name.is_some() {
        ApiError::exists(&wanted.target, &world.index)?;
    }
    let stats = api.hub.stats();
    let (window_s, rows) = stats.rows(&world.index, second, window, &wanted);
    Ok(Json(Rows { window_s, rows }).into_response())
}

fn seconds(text: &str) -> Result<u64, ApiError> {
    let number = text.strip_suffix('s').unwrap_or(text);
    let seconds = number.parse().ok().filter(|s| (1..=600).contains(s));
    seconds.ok_or_else(|| ApiError {
        status: StatusCode::BAD_REQUEST,
        message: format!("window {text:?} is not a number of seconds from 1 to 600"),
        hint: "for example /v1/stat?window=60".to_owned(),
    })
}

async fn checks(State(api): State<Arc<Api>>) -> Json<check::Report> {
    let node = frames::checks(&api.node).await;
    Json(check::report(&api, node))
}

async fn unknown(uri: Uri) -> ApiError {
    ApiError {
        status: StatusCode::NOT_FOUND,
        message: format!("there is no {}", uri.path()),
        hint: "known are /v1/version, /v1/pods, /v1/stat, /v1/check, /v1/tap, /v1/explain, /v1/identity, /v1/edges, /v1/capture and /v1/state".to_owned(),
    }
}

async fn not_allowed() -> ApiError {
    ApiError {
        status: StatusCode::METHOD_NOT_ALLOWED,
        message: "only GET is known here".to_owned(),
        hint: "this version of the API changes nothing".to_owned(),
    }
}

// === impl ApiError ===

impl ApiError {
    fn bad(message: String, hint: &str) -> Self {
        Self::of(StatusCode::BAD_REQUEST, message, hint)
    }

    fn conflict(message: String, hint: &str) -> Self {
        Self::of(StatusCode::CONFLICT, message, hint)
    }

    fn missing(message: String) -> Self {
        let hint = "maille stat all shows what there is";
        Self::of(StatusCode::NOT_FOUND, message, hint)
    }

    fn of(status: StatusCode, message: String, hint: &str) -> Self {
        Self {
            status,
            message,
            hint: hint.to_owned(),
        }
    }

    /// Reads a resource's name.
    fn resource(text: &str, namespace: Option<&str>) -> Result<Resource, Self> {
        Resource::parse(text, namespace).map_err(|error| {
            let hint = format!("KIND or KIND/NAME; kinds are {}", Kind::words());
            Self::bad(error.to_string(), &hint)
        })
    }

    /// Refuses what is not there.
    fn exists(resource: &Resource, index: &Index) -> Result<(), Self> {
        if resource.exists(index) {
            return Ok(());
        }
        Err(Self::missing(format!("there is no {resource}")))
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = Json(ErrorBody {
            error: ErrorText {
                message: &self.message,
                hint: &self.hint,
            },
        });
        (self.status, body).into_response()
    }
}
