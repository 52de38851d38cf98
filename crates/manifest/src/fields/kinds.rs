// SPDX-License-Identifier: Apache-2.0
//! What is supported, kind by kind.

use super::Field;
use super::claim::CLAIM;
use super::data::{CONFIG_MAP, NAMESPACE, SECRET, SERVICE_ACCOUNT};
use super::pod::POD;
use super::service::{ENDPOINT_SLICE, SERVICE};
use super::workloads::{CRON_JOB, DAEMON_SET, DEPLOYMENT, JOB, REPLICA_SET, STATEFUL_SET};

/// What becomes of a kind.
#[derive(Debug)]
pub(crate) enum KindRule {
    /// Read, by this table.
    Take(&'static [Field]),
    /// Harmless to ignore, because of this.
    Warn(&'static str),
    /// Not harmless to ignore, because of this.
    Refuse(&'static str),
}

use KindRule::{Refuse, Take, Warn};

const CLUSTER_ONLY: KindRule = Warn("only an API server acts on it");
const POLICY: KindRule = Refuse("ignoring a policy would let traffic through that it forbids");
const ROUTING: KindRule = Refuse("ignoring it would send traffic elsewhere");

const NO_STORAGE: KindRule = Refuse("a claim is a directory of its own here: leave the volume out");

/// apiVersion, kind, rule. The first entry of a kind is the one that is suggested.
pub(crate) const KINDS: &[(&str, &str, KindRule)] = &[
    ("v1", "Namespace", Take(NAMESPACE)),
    ("v1", "ServiceAccount", Take(SERVICE_ACCOUNT)),
    ("apps/v1", "Deployment", Take(DEPLOYMENT)),
    ("v1", "Pod", Take(POD)),
    ("v1", "Service", Take(SERVICE)),
    ("v1", "ConfigMap", Take(CONFIG_MAP)),
    ("v1", "Secret", Take(SECRET)),
    ("apps/v1", "ReplicaSet", Take(REPLICA_SET)),
    ("apps/v1", "StatefulSet", Take(STATEFUL_SET)),
    ("apps/v1", "DaemonSet", Take(DAEMON_SET)),
    ("batch/v1", "Job", Take(JOB)),
    ("batch/v1", "CronJob", Take(CRON_JOB)),
    ("discovery.k8s.io/v1", "EndpointSlice", Take(ENDPOINT_SLICE)),
    ("v1", "Endpoints", Refuse("write an EndpointSlice")),
    (
        "v1",
        "ReplicationController",
        Refuse("write a ReplicaSet, or a Deployment"),
    ),
    (
        "kustomize.config.k8s.io/v1beta1",
        "Kustomization",
        Refuse("render it first: `kubectl kustomize DIR | maille up -`"),
    ),
    ("v1", "PersistentVolume", NO_STORAGE),
    ("v1", "PersistentVolumeClaim", Take(CLAIM)),
    ("networking.k8s.io/v1", "NetworkPolicy", POLICY),
    (
        "networking.k8s.io/v1",
        "Ingress",
        Warn("services are reached from pods only"),
    ),
    (
        "networking.k8s.io/v1",
        "IngressClass",
        Warn("services are reached from pods only"),
    ),
    ("gateway.networking.k8s.io/v1", "GatewayClass", ROUTING),
    ("gateway.networking.k8s.io/v1", "Gateway", ROUTING),
    ("gateway.networking.k8s.io/v1", "HTTPRoute", ROUTING),
    ("gateway.networking.k8s.io/v1", "GRPCRoute", ROUTING),
    ("gateway.networking.k8s.io/v1", "TLSRoute", ROUTING),
    ("gateway.networking.k8s.io/v1alpha2", "TCPRoute", ROUTING),
    ("security.istio.io/v1", "PeerAuthentication", POLICY),
    ("security.istio.io/v1", "AuthorizationPolicy", POLICY),
    ("security.istio.io/v1", "RequestAuthentication", POLICY),
    ("rbac.authorization.k8s.io/v1", "Role", CLUSTER_ONLY),
    ("rbac.authorization.k8s.io/v1", "RoleBinding", CLUSTER_ONLY),
    ("rbac.authorization.k8s.io/v1", "ClusterRole", CLUSTER_ONLY),
    (
        "rbac.authorization.k8s.io/v1",
        "ClusterRoleBinding",
        CLUSTER_ONLY,
    ),
    (
        "apiextensions.k8s.io/v1",
        "CustomResourceDefinition",
        CLUSTER_ONLY,
    ),
    (
        "admissionregistration.k8s.io/v1",
        "MutatingWebhookConfiguration",
        CLUSTER_ONLY,
    ),
    (
        "admissionregistration.k8s.io/v1",
        "ValidatingWebhookConfiguration",
        CLUSTER_ONLY,
    ),
    (
        "policy/v1",
        "PodDisruptionBudget",
        Warn("pods are not evicted on one machine"),
    ),
    (
        "autoscaling/v2",
        "HorizontalPodAutoscaler",
        Warn("the number of pods is the Deployment's"),
    ),
    (
        "scheduling.k8s.io/v1",
        "PriorityClass",
        Warn("there is one machine to choose"),
    ),
    ("storage.k8s.io/v1", "StorageClass", CLUSTER_ONLY),
    ("node.k8s.io/v1", "RuntimeClass", CLUSTER_ONLY),
    (
        "v1",
        "LimitRange",
        Warn("resources are not limited on one machine"),
    ),
    (
        "v1",
        "ResourceQuota",
        Warn("resources are not limited on one machine"),
    ),
    ("monitoring.coreos.com/v1", "ServiceMonitor", CLUSTER_ONLY),
    ("monitoring.coreos.com/v1", "PodMonitor", CLUSTER_ONLY),
];
