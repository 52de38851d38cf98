// SPDX-License-Identifier: Apache-2.0
//! Ring 4: two replicas of control on loopback, each with TLS and gRPC as in a cluster. A proxy is connected to the second; the first
//! is asked.

#![expect(clippy::unwrap_used, reason = "a test says so by failing")]

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::body::Body;
use http_body_util::BodyExt as _;
use hyper_util::rt::TokioIo;
use maille_chassis::clock::Clock;
use maille_chassis::drain::Drain;
use maille_chassis::grpc;
use maille_chassis::tasks::Tasks;
use maille_control::api::{self, Api};
use maille_control::cluster::review::Reviewer;
use maille_control::hub::Hub;
use maille_control::keyring::Keyring;
use maille_control::replicas::{self, Own, Replicas};
use maille_control::serve::{self, Callers, Desk, Shown, door};
use maille_control::stat::{Counters, Direction, EdgeKey, Increment, Observation, Spoken, Who};
use maille_control::watch::Event;
use maille_identity::tls::{Acceptor, Connector};
use maille_identity::{Authority, Credentials, PrivateKey, Subject};
use maille_manifest::{Object, from_json};
use maille_model::{ClusterRanges, Identity, Mesh, WorkloadUid};
use maille_wire::v1;
use maille_wire::v1::replicas_client::ReplicasClient;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_stream::StreamExt as _;
use tonic::Code;
use tonic::transport::server::Connected;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::ServiceExt as _;

const DEADLINE: Duration = Duration::from_secs(20);
const HOUR: Duration = Duration::from_secs(3600);
/// The shortest life of a certificate.
const SHORT: Duration = Duration::from_secs(10);
const SERVICE: &str = r#"{"metadata":{"name":"maille-control","namespace":"maille-system"},
    "spec":{"clusterIPs":["10.96.0.7"],"selector":{"app":"control"},"ports":[{"name":"grpc","port":15010,"targetPort":"grpc"}]}}"#;
const WEB: &str = r#"{"metadata":{"name":"web-1","namespace":"shop","uid":"w-1","annotations":{"maille.io/injected":"1"},
    "ownerReferences":[{"kind":"Deployment","name":"web"}]},"spec":{"serviceAccountName":"web","containers":[]},
    "status":{"phase":"Running","podIPs":[{"ip":"10.244.0.9"}],"conditions":[{"type":"Ready","status":"True"}]}}"#;

fn control() -> Identity {
    "spiffe://cluster.local/ns/maille-system/sa/maille-control"
        .parse()
        .unwrap()
}

fn web() -> WorkloadUid {
    WorkloadUid::new("w-1").unwrap()
}

fn proved(authority: &Authority, identity: &Identity, uid: Option<&WorkloadUid>) -> Credentials {
    proved_for(authority, identity, uid, HOUR)
}

fn proved_for(
    authority: &Authority,
    identity: &Identity,
    uid: Option<&WorkloadUid>,
    life: Duration,
) -> Credentials {
    let key = PrivateKey::generate().unwrap();
    let subject = Subject { identity, uid };
    let signed = authority.sign(&key.csr(), subject, life, SystemTime::now());
    Credentials::new(key, signed.unwrap().chain, &authority.trust_anchors()).unwrap()
}

/// One replica, on an address of its own.
struct Replica {
    hub: Arc<Hub>,
    api: Router,
    at: SocketAddr,
    /// By what it proves itself to the others.
    own: watch::Sender<Option<Credentials>>,
    /// Ends its connections, as the end of its process does.
    cut: watch::Sender<bool>,
    tasks: Tasks,
    drain: Drain,
}

/// Callers of a cluster whose API server is nobody.
fn callers() -> Callers {
    let nobody = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
    let agents = "spiffe://cluster.local/ns/mesh/sa/maille-node";
    Callers::Proved {
        reviewer: Reviewer::new(kube::Client::try_from(nobody).unwrap()),
        agents: agents.parse().unwrap(),
    }
}

impl Replica {
    /// Serves on `listener` as the pod `name`, with what both know.
    async fn start(
        name: &str,
        listener: TcpListener,
        authority: &Arc<Authority>,
        objects: &[Object],
        life: Duration,
    ) -> Self {
        let at = listener.local_addr().unwrap();
        let mesh = Mesh {
            trust_domain: "cluster.local".parse().unwrap(),
            trust_anchors: authority.trust_anchors(),
            cluster_ranges: ClusterRanges::default(),
        };
        let clock = Clock::start();
        let hub = Arc::new(Hub::new(mesh, 1, clock));
        let apply = |object: &Object| Event::Apply {
            origin: "test".into(),
            object: Box::new(object.clone()),
        };
        let mut events: Vec<_> = objects.iter().map(apply).collect();
        events.push(Event::InitDone);
        hub.apply(events);
        let own = proved(authority, &control(), None);
        let (tasks, drain) = (Tasks::new(), Drain::new());
        let keyring = Keyring::fixed(Arc::clone(authority));
        let desk = Desk {
            hub: hub.clone(),
            keyring: keyring.clone(),
            leaf_lifetime: HOUR,
            callers: callers(),
            events: None,
        };
        let acceptor = watch::channel(Some(Acceptor::new(&own).unwrap())).1;
        let (connections, opened) = door::open(listener, acceptor, tasks.clone(), drain.watch());
        tasks.spawn("door", opened);
        let (cut, is_cut) = watch::channel(false);
        let connections = connections.map(move |one| {
            let mut is_cut = is_cut.clone();
            one.map(|connection| Cuttable {
                connection,
                cut: Box::pin(async move { drop(is_cut.wait_for(|cut| *cut).await) }),
            })
        });
        let router = serve::add(grpc::server(), &desk, Some(control()));
        let (stopping, mut stop) = (hub.clone(), drain.watch());
        tasks.spawn("gRPC", async move {
            let stopped = async {
                stop.reached(maille_chassis::drain::Phase::Graceful).await;
                stopping.drain();
            };
            let served = router.serve_with_incoming_shutdown(connections, stopped);
            served.await.unwrap();
        });
        let others = Replicas::default();
        let shown = proved_for(authority, &control(), None, life);
        let shown = watch::channel(Some(shown)).0;
        let us = Own {
            me: name.to_owned(),
            control: control(),
            credentials: shown.subscribe(),
        };
        let followed = replicas::keep(us, hub.clone(), others.clone(), clock);
        let mut stop = drain.watch();
        tasks.spawn("replicas", async move {
            tokio::select! {
                () = followed => {}
                () = stop.reached(maille_chassis::drain::Phase::Graceful) => {}
            }
        });
        let api = api::router(Api {
            hub: hub.clone(),
            node: None,
            keyring,
            replicas: others,
        });
        Self {
            hub,
            api,
            at,
            own: shown,
            cut,
            tasks,
            drain,
        }
    }

    async fn get(&self, path: &str) -> Value {
        let request = http::Request::get(path).body(Body::empty()).unwrap();
        let answer = self.api.clone().oneshot(request).await.unwrap();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        serde_json::from_slice(&body).unwrap()
    }

    /// Waits until it knows that the proxy of web can be asked, or cannot.
    async fn until_there(&self, is_there: bool) {
        let mut lines = self.hub.questions().lines();
        let known = async {
            while self.hub.questions().is_there(&web()) != is_there {
                lines.changed().await.unwrap();
            }
        };
        timeout(DEADLINE, known).await.unwrap();
    }

    async fn stop(mut self) {
        self.cut.send_replace(true);
        self.drain.finish(DEADLINE, std::future::pending()).await;
        self.tasks.joined().await;
    }
}

/// A connection that can be cut.
struct Cuttable {
    connection: door::Connection,
    cut: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Connected for Cuttable {
    type ConnectInfo = Shown;

    fn connect_info(&self) -> Shown {
        self.connection.connect_info()
    }
}

impl AsyncRead for Cuttable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.cut.as_mut().poll(context).is_ready() {
            // It is asked no more after an error.
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Pin::new(&mut self.connection).poll_read(context, into)
    }
}

impl AsyncWrite for Cuttable {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write(context, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_shutdown(context)
    }
}

/// Both, which find each other by what exists.
async fn both() -> (Replica, Replica, Arc<Authority>) {
    both_for(HOUR).await
}

/// The same; by what they prove themselves to each other lives for `life`.
async fn both_for(life: Duration) -> (Replica, Replica, Arc<Authority>) {
    let authority = Authority::create(&"cluster.local".parse().unwrap(), SystemTime::now());
    let authority = Arc::new(authority.unwrap());
    let mut listeners = Vec::new();
    let mut objects = vec![
        Object::Service(from_json(SERVICE.as_bytes()).unwrap()),
        Object::Pod(from_json(WEB.as_bytes()).unwrap()),
    ];
    for number in 1..=2 {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let pod = format!(
            r#"{{"metadata":{{"name":"control-{number}","namespace":"maille-system","uid":"c-{number}","labels":{{"app":"control"}}}},
            "spec":{{"containers":[{{"name":"c","ports":[{{"name":"grpc","containerPort":{port}}}]}}]}},
            "status":{{"phase":"Running","podIPs":[{{"ip":"127.0.0.1"}}]}}}}"#
        );
        objects.push(Object::Pod(from_json(pod.as_bytes()).unwrap()));
        listeners.push(listener);
    }
    let mut listeners = listeners.into_iter();
    let mut start = async |name| {
        let listener = listeners.next().unwrap();
        Replica::start(name, listener, &authority, &objects, life).await
    };
    let (first, second) = (start("control-1").await, start("control-2").await);
    (first, second, authority)
}

fn counted(requests: u64) -> Observation {
    Observation {
        key: EdgeKey {
            direction: Direction::Inbound,
            peer: None,
            pod: None,
            service: None,
            port: 80,
            spoken: Spoken::Http,
            protected: true,
        },
        increment: Increment {
            counters: Counters {
                requests,
                ..Counters::default()
            },
            latency: vec![(1, 1)],
        },
        flags: Vec::new(),
    }
}

fn report(hub: &Hub, requests: u64) {
    let who = Arc::new(Who::of(hub.world().index.pod(&web()).unwrap()));
    let second = hub.second();
    hub.stats()
        .report(&web(), &who, second, vec![counted(requests)], 0);
}

#[tokio::test]
async fn whoever_is_asked_answers_for_all() {
    let (first, second, authority) = both().await;
    let mut line = second.hub.questions().hang(&web());
    second.hub.note(&web(), |proxy| {
        proxy.reports = 1;
        proxy.discovery = 1;
    });
    first.until_there(true).await;

    // The proxy reported to one, and later to the other.
    report(&second.hub, 5);
    report(&first.hub, 2);
    let stat = first.get("/v1/stat?resource=deploy/web").await;
    assert_eq!(stat["rows"][0]["window"]["requests"], 7, "{stat:#}");
    assert_eq!(stat["missing"], serde_json::json!([]), "{stat:#}");
    let pods = first.get("/v1/pods?namespace=shop").await;
    assert_eq!(pods["pods"][0]["reporting"], true, "{pods:#}");

    // It answers by way of the replica that it is connected to.
    let own = proved(
        &authority,
        &"spiffe://cluster.local/ns/shop/sa/web".parse().unwrap(),
        Some(&web()),
    );
    let chain = own.chain();
    let answers = async {
        loop {
            let question = line.next().await.unwrap();
            if let Some(v1::question::What::Certificate(_)) = question.what {
                let certificate = v1::CertificateAnswer {
                    chain: chain.clone(),
                    ..v1::CertificateAnswer::default()
                };
                line.answer(v1::Answer {
                    id: question.id,
                    what: Some(v1::answer::What::Certificate(certificate)),
                });
            }
        }
    };
    let asked = async {
        let told = first.get("/v1/identity?resource=po/web-1").await;
        assert_eq!(
            told["pods"][0]["identity"], "spiffe://cluster.local/ns/shop/sa/web",
            "{told:#}"
        );
        let told = first.get("/v1/check").await;
        let told = told["checks"].to_string();
        assert!(told.contains("1 of 1 do"), "{told}");
    };
    tokio::select! {
        () = answers => {}
        () = asked => {}
    }
    taps_by_way_of_it(&first, &mut line).await;
    drop(line);
    first.until_there(false).await;
    first.stop().await;
    second.stop().await;
}

/// Exchanges pass both replicas, until the reader goes away.
async fn taps_by_way_of_it(first: &Replica, line: &mut maille_control::ask::Hanging) {
    let request = http::Request::get("/v1/tap?resource=deploy/web&namespace=shop");
    let request = request.body(Body::empty()).unwrap();
    let answer = first.api.clone().oneshot(request).await.unwrap();
    assert_eq!(answer.status(), 200);
    let mut lines = answer.into_body();
    // What was asked before is taken back first.
    let id = loop {
        let question = timeout(DEADLINE, line.next()).await.unwrap().unwrap();
        if let Some(v1::question::What::Tap(_)) = question.what {
            break question.id;
        }
    };
    let event = v1::TapEvent {
        exchange: 1,
        moment: v1::Moment::Begin.into(),
        path: b"/items".to_vec(),
        ..v1::TapEvent::default()
    };
    let events = v1::TapEvents {
        events: vec![event],
        ..v1::TapEvents::default()
    };
    line.answer(v1::Answer {
        id,
        what: Some(v1::answer::What::Events(events)),
    });
    let frame = timeout(DEADLINE, lines.frame()).await.unwrap().unwrap();
    let text = String::from_utf8(frame.unwrap().into_data().unwrap().to_vec()).unwrap();
    assert!(text.contains("/items"), "{text}");
    drop(lines);
    let cancelled = timeout(DEADLINE, line.next()).await.unwrap().unwrap();
    assert!(
        matches!(cancelled.what, Some(v1::question::What::Cancel(_))),
        "{cancelled:?}"
    );
}

#[tokio::test]
async fn a_lost_replica_is_named_and_takes_no_more_than_its_own() {
    let (first, second, _) = both().await;
    let _line = second.hub.questions().hang(&web());
    first.until_there(true).await;
    report(&first.hub, 2);
    report(&second.hub, 5);
    second.stop().await;
    first.until_there(false).await;
    let stat = first.get("/v1/stat?resource=deploy/web").await;
    assert_eq!(
        stat["missing"],
        serde_json::json!(["control-2"]),
        "{stat:#}"
    );
    assert_eq!(stat["rows"][0]["window"]["requests"], 2, "{stat:#}");
    let told = first.get("/v1/check").await;
    let checks = told["checks"].as_array().unwrap();
    let replicas = checks
        .iter()
        .find(|check| check["name"] == "every replica answers the others");
    assert_eq!(replicas.unwrap()["ok"], false, "{told:#}");
    first.stop().await;
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_before_the_old_one_is_over() {
    let (first, second, authority) = both_for(SHORT).await;
    let clock = Clock::start();
    let _line = second.hub.questions().hang(&web());
    first.until_there(true).await;
    for replica in [&first, &second] {
        let renewed = proved(&authority, &control(), None);
        replica.own.send_replace(Some(renewed));
    }
    // Nothing says that a certificate is over but the time.
    clock.wait(SHORT).await;
    first.until_there(true).await;
    report(&second.hub, 5);
    let stat = first.get("/v1/stat?resource=deploy/web").await;
    assert_eq!(stat["missing"], serde_json::json!([]), "{stat:#}");
    assert_eq!(stat["rows"][0]["window"]["requests"], 5, "{stat:#}");
    first.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn nobody_but_a_replica_is_told_anything() {
    let (first, second, authority) = both().await;
    let shop = "spiffe://cluster.local/ns/shop/sa/web".parse().unwrap();
    let beside = WorkloadUid::new("c-1").unwrap();
    for own in [
        proved(&authority, &shop, Some(&web())),
        proved(&authority, &shop, None),
        // The proxy in control's own pod has control's identity, and is not control.
        proved(&authority, &control(), Some(&beside)),
    ] {
        let channel = channel(first.at, Connector::proved(&own, &control())).await;
        let mut client = ReplicasClient::new(channel);
        let asked = client.statistics(v1::StatisticsRequest::default());
        let refused = timeout(DEADLINE, asked).await.unwrap().unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    }
    first.stop().await;
    second.stop().await;
}

async fn channel(address: SocketAddr, connector: Connector) -> Channel {
    let connect = tower::service_fn(move |_: Uri| {
        let connector = connector.clone();
        async move {
            let stream = TcpStream::connect(address).await?;
            let stream = connector.connect(stream).await;
            stream.map(TokioIo::new).map_err(io::Error::other)
        }
    });
    let endpoint = Endpoint::from_static("http://control");
    endpoint.connect_with_connector(connect).await.unwrap()
}
