// SPDX-License-Identifier: Apache-2.0
//! A workload's private key. It is made here, signs here, and never leaves: it has no accessor, no serial form outside of
//! this crate, and `Debug` says nothing about it. Next: `credentials.rs`.

use std::fmt;
use std::sync::Arc;

use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::crypto::aws_lc_rs::sign::any_ecdsa_type;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::SigningKey;

/// An ECDSA P-256 key, with the request that asks for a certificate for it.
pub struct PrivateKey {
    signer: Arc<dyn SigningKey>,
    csr: Vec<u8>,
}

/// Why a key could not be made.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The key, or the request for it: the system gave no random bytes, say.
    #[error("no private key could be made")]
    Generate(#[source] rcgen::Error),
    /// The TLS library does not take what was made.
    #[error("the private key that was made cannot be used")]
    Use(#[source] rustls::Error),
}

// === impl PrivateKey ===

impl PrivateKey {
    /// A new key.
    pub fn generate() -> Result<Self, KeyError> {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(KeyError::Generate)?;
        Self::of(&pair)
    }

    /// Takes over a pair.
    pub(crate) fn of(pair: &KeyPair) -> Result<Self, KeyError> {
        let mut request = CertificateParams::default();
        request.distinguished_name = DistinguishedName::new();
        let csr = request
            .serialize_request(pair)
            .map_err(KeyError::Generate)?;
        let der = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(pair.serialize_der()));
        Ok(Self {
            signer: any_ecdsa_type(&der).map_err(KeyError::Use)?,
            csr: csr.der().to_vec(),
        })
    }

    /// The signing request (PKCS #10, DER). It names nobody: who the key belongs to is for the authority to know.
    pub fn csr(&self) -> Vec<u8> {
        self.csr.clone()
    }

    pub(crate) fn signer(&self) -> Arc<dyn SigningKey> {
        Arc::clone(&self.signer)
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_cannot_be_printed() {
        let key = PrivateKey::generate().unwrap();
        assert_eq!(format!("{key:?} {key:#?}"), "PrivateKey(..) PrivateKey(..)");
        assert_ne!(key.csr(), PrivateKey::generate().unwrap().csr());
    }
}
