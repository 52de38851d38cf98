// SPDX-License-Identifier: Apache-2.0
//! One document on its way: its objects are looked at, decided on, and changed together. Read `rewrite.rs` for the change.

use std::collections::BTreeMap;

use maille_manifest::marks;
use maille_manifest::yaml::{self, Node};
use serde_json::Value;

use super::rewrite::{Change, Step, rewrite, value_of};
use super::{FileError, FileProblem, Report, Said, objects};
use crate::decide::{Asked, Decision, NamespaceFacts, Untouched, decide};
use crate::documents::Piece;
use crate::refusal::Refusal;
use crate::removal;
use crate::settings::Settings;
use crate::workload::Kind;

/// What is to be done.
pub(super) enum Task<'s> {
    Inject {
        settings: &'s Settings,
        namespaces: BTreeMap<String, NamespaceFacts>,
        /// Of objects that name none.
        namespace: &'s str,
    },
    Uninject,
}

/// One file under way.
pub(super) struct Work<'w> {
    file: &'w str,
    task: &'w Task<'w>,
    pub(super) reports: Vec<Report>,
    pub(super) unknown: Vec<String>,
    pub(super) errors: Vec<FileError>,
}

/// One object that has pods.
struct Found<'v> {
    /// Its number in a List.
    item: Option<usize>,
    kind: Kind,
    object: &'v Value,
}

// === impl Work ===

impl<'w> Work<'w> {
    pub(super) const fn on(file: &'w str, task: &'w Task<'w>) -> Self {
        Self {
            file,
            task,
            reports: Vec::new(),
            unknown: Vec::new(),
            errors: Vec::new(),
        }
    }

    /// The new text of a piece.
    pub(super) fn piece(&mut self, piece: Piece<'_>) -> String {
        let Some(node) = self.read(piece) else {
            return piece.text.to_owned();
        };
        let value = value_of(piece, &node);
        match self.task {
            Task::Uninject => self.uninject(piece, &node, &value),
            Task::Inject { .. } => {
                self.unknown.extend(unknown(&node, &value));
                self.inject(piece, &node, &value)
            }
        }
    }

    /// The document of a piece, if there is one.
    fn read(&mut self, piece: Piece<'_>) -> Option<Node> {
        let mut nodes = match yaml::deep_documents(piece.text) {
            Ok(nodes) => nodes,
            Err(error) => {
                let line = error.line.max(1) + piece.line - 1;
                self.error(line, String::new(), FileProblem::Syntax(error.text));
                return None;
            }
        };
        if let Some(second) = nodes.get(1) {
            let line = second.line + piece.line - 1;
            self.error(line, String::new(), FileProblem::Several);
            return None;
        }
        nodes.pop()
    }

    fn error(&mut self, line: u64, path: String, problem: FileProblem) {
        self.errors.push(FileError {
            file: self.file.to_owned(),
            line,
            path,
            problem,
        });
    }

    fn uninject(&mut self, piece: Piece<'_>, node: &Node, value: &Value) -> String {
        let mut changes = Vec::new();
        for found in found(node, value) {
            let template = found.kind.template_in(found.object);
            let said = if let Some(owner) = found.owner() {
                Said::Untouched(Untouched::Owned(owner))
            } else if template.is_some_and(removal::has_any) {
                changes.push(found.change(Step::Remove));
                Said::Uninjected
            } else {
                Said::Nothing
            };
            self.report(&found, said, Vec::new());
        }
        rewrite(piece, node, value, &changes)
    }

    fn inject(&mut self, piece: Piece<'_>, node: &Node, value: &Value) -> String {
        let outdated: Vec<Change> = found(node, value)
            .iter()
            .filter(|found| self.is_outdated(found))
            .map(|found| found.change(Step::Remove))
            .collect();
        if outdated.is_empty() {
            return self.add(piece, node, value, &[]);
        }
        let text = rewrite(piece, node, value, &outdated);
        let bare = Piece {
            text: &text,
            ..piece
        };
        let Some(node) = self.read(bare) else {
            return text;
        };
        let value = value_of(bare, &node);
        let items: Vec<_> = outdated.iter().map(|change| change.item).collect();
        self.add(bare, &node, &value, &items)
    }

    /// Adds what is missing. `updated` are objects whose older sidecar is out already.
    fn add(
        &mut self,
        piece: Piece<'_>,
        node: &Node,
        value: &Value,
        updated: &[Option<usize>],
    ) -> String {
        let mut changes = Vec::new();
        for found in found(node, value) {
            match self.decide(&found) {
                Decision::Inject { addition, warnings } => {
                    changes.push(found.change(Step::Add(addition)));
                    let said = if updated.contains(&found.item) {
                        Said::Updated
                    } else {
                        Said::Injected
                    };
                    let warnings = warnings.into_iter().chain(found.warnings());
                    self.report(&found, said, warnings.collect());
                }
                Decision::Untouched(why) => {
                    self.report(&found, Said::Untouched(why), Vec::new());
                }
                Decision::Refused(refusals) => {
                    for refusal in refusals {
                        self.refuse(piece, node, &found, refusal);
                    }
                }
                // Only the webhook moves what others have moved.
                Decision::Reorder => {}
            }
        }
        rewrite(piece, node, value, &changes)
    }

    fn is_outdated(&self, found: &Found<'_>) -> bool {
        let Task::Inject { settings, .. } = self.task else {
            return false;
        };
        matches!(self.decide(found),
            Decision::Untouched(Untouched::Injected { version }) if version != settings.version)
    }

    fn decide(&self, found: &Found<'_>) -> Decision {
        let Task::Inject {
            settings,
            namespaces,
            namespace,
        } = self.task
        else {
            return Decision::Refused(Vec::new());
        };
        if let Some(owner) = found.owner() {
            return Decision::Untouched(Untouched::Owned(owner));
        }
        let name = found.object["metadata"]["namespace"].as_str();
        let name = name.unwrap_or(namespace);
        let unknown = NamespaceFacts::unknown(name);
        let facts = namespaces.get(name).unwrap_or(&unknown);
        let template = found.kind.template_in(found.object).unwrap_or(&Value::Null);
        decide(template, found.kind, Asked::Command, facts, settings)
    }

    fn refuse(&mut self, piece: Piece<'_>, node: &Node, found: &Found<'_>, refusal: Refusal) {
        let mut path = found
            .item
            .map_or(String::new(), |item| format!("items[{item}]"));
        let keys = found.kind.template().iter().copied();
        let keys = keys.chain([refusal.path.as_str()]);
        for key in keys.filter(|key| !key.is_empty()) {
            if !path.is_empty() {
                path.push('.');
            }
            path.push_str(key);
        }
        let line = node.line_at(&path) + piece.line - 1;
        self.error(line, path, FileProblem::Refused(refusal.cause));
    }

    fn report(&mut self, found: &Found<'_>, said: Said, warnings: Vec<String>) {
        let metadata = &found.object["metadata"];
        let text = |key: &str| metadata[key].as_str().map(str::to_owned);
        let name = text("name").or_else(|| text("generateName"));
        self.reports.push(Report {
            kind: found.kind.word(),
            namespace: text("namespace"),
            name: name.unwrap_or_default(),
            said,
            warnings,
        });
    }
}

/// The objects of a document that have pods.
fn found<'v>(node: &Node, value: &'v Value) -> Vec<Found<'v>> {
    let one = |(item, object): (Option<usize>, &'v Value)| {
        let kind = kind_of(item, object, value)?;
        Some(Found { item, kind, object })
    };
    values(node, value).into_iter().filter_map(one).collect()
}

/// Objects that have a template of pods, and are of no kind that is known.
fn unknown(node: &Node, value: &Value) -> Vec<String> {
    let all = values(node, value).into_iter();
    let lost = all.filter(|(item, object)| {
        let containers = object.pointer("/spec/template/spec/containers");
        containers.is_some_and(Value::is_array) && kind_of(*item, object, value).is_none()
    });
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    lost.map(|(_, object)| {
        let (kind, name) = (text(&object["kind"]), text(&object["metadata"]["name"]));
        format!("{kind}/{name}")
    })
    .collect()
}

/// The object that a document is, or those that it lists, each with its number there.
fn values<'v>(node: &Node, value: &'v Value) -> Vec<(Option<usize>, &'v Value)> {
    let one = |(item, _): (Option<usize>, &Node)| {
        let object = item.map_or(Some(value), |item| value["items"].get(item))?;
        Some((item, object))
    };
    objects(node).into_iter().filter_map(one).collect()
}

/// What an object is. One of a list of its kind (`PodList`) need not say so itself, as for kubectl.
fn kind_of(item: Option<usize>, object: &Value, list: &Value) -> Option<Kind> {
    if item.is_none() || !object["kind"].is_null() {
        return Kind::of(object);
    }
    let kind = list["kind"].as_str()?.strip_suffix("List")?;
    Kind::named(list["apiVersion"].as_str()?, kind)
}

// === impl Found ===

impl Found<'_> {
    const fn change(&self, step: Step) -> Change {
        Change {
            item: self.item,
            kind: self.kind,
            step,
        }
    }

    /// What makes this object, where something does: `deployment/web`.
    fn owner(&self) -> Option<String> {
        let owners = self.object["metadata"]["ownerReferences"].as_array()?;
        let owner = owners.iter().find(|owner| owner["controller"] == true)?;
        let (kind, name) = (owner["kind"].as_str()?, owner["name"].as_str()?);
        Some(format!("{}/{name}", kind.to_lowercase()))
    }

    /// What only the object as a whole shows.
    fn warnings(&self) -> Vec<String> {
        let (metadata, word) = (&self.object["metadata"], self.kind.word());
        let mut warnings = Vec::new();
        if metadata["uid"].is_string() && matches!(self.kind, Kind::Pod | Kind::Job) {
            warnings.push(format!(
                "this {word} exists already, and the API server lets nobody change its pods: delete it, or inject what made it"
            ));
        }
        let says = |place: &str| !metadata[place][marks::INJECT].is_null();
        if self.kind != Kind::Pod && (says("labels") || says("annotations")) {
            warnings.push(format!(
                "{} on the {word} itself says nothing: write it to {}.metadata.labels",
                marks::INJECT,
                self.kind.template().join(".")
            ));
        }
        warnings
    }
}
