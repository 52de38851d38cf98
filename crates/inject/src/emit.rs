// SPDX-License-Identifier: Apache-2.0
//! YAML as this crate writes it: block style, everything quoted that another reader could take for something else.
//!
//! A key [`COMMENT`] is written as comment lines, for documents that people read before they apply them; [`plain`] takes it away.
//! Must give back, to every YAML reader, what it was given. Read `edit.rs` for what is written into other people's text.

use serde_json::Value;

/// The key whose text becomes a comment.
pub const COMMENT: &str = "#";

/// How far lists stand in from the key above them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// Blanks before a dash, beyond those of the key.
    pub list_indent: usize,
}

/// One document, without `---`.
pub fn document(value: &Value) -> String {
    block(value, 0, Style::default())
}

/// `value`, a map or a list, whose lines begin with `indent` blanks.
pub fn block(value: &Value, indent: usize, style: Style) -> String {
    let mut writer = Writer {
        out: String::new(),
        style,
    };
    writer.block(value, indent);
    writer.out
}

/// The entries of a map as they stand between braces.
pub(crate) fn flow_entries(entries: &Value) -> String {
    let one = |(key, value): (&String, &Value)| format!("{}: {}", text(key), flow(value));
    let entries = entries.as_object().into_iter().flatten().map(one);
    entries.collect::<Vec<_>>().join(", ")
}

/// The items of a list as they stand between brackets.
pub(crate) fn flow_items(items: &[Value]) -> String {
    let items: Vec<_> = items.iter().map(flow).collect();
    items.join(", ")
}

/// A value within braces.
pub(crate) fn flow(value: &Value) -> String {
    match value {
        Value::Object(_) => format!("{{{}}}", flow_entries(value)),
        Value::Array(items) => format!("[{}]", flow_items(items)),
        Value::String(short) => text(short),
        other => other.to_string(),
    }
}

/// `value` without its comments.
pub fn plain(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(plain).collect(),
        Value::Object(entries) => {
            let kept = entries.iter().filter(|(key, _)| *key != COMMENT);
            Value::Object(
                kept.map(|(key, value)| (key.clone(), plain(value)))
                    .collect(),
            )
        }
        other => other.clone(),
    }
}

struct Writer {
    out: String,
    style: Style,
}

// === impl Writer ===

impl Writer {
    fn indent(&mut self, indent: usize) {
        self.out.extend(std::iter::repeat_n(' ', indent));
    }

    fn block(&mut self, value: &Value, indent: usize) {
        match value {
            Value::Object(entries) if !entries.is_empty() => {
                for (key, value) in entries {
                    self.indent(indent);
                    self.entry(key, value, indent);
                }
            }
            Value::Array(items) if !items.is_empty() => {
                for item in items {
                    self.item(item, indent);
                }
            }
            other => {
                self.indent(indent);
                self.scalar(other, indent);
            }
        }
    }

    /// One entry, after its blanks.
    fn entry(&mut self, key: &str, value: &Value, indent: usize) {
        if key == COMMENT {
            return self.comment(value, indent);
        }
        self.out.push_str(&text(key));
        self.out.push(':');
        match value {
            Value::Object(entries) if !entries.is_empty() => {
                self.out.push('\n');
                self.block(value, indent + 2);
            }
            Value::Array(items) if !items.is_empty() => {
                self.out.push('\n');
                self.block(value, indent + self.style.list_indent);
            }
            _ => {
                self.out.push(' ');
                self.scalar(value, indent);
            }
        }
    }

    fn item(&mut self, item: &Value, indent: usize) {
        let Value::Object(entries) = item else {
            self.indent(indent);
            return match item {
                Value::Array(items) if !items.is_empty() => {
                    self.out.push_str("-\n");
                    self.block(item, indent + 2);
                }
                _ => {
                    self.out.push_str("- ");
                    self.scalar(item, indent);
                }
            };
        };
        if let Some(comment) = entries.get(COMMENT) {
            self.indent(indent);
            self.comment(comment, indent);
        }
        let mut first = true;
        for (key, value) in entries.iter().filter(|(key, _)| *key != COMMENT) {
            self.indent(indent);
            self.out.push_str(if first { "- " } else { "  " });
            self.entry(key, value, indent + 2);
            first = false;
        }
        if first {
            self.indent(indent);
            self.out.push_str("- {}\n");
        }
    }

    fn comment(&mut self, value: &Value, indent: usize) {
        let lines = value.as_str().unwrap_or_default().lines();
        for (number, line) in lines.enumerate() {
            if number > 0 {
                self.indent(indent);
            }
            self.out.push_str("# ");
            self.out.push_str(line);
            self.out.push('\n');
        }
    }

    fn scalar(&mut self, value: &Value, indent: usize) {
        match value {
            Value::String(long) if is_literal(long) => self.literal(long, indent + 2),
            Value::String(short) => {
                self.out.push_str(&text(short));
                self.out.push('\n');
            }
            // Empty maps and lists, numbers, booleans and null are the same in JSON.
            other => {
                self.out.push_str(&other.to_string());
                self.out.push('\n');
            }
        }
    }

    fn literal(&mut self, long: &str, indent: usize) {
        self.out
            .push_str(if long.ends_with('\n') { "|\n" } else { "|-\n" });
        for line in long.lines() {
            if !line.is_empty() {
                self.indent(indent);
                self.out.push_str(line);
            }
            self.out.push('\n');
        }
    }
}

/// Whether a text can be written line by line, and every reader gets the same back.
fn is_literal(long: &str) -> bool {
    let body = long.strip_suffix('\n').unwrap_or(long);
    let ends = !body.is_empty() && !body.ends_with('\n') && !body.starts_with([' ', '\n', '\t']);
    let clean = |c: char| c == '\n' || (!c.is_control() && !is_odd(c));
    let no_blank_ends = body.lines().all(|line| !line.ends_with([' ', '\t']));
    long.contains('\n') && ends && no_blank_ends && body.chars().all(clean)
}

/// What some reader takes for a line's end, or does not take at all.
const fn is_odd(c: char) -> bool {
    matches!(
        c,
        '\u{7f}'..='\u{a0}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}'
    )
}

/// A text, bare where nobody can take it for anything else.
fn text(text: &str) -> String {
    let safe = |b: u8| b.is_ascii_alphanumeric() || b"-_./".contains(&b);
    let begins = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/');
    // A colon within a word is only a colon, as in an image's name.
    let colons = text.split(':');
    let words = colons.clone().all(|word| !word.is_empty()) && colons.count() <= 2;
    if begins && words && text.bytes().all(|b| safe(b) || b == b':') && !is_reserved(text) {
        return text.to_owned();
    }
    let mut quoted = String::with_capacity(text.len() + 2);
    for c in Value::from(text).to_string().chars() {
        if is_odd(c) {
            quoted.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            quoted.push(c);
        }
    }
    quoted
}

/// Words that are not text to one reader or another.
fn is_reserved(word: &str) -> bool {
    let words = [
        "true", "false", "yes", "no", "on", "off", "y", "n", "t", "f", "null", "nan", "inf",
        "infinity",
    ];
    words
        .iter()
        .any(|reserved| word.eq_ignore_ascii_case(reserved))
}

#[cfg(test)]
mod tests {
    use maille_manifest::yaml;
    use proptest::prelude::*;
    use serde_json::{Map, json};

    use super::*;

    fn again(value: &Value, style: Style) -> Value {
        let text = block(value, 0, style);
        let nodes = yaml::documents(&text).unwrap_or_else(|error| panic!("{error:?}: {text}"));
        nodes.first().map_or(Value::Null, yaml::Node::to_json)
    }

    #[test]
    fn it_looks_like_what_people_write() {
        let value = json!({
            "#": "What it is.\nAnd more.",
            "kind": "Pod",
            "list": [{"#": "why", "a": 1, "b": [true, null]}, "x: y", [], [["n"]], {}],
            "map": {},
            "image": "maille.io/proxy:0.1.0",
            "quoted": ["yes", "12", "", "a b", "::", "-", "\u{85}"],
            "long": "one\n  two\n\nthree\n",
        });
        assert_eq!(
            document(&value),
            "# What it is.\n# And more.\nkind: Pod\nlist:\n# why\n- a: 1\n  b:\n  - true\n  - null\n- \"x: y\"\n- []\n-\n  -\n    - \"n\"\n- {}\n\
             map: {}\nimage: maille.io/proxy:0.1.0\nquoted:\n- \"yes\"\n- \"12\"\n- \"\"\n- \"a b\"\n- \"::\"\n- \"-\"\n- \"\\u0085\"\n\
             long: |\n  one\n    two\n\n  three\n"
        );
        assert_eq!(again(&value, Style::default()), plain(&value));
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "\\PC{0,12}".prop_map(Value::from),
            "[ -~\n\t:#'\"]{0,16}".prop_map(Value::from),
            "[a-z0-9.:_/-]{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::vec(("[ -\"$-~]{1,10}", inner), 0..4)
                    .prop_map(|entries| Value::Object(entries.into_iter().collect::<Map<_, _>>())),
            ]
        })
    }

    proptest! {
        #[test]
        fn every_reader_gets_back_what_was_written(value in any_value(), list_indent in 0..3_usize) {
            let value = json!({ "v": value });
            prop_assert_eq!(again(&value, Style { list_indent }), value);
        }
    }
}
