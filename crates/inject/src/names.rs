// SPDX-License-Identifier: Apache-2.0
//! What is called how inside a pod, and which ports and users are taken. Each spelled once; `docs/reference` and other crates agree.

/// The proxy's container.
pub const PROXY: &str = "maille-proxy";
/// The container that writes the rules of capture, and ends.
pub const INIT: &str = "maille-init";
/// The proxy's user. Its packets are not captured: an application must not have it.
pub const PROXY_UID: u32 = 2102;
/// The ConfigMap with the trust anchors, in every namespace with meshed pods.
pub const TRUST_CONFIG_MAP: &str = "maille-trust";

/// The volume of [`TRUST_CONFIG_MAP`], and where it is mounted.
pub(crate) const TRUST: (&str, &str) = ("maille-trust", "/var/run/maille/trust");
/// The volume of the pod's token for control, and where it is mounted.
pub(crate) const TOKEN: (&str, &str) = ("maille-token", "/var/run/maille/token");
/// For whom that token is.
pub(crate) const AUDIENCE: &str = "maille.io";
/// How long it is valid; the shortest that Kubernetes gives.
pub(crate) const TOKEN_SECONDS: u32 = 600;

/// Where the proxy takes what the application dials.
pub(crate) const OUTBOUND_PORT: u16 = 15_001;
/// Where the proxy takes what is sent to the application.
pub(crate) const INBOUND_PORT: u16 = 15_006;
/// Where the proxy takes what other proxies send.
pub(crate) const MESH_PORT: u16 = 15_008;
/// Where the proxy answers for metrics and readiness.
pub(crate) const METRICS_PORT: u16 = 4_191;

/// Ports that the proxy listens on in the pod, so that nobody else can.
pub(crate) const TAKEN_PORTS: [u16; 4] = [OUTBOUND_PORT, INBOUND_PORT, MESH_PORT, METRICS_PORT];

/// Containers of other meshes, each with the mesh's name.
pub(crate) const OTHER_MESHES: [(&str, &str); 14] = [
    ("linkerd-proxy", "Linkerd"),
    ("linkerd-init", "Linkerd"),
    ("linkerd-network-validator", "Linkerd"),
    ("istio-proxy", "Istio"),
    ("istio-init", "Istio"),
    ("istio-validation", "Istio"),
    ("kuma-sidecar", "Kuma"),
    ("kuma-init", "Kuma"),
    ("consul-dataplane", "Consul"),
    ("consul-connect-inject-init", "Consul"),
    ("osm-init", "Open Service Mesh"),
    ("nginx-mesh-sidecar", "NGINX Service Mesh"),
    ("nginx-mesh-init", "NGINX Service Mesh"),
    ("proxyinit", "AWS App Mesh"),
];

/// Labels and annotations by which a pod asks other meshes for a sidecar, with the values that ask.
pub(crate) const OTHER_WISHES: [(&str, &[&str], &str); 6] = [
    ("sidecar.istio.io/inject", &["true"], "Istio"),
    ("linkerd.io/inject", &["enabled", "ingress"], "Linkerd"),
    ("kuma.io/sidecar-injection", &["enabled", "true"], "Kuma"),
    ("consul.hashicorp.com/connect-inject", &["true"], "Consul"),
    (
        "openservicemesh.io/sidecar-injection",
        &["enabled", "true"],
        "Open Service Mesh",
    ),
    (
        "appmesh.k8s.aws/sidecarInjectorWebhook",
        &["enabled"],
        "AWS App Mesh",
    ),
];
