// SPDX-License-Identifier: Apache-2.0
//! What a cluster says of itself, fetched for `maille check`: before a mesh is installed, and after. Must never change anything.
//! Read `judge.rs` for what is made of it.

use std::collections::BTreeMap;

use maille_inject::install::{CONFIG, CONTROL, Nodes, Options};

use super::judge::{self, Line};
use super::proxies::{self, Detail, Versions};
use super::{all, nodes, policies};
use crate::api::{Check, Checks};
use crate::cluster::Cluster;
use crate::failure::Expected;
use crate::reach::Reach;
use crate::shapes::data;

/// The namespace of the mesh's own objects, unless somebody chose another.
pub(crate) const NAMESPACE: &str = "maille-system";

/// What installing needs the right to create: group and resource.
const NEEDED: [(&str, &str); 11] = [
    ("", "namespaces"),
    ("", "serviceaccounts"),
    ("", "services"),
    ("", "configmaps"),
    ("apps", "deployments"),
    ("rbac.authorization.k8s.io", "roles"),
    ("rbac.authorization.k8s.io", "clusterroles"),
    ("rbac.authorization.k8s.io", "clusterrolebindings"),
    (
        "admissionregistration.k8s.io",
        "mutatingwebhookconfigurations",
    ),
    (
        "admissionregistration.k8s.io",
        "validatingwebhookconfigurations",
    ),
    ("apiregistration.k8s.io", "apiservices"),
];

/// Whether the cluster can have a mesh.
pub(super) async fn before(cluster: &Cluster) -> Result<Checks, Expected> {
    let mut lines = machine(cluster, Nodes::Bare).await?;
    let mut missing = Vec::new();
    for (group, resource) in NEEDED {
        if !cluster.may("create", group, resource).await? {
            missing.push(resource);
        }
    }
    lines.push(judge::rights(&missing));
    let path = format!("/api/v1/namespaces/{NAMESPACE}/configmaps/{CONFIG}");
    lines.push(judge::not_yet(cluster.object(&path).await?.as_ref()));
    Ok(all(lines.into_iter().map(Line::check).collect()))
}

/// Whether nodes of the installed mesh have agents. A configuration that nobody can read says nothing of them.
fn agents(config: &BTreeMap<String, String>) -> Nodes {
    let namespace = NAMESPACE.parse().ok();
    let options = namespace.and_then(|name| Options::from_config(name, config).ok());
    options.map_or(Nodes::Bare, |options| options.nodes)
}

/// What both ask: the API server, the nodes, and what else handles packets.
async fn machine(cluster: &Cluster, agents: Nodes) -> Result<Vec<Line>, Expected> {
    let version = cluster.object("/version").await?.unwrap_or_default();
    let admission = "/apis/admissionregistration.k8s.io/v1";
    let admission = cluster.object(admission).await?;
    let nodes = cluster.all("/api/v1/nodes", None).await?;
    let cilium = "/api/v1/namespaces/kube-system/configmaps/cilium-config";
    let cilium = cluster.object(cilium).await?;
    let calico = "/apis/crd.projectcalico.org/v1/felixconfigurations/default";
    let calico = cluster.object(calico).await?;
    Ok(vec![
        judge::version(cluster.server(), &version),
        judge::kept(&version, admission.as_ref(), agents),
        judge::kubelets(&nodes),
        judge::kernels(&nodes),
        judge::cilium(cilium.as_ref()),
        judge::exclusive(cilium.as_ref()),
        judge::calico(calico.as_ref()),
    ])
}

/// Whether the mesh works in one namespace: asked there, and nowhere else.
pub(super) async fn within(
    cluster: &Cluster,
    reach: &Reach,
    namespace: &str,
    detail: Detail,
) -> Result<Checks, Expected> {
    let own = format!("/api/v1/namespaces/{NAMESPACE}/configmaps/{CONFIG}");
    // Who sees one namespace alone knows of no version.
    let config = cluster.object(&own).await.unwrap_or_default();
    let config = config.as_ref().map(data).unwrap_or_default();
    let at = format!("/api/v1/namespaces/{namespace}");
    let known = cluster.object(&at).await.unwrap_or_default();
    let namespaces: Vec<_> = known.into_iter().collect();
    let pods = cluster.all(&format!("{at}/pods"), None).await?;
    let policies = format!("/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies");
    let network = cluster.all(&policies, None).await?;
    let mut lines = vec![
        judge::labels(&namespaces),
        judge::excluded(&namespaces, &pods, NAMESPACE),
        judge::outside(&namespaces, &pods, NAMESPACE),
        policies::reachable(&pods, &network),
    ];
    let versions = match config.is_empty() {
        true => Versions::default(),
        false => Versions::of(&pods, &config),
    };
    lines.extend(proxies::look(reach, Some(namespace), &versions, detail).await?);
    Ok(all(lines.into_iter().map(Line::check).collect()))
}

/// Whether the cluster's mesh works; with `each`, proxy by proxy.
pub(super) async fn after(
    cluster: &Cluster,
    reach: &Reach,
    each: bool,
) -> Result<Checks, Expected> {
    let own = format!("/api/v1/namespaces/{NAMESPACE}");
    let config = cluster
        .object(&format!("{own}/configmaps/{CONFIG}"))
        .await?;
    let Some(config) = config else {
        return Err(Expected::NoMesh);
    };
    let mut lines = machine(cluster, agents(&data(&config))).await?;
    let deployment = format!("/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{CONTROL}");
    let admission = "/apis/admissionregistration.k8s.io/v1";
    let inject = format!("{admission}/mutatingwebhookconfigurations/maille-inject");
    let verify = format!("{admission}/validatingwebhookconfigurations/maille-verify");
    let service = "/apis/apiregistration.k8s.io/v1/apiservices/v1.api.maille.io";
    lines.push(judge::client(&data(&config)));
    lines.push(judge::control(cluster.object(&deployment).await?.as_ref()));
    lines.push(judge::webhooks(&[
        ("maille-inject", cluster.object(&inject).await?),
        ("maille-verify", cluster.object(&verify).await?),
    ]));
    let api = judge::api(cluster.object(service).await?.as_ref());
    let answers = api.ok;
    lines.push(api);
    let namespaces = cluster.all("/api/v1/namespaces", None).await?;
    let pods = cluster.all("/api/v1/pods", None).await?;
    let network = cluster
        .all("/apis/networking.k8s.io/v1/networkpolicies", None)
        .await?;
    lines.push(judge::labels(&namespaces));
    lines.push(judge::excluded(&namespaces, &pods, NAMESPACE));
    lines.push(judge::outside(&namespaces, &pods, NAMESPACE));
    lines.push(judge::versions(&pods, &data(&config)));
    lines.push(policies::reachable(&pods, &network));
    lines.extend(nodes::look(cluster, &pods, NAMESPACE).await);
    let mut checks: Vec<Check> = lines.into_iter().map(Line::check).collect();
    if answers {
        let own: Checks = reach.get("/v1/check").await?;
        checks.extend(own.checks);
    }
    if answers && each {
        let versions = Versions::of(&pods, &data(&config));
        let lines = proxies::look(reach, None, &versions, Detail::Each).await?;
        checks.extend(lines.into_iter().map(Line::check));
    }
    Ok(all(checks))
}
