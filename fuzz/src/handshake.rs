// SPDX-License-Identifier: Apache-2.0
//! The first bytes on the mesh port, and of a peer that was dialled: whatever they are, nobody has proved anything, nothing comes through,
//! and what we say is bounded.
#![no_main]

use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use libfuzzer_sys::fuzz_target;
use maille_identity::{Authority, Credentials, PrivateKey, Session};
use maille_model::Identity;

static OWN: LazyLock<(Credentials, Identity)> = LazyLock::new(|| {
    let now = SystemTime::now();
    let domain = "cluster.local".parse().expect("a trust domain");
    let authority = Authority::create(&domain, now).expect("an authority");
    let identity: Identity = "spiffe://cluster.local/ns/shop/sa/web".parse().expect("an identity");
    let key = PrivateKey::generate().expect("a key");
    let day = Duration::from_secs(24 * 3600);
    let signed = authority.sign(&key.csr(), &identity, day, now).expect("a certificate");
    let own = Credentials::new(key, signed.chain, &authority.trust_anchors());
    (own.expect("credentials"), identity)
});

fuzz_target!(|input: &[u8]| {
    let [role, piece, bytes @ ..] = input else {
        return;
    };
    let (own, identity) = &*OWN;
    let mut session = match role % 2 {
        0 => Session::server(own),
        _ => Session::client(own, identity),
    }
    .expect("a session");
    let (mut plain, mut out) = (Vec::new(), Vec::new());
    session.feed(&mut Vec::new(), &mut plain, &mut out).expect("nothing was said yet");
    for piece in bytes.chunks(usize::from(*piece) * 16 + 1) {
        let fed = session.feed(&mut piece.to_vec(), &mut plain, &mut out);
        assert!(plain.is_empty() && session.peer().is_none());
        // A flight of ours has a few thousand bytes, and an alert some more.
        assert!(out.len() < 16 * 1024, "{}", out.len());
        match fed {
            Ok(progress) => assert!(!progress.established),
            Err(_) => break,
        }
    }
    assert!(session.seal(b"secret", &mut out).is_err());
});
