// SPDX-License-Identifier: Apache-2.0
//! The declarations and their reference.

use std::path::Path;

use maille_chassis::metrics::{Kind, reference};

use super::*;

const BEFORE: &str = "# Metrics of a proxy

Made from `crates/proxy/src/metrics.rs`; `MAILLE_WRITE_REFERENCE=1 cargo test -p maille-proxy reference` writes it anew.

Every proxy answers `GET /metrics` on port 4191 of its pod (`docs/wire.md`, section 1) in Prometheus text, and `GET /ready`. Labels of the pod itself
(`namespace`, `pod`, ...) are added by whoever scrapes. A label without a value is left out. `dst_KIND` stands for what made the pod:
`dst_deployment`, `dst_statefulset`, ... `dst_` labels speak of the other side of outbound edges (but `dst_port`, which is the port that was
addressed in both directions); `src_` labels and `client_id` of that of inbound ones. `tls` is `true` where the hop to the other side was mutual TLS,
else `no_identity`.

A proxy tells at most 4,096 edges apart. What does not fit is counted for edges with `dst_port=\"other\"`, and in
`maille_edges_overflow_total`; an edge that was quiet for a minute gives its place away. Clients outside the mesh are one edge for each
port, whatever their number. Port 4191 itself is not counted. At most 512 edges are told apart by `sni`: connections that ask for one name
more are counted where those without a name are.

*edge* stands for the labels ";

#[test]
fn the_reference_is_of_these_declarations() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/metrics.md");
    let edge: Vec<_> = EDGE.iter().map(|label| format!("`{label}`")).collect();
    let edge = edge.join(", ");
    let table = reference(&ALL).replace(&edge, "*edge*");
    let text = format!("{BEFORE}{edge}.\n\n{table}");
    if std::env::var_os("MAILLE_WRITE_REFERENCE").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
}

#[test]
fn names_are_the_fields_or_ours_and_say_what_they_count() {
    let common = [
        "process_",
        "identity_",
        "proxy_",
        "tcp_",
        "request_",
        "response_",
    ];
    for metric in ALL {
        let known = common.iter().any(|prefix| metric.name.starts_with(prefix));
        assert!(
            known || metric.name.starts_with("maille_"),
            "{}",
            metric.name
        );
        let total = metric.name.ends_with("_total");
        assert_eq!(metric.kind == Kind::Counter, total, "{}", metric.name);
        assert!(!metric.help.ends_with('.'), "{}", metric.name);
        let same = ALL.iter().filter(|other| other.name == metric.name);
        assert_eq!(same.count(), 1, "{}", metric.name);
    }
}
