// SPDX-License-Identifier: Apache-2.0
//! What takes a sidecar out again. Must leave everything that people wrote, and nothing that an injection added.

use maille_manifest::marks;
use serde_json::Value;

use crate::names::{INIT, PROXY, TOKEN, TRUST};

/// The lists of a pod's spec with things of ours, and their names there.
pub(crate) const LISTS: [(&str, &[&str]); 3] = [
    ("initContainers", &[INIT, PROXY]),
    ("containers", &[PROXY]),
    ("volumes", &[TRUST.0, TOKEN.0]),
];

/// Whether anything of ours is there.
pub(crate) fn has_any(template: &Value) -> bool {
    let named = |(key, names): &(&str, &[&str])| {
        let items = template["spec"][*key].as_array();
        items.is_some_and(|items| items.iter().any(|item| is_named(item, names)))
    };
    template["metadata"]["annotations"][marks::INJECTED].is_string() || LISTS.iter().any(named)
}

/// The annotations that go.
pub(crate) fn annotations(template: &Value) -> Vec<&'static str> {
    let annotations = &template["metadata"]["annotations"];
    let mut gone = vec![
        marks::INJECTED,
        marks::ADDED,
        marks::CAPTURE_BY,
        marks::ROOM,
    ];
    // What its owner chose is its owner's.
    if annotations[marks::CAPTURE_BY].is_string() && annotations[marks::CAPTURE_BY] != "pod" {
        gone.push(marks::CAPTURE);
    }
    if annotations[marks::UNCAPTURED] == marks::BY_NAMESPACE {
        gone.push(marks::UNCAPTURED);
    }
    if annotations[marks::ADDED] == "default-container" {
        gone.push(marks::DEFAULT_CONTAINER);
    }
    if annotations[marks::REQUIRED_PLUGINS] == marks::REQUIRES_AGENT {
        gone.push(marks::REQUIRED_PLUGINS);
    }
    gone.retain(|key| annotations.get(key).is_some());
    gone
}

/// Whether `item` has one of `names`.
pub(crate) fn is_named(item: &Value, names: &[&str]) -> bool {
    item["name"]
        .as_str()
        .is_some_and(|name| names.contains(&name))
}

/// Takes everything of ours out of `template`, and what is empty then. `false`: there was nothing.
pub(crate) fn remove(template: &mut Value) -> bool {
    if !has_any(template) {
        return false;
    }
    let gone = annotations(template);
    if let Some(Value::Object(metadata)) = template.get_mut("metadata") {
        if let Some(Value::Object(annotations)) = metadata.get_mut("annotations") {
            annotations.retain(|key, _| !gone.contains(&key.as_str()));
            if annotations.is_empty() {
                metadata.shift_remove("annotations");
            }
        }
        if metadata.is_empty()
            && let Value::Object(template) = template
        {
            template.shift_remove("metadata");
        }
    }
    if let Some(Value::Object(spec)) = template.get_mut("spec") {
        for (key, names) in LISTS {
            if let Some(Value::Array(items)) = spec.get_mut(key) {
                let before = items.len();
                items.retain(|item| !is_named(item, names));
                if items.is_empty() && before > 0 {
                    spec.shift_remove(key);
                }
            }
        }
    }
    true
}
