// SPDX-License-Identifier: Apache-2.0
use serde_json::json;

use super::*;
use crate::names::{INIT, PROXY};

fn settings() -> Settings {
    let control = "10.96.3.7:15010".parse().unwrap();
    let identity = "spiffe://cluster.local/ns/maille-system/sa/maille-control";
    Settings::new("1.2.3", "maille.io", control, identity.parse().unwrap()).unwrap()
}

fn review(pod: &Value) -> Value {
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "u-1", "kind": {"group": "", "version": "v1", "kind": "Pod"}, "operation": "CREATE",
        "namespace": "shop", "dryRun": true, "object": pod,
    }})
}

/// What the API server makes of the answer.
fn admitted(pod: &Value) -> Value {
    let said = admit(&review(pod), &settings());
    let response = &said["response"];
    assert_eq!(
        (&response["uid"], &response["allowed"]),
        (&json!("u-1"), &json!(true)),
        "{said}"
    );
    let mut pod = pod.clone();
    if let Some(patch) = response["patch"].as_str() {
        assert_eq!(response["patchType"], "JSONPatch");
        let patch = BASE64.decode(patch.as_bytes()).unwrap();
        let patch: json_patch::Patch = serde_json::from_slice(&patch).unwrap();
        json_patch::patch(&mut pod, &patch).unwrap();
    }
    pod
}

fn pod() -> Value {
    json!({"metadata": {"generateName": "web-", "labels": {"maille.io/inject": "enabled"}},
        "spec": {"containers": [{"name": "web"}], "volumes": [{"name": "kube-api-access"}]}})
}

fn order(pod: &Value) -> Vec<&str> {
    let items = pod["spec"]["initContainers"].as_array().unwrap().iter();
    items.map(|item| item["name"].as_str().unwrap()).collect()
}

#[test]
fn the_patch_is_what_the_command_does() {
    for more in [json!(null), json!({"a": "b"}), json!({})] {
        let mut pod = pod();
        pod["metadata"]["annotations"] = more;
        let by_patch = admitted(&pod);
        let facts = NamespaceFacts::unknown("shop");
        match decide(&pod, Kind::Pod, Asked::Command, &facts, &settings()) {
            Decision::Inject { addition, .. } => addition.apply(&mut pod),
            other => panic!("{other:?}"),
        }
        assert_eq!(by_patch, pod);
        assert_eq!(order(&by_patch), [INIT, PROXY]);
    }
}

#[test]
fn a_patch_fits_a_pod_that_says_next_to_nothing() {
    let done = admitted(&json!({"spec": {"containers": [{"name": "web"}]}}));
    assert_eq!(
        done["metadata"]["annotations"]["maille.io/injected"],
        "1.2.3"
    );
}

#[test]
fn a_second_call_changes_nothing_and_mends_the_order() {
    let once = admitted(&pod());
    assert_eq!(admitted(&once), once);
    let mut pushed = once;
    let items = pushed["spec"]["initContainers"].as_array_mut().unwrap();
    items.insert(0, json!({"name": "foreign"}));
    items.swap(1, 2);
    assert_eq!(order(&admitted(&pushed)), [INIT, PROXY, "foreign"]);
}

#[test]
fn refusals_say_why() {
    let mut pod = pod();
    pod["metadata"]["annotations"]["maille.io/skip-inbound-ports"] = json!("http");
    let said = admit(&review(&pod), &settings());
    assert_eq!(said["response"]["allowed"], false);
    let text = said["response"]["status"]["message"].as_str().unwrap();
    assert!(
        text.starts_with("maille: metadata.annotations.maille.io/skip-inbound-ports: \"http\""),
        "{text}"
    );
}

#[test]
fn what_is_not_ours_passes_and_what_is_no_review_does_not() {
    let mut update = review(&pod());
    update["request"]["operation"] = json!("UPDATE");
    assert_eq!(
        admit(&update, &settings())["response"],
        json!({"allowed": true, "uid": "u-1"})
    );
    for bad in [
        json!(null),
        json!([1]),
        json!({"request": {}}),
        json!({"apiVersion": "admission.k8s.io/v1beta1", "request": {"uid": "x"}}),
    ] {
        let said = admit(&bad, &settings());
        assert_eq!(said["response"]["allowed"], false, "{bad}");
        assert_eq!(said["response"]["status"]["code"], 400);
    }
}

/// What is said of a pod when nobody changes it any more.
fn verified(pod: &Value) -> Result<(), String> {
    let facts = NamespaceFacts::unknown("shop");
    let said = admit_in(&review(pod), Asked::Afterwards, &settings(), &facts);
    let response = &said["response"];
    assert!(response["patch"].is_null(), "{said}");
    match response["allowed"].as_bool() {
        Some(true) => Ok(()),
        _ => Err(response["status"]["message"].as_str().unwrap().to_owned()),
    }
}

#[test]
fn what_others_undid_is_refused_in_the_end() {
    let whole = admitted(&pod());
    assert_eq!(verified(&whole), Ok(()));
    let mut pushed = whole;
    let items = pushed["spec"]["initContainers"].as_array_mut().unwrap();
    items.insert(0, json!({"name": "foreign"}));
    let refused = verified(&pushed).unwrap_err();
    assert!(
        refused.contains("what runs before it is not captured"),
        "{refused}"
    );
    let refused = verified(&pod()).unwrap_err();
    assert!(
        refused.contains("took it out after it was put in"),
        "{refused}"
    );
    // Who is not meant is nobody's business.
    let mut disabled = pod();
    disabled["metadata"]["labels"]["maille.io/inject"] = json!("disabled");
    assert_eq!(verified(&disabled), Ok(()));
}
