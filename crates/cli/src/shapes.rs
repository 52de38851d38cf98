// SPDX-License-Identifier: Apache-2.0
//! What is read of a cluster's objects by more than one verb. Must never fail: what is not there is empty. Read `cluster.rs` next.

use std::collections::BTreeMap;

use maille_manifest::marks;
use serde_json::Value;

/// The text at a JSON pointer.
pub(crate) fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    let found = value.pointer(pointer).and_then(Value::as_str);
    found.unwrap_or_default()
}

/// The data of a ConfigMap.
pub(crate) fn data(config: &Value) -> BTreeMap<String, String> {
    let entries = config["data"].as_object().into_iter().flatten();
    let text = |(key, value): (&String, &Value)| Some((key.clone(), value.as_str()?.to_owned()));
    entries.filter_map(text).collect()
}

/// Whether a Pod has a sidecar.
pub(crate) fn is_injected(pod: &Value) -> bool {
    pod["metadata"]["annotations"][marks::INJECTED].is_string()
}
