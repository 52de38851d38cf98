// SPDX-License-Identifier: Apache-2.0
//! The one way from a stranger's text to a terminal: whatever a peer, a manifest or a log says, it stays text of one line.
//!
//! Control characters, line ends, changes of writing direction and what has no width are shown by their number; a text without end is
//! cut. Must be passed by everything that this program did not write itself. Next: `screen.rs`.

use std::fmt::Write as _;

/// Characters of one value that are shown.
const LONGEST: usize = 512;

/// `text`, harmless.
pub(crate) fn clean(text: &str) -> String {
    clean_to(text, LONGEST)
}

/// The same, of at most `most` characters.
pub(crate) fn clean_to(text: &str, most: usize) -> String {
    let mut out = String::with_capacity(text.len().min(most));
    for (shown, (at, character)) in text.char_indices().enumerate() {
        if shown >= most {
            let _ = write!(out, "...+{}", text[at..].chars().count());
            break;
        }
        match character {
            // Writing to a String cannot fail, here and above.
            '\t' => out.push(' '),
            character if is_harmful(character) => {
                let _ = write!(out, "\\u{{{:x}}}", u32::from(character));
            }
            character => out.push(character),
        }
    }
    out
}

/// Several lines of a stranger: each harmless, the line ends kept.
pub fn clean_lines(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(clean).collect();
    lines.join("\n")
}

/// What moves, erases, colours, hides, or turns round what stands beside it.
fn is_harmful(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_gets_through() {
        let hostile = [
            (
                "\u{1b}[2J\u{1b}]0;title\u{7}",
                "\\u{1b}[2J\\u{1b}]0;title\\u{7}",
            ),
            ("a\r\nb\tc", "a\\u{d}\\u{a}b c"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("ab\u{202e}txt.exe", "ab\\u{202e}txt.exe"),
            ("z\u{200b}w", "z\\u{200b}w"),
            ("<script>alert('ü')</script>", "<script>alert('ü')</script>"),
            ("\u{7f}", "\\u{7f}"),
        ];
        for (text, shown) in hostile {
            assert_eq!(clean(text), shown);
        }
        for code in (0..0x20).chain(0x7f..0xa0) {
            let character = char::from_u32(code).unwrap();
            let shown = clean(&character.to_string());
            assert!(shown.chars().all(|c| !c.is_control()), "{code:#x}: {shown}");
        }
    }

    #[test]
    fn a_text_without_end_is_cut() {
        let long = "é".repeat(65_536);
        let shown = clean(&long);
        assert!(shown.ends_with("...+65024"), "{}", &shown[1000..]);
        assert_eq!(clean_to("abc", 3), "abc");
        assert_eq!(clean_to("abcd", 3), "abc...+1");
    }

    #[test]
    fn lines_stay_lines() {
        assert_eq!(clean_lines("a\u{8}\nb\r\nc"), "a\\u{8}\nb\nc");
    }
}
