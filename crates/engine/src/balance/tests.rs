// SPDX-License-Identifier: Apache-2.0
//! Two choices, exclusion, and the book's bounds.

use std::collections::HashMap;

use maille_model::{AddressOwner, Endpoints};
use proptest::prelude::*;

use super::*;
use crate::route::{Decision, Direction, Facts, decide};
use crate::snapshot::{Known, Snapshot};
use crate::testing::{cluster_ip, endpoint, mesh, own, service_id, v4};

fn plan(count: u8) -> Plan {
    let mut snapshot = Snapshot::new();
    snapshot.set_mesh(mesh());
    snapshot.set_own(own());
    snapshot.set_address(
        cluster_ip(1),
        Known::Present(AddressOwner::Service(service_id(1))),
    );
    let all = (1..=count).map(|n| endpoint(n + 10, true)).collect();
    snapshot.set_endpoints(service_id(1), Known::Present(Endpoints(all)));
    let facts = Facts {
        direction: Direction::Outbound,
        destination: (cluster_ip(1), 80).into(),
    };
    match decide(&snapshot, &facts) {
        Decision::Forward(plan) => plan,
        other => panic!("{other:?}"),
    }
}

fn target(n: u8) -> SocketAddr {
    (v4(n + 10), 8080).into()
}

/// A different 64 bits for each `n`.
fn bits(n: u64) -> u64 {
    // Multiplication by 2^64 divided by the golden ratio spreads neighbours.
    n.wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .rotate_left(23)
        .wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

#[test]
fn the_less_busy_of_two_is_picked() {
    let (plan, mut book) = (plan(2), Book::new());
    let lease = book.begin(target(1));
    for n in 0..100 {
        assert_eq!(
            pick(&plan, &[], &book, bits(n)).unwrap().target(),
            target(2)
        );
    }
    book.end(lease);
    let picked: Vec<_> = (0..100)
        .map(|n| pick(&plan, &[], &book, bits(n)).unwrap().target())
        .collect();
    assert!(picked.contains(&target(1)) && picked.contains(&target(2)));
}

#[test]
fn equal_load_is_spread_evenly() {
    let (plan, book) = (plan(10), Book::new());
    let mut counts: HashMap<_, u32> = HashMap::new();
    for n in 0..10_000 {
        *counts
            .entry(pick(&plan, &[], &book, bits(n)).unwrap().target())
            .or_default() += 1;
    }
    assert_eq!(counts.len(), 10);
    assert!(
        counts.values().all(|count| (800..1_200).contains(count)),
        "{counts:?}"
    );
}

#[test]
fn a_slow_endpoint_gets_less() {
    let (plan, mut book) = (plan(3), Book::new());
    let mut slow = Vec::new();
    let mut counts: HashMap<_, u32> = HashMap::new();
    for n in 0..1_000 {
        let picked = pick(&plan, &[], &book, bits(n)).unwrap().target();
        *counts.entry(picked).or_default() += 1;
        let lease = book.begin(picked);
        // The first one never answers, the others at once.
        if picked == target(1) {
            slow.push(lease)
        } else {
            book.end(lease)
        }
    }
    assert!(counts[&target(1)] <= 2, "{counts:?}");
}

#[test]
fn what_failed_is_not_tried_again() {
    let (plan, book) = (plan(3), Book::new());
    for n in 0..100 {
        let mut tried = Vec::new();
        while let Ok(hop) = pick(&plan, &tried, &book, bits(n)) {
            assert!(!tried.contains(&hop.target()));
            tried.push(hop.target());
        }
        assert_eq!(tried.len(), 3);
    }
    let one = Plan::One(pick(&plan, &[], &book, 0).unwrap());
    let hop = pick(&one, &[], &book, 0).unwrap();
    assert_eq!(
        pick(&one, &[hop.target()], &book, 0),
        Err(Refusal::NoEndpoint)
    );
}

#[test]
fn the_book_is_bounded_and_leaves_nothing_behind() {
    let mut book = Book::new();
    let addresses = (0u32..)
        .take(MOST + 100)
        .map(|n| SocketAddr::from((n.to_be_bytes(), 80)));
    let leases: Vec<_> = addresses.map(|address| book.begin(address)).collect();
    assert_eq!(book.loads.len(), MOST);
    leases.into_iter().for_each(|lease| book.end(lease));
    assert!(book.loads.is_empty());
}

proptest! {
    #[test]
    fn draws_are_two_different_places(count in 0usize..100, random: u64) {
        let (first, second) = draw(count, random);
        prop_assert_eq!(second.is_some(), count >= 2);
        prop_assert!(first < count.max(1));
        if let Some(second) = second {
            prop_assert!(second < count && second != first);
        }
    }
}
