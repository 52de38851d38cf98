// SPDX-License-Identifier: Apache-2.0
//! TLS with an API server, over a stream that somebody else opened: it knows us by a DNS name, we know it by its front
//! proxy's certificate (Kubernetes, "Configure the Aggregation Layer").
//!
//! A certificate that is shown must be the front proxy's; showing none is allowed, and proves nothing. Deadlines are the
//! caller's. Next: `ca/serving.rs`.

use std::fmt;
use std::io;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::ca::Serving;
use crate::credentials::provider;
use crate::stream;

/// Our side. Cheap to clone.
#[derive(Clone)]
pub struct Front(TlsAcceptor);

/// A connection whose handshake is over.
pub type Stream<S> = stream::Stream<S, Option<String>>;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum FrontError {
    /// The front proxy's authority cannot be read.
    #[error("the front proxy's authority is no certificate in PEM")]
    Clients,
    /// The TLS library does not take our side.
    #[error("TLS cannot be set up")]
    Setup(#[source] rustls::Error),
    /// The handshake failed, or the stream below broke.
    #[error("the TLS handshake failed")]
    Handshake(#[source] io::Error),
}

// === impl Front ===

impl Front {
    /// Proves itself by `serving`. A client's certificate must end in one of `clients` (PEM); where there is none, no
    /// certificate is asked for.
    pub fn new(serving: &Serving, clients: Option<&str>) -> Result<Self, FrontError> {
        let provider = Arc::new(provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])
            .map_err(FrontError::Setup)?;
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(text) => {
                let mut roots = RootCertStore::empty();
                for der in CertificateDer::pem_slice_iter(text.as_bytes()) {
                    let der = der.map_err(|_| FrontError::Clients)?;
                    roots.add(der).map_err(|_| FrontError::Clients)?;
                }
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                        .allow_unauthenticated()
                        .build()
                        .map_err(|_| FrontError::Clients)?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let key = PrivateKeyDer::from(serving.key.clone_key());
        let mut config = builder
            .with_single_cert(serving.chain.clone(), key)
            .map_err(FrontError::Setup)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }

    /// Shakes hands with who opened `stream`.
    pub async fn accept<S>(&self, stream: S) -> Result<Stream<S>, FrontError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let tls = self.0.accept(stream).await.map_err(FrontError::Handshake)?;
        let leaf = tls.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let peer = leaf.and_then(common_name);
        let tls = tls.into();
        Ok(stream::Stream { tls, peer })
    }
}

impl fmt::Debug for Front {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Front")
    }
}

// === impl Stream ===

impl<S> Stream<S> {
    /// The common name of the front proxy's certificate; `None` where none was shown.
    pub fn client(&self) -> Option<&str> {
        self.peer.as_deref()
    }
}

/// What a certificate's subject is called, where it is called one thing.
fn common_name(leaf: &CertificateDer<'_>) -> Option<String> {
    let (_, parsed) = X509Certificate::from_der(leaf).ok()?;
    let mut names = parsed.subject().iter_common_name();
    let name = names.next()?.as_str().ok()?.to_owned();
    names.next().is_none().then_some(name)
}

#[cfg(test)]
mod tests;
