// SPDX-License-Identifier: Apache-2.0
//! An authority as text (PEM), for whoever keeps it: a file (`store.rs`), a Secret of a cluster.
//!
//! Several anchors may be kept while one replaces another, and certificates between the issuer and its anchor.

use std::fmt;

use maille_model::TrustDomain;
use rcgen::{Issuer, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use super::Authority;
use crate::clock::from_seconds;
use crate::describe;

/// An authority as text. Its key is not shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Kept {
    /// Certificates that everybody believes.
    pub anchors: String,
    /// The issuer's certificate, then those between it and an anchor.
    pub issuers: String,
    /// The issuer's key (PKCS #8).
    pub key: String,
}

/// Why texts are no authority.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeptError {
    /// One of them is not what it should be, or they do not belong together.
    #[error("{0}")]
    Damaged(&'static str),
    /// It was made for another trust domain.
    #[error("the issuer is of another trust domain than {0}")]
    TrustDomain(TrustDomain),
}

// === impl Authority ===

impl Authority {
    /// Everything that another process needs to go on as this authority.
    pub fn kept(&self) -> Kept {
        let pem = |ders: &[CertificateDer<'_>]| ders.iter().map(|der| describe::pem(der)).collect();
        Kept {
            anchors: pem(&self.anchors),
            issuers: pem(&self.issuers),
            key: self.signer.key().serialize_pem(),
        }
    }

    /// The authority that was kept, or that somebody made elsewhere: an issuer with an ECDSA P-256 key, of this trust domain
    /// or of none that it names.
    pub fn from_kept(kept: &Kept, trust_domain: &TrustDomain) -> Result<Self, KeptError> {
        let list = |text: &str, what| certificates(text).map_err(|_| KeptError::Damaged(what));
        let anchors = list(&kept.anchors, "an anchor cannot be read")?;
        let issuers = list(&kept.issuers, "the issuer cannot be read")?;
        Self::assemble(&kept.key, issuers, anchors, trust_domain)
    }

    pub(super) fn assemble(
        key: &str,
        issuers: Vec<CertificateDer<'static>>,
        anchors: Vec<CertificateDer<'static>>,
        trust_domain: &TrustDomain,
    ) -> Result<Self, KeptError> {
        let damaged = KeptError::Damaged;
        let key = PrivatePkcs8KeyDer::from_pem_slice(key.as_bytes())
            .map_err(|_| damaged("no key in PKCS #8"))?;
        let key = KeyPair::from_pkcs8_der_and_sign_algo(&key, &PKCS_ECDSA_P256_SHA256)
            .map_err(|_| damaged("the key is not ECDSA P-256"))?;
        let issuer = issuers.first().ok_or_else(|| damaged("no issuer"))?;
        if anchors.is_empty() {
            return Err(damaged("no anchor"));
        }
        let parsed = X509Certificate::from_der(issuer)
            .map_err(|_| damaged("the issuer cannot be read"))?
            .1;
        if *parsed.public_key().subject_public_key.data != *key.public_key_raw() {
            return Err(damaged("the key is not the issuer's"));
        }
        if !is_of(&parsed, trust_domain) {
            return Err(KeptError::TrustDomain(trust_domain.clone()));
        }
        let validity = parsed.validity();
        let (not_before, not_after) = (
            from_seconds(validity.not_before.timestamp()),
            from_seconds(validity.not_after.timestamp()),
        );
        let signer =
            Issuer::from_ca_cert_der(issuer, key).map_err(|_| damaged("the issuer cannot sign"))?;
        Ok(Self {
            trust_domain: trust_domain.clone(),
            anchors,
            issuers,
            signer,
            not_before,
            not_after,
        })
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").finish_non_exhaustive()
    }
}

/// Every certificate of a text.
pub(super) fn certificates(text: &str) -> Result<Vec<CertificateDer<'static>>, pem::Error> {
    CertificateDer::pem_slice_iter(text.as_bytes()).collect()
}

/// Whether an issuer that names trust domains names this one and no other.
fn is_of(issuer: &X509Certificate<'_>, trust_domain: &TrustDomain) -> bool {
    let Ok(names) = issuer.subject_alternative_name() else {
        return false;
    };
    let names = names.map(|names| &names.value.general_names);
    let mut uris = names.into_iter().flatten().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    let expected = format!("spiffe://{trust_domain}");
    uris.all(|uri| uri == expected)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn authority() -> Authority {
        Authority::create(&"cluster.local".parse().unwrap(), SystemTime::now()).unwrap()
    }

    #[test]
    fn what_was_kept_goes_on() {
        let (first, domain) = (authority(), "cluster.local".parse().unwrap());
        let kept = first.kept();
        let second = Authority::from_kept(&kept, &domain).unwrap();
        assert_eq!(second.kept(), kept);
        assert_eq!(second.validity(), first.validity());
        assert!(!format!("{kept:?}").contains("PRIVATE"));
        // Two anchors while one replaces the other.
        let both = Kept {
            anchors: kept.anchors.clone() + &authority().kept().anchors,
            ..kept
        };
        let both = Authority::from_kept(&both, &domain).unwrap();
        assert_eq!(both.trust_anchors().len(), 2);
    }

    #[test]
    fn what_does_not_belong_together_is_refused() {
        let (kept, other) = (authority().kept(), authority().kept());
        let domain = "cluster.local".parse().unwrap();
        let refused = |change: &dyn Fn(&mut Kept)| {
            let mut kept = kept.clone();
            change(&mut kept);
            Authority::from_kept(&kept, &domain).unwrap_err()
        };
        let damaged = KeptError::Damaged;
        assert_eq!(
            refused(&|kept| kept.key.clone_from(&other.key)),
            damaged("the key is not the issuer's")
        );
        assert_eq!(
            refused(&|kept| kept.key.clear()),
            damaged("no key in PKCS #8")
        );
        assert_eq!(refused(&|kept| kept.anchors.clear()), damaged("no anchor"));
        assert_eq!(refused(&|kept| kept.issuers.clear()), damaged("no issuer"));
        assert_eq!(
            refused(&|kept| kept.issuers =
                "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n".to_owned()),
            damaged("the issuer cannot be read")
        );
        let elsewhere = Authority::from_kept(&kept, &"other.test".parse().unwrap());
        assert!(matches!(elsewhere, Err(KeptError::TrustDomain(_))));
    }
}
