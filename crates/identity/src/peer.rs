// SPDX-License-Identifier: Apache-2.0
//! Judging the other side's certificate: a chain to one of our anchors, valid now, for this use, with exactly one URI name,
//! which is an identity of our own trust domain; and, when we dial, the very identity that we expect.
//!
//! Called by rustls in the middle of a handshake, so that a refusal becomes an alert. DNS names and addresses prove nothing here.

use std::fmt;
use std::sync::Arc;

use maille_model::{Identity, IdentityError, TrustDomain};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, SignatureScheme,
};
use webpki::{EndEntityCert, KeyUsage};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

/// Why a certificate proves nothing to us.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PeerError {
    /// It, or one above it, cannot be read.
    #[error("certificate cannot be read")]
    Malformed,
    /// It, or one above it, has expired.
    #[error("certificate has expired")]
    Expired,
    /// It, or one above it, is not valid yet: one of the two clocks is wrong.
    #[error("certificate is not valid yet: one of the clocks may be wrong")]
    NotYetValid,
    /// It was not signed by anybody we believe.
    #[error("certificate is not from an authority of this mesh")]
    UnknownCa,
    /// It is not for this side of a TLS connection.
    #[error("certificate is for another purpose")]
    Purpose,
    /// It is an authority's own.
    #[error("certificate is an authority's, not a workload's")]
    Authority,
    /// It, or its chain, breaks another rule.
    #[error("certificate chain breaks a rule")]
    Chain(#[source] Arc<webpki::Error>),
    /// It has not exactly one URI name.
    #[error("certificate has {found} URI names, must have exactly one")]
    Names {
        /// How many there are.
        found: usize,
    },
    /// Its URI name is not an identity.
    #[error("certificate does not name an identity")]
    NotIdentity(#[source] IdentityError),
    /// It names somebody of another trust domain.
    #[error("certificate is of {found}, not of trust domain {expected}")]
    TrustDomain {
        /// Whom it names.
        found: Identity,
        /// Whom we believe.
        expected: TrustDomain,
    },
    /// It names somebody else than the one we dialled.
    #[error("certificate is of {found}, but {expected} was expected")]
    Identity {
        /// Whom it names.
        found: Identity,
        /// Whom we dialled.
        expected: Identity,
    },
}

// === impl PeerError ===

impl PeerError {
    /// A stable label for logs and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Malformed => "certificate-malformed",
            Self::Expired => "certificate-expired",
            Self::NotYetValid => "certificate-not-yet-valid",
            Self::UnknownCa => "unknown-ca",
            Self::Purpose => "certificate-purpose",
            Self::Authority => "certificate-of-authority",
            Self::Chain(_) => "certificate-chain",
            Self::Names { .. } => "certificate-names",
            Self::NotIdentity(_) => "certificate-not-identity",
            Self::TrustDomain { .. } => "wrong-trust-domain",
            Self::Identity { .. } => "wrong-identity",
        }
    }

    /// As rustls carries it: chosen so that the alert tells the other side as much as TLS can say (RFC 8446, 6.2).
    fn into_rustls(self) -> rustls::Error {
        rustls::Error::InvalidCertificate(match self {
            Self::Malformed => CertificateError::BadEncoding,
            Self::Expired => CertificateError::Expired,
            Self::NotYetValid => CertificateError::NotValidYet,
            Self::UnknownCa => CertificateError::UnknownIssuer,
            Self::Purpose => CertificateError::InvalidPurpose,
            other @ (Self::Authority
            | Self::Chain(_)
            | Self::Names { .. }
            | Self::NotIdentity(_)
            | Self::TrustDomain { .. }
            | Self::Identity { .. }) => CertificateError::Other(OtherError(Arc::new(other))),
        })
    }

    /// Back from where rustls carried it; `None` where rustls itself judged.
    pub(crate) fn from_rustls(error: &CertificateError) -> Option<Self> {
        Some(match error {
            CertificateError::BadEncoding => Self::Malformed,
            CertificateError::Expired => Self::Expired,
            CertificateError::NotValidYet => Self::NotYetValid,
            CertificateError::UnknownIssuer => Self::UnknownCa,
            CertificateError::InvalidPurpose => Self::Purpose,
            CertificateError::Other(OtherError(inner)) => inner.downcast_ref::<Self>()?.clone(),
            _ => return None,
        })
    }
}

impl From<webpki::Error> for PeerError {
    fn from(error: webpki::Error) -> Self {
        use webpki::Error as E;
        match error {
            E::CertExpired { .. } | E::InvalidCertValidity => Self::Expired,
            E::CertNotValidYet { .. } => Self::NotYetValid,
            // A CA of the same name with another key is as unknown as one of another name.
            E::UnknownIssuer | E::InvalidSignatureForPublicKey | E::CertDistrusted => {
                Self::UnknownCa
            }
            E::RequiredEkuNotFoundContext(_) | E::EmptyEkuExtension => Self::Purpose,
            E::CaUsedAsEndEntity => Self::Authority,
            E::BadDer
            | E::BadDerTime
            | E::TrailingData(_)
            | E::ExtensionValueInvalid
            | E::MalformedExtensions
            | E::UnsupportedCertVersion
            | E::SignatureAlgorithmMismatch => Self::Malformed,
            other => Self::Chain(Arc::new(other)),
        }
    }
}

/// Which side of a connection the judged certificate is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// It was sent by who dialled us.
    Client,
    /// It was sent by whom we dialled.
    Server,
}

/// Whom we believe.
#[derive(Clone)]
pub(crate) struct Trust {
    pub(crate) anchors: Arc<[TrustAnchor<'static>]>,
    pub(crate) trust_domain: TrustDomain,
    pub(crate) provider: Arc<CryptoProvider>,
}

/// A [`Trust`] as rustls asks it, with the identity that we dial, where we dial.
#[derive(Clone, Debug)]
pub(crate) struct Verifier {
    pub(crate) trust: Trust,
    pub(crate) expected: Option<Identity>,
}

// === impl Trust ===

impl Trust {
    /// Judges a chain, leaf first, as coming from `side` at time `now`.
    pub(crate) fn judge(
        &self,
        leaf: &CertificateDer<'_>,
        above: &[CertificateDer<'_>],
        side: Side,
        now: UnixTime,
    ) -> Result<Identity, PeerError> {
        let usage = match side {
            Side::Client => KeyUsage::client_auth(),
            Side::Server => KeyUsage::server_auth(),
        };
        EndEntityCert::try_from(leaf)?.verify_for_usage(
            self.provider.signature_verification_algorithms.all,
            &self.anchors,
            above,
            now,
            usage,
            None,
            None,
        )?;
        let found = identity_of(leaf)?;
        if found.trust_domain != self.trust_domain {
            let expected = self.trust_domain.clone();
            return Err(PeerError::TrustDomain { found, expected });
        }
        Ok(found)
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust")
            .field("trust_domain", &self.trust_domain)
            .field("anchors", &self.anchors.len())
            .finish_non_exhaustive()
    }
}

/// The identity in a certificate: its only URI name. Judges nothing else.
pub(crate) fn identity_of(leaf: &CertificateDer<'_>) -> Result<Identity, PeerError> {
    let certificate = X509Certificate::from_der(leaf)
        .map_err(|_| PeerError::Malformed)?
        .1;
    let names = certificate
        .subject_alternative_name()
        .map_err(|_| PeerError::Malformed)?;
    let mut uris = Vec::new();
    for name in names.iter().flat_map(|names| &names.value.general_names) {
        match name {
            GeneralName::URI(uri) => uris.push(*uri),
            // What cannot be read might be a second identity.
            GeneralName::Invalid(..) => return Err(PeerError::Malformed),
            _ => {}
        }
    }
    let [uri] = uris[..] else {
        return Err(PeerError::Names { found: uris.len() });
    };
    uri.parse().map_err(PeerError::NotIdentity)
}

// === impl Verifier ===

impl Verifier {
    fn schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.trust.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }

    fn tls12(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.trust.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn tls13(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.trust.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        above: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let judge = || {
            let found = self.trust.judge(leaf, above, Side::Server, now)?;
            match &self.expected {
                Some(expected) if *expected == found => Ok(ServerCertVerified::assertion()),
                Some(expected) => {
                    let expected = expected.clone();
                    Err(PeerError::Identity { found, expected })
                }
                // Nobody dials without saying whom: no identity would do, so none does.
                None => Err(PeerError::UnknownCa),
            }
        };
        judge().map_err(PeerError::into_rustls)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.tls12(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.tls13(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        above: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.trust
            .judge(leaf, above, Side::Client, now)
            .map(|_| ClientCertVerified::assertion())
            .map_err(PeerError::into_rustls)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.tls12(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.tls13(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}

#[cfg(test)]
mod tests;
