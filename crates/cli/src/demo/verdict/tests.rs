// SPDX-License-Identifier: Apache-2.0
//! Tests of the verdict: a good run is good, and each single flaw makes it bad.

use serde_json::json;

use super::*;

type Flaw = (&'static str, fn(&mut Evidence));

fn good() -> Evidence {
    let edge = |from: &str, to: &str, protected: u64| {
        json!({
            "from": {"namespace": "loom", "kind": "Deployment", "name": from, "meshed": true},
            "to": {"namespace": "loom", "kind": "Deployment", "name": to, "meshed": true},
            "service": format!("loom/{to}"), "port": 8080, "protocol": "http",
            "protection": if protected > 0 { "mtls" } else { "plain" },
            "total": {"requests": 10, "failures": 0, "bytes": 100, "bytes_protected": protected, "connections": 1},
            "window": {"requests": 10, "rps": 1.0},
        })
    };
    let pod = |name: &str, capture: &str| json!({"namespace": "loom", "name": name, "capture": capture, "ready": true});
    let parse = |value: Value| serde_json::from_value(value).unwrap();
    Evidence {
        load: json!({"event": "summary", "requests": 10, "failed": 0, "rps": 1.0}),
        pods: serde_json::from_value(
            json!({"pods": [pod("front-1", "outboard"), pod("legacy-1", "none")]}),
        )
        .unwrap(),
        stat: parse(json!({
            "window_s": 20,
            "edges": [edge("load", "front", 100), edge("front", "legacy", 0)],
            "workloads": [],
        })),
        wanted: 2,
        start_s: 1.5,
        left_out: vec!["legacy"],
        observer: Some(json!({
            "bytes_tls": 1000, "bytes_plain": 100, "bytes_plain_between_meshed": 0,
            "marker_hits_between_meshed": 0, "frames_dropped": 0, "gaps": 0, "streams": 3, "violations": [],
        })),
    }
}

#[test]
fn a_good_run_is_good() {
    let report = good().report();
    assert_eq!(report.problems, Vec::<String>::new());
    assert_eq!(report.json["pods_ready"], 2);
    assert_eq!(report.json["mtls_share"], 0.5);
    assert_eq!(report.json["edges"][0]["mtls_share"], 1.0);
    assert_eq!(report.json["edges"][1]["to"], "loom/legacy");
}

#[test]
fn each_flaw_makes_it_bad() {
    let flaws: [Flaw; 13] = [
        ("a failed request", |e| e.load["failed"] = 1.into()),
        ("no request", |e| e.load["requests"] = 0.into()),
        ("no summary", |e| e.load = Value::Null),
        ("a pod that is not ready", |e| e.pods.pods[0].ready = false),
        ("a pod that is gone", |e| e.pods.pods.truncate(1)),
        ("a pod outside the mesh", |e| e.pods.pods[0].capture = None),
        ("a plain edge", |e| {
            e.stat.edges[0].total.bytes_protected = 99
        }),
        ("a failed edge", |e| e.stat.edges[0].total.failures = 1),
        ("no observer", |e| e.observer = None),
        ("an empty observer", |e| e.observer = Some(json!({}))),
        ("a lost frame", |e| seen(e, "frames_dropped", 1)),
        ("a marker", |e| seen(e, "marker_hits_between_meshed", 1)),
        ("no TLS", |e| seen(e, "bytes_tls", 0)),
    ];
    for (name, flaw) in flaws {
        let mut evidence = good();
        flaw(&mut evidence);
        let report = evidence.report();
        assert!(!report.problems.is_empty(), "{name} went unnoticed");
        assert_eq!(report.json["ok"], false);
    }
}

fn seen(evidence: &mut Evidence, key: &str, value: u64) {
    evidence.observer.as_mut().unwrap()[key] = value.into();
}

#[test]
fn names_of_pods() {
    assert!(belongs("legacy-5d-1", "legacy"));
    assert!(!belongs("legacyx-1", "legacy"));
}
