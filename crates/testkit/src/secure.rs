// SPDX-License-Identifier: Apache-2.0
//! A real control behind TLS, as pods in the inboard mode reach it: its services, its authority, its objects from a directory.
//! Only who reviews tokens is of the test: the token of the pod `UID` is `pod-UID`.
//!
//! Must never take a caller's word but for that token. Read `maille_identity::tls` first.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use ipnet::IpNet;
use maille_chassis::drain::{Drain, Phase};
use maille_chassis::grpc;
use maille_chassis::tasks::Tasks;
use maille_control::keyring::Keyring;
use maille_control::run::start;
use maille_control::serve::{Callers, Desk, WORKLOAD, ads, certificates, questions, telemetry};
use maille_control::settings::{Settings, Source};
use maille_identity::tls::{Acceptor, Peer, Stream};
use maille_identity::{Authority, Credentials, PrivateKey, describe};
use maille_model::Identity;
use maille_wire::discovery::aggregated_discovery_service_server::AggregatedDiscoveryServiceServer;
use maille_wire::v1::certificates_server::CertificatesServer;
use maille_wire::v1::questions_server::QuestionsServer;
use maille_wire::v1::telemetry_server::TelemetryServer;
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataMap;
use tonic::service::Interceptor;
use tonic::transport::server::Connected;
use tonic::{Request, Status};

/// What control proves to be.
pub const IDENTITY: &str = "spiffe://cluster.local/ns/maille-system/sa/maille-control";
/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// A running control; it ends when it is dropped.
#[derive(Debug)]
pub struct Control {
    state: TempDir,
    address: SocketAddr,
    authority: Arc<Authority>,
    reviewed: Arc<AtomicUsize>,
    runtime: Option<Runtime>,
    leaf: Duration,
    ranges: Vec<IpNet>,
}

/// A pod that control is to know.
#[derive(Debug, Clone)]
pub struct Pod {
    /// Its uid and its name.
    pub uid: String,
    /// Its namespace.
    pub namespace: String,
    /// Its addresses, the primary one first.
    pub addresses: Vec<IpAddr>,
    /// The ports of its application.
    pub ports: Vec<u16>,
    /// Whether it has a proxy.
    pub meshed: bool,
}

// === impl Control ===

impl Control {
    /// Control at `address`, with certificates that live for `leaf`; addresses of `ranges` are the cluster's. Its threads are in
    /// the network of the caller.
    ///
    /// # Errors
    ///
    /// A file or socket.
    pub fn start(address: SocketAddr, leaf: Duration, ranges: &[IpNet]) -> anyhow::Result<Self> {
        let state = tempfile::Builder::new().prefix("m").tempdir_in("/tmp")?;
        for folder in ["manifests", "pods"] {
            fs::create_dir(state.path().join(folder))?;
        }
        let identity: Identity = IDENTITY.parse()?;
        // The same file is read by control in a moment.
        let ca = state.path().join("ca");
        let authority = Authority::open(&ca, &identity.trust_domain, SystemTime::now())?;
        let mut control = Self {
            state,
            address,
            authority: Arc::new(authority),
            reviewed: Arc::default(),
            runtime: None,
            leaf,
            ranges: ranges.to_vec(),
        };
        control.begin()?;
        Ok(control)
    }

    /// Begins to serve, again after [`Control::stop`].
    ///
    /// # Errors
    ///
    /// A socket.
    pub fn begin(&mut self) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let settings = Settings {
            source: Source::State(self.state.path().to_owned()),
            trust_domain: self.authority.trust_domain().clone(),
            leaf_lifetime: self.leaf,
            cluster_ranges: self.ranges.clone(),
        };
        let (tasks, drain) = (Tasks::new(), Drain::new());
        let inside = runtime.enter();
        let hub = start(&settings, self.state.path(), &tasks, &drain)?.hub;
        let review = Review(Arc::clone(&self.reviewed));
        let desk = Desk {
            hub,
            keyring: Keyring::fixed(self.authority.clone()),
            leaf_lifetime: self.leaf,
            callers: Callers::Attested,
            events: None,
        };
        let signer = certificates::Signer::new(desk.clone());
        let router = grpc::server()
            .add_service(CertificatesServer::with_interceptor(signer, review))
            .add_service(AggregatedDiscoveryServiceServer::with_interceptor(
                ads::Ads::new(desk.clone()),
                Proved,
            ))
            .add_service(TelemetryServer::with_interceptor(
                telemetry::Reports::new(desk.clone()),
                Proved,
            ))
            .add_service(QuestionsServer::with_interceptor(
                questions::Asking::new(desk),
                Proved,
            ));
        let listener = runtime.block_on(TcpListener::bind(self.address))?;
        self.address = listener.local_addr()?;
        let (send, incoming) = mpsc::channel(16);
        let acceptor = Acceptor::new(&self.credentials()?)?;
        let mut end = drain.watch();
        tasks.spawn("TLS", accept(listener, acceptor, send));
        tasks.spawn("gRPC", async move {
            // It is held until the runtime ends.
            let _drain = drain;
            let serve = router.serve_with_incoming(ReceiverStream::new(incoming));
            tokio::select! {
                served = serve => eprintln!("control behind TLS ended: {served:?}"),
                () = end.reached(Phase::Graceful) => {}
            }
        });
        drop(inside);
        self.runtime = Some(runtime);
        Ok(())
    }

    /// Ends every connection, and takes no more.
    pub fn stop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(HANDSHAKE);
        }
        for socket in ["control.sock", "api.sock"] {
            // One that is not there is in nobody's way.
            let _ = fs::remove_file(self.state.path().join(socket));
        }
    }

    fn credentials(&self) -> anyhow::Result<Credentials> {
        let (key, identity) = (PrivateKey::generate()?, IDENTITY.parse::<Identity>()?);
        let day = Duration::from_secs(24 * 3600);
        let now = SystemTime::now();
        let signed = self.authority.sign(&key.csr(), &identity, day, now)?;
        let anchors = self.authority.trust_anchors();
        Ok(Credentials::new(key, signed.chain, &anchors)?)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The mesh's anchors, in PEM.
    pub fn anchors(&self) -> String {
        let anchors = self.authority.trust_anchors();
        anchors.iter().map(|der| describe::pem(der)).collect()
    }

    /// Tokens that were shown to it.
    pub fn reviewed(&self) -> usize {
        self.reviewed.load(Ordering::SeqCst)
    }

    /// Where its API listens.
    pub fn api(&self) -> PathBuf {
        self.state.path().join("api.sock")
    }

    /// Control knows the pod from now on, or in another state.
    ///
    /// # Errors
    ///
    /// The file.
    pub fn know(&self, pod: &Pod) -> anyhow::Result<()> {
        let ports = pod.ports.iter().map(|port| json!({"containerPort": port}));
        let ips = pod.addresses.iter().map(|ip| json!({"ip": ip}));
        let primary = pod.addresses.first().context("a pod without addresses")?;
        let capture = if pod.meshed { "outboard" } else { "none" };
        let object = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": pod.uid, "namespace": pod.namespace, "uid": pod.uid, "labels": { "app": pod.uid },
                          "annotations": { "maille.io/capture": capture } },
            "spec": { "serviceAccountName": pod.uid,
                      "containers": [{ "name": "app", "image": "app", "ports": ports.collect::<Vec<_>>() }] },
            "status": { "phase": "Running", "podIP": primary, "podIPs": ips.collect::<Vec<_>>(),
                        "conditions": [{ "type": "Ready", "status": "True" }] },
        });
        let folder = self.state.path().join("pods").join(&pod.uid);
        fs::create_dir_all(&folder)?;
        replace(&folder.join("pod.json"), &object.to_string())
    }

    /// Control no longer knows the pod.
    ///
    /// # Errors
    ///
    /// The directory.
    pub fn forget(&self, uid: &str) -> anyhow::Result<()> {
        Ok(fs::remove_dir_all(
            self.state.path().join("pods").join(uid),
        )?)
    }

    /// An object of `kubectl apply`, for a service say.
    ///
    /// # Errors
    ///
    /// The file.
    pub fn apply(&self, name: &str, manifest: &str) -> anyhow::Result<()> {
        let path = self
            .state
            .path()
            .join("manifests")
            .join(format!("{name}.yaml"));
        replace(&path, manifest)
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Whole or not at all: control watches.
fn replace(path: &Path, text: &str) -> anyhow::Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, text)?;
    Ok(fs::rename(new, path)?)
}

async fn accept(
    listener: TcpListener,
    acceptor: Acceptor,
    to: mpsc::Sender<std::io::Result<Secure>>,
) {
    while let Ok((stream, _)) = listener.accept().await {
        let shaken = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await;
        let Ok(Ok(stream)) = shaken else { continue };
        if to.send(Ok(Secure(stream))).await.is_err() {
            return;
        }
    }
}

/// A connection as tonic takes it.
struct Secure(Stream<TcpStream>);

#[derive(Clone)]
struct Shown(Option<Peer>);

impl Connected for Secure {
    type ConnectInfo = Shown;

    fn connect_info(&self) -> Shown {
        Shown(self.0.peer().cloned())
    }
}

mod stream {
    //! Bytes pass as they are.

    use std::io;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use super::{AsyncRead, AsyncWrite, ReadBuf, Secure};

    impl AsyncRead for Secure {
        fn poll_read(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            into: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_read(context, into)
        }
    }

    impl AsyncWrite for Secure {
        fn poll_write(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            data: &[u8],
        ) -> Poll<io::Result<usize>> {
            Pin::new(&mut self.0).poll_write(context, data)
        }

        fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_flush(context)
        }

        fn poll_shutdown(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_shutdown(context)
        }
    }
}

/// Who asks is who holds the certificate.
#[derive(Clone)]
struct Proved;

/// Who asks is who holds the certificate, or the token.
#[derive(Clone)]
struct Review(Arc<AtomicUsize>);

impl Interceptor for Proved {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let uid = proved(&request).ok_or_else(|| Status::unauthenticated("no certificate"))?;
        say(request.metadata_mut(), &uid)?;
        Ok(request)
    }
}

impl Interceptor for Review {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let token = request.metadata().get("authorization");
        let token = token.and_then(|token| token.to_str().ok());
        let uid = match (proved(&request), token) {
            (Some(uid), _) => uid,
            (None, Some(token)) => {
                self.0.fetch_add(1, Ordering::SeqCst);
                let uid = token.strip_prefix("Bearer pod-");
                uid.ok_or_else(|| Status::unauthenticated("the token is not valid"))?
                    .to_owned()
            }
            (None, None) => return Err(Status::unauthenticated("neither certificate nor token")),
        };
        say(request.metadata_mut(), &uid)?;
        Ok(request)
    }
}

fn proved(request: &Request<()>) -> Option<String> {
    let Shown(peer) = request.extensions().get::<Shown>()?;
    let uid = peer.as_ref()?.uid.as_ref()?;
    Some(uid.as_str().to_owned())
}

/// In place of whatever the caller said.
fn say(metadata: &mut MetadataMap, uid: &str) -> Result<(), Status> {
    let uid = uid
        .parse()
        .map_err(|_| Status::internal("the uid is no metadata"))?;
    metadata.insert(WORKLOAD, uid);
    Ok(())
}
