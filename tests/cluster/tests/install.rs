// SPDX-License-Identifier: Apache-2.0
//! What `maille install`, `inject`, `uninject`, `check` and `uninstall` print, before a real API server. No image of the mesh is needed:
//! control never starts here, so that what must fail closed can be seen to.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;
use std::process::{Output, Stdio};

use maille_cluster::Cluster;
use maille_cluster::parts::Parts;

/// Workloads of every kind.
const KINDS: &str = include_str!("kinds.yaml");

const MEANT: &str = "\
apiVersion: v1
kind: Pod
metadata: {name: meant, namespace: default, labels: {maille.io/inject: enabled}}
spec: {containers: [{name: a, image: \"maille.test/none:1\"}]}
";

/// A cluster that ends with the test, however it ends.
struct Up(Cluster);

impl Drop for Up {
    fn drop(&mut self) {
        if let Err(error) = self.0.down() {
            eprintln!("{error:#}");
        }
    }
}

impl Up {
    fn new(dir: &Path) -> Self {
        let program = Path::new(env!("CARGO_BIN_EXE_maille-cluster"));
        let up = Self(Cluster::at(dir, program, Parts::ready().unwrap()).unwrap());
        up.0.up(1).unwrap();
        up
    }

    /// `maille ARGS`, in the control plane's network, as the cluster's administrator.
    fn maille(&self, args: &[&str], input: &str) -> Output {
        let program = Path::new(env!("CARGO_BIN_EXE_maille-cluster")).with_file_name("maille");
        let mut command = self.0.control_plane().on_network(&program).unwrap();
        command
            .args(args)
            .env("KUBECONFIG", self.0.pki().join("admin.conf"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // What it prints before it has read all would fill a pipe: it reads all first.
        stdin.write_all(input.as_bytes()).unwrap();
        drop(stdin);
        child.wait_with_output().unwrap()
    }

    /// What it prints, where it must succeed.
    fn prints(&self, args: &[&str], input: &str) -> String {
        let output = self.maille(args, input);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// `kubectl ARGS` with this on its standard input.
    fn kubectl(&self, args: &[&str], input: &str) -> Output {
        let mut command = self.0.kubectl_command().unwrap();
        command
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).unwrap();
        drop(stdin);
        child.wait_with_output().unwrap()
    }

    /// Every object of the kinds that an installation has.
    fn inventory(&self) -> BTreeSet<String> {
        let kinds = "namespaces,clusterroles,clusterrolebindings,roles,rolebindings,configmaps,services,deployments,secrets,leases,\
            serviceaccounts,networkpolicies,poddisruptionbudgets,apiservices,mutatingwebhookconfigurations,\
            validatingwebhookconfigurations";
        let all = self.0.kubectl(&[
            "get",
            kinds,
            "-A",
            "-o",
            "name",
            "--show-managed-fields=false",
        ]);
        let all = all.unwrap();
        // A node's lease and a namespace's own objects come and go by themselves.
        let own = |line: &&str| !line.contains("kube-root-ca.crt") && !line.contains("lease");
        all.lines().filter(own).map(str::to_owned).collect()
    }
}

fn said(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!(
        "{}{}",
        String::from_utf8_lossy(out),
        String::from_utf8_lossy(err)
    )
}

#[test]
fn a_mesh_is_installed_twice_and_uninstalled_without_a_trace_and_manifests_go_in_and_out() {
    // Layers of images need a real file system: target/ has one.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let dir = tempfile::Builder::new()
        .prefix("i")
        .tempdir_in(target)
        .unwrap();
    let up = Up::new(&dir.path().join("maille-of-test"));
    let before = up.inventory();
    assert!(said(&up.maille(&["check", "--pre"], "")).contains("results are √"));
    installs(&up);
    fails_closed(&up);
    goes_in_and_out(&up);
    checks(&up);
    uninstalls(&up, &before);
}

fn installs(up: &Up) {
    let printed = up.prints(&["install"], "");
    assert_eq!(printed, up.prints(&["install"], ""));
    up.0.apply(&printed).unwrap();
    let again = up.0.apply(&printed).unwrap();
    assert!(
        again.lines().all(|line| line.ends_with(" unchanged")),
        "{again}"
    );
    // What was chosen is found again.
    assert_eq!(up.prints(&["upgrade"], ""), printed);
    assert_eq!(up.prints(&["uninstall", "--prune"], ""), "");
    let more = up.prints(&["upgrade", "--ha"], "");
    assert_eq!(more, up.prints(&["install", "--ha"], ""));
    let tried = up.kubectl(&["apply", "--dry-run=server", "-f", "-"], &more);
    assert!(tried.status.success(), "{}", said(&tried));
    // The namespace takes restricted pods only, and has taken control's.
    let made = [
        "wait",
        "-n",
        "maille-system",
        "--for",
        "jsonpath={.status.replicas}=1",
        "deployment/maille-control",
        "--timeout=60s",
    ];
    up.0.kubectl(&made).unwrap();
    let pods =
        up.0.kubectl(&["get", "pods", "-n", "maille-system", "-o", "name"])
            .unwrap();
    assert!(pods.contains("pod/maille-control"), "{pods}");
}

/// A pod that is meant for the mesh is not made while nobody can give it a sidecar; every other is.
fn fails_closed(up: &Up) {
    let refused = up.kubectl(&["apply", "-f", "-"], MEANT);
    assert!(
        said(&refused).contains("pod.inject.maille.io"),
        "{}",
        said(&refused)
    );
    let other = MEANT.replace("enabled", "disabled");
    let taken = up.kubectl(&["apply", "--dry-run=server", "-f", "-"], &other);
    assert!(taken.status.success(), "{}", said(&taken));
    // Where the cluster itself runs nothing waits for the mesh.
    let system = MEANT.replace("namespace: default", "namespace: kube-system");
    let taken = up.kubectl(&["apply", "--dry-run=server", "-f", "-"], &system);
    assert!(taken.status.success(), "{}", said(&taken));
}

fn goes_in_and_out(up: &Up) {
    up.0.apply(KINDS).unwrap();
    let injected = up.prints(&["inject", "-"], KINDS);
    assert_eq!(up.prints(&["inject", "-"], &injected), injected);
    up.0.apply(&injected).unwrap();
    let sidecar = [
        "get",
        "deployment/web",
        "-n",
        "kinds",
        "-o",
        "jsonpath={.spec.template.spec.initContainers[*].name}",
    ];
    assert_eq!(up.0.kubectl(&sidecar).unwrap(), "maille-init maille-proxy");
    // As the API server has them, with every default.
    let kinds = "deployments,statefulsets,daemonsets,replicasets,replicationcontrollers,cronjobs,podtemplates";
    let live =
        up.0.kubectl(&["get", kinds, "-n", "kinds", "-o", "yaml"])
            .unwrap();
    assert_eq!(up.prints(&["inject", "-"], &live), live);
    // Out again: byte for byte, and without a difference for the API server.
    let bare = up.prints(&["uninject", "-"], &injected);
    assert_eq!(bare, KINDS);
    up.0.apply(&bare).unwrap();
    let difference = up.kubectl(&["diff", "-f", "-"], KINDS);
    assert!(difference.status.success(), "{}", said(&difference));
    // The article's own experiment.
    let dns =
        up.0.kubectl(&[
            "get",
            "deploy",
            "coredns",
            "-n",
            "kube-system",
            "-o",
            "yaml",
        ])
        .unwrap();
    let meshed = up.prints(&["inject", "-"], &dns);
    let taken = up.kubectl(&["apply", "--dry-run=server", "-f", "-"], &meshed);
    assert!(taken.status.success(), "{}", said(&taken));
    assert_eq!(up.prints(&["uninject", "-"], &meshed), dns);
}

fn checks(up: &Up) {
    let checked = up.maille(&["check"], "");
    assert_eq!(checked.status.code(), Some(1));
    let text = said(&checked);
    for line in [
        "√ the API server answers",
        "× control is ready",
        "has no certificate authority yet",
    ] {
        assert!(text.contains(line), "{text}");
    }
    let asked = up.maille(&["stat"], "");
    assert_eq!(asked.status.code(), Some(3), "{}", said(&asked));
}

fn uninstalls(up: &Up, before: &BTreeSet<String>) {
    let marked = "apiVersion: v1\nkind: Pod\nmetadata: {name: meshed, annotations: {maille.io/injected: \"1\"}}\nspec: {containers: [{name: a, image: \"maille.test/none:1\"}]}\n";
    up.0.apply(marked).unwrap();
    let refused = up.maille(&["uninstall"], "");
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        said(&refused).contains("default/meshed"),
        "{}",
        said(&refused)
    );
    up.0.kubectl(&["delete", "pod", "meshed", "--force"])
        .unwrap();
    let removal = up.prints(&["uninstall"], "");
    let deleted = up.kubectl(
        &["delete", "--ignore-not-found", "--timeout=120s", "-f", "-"],
        &removal,
    );
    assert!(deleted.status.success(), "{}", said(&deleted));
    // The namespace of the test's own objects was never the mesh's.
    up.0.kubectl(&["delete", "namespace", "kinds", "--timeout=120s"])
        .unwrap();
    assert_eq!(&up.inventory(), before);
}
