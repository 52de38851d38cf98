// SPDX-License-Identifier: Apache-2.0
//! What an API server asks of control, with TLS on port 8443: our API, which it passes on for people (an APIService), and what
//! becomes of a new pod (a webhook).
//!
//! Who asks is what the front proxy says he is ([`crate::cluster::front`]), and nobody is believed who is not the front proxy; what he
//! may do is what SubjectAccessReview says, for each namespace that his question names ([`wish`]). Only then is
//! [`crate::api`] asked. Read [`wish`], then [`discovery`] for what the API says of itself.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use maille_chassis::limited;
use tokio::sync::watch;
use tower::ServiceExt as _;

use crate::causes::with_causes;
use crate::cluster::front::FrontProxy;
use crate::cluster::review::{Reviewer, User};

/// Whether somebody asked something.
mod asked;
/// What the API says of itself.
mod discovery;
/// Connections of API servers.
pub mod door;
mod guests;
/// What becomes of a new pod.
pub mod inject;
/// Refusals in Kubernetes' words.
mod status;
/// What a question needs.
mod wish;

use inject::Injector;
use status::Status;
use wish::Question;

/// What the gate rests on.
#[derive(Clone, Debug)]
pub struct Gate {
    /// The API for people.
    pub api: Router,
    /// Who may do what.
    pub reviewer: Reviewer,
    /// Who may speak for users.
    pub front: watch::Receiver<Option<FrontProxy>>,
    /// What becomes of new pods.
    pub injector: Injector,
}

/// The common name of the certificate that a connection showed, if it showed one of the front proxy's authority.
#[derive(Clone, Debug)]
pub struct ShownName(pub Option<String>);

/// The routes; each connection adds its [`ShownName`].
pub fn router(gate: Gate) -> Router {
    let webhook = inject::route(gate.injector.clone());
    Router::new()
        .route("/apis", get(discovery::groups))
        .route("/apis/api.maille.io", get(discovery::group))
        .route("/apis/api.maille.io/v1", get(discovery::resources))
        .route("/apis/api.maille.io/v1/{what}", get(everywhere))
        .route(
            "/apis/api.maille.io/v1/namespaces/{namespace}/{what}",
            get(in_namespace),
        )
        .fallback(unknown)
        .method_not_allowed_fallback(not_allowed)
        .with_state(Arc::new(gate))
        .merge(webhook)
}

async fn everywhere(
    State(gate): State<Arc<Gate>>,
    Extension(shown): Extension<ShownName>,
    Path(what): Path<String>,
    request: Request,
) -> Result<Response, Status> {
    answer(&gate, &shown, &what, None, request).await
}

async fn in_namespace(
    State(gate): State<Arc<Gate>>,
    Extension(shown): Extension<ShownName>,
    Path((namespace, what)): Path<(String, String)>,
    request: Request,
) -> Result<Response, Status> {
    answer(&gate, &shown, &what, Some(&namespace), request).await
}

async fn answer(
    gate: &Gate,
    shown: &ShownName,
    what: &str,
    namespace: Option<&str>,
    request: Request,
) -> Result<Response, Status> {
    let user = user(gate, shown, &request)?;
    let question = Question::parse(what, namespace, request.uri())?;
    for wish in &question.wishes {
        let allowed = gate.reviewer.allows(&user, wish).await;
        let allowed = allowed.map_err(|error| {
            limited!(warn, error = %with_causes(&error), "access not reviewed");
            Status::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "what you may do could not be found out: the API server did not answer control"
                    .to_owned(),
            )
        })?;
        if !allowed {
            return Err(Status::forbidden(&user.name, wish));
        }
    }
    let inner = Request::get(question.uri).body(Body::empty());
    let inner = inner.map_err(|error| Status::new(StatusCode::BAD_REQUEST, error.to_string()))?;
    Ok(match gate.api.clone().oneshot(inner).await {
        Ok(response) => response,
        Err(never) => match never {},
    })
}

/// For whom the front proxy speaks.
fn user(gate: &Gate, shown: &ShownName, request: &Request) -> Result<User, Status> {
    let front = gate.front.borrow().clone();
    let (Some(front), Some(name)) = (front, &shown.0) else {
        return Err(Status::unauthorized(
            "only the API server may ask here: its front proxy must show its certificate",
        ));
    };
    if !front.is(name) {
        return Err(Status::unauthorized(
            "the certificate is not one that --requestheader-allowed-names allows",
        ));
    }
    front
        .user(request.headers())
        .ok_or_else(|| Status::unauthorized("the front proxy names no user"))
}

async fn unknown(uri: Uri) -> Response {
    let message = format!("there is no {} here", uri.path());
    Status::new(StatusCode::NOT_FOUND, message).into_response()
}

async fn not_allowed() -> Response {
    let message = "only GET is known here: nothing is changed through this API, and what becomes of pods is asked at POST /inject".to_owned();
    Status::new(StatusCode::METHOD_NOT_ALLOWED, message).into_response()
}

#[cfg(test)]
mod tests;
