// SPDX-License-Identifier: Apache-2.0
//! Events of pods, as `kubectl describe pod` shows them: what nodes' agents told. Each is written once; one that cannot be written is
//! lost, and logged.

use k8s_openapi::api::core::v1::{Event as Object, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::mpsc;

use super::call;
use crate::causes::with_causes;

/// Events on their way to the API server.
const ROOM: usize = 256;
/// Who tells.
const COMPONENT: &str = "maille-node";

/// One.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub name: String,
    /// The pod's uid.
    pub uid: String,
    /// In one word.
    pub reason: &'static str,
    /// Whether somebody should look.
    pub weight: Weight,
    /// In one line.
    pub message: String,
}

/// Whether somebody should look at an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// It is as it should be.
    Normal,
    /// It was not.
    Warning,
}

/// Where events are told.
pub type Events = mpsc::Sender<Event>;

/// Where events are told, and who writes them down: to be run.
pub fn keep(client: Client) -> (Events, impl Future<Output = ()> + Send) {
    let (events, told) = mpsc::channel(ROOM);
    (events, write(client, told))
}

async fn write(client: Client, mut told: mpsc::Receiver<Event>) {
    while let Some(event) = told.recv().await {
        let api: Api<Object> = Api::namespaced(client.clone(), &event.namespace);
        let (params, object) = (PostParams::default(), event.object());
        if let Err(error) = call(api.create(&params, &object)).await {
            let reason = with_causes(&error);
            maille_chassis::limited!(warn, reason, "an event was not written");
        }
    }
}

// === impl Event ===

impl Event {
    fn object(self) -> Object {
        let kind = match self.weight {
            Weight::Normal => "Normal",
            Weight::Warning => "Warning",
        };
        let now = Time(k8s_openapi::jiff::Timestamp::now());
        Object {
            metadata: ObjectMeta {
                generate_name: Some(format!("{}.", self.name)),
                namespace: Some(self.namespace.clone()),
                ..ObjectMeta::default()
            },
            involved_object: ObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                namespace: Some(self.namespace),
                name: Some(self.name),
                uid: Some(self.uid),
                ..ObjectReference::default()
            },
            reason: Some(self.reason.to_owned()),
            message: Some(self.message),
            type_: Some(kind.to_owned()),
            source: Some(EventSource {
                component: Some(COMPONENT.to_owned()),
                ..EventSource::default()
            }),
            count: Some(1),
            first_timestamp: Some(now.clone()),
            last_timestamp: Some(now),
            ..Object::default()
        }
    }
}
