// SPDX-License-Identifier: Apache-2.0
//! Parts of a cluster go, and come back: the API server, a node and control with it, every node. What runs goes on, and nothing ever
//! runs uncaptured.
//!
//! `MAILLE_TEST_SECONDS=60` is full length: so long the API server stays away.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::Path;

use maille_cluster::meshed::{Meshed, text};
use maille_cluster::twins::{Load, Twin};
use maille_cluster::witness::Witness;
use serde_json::Value;

/// Requests a second of each load.
const RATE: u64 = 200;
const CONTROL: &str = "app.kubernetes.io/component=control";

/// How long a fault lasts.
fn seconds() -> u64 {
    let full = std::env::var_os("MAILLE_TEST_SECONDS");
    full.and_then(|text| text.to_str()?.parse().ok())
        .unwrap_or(8)
}

fn start() -> Meshed {
    let program = Path::new(env!("CARGO_BIN_EXE_maille-cluster"));
    Meshed::start(program, Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap()
}

/// The applications in the mesh and outside with two pods each, under load on the node that stays.
fn under_load(up: &Meshed) -> Vec<Load> {
    let (kept, _) = up.kept_and_other().unwrap();
    up.install().unwrap();
    Load::image(up).unwrap();
    let twins = [(Twin::Meshed, RATE), (Twin::Plain, RATE)];
    for (twin, _) in &twins {
        twin.start(up, 2).unwrap();
    }
    Load::start(up, &twins, &kept).unwrap()
}

fn share(loads: &[Load], seconds: u64) {
    for load in loads {
        load.share(seconds).unwrap();
    }
}

/// Nobody in the mesh lost anything.
fn nothing_was_lost(loads: Vec<Load>) {
    for load in loads {
        let twin = load.twin;
        let sum = load.finish().unwrap();
        eprintln!("{twin:?}: {}", sum.said);
        assert!(twin != Twin::Meshed || sum.failed == 0, "{sum:?}");
    }
}

#[test]
fn the_api_server_may_be_away() {
    let up = start();
    let loads = under_load(&up);
    share(&loads, 1);
    up.cluster().stop_api_server().unwrap();
    share(&loads, seconds());
    up.cluster().start_api_server().unwrap();
    // What came meanwhile to nobody's ears: nothing. What comes now reaches everybody.
    share(&loads, 1);
    up.kubectl("-n meshed rollout restart deployment/app")
        .unwrap();
    up.kubectl("-n meshed rollout status deployment/app --timeout 120s")
        .unwrap();
    Twin::Meshed.settled(&up, 2).unwrap();
    share(&loads, 1);
    let control = up.pods("maille-system", CONTROL).unwrap().remove(0);
    assert_eq!(
        control["status"]["containerStatuses"][0]["restartCount"], 0,
        "{control:#}"
    );
    nothing_was_lost(loads);
}

/// Whoever is meant for the mesh is in it: told of by the API server, and at the addresses of now.
fn all_meshed(up: &Meshed, witness: &mut Witness) {
    let pods = up.pods("meshed", "app").unwrap();
    for pod in &pods {
        assert!(
            !text(pod, "/metadata/annotations/maille.io~1injected").is_empty(),
            "{pod:#}"
        );
    }
    witness.expect(&pods).unwrap();
}

/// Every container on `nodes` of the application and of the mesh, by its id: another life is another id.
fn lives(up: &Meshed, nodes: &[&str]) -> anyhow::Result<BTreeSet<String>> {
    let mut pods = up.pods("meshed", "app")?;
    pods.extend(up.pods("maille-system", CONTROL)?);
    let there = pods
        .iter()
        .filter(|pod| nodes.contains(&text(pod, "/spec/nodeName")));
    let of = |pod: &Value| {
        let kinds =
            ["containerStatuses", "initContainerStatuses"].map(|kind| pod["status"][kind].clone());
        let all = kinds
            .into_iter()
            .filter_map(|kind| kind.as_array().cloned())
            .flatten();
        all.map(|status| text(&status, "/containerID").to_owned())
            .collect::<Vec<_>>()
    };
    Ok(there.flat_map(of).collect())
}

/// Pulls the plug of `nodes` and boots them; returns when everything that was on them runs again.
fn power_fails(up: &Meshed, nodes: &[&str]) {
    let before = lives(up, nodes).unwrap();
    let index = |name: &str| if name == "node1" { 1 } else { 2 };
    for node in nodes {
        up.cluster().node(index(node)).halt().unwrap();
    }
    for node in nodes {
        up.cluster().boot(index(node)).unwrap();
    }
    let anew = up.until("another life of every container", || {
        let now = lives(up, nodes)?;
        let old: Vec<_> = now.intersection(&before).collect();
        anyhow::ensure!(old.is_empty(), "of before: {old:?}");
        Ok(())
    });
    anew.unwrap();
    up.settled("maille-system", CONTROL, 1).unwrap();
    up.settled("meshed", "app", 5).unwrap();
}

/// A node loses its power and control with it, then both nodes do at once: pods come back with control, in whatever order, and
/// only in the mesh.
#[test]
fn nodes_may_lose_their_power_and_nothing_runs_uncaptured() {
    let up = start();
    let (kept, other) = up.kept_and_other().unwrap();
    up.kubectl(&format!("cordon {kept}")).unwrap();
    up.install().unwrap();
    up.kubectl(&format!("uncordon {kept}")).unwrap();
    Load::image(&up).unwrap();
    let mut witness = Witness::start(&up).unwrap();
    Twin::Meshed.start(&up, 4).unwrap();
    let load = Load::start(&up, &[(Twin::Meshed, RATE)], &kept)
        .unwrap()
        .remove(0);
    all_meshed(&up, &mut witness);
    load.share(2).unwrap();

    power_fails(&up, &[&other]);
    all_meshed(&up, &mut witness);
    let lost = load.failed().unwrap();
    load.share(3).unwrap();
    let after = load.failed().unwrap() - lost;
    eprintln!("a node's power: {lost} requests were lost with it, {after} afterwards");

    power_fails(&up, &[&kept, &other]);
    all_meshed(&up, &mut witness);
    load.under_way().unwrap();
    load.share(3).unwrap();
    let seen = witness.end().unwrap();
    eprintln!(
        "between the nodes: {} bytes of TLS, {} plain",
        seen["bytes_tls"], seen["bytes_plain"]
    );
}
