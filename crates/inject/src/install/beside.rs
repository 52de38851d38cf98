// SPDX-License-Identifier: Apache-2.0
//! The proxy in control's own pods, by which control is meshed: in front of one port, and for whatever other proxies send. Nothing is
//! captured, so that nobody here needs a right.
//!
//! It takes its identity and its snapshot from the control beside it, over loopback, and what it trusts from a file that control
//! writes: nothing outside the pod is needed for it to begin. Control starts without waiting for it, or neither ever would. Must
//! never stand before ports 15010 and 8443, where control itself has to see who dials (`ARCHITECTURE.md`). Read `control.rs` next.

use serde_json::{Value, json};

use super::{CONTROL, GRPC_PORT, HEALTH_PORT, Options};
use crate::names::{AUDIENCE, MESH_PORT, METRICS_PORT, PROXY, PROXY_UID, TOKEN, TOKEN_SECONDS};

/// What scrapes and what asks whether control is ready dials this.
pub(super) const FRONT_PORT: u16 = 8_080;
/// What control and the proxy share: the trust anchors.
const SHARED: (&str, &str) = ("anchors", "/var/run/maille/anchors");

/// Where control writes the trust anchors.
pub(super) fn anchors_file() -> String {
    format!("{}/ca.crt", SHARED.1)
}

/// The volume of that file, as control has it.
pub(super) fn shared() -> Value {
    json!({"mountPath": SHARED.1, "name": SHARED.0})
}

pub(super) fn volumes() -> [Value; 2] {
    [
        json!({"name": SHARED.0, "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}),
        json!({
            "name": TOKEN.0,
            "projected": {"sources": [{"serviceAccountToken": {
                "audience": AUDIENCE,
                "expirationSeconds": TOKEN_SECONDS,
                "path": "token",
            }}]},
        }),
    ]
}

/// A native sidecar: there before control, gone after it.
pub(super) fn container(options: &Options, image: &str) -> Value {
    let probe = |path: &str, seconds: u32, failures: u32| {
        json!({
            "failureThreshold": failures,
            "httpGet": {"path": path, "port": METRICS_PORT},
            "periodSeconds": seconds,
            "timeoutSeconds": 5,
        })
    };
    json!({
        "name": PROXY,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["/maille-proxy"],
        "env": environment(options),
        "ports": [
            {"containerPort": FRONT_PORT, "name": "metrics"},
            {"containerPort": MESH_PORT, "name": "maille-mesh"},
            {"containerPort": METRICS_PORT, "name": "maille-metrics"},
        ],
        "restartPolicy": "Always",
        // It runs: what it needs to be ready comes from the control that begins after it.
        "startupProbe": probe("/live", 1, 60),
        "livenessProbe": probe("/live", 10, 3),
        "resources": {
            "limits": {"memory": "256Mi"},
            "requests": {"cpu": "50m", "memory": "32Mi"},
        },
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": true,
            "runAsGroup": PROXY_UID,
            "runAsUser": PROXY_UID,
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"mountPath": SHARED.1, "name": SHARED.0, "readOnly": true},
            {"mountPath": TOKEN.1, "name": TOKEN.0, "readOnly": true},
        ],
    })
}

/// Whom every proxy believes to be control.
fn identity(options: &Options) -> String {
    let Options {
        trust_domain,
        namespace,
        ..
    } = options;
    format!("spiffe://{trust_domain}/ns/{namespace}/sa/{CONTROL}")
}

fn environment(options: &Options) -> Vec<Value> {
    let uid = json!({"name": "MAILLE_WORKLOAD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}});
    let fixed = [
        ("MAILLE_CONTROL", format!("127.0.0.1:{GRPC_PORT}")),
        ("MAILLE_CONTROL_IDENTITY", identity(options)),
        ("MAILLE_TRUST", anchors_file()),
        ("MAILLE_TOKEN", format!("{}/token", TOKEN.1)),
        ("MAILLE_CAPTURE", "none".to_owned()),
        ("MAILLE_APPLICATION", format!("127.0.0.1:{HEALTH_PORT}")),
        ("MAILLE_INBOUND", format!("[::]:{FRONT_PORT}")),
        ("MAILLE_MESH", format!("[::]:{MESH_PORT}")),
        ("MAILLE_METRICS", format!("[::]:{METRICS_PORT}")),
    ];
    let fixed = fixed.map(|(name, value)| json!({"name": name, "value": value}));
    std::iter::once(uid).chain(fixed).collect()
}
