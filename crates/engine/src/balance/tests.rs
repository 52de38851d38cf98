// SPDX-License-Identifier: Apache-2.0
//! The draw, ejection, limits, zones and the budget, each alone; and the book's bounds. All of it together, at random: `tests/sim.rs`.

mod sim;

use std::collections::HashMap;
use std::num::NonZeroU32;

use maille_model::terms::{Counted as Counts, Zones};
use maille_model::{AddressOwner, Endpoint, Endpoints, Membership, Workload, WorkloadUid, Zone};
use proptest::prelude::*;

use super::*;
use crate::route::{Decision, Direction, Facts, decide};
use crate::snapshot::{Known, Snapshot};
use crate::testing::{cluster_ip, mesh, own, service, service_id, start};

/// A service with endpoints by number, seen from zone `a`.
struct World {
    snapshot: Snapshot,
    terms: Terms,
    service: u8,
}

impl World {
    fn new(terms: Terms, count: u16) -> Self {
        let mut snapshot = Snapshot::new();
        snapshot.set_mesh(mesh());
        let mut own = own();
        own.workload.zone = Zone::new("a");
        snapshot.set_own(own);
        let mut world = Self {
            snapshot,
            terms,
            service: 1,
        };
        world.call(1);
        world.behind((1..=count).map(|n| (n, "")));
        world
    }

    /// From here on it is about this service.
    fn call(&mut self, n: u8) {
        self.service = n;
        let owner = AddressOwner::Service(service_id(n));
        self.snapshot
            .set_address(cluster_ip(n), Known::Present(owner));
        let mut facts = service(n);
        facts.terms = self.terms;
        self.snapshot
            .set_service(service_id(n), Known::Present(facts));
    }

    /// Control says who is behind the service, and in which zone.
    fn behind(&mut self, all: impl IntoIterator<Item = (u16, &'static str)>) {
        let endpoint = |(n, zone)| Endpoint {
            workload: pod(n, zone),
            ready: true,
            targets: vec![(80, 8080)],
        };
        let all = all.into_iter().map(endpoint).collect();
        let id = service_id(self.service);
        self.snapshot
            .set_endpoints(id, Known::Present(Endpoints(all)));
    }

    fn plan(&self) -> Plan {
        let facts = Facts {
            direction: Direction::Outbound,
            destination: (cluster_ip(self.service), 80).into(),
        };
        match decide(&self.snapshot, &facts) {
            Decision::Forward(plan) => plan,
            other => panic!("{other:?}"),
        }
    }
}

fn pod(n: u16, zone: &str) -> Workload {
    Workload {
        uid: WorkloadUid::new(&format!("pod-{n:05}")).unwrap(),
        namespace: "shop".parse().unwrap(),
        name: format!("pod-{n}").parse().unwrap(),
        service_account: "web".parse().unwrap(),
        addresses: vec![target(n).ip()],
        owner: None,
        membership: Membership::Meshed,
        zone: Zone::new(zone),
    }
}

fn target(n: u16) -> SocketAddr {
    let [high, low] = n.to_be_bytes();
    ([10, 245, high, low], 8080).into()
}

fn number(hop: &Hop) -> u16 {
    match hop.target() {
        SocketAddr::V4(at) => {
            let [_, _, high, low] = at.ip().octets();
            u16::from_be_bytes([high, low])
        }
        SocketAddr::V6(_) => panic!("no such target"),
    }
}

/// A different 64 bits for each `n`.
fn bits(n: u64) -> u64 {
    Dice(n).0.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// `count` requests one after the other, each answered at once as `heard` says; who got how many.
fn spread(
    book: &mut Book,
    plan: &Plan,
    now: Instant,
    count: u64,
    heard: impl Fn(u16) -> Heard,
) -> HashMap<u16, u32> {
    let mut counts = HashMap::new();
    for n in 0..count {
        let (hop, mut lease) = book.pick(plan, &[], now, bits(n)).unwrap();
        *counts.entry(number(&hop)).or_default() += 1;
        book.judge(&mut lease, heard(number(&hop)), now, bits(n + 1));
        book.end(lease, now);
    }
    counts
}

fn well(_: u16) -> Heard {
    Heard::Status(200)
}

#[test]
fn the_less_busy_of_two_is_picked() {
    let (world, mut book, now) = (World::new(Terms::DEFAULT, 2), Book::new(), start());
    let plan = world.plan();
    let (first, held) = book.pick(&plan, &[], now, 1).unwrap();
    let counts = spread(&mut book, &plan, now, 100, well);
    assert_eq!(counts.get(&number(&first)), None);
    book.end(held, now);
    assert_eq!(spread(&mut book, &plan, now, 100, well).len(), 2);
}

#[test]
fn the_only_one_may_be_asked_again_at_the_cost_of_the_budget() {
    let mut terms = Terms::DEFAULT;
    (terms.retry.budget_percent, terms.retry.budget_floor) = (0, 1);
    let (world, mut book, now) = (World::new(terms, 1), Book::new(), start());
    let plan = world.plan();
    let (first, lease) = book.pick(&plan, &[], now, 1).unwrap();
    book.end(lease, now);
    let tried = [first.target()];
    assert_eq!(
        book.pick(&plan, &tried, now, 2).unwrap_err(),
        Unpicked::NoEndpoint
    );
    for n in 0..10 {
        let (again, lease) = book.pick_again(&plan, now, n).unwrap();
        assert_eq!(again, first);
        book.end(lease, now);
    }
    assert_eq!(book.pick_again(&plan, now, 3).unwrap_err(), Unpicked::Spent);
    let tally = book.take_tally();
    assert_eq!((tally.retries, tally.retries_refused), (10, 1));
}

#[test]
fn equal_load_is_spread_evenly() {
    let (world, mut book) = (World::new(Terms::DEFAULT, 10), Book::new());
    let counts = spread(&mut book, &world.plan(), start(), 10_000, well);
    assert_eq!(counts.len(), 10);
    let even = counts.values().all(|count| (800..1_200).contains(count));
    assert!(even, "{counts:?}");
}

#[test]
fn what_failed_is_not_tried_again_and_each_try_costs_budget() {
    let mut terms = Terms::DEFAULT;
    (terms.retry.budget_percent, terms.retry.budget_floor) = (100, 0);
    let (world, mut book, now) = (World::new(terms, 3), Book::new(), start());
    let plan = world.plan();
    let mut tries = 0;
    for n in 0..100 {
        let mut tried = Vec::new();
        let last = loop {
            match book.pick(&plan, &tried, now, bits(n)) {
                Ok((hop, lease)) => {
                    assert!(!tried.contains(&hop.target()));
                    tried.push(hop.target());
                    tries += 1;
                    book.end(lease, now);
                }
                Err(why) => break why,
            }
        };
        let wanted = if tried.len() == 3 {
            Unpicked::NoEndpoint
        } else {
            Unpicked::Spent
        };
        assert_eq!(last, wanted);
    }
    assert_eq!(tries, 200, "one more for each request");
    let one = Plan::One(book.pick(&plan, &[], now, 0).unwrap().0);
    let (hop, _lease) = book.pick(&one, &[], now, 0).unwrap();
    let again = book.pick(&one, &[hop.target()], now, 0).unwrap_err();
    assert_eq!(again, Unpicked::NoEndpoint);
    assert_eq!(book.take_tally().retries, 100);
}

#[test]
fn who_fails_in_a_row_is_left_alone_then_probed_then_back_slowly() {
    let (world, mut book, began) = (World::new(Terms::DEFAULT, 4), Book::new(), start());
    let plan = world.plan();
    let at = |ms| began + Duration::from_millis(ms);
    let ill = |n| {
        if n == 2 {
            Heard::Nothing
        } else {
            Heard::Status(200)
        }
    };
    spread(&mut book, &plan, at(0), 1_000, ill);
    assert_eq!(book.take_tally().ejections, 1);
    assert_eq!(spread(&mut book, &plan, at(800), 1_000, ill).get(&2), None);
    // A second and a tenth have passed: one request is the probe, and it fails; the next penalty is twice as long.
    assert_eq!(spread(&mut book, &plan, at(1_200), 1_000, ill)[&2], 1);
    assert_eq!(
        spread(&mut book, &plan, at(2_900), 1_000, ill).get(&2),
        None
    );
    // The probe succeeds. What was probed gets a part of its share that grows.
    let share = |book: &mut Book, ms| {
        spread(book, &plan, at(ms), 1_000, well)
            .get(&2)
            .copied()
            .unwrap_or(0)
    };
    let first = share(&mut book, 3_500);
    let later = share(&mut book, 8_500);
    let whole = share(&mut book, 14_000);
    assert!(
        first < 60 && (60..200).contains(&later) && whole > 200,
        "{first}, {later}, {whole}"
    );
    assert_eq!(book.take_tally().readmissions, 1);
}

#[test]
fn a_probe_without_a_verdict_leaves_the_next_one_to_decide() {
    let (world, mut book, began) = (World::new(Terms::DEFAULT, 2), Book::new(), start());
    let plan = world.plan();
    let ill = |n| {
        if n == 1 {
            Heard::Nothing
        } else {
            Heard::Status(200)
        }
    };
    spread(&mut book, &plan, began, 100, ill);
    let later = began + Duration::from_secs(2);
    let probe = loop {
        let (hop, lease) = book.pick(&plan, &[], later, bits(7)).unwrap();
        if number(&hop) == 1 {
            break lease;
        }
        book.end(lease, later);
    };
    assert_eq!(spread(&mut book, &plan, later, 100, well).get(&1), None);
    book.end(probe, later);
    assert!(spread(&mut book, &plan, later, 100, well)[&1] >= 1);
}

#[test]
fn never_more_than_half_are_left_alone_and_one_alone_never_is() {
    for count in 1..12 {
        let (world, mut book, now) = (World::new(Terms::DEFAULT, count), Book::new(), start());
        let plan = world.plan();
        spread(&mut book, &plan, now, 2_000, |_| Heard::Nothing);
        let out = book.accounts[0].as_ref().unwrap().rosters[0].outs();
        assert_eq!(out, (usize::from(count / 2), usize::from(count)));
    }
}

#[test]
fn who_shall_never_be_left_alone_is_not() {
    let mut terms = Terms::DEFAULT;
    terms.ejection.counts = Counts::Nothing;
    let (world, mut book, now) = (World::new(terms, 4), Book::new(), start());
    spread(&mut book, &world.plan(), now, 1_000, |_| Heard::Nothing);
    assert_eq!(book.take_tally(), Tally::default());
}

#[test]
fn a_poor_share_of_good_answers_is_enough_where_it_was_asked_for() {
    let mut terms = Terms::DEFAULT;
    terms.ejection.success_percent = Some(80);
    terms.ejection.counts = Counts::ServerErrors;
    let (world, mut book, now) = (World::new(terms, 4), Book::new(), start());
    let plan = world.plan();
    let turn = std::cell::Cell::new(0);
    let every_other = |n| {
        turn.set(turn.get() + 1);
        let bad = n == 3 && turn.get() % 2 == 0;
        Heard::Status(if bad { 500 } else { 200 })
    };
    spread(&mut book, &plan, now, 1_000, every_other);
    assert_eq!(book.take_tally().ejections, 1);
    assert_eq!(spread(&mut book, &plan, now, 100, well).get(&3), None);
}

#[test]
fn as_much_as_may_be_is_under_way_and_no_more() {
    let terms = Terms {
        max_requests: NonZeroU32::new(5),
        max_requests_per_endpoint: NonZeroU32::new(2),
        ..Terms::DEFAULT
    };
    for (count, most) in [(1, 2), (2, 4), (3, 5)] {
        let (world, mut book, now) = (World::new(terms, count), Book::new(), start());
        let plan = world.plan();
        let mut held: Vec<Lease> = (0..most)
            .map(|n| book.pick(&plan, &[], now, bits(n)).unwrap().1)
            .collect();
        assert_eq!(
            book.pick(&plan, &[], now, 9).unwrap_err(),
            Unpicked::Limited
        );
        book.end(held.remove(0), now);
        held.push(book.pick(&plan, &[], now, 9).unwrap().1);
        assert_eq!(
            book.pick(&plan, &[], now, 9).unwrap_err(),
            Unpicked::Limited
        );
        assert_eq!(book.take_tally().limited, 2);
    }
}

#[test]
fn what_is_near_goes_first_until_it_is_busy_or_away() {
    let terms = Terms {
        zones: Zones::PreferClose,
        ..Terms::DEFAULT
    };
    let (mut world, mut book, now) = (World::new(terms, 0), Book::new(), start());
    world.behind([(1, "a"), (2, "a"), (3, "b"), (4, "b"), (5, ""), (6, "c")]);
    let plan = world.plan();
    let counts = spread(&mut book, &plan, now, 1_000, well);
    assert_eq!(counts.keys().filter(|n| **n > 2).count(), 0, "{counts:?}");
    // Without answers they fill up, and what comes more goes elsewhere.
    let mut held = Vec::new();
    let mut far = 0;
    for n in 0..60 {
        let (hop, lease) = book.pick(&plan, &[], now, bits(n)).unwrap();
        far += u32::from(number(&hop) > 2);
        held.push(lease);
    }
    assert!((20..50).contains(&far), "{far}");
    held.into_iter().for_each(|lease| book.end(lease, now));
    let tried = [target(1), target(2)];
    let (hop, lease) = book.pick(&plan, &tried, now, 1).unwrap();
    assert!(number(&hop) > 2);
    book.end(lease, now);
    world.behind([(3, "b"), (4, "b")]);
    assert_eq!(spread(&mut book, &world.plan(), now, 100, well).len(), 2);
}

#[test]
fn who_stays_keeps_what_is_known_and_who_comes_begins_slowly() {
    let (mut world, mut book, began) = (World::new(Terms::DEFAULT, 4), Book::new(), start());
    let plan = world.plan();
    let held: Vec<_> = (0..40)
        .map(|n| book.pick(&plan, &[], began, bits(n)).unwrap())
        .collect();
    world.behind([(2, ""), (3, ""), (4, ""), (5, "")]);
    let plan = world.plan();
    let (_, lease) = book.pick(&plan, &[], began, 3).unwrap();
    book.end(lease, began);
    let stay = held.iter().filter(|(hop, _)| number(hop) != 1).count();
    let under_way = |book: &Book| book.accounts[0].as_ref().unwrap().rosters[0].under_way();
    assert_eq!(under_way(&book) as usize, stay);
    held.into_iter()
        .for_each(|(_, lease)| book.end(lease, began));
    assert_eq!(under_way(&book), 0);
    let second = began + Duration::from_secs(1);
    let counts = spread(&mut book, &plan, second, 1_000, well);
    assert!(counts[&5] < 100, "{counts:?}");
    let end = began + Duration::from_secs(11);
    let counts = spread(&mut book, &plan, end, 1_000, well);
    assert!(counts[&5] > 150, "{counts:?}");
}

#[test]
fn a_lease_of_a_namesake_counts_for_nobody() {
    let (mut world, mut book, now) = (World::new(Terms::DEFAULT, 1), Book::new(), start());
    let old = book.pick(&world.plan(), &[], now, 1).unwrap().1;
    world.behind([(2, "")]);
    let between = book.pick(&world.plan(), &[], now, 1).unwrap().1;
    world.behind([(1, "")]);
    let new = book.pick(&world.plan(), &[], now, 1).unwrap().1;
    book.end(old, now);
    book.end(between, now);
    assert_eq!(book.accounts[0].as_ref().unwrap().rosters[0].under_way(), 1);
    book.end(new, now);
    let account = book.accounts[0].as_ref().unwrap();
    assert_eq!((account.rosters[0].under_way(), account.under_way), (0, 0));
}

#[test]
fn services_that_nobody_calls_any_more_are_forgotten() {
    let (mut world, mut book, began) = (World::new(Terms::DEFAULT, 1), Book::new(), start());
    let held = book.pick(&world.plan(), &[], began, 1).unwrap().1;
    for n in 2..=255 {
        world.call(n);
        world.behind([(1, "")]);
        let lease = book.pick(&world.plan(), &[], began, 1).unwrap().1;
        book.end(lease, began);
    }
    assert_eq!(book.by_id.len(), 255);
    let later = began + UNUSED;
    for id in ["shop/more", "shop/still", "shop/last"] {
        book.account(&id.parse().unwrap(), later).unwrap();
    }
    // The one with something under way, and the three.
    assert_eq!(book.by_id.len(), 3 + 1);
    book.end(held, later);
    assert!(book.accounts.len() <= MANY);
}

/// Ten thousand endpoints: a pick looks at a few of them.
#[test]
fn the_size_of_a_service_does_not_matter() {
    let now = start();
    let fastest = |count| {
        let (world, mut book) = (World::new(Terms::DEFAULT, count), Book::new());
        let plan = world.plan();
        spread(&mut book, &plan, now, 100, well);
        let round = |_| {
            let began = start();
            spread(&mut book, &plan, now, 500, well);
            start() - began
        };
        (0..10).map(round).min().unwrap()
    };
    let (few, many) = (fastest(100), fastest(10_000));
    println!("500 picks among 100: {few:?}, among 10,000: {many:?}");
    // It would be a hundred times as long if all were looked at.
    assert!(many < few * 20, "{few:?}, {many:?}");
}

proptest! {
    #[test]
    fn draws_are_below_their_bound(bound in 1usize..1_000, seed: u64) {
        let mut dice = Dice(seed);
        for _ in 0..10 {
            prop_assert!(dice.below(bound) < bound);
            prop_assert!((0.0..=1.0).contains(&dice.share()));
        }
    }
}
