// SPDX-License-Identifier: Apache-2.0
//! Changes of objects into the text of their document: by lines where that can be shown to be right, else written anew.

use maille_manifest::yaml::{self, Node};
use serde::Serialize as _;
use serde_json::Value;
use serde_json::ser::{PrettyFormatter, Serializer};

use crate::addition::Addition;
use crate::documents::{Piece, Syntax};
use crate::edit::Lines;
use crate::emit;
use crate::removal;
use crate::workload::Kind;

/// A change of one object that has been decided.
pub(super) struct Change {
    /// Its number in a List.
    pub(super) item: Option<usize>,
    pub(super) kind: Kind,
    pub(super) step: Step,
}

/// What is done to its template.
pub(super) enum Step {
    Add(Box<Addition>),
    Remove,
}

/// The value of a document. JSON's numbers are kept as JSON has them.
pub(super) fn value_of(piece: Piece<'_>, node: &Node) -> Value {
    match piece.syntax {
        Syntax::Json => serde_json::from_str(piece.text).unwrap_or_else(|_| node.to_json()),
        Syntax::Yaml => node.to_json(),
    }
}

/// The text of `piece`, whose document is `node` and `value`, after `changes`.
pub(super) fn rewrite(piece: Piece<'_>, node: &Node, value: &Value, changes: &[Change]) -> String {
    if changes.is_empty() {
        return piece.text.to_owned();
    }
    let mut wanted = value.clone();
    for change in changes {
        let object = match change.item {
            None => Some(&mut wanted),
            Some(item) => wanted["items"].get_mut(item),
        };
        if let Some(template) = object.and_then(|object| change.kind.template_in_mut(object)) {
            match &change.step {
                Step::Add(addition) => addition.apply(template),
                Step::Remove => {
                    removal::remove(template);
                }
            }
        }
    }
    match piece.syntax {
        Syntax::Json => json(piece.text, &wanted),
        Syntax::Yaml => edited(piece.text, node, changes)
            .filter(|text| says(text, &wanted))
            .unwrap_or_else(|| anew(piece.text, node, &wanted)),
    }
}

/// Whether `text` is one document that says `wanted`, and nothing else.
fn says(text: &str, wanted: &Value) -> bool {
    match yaml::deep_documents(text).as_deref() {
        Ok([node]) => node.to_json() == *wanted,
        _ => false,
    }
}

/// Line by line, where it can be done.
fn edited(text: &str, node: &Node, changes: &[Change]) -> Option<String> {
    let mut lines = Lines::of(text);
    let end = last_line(text);
    for change in changes {
        let (object, end) = match change.item {
            None => (node, end),
            Some(item) => {
                let items = node.field("items")?.items();
                let end = items
                    .get(item + 1)
                    .map_or_else(|| region_end(node, "items", end), |next| next.line);
                (items.get(item)?, end)
            }
        };
        let (mut template, mut end) = (object, end);
        for key in change.kind.template() {
            end = region_end(template, key, end);
            template = template.field(key)?;
        }
        match &change.step {
            Step::Add(addition) => lines.add(template, addition)?,
            Step::Remove => {
                let value = template.to_json();
                lines.remove(template, &removal::annotations(&value), end)?;
            }
        }
    }
    lines.changed()
}

/// The line after the last of the entry `key` of `map`, which ends before `end`.
fn region_end(map: &Node, key: &str, end: u64) -> u64 {
    let entries = map.entries();
    let Some(own) = entries.iter().find(|entry| entry.key == key) else {
        return end;
    };
    let later = entries.iter().map(|entry| entry.line);
    later.filter(|line| *line > own.line).min().unwrap_or(end)
}

/// The line after the last of a document: a mark of its end is not part of it.
fn last_line(text: &str) -> u64 {
    let lines = text.lines();
    let before = lines.take_while(|line| *line != "..." && !line.starts_with("... "));
    before.count() as u64 + 1
}

/// The document written anew; what stands before it and after it stays.
fn anew(text: &str, node: &Node, wanted: &Value) -> String {
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let first = usize::try_from(node.line.saturating_sub(1)).unwrap_or(0);
    let mut out: String = lines.iter().take(first).copied().collect();
    if lines.get(first).is_some_and(|line| line.starts_with("---")) {
        out.push_str("---\n");
    }
    out.push_str(&emit::document(wanted));
    let mark = lines.iter().position(|line| line.trim_end() == "...");
    out.extend(lines.iter().skip(mark.unwrap_or(lines.len())).copied());
    out
}

/// JSON, as far in and as open as it was.
fn json(text: &str, wanted: &Value) -> String {
    let bare = text.trim();
    let indent = bare.split_once('\n').map(|(_, rest)| {
        let blanks = rest.len() - rest.trim_start_matches([' ', '\t']).len();
        rest.get(..blanks).unwrap_or_default().to_owned()
    });
    let written = match indent {
        Some(indent) => {
            let mut out = Vec::new();
            let format = PrettyFormatter::with_indent(indent.as_bytes());
            // Writing a value to memory cannot fail.
            let _ = wanted.serialize(&mut Serializer::with_formatter(&mut out, format));
            String::from_utf8(out).unwrap_or_default()
        }
        None => wanted.to_string(),
    };
    text.replacen(bare, &written, 1)
}
