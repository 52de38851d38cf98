// SPDX-License-Identifier: Apache-2.0
//! What the cluster's runtime classes run their pods by: whether a pod's node may look into it hangs on that.
//!
//! A class that was not told of yet is not guessed at: whoever asks waits. Read `gate/inject.rs` for who asks.

use std::sync::Arc;

use futures_util::StreamExt as _;
use k8s_openapi::api::node::v1::RuntimeClass;
use kube::Api;
use kube::runtime::watcher::Config;
use maille_chassis::limited;
use maille_inject::Handlers;
use tokio::sync::watch;

use super::mirror::Mirror;
use super::{Cluster, watch_some};
use crate::causes::with_causes;

/// Every runtime class, once all were told. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Runtimes(Option<Arc<Handlers>>);

// === impl Runtimes ===

impl Runtimes {
    /// Those of a whole list.
    pub fn of(handlers: Handlers) -> Self {
        Self(Some(Arc::new(handlers)))
    }

    /// All of them, if `class` is among them: of another one nothing is known yet.
    pub fn knowing(&self, class: &str) -> Option<&Handlers> {
        let all = self.0.as_deref()?;
        all.contains_key(class).then_some(all)
    }
}

/// Keeps `says` as the cluster says, until the process ends.
pub async fn keep(cluster: Cluster, says: watch::Sender<Runtimes>) {
    let api = Api::<RuntimeClass>::all(cluster.client.clone());
    let mut steps = watch_some(&cluster, api, Config::default());
    let mut mirror = Mirror::new();
    while let Some(step) = steps.next().await {
        match step {
            Ok(step) => mirror.take(step, |found: RuntimeClass| {
                Some((found.metadata.name?, found.handler))
            }),
            Err(error) => {
                limited!(warn, error = %with_causes(&error), "watch on runtime classes began again");
                continue;
            }
        }
        if mirror.is_complete() {
            says.send_replace(Runtimes::of(mirror.now().clone()));
        }
    }
}
