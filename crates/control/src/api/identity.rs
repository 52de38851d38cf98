// SPDX-License-Identifier: Apache-2.0
//! `GET /v1/identity`: the certificates with which pods prove themselves, as their proxies hold them at this moment.
//!
//! Certificates only: a key never leaves its proxy. Read [`crate::ask`] next.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use futures_util::future::join_all;
use maille_identity::describe;
use maille_model::WorkloadUid;
use maille_wire::v1;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Api, ApiError};
use crate::ask::AskError;

const PATIENCE: Duration = Duration::from_secs(5);
/// Pods that are asked for one answer.
const PODS: usize = 200;

/// The parameters.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IdentityQuery {
    /// `KIND` or `KIND/NAME`.
    pub resource: String,
    /// Only in this namespace.
    pub namespace: Option<String>,
}

/// `GET /v1/identity`.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Identities {
    /// One for each pod, meshed or not.
    pub pods: Vec<IdentityRow>,
    /// Replicas of control that do not answer: proxies that are connected to them cannot be asked.
    pub missing: Vec<String>,
}

/// One pod.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct IdentityRow {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// It has a proxy.
    pub meshed: bool,
    /// Whom it proves to be.
    pub identity: String,
    /// When its certificate begins, in seconds since the Unix epoch.
    pub not_before: i64,
    /// When it ends.
    pub not_after: i64,
    /// When the next one is asked for, at the latest.
    pub renews_at: i64,
    /// How many this proxy process has had.
    pub generation: u64,
    /// Its certificate and those above it, the leaf first.
    pub chain: Vec<Certificate>,
    /// Whom it believes.
    pub trust_anchors: Vec<Certificate>,
    /// Why there is nothing to show.
    pub error: String,
}

/// One certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Certificate {
    /// Whom it names.
    pub subject: String,
    /// Who signed it.
    pub issuer: String,
    /// Its number, in hexadecimal.
    pub serial: String,
    /// When it begins, in seconds since the Unix epoch.
    pub not_before: i64,
    /// When it ends.
    pub not_after: i64,
    /// SHA-256 of it, in hexadecimal.
    pub sha256: String,
    /// The whole (RFC 7468).
    pub pem: String,
}

pub(super) async fn identity(
    State(api): State<Arc<Api>>,
    query: Result<Query<IdentityQuery>, QueryRejection>,
) -> Result<Json<Identities>, ApiError> {
    let Query(query) = query.map_err(|rejection| {
        ApiError::bad(
            rejection.body_text(),
            "for example /v1/identity?resource=deploy/web",
        )
    })?;
    let resource = ApiError::resource(&query.resource, query.namespace.as_deref())?;
    let pods: Vec<(WorkloadUid, IdentityRow, bool)> = {
        let world = api.hub.world();
        ApiError::exists(&resource, &world.index)?;
        let pods = resource.pods(&world.index).into_iter();
        pods.filter(|pod| pod.has_addresses())
            .take(PODS)
            .map(|pod| {
                let workload = &pod.workload;
                let row = IdentityRow {
                    namespace: workload.namespace.to_string(),
                    name: workload.name.to_string(),
                    meshed: pod.is_served(),
                    ..IdentityRow::default()
                };
                (workload.uid.clone(), row, pod.is_served())
            })
            .collect()
    };
    let asked = pods.into_iter().map(async |(uid, row, served)| {
        if !served {
            let error = "it is not in the mesh, and proves nothing".to_owned();
            return IdentityRow { error, ..row };
        }
        let what = v1::question::What::Certificate(v1::Certificate {});
        match api.hub.questions().once(&uid, what, PATIENCE).await {
            Ok(v1::answer::What::Certificate(answer)) => filled(row, &answer),
            Ok(_) => failed(row, &AskError::Refused("it answered something else".into())),
            Err(error) => failed(row, &error),
        }
    });
    let missing = api.replicas.away();
    let mut pods = join_all(asked).await;
    pods.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    Ok(Json(Identities { pods, missing }))
}

fn failed(row: IdentityRow, error: &AskError) -> IdentityRow {
    let error = error.to_string();
    IdentityRow { error, ..row }
}

fn filled(row: IdentityRow, answer: &v1::CertificateAnswer) -> IdentityRow {
    let read =
        |all: &[Vec<u8>]| -> Vec<Certificate> { all.iter().map(|der| certificate(der)).collect() };
    let chain = read(&answer.chain);
    IdentityRow {
        identity: chain
            .first()
            .map(|leaf| leaf.subject.clone())
            .unwrap_or_default(),
        not_before: answer.not_before,
        not_after: answer.not_after,
        renews_at: answer.renews_at,
        generation: answer.generation,
        trust_anchors: read(&answer.trust_anchors),
        chain,
        ..row
    }
}

/// What cannot be read is shown as it is.
fn certificate(der: &[u8]) -> Certificate {
    let pem = describe::pem(der);
    let sha256 = describe::sha256(der);
    match describe::certificate(der) {
        Some(said) => Certificate {
            subject: said.subject,
            issuer: said.issuer,
            serial: said.serial,
            not_before: said.not_before,
            not_after: said.not_after,
            sha256,
            pem,
        },
        None => Certificate {
            sha256,
            pem,
            ..Certificate::default()
        },
    }
}
