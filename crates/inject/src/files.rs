// SPDX-License-Identifier: Apache-2.0
//! Whole files: every object that has pods gets a sidecar or loses it, everything else stays byte for byte.
//!
//! All or nothing: one refusal, and there is no text. Read `documents.rs` for how a file is cut, `edit.rs` for how an object is changed.

use std::collections::{BTreeMap, BTreeSet};

use maille_manifest::printable;
use maille_manifest::yaml::{self, Node};
use serde_json::Value;

use crate::decide::{NamespaceFacts, Untouched};
use crate::documents::pieces;
use crate::refusal::Cause;
use crate::settings::Settings;

mod piece;
mod rewrite;

use piece::{Task, Work};

/// One error: where, and what.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", shown(.file, *.line, .path, &.problem.to_string()))]
pub struct FileError {
    /// As the person named it; `-` is standard input.
    pub file: String,
    /// From 1; 0 when it is about the whole file.
    pub line: u64,
    /// `spec.template.metadata.annotations.maille.io/sidecar`; empty when it is about a whole object or file.
    pub path: String,
    /// What is wrong.
    pub problem: FileProblem,
}

/// What is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileProblem {
    /// Not YAML.
    #[error("is not YAML: {0}")]
    Syntax(String),
    /// Documents without the line that parts them.
    #[error("more than one document where one was expected: put a line `---` between them")]
    Several,
    /// A pod that cannot be what is wanted.
    #[error("{0}")]
    Refused(Cause),
}

/// What became of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// As the person named it.
    pub file: String,
    /// Its new text.
    pub text: String,
    /// What became of each object that has pods.
    pub reports: Vec<Report>,
    /// Objects that look as if they had pods, of kinds that are not known here, as `Rollout/web`: they are as they were.
    pub unknown: Vec<String>,
}

/// What became of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// `deployment`
    pub kind: &'static str,
    /// Where it says so.
    pub namespace: Option<String>,
    /// Its name, or what its name will begin with.
    pub name: String,
    /// What became of it.
    pub said: Said,
    /// What its owner should know.
    pub warnings: Vec<String>,
}

/// What became of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// It has a sidecar now.
    Injected,
    /// It has a sidecar of this version in place of another's.
    Updated,
    /// It has none any more.
    Uninjected,
    /// It is as it was.
    Untouched(Untouched),
    /// It is as it was: there was nothing to take out.
    Nothing,
}

/// Gives every object of `files` that has pods a sidecar, or says why not. `namespaces` is what is known of them beside what the files
/// say; objects that name none are in `namespace`.
pub fn inject(
    files: &[(String, String)],
    settings: &Settings,
    namespaces: &[NamespaceFacts],
    namespace: &str,
) -> Result<Vec<Done>, Vec<FileError>> {
    let known = namespaces
        .iter()
        .map(|facts| (facts.name.clone(), facts.clone()));
    let mut known: BTreeMap<_, _> = known.collect();
    for (_, text) in files {
        declared(text, &mut known);
    }
    let task = Task::Inject {
        settings,
        namespaces: known,
        namespace,
    };
    all(files, &task)
}

/// Takes every sidecar out of `files`.
pub fn uninject(files: &[(String, String)]) -> Result<Vec<Done>, Vec<FileError>> {
    all(files, &Task::Uninject)
}

/// The namespaces that objects of `files` name.
pub fn namespaces(files: &[(String, String)]) -> BTreeSet<String> {
    let mut named = BTreeSet::new();
    for piece in files.iter().flat_map(|(_, text)| pieces(text)) {
        for node in yaml::deep_documents(piece.text).unwrap_or_default() {
            for (_, object) in objects(&node) {
                let metadata = object.field("metadata");
                let name = metadata.and_then(|metadata| metadata.field("namespace"));
                named.extend(name.and_then(Node::text).map(str::to_owned));
            }
        }
    }
    named
}

fn all(files: &[(String, String)], task: &Task<'_>) -> Result<Vec<Done>, Vec<FileError>> {
    let (mut done, mut errors) = (Vec::new(), Vec::new());
    for (file, text) in files {
        let mut work = Work::on(file, task);
        let pieces = pieces(text).into_iter();
        let text: String = pieces.map(|piece| work.piece(piece)).collect();
        errors.append(&mut work.errors);
        done.push(Done {
            file: file.clone(),
            text,
            reports: work.reports,
            unknown: work.unknown,
        });
    }
    if errors.is_empty() {
        Ok(done)
    } else {
        Err(errors)
    }
}

/// The namespaces that a text declares.
fn declared(text: &str, known: &mut BTreeMap<String, NamespaceFacts>) {
    for piece in pieces(text) {
        // What is no YAML is said where it is read for its pods.
        for node in yaml::deep_documents(piece.text).unwrap_or_default() {
            for (_, object) in objects(&node) {
                if object.field("kind").and_then(Node::text) != Some("Namespace") {
                    continue;
                }
                let metadata = object.field("metadata").map_or(Value::Null, Node::to_json);
                if let Some(name) = metadata["name"].as_str() {
                    let facts = NamespaceFacts::of(name, &metadata["labels"]);
                    known.insert(name.to_owned(), facts);
                }
            }
        }
    }
}

/// The object that a document is, or those that it lists, each with its number there.
fn objects(node: &Node) -> Vec<(Option<usize>, &Node)> {
    let kind = node.field("kind").and_then(Node::text);
    let items = node.field("items").map(Node::items);
    match (kind, items) {
        (Some(kind), Some(items)) if kind.ends_with("List") => {
            let items = items.iter().enumerate();
            items.map(|(at, item)| (Some(at), item)).collect()
        }
        _ => vec![(None, node)],
    }
}

fn shown(file: &str, line: u64, path: &str, text: &str) -> String {
    let mut place = printable(file, 300);
    if line > 0 {
        place.push_str(&format!(":{line}"));
    }
    if !path.is_empty() {
        place.push_str(&format!(": {}", printable(path, 300)));
    }
    format!("{place}: {}", printable(text, 1000))
}

#[cfg(test)]
mod tests;
