// SPDX-License-Identifier: Apache-2.0
//! From a frame to its TCP segment. Reads headers only, allocates nothing, checks no checksum (between veths they are not
//! filled in). Read `stream.rs` next.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// One TCP segment, possibly longer than an MTU: the kernel cuts after the capture (GSO).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment<'a> {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) sequence: u32,
    pub(crate) syn: bool,
    pub(crate) fin: bool,
    pub(crate) rst: bool,
    /// What was captured of the payload.
    pub(crate) payload: &'a [u8],
}

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parsed<'a> {
    Tcp(Segment<'a>),
    /// TCP that cannot be read: a fragment of a datagram, or headers that contradict themselves.
    Unreadable {
        from: IpAddr,
        to: IpAddr,
    },
    /// Not TCP, or not whole enough to say whose it is.
    Other,
}

const TCP: u8 = 6;

/// Reads a frame that begins with its Ethernet header.
pub(crate) fn parse(frame: &[u8]) -> Parsed<'_> {
    ethernet(frame).unwrap_or(Parsed::Other)
}

fn ethernet(frame: &[u8]) -> Option<Parsed<'_>> {
    let mut rest = frame.get(12..)?;
    // Two tags are as deep as provider bridges go.
    for _ in 0..3 {
        let kind = u16_at(rest, 0)?;
        rest = rest.get(2..)?;
        match kind {
            0x0800 => return ipv4(rest),
            0x86dd => return ipv6(rest),
            0x8100 | 0x88a8 => rest = rest.get(2..)?,
            _ => return None,
        }
    }
    None
}

/// RFC 791.
fn ipv4(packet: &[u8]) -> Option<Parsed<'_>> {
    let header = usize::from(packet.first()? & 0x0f) * 4;
    if packet[0] >> 4 != 4 || *packet.get(9)? != TCP {
        return None;
    }
    let from = Ipv4Addr::from(u32_at(packet, 12)?).into();
    let to = Ipv4Addr::from(u32_at(packet, 16)?).into();
    let offset_and_more = u16_at(packet, 6)? & 0x3fff;
    let packet = cut(packet, usize::from(u16_at(packet, 2)?));
    let body = packet.get(header..).filter(|_| header >= 20);
    match body {
        Some(body) if offset_and_more == 0 => Some(tcp(from, to, body)),
        _ => Some(Parsed::Unreadable { from, to }),
    }
}

/// RFC 8200.
fn ipv6(packet: &[u8]) -> Option<Parsed<'_>> {
    if packet.first()? >> 4 != 6 {
        return None;
    }
    let from = IpAddr::from(Ipv6Addr::from(u128_at(packet, 8)?));
    let to = IpAddr::from(Ipv6Addr::from(u128_at(packet, 24)?));
    let mut next = *packet.get(6)?;
    let length = usize::from(u16_at(packet, 4)?);
    let total = if length == 0 { 0 } else { length + 40 };
    let mut body = cut(packet, total).get(40..)?;
    let mut fragment = false;
    // More headers than any host sends; a packet that hides TCP deeper is refused by receivers too.
    for _ in 0..16 {
        let size = match next {
            TCP if fragment => return Some(Parsed::Unreadable { from, to }),
            TCP => return Some(tcp(from, to, body)),
            // Hop-by-hop, routing, destination options, mobility.
            0 | 43 | 60 | 135 => (usize::from(*body.get(1)?) + 1) * 8,
            51 => (usize::from(*body.get(1)?) + 2) * 4,
            44 => {
                let offset_and_more = u16_at(body, 2)? & 0xfff9;
                fragment |= offset_and_more != 0;
                if offset_and_more >> 3 != 0 {
                    // Only the first fragment says more about what follows.
                    return (body[0] == TCP).then_some(Parsed::Unreadable { from, to });
                }
                8
            }
            _ => return None,
        };
        next = body[0];
        body = body.get(size..)?;
    }
    None
}

/// RFC 9293.
fn tcp(from: IpAddr, to: IpAddr, segment: &[u8]) -> Parsed<'_> {
    let read = || {
        let header = usize::from(segment.get(12)? >> 4) * 4;
        let flags = *segment.get(13)?;
        Some(Segment {
            from: SocketAddr::new(from, u16_at(segment, 0)?),
            to: SocketAddr::new(to, u16_at(segment, 2)?),
            sequence: u32_at(segment, 4)?,
            syn: flags & 2 != 0,
            fin: flags & 1 != 0,
            rst: flags & 4 != 0,
            payload: segment.get(header..).filter(|_| header >= 20)?,
        })
    };
    read().map_or(Parsed::Unreadable { from, to }, Parsed::Tcp)
}

/// Without what Ethernet padded. A length of zero is a packet of more than 64 KiB.
fn cut(packet: &[u8], total: usize) -> &[u8] {
    match total {
        0 => packet,
        _ => packet.get(..total).unwrap_or(packet),
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u128_at(bytes: &[u8], at: usize) -> Option<u128> {
    Some(u128::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests;
