// SPDX-License-Identifier: Apache-2.0
//! The Helm chart by the real Helm: what it renders is what `maille install` prints for the same choices, and it installs a mesh that
//! is well, changes with its values, and leaves.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::ensure;
use maille_cluster::meshed::Meshed;
use maille_cluster::modules::Module;
use maille_manifest::yaml;
use serde_json::Value;

/// Licensed under Apache-2.0.
static HELM: Module = Module {
    path: "helm.sh/helm/v3",
    version: "v3.22.0",
    sum: "h1:n1if5iQgHYsujPAcO5oonH/KiSNUmqmUF0iGVjSF3AU=",
};

/// Choices as options of `maille install` and as values of the chart.
const CHOICES: [(&str, &[&str]); 7] = [
    ("install", &[]),
    ("install --ha", &["ha=true"]),
    ("install --cni", &["cni=true"]),
    ("install --ha --cni", &["ha=true", "cni=true"]),
    ("install --cni --no-chain", &["cni=true", "chain=false"]),
    (
        "install --cni --no-chain --capture inboard",
        &["cni=true", "chain=false", "capture=inboard"],
    ),
    (
        "install --image-prefix registry.example.com/m --trust-domain example.com",
        &[
            "imagePrefix=registry.example.com/m",
            "trustDomain=example.com",
        ],
    ),
];

/// Renders the chart, the namespace as well.
const TEMPLATE: &str =
    "template maille --namespace maille-system --kube-version 1.29.0 --set createNamespace=true";

/// Values that `maille install` would refuse, and what Helm must name.
const WRONG: [(&str, [&str; 2]); 7] = [
    ("--set-string", ["chain=false", "chain"]),
    ("--set", ["cni=true,capture=inbord", "capture"]),
    ("--set", ["capture=outboard", "capture"]),
    ("--set", ["chain=false", "chain"]),
    ("--set", ["high=true", "high"]),
    ("--set", ["imagePrefix=Registry/m", "imagePrefix"]),
    ("--set", ["trustDomain=a/b", "trustDomain"]),
];

fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/chart/maille")
}

/// `helm` where the API server is, as its administrator.
fn helm(up: &Meshed, line: &str) -> Command {
    let mut helm = up
        .cluster()
        .control_plane()
        .on_network(up.path("helm"))
        .unwrap();
    helm.args(line.split(' '));
    helm.env("KUBECONFIG", up.cluster().pki().join("admin.conf"));
    for home in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
        helm.env(home, up.path(home));
    }
    helm
}

/// With the chart and these values.
fn with_chart(up: &Meshed, line: &str, values: &[&str]) -> anyhow::Result<String> {
    let mut helm = helm(up, line);
    helm.arg(chart());
    for value in values {
        helm.args(["--set", value]);
    }
    up.output_of(&mut helm, "")
}

/// The objects of a text, in an order of their own.
fn objects(text: &str) -> Vec<String> {
    let nodes = yaml::documents(text).unwrap();
    let objects = nodes.iter().map(yaml::Node::to_json);
    let mut objects: Vec<String> = objects
        .filter(|object| !object.is_null())
        .map(|object| object.to_string())
        .collect();
    objects.sort();
    objects
}

/// The API server would change nothing if this were applied; the namespace is not Helm's to make.
fn is_in_force(up: &Meshed, line: &str) -> anyhow::Result<()> {
    let printed = up.maille(line)?;
    let (namespace, others) = printed[4..].split_once("\n---\n").unwrap();
    assert!(namespace.contains("kind: Namespace"));
    let mut diff = up.cluster().kubectl_command()?;
    diff.args(["diff", "-f", "-"]);
    let said = up.output_of(&mut diff, others)?;
    ensure!(said.is_empty(), "{said}");
    Ok(())
}

#[test]
fn helm_installs_what_install_prints() {
    let program = Path::new(env!("CARGO_BIN_EXE_maille-cluster"));
    let up = Meshed::start(program, Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap();
    HELM.build("./cmd/helm", &up.path("helm")).unwrap();
    let namespace = "--namespace maille-system";
    for (line, values) in CHOICES {
        let printed = up.maille(line).unwrap();
        let rendered = with_chart(&up, TEMPLATE, values).unwrap();
        assert_eq!(objects(&rendered), objects(&printed), "{line}");
    }
    for (option, [values, named]) in WRONG {
        let mut wrong = helm(&up, TEMPLATE);
        wrong.arg(chart()).args([option, values]);
        let refused = up.output_of(&mut wrong, "").unwrap_err().to_string();
        let because = refused.split_once("the schema").unwrap().1;
        assert!(because.contains(named), "{values}: {refused}");
    }
    up.output_of(&mut helm(&up, &format!("lint {}", chart().display())), "")
        .unwrap();

    let install = format!("install maille {namespace} --create-namespace --wait --timeout 120s");
    with_chart(&up, &install, &[]).unwrap();
    is_in_force(&up, "install").unwrap();
    let checked = up.until("a mesh that is well", || {
        let checked = up.maille("check")?;
        ensure!(!checked.contains('×'), "{checked}");
        Ok(checked)
    });
    eprintln!("{}", checked.unwrap());
    // What was chosen is found again by the command.
    assert_eq!(up.maille("upgrade").unwrap(), up.maille("install").unwrap());

    let upgrade = format!("upgrade maille {namespace} --wait --timeout 120s");
    with_chart(&up, &upgrade, &["ha=true"]).unwrap();
    is_in_force(&up, "install --ha").unwrap();
    three_answer_for_all(&up);

    up.output_of(
        &mut helm(
            &up,
            &format!("uninstall maille {namespace} --wait --timeout 60s"),
        ),
        "",
    )
    .unwrap();
    let left = up.kubectl("get clusterroles,clusterrolebindings,apiservices,mutatingwebhookconfigurations,validatingwebhookconfigurations -o name");
    let left = left.unwrap();
    assert!(!left.contains("maille"), "{left}");
    let pods = up.kubectl(
        "-n maille-system get deployments,services,serviceaccounts,poddisruptionbudgets -o name",
    );
    assert_eq!(pods.unwrap().trim(), "serviceaccount/default");
}

/// All three are there, one of them holds the lease, and whoever is asked answers for all.
fn three_answer_for_all(up: &Meshed) {
    let control = "app.kubernetes.io/component=control";
    up.settled("maille-system", control, 3).unwrap();
    up.until("an answer for all", || {
        let stat = up.maille("stat deploy -n maille-system -o json")?;
        let stat: Value = serde_json::from_str(&stat)?;
        let row = &stat["rows"][0];
        ensure!(
            row["pods"]["meshed"] == 3 && row["window"]["failures"] == 0,
            "{stat:#}"
        );
        ensure!(
            stat["missing"].as_array().is_none_or(Vec::is_empty),
            "{stat:#}"
        );
        Ok(())
    })
    .unwrap();
    let lease =
        up.kubectl("-n maille-system get lease maille-control -o jsonpath={.spec.holderIdentity}");
    assert!(!lease.unwrap().is_empty());
}
