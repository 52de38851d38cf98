// SPDX-License-Identifier: Apache-2.0
use rustls::pki_types::UnixTime;
use webpki::Error as E;

use super::*;

fn reason(error: E) -> &'static str {
    PeerError::from(error).reason()
}

#[test]
fn every_refusal_of_webpki_has_a_reason() {
    let time = UnixTime::since_unix_epoch(std::time::Duration::ZERO);
    for (error, expected) in [
        (
            E::CertExpired {
                time,
                not_after: time,
            },
            "certificate-expired",
        ),
        (E::InvalidCertValidity, "certificate-expired"),
        (
            E::CertNotValidYet {
                time,
                not_before: time,
            },
            "certificate-not-yet-valid",
        ),
        (E::UnknownIssuer, "unknown-ca"),
        (E::InvalidSignatureForPublicKey, "unknown-ca"),
        (E::CertDistrusted, "unknown-ca"),
        (E::EmptyEkuExtension, "certificate-purpose"),
        (E::CaUsedAsEndEntity, "certificate-of-authority"),
        (E::BadDer, "certificate-malformed"),
        (E::BadDerTime, "certificate-malformed"),
        (E::ExtensionValueInvalid, "certificate-malformed"),
        (E::MalformedExtensions, "certificate-malformed"),
        (E::UnsupportedCertVersion, "certificate-malformed"),
        (E::SignatureAlgorithmMismatch, "certificate-malformed"),
        (E::EndEntityUsedAsCa, "certificate-chain"),
        (E::NameConstraintViolation, "certificate-chain"),
        (E::PathLenConstraintViolated, "certificate-chain"),
        (E::MaximumSignatureChecksExceeded, "certificate-chain"),
        (E::MaximumPathBuildCallsExceeded, "certificate-chain"),
        (E::MaximumPathDepthExceeded, "certificate-chain"),
        (E::UnsupportedCriticalExtension, "certificate-chain"),
        (E::CertRevoked, "certificate-chain"),
    ] {
        let text = format!("{error:?}");
        assert_eq!(reason(error), expected, "{text}");
    }
}

#[test]
fn a_refusal_survives_its_way_through_rustls() {
    let someone: Identity = "spiffe://cluster.local/ns/a/sa/b".parse().unwrap();
    for error in [
        PeerError::Malformed,
        PeerError::Expired,
        PeerError::NotYetValid,
        PeerError::UnknownCa,
        PeerError::Purpose,
        PeerError::Authority,
        PeerError::Chain(Arc::new(E::CertRevoked)),
        PeerError::Names { found: 2 },
        PeerError::NotIdentity(IdentityError::Shape("x".into())),
        PeerError::TrustDomain {
            found: someone.clone(),
            expected: "other".parse().unwrap(),
        },
        PeerError::Identity {
            found: someone.clone(),
            expected: someone,
        },
    ] {
        let (text, reason) = (error.to_string(), error.reason());
        let rustls::Error::InvalidCertificate(carried) = error.into_rustls() else {
            panic!("{text} became another error");
        };
        let back = PeerError::from_rustls(&carried).unwrap();
        assert_eq!((back.to_string(), back.reason()), (text, reason));
    }
    assert!(PeerError::from_rustls(&CertificateError::Revoked).is_none());
}
