// SPDX-License-Identifier: Apache-2.0
//! The table of `docs/wire.md` section 6, row by row; and that no order of words ever makes a meshed workload plain.

use maille_model::Endpoints;
use proptest::prelude::*;

use std::net::IpAddr;

use super::*;
use crate::balance::{Book, Unpicked};
use crate::testing::{
    OWN, cluster_ip, endpoint, mesh, own, service, service_id, start, v4, v6, workload,
};

fn complete() -> Snapshot {
    let mut snapshot = Snapshot::new();
    snapshot.set_mesh(mesh());
    snapshot.set_own(own());
    snapshot
}

fn out(to: (IpAddr, u16)) -> Facts {
    Facts {
        direction: Direction::Outbound,
        destination: to.into(),
    }
}

fn one(decision: Decision) -> Hop {
    match decision {
        Decision::Forward(Plan::One(hop)) => hop,
        other => panic!("{other:?} is not one hop"),
    }
}

/// Whom a book picks that has counted nothing.
fn pick(plan: &Plan, tried: &[SocketAddr], random: u64) -> Result<Hop, Unpicked> {
    let picked = Book::new().pick(plan, tried, start(), random);
    picked.map(|(hop, _)| hop)
}

fn set_workload(snapshot: &mut Snapshot, n: u8) {
    for address in [v4(n), v6(n)] {
        snapshot.set_address(address, Known::Present(AddressOwner::Workload(workload(n))));
    }
}

#[test]
fn nothing_is_admitted_before_mesh_and_own_are_known() {
    let mut snapshot = Snapshot::new();
    let everywhere = [
        out(([192, 0, 2, 1].into(), 80)),
        out((v4(1), 80)),
        Facts {
            direction: Direction::Inbound,
            destination: (v4(OWN), 8080).into(),
        },
    ];
    for facts in everywhere {
        assert_eq!(decide(&snapshot, &facts), Decision::Wait(Key::Mesh));
    }
    snapshot.set_mesh(mesh());
    for facts in everywhere {
        assert_eq!(decide(&snapshot, &facts), Decision::Wait(Key::Own));
        assert_eq!(hint(&snapshot, &facts), Hint::Wait(Key::Own));
    }
}

#[test]
fn a_meshed_workload_is_reached_by_its_proxy() {
    let mut snapshot = complete();
    set_workload(&mut snapshot, 1);
    for address in [v4(1), v6(1)] {
        let hop = one(decide(&snapshot, &out((address, 8080))));
        let expected = Hop::Mesh {
            to: (address, 15008).into(),
            target: (address, 8080).into(),
            identity: "spiffe://cluster.local/ns/shop/sa/sa-1".parse().unwrap(),
            uid: workload(1).uid,
        };
        assert_eq!(hop, expected);
    }
}

#[test]
fn a_mapped_address_is_the_address() {
    let mut snapshot = complete();
    set_workload(&mut snapshot, 1);
    let mapped: IpAddr = "::ffff:10.244.0.1".parse().unwrap();
    assert_eq!(
        one(decide(&snapshot, &out((mapped, 80)))).target(),
        (v4(1), 80).into()
    );
    let inbound: IpAddr = "::ffff:10.244.0.9".parse().unwrap();
    let hop = one(decide_inbound(&snapshot, (inbound, 8080).into()));
    assert_eq!(
        hop,
        Hop::Local {
            to: (v4(OWN), 8080).into()
        }
    );
}

#[test]
fn an_unmeshed_workload_is_plain_and_nobody_of_the_cluster_is_waited_for() {
    let mut snapshot = complete();
    set_workload(&mut snapshot, 2);
    snapshot.set_address(v4(3), Known::Absent);
    let to = |n| (v4(n), 80).into();
    let hop = one(decide(&snapshot, &out((v4(2), 80))));
    assert_eq!(
        hop,
        Hop::Plain {
            to: to(2),
            uid: Some(workload(2).uid)
        }
    );
    assert_eq!(
        decide(&snapshot, &out((v4(3), 80))),
        Decision::Wait(Key::Address(v4(3)))
    );
    let outside: IpAddr = "192.0.2.1".parse().unwrap();
    snapshot.set_address(outside, Known::Absent);
    assert!(matches!(
        one(decide(&snapshot, &out((outside, 80)))),
        Hop::Plain { uid: None, .. }
    ));
}

#[test]
fn inside_the_ranges_the_unknown_is_waited_for_and_outside_it_is_plain() {
    let snapshot = complete();
    for inside in [v4(1), v6(1), cluster_ip(1)] {
        let facts = out((inside, 80));
        assert_eq!(
            decide(&snapshot, &facts),
            Decision::Wait(Key::Address(inside))
        );
        assert_eq!(hint(&snapshot, &facts), Hint::Wait(Key::Address(inside)));
    }
    let outside: SocketAddr = "192.0.2.1:443".parse().unwrap();
    let facts = Facts {
        direction: Direction::Outbound,
        destination: outside,
    };
    assert_eq!(
        one(decide(&snapshot, &facts)),
        Hop::Plain {
            to: outside,
            uid: None
        }
    );
    assert_eq!(
        hint(&snapshot, &facts),
        Hint::Declared(Protocol::Undeclared)
    );
}

#[test]
fn a_service_waits_for_its_endpoints_then_needs_a_ready_one_for_the_port() {
    let mut snapshot = complete();
    snapshot.set_address(
        cluster_ip(1),
        Known::Present(AddressOwner::Service(service_id(1))),
    );
    let facts = out((cluster_ip(1), 80));
    assert_eq!(
        decide(&snapshot, &facts),
        Decision::Wait(Key::Service(service_id(1)))
    );
    assert_eq!(
        hint(&snapshot, &facts),
        Hint::Wait(Key::Service(service_id(1)))
    );

    snapshot.set_service(service_id(1), Known::Present(service(1)));
    assert_eq!(
        decide(&snapshot, &facts),
        Decision::Wait(Key::Endpoints(service_id(1)))
    );

    let refused = Decision::Refuse(Refusal::NoEndpoint);
    snapshot.set_endpoints(service_id(1), Known::Absent);
    assert_eq!(decide(&snapshot, &facts), refused);
    snapshot.set_endpoints(
        service_id(1),
        Known::Present(Endpoints(vec![endpoint(1, false)])),
    );
    assert_eq!(decide(&snapshot, &facts), refused);
    snapshot.set_endpoints(
        service_id(1),
        Known::Present(Endpoints(vec![endpoint(1, true)])),
    );
    assert_eq!(
        decide(&snapshot, &out((cluster_ip(1), 81))),
        refused,
        "nobody serves port 81"
    );
    assert_eq!(
        decide(&snapshot, &out((cluster_ip(1), 82))),
        Decision::Refuse(Refusal::NoPort),
        "it has no port 82"
    );

    let Decision::Forward(plan) = decide(&snapshot, &facts) else {
        panic!("not forwarded")
    };
    assert_eq!(plan.service(), Some((&service_id(1), 80)));
    let hop = pick(&plan, &[], 0).unwrap();
    assert!(
        matches!(&hop, Hop::Mesh { to, .. } if *to == (v4(1), 15008).into()),
        "{hop:?}"
    );
    assert_eq!(hop.target(), (v4(1), 8080).into());
}

#[test]
fn the_own_pod_behind_its_own_service_is_local() {
    let mut snapshot = complete();
    snapshot.set_address(
        cluster_ip(1),
        Known::Present(AddressOwner::Service(service_id(1))),
    );
    snapshot.set_service(service_id(1), Known::Present(service(1)));
    snapshot.set_endpoints(
        service_id(1),
        Known::Present(Endpoints(vec![endpoint(OWN, true)])),
    );
    let Decision::Forward(plan) = decide(&snapshot, &out((cluster_ip(1), 80))) else {
        panic!("not forwarded")
    };
    let own_pod = Hop::Local {
        to: (v4(OWN), 8080).into(),
    };
    assert_eq!(pick(&plan, &[], 0), Ok(own_pod.clone()));
    assert_eq!(one(decide(&snapshot, &out((v4(OWN), 8080)))), own_pod);
    set_workload(&mut snapshot, OWN);
    assert_eq!(one(decide(&snapshot, &out((v4(OWN), 8080)))), own_pod);
}

#[test]
fn who_has_no_address_yet_lets_what_comes_wait() {
    let mut snapshot = complete();
    let mut nameless = own();
    nameless.workload.addresses.clear();
    snapshot.set_own(nameless);
    let decide = |snapshot: &Snapshot, to| decide_inbound(snapshot, (to, 8080).into());
    assert_eq!(decide(&snapshot, v4(OWN)), Decision::Wait(Key::Own));
    snapshot.set_own(own());
    let to = (v4(OWN), 8080).into();
    assert_eq!(one(decide(&snapshot, v4(OWN))), Hop::Local { to });
    assert_eq!(
        decide(&snapshot, v4(1)),
        Decision::Refuse(Refusal::Misdirected)
    );
}

#[test]
fn inbound_is_for_own_addresses_and_never_for_the_mesh_port() {
    let snapshot = complete();
    let decide = |target: (IpAddr, u16)| decide_inbound(&snapshot, target.into());
    for own in [v4(OWN), v6(OWN)] {
        assert_eq!(
            one(decide((own, 1))),
            Hop::Local {
                to: (own, 1).into()
            }
        );
        assert_eq!(decide((own, 15008)), Decision::Refuse(Refusal::Misdirected));
    }
    for other in [
        v4(1),
        cluster_ip(1),
        [127, 0, 0, 1].into(),
        [0, 0, 0, 0].into(),
    ] {
        assert_eq!(
            decide((other, 8080)),
            Decision::Refuse(Refusal::Misdirected),
            "{other}"
        );
    }
}

#[test]
fn hints_are_what_was_declared() {
    let mut snapshot = complete();
    snapshot.set_address(
        cluster_ip(1),
        Known::Present(AddressOwner::Service(service_id(1))),
    );
    snapshot.set_service(service_id(1), Known::Present(service(1)));
    let cases = [
        (out((cluster_ip(1), 80)), Protocol::Http1),
        (out((cluster_ip(1), 81)), Protocol::Undeclared),
        (out((cluster_ip(1), 9)), Protocol::Undeclared),
        (out((v4(OWN), 5432)), Protocol::Tcp),
    ];
    for (facts, protocol) in cases {
        assert_eq!(
            hint(&snapshot, &facts),
            Hint::Declared(protocol),
            "{facts:?}"
        );
    }
    let inbound = |port| Facts {
        direction: Direction::Inbound,
        destination: (v4(OWN), port).into(),
    };
    assert_eq!(
        hint(&snapshot, &inbound(8080)),
        Hint::Declared(Protocol::Http1)
    );
    assert_eq!(
        hint(&snapshot, &inbound(5432)),
        Hint::Declared(Protocol::Tcp)
    );
    assert_eq!(
        hint(&snapshot, &inbound(1)),
        Hint::Declared(Protocol::Undeclared)
    );
}

/// Says everything about the world, one word at a time.
fn say(snapshot: &mut Snapshot, word: usize) {
    match word {
        0 => snapshot.set_mesh(mesh()),
        1 => snapshot.set_own(own()),
        n @ 2..=9 => {
            let n = u8::try_from(n).unwrap();
            set_workload(snapshot, n);
        }
        10 => snapshot.set_address(
            cluster_ip(1),
            Known::Present(AddressOwner::Service(service_id(1))),
        ),
        11 => snapshot.set_service(service_id(1), Known::Present(service(1))),
        _ => {
            let all = (1..=OWN).map(|n| endpoint(n, true)).collect();
            snapshot.set_endpoints(service_id(1), Known::Present(Endpoints(all)));
        }
    }
}

proptest! {
    /// Whatever was said so far, in whatever order: what is dialled in plain text inside the cluster is no meshed workload.
    #[test]
    fn no_order_of_words_makes_a_meshed_workload_plain(
        order in Just((0..13).collect::<Vec<usize>>()).prop_shuffle(),
        said in 0usize..=13,
        random: u64,
        ports in proptest::collection::vec(any::<u16>(), 4),
    ) {
        let mut snapshot = Snapshot::new();
        order[..said].iter().for_each(|word| say(&mut snapshot, *word));
        let destinations = (1..=OWN).flat_map(|n| [v4(n), v6(n)]).chain([cluster_ip(1)]);
        let ports = ports.iter().copied().chain([80, 8080, 15008]);
        for (address, port) in destinations.flat_map(|address| ports.clone().map(move |port| (address, port))) {
            let Decision::Forward(plan) = decide(&snapshot, &out((address, port))) else { continue };
            let mut tried = Vec::new();
            while let Ok(hop) = pick(&plan, &tried, random) {
                let target = hop.target();
                let meshed = (1..=OWN).find(|n| [v4(*n), v6(*n)].contains(&target.ip())).is_some_and(|n| n % 2 == 1);
                match hop {
                    Hop::Plain { .. } => prop_assert!(!meshed, "{target} is meshed and would be dialled in plain text"),
                    Hop::Mesh { to, .. } => prop_assert!(meshed && to.port() == 15008 && to.ip() == target.ip()),
                    Hop::Local { .. } => prop_assert!([v4(OWN), v6(OWN)].contains(&target.ip())),
                }
                prop_assert!(!tried.contains(&target), "{target} was picked twice");
                tried.push(target);
            }
        }
    }
}
