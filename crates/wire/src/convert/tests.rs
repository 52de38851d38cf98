// SPDX-License-Identifier: Apache-2.0
//! Every resource survives the way there and back; what is nearly one is refused by name.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use maille_model::Name;
use maille_model::Terms;
use maille_model::terms::{Counted, Ejection, Retry, RetryOn, RetryOnGrpc, Zones};
use proptest::prelude::*;

use super::*;

fn name() -> impl Strategy<Value = Name> {
    "[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?(\\.[a-z0-9]{1,5})?".prop_map(|text| text.parse().unwrap())
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<[u8; 4]>().prop_map(IpAddr::from),
        any::<[u8; 16]>().prop_map(|bytes| IpAddr::from(bytes).to_canonical()),
    ]
}

fn addresses() -> impl Strategy<Value = Vec<IpAddr>> {
    proptest::collection::vec(address(), 0..4)
}

fn port_protocol() -> impl Strategy<Value = Protocol> {
    prop::sample::select(vec![
        Protocol::Undeclared,
        Protocol::Http1,
        Protocol::Http2,
        Protocol::Grpc,
        Protocol::Tls,
        Protocol::Tcp,
    ])
}

fn some_workload() -> impl Strategy<Value = Workload> {
    let owner = ("[A-Z][A-Za-z]{0,12}", name()).prop_map(|(kind, name)| Owner { kind, name });
    let membership = prop::sample::select(vec![Membership::Meshed, Membership::Unmeshed]);
    (
        "[!-.0-~]{1,40}",
        name(),
        name(),
        name(),
        addresses(),
        proptest::option::of(owner),
        membership,
        proptest::option::of("[!-~]{1,63}"),
    )
        .prop_map(
            |(uid, namespace, name, service_account, addresses, owner, membership, zone)| {
                Workload {
                    uid: WorkloadUid::new(&uid).unwrap(),
                    namespace,
                    name,
                    service_account,
                    addresses,
                    owner,
                    membership,
                    zone: zone.and_then(|zone| Zone::new(&zone)),
                }
            },
        )
}

fn some_terms() -> impl Strategy<Value = Terms> {
    let time = || (1u64..=86_400_000).prop_map(Duration::from_millis);
    let on = any::<([bool; 4], [bool; 5])>().prop_map(|(http, grpc)| RetryOn {
        server_error: http[0],
        gateway_error: http[1],
        too_many: http[2],
        reset: http[3],
        grpc: RetryOnGrpc {
            cancelled: grpc[0],
            deadline_exceeded: grpc[1],
            resource_exhausted: grpc[2],
            internal: grpc[3],
            unavailable: grpc[4],
        },
    });
    let retry = (on, 0u8..=2, 0u8..=100, any::<u16>());
    let retry = retry.prop_map(|(on, limit, budget_percent, budget_floor)| Retry {
        on,
        limit,
        budget_percent,
        budget_floor,
    });
    let counts = prop::sample::select(vec![
        Counted::Nothing,
        Counted::Unavailable,
        Counted::ServerErrors,
    ]);
    let percent = proptest::option::of(1u8..=100);
    let ejection = (counts, 1u32.., percent, time(), time());
    let ejection = ejection.prop_map(
        |(counts, consecutive, success_percent, min, max)| Ejection {
            counts,
            consecutive,
            success_percent,
            min_penalty: min,
            max_penalty: max,
        },
    );
    let limit = || any::<u32>().prop_map(NonZeroU32::new);
    (
        proptest::option::of(time()),
        proptest::option::of(time()),
        limit(),
        limit(),
        retry,
        ejection,
        any::<bool>(),
    )
        .prop_map(
            |(request, response, all, each, retry, ejection, close)| Terms {
                request_timeout: request,
                response_timeout: response,
                max_requests: all,
                max_requests_per_endpoint: each,
                retry,
                ejection,
                zones: if close {
                    Zones::PreferClose
                } else {
                    Zones::Any
                },
            },
        )
}

fn service_id() -> impl Strategy<Value = ServiceId> {
    (name(), name()).prop_map(|(namespace, name)| ServiceId { namespace, name })
}

fn some_mesh() -> impl Strategy<Value = Mesh> {
    let range = (address(), 0u8..=32).prop_map(|(address, length)| ipnet(address, length));
    let anchor = proptest::collection::vec(any::<u8>(), 1..20);
    (
        "[a-z0-9._-]{1,30}",
        proptest::collection::vec(anchor, 1..3),
        proptest::collection::vec(range, 0..4),
    )
        .prop_map(|(domain, trust_anchors, ranges)| Mesh {
            trust_domain: domain.parse().unwrap(),
            trust_anchors,
            cluster_ranges: ClusterRanges(
                ranges
                    .into_iter()
                    .map(|range| range.parse().unwrap())
                    .collect(),
            ),
        })
}

fn ipnet(address: IpAddr, length: u8) -> String {
    format!("{address}/{length}")
}

fn resource() -> impl Strategy<Value = Resource> {
    let ports = proptest::collection::vec((1u16.., port_protocol()), 0..4);
    let own = (some_workload(), ports, any::<bool>()).prop_map(|(workload, ports, leaving)| Own {
        workload,
        ports,
        leaving,
    });
    let port =
        (1u16.., "[a-z-]{0,10}", port_protocol()).prop_map(|(port, name, protocol)| ServicePort {
            port,
            name,
            protocol,
        });
    let service = (
        service_id(),
        addresses(),
        proptest::collection::vec(port, 0..4),
        prop_oneof![Just(Terms::default()), some_terms()],
    )
        .prop_map(|(id, addresses, ports, terms)| Service {
            id,
            addresses,
            ports,
            terms,
        });
    let targets = proptest::collection::btree_map(1u16.., 1u16.., 0..4);
    let endpoint =
        (some_workload(), any::<bool>(), targets).prop_map(|(workload, ready, targets)| Endpoint {
            workload,
            ready,
            targets: targets.into_iter().collect(),
        });
    prop_oneof![
        some_mesh().prop_map(Resource::Mesh),
        own.prop_map(Resource::Own),
        some_workload().prop_map(|workload| Resource::Address(AddressOwner::Workload(workload))),
        service_id().prop_map(|id| Resource::Address(AddressOwner::Service(id))),
        service.prop_map(Resource::Service),
        proptest::collection::vec(endpoint, 0..4)
            .prop_map(|all| Resource::Endpoints(Endpoints(all))),
    ]
}

proptest! {
    #[test]
    fn there_and_back(resource in resource()) {
        let any = resource.to_any();
        prop_assert_eq!(Resource::from_any(&any), Ok(resource.clone()));
        prop_assert_eq!(any.value, resource.encode());
    }

    #[test]
    fn no_bytes_panic_and_what_is_read_is_written_again(bytes: Vec<u8>, kind in prop::sample::select(Kind::ALL.to_vec())) {
        if let Ok(resource) = Resource::decode(kind, &bytes) {
            prop_assert_eq!(Resource::decode(kind, &resource.encode()), Ok(resource));
        }
    }

    #[test]
    fn broken_bytes_of_a_resource_do_not_panic(resource in resource(), place: prop::sample::Index, to: u8) {
        let mut bytes = resource.encode();
        prop_assume!(!bytes.is_empty());
        let place = place.index(bytes.len());
        bytes[place] = to;
        if let Ok(read) = Resource::decode(resource.kind(), &bytes) {
            prop_assert_eq!(Resource::decode(read.kind(), &read.encode()), Ok(read));
        }
    }
}

fn wire_workload() -> v1::Workload {
    v1::Workload {
        uid: "u".to_owned(),
        namespace: "shop".to_owned(),
        name: "web".to_owned(),
        service_account: "web".to_owned(),
        addresses: vec![vec![10, 0, 0, 1]],
        owner: Some(v1::Owner {
            kind: "Deployment".to_owned(),
            name: "web".to_owned(),
        }),
        meshed: true,
        zone: String::new(),
    }
}

fn wire_mesh() -> v1::Mesh {
    v1::Mesh {
        trust_domain: "cluster.local".to_owned(),
        trust_anchors: vec![vec![1]],
        cluster_ranges: vec!["10.0.0.0/8".to_owned()],
        mesh_port: 15008,
    }
}

/// What is wrong with a workload after `change`.
fn workload_refusal(change: impl FnOnce(&mut v1::Workload)) -> String {
    let mut wire = wire_workload();
    change(&mut wire);
    let own = v1::Own {
        workload: Some(wire),
        ports: Vec::new(),
        leaving: false,
    };
    Resource::decode(Kind::Own, &own.encode_to_vec())
        .unwrap_err()
        .to_string()
}

fn mesh_refusal(change: impl FnOnce(&mut v1::Mesh)) -> String {
    let mut wire = wire_mesh();
    change(&mut wire);
    Resource::decode(Kind::Mesh, &wire.encode_to_vec())
        .unwrap_err()
        .to_string()
}

#[test]
fn workloads_are_refused_by_field() {
    let mapped = "::ffff:10.0.0.1"
        .parse::<std::net::Ipv6Addr>()
        .unwrap()
        .octets()
        .to_vec();
    let cases = [
        (
            workload_refusal(|w| w.uid.clear()),
            "Workload.uid cannot be ",
        ),
        (
            workload_refusal(|w| w.uid = "a/b".to_owned()),
            "Workload.uid cannot be a/b",
        ),
        (
            workload_refusal(|w| w.namespace = "Shop".to_owned()),
            "Workload.namespace cannot be \"Shop\"",
        ),
        (
            workload_refusal(|w| w.name.clear()),
            "Workload.name cannot be \"\"",
        ),
        (
            workload_refusal(|w| w.service_account = "a b".to_owned()),
            "Workload.service_account cannot be \"a b\"",
        ),
        (
            workload_refusal(|w| w.addresses = vec![vec![1, 2, 3]]),
            "Workload.addresses cannot be [01, 02, 03]",
        ),
        (
            workload_refusal(|w| w.addresses = vec![vec![]]),
            "Workload.addresses cannot be []",
        ),
        (
            workload_refusal(|w| w.owner = Some(v1::Owner::default())),
            "Workload.owner.kind is missing",
        ),
    ];
    for (said, expected) in cases {
        assert_eq!(said, expected);
    }
    assert!(
        workload_refusal(|w| w.addresses = vec![mapped])
            .starts_with("Workload.addresses cannot be")
    );
}

#[test]
fn meshes_are_refused_by_field() {
    let cases = [
        (
            mesh_refusal(|m| m.mesh_port = 0),
            "Mesh.mesh_port cannot be 0",
        ),
        (
            mesh_refusal(|m| m.mesh_port = 65536 + 15008),
            "Mesh.mesh_port cannot be 80544",
        ),
        (
            mesh_refusal(|m| m.trust_domain.clear()),
            "Mesh.trust_domain cannot be \"\"",
        ),
        (
            mesh_refusal(|m| m.trust_anchors.clear()),
            "Mesh.trust_anchors is missing",
        ),
        (
            mesh_refusal(|m| m.trust_anchors.push(vec![])),
            "Mesh.trust_anchors cannot be an empty certificate",
        ),
        (
            mesh_refusal(|m| m.cluster_ranges.push("10.0.0.0".to_owned())),
            "Mesh.cluster_ranges cannot be \"10.0.0.0\"",
        ),
    ];
    for (said, expected) in cases {
        assert_eq!(said, expected);
    }
}

#[test]
fn the_others_are_refused_by_field() {
    let refusal = |kind, bytes: Vec<u8>| Resource::decode(kind, &bytes).unwrap_err().to_string();
    let own = v1::Own {
        workload: None,
        ports: Vec::new(),
        leaving: false,
    };
    assert_eq!(
        refusal(Kind::Own, own.encode_to_vec()),
        "Own.workload is missing"
    );
    let own = v1::Own {
        workload: Some(wire_workload()),
        ports: vec![v1::OwnPort {
            port: 80,
            protocol: 77,
        }],
        leaving: false,
    };
    assert_eq!(
        refusal(Kind::Own, own.encode_to_vec()),
        "Own.ports.protocol cannot be 77"
    );
    assert_eq!(
        refusal(Kind::Address, Vec::new()),
        "Address.owner is missing"
    );
    let address = v1::Address {
        owner: Some(v1::address::Owner::Service("web".to_owned())),
    };
    assert_eq!(
        refusal(Kind::Address, address.encode_to_vec()),
        "Address.service cannot be \"web\""
    );
    let service = v1::Service {
        namespace: "shop".to_owned(),
        name: "web".to_owned(),
        addresses: Vec::new(),
        ports: vec![v1::ServicePort {
            port: 70_000,
            ..v1::ServicePort::default()
        }],
        terms: None,
    };
    assert_eq!(
        refusal(Kind::Service, service.encode_to_vec()),
        "Service.ports.port cannot be 70000"
    );
    let endpoints = |workload, targets| v1::Endpoints {
        endpoints: vec![v1::Endpoint {
            workload,
            ready: true,
            targets,
        }],
    };
    let none = endpoints(None, BTreeMap::new());
    assert_eq!(
        refusal(Kind::Endpoints, none.encode_to_vec()),
        "Endpoints.workload is missing"
    );
    let zero = endpoints(Some(wire_workload()), BTreeMap::from([(80, 0)]));
    assert_eq!(
        refusal(Kind::Endpoints, zero.encode_to_vec()),
        "Endpoints.targets.value cannot be 0"
    );
    assert_eq!(
        refusal(Kind::Mesh, vec![0xff]),
        "Mesh is not a protobuf message of its type"
    );
}

#[test]
fn types_that_are_not_ours_are_refused() {
    let any = prost_types::Any {
        type_url: "type.googleapis.com/maille.v1.Edge".to_owned(),
        value: Vec::new(),
    };
    let said = Resource::from_any(&any).unwrap_err().to_string();
    assert_eq!(
        said,
        "type \"type.googleapis.com/maille.v1.Edge\" is not known"
    );
    let long = prost_types::Any {
        type_url: "x".repeat(100_000),
        value: Vec::new(),
    };
    assert!(Resource::from_any(&long).unwrap_err().to_string().len() < 200);
}

#[test]
fn terms_out_of_their_range_are_refused() {
    let service = v1::Service {
        namespace: "shop".to_owned(),
        name: "web".to_owned(),
        terms: Some(v1::Terms {
            retry: Some(v1::Retry {
                limit: 3,
                ..v1::Retry::default()
            }),
            ..v1::Terms::default()
        }),
        ..v1::Service::default()
    };
    let refused = Resource::decode(Kind::Service, &service.encode_to_vec()).unwrap_err();
    assert_eq!(refused.to_string(), "Terms.retry.limit cannot be 3");
}
