// SPDX-License-Identifier: Apache-2.0
//! The only place that knows the YAML library: text to [`Node`]s that remember their lines.
//!
//! Reads what kubectl reads (YAML 1.1 booleans and octal numbers, JSON), refuses duplicate keys, and bounds aliases, depth and size,
//! so that no file makes it grow without end. It never says what a field means. Read `walk.rs` next.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Number, Value};
use serde_saphyr::Spanned;

/// The largest file that is read. An etcd object may have 1.5 MiB; a file may hold some.
pub const MAX_BYTES: usize = 16 << 20;
/// Twice what any Kubernetes object needs; each level costs some stack.
const MAX_DEPTH: usize = 32;
/// Twice what the deepest schemas of custom resources have.
const MAX_SCHEMA_DEPTH: usize = 100;
const MAX_NODES: usize = 400_000;

/// A value and where it begins, from 1.
#[derive(Clone, Debug)]
pub struct Node {
    /// The line.
    pub line: u64,
    /// The character in it.
    pub column: u64,
    /// What it is.
    pub data: Data,
}

/// What a node holds.
#[derive(Clone, Debug)]
pub enum Data {
    /// Nothing.
    Null,
    /// `true`, and what kubectl takes for it.
    Bool(bool),
    /// A whole number.
    Int(i128),
    /// Another number.
    Float(f64),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// A map, in the order of the text.
    Map(Vec<Entry>),
}

/// One key of a map.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The line of the key.
    pub line: u64,
    /// The character of that line at which the key begins, from 1.
    pub column: u64,
    /// The key.
    pub key: String,
    /// Its value.
    pub value: Node,
}

/// Where the text stops being YAML, and why.
#[derive(Debug)]
pub struct SyntaxError {
    /// From 1; 0 when it is not known.
    pub line: u64,
    /// In the library's words.
    pub text: String,
}

/// Every document of `text` that is not empty.
pub fn documents(text: &str) -> Result<Vec<Node>, SyntaxError> {
    within(text, MAX_DEPTH)
}

/// The same, as deep as the deepest objects that there are: schemas of other people's kinds, which only pass through.
pub fn deep_documents(text: &str) -> Result<Vec<Node>, SyntaxError> {
    within(text, MAX_SCHEMA_DEPTH)
}

fn within(text: &str, max_depth: usize) -> Result<Vec<Node>, SyntaxError> {
    let options = serde_saphyr::options! {
        legacy_octal_numbers: true,
        with_snippet: false,
        emit_comments: false,
        budget: serde_saphyr::budget! {
            max_depth: max_depth,
            max_nodes: MAX_NODES,
        },
    };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    serde_saphyr::from_multiple_with_options(text, options).map_err(|error| {
        let line = error.location().map_or(0, |location| location.line());
        SyntaxError {
            line,
            text: advised(text, one_line(&error.to_string())),
        }
    })
}

/// With what to do about it, where the text shows that.
fn advised(text: &str, why: String) -> String {
    if why.starts_with("budget breached") {
        return "with its aliases it is larger than any manifest".to_owned();
    }
    if text.contains("{{") && text.contains("}}") {
        return format!(
            "{why}: what has {{{{ }}}} is a template: render it first, as `helm template` does"
        );
    }
    why
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
    pub fn field(&self, key: &str) -> Option<&Self> {
        match &self.data {
            Data::Map(entries) => entries
                .iter()
                .find(|entry| entry.key == key)
                .map(|entry| &entry.value)
                .filter(|node| !matches!(node.data, Data::Null)),
            _ => None,
        }
    }

    /// The entries, where this is a map that has some.
    pub fn entries(&self) -> &[Entry] {
        match &self.data {
            Data::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The items, where this is a list that has some.
    pub fn items(&self) -> &[Self] {
        match &self.data {
            Data::List(items) => items,
            _ => &[],
        }
    }

    /// The same as JSON. A number that JSON does not have becomes null.
    pub fn to_json(&self) -> Value {
        match &self.data {
            Data::Null => Value::Null,
            Data::Bool(value) => Value::from(*value),
            Data::Int(value) => Number::from_i128(*value).map_or(Value::Null, Value::Number),
            Data::Float(value) => Value::from(*value),
            Data::Text(value) => Value::from(value.as_str()),
            Data::List(items) => items.iter().map(Self::to_json).collect(),
            Data::Map(entries) => {
                let entries = entries.iter();
                let entries = entries.map(|entry| (entry.key.clone(), entry.value.to_json()));
                Value::Object(entries.collect())
            }
        }
    }

    /// The text, where it is one.
    pub fn text(&self) -> Option<&str> {
        match &self.data {
            Data::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The line of what `path` (`spec.ports[0].name`) names, or of the deepest part of it that exists. A key may have dots in it.
    pub fn line_at(&self, path: &str) -> u64 {
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
    pub fn describe(&self) -> String {
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
            column: spanned.referenced.column(),
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
                column: key.referenced.column(),
                key: key.value,
                value,
            });
        }
        Ok(Data::Map(entries))
    }
}

#[cfg(test)]
mod tests;
