// SPDX-License-Identifier: Apache-2.0
//! Heads between proxies (`docs/wire.md`, sections 2 to 5): the facts of the hop, and the head of an HTTP/1 or HTTP/2 message or none.
//!
//! Names of an HTTP/1 message keep their case. Whatever passes here can be written as a message of its version without becoming
//! another one, but for what [`http1`](crate::http1) still checks: the framing. Must never trust a peer more than an application. Read `rfc9113.rs` next.

use std::str::FromStr;

use super::addresses::{Addresses, Last};
use super::rfc9113::{self, Message, is_target};
use super::{Code, HopShape, RequestShape, ResponseShape, Shape, TargetShape, status};
use crate::hpack::List;
use crate::http1::{Version, is_text, is_token};

/// Fields of the application: `docs/wire.md`, limits. Pseudo-fields are not counted.
const MOST: usize = 256;

/// What `:m-version` says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Spoken {
    Http1(Version),
    Http2,
}

/// The places of the pseudo-fields, before it is known which must be there.
#[derive(Default)]
struct Places {
    method: Option<usize>,
    path: Option<usize>,
    scheme: Option<usize>,
    authority: Option<usize>,
    host: Option<usize>,
    connect: Option<usize>,
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

pub(super) fn request(list: &List, known: &mut Addresses) -> Result<RequestShape, Code> {
    let places = Places::find(list)?;
    if places.status.is_some() || places.reason.is_some() || places.flag.is_some() {
        return Err(Code::PROTOCOL_ERROR);
    }
    let method = places.method.ok_or(Code::PROTOCOL_ERROR)?;
    let name = list.get(method).1;
    if !is_token(name) {
        return Err(Code::PROTOCOL_ERROR);
    }
    let carries = match (spoken(list, places.version)?, places.path) {
        (Spoken::Http2, _) => places.http2(list, name)?,
        _ if places.host.is_some() || places.connect.is_some() => {
            return Err(Code::PROTOCOL_ERROR);
        }
        (Spoken::Http1(version), Some(target)) if is_target(list.get(target).1) => {
            Shape::Http1 { target, version }
        }
        (Spoken::Http1(_), None) if name == b"CONNECT" => Shape::Tcp,
        (Spoken::Http1(_), _) => return Err(Code::PROTOCOL_ERROR),
    };
    Ok(RequestShape {
        method,
        carries,
        hop: Some(HopShape {
            authority: read(&mut known.authority, list, places.authority)?
                .ok_or(Code::PROTOCOL_ERROR)?,
            dialled: read(&mut known.dialled, list, places.dialled)?,
            source: read(&mut known.source, list, places.source)?,
            protocol: places.protocol,
            server_name: places.server_name,
        }),
        skip: places.count,
    })
}

pub(super) fn response(list: &List) -> Result<ResponseShape, Code> {
    let places = Places::find(list)?;
    let of_request = [
        places.method,
        places.path,
        places.scheme,
        places.authority,
        places.host,
        places.connect,
        places.dialled,
        places.source,
        places.protocol,
        places.server_name,
    ];
    if of_request.iter().any(Option::is_some) {
        return Err(Code::PROTOCOL_ERROR);
    }
    let code = places.status.and_then(|place| status(list.get(place).1));
    let version = match spoken(list, places.version)? {
        Spoken::Http1(version) => version,
        // A response speaks what its request spoke: there is nothing to say.
        Spoken::Http2 => return Err(Code::PROTOCOL_ERROR),
    };
    Ok(ResponseShape {
        status: code.ok_or(Code::PROTOCOL_ERROR)?,
        reason: places.reason,
        version,
        flag: places.flag,
        skip: places.count,
    })
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
            b":scheme" => Some(&mut self.scheme),
            b":authority" => Some(&mut self.authority),
            b":m-authority" => Some(&mut self.host),
            b":m-connect" => Some(&mut self.connect),
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

    /// An HTTP/2 request is held to what an application is held to: a peer may be anybody's.
    fn http2(&self, list: &List, method: &[u8]) -> Result<Shape, Code> {
        let value = |place: Option<usize>| place.map(|place| list.get(place).1);
        let message = Message {
            method,
            scheme: value(self.scheme),
            authority: value(self.host),
            path: value(self.path),
            protocol: value(self.connect),
        };
        message.check(list.from(self.count))?;
        rfc9113::check_message(list.from(self.count))?;
        Ok(Shape::Http2(TargetShape {
            scheme: self.scheme,
            authority: self.host,
            path: self.path,
            protocol: self.connect,
        }))
    }
}

fn spoken(list: &List, place: Option<usize>) -> Result<Spoken, Code> {
    match place.map(|place| list.get(place).1) {
        None | Some(b"1.1") => Ok(Spoken::Http1(Version::Http11)),
        Some(b"1.0") => Ok(Spoken::Http1(Version::Http10)),
        Some(b"2") => Ok(Spoken::Http2),
        Some(_) => Err(Code::PROTOCOL_ERROR),
    }
}

fn is_newer(name: &[u8]) -> bool {
    name.starts_with(b":m-") && is_token(&name[1..])
}

fn read<T: FromStr + Copy>(
    known: &mut Last<T>,
    list: &List,
    place: Option<usize>,
) -> Result<Option<T>, Code> {
    let Some(place) = place else {
        return Ok(None);
    };
    let value = known.read(list.get(place).1);
    value.map(Some).ok_or(Code::PROTOCOL_ERROR)
}
