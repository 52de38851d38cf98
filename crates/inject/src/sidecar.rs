// SPDX-License-Identifier: Apache-2.0
//! The containers and volumes that a meshed pod gets: an init container that captures, and the proxy.
//!
//! The first has one right, NET_ADMIN (in gVisor NET_RAW, too), and ends; the second has none. Neither is ever privileged. Nothing here depends on the
//! application but its service class, and whether its kernel is gVisor's. Read `addition.rs` for where they go.

use serde_json::{Map, Value, json};

use crate::choices::{Choices, Form, Share};
use crate::names::{
    AUDIENCE, INBOUND_PORT, INIT, MESH_PORT, METRICS_PORT, OUTBOUND_PORT, PROXY, PROXY_UID, TOKEN,
    TOKEN_SECONDS, TRUST, TRUST_CONFIG_MAP,
};
use crate::settings::Settings;

/// What the container that captures needs: to change the packet filter of its pod.
pub(crate) const RIGHTS: &[&str] = &["NET_ADMIN"];
/// The same in gVisor, which shows it to a raw socket alone.
pub(crate) const RIGHTS_IN_GVISOR: &[&str] = &["NET_ADMIN", "NET_RAW"];

/// What an application has a right to, by what it asked for (Kubernetes' quality of service).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    /// Every container has equal requests and limits: the sidecar must have, too, or the pod loses its class.
    Guaranteed,
    /// Any other.
    Other,
}

/// Requests and limits of CPU and memory unless chosen: what quotas and limit ranges need to see.
const USUAL: [[&str; 2]; 2] = [["50m", "1"], ["32Mi", "256Mi"]];
/// The same where both must be equal.
const EQUAL: [&str; 2] = ["250m", "128Mi"];

/// The container that captures, with these rights.
pub(crate) fn init(
    choices: &Choices,
    settings: &Settings,
    service: Service,
    rights: &[&str],
) -> Value {
    let mut env = vec![json!({"name": "MAILLE_PROXY_UID", "value": PROXY_UID.to_string()})];
    for (name, ports) in [
        ("MAILLE_SKIP_INBOUND_PORTS", &choices.skip_inbound),
        ("MAILLE_SKIP_OUTBOUND_PORTS", &choices.skip_outbound),
    ] {
        if !ports.is_empty() {
            env.push(json!({"name": name, "value": ports.to_string()}));
        }
    }
    json!({
        "name": INIT,
        "image": settings.init_image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["/maille-init"],
        "env": env,
        "resources": resources(choices, service),
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": {"add": rights, "drop": ["ALL"]},
            "privileged": false,
            "readOnlyRootFilesystem": true,
            "runAsGroup": 0,
            "runAsNonRoot": false,
            "runAsUser": 0,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
    })
}

/// The proxy.
pub(crate) fn proxy(choices: &Choices, settings: &Settings, service: Service) -> Value {
    let mut container = json!({
        "name": PROXY,
        "image": settings.proxy_image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["/maille-proxy"],
        "env": environment(choices, settings),
        "ports": [
            {"containerPort": MESH_PORT, "name": "maille-mesh"},
            {"containerPort": METRICS_PORT, "name": "maille-metrics"},
        ],
        "startupProbe": probe("/ready", 1, 300),
        "readinessProbe": probe("/ready", 2, 3),
        "livenessProbe": probe("/live", 10, 3),
        "resources": resources(choices, service),
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"]},
            "privileged": false,
            "readOnlyRootFilesystem": true,
            "runAsGroup": PROXY_UID,
            "runAsNonRoot": true,
            "runAsUser": PROXY_UID,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"mountPath": TRUST.1, "name": TRUST.0, "readOnly": true},
            {"mountPath": TOKEN.1, "name": TOKEN.0, "readOnly": true},
        ],
    });
    if choices.form == Form::Native {
        container["restartPolicy"] = json!("Always");
    }
    container
}

fn environment(choices: &Choices, settings: &Settings) -> Vec<Value> {
    let doors = [
        ("MAILLE_OUTBOUND", OUTBOUND_PORT),
        ("MAILLE_INBOUND", INBOUND_PORT),
        ("MAILLE_MESH", MESH_PORT),
        ("MAILLE_METRICS", METRICS_PORT),
    ];
    let fixed = [
        ("MAILLE_CONTROL", settings.control.to_string()),
        (
            "MAILLE_CONTROL_IDENTITY",
            settings.control_identity.to_string(),
        ),
        ("MAILLE_TRUST", format!("{}/ca.crt", TRUST.1)),
        ("MAILLE_TOKEN", format!("{}/token", TOKEN.1)),
        ("MAILLE_CAPTURE", "redirect".to_owned()),
        ("MAILLE_SOURCE", "own".to_owned()),
    ];
    let chosen = [
        ("MAILLE_LOG", &choices.log),
        ("MAILLE_ACCESS_LOG", &choices.access_log),
        ("MAILLE_INSIDE", &choices.inside),
    ];
    let uid = json!({"name": "MAILLE_WORKLOAD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}});
    let mut env = vec![uid];
    env.extend(fixed.map(|(name, value)| json!({"name": name, "value": value})));
    let everywhere = |(name, port)| json!({"name": name, "value": format!("[::]:{port}")});
    env.extend(doors.map(everywhere));
    for (name, value) in chosen {
        env.extend(
            value
                .iter()
                .map(|value| json!({"name": name, "value": value})),
        );
    }
    env
}

fn probe(path: &str, seconds: u32, failures: u32) -> Value {
    json!({
        "failureThreshold": failures,
        "httpGet": {"path": path, "port": METRICS_PORT},
        "periodSeconds": seconds,
        "timeoutSeconds": 5,
    })
}

fn resources(choices: &Choices, service: Service) -> Value {
    let (mut requests, mut limits) = (Map::new(), Map::new());
    let shares = [("cpu", &choices.cpu), ("memory", &choices.memory)];
    for ((name, share), (usual, equal)) in shares.into_iter().zip(USUAL.iter().zip(EQUAL)) {
        let (request, limit) = share_of(share, service, usual, equal);
        requests.insert(name.to_owned(), json!(request));
        limits.insert(name.to_owned(), json!(limit));
    }
    json!({"limits": limits, "requests": requests})
}

/// What is chosen holds; what is not never contradicts it.
fn share_of(share: &Share, service: Service, usual: &[&str; 2], equal: &str) -> (String, String) {
    let text = |amount: &Option<maille_manifest::objects::Quantity>| {
        amount.as_ref().map(ToString::to_string)
    };
    let amount =
        |text: &str| maille_manifest::objects::Quantity::parse(text).map_or(0, |q| q.millis());
    let [least, most] = usual.map(str::to_owned);
    match (text(&share.request), text(&share.limit), service) {
        (Some(request), Some(limit), _) => (request, limit),
        (Some(one), None, Service::Guaranteed) | (None, Some(one), Service::Guaranteed) => {
            (one.clone(), one)
        }
        (None, None, Service::Guaranteed) => (equal.to_owned(), equal.to_owned()),
        (Some(request), None, Service::Other) if amount(&request) > amount(&most) => {
            (request.clone(), request)
        }
        (Some(request), None, Service::Other) => (request, most),
        (None, Some(limit), Service::Other) if amount(&limit) < amount(&least) => {
            (limit.clone(), limit)
        }
        (None, Some(limit), Service::Other) => (least, limit),
        (None, None, Service::Other) => (least, most),
    }
}

/// The trust anchors, which anybody may know, and a token that is good for nothing but to ask control for a certificate.
pub(crate) fn volumes() -> Vec<Value> {
    vec![
        json!({
            "name": TRUST.0,
            "configMap": {"name": TRUST_CONFIG_MAP},
        }),
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
