// SPDX-License-Identifier: Apache-2.0
//! Many services and pods of an API server, which no node runs: each pod in the mesh, with an address, ready.
//!
//! Must never be made on a cluster that is used for anything else. Read `numbers.rs` for what for.

use std::path::Path;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};

/// In the namespace of their own that `shop` is.
const NAMESPACE: &str = "shop";
/// Calls at a time.
const AT_A_TIME: usize = 48;

pub(crate) struct Many(Client);

impl Many {
    pub(crate) async fn new(kubeconfig: &Path) -> Self {
        let file = Kubeconfig::read_from(kubeconfig).unwrap();
        let options = KubeConfigOptions::default();
        let config = Config::from_custom_kubeconfig(file, &options).await;
        Self(Client::try_from(config.unwrap()).unwrap())
    }

    /// So many services, each with so many pods behind it.
    pub(crate) async fn make(&self, services: usize, pods: usize) {
        let made = stream::iter((0..services).map(|service| self.service(service)));
        let made = made.buffer_unordered(AT_A_TIME).try_collect::<()>();
        made.await.unwrap();
        let all = (0..services * pods).map(|pod| self.pod(pod, pod / pods));
        let made = stream::iter(all).buffer_unordered(AT_A_TIME);
        made.try_collect::<()>().await.unwrap();
    }

    async fn service(&self, service: usize) -> Result<(), kube::Error> {
        let object = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": format!("many-{service}"), "namespace": NAMESPACE},
            "spec": {"selector": {"of": format!("many-{service}")}, "ports": [
                {"name": "http", "port": 80, "targetPort": "http"}, {"name": "grpc", "port": 81, "targetPort": 8081},
            ]},
        });
        let services: Api<Service> = Api::namespaced(self.0.clone(), NAMESPACE);
        let object = read(object);
        services.create(&PostParams::default(), &object).await?;
        Ok(())
    }

    async fn pod(&self, pod: usize, service: usize) -> Result<(), kube::Error> {
        let name = format!("many-{service}-{pod}");
        let object = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": NAMESPACE,
                "labels": {"of": format!("many-{service}"), "maille.io/inject": "disabled", "version": "v1"},
                "annotations": {"maille.io/injected": "1"}},
            "spec": {"schedulerName": "nobody", "serviceAccountName": "web", "containers": [
                {"name": "c", "image": "none.test/none:1", "ports": [{"name": "http", "containerPort": 8080}]},
            ]},
        });
        let pods: Api<Pod> = Api::namespaced(self.0.clone(), NAMESPACE);
        let object = read(object);
        pods.create(&PostParams::default(), &object).await?;
        let address = format!(
            "10.{}.{}.{}",
            128 + pod / 65_536,
            pod / 256 % 256,
            pod % 256
        );
        let status = json!({"status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}],
            "conditions": [{"type": "Ready", "status": "True"}]}});
        let patch = Patch::Merge(&status);
        pods.patch_status(&name, &PatchParams::default(), &patch)
            .await?;
        Ok(())
    }
}

fn read<T: serde::de::DeserializeOwned>(object: Value) -> T {
    serde_json::from_value(object).unwrap()
}
