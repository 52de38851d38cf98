// SPDX-License-Identifier: Apache-2.0
//! Heads by the rules of the dialect: what is read from them, and which ones reset their stream.

use super::*;

const TO: Plain<'static> = (":authority", "[fd00::1]:80");
const METHOD: Plain<'static> = (":method", "GET");
const PATH: Plain<'static> = (":path", "/");

const GOOD: &[(&[Plain<'_>], &str)] = &[
    (&[METHOD, PATH, TO], "GET / to [fd00::1]:80"),
    (
        &[TO, (":path", "*"), (":method", "OPTIONS"), ("a", "b")],
        "OPTIONS * to [fd00::1]:80 a=b",
    ),
    (&[(":method", "CONNECT"), TO], "CONNECT to [fd00::1]:80"),
    (
        &[(":method", "CONNECT"), (":path", "a:1"), TO],
        "CONNECT a:1 to [fd00::1]:80",
    ),
    (
        &[METHOD, PATH, TO, (":scheme", "https")],
        "GET / to [fd00::1]:80",
    ),
    (
        &[METHOD, PATH, TO, (":m-new", "x"), (":m-other", "x")],
        "GET / to [fd00::1]:80",
    ),
    (
        &[
            METHOD,
            PATH,
            TO,
            ("A", "\u{e9}"),
            ("a", ""),
            ("Connection", "x"),
        ],
        "GET / to [fd00::1]:80 A=\\xc3\\xa9 a= Connection=x",
    ),
];

/// What stands behind, or in place of, a head that would be right.
const BAD: &[(&[Plain<'_>], Code)] = &[
    (
        &[METHOD, PATH, TO, (":m-must-new", "x")],
        Code::REFUSED_STREAM,
    ),
    (
        &[METHOD, PATH, TO, (":m-new", "x"), (":m-new", "y")],
        Code::PROTOCOL_ERROR,
    ),
    (&[METHOD, PATH, TO, (":new", "x")], Code::PROTOCOL_ERROR),
    (&[METHOD, PATH, TO, (":", "x")], Code::PROTOCOL_ERROR),
    (&[METHOD, PATH, TO, (":m-a b", "x")], Code::PROTOCOL_ERROR),
    (&[METHOD, METHOD, PATH, TO], Code::PROTOCOL_ERROR),
    (&[METHOD, TO], Code::PROTOCOL_ERROR),
    (&[PATH, TO], Code::PROTOCOL_ERROR),
    (&[METHOD, PATH], Code::PROTOCOL_ERROR),
    (
        &[METHOD, PATH, (":authority", "example.org:80")],
        Code::PROTOCOL_ERROR,
    ),
    (
        &[METHOD, PATH, (":authority", "10.0.0.1")],
        Code::PROTOCOL_ERROR,
    ),
    (
        &[METHOD, PATH, (":authority", "[fe80::1%3]:80")],
        Code::PROTOCOL_ERROR,
    ),
    (&[METHOD, (":path", ""), TO], Code::PROTOCOL_ERROR),
    (&[METHOD, (":path", "/ HTTP/1.1"), TO], Code::PROTOCOL_ERROR),
    (&[METHOD, (":path", "/\r\n"), TO], Code::PROTOCOL_ERROR),
    (&[(":method", "G T"), PATH, TO], Code::PROTOCOL_ERROR),
    (&[(":method", ""), PATH, TO], Code::PROTOCOL_ERROR),
    (
        &[METHOD, PATH, TO, (":status", "200")],
        Code::PROTOCOL_ERROR,
    ),
    (&[METHOD, PATH, TO, (":m-flag", "x")], Code::PROTOCOL_ERROR),
    (
        &[METHOD, PATH, TO, (":m-src", "10.0.0.1:5")],
        Code::PROTOCOL_ERROR,
    ),
    (
        &[METHOD, PATH, TO, (":m-dst", "10.0.0.1")],
        Code::PROTOCOL_ERROR,
    ),
    (
        &[METHOD, PATH, TO, (":m-version", "2")],
        Code::PROTOCOL_ERROR,
    ),
    (&[METHOD, ("a", "b"), PATH, TO], Code::PROTOCOL_ERROR),
    (&[METHOD, PATH, TO, ("", "b")], Code::PROTOCOL_ERROR),
    (&[METHOD, PATH, TO, ("a b", "b")], Code::PROTOCOL_ERROR),
    (&[METHOD, PATH, TO, ("a:", "b")], Code::PROTOCOL_ERROR),
    (
        &[METHOD, PATH, TO, ("a", "b\r\nc: d")],
        Code::PROTOCOL_ERROR,
    ),
    (&[METHOD, PATH, TO, ("a", "b\nc")], Code::PROTOCOL_ERROR),
    (&[METHOD, PATH, TO, ("a", "\0")], Code::PROTOCOL_ERROR),
];

#[test]
fn requests_by_the_rules() {
    for (fields, told) in GOOD {
        let (mut client, mut server) = pair();
        client.open(5, fields, true);
        exchange(&mut client, &mut server);
        assert_eq!(server.told(), [format!("1: {told} end")]);
    }
    for (fields, code) in BAD {
        let (mut client, mut server) = pair();
        client.open(5, fields, true);
        exchange(&mut client, &mut server);
        assert_eq!(server.told(), Vec::<String>::new(), "{fields:?}");
        assert_eq!(client.told(), [format!("1 (5): {code:?}")], "{fields:?}");
        assert_eq!(server.link.streams_open() + client.link.streams_open(), 0);
    }
}

#[test]
fn facts_of_a_request() {
    let mut list = List::default();
    let fields = [
        METHOD,
        PATH,
        TO,
        (":m-src", "10.0.0.1"),
        (":m-dst", "10.0.0.2:1"),
        (":m-version", "1.0"),
        (":m-protocol", "tls"),
        (":m-sni", "a.example"),
        ("A", "b"),
    ];
    for (name, value) in bytes(&fields) {
        list.push(name, value);
    }
    let head = RequestFields::read(Dialect::Mesh, &list).unwrap();
    let hop = head.hop.unwrap();
    assert_eq!(hop.source, "10.0.0.1".parse().ok());
    assert_eq!(hop.dialled, "10.0.0.2:1".parse().ok());
    let carries = Carried::Http1 {
        target: b"/",
        version: crate::http1::Version::Http10,
    };
    assert_eq!(head.carries, carries);
    assert_eq!(hop.protocol, Some(&b"tls"[..]));
    assert_eq!(hop.server_name, Some(&b"a.example"[..]));
    assert_eq!((head.fields.len(), head.fields.is_empty()), (1, false));

    list.clear();
    for (name, value) in bytes(&[
        (":status", "503"),
        (":m-reason", ""),
        (":m-flag", "draining"),
    ]) {
        list.push(name, value);
    }
    let head = ResponseFields::read(Dialect::Mesh, &list).unwrap();
    assert_eq!((head.status, head.interim()), (503, false));
    assert_eq!(
        (head.reason, head.flag),
        (Some(&b""[..]), Some(&b"draining"[..]))
    );
    assert!(head.fields.is_empty());
    assert!(RequestFields::read(Dialect::Mesh, &list).is_err());
}

#[test]
fn the_applications_fields_are_counted_alone() {
    for (count, accepted) in [(256, true), (257, false)] {
        let fields = [&[METHOD, PATH, TO][..], &vec![("a", "b"); count]].concat();
        let (mut client, mut server) = pair();
        client.open(5, &fields, true);
        exchange(&mut client, &mut server);
        assert_eq!(server.told().len() == 1, accepted);
        assert_eq!(client.told().is_empty(), accepted);
    }
}

#[test]
fn answers_by_the_rules() {
    let good: [&[Plain<'_>]; 4] = [
        &[(":status", "200"), ("A", "b")],
        &[
            (":m-version", "1.0"),
            (":status", "200"),
            (":m-reason", "Fine"),
            (":m-flag", "draining"),
        ],
        &[(":status", "101")],
        &[(":status", "999"), (":m-new", "1")],
    ];
    for fields in good {
        let (mut client, mut server) = pair();
        client.open(5, &GET, true);
        exchange(&mut client, &mut server);
        server.answer(1, fields, false);
        exchange(&mut client, &mut server);
        assert!(client.told()[0].starts_with("1 (5): "), "{fields:?}");
    }
    let bad: [&[Plain<'_>]; 9] = [
        &[],
        &[("a", "b")],
        &[(":status", "20")],
        &[(":status", "2000")],
        &[(":status", "099")],
        &[(":status", "2x0")],
        &[(":status", "200"), (":status", "200")],
        &[(":status", "200"), (":path", "/")],
        &[(":status", "200"), ("a", "b\r")],
    ];
    for fields in bad {
        let (mut client, mut server) = pair();
        client.open(5, &GET, true);
        exchange(&mut client, &mut server);
        server.told();
        server.answer(1, fields, false);
        exchange(&mut client, &mut server);
        assert_eq!(client.told(), ["1 (5): PROTOCOL_ERROR"], "{fields:?}");
        assert_eq!(server.told(), ["1 (0): PROTOCOL_ERROR"]);
    }
}
