// SPDX-License-Identifier: Apache-2.0
//! What people's clients begin with; and that more bytes never change an answer.

use proptest::prelude::*;

use super::*;

const OPAQUE: Detected = Detected::Opaque(Protocol::Undeclared);

fn undeclared(bytes: &[u8]) -> Detected {
    detect(bytes, Protocol::Undeclared)
}

/// The shortest ClientHello.
fn hello() -> Vec<u8> {
    let mut hello = vec![0x16, 3, 1, 0, 45, 1, 0, 0, 41, 3, 3];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0x13, 1, 1, 0]);
    hello
}

#[test]
fn first_words_of_http_1() {
    for bytes in [
        &b"GET / HTTP/1.1\r\nHost: x\r\n"[..],
        b"GET / HTTP/1.0\n",
        b"GET / HTTP/3 \r\n",
        b"OPTIONS * HTTP/1.1\r\n",
        b"CONNECT example.com:443 HTTP/1.1\r\n",
        b"GET http://example.com/ HTTP/1.1\r\n",
        b"GET HTTP://example.com/ HTTP/1.1\r\n",
        b"UPDATEREDIRECTREF /x HTTP/1.1\r\n",
        b"M-SEARCH * HTTP/1.1\r\n",
        b"x / HTTP/1.1\r\n",
        // Longer than any command of others.
        format!("GET /{}", "x".repeat(507)).as_bytes(),
        // Nearly HTTP/2: the parser says what is wrong with it.
        b"PRI * HTTP/2.1\r\n",
    ] {
        assert_eq!(
            undeclared(bytes),
            Detected::Http1,
            "{}",
            bytes.escape_ascii()
        );
    }
}

#[test]
fn first_words_of_others() {
    let hello = hello();
    assert_eq!(undeclared(&hello), Detected::Opaque(Protocol::Tls));
    assert_eq!(
        detect(&hello, Protocol::Tls),
        Detected::Opaque(Protocol::Tls)
    );
    assert_eq!(undeclared(PREFACE), Detected::Http2);
    for bytes in [
        &b"SSH-2.0-OpenSSH_9.2\r\n"[..],
        b"*1\r\n$4\r\nPING\r\n",
        b"EHLO mail.example.com\r\n",
        b"get key\r\n",
        b"GET key\r\n",
        b"SET a b\r\n",
        // Keys that are paths or URLs, as nginx's memcached_pass has them.
        b"get /page?x\r\n",
        b"set http://web/page 0 60 2\r\nHTTP/1.1\r\n",
        b"OPTIONS * RTSP/1.0\r\n",
        b"GET /\r\n",
        // Go's net/rpc.
        b"CONNECT /_goRPC_ HTTP/1.0\n\n",
        b"CONNECT /",
        b"CONNECT {\"verbose\":false}\r\n",
        b" / HTTP/1.1",
        b"\r\nGET / HTTP/1.1",
        b"GET\r\n",
        b"GET\t/",
        b"ABCDEFGHIJKLMNOPQRS",
        b"*x\n",
        &[0, 0, 0, 8, 4, 210, 22, 47],
        // A TLS alert, SSLv2, a handshake that does not begin with ClientHello, one that is too long.
        &[0x15, 3, 1, 0, 2, 1, 0],
        &[0x16, 2, 0, 0, 1, 1],
        &[0x16, 3, 3, 0, 100, 2],
        &[0x16, 3, 3, 0x41, 0, 1],
    ] {
        assert_eq!(undeclared(bytes), OPAQUE, "{}", bytes.escape_ascii());
    }
}

#[test]
fn half_words() {
    for bytes in [
        &b""[..],
        b"G",
        b"GET",
        b"GET ",
        b"GET h",
        b"GET htt",
        b"GET /",
        b"x / HTTP/1.1\r",
        format!("GET /{}", "x".repeat(506)).as_bytes(),
        b"GET *",
        b"CONNECT ",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r",
        b"PRI ",
        &[0x16],
        &[0x16, 3, 3, 1, 0],
        &hello()[..20],
    ] {
        assert_eq!(
            undeclared(bytes),
            Detected::NeedMore,
            "{}",
            bytes.escape_ascii()
        );
    }
}

#[test]
fn first_words_of_servers() {
    for bytes in [
        &b"\0\0\0\x04\0\0\0\0\0"[..],
        b"\0\0\x06\x04\0\0\0\0\0\0\x03",
    ] {
        assert!(is_http2_server(bytes), "{}", bytes.escape_ascii());
    }
    let acknowledged = b"\0\0\0\x04\x01\0\0\0\0";
    for bytes in [
        &b""[..],
        b"\0\0\0\x04",
        b"\0\0\x05\x04\0\0\0\0\0",
        b"220 ready\r\n",
        acknowledged,
    ] {
        assert!(!is_http2_server(bytes), "{}", bytes.escape_ascii());
    }
}

#[test]
fn half_a_line_of_a_request() {
    for bytes in [&b"GET /"[..], b"GET http://x/ HT", b"CONNECT x"] {
        assert!(is_half_request(bytes), "{}", bytes.escape_ascii());
    }
    for bytes in [&b""[..], b"GET", b"GET k", b"CONNECT /", b"ruok"] {
        assert!(!is_half_request(bytes), "{}", bytes.escape_ascii());
    }
}

#[test]
fn a_declaration_needs_no_bytes() {
    for bytes in [&b""[..], b"\x16\x03\x01", b"GET / HTTP/1.1"] {
        let opaque = Detected::Opaque(Protocol::Tcp);
        assert_eq!(detect(bytes, Protocol::Tcp), opaque);
    }
    // The client chooses the version, and nothing else than HTTP.
    for protocol in [Protocol::Http1, Protocol::Http2, Protocol::Grpc] {
        assert_eq!(detect(b"", protocol), Detected::NeedMore);
        assert_eq!(detect(b"PR", protocol), Detected::NeedMore);
        assert_eq!(detect(PREFACE, protocol), Detected::Http2);
        let request = detect(b"GET / HTTP/1.1\r\n", protocol);
        assert_eq!(request, Detected::Http1);
        for bytes in [&b"\x16\x03\x01"[..], b"INVALID CONNECTION PREFACE", b"\0"] {
            let bad = match protocol {
                Protocol::Http1 => Detected::Http1,
                _ => Detected::Http2,
            };
            assert_eq!(detect(bytes, protocol), bad);
        }
    }
}

#[test]
fn declared_tls_is_looked_at_for_its_name() {
    let hello = hello();
    assert_eq!(detect(b"", Protocol::Tls), Detected::NeedMore);
    assert_eq!(detect(&hello[..9], Protocol::Tls), Detected::NeedMore);
    assert_eq!(detect(b"GET / HTTP/1.1", Protocol::Tls), OPAQUE);
}

#[test]
fn what_stops_in_the_middle_of_a_word() {
    let hello = hello();
    assert!(is_half_hello(&hello[..6]) && is_half_hello(&hello[..hello.len() - 1]));
    assert!(!is_half_hello(&hello[..5]) && !is_half_hello(&hello) && !is_half_hello(b"GET"));
    for (bytes, protocol) in [
        (&hello[..6], Protocol::Tls),
        (&hello, Protocol::Tls),
        (&hello[..5], Protocol::Undeclared),
        (b"", Protocol::Undeclared),
        (b"ruok", Protocol::Undeclared),
    ] {
        assert_eq!(given_up(bytes, Protocol::Undeclared), protocol);
    }
}

fn beginnings() -> impl Strategy<Value = Vec<u8>> {
    let start = prop_oneof![
        Just(&b""[..]),
        Just(PREFACE),
        Just(&b"GET "[..]),
        Just(&b"get /"[..]),
        Just(&b"CONNECT "[..]),
        Just(&b"OPTIONS * "[..]),
        Just(&b"GET http"[..]),
        Just(&[0x16, 3, 3, 1, 0, 1][..]),
        Just(&[0x16, 3, 3, 0, 3, 1, 0, 0][..]),
    ];
    let bytes = |length| proptest::collection::vec(prop_oneof![any::<u8>(), b' '..=b'~'], length);
    let long = bytes(LINE - 40..LINE + 40);
    let line = bytes(0..40).prop_map(|target| [&target[..], b" HTTP/1.1\r\n"].concat());
    let rest = prop_oneof![bytes(0..40), long, line];
    (start, 0usize..24, rest)
        .prop_map(|(start, cut, rest)| [&start[..cut.min(start.len())], &rest].concat())
}

proptest! {
    #[test]
    fn more_bytes_never_change_an_answer(bytes in beginnings()) {
        let whole = undeclared(&bytes);
        for length in 0..bytes.len() {
            let part = undeclared(&bytes[..length]);
            prop_assert!(part == Detected::NeedMore || part == whole, "{length} bytes of {:?}: {part:?}, all: {whole:?}", bytes);
        }
        if bytes.len() >= LINE && bytes[0] != 0x16 {
            prop_assert_ne!(whole, Detected::NeedMore);
        }
    }
}
