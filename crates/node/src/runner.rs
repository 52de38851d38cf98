// SPDX-License-Identifier: Apache-2.0
//! Pods: which there should be, and the handles of those that there are. One machine, no scheduling.
//!
//! What there should be is told by [`Pods::apply`], object by object; each object that makes pods has a task of its own, `set.rs` or
//! `single.rs`, which starts and ends them. Read `runner/pod.rs` for the life of one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use maille_chassis::clock::Clock;
use maille_chassis::tasks::Tasks;
use maille_chassis::without::Without;
use maille_manifest::changes::Change;
use maille_manifest::marks::CAPTURE;
use maille_manifest::objects::{Object, Pod};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::agent::Agent;
use crate::cluster::{Capture, Cluster};
use crate::network::Network;
use crate::processes::Processes;

mod container;
mod env;
mod files;
pub(crate) mod names;
mod pod;
mod probe;
mod rollout;
mod set;
mod single;
mod status;

use pod::Life;
use set::Set;
pub(crate) use status::timestamp;

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
    /// Protections that a test left out.
    pub(crate) without: Without,
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
    handles: Mutex<Handles>,
    /// Counts changes of what the handles say.
    changed: Arc<watch::Sender<u64>>,
}

/// Closed once everything ends.
#[derive(Debug, Default)]
struct Handles {
    /// By namespace and name.
    pods: BTreeMap<(String, String), Handle>,
    keepers: BTreeMap<OwnerKey, Keeper>,
    /// How many were started.
    born: u64,
    closed: bool,
}

/// What pods belong to: an object of the manifests.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct OwnerKey {
    pub(crate) kind: &'static str,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// The task that keeps an owner's pods, by what it is told; `None`: no pod at all.
#[derive(Debug)]
enum Keeper {
    Set(watch::Sender<Option<Arc<Set>>>),
    Single(watch::Sender<Option<Arc<Pod>>>),
}

#[derive(Clone, Debug)]
struct Handle {
    uid: String,
    owner: OwnerKey,
    /// Of the template that it was made of.
    hash: String,
    /// Its place in the order of starts.
    born: u64,
    stop: Arc<watch::Sender<Stop>>,
    /// Since when, by the clock's start.
    ready: watch::Receiver<Option<Duration>>,
    /// Its sender is dropped when the pod is gone.
    gone: watch::Receiver<()>,
    /// Since when somebody wants it gone.
    condemned: Option<Duration>,
}

/// Where a pod tells whether it is ready.
#[derive(Debug)]
pub(crate) struct Readiness {
    since: watch::Sender<Option<Duration>>,
    changed: Arc<watch::Sender<u64>>,
}

// === impl Pods ===

impl Pods {
    pub(crate) fn new(around: Arc<Surroundings>) -> Self {
        Self {
            around,
            handles: Mutex::default(),
            changed: Arc::new(watch::Sender::new(0)),
        }
    }

    /// Takes note of what is to be different from now on.
    pub(crate) fn apply(self: &Arc<Self>, changes: &[Change<'_>]) {
        for change in changes {
            let key = OwnerKey {
                kind: change.key.kind,
                namespace: change.key.namespace.clone(),
                name: change.key.name.clone(),
            };
            match (change.before, change.after) {
                (_, Some(Object::Deployment(deployment))) => {
                    self.keep_set(key, Some(Arc::new(Set::of(deployment))));
                }
                (Some(Object::Deployment(_)), None) => self.keep_set(key, None),
                (_, Some(Object::Pod(pod))) => {
                    self.keep_single(key, Some(Arc::new((**pod).clone())));
                }
                (Some(Object::Pod(_)), None) => self.keep_single(key, None),
                _ => {}
            }
        }
    }

    /// Deletes a pod; `false` if there is none of this name. One that belongs to a set is replaced first.
    pub(crate) fn delete(self: &Arc<Self>, namespace: &str, name: &str) -> bool {
        let key = (namespace.to_owned(), name.to_owned());
        let owner = {
            let mut handles = self.handles.lock();
            let Some(handle) = handles.pods.get_mut(&key) else {
                return false;
            };
            let now = self.around.clock.elapsed();
            handle.condemned.get_or_insert(now);
            handle.owner.clone()
        };
        if owner.kind == "Pod" {
            self.keep_single(owner, None);
        }
        self.bump();
        true
    }

    /// How a Deployment's pods are, as its `status`. `None`: there is no such Deployment.
    pub(crate) fn status(&self, namespace: &str, name: &str) -> Option<serde_json::Value> {
        let key = OwnerKey {
            kind: "Deployment",
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        let set = match self.handles.lock().keepers.get(&key)? {
            Keeper::Set(goal) => goal.borrow().clone()?,
            Keeper::Single(_) => return None,
        };
        Some(set.status(&self.owned(&key), self.around.clock.elapsed()))
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

    fn keep_set(self: &Arc<Self>, key: OwnerKey, set: Option<Arc<Set>>) {
        let mut handles = self.handles.lock();
        match handles.keepers.get(&key) {
            Some(Keeper::Set(goal)) => drop(goal.send_replace(set)),
            _ if set.is_none() || handles.closed => {}
            _ => {
                let (goal, told) = watch::channel(set);
                handles.keepers.insert(key.clone(), Keeper::Set(goal));
                let task = set::keep(self.clone(), key, told);
                self.around.tasks.spawn("set", task);
            }
        }
    }

    fn keep_single(self: &Arc<Self>, key: OwnerKey, pod: Option<Arc<Pod>>) {
        let mut handles = self.handles.lock();
        match handles.keepers.get(&key) {
            Some(Keeper::Single(goal)) => drop(goal.send_replace(pod)),
            _ if pod.is_none() || handles.closed => {}
            _ => {
                let (goal, told) = watch::channel(pod);
                handles.keepers.insert(key.clone(), Keeper::Single(goal));
                let task = single::keep(self.clone(), key, told);
                self.around.tasks.spawn("single pod", task);
            }
        }
    }

    /// Forgets the task of `key`, which is about to end; `false`: it has been given something to do meanwhile.
    fn release(&self, key: &OwnerKey) -> bool {
        let mut handles = self.handles.lock();
        let idle = match handles.keepers.get(key) {
            Some(Keeper::Set(goal)) => goal.borrow().is_none(),
            Some(Keeper::Single(goal)) => goal.borrow().is_none(),
            None => true,
        };
        if idle {
            handles.keepers.remove(key);
        }
        idle
    }

    /// Tells of every change of what handles say.
    fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn bump(&self) {
        self.changed.send_modify(|version| *version += 1);
    }

    /// The pods of `owner`, oldest first.
    fn owned(&self, owner: &OwnerKey) -> Vec<Handle> {
        let handles = self.handles.lock();
        let mut owned: Vec<Handle> = handles
            .pods
            .values()
            .filter(|handle| handle.owner == *owner)
            .cloned()
            .collect();
        owned.sort_by_key(|handle| handle.born);
        owned
    }

    /// Starts a pod. Does nothing where everything ends.
    fn start(self: &Arc<Self>, mut pod: Pod, (owner, hash): (OwnerKey, String)) {
        let uid = match names::random() {
            Ok(bytes) => names::uid(bytes),
            Err(error) => return tracing::error!(%error, "no random bytes"),
        };
        pod.metadata.uid.clone_from(&uid);
        pod.metadata.creation_timestamp = Some(timestamp(self.around.clock.wall()));
        if self.around.without.readiness {
            for container in &mut pod.spec.containers {
                container.readiness_probe = None;
            }
        }
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
        let (since, ready) = watch::channel(None);
        let (gone_sender, gone) = watch::channel(());
        {
            let mut handles = self.handles.lock();
            if handles.closed {
                return;
            }
            handles.born += 1;
            let handle = Handle {
                uid,
                owner,
                hash,
                born: handles.born,
                stop: Arc::new(stop),
                ready,
                gone,
                condemned: None,
            };
            handles.pods.insert(key.clone(), handle);
        }
        self.bump();
        let changed = self.changed.clone();
        let ready = Readiness { since, changed };
        let life = Life::new(self.around.clone(), pod, capture, orders, ready);
        let own = self.clone();
        self.around.tasks.spawn("pod", async move {
            life.run().await;
            own.handles.lock().pods.remove(&key);
            own.bump();
            drop(gone_sender);
        });
    }
}

// === impl Readiness ===

impl Readiness {
    /// It is ready, or not.
    pub(crate) fn tell(&self, ready: bool, now: Duration) {
        let changed = self.since.send_if_modified(|since| {
            let changed = since.is_some() != ready;
            if changed {
                *since = ready.then_some(now);
            }
            changed
        });
        if changed {
            self.changed.send_modify(|version| *version += 1);
        }
    }
}

/// The stronger order stands.
fn order(handle: &Handle, stop: Stop) {
    let changed = handle.stop.send_if_modified(|now| {
        let stronger = *now == Stop::No || stop == Stop::Shutdown;
        if stronger {
            *now = stop;
        }
        stronger
    });
    if changed {
        tracing::info!(pod.uid = handle.uid, ?stop, "pod is to end");
    }
}
