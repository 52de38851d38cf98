// SPDX-License-Identifier: Apache-2.0
use std::sync::Arc;

use maille_model::TrustDomain;
use proptest::prelude::*;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, SanType};
use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;
use rustls::{AlertDescription, ClientConfig, SignatureScheme};

use super::*;
use crate::ca::Authority;
use crate::clock::WallClock;
use crate::key::PrivateKey;
use crate::testing::{HOUR, Lab, at, identity, now, uri, valid};

const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";
const DB: &str = "spiffe://cluster.local/ns/shop/sa/db";

type Outcome = Result<Progress, SessionError>;

/// Carries bytes between two sessions until neither has more to say, `chunk` bytes at a time.
fn carry(client: &mut Session, server: &mut Session, chunk: usize) -> (Outcome, Outcome) {
    let (mut up, mut down) = (Vec::new(), Vec::new());
    let mut plain = Vec::new();
    let mut ends = (
        client.feed(&mut Vec::new(), &mut plain, &mut up),
        Ok(Progress::default()),
    );
    while !(up.is_empty() && down.is_empty()) {
        for chunk in std::mem::take(&mut up).chunks_mut(chunk) {
            if ends.1.is_ok() {
                ends.1 = server.feed_slice(chunk, &mut plain, &mut down);
            }
        }
        for chunk in std::mem::take(&mut down).chunks_mut(chunk) {
            if ends.0.is_ok() {
                ends.0 = client.feed_slice(chunk, &mut plain, &mut up);
            }
        }
    }
    assert!(plain.is_empty(), "something was said in a handshake");
    ends
}

fn pair(lab: &Lab) -> (Session, Session) {
    let (web, db) = (
        lab.credentials(WEB, &lab.anchors(), |_| {}),
        lab.credentials(DB, &lab.anchors(), |_| {}),
    );
    (
        Session::client(&web, &identity(DB)).unwrap(),
        Session::server(&db).unwrap(),
    )
}

fn established() -> (Session, Session) {
    let (mut client, mut server) = pair(&Lab::new());
    let (left, right) = carry(&mut client, &mut server, usize::MAX);
    assert!(left.unwrap().established && right.unwrap().established);
    (client, server)
}

/// What `session` makes of `bytes`, and its answer.
fn fed(session: &mut Session, bytes: &[u8]) -> (Outcome, Vec<u8>, Vec<u8>) {
    let (mut plain, mut out) = (Vec::new(), Vec::new());
    let outcome = session.feed(&mut bytes.to_vec(), &mut plain, &mut out);
    (outcome, plain, out)
}

#[test]
fn both_sides_prove_who_they_are() {
    let (client, server) = established();
    assert_eq!(client.peer(), Some(&identity(DB)));
    assert_eq!(server.peer(), Some(&identity(WEB)));
    let Connection::Client(connection) = &client.side else {
        panic!("not a client");
    };
    let group = connection.negotiated_key_exchange_group().unwrap();
    assert_eq!(group.name(), rustls::NamedGroup::X25519MLKEM768);
    assert_eq!(connection.tls13_tickets_received(), 0);
}

#[test]
fn certificates_of_the_authority_are_good_for_it() {
    let domain: TrustDomain = "cluster.local".parse().unwrap();
    let authority = Authority::create(&domain, now()).unwrap();
    let credentials = |name: &str, clock: WallClock| {
        let key = PrivateKey::generate().unwrap();
        let life = std::time::Duration::from_secs(60);
        let signed = authority.sign(&key.csr(), &identity(name), life, now());
        let anchors = authority.trust_anchors();
        Credentials::with_clock(key, signed.unwrap().chain, &anchors, clock).unwrap()
    };
    let (web, db) = (credentials(WEB, at(now())), credentials(DB, at(now())));
    let mut client = Session::client(&web, &identity(DB)).unwrap();
    let mut server = Session::server(&db).unwrap();
    let (left, right) = carry(&mut client, &mut server, usize::MAX);
    assert!(left.unwrap().established && right.unwrap().established);
}

#[test]
fn one_byte_at_a_time_is_enough() {
    let (mut client, mut server) = pair(&Lab::new());
    let (left, right) = carry(&mut client, &mut server, 1);
    assert!(left.unwrap().established && right.unwrap().established);
    let mut out = Vec::new();
    client.seal(b"hello", &mut out).unwrap();
    let mut plain = Vec::new();
    for byte in &out {
        // Sealing between the bytes of a record disturbs nothing.
        server.seal(b"x", &mut Vec::new()).unwrap();
        let outcome = server.feed(&mut vec![*byte], &mut plain, &mut Vec::new());
        assert!(outcome.unwrap().established);
    }
    assert_eq!(plain, b"hello");
}

#[test]
fn a_megabyte_goes_both_ways() {
    let (mut client, mut server) = established();
    let text: Vec<u8> = (0..1_000_003_u32).map(|n| n.to_le_bytes()[0]).collect();
    for (from, to) in [(true, 4096), (false, 100_000)] {
        let (sender, receiver) = if from {
            (&mut client, &mut server)
        } else {
            (&mut server, &mut client)
        };
        let mut sealed = Vec::new();
        sender.seal(&text, &mut sealed).unwrap();
        assert!(sealed.len() < text.len() + 62 * RECORD_OVERHEAD + 1);
        let (mut plain, mut out) = (Vec::new(), Vec::new());
        for chunk in sealed.chunks_mut(to) {
            receiver.feed_slice(chunk, &mut plain, &mut out).unwrap();
            assert!(receiver.pending.len() < 20_000);
        }
        assert!(plain == text, "what came is not what was sent");
        assert!(out.is_empty());
    }
}

#[test]
fn the_first_message_may_follow_the_handshake_at_once() {
    let (mut client, mut server) = pair(&Lab::new());
    let (mut up, mut down, mut plain) = (Vec::new(), Vec::new(), Vec::new());
    client.feed(&mut Vec::new(), &mut plain, &mut up).unwrap();
    server.feed(&mut up, &mut plain, &mut down).unwrap();
    let progress = client.feed(&mut down, &mut plain, &mut up).unwrap();
    assert!(progress.established);
    client.seal(b"first", &mut up).unwrap();
    client.close(&mut up);
    let progress = server.feed(&mut up, &mut plain, &mut down).unwrap();
    assert!(progress.established && progress.closed);
    assert_eq!(plain, b"first");
}

#[test]
fn closing_is_told_once_and_each_way() {
    let (mut client, mut server) = established();
    let mut out = Vec::new();
    client.close(&mut out);
    let first = out.len();
    client.close(&mut out);
    assert!(first > 0 && out.len() == first);
    assert!(matches!(
        client.seal(b"more", &mut out),
        Err(SessionError::Over)
    ));
    assert_eq!(out.len(), first);
    // What follows the end is nobody's.
    out.extend_from_slice(b"\x17\x03\x03\x00\x01x");
    let (outcome, plain, _) = fed(&mut server, &out);
    assert!(outcome.unwrap().closed && plain.is_empty());
    let mut out = Vec::new();
    server.seal(b"still here", &mut out).unwrap();
    server.close(&mut out);
    let (outcome, plain, _) = fed(&mut client, &out);
    assert!(outcome.unwrap().closed);
    assert_eq!(plain, b"still here");
}

#[test]
fn nothing_is_sealed_before_the_handshake() {
    let (mut client, mut server) = pair(&Lab::new());
    let mut out = Vec::new();
    for session in [&mut client, &mut server] {
        assert!(matches!(
            session.seal(b"x", &mut out),
            Err(SessionError::NotEstablished)
        ));
        session.close(&mut out);
    }
    assert!(out.is_empty());
}

/// Who refuses, and how the other side hears of it.
#[track_caller]
fn refused(client: &mut Session, server: &mut Session, by: Side, reason: &str) {
    let (left, right) = carry(client, server, usize::MAX);
    let (judge, judged) = match by {
        Side::Client => (left, right),
        Side::Server => (right, left),
    };
    assert_eq!(judge.unwrap_err().reason(), reason);
    let heard = judged.unwrap_err();
    assert_eq!(heard.reason(), "refused-by-peer", "{heard}");
}

#[derive(Clone, Copy, Debug)]
enum Side {
    Client,
    Server,
}

/// A bad certificate is refused on whichever side it is.
#[track_caller]
fn both_ways(reason: &str, edit: impl Fn(&mut CertificateParams)) {
    let lab = Lab::new();
    let good = |name| lab.credentials(name, &lab.anchors(), |_| {});
    let bad = |name| lab.credentials(name, &lab.anchors(), |params| edit(params));
    let mut client = Session::client(&good(WEB), &identity(DB)).unwrap();
    let mut server = Session::server(&bad(DB)).unwrap();
    refused(&mut client, &mut server, Side::Client, reason);
    let mut client = Session::client(&bad(WEB), &identity(DB)).unwrap();
    let mut server = Session::server(&good(DB)).unwrap();
    refused(&mut client, &mut server, Side::Server, reason);
}

#[test]
fn certificates_out_of_date_are_refused() {
    both_ways("certificate-expired", |params| {
        valid(params, now() - 2 * HOUR, now() - HOUR);
    });
    both_ways("certificate-not-yet-valid", |params| {
        valid(params, now() + HOUR, now() + 2 * HOUR);
    });
}

#[test]
fn certificates_without_one_identity_are_refused() {
    both_ways("certificate-names", |params| {
        params.subject_alt_names = vec![uri(WEB), uri(DB)];
    });
    both_ways("certificate-names", |params| {
        params.subject_alt_names = Vec::new();
    });
    both_ways("certificate-names", |params| {
        params.subject_alt_names = vec![SanType::DnsName("db.shop".try_into().unwrap())];
    });
    both_ways("certificate-not-identity", |params| {
        params.subject_alt_names = vec![uri("https://cluster.local/ns/shop/sa/db")];
    });
    both_ways("certificate-not-identity", |params| {
        params.subject_alt_names = vec![uri("spiffe://cluster.local/ns/shop/sa/db/")];
    });
    both_ways("wrong-trust-domain", |params| {
        params.subject_alt_names = vec![uri("spiffe://elsewhere/ns/shop/sa/db")];
    });
}

#[test]
fn certificates_for_something_else_are_refused() {
    both_ways("certificate-of-authority", |params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    });
    both_ways("certificate-purpose", |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
    });
    let lab = Lab::new();
    let of = |name, purpose: ExtendedKeyUsagePurpose| {
        lab.credentials(name, &lab.anchors(), |params| {
            params.extended_key_usages = vec![purpose];
        })
    };
    let (dials, listens) = (
        ExtendedKeyUsagePurpose::ClientAuth,
        ExtendedKeyUsagePurpose::ServerAuth,
    );
    let mut client = Session::client(&of(WEB, dials.clone()), &identity(DB)).unwrap();
    let mut server = Session::server(&of(DB, dials)).unwrap();
    refused(
        &mut client,
        &mut server,
        Side::Client,
        "certificate-purpose",
    );
    let mut client = Session::client(&of(WEB, listens.clone()), &identity(DB)).unwrap();
    let mut server = Session::server(&of(DB, listens)).unwrap();
    refused(
        &mut client,
        &mut server,
        Side::Server,
        "certificate-purpose",
    );
}

#[test]
fn somebody_else_is_refused() {
    let lab = Lab::new();
    let of = |name| lab.credentials(name, &lab.anchors(), |_| {});
    let mut client = Session::client(&of(WEB), &identity(WEB)).unwrap();
    let mut server = Session::server(&of(DB)).unwrap();
    refused(&mut client, &mut server, Side::Client, "wrong-identity");
}

#[test]
fn authorities_of_the_same_name_are_not_the_same() {
    let (lab, other) = (Lab::new(), Lab::new());
    let good = |name| lab.credentials(name, &lab.anchors(), |_| {});
    let foreign = |name| other.credentials(name, &lab.anchors(), |_| {});
    let mut client = Session::client(&good(WEB), &identity(DB)).unwrap();
    let mut server = Session::server(&foreign(DB)).unwrap();
    refused(&mut client, &mut server, Side::Client, "unknown-ca");
    let mut client = Session::client(&foreign(WEB), &identity(DB)).unwrap();
    let mut server = Session::server(&good(DB)).unwrap();
    refused(&mut client, &mut server, Side::Server, "unknown-ca");
}

#[test]
fn an_unknown_authority_is_refused() {
    let ours = Lab::new();
    let good = ours.credentials(DB, &ours.anchors(), |_| {});
    let theirs = Authority::create(&"cluster.local".parse().unwrap(), now()).unwrap();
    let key = PrivateKey::generate().unwrap();
    let signed = theirs
        .sign(&key.csr(), &identity(WEB), HOUR, now())
        .unwrap();
    let web = Credentials::with_clock(key, signed.chain, &theirs.trust_anchors(), at(now()));
    let mut client = Session::client(&web.unwrap(), &identity(DB)).unwrap();
    let mut server = Session::server(&good).unwrap();
    refused(&mut client, &mut server, Side::Client, "unknown-ca");
}

/// A client that has all it needs, and is not quite of Maille.
fn stranger(lab: &Lab, edit: impl FnOnce(&mut ClientConfig)) -> Session {
    let own = lab.credentials(WEB, &lab.anchors(), |_| {});
    let mut config = own.dial(&identity(DB));
    edit(&mut config);
    let name = ServerName::IpAddress(Ipv4Addr::UNSPECIFIED.into());
    let connection = UnbufferedClientConnection::new(Arc::new(config), name).unwrap();
    Session::new(Connection::Client(connection), &own)
}

#[derive(Debug)]
struct Nobody;

impl ResolvesClientCert for Nobody {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

#[test]
fn a_client_without_certificate_is_refused() {
    let lab = Lab::new();
    let mut server = Session::server(&lab.credentials(DB, &lab.anchors(), |_| {})).unwrap();
    let mut client = stranger(&lab, |config| {
        config.client_auth_cert_resolver = Arc::new(Nobody);
    });
    refused(&mut client, &mut server, Side::Server, "no-certificate");
}

#[test]
fn a_client_of_another_protocol_is_refused() {
    let lab = Lab::new();
    let db = lab.credentials(DB, &lab.anchors(), |_| {});
    let mut client = stranger(&lab, |config| config.alpn_protocols = vec![b"h2".to_vec()]);
    let mut server = Session::server(&db).unwrap();
    let (heard, judged) = carry(&mut client, &mut server, usize::MAX);
    assert_eq!(judged.unwrap_err().reason(), "no-common-protocol");
    assert!(matches!(
        heard,
        Err(SessionError::Refused(
            AlertDescription::NoApplicationProtocol
        ))
    ));

    let mut client = stranger(&lab, |config| config.alpn_protocols.clear());
    let mut server = Session::server(&db).unwrap();
    let (_, judged) = carry(&mut client, &mut server, usize::MAX);
    assert_eq!(judged.unwrap_err().reason(), "no-common-protocol");
    assert_eq!((server.is_established(), server.peer()), (false, None));
}

/// A ClientHello as TLS 1.2 has it (RFC 5246, 7.4.1.2): ECDHE-ECDSA with AES-128-GCM, P-256, no supported_versions.
fn hello_of_tls12() -> Vec<u8> {
    let extensions = [
        &[0, 10, 0, 4, 0, 2, 0, 23][..],
        &[0, 11, 0, 2, 1, 0],
        &[0, 13, 0, 4, 0, 2, 4, 3],
        &[0, 23, 0, 0],
    ]
    .concat();
    let mut body = vec![3, 3];
    body.extend_from_slice(&[7; 32]);
    body.extend_from_slice(&[0, 0, 2, 0xc0, 0x2b, 1, 0, 0]);
    body.push(u8::try_from(extensions.len()).unwrap());
    body.extend(extensions);
    let length = u8::try_from(body.len()).unwrap();
    [&[22, 3, 1, 0, length + 4, 1, 0, 0, length][..], &body].concat()
}

#[test]
fn tls_1_2_is_refused() {
    let (_, mut server) = pair(&Lab::new());
    let (outcome, plain, out) = fed(&mut server, &hello_of_tls12());
    assert_eq!(outcome.unwrap_err().reason(), "old-tls-version");
    assert!(plain.is_empty());
    // Alert, fatal, protocol_version (RFC 8446, 6.2).
    assert_eq!(out, [21, 3, 3, 0, 2, 2, 70]);
}

#[test]
fn a_server_of_tls_1_2_is_refused() {
    let (mut client, _) = pair(&Lab::new());
    let (_, _, hello) = fed(&mut client, &[]);
    // The session id that must be echoed follows record header, handshake header, version and random.
    let id = &hello[44..76];
    let mut body = vec![3, 3];
    body.extend_from_slice(&[9; 32]);
    body.push(32);
    body.extend_from_slice(id);
    body.extend_from_slice(&[0xc0, 0x2b, 0]);
    let length = u8::try_from(body.len()).unwrap();
    let answer = [&[22, 3, 3, 0, length + 4, 2, 0, 0, length][..], &body].concat();
    let (outcome, _, out) = fed(&mut client, &answer);
    assert_eq!(outcome.unwrap_err().reason(), "old-tls-version");
    assert_eq!(out[..6], [21, 3, 3, 0, 2, 2]);
}

#[test]
fn plain_text_is_not_answered() {
    for text in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\0",
        b"\x16GET",
        b"\x17\x03\x03",
    ] {
        let (mut client, mut server) = pair(&Lab::new());
        fed(&mut client, &[]).0.unwrap();
        for session in [&mut client, &mut server] {
            let (outcome, plain, out) = fed(session, text);
            assert!(matches!(outcome, Err(SessionError::NotTls)), "{text:?}");
            assert!(plain.is_empty() && out.is_empty());
            assert!(matches!(fed(session, text).0, Err(SessionError::Over)));
        }
    }
    // The second byte may come later.
    let (_, mut server) = pair(&Lab::new());
    assert!(fed(&mut server, b"\x16").0.is_ok());
    assert!(matches!(
        fed(&mut server, b"x").0,
        Err(SessionError::NotTls)
    ));
}

#[test]
fn plain_text_after_the_handshake_ends_the_session() {
    let (_, mut server) = established();
    let (outcome, plain, out) = fed(&mut server, b"GET / HTTP/1.1\r\n\r\n");
    assert!(outcome.is_err() && plain.is_empty());
    // What goes out is encrypted: outwardly application data (RFC 8446, 5.2).
    assert!(out.is_empty() || out[0] == 23, "{out:?}");
}

#[test]
fn a_changed_record_ends_the_session() {
    let (mut client, mut server) = established();
    let mut out = Vec::new();
    client.seal(b"pay 10", &mut out).unwrap();
    *out.last_mut().unwrap() ^= 1;
    let (outcome, plain, alert) = fed(&mut server, &out);
    assert_eq!(outcome.unwrap_err().reason(), "tls-malformed");
    assert!(plain.is_empty() && !alert.is_empty());
    assert!(matches!(
        fed(&mut client, &alert).0,
        Err(SessionError::Refused(AlertDescription::BadRecordMac))
    ));
    assert!(matches!(
        server.seal(b"x", &mut Vec::new()),
        Err(SessionError::Over)
    ));
}

#[test]
fn a_message_that_never_ends_is_not_kept() {
    let (_, mut server) = pair(&Lab::new());
    // A ClientHello of 60,000 bytes in records of one byte each: 20 times its size on the wire is within every limit of TLS.
    let mut stream = b"\x16\x03\x01\x00\x04\x01\x00\xea\x60".to_vec();
    let mut refused = false;
    for _ in 0..60_000 {
        stream.extend_from_slice(b"\x16\x03\x01\x00\x01\x00");
        if stream.len() > 4096 {
            refused |= fed(&mut server, &std::mem::take(&mut stream)).0.is_err();
        }
        if refused {
            break;
        }
        assert!(server.pending.len() <= PENDING);
    }
    assert!(refused, "a message without end was kept");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn garbage_never_panics(bytes: Vec<u8>, kind in 20u8..25, text: Vec<u8>) {
        let (mut client, mut server) = pair(&Lab::new());
        let length = u16::try_from(bytes.len()).unwrap().to_be_bytes();
        let record = [&[kind, 3, 3][..], &length, &bytes].concat();
        for session in [&mut client, &mut server] {
            fed(session, &[]).0.unwrap();
            let mut outcomes = [fed(session, &record), fed(session, &text), fed(session, &record)];
            for (outcome, plain, _) in &mut outcomes {
                prop_assert!(plain.is_empty());
                prop_assert!(!outcome.as_ref().is_ok_and(|progress| progress.established));
            }
        }
        let (mut client, mut server) = established();
        for session in [&mut client, &mut server] {
            let (outcome, plain, _) = fed(session, &record);
            prop_assert!(plain.is_empty());
            prop_assert!(outcome.is_err() || kind == 20 || record.len() < 5 + usize::from(u16::from_be_bytes(length)));
            drop(session.seal(b"x", &mut Vec::new()));
            drop(fed(session, &text));
        }
    }

    #[test]
    fn a_flight_with_one_wrong_bit_never_gets_further(at: prop::sample::Index, bit in 0u8..8) {
        let lab = Lab::new();
        let (mut client, mut server) = pair(&lab);
        let (_, _, mut hello) = fed(&mut client, &[]);
        let place = at.index(hello.len());
        hello[place] ^= 1 << bit;
        let (outcome, plain, flight) = fed(&mut server, &hello);
        prop_assert!(plain.is_empty());
        if outcome.is_ok() {
            // Taken or waited for; but the transcript differs, so that the client cannot agree.
            let (outcome, _, finished) = fed(&mut client, &flight);
            if outcome.is_ok_and(|progress| progress.established) {
                prop_assert!(fed(&mut server, &finished).0.is_err());
            }
        }
        prop_assert!(!server.is_established());
    }
}

#[test]
fn a_session_rests_on_the_anchor_that_its_peer_proved_itself_with() {
    // Labs have the same name: only their keys tell them apart.
    let (old, new) = (Lab::new(), Lab::new());
    let both = [old.anchors(), new.anchors()].concat();
    let web = old.credentials(WEB, &both, |_| {});
    let db = new.credentials(DB, &both, |_| {});
    let mut client = Session::client(&web, &identity(DB)).unwrap();
    let mut server = Session::server(&db).unwrap();
    let anchors = |ders: &[Vec<u8>]| Anchors::new(ders).unwrap();
    assert!(!client.rests_on(&anchors(&both)), "nothing is proved yet");
    let (left, right) = carry(&mut client, &mut server, usize::MAX);
    assert!(left.unwrap().established && right.unwrap().established);
    for (side, rests, not) in [(&client, &new, &old), (&server, &old, &new)] {
        assert!(side.rests_on(&anchors(&both)));
        assert!(side.rests_on(&anchors(&rests.anchors())));
        assert!(!side.rests_on(&anchors(&not.anchors())));
    }
}

#[test]
fn age_withdraws_no_trust() {
    let lab = Lab::new();
    let moment = Arc::new(std::sync::Mutex::new(now()));
    let clock = {
        let moment = Arc::clone(&moment);
        WallClock::of(move || *moment.lock().unwrap())
    };
    let credentials = |name: &str| {
        let (key, chain) = lab.leaf(|params| lab.workload(params, name));
        Credentials::with_clock(key, chain, &lab.anchors(), clock.clone()).unwrap()
    };
    let (web, db) = (credentials(WEB), credentials(DB));
    let mut client = Session::client(&web, &identity(DB)).unwrap();
    let mut server = Session::server(&db).unwrap();
    carry(&mut client, &mut server, usize::MAX).1.unwrap();
    *moment.lock().unwrap() += 2 * HOUR;
    let anchors = Anchors::new(&lab.anchors()).unwrap();
    assert!(client.rests_on(&anchors) && server.rests_on(&anchors));
}
