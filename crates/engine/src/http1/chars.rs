// SPDX-License-Identifier: Apache-2.0
//! Which bytes may stand where (RFC 9110, sections 5.5 and 5.6.2; RFC 3986 for hosts). Read `head.rs` next.

/// `tchar`.
pub(super) const TOKEN: u8 = 1;
/// `field-content` with the white space inside: HTAB, SP, VCHAR, obs-text.
pub(super) const TEXT: u8 = 2;
/// A byte of a request target: VCHAR and, as they occur in the wild and have one reading only, bytes from 0x80.
pub(super) const TARGET: u8 = 4;
/// A byte of a registered name or an address: unreserved, sub-delims, percent.
pub(super) const HOST: u8 = 8;

/// The classes of each byte.
pub(super) const CLASS: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut class = 0;
        #[expect(clippy::cast_possible_truncation, reason = "below 256")]
        let c = byte as u8;
        if c.is_ascii_alphanumeric() || within(c, b"!#$%&'*+-.^_`|~") {
            class |= TOKEN;
        }
        if c == b'\t' || (c >= b' ' && c != 0x7f) {
            class |= TEXT;
        }
        if c > b' ' && c != 0x7f {
            class |= TARGET;
        }
        if c.is_ascii_alphanumeric() || within(c, b"-._~!$&'()*+,;=%") {
            class |= HOST;
        }
        table[byte] = class;
        byte += 1;
    }
    table
}

const fn within(c: u8, set: &[u8]) -> bool {
    let mut i = 0;
    while i < set.len() {
        if set[i] == c {
            return true;
        }
        i += 1;
    }
    false
}

/// Whether the byte is of the class.
#[inline]
pub(super) fn is(byte: u8, class: u8) -> bool {
    CLASS[usize::from(byte)] & class != 0
}

/// A token: at least one `tchar` and nothing else.
#[inline]
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&byte| is(byte, TOKEN))
}

/// The first byte at or behind `at` that may not stand in a value, eight at a time: most of a head is values.
#[inline]
pub(super) fn end_of_text(buf: &[u8], mut at: usize) -> usize {
    while let Some(eight) = buf.get(at..at + 8) {
        let mut word = [0; 8];
        word.copy_from_slice(eight);
        if suspicious(u64::from_le_bytes(word)) {
            break;
        }
        at += 8;
    }
    while at < buf.len() {
        // A word stops at a tab as well, which is allowed.
        if !is(buf[at], TEXT) {
            return at;
        }
        at += 1;
    }
    at
}

/// Whether one of eight bytes is below 0x20 or 0x7f ("Bit Twiddling Hacks", hasless and haszero; false alarms only behind a true one).
#[inline]
fn suspicious(word: u64) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let below = word.wrapping_sub(ONES * 0x20) & !word & HIGH;
    let rubout = word ^ (ONES * 0x7f);
    let rubout = rubout.wrapping_sub(ONES) & !rubout & HIGH;
    below | rubout != 0
}

/// Whether all bytes may stand in a value.
#[inline]
pub(crate) fn is_text(bytes: &[u8]) -> bool {
    end_of_text(bytes, 0) == bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_bytes_agree() {
        for byte in 0..=255u8 {
            for place in 0..24 {
                let mut text = [b'a'; 24];
                text[place] = byte;
                let allowed = byte == b'\t' || (byte >= b' ' && byte != 0x7f);
                let end = if allowed { 24 } else { place };
                assert_eq!(end_of_text(&text, 0), end, "{byte} at {place}");
                assert_eq!(is_text(&text), allowed);
            }
        }
    }

    #[test]
    fn tokens() {
        assert!(is_token(b"Content-Length"));
        assert!(is_token(b"!#$%&'*+-.^_`|~09azAZ"));
        for bad in [
            &b""[..],
            b"a b",
            b"a:",
            b"\x80",
            b"a\"",
            b"(a)",
            b"a/b",
            b"a\0",
        ] {
            assert!(!is_token(bad), "{bad:?}");
        }
    }
}
