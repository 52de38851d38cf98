// SPDX-License-Identifier: Apache-2.0
//! The one way from a stranger's text to a terminal: whatever a peer, a manifest or a log says, it stays text of one line.
//!
//! Control characters, line ends, changes of writing direction and what has no width are shown by their number; a text without end is
//! cut. Must be passed by everything that this program did not write itself; what was forgotten meets [`guard`], which `screen.rs` puts
//! before every terminal and pipe. The one exception is what a container wrote, where somebody asks for just that: `logs/shown.rs`.

use std::fmt::Write as _;

/// The sequences of colour that this program writes itself.
const OWN: [&str; 5] = [
    "\u{1b}[0m",
    "\u{1b}[1m",
    "\u{1b}[31m",
    "\u{1b}[32m",
    "\u{1b}[33m",
];

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

/// The last look at a whole output: line ends, tabs and this program's own colours pass, everything else that is harmful is shown by its number.
pub fn guard(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| is_harmful(c) && !matches!(c, '\n' | '\t')) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let own = OWN.iter().find(|own| rest.starts_with(**own));
        let length = match (own, rest.chars().next()) {
            (Some(own), _) => {
                out.push_str(own);
                own.len()
            }
            (None, Some(harmful)) => {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\u{{{:x}}}", u32::from(harmful));
                harmful.len_utf8()
            }
            (None, None) => 0,
        };
        rest = &rest[length..];
    }
    out.push_str(rest);
    out
}

/// JSON that says the same and moves no terminal: harmful characters can only stand in its texts, where they have an escape.
pub(crate) fn guard_json(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for character in json.chars() {
        // Those of the ASCII range are escaped already; line ends and blanks are the form's own.
        if character.is_ascii_control() && character != '\u{7f}' || !is_harmful(character) {
            out.push(character);
            continue;
        }
        for unit in character.encode_utf16(&mut [0; 2]) {
            // Writing to a String cannot fail.
            let _ = write!(out, "\\u{unit:04x}");
        }
    }
    out
}

/// Whether a text holds anything that a terminal should not be shown, line ends and tabs apart.
pub(crate) fn is_plain(text: &str) -> bool {
    !text
        .chars()
        .any(|c| is_harmful(c) && !matches!(c, '\n' | '\t'))
}

/// What moves, erases, colours, hides, or turns round what stands beside it.
pub(crate) fn is_harmful(character: char) -> bool {
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
    fn the_last_look_lets_only_own_colours_pass() {
        let own = "a\tb\n\u{1b}[31mred\u{1b}[0m é";
        assert_eq!(guard(own), own);
        for (text, shown) in [
            ("\u{1b}[2Jx", "\\u{1b}[2Jx"),
            ("\u{1b}[35mx", "\\u{1b}[35mx"),
            ("\u{1b}", "\\u{1b}"),
            ("\u{9b}31m\u{202e}\r\n", "\\u{9b}31m\\u{202e}\\u{d}\n"),
        ] {
            assert_eq!(guard(text), shown);
        }
    }

    #[test]
    fn json_says_the_same_and_harms_nobody() {
        let hostile = "\u{1b}[2J\u{7f}\u{9b}\u{202e}\u{e0001}\0\r\n<b>\"\\é";
        let value = serde_json::json!({ hostile: [hostile, 1] });
        for text in [
            value.to_string(),
            serde_json::to_string_pretty(&value).unwrap(),
        ] {
            let shown = guard_json(&text);
            assert!(is_plain(&shown), "{shown}");
            assert_eq!(
                serde_json::from_str::<serde_json::Value>(&shown).unwrap(),
                value
            );
        }
    }

    #[test]
    fn lines_stay_lines() {
        assert_eq!(clean_lines("a\u{8}\nb\r\nc"), "a\\u{8}\nb\nc");
    }
}
