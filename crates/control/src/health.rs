// SPDX-License-Identifier: Apache-2.0
//! What a kubelet and Prometheus ask, in plain HTTP: `/live`, `/ready`, `/metrics`. Nothing else is told here, because nobody
//! here says who he is.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::hub::{Hub, Phase};
use crate::keyring::Keyring;
use crate::metrics;

/// What answers are made of.
#[derive(Clone, Debug)]
pub struct Health {
    /// Everything that is known.
    pub hub: Arc<Hub>,
    /// What certificates are signed with.
    pub keyring: Keyring,
}

/// The routes.
pub fn router(health: Health) -> Router {
    Router::new()
        .route("/live", get(|| async { "alive\n" }))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics_text))
        .with_state(health)
}

/// Ready is who can be sent proxies: everything was read, and there is an authority.
async fn ready(State(health): State<Health>) -> (StatusCode, &'static str) {
    let phase = *health.hub.phase().borrow();
    match (phase, health.keyring.current()) {
        (Phase::Starting, _) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "not everything was read yet\n",
        ),
        (Phase::Draining, _) => (StatusCode::SERVICE_UNAVAILABLE, "stopping\n"),
        (Phase::Serving, None) => (StatusCode::SERVICE_UNAVAILABLE, "no authority yet\n"),
        (Phase::Serving, Some(_)) => (StatusCode::OK, "ready\n"),
    }
}

async fn metrics_text(State(health): State<Health>) -> Response {
    let text = metrics::text(&health.hub, &health.keyring);
    let kind = [(CONTENT_TYPE, maille_chassis::metrics::CONTENT_TYPE)];
    (kind, text).into_response()
}
