// SPDX-License-Identifier: Apache-2.0
//! Pods: which there should be, and the handles of those that there are. No orchestrator: one machine, no rollout, no scheduling.
//!
//! A deleted pod of a Deployment is replaced before it ends: its successor is started, waited for (at most [`SUCCESSOR`]), and
//! only then is the old one taken out of its services, so that a Deployment of one pod has no gap either.
//! Read `runner/pod.rs` for the life of one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use maille_chassis::clock::Clock;
use maille_chassis::tasks::Tasks;
use maille_manifest::marks::CAPTURE;
use maille_manifest::objects::{Deployment, ObjectMeta, OwnerReference, Pod, PodStatus};
use maille_model::Name;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::agent::Agent;
use crate::cluster::{Capture, Cluster, Wanted};
use crate::network::Network;
use crate::processes::Processes;

mod container;
mod env;
mod files;
pub(crate) mod names;
mod pod;
mod probe;
mod status;

use pod::Life;

/// How long a deleted pod waits for its successor.
const SUCCESSOR: Duration = Duration::from_secs(20);

/// What every pod's life needs.
#[derive(Debug)]
pub(crate) struct Surroundings {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) processes: Arc<Processes>,
    pub(crate) network: Network,
    /// Absent without a mesh: then no pod is in it.
    pub(crate) agent: Option<Agent>,
    pub(crate) state_dir: std::path::PathBuf,
    /// The search path of containers.
    pub(crate) path: String,
    pub(crate) tasks: Tasks,
    pub(crate) clock: Clock,
}

/// Why a pod ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// It does not.
    No,
    /// It alone: its clients are to move first.
    Deleted,
    /// With everything else.
    Shutdown,
}

/// Every pod that runs.
#[derive(Debug)]
pub(crate) struct Pods {
    around: Arc<Surroundings>,
    handles: Arc<Mutex<Handles>>,
}

/// By namespace and name; closed once everything ends.
#[derive(Debug, Default)]
struct Handles {
    pods: BTreeMap<(String, String), Handle>,
    closed: bool,
}

#[derive(Clone, Debug)]
struct Handle {
    uid: String,
    deployment: Option<Arc<Deployment>>,
    stop: Arc<watch::Sender<Stop>>,
    ready: watch::Receiver<bool>,
    /// Its sender is dropped when the pod is gone.
    gone: watch::Receiver<()>,
    being_replaced: bool,
}

// === impl Pods ===

impl Pods {
    pub(crate) fn new(around: Arc<Surroundings>) -> Self {
        Self {
            around,
            handles: Arc::default(),
        }
    }

    /// Starts everything that is wanted.
    pub(crate) fn start_all(&self, wanted: Wanted) {
        for deployment in wanted.deployments {
            let deployment = Arc::new(deployment);
            for _ in 0..deployment.spec.replicas {
                self.start_of(&deployment);
            }
        }
        for pod in wanted.pods {
            self.start(pod, None);
        }
    }

    /// Deletes a pod; `false` if there is none of this name. A Deployment's pod is replaced first.
    pub(crate) fn delete(self: &Arc<Self>, namespace: &str, name: &str) -> bool {
        let key = (namespace.to_owned(), name.to_owned());
        let handle = {
            let mut handles = self.handles.lock();
            let Some(handle) = handles.pods.get_mut(&key) else {
                return false;
            };
            if std::mem::replace(&mut handle.being_replaced, true) {
                return true;
            }
            handle.clone()
        };
        let own = self.clone();
        self.around.tasks.spawn("replace pod", async move {
            if let Some(deployment) = &handle.deployment
                && let Some(mut successor) = own.start_of(deployment)
            {
                let ready = successor.ready.wait_for(|ready| *ready);
                // Not ready in time, or gone: the old one goes all the same, as it was asked to.
                let _ = timeout(SUCCESSOR, ready).await;
            }
            order(&handle, Stop::Deleted);
        });
        true
    }

    /// Ends every pod and waits until all are gone.
    pub(crate) async fn shutdown(&self) {
        let handles: Vec<Handle> = {
            let mut handles = self.handles.lock();
            handles.closed = true;
            handles.pods.values().cloned().collect()
        };
        for handle in &handles {
            order(handle, Stop::Shutdown);
        }
        join_all(
            handles
                .into_iter()
                .map(|mut handle| async move { while handle.gone.changed().await.is_ok() {} }),
        )
        .await;
    }

    /// One more pod of `deployment`.
    fn start_of(&self, deployment: &Arc<Deployment>) -> Option<Handle> {
        match pod_of(deployment) {
            Ok(pod) => self.start(pod, Some(deployment.clone())),
            Err(error) => {
                let name = deployment.metadata.name.as_str();
                tracing::error!(deployment = name, error = %format_args!("{error:#}"), "no pod can be made");
                None
            }
        }
    }

    fn start(&self, mut pod: Pod, deployment: Option<Arc<Deployment>>) -> Option<Handle> {
        let uid = match names::random() {
            Ok(bytes) => names::uid(bytes),
            Err(error) => {
                tracing::error!(%error, "no random bytes");
                return None;
            }
        };
        pod.metadata.uid.clone_from(&uid);
        let capture = match &self.around.agent {
            Some(_) => self.around.cluster.capture(&pod),
            None => Capture::None,
        };
        let word = match capture {
            Capture::Outboard => "outboard",
            Capture::None => "none",
        };
        pod.metadata
            .annotations
            .insert(CAPTURE.to_owned(), word.to_owned());
        let key = (
            pod.metadata.namespace().to_owned(),
            pod.metadata.name.to_string(),
        );
        let (stop, orders) = watch::channel(Stop::No);
        let (ready_sender, ready) = watch::channel(false);
        let (gone_sender, gone) = watch::channel(());
        let handle = Handle {
            uid,
            deployment,
            stop: Arc::new(stop),
            ready,
            gone,
            being_replaced: false,
        };
        {
            let mut handles = self.handles.lock();
            if handles.closed {
                return None;
            }
            handles.pods.insert(key.clone(), handle.clone());
        }
        let life = Life::new(self.around.clone(), pod, capture, orders, ready_sender);
        let handles = self.handles.clone();
        self.around.tasks.spawn("pod", async move {
            life.run().await;
            handles.lock().pods.remove(&key);
            drop(gone_sender);
        });
        Some(handle)
    }
}

/// The stronger order stands.
fn order(handle: &Handle, stop: Stop) {
    tracing::info!(pod.uid = handle.uid, ?stop, "pod is to end");
    handle.stop.send_if_modified(|now| {
        let stronger = *now == Stop::No || stop == Stop::Shutdown;
        if stronger {
            *now = stop;
        }
        stronger
    });
}

/// A new pod of `deployment`, without uid.
fn pod_of(deployment: &Deployment) -> anyhow::Result<Pod> {
    let template = &deployment.spec.template;
    let name = names::pod(
        deployment.metadata.name.as_str(),
        &serde_json::to_vec(template)?,
        u64::from_ne_bytes(names::random()?),
    );
    let name: Name = name.parse()?;
    let mut metadata = ObjectMeta::new(deployment.metadata.namespace.clone(), name);
    metadata.labels.clone_from(&template.metadata.labels);
    metadata
        .annotations
        .clone_from(&template.metadata.annotations);
    metadata.owner_references = vec![OwnerReference {
        api_version: "apps/v1".to_owned(),
        kind: "Deployment".to_owned(),
        name: deployment.metadata.name.to_string(),
        uid: deployment.metadata.uid.clone(),
        controller: true,
    }];
    Ok(Pod {
        metadata,
        spec: template.spec.clone(),
        status: PodStatus::default(),
    })
}
