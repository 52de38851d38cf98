// SPDX-License-Identifier: Apache-2.0
//! One step of a rollout, decided from how the pods are now. Pure: it never knows how they came to be so, and any order of events
//! ends in the same place. The rules are those of Kubernetes' deployment controller (`RollingUpdate` and `Recreate`).
//!
//! Read `set.rs` for who asks.

use maille_manifest::objects::Bounds;

/// What there is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Goal {
    /// How many pods of the current template.
    pub(super) replicas: u32,
    pub(super) pace: Pace,
}

/// How old pods give way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// Step by step.
    Rolling(Bounds),
    /// The old ones are gone before the first new one starts.
    Recreate,
    /// An old one stays until somebody deletes it.
    OnDelete,
}

/// One pod, as far as a step cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Member {
    /// Whether it is of the current template.
    pub(super) current: bool,
    pub(super) state: State,
    /// Somebody wants it gone, as soon as it is not missed.
    pub(super) condemned: Condemned,
}

/// How a pod is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Not ready, or not for long enough.
    Unavailable,
    /// It serves.
    Available,
    /// It was told to end.
    Leaving,
}

/// Whether somebody asked for a pod's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condemned {
    No,
    /// It waits for a successor.
    Waits,
    /// It has waited long enough.
    Overdue,
}

/// What is to be done now. Afterwards the pods are different, and another step is due.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Step {
    /// Pods of the current template to start.
    pub(super) start: u32,
    /// Which of the members are told to end.
    pub(super) stop: Vec<usize>,
}

/// The step from `members`, oldest first, towards `goal`.
pub(super) fn step(goal: &Goal, members: &[Member]) -> Step {
    let mut stop = Vec::new();
    let mut start = match goal.pace {
        Pace::Rolling(bounds) => rolling(goal.replicas, bounds, members, &mut stop),
        Pace::Recreate => recreate(goal.replicas, members, &mut stop),
        Pace::OnDelete => on_delete(goal.replicas, members, &mut stop),
    };
    let surplus = surplus(goal, members);
    if !surplus.is_empty() {
        start = 0;
        stop.extend(surplus);
    }
    stop.sort_unstable();
    stop.dedup();
    Step { start, stop }
}

fn rolling(replicas: u32, bounds: Bounds, members: &[Member], stop: &mut Vec<usize>) -> u32 {
    // Who is condemned is on top of the others: its successor starts whatever the bounds say, and it goes when it is not missed.
    let counted = || members.iter().filter(|member| member.counts());
    let total = count(counted());
    let current = count(counted().filter(|member| member.current));
    let available = count(counted().filter(|member| member.state == State::Available));
    let fresh =
        count(counted().filter(|member| member.current && member.state == State::Unavailable));
    let room = (replicas + bounds.surge).saturating_sub(total);
    let start = room.min(replicas.saturating_sub(current));
    let least = replicas.saturating_sub(bounds.unavailable);
    // Old ones that do not serve are no loss, but never so many that with the new ones failing too few would be left.
    let mut unwell = total.saturating_sub(least).saturating_sub(fresh);
    let mut spare = available.saturating_sub(least);
    for (index, member) in members.iter().enumerate() {
        let goes = match (member.condemned, member.state) {
            (_, State::Leaving) => false,
            (Condemned::Overdue, _) => true,
            (Condemned::Waits, State::Unavailable) => true,
            (Condemned::Waits, State::Available) => available >= least.max(u32::from(replicas > 0)),
            (Condemned::No, _) if member.current => false,
            (Condemned::No, State::Unavailable) => take(&mut unwell),
            (Condemned::No, State::Available) => take(&mut spare),
        };
        if goes {
            stop.push(index);
        }
    }
    start
}

fn recreate(replicas: u32, members: &[Member], stop: &mut Vec<usize>) -> u32 {
    for (index, member) in members.iter().enumerate() {
        let unwanted = !member.current || member.condemned != Condemned::No;
        if unwanted && member.state != State::Leaving {
            stop.push(index);
        }
    }
    let old = |member: &&Member| !member.current;
    if members.iter().any(|member| old(&member)) {
        return 0;
    }
    replicas.saturating_sub(count(members.iter().filter(|member| member.counts())))
}

/// Who is condemned has a successor first, of the current template; nobody else goes.
fn on_delete(replicas: u32, members: &[Member], stop: &mut Vec<usize>) -> u32 {
    let counted = || members.iter().filter(|member| member.counts());
    let available = count(counted().filter(|member| member.state == State::Available));
    for (index, member) in members.iter().enumerate() {
        let goes = match (member.condemned, member.state) {
            (_, State::Leaving) | (Condemned::No, _) => false,
            (Condemned::Overdue, _) | (Condemned::Waits, State::Unavailable) => true,
            (Condemned::Waits, State::Available) => available >= replicas.max(1),
        };
        if goes {
            stop.push(index);
        }
    }
    replicas.saturating_sub(count(counted()))
}

/// Pods beyond the wanted number, of the current template where old ones give way by themselves: those that do not serve first, then the youngest.
fn surplus(goal: &Goal, members: &[Member]) -> Vec<usize> {
    let any = goal.pace == Pace::OnDelete;
    let mut current: Vec<(usize, &Member)> = members
        .iter()
        .enumerate()
        .filter(|(_, member)| (member.current || any) && member.counts())
        .collect();
    current.sort_by_key(|(index, member)| (member.state != State::Available, *index));
    let keep = usize::try_from(goal.replicas).unwrap_or(usize::MAX);
    current
        .into_iter()
        .skip(keep)
        .map(|(index, _)| index)
        .collect()
}

fn count<'a>(members: impl Iterator<Item = &'a Member>) -> u32 {
    u32::try_from(members.count()).unwrap_or(u32::MAX)
}

fn take(left: &mut u32) -> bool {
    let some = *left > 0;
    *left = left.saturating_sub(1);
    some
}

// === impl Member ===

impl Member {
    /// Whether it is one of the wanted number, as far as anybody knows.
    fn counts(&self) -> bool {
        self.state != State::Leaving && self.condemned == Condemned::No
    }
}

#[cfg(test)]
mod tests;
