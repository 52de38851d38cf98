// SPDX-License-Identifier: Apache-2.0
//! Pods of one template, kept at a number: what a Deployment is to this machine. One task each, which looks at its pods whenever
//! something changed and does the step that `rollout.rs` says.
//!
//! It must never start or end a pod for another reason. Read `rollout.rs` for the rules.

use std::sync::Arc;
use std::time::Duration;

use maille_manifest::objects::{
    DaemonSet, Deployment, ObjectMeta, OwnerReference, Pod, PodStatus, PodTemplate, ReplicaSet,
    Strategy, StrategyType, UpdateType,
};
use maille_model::Name;
use tokio::sync::watch;

use super::rollout::{Condemned, Goal, Member, Pace, State, step};
use super::{Handle, OwnerKey, Pods, Stop, names, order};

/// The label by which pods of one template are told from those of another, as on Kubernetes.
const TEMPLATE_HASH: &str = "pod-template-hash";
/// How long a deleted pod waits for its successor.
pub(super) const SUCCESSOR: Duration = Duration::from_secs(20);

/// What is to be kept.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Set {
    api_version: &'static str,
    kind: &'static str,
    metadata: ObjectMeta,
    template: PodTemplate,
    hash: String,
    goal: Goal,
    /// How long a pod must have been ready to count.
    min_ready: Duration,
    /// Whether the names of its pods tell their template.
    hash_in_name: bool,
}

impl Set {
    /// A Deployment's.
    pub(crate) fn of(deployment: &Deployment) -> Self {
        let spec = &deployment.spec;
        Self {
            api_version: "apps/v1",
            kind: "Deployment",
            metadata: deployment.metadata.clone(),
            template: spec.template.clone(),
            hash: names::hash(&spec.template),
            goal: Goal {
                replicas: spec.replicas,
                pace: match spec.strategy.kind {
                    StrategyType::RollingUpdate => {
                        Pace::Rolling(spec.strategy.bounds(spec.replicas))
                    }
                    StrategyType::Recreate => Pace::Recreate,
                },
            },
            min_ready: Duration::from_secs(u64::from(spec.min_ready_seconds)),
            hash_in_name: true,
        }
    }

    /// A ReplicaSet's. A new template replaces pods as a Deployment's does: nothing else would ever take notice of it here.
    pub(crate) fn of_replicas(set: &ReplicaSet) -> Self {
        let bounds = Strategy::default().bounds(set.spec.replicas);
        Self {
            api_version: "apps/v1",
            kind: "ReplicaSet",
            metadata: set.metadata.clone(),
            template: set.spec.template.clone(),
            hash: names::hash(&set.spec.template),
            goal: Goal {
                replicas: set.spec.replicas,
                pace: Pace::Rolling(bounds),
            },
            min_ready: Duration::from_secs(u64::from(set.spec.min_ready_seconds)),
            hash_in_name: false,
        }
    }

    /// A DaemonSet's: one pod, as there is one node.
    pub(crate) fn of_daemon(set: &DaemonSet) -> Self {
        Self {
            api_version: "apps/v1",
            kind: "DaemonSet",
            metadata: set.metadata.clone(),
            template: set.spec.template.clone(),
            hash: names::hash(&set.spec.template),
            goal: Goal {
                replicas: 1,
                pace: match set.spec.update_strategy.kind {
                    UpdateType::RollingUpdate => Pace::Rolling(set.spec.update_strategy.bounds()),
                    UpdateType::OnDelete => Pace::OnDelete,
                },
            },
            min_ready: Duration::from_secs(u64::from(set.spec.min_ready_seconds)),
            hash_in_name: false,
        }
    }

    /// Whose pods these are.
    pub(crate) fn key(&self) -> OwnerKey {
        OwnerKey {
            kind: self.kind,
            namespace: self.metadata.namespace().to_owned(),
            name: self.metadata.name.to_string(),
        }
    }

    /// One more pod, without uid.
    fn pod(&self) -> anyhow::Result<Pod> {
        let random = u64::from_ne_bytes(names::random()?);
        let own = self.metadata.name.as_str();
        let name = match self.hash_in_name {
            true => names::pod(own, &self.hash, random),
            false => names::short(own, random),
        };
        let name: Name = name.parse()?;
        let mut metadata = ObjectMeta::new(self.metadata.namespace.clone(), name);
        metadata.labels.clone_from(&self.template.metadata.labels);
        let hash = (TEMPLATE_HASH.to_owned(), self.hash.clone());
        metadata.labels.extend([hash]);
        metadata
            .annotations
            .clone_from(&self.template.metadata.annotations);
        metadata.owner_references = vec![OwnerReference {
            api_version: self.api_version.to_owned(),
            kind: self.kind.to_owned(),
            name: self.metadata.name.to_string(),
            uid: self.metadata.uid.clone(),
            controller: true,
        }];
        Ok(Pod {
            metadata,
            spec: self.template.spec.clone(),
            status: PodStatus::default(),
        })
    }

    /// How its pods are, in the words of its status.
    pub(super) fn status(&self, handles: &[Handle], now: Duration) -> serde_json::Value {
        let members = handles.iter().map(|handle| self.look(handle, now).0);
        let members: Vec<Member> = members
            .filter(|member| member.state != State::Leaving)
            .collect();
        let count = |which: &dyn Fn(&Member) -> bool| members.iter().filter(|m| which(m)).count();
        let ready = handles.iter().filter(|handle| handle.is_ready()).count();
        let available = count(&|member| member.state == State::Available);
        let updated = count(&|member| member.current);
        let wanted = usize::try_from(self.goal.replicas).unwrap_or(usize::MAX);
        let missing = wanted.saturating_sub(available);
        if self.kind == "DaemonSet" {
            return serde_json::json!({
                "desiredNumberScheduled": wanted,
                "currentNumberScheduled": members.len(),
                "updatedNumberScheduled": updated,
                "numberReady": ready,
                "numberAvailable": available,
                "numberUnavailable": missing,
                "numberMisscheduled": 0,
            });
        }
        serde_json::json!({
            "replicas": members.len(),
            "updatedReplicas": updated,
            "readyReplicas": ready,
            "availableReplicas": available,
            "unavailableReplicas": missing,
            "terminatingReplicas": handles.len() - members.len(),
        })
    }

    /// How `handle`'s pod is, and when that changes by itself.
    fn look(&self, handle: &Handle, now: Duration) -> (Member, Option<Duration>) {
        let mut due = None;
        let mut at = |when: Duration| {
            due = Some(due.map_or(when, |due: Duration| due.min(when)));
            now >= when
        };
        let state = match *handle.ready.borrow() {
            _ if *handle.stop.borrow() != Stop::No => State::Leaving,
            Some(since) if at(since + self.min_ready) => State::Available,
            _ => State::Unavailable,
        };
        let condemned = match handle.condemned {
            None => Condemned::No,
            Some(since) if at(since + SUCCESSOR) => Condemned::Overdue,
            Some(_) => Condemned::Waits,
        };
        let member = Member {
            current: handle.hash == self.hash,
            state,
            condemned,
        };
        (member, due.filter(|due| *due > now))
    }
}

/// Keeps what `goal` says until it says nothing and the last pod is gone.
pub(super) async fn keep(
    pods: Arc<Pods>,
    key: OwnerKey,
    mut goal: watch::Receiver<Option<Arc<Set>>>,
) {
    let clock = pods.around.clock;
    let mut changes = pods.changes();
    loop {
        changes.mark_unchanged();
        let wanted = goal.borrow_and_update().clone();
        let handles = pods.owned(&key);
        let due = match wanted {
            Some(set) => act(&pods, &set, &handles, clock.elapsed()),
            None => {
                for handle in &handles {
                    order(handle, Stop::Deleted);
                }
                if handles.is_empty() && pods.release::<Set>(&key) {
                    return;
                }
                None
            }
        };
        let later = async {
            match due {
                Some(due) => clock.wait(due.saturating_sub(clock.elapsed())).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = goal.changed() => if changed.is_err() { return },
            changed = changes.changed() => if changed.is_err() { return },
            () = later => {}
        }
    }
}

/// One step; when the next one is due although nothing changes.
fn act(pods: &Arc<Pods>, set: &Arc<Set>, handles: &[Handle], now: Duration) -> Option<Duration> {
    let looks: Vec<_> = handles.iter().map(|handle| set.look(handle, now)).collect();
    let members: Vec<Member> = looks.iter().map(|(member, _)| *member).collect();
    let step = step(&set.goal, &members);
    for handle in step.stop.iter().filter_map(|index| handles.get(*index)) {
        order(handle, Stop::Deleted);
    }
    for _ in 0..step.start {
        match set.pod() {
            Ok(pod) => pods.start(pod, (set.key(), set.hash.clone())),
            Err(error) => {
                let name = set.metadata.name.as_str();
                tracing::error!(kind = set.kind, name, error = %format_args!("{error:#}"), "no pod can be made");
            }
        }
    }
    looks.iter().filter_map(|(_, due)| *due).min()
}
