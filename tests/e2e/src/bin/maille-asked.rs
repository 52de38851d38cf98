// SPDX-License-Identifier: Apache-2.0
//! Answers what probes ask: `maille-asked PORT FILE` speaks gRPC's health protocol on PORT and HTTPS on the port above, with a
//! certificate that nobody signed. All is well while FILE exists. It knows nothing of a mesh. Read `tests/probes.rs` next.

#![forbid(unsafe_code)]

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// The only service that is known beside the whole server, which has no name.
const SERVICE: &[u8] = b"shop.Cart";

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [port, file] = &args[..] else {
        bail!("maille-asked PORT FILE");
    };
    let port: u16 = port.parse().context("no port")?;
    let file: Arc<Path> = Path::new(file).into();
    tokio::try_join!(grpc(port, file.clone()), https(port + 1, file)).map(drop)
}

async fn grpc(port: u16, file: Arc<Path>) -> anyhow::Result<()> {
    let listener = TcpListener::bind(("::", port)).await?;
    let mut served = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        while served.try_join_next().is_some() {}
        let file = file.clone();
        served.spawn(async move {
            let service = service_fn(move |request| health(request, file.clone()));
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            // A probe hangs up when it has its answer.
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// `grpc.health.v1.Health/Check`.
async fn health(
    request: Request<Incoming>,
    file: Arc<Path>,
) -> Result<Response<impl hyper::body::Body<Data = Bytes, Error = Infallible>>, hyper::Error> {
    let right = request.uri().path() == "/grpc.health.v1.Health/Check";
    let question = request.into_body().collect().await?.to_bytes();
    // After the five bytes of gRPC's frame: field 1, its length, the service's name.
    let service = question.get(7..).unwrap_or_default();
    let known = service.is_empty() || service == SERVICE;
    let mut trailers = HeaderMap::new();
    let mut frames = Vec::new();
    let code = match (right, known) {
        (false, _) => 12_u16,
        (true, false) => 5,
        (true, true) => {
            let status = if file.exists() { 1 } else { 2 };
            frames.push(Frame::data(Bytes::from(vec![0, 0, 0, 0, 2, 8, status])));
            0
        }
    };
    trailers.insert("grpc-status", code.into());
    frames.push(Frame::trailers(trailers));
    let body = StreamBody::new(stream::iter(frames.into_iter().map(Ok)));
    let mut response = Response::new(body);
    let kind = http::HeaderValue::from_static("application/grpc");
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, kind);
    Ok(response)
}

async fn https(port: u16, file: Arc<Path>) -> anyhow::Result<()> {
    let own = rcgen::generate_simple_self_signed(["elsewhere.example".to_owned()])?;
    let key = PrivatePkcs8KeyDer::from(own.signing_key.serialize_der());
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![own.cert.der().clone()], key.into())?;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind(("::", port)).await?;
    let mut served = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        while served.try_join_next().is_some() {}
        let (acceptor, file) = (acceptor.clone(), file.clone());
        served.spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else {
                return;
            };
            let service = service_fn(move |_: Request<Incoming>| {
                let mut response = Response::new(Full::new(Bytes::from_static(b"so it is\n")));
                if !file.exists() {
                    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
                }
                std::future::ready(Ok::<_, Infallible>(response))
            });
            let server = hyper::server::conn::http1::Builder::new();
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}
