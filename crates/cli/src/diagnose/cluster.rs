// SPDX-License-Identifier: Apache-2.0
//! What a cluster says of its mesh: the mesh's objects, logs and metrics of control and of proxies. Must never ask for Secrets.

use std::io;

use maille_inject::install::{CONTROL, PART_OF};
use serde_json::{Value, json};

use super::bundle::Bundle;
use crate::check::NAMESPACE;
use crate::cluster::{Cluster, refused};
use crate::failure::Expected;
use crate::install::COLLECTIONS;
use crate::query::Query;
use crate::shapes::{is_injected, text};

/// What else of the mesh's namespace is looked at, by group and version.
const OWN: [(&str, &str); 7] = [
    ("api/v1", "pods"),
    ("api/v1", "configmaps"),
    ("api/v1", "events"),
    ("api/v1", "resourcequotas"),
    ("apis/apps/v1", "replicasets"),
    ("apis/coordination.k8s.io/v1", "leases"),
    ("apis/discovery.k8s.io/v1", "endpointslices"),
];
/// Of the end of one log.
const LOG: u64 = 2 << 20;
/// Meshed pods of applications whose proxies are looked at.
const PODS: usize = 50;
/// Where proxies answer for metrics, and where control does.
const METRICS: (u16, u16) = (4_191, 8_081);
/// The containers that are ours in everybody's pods.
const OURS: [&str; 2] = ["maille-proxy", "maille-init"];

pub(super) async fn fill(bundle: &mut Bundle, cluster: &Cluster) -> io::Result<()> {
    objects(bundle, cluster).await?;
    let own = format!("/api/v1/namespaces/{NAMESPACE}/pods");
    for pod in listed(bundle, cluster, &own).await? {
        logs(bundle, cluster, &pod, |_| true).await?;
        metrics(bundle, cluster, &pod).await?;
    }
    let all = listed(bundle, cluster, "/api/v1/pods").await?;
    let others = all
        .iter()
        .filter(|pod| is_injected(pod) && text(pod, "/metadata/namespace") != NAMESPACE);
    for pod in others.take(PODS) {
        logs(bundle, cluster, pod, |name| OURS.contains(&name)).await?;
        metrics(bundle, cluster, pod).await?;
    }
    Ok(())
}

/// The objects of the collection, or none where it cannot be had.
async fn listed(bundle: &mut Bundle, cluster: &Cluster, path: &str) -> io::Result<Vec<Value>> {
    match cluster.all(path, None).await {
        Ok(all) => Ok(all),
        Err(error) => {
            bundle.put(path, Err(error))?;
            Ok(Vec::new())
        }
    }
}

async fn objects(bundle: &mut Bundle, cluster: &Cluster) -> io::Result<()> {
    let label = format!("{}={}", PART_OF.0, PART_OF.1);
    let list = |items: Vec<Value>| json!({"items": items});
    for (version, _, resource) in COLLECTIONS {
        let base = if version.contains('/') { "apis" } else { "api" };
        let path = format!("/{base}/{version}/{resource}");
        let asked = cluster.all(&path, Some(&label)).await.map(list);
        bundle.put_json(&format!("objects/{resource}.json"), asked)?;
    }
    for (version, resource) in OWN {
        let path = format!("/{version}/namespaces/{NAMESPACE}/{resource}");
        let asked = cluster.all(&path, None).await.map(list);
        bundle.put_json(&format!("objects/{NAMESPACE}/{resource}.json"), asked)?;
    }
    let nodes = cluster.all("/api/v1/nodes", None).await.map(list);
    bundle.put_json("objects/nodes.json", nodes)?;
    let namespaces = cluster.all("/api/v1/namespaces", None).await.map(list);
    bundle.put_json("objects/namespaces.json", namespaces)
}

/// What the containers of a pod wrote, and what they had written before they were started again.
async fn logs(
    bundle: &mut Bundle,
    cluster: &Cluster,
    pod: &Value,
    wanted: impl Fn(&str) -> bool,
) -> io::Result<()> {
    let (namespace, name) = (
        text(pod, "/metadata/namespace"),
        text(pod, "/metadata/name"),
    );
    let statuses =
        ["initContainerStatuses", "containerStatuses"].map(|key| pod["status"][key].as_array());
    for status in statuses.into_iter().flatten().flatten() {
        let container = text(status, "/name");
        if !wanted(container) {
            continue;
        }
        let again = status["restartCount"].as_u64().unwrap_or(0) > 0;
        for previous in [false, true]
            .into_iter()
            .filter(|previous| again || !previous)
        {
            let query = Query::of(&format!("/api/v1/namespaces/{namespace}/pods/{name}/log"))
                .with("container", container)
                .with("tailLines", 5_000)
                .with("limitBytes", LOG)
                .maybe("previous", previous.then_some("true"));
            let sign = if previous { ".previous" } else { "" };
            let file = format!("logs/{namespace}/{name}/{container}{sign}.log");
            bundle.put(&file, bytes(cluster, query.path()).await)?;
        }
    }
    Ok(())
}

/// By way of the API server, which reaches pods.
async fn metrics(bundle: &mut Bundle, cluster: &Cluster, pod: &Value) -> io::Result<()> {
    let (namespace, name) = (
        text(pod, "/metadata/namespace"),
        text(pod, "/metadata/name"),
    );
    let (proxy, control) = METRICS;
    let is_control = text(pod, "/metadata/labels/app.kubernetes.io~1name") == CONTROL;
    let mut ports = vec![("proxy", proxy)];
    if is_control && namespace == NAMESPACE {
        ports.push(("control", control));
    }
    for (who, port) in ports {
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}:{port}/proxy/metrics");
        let file = format!("metrics/{namespace}/{name}/{who}.txt");
        bundle.put(&file, bytes(cluster, &path).await)?;
    }
    Ok(())
}

async fn bytes(cluster: &Cluster, path: &str) -> Result<Vec<u8>, Expected> {
    let (status, body) = cluster.ask(path).await?;
    if !status.is_success() {
        return Err(refused(status, &body));
    }
    Ok(body.to_vec())
}
