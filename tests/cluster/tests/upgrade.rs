// SPDX-License-Identifier: Apache-2.0
//! Agents are replaced by those of another image while their proxies carry traffic, somebody changes a capture again and again, and
//! endpoints change a hundred times a second: no request is lost. `MAILLE_TEST_SECONDS=60` is full length, in which they are replaced five times.
//! The opposite: proxies that end when their agents do lose some.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::ensure;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use maille_cluster::agents::{self, Begin};
use maille_cluster::meshed::Meshed;
use maille_cluster::twins::{Load, Twin};
use maille_sys::netns::NetNs;
use serde_json::json;

/// Requests a second at full length, and else.
const RATE: [u64; 2] = [500, 200];
/// How often an endpoint changes.
const PACE: Duration = Duration::from_millis(10);
/// What is behind a service that nobody has pods for.
const CHURN: &str = "\
apiVersion: v1
kind: Service
metadata: {name: churn, namespace: meshed}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: churn, namespace: meshed, labels: {kubernetes.io/service-name: churn}}
addressType: IPv4
ports: [{name: http, port: 80}]
endpoints: [{addresses: [192.0.2.1]}]
";

/// Changes endpoints until `stop`, and says how often.
fn churn(up: &Meshed, stop: Arc<AtomicBool>) -> JoinHandle<u32> {
    let kubeconfig = up.cluster().pki().join("admin.conf");
    let network = NetNs::of_pid(up.cluster().control_plane().pid().unwrap()).unwrap();
    let changes = async move || {
        let file = Kubeconfig::read_from(&kubeconfig).unwrap();
        let options = KubeConfigOptions::default();
        let config = Config::from_custom_kubeconfig(file, &options)
            .await
            .unwrap();
        let client = Client::try_from(config).unwrap();
        let slices: Api<EndpointSlice> = Api::namespaced(client, "meshed");
        let (mut pace, mut count) = (tokio::time::interval(PACE), 0);
        while !stop.load(Ordering::Relaxed) {
            pace.tick().await;
            let address = format!("192.0.2.{}", count % 200 + 1);
            let change = json!({"endpoints": [{"addresses": [address]}]});
            let params = PatchParams::default();
            slices
                .patch("churn", &params, &Patch::Merge(&change))
                .await
                .unwrap();
            count += 1;
        }
        count
    };
    let run = move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(changes())
    };
    std::thread::spawn(move || network.run(run).unwrap())
}

/// The agents are replaced by those of another image while somebody changes a capture.
fn replaced(up: &Meshed, load: &Load) {
    let other = agents::begin_to_replace(up).unwrap();
    // It may be as it was before both were done.
    for _ in 0..2 {
        agents::inside(
            &up.cluster().node(1),
            "broken",
            "nft flush ruleset; ip rule del pref 1; true",
        )
        .unwrap();
        load.share(3).unwrap();
    }
    agents::are_there(up).unwrap();
    agents::are_of(up, &other).unwrap();
    up.until("a repair by the new one", || {
        agents::inside(
            &up.cluster().node(1),
            "broken",
            "nft list ruleset | grep -q tproxy && ip rule show pref 1 | grep -q fwmark",
        )
    })
    .unwrap();
}

/// The same if proxies ended with their agents, as children of theirs would.
fn with_their_agents(up: &Meshed) {
    up.kubectl("-n meshed delete pod load").unwrap();
    let loads = Load::start(up, &[(Twin::Meshed, RATE[1])], "node1").unwrap();
    loads[0].share(2).unwrap();
    let ends =
        "for f in /run/maille/node/sandboxes/*/proxy.pid; do kill -9 $(cut -d' ' -f1 $f); done";
    for index in [1, 2] {
        agents::shell(&up.cluster().node(index), ends).unwrap();
    }
    loads[0].share(2).unwrap();
    let [load] = <[Load; 1]>::try_from(loads).unwrap();
    let sum = load.finish().unwrap();
    eprintln!("proxies end with their agents: {}", sum.said);
    assert_ne!(sum.failed, 0, "{sum:?}");
}

#[test]
fn agents_of_another_image_lose_nothing_while_endpoints_change() {
    let program = Path::new(env!("CARGO_BIN_EXE_maille-cluster"));
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let seconds: u64 = std::env::var_os("MAILLE_TEST_SECONDS")
        .and_then(|text| text.to_str()?.parse().ok())
        .unwrap_or(12);
    let (rate, times) = if seconds >= 60 {
        (RATE[0], 5)
    } else {
        (RATE[1], 1)
    };
    let up = agents::start(program, scratch, Begin::With).unwrap();
    Twin::Meshed.start(&up, 2).unwrap();
    let loads = Load::start(&up, &[(Twin::Meshed, rate)], "node1").unwrap();
    let broken = agents::pod("broken", "meshed", "node1", &["serve", "0"]);
    up.cluster().apply(&broken.to_string()).unwrap();
    up.settled("meshed", "app=broken", 1).unwrap();
    up.cluster().apply(CHURN).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let changes = churn(&up, stop.clone());
    let quiet = seconds / 4;
    loads[0].share(quiet).unwrap();
    for _ in 0..times {
        replaced(&up, &loads[0]);
    }
    loads[0].share(quiet).unwrap();

    stop.store(true, Ordering::Relaxed);
    let changes = changes.join().unwrap();
    let [load] = <[Load; 1]>::try_from(loads).unwrap();
    let sum = load.finish().unwrap();
    eprintln!("{changes} changes of endpoints; {}", sum.said);
    assert_eq!(sum.failed, 0, "{sum:?}");
    let is_busy = || {
        ensure!(
            u64::from(changes) > 20 * seconds,
            "{changes} changes in more than {seconds} s"
        );
        anyhow::Ok(())
    };
    is_busy().unwrap();
    with_their_agents(&up);
}
