// SPDX-License-Identifier: Apache-2.0
//! `GET /v1/edges`: who talks to whom, as whom, protected or not, and why not. Pure but for the lock. Read [`crate::stat::view`] for the numbers.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Api, ApiError, WINDOW_SECONDS, seconds};
use crate::hub::World;
use crate::resource::{Kind, Resource};
use crate::stat::Stats;
use crate::stat::view::{EdgeRow, Ref};

/// The parameters.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EdgesQuery {
    /// Only edges from or to this; a kind or one resource.
    resource: Option<String>,
    /// Only edges from or to this namespace.
    namespace: Option<String>,
    /// Seconds.
    window: Option<String>,
}

/// `GET /v1/edges`.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Edges {
    /// Seconds that `window` fields cover.
    pub window_s: u64,
    /// The edges.
    pub edges: Vec<Edge>,
    /// Replicas of control that did not answer: what their proxies counted is missing.
    pub missing: Vec<String>,
}

/// One.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Edge {
    /// What is counted.
    #[serde(flatten)]
    pub row: EdgeRow,
    /// As whom the client is known; empty for one without an identity.
    pub client_id: String,
    /// The same of the server.
    pub server_id: String,
    /// Why the edge is in plain text; empty where it is not.
    pub reason: String,
}

pub(super) async fn edges(
    State(api): State<Arc<Api>>,
    query: Result<Query<EdgesQuery>, QueryRejection>,
) -> Result<Json<Edges>, ApiError> {
    let Query(query) = query.map_err(|rejection| {
        ApiError::bad(
            rejection.body_text(),
            "for example /v1/edges?resource=deploy",
        )
    })?;
    let window = match &query.window {
        None => WINDOW_SECONDS,
        Some(text) => seconds(text)?,
    };
    let resource = query.resource.as_deref().unwrap_or("all");
    let resource = ApiError::resource(resource, query.namespace.as_deref())?;
    let gathered = api.replicas.gather(&api.hub, window).await;
    let world = api.hub.world();
    if resource.name.is_some() {
        ApiError::exists(&resource, &world.index)?;
    }
    let read = |stats: &Stats, second| stats.view(&world.index, second, window);
    let stat = gathered.read(&api.hub, read);
    let rows = stat.edges.into_iter();
    let rows = rows.filter(|row| touches(&resource, row));
    Ok(Json(Edges {
        window_s: stat.window_s,
        edges: rows.map(|row| edge(row, &world)).collect(),
        missing: gathered.missing,
    }))
}

fn touches(resource: &Resource, row: &EdgeRow) -> bool {
    let named = |name: &str| resource.name.as_ref().is_none_or(|only| only == name);
    let is = |end: &Option<Ref>| {
        let end = end.as_ref().filter(|end| resource.within(&end.namespace));
        end.is_some_and(|end| match &resource.kind {
            Kind::All | Kind::Namespace => true,
            Kind::Owner(kind) => end.kind == *kind && named(&end.name),
            Kind::Pod => end.kind == "Pod" && named(&end.name),
            Kind::Service => false,
        })
    };
    let service = || {
        let (namespace, name) = row.service.as_deref()?.split_once('/')?;
        Some(resource.within(namespace) && named(name))
    };
    match resource.kind {
        Kind::Service => service() == Some(true),
        _ => is(&row.from) || is(&row.to),
    }
}

fn edge(row: EdgeRow, world: &World) -> Edge {
    let (client, server) = (row.from.as_ref(), row.to.as_ref());
    let protected = row.protection == "mtls";
    let id = |end: Option<&Ref>| end.map(|end| identity(end, world)).unwrap_or_default();
    let reason = match (client, server) {
        _ if protected => String::new(),
        (Some(client), _) if !client.meshed => {
            format!(
                "the client {} is not in the mesh{}",
                client.name,
                why(client, world)
            )
        }
        (None, _) => "the client is no workload".to_owned(),
        (_, Some(server)) if !server.meshed => {
            format!(
                "the server {} is not in the mesh{}",
                server.name,
                why(server, world)
            )
        }
        (_, None) => "the server is no workload, or was not reached".to_owned(),
        (Some(client), Some(server)) if client == server => {
            "it talks to itself, and nothing leaves the pod".to_owned()
        }
        _ => "it was not reached".to_owned(),
    };
    Edge {
        client_id: id(client),
        server_id: id(server),
        reason,
        row,
    }
}

/// Of a pod of it: pods of one owner have one service account.
fn identity(end: &Ref, world: &World) -> String {
    if !end.meshed {
        return String::new();
    }
    let mut pods = world.index.pods().filter(|pod| is(end, pod));
    pods.next()
        .map(|pod| pod.workload.identity(&world.mesh.trust_domain).to_string())
        .unwrap_or_default()
}

fn is(end: &Ref, pod: &crate::index::Pod) -> bool {
    let who = crate::stat::Who::of(pod);
    who.namespace.as_str() == end.namespace && who.kind == end.kind && who.name.as_str() == end.name
}

/// As far as its objects say it.
fn why(end: &Ref, world: &World) -> &'static str {
    let mut pods = world.index.pods().filter(|pod| is(end, pod));
    match pods.next() {
        Some(pod) if pod.host_network => " (hostNetwork)",
        Some(_) if end.namespace == "kube-system" => " (the cluster's own)",
        Some(_) => " (maille.io/inject: disabled)",
        None => "",
    }
}
