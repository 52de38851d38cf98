// SPDX-License-Identifier: Apache-2.0
//! DER of strangers: signing requests, and certificates by which a peer says who it is. Nothing is signed but a key that has proved itself,
//! nobody is an identity that is not in the certificate.
#![no_main]

use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use libfuzzer_sys::fuzz_target;
use maille_identity::{Authority, describe, fuzzing};
use maille_model::Identity;

static AUTHORITY: LazyLock<(Authority, Identity)> = LazyLock::new(|| {
    let domain = "cluster.local".parse().expect("a trust domain");
    let authority = Authority::create(&domain, SystemTime::now()).expect("an authority");
    let identity = "spiffe://cluster.local/ns/shop/sa/web".parse().expect("an identity");
    (authority, identity)
});

fuzz_target!(|input: &[u8]| {
    let (authority, identity) = &*AUTHORITY;
    let hour = Duration::from_secs(3600);
    if let Ok(signed) = authority.sign(input, identity, hour, SystemTime::now()) {
        let named = fuzzing::identity_of(&signed.chain[0]).expect("our own certificates name one");
        assert_eq!(named, *identity, "whatever the request asked for");
    }
    let described = describe::certificate(input);
    if let Ok(named) = fuzzing::identity_of(input) {
        let described = described.expect("what names an identity can be described");
        assert_eq!(described.subject, named.to_string());
    }
});
