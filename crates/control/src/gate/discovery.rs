// SPDX-License-Identifier: Apache-2.0
//! What the aggregated API says of itself: its group, its version, its resources. The API server asks it of us, and anybody may
//! know.

use axum::Json;
use serde_json::{Value, json};

use super::wish::ALL;
use crate::cluster::GROUP;

/// The one version.
const VERSION: &str = "v1";

/// `GET /apis`.
pub(super) async fn groups() -> Json<Value> {
    let mut group = described();
    if let Value::Object(map) = &mut group {
        map.retain(|name, _| name != "kind" && name != "apiVersion");
    }
    Json(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": [group]}))
}

/// `GET /apis/api.maille.io`.
pub(super) async fn group() -> Json<Value> {
    Json(described())
}

fn described() -> Value {
    let version = json!({"groupVersion": format!("{GROUP}/{VERSION}"), "version": VERSION});
    json!({
        "kind": "APIGroup",
        "apiVersion": "v1",
        "name": GROUP,
        "versions": [version],
        "preferredVersion": version,
    })
}

/// `GET /apis/api.maille.io/v1`.
pub(super) async fn resources() -> Json<Value> {
    let resource = |what: super::wish::What| {
        json!({
            "name": what.name,
            "singularName": what.name,
            "namespaced": what.is_namespaced(),
            "kind": what.kind,
            "verbs": ["list"],
        })
    };
    Json(json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": format!("{GROUP}/{VERSION}"),
        "resources": ALL.map(resource),
    }))
}
