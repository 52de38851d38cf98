// SPDX-License-Identifier: Apache-2.0
//! Control on a real API server: what it knows, whom it answers, what it keeps in the cluster, and what becomes of all that
//! when the API server or a replica goes.
//!
//! Control runs in the test's own process, on the network of the control plane's machine; pods are objects that no node runs.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "control/objects.rs"]
mod objects;
#[path = "control/proxy.rs"]
mod proxy;
#[path = "control/replica.rs"]
mod replica;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use maille_chassis::clock::Clock;
use maille_cluster::Cluster;
use maille_cluster::parts::Parts;
use maille_identity::Authority;
use maille_identity::tls::Connector;
use maille_model::{Membership, ServiceId, WorkloadUid};
use maille_sys::netns::NetNs;
use maille_wire::v1;
use tokio::net::{TcpSocket, TcpStream};
use tonic::Code;
use tonic::transport::Channel;

use objects::Objects;
use proxy::{Discovery, channel, control, sign, tries};
use replica::Replica;

const DEADLINE: Duration = Duration::from_secs(60);
/// Changes of an endpoint that are measured.
const CHANGES: u32 = 100;
/// The slowest of a hundred may take so long to reach a proxy.
const BUDGET: Duration = Duration::from_millis(500);

/// Reviews of pods that are measured, and how often one comes.
const PODS: usize = 200;
const PACE: Duration = Duration::from_millis(20);

/// A cluster that ends with the test, however it ends.
struct Up(Cluster);

impl Drop for Up {
    fn drop(&mut self) {
        if let Err(error) = self.0.down() {
            eprintln!("{error:#}");
        }
    }
}

#[test]
fn control_follows_a_cluster_answers_its_proxies_and_survives_its_api_server() {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let dir = tempfile::Builder::new()
        .prefix("k")
        .tempdir_in(target)
        .unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_maille-cluster"));
    let root = dir.path().join("maille-of-control");
    let up = Up(Cluster::at(&root, program, Parts::ready().unwrap()).unwrap());
    let cluster = &up.0;
    cluster.up(1).unwrap();
    cluster.apply(include_str!("control.yaml")).unwrap();
    let kubeconfig: PathBuf = cluster.pki().join("admin.conf");
    let network = NetNs::of_pid(cluster.control_plane().pid().unwrap()).unwrap();
    network
        .run(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(play(cluster, &kubeconfig));
        })
        .unwrap();
}

async fn play(cluster: &Cluster, kubeconfig: &Path) {
    let objects = Objects::new(kubeconfig).await;
    let first = Replica::start(kubeconfig, "control-1", 15_010).await;
    kept_in_the_cluster(&objects).await;
    objects.pod("web-1", "10.99.0.11").await;
    objects.pod("web-2", "10.99.0.12").await;
    let uid = objects.uid("web-1").await;
    first
        .until("web-1 is known", |hub| {
            let world = hub.world();
            let pod = world.index.pod(&WorkloadUid::new(&uid).unwrap());
            pod.is_some_and(|pod| pod.workload.membership == Membership::Meshed)
        })
        .await;
    let (mut discovery, proved) = proves_itself(&objects, &first).await;
    endpoints_follow(&objects, &mut discovery).await;
    let strangers = strangers(first.grpc).await;
    pods_are_injected(&objects).await;
    drop(strangers);
    beside(cluster, api_answers).await;
    the_authority_is_replaced(&objects, &first, &proved).await;
    nothing_is_lost(cluster, &objects, &first, &mut discovery).await;
    the_lease_passes(&objects, kubeconfig, first).await;
}

/// Does what blocks beside control, which runs on this thread.
async fn beside(cluster: &Cluster, work: impl FnOnce(&Cluster) + Send + 'static) {
    let cluster = cluster.clone();
    let done = tokio::task::spawn_blocking(move || work(&cluster));
    done.await.unwrap();
}

/// The authority, what pods trust, and who may call us.
async fn kept_in_the_cluster(objects: &Objects) {
    let secret = objects.secret("maille-system", "maille-ca").await;
    let anchors = secret["ca.crt"].clone();
    assert!(
        anchors.starts_with("-----BEGIN CERTIFICATE-----"),
        "{anchors}"
    );
    for namespace in ["maille-system", "shop"] {
        assert_eq!(objects.trust(namespace).await, anchors, "{namespace}");
    }
    assert!(!objects.has_trust("default").await);
    assert_eq!(objects.bundles().await, vec![anchors; 5]);
}

/// A token is good for its pod's certificate, and the certificate for everything else.
async fn proves_itself(objects: &Objects, control_1: &Replica) -> (Discovery, Channel) {
    let secret = objects.secret("maille-system", "maille-ca").await;
    let anchors: Vec<Vec<u8>> = pem::parse_many(&secret["ca.crt"])
        .unwrap()
        .into_iter()
        .map(pem::Pem::into_contents)
        .collect();
    let unproved = Connector::unproved(&anchors, &control()).unwrap();
    let unproved = channel(control_1.grpc, unproved).await;
    for (token, why) in [
        (None, "nothing"),
        (Some("nonsense".to_owned()), "nonsense"),
        (
            Some(objects.token("web-1", "elsewhere").await),
            "a token for others",
        ),
        (
            Some(objects.token("", "maille.io").await),
            "a token of no pod",
        ),
    ] {
        let refused = sign(&unproved, token.as_deref()).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated, "{why}: {refused}");
    }
    let Err(refused) = Discovery::open(&unproved).await else {
        panic!("discovery without a certificate");
    };
    assert_eq!(refused.code(), Code::Unauthenticated);
    let token = objects.token("web-1", "maille.io").await;
    let own = sign(&unproved, Some(&token)).await.unwrap();
    assert_eq!(
        own.identity().to_string(),
        "spiffe://cluster.local/ns/shop/sa/web"
    );
    let proved = channel(control_1.grpc, Connector::proved(&own, &control())).await;
    // Renewal needs no token.
    let renewed = sign(&proved, None).await.unwrap();
    assert_eq!(renewed.identity(), own.identity());
    let mut discovery = Discovery::open(&proved).await.unwrap();
    discovery.subscribe("Mesh", "mesh").await;
    let mesh: v1::Mesh = discovery.next().await.unwrap();
    assert!(
        mesh.cluster_ranges
            .iter()
            .any(|range| range == "10.96.0.0/16"),
        "{mesh:?}"
    );
    assert!(
        mesh.cluster_ranges
            .iter()
            .any(|range| range == "10.99.0.0/24"),
        "{mesh:?}"
    );
    // One that hears of endpoints and nothing else.
    (Discovery::open(&proved).await.unwrap(), proved)
}

/// How many endpoints are ready.
async fn ready(discovery: &mut Discovery) -> usize {
    let endpoints: v1::Endpoints = discovery.next().await.unwrap();
    let ready = endpoints.endpoints.iter();
    ready.filter(|endpoint| endpoint.ready).count()
}

/// A change of a pod reaches the proxies that asked, soon.
async fn endpoints_follow(objects: &Objects, discovery: &mut Discovery) {
    discovery.subscribe("Endpoints", "shop/web").await;
    let mut now = ready(discovery).await;
    while now < 2 {
        now = ready(discovery).await;
    }
    let (clock, mut took) = (Clock::start(), Vec::new());
    for change in 0..CHANGES {
        let is_ready = change % 2 == 1;
        // From before the call: the API server's own part counts.
        let begun = clock.elapsed();
        objects.set_ready("web-2", is_ready).await;
        assert_eq!(ready(discovery).await, 1 + usize::from(is_ready));
        took.push(clock.elapsed() - begun);
    }
    took.sort();
    let (half, slowest) = (took[took.len() / 2], took[took.len() * 99 / 100 - 1]);
    eprintln!(
        "change of an endpoint to a proxy: half within {half:?}, 99 of 100 within {slowest:?}"
    );
    assert!(slowest <= BUDGET, "{slowest:?}");
}

/// More connections than there are places for strangers, to where the API server asks, from addresses that are nobody's.
async fn strangers(grpc: SocketAddr) -> Vec<TcpStream> {
    let https = SocketAddr::new(grpc.ip(), grpc.port() + 1);
    let mut held = Vec::new();
    for last in 2..10 {
        for _ in 0..70 {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind(([127, 0, 0, last], 0).into()).unwrap();
            held.push(socket.connect(https).await.unwrap());
        }
    }
    held
}

/// A new pod that wants a proxy gets one, soon, whoever else is connected.
async fn pods_are_injected(objects: &Objects) {
    let pod = objects.tried("injected").await;
    let init = pod.spec.unwrap().init_containers.unwrap_or_default();
    let names: Vec<&str> = init
        .iter()
        .map(|container| container.name.as_str())
        .collect();
    assert_eq!(names, ["maille-init", "maille-proxy"]);
    let review = objects.webhook("10.77.0.1:15011").await;
    let (clock, mut took) = (Clock::start(), Vec::new());
    let mut pace = tokio::time::interval(PACE);
    for _ in 0..PODS {
        pace.tick().await;
        let begun = clock.elapsed();
        review.ask().await;
        took.push(clock.elapsed() - begun);
    }
    took.sort();
    let (half, slowest) = (took[took.len() / 2], took[took.len() * 99 / 100 - 1]);
    eprintln!("webhook at 50 pods a second: half within {half:?}, 99 of 100 within {slowest:?}");
}

/// Whoever replaces the Secret replaces the authority: first both are believed, then the old one no more. Nobody starts again.
async fn the_authority_is_replaced(objects: &Objects, control_1: &Replica, proved: &Channel) {
    let before = objects.secret("maille-system", "maille-ca").await;
    let domain = "cluster.local".parse().unwrap();
    let next = Authority::create(&domain, SystemTime::now())
        .unwrap()
        .kept();
    let mut discovery = Discovery::open(proved).await.unwrap();
    discovery.subscribe("Mesh", "mesh").await;
    let mesh: v1::Mesh = discovery.next().await.unwrap();
    assert_eq!(mesh.trust_anchors.len(), 1);
    let old = mesh.trust_anchors;
    let both = before["ca.crt"].clone() + &next.anchors;
    objects
        .replace_authority(&both, &next.issuers, &next.key)
        .await;
    let mesh: v1::Mesh = discovery.next().await.unwrap();
    assert_eq!(mesh.trust_anchors.len(), 2);
    // Renewed over the connection of before; good for a new one.
    let own = sign(proved, None).await.unwrap();
    objects.trusted("shop", &both).await;
    let again = channel(control_1.grpc, Connector::proved(&own, &control())).await;
    objects
        .replace_authority(&next.anchors, &next.issuers, &next.key)
        .await;
    let mesh: v1::Mesh = discovery.next().await.unwrap();
    assert!(mesh.trust_anchors.len() == 1 && mesh.trust_anchors != old);
    sign(&again, None).await.unwrap();
    objects.trusted("shop", &next.anchors).await;
    // Who believes the old one alone does not find control any more.
    let unproved = Connector::unproved(&old, &control()).unwrap();
    assert!(tries(control_1.grpc, unproved).await.is_err());
}

/// People ask through the API server, and see what they may.
fn api_answers(cluster: &Cluster) {
    let raw = |user: Option<&str>, path: &str| {
        let path = format!("/apis/api.maille.io/v1/{path}");
        let mut args = vec!["get", "--raw", &path];
        args.extend(user.into_iter().flat_map(|user| ["--as", user]));
        cluster.kubectl(&args).map_err(|error| format!("{error:#}"))
    };
    let available = [
        "wait",
        "apiservice/v1.api.maille.io",
        "--for",
        "condition=Available",
        "--timeout",
        "60s",
    ];
    cluster.kubectl(&available).unwrap();
    assert!(raw(None, "version").unwrap().contains("cluster.local"));
    assert!(raw(None, "pods").unwrap().contains("web-1"));
    let shop = raw(Some("ada"), "namespaces/shop/pods").unwrap();
    assert!(
        shop.contains("web-1") && !shop.contains("coredns"),
        "{shop}"
    );
    for path in ["pods", "namespaces/kube-system/pods", "version"] {
        let refused = raw(Some("ada"), path).unwrap_err();
        assert!(refused.contains("forbidden"), "{path}: {refused}");
    }
    // The path was allowed; what the query reaches beyond it is not.
    let beyond = "namespaces/shop/stat?resource=deploy&from=ns/kube-system";
    let refused = raw(Some("ada"), beyond).unwrap_err();
    assert!(refused.contains("kube-system"), "{refused}");
    let refused = raw(None, "nothing").unwrap_err();
    assert!(
        refused.contains("could not find") || refused.contains("NotFound"),
        "{refused}"
    );
}

/// While the API server is away nothing changes; afterwards what changed is told, and nothing else.
async fn nothing_is_lost(
    cluster: &Cluster,
    objects: &Objects,
    first: &Replica,
    discovery: &mut Discovery,
) {
    let known = first.hub.world().index.pods().count();
    beside(cluster, |cluster| cluster.stop_api_server().unwrap()).await;
    // It is away for as long as it takes to find that it is: a call fails.
    assert!(objects.is_away().await);
    let shop: ServiceId = "shop/web".parse().unwrap();
    assert_eq!(first.hub.world().index.endpoints(&shop).unwrap().0.len(), 2);
    beside(cluster, |cluster| cluster.start_api_server().unwrap()).await;
    objects.is_back().await;
    assert_eq!(first.hub.world().index.pods().count(), known);
    assert!(
        discovery.is_quiet(),
        "something was told that did not happen"
    );
    objects.set_ready("web-2", false).await;
    assert_eq!(ready(discovery).await, 1);
    objects.set_ready("web-2", true).await;
    assert_eq!(ready(discovery).await, 2);
}

/// A second replica answers at once, and writes once the first has gone.
async fn the_lease_passes(objects: &Objects, kubeconfig: &Path, first: Replica) {
    let second = Replica::start(kubeconfig, "control-2", 16_010).await;
    let shop: ServiceId = "shop/web".parse().unwrap();
    assert_eq!(
        second.hub.world().index.endpoints(&shop).unwrap().0.len(),
        2
    );
    assert_eq!(objects.holder().await.as_deref(), Some("control-1"));
    objects.drop_trust("shop").await;
    objects.trust("shop").await;
    first.stop().await;
    objects.held_by("control-2").await;
    objects.drop_trust("shop").await;
    objects.trust("shop").await;
    second.stop().await;
}
