// SPDX-License-Identifier: Apache-2.0
//! Heads: what is accepted and what it means, what is refused and why, and that splitting changes neither.

use proptest::prelude::*;

use super::*;

mod malformed;
use Malformed as M;

fn request(bytes: &[u8]) -> Result<Option<(usize, RequestHead)>, Malformed> {
    let mut head = RequestHead::default();
    let parsed = parse_request(bytes, &Limits::default(), &mut head)?;
    Ok(parsed.map(|length| (length, head)))
}

fn whole(bytes: &[u8]) -> RequestHead {
    let (length, head) = request(bytes).unwrap().unwrap();
    assert_eq!(length, bytes.len());
    head
}

fn response(bytes: &[u8], asked: RequestKind) -> Result<ResponseHead, Malformed> {
    let mut head = ResponseHead::default();
    let parsed = parse_response(bytes, &Limits::default(), asked, &mut head)?;
    assert_eq!(
        parsed,
        Some(bytes.len()),
        "{:?}",
        bytes.escape_ascii().to_string()
    );
    Ok(head)
}

#[test]
fn a_request_in_all_its_parts() {
    let bytes = b"\r\nPOST /a?b=c HTTP/1.1\r\nHost: example.org:80\r\nX-Empty:\r\nx-twice:  a \t\r\nX-TWICE:\tb c\r\nExpect: 100-Continue\r\nContent-Length: 5\r\n\r\n";
    let head = whole(bytes);
    assert_eq!(head.start, 2);
    assert_eq!(head.method.of(bytes), b"POST");
    assert_eq!(head.target.of(bytes), b"/a?b=c");
    assert_eq!(head.version, Version::Http11);
    assert_eq!(head.host.unwrap().of(bytes), b"example.org:80");
    assert_eq!(head.framing, Framing::Length(5));
    assert!(head.keep_alive && head.expects_continue && !head.upgrade);
    let fields: Vec<_> = head.fields(bytes).collect();
    assert_eq!(fields[1], (&b"X-Empty"[..], &b""[..]));
    assert_eq!(fields[2], (&b"x-twice"[..], &b"a"[..]));
    assert_eq!(fields[3], (&b"X-TWICE"[..], &b"b c"[..]));
    assert_eq!(fields.len(), 6);
}

#[test]
fn what_becomes_of_the_connection() {
    for (version, fields, keep_alive, upgrade) in [
        ("1.1", "", true, false),
        ("1.1", "Connection: close\r\n", false, false),
        ("1.1", "connection: foo, CLOSE ,bar\r\n", false, false),
        (
            "1.1",
            "connection: foo\r\nConnection: close\r\n",
            false,
            false,
        ),
        ("1.1", "connection: closed\r\n", true, false),
        (
            "1.1",
            "Connection: Upgrade\r\nUpgrade: websocket\r\n",
            true,
            true,
        ),
        ("1.1", "Connection: Upgrade\r\n", true, false),
        ("1.1", "Upgrade: websocket\r\n", true, false),
        ("1.0", "", false, false),
        ("1.0", "Connection: keep-alive\r\n", true, false),
        ("1.0", "Connection: keep-alive, close\r\n", false, false),
        (
            "1.0",
            "Connection: keep-alive, upgrade\r\nUpgrade: h2c\r\n",
            true,
            false,
        ),
    ] {
        let bytes = format!("GET / HTTP/{version}\r\nHost: a\r\n{fields}\r\n");
        let head = whole(bytes.as_bytes());
        assert_eq!(
            (head.keep_alive, head.upgrade),
            (keep_alive, upgrade),
            "{bytes}"
        );
    }
}

#[test]
fn accepted_requests() {
    for text in [
        "OPTIONS * HTTP/1.1\r\nHost:\r\n\r\n",
        "GET http://a/b HTTP/1.1\r\nHost: a\r\n\r\n",
        "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "PRI / HTTP/1.1\r\nhOsT: a\r\n\r\n",
        "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\nContent-Length: 0\r\n\r\n",
        "M-SEARCH / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
        "GET /\u{e9}\u{1f600} HTTP/1.1\r\nHost: a\r\nX: \u{e9}\r\n\r\n",
        "GET /a\"<>\\^`{|} HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\ncontent-length: 0018\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: CHUNKED\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nTE: trailers, deflate;q=0.5\r\n\r\n",
    ] {
        whole(text.as_bytes());
    }
}

#[test]
fn too_much_is_431() {
    let head = |count: usize| {
        format!(
            "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n",
            "a: b\r\n".repeat(count)
        )
    };
    assert_eq!(whole(head(255).as_bytes()).fields.len(), 256);
    let many = request(head(256).as_bytes()).unwrap_err();
    let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(64 * 1024));
    let long = request(long.as_bytes()).unwrap_err();
    assert_eq!((many, many.status()), (M::TooManyFields, 431));
    assert_eq!((long, long.status()), (M::TargetTooLong, 414));
}

#[test]
fn a_first_line_that_is_wrong_is_refused_at_its_end() {
    for line in ["GET /\r\n", "\r\nGET a HTTP/1.1\r\n", "GET / HTTP/2.0\r\n"] {
        let mut head = RequestHead::default();
        let refused = (1..=line.len()).find_map(|end| {
            parse_request(&line.as_bytes()[..end], &Limits::default(), &mut head).err()
        });
        assert!(refused.is_some(), "{line:?}");
    }
}

#[test]
fn a_head_without_end_is_refused_in_time() {
    for (line, why) in [
        ("aaaa", Malformed::HeadTooLarge),
        ("\r\nGET /", Malformed::TargetTooLong),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: ", Malformed::HeadTooLarge),
    ] {
        let mut buf = line.as_bytes().to_vec();
        let mut head = RequestHead::default();
        let limits = Limits::default();
        let refused = loop {
            match parse_request(&buf, &limits, &mut head) {
                Ok(None) => buf.resize(buf.len() + 1000, b'a'),
                Ok(Some(_)) => panic!("a head without end has an end"),
                Err(malformed) => break malformed,
            }
            assert!(buf.len() < limits.head + 2000);
        };
        assert_eq!(refused, why);
    }
}

#[test]
fn a_head_of_exactly_the_limit_is_accepted() {
    let limits = Limits {
        head: 100,
        fields: 2,
    };
    let mut head = RequestHead::default();
    let mut text = String::from("GET / HTTP/1.1\r\nHost: a\r\nX: ");
    text += &"x".repeat(100 - 4 - text.len());
    text += "\r\n\r\n";
    assert_eq!(
        parse_request(text.as_bytes(), &limits, &mut head),
        Ok(Some(100))
    );
    let more = format!("{text}body");
    assert_eq!(
        parse_request(more.as_bytes(), &limits, &mut head),
        Ok(Some(100))
    );
    let longer = text.replace("X: ", "X: x");
    assert_eq!(
        parse_request(longer.as_bytes(), &limits, &mut head),
        Err(Malformed::HeadTooLarge)
    );
}

#[test]
fn how_responses_end() {
    use Framing::*;
    use RequestKind::*;
    for (status, fields, asked, framing, keep_alive, tunnel) in [
        (200, "Content-Length: 5\r\n", Other, Length(5), true, false),
        (200, "Content-Length: 5\r\n", Head, None, true, false),
        (200, "Content-Length: 5\r\n", Connect, None, false, true),
        (
            404,
            "Content-Length: 5\r\n",
            Connect,
            Length(5),
            true,
            false,
        ),
        (
            200,
            "Transfer-Encoding: chunked\r\n",
            Other,
            Chunked,
            true,
            false,
        ),
        (
            200,
            "Transfer-Encoding: chunked\r\n",
            Head,
            None,
            true,
            false,
        ),
        (
            200,
            "Transfer-Encoding: gzip , Chunked\r\n",
            Other,
            Chunked,
            true,
            false,
        ),
        (200, "", Other, UntilClose, false, false),
        (200, "", Head, None, true, false),
        (
            200,
            "Connection: close\r\nContent-Length: 5\r\n",
            Other,
            Length(5),
            false,
            false,
        ),
        (204, "", Other, None, true, false),
        (204, "Content-Length: 5\r\n", Other, None, true, false),
        (304, "Content-Length: 5\r\n", Other, None, true, false),
        (304, "", Other, None, true, false),
        (100, "", Other, None, true, false),
        (103, "Link: x\r\n", Other, None, true, false),
        (
            101,
            "Upgrade: websocket\r\nConnection: upgrade\r\n",
            Upgrade,
            None,
            false,
            true,
        ),
        (999, "Content-Length: 0\r\n", Other, Length(0), true, false),
    ] {
        let text = format!("HTTP/1.1 {status} x\r\n{fields}\r\n");
        let head = response(text.as_bytes(), asked).unwrap();
        assert_eq!(head.status, status);
        let found = (head.framing, head.keep_alive, head.tunnel);
        assert_eq!(found, (framing, keep_alive, tunnel), "{text} {asked:?}");
        assert_eq!(head.interim(), status < 200 && status != 101);
    }
    let switch = |asked| response(b"HTTP/1.1 101 x\r\n\r\n", asked).err();
    assert_eq!(
        [Other, Head, Connect].map(switch),
        [Some(Malformed::Switch); 3]
    );
    let old = response(b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n", Other).unwrap();
    assert!(!old.keep_alive);
    let kept = b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\nConnection: keep-alive\r\n\r\n";
    assert!(response(kept, Other).unwrap().keep_alive);
}

#[test]
fn reasons() {
    for (line, reason) in [
        ("HTTP/1.1 200 OK", "OK"),
        ("HTTP/1.1 200 ", ""),
        ("HTTP/1.1 200", ""),
        ("HTTP/1.0 599 Very  odd\t\u{e9}", "Very  odd\t\u{e9}"),
    ] {
        let text = format!("{line}\r\n\r\n");
        let head = response(text.as_bytes(), RequestKind::Other).unwrap();
        assert_eq!(head.reason.of(text.as_bytes()), reason.as_bytes());
    }
}

#[test]
fn malformed_responses() {
    use Malformed::*;
    for (text, why) in [
        ("HTTP/1.1 20 OK\r\n\r\n", StartLine),
        ("HTTP/1.1 2000 OK\r\n\r\n", StartLine),
        ("HTTP/1.1 099 OK\r\n\r\n", StartLine),
        ("HTTP/1.1  200 OK\r\n\r\n", StartLine),
        ("HTTP/1.1 200\tOK\r\n\r\n", StartLine),
        ("HTTP/1.1 abc OK\r\n\r\n", StartLine),
        ("HTTP/1.1 200 O\x01K\r\n\r\n", LineEnd),
        ("HTTP/2 200 OK\r\n\r\n", Version),
        ("HTTP/1.2 200 OK\r\n\r\n", UnknownVersion),
        ("\r\nHTTP/1.1 200 OK\r\n\r\n", Version),
        ("HTTP/1.1 200 OK\n\n", LineEnd),
        ("HTTP/1.1 200 OK\r\nX : a\r\n\r\n", FieldName),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
            ContentLength,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            TransferEncoding,
        ),
        (
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            TransferEncoding,
        ),
        (
            "HTTP/1.1 204 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            TransferEncoding,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
            TransferEncoding,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity, chunked\r\n\r\n",
            TransferEncoding,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775808\r\n\r\n",
            ContentLength,
        ),
    ] {
        assert_eq!(
            response(text.as_bytes(), RequestKind::Other).err(),
            Some(why),
            "{text:?}"
        );
    }
}

#[test]
fn what_is_parsed_is_written_again() {
    let request = b"PUT /x HTTP/1.0\r\nHost: a\r\nB: c d\r\nB: \r\n\r\n";
    let head = whole(request);
    let mut out = Vec::new();
    let (method, target) = (head.method.of(request), head.target.of(request));
    write_request(&mut out, method, target, head.version, head.fields(request));
    assert_eq!(out, request);

    let answer = b"HTTP/1.1 418 I'm a teapot\r\nX: y\r\n\r\n";
    let head = response(answer, RequestKind::Head).unwrap();
    let mut out = Vec::new();
    let reason = head.reason.of(answer);
    write_response(
        &mut out,
        head.version,
        head.status,
        reason,
        head.fields(answer),
    );
    assert_eq!(out, answer);
}

fn piece() -> impl Strategy<Value = Vec<u8>> {
    // Mostly the bytes that mean something.
    let meaning = prop::sample::select(b"\r\n :\t,;0159afGETHP/.xhost\0\x7f\xe9".to_vec());
    prop::collection::vec(prop_oneof![8 => meaning, 1 => any::<u8>()], 0..12)
}

fn nearly_a_head() -> impl Strategy<Value = Vec<u8>> {
    let lines = prop::sample::select(vec![
        &b"GET / HTTP/1.1\r\n"[..],
        b"HTTP/1.1 200 OK\r\n",
        b"Host: a\r\n",
        b"Content-Length: 3\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Connection: close\r\n",
        b"\r\n",
    ]);
    let part = prop_oneof![4 => lines.prop_map(<[u8]>::to_vec), 1 => piece()];
    prop::collection::vec(part, 0..9).prop_map(|parts| parts.concat())
}

type Seen = Result<Option<(usize, String)>, Malformed>;

fn by_pieces(bytes: &[u8], cuts: &[usize], mut parse: impl FnMut(&[u8]) -> Seen) -> Seen {
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
    ends.push(bytes.len());
    ends.sort_unstable();
    for end in ends {
        match parse(&bytes[..end]) {
            Ok(None) => {}
            settled => return settled,
        }
    }
    Ok(None)
}

proptest! {
    /// Any bytes, any pieces: no panic, and pieces say the same as the whole, though a fault perhaps later.
    #[test]
    fn pieces_say_what_the_whole_says(
        bytes in nearly_a_head(),
        cuts in prop::collection::vec(any::<usize>(), 0..6),
    ) {
        let limits = Limits { head: 120, fields: 3 };
        let requests = |head: &mut RequestHead, bytes: &[u8]| -> Seen {
            let length = parse_request(bytes, &limits, head)?;
            Ok(length.map(|length| (length, format!("{head:?}"))))
        };
        let responses = |head: &mut ResponseHead, bytes: &[u8]| -> Seen {
            let length = parse_response(bytes, &limits, RequestKind::Other, head)?;
            Ok(length.map(|length| (length, format!("{head:?}"))))
        };
        let mut head = RequestHead::default();
        let whole = requests(&mut RequestHead::default(), &bytes);
        let parts = by_pieces(&bytes, &cuts, |bytes| requests(&mut head, bytes));
        prop_assert!(whole.is_err() || parts.is_ok());
        prop_assert_eq!(whole.ok().flatten(), parts.ok().flatten());

        let mut head = ResponseHead::default();
        let whole = responses(&mut ResponseHead::default(), &bytes);
        let parts = by_pieces(&bytes, &cuts, |bytes| responses(&mut head, bytes));
        prop_assert!(whole.is_err() || parts.is_ok());
        prop_assert_eq!(whole.ok().flatten(), parts.ok().flatten());
    }

    /// What was accepted, written again, is the same message.
    #[test]
    fn accepted_requests_survive(bytes in nearly_a_head()) {
        if let Ok(Some((length, head))) = request(&bytes) {
            let mut out = Vec::new();
            let (method, target) = (head.method.of(&bytes), head.target.of(&bytes));
            write_request(&mut out, method, target, head.version, head.fields(&bytes));
            let again = whole(&out);
            prop_assert!(out.len() <= length + 4 * head.fields.len());
            prop_assert_eq!(again.framing, head.framing);
            prop_assert_eq!(again.keep_alive, head.keep_alive);
            prop_assert_eq!(
                again.fields(&out).collect::<Vec<_>>(),
                head.fields(&bytes).collect::<Vec<_>>()
            );
        }
    }
}
