// SPDX-License-Identifier: Apache-2.0
//! What becomes of pods that their node captures inside, and what the node is told of outboard ones.

use serde_json::json;

use super::*;

#[test]
fn a_sidecar_whose_rules_the_node_writes_has_no_right() {
    let settings = Settings {
        nodes: Nodes::Agents(Capture::Outboard),
        ..settings()
    };
    let restricted = NamespaceFacts {
        security: PodSecurity::Restricted,
        capture: Some(Ok(Capture::InboardCni)),
        ..shop()
    };
    let ask = |template: &Value, asked| decide(template, Kind::Pod, asked, &restricted, &settings);
    let mut done = pod();
    match ask(&done, Asked::Webhook) {
        Decision::Inject { addition, .. } => addition.apply(&mut done),
        other => panic!("{other:?}"),
    }
    let containers = done["spec"]["initContainers"].as_array().unwrap();
    assert_eq!(containers.len(), 1, "{done:#}");
    let rights = &containers[0]["securityContext"];
    assert_eq!(containers[0]["name"], PROXY);
    assert_eq!(rights["capabilities"], json!({"drop": ["ALL"]}));
    assert_eq!(rights["runAsNonRoot"], true);
    let annotations = &done["metadata"]["annotations"];
    for (key, value) in [
        (marks::CAPTURE, "inboard-cni"),
        (marks::CAPTURE_BY, "namespace"),
        (marks::REQUIRED_PLUGINS, marks::REQUIRES_AGENT),
    ] {
        assert_eq!(annotations[key], value);
    }
    for asked in [Asked::Webhook, Asked::Afterwards] {
        let again = ask(&done, asked);
        let there = matches!(again, Decision::Untouched(Untouched::Injected { .. }));
        assert!(there, "{asked:?}: {again:?}");
    }
    // Pushed back it goes to the front, where there is no other container of ours.
    let mut pushed = done.clone();
    let items = pushed["spec"]["initContainers"].as_array_mut().unwrap();
    items.insert(0, json!({"name": "foreign"}));
    assert_eq!(ask(&pushed, Asked::Webhook), Decision::Reorder);
    let moved =
        json!([{"op": "move", "from": "/spec/initContainers/1", "path": "/spec/initContainers/0"}]);
    assert_eq!(Value::from(reorder(&pushed)), moved);
    // Whatever tells the node is there in the end, and where nodes have no agents nobody would capture it.
    for key in [marks::CAPTURE, marks::REQUIRED_PLUGINS] {
        let mut undone = done.clone();
        let annotations = undone["metadata"]["annotations"].as_object_mut().unwrap();
        annotations.shift_remove(key);
        let after = ask(&undone, Asked::Afterwards);
        assert!(matches!(after, Decision::Refused(_)), "{key}: {after:?}");
    }
    assert!(refused(&done).contains("agent on every node"));
    let mut both = done.clone();
    let items = both["spec"]["initContainers"].as_array_mut().unwrap();
    items.insert(0, json!({"name": INIT}));
    assert!(matches!(ask(&both, Asked::Webhook), Decision::Refused(_)));
    let proxys = merged(
        pod(),
        json!({"spec": {"securityContext": {"runAsUser": 2102}}}),
    );
    assert!(matches!(ask(&proxys, Asked::Webhook), Decision::Refused(_)));
    assert!(crate::removal::remove(&mut done));
    assert_eq!(done, pod(), "uninject leaves what was there");
}

#[test]
fn an_outboard_proxy_is_counted_to_a_pod_that_has_room_for_it() {
    let settings = Settings {
        nodes: Nodes::Agents(Capture::Outboard),
        ..settings()
    };
    for (spec, room) in [
        (json!({}), false),
        (json!({"overhead": {}}), false),
        (json!({"overhead": {"memory": "64Mi"}}), true),
        (
            json!({"overhead": {"memory": "64Mi"}, "runtimeClassName": "gvisor"}),
            false,
        ),
        (
            json!({"overhead": {"memory": "64Mi"}, "runtimeClassName": "kata"}),
            false,
        ),
        (json!({"resources": {"limits": {"memory": "1Gi"}}}), true),
        (json!({"resources": {"requests": {"cpu": "1"}}}), true),
    ] {
        let mut done = merged(pod(), json!({ "spec": spec }));
        match decide(&done, Kind::Pod, Asked::Webhook, &shop(), &settings) {
            Decision::Inject { addition, .. } => addition.apply(&mut done),
            other => panic!("{other:?}"),
        }
        let said = &done["metadata"]["annotations"][marks::ROOM];
        assert_eq!(*said == marks::ROOM_POD, room, "{spec}");
    }
}

#[test]
fn interfaces_that_nobody_captures_are_refused_where_the_namespace_says_so_and_the_pod_does_not() {
    let settings = Settings {
        nodes: Nodes::Agents(Capture::Outboard),
        ..settings()
    };
    let of = |label: Option<&str>| match label {
        Some(word) => NamespaceFacts::of("shop", &json!({ marks::UNCAPTURED: word })),
        None => shop(),
    };
    let by_namespace = Some(marks::BY_NAMESPACE);
    for (label, said, capture, written) in [
        (Some("refused"), None, "outboard", by_namespace),
        (
            Some("refused"),
            Some("allowed"),
            "outboard",
            Some("allowed"),
        ),
        (Some("refused"), None, "inboard-cni", None),
        (Some("allowed"), None, "outboard", None),
        (None, None, "outboard", None),
        (None, Some("refused"), "outboard", Some("refused")),
    ] {
        let mut before = pod();
        before["metadata"]["annotations"] = json!({marks::CAPTURE: capture});
        if let Some(said) = said {
            before["metadata"]["annotations"][marks::UNCAPTURED] = json!(said);
        }
        let mut done = before.clone();
        match decide(&done, Kind::Pod, Asked::Webhook, &of(label), &settings) {
            Decision::Inject { addition, .. } => addition.apply(&mut done),
            other => panic!("{other:?}"),
        }
        let found = done["metadata"]["annotations"][marks::UNCAPTURED].as_str();
        assert_eq!(found, written, "{label:?} {said:?} {capture}");
        let after = decide(&done, Kind::Pod, Asked::Afterwards, &of(label), &settings);
        assert!(matches!(after, Decision::Untouched(_)), "{after:?}");
        assert!(crate::removal::remove(&mut done));
        assert_eq!(done, before, "uninject leaves what was there");
    }
    let nonsense = of(Some("sometimes"));
    let refused = decide(&pod(), Kind::Pod, Asked::Webhook, &nonsense, &settings);
    let Decision::Refused(refusals) = refused else {
        panic!("{refused:?}")
    };
    let text = refusals[0].to_string();
    assert!(
        text.contains("namespace shop: metadata.labels.maille.io/uncaptured-interfaces"),
        "{text}"
    );
}
