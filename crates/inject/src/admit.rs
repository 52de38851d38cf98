// SPDX-License-Identifier: Apache-2.0
//! The webhook's answer: an AdmissionReview in, an AdmissionReview out. Nothing is kept and nothing is done, so that a dry run and a
//! second call are like any other. Read `decide.rs` for what it answers.

use data_encoding::BASE64;
use serde_json::{Value, json};

use crate::decide::{Asked, Decision, NamespaceFacts, decide, reorder};
use crate::settings::Settings;
use crate::workload::Kind;

/// The longest warning that clients show whole, by the API's documentation.
const LONGEST_WARNING: usize = 256;

/// Answers `review`, of whose namespace nothing is known but that the webhook's selectors took it.
pub fn admit(review: &Value, settings: &Settings) -> Value {
    let namespace = review["request"]["namespace"].as_str().unwrap_or_default();
    admit_in(
        review,
        Asked::Webhook,
        settings,
        &NamespaceFacts::unknown(namespace),
    )
}

/// The same, for a pod of `namespace`, at the beginning of its admission or at the end.
pub fn admit_in(
    review: &Value,
    asked: Asked,
    settings: &Settings,
    namespace: &NamespaceFacts,
) -> Value {
    let request = &review["request"];
    let Some(uid) = request["uid"].as_str().filter(|uid| !uid.is_empty()) else {
        return answer(
            "",
            refused(400, "this is no AdmissionReview: request.uid is missing"),
        );
    };
    if review["apiVersion"] != "admission.k8s.io/v1" {
        let text = "only admission.k8s.io/v1 is understood: the webhook's admissionReviewVersions must be [v1]";
        return answer(uid, refused(400, text));
    }
    let is_pod = request["kind"]["kind"] == "Pod" && request["kind"]["group"] == "";
    if !is_pod || request["operation"] != "CREATE" {
        // The webhook's rules ask for nothing else; whoever widens them gets what they had.
        return answer(uid, json!({"allowed": true}));
    }
    let pod = &request["object"];
    let said = match decide(pod, Kind::Pod, asked, namespace, settings) {
        Decision::Inject { addition, warnings } => {
            let warnings: Vec<String> = warnings
                .iter()
                .map(|text| text.chars().take(LONGEST_WARNING).collect())
                .collect();
            let mut said = patched(&addition.patch(pod));
            if !warnings.is_empty() {
                said["warnings"] = json!(warnings);
            }
            said
        }
        Decision::Reorder => patched(&reorder(pod)),
        Decision::Untouched(_) => json!({"allowed": true}),
        Decision::Refused(refusals) => {
            let lines: Vec<String> = refusals.iter().map(ToString::to_string).collect();
            refused(422, &format!("maille: {}", lines.join("; ")))
        }
    };
    answer(uid, said)
}

fn patched(operations: &[Value]) -> Value {
    let text = Value::from(operations.to_vec()).to_string();
    json!({"allowed": true, "patchType": "JSONPatch", "patch": BASE64.encode(text.as_bytes())})
}

fn refused(code: u16, text: &str) -> Value {
    json!({"allowed": false, "status": {"code": code, "message": text}})
}

fn answer(uid: &str, mut said: Value) -> Value {
    said["uid"] = json!(uid);
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": said})
}

#[cfg(test)]
mod tests;
