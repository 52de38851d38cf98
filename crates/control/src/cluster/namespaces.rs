// SPDX-License-Identifier: Apache-2.0
//! What namespaces say of themselves: the labels that decide who gets a proxy, and what a pod may do there.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::Config;
use maille_chassis::limited;
use maille_manifest::marks::{INJECT, OURS};
use tokio::sync::watch;

use super::mirror::Mirror;
use super::{Cluster, watch_some};
use crate::causes::with_causes;

/// Labels with which Kubernetes' own admission is told what pods may do.
const SECURITY: &str = "pod-security.kubernetes.io/";

/// Labels of one namespace: those that matter here.
pub type Labels = BTreeMap<String, String>;

/// Every namespace. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Namespaces(Option<Arc<BTreeMap<String, Labels>>>);

// === impl Namespaces ===

impl Namespaces {
    /// Whether all of them were told.
    pub fn is_complete(&self) -> bool {
        self.0.is_some()
    }

    /// The labels of one.
    pub fn labels(&self, namespace: &str) -> Option<&Labels> {
        self.0.as_ref()?.get(namespace)
    }

    /// Those that want proxies in their pods.
    pub fn asking(&self) -> impl Iterator<Item = &str> {
        let all = self.0.iter().flat_map(|all| all.iter());
        let asking =
            all.filter(|(_, labels)| labels.get(INJECT).map(String::as_str) == Some("enabled"));
        asking.map(|(name, _)| name.as_str())
    }
}

/// Keeps `says` as the cluster says, until the process ends.
pub async fn keep(cluster: Cluster, says: watch::Sender<Namespaces>) {
    let api = Api::<PartialObjectMeta<Namespace>>::all(cluster.client.clone());
    let mut steps = watch_some(&cluster, api, Config::default());
    let mut mirror = Mirror::new();
    while let Some(step) = steps.next().await {
        match step {
            Ok(step) => mirror.take(step, |found: PartialObjectMeta<Namespace>| {
                let mut labels = found.metadata.labels.unwrap_or_default();
                labels.retain(|name, _| name.starts_with(OURS) || name.starts_with(SECURITY));
                Some((found.metadata.name?, labels))
            }),
            Err(error) => {
                limited!(warn, error = %with_causes(&error), "watch on namespaces began again");
                continue;
            }
        }
        if mirror.is_complete() {
            says.send_if_modified(|said| {
                let changed = said.0.as_deref() != Some(mirror.now());
                if changed {
                    *said = Namespaces(Some(Arc::new(mirror.now().clone())));
                }
                changed
            });
        }
    }
}
