// SPDX-License-Identifier: Apache-2.0
//! The pcapng format (draft-ietf-opsawg-pcapng), as far as it is written here: one section, its interfaces by name, frames, and counts of losses.
//!
//! Pure. Little-endian, nanoseconds. Next: [`super`].

use std::time::Duration;

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const NAMES: u32 = 4;
const STATISTICS: u32 = 5;
const PACKET: u32 = 6;
const ETHERNET: u16 = 1;

/// An interface as the file names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Interface {
    /// Its number in the namespace that is recorded; none where it is another one's.
    pub(crate) number: Option<u32>,
    /// Its name.
    pub(crate) name: String,
    /// What it is.
    pub(crate) description: String,
}

/// Writes one section. Of several that write one file, each knows all interfaces, and the numbers of its own.
#[derive(Debug)]
pub(crate) struct Writer {
    interfaces: Vec<Interface>,
    snaplen: usize,
    dropped: u64,
    last: Duration,
}

impl Writer {
    /// Of frames on `interfaces`, each cut to `snaplen` bytes.
    pub(crate) fn new(interfaces: Vec<Interface>, snaplen: usize) -> Self {
        Self {
            interfaces,
            snaplen,
            dropped: 0,
            last: Duration::ZERO,
        }
    }

    /// The section's head and its interfaces, behind which come no more of them: who adds one of its own goes by the block of no names that ends them.
    pub(crate) fn head(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let application = b"maille";
        block(&mut out, SECTION, |body| {
            body.extend_from_slice(&0x1a2b_3c4d_u32.to_le_bytes());
            body.extend_from_slice(&1_u16.to_le_bytes());
            body.extend_from_slice(&0_u16.to_le_bytes());
            // How long the section is, is not known.
            body.extend_from_slice(&u64::MAX.to_le_bytes());
            option(body, 4, application);
            option(body, 0, &[]);
        });
        for interface in &self.interfaces {
            block(&mut out, INTERFACE, |body| {
                body.extend_from_slice(&ETHERNET.to_le_bytes());
                body.extend_from_slice(&0_u16.to_le_bytes());
                let snaplen = u32::try_from(self.snaplen).unwrap_or(u32::MAX);
                body.extend_from_slice(&snaplen.to_le_bytes());
                option(body, 2, interface.name.as_bytes());
                option(body, 3, interface.description.as_bytes());
                // Nanoseconds.
                option(body, 9, &[9]);
                option(body, 0, &[]);
            });
        }
        // The end of its records, of which there are none.
        block(&mut out, NAMES, |body| body.extend_from_slice(&[0; 4]));
        out
    }

    /// One frame: on which interface (its number), whether it left the namespace, and when. One of another interface is left out.
    pub(crate) fn frame(
        &mut self,
        out: &mut Vec<u8>,
        (number, outward, at): (u32, bool, Duration),
        bytes: &[u8],
        wire_len: usize,
    ) {
        let mut known = self.interfaces.iter();
        let Some(place) = known.position(|interface| interface.number == Some(number)) else {
            return;
        };
        self.last = self.last.max(at);
        let kept = &bytes[..bytes.len().min(self.snaplen)];
        block(out, PACKET, |body| {
            body.extend_from_slice(&u32::try_from(place).unwrap_or(0).to_le_bytes());
            body.extend_from_slice(&stamp(at));
            let length = |length: usize| u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes();
            body.extend_from_slice(&length(kept.len()));
            body.extend_from_slice(&length(wire_len.max(bytes.len())));
            padded(body, kept);
            // epb_flags: 1 is inbound, 2 outbound.
            let flags: u32 = if outward { 2 } else { 1 };
            option(body, 2, &flags.to_le_bytes());
            option(body, 0, &[]);
        });
    }

    /// Says how many frames were lost so far, where that has changed.
    pub(crate) fn dropped(&mut self, out: &mut Vec<u8>, dropped: u64) {
        if dropped == self.dropped {
            return;
        }
        self.dropped = dropped;
        let mut own = self.interfaces.iter();
        let place = own.position(|interface| interface.number.is_some());
        let place = u32::try_from(place.unwrap_or(0)).unwrap_or(0);
        block(out, STATISTICS, |body| {
            body.extend_from_slice(&place.to_le_bytes());
            body.extend_from_slice(&stamp(self.last));
            // isb_ifdrop
            option(body, 5, &dropped.to_le_bytes());
            option(body, 0, &[]);
        });
    }
}

/// High word first, as the format has it.
fn stamp(at: Duration) -> [u8; 8] {
    let nanos = u64::try_from(at.as_nanos()).unwrap_or(u64::MAX);
    let [a, b, c, d, e, f, g, h] = nanos.to_le_bytes();
    [e, f, g, h, a, b, c, d]
}

/// A block's length stands before and behind it.
fn block(out: &mut Vec<u8>, kind: u32, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    fill(out);
    let length = u32::try_from(out.len() - start + 4)
        .unwrap_or(u32::MAX)
        .to_le_bytes();
    out.extend_from_slice(&length);
    out[start + 4..start + 8].copy_from_slice(&length);
}

fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    body.extend_from_slice(&code.to_le_bytes());
    body.extend_from_slice(&u16::try_from(value.len()).unwrap_or(u16::MAX).to_le_bytes());
    padded(body, value);
}

fn padded(body: &mut Vec<u8>, bytes: &[u8]) {
    body.extend_from_slice(bytes);
    body.resize(body.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Type and body of each block; the lengths are checked.
    fn blocks(mut bytes: &[u8]) -> Vec<(u32, Vec<u8>)> {
        let word = |bytes: &[u8]| u32::from_le_bytes(bytes[..4].try_into().unwrap());
        let mut blocks = Vec::new();
        while !bytes.is_empty() {
            let length = word(&bytes[4..]) as usize;
            assert!(length.is_multiple_of(4) && length <= bytes.len());
            assert_eq!(word(&bytes[length - 4..]) as usize, length);
            blocks.push((word(bytes), bytes[8..length - 4].to_vec()));
            bytes = &bytes[length..];
        }
        blocks
    }

    #[test]
    fn a_section_with_its_interfaces_frames_and_losses() {
        let interface = |number, name: &str| Interface {
            number: Some(number),
            name: name.to_owned(),
            description: "x".to_owned(),
        };
        let mut writer = Writer::new(vec![interface(7, "up0"), interface(9, "dn0")], 5);
        let mut out = writer.head();
        let at = Duration::new(0x1_2345, 6);
        writer.frame(&mut out, (9, true, at), b"1234567", 7);
        writer.frame(&mut out, (8, true, at), b"elsewhere", 9);
        writer.dropped(&mut out, 0);
        writer.dropped(&mut out, 3);
        writer.dropped(&mut out, 3);
        let blocks = blocks(&out);
        let kinds: Vec<u32> = blocks.iter().map(|(kind, _)| *kind).collect();
        assert_eq!(
            kinds,
            [SECTION, INTERFACE, INTERFACE, NAMES, PACKET, STATISTICS]
        );
        let frame = &blocks[4].1;
        assert_eq!(frame[..4], 1_u32.to_le_bytes());
        let nanos = u64::try_from(at.as_nanos()).unwrap().to_le_bytes();
        assert_eq!(frame[4..8], nanos[4..]);
        assert_eq!(frame[8..12], nanos[..4]);
        assert_eq!(frame[12..16], 5_u32.to_le_bytes());
        assert_eq!(frame[16..20], 7_u32.to_le_bytes());
        assert_eq!(frame[20..28], *b"12345\0\0\0");
        assert!(blocks[2].1.windows(3).any(|name| name == b"dn0"));
    }

    #[test]
    fn a_writer_of_another_namespace_has_numbers_of_its_own_interfaces_alone() {
        let interface = |number| Interface {
            number,
            name: "x".to_owned(),
            description: "x".to_owned(),
        };
        let mut writer = Writer::new(vec![interface(None), interface(Some(7))], 64);
        let mut out = Vec::new();
        writer.frame(&mut out, (7, false, Duration::ZERO), b"1234", 4);
        writer.dropped(&mut out, 1);
        let blocks = blocks(&out);
        assert_eq!((blocks[0].0, blocks[1].0), (PACKET, STATISTICS));
        for (_, body) in &blocks {
            assert_eq!(body[..4], 1_u32.to_le_bytes());
        }
    }
}
