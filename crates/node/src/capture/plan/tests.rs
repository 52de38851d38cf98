// SPDX-License-Identifier: Apache-2.0
//! The order of a plan, and what undoes it.

use super::*;
use crate::capture::testing::pod;

fn position(plan: &Plan, what: impl Fn(&Step) -> bool) -> usize {
    plan.steps.iter().position(what).unwrap()
}

#[test]
fn the_plan_is_the_one_that_was_reviewed() {
    let steps: String = plan(&pod(), &Options::default())
        .steps
        .iter()
        .map(|step| match step {
            Step::Rules(_) => "Rules(rules/golden.nft)\n".to_owned(),
            step => format!("{step:?}\n"),
        })
        .collect();
    assert_eq!(
        steps,
        include_str!("golden.txt"),
        "if the change is meant, this is golden.txt:\n{steps}"
    );
}

#[test]
fn nothing_is_open_at_any_moment() {
    let plan = plan(&pod(), &Options::default());
    let rules = position(&plan, |step| matches!(step, Step::Rules(_)));
    let moved = position(&plan, |step| matches!(step, Step::Move { .. }));
    let closed = position(
        &plan,
        |step| matches!(step, Step::Sysctl { name, .. } if name == "net/ipv4/ip_forward"),
    );
    let closed6 = position(
        &plan,
        |step| matches!(step, Step::Sysctl { name, .. } if name == "net/ipv6/conf/all/forwarding"),
    );
    assert!(
        closed < moved && closed6 < moved,
        "the namespace forwards when the wire comes"
    );
    let last_listener = plan
        .steps
        .iter()
        .rposition(|step| matches!(step, Step::Listen { .. }))
        .unwrap();
    assert!(
        last_listener < rules,
        "rules send to sockets that do not listen"
    );
    for link in ["dn0", "up0", "eth0"] {
        let up = position(
            &plan,
            |step| matches!(step, Step::Up(_, name) if name == link),
        );
        assert!(rules < up, "{link} is up before the rules are there");
    }
}

#[test]
fn undoing_puts_the_wire_back_and_dresses_it() {
    let plan = plan(&pod(), &Options::default());
    assert_eq!(plan.undo(0), []);
    let before = position(&plan, |step| matches!(step, Step::Down(..)));
    assert_eq!(plan.undo(before), [], "nothing of the pod was touched yet");
    let all = plan.undo(plan.steps.len());
    assert_eq!(all[0], Step::Remove(Place::Mesh, "dn0".into()));
    assert_eq!(
        all[1],
        Step::Move {
            from: (Place::Mesh, "up0".into()),
            to: (Place::Pod, "eth0".into())
        }
    );
    assert_eq!(all[2], Step::Up(Place::Pod, "eth0".into()));
    assert_eq!(all.len(), 3 + 2 + 1 + 3, "{all:#?}");
}
