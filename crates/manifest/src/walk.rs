// SPDX-License-Identifier: Apache-2.0
//! Walks a document along the tables of `fields.rs`: types, unknown and unsupported fields, each with its line and path.
//!
//! Gives the supported part as JSON for serde, which then cannot fail on anything a person wrote. It never looks at two fields
//! together; `check.rs` does.

use serde_json::{Map, Value};

use crate::error::{ManifestError, Problem, Warning};
use crate::fields::{Field, Rule, Type};
use crate::objects::{Amount, Quantity};
use crate::yaml::{Data, Entry, Node};

/// No more errors than this are given: the rest is noise.
pub(crate) const MAX_ERRORS: usize = 100;

/// Errors and warnings of all files, bounded.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) errors: Vec<ManifestError>,
    pub(crate) warnings: Vec<Warning>,
}

/// Where the walk is.
#[derive(Debug)]
pub(crate) struct Walk<'a> {
    file: &'a str,
    path: String,
    report: &'a mut Report,
}

// === impl Report ===

impl Report {
    pub(crate) fn error(&mut self, file: &str, line: u64, path: &str, problem: Problem) {
        match self.errors.len() {
            n if n < MAX_ERRORS => self.errors.push(ManifestError {
                file: file.to_owned(),
                line,
                path: path.to_owned(),
                problem,
            }),
            MAX_ERRORS => self.errors.push(ManifestError {
                file: file.to_owned(),
                line: 0,
                path: String::new(),
                problem: Problem::TooMany(MAX_ERRORS),
            }),
            _ => {}
        }
    }

    pub(crate) fn warn(&mut self, file: &str, line: u64, path: &str, reason: String) {
        if self.warnings.len() < 10 * MAX_ERRORS {
            self.warnings.push(Warning {
                file: file.to_owned(),
                line,
                path: path.to_owned(),
                reason,
            });
        }
    }
}

// === impl Walk ===

impl<'a> Walk<'a> {
    pub(crate) fn new(file: &'a str, report: &'a mut Report) -> Self {
        Self {
            file,
            path: String::new(),
            report,
        }
    }

    /// The supported part of `node`, which should be a map with `fields`.
    pub(crate) fn object(&mut self, node: &Node, fields: &'static [Field]) -> Value {
        let Data::Map(entries) = &node.data else {
            return self.mistyped(node, "a map");
        };
        let mut object = Map::new();
        for entry in entries {
            let depth = self.enter(&entry.key);
            if let Some(value) = self.entry(entry, fields) {
                object.insert(entry.key.clone(), value);
            }
            self.path.truncate(depth);
        }
        for field in fields {
            if let Some(what) = field.required
                && node.field(field.name).is_none()
            {
                let depth = self.enter(field.name);
                self.fail(node.line, Problem::Missing { what });
                self.path.truncate(depth);
            }
        }
        Value::Object(object)
    }

    fn entry(&mut self, entry: &Entry, fields: &'static [Field]) -> Option<Value> {
        let Some(field) = fields.iter().find(|field| field.name == entry.key) else {
            let suggestion = suggest(&entry.key, fields.iter().map(|field| field.name));
            self.fail(entry.line, Problem::UnknownField { suggestion });
            return None;
        };
        if matches!(entry.value.data, Data::Null) || says_nothing(field, &entry.value) {
            return None;
        }
        match &field.rule {
            Rule::Take(kind) => Some(self.value(&entry.value, kind)),
            Rule::Warn(reason) => {
                self.report.warn(
                    self.file,
                    entry.line,
                    &self.path,
                    format!("ignored: {reason}"),
                );
                None
            }
            Rule::Refuse(reason) => {
                self.fail(entry.line, Problem::Unsupported { reason });
                None
            }
            Rule::Only(allowed, reason) => {
                let value = scalar(&entry.value);
                if !allowed.contains(&value.as_str()) {
                    self.fail(
                        entry.value.line,
                        Problem::UnsupportedValue { value, reason },
                    );
                }
                None
            }
        }
    }

    fn value(&mut self, node: &Node, kind: &'static Type) -> Value {
        match (kind, &node.data) {
            (Type::Text(check), Data::Text(text)) => {
                if !(check.holds)(text) {
                    let value = text.chars().take(80).collect();
                    let expected = check.expected;
                    self.fail(node.line, Problem::Malformed { value, expected });
                }
                Value::from(text.as_str())
            }
            (Type::Text(_), Data::Int(_) | Data::Float(_) | Data::Bool(_)) => {
                self.mistyped(node, "text: put it in quotes")
            }
            (Type::Bool, Data::Bool(value)) => Value::from(*value),
            (Type::Int(low, high), data) => self.integer(node, data, *low, *high),
            (Type::PortOrName, Data::Int(_)) => self.integer(node, &node.data, 1, 65_535),
            (Type::PortOrName, Data::Text(text)) => {
                if !crate::fields::is_port_name(text) {
                    let value = text.clone();
                    let expected = "a port from 1 to 65535 or a port's name (at most 15 of a-z, 0-9 and '-', with a letter)";
                    self.fail(node.line, Problem::Malformed { value, expected });
                }
                Value::from(text.as_str())
            }
            (Type::Amount, Data::Int(_)) => self.integer(node, &node.data, 0, 200),
            (Type::Amount, Data::Text(text)) if Amount::percent(text).is_some() => {
                Value::from(text.as_str())
            }
            (Type::Quantity, _) => self.quantity(node),
            (Type::Object(fields), _) => self.object(node, fields),
            (Type::List(item), Data::List(items)) => {
                let mut list = Vec::new();
                for (index, node) in items.iter().enumerate() {
                    let depth = self.path.len();
                    self.path.push_str(&format!("[{index}]"));
                    list.push(self.value(node, item));
                    self.path.truncate(depth);
                }
                Value::Array(list)
            }
            (Type::Map(keys, values), Data::Map(entries)) => {
                let mut map = Map::new();
                for entry in entries {
                    let depth = self.enter(&entry.key);
                    if !(keys.holds)(&entry.key) {
                        let (value, expected) = (entry.key.clone(), keys.expected);
                        self.fail(entry.line, Problem::Malformed { value, expected });
                    }
                    map.insert(entry.key.clone(), self.value(&entry.value, values));
                    self.path.truncate(depth);
                }
                Value::Object(map)
            }
            (Type::Bool, _) => self.mistyped(node, "true or false"),
            (Type::Text(_), _) => self.mistyped(node, "text"),
            (Type::PortOrName, _) => self.mistyped(node, "a port or a port's name"),
            (Type::Amount, _) => {
                self.mistyped(node, "a number of pods, or a percentage such as \"25%\"")
            }
            (Type::List(_), _) => self.mistyped(node, "a list"),
            (Type::Map(..), _) => self.mistyped(node, "a map of text"),
        }
    }

    fn integer(&mut self, node: &Node, data: &Data, low: u32, high: u32) -> Value {
        match data {
            Data::Int(value) if (i128::from(low)..=i128::from(high)).contains(value) => {
                Value::from(u32::try_from(*value).unwrap_or(low))
            }
            _ => self.mistyped(node, &format!("a number from {low} to {high}")),
        }
    }

    fn quantity(&mut self, node: &Node) -> Value {
        let text = match &node.data {
            Data::Int(_) | Data::Float(_) | Data::Text(_) => scalar(node),
            _ => return self.mistyped(node, "an amount, as in 500m or 64Mi"),
        };
        if Quantity::parse(&text).is_none() {
            let (value, expected) = (text.clone(), "an amount, as in 500m or 64Mi");
            self.fail(node.line, Problem::Malformed { value, expected });
        }
        Value::from(text)
    }

    fn mistyped(&mut self, node: &Node, expected: &str) -> Value {
        let found = node.describe();
        let expected = expected.to_owned();
        self.fail(node.line, Problem::Type { found, expected });
        Value::Null
    }

    fn enter(&mut self, key: &str) -> usize {
        let depth = self.path.len();
        if depth > 0 {
            self.path.push('.');
        }
        self.path.push_str(key);
        depth
    }

    fn fail(&mut self, line: u64, problem: Problem) {
        self.report.error(self.file, line, &self.path, problem);
    }
}

/// As on Kubernetes, a text that is empty is one that is not there, unless it means something.
fn says_nothing(field: &Field, node: &Node) -> bool {
    let empty = matches!(&node.data, Data::Text(text) if text.is_empty());
    match &field.rule {
        Rule::Take(Type::Text(check)) => empty && field.required.is_none() && !(check.holds)(""),
        _ => false,
    }
}

fn scalar(node: &Node) -> String {
    match &node.data {
        Data::Bool(value) => value.to_string(),
        Data::Int(value) => value.to_string(),
        Data::Float(value) => value.to_string(),
        Data::Text(value) => value.chars().take(80).collect(),
        _ => node.describe(),
    }
}

/// The candidate nearest to `word`, when it is near enough to be what was meant.
pub fn suggest<'c>(word: &str, candidates: impl Iterator<Item = &'c str>) -> Option<String> {
    let word: Vec<char> = word.chars().take(64).flat_map(char::to_lowercase).collect();
    let limit = 1 + word.len() / 5;
    candidates
        .map(|candidate| {
            let letters: Vec<char> = candidate.chars().flat_map(char::to_lowercase).collect();
            (distance(&word, &letters), candidate)
        })
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, candidate)| candidate.to_owned())
}

/// Letters to insert, delete or replace (Levenshtein).
fn distance(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, y) in row.iter_mut().skip(1).zip(b) {
            let next = (diagonal + usize::from(x != y))
                .min(left + 1)
                .min(*cell + 1);
            diagonal = *cell;
            *cell = next;
            left = next;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(a.len())
}
