// SPDX-License-Identifier: Apache-2.0
//! The control plane's components and their flags, each with its reason where it is not the usual one.

use std::path::Path;

use crate::parts::Parts;

/// Where the API server is, for everybody in the cluster.
pub(crate) const SERVER: &str = "10.77.0.1";

/// What the API server writes down, and where: whoever asks the mesh's API something.
pub(crate) const AUDIT: (&str, &str) = ("audit.yaml", "/var/log/kube-audit.log");

/// What the API server is called.
pub(crate) const API_SERVER: &str = "kube-apiserver";

/// A daemon's name and its command line.
pub(crate) type Daemon = (&'static str, Vec<String>);

/// The controllers, all of them in one.
pub(crate) const CONTROLLERS: &str = "kube-controller-manager";

/// Splits flags written as text, after the program.
fn line(parts: &Parts, name: &'static str, flags: &str) -> Daemon {
    let program = parts.program(name).display().to_string();
    let flags = flags.split_ascii_whitespace().map(str::to_owned);
    (name, std::iter::once(program).chain(flags).collect())
}

/// etcd and the API server: what all others wait for.
pub(crate) fn first(parts: &Parts, pki: &Path) -> [Daemon; 2] {
    let pki = pki.display();
    // Nothing here outlives a test, so nothing needs the disk's word for it.
    let etcd = "--data-dir /var/lib/etcd --listen-client-urls http://127.0.0.1:2379 \
        --advertise-client-urls http://127.0.0.1:2379 --listen-peer-urls http://127.0.0.1:2380 --unsafe-no-fsync \
        --log-level warn";
    // --enable-aggregator-routing: there is no kube-proxy beside the control plane, so webhooks and aggregated APIs are
    // dialled at their pods' addresses, to which there are routes.
    let (policy, log) = AUDIT;
    let api = format!(
        "--etcd-servers http://127.0.0.1:2379 --advertise-address {SERVER} --secure-port 6443 \
        --service-cluster-ip-range 10.96.0.0/16,fd00:96::/112 --allow-privileged \
        --authorization-mode Node,RBAC --enable-admission-plugins NodeRestriction \
        --client-ca-file {pki}/ca.crt --tls-cert-file {pki}/apiserver.crt \
        --tls-private-key-file {pki}/apiserver.key --kubelet-client-certificate {pki}/apiserver-kubelet.crt \
        --kubelet-client-key {pki}/apiserver-kubelet.key --kubelet-preferred-address-types InternalIP \
        --service-account-issuer https://kubernetes.default.svc.cluster.local \
        --service-account-key-file {pki}/sa.pub --service-account-signing-key-file {pki}/sa.key \
        --requestheader-client-ca-file {pki}/front-proxy-ca.crt \
        --requestheader-allowed-names front-proxy-client --requestheader-username-headers X-Remote-User \
        --requestheader-group-headers X-Remote-Group --requestheader-extra-headers-prefix X-Remote-Extra- \
        --proxy-client-cert-file {pki}/front-proxy.crt --proxy-client-key-file {pki}/front-proxy.key \
        --enable-aggregator-routing --profiling=false \
        --audit-policy-file {pki}/{policy} --audit-log-path {log}"
    );
    [line(parts, "etcd", etcd), line(parts, API_SERVER, &api)]
}

/// What needs a ready API server. There is one of each, so nobody is elected.
pub(crate) fn second(parts: &Parts, pki: &Path) -> [Daemon; 2] {
    let pki = pki.display();
    let config = |name: &str| {
        format!(
            "--kubeconfig {pki}/{name}.conf --authentication-kubeconfig {pki}/{name}.conf \
             --authorization-kubeconfig {pki}/{name}.conf --leader-elect=false --bind-address 127.0.0.1"
        )
    };
    // --kube-api-qps: at the usual 20 a second it makes its service accounts for 5 s before any Deployment moves.
    let manager = format!(
        "{} --root-ca-file {pki}/ca.crt --service-account-private-key-file {pki}/sa.key \
        --cluster-signing-cert-file {pki}/ca.crt --cluster-signing-key-file {pki}/ca.key \
        --use-service-account-credentials --kube-api-qps 500 --kube-api-burst 1000",
        config(CONTROLLERS)
    );
    let scheduler = config("kube-scheduler");
    [
        line(parts, CONTROLLERS, &manager),
        line(parts, "kube-scheduler", &scheduler),
    ]
}
