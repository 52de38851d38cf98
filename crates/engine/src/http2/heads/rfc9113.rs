// SPDX-License-Identifier: Apache-2.0
//! Heads of applications that speak HTTP/2 (RFC 9113, section 8; RFC 8441): what is malformed is never forwarded.
//!
//! Must never let through what could become a second message behind a hop of HTTP/1, or two readings of a length. Read `mesh.rs` next.

use super::{Code, RequestShape, ResponseShape, Shape, TargetShape, status};
use crate::hpack::List;
use crate::http1::{Version, is_text, is_token};

/// Fields of the application, pseudo-fields not counted: as in HTTP/1.
const MOST: usize = 256;

/// The pseudo-fields of a request.
pub(super) struct Message<'a> {
    pub(super) method: &'a [u8],
    pub(super) scheme: Option<&'a [u8]>,
    pub(super) authority: Option<&'a [u8]>,
    pub(super) path: Option<&'a [u8]>,
    pub(super) protocol: Option<&'a [u8]>,
}

pub(super) fn request(list: &List) -> Result<RequestShape, Code> {
    let mut method = None;
    let mut target = TargetShape::default();
    let skip = pseudo(list, |name, place| {
        let slot = match name {
            b":method" => &mut method,
            b":scheme" => &mut target.scheme,
            b":authority" => &mut target.authority,
            b":path" => &mut target.path,
            b":protocol" => &mut target.protocol,
            _ => return false,
        };
        slot.replace(place).is_none()
    })?;
    let method = method.ok_or(Code::PROTOCOL_ERROR)?;
    let value = |place: Option<usize>| place.map(|place| list.get(place).1);
    let message = Message {
        method: list.get(method).1,
        scheme: value(target.scheme),
        authority: value(target.authority),
        path: value(target.path),
        protocol: value(target.protocol),
    };
    message.check(list.from(skip))?;
    check_message(list.from(skip))?;
    Ok(RequestShape {
        method,
        carries: Shape::Http2(target),
        hop: None,
        skip,
    })
}

pub(super) fn response(list: &List) -> Result<ResponseShape, Code> {
    let mut place_of_status = None;
    let skip = pseudo(list, |name, place| {
        name == b":status" && place_of_status.replace(place).is_none()
    })?;
    let code = place_of_status.and_then(|place| status(list.get(place).1));
    // There is no switch of protocols in HTTP/2 (section 8.6).
    let code = code
        .filter(|code| *code != 101)
        .ok_or(Code::PROTOCOL_ERROR)?;
    check_message(list.from(skip))?;
    Ok(ResponseShape {
        status: code,
        reason: None,
        version: Version::Http11,
        flag: None,
        skip,
    })
}

/// Tells `take` the pseudo-fields, which must come first and be known to it. How many there are.
fn pseudo(list: &List, mut take: impl FnMut(&[u8], usize) -> bool) -> Result<usize, Code> {
    let mut count = 0;
    for (place, (name, value)) in list.iter().enumerate() {
        if name.first() != Some(&b':') {
            continue;
        }
        if place != count || !take(name, place) || !is_value(value) {
            return Err(Code::PROTOCOL_ERROR);
        }
        count += 1;
    }
    Ok(count)
}

// === impl Message ===

impl Message<'_> {
    /// Section 8.3.1, section 8.5, and RFC 8441, section 4.
    pub(super) fn check<'f>(
        &self,
        fields: impl Iterator<Item = (&'f [u8], &'f [u8])>,
    ) -> Result<(), Code> {
        let connect = self.method == b"CONNECT";
        let whole = match (connect, self.protocol) {
            (false, Some(_)) => false,
            (true, None) => {
                self.scheme.is_none() && self.path.is_none() && self.authority.is_some()
            }
            (true, Some(protocol)) => is_token(protocol) && self.has_target(),
            (false, None) => self.has_target(),
        };
        let text = [self.scheme, self.authority, self.path];
        let clean = text
            .into_iter()
            .flatten()
            .all(|value| is_target(value) && is_value(value));
        if !whole || !clean || !is_token(self.method) || !self.same_host(fields) {
            return Err(Code::PROTOCOL_ERROR);
        }
        Ok(())
    }

    fn has_target(&self) -> bool {
        let path = match self.path {
            Some([b'/', ..]) => true,
            Some(b"*") => self.method == b"OPTIONS",
            // Another scheme's path is its own affair.
            Some([_, ..]) => !matches!(self.scheme, Some(b"http" | b"https")),
            Some([]) | None => false,
        };
        path && self.scheme.is_some()
    }

    /// `Host` must not name somebody else than `:authority`, nor come twice.
    fn same_host<'f>(&self, fields: impl Iterator<Item = (&'f [u8], &'f [u8])>) -> bool {
        let mut hosts = fields
            .filter(|(name, _)| *name == b"host")
            .map(|(_, value)| value);
        match (hosts.next(), self.authority) {
            (None, Some(_)) => true,
            (None, None) => !matches!(self.scheme, Some(b"http" | b"https")),
            (Some(host), authority) => {
                let same = authority.is_none_or(|authority| authority.eq_ignore_ascii_case(host));
                same && hosts.next().is_none()
            }
        }
    }
}

/// What holds for all fields that are not pseudo-fields, in heads and in trailers: lower-case token names, values without control
/// bytes or white space around them, nothing that is a connection's own (sections 8.2.1 and 8.2.2).
pub fn check_message<'f>(fields: impl Iterator<Item = (&'f [u8], &'f [u8])>) -> Result<(), Code> {
    let mut count = 0;
    for (name, value) in fields {
        count += 1;
        let lower = !name.iter().any(u8::is_ascii_uppercase);
        let own = match name {
            b"connection" | b"proxy-connection" | b"keep-alive" | b"transfer-encoding"
            | b"upgrade" => true,
            b"te" => !value.eq_ignore_ascii_case(b"trailers"),
            _ => false,
        };
        if own || !lower || !is_token(name) || !is_value(value) {
            return Err(Code::PROTOCOL_ERROR);
        }
    }
    if count > MOST {
        return Err(Code::PROTOCOL_ERROR);
    }
    Ok(())
}

/// What `content-length` says (RFC 9110, section 8.6): `None` where there is none. Two that differ, or one that is no number, are malformed.
pub fn content_length<'f>(
    fields: impl Iterator<Item = (&'f [u8], &'f [u8])>,
) -> Result<Option<u64>, Code> {
    let mut found = None;
    for (name, value) in fields {
        if name != b"content-length" {
            continue;
        }
        let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
        let number = std::str::from_utf8(value).ok().filter(|_| digits);
        let number: Option<u64> = number.and_then(|text| text.parse().ok());
        match (number, found) {
            (None, _) => return Err(Code::PROTOCOL_ERROR),
            (Some(number), Some(before)) if number != before => return Err(Code::PROTOCOL_ERROR),
            (number, _) => found = number,
        }
    }
    Ok(found)
}

/// Bytes of a request target, in any form.
pub(super) fn is_target(path: &[u8]) -> bool {
    !path.is_empty() && is_text(path) && !path.iter().any(|byte| matches!(byte, b' ' | b'\t'))
}

fn is_value(value: &[u8]) -> bool {
    let space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    is_text(value) && !space(value.first()) && !space(value.last())
}
