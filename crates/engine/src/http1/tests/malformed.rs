// SPDX-License-Identifier: Apache-2.0
//! Requests that are refused, and by what name.

use super::*;

const MALFORMED: &[(&str, Malformed)] = &[
    // Start lines.
    (" GET / HTTP/1.1\r\nHost: a\r\n\r\n", M::StartLine),
    ("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", M::StartLine),
    ("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", M::StartLine),
    ("\r\n GET / HTTP/1.1\r\nHost: a\r\n\r\n", M::StartLine),
    ("\rGET / HTTP/1.1\r\nHost: a\r\n\r\n", M::LineEnd),
    ("GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", M::StartLine),
    ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", M::StartLine),
    ("GET /  HTTP/1.1\r\nHost: a\r\n\r\n", M::Version),
    ("GET / HTTP/1.1 \r\nHost: a\r\n\r\n", M::LineEnd),
    ("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", M::Version),
    ("GET /\r\nHost: a\r\n\r\n", M::StartLine),
    ("GET\r\nHost: a\r\n\r\n", M::StartLine),
    ("GET /a\x01 HTTP/1.1\r\nHost: a\r\n\r\n", M::StartLine),
    ("GET /a\x7f HTTP/1.1\r\nHost: a\r\n\r\n", M::StartLine),
    ("GET /a\0 HTTP/1.1\r\nHost: a\r\n\r\n", M::StartLine),
    ("G(T / HTTP/1.1\r\nHost: a\r\n\r\n", M::StartLine),
    ("G\u{e9}T / HTTP/1.1\r\nHost: a\r\n\r\n", M::StartLine),
    ("GET / HTTP/1.2\r\nHost: a\r\n\r\n", M::UnknownVersion),
    ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", M::UnknownVersion),
    ("GET / HTTP/0.9\r\nHost: a\r\n\r\n", M::UnknownVersion),
    ("GET / HTTP/1.10\r\nHost: a\r\n\r\n", M::LineEnd),
    ("GET / HTTP/11\r\nHost: a\r\n\r\n", M::Version),
    ("GET / http/1.1\r\nHost: a\r\n\r\n", M::Version),
    ("GET / HTTP/1\r\nHost: a\r\n\r\n", M::Version),
    ("GET / ICAP/1.0\r\nHost: a\r\n\r\n", M::Version),
    // Targets.
    ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", M::Target),
    ("GET a HTTP/1.1\r\nHost: a\r\n\r\n", M::Target),
    ("GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", M::Target),
    ("CONNECT /a HTTP/1.1\r\nHost: a\r\n\r\n", M::Target),
    // Line ends.
    ("GET / HTTP/1.1\nHost: a\n\n", M::LineEnd),
    ("GET / HTTP/1.1\r\nHost: a\n\r\n", M::LineEnd),
    ("GET / HTTP/1.1\r\nHost: a\r\n\n", M::LineEnd),
    ("GET / HTTP/1.1\rHost: a\r\n\r\n", M::LineEnd),
    ("GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", M::LineEnd),
    ("GET / HTTP/1.1\r\nHost: a\r\n\rX: b\r\n\r\n", M::LineEnd),
    (
        "GET / HTTP/1.1\r\nHost: a\r\nX: b\rY: c\r\n\r\n",
        M::LineEnd,
    ),
    // Fields.
    (
        "GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n",
        M::FieldName,
    ),
    (
        "GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n\tb\r\n\r\n",
        M::FieldName,
    ),
    ("GET / HTTP/1.1\r\n Host: a\r\n\r\n", M::FieldName),
    ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", M::FieldName),
    ("GET / HTTP/1.1\r\nHost\t: a\r\n\r\n", M::FieldName),
    ("GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n", M::FieldName),
    ("GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", M::FieldName),
    ("GET / HTTP/1.1\r\nHost: a\r\nX\0: b\r\n\r\n", M::FieldName),
    ("GET / HTTP/1.1\r\nHost: a\r\nX(: b\r\n\r\n", M::FieldName),
    (
        "GET / HTTP/1.1\r\nHost: a\r\nX\u{e9}: b\r\n\r\n",
        M::FieldName,
    ),
    (
        "GET / HTTP/1.1\r\nHost: a\r\nX: b\0c\r\n\r\n",
        M::FieldValue,
    ),
    (
        "GET / HTTP/1.1\r\nHost: a\r\nX: b\x08\r\n\r\n",
        M::FieldValue,
    ),
    (
        "GET / HTTP/1.1\r\nHost: a\r\nX: b\x7f\r\n\r\n",
        M::FieldValue,
    ),
    // Host.
    ("GET / HTTP/1.1\r\n\r\n", M::Host),
    ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", M::Host),
    ("GET / HTTP/1.1\r\nHost: a\r\nhost: b\r\n\r\n", M::Host),
    ("GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", M::Host),
    ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", M::Host),
    ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", M::Host),
    ("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", M::Host),
    ("GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", M::Host),
    // Lengths.
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
        M::ContentLength,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\ncontent-length: 6\r\n\r\n",
        M::ContentLength,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\n",
        M::ContentLength,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\n",
        M::ContentLength,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n",
        M::ContentLength,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\n",
        M::ContentLength,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5 5\r\n\r\n",
        M::ContentLength,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5.0\r\n\r\n",
        M::ContentLength,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n",
        M::ContentLength,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551616\r\n\r\n",
        M::ContentLength,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9223372036854775808\r\n\r\n",
        M::ContentLength,
    ),
    (
        "CONNECT a:443 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n",
        M::ContentLength,
    ),
    (
        "CONNECT a:443 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        M::TransferEncoding,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \u{665}\r\n\r\n",
        M::ContentLength,
    ),
    // Transfer codings.
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        M::TransferEncoding,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n",
        M::TransferEncoding,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        M::TransferEncoding,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n",
        M::TransferEncoding,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        M::UnknownCoding,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\t,\tchunked\r\n\r\n",
        M::UnknownCoding,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        M::TransferEncoding,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: , chunked\r\n\r\n",
        M::TransferEncoding,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked,\r\n\r\n",
        M::TransferEncoding,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip;q=1, chunked\r\n\r\n",
        M::TransferEncoding,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n",
        M::TransferEncoding,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n",
        M::TransferEncoding,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n",
        M::TransferEncoding,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked;q=1\r\n\r\n",
        M::TransferEncoding,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \"chunked\"\r\n\r\n",
        M::TransferEncoding,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n",
        M::TransferEncoding,
    ),
    (
        "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        M::TransferEncoding,
    ),
];

#[test]
fn malformed_requests() {
    for (text, why) in MALFORMED {
        assert_eq!(request(text.as_bytes()).err(), Some(*why), "{text:?}");
        let status = match why {
            M::UnknownVersion => 505,
            M::UnknownCoding => 501,
            _ => 400,
        };
        assert_eq!(why.status(), status);
        // In whatever pieces it comes.
        let mut head = RequestHead::default();
        let refused = (1..=text.len()).find_map(|end| {
            parse_request(&text.as_bytes()[..end], &Limits::default(), &mut head).err()
        });
        assert!(refused.is_some(), "{text:?}");
    }
}
