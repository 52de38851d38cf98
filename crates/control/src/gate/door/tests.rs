// SPDX-License-Identifier: Apache-2.0
//! Strangers on loopback, each at an address of its own, and an API server among them.

use std::net::SocketAddr;
use std::time::SystemTime;

use axum::routing::get;
use maille_chassis::clock::Clock;
use maille_chassis::drain::Drain;
use maille_identity::Authority;
use maille_manifest::{Object, from_json};
use maille_model::{ClusterRanges, Mesh};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpSocket;

use super::*;
use crate::watch::Event;

const NAME: &str = "maille-control.maille-system.svc";
/// More than there is room for, and not few from one address.
const ADDRESSES: u8 = 5;
const OF_EACH: usize = 66;

const SERVICE: &str = r#"{"metadata":{"name":"kubernetes","namespace":"default"},
    "spec":{"clusterIPs":["10.96.0.1"],"ports":[{"name":"https","port":443,"targetPort":6443}]}}"#;
const SLICE: &str = r#"{"metadata":{"name":"kubernetes","namespace":"default","labels":{"kubernetes.io/service-name":"kubernetes"}},
    "addressType":"IPv4","ports":[{"name":"https","port":6443,"protocol":"TCP"}],
    "endpoints":[{"addresses":["127.0.0.1"],"conditions":{"ready":true}}]}"#;

fn hub() -> Arc<Hub> {
    let mesh = Mesh {
        trust_domain: "cluster.local".parse().unwrap(),
        trust_anchors: Vec::new(),
        cluster_ranges: ClusterRanges::default(),
    };
    let hub = Arc::new(Hub::new(mesh, 1, Clock::start()));
    let apply = |object| Event::Apply {
        origin: "test".into(),
        object: Box::new(object),
    };
    hub.apply(vec![
        apply(Object::Service(from_json(SERVICE.as_bytes()).unwrap())),
        apply(Object::EndpointSlice(from_json(SLICE.as_bytes()).unwrap())),
    ]);
    hub
}

async fn dial(from: [u8; 4], to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((from, 0).into()).unwrap();
    socket.connect(to).await.unwrap()
}

#[tokio::test]
async fn strangers_do_not_keep_the_api_server_out() {
    let authority = Authority::create(&"cluster.local".parse().unwrap(), SystemTime::now());
    let authority = authority.unwrap();
    let serving = authority.serving(
        &[NAME.to_owned()],
        Duration::from_secs(60),
        SystemTime::now(),
    );
    let front = Front::new(&serving.unwrap(), None).unwrap();
    let door = Door {
        hub: hub(),
        front: watch::channel(Some(front)).1,
        front_proxy: watch::channel(None).1,
        router: Router::new().route("/", get(async || "answered")),
    };
    let listener = listen::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let at = listener.local_addr().unwrap();
    let (tasks, drain) = (Tasks::new(), Drain::new());
    tasks.spawn("gate", serve(door, listener, tasks.clone(), drain.watch()));

    let mut strangers = Vec::new();
    for last in 2..2 + ADDRESSES {
        for _ in 0..OF_EACH {
            strangers.push(dial([127, 0, 0, last], at).await);
        }
    }
    // The last one is one too many of its address: it is closed, with nobody's deadline over.
    let last = strangers.last_mut().unwrap();
    let read = timeout(PATIENCE / 2, last.read_u8()).await.unwrap();
    assert!(read.is_err());

    let mut config = kube::Config::new(format!("https://{at}").parse().unwrap());
    config.root_cert = Some(authority.trust_anchors());
    config.tls_server_name = Some(NAME.to_owned());
    let api_server = kube::Client::try_from(config).unwrap();
    let ask = || http::Request::get("/").body(Vec::new()).unwrap();
    for _ in 0..3 {
        let told = timeout(PATIENCE, api_server.request_text(ask())).await;
        assert_eq!(told.unwrap().unwrap(), "answered");
    }
}
