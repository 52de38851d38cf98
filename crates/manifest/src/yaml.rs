// SPDX-License-Identifier: Apache-2.0
//! The only place that knows the YAML library: text to [`Node`]s that remember their lines.
//!
//! Reads what kubectl reads (YAML 1.1 booleans and octal numbers, JSON), refuses duplicate keys, and bounds aliases, depth and size,
//! so that no file makes it grow without end. It never says what a field means. Read `walk.rs` next.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

/// The largest file that is read. An etcd object may have 1.5 MiB; a file may hold some.
pub(crate) const MAX_BYTES: usize = 16 << 20;
/// Twice what any Kubernetes object needs; each level costs some stack.
const MAX_DEPTH: usize = 32;
const MAX_NODES: usize = 400_000;

/// A value and the line where it begins.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) line: u64,
    pub(crate) data: Data,
}

/// What a node holds.
#[derive(Clone, Debug)]
pub(crate) enum Data {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// One key of a map.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) line: u64,
    pub(crate) key: String,
    pub(crate) value: Node,
}

/// Where the text stops being YAML, and why.
#[derive(Debug)]
pub(crate) struct SyntaxError {
    pub(crate) line: u64,
    pub(crate) text: String,
}

/// Every document of `text` that is not empty.
pub(crate) fn documents(text: &str) -> Result<Vec<Node>, SyntaxError> {
    let options = serde_saphyr::options! {
        legacy_octal_numbers: true,
        with_snippet: false,
        emit_comments: false,
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            max_nodes: MAX_NODES,
        },
    };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    serde_saphyr::from_multiple_with_options(text, options).map_err(|error| {
        let line = error.location().map_or(0, |location| location.line());
        SyntaxError {
            line,
            text: one_line(&error.to_string()),
        }
    })
}

/// The library's text without its own idea of the place, on one line.
fn one_line(text: &str) -> String {
    let first = text.lines().next().unwrap_or_default();
    let bare = first.split(" at line ").next().unwrap_or(first);
    // The library speaks of its own options, which nobody here can set.
    let bare = bare.split(", set ").next().unwrap_or(bare);
    bare.trim_start_matches("error: ")
        .chars()
        .take(300)
        .collect()
}

// === impl Node ===

impl Node {
    /// The value of `key`, where this is a map that has it and it is not null.
    pub(crate) fn field(&self, key: &str) -> Option<&Self> {
        match &self.data {
            Data::Map(entries) => entries
                .iter()
                .find(|entry| entry.key == key)
                .map(|entry| &entry.value)
                .filter(|node| !matches!(node.data, Data::Null)),
            _ => None,
        }
    }

    /// The text, where it is one.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.data {
            Data::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The line of what `path` (`spec.ports[0].name`) names, or of the deepest part of it that exists. A key may have dots in it.
    pub(crate) fn line_at(&self, path: &str) -> u64 {
        let (mut here, mut line, mut rest) = (self, self.line, path);
        loop {
            rest = rest.trim_start_matches('.');
            let next = match &here.data {
                Data::Map(entries) => entries
                    .iter()
                    .filter_map(|entry| {
                        let after = rest.strip_prefix(entry.key.as_str())?;
                        (after.is_empty() || after.starts_with(['.', '['])).then_some((
                            entry.line,
                            &entry.value,
                            after,
                        ))
                    })
                    .min_by_key(|(_, _, after)| after.len()),
                Data::List(items) => rest
                    .strip_prefix('[')
                    .and_then(|rest| rest.split_once(']'))
                    .and_then(|(index, after)| {
                        let item = items.get(index.parse::<usize>().ok()?)?;
                        Some((item.line, item, after))
                    }),
                _ => None,
            };
            match next {
                Some(next) if !rest.is_empty() => (line, here, rest) = next,
                _ => return line,
            }
        }
    }

    /// What it is, for an error: a quoted value or the kind of collection.
    pub(crate) fn describe(&self) -> String {
        match &self.data {
            Data::Null => "null".to_owned(),
            Data::Bool(value) => format!("the boolean {value}"),
            Data::Int(value) => format!("the number {value}"),
            Data::Float(value) => format!("the number {value}"),
            Data::Text(value) => {
                format!("the text {:?}", value.chars().take(60).collect::<String>())
            }
            Data::List(_) => "a list".to_owned(),
            Data::Map(_) => "a map".to_owned(),
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Data>::deserialize(deserializer)?;
        Ok(Self {
            line: spanned.referenced.line(),
            data: spanned.value,
        })
    }
}

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DataVisitor)
    }
}

struct DataVisitor;

impl<'de> Visitor<'de> for DataVisitor {
    type Value = Data;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any YAML value")
    }

    fn visit_unit<E>(self) -> Result<Data, E> {
        Ok(Data::Null)
    }

    fn visit_none<E>(self) -> Result<Data, E> {
        Ok(Data::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Data, D::Error> {
        Data::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Data, E> {
        Ok(Data::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Data, E> {
        Ok(Data::Int(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Data, E> {
        Ok(Data::Int(value.into()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Data, E> {
        Ok(Data::Int(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Data, E> {
        Ok(Data::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Data, E> {
        Ok(Data::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Data, E> {
        Ok(Data::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Data, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Data::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Data, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = access.next_key::<Spanned<String>>()? {
            let value = access.next_value()?;
            entries.push(Entry {
                line: key.referenced.line(),
                key: key.value,
                value,
            });
        }
        Ok(Data::Map(entries))
    }
}

#[cfg(test)]
mod tests;
