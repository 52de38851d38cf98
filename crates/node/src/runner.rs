// SPDX-License-Identifier: Apache-2.0
//! Pods: which there should be, and the handles of those that there are. One machine, no scheduling.
//!
//! What there should be is told by [`Pods::apply`], object by object; each object that makes pods has a task of its own, `set.rs`,
//! `numbered.rs` (StatefulSets), `job.rs`, `cron.rs` or `single.rs`, which starts and ends them. Read `runner/pod.rs` for the life of
//! one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use maille_chassis::clock::Clock;
use maille_chassis::tasks::Tasks;
use maille_chassis::without::Without;
use maille_manifest::changes::{Change, ObjectKey};
use maille_manifest::marks::CAPTURE;
use maille_manifest::objects::{CronJob, Job, Object, Pod, StatefulSet};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::agent::Agent;
use crate::cluster::{Capture, Cluster};
use crate::limits::Limiter;
use crate::network::Network;
use crate::processes::Processes;

mod action;
mod container;
mod cron;
mod env;
mod fields;
mod files;
mod grpc;
mod job;
pub(crate) mod names;
mod numbered;
mod pod;
mod probe;
mod report;
pub(crate) mod rights;
mod rollout;
mod set;
mod single;
mod status;
mod volumes;

use pod::Life;
use set::Set;
use status::Outcome;
pub(crate) use status::timestamp;

/// What every pod's life needs.
#[derive(Debug)]
pub(crate) struct Surroundings {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) processes: Arc<Processes>,
    pub(crate) network: Network,
    pub(crate) limiter: Arc<Limiter>,
    /// Absent without a mesh: then no pod is in it.
    pub(crate) agent: Option<Agent>,
    pub(crate) state_dir: std::path::PathBuf,
    /// Where claims of storage are.
    pub(crate) claims: std::path::PathBuf,
    /// The search path of containers.
    pub(crate) path: String,
    /// Whether there is one user only, so that the numbers of others can be no more than names.
    pub(crate) alias: bool,
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
    /// How jobs ended, or not yet.
    jobs: BTreeMap<OwnerKey, Option<Outcome>>,
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

/// How the task that keeps an owner's pods is told what to keep; `None`: no pod at all.
type Goal<T> = watch::Sender<Option<Arc<T>>>;

/// The task that keeps an owner's pods.
#[derive(Debug)]
enum Keeper {
    Set(Goal<Set>),
    Single(Goal<Pod>),
    Numbered(Goal<StatefulSet>),
    Job(Goal<Job>),
    Cron(Goal<CronJob>),
}

/// What a task keeps pods by.
trait Kept: PartialEq + Send + Sync + 'static {
    /// What the task is called.
    const TASK: &'static str;

    /// Its own kind of keeper.
    fn wrap(goal: Goal<Self>) -> Keeper;

    /// The goal of its own kind of keeper.
    fn goal(keeper: &Keeper) -> Option<&Goal<Self>>;

    /// Keeps what the goal says until it says nothing and the last pod is gone.
    fn keep(
        pods: Arc<Pods>,
        key: OwnerKey,
        goal: watch::Receiver<Option<Arc<Self>>>,
    ) -> impl Future<Output = ()> + Send + 'static;
}

macro_rules! kept {
    ($($kind:ty, $keeper:ident, $module:ident;)*) => {
        $(impl Kept for $kind {
            const TASK: &'static str = stringify!($module);

            fn wrap(goal: Goal<Self>) -> Keeper {
                Keeper::$keeper(goal)
            }

            fn goal(keeper: &Keeper) -> Option<&Goal<Self>> {
                match keeper {
                    Keeper::$keeper(goal) => Some(goal),
                    _ => None,
                }
            }

            fn keep(
                pods: Arc<Pods>,
                key: OwnerKey,
                goal: watch::Receiver<Option<Arc<Self>>>,
            ) -> impl Future<Output = ()> + Send + 'static {
                $module::keep(pods, key, goal)
            }
        })*
    };
}

kept! {
    Set, Set, set;
    Pod, Single, single;
    StatefulSet, Numbered, numbered;
    Job, Job, job;
    CronJob, Cron, cron;
}

#[derive(Clone, Debug)]
struct Handle {
    name: String,
    uid: String,
    owner: OwnerKey,
    /// Of the template that it was made of.
    hash: String,
    /// Its place in the order of starts.
    born: u64,
    stop: Arc<watch::Sender<Stop>>,
    /// Since when, by the clock's start.
    ready: watch::Receiver<Option<Duration>>,
    /// How it ended, once it has for good.
    outcome: watch::Receiver<Option<Outcome>>,
    /// Its sender is dropped when the pod is gone.
    gone: watch::Receiver<()>,
    /// Since when somebody wants it gone.
    condemned: Option<Duration>,
}

/// Where a pod tells whether it is ready.
#[derive(Debug)]
pub(crate) struct Readiness {
    since: watch::Sender<Option<Duration>>,
    outcome: watch::Sender<Option<Outcome>>,
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
            let key = OwnerKey::from(&change.key);
            // Another kind of the same name is another key: before and after are of one kind.
            match (change.after.or(change.before), change.after.is_some()) {
                (Some(Object::Deployment(object)), there) => {
                    self.keep(key, there.then(|| Arc::new(Set::of(object))));
                }
                (Some(Object::ReplicaSet(object)), there) => {
                    self.keep(key, there.then(|| Arc::new(Set::of_replicas(object))));
                }
                (Some(Object::DaemonSet(object)), there) => {
                    self.keep(key, there.then(|| Arc::new(Set::of_daemon(object))));
                }
                (Some(Object::StatefulSet(object)), there) => {
                    self.keep(key, there.then(|| Arc::new((**object).clone())));
                }
                (Some(Object::Job(object)), there) => {
                    self.keep(key, there.then(|| Arc::new((**object).clone())));
                }
                (Some(Object::CronJob(object)), there) => {
                    self.keep(key, there.then(|| Arc::new((**object).clone())));
                }
                (Some(Object::Pod(object)), there) => {
                    self.keep(key, there.then(|| Arc::new((**object).clone())));
                }
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
            self.keep::<Pod>(owner, None);
        }
        self.bump();
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

    /// From now on `goal` is what there is to be of `key`'s pods.
    fn keep<T: Kept>(self: &Arc<Self>, key: OwnerKey, goal: Option<Arc<T>>) {
        let mut handles = self.handles.lock();
        let known = handles.keepers.get(&key).and_then(T::goal);
        match known {
            Some(known) => drop(known.send_replace(goal)),
            None if goal.is_none() || handles.closed => {}
            None => {
                let (goal, told) = watch::channel(goal);
                handles.keepers.insert(key.clone(), T::wrap(goal));
                let task = T::keep(self.clone(), key, told);
                self.around.tasks.spawn(T::TASK, task);
            }
        }
    }

    /// Forgets the task of `key`, which is about to end; `false`: it has been given something to do meanwhile.
    fn release<T: Kept>(&self, key: &OwnerKey) -> bool {
        let mut handles = self.handles.lock();
        let goal = handles.keepers.get(key).and_then(T::goal);
        let idle = goal.is_none_or(|goal| goal.borrow().is_none());
        if idle {
            handles.keepers.remove(key);
            handles.jobs.remove(key);
        }
        idle
    }

    /// Notes how a job ended, or that it has not.
    fn note_job(&self, key: &OwnerKey, outcome: Option<Outcome>) {
        let before = self.handles.lock().jobs.insert(key.clone(), outcome);
        if before != Some(outcome) {
            self.bump();
        }
    }

    /// How a job ended, if it has.
    fn job(&self, key: &OwnerKey) -> Option<Outcome> {
        self.handles.lock().jobs.get(key).copied().flatten()
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
        let (outcome_sender, outcome) = watch::channel(None);
        let (gone_sender, gone) = watch::channel(());
        {
            let mut handles = self.handles.lock();
            if handles.closed {
                return;
            }
            handles.born += 1;
            let handle = Handle {
                name: key.1.clone(),
                uid,
                owner,
                hash,
                born: handles.born,
                stop: Arc::new(stop),
                ready,
                outcome,
                gone,
                condemned: None,
            };
            handles.pods.insert(key.clone(), handle);
        }
        self.bump();
        let changed = self.changed.clone();
        let ready = Readiness {
            since,
            outcome: outcome_sender,
            changed,
        };
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

// === impl OwnerKey ===

impl OwnerKey {
    /// That of `object`.
    pub(crate) fn of(object: &Object) -> Self {
        Self::from(&ObjectKey::of(object))
    }
}

impl From<&ObjectKey> for OwnerKey {
    fn from(key: &ObjectKey) -> Self {
        Self {
            kind: key.kind,
            namespace: key.namespace.clone(),
            name: key.name.clone(),
        }
    }
}

// === impl Readiness ===

impl Readiness {
    /// It is ready, or not, or has ended for good.
    pub(crate) fn tell(&self, ready: bool, outcome: Option<Outcome>, now: Duration) {
        let ended = self
            .outcome
            .send_if_modified(|known| std::mem::replace(known, outcome) != outcome);
        let changed = self.since.send_if_modified(|since| {
            let changed = since.is_some() != ready;
            if changed {
                *since = ready.then_some(now);
            }
            changed
        });
        if changed || ended {
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
