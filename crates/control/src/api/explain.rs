// SPDX-License-Identifier: Apache-2.0
//! `GET /v1/explain`: what would become of a connection or request from one workload to another, and which resource decided each part.
//!
//! The proxies of both sides answer from what is in force in them ([`crate::ask`]); control only names things. Where nobody answers that is said.
//! Must never decide in a proxy's place. Read `explain/place.rs` for whom it is about, `explain/steps.rs` for the words.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use futures_util::future::join_all;
use maille_model::WorkloadUid;
use maille_wire::v1;
use maille_wire::v1::explanation::Verdict;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Api, ApiError, meant};
use crate::hub::Hub;
use crate::resource::Resource;

/// From whom to whom.
mod place;
/// What decided what.
mod steps;

use place::Destination;

/// How long a proxy may take: longer than a connection would wait for control.
const PATIENCE: Duration = Duration::from_secs(7);
/// Endpoints whose proxies are asked.
const ASKED: usize = 32;

/// The parameters.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExplainQuery {
    /// `KIND/NAME` of who asks.
    pub src: String,
    /// `KIND/NAME`, a host name, an address or a URL of who is asked.
    pub dst: String,
    /// Where both are looked for.
    pub namespace: Option<String>,
    /// The port that is dialled.
    pub port: Option<u16>,
    /// Of the request.
    pub method: Option<String>,
    /// Of the request.
    pub path: Option<String>,
    /// Of the request: `name: value`, one a line.
    pub headers: Option<String>,
}

/// `GET /v1/explain`.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Explained {
    /// Who asks: the pod whose proxy answered.
    pub src: Party,
    /// Who is asked, as it was understood.
    pub dst: Asked,
    /// What becomes of it: `forward`, `refuse`, or `wait` where control has not said what is needed.
    pub verdict: &'static str,
    /// The flag with which it would be refused (`docs/wire.md`, section 5); empty otherwise.
    pub flag: String,
    /// One sentence.
    pub why: String,
    /// Each part, in the order in which it is decided.
    pub steps: Vec<Step>,
    /// Where it may go.
    pub endpoints: Vec<Endpoint>,
}

/// A pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Party {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub pod: String,
    /// What made it: `deploy/web`.
    pub owner: String,
    /// It is in the mesh.
    pub meshed: bool,
    /// How its packets reach its proxy: `outboard`, `inboard`, `inboard-cni` (its node wrote the rules) or `none`.
    pub capture: &'static str,
    /// Its identity, where it has one.
    pub identity: String,
}

/// The destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Asked {
    /// As it was typed.
    pub text: String,
    /// `IP:PORT` that is dialled.
    pub address: String,
    /// The service, where it is one.
    pub service: String,
}

/// One part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Step {
    /// `capture`, `destination`, `protocol`, `route`, `endpoints`, `terms`, `policy`, `protection`.
    pub name: &'static str,
    /// What was decided.
    pub value: String,
    /// By what: an object and its field, or `built in`.
    pub decided_by: String,
}

/// One place where it may go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Endpoint {
    /// Who is there; empty fields where control knows nobody.
    pub party: Party,
    /// `IP:PORT` of the application.
    pub target: String,
    /// `mesh`: mutual TLS to its proxy; `plain`; `local`: the pod itself.
    pub hop: String,
    /// Who must be there.
    pub identity: String,
    /// What its own proxy would do: `forward`, `refuse`, `wait`; `none`: it has no proxy; `unknown`: it did not answer.
    pub accepts: &'static str,
    /// Why.
    pub why: String,
}

pub(super) async fn explain(
    State(api): State<Arc<Api>>,
    query: Result<Query<ExplainQuery>, QueryRejection>,
) -> Result<Json<Explained>, ApiError> {
    let Query(query) = query.map_err(|rejection| {
        ApiError::bad(
            rejection.body_text(),
            "for example /v1/explain?src=deploy/web&dst=svc/api",
        )
    })?;
    let hub = &api.hub;
    let src = place::source(&query, hub)?;
    let dst = place::destination(&query, &src.0, hub)?;
    let said = if src.0.meshed {
        let asked = outbound(hub, &src.1, dst.address).await;
        Some(asked.map_err(|error| {
            ApiError::conflict(
                format!(
                    "{}/{}: {error}{}",
                    src.0.namespace,
                    src.0.pod,
                    api.replicas.excuse()
                ),
                "maille check says what is wrong with a proxy",
            )
        })?)
    } else {
        None
    };
    let endpoints = match &said {
        Some(said) => endpoints(hub, &said.legs).await,
        None => endpoints(hub, &place::plain_legs(hub, &dst)).await,
    };
    Ok(Json(assemble(hub, (&query, src.0, dst), said, endpoints)))
}

async fn outbound(
    hub: &Hub,
    uid: &WorkloadUid,
    to: SocketAddr,
) -> Result<v1::Explanation, crate::ask::AskError> {
    ask(hub, uid, v1::Direction::Outbound, to.to_string()).await
}

async fn ask(
    hub: &Hub,
    uid: &WorkloadUid,
    direction: v1::Direction,
    destination: String,
) -> Result<v1::Explanation, crate::ask::AskError> {
    let direction = direction.into();
    let what = v1::question::What::Explain(v1::Explain {
        direction,
        destination,
    });
    match hub.questions().once(uid, what, PATIENCE).await? {
        v1::answer::What::Explanation(said) => Ok(said),
        _ => Err(crate::ask::AskError::Refused(
            "it answered something else".into(),
        )),
    }
}

/// Asks the proxies of those to whom it may go what they would do with it.
async fn endpoints(hub: &Hub, legs: &[v1::Leg]) -> Vec<Endpoint> {
    let asked = legs.iter().take(ASKED).map(async |leg| {
        let uid = WorkloadUid::new(&leg.uid);
        let party = uid
            .as_ref()
            .map_or_else(Party::default, |uid| place::party(hub, uid));
        let (accepts, why) = match &uid {
            Some(uid) if party.meshed => {
                let said = ask(hub, uid, v1::Direction::Inbound, leg.target.clone()).await;
                match said {
                    Ok(said) => (verdict(said.verdict()), said.why),
                    Err(error) => ("unknown", error.to_string()),
                }
            }
            _ => ("none", "it has no proxy that could refuse".to_owned()),
        };
        Endpoint {
            party,
            target: leg.target.clone(),
            hop: leg.hop.clone(),
            identity: leg.identity.clone(),
            accepts,
            why,
        }
    });
    join_all(asked).await
}

const fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Forward => "forward",
        Verdict::Refuse => "refuse",
        Verdict::Wait | Verdict::Unspecified => "wait",
    }
}

fn assemble(
    hub: &Hub,
    (query, src, dst): (&ExplainQuery, Party, Destination),
    said: Option<v1::Explanation>,
    endpoints: Vec<Endpoint>,
) -> Explained {
    let world = hub.world();
    let steps = steps::steps(&world, (query, &src, &dst), said.as_ref(), &endpoints);
    let takes = |endpoint: &&Endpoint| !matches!(endpoint.accepts, "refuse" | "wait");
    let (verdict, flag, why) = match &said {
        Some(said) if said.verdict() != Verdict::Forward => {
            (verdict(said.verdict()), said.flag.clone(), said.why.clone())
        }
        _ if endpoints.is_empty() && said.is_none() => (
            "refuse",
            String::new(),
            "nobody is there, and the client has no proxy that would wait".to_owned(),
        ),
        _ if !endpoints.is_empty() && endpoints.iter().filter(takes).count() == 0 => (
            "refuse",
            "misdirected".to_owned(),
            format!("the proxy of every endpoint refuses: {}", endpoints[0].why),
        ),
        _ => ("forward", String::new(), steps::sentence(&endpoints)),
    };
    Explained {
        src,
        dst: Asked {
            text: query.dst.clone(),
            address: dst.address.to_string(),
            service: dst.service.map(|id| id.to_string()).unwrap_or_default(),
        },
        verdict,
        flag,
        why,
        steps,
        endpoints,
    }
}

/// Reads `KIND/NAME`, or a bare name, which is looked for among deployments, other owners, services and pods.
pub(super) fn named(text: &str, namespace: Option<&str>, hub: &Hub) -> Result<Resource, ApiError> {
    if text.contains('/') {
        return ApiError::resource(text, namespace);
    }
    let world = hub.world();
    for kind in meant::BARE {
        let resource = ApiError::resource(&format!("{kind}/{text}"), namespace)?;
        if resource.exists(&world.index) {
            return Ok(resource);
        }
    }
    let message = format!("nothing here is called {text:?}");
    let hint = meant::anything(text, namespace, &world.index);
    Err(ApiError::of(StatusCode::NOT_FOUND, message, &hint))
}
