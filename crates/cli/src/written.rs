// SPDX-License-Identifier: Apache-2.0
//! What each command writes with `-o json`: the API's answers as they came, or a shape of this program's own, as JSON Schema.
//!
//! `docs/reference/json.md` is made of it. Must never name a shape that nothing writes. Next: `api.rs`.

use std::borrow::Cow;

use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

use crate::demo::verdict::Summary;
use crate::explain::capture::Explained as PodCapture;
use crate::nodes::Nodes;
use crate::top::Paths;
use crate::version::Versions;

/// Where the API's shapes are described.
pub const API: &str = "openapi-control.json#/components/schemas/";

/// Every command that writes JSON, with its schema: `commands` by name, and the `$defs` that they name.
pub fn shapes() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = Cow::Borrowed("/$defs");
        settings.meta_schema = None;
    });
    let mut generator = settings.for_serialize().into_generator();
    let api = |name: &str| json!({"$ref": format!("{API}{name}")});
    let list = |name: &str| json!({"type": "array", "items": api(name)});
    let shape = |fields: Value| {
        let names: Vec<_> = fields
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, _)| name.clone())
            .collect();
        json!({"type": "object", "properties": fields, "required": names})
    };
    let seconds = json!({"type": "integer", "description": "Seconds that `window` fields cover."});
    let object = json!({"description": "An object, or a List of them, in Kubernetes' form."});
    let commands = json!({
        "maille stat": shape(json!({"window_s": seconds, "workloads": list("WorkloadRow"), "edges": list("EdgeRow")})),
        "maille stat KIND": shape(json!({"window_s": seconds, "rows": list("StatRow")})),
        "maille stat edges": shape(json!({"window_s": seconds, "edges": list("EdgeRow")})),
        "maille edges": api("Edges"),
        "maille tap (a line)": api("TapLine"),
        "maille top": generator.subschema_for::<Paths>(),
        "maille explain": api("Explained"),
        "maille explain --capture": generator.subschema_for::<PodCapture>(),
        "maille identity": api("Identities"),
        "maille node": generator.subschema_for::<Nodes>(),
        "maille check": api("Report"),
        "maille check --pre": api("Report"),
        "maille get": object,
        "maille version": generator.subschema_for::<Versions>(),
        "maille demo --once": generator.subschema_for::<Summary>(),
    });
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "What `maille ... -o json` writes",
        "commands": commands,
        "$defs": generator.take_definitions(true),
    })
}
