// SPDX-License-Identifier: Apache-2.0
//! Frames drawn from a seed, and what is wrong with one that arrived, by its own reading of it.

use maille_tests_netns::frames::Ends;

/// The same frames for the same seed (splitmix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end.max(1) as u64).unwrap()
    }

    /// A frame of which some bytes are others, most of them where headers are; some are cut.
    pub(crate) fn changed(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut frame = seeds[self.below(seeds.len())].clone();
        for _ in 0..=self.below(3) {
            let headers = frame.len().min(64);
            let at = if self.below(4) == 0 {
                self.below(frame.len())
            } else {
                self.below(headers)
            };
            frame[at] = match self.below(3) {
                0 => frame[at] ^ (1 << self.below(8)),
                1 => [0, 1, 6, 17, 44, 58, 255][self.below(7)],
                _ => self.next().to_be_bytes()[0],
            };
        }
        if self.below(16) == 0 {
            frame.truncate(14 + self.below(frame.len() - 14));
        }
        frame
    }
}

fn word(frame: &[u8], at: usize) -> u16 {
    frame
        .get(at..at + 2)
        .map_or(0, |two| u16::from_be_bytes([two[0], two[1]]))
}

/// What is wrong with a frame that left the pod, by its own reading of it.
pub(crate) fn left(ends: &Ends, frame: &[u8]) -> Option<&'static str> {
    let (v4, v6) = (ends.v4.octets(), ends.v6.octets());
    let [a, b, c, d, e, f] = ends.mac;
    let local = [
        0xfe,
        0x80,
        0,
        0,
        0,
        0,
        0,
        0,
        a ^ 2,
        b,
        c,
        0xff,
        0xfe,
        d,
        e,
        f,
    ];
    let is = |at: usize, bytes: &[u8]| frame.get(at..at + bytes.len()) == Some(bytes);
    if !is(6, &ends.mac) {
        return Some("another sender's hardware address");
    }
    match word(frame, 12) {
        0x0806 if !is(22, &ends.mac) => Some("ARP with another hardware address"),
        0x0806 if !is(28, &v4) && !is(28, &[0; 4]) => Some("ARP with another address"),
        0x0800 if !is(26, &v4) => Some("IPv4 from another address"),
        0x0800 if is(23, &[6]) => Some("TCP over IPv4"),
        0x86dd if !is(22, &v6) && !is(22, &local) && !is(22, &[0; 16]) => {
            Some("IPv6 from another address")
        }
        0x86dd if is(20, &[58]) && is(54, &[136]) && !is(62, &v6) && !is(62, &local) => {
            Some("an advertisement of another address")
        }
        0x0806 | 0x0800 => None,
        0x86dd => carried(frame),
        _ => Some("another protocol"),
    }
}

/// The same of one that reached the pod.
pub(crate) fn reached(_: &Ends, frame: &[u8]) -> Option<&'static str> {
    match word(frame, 12) {
        0x0800 if frame.get(23) == Some(&6) => Some("TCP over IPv4"),
        0x0806 | 0x0800 => None,
        0x86dd => carried(frame),
        _ => Some("another protocol"),
    }
}

/// TCP anywhere behind an IPv6 header.
fn carried(frame: &[u8]) -> Option<&'static str> {
    let (mut next, mut at) = (frame.get(20).copied()?, 54);
    loop {
        let length = |unit: usize| Some(unit * (usize::from(*frame.get(at + 1)?) + 1));
        at += match next {
            6 => return Some("TCP over IPv6"),
            0 | 43 | 60 => length(8)?,
            44 => 8,
            _ => return None,
        };
        let before = at.checked_sub(8)?;
        next = match next {
            44 => frame.get(before).copied()?,
            // The first byte of the header that was passed over says what follows; only short ones are looked into.
            _ if frame.get(before).is_some() => frame.get(before).copied()?,
            _ => return None,
        };
    }
}
