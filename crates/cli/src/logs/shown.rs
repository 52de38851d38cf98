// SPDX-License-Identifier: Apache-2.0
//! What a container wrote, on its way to a terminal: text, line ends, tabs and colours pass; everything else is shown by its number.
//!
//! Into a file or a pipe a log goes as it is, and never through here. Must keep no more than a sequence that has not ended. Next: `../text.rs`.

use std::fmt::Write as _;

use crate::text::is_harmful;

/// The longest sequence of colour that is waited for.
const LONGEST: usize = 64;
/// What a terminal is left with.
const RESET: &str = "\u{1b}[0m";

/// Between a log and a terminal.
#[derive(Debug, Default)]
pub(super) struct Shown {
    /// The beginning of a character, or of a sequence.
    rest: Vec<u8>,
    coloured: bool,
}

impl Shown {
    /// What can be shown by now.
    pub(super) fn push(&mut self, bytes: &[u8]) -> String {
        self.rest.extend_from_slice(bytes);
        let bytes = std::mem::take(&mut self.rest);
        let mut out = String::new();
        let mut left = &bytes[..];
        while !left.is_empty() {
            let (good, bad) = match std::str::from_utf8(left) {
                Ok(text) => (text, Some(0)),
                Err(error) => {
                    let good = &left[..error.valid_up_to()];
                    (
                        std::str::from_utf8(good).unwrap_or_default(),
                        error.error_len(),
                    )
                }
            };
            left = &left[good.len()..];
            let kept = self.text(good, &mut out);
            match bad {
                // A sequence, or a character, that has only begun.
                Some(0) | None => {
                    let from = bytes.len() - left.len() - kept;
                    self.rest = bytes[from..].to_vec();
                    return out;
                }
                Some(bad) => {
                    number(&mut out, &good[good.len() - kept..]);
                    out.push(char::REPLACEMENT_CHARACTER);
                    left = &left[bad..];
                }
            }
        }
        out
    }

    /// What was still waited for, and the terminal's own colour.
    pub(super) fn end(&mut self) -> String {
        let mut out = String::new();
        let rest = std::mem::take(&mut self.rest);
        number(&mut out, &String::from_utf8_lossy(&rest));
        if self.coloured {
            out.push_str(RESET);
        }
        out
    }

    /// Shows `text`, but for a sequence at its end that has only begun: its length.
    fn text(&mut self, text: &str, out: &mut String) -> usize {
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            if first == '\r' && rest.len() == 1 {
                return 1;
            }
            if first != '\u{1b}' {
                match first {
                    '\n' | '\t' => out.push(first),
                    '\r' if rest.starts_with("\r\n") => {}
                    _ if is_harmful(first) => number(out, &rest[..first.len_utf8()]),
                    _ => out.push(first),
                }
                rest = &rest[first.len_utf8()..];
                continue;
            }
            match colour(rest) {
                Colour::Whole(length) => {
                    self.coloured = true;
                    out.push_str(&rest[..length]);
                    rest = &rest[length..];
                }
                Colour::Begun if rest.len() < LONGEST => return rest.len(),
                Colour::Begun | Colour::None => {
                    number(out, &rest[..1]);
                    rest = &rest[1..];
                }
            }
        }
        0
    }
}

/// What begins with an escape.
enum Colour {
    Whole(usize),
    Begun,
    None,
}

fn colour(text: &str) -> Colour {
    let Some(body) = text.strip_prefix("\u{1b}[") else {
        return if text.len() == 1 {
            Colour::Begun
        } else {
            Colour::None
        };
    };
    match body.find(|c: char| !c.is_ascii_digit() && c != ';') {
        None => Colour::Begun,
        Some(end) if body[end..].starts_with('m') && is_colour(&body[..end]) => {
            Colour::Whole(2 + end + 1)
        }
        Some(_) => Colour::None,
    }
}

/// Weights, lines and colours; nothing that blinks or hides.
fn is_colour(parameters: &str) -> bool {
    let mut numbers = parameters.split(';').map(|number| match number {
        "" => Some(0),
        number => number.parse::<u16>().ok(),
    });
    while let Some(number) = numbers.next() {
        match number {
            Some(0..=4 | 7 | 9 | 21..=24 | 27 | 29..=37 | 39..=47 | 49 | 90..=97 | 100..=107) => {}
            // One of 256, or three parts of one.
            Some(38 | 48) => {
                let parts = match numbers.next() {
                    Some(Some(5)) => 1,
                    Some(Some(2)) => 3,
                    _ => return false,
                };
                if (0..parts).any(|_| !matches!(numbers.next(), Some(Some(0..=255)))) {
                    return false;
                }
            }
            _ => return false,
        }
    }
    true
}

fn number(out: &mut String, text: &str) {
    for character in text.chars() {
        if is_harmful(character) {
            // Writing to a String cannot fail.
            let _ = write!(out, "\\u{{{:x}}}", u32::from(character));
        } else {
            out.push(character);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same text in pieces of each size must come to the same.
    fn shown(bytes: &[u8]) -> String {
        let by = |size: usize| {
            let mut shown = Shown::default();
            let mut text: String = bytes.chunks(size).map(|piece| shown.push(piece)).collect();
            text.push_str(&shown.end());
            text
        };
        let whole = by(bytes.len().max(1));
        for size in 1..bytes.len() {
            assert_eq!(by(size), whole, "in pieces of {size}");
        }
        whole
    }

    #[test]
    fn text_and_colours_pass() {
        for text in ["", "a\tb\nc", "é ü 漢\n", "<script>"] {
            assert_eq!(shown(text.as_bytes()), text);
        }
        let coloured = "\u{1b}[1;31mred\u{1b}[38;5;200;48;2;1;2;3mx\u{1b}[m\n";
        assert_eq!(shown(coloured.as_bytes()), format!("{coloured}{RESET}"));
    }

    #[test]
    fn nothing_else_does() {
        for (bytes, text) in [
            (&b"\x1b[2Jx"[..], "\\u{1b}[2Jx"),
            (b"\x1b]0;title\x07", "\\u{1b}]0;title\\u{7}"),
            (b"\x1b[8mhidden", "\\u{1b}[8mhidden"),
            (b"\x1b[38;5m", "\\u{1b}[38;5m"),
            (b"a\r\nb\rc", "a\nb\\u{d}c"),
            (b"\xff\xfe\xc3", "\u{fffd}\u{fffd}\u{fffd}"),
            (b"\x1b\xff", "\\u{1b}\u{fffd}"),
            ("\u{202e}\u{9b}31m".as_bytes(), "\\u{202e}\\u{9b}31m"),
            (b"\x1b", "\\u{1b}"),
            (b"\x1b[1", "\\u{1b}[1"),
        ] {
            assert_eq!(shown(bytes), text);
        }
        let endless = [&b"\x1b["[..], &[b'1'; 1000]].concat();
        let mut shown = Shown::default();
        shown.push(&endless);
        assert!(shown.rest.len() <= LONGEST);
    }
}
