// SPDX-License-Identifier: Apache-2.0
//! What a client speaks: by declaration, else by its first bytes, of which at most [`LONGEST`] are looked at.
//!
//! More bytes must never change an answer. A server that speaks first is not found here: the caller gives up by the clock.
//! Read `client_hello.rs` next.

use maille_model::Protocol;

use crate::client_hello::{self, Hello};

/// With this many bytes the answer is never [`Detected::NeedMore`].
pub const LONGEST: usize = client_hello::LONGEST;

/// RFC 9113, section 3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// RFC 8446, section 5.1: with one byte more it is known whether a handshake begins.
const RECORD_HEADER: usize = 5;

/// The longest method looked for: IANA's longest is UPDATEREDIRECTREF with 17 bytes.
const METHOD: usize = 18;

/// A first line that has not ended by here is a request's: the commands of others that begin like one are shorter (a key of memcached has at
/// most 250 bytes).
const LINE: usize = 512;

/// What the first line of a request ends with, behind its target, in whatever version.
const VERSION: &[u8] = b" HTTP/";

/// What a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Detected {
    /// HTTP/1, to be parsed strictly: what does not parse is answered with 400.
    Http1,
    /// HTTP/2 with prior knowledge: the client's preface came.
    Http2,
    /// Bytes to be passed on as they are, and what they are as far as is known.
    Opaque(Protocol),
    /// Cannot be said yet.
    NeedMore,
}

/// What a client speaks whose first bytes are `first` and whose destination was declared to speak `declared`.
/// A declaration is enough without any bytes, but for HTTP, whose version is the client's to choose, and for TLS: there the whole
/// ClientHello is waited for, since it has a name in it.
pub fn detect(first: &[u8], declared: Protocol) -> Detected {
    match declared {
        Protocol::Http1 => by_preface(first),
        Protocol::Http2 | Protocol::Grpc => match by_preface(first) {
            // What is no request either is answered in the words that were declared.
            Detected::Http1 => match by_request_line(first) {
                Detected::Opaque(_) => Detected::Http2,
                detected => detected,
            },
            detected => detected,
        },
        Protocol::Tcp => Detected::Opaque(declared),
        Protocol::Tls => by_client_hello(first),
        Protocol::Undeclared => by_bytes(first),
    }
}

/// What it is taken for when `first` is all that comes for now.
pub fn given_up(first: &[u8], declared: Protocol) -> Protocol {
    match detect(first, declared) {
        Detected::Opaque(protocol) => protocol,
        Detected::NeedMore if is_half_hello(first) => Protocol::Tls,
        Detected::NeedMore | Detected::Http1 | Detected::Http2 => Protocol::Undeclared,
    }
}

/// TLS for certain, of which more has to come before anybody else can speak.
pub fn is_half_hello(first: &[u8]) -> bool {
    first.len() > RECORD_HEADER && client_hello::read(first) == Hello::Partial
}

/// Some version of HTTP: the preface says which, and whatever is neither is answered as bad HTTP/1.
fn by_preface(first: &[u8]) -> Detected {
    match first {
        _ if first.starts_with(PREFACE) => Detected::Http2,
        _ if PREFACE.starts_with(first) => Detected::NeedMore,
        _ => Detected::Http1,
    }
}

/// Whether bytes that are declared like this are HTTP, whatever comes.
pub fn is_http(declared: Protocol) -> bool {
    matches!(declared, Protocol::Http1 | Protocol::Http2 | Protocol::Grpc)
}

fn by_bytes(first: &[u8]) -> Detected {
    match first {
        [] => Detected::NeedMore,
        [0x16, ..] => by_client_hello(first),
        _ if first.starts_with(PREFACE) => Detected::Http2,
        _ if PREFACE.starts_with(first) => Detected::NeedMore,
        _ => by_request_line(first),
    }
}

fn by_client_hello(first: &[u8]) -> Detected {
    match client_hello::read(first) {
        Hello::Partial => Detected::NeedMore,
        Hello::No => Detected::Opaque(Protocol::Undeclared),
        Hello::Whole(_) => Detected::Opaque(Protocol::Tls),
    }
}

/// Whether this is how a server of HTTP/2 begins that does not wait for the client's preface: a frame SETTINGS (RFC 9113, section 3.4). Those of
/// gRPC do not.
pub fn is_http2_server(first: &[u8]) -> bool {
    matches!(first, [0, 0, length, 4, 0, 0, 0, 0, 0, ..] if length % 6 == 0)
}

/// Whether it begins as a request does, but its line has not ended: what it is when nothing more comes.
pub fn is_half_request(first: &[u8]) -> bool {
    by_request_start(first) == Detected::Http1
}

/// A request line: its start and, unless it is long, its version (RFC 9112, section 3). `get /key` and `OPTIONS * RTSP/1.0` are some other protocol.
fn by_request_line(first: &[u8]) -> Detected {
    let detected = by_request_start(first);
    if detected != Detected::Http1 {
        return detected;
    }
    let line = &first[..first.len().min(LINE)];
    match line.iter().position(|byte| *byte == b'\n') {
        Some(end) if !has_version(&line[..end]) => Detected::Opaque(Protocol::Undeclared),
        None if line.len() < LINE => Detected::NeedMore,
        Some(_) | None => Detected::Http1,
    }
}

fn has_version(line: &[u8]) -> bool {
    line.windows(VERSION.len()).any(|at| at == VERSION)
}

/// A method, a space, and how a request target begins (RFC 9112, sections 3 and 3.2). `GET key` is some other protocol.
fn by_request_start(first: &[u8]) -> Detected {
    const NO: Detected = Detected::Opaque(Protocol::Undeclared);
    let length = first
        .iter()
        .take(METHOD + 1)
        .take_while(|byte| is_token(**byte))
        .count();
    if length > METHOD {
        return NO;
    }
    let (method, rest) = first.split_at(length);
    match rest {
        [] => Detected::NeedMore,
        [b' ', ..] if method.is_empty() => NO,
        // Authority form, which does not begin like a path: Go's net/rpc asks for one.
        [b' ', b'/', ..] if method == b"CONNECT" => NO,
        [b' ', target, ..] if method == b"CONNECT" && target.is_ascii_graphic() => Detected::Http1,
        [b' ', b'/', ..] => Detected::Http1,
        [b' ', b'*', b' ', ..] => Detected::Http1,
        [b' ', b'h' | b'H', b't' | b'T', b't' | b'T', b'p' | b'P', ..] => Detected::Http1,
        [b' ', start @ ..] if b"* ".starts_with(start) => Detected::NeedMore,
        [b' ', start @ ..] if b"http".starts_with(&start.to_ascii_lowercase()) => {
            Detected::NeedMore
        }
        _ => NO,
    }
}

/// RFC 9110, section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests;
