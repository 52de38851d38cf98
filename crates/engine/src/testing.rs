// SPDX-License-Identifier: Apache-2.0
//! Small worlds for the tests of this crate. Workload `n` is `uid-n`, in namespace `shop`, at 10.244.0.n and fd00:244::n, meshed where n is odd.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Instant;

use maille_model::{
    ClusterRanges, Endpoint, Membership, Mesh, Own, Protocol, Service, ServiceId, ServicePort,
    Terms, Workload, WorkloadUid,
};

/// When a test begins. Only what is added to it matters.
#[expect(clippy::disallowed_methods, reason = "tests have to begin somewhere")]
pub(crate) fn start() -> Instant {
    Instant::now()
}

/// The own workload's number.
pub(crate) const OWN: u8 = 9;

pub(crate) fn mesh() -> Mesh {
    let ranges = [
        "10.244.0.0/16",
        "10.96.0.0/16",
        "fd00:244::/48",
        "fd00:96::/112",
    ];
    Mesh {
        trust_domain: "cluster.local".parse().unwrap(),
        trust_anchors: vec![vec![1]],
        cluster_ranges: ClusterRanges(ranges.iter().map(|range| range.parse().unwrap()).collect()),
    }
}

pub(crate) fn own() -> Own {
    Own {
        workload: workload(OWN),
        ports: vec![(8080, Protocol::Http1), (5432, Protocol::Tcp)],
        leaving: false,
    }
}

pub(crate) fn v4(n: u8) -> IpAddr {
    IpAddr::from([10, 244, 0, n])
}

pub(crate) fn v6(n: u8) -> IpAddr {
    IpAddr::from(Ipv6Addr::new(0xfd00, 0x244, 0, 0, 0, 0, 0, u16::from(n)))
}

pub(crate) fn workload(n: u8) -> Workload {
    Workload {
        uid: WorkloadUid::new(&format!("uid-{n}")).unwrap(),
        namespace: "shop".parse().unwrap(),
        name: format!("pod-{n}").parse().unwrap(),
        service_account: format!("sa-{n}").parse().unwrap(),
        addresses: vec![v4(n), v6(n)],
        owner: None,
        membership: if n % 2 == 1 {
            Membership::Meshed
        } else {
            Membership::Unmeshed
        },
        zone: None,
    }
}

pub(crate) fn endpoint(n: u8, ready: bool) -> Endpoint {
    Endpoint {
        workload: workload(n),
        ready,
        targets: vec![(80, 8080)],
    }
}

/// Service `n` is `shop/svc-n` at 10.96.0.n, with ports 80 (HTTP/1) and 81 (nothing declared).
pub(crate) fn service(n: u8) -> Service {
    let port = |port, protocol| ServicePort {
        port,
        name: String::new(),
        protocol,
    };
    Service {
        id: service_id(n),
        addresses: vec![cluster_ip(n)],
        ports: vec![port(80, Protocol::Http1), port(81, Protocol::Undeclared)],
        terms: Terms::default(),
    }
}

pub(crate) fn service_id(n: u8) -> ServiceId {
    format!("shop/svc-{n}").parse().unwrap()
}

pub(crate) fn cluster_ip(n: u8) -> IpAddr {
    IpAddr::from([10, 96, 0, n])
}
