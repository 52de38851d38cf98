// SPDX-License-Identifier: Apache-2.0
//! Control in a cluster: who we are there, and what is kept there. Everything but the watch on what exists, which is
//! [`crate::watch::kube`].
//!
//! Every replica answers; what is written (the authority, what pods trust, who may call us) is written by the one that holds
//! the [`lease`]. Every call has a deadline. Read [`leader`], [`authority`], [`trust`], [`bundle`], [`review`].

use std::fmt::{self, Debug};
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Client, Config, Resource};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::pauses::{Pauses, counting};
use crate::settings::Kubernetes;

/// The certificate authority in its Secret.
pub mod authority;
/// What the proxy beside us trusts.
pub mod beside;
/// Who may call us: our authority, written where the API server looks.
pub mod bundle;
/// Events of pods.
pub mod events;
/// Who may speak for users: the API server's front proxy.
pub mod front;
/// Who writes: the lease, held.
pub mod leader;
/// Who writes: the decision. Pure.
pub mod lease;

/// What a watch told so far. Pure.
mod mirror;
/// What namespaces say of themselves.
pub mod namespaces;
/// Who we are: our own certificates.
pub mod own;
/// Who somebody is, and what he may do: the API server's word.
pub mod review;
/// What runtime classes run pods by.
pub mod runtimes;
/// What pods trust: a ConfigMap in each namespace.
pub mod trust;

/// How long the API server may take for one answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// The group of our API.
pub const GROUP: &str = "api.maille.io";
/// As whom fields are written.
pub const MANAGER: &str = "maille-control";
/// The label of what control writes.
pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "maille");

/// A cluster, and who we are in it.
#[derive(Clone)]
pub struct Cluster {
    /// Asks the API server.
    pub client: Client,
    /// Where control runs.
    pub namespace: String,
    /// This replica among the others.
    pub me: String,
    /// Watches that had to be begun again.
    pub restarts: Arc<AtomicU64>,
}

/// Why there is no cluster to be in.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// We are not in a pod.
    #[error("there is no service account here: run in a pod, or give --kubeconfig FILE")]
    NotInPod(#[source] kube::config::InClusterError),
    /// The kubeconfig.
    #[error("kubeconfig {} cannot be used", .path.display())]
    Kubeconfig {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: KubeconfigError,
    },
    /// The client could not be made.
    #[error("the API server cannot be asked")]
    Client(#[source] kube::Error),
}

/// Why the API server did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// It did not answer in time.
    #[error("the API server did not answer within {PATIENCE:?}")]
    Late,
    /// It refused, or could not be reached.
    #[error(transparent)]
    Refused(#[from] kube::Error),
}

// === impl Cluster ===

impl Cluster {
    /// The cluster that these settings name; nothing is asked yet.
    pub async fn new(
        settings: &Kubernetes,
        me: String,
        restarts: Arc<AtomicU64>,
    ) -> Result<Self, ClusterError> {
        let mut config = match &settings.kubeconfig {
            None => Config::incluster().map_err(ClusterError::NotInPod)?,
            Some(path) => {
                let wrong = |source| ClusterError::Kubeconfig {
                    path: path.clone(),
                    source,
                };
                let file = Kubeconfig::read_from(path).map_err(wrong)?;
                let options = KubeConfigOptions::default();
                let config = Config::from_custom_kubeconfig(file, &options).await;
                config.map_err(wrong)?
            }
        };
        config.connect_timeout = Some(PATIENCE);
        let namespace = settings.namespace.as_ref();
        Ok(Self {
            namespace: namespace
                .map_or_else(|| config.default_namespace.clone(), ToString::to_string),
            client: Client::try_from(config).map_err(ClusterError::Client)?,
            me,
            restarts,
        })
    }
}

impl Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("namespace", &self.namespace)
            .field("me", &self.me)
            .finish_non_exhaustive()
    }
}

// === impl CallError ===

impl CallError {
    /// The HTTP status of the refusal, if there was an answer.
    fn code(&self) -> Option<u16> {
        match self {
            Self::Refused(kube::Error::Api(status)) => Some(status.code),
            Self::Late | Self::Refused(_) => None,
        }
    }
}

/// The one object of this name, as it changes. What fails is tried again.
fn watch_one<K>(
    cluster: &Cluster,
    api: Api<K>,
    name: &str,
) -> BoxStream<'static, Result<watcher::Event<K>, watcher::Error>>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    K::DynamicType: Default,
{
    watch_some(
        cluster,
        api,
        watcher::Config::default().fields(&format!("metadata.name={name}")),
    )
}

/// The objects that `config` selects, as they change. What fails is tried again.
fn watch_some<K>(
    cluster: &Cluster,
    api: Api<K>,
    config: watcher::Config,
) -> BoxStream<'static, Result<watcher::Event<K>, watcher::Error>>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    K::DynamicType: Default,
{
    let steps = watcher(api, config).backoff(Pauses::default());
    steps.inspect(counting(&cluster.restarts)).boxed()
}

/// One call, with its deadline.
async fn call<T>(asked: impl Future<Output = kube::Result<T>>) -> Result<T, CallError> {
    match timeout(PATIENCE, asked).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(CallError::Late),
    }
}
