// SPDX-License-Identifier: Apache-2.0
//! The certificate authority: a self-signed root, and an issuer below it that signs workloads.
//!
//! The root's key is forgotten as soon as it has signed the issuer. Of a signing request only the public key is believed,
//! after proof of possession; everything else in a certificate is made here, from the identity that the caller vouches for.
//! Next: `ca/request.rs` for the request, `ca/store.rs` for the file.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use maille_model::{Identity, TrustDomain};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    SanType, SerialNumber,
};
use rustls::pki_types::CertificateDer;

mod kept;
mod request;
mod serving;
mod store;
mod subject;

pub use kept::{Kept, KeptError};
pub use request::RequestError;
pub use serving::Serving;
pub use store::StoreError;
pub use subject::Subject;
pub(crate) use subject::uid_of;

/// How long root and issuer are valid.
const AUTHORITY_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// How far ahead of its making a root is valid: nodes whose clocks are behind must believe it too.
const AUTHORITY_BACKDATE: Duration = Duration::from_secs(3600);
/// At most this much is a leaf dated back, for peers whose clocks are behind; never more than a tenth of its lifetime.
const LEAF_BACKDATE: Duration = Duration::from_secs(300);
/// Shorter-lived certificates would be renewed in a tight loop.
const SHORTEST: Duration = Duration::from_secs(10);
/// No certificate can be dated later (RFC 5280, 4.1.2.5: the last second of the year 9999).
const LAST_SECOND: u64 = 253_402_300_799;

/// Root and issuer of one trust domain.
pub struct Authority {
    trust_domain: TrustDomain,
    /// Whom everybody believes: the root, and where it is being replaced the other one.
    anchors: Vec<CertificateDer<'static>>,
    /// The issuer, then those between it and an anchor.
    issuers: Vec<CertificateDer<'static>>,
    signer: Issuer<'static, KeyPair>,
    not_before: SystemTime,
    not_after: SystemTime,
}

/// A signed certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// DER, leaf first, without the anchor.
    pub chain: Vec<Vec<u8>>,
    /// From when the leaf is valid.
    pub not_before: SystemTime,
    /// Until when.
    pub not_after: SystemTime,
}

/// Why there is no authority.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// Keys or certificates could not be made.
    #[error("root and issuer could not be made")]
    Make(#[source] rcgen::Error),
    /// The system gave no random bytes.
    #[error("the system gives no random bytes")]
    Random,
    /// The machine's clock is before 1970 or after 9989.
    #[error(
        "the clock says {seconds} s since 1970, for which no certificate can be made: set the clock"
    )]
    Clock {
        /// What it says.
        seconds: u64,
    },
    /// The file.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a certificate is not signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The request is not one that can be signed.
    #[error("signing request cannot be accepted")]
    Request(#[from] RequestError),
    /// The identity belongs to another trust domain.
    #[error("identity {identity} is not of trust domain {trust_domain}")]
    TrustDomain {
        /// Whose certificate was asked for.
        identity: Identity,
        /// Ours.
        trust_domain: TrustDomain,
    },
    /// Less than ten seconds.
    #[error("lifetime of {lifetime:?} is below ten seconds")]
    Lifetime {
        /// What was asked for.
        lifetime: Duration,
    },
    /// The issuer is not valid for long enough, or not yet.
    #[error("issuer certificate is not valid now, or for less than ten seconds more")]
    Issuer,
    /// The system gave no random bytes.
    #[error("the system gives no random bytes")]
    Random,
    /// The certificate could not be made.
    #[error("certificate could not be made")]
    Make(#[source] rcgen::Error),
}

// === impl Authority ===

impl Authority {
    /// A new root and issuer for `trust_domain`, valid for ten years.
    pub fn create(trust_domain: &TrustDomain, now: SystemTime) -> Result<Self, AuthorityError> {
        let seconds = seconds(now);
        if !(AUTHORITY_BACKDATE.as_secs()..=LAST_SECOND - AUTHORITY_LIFETIME.as_secs())
            .contains(&seconds)
        {
            return Err(AuthorityError::Clock { seconds });
        }
        let (from, to) = (
            whole(now - AUTHORITY_BACKDATE),
            whole(now + AUTHORITY_LIFETIME),
        );
        let params = |role: &str, path: u8| {
            let serial = serial().ok_or(AuthorityError::Random)?;
            Ok::<_, AuthorityError>(authority_params(
                role,
                path,
                serial,
                trust_domain,
                (from, to),
            ))
        };
        let key = || KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(AuthorityError::Make);
        let (root_params, root_key) = (params("root", 1)?, key()?);
        let (issuer_params, issuer_key) = (params("issuer", 0)?, key()?);
        let root = root_params
            .self_signed(&root_key)
            .map_err(AuthorityError::Make)?;
        let issuer = issuer_params
            .signed_by(&issuer_key, &Issuer::new(root_params, root_key))
            .map_err(AuthorityError::Make)?;
        Ok(Self {
            trust_domain: trust_domain.clone(),
            anchors: vec![root.der().clone()],
            issuers: vec![issuer.der().clone()],
            signer: Issuer::new(issuer_params, issuer_key),
            not_before: from,
            not_after: to,
        })
    }

    /// Certificates (DER) that every chain of this trust domain ends in.
    pub fn trust_anchors(&self) -> Vec<Vec<u8>> {
        self.anchors.iter().map(|anchor| anchor.to_vec()).collect()
    }

    /// The certificate (DER) with whose key it signs.
    pub fn issuer(&self) -> &[u8] {
        self.issuers.first().map_or(&[], |issuer| issuer)
    }

    /// Whose identities it signs.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// From when to when its issuer is valid.
    pub fn validity(&self) -> (SystemTime, SystemTime) {
        (self.not_before, self.not_after)
    }

    /// Signs the public key of `csr_der` (PKCS #10, DER) for `subject`, which the caller has made sure of, for `lifetime` from
    /// `now`, at most as long as the issuer lives. Whatever else the request asks for is ignored.
    ///
    /// The leaf is dated back by a tenth of its lifetime, at most five minutes, for peers whose clocks are behind.
    pub fn sign<'a>(
        &self,
        csr_der: &[u8],
        subject: impl Into<Subject<'a>>,
        lifetime: Duration,
        now: SystemTime,
    ) -> Result<Signed, SignError> {
        let subject = subject.into();
        let identity = subject.identity;
        if identity.trust_domain != self.trust_domain {
            return Err(SignError::TrustDomain {
                identity: identity.clone(),
                trust_domain: self.trust_domain.clone(),
            });
        }
        if lifetime < SHORTEST {
            return Err(SignError::Lifetime { lifetime });
        }
        let key = request::public_key(csr_der)?;
        let backdate = LEAF_BACKDATE.min(lifetime / 10);
        let not_before = whole(now.checked_sub(backdate).unwrap_or(now)).max(self.not_before);
        let not_after = now
            .checked_add(lifetime)
            .map_or(self.not_after, |end| whole(end).min(self.not_after));
        if now < self.not_before || not_after < now + SHORTEST - Duration::from_secs(1) {
            return Err(SignError::Issuer);
        }
        let serial = serial().ok_or(SignError::Random)?;
        let leaf = leaf_params(&subject, serial, (not_before, not_after))
            .and_then(|params| params.signed_by(&key, &self.signer))
            .map_err(SignError::Make)?;
        Ok(self.signed(&leaf, not_before, not_after))
    }

    fn signed(&self, leaf: &Certificate, not_before: SystemTime, not_after: SystemTime) -> Signed {
        let chain = std::iter::once(leaf.der()).chain(&self.issuers);
        Signed {
            chain: chain.map(|one| one.to_vec()).collect(),
            not_before,
            not_after,
        }
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority")
            .field("trust_domain", &self.trust_domain)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

fn authority_params(
    role: &str,
    path: u8,
    serial: SerialNumber,
    trust_domain: &TrustDomain,
    (from, to): (SystemTime, SystemTime),
) -> CertificateParams {
    let mut params = dated(serial, from, to);
    // The serial makes the name unique: two authorities of one trust domain can be told apart.
    let unique: String = (params.serial_number.iter())
        .flat_map(SerialNumber::to_bytes)
        .take(4)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let name = format!("Maille {role} {unique}");
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(path));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    // SPIFFE X509-SVID, 4.1: a signing certificate may carry the trust domain's own ID.
    if let Ok(uri) = format!("spiffe://{trust_domain}").try_into() {
        params.subject_alt_names = vec![SanType::URI(uri)];
    }
    params
}

fn leaf_params(
    subject: &Subject<'_>,
    serial: SerialNumber,
    (from, to): (SystemTime, SystemTime),
) -> Result<CertificateParams, rcgen::Error> {
    let mut params = dated(serial, from, to);
    params.distinguished_name = subject.name();
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params.subject_alt_names = vec![SanType::URI(subject.identity.to_string().try_into()?)];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn dated(serial: SerialNumber, from: SystemTime, to: SystemTime) -> CertificateParams {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.serial_number = Some(serial);
    params.not_before = epoch + Duration::from_secs(seconds(from));
    params.not_after = epoch + Duration::from_secs(seconds(to).min(LAST_SECOND));
    params
}

/// 127 random bits: positive, not zero, and short enough for RFC 5280, 4.1.2.2.
fn serial() -> Option<SerialNumber> {
    let mut bytes = [0; 16];
    SystemRandom::new().fill(&mut bytes).ok()?;
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Some(SerialNumber::from_slice(&bytes))
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

/// Certificates count whole seconds.
fn whole(time: SystemTime) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds(time))
}

#[cfg(test)]
mod tests;
