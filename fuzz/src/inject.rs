// SPDX-License-Identifier: Apache-2.0
//! Manifests as anybody may pipe them into `maille inject`, and pods as anybody may send them to the webhook: every one is refused with a
//! reason, or becomes what a second look leaves alone.
#![no_main]

use std::sync::LazyLock;

use data_encoding::BASE64;
use libfuzzer_sys::fuzz_target;
use maille_inject::{FileError, Settings, admit, inject, uninject};
use serde_json::{Value, json};

static SETTINGS: LazyLock<Settings> = LazyLock::new(|| {
    let control = "10.96.3.7:15010".parse().expect("an address");
    let identity = "spiffe://cluster.local/ns/maille-system/sa/maille-control";
    let identity = identity.parse().expect("an identity");
    Settings::new("1.0.0", "maille.io", control, identity).expect("settings")
});

fuzz_target!(|input: &[u8]| {
    if let Ok(text) = str::from_utf8(input) {
        by_command(text);
    }
    if let Ok(pod) = serde_json::from_slice(input) {
        by_webhook(&pod);
    }
});

fn by_command(text: &str) {
    if let Ok(once) = injected(text) {
        let twice = injected(&once).expect("what was injected is no worse than before");
        assert_eq!(twice, once);
        let bare = uninjected(&once).expect("what was injected can be taken out");
        assert_eq!(uninjected(&bare).as_ref(), Ok(&bare));
    }
}

fn injected(text: &str) -> Result<String, Vec<FileError>> {
    let files = [("-".to_owned(), text.to_owned())];
    let mut done = inject(&files, &SETTINGS, &[], "default").inspect_err(told)?;
    Ok(done.remove(0).text)
}

fn uninjected(text: &str) -> Result<String, Vec<FileError>> {
    let files = [("-".to_owned(), text.to_owned())];
    Ok(uninject(&files).inspect_err(told)?.remove(0).text)
}

/// Errors are lines for people.
fn told(errors: &Vec<FileError>) {
    assert!(!errors.is_empty());
    for error in errors {
        let line = error.to_string();
        assert!(!line.chars().any(char::is_control), "{line:?}");
    }
}

fn by_webhook(pod: &Value) {
    if let Some(once) = admitted(pod) {
        let twice = admitted(&once).expect("what was admitted is admitted again");
        assert_eq!(twice, once);
    }
}

/// What the API server makes of the answer. None: it is refused.
fn admitted(pod: &Value) -> Option<Value> {
    let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "u-1", "kind": {"group": "", "version": "v1", "kind": "Pod"}, "operation": "CREATE", "namespace": "shop", "object": pod,
    }});
    let said = admit(&review, &SETTINGS);
    let response = &said["response"];
    assert_eq!(response["uid"], "u-1");
    if response["allowed"] != true {
        let message = response["status"]["message"].as_str().expect("a reason");
        assert!(message.starts_with("maille: "), "{message}");
        return None;
    }
    let mut pod = pod.clone();
    if let Some(patch) = response["patch"].as_str() {
        let patch = BASE64.decode(patch.as_bytes()).expect("base64");
        let patch: json_patch::Patch = serde_json::from_slice(&patch).expect("a JSON patch");
        json_patch::patch(&mut pod, &patch).expect("a patch that fits");
    }
    Some(pod)
}
