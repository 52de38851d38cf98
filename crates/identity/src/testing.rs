// SPDX-License-Identifier: Apache-2.0
//! For tests: an authority that signs anything, and credentials that nobody checked.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use maille_model::Identity;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;

use crate::clock::WallClock;
use crate::credentials::{Credentials, trust};
use crate::key::PrivateKey;

/// Some second of 2027.
pub(crate) fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}
pub(crate) const HOUR: Duration = Duration::from_secs(3600);

/// A clock that stands still.
pub(crate) fn at(now: SystemTime) -> WallClock {
    WallClock::of(move || now)
}

pub(crate) fn identity(text: &str) -> Identity {
    text.parse().unwrap()
}

pub(crate) fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

/// An authority without scruples.
pub(crate) struct Lab {
    root: CertificateDer<'static>,
    signer: Issuer<'static, KeyPair>,
}

impl Lab {
    /// All labs have the same name, and different keys.
    pub(crate) fn new() -> Self {
        let mut params = dated();
        params.distinguished_name.push(DnType::CommonName, "Lab");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        Self {
            root: params.self_signed(&key).unwrap().der().clone(),
            signer: Issuer::new(params, key),
        }
    }

    pub(crate) fn anchors(&self) -> Vec<Vec<u8>> {
        vec![self.root.to_vec()]
    }

    /// What a workload's certificate should be.
    pub(crate) fn workload(&self, params: &mut CertificateParams, name: &str) {
        params.subject_alt_names = vec![uri(name)];
        params.is_ca = IsCa::ExplicitNoCa;
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
    }

    /// Any leaf.
    pub(crate) fn leaf(
        &self,
        edit: impl FnOnce(&mut CertificateParams),
    ) -> (PrivateKey, Vec<Vec<u8>>) {
        let mut params = dated();
        edit(&mut params);
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &self.signer).unwrap();
        (PrivateKey::of(&key).unwrap(), vec![leaf.der().to_vec()])
    }

    /// Credentials with any leaf; their owner believes `anchors` and thinks it is `own`.
    pub(crate) fn credentials(
        &self,
        own: &str,
        anchors: &[Vec<u8>],
        edit: impl FnOnce(&mut CertificateParams),
    ) -> Credentials {
        let (key, chain) = self.leaf(|params| {
            self.workload(params, own);
            edit(params);
        });
        let own = identity(own);
        let chain = chain.into_iter().map(CertificateDer::from).collect();
        let certified = CertifiedKey::new(chain, key.signer());
        let trust = trust(&own, anchors).unwrap();
        Credentials::assemble(own, certified, trust, &at(now())).unwrap()
    }
}

fn dated() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    valid(&mut params, now() - HOUR, now() + HOUR);
    params
}

/// Sets the dates of a certificate.
pub(crate) fn valid(params: &mut CertificateParams, from: SystemTime, to: SystemTime) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + from.duration_since(UNIX_EPOCH).unwrap();
    params.not_after = epoch + to.duration_since(UNIX_EPOCH).unwrap();
}
