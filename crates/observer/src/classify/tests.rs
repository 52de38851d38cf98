// SPDX-License-Identifier: Apache-2.0
use proptest::prelude::*;

use super::*;
use crate::testing::{
    client_hello, client_stream, message, record, server_hello, server_hello_of, server_stream,
};

fn judge(bytes: &[u8]) -> Classifier {
    let mut classifier = Classifier::default();
    classifier.feed(bytes);
    classifier.finish();
    classifier
}

/// How many bytes of TLS and of plain, and the flaw.
fn verdict(bytes: &[u8]) -> (u64, u64, Option<&'static str>) {
    let judged = judge(bytes);
    (judged.counts().tls, judged.counts().plain, judged.flaw())
}

#[test]
fn tls_13_of_both_sides_is_tls_to_the_last_byte() {
    for stream in [client_stream(b"abc"), server_stream(&[1; 16_640])] {
        assert_eq!(verdict(&stream), (stream.len() as u64, 0, None));
    }
}

#[test]
fn a_retry_is_tls_13() {
    let retry = server_hello_of(RETRY, &[0, 43, 0, 2, 3, 4]);
    let data = record(23, b"data");
    let server = [&retry[..], &record(20, &[1]), &server_hello(), &data].concat();
    assert_eq!(verdict(&server), (server.len() as u64, 0, None));
    let client = [
        client_hello(),
        record(20, &[1]),
        client_hello(),
        data.clone(),
    ]
    .concat();
    assert_eq!(verdict(&client), (client.len() as u64, 0, None));
    assert!(verdict(&[&retry[..], &data].concat()).2.is_some());
    assert!(verdict(&[&retry[..], &retry].concat()).2.is_some());
    assert!(verdict(&client_hello().repeat(3)).2.is_some());
}

#[test]
fn a_hello_in_many_records_is_one() {
    let whole = server_hello();
    let mut stream = Vec::new();
    for part in whole[5..].chunks(7) {
        stream.extend(record(22, part));
    }
    stream.extend(record(23, b"data"));
    assert_eq!(verdict(&stream), (stream.len() as u64, 0, None));
}

#[test]
fn what_is_not_tls_13_is_told() {
    let old = server_hello_of([7; 32], &[0, 51, 0, 2, 9, 9]);
    let alert = record(21, &[2, 40]);
    let flawed = [
        ("a ServerHello without a version", old),
        (
            "one that chose 1.2",
            server_hello_of([7; 32], &[0, 43, 0, 2, 3, 3]),
        ),
        (
            "a broken one",
            server_hello_of([7; 32], &[0, 43, 0, 9, 3, 4]),
        ),
        ("a short one", record(22, &message(2, b"short"))),
        (
            "a certificate in the clear",
            [server_hello(), record(22, &message(11, b"c"))].concat(),
        ),
        (
            "a key exchange in the clear",
            [client_hello(), record(22, &message(16, b"k"))].concat(),
        ),
        (
            "a heartbeat",
            [client_hello(), record(24, b"beat")].concat(),
        ),
        ("a hello request", record(22, &message(0, b""))),
        ("an endless hello", record(22, &[1, 1, 0, 0, 0])),
        (
            "data inside a hello",
            [record(22, &[1, 0, 9]), record(23, b"x")].concat(),
        ),
        (
            "a long alert",
            [server_hello(), record(21, b"abc")].concat(),
        ),
        (
            "both sides in one",
            [client_hello(), server_hello()].concat(),
        ),
    ];
    for (name, stream) in flawed {
        let (tls, plain, flaw) = verdict(&stream);
        assert_eq!((tls, plain), (stream.len() as u64, 0), "{name}");
        assert!(flaw.is_some(), "{name} went unnoticed");
    }
    assert_eq!(verdict(&[client_hello(), alert].concat()).2, None);
}

#[test]
fn what_does_not_begin_as_tls_is_plain() {
    for text in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"\x16",
        b"\x16\x03\x01",
        b"\x16\x03\x02\x00\x04abcd",
        b"\x16\x02\x01\x00\x04abcd",
        b"\x16\x03\x01\x00\x00abcd",
        b"\x16\x03\x01\xff\xffabcd",
        &record(23, b"data without a hello"),
    ] {
        assert_eq!(verdict(text), (0, text.len() as u64, None), "{text:?}");
    }
}

#[test]
fn the_part_after_the_last_record_is_plain_for_good() {
    let mut stream = client_stream(b"abc");
    let tls = stream.len() as u64;
    stream.extend(b"leaked ");
    stream.extend(client_stream(b"abc"));
    assert_eq!(verdict(&stream), (tls, stream.len() as u64 - tls, None));
}

#[test]
fn a_stream_joined_midway_may_begin_with_any_record() {
    let mut classifier = Classifier::midway();
    classifier.feed(&record(23, b"data").repeat(2));
    assert_eq!((classifier.counts().tls, classifier.flaw()), (18, None));
    let mut classifier = Classifier::midway();
    classifier.feed(b"no record");
    assert_eq!(classifier.counts().plain, 9);
}

proptest! {
    #[test]
    fn the_cuts_do_not_matter(
        content in proptest::collection::vec(any::<u8>(), 1..300),
        tail in proptest::collection::vec(any::<u8>(), 0..20),
        server: bool,
        cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..12),
    ) {
        let mut stream = if server { server_stream(&content) } else { client_stream(&content) };
        stream.extend(tail);
        let whole = judge(&stream);
        let mut places: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len())).collect();
        places.extend([0, stream.len()]);
        places.sort_unstable();
        let mut parts = Classifier::default();
        for pair in places.windows(2) {
            parts.feed(&stream[pair[0]..pair[1]]);
        }
        parts.finish();
        prop_assert_eq!(parts.counts(), whole.counts());
        prop_assert_eq!(parts.flaw(), whole.flaw());
    }

    #[test]
    fn every_byte_counts_once(bytes in proptest::collection::vec(0_u8..26, 0..400)) {
        // Small numbers make headers likely.
        for stream in [bytes.clone(), record(22, &bytes), [server_hello(), bytes.clone()].concat()] {
            let (tls, plain, _) = verdict(&stream);
            prop_assert_eq!(tls + plain, stream.len() as u64);
        }
    }

    #[test]
    fn no_hello_is_too_strange(kind in 0_u8..4, body in proptest::collection::vec(any::<u8>(), 0..120)) {
        judge(&record(22, &message(kind, &body)));
        judge(&server_hello_of(RETRY, &body));
    }
}
