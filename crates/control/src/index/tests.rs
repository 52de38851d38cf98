// SPDX-License-Identifier: Apache-2.0
//! Objects in, model out: tables, with objects as they are on disk.

use maille_manifest::{Object, from_json};
use maille_model::Membership;

use super::*;

pub(crate) fn pod(json: &str) -> Change {
    let object = Object::Pod(Box::new(from_json(json.as_bytes()).unwrap()));
    Change::read(&object).unwrap().unwrap()
}

pub(crate) fn service(json: &str) -> Change {
    let object = Object::Service(from_json(json.as_bytes()).unwrap());
    Change::read(&object).unwrap().unwrap()
}

/// A pod of shop/web with the label app=web, an `http` port 8080 and whatever `status` says.
fn web(uid: &str, capture: &str, status: &str) -> Change {
    pod(&format!(
        r#"{{"metadata":{{"name":"web-{uid}","namespace":"shop","uid":"{uid}","labels":{{"app":"web"}},
            "annotations":{{"maille.io/capture":"{capture}"}},
            "ownerReferences":[{{"kind":"Deployment","name":"web","controller":true}}]}},
            "spec":{{"serviceAccountName":"web","containers":[{{"name":"c","ports":[{{"name":"http","containerPort":8080}}]}}]}},
            "status":{status}}}"#
    ))
}

fn running(ip: &str) -> String {
    format!(
        r#"{{"phase":"Running","podIPs":[{{"ip":"{ip}"}}],"conditions":[{{"type":"Ready","status":"True"}}]}}"#
    )
}

fn web_service(name: &str, ports: &str) -> Change {
    service(&format!(
        r#"{{"metadata":{{"name":"{name}","namespace":"shop"}},
            "spec":{{"clusterIPs":["10.96.0.1"],"selector":{{"app":"web"}},"ports":{ports}}}}}"#
    ))
}

fn index(changes: impl IntoIterator<Item = Change>) -> Index {
    let mut index = Index::default();
    for change in changes {
        index.apply(change);
    }
    index
}

fn uid(text: &str) -> WorkloadUid {
    WorkloadUid::new(text).unwrap()
}

const HTTP: &str =
    r#"[{"name":"http","port":80,"targetPort":"http"},{"name":"dns","port":53,"protocol":"UDP"}]"#;

#[test]
fn a_pod_on_the_nodes_network_is_behind_its_service_and_owns_no_address() {
    let host = pod(
        r#"{"metadata":{"name":"host","namespace":"shop","uid":"h","labels":{"app":"web"},
            "annotations":{"maille.io/capture":"outboard"}},
            "spec":{"hostNetwork":true,"containers":[{"name":"c","ports":[{"name":"http","containerPort":8080}]}]},
            "status":{"phase":"Running","podIPs":[{"ip":"10.245.0.1"}],"conditions":[{"type":"Ready","status":"True"}]}}"#,
    );
    let index = index([host, web_service("web", HTTP)]);
    assert_eq!(index.owner_of("10.245.0.1".parse().unwrap()), None);
    assert_eq!(index.own(&uid("h")), None);
    let id: ServiceId = "shop/web".parse().unwrap();
    let Endpoints(endpoints) = index.endpoints(&id).unwrap();
    let [endpoint] = &endpoints[..] else {
        panic!("{endpoints:?}");
    };
    assert!(endpoint.ready && endpoint.workload.membership == Membership::Unmeshed);
    assert_eq!(endpoint.target(80), Some(8080));
}

#[test]
fn endpoints_are_the_selected_pods_with_resolved_ports() {
    let index = index([
        web("a", "outboard", &running("10.244.0.1")),
        web("b", "none", &running("10.244.0.2")),
        web_service("web", HTTP),
    ]);
    let endpoints = index.endpoints(&"shop/web".parse().unwrap()).unwrap().0;
    let seen: Vec<_> = endpoints
        .iter()
        .map(|e| {
            let meshed = e.workload.membership == Membership::Meshed;
            (e.workload.name.as_str(), e.ready, meshed, &*e.targets)
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("web-a", true, true, &[(80, 8080)][..]),
            ("web-b", true, false, &[(80, 8080)][..])
        ]
    );
    assert_eq!(index.endpoints(&"shop/none".parse().unwrap()), None);
}

#[test]
fn readiness_follows_the_life_of_a_pod() {
    for (status, deletion, expected) in [
        (running("10.244.0.1"), "", Some(true)),
        (
            running("10.244.0.1"),
            r#""deletionTimestamp":"2026-01-01T00:00:00Z","#,
            // The last one that answers: KEP-1669.
            Some(true),
        ),
        (
            r#"{"phase":"Running","podIPs":[{"ip":"10.244.0.1"}],"conditions":[{"type":"Ready","status":"False"}]}"#
                .to_owned(),
            "",
            Some(false),
        ),
        (
            r#"{"phase":"Pending","podIPs":[{"ip":"10.244.0.1"}]}"#.to_owned(),
            "",
            Some(false),
        ),
        (r#"{"phase":"Pending"}"#.to_owned(), "", None),
        (
            r#"{"phase":"Failed","podIPs":[{"ip":"10.244.0.1"}]}"#.to_owned(),
            "",
            None,
        ),
        (
            r#"{"phase":"Succeeded","podIPs":[{"ip":"10.244.0.1"}]}"#.to_owned(),
            "",
            None,
        ),
    ] {
        let change = pod(&format!(
            r#"{{"metadata":{{"name":"web","namespace":"shop","uid":"a",{deletion}"labels":{{"app":"web"}}}},
                "spec":{{"containers":[]}},"status":{status}}}"#
        ));
        let index = index([change, web_service("web", HTTP)]);
        let endpoints = index.endpoints(&"shop/web".parse().unwrap()).unwrap().0;
        let ready = endpoints.first().map(|e| e.ready);
        assert_eq!(ready, expected, "{status} {deletion}");
    }
}

#[test]
fn a_pod_that_goes_gets_nothing_new_while_another_answers() {
    let going = |uid: &str, ip: &str, ready: &str| {
        pod(&format!(
            r#"{{"metadata":{{"name":"{uid}","namespace":"shop","uid":"{uid}","labels":{{"app":"web"}},
                "annotations":{{"maille.io/capture":"outboard"}},
                "deletionTimestamp":"2026-01-01T00:00:00Z"}},"spec":{{"containers":[]}},
                "status":{{"phase":"Running","podIPs":[{{"ip":"{ip}"}}],
                "conditions":[{{"type":"Ready","status":"{ready}"}}]}}}}"#
        ))
    };
    let mut index = index([
        going("a", "10.244.0.1", "True"),
        going("b", "10.244.0.2", "False"),
        web("c", "outboard", &running("10.244.0.3")),
        web_service("web", HTTP),
    ]);
    let ready = |index: &Index| {
        let endpoints = index.endpoints(&"shop/web".parse().unwrap()).unwrap().0;
        let ready = endpoints.iter().filter(|endpoint| endpoint.ready);
        ready
            .map(|e| e.workload.uid.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(ready(&index), ["c"]);
    let leaving = |pod: &str| index.own(&uid(pod)).map(|own| own.leaving);
    assert_eq!(["a", "c"].map(leaving), [Some(true), Some(false)]);
    let dirty = index.apply(Change::PodGone(uid("c")));
    assert!(dirty.contains(&Key::Endpoints("shop/web".parse().unwrap())));
    assert_eq!(ready(&index), ["a"]);
}

#[test]
fn an_address_is_its_pods_until_the_pod_is_finished_or_gone() {
    let address: IpAddr = "10.244.0.1".parse().unwrap();
    let owner = |index: &Index| match index.owner_of(address) {
        Some(AddressOwner::Workload(workload)) => Some(workload.uid.to_string()),
        Some(AddressOwner::Service(id)) => Some(id.to_string()),
        None => None,
    };
    let pending = r#"{"phase":"Pending","podIPs":[{"ip":"10.244.0.1"}]}"#;
    let finished = r#"{"phase":"Failed","podIPs":[{"ip":"10.244.0.1"}]}"#;
    let mut index = index([web("a", "outboard", pending)]);
    assert_eq!(owner(&index).as_deref(), Some("a"));
    // A successor that runs has the address before one that does not, whatever the uids.
    index.apply(web("0", "outboard", &running("10.244.0.1")));
    assert_eq!(owner(&index).as_deref(), Some("0"));
    assert_eq!(
        index.disputes(),
        ["10.244.0.1 is claimed by pod shop/web-0 and pod shop/web-a"]
    );
    let dirty = index.apply(web("0", "outboard", finished));
    assert!(dirty.contains(&Key::Address(address)));
    assert_eq!(owner(&index).as_deref(), Some("a"));
    index.apply(Change::PodGone(uid("a")));
    assert_eq!(owner(&index), None);
    assert!(index.disputes().is_empty());
}

#[test]
fn a_service_address_is_the_services() {
    let index = index([web_service("web", HTTP)]);
    assert_eq!(
        index.owner_of("10.96.0.1".parse().unwrap()),
        Some(AddressOwner::Service("shop/web".parse().unwrap()))
    );
}

#[test]
fn own_has_the_declared_protocols_of_every_selecting_service() {
    let mut index = index([
        web("a", "outboard", &running("10.244.0.1")),
        web_service("web", HTTP),
        web_service(
            "more",
            r#"[{"port":81,"targetPort":8080},{"name":"tcp-db","port":5432}]"#,
        ),
    ]);
    let own = |index: &Index| index.own(&uid("a")).map(|own| own.ports);
    assert_eq!(
        own(&index).unwrap(),
        [(5432, Protocol::Tcp), (8080, Protocol::Http1)]
    );
    index.apply(web_service(
        "other",
        r#"[{"name":"tcp","port":82,"targetPort":8080}]"#,
    ));
    assert_eq!(
        own(&index).unwrap(),
        [(5432, Protocol::Tcp), (8080, Protocol::Undeclared)]
    );
    index.apply(web("a", "none", &running("10.244.0.1")));
    assert_eq!(own(&index), None);
}

#[test]
fn a_service_may_want_its_pods_before_they_are_ready() {
    let service = |more: &str| {
        service(&format!(
            r#"{{"metadata":{{"name":"web","namespace":"shop"}},"spec":{{"selector":{{"app":"web"}},{more}
                "ports":[{{"port":80}}]}}}}"#
        ))
    };
    let starting = r#"{"phase":"Running","podIPs":[{"ip":"10.244.0.1"}]}"#;
    for (more, ready) in [("", false), (r#""publishNotReadyAddresses":true,"#, true)] {
        let index = index([web("a", "outboard", starting), service(more)]);
        let endpoints = index.endpoints(&"shop/web".parse().unwrap()).unwrap();
        assert_eq!(endpoints.0[0].ready, ready, "{more}");
    }
}

#[test]
fn a_pod_with_a_proxy_of_its_own_is_meshed_unless_it_has_the_nodes_network() {
    for (host_network, meshed) in [(false, true), (true, false)] {
        let change = pod(&format!(
            r#"{{"metadata":{{"name":"a","namespace":"shop","uid":"a","annotations":{{"maille.io/injected":"0.1.0","maille.io/capture":"inboard"}}}},
                "spec":{{"hostNetwork":{host_network},"containers":[]}},"status":{{"phase":"Running"}}}}"#
        ));
        let index = index([change]);
        let capture = index.pod(&uid("a")).unwrap().capture.as_str();
        assert_eq!(capture == "inboard", meshed);
        assert_eq!(index.pod(&uid("a")).unwrap().is_served(), meshed);
    }
}

#[test]
fn only_outboard_is_meshed() {
    for (capture, meshed) in [
        ("outboard", true),
        ("none", false),
        ("Outboard", false),
        ("", false),
    ] {
        let index = index([web("a", capture, &running("10.244.0.1"))]);
        assert_eq!(
            index.pod(&uid("a")).unwrap().is_served(),
            meshed,
            "{capture:?}"
        );
    }
}

#[test]
fn owners_are_what_people_know() {
    let owner = |labels: &str, kind: &str, name: &str| {
        let change = pod(&format!(
            r#"{{"metadata":{{"name":"p","namespace":"shop","uid":"a","labels":{labels},
                "ownerReferences":[{{"kind":"{kind}","name":"{name}"}}]}},"spec":{{"containers":[]}}}}"#
        ));
        let Change::Pod(pod) = change else {
            panic!("not a pod")
        };
        pod.workload.owner.map(|o| format!("{}/{}", o.kind, o.name))
    };
    let hashed = r#"{"pod-template-hash":"7d4f"}"#;
    assert_eq!(
        owner(hashed, "ReplicaSet", "web-7d4f").as_deref(),
        Some("Deployment/web")
    );
    assert_eq!(
        owner("{}", "ReplicaSet", "web-7d4f").as_deref(),
        Some("ReplicaSet/web-7d4f")
    );
    assert_eq!(
        owner("{}", "StatefulSet", "db").as_deref(),
        Some("StatefulSet/db")
    );
}

#[test]
fn what_did_not_change_is_not_dirty() {
    let change = || web("a", "outboard", &running("10.244.0.1"));
    let mut index = index([change(), web_service("web", HTTP)]);
    assert!(index.apply(change()).is_empty());
    assert!(index.apply(web_service("web", HTTP)).is_empty());
    assert!(index.apply(Change::PodGone(uid("never"))).is_empty());
    let dirty = index.apply(web("a", "outboard", &running("10.244.0.9")));
    let names: Vec<_> = dirty.iter().map(Key::name).collect();
    assert_eq!(names, ["a", "shop/web", "10.244.0.1", "10.244.0.9"]);
}

#[test]
fn objects_that_nobody_can_serve_are_refused() {
    for json in [
        r#"{"metadata":{"name":"p","namespace":"shop"},"spec":{"containers":[]}}"#,
        r#"{"metadata":{"name":"p","uid":"a"},"spec":{"containers":[]}}"#,
        r#"{"metadata":{"name":"p","namespace":"shop","uid":"a"},"spec":{"serviceAccountName":"Web","containers":[]}}"#,
    ] {
        let object = Object::Pod(Box::new(from_json(json.as_bytes()).unwrap()));
        assert!(Change::read(&object).is_err(), "{json}");
    }
}

#[test]
fn zones_and_terms_come_from_labels_and_annotations() {
    let index = index([
        pod(
            r#"{"metadata":{"name":"p","namespace":"shop","uid":"a","labels":{"topology.kubernetes.io/zone":"Eu-1a"}},
                "spec":{"containers":[]}}"#,
        ),
        service(
            r#"{"metadata":{"name":"web","namespace":"shop","annotations":{
                "maille.io/max-requests":"7","maille.io/retry-on":"sometimes"}},
                "spec":{"trafficDistribution":"PreferClose"}}"#,
        ),
    ]);
    let zone = index.pod(&uid("a")).unwrap().workload.zone.clone();
    assert_eq!(zone.unwrap().as_str(), "Eu-1a");
    let terms = index
        .service(&"shop/web".parse().unwrap())
        .unwrap()
        .facts
        .terms;
    assert_eq!(terms.max_requests, std::num::NonZeroU32::new(7));
    assert_eq!(terms.zones, maille_model::terms::Zones::PreferClose);
    assert_eq!(terms.retry, maille_model::terms::Retry::DEFAULT);
}

#[test]
fn endpoints_that_are_written_down_are_pods_or_outsiders() {
    let slice = |addresses: &str| {
        let json = format!(
            r#"{{"metadata":{{"name":"s-1","namespace":"shop","labels":{{"kubernetes.io/service-name":"out"}}}},
                "addressType":"IPv4","endpoints":[{addresses}],"ports":[{{"name":"http","port":9000}}]}}"#
        );
        let object = Object::EndpointSlice(from_json(json.as_bytes()).unwrap());
        Change::read(&object).unwrap().unwrap()
    };
    let out = r#"{"metadata":{"name":"out","namespace":"shop"},"spec":{"clusterIPs":["10.96.0.2"],"ports":[{"name":"http","port":80}]}}"#;
    let two =
        r#"{"addresses":["192.0.2.7"]},{"addresses":["10.244.0.2"],"conditions":{"ready":false}}"#;
    let mut index = index([service(out), slice(two)]);
    let id: ServiceId = "shop/out".parse().unwrap();
    let told = |index: &Index| -> Vec<(String, bool, Membership, Option<u16>)> {
        let endpoints = index.endpoints(&id).unwrap().0;
        let one = |endpoint: &Endpoint| {
            let workload = &endpoint.workload;
            let name = workload.name.to_string();
            (
                name,
                endpoint.ready,
                workload.membership,
                endpoint.target(80),
            )
        };
        endpoints.iter().map(one).collect()
    };
    let outsider = |name: &str, ready| {
        let name = name.to_owned();
        (name, ready, Membership::Unmeshed, Some(9000))
    };
    assert_eq!(
        told(&index),
        [
            outsider("ip-10-244-0-2", false),
            outsider("ip-192-0-2-7", true)
        ]
    );
    // An address becomes a pod's, and with it everything that is known of the pod.
    let dirty = index.apply(web("a", "outboard", &running("10.244.0.2")));
    assert!(dirty.contains(&Key::Endpoints(id.clone())), "{dirty:?}");
    let mut found = told(&index);
    found.sort_by_key(|(name, ..)| name.clone());
    let pod = ("web-a".to_owned(), false, Membership::Meshed, Some(9000));
    assert_eq!(found, [outsider("ip-192-0-2-7", true), pod]);
    let gone: ServiceId = "shop/s-1".parse().unwrap();
    let dirty = index.apply(Change::SliceGone(gone));
    assert!(dirty.contains(&Key::Endpoints(id.clone())));
    assert_eq!(told(&index), []);
}
