// SPDX-License-Identifier: Apache-2.0
//! Rollouts in virtual time: whatever happens in whatever order, the bounds hold and the end is reached.

use proptest::prelude::*;

use super::*;

const OLD: Member = Member {
    current: false,
    state: State::Available,
    condemned: Condemned::No,
};
const NEW: Member = Member {
    current: true,
    ..OLD
};
const FRESH: Member = Member {
    state: State::Unavailable,
    ..NEW
};

fn rolling(replicas: u32, surge: u32, unavailable: u32) -> Goal {
    Goal {
        replicas,
        pace: Pace::Rolling(Bounds { surge, unavailable }),
    }
}

fn one(goal: &Goal, members: &[Member]) -> (u32, Vec<usize>) {
    let step = step(goal, members);
    (step.start, step.stop)
}

#[test]
fn a_single_pod_is_replaced_without_a_gap() {
    let goal = rolling(1, 1, 0);
    assert_eq!(one(&goal, &[OLD]), (1, vec![]));
    assert_eq!(one(&goal, &[OLD, FRESH]), (0, vec![]));
    assert_eq!(one(&goal, &[OLD, NEW]), (0, vec![0]));
    assert_eq!(one(&goal, &[NEW]), (0, vec![]));
}

#[test]
fn an_old_one_may_stay_until_somebody_deletes_it() {
    let goal = Goal {
        replicas: 2,
        pace: Pace::OnDelete,
    };
    let condemned = Member {
        condemned: Condemned::Waits,
        ..OLD
    };
    assert_eq!(one(&goal, &[]), (2, vec![]));
    assert_eq!(one(&goal, &[OLD, OLD]), (0, vec![]));
    assert_eq!(one(&goal, &[condemned, OLD]), (1, vec![]));
    assert_eq!(one(&goal, &[condemned, OLD, FRESH]), (0, vec![]));
    assert_eq!(one(&goal, &[condemned, OLD, NEW]), (0, vec![0]));
    // Too many of whatever template.
    assert_eq!(one(&goal, &[OLD, OLD, OLD]), (0, vec![2]));
}

#[test]
fn what_does_not_serve_goes_first() {
    let unwell = Member {
        state: State::Unavailable,
        ..OLD
    };
    // An old one that does not serve goes before one that does, when the bounds allow it.
    assert_eq!(one(&rolling(2, 1, 0), &[OLD, unwell]), (1, vec![]));
    assert_eq!(one(&rolling(2, 1, 0), &[OLD, unwell, NEW]), (0, vec![1]));
    // Of those that are too many the youngest go, but first those that do not serve.
    assert_eq!(one(&rolling(1, 1, 0), &[FRESH, NEW, NEW]), (0, vec![0, 2]));
    assert_eq!(one(&rolling(0, 0, 1), &[NEW, OLD]), (0, vec![0, 1]));
}

#[test]
fn new_ones_that_never_serve_end_no_old_one() {
    let goal = rolling(4, 1, 1);
    assert_eq!(one(&goal, &[OLD, OLD, OLD, OLD]), (1, vec![0]));
    assert_eq!(one(&goal, &[OLD, OLD, OLD, FRESH]), (1, vec![]));
    assert_eq!(one(&goal, &[OLD, OLD, OLD, FRESH, FRESH]), (0, vec![]));
}

#[test]
fn the_condemned_wait_for_a_successor_but_not_for_ever() {
    let goal = rolling(1, 1, 0);
    let waits = Member {
        condemned: Condemned::Waits,
        ..NEW
    };
    let overdue = Member {
        condemned: Condemned::Overdue,
        ..NEW
    };
    assert_eq!(one(&goal, &[waits]), (1, vec![]));
    assert_eq!(one(&goal, &[waits, FRESH]), (0, vec![]));
    assert_eq!(one(&goal, &[waits, NEW]), (0, vec![0]));
    assert_eq!(one(&goal, &[overdue, FRESH]), (0, vec![0]));
    let recreate = Goal {
        replicas: 1,
        pace: Pace::Recreate,
    };
    assert_eq!(one(&recreate, &[waits]), (1, vec![0]));
}

#[test]
fn recreate_starts_when_the_last_old_one_is_gone() {
    let goal = Goal {
        replicas: 2,
        pace: Pace::Recreate,
    };
    let leaving = Member {
        state: State::Leaving,
        ..OLD
    };
    assert_eq!(one(&goal, &[OLD, OLD]), (0, vec![0, 1]));
    assert_eq!(one(&goal, &[leaving]), (0, vec![]));
    assert_eq!(one(&goal, &[]), (2, vec![]));
    assert_eq!(one(&goal, &[NEW, NEW, NEW]), (0, vec![2]));
}

/// What may happen to a pod between two steps.
#[derive(Clone, Debug)]
enum Event {
    Ready(usize),
    Unready(usize),
    Gone(usize),
    Condemned(usize),
    Template,
    Scale(u32),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (0..16_usize).prop_map(Event::Ready),
        1 => (0..16_usize).prop_map(Event::Unready),
        3 => (0..16_usize).prop_map(Event::Gone),
        1 => (0..16_usize).prop_map(Event::Condemned),
        1 => Just(Event::Template),
        1 => (0..7_u32).prop_map(Event::Scale),
    ]
}

/// Pods as a run of events makes them.
struct World {
    goal: Goal,
    members: Vec<Member>,
}

impl World {
    fn apply(&mut self, event: &Event) {
        let at = |index: &usize, length: usize| index.checked_rem(length);
        match event {
            Event::Template => self
                .members
                .iter_mut()
                .for_each(|member| member.current = false),
            Event::Scale(replicas) => self.goal.replicas = *replicas,
            Event::Gone(index) => {
                // Only who was told to end does.
                if let Some(index) = at(index, self.members.len())
                    && self.members[index].state == State::Leaving
                {
                    self.members.remove(index);
                }
            }
            Event::Ready(index) | Event::Unready(index) | Event::Condemned(index) => {
                let Some(index) = at(index, self.members.len()) else {
                    return;
                };
                let member = &mut self.members[index];
                match event {
                    _ if member.state == State::Leaving => {}
                    Event::Ready(_) => member.state = State::Available,
                    Event::Condemned(_) => member.condemned = Condemned::Waits,
                    _ => member.state = State::Unavailable,
                }
            }
        }
    }

    fn serving(&self) -> usize {
        let serves = |member: &&Member| member.state == State::Available;
        self.members.iter().filter(serves).count()
    }

    /// One step, which never takes away what must serve.
    fn step(&mut self) {
        let step = step(&self.goal, &self.members);
        let before = self.serving();
        for index in &step.stop {
            assert_ne!(self.members[*index].state, State::Leaving, "told twice");
            self.members[*index].state = State::Leaving;
        }
        if let Pace::Rolling(bounds) = self.goal.pace {
            let least = self.goal.replicas.saturating_sub(bounds.unavailable);
            let least = usize::try_from(least).unwrap();
            let after = self.serving();
            assert!(
                after >= before.min(least),
                "{before} -> {after}: {:?}",
                self.members
            );
            let counted = self.members.iter().filter(|member| member.counts()).count();
            let most = usize::try_from(self.goal.replicas + bounds.surge).unwrap();
            let started = usize::try_from(step.start).unwrap();
            assert!(
                started == 0 || counted + started <= most,
                "{:?}",
                self.members
            );
        }
        let started = (0..step.start).map(|_| FRESH);
        self.members.extend(started);
    }
}

proptest! {
    #[test]
    fn bounds_hold_and_the_end_is_reached(
        replicas in 0..7_u32,
        surge in 0..3_u32,
        unavailable in 0..3_u32,
        recreate in any::<bool>(),
        events in prop::collection::vec(event(), 0..60),
    ) {
        let unavailable = if surge == 0 { unavailable.max(1) } else { unavailable };
        let pace = if recreate {
            Pace::Recreate
        } else {
            Pace::Rolling(Bounds { surge, unavailable })
        };
        let mut world = World { goal: Goal { replicas, pace }, members: Vec::new() };
        world.step();
        for event in &events {
            world.apply(event);
            world.step();
        }
        // Then everything goes well.
        for _ in 0..100 {
            for index in 0..world.members.len() {
                world.apply(&Event::Ready(index));
            }
            world.members.retain(|member| member.state != State::Leaving);
            world.step();
        }
        let wanted = usize::try_from(world.goal.replicas).unwrap();
        prop_assert_eq!(world.members.len(), wanted);
        prop_assert!(world.members.iter().all(|member| *member == NEW), "{:?}", world.members);
    }
}
