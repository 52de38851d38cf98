// SPDX-License-Identifier: Apache-2.0
//! What people get to read.

use std::time::UNIX_EPOCH;

use maille_wire::Resource;

use super::*;
use crate::discovery::samples::{
    address_of_pod, address_of_service, cluster_ip, endpoints, mesh, own, pod, service, service_id,
};

fn known() -> Snapshot {
    let mut snapshot = Snapshot::new();
    let (Resource::Mesh(mesh), Resource::Own(own)) = (mesh(), own(9)) else {
        panic!()
    };
    snapshot.set_mesh(mesh);
    snapshot.set_own(own);
    let address = |resource| match resource {
        Resource::Address(owner) => Known::Present(owner),
        other => panic!("{other:?}"),
    };
    snapshot.set_address(pod(1), address(address_of_pod(1)));
    snapshot.set_address(pod(2), address(address_of_pod(2)));
    snapshot.set_address(pod(3), Known::Absent);
    snapshot.set_address(cluster_ip(1), address(address_of_service(1)));
    let (Resource::Service(service), Resource::Endpoints(endpoints)) =
        (service(1), endpoints(&[1, 2]))
    else {
        panic!()
    };
    snapshot.set_service(service_id(1), Known::Present(service));
    snapshot.set_endpoints(service_id(1), Known::Present(endpoints));
    snapshot
}

fn admin(snapshot: Snapshot) -> Admin {
    Admin {
        snapshots: watch::channel(Arc::new(snapshot)).1,
        credentials: watch::channel(None).1,
        counted: Counted::default(),
        started: UNIX_EPOCH,
    }
}

fn read(admin: &Admin, path: &str, query: &str) -> (u16, String) {
    let reply = admin.answer(path, query);
    (
        reply.status.as_u16(),
        String::from_utf8(reply.body.read()).unwrap(),
    )
}

fn decided(query: &str) -> Value {
    let (status, text) = read(&admin(known()), "/decide", query);
    assert_eq!(status, 200, "{text}");
    serde_json::from_str(&text).unwrap()
}

#[test]
fn decisions_are_explained() {
    let service = decided("dst=10.96.0.1:80");
    assert_eq!(service["decision"], "forward");
    assert_eq!(service["protocol"], "http1");
    assert_eq!(service["owner"]["service"], "shop/svc-1");
    assert_eq!(service["detail"][0]["hop"], "mesh");
    assert_eq!(service["detail"][0]["to"], "10.244.0.1:15008");
    assert_eq!(
        service["detail"][0]["identity"],
        "spiffe://cluster.local/ns/shop/sa/sa-1"
    );
    assert_eq!(service["detail"][1]["hop"], "plain");
    assert_eq!(decided("dst=10.96.0.1:81")["decision"], "refuse");
    assert_eq!(decided("dst=10.244.0.2:80")["owner"]["meshed"], false);
    assert_eq!(
        decided("dst=10.244.0.3:80")["owner"],
        "nobody's, says control"
    );
    assert_eq!(decided("dst=10.244.0.7:80")["decision"], "wait");
    assert_eq!(
        decided("dst=192.0.2.1:80")["owner"],
        "outside the cluster's ranges"
    );
    let inbound = decided("dst=10.244.0.9:8080&direction=inbound");
    assert_eq!(inbound["detail"][0]["hop"], "local");
    assert_eq!(
        decided("direction=inbound&dst=10.244.0.1:8080")["decision"],
        "refuse"
    );
    assert_eq!(
        decided("dst=%5Bfd00%3A%3A1%5D%3A80")["destination"],
        "[fd00::1]:80"
    );
}

#[test]
fn questions_that_cannot_be_answered_are_refused() {
    for query in [
        "",
        "dst",
        "dst=",
        "dst=10.0.0.1",
        "dst=web:80",
        "dst=10.0.0.1:80&direction=up",
    ] {
        assert_eq!(read(&admin(known()), "/decide", query).0, 400, "{query}");
    }
    assert_eq!(read(&admin(known()), "/nothing", "").0, 404);
}

#[test]
fn the_snapshot_can_be_read() {
    let (status, text) = read(&admin(known()), "/snapshot", "");
    let view: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(status, 200);
    assert_eq!(view["mesh"]["trust_domain"], "cluster.local");
    assert_eq!(view["own"]["uid"], "uid-9");
    assert_eq!(view["addresses"]["10.244.0.1"], "workload shop/pod-1 uid-1");
    assert_eq!(view["addresses"]["10.244.0.3"], "nobody");
    assert_eq!(view["services"]["shop/svc-1"][0], "80 http1");
    assert_eq!(
        view["endpoints"]["shop/svc-1"]["80"][1],
        "shop/pod-2 port 8080 plain"
    );
    assert_eq!(view["mesh"]["trust_anchors"], 1, "how many, not which");
}

#[test]
fn ready_is_said_when_it_is_true() {
    assert_eq!(read(&admin(Snapshot::new()), "/ready", "").0, 503);
    let (status, text) = read(&admin(known()), "/ready", "");
    assert_eq!((status, text.as_str()), (503, "no certificate yet\n"));
}

#[test]
fn strangers_are_told_numbers_and_readiness() {
    let public = Public(admin(known()));
    let status = |path| public.answer(path, "dst=10.96.0.1:80").status.as_u16();
    assert_eq!((status("/metrics"), status("/live")), (200, 200));
    assert_eq!(status("/ready"), 503);
    assert_eq!((status("/snapshot"), status("/decide")), (404, 404));
}

#[test]
fn metrics_are_prometheus_text() {
    let (status, text) = read(&admin(known()), "/metrics", "");
    assert_eq!(status, 200);
    for line in text.lines() {
        let comment = line.starts_with("# HELP ") || line.starts_with("# TYPE ");
        let sample = line
            .rsplit_once(' ')
            .is_some_and(|(_, value)| value.parse::<f64>().is_ok());
        assert!(comment || sample, "{line}");
    }
    assert!(text.contains("\nmaille_snapshot_entries 6\n"), "{text}");
}
