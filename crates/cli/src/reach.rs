// SPDX-License-Identifier: Apache-2.0
//! The mesh that is asked: of this machine, by its socket, or of a cluster, by way of the API server. The questions are the same.
//!
//! What is named is asked. Where nothing is named it is the `maille up` named `default`, if one runs, and else kubectl's cluster.
//! Read `api.rs` for what is asked, `cluster.rs` for the way there.

use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Limited};
use kube::client::Body;
use serde::Deserialize;

use crate::api;
use crate::args::kubernetes::Where;
use crate::cluster::{self, Cluster, Found};
use crate::failure::Expected;
use crate::screen::Screen;
use crate::state::{Base, Holder, State};
use crate::text::clean;

/// The mesh's API behind the API server.
const API: &str = "/apis/api.maille.io/v1";
/// What stands for nobody having named one.
const DEFAULT: &str = "default";
/// The longest refusal that is read.
const LONGEST: usize = 1 << 20;

/// A mesh.
#[derive(Debug, Clone)]
pub(crate) enum Reach {
    /// Of this machine.
    Local(State),
    /// Of a cluster.
    Cluster(Box<Cluster>),
}

/// An answer that goes on.
pub(crate) type Stream = UnsyncBoxBody<Bytes, anyhow::Error>;

// === impl Reach ===

impl Reach {
    /// The mesh that `at` means.
    pub(crate) async fn find(at: &Where, base: &Base) -> anyhow::Result<Self> {
        if let Some(name) = &at.name {
            return Ok(Self::Local(base.state(name)?));
        }
        let named = at.cluster.kubeconfig.is_some() || at.cluster.context.is_some();
        let local = base.state(DEFAULT)?;
        if !named && !matches!(local.holder()?, Holder::Absent) {
            return Ok(Self::Local(local));
        }
        match Cluster::find(&at.cluster).await? {
            Found::Yes(cluster) => Ok(Self::Cluster(Box::new(cluster))),
            // Its absence is said where it is asked.
            Found::Nowhere => Ok(Self::Local(local)),
        }
    }

    /// Asks for `path`, as in `/v1/stat?window=60`.
    pub(crate) async fn get<T: for<'a> Deserialize<'a>>(&self, path: &str) -> Result<T, Expected> {
        let cluster = match self {
            Self::Local(state) => return api::get(state, path).await,
            Self::Cluster(cluster) => cluster,
        };
        let (status, body) = cluster.ask(&behind(path)).await?;
        if !status.is_success() {
            return Err(refused(status, &body));
        }
        if let Some(remark) = incomplete(&body) {
            Screen::remark(&remark);
        }
        serde_json::from_slice(&body)
            .with_context(|| format!("{path}: not the answer this version expects"))
            .map_err(|error| cluster.silent(error))
    }

    /// What an answer says to this program. Its JSON is passed on as it came: it may say more.
    pub(crate) fn read<T: for<'a> Deserialize<'a>>(
        &self,
        said: &serde_json::Value,
    ) -> Result<T, Expected> {
        T::deserialize(said).map_err(|error| {
            self.silent(anyhow!(error).context("not the answer this version expects"))
        })
    }

    /// Asks a cluster for an answer that goes on.
    pub(crate) async fn stream(cluster: &Cluster, path: &str) -> Result<Stream, Expected> {
        let request = Request::get(behind(path)).body(Body::empty());
        let request = request.map_err(|error| cluster.silent(anyhow!(error)))?;
        let answer = cluster.send(request).await?;
        let status = answer.status();
        if !status.is_success() {
            let body = Limited::new(answer.into_body(), LONGEST).collect().await;
            let body = body.map_err(|error| cluster.silent(anyhow!(error)))?;
            return Err(refused(status, &body.to_bytes()));
        }
        let body = answer.into_body().map_err(|error| anyhow!(error));
        Ok(body.boxed_unsync())
    }

    /// That it did not answer as it should.
    pub(crate) fn silent(&self, source: anyhow::Error) -> Expected {
        match self {
            Self::Local(state) => Expected::Silent {
                name: state.name().to_owned(),
                source,
            },
            Self::Cluster(cluster) => cluster.silent(source),
        }
    }
}

/// What an answer lacks, by its own word: replicas of control that did not answer the one that was asked.
fn incomplete(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Lacking {
        #[serde(default)]
        missing: Vec<String>,
    }
    let Lacking { missing } = serde_json::from_slice(body).ok()?;
    let names: Vec<_> = missing.iter().map(|name| clean(name)).collect();
    (!names.is_empty()).then(|| {
        format!(
            "{} did not answer: what the proxies say that are connected there is missing (`maille check` says more)",
            names.join(", ")
        )
    })
}

/// The path of a question behind the API server. What is about one namespace is asked there, so that who may see only that may ask.
fn behind(path: &str) -> String {
    let bare = path.strip_prefix("/v1/").unwrap_or(path);
    let (what, query) = bare.split_once('?').unwrap_or((bare, ""));
    let (mut namespace, mut rest) = (None, Vec::new());
    for parameter in query.split('&').filter(|one| !one.is_empty()) {
        match parameter.strip_prefix("namespace=") {
            Some(name) => namespace = Some(name),
            None => rest.push(parameter),
        }
    }
    let mut path = match namespace {
        Some(namespace) => format!("{API}/namespaces/{namespace}/{what}"),
        None => format!("{API}/{what}"),
    };
    if !rest.is_empty() {
        path.push('?');
        path.push_str(&rest.join("&"));
    }
    path
}

/// A refusal, of the mesh or of the API server before it.
fn refused(status: StatusCode, body: &[u8]) -> Expected {
    let mesh = serde_json::from_slice::<serde_json::Value>(body)
        .is_ok_and(|said| said["error"]["message"].is_string());
    match status {
        _ if mesh => api::refused(status, body),
        StatusCode::NOT_FOUND | StatusCode::SERVICE_UNAVAILABLE => Expected::NoMesh,
        status => cluster::refused(status, body),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_about_one_namespace_is_asked_there() {
        for (path, asked) in [
            ("/v1/version", "/apis/api.maille.io/v1/version"),
            (
                "/v1/stat?window=60",
                "/apis/api.maille.io/v1/stat?window=60",
            ),
            (
                "/v1/tap?resource=deploy%2Fweb&namespace=shop&to_namespace=db",
                "/apis/api.maille.io/v1/namespaces/shop/tap?resource=deploy%2Fweb&to_namespace=db",
            ),
            (
                "/v1/edges?namespace=a",
                "/apis/api.maille.io/v1/namespaces/a/edges",
            ),
        ] {
            assert_eq!(behind(path), asked);
        }
    }

    #[test]
    fn an_answer_says_what_it_lacks() {
        assert_eq!(incomplete(br#"{"rows":[]}"#), None);
        assert_eq!(incomplete(br#"{"rows":[],"missing":[]}"#), None);
        let said = incomplete(br#"{"missing":["maille-control-x"]}"#).unwrap();
        assert!(
            said.starts_with("maille-control-x did not answer"),
            "{said}"
        );
    }

    #[test]
    fn refusals_are_told_apart() {
        let mesh = br#"{"error":{"message":"no such pod","hint":"look"}}"#;
        let said = refused(StatusCode::NOT_FOUND, mesh);
        assert_eq!(said.to_string(), "no such pod");
        let server = br#"{"kind":"Status","message":"stat.api.maille.io is forbidden"}"#;
        let said = refused(StatusCode::FORBIDDEN, server);
        assert!(said.to_string().contains("forbidden") && said.hint().is_some());
        assert!(matches!(
            refused(StatusCode::NOT_FOUND, b"404"),
            Expected::NoMesh
        ));
    }
}
