// SPDX-License-Identifier: Apache-2.0
//! What goes through a proxy's mesh connections as one more interface of a capture, `in0`: TCP segments that were never on a wire, between this proxy
//! (127.0.0.1 or ::1) and the other one's address, at port 15009 on the side that took the connection.
//!
//! Pure. A connection's bytes keep their places: what was lost is a gap. Next: [`super`].

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;

use crate::text::clean;

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
#[cfg(test)]
const NAMES: u32 = 4;
const PACKET: u32 = 6;
/// Packets that begin with an IP header.
const RAW_IP: u16 = 101;
/// Where connections are taken. Not the mesh's own port: what is there is encrypted, and readers go by ports.
const PORT: u16 = 15_009;
/// Ports of the sides that make connections.
const PORTS: std::ops::Range<u16> = 20_000..60_000;
const NAME: &[u8] = b"in0";
const ABOUT: &[u8] = b"inside: what this proxy's mesh connections carry, in plain text and whole (tokens, cookies, bodies); port 15009 is HTTP/2";
/// A block of the node is no longer than this.
const LONGEST: usize = 1 << 20;
/// What waits until the node has named its interfaces, or has ended a block.
const WAITING: usize = 8 << 20;
/// The longest piece: one packet holds it.
const MOST: usize = 32 * 1024;
/// Directions of connections of which it is known how far they have come.
const REMEMBERED: usize = 65_536;
const TCP: u8 = 6;
/// PSH and ACK.
const FLAGS: u8 = 0x18;

/// A line of `/v1/inside`.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(super) enum Line {
    /// The pod's owner lets it be seen.
    Agreed {
        pod: Option<Name>,
    },
    Piece(Piece),
    Dropped {
        no_room: u64,
    },
    Error {
        error: String,
    },
    /// A word of tomorrow.
    #[serde(other)]
    Other,
}

#[derive(Debug, Deserialize)]
pub(super) struct Name {
    pub(super) namespace: String,
    pub(super) name: String,
}

/// Bytes of one mesh connection.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Piece {
    connection: u64,
    remote: SocketAddr,
    dialled: bool,
    outward: bool,
    at_us: u64,
    offset: u64,
    bytes: String,
}

/// Puts pieces between the blocks of a capture that comes from the node.
#[derive(Debug, Default)]
pub(super) struct Merged {
    /// A block that has only begun.
    partial: Vec<u8>,
    /// Interfaces of the node's.
    interfaces: u32,
    /// Every interface of the node's is there, and the own one behind them.
    begun: bool,
    waiting: Vec<Piece>,
    size: usize,
    /// How far each direction of each connection has come, of so many as are remembered.
    ends: HashMap<(u64, bool), u32>,
    /// Pieces that were lost, here or on the way.
    pub(super) lost: u64,
}

// === impl Merged ===

impl Merged {
    /// Bytes of the node's capture: what can be written by now.
    pub(super) fn frames(&mut self, bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
        self.partial.extend_from_slice(bytes);
        let mut out = Vec::new();
        let mut rest = std::mem::take(&mut self.partial);
        let mut at = 0;
        while let Some(head) = rest.get(at..at + 8) {
            let word = |place: usize| head[place..place + 4].try_into().map(u32::from_le_bytes);
            let (kind, length) = (word(0)?, usize::try_from(word(4)?)?);
            ensure!(
                (12..=LONGEST).contains(&length),
                "a block of {length} bytes is none"
            );
            let Some(block) = rest.get(at..at + length) else {
                break;
            };
            match kind {
                SECTION => {}
                INTERFACE => self.interfaces += 1,
                // The node has named every interface that it has.
                _ => self.begin(&mut out)?,
            }
            out.extend_from_slice(block);
            at += length;
        }
        self.partial = rest.split_off(at);
        Ok(out)
    }

    /// What the mesh says of the inside: what can be written by now.
    pub(super) fn line(&mut self, line: Line) -> anyhow::Result<Vec<u8>> {
        let mut out = Vec::new();
        match line {
            Line::Piece(piece) if self.begun && self.partial.is_empty() => {
                self.packet(&piece, &mut out)?;
            }
            Line::Piece(piece) if self.size + piece.bytes.len() <= WAITING => {
                self.size += piece.bytes.len();
                self.waiting.push(piece);
            }
            Line::Piece(_) => self.lost += 1,
            Line::Dropped { no_room } => self.lost = self.lost.saturating_add(no_room),
            Line::Error { error } => bail!(
                "the proxy shows no more of what goes through it: {}",
                clean(&error)
            ),
            Line::Agreed { .. } | Line::Other => {}
        }
        Ok(out)
    }

    /// What still waits, now that no block of the node's comes any more. Within one that has only begun nothing can stand.
    pub(super) fn rest(&mut self) -> anyhow::Result<Vec<u8>> {
        let mut out = Vec::new();
        if self.interfaces > 0 && self.partial.is_empty() {
            self.begin(&mut out)?;
        }
        Ok(out)
    }

    /// The own interface, once, and what waited for it.
    fn begin(&mut self, out: &mut Vec<u8>) -> anyhow::Result<()> {
        if !std::mem::replace(&mut self.begun, true) {
            block(out, INTERFACE, |body| {
                body.extend_from_slice(&RAW_IP.to_le_bytes());
                body.extend_from_slice(&[0; 6]);
                option(body, 2, NAME);
                option(body, 3, ABOUT);
                // Microseconds.
                option(body, 9, &[6]);
                option(body, 0, &[]);
            });
        }
        self.size = 0;
        for piece in std::mem::take(&mut self.waiting) {
            self.packet(&piece, out)?;
        }
        Ok(())
    }

    fn packet(&mut self, piece: &Piece, out: &mut Vec<u8>) -> anyhow::Result<()> {
        let packet = self.segment(piece)?;
        let length = u32::try_from(packet.len())?.to_le_bytes();
        let [a, b, c, d, e, f, g, h] = piece.at_us.to_le_bytes();
        let place = self.interfaces.to_le_bytes();
        block(out, PACKET, |body| {
            body.extend_from_slice(&place);
            body.extend_from_slice(&[e, f, g, h, a, b, c, d]);
            body.extend_from_slice(&length);
            body.extend_from_slice(&length);
            padded(body, &packet);
            // epb_flags: 1 is inbound, 2 outbound.
            let way: u32 = if piece.outward { 2 } else { 1 };
            option(body, 2, &way.to_le_bytes());
            option(body, 0, &[]);
        });
        Ok(())
    }

    /// An IP packet with one TCP segment.
    fn segment(&mut self, piece: &Piece) -> anyhow::Result<Vec<u8>> {
        let remote = piece.remote.ip().to_canonical();
        let own = match remote {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        };
        let drawn = piece.connection % u64::from(PORTS.end - PORTS.start);
        let drawn = PORTS.start + u16::try_from(drawn)?;
        let (own_port, remote_port) = if piece.dialled {
            (drawn, PORT)
        } else {
            (PORT, drawn)
        };
        let (from, to) = match piece.outward {
            true => ((own, own_port), (remote, remote_port)),
            false => ((remote, remote_port), (own, own_port)),
        };
        let bytes = bytes(&piece.bytes).context("a piece that is no hexadecimal")?;
        ensure!(bytes.len() <= MOST, "a piece of {} bytes", bytes.len());
        let number = place(piece.offset);
        let end = number.wrapping_add(u32::try_from(bytes.len())?);
        if self.ends.len() >= REMEMBERED {
            self.ends.clear();
        }
        self.ends.insert((piece.connection, piece.outward), end);
        let heard = self.ends.get(&(piece.connection, !piece.outward));
        let mut segment = Vec::with_capacity(20 + bytes.len());
        segment.extend_from_slice(&from.1.to_be_bytes());
        segment.extend_from_slice(&to.1.to_be_bytes());
        segment.extend_from_slice(&number.to_be_bytes());
        segment.extend_from_slice(&heard.copied().unwrap_or(1).to_be_bytes());
        segment.extend_from_slice(&[0x50, FLAGS, 0xff, 0xff, 0, 0, 0, 0]);
        segment.extend_from_slice(&bytes);
        Ok(packet(from.0, to.0, segment))
    }
}

/// The number of a byte; the first one's is 1.
fn place(offset: u64) -> u32 {
    // Numbers of TCP go round.
    u32::try_from(offset.wrapping_add(1) & 0xffff_ffff).unwrap_or(0)
}

fn packet(from: IpAddr, to: IpAddr, mut segment: Vec<u8>) -> Vec<u8> {
    let octets = |address: IpAddr| match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let ends = [octets(from), octets(to)].concat();
    let length = u16::try_from(segment.len()).unwrap_or(u16::MAX);
    let pseudo = [&ends[..], &[0, TCP], &length.to_be_bytes(), &segment].concat();
    let sum = sum(&pseudo).to_be_bytes();
    segment[16..18].copy_from_slice(&sum);
    let mut out = match from {
        IpAddr::V4(_) => {
            let [a, b] = length.saturating_add(20).to_be_bytes();
            let mut head = vec![0x45, 0, a, b, 0, 0, 0x40, 0, 64, TCP, 0, 0];
            head.extend_from_slice(&ends);
            let sum = self::sum(&head).to_be_bytes();
            head[10..12].copy_from_slice(&sum);
            head
        }
        IpAddr::V6(_) => {
            let [a, b] = length.to_be_bytes();
            [&[0x60, 0, 0, 0, a, b, TCP, 64][..], &ends].concat()
        }
    };
    out.append(&mut segment);
    out
}

/// The Internet's checksum (RFC 1071).
fn sum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| {
        let low = pair.get(1).copied().unwrap_or(0);
        u32::from(u16::from_be_bytes([pair[0], low]))
    });
    let mut sum: u32 = words.fold(0, u32::wrapping_add);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

fn bytes(hexadecimal: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = hexadecimal.as_bytes().as_chunks::<2>();
    let pairs = pairs.iter().map(|pair| {
        let text = std::str::from_utf8(pair).ok()?;
        u8::from_str_radix(text, 16).ok()
    });
    rest.is_empty().then(|| pairs.collect())?
}

/// A block's length stands before and behind it.
fn block(out: &mut Vec<u8>, kind: u32, fill: impl FnOnce(&mut Vec<u8>)) {
    let mut body = Vec::new();
    fill(&mut body);
    let length = u32::try_from(body.len() + 12)
        .unwrap_or(u32::MAX)
        .to_le_bytes();
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&length);
    out.append(&mut body);
    out.extend_from_slice(&length);
}

fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    body.extend_from_slice(&code.to_le_bytes());
    let length = u16::try_from(value.len()).unwrap_or(0);
    body.extend_from_slice(&length.to_le_bytes());
    padded(body, value);
}

fn padded(body: &mut Vec<u8>, value: &[u8]) {
    body.extend_from_slice(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A block of the node's.
    fn of(kind: u32) -> Vec<u8> {
        let mut out = Vec::new();
        block(&mut out, kind, |body| body.extend_from_slice(&[7; 8]));
        out
    }

    fn piece(outward: bool, offset: u64, bytes: &str) -> Piece {
        Piece {
            connection: 3,
            remote: "10.0.0.2:15008".parse().unwrap(),
            dialled: true,
            outward,
            at_us: 5,
            offset,
            bytes: bytes.to_owned(),
        }
    }

    fn kinds(mut bytes: &[u8]) -> Vec<u32> {
        let mut kinds = Vec::new();
        while !bytes.is_empty() {
            let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
            kinds.push(word(0));
            let length = word(4) as usize;
            assert_eq!(bytes[length - 4..length], bytes[4..8]);
            bytes = &bytes[length..];
        }
        kinds
    }

    #[test]
    fn pieces_stand_behind_every_interface_and_in_no_block() {
        let node = [
            of(SECTION),
            of(INTERFACE),
            of(INTERFACE),
            of(NAMES),
            of(PACKET),
            of(PACKET),
        ]
        .concat();
        for size in 1..node.len() {
            let mut merged = Merged::default();
            let mut out = Vec::new();
            for (number, part) in node.chunks(size).enumerate() {
                out.extend(merged.frames(part).unwrap());
                out.extend(
                    merged
                        .line(Line::Piece(piece(true, number as u64, "00")))
                        .unwrap(),
                );
            }
            out.extend(merged.rest().unwrap());
            let kinds = kinds(&out);
            assert_eq!(
                kinds[..4],
                [SECTION, INTERFACE, INTERFACE, INTERFACE],
                "{size}"
            );
            let packets = kinds.iter().filter(|kind| **kind == PACKET).count();
            assert_eq!(packets, 2 + node.chunks(size).count(), "{size}");
        }
    }

    #[test]
    fn segments_keep_their_places() {
        let mut merged = Merged::default();
        let first = merged.segment(&piece(true, 0, "50524920")).unwrap();
        assert_eq!(sum(&first[..20]), 0, "the sum of a head with its sum");
        assert_eq!(first[12..20], [127, 0, 0, 1, 10, 0, 0, 2]);
        assert_eq!(first[20..24], [[0x4e, 0x23], PORT.to_be_bytes()].concat());
        assert_eq!(first[24..28], 1_u32.to_be_bytes());
        assert_eq!(first[40..], *b"PRI ");
        let answer = merged.segment(&piece(false, 9, "ff")).unwrap();
        assert_eq!(
            answer[24..32],
            [10_u32.to_be_bytes(), 5_u32.to_be_bytes()].concat()
        );
        assert!(merged.segment(&piece(true, 0, "f")).is_err());
        assert_eq!(place(u64::from(u32::MAX)), 0);
    }

    #[test]
    fn what_is_lost_is_counted_and_an_end_is_told() {
        let mut merged = Merged::default();
        let line = |text: &str| serde_json::from_str::<Line>(text).unwrap();
        let long = Piece {
            bytes: "00".repeat(WAITING / 2),
            ..piece(true, 0, "")
        };
        merged.line(Line::Piece(long)).unwrap();
        merged.line(Line::Piece(piece(true, 9, "00"))).unwrap();
        let dropped = line(r#"{"type":"dropped","no_room":4}"#);
        assert!(merged.line(dropped).unwrap().is_empty());
        merged.line(line(r#"{"type":"tomorrow","x":1}"#)).unwrap();
        assert_eq!(merged.lost, 5);
        let error = line(r#"{"type":"error","error":"no\u001b[2J"}"#);
        let told = merged.line(error).unwrap_err().to_string();
        assert!(told.contains("no") && !told.contains('\u{1b}'), "{told:?}");
    }

    #[test]
    fn nonsense_is_no_capture() {
        assert!(Merged::default().frames(&[0xff; 16]).is_err());
        assert!(Merged::default().frames(&[0; 16]).is_err());
    }
}
