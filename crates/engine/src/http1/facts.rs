// SPDX-License-Identifier: Apache-2.0
//! What the fields of a head mean for its message: where the body ends, what becomes of the connection (RFC 9112, sections 3.2, 6 and 9).
//!
//! Must refuse whatever two recipients could read differently. Read `body.rs` next.

use super::chars::{HOST, is, is_token};
use super::{
    Framing, LONGEST_BODY, Malformed, RequestHead, RequestKind, ResponseHead, Span, Version,
};

/// What both kinds of heads have.
#[derive(Debug, Default)]
struct Facts {
    length: Option<u64>,
    chunked: bool,
    /// Codings stand before `chunked`.
    coded: Coded,
    close: bool,
    keep_alive: bool,
    upgrade: bool,
}

/// What is chunked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Coded {
    /// The content itself.
    #[default]
    Not,
    /// The content in codings that are registered (RFC 9112, section 7).
    Known,
    /// The content in something else.
    Unknown,
}

/// Of a request.
#[derive(Debug, Default)]
pub(super) struct RequestFacts {
    both: Facts,
    host: Option<Span>,
    protocol: bool,
    expects_continue: bool,
}

/// Of a response.
#[derive(Debug, Default)]
pub(super) struct ResponseFacts {
    both: Facts,
}

// === impl Facts ===

impl Facts {
    #[inline]
    fn see(&mut self, name: &[u8], value: &[u8]) -> Result<(), Malformed> {
        match name.len() {
            10 if name.eq_ignore_ascii_case(b"connection") => self.connection(value),
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                let length = digits(value).ok_or(Malformed::ContentLength)?;
                if self.length.replace(length).is_some() {
                    return Err(Malformed::ContentLength);
                }
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                if self.chunked {
                    return Err(Malformed::TransferEncoding);
                }
                self.coded = codings(value).ok_or(Malformed::TransferEncoding)?;
                self.chunked = true;
            }
            _ => {}
        }
        Ok(())
    }

    fn connection(&mut self, value: &[u8]) {
        for token in value.split(|&byte| byte == b',') {
            let token = token.trim_ascii();
            self.close |= token.eq_ignore_ascii_case(b"close");
            self.keep_alive |= token.eq_ignore_ascii_case(b"keep-alive");
            self.upgrade |= token.eq_ignore_ascii_case(b"upgrade");
        }
    }

    /// The framing that the fields give, if they give any.
    fn framing(&self, version: Version) -> Result<Option<Framing>, Malformed> {
        match (self.chunked, self.length) {
            (true, Some(_)) => Err(Malformed::TransferEncoding),
            (true, None) if version == Version::Http10 => Err(Malformed::TransferEncoding),
            (true, None) => Ok(Some(Framing::Chunked)),
            (false, Some(length)) => Ok(Some(Framing::Length(length))),
            (false, None) => Ok(None),
        }
    }

    fn persists(&self, version: Version) -> bool {
        !self.close && (version == Version::Http11 || self.keep_alive)
    }
}

// === impl RequestFacts ===

impl RequestFacts {
    #[inline]
    pub(super) fn see(&mut self, buf: &[u8], name: Span, value: Span) -> Result<(), Malformed> {
        let (name, text) = (name.of(buf), value.of(buf));
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => {
                let first = self.host.replace(value).is_none();
                (first && is_host(text))
                    .then_some(())
                    .ok_or(Malformed::Host)?;
            }
            6 if name.eq_ignore_ascii_case(b"expect") => {
                self.expects_continue |= text.eq_ignore_ascii_case(b"100-continue");
            }
            7 if name.eq_ignore_ascii_case(b"upgrade") => self.protocol = true,
            10 | 14 | 17 => self.both.see(name, text)?,
            _ => {}
        }
        Ok(())
    }

    pub(super) fn settle(self, buf: &[u8], head: &mut RequestHead) -> Result<(), Malformed> {
        let modern = head.version == Version::Http11;
        if self.host.is_none() && modern {
            return Err(Malformed::Host);
        }
        if self.both.coded != Coded::Not && modern && self.both.length.is_none() {
            return Err(Malformed::UnknownCoding);
        }
        head.host = self.host;
        head.framing = self.both.framing(head.version)?.unwrap_or(Framing::None);
        // Some read a body here, some a tunnel's first bytes (RFC 9110, section 9.3.6).
        if head.method.of(buf) == b"CONNECT" {
            match head.framing {
                Framing::None | Framing::Length(0) => {}
                Framing::Chunked => return Err(Malformed::TransferEncoding),
                _ => return Err(Malformed::ContentLength),
            }
        }
        head.keep_alive = self.both.persists(head.version);
        head.upgrade = modern && self.both.upgrade && self.protocol;
        head.expects_continue = modern && self.expects_continue;
        Ok(())
    }
}

// === impl ResponseFacts ===

impl ResponseFacts {
    #[inline]
    pub(super) fn see(&mut self, buf: &[u8], name: Span, value: Span) -> Result<(), Malformed> {
        self.both.see(name.of(buf), value.of(buf))
    }

    pub(super) fn settle(
        self,
        asked: RequestKind,
        head: &mut ResponseHead,
    ) -> Result<(), Malformed> {
        let status = head.status;
        let given = self.both.framing(head.version)?;
        let bare = status < 200 || status == 204;
        if self.both.coded == Coded::Unknown || (bare && self.both.chunked) {
            return Err(Malformed::TransferEncoding);
        }
        if status == 101 && asked != RequestKind::Upgrade {
            return Err(Malformed::Switch);
        }
        let connected = asked == RequestKind::Connect && (200..300).contains(&status);
        head.tunnel = status == 101 || connected;
        head.framing = if bare || connected || status == 304 || asked == RequestKind::Head {
            Framing::None
        } else {
            given.unwrap_or(Framing::UntilClose)
        };
        head.keep_alive =
            self.both.persists(head.version) && !head.tunnel && head.framing != Framing::UntilClose;
        Ok(())
    }
}

/// What stands before the one `chunked`, which is the last; `None` for whatever else is said.
fn codings(value: &[u8]) -> Option<Coded> {
    const CHUNKED: &[u8] = b"chunked";
    if value.eq_ignore_ascii_case(CHUNKED) {
        return Some(Coded::Not);
    }
    let (others, last) = value.split_at(value.iter().rposition(|&byte| byte == b',')?);
    let last = last[1..].trim_ascii();
    let mut coded = Coded::Known;
    for other in others.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
        if !is_token(other) || other.eq_ignore_ascii_case(CHUNKED) {
            return None;
        }
        let known = [
            &b"gzip"[..],
            b"deflate",
            b"compress",
            b"x-gzip",
            b"x-compress",
        ];
        if !known.iter().any(|known| other.eq_ignore_ascii_case(known)) {
            coded = Coded::Unknown;
        }
    }
    last.eq_ignore_ascii_case(CHUNKED).then_some(coded)
}

/// `1*DIGIT`, at most [`LONGEST_BODY`].
fn digits(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    let length = value.iter().try_fold(0u64, |sum, &byte| {
        let digit = char::from(byte).to_digit(10)?;
        sum.checked_mul(10)?.checked_add(u64::from(digit))
    });
    length.filter(|&length| length <= LONGEST_BODY)
}

/// `uri-host [ ":" port ]`, perhaps empty (RFC 9110, section 7.2; RFC 3986, section 3.2.2).
pub(super) fn is_host(value: &[u8]) -> bool {
    let name = if value.first() == Some(&b'[') {
        let Some(end) = value.iter().position(|&byte| byte == b']') else {
            return false;
        };
        let inside = &value[1..end];
        if inside.is_empty() || !inside.iter().all(|&byte| byte == b':' || is(byte, HOST)) {
            return false;
        }
        end + 1
    } else {
        value
            .iter()
            .position(|&byte| !is(byte, HOST))
            .unwrap_or(value.len())
    };
    match value[name..].split_first() {
        None => true,
        Some((b':', port)) => port.iter().all(u8::is_ascii_digit),
        Some(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        for good in [
            "",
            "a",
            "example.org",
            "example.org:80",
            "10.0.0.1:8080",
            "[::1]",
            "[fd00::1]:80",
            "a_b.c",
            "x:",
            "%41",
            "*.example",
        ] {
            assert!(is_host(good.as_bytes()), "{good}");
        }
        for bad in [
            "a b", "a/b", "user@a", "a:b", "a:80:80", "[::1", "[]", "::1", "[::1]x", "a?b", "a#b",
            "a\\b", "é", "[a/b]",
        ] {
            assert!(!is_host(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn lengths() {
        assert_eq!(digits(b"0"), Some(0));
        assert_eq!(digits(b"0042"), Some(42));
        assert_eq!(digits(b"9223372036854775807"), Some(LONGEST_BODY));
        for bad in [
            &b""[..],
            b"+5",
            b"-1",
            b"0x5",
            b"5, 5",
            b"5 5",
            b"9223372036854775808",
            b"18446744073709551615",
            b"18446744073709551616",
            b"18446744073709551621",
            b"5\xb2",
            b"1.0",
        ] {
            assert_eq!(digits(bad), None, "{bad:?}");
        }
    }
}
