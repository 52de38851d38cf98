// SPDX-License-Identifier: Apache-2.0
//! A small cluster for tests: workload `n` is `uid-n` in namespace `shop` at 10.244.0.n, meshed where n is odd; service `n` is `shop/svc-n` at 10.96.0.n.

use std::net::IpAddr;

use maille_model::{
    AddressOwner, ClusterRanges, Endpoint, Endpoints, Membership, Mesh, Own, Protocol, Service,
    ServiceId, ServicePort, Terms, Workload, WorkloadUid,
};
use maille_wire::discovery::{self, DeltaDiscoveryResponse};
use maille_wire::{Kind, Resource};

pub(crate) fn uid(n: u8) -> WorkloadUid {
    WorkloadUid::new(&format!("uid-{n}")).unwrap()
}

pub(crate) fn pod(n: u8) -> IpAddr {
    IpAddr::from([10, 244, 0, n])
}

pub(crate) fn cluster_ip(n: u8) -> IpAddr {
    IpAddr::from([10, 96, 0, n])
}

pub(crate) fn service_id(n: u8) -> ServiceId {
    format!("shop/svc-{n}").parse().unwrap()
}

pub(crate) fn workload(n: u8) -> Workload {
    Workload {
        uid: uid(n),
        namespace: "shop".parse().unwrap(),
        name: format!("pod-{n}").parse().unwrap(),
        service_account: format!("sa-{n}").parse().unwrap(),
        addresses: vec![pod(n)],
        owner: None,
        membership: if n % 2 == 1 {
            Membership::Meshed
        } else {
            Membership::Unmeshed
        },
        zone: None,
    }
}

pub(crate) fn mesh() -> Resource {
    let ranges = ["10.244.0.0/16", "10.96.0.0/16"];
    Resource::Mesh(Mesh {
        trust_domain: "cluster.local".parse().unwrap(),
        trust_anchors: vec![vec![1]],
        cluster_ranges: ClusterRanges(ranges.iter().map(|range| range.parse().unwrap()).collect()),
    })
}

pub(crate) fn own(n: u8) -> Resource {
    Resource::Own(Own {
        workload: workload(n),
        ports: vec![(8080, Protocol::Http1)],
        leaving: false,
    })
}

pub(crate) fn address_of_pod(n: u8) -> Resource {
    Resource::Address(AddressOwner::Workload(workload(n)))
}

pub(crate) fn address_of_service(n: u8) -> Resource {
    Resource::Address(AddressOwner::Service(service_id(n)))
}

pub(crate) fn service(n: u8) -> Resource {
    Resource::Service(Service {
        id: service_id(n),
        addresses: vec![cluster_ip(n)],
        ports: vec![ServicePort {
            port: 80,
            name: "http".to_owned(),
            protocol: Protocol::Http1,
        }],
        terms: Terms::default(),
    })
}

pub(crate) fn endpoints(all: &[u8]) -> Resource {
    let endpoint = |n: &u8| Endpoint {
        workload: workload(*n),
        ready: true,
        targets: vec![(80, 8080)],
    };
    Resource::Endpoints(Endpoints(all.iter().map(endpoint).collect()))
}

/// An answer of control: resources with names, all of version `nonce`, and names of which there is nothing.
pub(crate) fn answer(
    nonce: &str,
    kind: Kind,
    found: &[(&str, Resource)],
    removed: &[&str],
) -> DeltaDiscoveryResponse {
    let resource = |(name, resource): &(&str, Resource)| discovery::Resource {
        version: nonce.to_owned(),
        name: (*name).to_owned(),
        resource: Some(resource.to_any()),
    };
    DeltaDiscoveryResponse {
        type_url: kind.type_url().to_owned(),
        nonce: nonce.to_owned(),
        resources: found.iter().map(resource).collect(),
        removed_resources: removed.iter().map(|name| (*name).to_owned()).collect(),
        ..DeltaDiscoveryResponse::default()
    }
}
