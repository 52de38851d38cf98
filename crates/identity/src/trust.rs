// SPDX-License-Identifier: Apache-2.0
//! Whom we believe: a chain to one of our anchors, valid now, for this use, whose leaf names an identity of our own trust domain.
//!
//! Must never take a name for a key: two authorities may have the same name. Next: `peer.rs`, for what a certificate must say.

use std::fmt;
use std::sync::Arc;

use maille_model::{Identity, TrustDomain};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage};

use crate::peer::{PeerError, Side, identity_of};

/// Certificates that chains may end in. Cheap to clone.
#[derive(Clone)]
pub struct Anchors(Arc<[TrustAnchor<'static>]>);

/// Why something is no set of anchors.
#[derive(Debug, thiserror::Error)]
pub enum AnchorsError {
    /// There is none.
    #[error("there is no trust anchor")]
    None,
    /// A text is not PEM.
    #[error("trust anchors are not in PEM")]
    Pem(#[source] pem::PemError),
    /// One is not a certificate.
    #[error("trust anchor {index} cannot be read")]
    Unreadable {
        /// Which one, from 0.
        index: usize,
        /// What is wrong with it.
        #[source]
        source: webpki::Error,
    },
}

/// Whom we believe, and of which trust domain.
#[derive(Clone, Debug)]
pub(crate) struct Trust {
    pub(crate) anchors: Anchors,
    pub(crate) trust_domain: TrustDomain,
    pub(crate) provider: Arc<CryptoProvider>,
}

/// The certificates (DER) of a text in PEM; what else stands in it is left out. Each may still be no certificate.
pub fn of_pem(text: &str) -> Result<Vec<Vec<u8>>, AnchorsError> {
    let blocks = pem::parse_many(text).map_err(AnchorsError::Pem)?;
    let certificates = blocks
        .into_iter()
        .filter(|block| block.tag() == "CERTIFICATE");
    let ders: Vec<_> = certificates.map(pem::Pem::into_contents).collect();
    if ders.is_empty() {
        return Err(AnchorsError::None);
    }
    Ok(ders)
}

// === impl Anchors ===

impl Anchors {
    /// Reads certificates (DER).
    pub fn new(ders: &[Vec<u8>]) -> Result<Self, AnchorsError> {
        if ders.is_empty() {
            return Err(AnchorsError::None);
        }
        let anchors = ders.iter().enumerate().map(|(index, der)| {
            webpki::anchor_from_trusted_cert(&CertificateDer::from(der.as_slice()))
                .map(|anchor| anchor.to_owned())
                .map_err(|source| AnchorsError::Unreadable { index, source })
        });
        Ok(Self(anchors.collect::<Result<_, _>>()?))
    }
}

impl fmt::Debug for Anchors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Anchors").field(&self.0.len()).finish()
    }
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
            &self.anchors.0,
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

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::ca::Authority;
    use crate::describe;

    #[test]
    fn anchors_are_read_from_pem() {
        let domain = "cluster.local".parse().unwrap();
        let anchor = || {
            let authority = Authority::create(&domain, SystemTime::now()).unwrap();
            authority.trust_anchors().remove(0)
        };
        let two = [anchor(), anchor()];
        let text = two.each_ref().map(|der| describe::pem(der)).join("\n");
        assert_eq!(of_pem(&text).unwrap(), two);
        assert!(matches!(of_pem(""), Err(AnchorsError::None)));
        let key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        assert!(matches!(of_pem(key), Err(AnchorsError::None)));
        let cut = &text[..text.len() / 3];
        assert!(of_pem(cut).is_err());
    }
}
