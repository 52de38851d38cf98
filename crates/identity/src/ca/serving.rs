// SPDX-License-Identifier: Apache-2.0
//! A certificate for a server that is called by name: what an API server wants of webhooks and aggregated APIs. It names no
//! identity, so no proxy believes it.

use std::time::{Duration, SystemTime};

use rcgen::{
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};

use super::{Authority, SignError, dated, serial, whole};

/// Key and certificate of a server. The key is made here and does not leave the process.
pub struct Serving {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivatePkcs8KeyDer<'static>,
    /// From when it is valid.
    pub not_before: SystemTime,
    /// Until when.
    pub not_after: SystemTime,
}

// === impl Authority ===

impl Authority {
    /// A new key with a certificate for the DNS names `names`, for `lifetime` from `now`, at most as long as the issuer lives.
    pub fn serving(
        &self,
        names: &[String],
        lifetime: Duration,
        now: SystemTime,
    ) -> Result<Serving, SignError> {
        let not_before = whole(now.checked_sub(lifetime / 10).unwrap_or(now)).max(self.not_before);
        let not_after = now
            .checked_add(lifetime)
            .map_or(self.not_after, |end| whole(end).min(self.not_after));
        if now < self.not_before || not_after <= now {
            return Err(SignError::Issuer);
        }
        let serial = serial().ok_or(SignError::Random)?;
        let mut params = dated(serial, not_before, not_after);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let names = names.iter().map(|name| name.as_str().try_into());
        let names = names.map(|name| name.map(SanType::DnsName));
        params.subject_alt_names = names.collect::<Result<_, _>>().map_err(SignError::Make)?;
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(SignError::Make)?;
        let leaf = params.signed_by(&pair, &self.signer);
        let leaf = leaf.map_err(SignError::Make)?;
        let chain = std::iter::once(leaf.der()).chain(&self.issuers);
        Ok(Serving {
            chain: chain.cloned().collect(),
            key: PrivatePkcs8KeyDer::from(pair.serialize_der()),
            not_before,
            not_after,
        })
    }
}

impl std::fmt::Debug for Serving {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Serving")
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}
