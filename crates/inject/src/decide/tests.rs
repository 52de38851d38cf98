// SPDX-License-Identifier: Apache-2.0
use serde_json::json;

use super::*;
use crate::names::PROXY_UID;

mod captures;
mod sandboxes;

fn settings() -> Settings {
    let control = "10.96.3.7:15010".parse().unwrap();
    let identity = "spiffe://cluster.local/ns/maille-system/sa/maille-control";
    Settings::new("1.2.3", "maille.io", control, identity.parse().unwrap()).unwrap()
}

fn pod() -> Value {
    json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": "web:1"}]}})
}

fn merged(mut base: Value, more: Value) -> Value {
    if let (Value::Object(base), Value::Object(more)) = (&mut base, &more) {
        for (key, value) in more {
            let old = base.remove(key).unwrap_or(Value::Null);
            base.insert(key.clone(), merged(old, value.clone()));
        }
        return Value::Object(base.clone());
    }
    more
}

fn ask(template: &Value, kind: Kind, asked: Asked, namespace: &NamespaceFacts) -> Decision {
    decide(template, kind, asked, namespace, &settings())
}

fn shop() -> NamespaceFacts {
    NamespaceFacts::unknown("shop")
}

fn injected(mut template: Value) -> Value {
    match ask(&template, Kind::Deployment, Asked::Command, &shop()) {
        Decision::Inject { addition, .. } => addition.apply(&mut template),
        other => panic!("{other:?}"),
    }
    template
}

fn refused(template: &Value) -> String {
    match ask(template, Kind::Deployment, Asked::Command, &shop()) {
        Decision::Refused(refusals) => {
            let lines: Vec<_> = refusals.iter().map(ToString::to_string).collect();
            lines.join("\n")
        }
        other => panic!("{template}: {other:?}"),
    }
}

fn untouched(template: &Value, namespace: &NamespaceFacts) -> Untouched {
    match ask(template, Kind::Deployment, Asked::Command, namespace) {
        Decision::Untouched(why) => why,
        other => panic!("{template}: {other:?}"),
    }
}

#[test]
fn a_sidecar_is_first_and_has_no_rights() {
    let more =
        json!({"spec": {"initContainers": [{"name": "migrate"}], "volumes": [{"name": "data"}]}});
    let done = injected(merged(pod(), more));
    let names = |key: &str| -> Vec<String> {
        let items = done["spec"][key].as_array().unwrap().iter();
        items
            .map(|item| item["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(names("initContainers"), [INIT, PROXY, "migrate"]);
    assert_eq!(names("containers"), ["web"]);
    assert_eq!(names("volumes"), ["maille-trust", "maille-token", "data"]);
    let [init, proxy] = [0, 1].map(|at| &done["spec"]["initContainers"][at]);
    assert_eq!(
        init["securityContext"]["capabilities"],
        json!({"add": ["NET_ADMIN"], "drop": ["ALL"]})
    );
    assert_eq!(
        proxy["securityContext"]["capabilities"],
        json!({"drop": ["ALL"]})
    );
    assert_eq!(proxy["restartPolicy"], "Always");
    for container in [init, proxy] {
        let security = &container["securityContext"];
        assert_eq!(security["privileged"], false);
        assert_eq!(security["allowPrivilegeEscalation"], false);
        assert_eq!(security["readOnlyRootFilesystem"], true);
        assert_eq!(security["seccompProfile"]["type"], "RuntimeDefault");
        // Quotas refuse what asks for nothing in particular.
        for amounts in ["limits", "requests"] {
            assert!(container["resources"][amounts]["cpu"].is_string());
            assert!(container["resources"][amounts]["memory"].is_string());
        }
    }
    let annotations = &done["metadata"]["annotations"];
    assert_eq!(annotations[marks::INJECTED], "1.2.3");
    assert_eq!(annotations[marks::DEFAULT_CONTAINER], "web");
    let control = json!({"name": "MAILLE_CONTROL", "value": "10.96.3.7:15010"});
    assert!(proxy["env"].as_array().unwrap().contains(&control));
}

#[test]
fn choices_reach_the_containers() {
    let annotations = json!({"metadata": {"annotations": {
        marks::SIDECAR: "classic", marks::SKIP_OUTBOUND: "3306, 9000-9100", marks::LOG_LEVEL: "debug",
        marks::CPU_LIMIT: "20m", marks::DEFAULT_CONTAINER: "mine", marks::INSIDE: "allowed",
    }}});
    let done = injected(merged(pod(), annotations));
    let proxy = &done["spec"]["containers"][0];
    assert_eq!(
        (&proxy["name"], &proxy["restartPolicy"]),
        (&json!(PROXY), &Value::Null)
    );
    assert_eq!(proxy["resources"]["requests"]["cpu"], "20m");
    let has = |container: &Value, name: &str, value: &str| {
        let wanted = json!({"name": name, "value": value});
        container["env"].as_array().unwrap().contains(&wanted)
    };
    assert!(has(proxy, "MAILLE_LOG", "debug"));
    assert!(has(proxy, "MAILLE_INSIDE", "allowed"));
    let init = &done["spec"]["initContainers"][0];
    assert!(has(init, "MAILLE_SKIP_OUTBOUND_PORTS", "3306,9000-9100"));
    assert_eq!(
        done["metadata"]["annotations"][marks::DEFAULT_CONTAINER],
        "mine"
    );
    assert!(done["metadata"]["annotations"][marks::ADDED].is_null());
}

#[test]
fn a_guaranteed_pod_stays_one() {
    let limits = json!({"cpu": "1", "memory": "1Gi"});
    let template =
        json!({"spec": {"containers": [{"name": "a", "resources": {"limits": limits}}]}});
    let done = injected(template);
    for at in [0, 1] {
        let resources = &done["spec"]["initContainers"][at]["resources"];
        assert_eq!(resources["limits"], resources["requests"]);
    }
}

#[test]
fn pods_that_stay_as_they_are_say_why() {
    let label = |value: &str| json!({"metadata": {"labels": {marks::INJECT: value}}});
    let annotation = |value: &str| json!({"metadata": {"annotations": {marks::INJECT: value}}});
    let off = NamespaceFacts::of("shop", &json!({marks::INJECT: "disabled"}));
    let out = merged(pod(), label("disabled"));
    assert_eq!(untouched(&out, &shop()), Untouched::OptedOut("the pod"));
    let out = merged(pod(), annotation("disabled"));
    assert_eq!(untouched(&out, &shop()), Untouched::OptedOut("the pod"));
    assert_eq!(
        untouched(&pod(), &off),
        Untouched::OptedOut("its namespace")
    );
    // The pod before its namespace.
    let wanted = merged(pod(), label("enabled"));
    assert!(matches!(
        ask(&wanted, Kind::Pod, Asked::Command, &off),
        Decision::Inject { .. }
    ));
    let host = json!({"spec": {"hostNetwork": true}});
    assert_eq!(
        untouched(&merged(pod(), host.clone()), &shop()),
        Untouched::HostNetwork
    );
    assert!(refused(&merged(wanted, host)).contains("leave out hostNetwork"));
    let windows = json!({"spec": {"os": {"name": "windows"}}});
    assert_eq!(
        untouched(&merged(pod(), windows), &shop()),
        Untouched::Windows
    );
    let version = "1.2.3".to_owned();
    assert_eq!(
        untouched(&injected(pod()), &shop()),
        Untouched::Injected { version }
    );
}

#[test]
fn what_cannot_work_is_refused() {
    let container =
        |more: Value| json!({"spec": {"containers": [merged(json!({"name": "web"}), more)]}});
    let conflict = json!({"metadata": {"labels": {marks::INJECT: "enabled"}, "annotations": {marks::INJECT: "disabled"}}});
    let init = |name: &str| json!({"spec": {"initContainers": [{"name": name}]}});
    let pods_user = json!({"spec": {"securityContext": {"runAsUser": PROXY_UID}}});
    for (more, said) in [
        (conflict, "say it once"),
        (
            json!({"metadata": {"labels": {marks::INJECT: "true"}}}),
            "use \"enabled\" or \"disabled\"",
        ),
        (
            container(json!({"name": "istio-proxy"})),
            "spec.containers[0].name: a sidecar of Istio",
        ),
        (init("linkerd-init"), "a sidecar of Linkerd"),
        (
            container(json!({"securityContext": {"runAsUser": 2102}})),
            "spec.containers[0].securityContext.runAsUser: runs as user 2102",
        ),
        (pods_user, "spec.securityContext.runAsUser"),
        (
            container(json!({"ports": [{"containerPort": 15001}]})),
            "spec.containers[0].ports[0].containerPort",
        ),
        (init(PROXY), "not all of a sidecar"),
        (
            json!({"spec": {"containers": "web"}}),
            "spec.containers: is text, must be a list",
        ),
        (
            json!({"spec": {"containers": []}}),
            "at least one container",
        ),
        (json!({"spec": []}), "spec: is a list"),
        (
            json!({"metadata": {"annotations": ["a"]}}),
            "metadata.annotations: is a list",
        ),
        (
            json!({"spec": {"containers": [{"image": "x"}]}}),
            "spec.containers[0].name: missing",
        ),
    ] {
        let text = refused(&merged(pod(), more.clone()));
        assert!(text.contains(said), "{more}: {text}");
    }
    assert!(refused(&json!("pod")).contains("is text, must be a map"));
    // All that is wrong is said at once.
    let both = merged(
        container(json!({"ports": [{"containerPort": 4191}]})),
        json!({"metadata": {"annotations": {marks::SKIP_INBOUND: "x"}}}),
    );
    assert_eq!(refused(&both).lines().count(), 2);
}

#[test]
fn what_is_harmless_is_not_refused() {
    for more in [
        json!({"spec": {"securityContext": {"runAsUser": PROXY_UID}, "containers": [{"name": "a", "securityContext": {"runAsUser": 1}}]}}),
        json!({"spec": {"containers": [{"name": "a", "ports": [{"containerPort": 15001, "protocol": "UDP"}]}]}}),
        json!({"metadata": {"annotations": {marks::INJECTED: "0.0.1"}}}),
        json!({"metadata": null, "spec": {"initContainers": null, "volumes": []}}),
    ] {
        injected(merged(pod(), more));
    }
}

#[test]
fn namespaces_that_forbid_the_container_are_told_of() {
    for level in ["baseline", "restricted"] {
        let facts = NamespaceFacts::of("shop", &json!({marks::POD_SECURITY: level}));
        let Decision::Refused(refusals) = ask(&pod(), Kind::Pod, Asked::Webhook, &facts) else {
            panic!("{level} was not refused");
        };
        let text = refusals[0].to_string();
        assert!(
            text.contains(level) && text.contains("have the node capture"),
            "{text}"
        );
    }
}

#[test]
fn a_job_ends_and_a_classic_sidecar_does_not() {
    let classic = merged(
        pod(),
        json!({"metadata": {"annotations": {marks::SIDECAR: "classic"}}}),
    );
    let of_job = merged(
        classic.clone(),
        json!({"metadata": {"ownerReferences": [{"kind": "Job"}]}}),
    );
    for (template, kind) in [(&classic, Kind::CronJob), (&of_job, Kind::Pod)] {
        assert!(matches!(
            ask(template, kind, Asked::Webhook, &shop()),
            Decision::Refused(_)
        ));
    }
    let once = merged(classic, json!({"spec": {"restartPolicy": "Never"}}));
    match ask(&once, Kind::Pod, Asked::Command, &shop()) {
        Decision::Inject { warnings, .. } => assert!(warnings[0].contains("will not complete")),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_second_mesh_is_refused_where_it_is_and_warned_of_where_it_is_asked_for() {
    // Its webhook came before ours, or after.
    for mesh in [pod(), injected(pod())] {
        for (list, name) in [
            ("containers", "linkerd-proxy"),
            ("initContainers", "istio-proxy"),
            ("containers", "kuma-sidecar"),
            ("containers", "consul-dataplane"),
        ] {
            let mut both = mesh.clone();
            let theirs = json!({ "name": name });
            match both["spec"][list].as_array_mut() {
                Some(items) => items.push(theirs),
                None => both["spec"][list] = json!([theirs]),
            }
            for asked in [Asked::Command, Asked::Webhook] {
                match ask(&both, Kind::Pod, asked, &shop()) {
                    Decision::Refused(refusals) => {
                        let text = refusals[0].to_string();
                        assert!(text.contains("two meshes") && text.contains(list), "{text}");
                        assert_eq!(refusals.len(), 1, "{refusals:?}");
                    }
                    other => panic!("{name}: {other:?}"),
                }
            }
        }
    }
    let wishes = json!({"metadata": {"labels": {"sidecar.istio.io/inject": "true"}, "annotations": {"linkerd.io/inject": "disabled"}}});
    match ask(&merged(pod(), wishes), Kind::Pod, Asked::Webhook, &shop()) {
        Decision::Inject { warnings, .. } => {
            assert_eq!(warnings.len(), 1, "{warnings:?}");
            assert!(warnings[0].starts_with("metadata.labels.sidecar.istio.io/inject: asks"));
        }
        other => panic!("{other:?}"),
    }
}

/// Everything of an application that Kubernetes acts on.
fn demanding() -> Value {
    json!({"metadata": {"labels": {"app": "web"}}, "spec": {
        "automountServiceAccountToken": false,
        "securityContext": {"runAsNonRoot": true, "runAsUser": 1000, "fsGroup": 2000},
        "restartPolicy": "Always",
        "containers": [{
            "name": "web", "image": "web:1",
            "ports": [{"name": "http", "containerPort": 8080}, {"name": "grpc", "containerPort": 9090}],
            "securityContext": {"readOnlyRootFilesystem": true, "allowPrivilegeEscalation": false},
            "startupProbe": {"exec": {"command": ["true"]}},
            "readinessProbe": {"httpGet": {"path": "/", "port": "http", "scheme": "HTTPS"}},
            "livenessProbe": {"tcpSocket": {"port": "http"}},
            "lifecycle": {"preStop": {"httpGet": {"path": "/stop", "port": "http"}}},
        }, {
            "name": "rpc", "image": "rpc:1", "livenessProbe": {"grpc": {"port": 9090}},
        }],
    }})
}

#[test]
fn nothing_of_the_application_changes_and_nothing_is_missing_from_what_is_added() {
    let before = demanding();
    let done = injected(before.clone());
    for key in [
        "automountServiceAccountToken",
        "securityContext",
        "restartPolicy",
        "containers",
    ] {
        assert_eq!(done["spec"][key], before["spec"][key], "{key}");
    }
    for container in done["spec"]["initContainers"].as_array().unwrap() {
        // A pod's runAsNonRoot and runAsUser are of its containers that say nothing: these say all of it.
        let security = &container["securityContext"];
        for key in [
            "runAsNonRoot",
            "runAsUser",
            "runAsGroup",
            "readOnlyRootFilesystem",
        ] {
            assert!(!security[key].is_null(), "{key}");
        }
        let root = security["runAsUser"] == 0;
        assert_eq!(security["runAsNonRoot"], !root);
        // What quotas and limit ranges count.
        for amounts in ["requests", "limits"] {
            for of in ["cpu", "memory"] {
                assert!(
                    container["resources"][amounts][of].is_string(),
                    "{amounts}.{of}"
                );
            }
        }
    }
    let proxy = &done["spec"]["initContainers"][1];
    let token = &done["spec"]["volumes"][1]["projected"]["sources"][0]["serviceAccountToken"];
    assert_eq!(
        token["audience"], "maille.io",
        "its own, whatever is mounted elsewhere"
    );
    let names: Vec<_> = proxy["ports"].as_array().unwrap().iter().collect();
    assert!(
        names
            .iter()
            .all(|port| port["name"] != "http" && port["name"] != "grpc")
    );
}

#[test]
fn a_sidecar_that_was_pushed_back_is_moved_or_refused() {
    let mut pushed = injected(pod());
    let items = pushed["spec"]["initContainers"].as_array_mut().unwrap();
    items.insert(0, json!({"name": "foreign"}));
    assert!(refused(&pushed).contains("no longer where the mesh put it"));
    assert_eq!(
        ask(&pushed, Kind::Pod, Asked::Webhook, &shop()),
        Decision::Reorder
    );
}

#[test]
fn where_nodes_have_agents_nothing_is_put_into_a_pod() {
    let with_agents = Settings {
        nodes: Nodes::Agents(Capture::Outboard),
        ..settings()
    };
    let ask = |template: &Value, namespace: &NamespaceFacts| {
        decide(template, Kind::Pod, Asked::Webhook, namespace, &with_agents)
    };
    let restricted = NamespaceFacts {
        security: PodSecurity::Restricted,
        ..shop()
    };
    let mut done = pod();
    match ask(&done, &restricted) {
        Decision::Inject { addition, warnings } => {
            addition.apply(&mut done);
            assert!(warnings.is_empty(), "{warnings:?}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(done["spec"], pod()["spec"]);
    assert_eq!(
        done["metadata"]["annotations"],
        json!({
            "maille.io/injected": "1.2.3",
            "maille.io/capture": "outboard",
            "maille.io/capture-by": "install",
            "required-plugins.noderesource.dev": "[\"maille\"]",
        })
    );
    // The webhook asks again when somebody else has changed the pod.
    assert!(matches!(ask(&done, &restricted), Decision::Inject { .. }));
    let annotated =
        |key: &str, value: &str| merged(pod(), json!({"metadata": {"annotations": {key: value}}}));
    let inside = annotated("maille.io/capture", "inboard");
    assert!(
        matches!(ask(&inside, &restricted), Decision::Refused(_)),
        "it needs NET_ADMIN"
    );
    match ask(&inside, &shop()) {
        Decision::Inject { addition, .. } => assert_eq!(addition.init_containers.len(), 2),
        other => panic!("{other:?}"),
    }
    let ports = annotated("maille.io/skip-inbound-ports", "22");
    assert!(matches!(ask(&ports, &shop()), Decision::Refused(_)));
    match ask(&annotated("maille.io/proxy-cpu-limit", "1"), &shop()) {
        Decision::Inject { warnings, .. } => {
            assert!(warnings[0].contains("no effect"), "{warnings:?}")
        }
        other => panic!("{other:?}"),
    }
    assert!(refused(&annotated("maille.io/capture", "outboard")).contains("agent on every node"));
    // What the runtime requires is the mesh's to say, or agrees with it.
    let key = "required-plugins.noderesource.dev";
    let more = "[\"maille\", \"other\"]";
    match ask(&annotated(key, more), &shop()) {
        Decision::Inject { addition, .. } => {
            let mut done = annotated(key, more);
            addition.apply(&mut done);
            assert_eq!(done["metadata"]["annotations"][key], more);
        }
        other => panic!("{other:?}"),
    }
    for (end, value) in [
        ("", "[\"other\"]"),
        ("/pod", "[]"),
        ("/container.app", "[]"),
        ("/container.app", "[maille]"),
    ] {
        let pod = annotated(&format!("{key}{end}"), value);
        match ask(&pod, &shop()) {
            Decision::Refused(refusals) => {
                let text = refusals[0].to_string();
                assert!(text.contains("leave it out"), "{text}");
            }
            other => panic!("{end} {value}: {other:?}"),
        }
    }
}

#[test]
fn what_nodes_are_told_by_is_there_in_the_end() {
    let with_agents = Settings {
        nodes: Nodes::Agents(Capture::Outboard),
        ..settings()
    };
    let restricted = NamespaceFacts {
        security: PodSecurity::Restricted,
        ..shop()
    };
    let mut done = pod();
    match decide(&done, Kind::Pod, Asked::Webhook, &restricted, &with_agents) {
        Decision::Inject { addition, .. } => addition.apply(&mut done),
        other => panic!("{other:?}"),
    }
    let afterwards = |template: &Value| {
        decide(
            template,
            Kind::Pod,
            Asked::Afterwards,
            &restricted,
            &with_agents,
        )
    };
    assert!(matches!(
        afterwards(&done),
        Decision::Untouched(Untouched::Injected { .. })
    ));
    // What tells the node and its runtime is not there any more, or says something else.
    for key in [
        "maille.io/injected",
        "maille.io/capture",
        "required-plugins.noderesource.dev",
    ] {
        let mut undone = done.clone();
        let annotations = undone["metadata"]["annotations"].as_object_mut().unwrap();
        annotations.shift_remove(key);
        let after = afterwards(&undone);
        assert!(matches!(after, Decision::Refused(_)), "{key}: {after:?}");
    }
    let mut other = done;
    other["metadata"]["annotations"]["maille.io/capture"] = json!("inboard");
    assert!(matches!(afterwards(&other), Decision::Refused(_)));
}
