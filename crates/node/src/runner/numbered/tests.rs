// SPDX-License-Identifier: Apache-2.0
//! The steps of a numbered set, drawn and by hand.

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
        unavailable: 1,
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

#[test]
fn more_at_a_time_where_more_may_be_missing() {
    let check = |unavailable, members: &[Member], stops: &[u32]| {
        let wanted = Wanted {
            start: 0,
            replicas: 4,
            ordered: false,
            unavailable,
        };
        let members = (0..).zip(members.iter().copied()).collect();
        let found = step(wanted, &members).stop;
        assert_eq!(found, stops, "{unavailable} {members:?}");
    };
    check(2, &[OLD, OLD, OLD, OLD], &[3, 2]);
    check(9, &[OLD, OLD, OLD, OLD], &[3, 2, 1, 0]);
    // Who is missing already is one of them.
    check(2, &[OLD, OLD, OLD, BEGINS], &[2]);
    check(2, &[OLD, OLD, OLD, LEAVES], &[2]);
    check(2, &[OLD, OLD, BEGINS, BEGINS], &[]);
    let stuck = Member {
        ready: false,
        ..OLD
    };
    check(2, &[OLD, OLD, OLD, stuck], &[3, 2]);
    check(1, &[stuck, OLD, OLD, OLD], &[0]);
    check(1, &[OLD, OLD, OLD, stuck], &[3]);
    // Old ones that are to stay.
    check(2, &[READY, READY, READY, OLD], &[3]);
}
