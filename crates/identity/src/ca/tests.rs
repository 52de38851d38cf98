// SPDX-License-Identifier: Apache-2.0
use std::os::unix::fs::{PermissionsExt as _, symlink};

use proptest::prelude::*;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use super::*;
use crate::credentials::Credentials;
use crate::key::PrivateKey;
use crate::rotation::renew_at;
use crate::testing::{HOUR, at, identity, now, uri};

const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";

fn domain() -> TrustDomain {
    "cluster.local".parse().unwrap()
}

fn authority() -> Authority {
    Authority::create(&domain(), now()).unwrap()
}

fn sign(authority: &Authority, csr: &[u8], lifetime: Duration) -> Result<Signed, SignError> {
    authority.sign(csr, &identity(WEB), lifetime, now())
}

fn closed_dir() -> tempfile::TempDir {
    let mode = std::fs::Permissions::from_mode(0o700);
    tempfile::Builder::new()
        .permissions(mode)
        .tempdir()
        .unwrap()
}

fn seconds_of(time: Duration) -> u64 {
    time.as_secs()
}

#[test]
fn a_leaf_says_what_the_authority_means_and_nothing_else() {
    let key = KeyPair::generate().unwrap();
    let mut wish = CertificateParams::new(vec!["kubernetes.default".to_owned()]).unwrap();
    wish.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    wish.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    wish.subject_alt_names
        .push(uri("spiffe://cluster.local/ns/kube-system/sa/admin"));
    let csr = wish.serialize_request(&key).unwrap();
    let signed = sign(&authority(), csr.der(), HOUR).unwrap();
    let leaf = X509Certificate::from_der(&signed.chain[0]).unwrap().1;
    let names = leaf.subject_alternative_name().unwrap().unwrap();
    assert_eq!(names.value.general_names, [GeneralName::URI(WEB)]);
    assert!(names.critical, "the subject is empty");
    assert_eq!(leaf.subject().iter().count(), 0);
    assert!(!leaf.is_ca());
    let usage = leaf.key_usage().unwrap().unwrap().value;
    assert!(usage.digital_signature() && !usage.key_cert_sign());
    let purposes = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(purposes.server_auth && purposes.client_auth && !purposes.any);
    assert_eq!(
        *leaf.public_key().subject_public_key.data,
        *key.public_key_raw()
    );
}

#[test]
fn a_request_without_possession_is_refused() {
    let authority = authority();
    let csr = PrivateKey::generate().unwrap().csr();
    assert!(sign(&authority, &csr, HOUR).is_ok());
    let mut forged = csr.clone();
    *forged.last_mut().unwrap() ^= 1;
    assert!(matches!(
        sign(&authority, &forged, HOUR),
        Err(SignError::Request(
            RequestError::Possession | RequestError::Malformed
        ))
    ));
    let other = PrivateKey::generate().unwrap().csr();
    let key_of = |csr: &[u8]| {
        let from = csr.windows(2).position(|w| w == [0x00, 0x04]).unwrap();
        from + 2..from + 66
    };
    let mut stolen = csr.clone();
    let (to, from) = (key_of(&csr), key_of(&other));
    stolen[to].copy_from_slice(&other[from]);
    assert!(matches!(
        sign(&authority, &stolen, HOUR),
        Err(SignError::Request(RequestError::Possession))
    ));
}

#[test]
fn requests_of_other_kinds_are_refused() {
    let authority = authority();
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let csr = CertificateParams::default()
        .serialize_request(&key)
        .unwrap();
    assert!(matches!(
        sign(&authority, csr.der(), HOUR),
        Err(SignError::Request(RequestError::Algorithm))
    ));
    let mut longer = PrivateKey::generate().unwrap().csr();
    longer.push(0);
    assert!(matches!(
        sign(&authority, &longer, HOUR),
        Err(SignError::Request(RequestError::Malformed))
    ));
    assert!(matches!(
        sign(&authority, &[0; 5000], HOUR),
        Err(SignError::Request(RequestError::TooLong(5000)))
    ));
    let elsewhere = identity("spiffe://elsewhere/ns/shop/sa/web");
    assert!(matches!(
        authority.sign(csr.der(), &elsewhere, HOUR, now()),
        Err(SignError::TrustDomain { .. })
    ));
}

#[test]
fn a_minute_is_enough_to_rotate() {
    let authority = authority();
    let key = PrivateKey::generate().unwrap();
    let signed = sign(&authority, &key.csr(), Duration::from_secs(60)).unwrap();
    assert_eq!(signed.not_before, now() - Duration::from_secs(6));
    assert_eq!(signed.not_after, now() + Duration::from_secs(60));
    let renewal = renew_at(signed.not_before, signed.not_after, 0.0);
    assert_eq!(seconds_of(renewal.duration_since(now()).unwrap()), 40);
    let anchors = authority.trust_anchors();
    let made = Credentials::with_clock(key, signed.chain.clone(), &anchors, at(now())).unwrap();
    assert_eq!(
        (made.not_before(), made.not_after()),
        (signed.not_before, signed.not_after)
    );
    let key = PrivateKey::generate().unwrap();
    let late = at(now() + Duration::from_secs(62));
    let signed = sign(&authority, &key.csr(), Duration::from_secs(60)).unwrap();
    assert!(Credentials::with_clock(key, signed.chain, &anchors, late).is_err());
    let long = sign(
        &authority,
        &PrivateKey::generate().unwrap().csr(),
        24 * HOUR,
    )
    .unwrap();
    assert_eq!(long.not_before, now() - Duration::from_secs(300));
    assert!(matches!(
        sign(&authority, &[], Duration::from_secs(9)),
        Err(SignError::Lifetime { .. })
    ));
}

#[test]
fn a_leaf_never_outlives_its_issuer() {
    let authority = authority();
    let csr = PrivateKey::generate().unwrap().csr();
    let (from, end) = authority.validity();
    let sign = |now| authority.sign(&csr, &identity(WEB), 24 * HOUR, now);
    assert_eq!(sign(end - HOUR).unwrap().not_after, end);
    assert_eq!(sign(from).unwrap().not_before, from);
    for time in [end - Duration::from_secs(5), end + HOUR, from - HOUR] {
        assert!(matches!(sign(time), Err(SignError::Issuer)), "{time:?}");
    }
    let endless = authority.sign(&csr, &identity(WEB), Duration::MAX, now());
    assert_eq!(endless.unwrap().not_after, end);
}

#[test]
fn a_clock_that_cannot_be_right_makes_no_authority() {
    let late = UNIX_EPOCH + Duration::from_secs(LAST_SECOND);
    for time in [UNIX_EPOCH, late, UNIX_EPOCH - HOUR] {
        assert!(matches!(
            Authority::create(&domain(), time),
            Err(AuthorityError::Clock { .. })
        ));
    }
}

#[test]
fn an_authority_comes_back_from_its_file() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("ca");
    let first = Authority::open(&dir, &domain(), now()).unwrap();
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(
        (mode(&dir), mode(&dir.join("authority.pem"))),
        (0o700, 0o600)
    );
    let again = Authority::open(&dir, &domain(), now() + HOUR).unwrap();
    assert_eq!(again.trust_anchors(), first.trust_anchors());
    assert_eq!(again.validity(), first.validity());
    again.store(&dir).unwrap();
    let third = Authority::load(&dir, &domain()).unwrap().unwrap();
    let key = PrivateKey::generate().unwrap();
    let signed = sign(&third, &key.csr(), HOUR).unwrap();
    Credentials::with_clock(key, signed.chain, &first.trust_anchors(), at(now())).unwrap();
    assert_eq!(
        std::fs::read_dir(&dir).unwrap().count(),
        1,
        "nothing is left over"
    );
    assert!(matches!(
        Authority::load(&dir, &"elsewhere".parse().unwrap()),
        Err(StoreError::TrustDomain { .. })
    ));
}

#[test]
fn a_file_that_others_could_touch_is_not_believed() {
    let dir = closed_dir();
    let path = dir.path().join("authority.pem");
    authority().store(dir.path()).unwrap();
    let load = || Authority::load(dir.path(), &domain());
    let set = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    set(&path, 0o640);
    assert!(matches!(
        load(),
        Err(StoreError::Permissions { mode: 0o640, .. })
    ));
    set(&path, 0o600);
    set(dir.path(), 0o755);
    assert!(matches!(load(), Err(StoreError::Permissions { .. })));
    assert!(matches!(
        authority().store(dir.path()),
        Err(StoreError::Permissions { .. })
    ));
    set(dir.path(), 0o700);
    assert!(load().unwrap().is_some());
    std::fs::rename(&path, dir.path().join("elsewhere")).unwrap();
    assert!(load().unwrap().is_none());
    symlink(dir.path().join("elsewhere"), &path).unwrap();
    assert!(matches!(load(), Err(StoreError::Io { .. })));
}

#[test]
fn a_damaged_file_is_an_error_and_never_replaced() {
    let dir = closed_dir();
    let path = dir.path().join("authority.pem");
    authority().store(dir.path()).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let other = closed_dir();
    authority().store(other.path()).unwrap();
    let stranger = std::fs::read_to_string(other.path().join("authority.pem")).unwrap();
    let (key, _) = text.split_once("-----BEGIN CERT").unwrap();
    let (_, certificates) = stranger.split_once("-----BEGIN CERT").unwrap();
    let damaged = [
        String::new(),
        text[..text.len() / 2].to_owned(),
        text.replace("CERTIFICATE", "CERTAINTY"),
        format!("{key}-----BEGIN CERT{certificates}"),
        "a".repeat(70_000),
    ];
    for text in damaged {
        std::fs::write(&path, &text).unwrap();
        assert!(matches!(
            Authority::open(dir.path(), &domain(), now()),
            Err(AuthorityError::Store(StoreError::Damaged { .. }))
        ));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    }
}

proptest! {
    #[test]
    fn no_bytes_make_a_request_panic(at: prop::sample::Index, byte: u8, tail: Vec<u8>) {
        prop_assert!(request::public_key(&tail).is_err());
        let honest = PrivateKey::generate().unwrap().csr();
        let mut changed = honest.clone();
        changed[at.index(honest.len())] = byte;
        // What is not signed may be written in other ways; the key is always the one that signed.
        if let Ok(key) = request::public_key(&changed) {
            prop_assert_eq!(key, request::public_key(&honest).unwrap());
        }
    }
}
