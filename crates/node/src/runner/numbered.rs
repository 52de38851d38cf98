// SPDX-License-Identifier: Apache-2.0
//! StatefulSets: pods with a number each, which keep their names. One step at a time, decided by [`step`] (pure) from how the pods are
//! now, as Kubernetes' controller does: the lowest first when they come, the highest first when they go or are replaced.
//!
//! It must never run two pods of one name.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use maille_manifest::objects::{
    ObjectMeta, OwnerReference, Pod, PodManagement, PodStatus, StatefulSet, UpdateType,
};
use tokio::sync::watch;

use super::{Handle, OwnerKey, Pods, Stop, names, order};

/// Labels with which Kubernetes tells the pods of a StatefulSet apart.
const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
const POD_INDEX: &str = "apps.kubernetes.io/pod-index";

/// What there is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wanted {
    /// The first number.
    start: u32,
    replicas: u32,
    /// Whether one waits for the one before it.
    ordered: bool,
    /// How many may be missing while they are replaced.
    unavailable: usize,
}

/// How the pod of one number is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Member {
    /// Ready, and for long enough.
    ready: bool,
    /// It was told to end.
    leaving: bool,
    /// It is of the template that its number should have, or stays as it is until somebody deletes it.
    current: bool,
    /// Somebody wants it gone.
    condemned: bool,
}

/// What is to be done now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Step {
    start: Vec<u32>,
    stop: Vec<u32>,
}

/// Keeps what `goal` says until it says nothing and the last pod is gone.
pub(super) async fn keep(
    pods: Arc<Pods>,
    key: OwnerKey,
    mut goal: watch::Receiver<Option<Arc<StatefulSet>>>,
) {
    let clock = pods.around.clock;
    let mut changes = pods.changes();
    let mut plan: Option<Plan> = None;
    loop {
        changes.mark_unchanged();
        let wanted = goal.borrow_and_update().clone();
        let handles = pods.owned(&key);
        let due = match wanted {
            Some(set) => {
                let plan = plan.get_or_insert_with(|| Plan::new(Arc::clone(&set)));
                plan.follow(set, &handles);
                plan.act(&pods, &key, &handles, clock.elapsed())
            }
            None if handles.is_empty() && pods.release::<StatefulSet>(&key) => return,
            None => {
                for handle in &handles {
                    order(handle, Stop::Deleted);
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

/// A StatefulSet with the hash of its template.
#[derive(Clone, Debug)]
struct Version {
    set: Arc<StatefulSet>,
    hash: String,
}

/// What there is to be, and what there was: numbers before the partition are of that.
#[derive(Debug)]
struct Plan {
    now: Version,
    /// The last one of whose template every pod was.
    before: Version,
}

// === impl Version ===

impl Version {
    fn new(set: Arc<StatefulSet>) -> Self {
        let hash = names::hash(&set.spec.template);
        Self { set, hash }
    }
}

// === impl Plan ===

impl Plan {
    fn new(set: Arc<StatefulSet>) -> Self {
        let now = Version::new(set);
        Self {
            before: now.clone(),
            now,
        }
    }

    /// From now on `set` is wanted. Once every number has a pod of a template, there is no way back but an older file; a pod that is
    /// just gone says nothing of what its number is to be.
    fn follow(&mut self, set: Arc<StatefulSet>, handles: &[Handle]) {
        if !Arc::ptr_eq(&set, &self.now.set) {
            self.now = Version::new(set);
        }
        let updated = handles.iter().all(|handle| handle.hash == self.now.hash);
        let replicas = usize::try_from(self.now.set.spec.replicas).unwrap_or(usize::MAX);
        if updated && handles.len() == replicas {
            self.before = self.now.clone();
        }
    }

    /// The first number that is to be of the wanted template.
    fn first(&self) -> u32 {
        let spec = &self.now.set.spec;
        let start = self.now.set.numbers().start;
        start.saturating_add(spec.update_strategy.partition())
    }

    /// What the pod of a number is to be of.
    fn version(&self, number: u32) -> &Version {
        match number < self.first() {
            true => &self.before,
            false => &self.now,
        }
    }

    /// One step; when the next one is due although nothing changes.
    fn act(
        &self,
        pods: &Arc<Pods>,
        key: &OwnerKey,
        handles: &[Handle],
        now: Duration,
    ) -> Option<Duration> {
        let set = &self.now.set;
        let wait = Duration::from_secs(set.spec.min_ready_seconds.into());
        let by_hand = set.spec.update_strategy.kind == UpdateType::OnDelete;
        let (mut members, mut due) = (BTreeMap::new(), None);
        for handle in handles {
            let number = handle.name.rsplit_once('-');
            let number = number.and_then(|(_, number)| number.parse().ok());
            let Some(number) = number else { continue };
            let since = *handle.ready.borrow();
            let counts = since.map(|since| since + wait);
            let later = counts.filter(|counts| *counts > now);
            due = due.into_iter().chain(later).min();
            let stays = by_hand || number < self.first();
            let member = Member {
                ready: counts.is_some_and(|counts| counts <= now),
                leaving: *handle.stop.borrow() != Stop::No,
                current: stays || handle.hash == self.now.hash,
                condemned: handle.condemned.is_some(),
            };
            members.insert(number, (member, handle));
        }
        let unavailable = set.spec.update_strategy.unavailable(set.spec.replicas);
        let wanted = Wanted {
            start: set.numbers().start,
            replicas: set.spec.replicas,
            ordered: set.spec.pod_management_policy == PodManagement::OrderedReady,
            unavailable: usize::try_from(unavailable).unwrap_or(usize::MAX),
        };
        let looks = members.iter();
        let looks = looks.map(|(number, (member, _))| (*number, *member));
        let step = step(wanted, &looks.collect());
        for (_, handle) in step.stop.iter().filter_map(|number| members.get(number)) {
            order(handle, Stop::Deleted);
        }
        for number in step.start {
            let version = self.version(number);
            match pod(&version.set, number) {
                Ok(pod) => pods.start(pod, (key.clone(), version.hash.clone())),
                Err(error) => {
                    tracing::error!(name = key.name, error = %format_args!("{error:#}"), "no pod can be made");
                }
            }
        }
        due
    }
}

/// How the pods are, in the words of a StatefulSet's status.
pub(super) fn status(set: &StatefulSet, handles: &[Handle], now: Duration) -> serde_json::Value {
    let hash = names::hash(&set.spec.template);
    let there: Vec<&Handle> = handles
        .iter()
        .filter(|handle| *handle.stop.borrow() == Stop::No)
        .collect();
    let ready = there.iter().filter(|handle| handle.is_ready()).count();
    let wait = Duration::from_secs(set.spec.min_ready_seconds.into());
    let counts = |since: Duration| since + wait <= now;
    let available = there
        .iter()
        .filter(|handle| handle.ready.borrow().is_some_and(counts))
        .count();
    let updated = there.iter().filter(|handle| handle.hash == hash).count();
    serde_json::json!({
        "replicas": there.len(),
        "updatedReplicas": updated,
        "currentReplicas": there.len() - updated,
        "readyReplicas": ready,
        "availableReplicas": available,
    })
}

/// One step from how the pods are towards how they are to be.
fn step(wanted: Wanted, members: &BTreeMap<u32, Member>) -> Step {
    let end = wanted.start.saturating_add(wanted.replicas);
    let mut step = Step::default();
    step.stop.extend(
        members
            .iter()
            .filter(|(_, member)| member.condemned && !member.leaving)
            .map(|(number, _)| *number),
    );
    for number in wanted.start..end {
        let there = members.get(&number);
        if there.is_none() {
            step.start.push(number);
        }
        if wanted.ordered && !there.is_some_and(|member| member.ready && !member.leaving) {
            // One of an older template that is not ready is no reason to wait: the newer one may be better.
            let stuck = there.filter(|member| !member.leaving && !member.current);
            step.stop.extend(stuck.map(|_| number));
            return step;
        }
    }
    let surplus = members
        .iter()
        .rev()
        .filter(|(number, _)| !(wanted.start..end).contains(number));
    for (number, member) in surplus {
        if !member.leaving {
            step.stop.push(*number);
        }
        if wanted.ordered {
            return step;
        }
    }
    step.stop.extend(replaced(wanted, members));
    step
}

/// Which old ones are told to end: those that are not ready first, which are no loss, then the highest; so many that no more are missing than may be.
fn replaced(wanted: Wanted, members: &BTreeMap<u32, Member>) -> Vec<u32> {
    let there = || members.values().filter(|member| !member.leaving);
    let all = usize::try_from(wanted.replicas).unwrap_or(usize::MAX);
    let mut room = wanted
        .unavailable
        .saturating_sub(all.saturating_sub(there().count()));
    let mut unready = there().filter(|member| !member.ready).count();
    let mut stop = Vec::new();
    let old = members.iter().rev();
    let old = old.filter(|(_, member)| !member.current && !member.leaving);
    let mut old: Vec<_> = old.collect();
    old.sort_by_key(|(_, member)| member.ready);
    for (number, member) in old {
        if !member.ready && room > 0 {
            unready -= 1;
        } else if room <= unready {
            break;
        }
        room -= 1;
        stop.push(*number);
    }
    stop
}

/// The pod of one number, without uid.
fn pod(set: &StatefulSet, number: u32) -> anyhow::Result<Pod> {
    let template = &set.spec.template;
    let name = set.pod_name(number);
    let mut metadata = ObjectMeta::new(set.metadata.namespace.clone(), name.parse()?);
    metadata.labels.clone_from(&template.metadata.labels);
    metadata.labels.extend([
        (POD_NAME.to_owned(), name.clone()),
        (POD_INDEX.to_owned(), number.to_string()),
    ]);
    metadata
        .annotations
        .clone_from(&template.metadata.annotations);
    metadata.owner_references = vec![OwnerReference {
        api_version: "apps/v1".to_owned(),
        kind: "StatefulSet".to_owned(),
        name: set.metadata.name.to_string(),
        uid: set.metadata.uid.clone(),
        controller: true,
    }];
    let mut spec = template.spec.clone();
    for claim in set.claims(number) {
        spec.volumes.retain(|volume| volume.name != claim.name);
        spec.volumes.push(claim);
    }
    spec.hostname = Some(name);
    let service = &set.spec.service_name;
    spec.subdomain = Some(service.clone()).filter(|service| !service.is_empty());
    Ok(Pod {
        metadata,
        spec,
        status: PodStatus::default(),
    })
}

#[cfg(test)]
mod tests;
