// SPDX-License-Identifier: Apache-2.0
//! What the other side's certificate must say, and why it proves nothing where it does not: exactly one URI name, which is an identity.
//!
//! DNS names and addresses prove nothing here. Next: `trust.rs` for the chain above it, `verifier.rs` for when it is judged.

use std::sync::Arc;

use maille_model::{Identity, IdentityError, TrustDomain};
use rustls::pki_types::CertificateDer;
use rustls::{CertificateError, OtherError};
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
    pub(crate) fn into_rustls(self) -> rustls::Error {
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

#[cfg(test)]
mod tests;
