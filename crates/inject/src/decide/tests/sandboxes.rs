// SPDX-License-Identifier: Apache-2.0
//! How pods with a kernel of their own are captured, on nodes with an agent and without: a table.
use super::*;

/// What came of it.
#[derive(Debug, PartialEq)]
enum Became {
    Outboard,
    /// A sidecar, with these rights for the container that captures.
    Inboard(Vec<String>),
    Refused(String),
}

const USUAL: [&str; 1] = ["NET_ADMIN"];
/// In gVisor.
const RAW: [&str; 2] = ["NET_ADMIN", "NET_RAW"];

fn inboard(rights: &[&str]) -> Became {
    Became::Inboard(rights.iter().map(|&right| right.to_owned()).collect())
}

const AGENTS: Nodes = Nodes::Agents(Capture::Outboard);

fn on(class: &str) -> Value {
    merged(pod(), json!({"spec": {"runtimeClassName": class}}))
}

fn annotated(template: Value, key: &str, value: &str) -> Value {
    merged(template, json!({"metadata": {"annotations": {key: value}}}))
}

fn ask_on(template: &Value, nodes: Nodes) -> Decision {
    let strict = ("strict".to_owned(), "kata-qemu-tdx".to_owned());
    let settings = Settings {
        nodes,
        handlers: [strict].into(),
        ..settings()
    };
    decide(template, Kind::Pod, Asked::Webhook, &shop(), &settings)
}

fn became(template: &Value, nodes: Nodes) -> Became {
    match ask_on(template, nodes) {
        Decision::Inject { addition, .. } => {
            let mut done = template.clone();
            addition.apply(&mut done);
            let rights = &done["spec"]["initContainers"][0]["securityContext"];
            match rights["capabilities"]["add"].as_array() {
                None => {
                    assert_eq!(
                        done["spec"], template["spec"],
                        "nothing is put into the pod"
                    );
                    assert_eq!(done["metadata"]["annotations"][marks::CAPTURE], "outboard");
                    Became::Outboard
                }
                Some(rights) => {
                    let rights = rights.iter().filter_map(Value::as_str);
                    Became::Inboard(rights.map(str::to_owned).collect())
                }
            }
        }
        Decision::Refused(refusals) => {
            let lines: Vec<_> = refusals.iter().map(ToString::to_string).collect();
            Became::Refused(lines.join("\n"))
        }
        other => panic!("{template}: {other:?}"),
    }
}

#[test]
fn the_choice_for_each_sandbox() {
    use Became::Outboard;
    let says = |class: &str, capture: &str| annotated(on(class), marks::CAPTURE, capture);
    let (bare, agents) = (Nodes::Bare, AGENTS);
    for (template, usual, expected) in [
        (pod(), agents, Outboard),
        (on("gvisor"), agents, Outboard),
        (on("kata-qemu"), agents, Outboard),
        (on("kata-fc"), agents, Outboard),
        (
            annotated(pod(), sandbox::UNTRUSTED, "true"),
            agents,
            Outboard,
        ),
        (
            annotated(pod(), sandbox::TRUSTED, "false"),
            agents,
            Outboard,
        ),
        (says("gvisor", "outboard"), agents, Outboard),
        (says("kata-qemu", "outboard"), agents, Outboard),
        (
            annotated(on("kata-fc"), sandbox::WIRED[0].0, "tcfilter"),
            agents,
            Outboard,
        ),
        (
            annotated(on("kata-fc"), sandbox::WIRED[1].0, "false"),
            agents,
            Outboard,
        ),
        // A machine has a packet filter of its own, if it has one.
        (says("kata-qemu", "inboard"), agents, inboard(&USUAL)),
        // Its node has no business with what is inside, whether its class says so or its handler.
        (on("kata-cc"), agents, inboard(&USUAL)),
        (on("kata-qemu-snp"), agents, inboard(&USUAL)),
        (on("kata-remote"), agents, inboard(&USUAL)),
        (on("strict"), agents, inboard(&USUAL)),
        (says("kata-qemu-tdx", "inboard"), agents, inboard(&USUAL)),
        // It may, where its owner knows its node.
        (says("gvisor", "inboard"), agents, inboard(&RAW)),
        (says("gvisor", "inboard"), bare, inboard(&RAW)),
        // Without agents there is one way.
        (on("kata-qemu"), bare, inboard(&USUAL)),
        (on("kata-cc"), bare, inboard(&USUAL)),
    ] {
        assert_eq!(became(&template, usual), expected, "{template} {usual:?}");
    }
}

#[test]
fn what_a_sandbox_cannot_have_is_refused_with_what_to_change() {
    let says = |class: &str, capture: &str| annotated(on(class), marks::CAPTURE, capture);
    let with = |field: &str| merged(on("kata-qemu"), json!({"spec": {field: true}}));
    let untrusted = |template| annotated(template, sandbox::UNTRUSTED, "true");
    for (template, said) in [
        (
            says("kata-cc", "outboard"),
            "a proxy of the node would read it",
        ),
        (says("kata-remote", "outboard"), "the pod gets a sidecar"),
        (says("strict", "outboard"), "RuntimeClass \"strict\" keeps"),
        (
            with("hostNetwork"),
            "spec.hostNetwork: RuntimeClass \"kata-qemu\"",
        ),
        (with("hostPID"), "spec.hostPID: RuntimeClass \"kata-qemu\""),
        (with("hostIPC"), "leave this out, or the sandbox"),
        (
            merged(untrusted(pod()), json!({"spec": {"hostPID": true}})),
            "spec.hostPID: io.kubernetes.cri.untrusted-workload",
        ),
        (
            untrusted(on("gvisor")),
            "metadata.annotations.io.kubernetes.cri.untrusted-workload: containerd refuses",
        ),
        // Past the pod's network, whatever its class is called.
        (
            annotated(on("vm"), sandbox::WIRED[0].0, "none"),
            "internetworking_model: is \"none\", by which Kata may connect",
        ),
        (
            annotated(on("kata-fc"), sandbox::WIRED[1].0, "T"),
            "disable_new_netns: is \"T\"",
        ),
        // Whatever its class is.
        (untrusted(on("nvidia")), "leave this out, the class says"),
    ] {
        match became(&template, AGENTS) {
            Became::Refused(text) => assert!(text.contains(said), "{template}: {text}"),
            other => panic!("{template}: {other:?}"),
        }
    }
    // Without an agent nobody captures gVisor.
    match became(&on("runsc-debug"), Nodes::Bare) {
        Became::Refused(text) => assert!(text.contains("maille install --cni"), "{text}"),
        other => panic!("{other:?}"),
    }
    // Nobody asked for these.
    let mine = merged(
        with("hostNetwork"),
        json!({"metadata": {"labels": {marks::INJECT: "disabled"}}}),
    );
    assert!(matches!(
        ask_on(&mine, AGENTS),
        Decision::Untouched(Untouched::OptedOut(_))
    ));
    // And a pod of the node's own kernel may share with it.
    let shared = merged(pod(), json!({"spec": {"hostPID": true, "hostIPC": true}}));
    assert_eq!(became(&shared, AGENTS), Became::Outboard);
}

#[test]
fn a_sidecar_in_gvisor_is_chosen_by_its_pod_alone() {
    let namespace = NamespaceFacts {
        capture: Some(Ok(Capture::Inboard)),
        ..shop()
    };
    for (usual, captured) in [
        (AGENTS, true),
        (Nodes::Agents(Capture::Inboard), true),
        (Nodes::Bare, false),
    ] {
        let settings = Settings {
            nodes: usual,
            ..settings()
        };
        let mut template = on("gvisor");
        match decide(&template, Kind::Pod, Asked::Webhook, &namespace, &settings) {
            Decision::Inject { addition, .. } if captured => addition.apply(&mut template),
            Decision::Refused(refusals) if !captured => {
                let said = refusals[0].to_string();
                assert!(said.contains("if the nodes run it with net-raw"), "{said}");
                continue;
            }
            other => panic!("{usual:?}: {other:?}"),
        }
        let annotations = &template["metadata"]["annotations"];
        assert_eq!(annotations[marks::CAPTURE], "outboard", "{usual:?}");
        assert_eq!(annotations[marks::CAPTURE_BY], "sandbox", "{usual:?}");
    }
}

#[test]
fn a_confidential_pod_in_a_strict_namespace_is_not_sent_to_its_node() {
    let restricted = NamespaceFacts {
        security: PodSecurity::Restricted,
        ..shop()
    };
    let settings = Settings {
        nodes: AGENTS,
        ..settings()
    };
    let asked = decide(
        &on("kata-cc"),
        Kind::Pod,
        Asked::Webhook,
        &restricted,
        &settings,
    );
    let Decision::Refused(refusals) = asked else {
        panic!("{asked:?}");
    };
    let text = refusals[0].to_string();
    assert!(text.ends_with("allow \"privileged\" there"), "{text}");
}

#[test]
fn warnings_name_the_container_and_fit_where_clients_show_them() {
    let privileged = json!({"spec": {"containers": [{"name": "web"},
        {"name": "driver", "securityContext": {"privileged": true}}]}});
    let in_gvisor = annotated(on("gvisor"), marks::CAPTURE, "inboard");
    let Decision::Inject { warnings, .. } = ask_on(&in_gvisor, AGENTS) else {
        panic!("not admitted");
    };
    assert!(warnings[0].contains("net-raw") && warnings[0].len() <= 256);
    for (class, usual, said) in [
        ("kata-qemu", AGENTS, "Kata plugs each into its VM"),
        ("kata-qemu", Nodes::Bare, "Kata plugs each into its VM"),
        ("gvisor", AGENTS, "gVisor has few of them"),
    ] {
        let template = merged(on(class), privileged.clone());
        let Decision::Inject { warnings, .. } = ask_on(&template, usual) else {
            panic!("{class}: not admitted");
        };
        let [warning] = &warnings[..] else {
            panic!("{warnings:?}");
        };
        assert!(
            warning.starts_with("spec.containers[1]: \"driver\""),
            "{warning}"
        );
        assert!(warning.contains(said), "{warning}");
        assert!(warning.len() <= 256, "{}: {warning}", warning.len());
    }
}

#[test]
fn rules_that_a_node_writes_do_not_reach_another_kernel() {
    let agents = Nodes::Agents(Capture::InboardCni);
    for (class, capture) in [
        ("gvisor", "outboard"),
        ("kata-qemu", "outboard"),
        ("kata-cc", "inboard"),
    ] {
        let mut template = on(class);
        match ask_on(&template, agents) {
            Decision::Inject { addition, .. } => addition.apply(&mut template),
            other => panic!("{class}: {other:?}"),
        }
        let annotations = &template["metadata"]["annotations"];
        assert_eq!(annotations[marks::CAPTURE], capture, "{class}");
        assert_eq!(annotations[marks::CAPTURE_BY], "sandbox", "{class}");
        let said = annotated(on(class), marks::CAPTURE, "inboard-cni");
        match became(&said, agents) {
            Became::Refused(text) => assert!(text.contains("a kernel of its own"), "{text}"),
            other => panic!("{class}: {other:?}"),
        }
    }
}
