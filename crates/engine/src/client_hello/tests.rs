// SPDX-License-Identifier: Apache-2.0
//! Hellos of real clients and odd ones; and that neither records nor segments nor more bytes ever change an answer.

use proptest::prelude::*;

use super::*;

/// OpenSSL 3.0 asking for `shop.example.com`, without its padding's bytes.
const OPENSSL: &str = "1603010200010001fc0303e3aa36744ae8711d3eabfe2ac5330b9aa68f9d68ad90b066d91a1f44201524862068d9390f8bf4ed2f\
    87480b5704294892729199f3542ec57fb4e215392ba8ba6b0024130213031301c02cc030c02bc02fcca9cca8c024c028c023c027009f009e006b00670\
    0ff0100018f00000015001300001073686f702e6578616d706c652e636f6d000b000403000102000a00160014001d0017001e00190018010001010102\
    01030104002300000010000e000c02683208687474702f312e310016000000170000000d002a0028040305030603080708080809080a080b0804080508\
    06040105010601030303010302040205020602002b00050403040303002d00020101003300260024001d0020995c43df0a0fe467398d4f5835644b5d9\
    f653b8e471ddb141ab340420588bf6f001500cb";

fn openssl() -> Vec<u8> {
    let digits: Vec<u8> = OPENSSL.bytes().filter(u8::is_ascii_hexdigit).collect();
    let value = |digit: u8| u8::try_from(char::from(digit).to_digit(16).unwrap()).unwrap();
    let mut bytes: Vec<u8> = digits
        .chunks(2)
        .map(|pair| value(pair[0]) << 4 | value(pair[1]))
        .collect();
    bytes.resize(5 + 0x200, 0);
    bytes
}

fn length(width: usize, bytes: &[u8]) -> Vec<u8> {
    let mut out = (bytes.len() as u64).to_be_bytes()[8 - width..].to_vec();
    out.extend_from_slice(bytes);
    out
}

fn extension(kind: u16, data: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &length(2, data)].concat()
}

fn server_name(name: &[u8]) -> Vec<u8> {
    extension(0, &length(2, &[&[0][..], &length(2, name)].concat()))
}

/// A message with these extensions; `None`: without the vector at all.
fn message(extensions: Option<&[u8]>) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend(length(1, &[1; 32]));
    // GREASE, then a suite.
    body.extend(length(2, &[0x0a, 0x0a, 0x13, 1]));
    body.extend(length(1, &[0]));
    body.extend(extensions.map(|bytes| length(2, bytes)).unwrap_or_default());
    [&[1][..], &length(3, &body)].concat()
}

/// The message in records of these sizes, the last of them again and again.
fn records(message: &[u8], sizes: &[usize]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = message;
    let mut sizes = sizes.iter();
    let mut size = LONGEST_RECORD;
    while !rest.is_empty() {
        size = sizes.next().copied().unwrap_or(size);
        let (record, more) = rest.split_at(size.min(rest.len()));
        out.extend([22, 3, 1]);
        out.extend(length(2, record));
        rest = more;
    }
    out
}

fn named(name: &str) -> Hello {
    Hello::Whole(Some(name.parse().unwrap()))
}

#[test]
fn a_real_client_in_segments_of_every_size() {
    let hello = openssl();
    assert_eq!(read(&hello), named("shop.example.com"));
    for end in 0..hello.len() {
        assert_eq!(read(&hello[..end]), Hello::Partial, "{end} bytes");
    }
}

#[test]
fn a_hello_in_records_of_every_size() {
    let name = [server_name(b"a.example"), extension(0x0a0a, b"grease")].concat();
    let message = message(Some(&name));
    for size in 1..=message.len() {
        assert_eq!(
            read(&records(&message, &[size])),
            named("a.example"),
            "records of {size}"
        );
    }
}

#[test]
fn names_that_are_there_and_that_are_not() {
    let of = |extensions: &[u8]| read(&records(&message(Some(extensions)), &[]));
    let grease = [extension(0x1a1a, b""), extension(0xfafa, &[0; 9])].concat();
    assert_eq!(read(&records(&message(None), &[])), Hello::Whole(None));
    assert_eq!(of(b""), Hello::Whole(None));
    assert_eq!(of(&grease), Hello::Whole(None));
    let all = [&grease[..], &server_name(b"UPPER.example"), &grease].concat();
    assert_eq!(of(&all), named("upper.example"));
    // An address, something with a zero byte, something too long: the server will judge it.
    for odd in [&b"10.0.0.1:443"[..], b"a\0b", &[b'a'; 300]] {
        assert_eq!(of(&server_name(odd)), Hello::Whole(None));
    }
    // Another kind of name first.
    let two = [&[7][..], &length(2, b"x"), &[0], &length(2, b"b.example")].concat();
    assert_eq!(of(&extension(0, &length(2, &two))), named("b.example"));
}

#[test]
fn large_ones_up_to_the_bound() {
    let padded = |n: usize| {
        let all = [extension(21, &vec![0; n]), server_name(b"c.example")].concat();
        message(Some(&all))
    };
    let most = LONGEST_MESSAGE + HEADER - padded(0).len();
    assert_eq!(read(&records(&padded(most), &[])), named("c.example"));
    assert_eq!(read(&records(&padded(most), &[1000])), named("c.example"));
    assert_eq!(read(&records(&padded(most + 1), &[])), Hello::No);
    // Records so short that their headers are most of it.
    let tiny = records(&padded(most), &[1]);
    assert!(tiny.len() > LONGEST);
    assert_eq!(read(&tiny[..LONGEST - 1]), Hello::Partial);
    assert_eq!(read(&tiny[..LONGEST]), Hello::No);
    assert_eq!(read(&tiny), Hello::No);
}

#[test]
fn what_is_no_hello() {
    let whole = records(&message(Some(&server_name(b"d.example"))), &[]);
    let with = |at: usize, byte: u8| {
        let mut bytes = whole.clone();
        bytes[at] = byte;
        bytes
    };
    let twice = [server_name(b"d.example"), server_name(b"e.example")].concat();
    let mut cut = records(&message(Some(&server_name(b"d.example"))), &[20]);
    // The second record is an alert.
    cut[25] = 21;
    for (bytes, why) in [
        (with(0, 23), "another type of record"),
        (with(1, 2), "SSL 2"),
        (with(2, 5), "a version that never was"),
        (with(3, 0x41), "a record that is too long"),
        (with(5, 2), "a ServerHello"),
        (with(6, 1), "a message of 64 KiB"),
        (with(9, 2), "SSL 2 inside"),
        (with(43, 33), "a session id that is too long"),
        (with(77, 3), "half a cipher suite"),
        (with(82, 0), "no compression method"),
        (with(85, 1), "extensions that end too early"),
        (
            with(89, 0xff),
            "an extension that is longer than all of them",
        ),
        (cut, "an alert in between"),
        (records(&message(Some(&twice)), &[]), "two names"),
        (vec![22, 3, 1, 0, 0], "a record without payload"),
        (
            b"\x16GET / HTTP/1.1\r\n\r\n".to_vec(),
            "HTTP behind the type",
        ),
        (vec![22, 3, 3, 0x40, 1], "one byte more than a record has"),
    ] {
        assert_eq!(read(&bytes), Hello::No, "{why}");
    }
}

fn hellos() -> impl Strategy<Value = Vec<u8>> {
    let name = proptest::option::of("[a-zA-Z0-9.-]{1,40}");
    let other = proptest::collection::vec(any::<u8>(), 0..60);
    let sizes = proptest::collection::vec(1usize..80, 1..5);
    let damage = proptest::option::weighted(0.5, (any::<prop::sample::Index>(), any::<u8>()));
    (name, other, any::<u16>(), sizes, damage).prop_map(|(name, other, kind, sizes, damage)| {
        let mut all = extension(kind, &other);
        all.extend(
            name.map(|name| server_name(name.as_bytes()))
                .unwrap_or_default(),
        );
        let mut bytes = records(&message(Some(&all)), &sizes);
        if let Some((at, byte)) = damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes
    })
}

proptest! {
    #[test]
    fn more_bytes_never_change_an_answer(bytes in hellos(), more in proptest::collection::vec(any::<u8>(), 0..40)) {
        let all = [&bytes[..], &more].concat();
        let whole = read(&all);
        for length in 0..all.len() {
            let part = read(&all[..length]);
            prop_assert!(part == Hello::Partial || part == whole, "{length} bytes: {part:?}, all: {whole:?}");
        }
    }

    #[test]
    fn any_bytes_have_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let bytes = [&[22, 3, 1][..], &bytes].concat();
        read(&bytes);
    }

    #[test]
    fn records_never_change_the_name(name in "[a-z]{1,20}\\.[a-z]{1,9}", sizes in proptest::collection::vec(1usize..200, 1..9)) {
        let message = message(Some(&server_name(name.as_bytes())));
        prop_assert_eq!(read(&records(&message, &sizes)), named(&name));
    }
}
