// SPDX-License-Identifier: Apache-2.0
//! Heads as they travel: pseudo-fields read into values, the application's fields behind them (`docs/wire.md`, sections 2 to 5).
//!
//! Names keep their case. Whatever passes here can be written as HTTP/1 without becoming another message, but for what
//! [`http1`](crate::http1) still checks: the framing. Read `receive.rs` for the caller.

use std::net::{IpAddr, SocketAddr};

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

/// Pseudo-fields as they are met, before it is known which must be there.
#[derive(Default)]
struct Pseudo<'a> {
    method: Option<&'a [u8]>,
    path: Option<&'a [u8]>,
    scheme: Option<&'a [u8]>,
    authority: Option<&'a [u8]>,
    dialled: Option<&'a [u8]>,
    source: Option<&'a [u8]>,
    version: Option<&'a [u8]>,
    protocol: Option<&'a [u8]>,
    status: Option<&'a [u8]>,
    reason: Option<&'a [u8]>,
    flag: Option<&'a [u8]>,
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
        let pseudo = Pseudo::read(list)?;
        if pseudo.status.is_some() || pseudo.reason.is_some() || pseudo.flag.is_some() {
            return Err(Code::PROTOCOL_ERROR);
        }
        let method = pseudo.method.filter(|method| is_token(method));
        let method = method.ok_or(Code::PROTOCOL_ERROR)?;
        match pseudo.path {
            Some(path) if is_target(path) => {}
            None if method == b"CONNECT" => {}
            _ => return Err(Code::PROTOCOL_ERROR),
        }
        Ok(Self {
            method,
            path: pseudo.path,
            authority: parse(pseudo.authority)?.ok_or(Code::PROTOCOL_ERROR)?,
            dialled: parse(pseudo.dialled)?,
            source: parse(pseudo.source)?,
            version: pseudo.version()?,
            protocol: pseudo.protocol,
            fields: pseudo.rest(list),
        })
    }
}

// === impl ResponseFields ===

impl<'a> ResponseFields<'a> {
    /// Reads a response's head. The error is the code to reset its stream with.
    pub fn read(list: &'a List) -> Result<Self, Code> {
        let pseudo = Pseudo::read(list)?;
        let of_request = [
            pseudo.method,
            pseudo.path,
            pseudo.scheme,
            pseudo.authority,
            pseudo.dialled,
            pseudo.source,
            pseudo.protocol,
        ];
        if of_request.iter().any(Option::is_some) {
            return Err(Code::PROTOCOL_ERROR);
        }
        let status = match pseudo.status {
            Some(&[a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9']) => {
                u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0')
            }
            _ => return Err(Code::PROTOCOL_ERROR),
        };
        Ok(Self {
            status,
            reason: pseudo.reason,
            version: pseudo.version()?,
            flag: pseudo.flag,
            fields: pseudo.rest(list),
        })
    }

    /// 1xx other than 101: another head follows.
    pub fn interim(&self) -> bool {
        (100..200).contains(&self.status) && self.status != 101
    }
}

// === impl Pseudo ===

impl<'a> Pseudo<'a> {
    /// Reads the pseudo-fields and checks all others.
    fn read(list: &'a List) -> Result<Self, Code> {
        let mut pseudo = Self::default();
        let mut unknown = Vec::new();
        let mut refused = false;
        let mut fields = list.iter();
        let mut next = fields.next();
        while let Some((name, value)) = next.filter(|(name, _)| name.first() == Some(&b':')) {
            if !is_text(value) {
                return Err(Code::PROTOCOL_ERROR);
            }
            match pseudo.slot(name) {
                Some(slot) if slot.is_none() => *slot = Some(value),
                // A newer peer's fact: ignored, unless it says that it must not be.
                None if is_newer(name) && !unknown.contains(&name) => {
                    refused |= name.starts_with(b":m-must-");
                    unknown.push(name);
                }
                _ => return Err(Code::PROTOCOL_ERROR),
            }
            pseudo.count += 1;
            next = fields.next();
        }
        for (name, value) in next.into_iter().chain(fields) {
            if !is_token(name) || !is_text(value) {
                return Err(Code::PROTOCOL_ERROR);
            }
        }
        match refused {
            true => Err(Code::REFUSED_STREAM),
            false if list.len() - pseudo.count > MOST => Err(Code::PROTOCOL_ERROR),
            false => Ok(pseudo),
        }
    }

    fn slot(&mut self, name: &[u8]) -> Option<&mut Option<&'a [u8]>> {
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
            b":status" => Some(&mut self.status),
            b":m-reason" => Some(&mut self.reason),
            b":m-flag" => Some(&mut self.flag),
            _ => None,
        }
    }

    fn version(&self) -> Result<Version, Code> {
        match self.version {
            None | Some(b"1.1") => Ok(Version::Http11),
            Some(b"1.0") => Ok(Version::Http10),
            Some(_) => Err(Code::PROTOCOL_ERROR),
        }
    }

    fn rest(&self, list: &'a List) -> Fields<'a> {
        Fields {
            list,
            skip: self.count,
        }
    }
}

fn is_newer(name: &[u8]) -> bool {
    name.starts_with(b":m-") && is_token(&name[1..])
}

fn is_target(path: &[u8]) -> bool {
    !path.is_empty() && is_text(path) && !path.iter().any(|byte| matches!(byte, b' ' | b'\t'))
}

fn parse<T: std::str::FromStr>(text: Option<&[u8]>) -> Result<Option<T>, Code> {
    let Some(text) = text else {
        return Ok(None);
    };
    // A zone means nothing on another machine.
    let text = std::str::from_utf8(text)
        .ok()
        .filter(|text| !text.contains('%'));
    let value = text.and_then(|text| text.parse().ok());
    value.map(Some).ok_or(Code::PROTOCOL_ERROR)
}
