// SPDX-License-Identifier: Apache-2.0
//! A webhook of somebody else, on the network of the control plane's machine: it wants a container of its own before all others.
//!
//! It knows no mesh. Read `../others.rs` for what becomes of it.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use anyhow::Context as _;
use data_encoding::BASE64;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use maille_cluster::meshed::Meshed;
use maille_sys::netns::NetNs;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::PrivatePkcs8KeyDer;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// Where the API server finds it.
const ADDRESS: &str = "10.77.0.1";
const PORT: u16 = 9443;

/// When it is asked: webhooks are asked in the order of their names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Foreign {
    /// Before ours.
    Before,
    /// After ours, once.
    After,
    /// After ours, and again when others changed something.
    Insistent,
}

impl Foreign {
    const fn name(self) -> &'static str {
        match self {
            Self::Before => "a-foreign",
            Self::After | Self::Insistent => "z-foreign",
        }
    }

    const fn reinvocation(self) -> &'static str {
        match self {
            Self::Before | Self::After => "Never",
            Self::Insistent => "IfNeeded",
        }
    }
}

/// A webhook that answers; it ends with the test.
pub(crate) struct Webhook {
    certificate: String,
    asked: Arc<AtomicUsize>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Webhook {
    /// Begins to answer.
    pub(crate) fn start(up: &Meshed) -> anyhow::Result<Self> {
        let made = rcgen::generate_simple_self_signed(vec![ADDRESS.to_owned()])?;
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key.into())?;
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = asked.clone();
        let (stop, stopped) = oneshot::channel();
        let control_plane = up.cluster().control_plane().pid();
        let network = NetNs::of_pid(control_plane.context("the control plane")?)?;
        let (ready, begun) = std::sync::mpsc::channel();
        let serve = move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let listener = TcpListener::bind((ADDRESS, PORT)).await.unwrap();
                ready.send(()).unwrap();
                tokio::select! {
                    () = serve(listener, TlsAcceptor::from(Arc::new(config)), counter) => {}
                    _ = stopped => {}
                }
            });
        };
        let thread = std::thread::spawn(move || network.run(serve).unwrap());
        begun.recv().context("the webhook does not listen")?;
        Ok(Self {
            certificate: made.cert.pem(),
            asked,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// How often it was asked so far.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    /// From now on the API server asks it of pods.
    pub(crate) fn register(&self, up: &Meshed, foreign: Foreign) -> anyhow::Result<()> {
        let configuration = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": foreign.name()},
            "webhooks": [{
                "name": "foreign.example.com", "admissionReviewVersions": ["v1"], "sideEffects": "None", "failurePolicy": "Fail",
                "clientConfig": {
                    "url": format!("https://{ADDRESS}:{PORT}/"), "caBundle": BASE64.encode(self.certificate.as_bytes()),
                },
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "others"}},
                "reinvocationPolicy": foreign.reinvocation(),
                "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}],
            }],
        });
        up.cluster().apply(&configuration.to_string()).map(|_| ())
    }

    /// Nobody asks it any more.
    pub(crate) fn remove(&self, up: &Meshed, foreign: Foreign) -> anyhow::Result<()> {
        let line = format!("delete mutatingwebhookconfiguration {}", foreign.name());
        up.kubectl(&line).map(|_| ())
    }
}

impl Drop for Webhook {
    fn drop(&mut self) {
        drop(self.stop.take());
        // A thread that panicked has said so.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

async fn serve(listener: TcpListener, tls: TlsAcceptor, asked: Arc<AtomicUsize>) {
    let mut served = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        while served.try_join_next().is_some() {}
        let (tls, asked) = (tls.clone(), asked.clone());
        served.spawn(async move {
            // Who hangs up in between asks again.
            let Ok(stream) = tls.accept(stream).await else {
                return;
            };
            let service = service_fn(move |request| answer(request, asked.clone()));
            let server = hyper::server::conn::http1::Builder::new();
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    asked: Arc<AtomicUsize>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    asked.fetch_add(1, Ordering::Relaxed);
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let review: Value = serde_json::from_slice(&body).unwrap();
    let patch = first(&review["request"]["object"]).to_string();
    let said = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "response": {"uid": review["request"]["uid"], "allowed": true, "patchType": "JSONPatch",
            "patch": BASE64.encode(patch.as_bytes())},
    });
    let body = Full::new(Bytes::from(said.to_string()));
    let response = Response::builder().header("content-type", "application/json");
    Ok(response.body(body).unwrap())
}

/// What puts the container before all others.
fn first(pod: &Value) -> Value {
    let container = json!({"name": "foreign", "image": "maille.test/steady:1", "command": ["/bin/busybox", "true"]});
    let at = |place: &str| format!("/spec/initContainers{place}");
    let Some(all) = pod["spec"]["initContainers"].as_array() else {
        return json!([{"op": "add", "path": at(""), "value": [container]}]);
    };
    let add = json!({"op": "add", "path": at("/0"), "value": container});
    match all.iter().position(|one| one["name"] == "foreign") {
        Some(0) => json!([]),
        Some(index) => json!([{"op": "remove", "path": at(&format!("/{index}"))}, add]),
        None => json!([add]),
    }
}
