// SPDX-License-Identifier: Apache-2.0
//! The example application on two nodes in each of the three captures, and with all of them mixed, by Services of IPv4 and of IPv6: nothing
//! fails, and a witness between the nodes sees TLS alone. Without a mesh the same witness sees the bytes.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use anyhow::ensure;
use maille_cluster::agents::{self, Begin};
use maille_cluster::demo::{self, NAMESPACE};
use maille_cluster::meshed::{Meshed, text};
use maille_cluster::witness::Witness;
use serde_json::Value;

/// The annotation by which a pod says how it is captured, and the label by which its namespace does.
const CAPTURE: &str = "maille.io/capture";
/// Who says something else than its namespace, where captures are mixed.
const MIXED: [(&str, &str); 4] = [
    ("front", "inboard-cni"),
    ("catalog", "inboard"),
    ("cart", "inboard-cni"),
    ("load", "inboard"),
];

/// One round of the application.
#[derive(Clone, Copy, Debug)]
struct Round {
    /// What its namespace says.
    labels: &'static [&'static str],
    mixed: bool,
    family: &'static str,
}

const ROUNDS: [Round; 5] = [
    Round {
        labels: &["maille.io/inject=enabled", "maille.io/capture=inboard"],
        mixed: false,
        family: "IPv4",
    },
    Round {
        labels: &["maille.io/inject=enabled", "maille.io/capture=inboard-cni"],
        mixed: false,
        family: "IPv6",
    },
    Round {
        labels: &["maille.io/inject=enabled"],
        mixed: false,
        family: "IPv6",
    },
    Round {
        labels: &["maille.io/inject=enabled"],
        mixed: true,
        family: "IPv4",
    },
    Round {
        labels: &["maille.io/inject=enabled"],
        mixed: true,
        family: "IPv6",
    },
];

/// A Service with an address of `family`; anything else as it is.
fn of_family(document: &str, family: &str) -> String {
    if !document.contains("\nkind: Service\n") {
        return document.to_owned();
    }
    let spec = format!("\nspec:\n  ipFamilyPolicy: SingleStack\n  ipFamilies: [{family}]\n");
    let document = document.replace("  ipFamilyPolicy: PreferDualStack\n", "");
    document.replacen("\nspec:\n", &spec, 1)
}

/// The manifests with Services of one family, and with what some pods say.
fn manifests(round: &Round) -> Vec<(String, String)> {
    let mut manifests = demo::manifests().unwrap();
    for (_, text) in &mut manifests {
        let documents = text.split("---\n");
        let documents: Vec<_> = documents
            .map(|document| of_family(document, round.family))
            .collect();
        *text = documents.join("---\n");
        for (app, capture) in MIXED.iter().filter(|_| round.mixed) {
            let labels = format!("      labels: {{app: {app}}}\n");
            let more = format!("      annotations: {{{CAPTURE}: {capture}}}\n");
            *text = text.replace(&labels, &format!("{labels}{more}"));
        }
    }
    manifests
}

/// What a pod of the application should be captured by.
fn expected(round: &Round, app: &str) -> Option<&'static str> {
    if app == "legacy" {
        return None;
    }
    let own = MIXED.iter().find(|(name, _)| *name == app);
    let said = round
        .labels
        .iter()
        .find_map(|label| label.strip_prefix("maille.io/capture="));
    let own = own.filter(|_| round.mixed).map(|(_, capture)| *capture);
    own.or(said).or(Some("outboard"))
}

/// Waits until nothing of the application is left.
fn end(up: &Meshed) {
    let line = format!("delete namespace {NAMESPACE} --timeout 120s");
    up.kubectl(&line).unwrap();
    up.until("the captures' end", || {
        for index in [1, 2] {
            let left = agents::captured(&up.cluster().node(index))?;
            ensure!(left.is_empty(), "{left:?}");
        }
        Ok(())
    })
    .unwrap();
}

/// Every Service has an address of the round's family and no other.
fn is_of_family(up: &Meshed, round: &Round) {
    let services = up
        .kubectl(&format!("-n {NAMESPACE} get services -o json"))
        .unwrap();
    let services: Value = serde_json::from_str(&services).unwrap();
    let with = services["items"].as_array().unwrap().iter();
    let with: Vec<_> = with
        .filter(|service| text(service, "/spec/clusterIP") != "None")
        .collect();
    assert!(!with.is_empty());
    for service in with {
        let address = text(service, "/spec/clusterIP");
        let is_v6 = address.contains(':');
        assert_eq!(is_v6, round.family == "IPv6", "{address}");
    }
}

fn run(up: &Meshed, round: &Round) {
    eprintln!("{round:?}");
    let mut witness = Witness::start(up).unwrap();
    demo::apply(up.cluster(), &manifests(round), round.labels).unwrap();
    is_of_family(up, round);
    let pods = up.pods(NAMESPACE, "app").unwrap();
    for pod in &pods {
        let app = text(pod, "/metadata/labels/app");
        let capture = pod["metadata"]["annotations"][CAPTURE].as_str();
        assert_eq!(capture, expected(round, app), "{app}");
        let containers = pod["spec"]["initContainers"].as_array();
        let containers = containers.into_iter().flatten();
        let names: Vec<_> = containers.map(|one| text(one, "/name")).collect();
        let there: &[&str] = match capture {
            Some("inboard") => &["maille-init", "maille-proxy"],
            Some("inboard-cni") => &["maille-proxy"],
            _ => &[],
        };
        assert_eq!(names, there, "{app}");
    }
    let nodes = pods.iter().map(|pod| text(pod, "/spec/nodeName"));
    assert_eq!(nodes.collect::<std::collections::BTreeSet<_>>().len(), 2);
    let meshed = |pod: &&Value| pod["metadata"]["annotations"][CAPTURE].is_string();
    let meshed: Vec<Value> = pods.iter().filter(meshed).cloned().collect();
    witness.expect(&meshed).unwrap();
    let summary = demo::summary(up.cluster()).unwrap();
    assert!(summary["requests"].as_u64().unwrap() >= 300, "{summary:#}");
    assert_eq!(summary["failed"], 0, "{summary:#}");
    witness.end().unwrap();
    end(up);
}

#[test]
fn the_example_speaks_tls_in_every_capture_and_with_all_mixed() {
    let program = Path::new(env!("CARGO_BIN_EXE_maille-cluster"));
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let up = agents::start(program, scratch, Begin::With).unwrap();
    let archive = up.path("demo.tar");
    demo::image(up.program("maille-demo").unwrap(), &archive).unwrap();
    up.cluster().load(&archive).unwrap();
    for round in &ROUNDS {
        run(&up, round);
    }
    // The opposite: nobody captures, and the witness is told the same.
    let outside = Round {
        labels: &["maille.io/inject=disabled"],
        ..ROUNDS[0]
    };
    let mut witness = Witness::start(&up).unwrap();
    demo::apply(up.cluster(), &manifests(&outside), outside.labels).unwrap();
    witness
        .expect(&up.pods(NAMESPACE, "app!=legacy").unwrap())
        .unwrap();
    demo::summary(up.cluster()).unwrap();
    let (report, is_content) = witness.report().unwrap();
    assert!(!is_content, "{report:#}");
    assert_ne!(report["bytes_plain_between_meshed"], 0, "{report:#}");
}
