// SPDX-License-Identifier: Apache-2.0
//! The binary as its supervisor sees it: when it is ready, what it answers, that it outlives control, how it stops.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use maille_chassis::drain::Drain;
use maille_chassis::tasks::Tasks;
use maille_identity::Authority;
use maille_model::{ClusterRanges, Identity, Membership, Mesh, Own, Workload, WorkloadUid};
use maille_wire::discovery::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use maille_wire::discovery::{self, DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use maille_wire::v1::certificates_server::{Certificates, CertificatesServer};
use maille_wire::v1::{SignRequest, SignResponse};
use maille_wire::{Kind, Resource};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::{Request, Response, Status, Streaming};

const PATIENCE: Duration = Duration::from_secs(20);

/// A control that knows one workload and nothing else.
#[derive(Clone)]
struct Control {
    authority: Arc<Authority>,
    tasks: Tasks,
}

fn identity() -> Identity {
    "spiffe://cluster.local/ns/shop/sa/web".parse().unwrap()
}

impl Control {
    fn resource(&self, kind: Kind) -> Option<Resource> {
        match kind {
            Kind::Mesh => Some(Resource::Mesh(Mesh {
                trust_domain: identity().trust_domain,
                trust_anchors: self.authority.trust_anchors(),
                cluster_ranges: ClusterRanges(vec!["10.0.0.0/8".parse().unwrap()]),
            })),
            Kind::Own => Some(Resource::Own(Own {
                workload: Workload {
                    uid: WorkloadUid::new("uid-1").unwrap(),
                    namespace: "shop".parse().unwrap(),
                    name: "web".parse().unwrap(),
                    service_account: "web".parse().unwrap(),
                    addresses: vec![[10, 244, 0, 1].into()],
                    owner: None,
                    membership: Membership::Meshed,
                    zone: None,
                },
                ports: Vec::new(),
                leaving: false,
            })),
            Kind::Address | Kind::Service | Kind::Endpoints => None,
        }
    }

    fn answer(&self, request: DeltaDiscoveryRequest) -> DeltaDiscoveryResponse {
        let kind = Kind::of_type_url(&request.type_url).unwrap();
        let mut answer = DeltaDiscoveryResponse {
            type_url: request.type_url,
            nonce: "1".to_owned(),
            ..DeltaDiscoveryResponse::default()
        };
        for name in request.resource_names_subscribe {
            match self.resource(kind) {
                Some(resource) => answer.resources.push(discovery::Resource {
                    version: "1".to_owned(),
                    name,
                    resource: Some(resource.to_any()),
                }),
                None => answer.removed_resources.push(name),
            }
        }
        answer
    }
}

#[tonic::async_trait]
impl AggregatedDiscoveryService for Control {
    type DeltaAggregatedResourcesStream = ReceiverStream<Result<DeltaDiscoveryResponse, Status>>;

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let mut requests = request.into_inner();
        let (send, answers) = mpsc::channel(16);
        let control = self.clone();
        self.tasks.spawn("stream", async move {
            while let Ok(Some(request)) = requests.message().await {
                if !request.resource_names_subscribe.is_empty() {
                    drop(send.send(Ok(control.answer(request))).await);
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(answers)))
    }
}

#[tonic::async_trait]
impl Certificates for Control {
    async fn sign(&self, request: Request<SignRequest>) -> Result<Response<SignResponse>, Status> {
        let csr = request.into_inner().csr;
        let hour = Duration::from_secs(3600);
        let signed = self
            .authority
            .sign(&csr, &identity(), hour, SystemTime::now())
            .unwrap();
        Ok(Response::new(SignResponse {
            chain: signed.chain,
            trust_anchors: self.authority.trust_anchors(),
            ..SignResponse::default()
        }))
    }
}

/// Ends the process with the test.
struct Proxy(Child);

impl Drop for Proxy {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Proxy {
    fn start(folder: &Path) -> Self {
        let settings: HashMap<_, _> = HashMap::from([
            ("MAILLE_WORKLOAD", "uid-1".to_owned()),
            (
                "MAILLE_AGENT",
                folder.join("control.sock").display().to_string(),
            ),
            (
                "MAILLE_ADMIN",
                folder.join("admin.sock").display().to_string(),
            ),
            ("MAILLE_MESH", "127.0.0.1:0".to_owned()),
            ("MAILLE_DRAIN_SECONDS", "1".to_owned()),
            (
                "NOTIFY_SOCKET",
                folder.join("notify.sock").display().to_string(),
            ),
        ]);
        let mut command = Command::new(env!("CARGO_BIN_EXE_maille-proxy"));
        Self(
            command
                .env_clear()
                .envs(settings)
                .stderr(Stdio::inherit())
                .spawn()
                .unwrap(),
        )
    }

    fn terminate(mut self) -> i32 {
        let pid = Pid::from_raw(i32::try_from(self.0.id()).unwrap());
        kill(pid, Signal::SIGTERM).unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        let id = self.0.id();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let status = self.0.wait().unwrap();
                tell.send(status.code().unwrap_or(-1)).unwrap();
            });
            told.recv_timeout(PATIENCE)
                .unwrap_or_else(|_| panic!("process {id} does not stop"))
        })
    }
}

fn ask(folder: &Path, path: &str) -> (u16, String) {
    let mut stream = UnixStream::connect(folder.join("admin.sock")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: proxy\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (
        head.split(' ').nth(1).unwrap().parse().unwrap(),
        body.to_owned(),
    )
}

#[test]
fn ready_when_it_knows_enough_and_gone_when_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let notify = UnixDatagram::bind(path.join("notify.sock")).unwrap();
    notify.set_read_timeout(Some(PATIENCE)).unwrap();
    let proxy = Proxy::start(path);

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let (tasks, mut drain) = (Tasks::new(), Drain::new());
    let authority = Authority::create(&identity().trust_domain, SystemTime::now()).unwrap();
    let control = Control {
        authority: Arc::new(authority),
        tasks: tasks.clone(),
    };
    runtime.block_on(async {
        let listener = maille_chassis::grpc::listen(&path.join("control.sock")).unwrap();
        let server = maille_chassis::grpc::server()
            .add_service(AggregatedDiscoveryServiceServer::new(control.clone()))
            .add_service(CertificatesServer::new(control));
        let mut watch = drain.watch();
        let stop = async move { watch.reached(maille_chassis::drain::Phase::Immediate).await };
        tasks.spawn("control", async move {
            let serve = server.serve_with_incoming(UnixListenerStream::new(listener));
            tokio::select! {
                served = serve => served.unwrap(),
                () = stop => {}
            }
        });
    });
    let mut word = [0; 64];
    let length = notify.recv(&mut word).unwrap();
    assert_eq!(&word[..length], b"READY=1");
    assert_eq!(ask(path, "/ready"), (200, "ready\n".to_owned()));
    let (status, decision) = ask(path, "/decide?dst=10.244.0.1:80&direction=inbound");
    assert!(
        status == 200 && decision.contains("\"hop\": \"local\""),
        "{decision}"
    );

    // Control goes away, and everything stays as it was.
    runtime.block_on(drain.finish(Duration::ZERO, std::future::pending()));
    drop(runtime);
    std::fs::remove_file(path.join("control.sock")).unwrap();
    assert_eq!(ask(path, "/ready").0, 200);
    let (_, metrics) = ask(path, "/metrics");
    assert!(
        metrics.contains("\nmaille_snapshot_complete 1\n"),
        "{metrics}"
    );
    assert_eq!(proxy.terminate(), 0);
}

#[test]
fn a_proxy_that_never_became_ready_stops_too() {
    let folder = tempfile::tempdir().unwrap();
    let notify = UnixDatagram::bind(folder.path().join("notify.sock")).unwrap();
    notify.set_nonblocking(true).unwrap();
    let proxy = Proxy::start(folder.path());
    // Handlers are installed before the admin socket is bound.
    let deadline = SystemTime::now() + PATIENCE;
    while UnixStream::connect(folder.path().join("admin.sock")).is_err() {
        assert!(SystemTime::now() < deadline, "no admin socket");
        std::thread::yield_now();
    }
    let (status, text) = ask(folder.path(), "/ready");
    assert_eq!((status, text.as_str()), (503, "no certificate yet\n"));
    assert!(
        notify.recv(&mut [0; 16]).is_err(),
        "nobody was told that it is ready"
    );
    assert_eq!(proxy.terminate(), 0);
}

#[test]
fn unusable_settings_are_named() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_maille-proxy"));
    let output = command
        .env_clear()
        .env("MAILLE_WORKLOAD", "a/b")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.starts_with("maille-proxy: MAILLE_WORKLOAD=\"a/b\" cannot be used"),
        "{said}"
    );
}
