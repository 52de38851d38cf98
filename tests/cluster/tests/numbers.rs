// SPDX-License-Identifier: Apache-2.0
//! What control needs and how quick it is, in its own pod with its release image: with 100 services and 500 endpoints, and with 2,000
//! and 20,000. Services and pods are objects of the real API server that no node runs.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "numbers/many.rs"]
mod many;
#[path = "control/objects.rs"]
#[expect(dead_code, reason = "control.rs asks for more")]
mod objects;
#[path = "control/proxy.rs"]
#[expect(dead_code, reason = "control.rs asks for more")]
mod proxy;

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use maille_chassis::clock::Clock;
use maille_cluster::meshed::{Meshed, text};
use maille_cluster::processes::Process;
use maille_identity::tls::Connector;
use maille_sys::netns::NetNs;
use maille_wire::v1;
use nix::sys::signal::Signal;
use serde_json::Value;

use many::Many;
use objects::Objects;
use proxy::{Discovery, channel, sign};

const DEADLINE: Duration = Duration::from_secs(120);
const CONTROL: &str = "app.kubernetes.io/component=control";
const HALF: usize = 50;
const NEARLY_ALL: usize = 99;
/// Changes of an endpoint that are measured, and how soon 99 of 100 must be at a proxy.
const CHANGES: u32 = 200;
const SOON: Duration = Duration::from_millis(500);
/// Reviews of pods that are measured, how often one comes, and how soon 99 of 100 must be answered.
const PODS: usize = 500;
const PACE: Duration = Duration::from_millis(20);
const AT_ONCE: Duration = Duration::from_millis(20);

const SHOP: &str = "\
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {maille.io/inject: enabled}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: web, namespace: shop}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: 8080}]
";

/// Services, pods behind each, and what control may need with them.
struct Size {
    services: usize,
    pods: usize,
    most: u64,
}

const SMALL: Size = Size {
    services: 100,
    pods: 5,
    most: 60_000_000,
};

const LARGE: Size = Size {
    services: 2_000,
    pods: 10,
    most: 300_000_000,
};

fn start() -> Meshed {
    let program = Path::new(env!("CARGO_BIN_EXE_maille-cluster"));
    let up = Meshed::start(program, Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap();
    up.install().unwrap();
    up
}

/// Runs `work` where the API server is.
fn there<T: Send>(up: &Meshed, work: impl AsyncFnOnce() -> T + Send) -> T {
    let control_plane = up.cluster().control_plane().pid().unwrap();
    let network = NetNs::of_pid(control_plane).unwrap();
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(work())
    };
    network.run(run).unwrap()
}

/// Control's only pod.
fn pod(up: &Meshed) -> Value {
    up.settled("maille-system", CONTROL, 1).unwrap();
    up.pods("maille-system", CONTROL).unwrap().remove(0)
}

/// Waits until control has read so much at least.
fn reads(up: &Meshed, size: &Size) {
    let wanted = (size.services * size.pods, size.services);
    up.until("control has read everything", || {
        let all = up.kubectl("get --raw /apis/api.maille.io/v1/check")?;
        let all: Value = serde_json::from_str(&all)?;
        let checks = all["checks"].as_array().context("checks")?;
        let read = checks
            .iter()
            .find(|check| check["name"] == "sources are read");
        let read = text(read.context("what is read")?, "/message");
        let mut numbers = read.split(' ').filter_map(|word| word.parse().ok());
        let (pods, services): (usize, usize) = (
            numbers.next().context("pods")?,
            numbers.next().context("services")?,
        );
        ensure!(pods >= wanted.0 && services >= wanted.1, "{read}");
        Ok(())
    })
    .unwrap();
}

/// Control as it runs now.
fn control(up: &Meshed) -> Process {
    let uid = text(&pod(up), "/metadata/uid").to_owned();
    let running = || Process::of_pod(&uid, "maille-control");
    up.until("control runs", running).unwrap()
}

/// What control has in memory.
fn resident(up: &Meshed) -> u64 {
    control(up).resident().unwrap()
}

/// Makes services and pods of this size; says what control needs then, and what one needs that begins with all of it.
fn grow(up: &Meshed, size: &Size) {
    let kubeconfig = up.cluster().pki().join("admin.conf");
    there(up, async || {
        let many = Many::new(&kubeconfig).await;
        many.make(size.services, size.pods).await;
    });
    reads(up, size);
    let grown = resident(up);
    let killed = control(up).signal(Signal::SIGKILL);
    killed.unwrap();
    reads(up, size);
    let anew = resident(up);
    eprintln!(
        "control with {} services and {} endpoints: {} MB grown, {} MB started with them",
        size.services,
        size.services * size.pods,
        grown / 1_000_000,
        anew / 1_000_000
    );
    assert!(grown <= size.most && anew <= size.most);
}

/// Half of them within, and 99 of 100.
fn told(what: &str, mut took: Vec<Duration>) -> Duration {
    took.sort();
    let within = |percent: usize| took[(took.len() * percent).div_ceil(100) - 1];
    let (half, nearly_all) = (within(HALF), within(NEARLY_ALL));
    eprintln!("{what}: half within {half:?}, 99 of 100 within {nearly_all:?}");
    nearly_all
}

/// How long reviews take, 50 a second.
async fn reviews(objects: &Objects, address: IpAddr) -> Vec<Duration> {
    let webhook = objects
        .webhook(&SocketAddr::new(address, 8443).to_string())
        .await;
    let (clock, mut took) = (Clock::start(), Vec::new());
    let mut pace = tokio::time::interval(PACE);
    for _ in 0..PODS {
        pace.tick().await;
        let begun = clock.elapsed();
        webhook.ask().await;
        took.push(clock.elapsed() - begun);
    }
    took
}

/// How long it takes from the call that changes a pod to the word of it at a proxy.
async fn changes(objects: &Objects, address: IpAddr) -> Vec<Duration> {
    objects.pod("web-1", "10.99.0.11").await;
    let secret = objects.secret("maille-system", "maille-ca").await;
    let anchors = pem::parse_many(&secret["ca.crt"]).unwrap().into_iter();
    let anchors: Vec<_> = anchors.map(pem::Pem::into_contents).collect();
    let address = SocketAddr::new(address, 15_010);
    let unproved = Connector::unproved(&anchors, &proxy::control()).unwrap();
    let unproved = channel(address, unproved).await;
    let token = objects.token("web-1", "maille.io").await;
    let own = sign(&unproved, Some(&token)).await.unwrap();
    let proved = channel(address, Connector::proved(&own, &proxy::control())).await;
    let mut discovery = Discovery::open(&proved).await.unwrap();
    discovery.subscribe("Endpoints", "shop/web").await;
    let mut ready = async || {
        let all: v1::Endpoints = discovery.next().await.unwrap();
        all.endpoints.iter().filter(|one| one.ready).count()
    };
    while ready().await != 1 {}
    let (clock, mut took) = (Clock::start(), Vec::new());
    for change in 0..CHANGES {
        let is_ready = change % 2 == 1;
        let begun = clock.elapsed();
        objects.set_ready("web-1", is_ready).await;
        assert_eq!(ready().await, usize::from(is_ready));
        took.push(clock.elapsed() - begun);
    }
    took
}

#[test]
fn control_is_small_and_quick_with_500_endpoints() {
    let up = start();
    up.cluster().apply(SHOP).unwrap();
    grow(&up, &SMALL);
    let kubeconfig = up.cluster().pki().join("admin.conf");
    let address: IpAddr = text(&pod(&up), "/status/podIP").parse().unwrap();
    let (reviews, changes) = there(&up, async || {
        let objects = Objects::new(&kubeconfig).await;
        let reviews = reviews(&objects, address).await;
        (reviews, changes(&objects, address).await)
    });
    let review = told("webhook at 50 pods a second", reviews);
    let change = told("change of an endpoint to a proxy", changes);
    assert!(review <= AT_ONCE && change <= SOON);
}

#[test]
fn control_is_small_with_20_000_endpoints() {
    let up = start();
    up.cluster().apply(SHOP).unwrap();
    // Controllers that make slices of 20,000 pods would be what is measured.
    up.cluster().stop_controllers().unwrap();
    grow(&up, &LARGE);
}
