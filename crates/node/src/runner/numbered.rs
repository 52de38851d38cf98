// SPDX-License-Identifier: Apache-2.0
//! StatefulSets: pods with a number each, which keep their names. One step at a time, decided by [`step`] (pure) from how the pods are
//! now, as Kubernetes' controller does: the lowest first when they come, the highest first when they go or are replaced.
//!
//! It must never run two pods of one name.

use std::collections::BTreeMap;
use std::sync::Arc;

use maille_manifest::objects::{
    ObjectMeta, OwnerReference, Pod, PodManagement, PodStatus, StatefulSet,
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
}

/// How the pod of one number is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Member {
    ready: bool,
    /// It was told to end.
    leaving: bool,
    /// It is of the current template.
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
    let mut changes = pods.changes();
    loop {
        changes.mark_unchanged();
        let wanted = goal.borrow_and_update().clone();
        let handles = pods.owned(&key);
        match wanted {
            Some(set) => act(&pods, &key, &set, &handles),
            None if handles.is_empty() && pods.release::<StatefulSet>(&key) => return,
            None => {
                for handle in &handles {
                    order(handle, Stop::Deleted);
                }
            }
        }
        tokio::select! {
            changed = goal.changed() => if changed.is_err() { return },
            changed = changes.changed() => if changed.is_err() { return },
        }
    }
}

fn act(pods: &Arc<Pods>, key: &OwnerKey, set: &StatefulSet, handles: &[Handle]) {
    let hash = names::hash(&set.spec.template);
    let mut members = BTreeMap::new();
    for handle in handles {
        let number = handle
            .name
            .rsplit_once('-')
            .map(|(_, number)| number.parse());
        let Some(Ok(number)) = number else { continue };
        let member = Member {
            ready: handle.ready.borrow().is_some(),
            leaving: *handle.stop.borrow() != Stop::No,
            current: handle.hash == hash,
            condemned: handle.condemned.is_some(),
        };
        members.insert(number, (member, handle));
    }
    let wanted = Wanted {
        start: set.spec.ordinals.unwrap_or_default().start,
        replicas: set.spec.replicas,
        ordered: set.spec.pod_management_policy == PodManagement::OrderedReady,
    };
    let looks = members
        .iter()
        .map(|(number, (member, _))| (*number, *member));
    let step = step(wanted, &looks.collect());
    for (_, handle) in step.stop.iter().filter_map(|number| members.get(number)) {
        order(handle, Stop::Deleted);
    }
    for number in step.start {
        match pod(set, number) {
            Ok(pod) => pods.start(pod, (key.clone(), hash.clone())),
            Err(error) => {
                tracing::error!(name = key.name, error = %format_args!("{error:#}"), "no pod can be made");
            }
        }
    }
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
    let settled = members
        .values()
        .all(|member| member.ready && !member.leaving);
    let old = members.iter().rev().find(|(_, member)| !member.current);
    if let Some((number, member)) = old
        && (settled || !member.ready)
        && !member.leaving
    {
        step.stop.push(*number);
    }
    step
}

/// The pod of one number, without uid.
fn pod(set: &StatefulSet, number: u32) -> anyhow::Result<Pod> {
    let template = &set.spec.template;
    let name = format!("{}-{number}", set.metadata.name);
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
mod tests {
    use super::*;

    const READY: Member = Member {
        ready: true,
        leaving: false,
        current: true,
        condemned: false,
    };
    const BEGINS: Member = Member {
        ready: false,
        ..READY
    };
    const OLD: Member = Member {
        current: false,
        ..READY
    };
    const LEAVES: Member = Member {
        leaving: true,
        ..READY
    };

    fn check(
        (start, replicas, ordered): (u32, u32, bool),
        members: &[(u32, Member)],
        starts: &[u32],
        stops: &[u32],
    ) {
        let wanted = Wanted {
            start,
            replicas,
            ordered,
        };
        let members = members.iter().copied().collect();
        let found = step(wanted, &members);
        assert_eq!(
            (&found.start[..], &found.stop[..]),
            (starts, stops),
            "{members:?}"
        );
    }

    #[test]
    fn they_come_one_after_the_other() {
        check((0, 3, true), &[], &[0], &[]);
        check((0, 3, true), &[(0, BEGINS)], &[], &[]);
        check((0, 3, true), &[(0, READY)], &[1], &[]);
        check(
            (0, 3, true),
            &[(0, READY), (1, READY), (2, READY)],
            &[],
            &[],
        );
        check((5, 2, true), &[(5, READY)], &[6], &[]);
        check((0, 3, false), &[], &[0, 1, 2], &[]);
        check((0, 3, false), &[(1, BEGINS)], &[0, 2], &[]);
        // A hole is filled before anything else happens.
        check((0, 3, true), &[(0, READY), (2, READY)], &[1], &[]);
        check((0, 2, true), &[(0, READY), (1, LEAVES)], &[], &[]);
    }

    #[test]
    fn they_go_the_other_way() {
        let all = [(0, READY), (1, READY), (2, READY)];
        check((0, 1, true), &all, &[], &[2]);
        check(
            (0, 1, true),
            &[(0, READY), (1, READY), (2, LEAVES)],
            &[],
            &[],
        );
        check((0, 1, false), &all, &[], &[2, 1]);
        check((0, 0, true), &[(0, READY)], &[], &[0]);
    }

    #[test]
    fn they_are_replaced_one_at_a_time_the_last_first() {
        check((0, 3, true), &[(0, OLD), (1, OLD), (2, OLD)], &[], &[2]);
        check((0, 3, true), &[(0, OLD), (1, OLD), (2, BEGINS)], &[], &[]);
        check((0, 3, true), &[(0, OLD), (1, OLD), (2, READY)], &[], &[1]);
        let stuck = Member {
            ready: false,
            ..OLD
        };
        check((0, 2, true), &[(0, stuck), (1, OLD)], &[], &[0]);
        check((0, 2, false), &[(0, OLD), (1, stuck)], &[], &[1]);
        let condemned = Member {
            condemned: true,
            ..READY
        };
        check((0, 2, true), &[(0, READY), (1, condemned)], &[], &[1]);
    }
}
