// SPDX-License-Identifier: Apache-2.0
//! Heads as they travel: pseudo-fields read into values, the application's fields behind them (`docs/wire.md`, sections 2 to 5).
//!
//! Names keep their case. Whatever passes here can be written as HTTP/1 without becoming another message, but for what
//! [`http1`](crate::http1) still checks: the framing. Read `receive.rs` for the caller.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use super::Code;
use crate::hpack::List;
use crate::http1::{Version, is_text, is_token};

/// Fields of the application: `docs/wire.md`, limits. Pseudo-fields are not counted.
const MOST: usize = 256;

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
    /// `:path`, the request target without spaces and control bytes. `None` with CONNECT only: a TCP stream.
    pub path: Option<&'a [u8]>,
    /// `:authority`: where this hop ends.
    pub authority: SocketAddr,
    /// `:m-dst`: what the application dialled, where that is something else.
    pub dialled: Option<SocketAddr>,
    /// `:m-src`: the client's address, as the peer claims.
    pub source: Option<IpAddr>,
    /// `:m-version`.
    pub version: Version,
    /// `:m-protocol`: what the bytes of a TCP stream are.
    pub protocol: Option<&'a [u8]>,
    /// `:m-sni`: the name that a TLS client asked for, as the peer claims.
    pub server_name: Option<&'a [u8]>,
    /// What the application wrote.
    pub fields: Fields<'a>,
}

/// The head of a response.
#[derive(Clone, Copy, Debug)]
pub struct ResponseFields<'a> {
    /// `:status`, 100 to 999.
    pub status: u16,
    /// `:m-reason`; `None`: [`canonical_reason`](crate::http1::canonical_reason).
    pub reason: Option<&'a [u8]>,
    /// `:m-version`.
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
    path: Option<usize>,
    authority: SocketAddr,
    dialled: Option<SocketAddr>,
    source: Option<IpAddr>,
    version: Version,
    protocol: Option<usize>,
    server_name: Option<usize>,
    skip: usize,
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

/// The places of the pseudo-fields, before it is known which must be there.
#[derive(Default)]
struct Places {
    method: Option<usize>,
    path: Option<usize>,
    scheme: Option<usize>,
    authority: Option<usize>,
    dialled: Option<usize>,
    source: Option<usize>,
    version: Option<usize>,
    protocol: Option<usize>,
    server_name: Option<usize>,
    status: Option<usize>,
    reason: Option<usize>,
    flag: Option<usize>,
    count: usize,
}

// === impl Fields ===

impl<'a> Fields<'a> {
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
    pub fn read(list: &'a List) -> Result<Self, Code> {
        Ok(RequestShape::check(list)?.of(list))
    }
}

// === impl RequestShape ===

impl RequestShape {
    pub(super) fn check(list: &List) -> Result<Self, Code> {
        let places = Places::find(list)?;
        if places.status.is_some() || places.reason.is_some() || places.flag.is_some() {
            return Err(Code::PROTOCOL_ERROR);
        }
        let method = places.method.ok_or(Code::PROTOCOL_ERROR)?;
        let name = list.get(method).1;
        let whole = match places.path {
            Some(path) => is_target(list.get(path).1),
            None => name == b"CONNECT",
        };
        if !whole || !is_token(name) {
            return Err(Code::PROTOCOL_ERROR);
        }
        Ok(Self {
            method,
            path: places.path,
            authority: parse(list, places.authority)?.ok_or(Code::PROTOCOL_ERROR)?,
            dialled: parse(list, places.dialled)?,
            source: parse(list, places.source)?,
            version: version(list, places.version)?,
            protocol: places.protocol,
            server_name: places.server_name,
            skip: places.count,
        })
    }

    /// With the list that was checked.
    pub(super) fn of(self, list: &List) -> RequestFields<'_> {
        RequestFields {
            method: list.get(self.method).1,
            path: self.path.map(|place| list.get(place).1),
            authority: self.authority,
            dialled: self.dialled,
            source: self.source,
            version: self.version,
            protocol: self.protocol.map(|place| list.get(place).1),
            server_name: self.server_name.map(|place| list.get(place).1),
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
    pub fn read(list: &'a List) -> Result<Self, Code> {
        Ok(ResponseShape::check(list)?.of(list))
    }

    /// 1xx other than 101: another head follows.
    pub fn interim(&self) -> bool {
        is_interim(self.status)
    }
}

// === impl ResponseShape ===

impl ResponseShape {
    pub(super) fn check(list: &List) -> Result<Self, Code> {
        let places = Places::find(list)?;
        let of_request = [
            places.method,
            places.path,
            places.scheme,
            places.authority,
            places.dialled,
            places.source,
            places.protocol,
            places.server_name,
        ];
        if of_request.iter().any(Option::is_some) {
            return Err(Code::PROTOCOL_ERROR);
        }
        let status = match places.status.map(|place| list.get(place).1) {
            Some(&[a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9']) => {
                u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0')
            }
            _ => return Err(Code::PROTOCOL_ERROR),
        };
        Ok(Self {
            status,
            reason: places.reason,
            version: version(list, places.version)?,
            flag: places.flag,
            skip: places.count,
        })
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

// === impl Places ===

impl Places {
    /// Finds the pseudo-fields and checks everything that holds for all fields.
    fn find(list: &List) -> Result<Self, Code> {
        let mut places = Self::default();
        let mut refused = false;
        for (place, (name, value)) in list.iter().enumerate() {
            if !is_text(value) {
                return Err(Code::PROTOCOL_ERROR);
            }
            if name.first() != Some(&b':') {
                if !is_token(name) {
                    return Err(Code::PROTOCOL_ERROR);
                }
                continue;
            }
            if places.count != place {
                // Behind a field of the application.
                return Err(Code::PROTOCOL_ERROR);
            }
            places.count += 1;
            match places.slot(name) {
                Some(slot) if slot.is_none() => *slot = Some(place),
                // A newer peer's fact: ignored, unless it says that it must not be.
                None if is_newer(name)
                    && !list.iter().take(place).any(|(other, _)| other == name) =>
                {
                    refused |= name.starts_with(b":m-must-");
                }
                _ => return Err(Code::PROTOCOL_ERROR),
            }
        }
        match refused {
            true => Err(Code::REFUSED_STREAM),
            false if list.len() - places.count > MOST => Err(Code::PROTOCOL_ERROR),
            false => Ok(places),
        }
    }

    fn slot(&mut self, name: &[u8]) -> Option<&mut Option<usize>> {
        match name {
            b":method" => Some(&mut self.method),
            b":path" => Some(&mut self.path),
            // Never sent by ours, and worth nothing: the local hop is `http`.
            b":scheme" => Some(&mut self.scheme),
            b":authority" => Some(&mut self.authority),
            b":m-dst" => Some(&mut self.dialled),
            b":m-src" => Some(&mut self.source),
            b":m-version" => Some(&mut self.version),
            b":m-protocol" => Some(&mut self.protocol),
            b":m-sni" => Some(&mut self.server_name),
            b":status" => Some(&mut self.status),
            b":m-reason" => Some(&mut self.reason),
            b":m-flag" => Some(&mut self.flag),
            _ => None,
        }
    }
}

fn is_interim(status: u16) -> bool {
    (100..200).contains(&status) && status != 101
}

fn version(list: &List, place: Option<usize>) -> Result<Version, Code> {
    match place.map(|place| list.get(place).1) {
        None | Some(b"1.1") => Ok(Version::Http11),
        Some(b"1.0") => Ok(Version::Http10),
        Some(_) => Err(Code::PROTOCOL_ERROR),
    }
}

fn is_newer(name: &[u8]) -> bool {
    name.starts_with(b":m-") && is_token(&name[1..])
}

fn is_target(path: &[u8]) -> bool {
    !path.is_empty() && is_text(path) && !path.iter().any(|byte| matches!(byte, b' ' | b'\t'))
}

fn parse<T: FromStr>(list: &List, place: Option<usize>) -> Result<Option<T>, Code> {
    let Some(place) = place else {
        return Ok(None);
    };
    // A zone means nothing on another machine.
    let text = std::str::from_utf8(list.get(place).1).ok();
    let value = text
        .filter(|text| !text.contains('%'))
        .and_then(|text| text.parse().ok());
    value.map(Some).ok_or(Code::PROTOCOL_ERROR)
}
