// SPDX-License-Identifier: Apache-2.0
//! The process in a cluster: the source is the API server, proxies and the API server come over TLS, and what control keeps
//! for all of its replicas it keeps in the cluster ([`crate::cluster`]).
//!
//! Nothing is waited for: whoever comes too early is told so, and comes again.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use maille_chassis::clock::Clock;
use maille_chassis::drain::{Drain, Phase, Watch};
use maille_chassis::grpc;
use maille_chassis::tasks::Tasks;
use maille_identity::tls::Acceptor;
use maille_identity::{Credentials, Front};
use maille_inject::Nodes;
use maille_model::{ClusterRanges, Identity, Mesh};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};

use super::{Running, StartError, follow, prune, serve_grpc};
use crate::api::{self, Api};
use crate::cluster::leader::{self, Leading};
use crate::cluster::namespaces::{self, Namespaces};
use crate::cluster::own::{self, Own, Shelf};
use crate::cluster::review::Reviewer;
use crate::cluster::runtimes::{self, Runtimes};
use crate::cluster::{Cluster, authority, beside, bundle, events, front, trust};
use crate::gate::door::Door;
use crate::gate::inject::Injector;
use crate::gate::{self, Gate};
use crate::health::{self, Health};
use crate::hub::Hub;
use crate::keyring::{Keyring, KeyringWriter};
use crate::listen::{self, Place};
use crate::replicas::{self, Replicas};
use crate::serve::{self, Callers, Desk, door};
use crate::settings::{Kubernetes, Settings};
use crate::watch::Source;
use crate::watch::kube::KubeSource;

/// Streams of the one connection that a proxy has.
const STREAMS: u32 = 64;
/// Connections of kubelets and Prometheus.
const CONNECTIONS: usize = 512;
/// The service account of control, and the Service that leads to it.
const CONTROL: &str = "maille-control";
/// The service account of node agents, in control's namespace.
const AGENTS: &str = "maille-node";

/// Binds everything and serves in `tasks`, until `drain` begins.
pub async fn start(
    settings: &Settings,
    place: &Kubernetes,
    tasks: &Tasks,
    drain: &Drain,
) -> Result<Running, StartError> {
    let me = place.pod.clone().unwrap_or_else(host_name);
    let clock = Clock::start();
    let (writer, keyring) = Keyring::empty();
    let hub = Arc::new(Hub::new(mesh(settings), 1, clock));
    let cluster = Cluster::new(place, me.clone(), hub.restarts().clone()).await?;
    let proxies = bind(place.grpc).await?;
    let api_servers = bind(place.https).await?;
    let kubelets = bind(place.health).await?;
    let source = KubeSource::new(&cluster.client, hub.restarts(), &settings.cluster_ranges);
    let source = Source::Kube(Box::new(source));
    let (failure, failed) = oneshot::channel();
    let followed = follow(source, hub.clone(), failure, drain.watch());
    tasks.spawn("source", followed);
    tasks.spawn("statistics", prune(hub.clone(), clock, drain.watch()));
    Keeping { tasks, drain }.anchors(place, &keyring, clock);
    let own = own(settings, &cluster)?;
    let control = own.identity.clone();
    let kept = Keeping { tasks, drain }.start(&cluster, &hub, own, (writer, &keyring));
    let reviewer = Reviewer::new(cluster.client.clone());
    let (events, writing) = events::keep(cluster.client.clone());
    tasks.spawn("events", writing);
    let desk = Desk {
        hub: hub.clone(),
        keyring: keyring.clone(),
        leaf_lifetime: settings.leaf_lifetime,
        callers: callers(&reviewer, &control)?,
        events: Some(events),
    };
    let (connections, opened) = door::open(proxies, kept.acceptor, tasks.clone(), drain.watch());
    tasks.spawn("door", opened);
    let server = grpc::server().max_concurrent_streams(STREAMS);
    let router = serve::add(server, &desk, Some(control.clone()));
    tasks.spawn(
        "gRPC",
        serve_grpc(connections, router, hub.clone(), drain.watch()),
    );
    let us = replicas::Own {
        me,
        control: control.clone(),
        credentials: kept.credentials,
    };
    let api = Api {
        hub: hub.clone(),
        node: None,
        keyring: keyring.clone(),
        replicas: Keeping { tasks, drain }.replicas(us, &hub, clock),
    };
    let injector = Injector {
        hub: hub.clone(),
        namespaces: kept.namespaces,
        runtimes: kept.runtimes,
        image_prefix: place.image_prefix.clone(),
        nodes: place.capture.map_or(Nodes::Bare, Nodes::Agents),
        control,
    };
    let router = gate::router(Gate {
        api: api::router(api),
        reviewer,
        front: kept.front_proxy.clone(),
        injector,
    });
    let door = Door {
        hub: hub.clone(),
        front: kept.front,
        front_proxy: kept.front_proxy,
        router,
    };
    let gate = gate::door::serve(door, api_servers, tasks.clone(), drain.watch());
    tasks.spawn("gate", gate);
    let router = health::router(Health {
        hub: hub.clone(),
        keyring,
    });
    let health = serve_health(kubelets, router, tasks.clone(), drain.watch());
    tasks.spawn("health", health);
    Ok(Running { hub, failed })
}

/// What follows from what control keeps in the cluster.
struct Kept {
    acceptor: watch::Receiver<Option<Acceptor>>,
    credentials: watch::Receiver<Option<Credentials>>,
    front: watch::Receiver<Option<Front>>,
    front_proxy: watch::Receiver<Option<front::FrontProxy>>,
    namespaces: watch::Receiver<Namespaces>,
    runtimes: watch::Receiver<Runtimes>,
}

/// Everything that is kept, each in a task that ends with the process.
struct Keeping<'a> {
    tasks: &'a Tasks,
    drain: &'a Drain,
}

// === impl Keeping ===

impl Keeping<'_> {
    /// What the proxy in our own pod trusts.
    fn anchors(&self, place: &Kubernetes, keyring: &Keyring, clock: Clock) {
        if let Some(path) = place.anchors_file.clone() {
            self.spawn("anchors", beside::keep(path, keyring.clone(), clock));
        }
    }

    /// Follows the others.
    fn replicas(&self, us: replicas::Own, hub: &Arc<Hub>, clock: Clock) -> Replicas {
        let all = Replicas::default();
        self.spawn(
            "replicas",
            replicas::keep(us, hub.clone(), all.clone(), clock),
        );
        all
    }

    fn spawn<F>(&self, name: &'static str, keeper: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut drain = self.drain.watch();
        self.tasks.spawn(name, async move {
            tokio::select! {
                () = keeper => {}
                () = drain.reached(Phase::Graceful) => {}
            }
        });
    }

    fn start(
        &self,
        cluster: &Cluster,
        hub: &Arc<Hub>,
        own: Own,
        (writer, keyring): (KeyringWriter, &Keyring),
    ) -> Kept {
        let clock = Clock::start();
        let (leading, lead) = leader::lead(cluster, clock, self.drain.watch());
        self.tasks.spawn("lease", lead);
        self.spawn("lease told", told(leading.clone(), hub.clone()));
        let (told, namespaces) = watch::channel(Namespaces::default());
        let kept = namespaces::keep(cluster.clone(), told);
        self.spawn("namespaces", kept);
        let (told, runtimes) = watch::channel(Runtimes::default());
        self.spawn("runtimes", runtimes::keep(cluster.clone(), told));
        let (leads, domain) = (leading.clone(), own.identity.trust_domain.clone());
        let world = (hub.clone(), clock);
        let kept = authority::keep(cluster.clone(), world.clone(), domain, writer, leads);
        self.spawn("authority", kept);
        let (leads, keys) = (leading.clone(), keyring.clone());
        let kept = trust::keep(cluster.clone(), world, keys, namespaces.clone(), leads);
        self.spawn("trust", kept);
        let kept = bundle::keep(cluster.clone(), keyring.clone(), leading, clock);
        self.spawn("caBundle", kept);
        let (told, front_proxy) = watch::channel(None);
        self.spawn("front proxy", front::keep(cluster.clone(), told));
        let (acceptor, accepting) = watch::channel(None);
        let (front, fronting) = watch::channel(None);
        let (own_credentials, credentials) = watch::channel(None);
        let shelf = Shelf {
            acceptor,
            credentials: own_credentials,
            front,
        };
        let kept = own::keep(own, keyring.clone(), front_proxy.clone(), shelf, clock);
        self.spawn("own certificates", kept);
        Kept {
            acceptor: accepting,
            credentials,
            front: fronting,
            front_proxy,
            namespaces,
            runtimes,
        }
    }
}

/// Counts who writes.
async fn told(mut leading: Leading, hub: Arc<Hub>) {
    loop {
        leading.changed().await;
        let leads = leading.now();
        hub.count(|counted| {
            counted.leads = leads;
            counted.lease_changes += 1;
        });
    }
}

/// What is known of the mesh before anything is read.
fn mesh(settings: &Settings) -> Mesh {
    Mesh {
        trust_domain: settings.trust_domain.clone(),
        trust_anchors: Vec::new(),
        cluster_ranges: ClusterRanges(settings.cluster_ranges.clone()),
    }
}

/// Who control is.
fn own(settings: &Settings, cluster: &Cluster) -> Result<Own, StartError> {
    let namespace = &cluster.namespace;
    Ok(Own {
        identity: Identity {
            trust_domain: settings.trust_domain.clone(),
            namespace: namespace.parse().map_err(StartError::Namespace)?,
            service_account: CONTROL.parse().map_err(StartError::Namespace)?,
        },
        names: vec![format!("{CONTROL}.{namespace}.svc")],
        lifetime: settings.leaf_lifetime,
    })
}

/// Who may ask: who proves it to `reviewer` or by a certificate, node agents among them.
fn callers(reviewer: &Reviewer, control: &Identity) -> Result<Callers, StartError> {
    Ok(Callers::Proved {
        reviewer: reviewer.clone(),
        agents: Identity {
            service_account: AGENTS.parse().map_err(StartError::Namespace)?,
            ..control.clone()
        },
    })
}

async fn serve_health(listener: TcpListener, router: axum::Router, tasks: Tasks, drain: Watch) {
    let handle = move |stream: TcpStream, place: Place, drain: Watch| {
        let router = router.clone();
        async move {
            listen::talk(stream, router, listen::BRIEF, drain).await;
            drop(place);
        }
    };
    listen::serve(listener, CONNECTIONS, handle, tasks, drain).await;
}

async fn bind(address: SocketAddr) -> Result<TcpListener, StartError> {
    let bound = listen::bind(address).await;
    bound.map_err(|source| StartError::Address { address, source })
}

fn host_name() -> String {
    let name = nix::unistd::gethostname().ok();
    let name = name.and_then(|name| name.into_string().ok());
    name.unwrap_or_else(|| CONTROL.to_owned())
}
