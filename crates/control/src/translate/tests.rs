// SPDX-License-Identifier: Apache-2.0
//! Golden resources, and confluence: any order of events ends in the same bytes, and only dirty keys ever change.

use std::collections::BTreeMap;

use bytes::Bytes;
use maille_manifest::{Object, from_json};
use maille_model::{ClusterRanges, ServiceId, WorkloadUid};
use proptest::prelude::*;

use super::*;
use crate::index::{Change, Dirty};

fn mesh() -> Mesh {
    Mesh {
        trust_domain: "cluster.local".parse().unwrap(),
        trust_anchors: vec![vec![1, 2, 3]],
        cluster_ranges: ClusterRanges(vec!["10.244.0.0/16".parse().unwrap()]),
    }
}

fn pod(uid: &str, ip: &str, app: &str, capture: &str, ready: bool) -> Change {
    let json = format!(
        r#"{{"metadata":{{"name":"{app}-{uid}","namespace":"shop","uid":"{uid}","labels":{{"app":"{app}"}},
            "annotations":{{"maille.io/capture":"{capture}"}},
            "ownerReferences":[{{"kind":"Deployment","name":"{app}"}}]}},
            "spec":{{"serviceAccountName":"{app}","containers":[{{"name":"c","ports":[{{"name":"http","containerPort":8080}}]}}]}},
            "status":{{"phase":"Running","podIPs":[{{"ip":"{ip}"}}],
            "conditions":[{{"type":"Ready","status":"{}"}}]}}}}"#,
        if ready { "True" } else { "False" }
    );
    let object = Object::Pod(Box::new(from_json(json.as_bytes()).unwrap()));
    Change::read(&object).unwrap().unwrap()
}

fn service(name: &str, ip: &str, app: &str, port: &str) -> Change {
    let json = format!(
        r#"{{"metadata":{{"name":"{name}","namespace":"shop"}},
            "spec":{{"clusterIPs":["{ip}"],"selector":{{"app":"{app}"}},"ports":[{port}]}}}}"#
    );
    let object = Object::Service(from_json(json.as_bytes()).unwrap());
    Change::read(&object).unwrap().unwrap()
}

/// Everything that any of the tests' events can bring about.
fn keys() -> Vec<Key> {
    let mut keys = vec![Key::Mesh];
    for n in 0..4 {
        keys.push(Key::Own(WorkloadUid::new(&format!("u{n}")).unwrap()));
        keys.push(Key::Address(format!("10.244.0.{n}").parse().unwrap()));
        keys.push(Key::Address(format!("10.96.0.{n}").parse().unwrap()));
        let id: ServiceId = format!("shop/s{n}").parse().unwrap();
        keys.extend([Key::Service(id.clone()), Key::Endpoints(id)]);
    }
    keys
}

fn all(index: &Index) -> BTreeMap<Key, Option<Bytes>> {
    let mesh = mesh();
    let view = View { index, mesh: &mesh };
    let bytes = |key: &Key| translate(key, &view).map(|encoded| encoded.bytes.clone());
    keys()
        .into_iter()
        .map(|key| (key.clone(), bytes(&key)))
        .collect()
}

/// The whole of a small world in the model's words, as a proxy reads it from the bytes.
#[test]
fn golden() {
    let mut index = Index::default();
    index.apply(pod("u0", "10.244.0.0", "web", "outboard", true));
    index.apply(pod("u1", "10.244.0.1", "web", "none", false));
    let ports = r#"{"port":80,"targetPort":"http","name":"http"},{"port":53,"protocol":"UDP"}"#;
    index.apply(service("s0", "10.96.0.0", "web", ports));
    let mut text = String::new();
    for (key, bytes) in all(&index) {
        text.push_str(&format!("=== {:?} {}\n", key.kind(), key.name()));
        match bytes {
            None => text.push_str("nothing\n"),
            Some(bytes) => {
                let resource = Resource::decode(key.kind(), &bytes).unwrap();
                text.push_str(&format!("{resource:#?}\n"));
            }
        }
    }
    let golden = include_str!("golden.txt");
    assert!(
        text == golden,
        "golden.txt differs; it would now be:\n{text}"
    );
}

/// An address of the cluster's that somebody wrote down is listed while it is somebody's; one outside is always.
#[test]
fn nobody_is_dialled_at_an_address_that_a_pod_has_left() {
    let json = r#"{"metadata":{"name":"far-1","namespace":"shop","labels":{"kubernetes.io/service-name":"far"}},"addressType":"IPv4",
        "endpoints":[{"addresses":["192.0.2.7"]},{"addresses":["10.244.0.2"]}],"ports":[{"name":"http","port":8080}]}"#;
    let slice = Object::EndpointSlice(from_json(json.as_bytes()).unwrap());
    let far = Object::Service(
        from_json(
            br#"{"metadata":{"name":"far","namespace":"shop"},"spec":{"ports":[{"name":"http","port":80}]}}"#,
        )
        .unwrap(),
    );
    let mut index = Index::default();
    for object in [far, slice] {
        index.apply(Change::read(&object).unwrap().unwrap());
    }
    let mesh = mesh();
    let listed = |index: &Index| {
        let view = View { index, mesh: &mesh };
        let endpoints = endpoints(&"shop/far".parse().unwrap(), &view).unwrap().0;
        let addresses = endpoints.iter().flat_map(|one| &one.workload.addresses);
        addresses.map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(listed(&index), ["192.0.2.7"]);
    index.apply(pod("u2", "10.244.0.2", "web", "outboard", true));
    assert_eq!(listed(&index), ["192.0.2.7", "10.244.0.2"]);
}

#[derive(Clone, Debug)]
enum Step {
    Pod {
        n: u8,
        ip: u8,
        app: bool,
        capture: bool,
        ready: bool,
    },
    Service {
        n: u8,
        ip: u8,
        app: bool,
        named: bool,
    },
    PodGone(u8),
    ServiceGone(u8),
}

impl Step {
    fn object(&self) -> (bool, u8) {
        match self {
            Self::Pod { n, .. } | Self::PodGone(n) => (true, *n),
            Self::Service { n, .. } | Self::ServiceGone(n) => (false, *n),
        }
    }

    fn change(&self) -> Change {
        let app = |app: &bool| if *app { "web" } else { "db" };
        match self {
            Self::Pod {
                n,
                ip,
                app: a,
                capture,
                ready,
            } => pod(
                &format!("u{n}"),
                &format!("10.244.0.{ip}"),
                app(a),
                if *capture { "outboard" } else { "none" },
                *ready,
            ),
            Self::Service {
                n,
                ip,
                app: a,
                named,
            } => {
                let port = if *named {
                    r#"{"port":80,"targetPort":"http","name":"http"}"#
                } else {
                    r#"{"port":81,"targetPort":8080}"#
                };
                service(&format!("s{n}"), &format!("10.96.0.{ip}"), app(a), port)
            }
            Self::PodGone(n) => Change::PodGone(WorkloadUid::new(&format!("u{n}")).unwrap()),
            Self::ServiceGone(n) => Change::ServiceGone(format!("shop/s{n}").parse().unwrap()),
        }
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let pods = (0..4u8, 0..4u8, any::<bool>(), any::<bool>(), any::<bool>());
    let services = (0..4u8, 0..4u8, any::<bool>(), any::<bool>());
    let step = prop_oneof![
        4 => pods.prop_map(|(n, ip, app, capture, ready)| Step::Pod { n, ip, app, capture, ready }),
        3 => services.prop_map(|(n, ip, app, named)| Step::Service { n, ip, app, named }),
        1 => (0..4u8).prop_map(Step::PodGone),
        1 => (0..4u8).prop_map(Step::ServiceGone),
    ];
    proptest::collection::vec(step, 1..24)
}

proptest! {
    #[test]
    fn any_order_of_events_converges_and_only_dirty_keys_change(
        steps in steps(),
        order in proptest::collection::vec(any::<u16>(), 24),
    ) {
        let mut index = Index::default();
        let mut before = all(&index);
        for step in &steps {
            let dirty: Dirty = index.apply(step.change());
            let after = all(&index);
            for (key, bytes) in &after {
                prop_assert!(
                    before.get(key) == Some(bytes) || dirty.contains(key),
                    "{:?} changed and was not dirty after {:?}", key, step
                );
            }
            before = after;
        }
        // The last word on each object, in another order.
        let mut last: BTreeMap<(bool, u8), &Step> = BTreeMap::new();
        for step in &steps {
            last.insert(step.object(), step);
        }
        let mut last: Vec<&Step> = last.into_values().collect();
        let mut rank = order.into_iter().cycle();
        last.sort_by_cached_key(|_| rank.next());
        let mut other = Index::default();
        for step in last {
            other.apply(step.change());
        }
        prop_assert_eq!(all(&other), before);
    }
}
