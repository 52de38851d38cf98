// SPDX-License-Identifier: Apache-2.0
//! A Kubernetes cluster, as kubectl would reach it: the same files, the same contexts, the same ways to prove who asks.
//!
//! Must never wait without a deadline or read without a bound. Read `reach.rs` for the mesh's own API behind it.

use std::io::ErrorKind;

use anyhow::anyhow;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::api::{DEADLINE, MAX_ANSWER};
use crate::args::kubernetes::ClusterAt;
use crate::failure::Expected;
use crate::query::Query;
use crate::text::clean;

/// Objects that are asked for at once.
const PAGE: u32 = 500;

/// A cluster.
#[derive(Clone)]
pub(crate) struct Cluster {
    client: Client,
    server: String,
    namespace: String,
}

/// Whether anything says where a cluster is.
pub(crate) enum Found {
    Yes(Cluster),
    /// There is no file, and this is no pod.
    Nowhere,
}

// === impl Cluster ===

impl Cluster {
    /// The cluster that `at` names, or that kubectl would ask.
    pub(crate) async fn find(at: &ClusterAt) -> Result<Found, Expected> {
        let options = KubeConfigOptions {
            context: at.context.clone(),
            ..KubeConfigOptions::default()
        };
        let file = match &at.kubeconfig {
            Some(path) => Kubeconfig::read_from(path),
            None => Kubeconfig::read(),
        };
        let config = match file {
            Ok(file) => Config::from_custom_kubeconfig(file, &options).await,
            Err(error)
                if at.kubeconfig.is_none()
                    && at.context.is_none()
                    && is_absent(&error, std::env::var_os("KUBECONFIG").is_some()) =>
            {
                match Config::incluster() {
                    Ok(config) => Ok(config),
                    Err(_) => return Ok(Found::Nowhere),
                }
            }
            Err(error) => Err(error),
        };
        let config = config.map_err(|error| Expected::Kubeconfig {
            source: anyhow!(error),
        })?;
        let (server, namespace) = (
            config.cluster_url.to_string(),
            config.default_namespace.clone(),
        );
        let client = Client::try_from(config).map_err(|error| Expected::Kubeconfig {
            source: anyhow!(error),
        })?;
        Ok(Found::Yes(Self {
            client,
            server: clean(server.trim_end_matches('/')),
            namespace,
        }))
    }

    /// The same, where there must be one.
    pub(crate) async fn connect(at: &ClusterAt) -> Result<Self, Expected> {
        match Self::find(at).await? {
            Found::Yes(cluster) => Ok(cluster),
            Found::Nowhere => Err(Expected::NoCluster),
        }
    }

    /// Where its API server is.
    pub(crate) fn server(&self) -> &str {
        &self.server
    }

    /// The namespace of objects that name none.
    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// That it did not answer as it should.
    pub(crate) fn silent(&self, source: anyhow::Error) -> Expected {
        Expected::SilentCluster {
            server: self.server.clone(),
            source,
        }
    }

    /// The answer to a request, as soon as its head is there.
    pub(crate) async fn send(&self, request: Request<Body>) -> Result<Response<Body>, Expected> {
        match timeout(DEADLINE, self.client.send(request)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(self.silent(anyhow!(error))),
            Err(_) => Err(self.silent(anyhow!("no answer in {DEADLINE:?}"))),
        }
    }

    /// The whole of a body.
    pub(crate) async fn whole(&self, body: Body) -> Result<Bytes, Expected> {
        let body = Limited::new(body, MAX_ANSWER).collect();
        match timeout(DEADLINE, body).await {
            Ok(Ok(body)) => Ok(body.to_bytes()),
            Ok(Err(error)) => Err(self.silent(anyhow!(error))),
            Err(_) => Err(self.silent(anyhow!("no more of an answer in {DEADLINE:?}"))),
        }
    }

    /// Asks for `path`.
    pub(crate) async fn ask(&self, path: &str) -> Result<(StatusCode, Bytes), Expected> {
        self.exchange(Request::get(path).body(Body::empty())).await
    }

    async fn exchange(
        &self,
        request: http::Result<Request<Body>>,
    ) -> Result<(StatusCode, Bytes), Expected> {
        let request = request.map_err(|error| self.silent(anyhow!(error)))?;
        let answer = self.send(request).await?;
        let status = answer.status();
        Ok((status, self.whole(answer.into_body()).await?))
    }

    /// One object; `None` where there is none.
    pub(crate) async fn object(&self, path: &str) -> Result<Option<Value>, Expected> {
        let (status, body) = self.ask(path).await?;
        match status {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => self.json(&body).map(Some),
            status => Err(refused(status, &body)),
        }
    }

    /// Every object of a collection, page by page.
    pub(crate) async fn all(
        &self,
        path: &str,
        labels: Option<&str>,
    ) -> Result<Vec<Value>, Expected> {
        let (mut all, mut next) = (Vec::new(), None::<String>);
        loop {
            let query = Query::of(path)
                .with("limit", PAGE)
                .maybe("labelSelector", labels)
                .maybe("continue", next.as_deref());
            let (status, body) = self.ask(query.path()).await?;
            if !status.is_success() {
                return Err(refused(status, &body));
            }
            let mut page = self.json(&body)?;
            if let Value::Array(items) = page["items"].take() {
                all.extend(items);
            }
            next = page["metadata"]["continue"].as_str().map(str::to_owned);
            if next.as_ref().is_none_or(String::is_empty) {
                return Ok(all);
            }
        }
    }

    /// Whether whoever asks may do `verb` to `resource` of `group`, in every namespace.
    pub(crate) async fn may(
        &self,
        verb: &str,
        group: &str,
        resource: &str,
    ) -> Result<bool, Expected> {
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {"verb": verb, "group": group, "resource": resource}},
        });
        let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        let request = Request::post(path)
            .header("content-type", "application/json")
            .body(Body::from(review.to_string().into_bytes()));
        let (status, body) = self.exchange(request).await?;
        if !status.is_success() {
            return Err(refused(status, &body));
        }
        Ok(self.json(&body)?["status"]["allowed"] == true)
    }

    fn json(&self, body: &[u8]) -> Result<Value, Expected> {
        serde_json::from_slice(body).map_err(|error| self.silent(anyhow!(error)))
    }
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster")
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

/// Whether there is no file at all, as opposed to one that is wrong, or that was `named` and cannot be read.
fn is_absent(error: &KubeconfigError, named: bool) -> bool {
    match error {
        KubeconfigError::FindPath => true,
        KubeconfigError::ReadConfig(error, _) => match error.kind() {
            ErrorKind::NotFound => true,
            // A home that is not this user's, as with setpriv.
            ErrorKind::PermissionDenied => !named,
            _ => false,
        },
        _ => false,
    }
}

/// An answer of the API server that says no, in its own words.
pub(crate) fn refused(status: StatusCode, body: &[u8]) -> Expected {
    let said: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    let text = said["message"].as_str().map(clean);
    let hint = match status {
        StatusCode::UNAUTHORIZED => {
            Some("kubectl's credentials are not accepted: try `kubectl auth whoami`")
        }
        StatusCode::FORBIDDEN => {
            Some("ask whoever administers the cluster for that right, or choose another --context")
        }
        _ => None,
    };
    Expected::Refused {
        what: text
            .filter(|text| !text.is_empty())
            .unwrap_or_else(|| format!("the cluster says {status}")),
        hint: hint.map(str::to_owned),
        wrong: status == StatusCode::BAD_REQUEST,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_nobody_named_may_be_missing_or_out_of_reach() {
        let of = |kind: ErrorKind| KubeconfigError::ReadConfig(kind.into(), "config".into());
        assert!(is_absent(&KubeconfigError::FindPath, false));
        for named in [true, false] {
            assert!(is_absent(&of(ErrorKind::NotFound), named));
            assert!(!is_absent(&of(ErrorKind::InvalidData), named));
            assert_eq!(is_absent(&of(ErrorKind::PermissionDenied), named), !named);
        }
    }
}
