// SPDX-License-Identifier: Apache-2.0
//! Reports in, rows out.

use maille_manifest::{Object, from_json};

use super::*;
use crate::index::{Change, Index};

fn index(pods: &[(&str, &str, &str)]) -> Index {
    let mut index = Index::default();
    for (uid, owner, capture) in pods {
        let json = format!(
            r#"{{"metadata":{{"name":"{uid}","namespace":"shop","uid":"{uid}",
                "annotations":{{"maille.io/capture":"{capture}"}},
                "ownerReferences":[{{"kind":"Deployment","name":"{owner}"}}]}},
                "spec":{{"containers":[]}},
                "status":{{"phase":"Running","conditions":[{{"type":"Ready","status":"True"}}]}}}}"#
        );
        let object = Object::Pod(Box::new(from_json(json.as_bytes()).unwrap()));
        index.apply(Change::read(&object).unwrap().unwrap());
    }
    index
}

fn uid(text: &str) -> WorkloadUid {
    WorkloadUid::new(text).unwrap()
}

fn who(index: &Index, text: &str) -> Arc<Who> {
    Arc::new(Who::of(index.pod(&uid(text)).unwrap()))
}

fn edge(
    direction: Direction,
    peer: Option<Arc<Who>>,
    protected: bool,
    requests: u64,
) -> Observation {
    Observation {
        key: EdgeKey {
            direction,
            pod: None,
            peer,
            service: "shop/web".parse().ok(),
            port: 80,
            spoken: Spoken::Http,
            protected,
        },
        increment: Increment {
            counters: Counters {
                requests,
                failures: requests / 4,
                bytes: requests * 100,
                opened: 2,
                closed: 1,
            },
            latency: vec![(160, u32::try_from(requests).unwrap())],
        },
        flags: vec![("no-endpoint".to_owned(), 1), ("made up".to_owned(), 2)],
    }
}

/// Two front pods and one web pod in the mesh, legacy outside.
fn shop() -> Index {
    index(&[
        ("front-1", "front", "outboard"),
        ("front-2", "front", "outboard"),
        ("web-1", "web", "outboard"),
        ("legacy-1", "legacy", "none"),
    ])
}

fn report(stats: &mut Stats, index: &Index, from: &str, second: u64, edges: Vec<Observation>) {
    stats.report(&uid(from), &who(index, from), second, edges, 0);
}

#[test]
fn an_edge_between_meshed_workloads_is_counted_once_by_its_source() {
    let (index, mut stats) = (shop(), Stats::default());
    let (front, web) = (who(&index, "front-1"), who(&index, "web-1"));
    for pod in ["front-1", "front-2"] {
        let edges = vec![edge(Direction::Outbound, Some(web.clone()), true, 8)];
        report(&mut stats, &index, pod, 10, edges);
    }
    let inbound = vec![
        edge(Direction::Inbound, Some(front), true, 12),
        edge(Direction::Inbound, None, true, 4),
        edge(Direction::Inbound, None, false, 4),
    ];
    report(&mut stats, &index, "web-1", 10, inbound);
    let stat = stats.view(&index, 10, 60);
    let rows: Vec<_> = stat
        .edges
        .iter()
        .map(|row| {
            let name = |end: &Option<view::Ref>| end.as_ref().map(|end| end.name.clone());
            (
                name(&row.from),
                name(&row.to),
                row.protection,
                row.total.requests,
            )
        })
        .collect();
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(
        rows,
        [
            (None, text("web"), "plain", 4),
            (text("front"), text("web"), "mtls", 16)
        ]
    );
    assert_eq!(stat.edges[0].class, Some("outside"));
    let row = &stat.edges[1];
    assert_eq!(row.window.success_rate, Some(0.75));
    assert_eq!(
        (row.window.bytes, row.window.bytes_protected),
        (1_600, 1_600)
    );
    assert_eq!(row.window.connections_open, 2);
    assert_eq!(
        row.flags,
        BTreeMap::from([("no-endpoint", 2), ("other", 4)])
    );
    assert_eq!(row.service.as_deref(), Some("shop/web"));
    assert!(row.window.p50_ms.is_some());
    let web = stat.workloads.iter().find(|row| row.name == "web").unwrap();
    assert_eq!(web.inbound.requests, 20);
    assert_eq!(web.mtls_share, Some(0.8));
    let front = stat
        .workloads
        .iter()
        .find(|row| row.name == "front")
        .unwrap();
    assert_eq!(
        (front.pods.total, front.pods.meshed, front.pods.ready),
        (2, 2, 2)
    );
    assert_eq!((front.inbound.requests, front.mtls_share), (0, None));
}

#[test]
fn traffic_of_unmeshed_workloads_is_told_by_their_meshed_peers() {
    let (index, mut stats) = (shop(), Stats::default());
    let legacy = who(&index, "legacy-1");
    let out = vec![edge(Direction::Outbound, Some(legacy.clone()), false, 8)];
    report(&mut stats, &index, "front-1", 1, out);
    let inbound = vec![edge(Direction::Inbound, Some(legacy), false, 4)];
    report(&mut stats, &index, "web-1", 1, inbound);
    let stat = stats.view(&index, 1, 60);
    assert_eq!(stat.edges.len(), 2);
    let row = stat
        .workloads
        .iter()
        .find(|row| row.name == "legacy")
        .unwrap();
    assert_eq!((row.inbound.requests, row.mtls_share), (8, Some(0.0)));
    assert_eq!(row.pods.meshed, 0);
}

#[test]
fn windows_are_of_the_last_seconds_and_rates_of_what_was_seen() {
    let (index, mut stats) = (shop(), Stats::default());
    for second in 100..110 {
        let edges = vec![edge(Direction::Outbound, None, false, 5)];
        report(&mut stats, &index, "front-1", second, edges);
    }
    let young = stats.view(&index, 109, 60);
    assert_eq!((young.window_s, young.edges[0].window.rps), (10, 5.0));
    let short = stats.view(&index, 109, 2);
    assert_eq!((short.window_s, short.edges[0].window.requests), (2, 10));
    let late = stats.view(&index, 300, 60);
    assert_eq!(late.edges[0].window.requests, 0);
    assert_eq!(late.edges[0].window.success_rate, None);
    assert_eq!(late.edges[0].total.requests, 50);
}

#[test]
fn a_workload_that_is_gone_fades_out_after_the_window() {
    let (index, mut stats) = (shop(), Stats::default());
    let edges = || vec![edge(Direction::Outbound, None, false, 5)];
    report(&mut stats, &index, "front-1", 10, edges());
    let mut left = Index::default();
    left.apply(Change::PodGone(uid("front-1")));
    let exists = |uid: &WorkloadUid| left.pod(uid).is_some();
    stats.prune(10 + KEPT_SECONDS, exists);
    assert_eq!(stats.view(&left, 10 + KEPT_SECONDS, 600).edges.len(), 1);
    stats.prune(11 + KEPT_SECONDS, exists);
    assert!(stats.view(&left, 11 + KEPT_SECONDS, 600).edges.is_empty());
    // One that exists keeps its totals, however quiet it is.
    report(&mut stats, &index, "front-2", 10, edges());
    stats.prune(11 + KEPT_SECONDS, |_| true);
    assert_eq!(stats.view(&index, 11 + KEPT_SECONDS, 600).edges.len(), 1);
}

#[test]
fn edges_and_memory_are_bounded() {
    let (index, mut stats) = (shop(), Stats::default());
    let many = |count: u16| {
        (0..count).map(|port| {
            let mut edge = edge(Direction::Outbound, None, false, 1);
            edge.key.port = port;
            edge.increment.latency = (0..100).map(|bucket| (bucket, 1)).collect();
            edge
        })
    };
    report(&mut stats, &index, "front-1", 1, many(5_000).collect());
    assert_eq!(stats.dropped(), 5_000 - EDGES as u64);
    for second in 2..100 {
        report(&mut stats, &index, "front-1", second, many(4_096).collect());
        assert!(stats.cells <= CELLS);
    }
    let kept = stats.view(&index, 99, 600).edges[0].window.requests;
    assert!((1..100).contains(&kept), "{kept}");
    let total = |stats: &Stats| stats.view(&index, 99, 600).edges[0].total.requests;
    assert_eq!(total(&stats), 99, "totals are kept");
}

#[test]
fn a_silent_proxy_has_no_open_connections() {
    let (index, mut stats) = (shop(), Stats::default());
    let edges = vec![edge(Direction::Outbound, None, false, 1)];
    report(&mut stats, &index, "front-1", 1, edges);
    assert_eq!(
        stats.view(&index, 1, 60).edges[0].window.connections_open,
        1
    );
    stats.silence(&uid("front-1"));
    assert_eq!(
        stats.view(&index, 1, 60).edges[0].window.connections_open,
        0
    );
}

#[test]
fn every_flag_of_the_wire_is_counted_under_its_name() {
    let page = include_str!("../../../../docs/wire.md");
    let (_, section) = page.split_once("## 5. ").unwrap();
    let (section, _) = section.split_once("## 6. ").unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let firsts = rows.map(|row| row.split('|').nth(1).unwrap());
    let flags: Vec<&str> = firsts
        .flat_map(|cell| cell.split(','))
        .map(|flag| flag.trim().trim_matches('`'))
        .collect();
    assert!(flags.contains(&"no-endpoint") && flags.contains(&"connect-timeout"));
    assert_eq!(flags, FLAGS);
}
