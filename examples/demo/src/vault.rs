// SPDX-License-Identifier: Apache-2.0
//! TLS of its own: the ledger's protocol inside a TLS session that the application brings along.
//!
//! The certificate is made at start and signed by nobody. The vault hands it out over HTTP, and the client trusts that one
//! and no other, for the address that it came from: it must never talk to a vault whose certificate it was not given.
//! Read `ledger.rs` for the protocol.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, bail};
use http::{Method, Request};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncWriteExt as _, BufStream};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::client::{self, DEADLINE, Pool};
use crate::idle::Idle;
use crate::ledger::{Ledger, add};
use crate::server::{Role, each, listen, serve as serve_http};
use crate::stop::Stop;

/// The name in the certificate, which the client asks for in its first message.
const NAME: &str = "vault";

/// Every so many visits a client opens a connection of its own.
const FRESH: u64 = 8;

/// Hands out the certificate.
#[derive(Debug)]
struct Papers {
    marker: String,
    pem: String,
}

/// Serves TLS on `tls_port`, and the certificate on `port`, until `stop`.
pub(crate) async fn serve(
    port: u16,
    tls_port: u16,
    marker: String,
    stop: Stop,
) -> anyhow::Result<()> {
    let (pem, config) = identity()?;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let ledger = Arc::new(Ledger::new(marker.clone()));
    let sessions = each(
        listen(tls_port).await?,
        stop.clone(),
        move |socket, stop| {
            let (acceptor, ledger) = (acceptor.clone(), Arc::clone(&ledger));
            async move {
                let session = timeout(DEADLINE, acceptor.accept(socket)).await??;
                ledger.answer(session, stop).await
            }
        },
    );
    tokio::try_join!(sessions, serve_http(port, Papers { marker, pem }, stop))?;
    Ok(())
}

/// A new key with its certificate, as text for others and as the settings of a server.
fn identity() -> anyhow::Result<(String, ServerConfig)> {
    let own = rcgen::generate_simple_self_signed([NAME.to_owned()])
        .context("failed to make a certificate")?;
    let key = PrivatePkcs8KeyDer::from(own.signing_key.serialize_der());
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![own.cert.der().clone()], key.into())?;
    Ok((own.cert.pem(), config))
}

impl Role for Papers {
    async fn answer(&self, request: Request<Incoming>) -> anyhow::Result<String> {
        let path = request.uri().path().to_owned();
        request.into_body().collect().await?;
        match path.as_str() {
            "/certificate" => Ok(format!("{}\n{}", self.marker, self.pem)),
            other => bail!("no page {other}"),
        }
    }
}

/// The client: sessions with one vault after another.
#[derive(Debug)]
pub(crate) struct Vault {
    marker: String,
    /// host:port of the certificate.
    to: String,
    tls_port: u16,
    idle: Idle<TlsStream<TcpStream>>,
    visits: AtomicU64,
}

// === impl Vault ===

impl Vault {
    /// A client that has met no vault yet.
    pub(crate) const fn new(marker: String, to: String, tls_port: u16) -> Self {
        Self {
            marker,
            to,
            tls_port,
            idle: Idle::new(),
            visits: AtomicU64::new(0),
        }
    }

    /// Puts one thing in and gives the receipt.
    pub(crate) async fn visit(&self) -> anyhow::Result<String> {
        timeout(DEADLINE, self.put())
            .await
            .context("the vault did not answer in time")?
            .context("vault")
    }

    async fn put(&self) -> anyhow::Result<String> {
        let fresh = self
            .visits
            .fetch_add(1, Ordering::Relaxed)
            .is_multiple_of(FRESH);
        let kept = if fresh { None } else { self.idle.take() };
        let mut line = match kept {
            Some(line) => line,
            None => self.connect().await?,
        };
        let (answer, leaving) = add(&mut line, &self.marker).await?;
        if fresh || leaving {
            // Says goodbye as TLS does; whether the vault still listens is its own business.
            let _ = line.shutdown().await;
        } else {
            self.idle.keep(line);
        }
        Ok(format!("vault {answer}\n"))
    }

    /// A new session with one vault: the certificate and the session are from the same address, since each vault has its own.
    async fn connect(&self) -> anyhow::Result<BufStream<TlsStream<TcpStream>>> {
        let papers = self.find().await?;
        let pool = Pool::new(papers.to_string(), self.marker.clone());
        let pem = pool.ask(Method::GET, "/certificate").await?;
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(pem.as_bytes())?)?;
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let socket = TcpStream::connect((papers.ip(), self.tls_port)).await?;
        let _ = socket.set_nodelay(true);
        let session = TlsConnector::from(Arc::new(config))
            .connect(ServerName::try_from(NAME)?, socket)
            .await
            .context("no TLS session")?;
        Ok(BufStream::new(session))
    }

    /// The address of one vault that is ready.
    async fn find(&self) -> anyhow::Result<SocketAddr> {
        let ready = client::ready_name(&self.to);
        let mut addresses = lookup_host(&ready).await.context("no vault is ready")?;
        addresses.next().context("no vault is ready")
    }
}
