// SPDX-License-Identifier: Apache-2.0
//! TLS between a proxy and control where no node agent stands between them: HTTP/2 inside, over any stream that somebody
//! else opened. Control always proves its identity; a proxy does as soon as it has a certificate.
//!
//! Must never take a certificate that proves nothing for none: such a handshake fails. Deadlines are the caller's. Next:
//! `verifier.rs`.

use std::fmt;
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::SystemTime;

use maille_model::{Identity, WorkloadUid};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::TLS13;
use rustls::{ClientConfig, CommonState};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use crate::ca::uid_of;
use crate::clock::WallClock;
use crate::credentials::{Credentials, trust, validity};
use crate::peer::{PeerError, identity_of};
use crate::session::SessionError;
use crate::stream;
use crate::trust::AnchorsError;
use crate::verifier::{Clients, Verifier};

/// The application protocol: what gRPC speaks.
const ALPN: &[u8] = b"h2";

/// Control's side. Cheap to clone.
#[derive(Clone)]
pub struct Acceptor(TlsAcceptor);

/// A proxy's side: whom it dials, and what it proves itself with. Cheap to clone.
#[derive(Clone)]
pub struct Connector {
    tls: TlsConnector,
    proved: bool,
}

/// A connection whose handshake is over; the peer is missing where it showed no certificate, which only who dials may do.
pub type Stream<S> = stream::Stream<S, Option<Peer>>;

/// Who the other side proved to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// What its certificate proves.
    pub identity: Identity,
    /// The pod that its certificate was made for, if it says so.
    pub uid: Option<WorkloadUid>,
    /// When its certificate ends. Whoever answers for longer looks at the time again.
    pub not_after: SystemTime,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// There is nobody to believe.
    #[error("trust anchors cannot be used")]
    Anchors(#[from] AnchorsError),
    /// The TLS library does not take our side.
    #[error("TLS cannot be set up")]
    Setup(#[source] rustls::Error),
    /// The stream below broke.
    #[error("the connection broke during the TLS handshake")]
    Broken(#[source] io::Error),
    /// One side refused the other.
    #[error("the TLS handshake failed")]
    Handshake(#[source] SessionError),
    /// It has control's identity by way of a pod: control's own certificates are made for none.
    #[error("the other side's certificate was made for pod {0}, and control's never is")]
    Pod(WorkloadUid),
    /// It speaks something else than HTTP/2.
    #[error("the other side does not speak HTTP/2")]
    Protocol,
    /// Its certificate was believed and cannot be read: a contradiction.
    #[error("the other side's certificate cannot be read")]
    Peer(#[from] PeerError),
}

// === impl Acceptor ===

impl Acceptor {
    /// Proves itself by `own`, believes its anchors, and lets in who has no certificate yet.
    pub fn new(own: &Credentials) -> Result<Self, TlsError> {
        let mut config = own.accept_new().map_err(TlsError::Setup)?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }

    /// Shakes hands with who opened `stream`.
    pub async fn accept<S>(&self, stream: S) -> Result<Stream<S>, TlsError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let tls = self.0.accept(stream).await.map_err(TlsError::of)?;
        proved(tls.into())
    }
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Acceptor")
    }
}

// === impl Connector ===

impl Connector {
    /// For who has no certificate yet: accepts `expected`, by a chain to one of `anchors` (DER), and nobody else.
    pub fn unproved(anchors: &[Vec<u8>], expected: &Identity) -> Result<Self, TlsError> {
        Self::with_clock(anchors, expected, WallClock::system())
    }

    fn with_clock(
        anchors: &[Vec<u8>],
        expected: &Identity,
        clock: WallClock,
    ) -> Result<Self, TlsError> {
        let verifier = Verifier {
            trust: trust(expected, anchors)?,
            expected: Some(expected.clone()),
            clients: Clients::Proved,
        };
        let provider = Arc::clone(&verifier.trust.provider);
        let mut config = ClientConfig::builder_with_details(provider, Arc::new(clock))
            .with_protocol_versions(&[&TLS13])
            .map_err(TlsError::Setup)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        config.resumption = rustls::client::Resumption::disabled();
        config.enable_sni = false;
        Ok(Self::of(config, false))
    }

    /// For who has one: proves itself by `own`, believes its anchors, accepts `expected` and nobody else.
    pub fn proved(own: &Credentials, expected: &Identity) -> Self {
        Self::of(own.dial(expected), true)
    }

    fn of(mut config: ClientConfig, proved: bool) -> Self {
        config.alpn_protocols = vec![ALPN.to_vec()];
        let tls = TlsConnector::from(Arc::new(config));
        Self { tls, proved }
    }

    /// Shakes hands with whom `stream` leads to, who must not be a pod. (A refusal of our own certificate still comes, as an error of the first
    /// read: who dials is done one flight before the other side has judged it.)
    pub async fn connect<S>(&self, stream: S) -> Result<Stream<S>, TlsError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        // Never sent and never compared: the identity is.
        let name = ServerName::IpAddress(Ipv4Addr::UNSPECIFIED.into());
        let tls = self.tls.connect(name, stream).await.map_err(TlsError::of)?;
        let stream = proved(tls.into())?;
        // Beside control runs a proxy of the same service account: it is meshed, and must not pass for control.
        match stream.peer().and_then(|peer| peer.uid.clone()) {
            Some(uid) => Err(TlsError::Pod(uid)),
            None => Ok(stream),
        }
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector")
            .field("proved", &self.proved)
            .finish_non_exhaustive()
    }
}

// === impl Stream ===

impl<S> Stream<S> {
    /// Who the other side proved to be; `None` where it showed no certificate.
    pub fn peer(&self) -> Option<&Peer> {
        self.peer.as_ref()
    }
}

fn proved<S>(tls: TlsStream<S>) -> Result<Stream<S>, TlsError> {
    let (_, state) = tls.get_ref();
    if state.alpn_protocol() != Some(ALPN) {
        return Err(TlsError::Protocol);
    }
    let peer = Peer::of(state)?;
    Ok(stream::Stream { tls, peer })
}

// === impl Peer ===

impl Peer {
    fn of(state: &CommonState) -> Result<Option<Self>, PeerError> {
        let Some(leaf) = state.peer_certificates().and_then(<[_]>::first) else {
            return Ok(None);
        };
        Self::read(leaf).map(Some)
    }

    fn read(leaf: &CertificateDer<'_>) -> Result<Self, PeerError> {
        Ok(Self {
            identity: identity_of(leaf)?,
            uid: uid_of(leaf),
            not_after: validity(leaf)?.1,
        })
    }
}

// === impl TlsError ===

impl TlsError {
    /// What a handshake ended with, in our words.
    fn of(error: io::Error) -> Self {
        match error.downcast::<rustls::Error>() {
            Ok(rustls::Error::NoApplicationProtocol) => Self::Protocol,
            Ok(error) => Self::Handshake(SessionError::of(error)),
            Err(error) => Self::Broken(error),
        }
    }
}

#[cfg(test)]
mod tests;
