// SPDX-License-Identifier: Apache-2.0
//! The HTTP/1 parser beside hyper's: what ours accepts, hyper must read as the same messages, with the same ends.
//!
//! That is the test of smuggling: several requests behind each other on one connection, whole or damaged, and two parsers that must not disagree.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use maille_engine::http1::{Body, Framing, Limits, RequestHead, parse_request};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// One request as a parser saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    method: String,
    target: String,
    version: String,
    /// Names in lower case; sorted by name, in their order where the name is the same.
    fields: Vec<(String, Vec<u8>)>,
    content: Vec<u8>,
}

/// What our parser sees, up to the first fault or the end of the connection.
fn ours(mut wire: &[u8]) -> Vec<Seen> {
    let mut seen = Vec::new();
    let mut head = RequestHead::default();
    while let Ok(Some(length)) = parse_request(wire, &Limits::default(), &mut head) {
        let text =
            |span: maille_engine::http1::Span| String::from_utf8_lossy(span.of(wire)).into_owned();
        let lower = |name: &[u8]| String::from_utf8_lossy(name).to_ascii_lowercase();
        let fields = head
            .fields(wire)
            .map(|(name, value)| (lower(name), value.to_vec()));
        let mut request = Seen {
            method: text(head.method),
            target: text(head.target),
            version: head.version.as_str().to_owned(),
            fields: fields.collect(),
            content: Vec::new(),
        };
        request.fields.sort_by(|a, b| a.0.cmp(&b.0));
        wire = &wire[length..];
        let mut body = Body::new(head.framing);
        let Ok(step) = body.advance(wire) else { break };
        if !step.ended {
            break;
        }
        request.content = match head.framing {
            Framing::Chunked => unchunk(&wire[..step.taken]),
            _ => wire[..step.taken].to_vec(),
        };
        wire = &wire[step.taken..];
        seen.push(request);
        if !head.keep_alive {
            break;
        }
    }
    seen
}

/// The content of a chunked body that is known to be right.
fn unchunk(mut wire: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    loop {
        let end = wire.iter().position(|&byte| byte == b'\n').unwrap() + 1;
        let digits = wire
            .iter()
            .take_while(|byte| byte.is_ascii_hexdigit())
            .count();
        let size = std::str::from_utf8(&wire[..digits]).unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            return content;
        }
        content.extend_from_slice(&wire[end..end + size]);
        wire = &wire[end + size + 2..];
    }
}

/// What hyper's server sees of the same bytes.
fn hypers(wire: &[u8], piece: usize) -> Vec<Seen> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (client, server) = tokio::io::duplex(1 << 16);
        let seen = Rc::new(RefCell::new(Vec::new()));
        let service = service_fn(|request: Request<Incoming>| {
            let seen = Rc::clone(&seen);
            async move {
                if let Some(request) = record(request).await {
                    seen.borrow_mut().push(request);
                }
                Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
            }
        });
        let server = hyper::server::conn::http1::Builder::new()
            .half_close(true)
            .max_headers(256)
            .serve_connection(TokioIo::new(server), service);
        let (mut answers, mut requests) = tokio::io::split(client);
        let writing = async {
            for piece in wire.chunks(piece) {
                if requests.write_all(piece).await.is_err() {
                    return;
                }
                tokio::task::yield_now().await;
            }
            let _ = requests.shutdown().await;
        };
        let reading = async {
            let mut all = Vec::new();
            let _ = answers.read_to_end(&mut all).await;
        };
        let _ = tokio::join!(server, writing, reading);
        seen.take()
    })
}

/// `None`: the body was damaged, so that this was no whole message.
async fn record(request: Request<Incoming>) -> Option<Seen> {
    let (parts, body) = request.into_parts();
    let content = body.collect().await.ok()?.to_bytes().to_vec();
    let fields = parts.headers.iter();
    let fields = fields.map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()));
    let mut fields: Vec<_> = fields.collect();
    fields.sort_by(|a, b| a.0.cmp(&b.0));
    Some(Seen {
        method: parts.method.to_string(),
        target: parts.uri.to_string(),
        version: format!("{:?}", parts.version),
        fields,
        content,
    })
}

fn body() -> impl Strategy<Value = (Vec<u8>, Option<bool>)> {
    let bytes = prop::collection::vec(any::<u8>(), 0..80);
    (
        bytes,
        prop_oneof![Just(None), Just(Some(true)), Just(Some(false))],
    )
}

fn chunks(content: &[u8], extension: &str, trailers: &str) -> Vec<u8> {
    let mut wire = Vec::new();
    for chunk in content.chunks(17) {
        wire.extend_from_slice(format!("{:X}{extension}\r\n", chunk.len()).as_bytes());
        wire.extend_from_slice(chunk);
        wire.extend_from_slice(b"\r\n");
    }
    wire.extend_from_slice(format!("0{extension}\r\n{trailers}\r\n").as_bytes());
    wire
}

/// A request as a client might write it.
fn request() -> impl Strategy<Value = Vec<u8>> {
    let method = prop::sample::select(vec!["GET", "POST", "HEAD", "PUT", "M-SEARCH", "x!"]);
    let target = "/[a-z0-9/._~-]{0,12}(\\?[a-z0-9=&%.]{0,8})?";
    let version = prop_oneof![4 => Just("1.1"), 1 => Just("1.0")];
    let name = "[A-Za-z][A-Za-z0-9_-]{0,8}";
    let value = prop::collection::vec(
        prop_oneof![5 => 0x21..0x7fu8, 1 => Just(b' '), 1 => 0x80..=0xffu8],
        0..20,
    );
    let fields = prop::collection::vec((name, "[ \t]{0,2}", value), 0..8);
    let connection = prop::sample::select(vec![
        "",
        "Connection: keep-alive\r\n",
        "connection: X, Close\r\n",
    ]);
    let extension = prop::sample::select(vec!["", ";a=b", ";q=\"x y\""]);
    let trailers = prop::sample::select(vec!["", "Digest: x\r\n"]);
    (
        (method, target, version),
        fields,
        (connection, extension, trailers),
        body(),
    )
        .prop_map(
            |(
                (method, target, version),
                fields,
                (connection, extension, trailers),
                (content, framing),
            )| {
                let mut wire = format!(
                    "{method} {target} HTTP/{version}\r\nHost: a.example:80\r\n{connection}"
                )
                .into_bytes();
                for (name, space, value) in fields {
                    if !["host", "connection", "te", "upgrade", "expect"]
                        .contains(&name.to_ascii_lowercase().as_str())
                    {
                        wire.extend_from_slice(format!("{name}:{space}").as_bytes());
                        wire.extend_from_slice(value.trim_ascii());
                        wire.extend_from_slice(format!("{space}\r\n").as_bytes());
                    }
                }
                match framing {
                    Some(true) if version == "1.1" => {
                        wire.extend_from_slice(b"Transfer-Encoding: Chunked\r\n\r\n");
                        wire.extend(chunks(&content, extension, trailers));
                    }
                    Some(_) => {
                        wire.extend_from_slice(
                            format!("Content-length: {}\r\n\r\n", content.len()).as_bytes(),
                        );
                        wire.extend_from_slice(&content);
                    }
                    None => wire.extend_from_slice(b"\r\n"),
                }
                wire
            },
        )
}

fn connection() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(request(), 1..4).prop_map(|requests| requests.concat())
}

/// Bytes that parsers disagree about.
fn damage() -> impl Strategy<Value = Vec<u8>> {
    prop::sample::select(vec![
        &b""[..],
        b"\r",
        b"\n",
        b"\r\n",
        b"\0",
        b" ",
        b"\t",
        b":",
        b",",
        b";",
        b"0",
        b"+",
        b"x",
        b"\x0b",
        b"\x85",
        b"\r\n ",
        b"Transfer-Encoding: chunked\r\n",
        b"Content-Length: 3\r\n",
        b"Content-Length: 03\r\n",
        b"Transfer-Encoding: identity\r\n",
        b"Transfer-Encoding : chunked\r\n",
        b"0\r\n\r\n",
        b"HTTP/1.1",
        b"\r\n\r\n",
    ])
    .prop_map(<[u8]>::to_vec)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_ours_accepts_hyper_reads_alike(wire in connection(), piece in 1usize..300) {
        let seen = ours(&wire);
        prop_assert!(!seen.is_empty(), "{:?}", wire.escape_ascii().to_string());
        prop_assert_eq!(&hypers(&wire, piece), &seen);
    }

    /// Hyper may be stricter (it then sees less), but what it sees it must see alike.
    #[test]
    fn nothing_damaged_is_read_in_two_ways(
        wire in connection(),
        places in prop::collection::vec((any::<prop::sample::Index>(), damage(), 0usize..3), 1..3),
    ) {
        let mut wire = wire;
        for (place, bytes, lost) in places {
            let start = place.index(wire.len());
            let end = (start + lost).min(wire.len());
            wire.splice(start..end, bytes);
        }
        let seen = ours(&wire);
        let theirs = hypers(&wire, 1000);
        // A fault that ours finds may be one that hyper takes: then nothing is forwarded, and hyper's reading is nobody's.
        let both = seen.len().min(theirs.len());
        prop_assert_eq!(&seen[..both], &theirs[..both], "{}", wire.escape_ascii().to_string());
    }
}
