// SPDX-License-Identifier: Apache-2.0
//! A mesh on loopback: pods with addresses of their own out of 127.0.0.0/8, each with a data plane on a thread of its own, a real
//! certificate authority, and snapshots made by hand in the place of control.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use maille_chassis::drain::{Drain, Ended};
use maille_engine::snapshot::{Key, Known, Snapshot};
use maille_identity::{Authority, Credentials, PrivateKey};
use maille_model::{
    AddressOwner, ClusterRanges, Endpoint, Endpoints, Identity, Membership, Mesh, Own, Protocol,
    Service, ServiceId, ServicePort, Terms, TrustDomain, Workload, WorkloadUid,
};
use maille_proxy::forward::Settings;
use maille_proxy::listeners::{self, Links, Listener};
use maille_proxy::original_dst::OriginalDst;
use maille_proxy::tap::{Taps, Told};
use maille_proxy::telemetry::{Batch, EdgeKey, Increment};
use tokio::sync::{mpsc, watch};

static LABS: AtomicU8 = AtomicU8::new(0);

/// The port that services are dialled on.
pub(crate) const PORT: u16 = 80;

pub(crate) struct Lab {
    authority: Authority,
    net: [u8; 2],
    mesh: Mesh,
}

/// What a pod is.
#[derive(Clone)]
pub(crate) struct Pod {
    pub(crate) workload: Workload,
    pub(crate) ip: IpAddr,
}

/// A data plane at work.
pub(crate) struct Proxy {
    pub(crate) pod: Pod,
    pub(crate) outbound: SocketAddr,
    pub(crate) inbound: SocketAddr,
    snapshots: watch::Sender<Arc<Snapshot>>,
    credentials: watch::Sender<Option<Credentials>>,
    pub(crate) questions: mpsc::Receiver<Key>,
    counts: mpsc::Receiver<Batch>,
    taps: watch::Sender<Taps>,
    told: mpsc::Receiver<Told>,
    drain: Drain,
    thread: Option<JoinHandle<()>>,
}

impl Lab {
    pub(crate) fn new() -> Self {
        Self::with_authority(authority())
    }

    pub(crate) fn with_authority(authority: Authority) -> Self {
        // Two runs at the same time must not meet.
        let run = u8::try_from(std::process::id() % 250).unwrap() + 1;
        let net = [run, LABS.fetch_add(2, Ordering::SeqCst)];
        let mesh = Mesh {
            trust_domain: trust_domain(),
            trust_anchors: authority.trust_anchors(),
            cluster_ranges: ClusterRanges(vec![
                format!("127.{}.{}.0/23", net[0], net[1]).parse().unwrap(),
            ]),
        };
        Self {
            authority,
            net,
            mesh,
        }
    }

    pub(crate) fn address(&self, n: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(127, self.net[0], self.net[1], n))
    }

    /// The address of the service.
    pub(crate) fn service(&self) -> SocketAddr {
        SocketAddr::new(
            IpAddr::V4(Ipv4Addr::new(127, self.net[0], self.net[1] + 1, 1)),
            PORT,
        )
    }

    pub(crate) fn pod(&self, n: u8, membership: Membership) -> Pod {
        let ip = self.address(n);
        Pod {
            ip,
            workload: Workload {
                uid: WorkloadUid::new(&format!("uid-{n}")).unwrap(),
                namespace: "shop".parse().unwrap(),
                name: format!("pod-{n}").parse().unwrap(),
                service_account: format!("sa-{n}").parse().unwrap(),
                addresses: vec![ip],
                owner: None,
                membership,
                zone: None,
            },
        }
    }

    pub(crate) fn credentials(&self, pod: &Pod) -> Credentials {
        self.credentials_as(&pod.workload.identity(&self.mesh.trust_domain))
    }

    pub(crate) fn credentials_as(&self, identity: &Identity) -> Credentials {
        signed(&self.authority, identity, &self.authority.trust_anchors())
    }

    /// The mesh, as it is after a change of its anchors.
    pub(crate) fn believing(&self, anchors: &[Vec<u8>]) -> Mesh {
        Mesh {
            trust_anchors: anchors.to_vec(),
            ..self.mesh.clone()
        }
    }

    /// What `pod` knows of itself: its application speaks `protocol` on every port that is asked for.
    pub(crate) fn own(&self, pod: &Pod, port: u16, protocol: Protocol) -> Snapshot {
        let mut snapshot = Snapshot::new();
        snapshot.set_mesh(self.mesh.clone());
        snapshot.set_own(Own {
            workload: pod.workload.clone(),
            ports: vec![(port, protocol)],
            leaving: false,
        });
        snapshot
    }

    /// Adds the service with `backends` behind it.
    pub(crate) fn add_service(
        &self,
        snapshot: &mut Snapshot,
        protocol: Protocol,
        backends: &[(&Pod, u16)],
    ) {
        self.add_service_on(snapshot, protocol, Terms::DEFAULT, backends);
    }

    /// The same with terms of its own.
    pub(crate) fn add_service_on(
        &self,
        snapshot: &mut Snapshot,
        protocol: Protocol,
        terms: Terms,
        backends: &[(&Pod, u16)],
    ) {
        let id: ServiceId = "shop/web".parse().unwrap();
        snapshot.set_address(
            self.service().ip(),
            Known::Present(AddressOwner::Service(id.clone())),
        );
        snapshot.set_service(
            id.clone(),
            Known::Present(Service {
                id: id.clone(),
                addresses: vec![self.service().ip()],
                ports: vec![ServicePort {
                    port: PORT,
                    name: String::new(),
                    protocol,
                }],
                terms,
            }),
        );
        let endpoints = backends.iter().map(|(pod, port)| Endpoint {
            workload: pod.workload.clone(),
            ready: true,
            targets: vec![(PORT, *port)],
        });
        snapshot.set_endpoints(id, Known::Present(Endpoints(endpoints.collect())));
    }

    /// Starts a data plane for `pod`. Outbound connections mean to dial `to`, inbound ones `app`.
    pub(crate) fn start(
        &self,
        pod: &Pod,
        snapshot: Snapshot,
        to: SocketAddr,
        app: SocketAddr,
    ) -> Proxy {
        self.start_with(pod, snapshot, self.credentials(pod), (to, app))
    }

    pub(crate) fn start_with(
        &self,
        pod: &Pod,
        snapshot: Snapshot,
        credentials: Credentials,
        (to, app): (SocketAddr, SocketAddr),
    ) -> Proxy {
        self.start_many(pod, snapshot, credentials, (&[to], app)).0
    }

    /// The same with a door for each of several destinations: what is dialled there means to dial that.
    pub(crate) fn start_many(
        &self,
        pod: &Pod,
        snapshot: Snapshot,
        credentials: Credentials,
        (to, app): (&[SocketAddr], SocketAddr),
    ) -> (Proxy, Vec<SocketAddr>) {
        let listen = |port| {
            let socket = TcpListener::bind((pod.ip, port)).unwrap();
            socket.set_nonblocking(true).unwrap();
            socket
        };
        let outbound: Vec<_> = to.iter().map(|to| (listen(0), *to)).collect();
        let (inbound, mesh) = (listen(0), listen(15008));
        let (snapshots, learn) = watch::channel(Arc::new(snapshot));
        let (certify, certified) = watch::channel(Some(credentials));
        let (ask, questions) = mpsc::channel(64);
        let (count, counts) = mpsc::channel(1024);
        let (taps, tapped) = watch::channel(Taps::default());
        let (tell, told) = mpsc::channel(1024);
        let drain = Drain::new();
        let links = Links {
            snapshots: learn,
            questions: ask,
            credentials: certified,
            counts: count,
            taps: tapped,
            told: tell,
            drain: drain.watch(),
        };
        let dialled = outbound.iter().map(|(socket, _)| socket.local_addr());
        let dialled: Vec<_> = dialled.map(Result::unwrap).collect();
        let addresses = (dialled[0], inbound.local_addr().unwrap());
        let outbound = outbound.into_iter();
        let mut doors: Vec<_> = outbound
            .map(|(socket, to)| Listener::outbound(socket, OriginalDst::Fixed(to)))
            .collect();
        doors.push(Listener::inbound(inbound, OriginalDst::Fixed(app)));
        doors.push(Listener::mesh(mesh));
        let settings = Settings::default();
        let thread = std::thread::spawn(move || listeners::run(settings, doors, links).unwrap());
        let proxy = Proxy {
            pod: pod.clone(),
            outbound: addresses.0,
            inbound: addresses.1,
            snapshots,
            credentials: certify,
            questions,
            counts,
            taps,
            told,
            drain,
            thread: Some(thread),
        };
        (proxy, dialled)
    }
}

impl Proxy {
    pub(crate) fn learn(&self, snapshot: Snapshot) {
        self.snapshots.send_replace(Arc::new(snapshot));
    }

    /// From now on these watch.
    pub(crate) fn tap(&self, taps: &[maille_proxy::tap::Tap]) {
        let exchanges = taps.iter().cloned().map(Arc::new).collect();
        self.taps.send_modify(|taps| taps.exchanges = exchanges);
    }

    /// From now on somebody looks at what goes through mesh connections, or nobody does.
    pub(crate) fn look_inside(&self, inside: bool) {
        self.taps.send_modify(|taps| taps.inside = inside);
    }

    /// The next thing that a tap is told.
    pub(crate) fn told(&mut self) -> Told {
        self.told.blocking_recv().unwrap()
    }

    /// The same, if there is one.
    pub(crate) fn try_told(&mut self) -> Option<Told> {
        self.told.try_recv().ok()
    }

    pub(crate) fn renew(&self, credentials: Credentials) {
        self.credentials.send_replace(Some(credentials));
    }

    /// Drains, and gives everything that was counted.
    pub(crate) fn stop(mut self) -> Counted {
        assert_eq!(self.drain(Duration::from_secs(10)), Ended::Gracefully);
        self.counted()
    }

    /// Drains, and gives everything that was counted, as it came.
    pub(crate) fn batches(mut self, mut take: impl FnMut(&Batch)) {
        assert_eq!(self.drain(Duration::from_secs(10)), Ended::Gracefully);
        while let Ok(batch) = self.counts.try_recv() {
            take(&batch);
        }
    }

    pub(crate) fn drain(&mut self, deadline: Duration) -> Ended {
        let drain = &mut self.drain;
        let ended = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap()
            .block_on(drain.finish(deadline, std::future::pending()));
        self.thread.take().unwrap().join().unwrap();
        ended
    }

    pub(crate) fn counted(&mut self) -> Counted {
        let mut counted = Counted(Vec::new());
        while let Ok(batch) = self.counts.try_recv() {
            assert_eq!(batch.dropped, 0);
            for (key, increment) in batch.edges {
                counted.add(&key, &increment);
            }
        }
        counted
    }
}

/// Sums by edge.
pub(crate) struct Counted(pub Vec<(EdgeKey, Increment)>);

impl Counted {
    fn add(&mut self, key: &EdgeKey, more: &Increment) {
        match self.0.iter_mut().find(|(known, _)| known == key) {
            Some((_, sum)) => sum.merge(more),
            None => self.0.push((key.clone(), more.clone())),
        }
    }

    /// The only edge there is.
    pub(crate) fn only(&self) -> (&EdgeKey, &Increment) {
        assert_eq!(self.0.len(), 1, "{:?}", self.0);
        (&self.0[0].0, &self.0[0].1)
    }
}

pub(crate) fn trust_domain() -> TrustDomain {
    "cluster.local".parse().unwrap()
}

pub(crate) fn authority() -> Authority {
    Authority::create(&trust_domain(), SystemTime::now()).unwrap()
}

/// Credentials of `identity` by `authority`, whose owner believes `anchors`.
pub(crate) fn signed(
    authority: &Authority,
    identity: &Identity,
    anchors: &[Vec<u8>],
) -> Credentials {
    let key = PrivateKey::generate().unwrap();
    let hour = Duration::from_secs(3600);
    let signed = authority
        .sign(&key.csr(), identity, hour, SystemTime::now())
        .unwrap();
    Credentials::new(key, signed.chain, anchors).unwrap()
}
