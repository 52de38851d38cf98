// SPDX-License-Identifier: Apache-2.0
//! The chart's values: what they are where nobody says, and what they may be, which Helm asks before it renders anything.
//!
//! Must never take what `maille install` refuses: a text is no condition, and what is for agents alone wants agents.

use serde_json::{Value, json};

use crate::settings::Capture;

/// `values.yaml`.
pub(super) fn usual() -> String {
    "# Made by `MAILLE_WRITE_REFERENCE=1 cargo test -p maille-inject chart`. The same as the options of `maille install`.\n\
     # Run control three times, on nodes apart.\nha: false\n\
     # Put an agent and a CNI plugin on every node, which capture pods: nothing with rights is put into pods then. The release's\n\
     # namespace must take privileged pods (label pod-security.kubernetes.io/enforce: privileged; createNamespace sets it).\ncni: false\n\
     # With cni, how pods are captured where neither they nor their namespaces say (annotation, label maille.io/capture): outboard, where\n\
     # nothing is put into them, unless chain is false; inboard-cni, a sidecar whose rules the node writes; or inboard, by an init\n\
     # container.\ncapture: \"\"\n\
     # With cni, chain the plugin into the nodes' CNI configurations. False leaves those alone: pods name the plugin as a network of\n\
     # theirs (a NetworkAttachmentDefinition, as with Multus), and are captured inboard-cni.\nchain: true\n\
     # What the images' names begin with.\nimagePrefix: maille.io\n\
     # Who vouches for identities: the first part of every one of them.\ntrustDomain: cluster.local\n\
     # Whether the chart makes the release's namespace, with its labels; false where it is there before (helm --create-namespace).\n\
     createNamespace: false\n"
        .to_owned()
}

/// `values.schema.json`: JSON Schema, draft 7, as Helm reads it.
pub(super) fn schema() -> String {
    let condition = json!({"type": "boolean"});
    let captures = [Capture::Outboard, Capture::InboardCni, Capture::Inboard].map(Capture::word);
    let words: Vec<&str> = std::iter::once("").chain(captures).collect();
    let schema = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Values of the chart maille",
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "ha": condition,
            "cni": condition,
            "chain": condition,
            "createNamespace": condition,
            "capture": {"enum": words},
            "imagePrefix": {"type": "string", "maxLength": 200, "pattern": prefix()},
            "trustDomain": {"type": "string", "maxLength": 255, "pattern": "^[a-z0-9._-]+$"},
            // What Helm itself gives a chart that another one has in it.
            "global": {"type": "object"},
        },
        // Options of `maille install` that want `--cni`.
        "if": {"properties": {"cni": {"const": false}}},
        "then": {"properties": {"chain": {"const": true}, "capture": {"const": ""}}},
    });
    written(&schema)
}

/// What an image's name may begin with, as `settings::image` has it: parts that begin with a letter or a digit, and end with no mark.
fn prefix() -> String {
    let part = "[a-z0-9]([a-z0-9._:-]*[a-z0-9_])?";
    format!("^{part}(/{part})*$")
}

fn written(schema: &Value) -> String {
    format!("{schema:#}\n")
}
