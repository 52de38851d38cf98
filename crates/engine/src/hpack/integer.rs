// SPDX-License-Identifier: Apache-2.0
//! Integers with a prefix (RFC 7541, section 5.1). Read `decoder.rs` next.

/// Bytes behind the prefix: room for 2^28, more than any frame.
const MOST: u32 = 4;

/// Appends `value` behind the bits of `first`, of which `prefix` (1 to 8) are left for it.
pub(super) fn encode(out: &mut Vec<u8>, first: u8, prefix: u32, value: usize) {
    let full = (1usize << prefix) - 1;
    if value < full {
        out.push(first | value.to_le_bytes()[0]);
        return;
    }
    out.push(first | full.to_le_bytes()[0]);
    let mut rest = value - full;
    while rest >= 0x80 {
        out.push(rest.to_le_bytes()[0] | 0x80);
        rest >>= 7;
    }
    out.push(rest.to_le_bytes()[0]);
}

/// Reads a value from the lowest `prefix` bits on, and what is behind it. `None`: cut short or too large.
pub(super) fn decode(block: &[u8], prefix: u32) -> Option<(usize, &[u8])> {
    let full = (1usize << prefix) - 1;
    let (&first, mut rest) = block.split_first()?;
    let mut value = usize::from(first) & full;
    if value < full {
        return Some((value, rest));
    }
    for place in 0..MOST {
        let (&byte, more) = rest.split_first()?;
        rest = more;
        value += usize::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Some((value, rest));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_of_the_rfc() {
        // Appendix C.1.
        for (prefix, value, bytes) in [
            (5, 10, &[0b01010][..]),
            (5, 1337, &[0b11111, 0b1001_1010, 0b1010]),
            (8, 42, &[42]),
        ] {
            let mut out = Vec::new();
            encode(&mut out, 0, prefix, value);
            assert_eq!(out, bytes);
            assert_eq!(decode(bytes, prefix), Some((value, &[][..])));
        }
    }

    #[test]
    fn what_is_written_is_read() {
        for prefix in 1..=8 {
            for value in (0..70_000).chain([1 << 24, (1 << 28) - 1]) {
                let mut out = Vec::new();
                encode(&mut out, 0, prefix, value);
                out.push(7);
                assert_eq!(decode(&out, prefix), Some((value, &[7][..])));
            }
        }
    }

    #[test]
    fn short_and_large_are_refused() {
        assert_eq!(decode(&[], 5), None);
        assert_eq!(decode(&[0x1f], 5), None);
        assert_eq!(decode(&[0x1f, 0x80], 5), None);
        assert_eq!(decode(&[0x1f, 0xff, 0xff, 0xff, 0xff, 0x0f], 5), None);
        assert_eq!(decode(&[0x1f, 0x80, 0x80, 0x80, 0x80, 0x00], 5), None);
    }
}
