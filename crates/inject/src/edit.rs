// SPDX-License-Identifier: Apache-2.0
//! A change of one object as a change of lines of its text: comments, order, quotes and blanks of everything else stay.
//!
//! It knows block style and the simple cases of flow style; it gives up at anything else. It need not be right about every corner of YAML: `files.rs` reads what
//! came out again, and takes it only if it says exactly what was meant; else the object is written anew.

use maille_manifest::yaml::{Data, Entry, Node};
use serde_json::{Map, Value};

use crate::addition::Addition;
use crate::documents::is_empty;
use crate::emit::{self, Style};
use crate::removal::LISTS;

/// The lines of a text, and what is to be done to them.
pub(crate) struct Lines<'t> {
    lines: Vec<&'t str>,
    /// Where each begins, and where the last ends.
    starts: Vec<usize>,
    text: &'t str,
    ending: &'static str,
    changes: Vec<Change>,
}

/// Some bytes are replaced by text; none are where something is put in.
struct Change {
    from: usize,
    to: usize,
    text: String,
}

// === impl Lines ===

impl<'t> Lines<'t> {
    pub(crate) fn of(text: &'t str) -> Self {
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        let crlf = lines.first().is_some_and(|line| line.ends_with("\r\n"));
        let ends = lines.iter().scan(0, |end, line| {
            *end += line.len();
            Some(*end)
        });
        Self {
            starts: std::iter::once(0).chain(ends).collect(),
            text,
            lines,
            ending: if crlf { "\r\n" } else { "\n" },
            changes: Vec::new(),
        }
    }

    /// The text with every change. `None`: two changes meet.
    pub(crate) fn changed(mut self) -> Option<String> {
        self.changes.sort_by_key(|change| (change.from, change.to));
        let mut out = String::new();
        let mut at = 0;
        for change in &self.changes {
            out.push_str(self.text.get(at..change.from)?);
            out.push_str(&change.text.replace('\n', self.ending));
            at = change.to;
        }
        out.push_str(self.text.get(at..)?);
        Some(out)
    }

    /// The byte at the character `column` of the line `line`, both from 1.
    fn at(&self, line: u64, column: u64) -> Option<usize> {
        let before = self.before(line, column)?;
        Some(self.starts.get(index(line)?)? + before.len())
    }

    /// Whether a map or list is written between braces or brackets.
    fn is_flow(&self, node: &Node) -> bool {
        let at = self.at(node.line, node.column);
        let rest = at.and_then(|at| self.text.get(at..));
        rest.is_some_and(|rest| rest.starts_with(['{', '[']))
    }

    /// What stands before the character `column`, from 1, of the line `line`, from 1.
    fn before(&self, line: u64, column: u64) -> Option<&'t str> {
        let line = self.lines.get(index(line)?)?;
        let end = line.char_indices().nth(index(column)?)?.0;
        line.get(..end)
    }

    /// The blanks before an entry, where nothing else is.
    fn indent(&self, entry: &Entry) -> Option<usize> {
        let before = self.before(entry.line, entry.column)?;
        before.bytes().all(|b| b == b' ').then_some(before.len())
    }

    /// The blanks before the dash of an item that begins on the dash's line.
    fn dash(&self, item: &Node) -> Option<usize> {
        let before = self.before(item.line, item.column)?;
        let bare = before.trim_end_matches(' ').strip_suffix('-')?;
        bare.bytes().all(|b| b == b' ').then_some(bare.len())
    }

    fn insert(&mut self, line: u64, text: String) -> Option<()> {
        let at = *self.starts.get(index(line)?)?;
        self.replace(at, at, text);
        Some(())
    }

    fn replace(&mut self, from: usize, to: usize, text: String) {
        self.changes.push(Change { from, to, text });
    }

    /// Adds what `addition` adds to the template `node`.
    pub(crate) fn add(&mut self, node: &Node, addition: &Addition) -> Option<()> {
        let spec = block_map(node.field("spec")?)?;
        let style = self.style(spec)?;
        let annotations = addition.annotations.iter();
        let annotations: Map<String, Value> = annotations
            .map(|(key, value)| (key.clone(), Value::from(value.as_str())))
            .collect();
        self.annotate(node, annotations)?;
        for (key, items) in addition.lists() {
            if !items.is_empty() {
                self.list(spec, key, items, style)?;
            }
        }
        Some(())
    }

    /// How this text writes lists.
    fn style(&self, spec: &Node) -> Option<Style> {
        let containers = entry(spec, "containers")?;
        if self.is_flow(spec) || self.is_flow(&containers.value) {
            return Some(Style::default());
        }
        let dash = self.dash(containers.value.items().first()?)?;
        let list_indent = dash.checked_sub(self.indent(containers)?)?;
        Some(Style { list_indent })
    }

    fn annotate(&mut self, node: &Node, annotations: Map<String, Value>) -> Option<()> {
        let present = node
            .field("metadata")
            .and_then(|meta| entry(meta, "annotations"));
        if present.is_some_and(|present| {
            let keys = present.value.entries().iter();
            keys.into_iter()
                .any(|old| annotations.contains_key(&old.key))
        }) {
            return None;
        }
        let mut whole = Map::new();
        let annotations = Value::Object(annotations);
        whole.insert("annotations".to_owned(), annotations.clone());
        let whole = Value::Object(whole);
        match entry(node, "metadata") {
            None => {
                let mut outer = Map::new();
                outer.insert("metadata".to_owned(), whole);
                self.front(node, &Value::Object(outer), Style::default())
            }
            Some(metadata) if is_nothing(&metadata.value) => {
                self.fill(metadata, &whole, Style::default())
            }
            Some(metadata) => match entry(&metadata.value, "annotations") {
                None => self.front(&metadata.value, &whole, Style::default()),
                Some(old) if is_nothing(&old.value) => {
                    self.fill(old, &annotations, Style::default())
                }
                Some(old) => self.front(&old.value, &annotations, Style::default()),
            },
        }
    }

    fn list(&mut self, spec: &Node, key: &str, items: &[Value], style: Style) -> Option<()> {
        let list = Value::from(items.to_vec());
        match entry(spec, key) {
            None => {
                let mut whole = Map::new();
                whole.insert(key.to_owned(), list);
                self.front(spec, &Value::Object(whole), style)
            }
            Some(old) if is_nothing(&old.value) => self.fill(old, &list, style),
            Some(old) => {
                let first = old.value.items().first()?;
                if self.is_flow(&old.value) {
                    let at = self.at(first.line, first.column)?;
                    self.replace(at, at, format!("{}, ", emit::flow_items(items)));
                    return Some(());
                }
                let text = emit::block(&list, self.dash(first)?, style);
                self.insert(first.line, text)
            }
        }
    }

    /// Puts entries before the first of a map.
    fn front(&mut self, map: &Node, entries: &Value, style: Style) -> Option<()> {
        if self.is_flow(map) && !map.entries().is_empty() {
            let first = map.entries().first()?;
            let at = self.at(first.line, first.column)?;
            self.replace(at, at, format!("{}, ", emit::flow_entries(entries)));
            return Some(());
        }
        let first = block_map(map)?.entries().first()?;
        let text = emit::block(entries, self.indent(first)?, style);
        self.insert(first.line, text)
    }

    /// Gives an entry that has nothing its value: below it where it has lines of its own, else between its braces.
    fn fill(&mut self, entry: &Entry, value: &Value, style: Style) -> Option<()> {
        let at = index(entry.line)?;
        let line = self.lines.get(at)?.trim_end();
        let own = line.split_once(':').filter(|(_, rest)| {
            let rest = rest.trim();
            self.indent(entry).is_some() && matches!(rest, "" | "{}" | "[]" | "null" | "~")
        });
        if let Some((key, _)) = own {
            let inner = if value.is_array() {
                style.list_indent
            } else {
                2
            };
            let indent = self.indent(entry)? + inner;
            let text = format!("{key}:\n{}", emit::block(value, indent, style));
            let (from, to) = (*self.starts.get(at)?, *self.starts.get(at + 1)?);
            self.replace(from, to, text);
            return Some(());
        }
        let from = self.at(entry.value.line, entry.value.column)?;
        let braces = self.text.get(from..from + 2)?;
        if matches!(braces, "{}" | "[]") {
            self.replace(from, from + 2, emit::flow(value));
            return Some(());
        }
        None
    }

    /// Takes out everything of ours: `gone` are the annotations. `end` is the line after the last of the template `node`.
    pub(crate) fn remove(&mut self, node: &Node, gone: &[&str], end: u64) -> Option<()> {
        self.remove_annotations(node, gone, end)?;
        let spec = entry(node, "spec")?;
        let end = after(node, spec, end);
        for (key, names) in LISTS {
            let Some(list) = entry(&spec.value, key) else {
                continue;
            };
            let end = after(&spec.value, list, end);
            let ours = |item: &Node| {
                let name = item.field("name").and_then(Node::text);
                name.is_some_and(|name| names.contains(&name))
            };
            let items = list.value.items();
            if !items.is_empty() && items.iter().all(ours) {
                self.cut_from(&spec.value, list, end)?;
                continue;
            }
            for (at, item) in items.iter().enumerate().filter(|(_, item)| ours(item)) {
                let next = items.get(at + 1);
                if self.is_flow(&list.value) {
                    let next = next?;
                    let from = self.at(item.line, item.column)?;
                    let to = self.at(next.line, next.column)?;
                    self.replace(from, to, String::new());
                } else {
                    self.dash(item)?;
                    self.cut_lines(item.line, next.map_or(end, |next| next.line))?;
                }
            }
        }
        Some(())
    }

    fn remove_annotations(&mut self, node: &Node, gone: &[&str], end: u64) -> Option<()> {
        let metadata = entry(node, "metadata")?;
        let annotations = entry(&metadata.value, "annotations")?;
        let ours = |one: &Entry| gone.contains(&one.key.as_str());
        if !annotations.value.entries().iter().all(ours) {
            let end = after(&metadata.value, annotations, after(node, metadata, end));
            for (one, end) in regions(&annotations.value, end) {
                if ours(one) {
                    self.cut_from(&annotations.value, one, end)?;
                }
            }
            Some(())
        } else if metadata.value.entries().len() > 1 {
            let end = after(&metadata.value, annotations, after(node, metadata, end));
            self.cut_from(&metadata.value, annotations, end)
        } else {
            self.cut(metadata, after(node, metadata, end))
        }
    }

    /// Takes `one` out of `map`, in either style. `end` is the line after the last of `one` in block style.
    fn cut_from(&mut self, map: &Node, one: &Entry, end: u64) -> Option<()> {
        if !self.is_flow(map) {
            return self.cut(one, end);
        }
        let mut entries = map.entries().iter();
        entries.find(|entry| (entry.line, entry.column) == (one.line, one.column))?;
        let next = entries.next()?;
        let from = self.at(one.line, one.column)?;
        let to = self.at(next.line, next.column)?;
        self.replace(from, to, String::new());
        Some(())
    }

    fn cut(&mut self, entry: &Entry, end: u64) -> Option<()> {
        self.indent(entry)?;
        self.cut_lines(entry.line, end)
    }

    /// Takes lines out; comments and blanks at their end belong to what follows.
    fn cut_lines(&mut self, from: u64, end: u64) -> Option<()> {
        let (from, mut to) = (index(from)?, index(end)?);
        while to > from + 1 && is_empty(self.lines.get(to - 1)?) {
            to -= 1;
        }
        let (from, to) = (*self.starts.get(from)?, *self.starts.get(to)?);
        self.replace(from, to, String::new());
        Some(())
    }
}

/// A number from 1 as one from 0.
fn index(number: u64) -> Option<usize> {
    usize::try_from(number).ok()?.checked_sub(1)
}

fn entry<'n>(map: &'n Node, key: &str) -> Option<&'n Entry> {
    map.entries().iter().find(|entry| entry.key == key)
}

/// A map that has entries, each on lines of its own as far as can be seen.
fn block_map(node: &Node) -> Option<&Node> {
    (!node.entries().is_empty()).then_some(node)
}

/// Null, or an empty map or list.
fn is_nothing(node: &Node) -> bool {
    match &node.data {
        Data::Null => true,
        Data::Map(entries) => entries.is_empty(),
        Data::List(items) => items.is_empty(),
        _ => false,
    }
}

/// The line after the last of `one`, an entry of `map`, which ends before `end`.
fn after(map: &Node, one: &Entry, end: u64) -> u64 {
    let later = map.entries().iter().map(|entry| entry.line);
    later.filter(|line| *line > one.line).min().unwrap_or(end)
}

/// The entries of a map that ends before `end`, each with the line after its last.
fn regions(map: &Node, end: u64) -> Vec<(&Entry, u64)> {
    let entries = map.entries().iter();
    entries.map(|one| (one, after(map, one, end))).collect()
}
