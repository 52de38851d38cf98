// SPDX-License-Identifier: Apache-2.0
//! A file to the stretches of text that its documents are, so that what is not changed stays as it is, byte for byte.
//!
//! The stretches, one after the other, are the file. Must never look into a document. Read `files.rs` next.

use serde::de::IgnoredAny;

/// One stretch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece<'t> {
    /// With its separator, and what stands before and after.
    pub(crate) text: &'t str,
    /// The line of the file at which it begins, from 1.
    pub(crate) line: u64,
    pub(crate) syntax: Syntax,
}

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Syntax {
    Yaml,
    Json,
}

/// The stretches of `text`.
pub(crate) fn pieces(text: &str) -> Vec<Piece<'_>> {
    let (syntax, ends) = match json_ends(text) {
        Some(ends) => (Syntax::Json, ends),
        None => (Syntax::Yaml, yaml_ends(text)),
    };
    let mut pieces = Vec::new();
    let (mut begin, mut line) = (0, 1);
    for end in ends.into_iter().chain([text.len()]) {
        let piece = text.get(begin..end).unwrap_or_default();
        if !piece.is_empty() {
            pieces.push(Piece {
                text: piece,
                line,
                syntax,
            });
        }
        line += piece.bytes().filter(|byte| *byte == b'\n').count() as u64;
        begin = end;
    }
    pieces
}

/// Where JSON values end, where the text is nothing but such.
fn json_ends(text: &str) -> Option<Vec<usize>> {
    let bare = text.trim_start_matches('\u{feff}').trim_start();
    if !bare.starts_with('{') {
        return None;
    }
    let before = text.len() - bare.len();
    let mut values = serde_json::Deserializer::from_str(bare).into_iter::<IgnoredAny>();
    let mut ends = Vec::new();
    while let Some(value) = values.next() {
        value.ok()?;
        ends.push(before + values.byte_offset());
    }
    // What follows the last value belongs to it.
    ends.pop();
    Some(ends)
}

/// Where YAML documents end: before a line that begins with `---`, and after one that is `...`. No text can have such lines within.
fn yaml_ends(text: &str) -> Vec<usize> {
    let mut ends = Vec::new();
    let mut at = 0;
    // A directive belongs to the document after the next separator.
    let mut only_directives = true;
    for line in text.split_inclusive('\n') {
        let bare = line.trim_end_matches(['\n', '\r']);
        let separates = bare
            .strip_prefix("---")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t']));
        let directive = bare.starts_with('%');
        if separates && at > 0 && !only_directives {
            ends.push(at);
        }
        only_directives = !separates && only_directives && (directive || is_empty(bare));
        at += line.len();
        if bare == "..." || bare.starts_with("... ") {
            ends.push(at);
            only_directives = true;
        }
    }
    ends
}

/// Whether a line says nothing.
pub(crate) fn is_empty(line: &str) -> bool {
    let line = line.trim();
    line.is_empty() || line.starts_with('#')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn texts(text: &str) -> Vec<&str> {
        pieces(text).iter().map(|piece| piece.text).collect()
    }

    #[test]
    fn documents_are_found_where_they_begin_and_end() {
        assert_eq!(
            texts("# head\na: 1\n---\nb: |\n  ---\n--- # c\nc: 3\n...\n# tail\nd: 4\n"),
            [
                "# head\na: 1\n",
                "---\nb: |\n  ---\n",
                "--- # c\nc: 3\n...\n",
                "# tail\nd: 4\n"
            ]
        );
        assert_eq!(
            texts("---\r\na: 1\r\n---\r\nb: 2"),
            ["---\r\na: 1\r\n", "---\r\nb: 2"]
        );
        assert_eq!(texts("%YAML 1.2\n---\na: 1\n"), ["%YAML 1.2\n---\na: 1\n"]);
        assert_eq!(texts("a: ---x\n---x: 1\n"), ["a: ---x\n---x: 1\n"]);
        assert_eq!(
            pieces("a: 1\n---\nb: 2\n").last().map(|piece| piece.line),
            Some(2)
        );
    }

    #[test]
    fn json_values_follow_each_other() {
        assert_eq!(
            texts("\n{\"a\": 1}\n{\"b\": 2}\n"),
            ["\n{\"a\": 1}", "\n{\"b\": 2}\n"]
        );
        // Flow style, which is no JSON.
        assert_eq!(
            pieces("{a: 1}\n").first().map(|piece| piece.syntax),
            Some(Syntax::Yaml)
        );
        assert_eq!(pieces(""), []);
    }

    proptest! {
        #[test]
        fn nothing_is_lost(text in "([-.%#{}a: \r\n]|---|\\.\\.\\.|\n){0,40}") {
            prop_assert_eq!(texts(&text).concat(), text);
        }
    }
}
