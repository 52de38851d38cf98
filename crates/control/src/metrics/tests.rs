// SPDX-License-Identifier: Apache-2.0
//! The declarations, their reference, and what is written at a start.

use std::path::Path;
use std::time::SystemTime;

use maille_chassis::clock::Clock;
use maille_chassis::metrics::reference;
use maille_identity::Authority;
use maille_model::{ClusterRanges, Mesh};

use super::*;

const BEFORE: &str = "# Metrics of control

Made from `crates/control/src/metrics.rs`; `MAILLE_WRITE_REFERENCE=1 cargo test -p maille-control reference` writes it anew.

Control answers `GET /metrics` in Prometheus text: on `api.sock` of its state directory, in a cluster on port 8081, and by way of its proxy on 8080.

";

#[test]
fn the_reference_is_of_these_declarations() {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/metrics-control.md");
    let text = format!("{BEFORE}{}", reference(process::ALL.iter().chain(&OWN)));
    if std::env::var_os("MAILLE_WRITE_REFERENCE").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
}

#[test]
fn everything_declared_is_written_once_and_nothing_else() {
    let mesh = Mesh {
        trust_domain: "cluster.local".parse().unwrap(),
        trust_anchors: vec![vec![1]],
        cluster_ranges: ClusterRanges(Vec::new()),
    };
    let hub = Hub::new(mesh, 1, Clock::start());
    let domain = "cluster.local".parse().unwrap();
    let authority = Authority::create(&domain, SystemTime::now()).unwrap();
    let text = text(&hub, &Keyring::fixed(authority));
    for metric in process::ALL.iter().chain(&OWN) {
        let family = format!("# TYPE {} {}\n", metric.name, metric.kind);
        assert_eq!(text.matches(&family).count(), 1, "{}", metric.name);
    }
    let families = text.matches("# TYPE ").count();
    assert_eq!(families, process::ALL.len() + OWN.len(), "{text}");
    assert!(text.contains("\nmaille_control_serving 0\n"), "{text}");
}
