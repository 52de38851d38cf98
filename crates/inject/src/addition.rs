// SPDX-License-Identifier: Apache-2.0
//! What an injection adds to a template, as a value: applied to JSON, written as a patch, or edited into text.
//!
//! Everything goes to the front of its list or map, so that the proxy is there before every container of the application, and so
//! that text needs no knowledge of where a list ends. Must never change or take away anything. Read `edit.rs` for the text.

use serde_json::{Map, Value, json};

/// What is added.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Addition {
    /// To `metadata.annotations`.
    pub(crate) annotations: Vec<(String, String)>,
    /// To the front of `spec.initContainers`.
    pub(crate) init_containers: Vec<Value>,
    /// To the front of `spec.containers`.
    pub(crate) containers: Vec<Value>,
    /// To the front of `spec.volumes`.
    pub(crate) volumes: Vec<Value>,
}

// === impl Addition ===

impl Addition {
    /// The lists of the pod's spec that get something, in the order in which they are written.
    pub(crate) fn lists(&self) -> [(&'static str, &[Value]); 3] {
        [
            ("initContainers", &self.init_containers),
            ("containers", &self.containers),
            ("volumes", &self.volumes),
        ]
    }

    /// Does it to a template, or to a pod.
    pub fn apply(&self, template: &mut Value) {
        let annotations = map(map(template, "metadata"), "annotations");
        for (index, (key, value)) in self.annotations.iter().enumerate() {
            if let Value::Object(annotations) = annotations {
                annotations.shift_remove(key);
                annotations.shift_insert(index.min(annotations.len()), key.clone(), json!(value));
            }
        }
        for (key, items) in self.lists() {
            if items.is_empty() {
                continue;
            }
            let spec = map(template, "spec");
            let Value::Object(spec) = spec else { continue };
            match spec.get_mut(key) {
                Some(Value::Array(list)) => {
                    list.splice(0..0, items.iter().cloned());
                }
                _ => {
                    spec.shift_remove(key);
                    spec.shift_insert(0, key.to_owned(), Value::from(items.to_vec()));
                }
            }
        }
    }

    /// The same as the operations of a JSON patch (RFC 6902) on a pod.
    pub fn patch(&self, pod: &Value) -> Vec<Value> {
        let mut operations = Vec::new();
        let mut add = |path: String, value: Value| {
            operations.push(json!({"op": "add", "path": path, "value": value}));
        };
        if !pod["metadata"].is_object() {
            add("/metadata".to_owned(), Value::Object(Map::new()));
        }
        if !pod["metadata"]["annotations"].is_object() {
            add(
                "/metadata/annotations".to_owned(),
                Value::Object(Map::new()),
            );
        }
        for (key, value) in &self.annotations {
            add(
                format!("/metadata/annotations/{}", escape(key)),
                json!(value),
            );
        }
        for (key, items) in self.lists() {
            if items.is_empty() {
                continue;
            }
            if pod["spec"][key].is_array() {
                for (index, item) in items.iter().enumerate() {
                    add(format!("/spec/{key}/{index}"), item.clone());
                }
            } else {
                add(format!("/spec/{key}"), Value::from(items.to_vec()));
            }
        }
        operations
    }
}

/// The map at `key`, made at the front where there is none.
fn map<'v>(value: &'v mut Value, key: &str) -> &'v mut Value {
    if let Value::Object(entries) = value
        && !entries.get(key).is_some_and(Value::is_object)
    {
        entries.shift_remove(key);
        entries.shift_insert(0, key.to_owned(), Value::Object(Map::new()));
    }
    &mut value[key]
}

/// A key as one step of a JSON pointer.
pub(crate) fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}
