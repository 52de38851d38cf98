// SPDX-License-Identifier: Apache-2.0
//! Huffman strings (RFC 7541, appendix B), decoded only. Our own peers send none, so this is small instead of fast.
//!
//! The code is canonical: shorter codes come first, codes of one length are in the order of their symbols. Its lengths say it all.

/// Bits of each byte's code, and last of EOS.
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5,
    5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6,
    6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22,
    23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22,
    21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20,
    22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19,
    21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22,
    22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];
const EOS: u16 = 256;
const LONGEST: usize = 30;

/// The code by length.
struct Code {
    /// Symbols in the order of their codes.
    symbols: [u16; 257],
    /// The first code that is longer, with its highest bit at bit 31.
    limit: [u64; LONGEST + 1],
    /// The first code of this length.
    first: [u64; LONGEST + 1],
    /// How many symbols are shorter.
    shorter: [usize; LONGEST + 1],
}

const CODE: Code = code();

const fn code() -> Code {
    let mut code = Code {
        symbols: [0; 257],
        limit: [0; LONGEST + 1],
        first: [0; LONGEST + 1],
        shorter: [0; LONGEST + 1],
    };
    let mut next = 0u64;
    let mut place = 0;
    let mut length = 1;
    while length <= LONGEST {
        next <<= 1;
        code.first[length] = next;
        code.shorter[length] = place;
        let mut symbol = 0;
        while symbol <= EOS {
            if LENGTHS[symbol as usize] as usize == length {
                code.symbols[place] = symbol;
                place += 1;
                next += 1;
            }
            symbol += 1;
        }
        code.limit[length] = next << (32 - length);
        length += 1;
    }
    code
}

/// Appends what `coded` says. `None`: it holds EOS, or its padding is not less than a byte of ones.
pub(super) fn decode(coded: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut input = coded.iter();
    let mut bits = 0u64;
    let mut count = 0;
    loop {
        while count <= 56 - 8 {
            let Some(&byte) = input.next() else { break };
            bits = bits << 8 | u64::from(byte);
            count += 8;
        }
        if count == 0 {
            return Some(());
        }
        // 32 bits from the next one on; behind the end there are ones.
        let window = if count >= 32 {
            bits >> (count - 32) & 0xffff_ffff
        } else {
            let missing = 32 - count;
            (bits << missing | ((1 << missing) - 1)) & 0xffff_ffff
        };
        let length = (5..=LONGEST).find(|&length| window < CODE.limit[length])?;
        if length > count {
            // Only padding is cut short: the front of EOS.
            let ones = (1 << count) - 1;
            return (count < 8 && bits & ones == ones).then_some(());
        }
        let code = window >> (32 - length);
        let offset = usize::try_from(code - CODE.first[length]).ok()?;
        let symbol = CODE.symbols[CODE.shorter[length] + offset];
        out.push(u8::try_from(symbol).ok()?);
        count -= length;
        bits &= (1 << count) - 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_is_complete() {
        let sum: u64 = LENGTHS
            .iter()
            .map(|&length| 1 << (LONGEST - usize::from(length)))
            .sum();
        assert_eq!(sum, 1 << LONGEST);
        assert_eq!(CODE.symbols[256], EOS);
    }

    #[test]
    fn examples_of_the_rfc() {
        // Appendix C.4 and C.6.
        for (coded, text) in [
            (
                &b"\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff"[..],
                "www.example.com",
            ),
            (b"\xa8\xeb\x10\x64\x9c\xbf", "no-cache"),
            (b"\x25\xa8\x49\xe9\x5b\xb8\xe8\xb4\xbf", "custom-value"),
            (b"\x64\x02", "302"),
            (b"", ""),
        ] {
            let mut out = Vec::new();
            assert_eq!(decode(coded, &mut out), Some(()));
            assert_eq!(out, text.as_bytes());
        }
    }

    #[test]
    fn wrong_ends() {
        let mut out = Vec::new();
        // EOS itself, a whole byte of padding, padding of zeros.
        for bad in [&b"\xff\xff\xff\xff"[..], b"\x1f\xff", b"\x18"] {
            assert_eq!(decode(bad, &mut out), None, "{bad:?}");
        }
    }
}
