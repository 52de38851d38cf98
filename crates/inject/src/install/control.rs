// SPDX-License-Identifier: Apache-2.0
//! Control itself: its pods, the address at which proxies and the API server reach it, and who may connect. Read `beside.rs` for the
//! proxy that its pods have.

use maille_manifest::marks::INJECTED;
use serde_json::{Value, json};

use super::{
    CONTROL, GRPC_PORT, HEALTH_PORT, Images, Nodes, Options, Replicas, beside, labels, metadata,
};
use crate::emit::COMMENT;
use crate::names::{MESH_PORT, METRICS_PORT};

/// Where the webhook and the mesh's API answer.
const HTTPS_PORT: u16 = 8_443;
/// Control's user.
const USER: u32 = 2_101;
/// Where every program in a pod looks for its account.
const ACCOUNT: (&str, &str) = ("account", "/var/run/secrets/kubernetes.io/serviceaccount");

pub(super) fn objects(options: &Options, images: &Images) -> Vec<Value> {
    let mut objects = vec![service(options), deployment(options, images)];
    if options.control == Replicas::Three {
        objects.push(json!({
            COMMENT: "Nodes are emptied one at a time, so that pods can begin meanwhile.",
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": metadata(options, CONTROL, "control"),
            "spec": {"maxUnavailable": 1, "selector": {"matchLabels": selector()}},
        }));
    }
    objects.push(policy(options));
    objects
}

fn selector() -> Value {
    json!({"app.kubernetes.io/name": CONTROL, "app.kubernetes.io/component": "control"})
}

fn service(options: &Options) -> Value {
    json!({
        COMMENT: "Proxies use its address, not its name: they need no DNS, so that DNS can be meshed.",
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(options, CONTROL, "control"),
        "spec": {
            "ipFamilyPolicy": "PreferDualStack",
            "ports": [
                {"name": "grpc", "port": GRPC_PORT, "targetPort": "grpc", "appProtocol": "tls"},
                {"name": "https", "port": 443, "targetPort": "https", "appProtocol": "https"},
            ],
            "selector": selector(),
        },
    })
}

fn deployment(options: &Options, images: &Images) -> Value {
    let replicas = match options.control {
        Replicas::One => 1,
        Replicas::Three => 3,
    };
    let mut pod_labels = labels("control");
    pod_labels["maille.io/inject"] = json!("disabled");
    let mut spec = json!({
        COMMENT: "The account's token is control's alone: the proxy beside it has no business with the API server.",
        "automountServiceAccountToken": false,
        "initContainers": [beside::container(options, &images.proxy)],
        "containers": [container(options, &images.control)],
        "priorityClassName": "system-cluster-critical",
        "securityContext": {
            "runAsGroup": USER,
            "runAsNonRoot": true,
            "runAsUser": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "serviceAccountName": CONTROL,
        "tolerations": [
            {
                COMMENT: "A node that was lost is given up soon: without control no pod begins.",
                "effect": "NoExecute", "key": "node.kubernetes.io/unreachable", "operator": "Exists", "tolerationSeconds": 30,
            },
            {"effect": "NoExecute", "key": "node.kubernetes.io/not-ready", "operator": "Exists", "tolerationSeconds": 30},
        ],
        "volumes": volumes(),
    });
    if options.control == Replicas::Three {
        let apart = |key: &str, weight: u32| json!({"weight": weight, "podAffinityTerm": {"labelSelector": {"matchLabels": selector()}, "topologyKey": key}});
        spec["affinity"] = json!({"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
            apart("kubernetes.io/hostname", 100),
            apart("topology.kubernetes.io/zone", 50),
        ]}});
    }
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(options, CONTROL, "control"),
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": selector()},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": {
                "metadata": {"annotations": {INJECTED: options.version}, "labels": pod_labels},
                "spec": spec,
            },
        },
    })
}

/// The account as the kubelet mounts it by itself, and what the proxy needs.
fn volumes() -> Vec<Value> {
    let mut volumes = vec![json!({
        "name": ACCOUNT.0,
        "projected": {"sources": [
            {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
            {"configMap": {"items": [{"key": "ca.crt", "path": "ca.crt"}], "name": "kube-root-ca.crt"}},
            {"downwardAPI": {"items": [{"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}, "path": "namespace"}]}},
        ]},
    })];
    volumes.extend(beside::volumes());
    volumes
}

fn container(options: &Options, image: &str) -> Value {
    let probe = |path: &str, port: u16, seconds: u32, failures: u32| {
        json!({
            "failureThreshold": failures,
            "httpGet": {"path": path, "port": port},
            "periodSeconds": seconds,
            "timeoutSeconds": 5,
        })
    };
    let mut container = json!({
        "name": "control",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["/maille-control"],
        "args": [
            "--kubernetes",
            "--trust-domain", options.trust_domain.as_str(),
            "--image-prefix", options.image_prefix,
            "--pod", "$(POD_NAME)",
            "--health", format!("[::]:{HEALTH_PORT}"),
            "--anchors-file", beside::anchors_file(),
        ],
        "env": [{"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
        "ports": [
            {"containerPort": GRPC_PORT, "name": "grpc"},
            {"containerPort": HTTPS_PORT, "name": "https"},
            {"containerPort": HEALTH_PORT, "name": "health"},
        ],
        "startupProbe": probe("/ready", HEALTH_PORT, 1, 120),
        "readinessProbe": probe("/ready", beside::FRONT_PORT, 2, 3),
        "livenessProbe": probe("/live", HEALTH_PORT, 10, 3),
        "resources": {
            "limits": {"memory": "512Mi"},
            "requests": {"cpu": "100m", "memory": "64Mi"},
        },
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": true,
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"mountPath": ACCOUNT.1, "name": ACCOUNT.0, "readOnly": true},
            beside::shared(),
        ],
    });
    if let (Nodes::Agents(usual), Some(args)) = (options.nodes, container["args"].as_array_mut()) {
        args.extend(["--capture", usual.word()].map(Value::from));
    }
    container
}

fn policy(options: &Options) -> Value {
    let tcp = |port: Value| json!({"port": port, "protocol": "TCP"});
    let ports = [
        GRPC_PORT,
        HTTPS_PORT,
        HEALTH_PORT,
        beside::FRONT_PORT,
        MESH_PORT,
        METRICS_PORT,
    ];
    json!({
        COMMENT: "Anybody may connect, from any namespace, where certificates and tokens decide; and to nothing else.",
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata(options, CONTROL, "control"),
        "spec": {
            "ingress": [{"ports": ports.map(|port| tcp(json!(port)))}],
            "podSelector": {"matchLabels": selector()},
            "policyTypes": ["Ingress"],
        },
    })
}
