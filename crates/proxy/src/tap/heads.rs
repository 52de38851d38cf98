// SPDX-License-Identifier: Apache-2.0
//! What a tap keeps of heads: the beginning of each text, some fields, and of their values only what is known to hold no secret.
//!
//! A value that may be told is one of a field on the list; every other is replaced by nothing before it leaves the proxy, unless all were
//! asked for. Must never keep more than its bounds, whatever a peer sends. Next: `../forward/tapped.rs`.

use maille_engine::http1::{RequestHead, ResponseHead};

/// Bytes that are kept of a method, an authority, or a field's name.
pub const WORD: usize = 256;
/// Bytes of a path.
pub const PATH: usize = 2_048;
/// Bytes of a field's value.
const VALUE: usize = 512;
/// Fields of one head.
const FIELDS: usize = 64;
/// Bytes of all fields of one head.
const ALL: usize = 16 * 1_024;

/// Fields whose values say how a message is carried, read or traced, and nothing of who sent it.
const HARMLESS: [&str; 42] = [
    "accept",
    "accept-encoding",
    "accept-language",
    "age",
    "allow",
    "cache-control",
    "connection",
    "content-encoding",
    "content-language",
    "content-length",
    "content-range",
    "content-type",
    "date",
    "etag",
    "expect",
    "expires",
    "grpc-accept-encoding",
    "grpc-encoding",
    "grpc-message",
    "grpc-status",
    "grpc-timeout",
    "host",
    "if-modified-since",
    "if-none-match",
    "keep-alive",
    "last-modified",
    "max-forwards",
    "range",
    "retry-after",
    "sec-websocket-protocol",
    "sec-websocket-version",
    "server",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "vary",
    "via",
    "x-request-id",
    "traceparent",
    "warning",
];

/// What a tap is told of fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Headers {
    /// Nothing.
    #[default]
    None,
    /// Names, and harmless values.
    Redacted,
    /// Everything.
    All,
}

/// The beginning of a text, and how much was cut off.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// What is kept.
    pub kept: Box<[u8]>,
    /// Bytes that are not.
    pub lost: usize,
}

/// The fields of one head, as far as there is room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    fields: Vec<(Cut, Cut)>,
}

/// One field as it may be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderLine {
    /// Its name.
    pub name: Vec<u8>,
    /// Its value; empty where it was left out.
    pub value: Vec<u8>,
    /// The value was left out.
    pub redacted: bool,
}

/// What was asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// The method.
    pub method: Cut,
    /// `Host`, or `:authority`.
    pub authority: Cut,
    /// The target as it was sent.
    pub path: Cut,
    /// The fields.
    pub head: Head,
}

// === impl Cut ===

impl Cut {
    /// At most `most` bytes of `text`.
    pub fn of(text: &[u8], most: usize) -> Self {
        let kept = &text[..text.len().min(most)];
        Self {
            kept: kept.into(),
            lost: text.len() - kept.len(),
        }
    }

    /// What is kept, and how much is not.
    pub fn told(&self) -> Vec<u8> {
        let mut told = self.kept.to_vec();
        if self.lost > 0 {
            told.extend_from_slice(format!("...+{}", self.lost).as_bytes());
        }
        told
    }
}

// === impl Head ===

impl Head {
    /// Keeps what there is room for.
    fn keep<'f>(fields: impl Iterator<Item = (&'f [u8], &'f [u8])>) -> Self {
        let mut room = ALL;
        let mut kept = Vec::new();
        for (name, value) in fields.take(FIELDS) {
            let field = (Cut::of(name, WORD), Cut::of(value, VALUE));
            let size = field.0.kept.len() + field.1.kept.len();
            if size > room {
                break;
            }
            room -= size;
            kept.push(field);
        }
        Self { fields: kept }
    }

    /// Of the head of a response that was parsed from `bytes`.
    pub fn of_response(head: &ResponseHead, bytes: &[u8]) -> Self {
        Self::keep(head.fields(bytes))
    }

    /// Of fields one by one; pseudo-fields are not among them.
    pub fn of_fields<'f>(fields: impl Iterator<Item = (&'f [u8], &'f [u8])>) -> Self {
        Self::keep(fields.filter(|(name, _)| !name.starts_with(b":")))
    }

    /// The fields as somebody may see them.
    pub fn lines(&self, headers: Headers) -> Vec<HeaderLine> {
        if headers == Headers::None {
            return Vec::new();
        }
        let line = |(name, value): &(Cut, Cut)| {
            let redacted = headers != Headers::All && !is_harmless(&name.kept);
            HeaderLine {
                name: name.told(),
                value: if redacted { Vec::new() } else { value.told() },
                redacted,
            }
        };
        self.fields.iter().map(line).collect()
    }
}

fn is_harmless(name: &[u8]) -> bool {
    let known = |harmless: &&str| harmless.as_bytes().eq_ignore_ascii_case(name);
    HARMLESS.iter().any(known)
}

// === impl Request ===

impl Request {
    /// Of the head of a request that was parsed from `bytes`.
    pub fn of_http1(head: &RequestHead, bytes: &[u8]) -> Self {
        let host = head.host.map_or(&b""[..], |host| host.of(bytes));
        Self {
            method: Cut::of(head.method.of(bytes), WORD),
            authority: Cut::of(host, WORD),
            path: Cut::of(head.target.of(bytes), PATH),
            head: Head::keep(head.fields(bytes)),
        }
    }

    /// Of an HTTP/2 request's pseudo-fields and fields.
    pub fn of_http2<'f>(fields: impl Iterator<Item = (&'f [u8], &'f [u8])> + Clone) -> Self {
        let one = |names: [&[u8]; 2], most| {
            let mut found = fields.clone().filter(|(name, _)| names.contains(name));
            found
                .next()
                .map_or_else(Cut::default, |(_, value)| Cut::of(value, most))
        };
        Self {
            method: one([b":method", b":method"], WORD),
            authority: one([b":authority", b"host"], WORD),
            path: one([b":path", b":path"], PATH),
            head: Head::of_fields(fields.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_may_be_secret_do_not_leave() {
        let fields: [(&[u8], &[u8]); 4] = [
            (b"Authorization", b"Bearer abc"),
            (b"X-Token", b"abc"),
            (b"Content-Type", b"text/plain"),
            (b":path", b"/"),
        ];
        let head = Head::of_fields(fields.into_iter());
        let values = |headers| -> Vec<Vec<u8>> {
            let lines = head.lines(headers).into_iter();
            lines.map(|line| line.value).collect()
        };
        assert_eq!(values(Headers::None), Vec::<Vec<u8>>::new());
        assert_eq!(
            values(Headers::Redacted),
            [&b""[..], b"", b"text/plain"].map(<[u8]>::to_vec)
        );
        assert_eq!(
            values(Headers::All),
            [&b"Bearer abc"[..], b"abc", b"text/plain"].map(<[u8]>::to_vec)
        );
    }

    #[test]
    fn a_head_without_bound_is_kept_within_one() {
        let long = vec![b'x'; 100_000];
        let many = (0..10_000).map(|_| (&long[..], &long[..]));
        let head = Head::of_fields(many);
        let size = |(name, value): &(Cut, Cut)| name.kept.len() + value.kept.len();
        assert!(head.fields.len() <= FIELDS);
        assert!(head.fields.iter().map(size).sum::<usize>() <= ALL);
        let cut = Cut::of(&long, PATH);
        assert!(cut.told().ends_with(b"...+97952"));
    }
}
