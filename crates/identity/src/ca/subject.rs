// SPDX-License-Identifier: Apache-2.0
//! Whom a certificate is for: the identity, which peers judge, and the pod, by which control knows its bearer again.
//!
//! Must never decide anything by the pod's uid: an identity is what a certificate proves. Read `ca.rs` next.

use maille_model::{Identity, WorkloadUid};
use rcgen::{DistinguishedName, DnType};
use rustls::pki_types::CertificateDer;
use x509_parser::der_parser::{Oid, oid};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// The attribute `UID` of a name (RFC 4519, 2.39).
const UID: [u64; 7] = [0, 9, 2342, 19_200_300, 100, 1, 1];
const UID_READ: Oid<'static> = oid!(0.9.2342.19200300.100.1.1);

/// Whom a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subject<'a> {
    /// What it proves.
    pub identity: &'a Identity,
    /// The pod that holds the key, where one does: in the subject's name, as its `UID`.
    pub uid: Option<&'a WorkloadUid>,
}

// === impl Subject ===

impl Subject<'_> {
    /// The subject's name: empty without a pod.
    pub(super) fn name(&self) -> DistinguishedName {
        let mut name = DistinguishedName::new();
        if let Some(uid) = self.uid {
            name.push(DnType::CustomDnType(UID.to_vec()), uid.as_str());
        }
        name
    }
}

impl<'a> From<&'a Identity> for Subject<'a> {
    fn from(identity: &'a Identity) -> Self {
        Self {
            identity,
            uid: None,
        }
    }
}

/// The pod that a leaf names. `None` also where it names several, or none that can be one.
pub(crate) fn uid_of(leaf: &CertificateDer<'_>) -> Option<WorkloadUid> {
    let (_, certificate) = X509Certificate::from_der(leaf).ok()?;
    let mut uids = certificate.subject().iter_by_oid(&UID_READ);
    match (uids.next(), uids.next()) {
        (Some(uid), None) => WorkloadUid::new(uid.as_str().ok()?),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ca::Authority;
    use crate::key::PrivateKey;
    use crate::testing::{HOUR, identity, now};

    #[test]
    fn a_leaf_names_its_pod_and_still_proves_its_identity() {
        let web = identity("spiffe://cluster.local/ns/shop/sa/web");
        let authority = Authority::create(&web.trust_domain, now()).unwrap();
        let csr = PrivateKey::generate().unwrap().csr();
        let uid = WorkloadUid::new("0b7e9a4c-6c44-4f0e-b2a4-6a2a7c1d3e5f").unwrap();
        let named = Subject {
            identity: &web,
            uid: Some(&uid),
        };
        let leaf = |subject: Subject<'_>| {
            let signed = authority.sign(&csr, subject, HOUR, now()).unwrap();
            CertificateDer::from(signed.chain[0].clone())
        };
        assert_eq!(uid_of(&leaf(named)).as_ref(), Some(&uid));
        assert_eq!(crate::peer::identity_of(&leaf(named)).unwrap(), web);
        assert_eq!(uid_of(&leaf(Subject::from(&web))), None);
        assert_eq!(uid_of(&CertificateDer::from(vec![48, 0])), None);
    }
}
