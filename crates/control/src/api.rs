// SPDX-License-Identifier: Apache-2.0
//! The API for people: `GET /v1/...` with JSON, on a unix socket that only its owner may open.
//!
//! Fields are only ever added within `/v1`. Errors are `{"error":{"message","hint"}}`. Read only: nothing is changed through
//! it yet. Read [`crate::stat::view`] and [`check`] for what the answers mean.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use maille_openapi::Refusal;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::hub::{Hub, Proxy};
use crate::index::{Index, Phase, Pod};
use crate::keyring::Keyring;
use crate::metrics;
use crate::replicas::{Gathered, Replicas};
use crate::resource::{Kind, Resource, ResourceError};
use crate::stat::Stats;
use crate::stat::rows::{Row, Wanted};
use crate::stat::view::Stat;

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
/// What goes through mesh connections.
pub mod inside;
/// What was probably meant.
mod meant;
/// Every path, and what it is.
pub mod routes;
/// Exchanges as they pass.
pub mod tap;

use routes::{ROUTES, Route};

/// Seconds without a report after which a proxy counts as silent; one with nothing to say says so every 10 s.
const SILENT_SECONDS: u64 = 25;
/// The window of `GET /v1/stat` where none is asked for.
const WINDOW_SECONDS: u64 = 60;

/// What the API needs beside the hub.
#[derive(Clone, Debug)]
pub struct Api {
    /// Everything that is known.
    pub hub: Arc<Hub>,
    /// Where pods' frames are asked for, if there is one machine.
    pub node: Option<frames::Node>,
    /// What signs certificates.
    pub keyring: Keyring,
    /// Who else is to be asked.
    pub replicas: Replicas,
}

/// `GET /v1/version`.
#[derive(Debug, Serialize, JsonSchema)]
struct Version {
    /// Of control.
    version: &'static str,
    /// The authority of every identity.
    trust_domain: String,
}

/// `GET /v1/pods`.
#[derive(Debug, Serialize, JsonSchema)]
struct Pods {
    /// By namespace and name.
    pods: Vec<PodRow>,
    /// Replicas of control that did not answer: what they know of proxies is missing.
    missing: Vec<String>,
}

/// One pod.
#[derive(Debug, Serialize, JsonSchema)]
struct PodRow {
    /// Its namespace.
    namespace: String,
    /// Its name.
    name: String,
    /// Tells it from every other pod that ever had its name.
    uid: String,
    /// What made it.
    owner: Option<OwnerRow>,
    /// How its packets reach its proxy: `outboard`; `none` outside the mesh.
    capture: &'static str,
    /// It takes connections.
    ready: bool,
    /// `Pending`, `Running`, `Finished` or `Terminating`.
    phase: &'static str,
    /// What is wrong with it; empty where nothing is.
    message: String,
    /// Its addresses.
    ips: Vec<String>,
    /// Its proxy is heard from.
    reporting: bool,
    /// Its proxy is connected to control.
    connected: bool,
    /// What its proxy could not use of what control said, in its own words; empty where it is in sync.
    rejection: String,
}

/// What made a pod.
#[derive(Debug, Serialize, JsonSchema)]
struct OwnerRow {
    /// `Deployment`, ...
    kind: String,
    /// Its name.
    name: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct PodsQuery {
    /// Only in this namespace.
    namespace: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct StatQuery {
    /// Seconds that rates and latencies cover, 1 to 600; 60 unless told.
    window: Option<String>,
    /// `KIND` or `KIND/NAME`; every workload and every edge unless told.
    resource: Option<String>,
    /// Only in this namespace.
    namespace: Option<String>,
    /// Only what these sent.
    from: Option<String>,
    /// Where those are.
    from_namespace: Option<String>,
    /// Only what was sent to these.
    to: Option<String>,
    /// Where those are.
    to_namespace: Option<String>,
}

/// `GET /v1/stat`: the second where a resource is asked for.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
enum Counted {
    Overall(Stat),
    Rows(Rows),
}

/// `GET /v1/stat?resource=...`.
#[derive(Debug, Serialize, JsonSchema)]
struct Rows {
    /// Seconds that `window` fields cover: as asked for, or less when reports are younger.
    window_s: u64,
    /// One for each resource.
    rows: Vec<Row>,
    /// Replicas of control that did not answer: what their proxies counted is missing.
    missing: Vec<String>,
}

/// Something that was asked for and cannot be given.
#[derive(Debug)]
struct ApiError {
    status: StatusCode,
    message: String,
    hint: String,
}

/// The routes.
pub fn router(api: Api) -> Router {
    let add = |router: Router<Arc<Api>>, route: &Route| router.route(route.path, (route.serve)());
    let router = ROUTES.iter().fold(Router::new(), add);
    router
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
    let text = metrics::text(&api.hub, &api.keyring);
    (
        [(CONTENT_TYPE, maille_chassis::metrics::CONTENT_TYPE)],
        text,
    )
        .into_response()
}

async fn pods(
    State(api): State<Arc<Api>>,
    query: Result<Query<PodsQuery>, QueryRejection>,
) -> Result<Json<Pods>, ApiError> {
    let Query(query) = query.map_err(|rejection| {
        let hint = "for example /v1/pods or /v1/pods?namespace=shop";
        ApiError::bad(rejection.body_text(), hint)
    })?;
    let wanted = |pod: &&Pod| {
        let own = pod.workload.namespace.as_str();
        query
            .namespace
            .as_deref()
            .is_none_or(|wanted| wanted == own)
    };
    let gathered = api.replicas.gather(&api.hub, 1).await;
    let world = api.hub.world();
    let rows = world.index.pods().filter(wanted);
    let rows = rows.map(|pod| {
        let reporting = is_reporting(&api.hub, &gathered, pod);
        pod_row(pod, reporting, gathered.proxy(&api.hub, &pod.workload.uid))
    });
    let mut pods: Vec<PodRow> = rows.collect();
    pods.sort_by(|a, b| (&a.namespace, &a.name, &a.uid).cmp(&(&b.namespace, &b.name, &b.uid)));
    let missing = gathered.missing;
    Ok(Json(Pods { pods, missing }))
}

/// Whether a pod's proxy has its stream open, and was not silent for too long.
fn is_reporting(hub: &Hub, gathered: &Gathered, pod: &Pod) -> bool {
    let uid = &pod.workload.uid;
    let is_heard = gathered.read(hub, |stats, second| {
        let last = stats.last_report(uid);
        last.is_none_or(|last| second.saturating_sub(last) <= SILENT_SECONDS)
    });
    is_heard && gathered.proxy(hub, uid).reports > 0
}

fn pod_row(pod: &Pod, reporting: bool, proxy: Proxy) -> PodRow {
    let workload = &pod.workload;
    PodRow {
        namespace: workload.namespace.to_string(),
        name: workload.name.to_string(),
        uid: workload.uid.to_string(),
        owner: workload.owner.as_ref().map(|owner| OwnerRow {
            kind: owner.kind.clone(),
            name: owner.name.to_string(),
        }),
        capture: pod.capture.as_str(),
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
        connected: proxy.discovery > 0,
        rejection: proxy.rejection.unwrap_or_default(),
    }
}

async fn stat(
    State(api): State<Arc<Api>>,
    query: Result<Query<StatQuery>, QueryRejection>,
) -> Result<Json<Counted>, ApiError> {
    let Query(query) = query.map_err(|rejection| ApiError {
        status: StatusCode::BAD_REQUEST,
        message: rejection.body_text(),
        hint: "for example /v1/stat?window=60 or /v1/stat?resource=deploy&from=po/web".to_owned(),
    })?;
    let window = match &query.window {
        None => WINDOW_SECONDS,
        Some(text) => seconds(text)?,
    };
    let gathered = api.replicas.gather(&api.hub, window).await;
    let world = api.hub.world();
    let Some(resource) = &query.resource else {
        if query.from.is_some() || query.to.is_some() {
            return Err(ApiError::bad(
                "from and to need a resource".to_owned(),
                "for example /v1/stat?resource=deploy&from=po/web",
            ));
        }
        let read = |stats: &Stats, second| stats.view(&world.index, second, window);
        let mut stat = gathered.read(&api.hub, read);
        stat.missing = gathered.missing;
        return Ok(Json(Counted::Overall(stat)));
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
    let read = |stats: &Stats, second| stats.rows(&world.index, second, window, &wanted);
    let (window_s, rows) = gathered.read(&api.hub, read);
    Ok(Json(Counted::Rows(Rows {
        window_s,
        rows,
        missing: gathered.missing,
    })))
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
    Json(check::report(&api, frames::checks(&api.node).await).await)
}

async fn unknown(uri: Uri) -> ApiError {
    ApiError {
        status: StatusCode::NOT_FOUND,
        message: format!("there is no {}", uri.path()),
        hint: format!("known are {}", ROUTES.map(|route| route.path).join(", ")),
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
            let hint = match &error {
                ResourceError::Kind(word) => meant::kind(word),
                ResourceError::Shape(_) => {
                    format!("KIND or KIND/NAME; kinds are {}", Kind::words())
                }
            };
            Self::bad(error.to_string(), &hint)
        })
    }

    /// Refuses what is not there.
    fn exists(resource: &Resource, index: &Index) -> Result<(), Self> {
        if resource.exists(index) {
            return Ok(());
        }
        let message = format!("there is no {resource}");
        let hint = meant::instead(resource, index);
        Err(Self::of(StatusCode::NOT_FOUND, message, &hint))
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = Refusal::new(&self.message, &self.hint);
        (self.status, Json(body)).into_response()
    }
}
