// SPDX-License-Identifier: Apache-2.0
//! The agents of nodes: a DaemonSet, and an account that may do nothing in the API server, for an agent asks control alone.
//!
//! Every right on the node has its reason beside it. Read `docs/cni.md` for what an agent does.

use serde_json::{Value, json};

use super::{CONTROL, GRPC_PORT, Options, labels, metadata};
use crate::emit::COMMENT;
use crate::names::{AUDIENCE, TOKEN, TOKEN_SECONDS, TRUST, TRUST_CONFIG_MAP};

/// What the agents' objects are called, and their service account.
const NODE: &str = "maille-node";
/// Where an agent answers to the kubelet of its node.
const HEALTH_PORT: u16 = super::NODE_PORT;

pub(super) fn objects(options: &Options, image: &str) -> Vec<Value> {
    vec![
        json!({
            COMMENT: "It is granted nothing: by its token control knows which pod, and so which node, an agent is.",
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": metadata(options, NODE, "node"),
            "automountServiceAccountToken": false,
        }),
        daemon_set(options, image),
    ]
}

fn daemon_set(options: &Options, image: &str) -> Value {
    let selector =
        json!({"app.kubernetes.io/name": CONTROL, "app.kubernetes.io/component": "node"});
    let mut pod_labels = labels("node");
    pod_labels["maille.io/inject"] = json!("disabled");
    json!({
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": metadata(options, NODE, "node"),
        "spec": {
            "selector": {"matchLabels": selector},
            COMMENT: "One node at a time: pods of the mesh do not start on it while it has no agent.",
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}},
            "template": {
                "metadata": {"labels": pod_labels},
                "spec": {
                    "automountServiceAccountToken": false,
                    "containers": [container(options, image)],
                    COMMENT: "It must run before any pod of the mesh can, so it has no network of its own that somebody would have to make.\n\
                              Proxies that it starts go on when it ends, so they are processes of the host.",
                    "hostNetwork": true,
                    "hostPID": true,
                    "nodeSelector": {"kubernetes.io/os": "linux"},
                    "priorityClassName": "system-node-critical",
                    "serviceAccountName": NODE,
                    "terminationGracePeriodSeconds": 10,
                    "tolerations": [{"operator": "Exists"}],
                    "volumes": volumes(),
                },
            },
        },
    })
}

fn container(options: &Options, image: &str) -> Value {
    let mut container = chaining(options, image);
    if let (false, Value::Array(args)) = (options.chain, &mut container["args"]) {
        args.push(json!(super::NO_CHAIN));
    }
    container
}

/// One that chains the plugin.
fn chaining(options: &Options, image: &str) -> Value {
    let namespace = options.namespace.as_str();
    let domain = options.trust_domain.as_str();
    let probe = |path: &str, seconds: u32| {
        json!({
            "failureThreshold": 3,
            "httpGet": {"path": path, "port": HEALTH_PORT},
            "periodSeconds": seconds,
            "timeoutSeconds": 5,
        })
    };
    json!({
        "name": "node",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["/maille-node"],
        COMMENT: "Control's address and not its name: the cluster's DNS may be in the mesh.",
        "args": [
            "--kubernetes",
            "--control", format!("$(MAILLE_CONTROL_SERVICE_HOST):{GRPC_PORT}"),
            "--control-identity", format!("spiffe://{domain}/ns/{namespace}/sa/{CONTROL}"),
            "--health", format!("$(MAILLE_NODE_ADDRESS):{HEALTH_PORT}"),
        ],
        "env": [{"name": "MAILLE_NODE_ADDRESS", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}}],
        "livenessProbe": probe("/live", 10),
        "readinessProbe": probe("/ready", 2),
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}},
        "securityContext": {
            COMMENT: "It enters pods' network namespaces and makes new ones, keeps those by mounts that the host must see, and puts\n\
                      proxies into control groups of the host.",
            "privileged": true,
            "readOnlyRootFilesystem": true,
            "runAsUser": 0,
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"mountPath": TRUST.1, "name": TRUST.0, "readOnly": true},
            {"mountPath": TOKEN.1, "name": TOKEN.0, "readOnly": true},
            {"mountPath": "/run/maille", "mountPropagation": "Bidirectional", "name": "state"},
            {"mountPath": "/host/opt/cni/bin", "name": "cni-bin"},
            {"mountPath": "/host/etc/cni/net.d", "name": "cni-conf"},
            {"mountPath": "/host/sys/fs/cgroup", "name": "cgroups"},
            {"mountPath": "/host/run/nri", "name": "nri"},
        ],
    })
}

fn volumes() -> Vec<Value> {
    let host = |name: &str, path: &str| json!({"name": name, "hostPath": {"path": path, "type": "DirectoryOrCreate"}});
    vec![
        json!({"name": TRUST.0, "configMap": {"name": TRUST_CONFIG_MAP}}),
        json!({
            "name": TOKEN.0,
            "projected": {"sources": [{"serviceAccountToken": {
                "audience": AUDIENCE,
                "expirationSeconds": TOKEN_SECONDS,
                "path": "token",
            }}]},
        }),
        host("state", "/run/maille"),
        host("cni-bin", "/opt/cni/bin"),
        host("cni-conf", "/etc/cni/net.d"),
        host("nri", "/run/nri"),
        json!({"name": "cgroups", "hostPath": {"path": "/sys/fs/cgroup", "type": "Directory"}}),
    ]
}
