// SPDX-License-Identifier: Apache-2.0
//! Reports in, rows of each kind out: who is counted for what, with and without `from` and `to`.

use std::sync::Arc;

use maille_manifest::{Object, from_json};
use maille_model::WorkloadUid;

use super::*;
use crate::index::{Change, Index};
use crate::stat::{Counters, Increment, Observation};

/// web-1 and web-2 of Deployment web, api-1 of Deployment api behind Service api, old-1 of Deployment old outside the mesh.
fn index() -> Index {
    let mut index = Index::default();
    for (uid, owner, capture) in [
        ("web-1", "web", "outboard"),
        ("web-2", "web", "outboard"),
        ("api-1", "api", "outboard"),
        ("old-1", "old", "none"),
    ] {
        let json = format!(
            r#"{{"metadata":{{"name":"{uid}","namespace":"shop","uid":"{uid}","labels":{{"app":"{owner}"}},
                "annotations":{{"maille.io/capture":"{capture}"}},
                "ownerReferences":[{{"kind":"Deployment","name":"{owner}"}}]}},
                "spec":{{"containers":[]}},
                "status":{{"phase":"Running","conditions":[{{"type":"Ready","status":"True"}}]}}}}"#
        );
        let object = Object::Pod(Box::new(from_json(json.as_bytes()).unwrap()));
        index.apply(Change::read(&object).unwrap().unwrap());
    }
    let service = r#"{"metadata":{"name":"api","namespace":"shop"},"spec":{"selector":{"app":"api"},"ports":[{"port":80}]}}"#;
    let object = Object::Service(from_json(service.as_bytes()).unwrap());
    index.apply(Change::read(&object).unwrap().unwrap());
    index
}

fn uid(text: &str) -> WorkloadUid {
    WorkloadUid::new(text).unwrap()
}

fn told(index: &Index, direction: Direction, peer: Option<&str>, requests: u64) -> Observation {
    let pod = peer.map(uid);
    let who = pod
        .as_ref()
        .map(|uid| Arc::new(Who::of(index.pod(uid).unwrap())));
    let meshed = who.as_ref().is_none_or(|who| who.meshed);
    let to_api = peer == Some("api-1");
    Observation {
        key: EdgeKey {
            direction,
            peer: who,
            pod,
            service: to_api.then(|| "shop/api".parse().unwrap()),
            port: 80,
            spoken: Spoken::Http,
            protected: meshed,
        },
        increment: Increment {
            counters: Counters {
                requests,
                bytes: requests,
                ..Counters::default()
            },
            latency: vec![(160, 1)],
        },
        flags: Vec::new(),
    }
}

/// web-1 asks api 5 times and old 7 times; web-2 asks api 11 times; old asks api 3 times.
fn stats(index: &Index) -> Stats {
    let mut stats = Stats::default();
    let who = |name: &str| Arc::new(Who::of(index.pod(&uid(name)).unwrap()));
    let out = Direction::Outbound;
    let reports = [
        (
            "web-1",
            vec![
                told(index, out, Some("api-1"), 5),
                told(index, out, Some("old-1"), 7),
            ],
        ),
        ("web-2", vec![told(index, out, Some("api-1"), 11)]),
        (
            "api-1",
            vec![
                told(index, Direction::Inbound, None, 16),
                told(index, Direction::Inbound, Some("old-1"), 3),
            ],
        ),
    ];
    for (name, observations) in reports {
        stats.report(&uid(name), &who(name), 10, observations, 0);
    }
    stats
}

fn rows(text: &str, from: Option<&str>, to: Option<&str>) -> Vec<(String, u64)> {
    let index = index();
    let parse = |text: &str| Resource::parse(text, None).unwrap();
    let wanted = Wanted {
        target: parse(text),
        from: from.map(parse),
        to: to.map(parse),
    };
    let (_, rows) = stats(&index).rows(&index, 10, 60, &wanted);
    let rows = rows.into_iter();
    rows.map(|row| (format!("{}/{}", row.kind, row.name), row.window.requests))
        .collect()
}

fn are(rows: &[(String, u64)], wanted: &[(&str, u64)]) {
    let rows: Vec<_> = rows.iter().map(|(name, n)| (name.as_str(), *n)).collect();
    assert_eq!(rows, wanted);
}

#[test]
fn what_each_was_sent() {
    let deployments = [("deploy/api", 19), ("deploy/old", 7), ("deploy/web", 0)];
    are(&rows("deploy", None, None), &deployments);
    let pods = [
        ("po/api-1", 19),
        ("po/old-1", 7),
        ("po/web-1", 0),
        ("po/web-2", 0),
    ];
    are(&rows("pods", None, None), &pods);
    are(&rows("ns", None, None), &[("ns/shop", 19)]);
    are(&rows("svc/api", None, None), &[("svc/api", 19)]);
    assert_eq!(
        rows("all", None, None).len(),
        4,
        "three deployments, one service"
    );
}

#[test]
fn what_they_were_sent_by_some() {
    are(
        &rows("deploy/api", Some("po/web-1"), None),
        &[("deploy/api", 5)],
    );
    are(
        &rows("deploy/api", Some("deploy/web"), None),
        &[("deploy/api", 16)],
    );
    are(
        &rows("po/api-1", Some("deploy/old"), None),
        &[("po/api-1", 3)],
    );
    are(&rows("svc", Some("po/web-2"), None), &[("svc/api", 11)]);
    are(&rows("svc", Some("deploy/old"), None), &[("svc/api", 3)]);
}

/// Its proxy sees an address only: with two services at the same port nobody can say which one was called.
#[test]
fn a_client_without_a_proxy_counts_for_the_only_service_there_is() {
    let mut index = index();
    let service = r#"{"metadata":{"name":"too","namespace":"shop"},"spec":{"selector":{"app":"api"},"ports":[{"port":80}]}}"#;
    let object = Object::Service(from_json(service.as_bytes()).unwrap());
    index.apply(Change::read(&object).unwrap().unwrap());
    let wanted = Wanted {
        target: Resource::parse("svc", None).unwrap(),
        from: None,
        to: None,
    };
    let (_, rows) = stats(&index).rows(&index, 10, 60, &wanted);
    let rows: Vec<_> = rows
        .iter()
        .map(|row| (row.name.as_str(), row.window.requests))
        .collect();
    assert_eq!(rows, [("api", 16), ("too", 0)]);
}

#[test]
fn what_they_sent_to_some() {
    are(
        &rows("pods", None, Some("svc/api")),
        &[
            ("po/api-1", 0),
            ("po/old-1", 3),
            ("po/web-1", 5),
            ("po/web-2", 11),
        ],
    );
    are(
        &rows("deploy/old", None, Some("deploy/api")),
        &[("deploy/old", 3)],
    );
    are(
        &rows("deploy/web", None, Some("deploy/old")),
        &[("deploy/web", 7)],
    );
    are(
        &rows("deploy/web", None, Some("ns/shop")),
        &[("deploy/web", 23)],
    );
}

#[test]
fn peers_that_are_gone_count_together() {
    let index = index();
    let mut stats = stats(&index);
    stats.prune(10 + crate::stat::KEPT_SECONDS + 1, |uid| {
        uid.as_str() != "api-1"
    });
    let web = &stats.reporters[&uid("web-1")];
    let gone = web.edges.iter().find(|(key, _)| key.pod.is_none());
    assert_eq!(gone.unwrap().1.series.total().requests, 5);
    assert_eq!(web.edges.len(), 2);
}
