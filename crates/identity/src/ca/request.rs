// SPDX-License-Identifier: Apache-2.0
//! Signing requests (PKCS #10): the public key, if whoever asks has the private one. Nothing else in a request is looked at.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use rcgen::SubjectPublicKeyInfo;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_SIG_ECDSA_WITH_SHA256,
};
use x509_parser::prelude::FromDer as _;

/// Our own requests have some 200 bytes.
const LONGEST: usize = 4096;

/// Why a signing request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// More than 4 KiB.
    #[error("it has {0} bytes, at most 4096 are allowed")]
    TooLong(usize),
    /// Not a PKCS #10 request in DER, or something follows it.
    #[error("it is not a PKCS #10 request in DER")]
    Malformed,
    /// The key is not ECDSA P-256 or the signature not by SHA-256.
    #[error("its key is not ECDSA P-256, or its signature not by SHA-256")]
    Algorithm,
    /// The signature does not belong to the key: no proof of possession.
    #[error("its signature was not made by its key")]
    Possession,
}

/// The public key of a request whose signature that key made.
pub(super) fn public_key(der: &[u8]) -> Result<SubjectPublicKeyInfo, RequestError> {
    if der.len() > LONGEST {
        return Err(RequestError::TooLong(der.len()));
    }
    let Ok(([], request)) = X509CertificationRequest::from_der(der) else {
        return Err(RequestError::Malformed);
    };
    let info = &request.certification_request_info;
    let key = &info.subject_pki;
    let curve = (key.algorithm.parameters.as_ref()).and_then(|curve| curve.as_oid().ok());
    if key.algorithm.algorithm != OID_KEY_TYPE_EC_PUBLIC_KEY
        || curve != Some(OID_EC_P256)
        || request.signature_algorithm.algorithm != OID_SIG_ECDSA_WITH_SHA256
    {
        return Err(RequestError::Algorithm);
    }
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &*key.subject_public_key.data)
        .verify(info.raw, &request.signature_value.data)
        .map_err(|_| RequestError::Possession)?;
    SubjectPublicKeyInfo::from_der(key.raw).map_err(|_| RequestError::Malformed)
}
