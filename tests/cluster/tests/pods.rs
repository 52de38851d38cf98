// SPDX-License-Identifier: Apache-2.0
//! What a pod keeps when it gets a sidecar: probes of every kind see the application and nothing else, and a namespace that limits and
//! counts, a user that is not root and a root that cannot be written to are no obstacle. The same pod outside the mesh stands beside it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use anyhow::{bail, ensure};
use maille_cluster::meshed::{Meshed, text};
use serde_json::{Value, json};

const MANIFESTS: &str = include_str!("pods.yaml");
/// Containers, each probed in the way that it is called by.
const KINDS: [&str; 5] = ["http", "https", "tcp", "grpc", "exec"];
/// The pods, and whether they want a sidecar.
const PODS: [(&str, &str); 2] = [("meshed", "enabled"), ("plain", "disabled")];

/// What is wrong with a pod in all other respects good: its namespace, where, with which value, and what is said of it.
const BAD: [(&str, &str, &str, &str); 9] = [
    (
        "default",
        "/metadata/annotations/maille.io~1sidecar",
        r#""wierd""#,
        r#""wierd" is not"#,
    ),
    (
        "default",
        "/metadata/annotations/maille.io~1sidecra",
        r#""native""#,
        "did you mean maille.io/sidecar?",
    ),
    (
        "default",
        "/metadata/annotations/maille.io~1skip-inbound-ports",
        r#""70000""#,
        "metadata.annotations.maille.io/skip-inbound-ports: ",
    ),
    (
        "default",
        "/metadata/annotations/maille.io~1inject",
        r#""disabled""#,
        r#"the label says "enabled" and the annotation "disabled""#,
    ),
    (
        "default",
        "/spec/containers/0/name",
        r#""istio-proxy""#,
        "two meshes cannot both have a pod's connections",
    ),
    (
        "default",
        "/spec/securityContext/runAsUser",
        "2102",
        "runs as user 2102",
    ),
    (
        "default",
        "/spec/containers/0/ports/0/containerPort",
        "15008",
        "port 15008 is the proxy's",
    ),
    (
        "default",
        "/spec/hostNetwork",
        "true",
        "the pod uses its node's network",
    ),
    (
        "restricted",
        "/metadata/labels/app",
        r#""strict""#,
        r#"enforces the Pod Security Standard "restricted""#,
    ),
];

/// Containers of pod `name` that are ready, of those that are probed.
fn ready(up: &Meshed, name: &str) -> anyhow::Result<Vec<&'static str>> {
    let pods = up.pods("strict", &format!("probed={name}"))?;
    let [pod] = &pods[..] else {
        bail!("{} pods {name}", pods.len());
    };
    let all = pod["status"]["containerStatuses"].as_array();
    let all = all.cloned().unwrap_or_default();
    let is_ready = |kind: &&str| {
        let is_it = |status: &&Value| status["name"] == **kind;
        all.iter()
            .find(is_it)
            .is_some_and(|status| status["ready"] == true)
    };
    Ok(KINDS.into_iter().filter(is_ready).collect())
}

/// Waits until exactly these containers of both pods are ready.
fn are_ready(up: &Meshed, wanted: &[&str]) {
    for (name, _) in PODS {
        up.until("probes", || {
            let ready = ready(up, name)?;
            ensure!(ready == wanted, "{name}: {ready:?}, not {wanted:?}");
            Ok(())
        })
        .unwrap();
    }
}

#[test]
fn a_sidecar_leaves_probes_limits_quotas_and_rights_as_they_are() {
    let program = Path::new(env!("CARGO_BIN_EXE_maille-cluster"));
    let up = Meshed::start(program, Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap();
    up.install().unwrap();
    let asked = up.program("maille-asked").unwrap();
    up.load_program("maille.test/asked:1", &asked).unwrap();
    for (name, wish) in PODS {
        let manifests = MANIFESTS.replace("NAME", name).replace("WISH", wish);
        up.cluster().apply(&manifests).unwrap();
    }
    are_ready(&up, &KINDS);
    is_strict_and_meshed(&up);
    refused_where_limits_forbid_it(&up);
    refused_with_a_reason(&up);
    // One after the other is not well any more: its probe says so, and no other.
    for (index, kind) in KINDS.iter().enumerate() {
        for (name, _) in PODS {
            // Whoever names no container means the application's first.
            let remove = format!("-n strict exec {name} -- /bin/busybox rm /state/{kind}");
            up.kubectl(&remove).unwrap();
        }
        are_ready(&up, &KINDS[index + 1..]);
    }
    for kind in KINDS {
        for (name, _) in PODS {
            let make = format!("-n strict exec {name} -- /bin/busybox touch /state/{kind}");
            up.kubectl(&make).unwrap();
        }
    }
    // What listened for TCP has gone for good.
    are_ready(&up, &["http", "https", "grpc", "exec"]);
    for (name, _) in PODS {
        let ended = "--for condition=Complete --timeout 60s";
        up.kubectl(&format!("-n strict wait job/job-{name} {ended}"))
            .unwrap();
    }
}

/// The sidecar is there, counted, and has not loosened anything.
fn is_strict_and_meshed(up: &Meshed) {
    let pod = up.pods("strict", "probed=meshed").unwrap().remove(0);
    let names = |kind: &str| -> Vec<String> {
        let all = pod["spec"][kind].as_array().unwrap();
        all.iter()
            .map(|one| text(one, "/name").to_owned())
            .collect()
    };
    assert_eq!(
        names("initContainers"),
        ["maille-init", "maille-proxy", "prepare"]
    );
    assert_eq!(names("containers"), KINDS);
    assert_eq!(pod["spec"]["securityContext"]["runAsNonRoot"], true);
    for container in pod["spec"]["containers"].as_array().unwrap() {
        assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
        for mount in container["volumeMounts"].as_array().unwrap() {
            assert_eq!(mount["name"], "state", "{container:#}");
        }
    }
    let quota = up.kubectl("-n strict get resourcequota quota -o json");
    let quota: Value = serde_json::from_str(&quota.unwrap()).unwrap();
    eprintln!("counted: {}", quota["status"]["used"]);
    // Ten containers of 32 MiB, and a sidecar of 96 MiB; what jobs had is given back.
    let used = text(&quota, "/status/used/limits.memory");
    assert!(!used.is_empty() && used != "320Mi", "{quota:#}");
}

/// A sidecar as large as usual is too large here: the API server says so, and of whom.
fn refused_where_limits_forbid_it(up: &Meshed) {
    let (_, pod) = MANIFESTS.split_once("hard:").unwrap();
    let pod = pod.split("\n---\n").nth(1).unwrap();
    let pod = pod.replace("NAME", "large").replace("WISH", "enabled");
    let usual = pod.replace("  annotations: {maille.io/proxy-memory-limit: 96Mi}\n", "");
    assert_ne!(pod, usual);
    let refused = format!("{:#}", up.cluster().apply(&usual).unwrap_err());
    assert!(
        refused.contains("maximum memory usage per Container is 128Mi"),
        "{refused}"
    );
}

/// What makes no sense, or could not be kept, is refused by the API server in the webhook's words.
fn refused_with_a_reason(up: &Meshed) {
    let security = "pod-security.kubernetes.io/enforce=restricted";
    up.kubectl("create namespace restricted").unwrap();
    up.kubectl(&format!("label namespace restricted {security}"))
        .unwrap();
    for (namespace, pointer, value, reason) in BAD {
        let mut pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "bad", "namespace": namespace, "labels": {"maille.io/inject": "enabled"}, "annotations": {}},
            "spec": {"securityContext": {}, "containers": [
                {"name": "app", "image": "maille.test/asked:1", "ports": [{"containerPort": 8080}]},
            ]},
        });
        let (above, key) = pointer.rsplit_once('/').unwrap();
        let value: Value = serde_json::from_str(value).unwrap();
        pod.pointer_mut(above).unwrap()[key.replace("~1", "/")] = value;
        // Control may hear of a new namespace a moment after us.
        up.until(reason, || {
            let mut create = up.cluster().kubectl_command()?;
            create.args(["create", "--dry-run=server", "-f", "-"]);
            let Err(refused) = up.output_of(&mut create, &pod.to_string()) else {
                bail!("{pointer}: it is taken");
            };
            let refused = format!("{refused:#}");
            ensure!(
                refused.contains("inject.maille.io") && refused.contains(reason),
                "{pointer}: {refused}"
            );
            Ok(())
        })
        .unwrap();
    }
}
