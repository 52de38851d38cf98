// SPDX-License-Identifier: Apache-2.0
//! `POST /inject`: what becomes of a new pod; `POST /verify`: whether that is still so when nobody changes the pod any more. Decides
//! nothing: `maille_inject` does, with what the cluster says.
//!
//! An API server that gets no answer from here refuses the pod (`failurePolicy: Fail`), so nothing that was meant for the mesh runs
//! outside it. No answer changes anything: a dry run is answered like any other.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json, Router};
use maille_inject::Asked as Stage;
use maille_inject::{Handlers, NamespaceFacts, Nodes, Settings, SettingsError};
use maille_model::{Identity, ServiceId};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::asked::Asked;
use crate::causes::with_causes;
use crate::cluster::namespaces::Namespaces;
use crate::cluster::runtimes::Runtimes;
use crate::hub::Hub;

/// The largest question: an object may have 1.5 MiB, and an old one may come with it.
const BYTES: usize = 8 << 20;
/// Where proxies reach control.
const GRPC: u16 = 15_010;

/// What answers are made of.
#[derive(Clone, Debug)]
pub struct Injector {
    /// Everything that is known.
    pub hub: Arc<Hub>,
    /// What namespaces say of themselves.
    pub namespaces: watch::Receiver<Namespaces>,
    /// What runtime classes run pods by.
    pub runtimes: watch::Receiver<Runtimes>,
    /// What images' names begin with.
    pub image_prefix: String,
    /// Who control is.
    pub control: Identity,
    /// Who captures pods.
    pub nodes: Nodes,
}

/// Why nothing can be injected.
#[derive(Debug, thiserror::Error)]
enum InjectError {
    #[error("control does not know the address of its own Service {0} yet")]
    Address(ServiceId),
    #[error(
        "control was not told of RuntimeClass {0:?} yet, so it cannot say how its pods are captured; try again"
    )]
    Runtime(String),
    #[error("--image-prefix cannot be used")]
    Settings(#[from] SettingsError),
}

/// The route.
pub(super) fn route(injector: Injector) -> Router {
    Router::new()
        .route("/inject", axum::routing::post(inject))
        .route("/verify", axum::routing::post(verify))
        .layer(axum::extract::DefaultBodyLimit::max(BYTES))
        .with_state(injector)
}

async fn inject(
    State(injector): State<Injector>,
    asked: Option<Extension<Asked>>,
    body: Bytes,
) -> Response {
    answer(&injector, Stage::Webhook, asked, &body)
}

async fn verify(
    State(injector): State<Injector>,
    asked: Option<Extension<Asked>>,
    body: Bytes,
) -> Response {
    answer(&injector, Stage::Afterwards, asked, &body)
}

fn answer(
    injector: &Injector,
    stage: Stage,
    asked: Option<Extension<Asked>>,
    body: &Bytes,
) -> Response {
    let review: Value = match serde_json::from_slice(body) {
        Ok(review) => review,
        Err(error) => return (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    };
    if let Some(Extension(asked)) = asked
        && review["request"]["uid"].is_string()
    {
        asked.mark();
    }
    let class = review["request"]["object"]["spec"]["runtimeClassName"].as_str();
    let settings = match injector.settings(class.filter(|class| !class.is_empty())) {
        Ok(settings) => settings,
        Err(error) => {
            let reason = with_causes(&error);
            maille_chassis::limited!(error, reason, "pods cannot be injected");
            return (StatusCode::SERVICE_UNAVAILABLE, reason).into_response();
        }
    };
    let namespace = review["request"]["namespace"].as_str().unwrap_or_default();
    let facts = match injector.namespaces.borrow().labels(namespace) {
        Some(labels) => NamespaceFacts::of(namespace, &json!(labels)),
        None => NamespaceFacts::unknown(namespace),
    };
    Json(maille_inject::admit_in(&review, stage, &settings, &facts)).into_response()
}

// === impl Injector ===

impl Injector {
    /// For a pod of this RuntimeClass, if it has one.
    fn settings(&self, class: Option<&str>) -> Result<Settings, InjectError> {
        let id = ServiceId {
            namespace: self.control.namespace.clone(),
            name: self.control.service_account.clone(),
        };
        let world = self.hub.world();
        let service = world.index.service(&id);
        let address = service.and_then(|service| service.facts.addresses.first());
        let address = *address.ok_or(InjectError::Address(id))?;
        let settings = Settings::new(
            env!("CARGO_PKG_VERSION"),
            &self.image_prefix,
            SocketAddr::new(address, GRPC).into(),
            self.control.clone(),
        )?;
        let handlers = match class {
            None => Handlers::new(),
            Some(class) => {
                let runtimes = self.runtimes.borrow();
                let known = runtimes.knowing(class).cloned();
                known.ok_or_else(|| InjectError::Runtime(class.chars().take(80).collect()))?
            }
        };
        Ok(Settings {
            nodes: self.nodes,
            handlers,
            ..settings
        })
    }
}
