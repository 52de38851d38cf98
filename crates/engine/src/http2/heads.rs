// SPDX-License-Identifier: Apache-2.0
//! Heads and trailers as they came: pseudo-fields read into values, the application's fields behind them.
//!
//! Two sets of rules, one for each [`Dialect`]: `heads/rfc9113.rs` for applications, `heads/mesh.rs` for other proxies. Must never
//! hand on a head that some other parser could read in another way. Read those two next.

mod addresses;
mod mesh;
mod rfc9113;

use std::net::{IpAddr, SocketAddr};

use super::{Code, Dialect};
use crate::hpack::List;
use crate::http1::Version;

pub(super) use addresses::Addresses;
pub use rfc9113::{check_message, content_length};

/// The application's fields: token names and values without CR, LF, NUL, in their order.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a> {
    list: &'a List,
    skip: usize,
}

/// The head of a request.
#[derive(Clone, Copy, Debug)]
pub struct RequestFields<'a> {
    /// `:method`, a token.
    pub method: &'a [u8],
    /// What the stream carries.
    pub carries: Carried<'a>,
    /// Where it goes and whence it comes. With another proxy always, with an application never.
    pub hop: Option<HopFields<'a>>,
    /// What the application wrote.
    pub fields: Fields<'a>,
}

/// What a stream carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carried<'a> {
    /// An HTTP/1 request: names keep their case, the body its framing. Only between proxies.
    Http1 {
        /// `:path`, the request target without spaces and control bytes.
        target: &'a [u8],
        /// `:m-version`.
        version: Version,
    },
    /// An HTTP/2 request.
    Http2(Target<'a>),
    /// A TCP connection. Only between proxies.
    Tcp,
}

/// What an HTTP/2 request asks for (RFC 9113, section 8.3.1; RFC 8441). What there must be depends on the method, and was checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Target<'a> {
    /// `:scheme`
    pub scheme: Option<&'a [u8]>,
    /// `:authority`; between proxies `:m-authority`.
    pub authority: Option<&'a [u8]>,
    /// `:path`
    pub path: Option<&'a [u8]>,
    /// `:protocol`; between proxies `:m-connect`.
    pub protocol: Option<&'a [u8]>,
}

/// The facts of a stream's way between two proxies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HopFields<'a> {
    /// `:authority`: where this hop ends.
    pub authority: SocketAddr,
    /// `:m-dst`: what the application dialled, where that is something else.
    pub dialled: Option<SocketAddr>,
    /// `:m-src`: the client's address, as the peer claims.
    pub source: Option<IpAddr>,
    /// `:m-protocol`: what the bytes of a TCP stream are.
    pub protocol: Option<&'a [u8]>,
    /// `:m-sni`: the name that a TLS client asked for, as the peer claims.
    pub server_name: Option<&'a [u8]>,
}

/// The head of a response.
#[derive(Clone, Copy, Debug)]
pub struct ResponseFields<'a> {
    /// `:status`, 100 to 999.
    pub status: u16,
    /// `:m-reason`; `None`: [`canonical_reason`](crate::http1::canonical_reason).
    pub reason: Option<&'a [u8]>,
    /// `:m-version`, of an HTTP/1 response.
    pub version: Version,
    /// `:m-flag`: the answer is a proxy's own, and this is why.
    pub flag: Option<&'a [u8]>,
    /// What the application wrote.
    pub fields: Fields<'a>,
}

/// A request's head that was checked: what was read, and where the rest is. Holds no borrow, so that the list is free until it is needed.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequestShape {
    method: usize,
    carries: Shape,
    hop: Option<HopShape>,
    skip: usize,
}

/// [`Carried`], by places.
#[derive(Clone, Copy, Debug)]
enum Shape {
    Http1 { target: usize, version: Version },
    Http2(TargetShape),
    Tcp,
}

/// [`Target`], by places.
#[derive(Clone, Copy, Debug, Default)]
struct TargetShape {
    scheme: Option<usize>,
    authority: Option<usize>,
    path: Option<usize>,
    protocol: Option<usize>,
}

/// [`HopFields`], by places.
#[derive(Clone, Copy, Debug)]
struct HopShape {
    authority: SocketAddr,
    dialled: Option<SocketAddr>,
    source: Option<IpAddr>,
    protocol: Option<usize>,
    server_name: Option<usize>,
}

/// The same of a response's.
#[derive(Clone, Copy, Debug)]
pub(super) struct ResponseShape {
    status: u16,
    reason: Option<usize>,
    version: Version,
    flag: Option<usize>,
    skip: usize,
}

// === impl Fields ===

impl<'a> Fields<'a> {
    /// All of a list.
    pub(super) fn all(list: &'a List) -> Self {
        Self { list, skip: 0 }
    }

    /// Names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone + use<'a> {
        self.list.from(self.skip)
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.list.len() - self.skip
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

// === impl RequestFields ===

impl<'a> RequestFields<'a> {
    /// Reads a request's head. The error is the code to reset its stream with.
    pub fn read(dialect: Dialect, list: &'a List) -> Result<Self, Code> {
        Ok(RequestShape::check(dialect, list, &mut Addresses::default())?.of(list))
    }
}

// === impl Target ===

impl<'a> Target<'a> {
    /// The pseudo-fields as an application is sent them, behind `:method`.
    pub fn fields(self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let named = |name: &'static str, value: Option<&'a [u8]>| {
            value.map(|value| (name.as_bytes(), value))
        };
        [
            named(":protocol", self.protocol),
            named(":scheme", self.scheme),
            named(":authority", self.authority),
            named(":path", self.path),
        ]
        .into_iter()
        .flatten()
    }
}

// === impl RequestShape ===

impl RequestShape {
    /// `known` is what earlier heads of the connection said.
    pub(super) fn check(
        dialect: Dialect,
        list: &List,
        known: &mut Addresses,
    ) -> Result<Self, Code> {
        match dialect {
            Dialect::Mesh => mesh::request(list, known),
            Dialect::Rfc9113 => rfc9113::request(list),
        }
    }

    /// With the list that was checked.
    pub(super) fn of(self, list: &List) -> RequestFields<'_> {
        let value = |place: usize| list.get(place).1;
        RequestFields {
            method: value(self.method),
            carries: match self.carries {
                Shape::Http1 { target, version } => Carried::Http1 {
                    target: value(target),
                    version,
                },
                Shape::Http2(shape) => Carried::Http2(Target {
                    scheme: shape.scheme.map(value),
                    authority: shape.authority.map(value),
                    path: shape.path.map(value),
                    protocol: shape.protocol.map(value),
                }),
                Shape::Tcp => Carried::Tcp,
            },
            hop: self.hop.map(|hop| HopFields {
                authority: hop.authority,
                dialled: hop.dialled,
                source: hop.source,
                protocol: hop.protocol.map(value),
                server_name: hop.server_name.map(value),
            }),
            fields: Fields {
                list,
                skip: self.skip,
            },
        }
    }
}

// === impl ResponseFields ===

impl<'a> ResponseFields<'a> {
    /// Reads a response's head. The error is the code to reset its stream with.
    pub fn read(dialect: Dialect, list: &'a List) -> Result<Self, Code> {
        Ok(ResponseShape::check(dialect, list)?.of(list))
    }

    /// 1xx other than 101: another head follows.
    pub fn interim(&self) -> bool {
        is_interim(self.status)
    }
}

// === impl ResponseShape ===

impl ResponseShape {
    pub(super) fn check(dialect: Dialect, list: &List) -> Result<Self, Code> {
        match dialect {
            Dialect::Mesh => mesh::response(list),
            Dialect::Rfc9113 => rfc9113::response(list),
        }
    }

    pub(super) fn interim(&self) -> bool {
        is_interim(self.status)
    }

    /// With the list that was checked.
    pub(super) fn of(self, list: &List) -> ResponseFields<'_> {
        ResponseFields {
            status: self.status,
            reason: self.reason.map(|place| list.get(place).1),
            version: self.version,
            flag: self.flag.map(|place| list.get(place).1),
            fields: Fields {
                list,
                skip: self.skip,
            },
        }
    }
}

/// Checks a trailer section: no pseudo-fields, and otherwise what holds for fields (RFC 9113, section 8.1).
pub(super) fn check_trailers(list: &List) -> Result<(), Code> {
    if list.iter().any(|(name, _)| name.first() == Some(&b':')) {
        return Err(Code::PROTOCOL_ERROR);
    }
    check_message(list.iter())
}

fn is_interim(status: u16) -> bool {
    (100..200).contains(&status) && status != 101
}

/// Three digits, the first not 0.
fn status(value: &[u8]) -> Option<u16> {
    let &[a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9'] = value else {
        return None;
    };
    Some(u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0'))
}
