// SPDX-License-Identifier: Apache-2.0
//! What admission wrote on a pod stays, whoever may change pods: the API server refuses every way to change it, also while control is
//! away. Without that, a pod leaves the mesh when its sandbox is made anew.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::ensure;
use maille_cluster::agents::{self, Begin};
use maille_cluster::meshed::{Meshed, is_ready, text};
use maille_cluster::processes::Process;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

/// What is refused says so.
const SAID: &str = "are those of its admission";
/// What holds it.
const POLICY: &str = "validatingadmissionpolicybinding/maille-kept";

/// Each way to change what admission wrote on `pod`.
const CHANGES: [&str; 6] = [
    "annotate pod pod maille.io/capture=none --overwrite",
    "annotate pod pod maille.io/capture-",
    "annotate pod pod maille.io/injected-",
    "annotate pod pod required-plugins.noderesource.dev=[] --overwrite",
    "annotate pod pod required-plugins.noderesource.dev/container.app=[]",
    r#"patch pod pod --subresource status --type merge -p {"metadata":{"annotations":{"maille.io/capture":"none"}}}"#,
];

fn refused(up: &Meshed, line: &str) {
    let error = up.kubectl(&format!("-n default {line}")).unwrap_err();
    assert!(format!("{error:#}").contains(SAID), "{line}: {error:#}");
}

/// Binds a pod that no scheduler takes, by a binding with these annotations.
fn bind(up: &Meshed, annotations: &Value) -> anyhow::Result<String> {
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "unbound", "annotations": annotations},
        "target": {"apiVersion": "v1", "kind": "Node", "name": "node1"}});
    let mut create: Command = up.cluster().kubectl_command()?;
    create.args([
        "create",
        "--raw",
        "/api/v1/namespaces/default/pods/unbound/binding",
        "-f",
        "-",
    ]);
    create.stdin(Stdio::piped());
    up.output_of(&mut create, &binding.to_string())
}

/// Ends the sandbox of `pod`, and waits until it runs again in another one.
fn anew(up: &Meshed) {
    let the = || -> anyhow::Result<Value> {
        let pods = up.pods("default", "app=pod")?;
        ensure!(pods.len() == 1, "{pods:#?}");
        Ok(pods[0].clone())
    };
    let before = the().unwrap();
    let restarts = |pod: &Value| pod["status"]["containerStatuses"][0]["restartCount"].as_u64();
    let sandbox = Process::of_pod(text(&before, "/metadata/uid"), "/pause").unwrap();
    sandbox.signal(Signal::SIGKILL).unwrap();
    up.until("another sandbox", || {
        let pod = the()?;
        ensure!(
            restarts(&pod) > restarts(&before) && is_ready(&pod),
            "{pod:#}"
        );
        Ok(())
    })
    .unwrap();
}

fn is_captured(up: &Meshed) -> bool {
    let captured = agents::captured(&up.cluster().node(1)).unwrap();
    captured.iter().any(|one| one == "default/pod")
}

#[test]
fn what_admission_wrote_stays_and_without_that_a_pod_leaves_the_mesh() {
    let program = Path::new(env!("CARGO_BIN_EXE_maille-cluster"));
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let up = agents::start(program, scratch, Begin::With).unwrap();
    up.until("a namespace with its account", || {
        let pod = agents::pod("pod", "default", "node1", &["serve", "0"]);
        up.cluster().apply(&pod.to_string())
    })
    .unwrap();
    let mut unbound = agents::pod("unbound", "default", "node1", &["serve", "0"]);
    unbound["spec"]["nodeName"] = Value::Null;
    unbound["spec"]["schedulerName"] = json!("nobody");
    up.cluster().apply(&unbound.to_string()).unwrap();
    up.settled("default", "app=pod", 1).unwrap();
    assert!(is_captured(&up));
    CHANGES.iter().for_each(|line| refused(&up, line));
    let error = bind(&up, &json!({"maille.io/capture": "none"})).unwrap_err();
    assert!(format!("{error:#}").contains(SAID), "{error:#}");

    // Whatever else is written is nobody's business.
    up.kubectl("-n default annotate pod pod other=one").unwrap();
    up.kubectl("-n default label pod pod other=one").unwrap();
    bind(&up, &json!({"other": "one"})).unwrap();
    up.settled("default", "app=unbound", 1).unwrap();
    anew(&up);
    assert!(is_captured(&up), "another sandbox, captured as the first");

    // Nobody needs control for it.
    up.kubectl("-n maille-system scale deployment/maille-control --replicas 0")
        .unwrap();
    up.until("control's end", || {
        ensure!(
            up.pods("maille-system", "app.kubernetes.io/component=control")?
                .is_empty()
        );
        Ok(())
    })
    .unwrap();
    CHANGES.iter().for_each(|line| refused(&up, line));
    up.kubectl("-n maille-system scale deployment/maille-control --replicas 1")
        .unwrap();
    up.control_is_there().unwrap();

    // The opposite.
    up.kubectl(&format!("delete {POLICY}")).unwrap();
    up.until("no policy", || {
        up.kubectl(&format!("-n default {}", CHANGES[0]))
    })
    .unwrap();
    anew(&up);
    assert!(
        !is_captured(&up),
        "it has left the mesh: the policy is what keeps it"
    );
}
