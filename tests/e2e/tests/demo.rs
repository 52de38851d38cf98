// SPDX-License-Identifier: Apache-2.0
//! The demo, as people run it: good with the mesh, and seen to be bad without it.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::process::Output;

use maille_testkit::Programs;
use serde_json::Value;

fn demo(args: &[&str]) -> (Output, Value) {
    let dir = tempfile::Builder::new()
        .prefix("m")
        .tempdir_in("/tmp")
        .unwrap();
    let output = Programs::find()
        .unwrap()
        .maille()
        .args(["demo", "--once", "-o", "json", "--seconds", "5"])
        .args(args)
        .env("MAILLE_RUNTIME_DIR", dir.path().join("s"))
        .output()
        .unwrap();
    let left = dir.path().join("s").exists();
    assert!(!left, "the demo left its state directory behind");
    let summary = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output, summary)
}

#[test]
fn the_demo_is_good() {
    let (output, summary) = demo(&[]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{summary:#}");
    assert_eq!(summary["pods_ready"], summary["pods"]);
    assert_eq!(summary["failed"], 0);
    assert!(summary["requests"].as_u64().unwrap() >= 1000, "{summary:#}");
    assert_eq!(summary["observer"]["bytes_plain_between_meshed"], 0);
    assert_eq!(summary["observer"]["marker_hits_between_meshed"], 0);
    assert!(
        summary["observer"]["bytes_tls"].as_u64().unwrap() > 100_000,
        "{summary:#}"
    );
    // The workload outside the mesh is said to be so, both ways.
    let edges = summary["edges"].as_array().unwrap();
    let plain = |from: &str, to: &str| {
        let edge = edges
            .iter()
            .find(|edge| edge["from"] == from && edge["to"] == to);
        assert_eq!(
            edge.unwrap_or(&Value::Null)["protection"],
            "plain",
            "{from} -> {to}: {summary:#}"
        );
    };
    plain("loom/front", "loom/legacy");
    plain("loom/legacy", "loom/catalog");
    for edge in edges.iter().filter(|edge| edge["from"] != "(unknown)") {
        assert_eq!(edge["failed"], 0, "{edge:#}\n{summary:#}");
    }
    for (from, to) in [
        ("load", "front"),
        ("front", "catalog"),
        ("front", "cart"),
        ("cart", "ledger"),
        ("front", "rates"),
        ("front", "chat"),
        ("front", "post"),
        ("front", "vault"),
    ] {
        let is = |edge: &&Value| {
            edge["from"] == format!("loom/{from}") && edge["to"] == format!("loom/{to}")
        };
        let edge = edges.iter().find(is).unwrap_or(&Value::Null);
        assert_eq!(edge["mtls_share"], 1.0, "{from} -> {to}: {summary:#}");
    }
}

#[test]
fn without_the_mesh_the_observer_objects() {
    let (output, summary) = demo(&["--no-mesh"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(
        summary["failed"], 0,
        "the shop must work without the mesh too: {said}\n{summary:#}"
    );
    let problems = summary["problems"].to_string();
    assert!(
        problems.contains("observer: "),
        "the observer did not object: {problems}"
    );
}
