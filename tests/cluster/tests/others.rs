// SPDX-License-Identifier: Apache-2.0
//! What others do that goes against the mesh, and what nobody can make sense of: a webhook of somebody else that wants its container
//! first, a kind of objects that people have objects of when the mesh is uninstalled, manifests that are none. Each is mended, or gets one
//! clear word, and nothing ever runs before its sidecar.
//!
//! Read `others/webhook.rs` for the webhook.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "others/webhook.rs"]
mod webhook;

use std::path::Path;

use anyhow::bail;
use maille_cluster::meshed::{Meshed, text};
use maille_cluster::twins::Load;
use serde_json::{Value, json};

use webhook::{Foreign, Webhook};

const NAMESPACE: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: others, labels: {maille.io/inject: enabled}}\n";

/// A kind of objects as another version of the mesh would bring it.
const DEFINITION: &str = "\
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: NAMEs.maille.io, labels: {app.kubernetes.io/part-of: maille}}
spec:
  group: maille.io
  scope: Namespaced
  names: {plural: NAMEs, singular: NAME, kind: KIND}
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}]
";
const OBJECT: &str =
    "apiVersion: maille.io/v1\nkind: Rule\nmetadata: {name: mine, namespace: default}\n";

/// What nobody can make sense of, and what is said of it.
const MALFORMED: [(&str, &str); 6] = [
    (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a\nspec: {}\n",
        "-:4: is not YAML",
    ),
    ("apiVersion: v1\n\tkind: Pod\n", "-:1: is not YAML"),
    ("kind: Pod\nkind: Pod\n", "duplicate mapping key: kind"),
    (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: {a: b}}\n",
        "spec.containers",
    ),
    (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a, annotations: {maille.io/sidecar: wierd}}\nspec: {containers: [{name: a}]}\n",
        "maille.io/sidecar",
    ),
    (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a, annotations: {maille.io/skip-inbound-ports: \"0\"}}\nspec: {containers: [{name: a}]}\n",
        "maille.io/skip-inbound-ports",
    ),
];

fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "others", "labels": {"one": name}},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [
            {"name": "app", "image": "maille.test/steady:1", "args": ["serve", "0"]},
        ]},
    })
}

/// Makes a pod, when the API server has heard of the webhook as it is now; says in which order its init containers are.
fn made(up: &Meshed, name: &str) -> anyhow::Result<Vec<String>> {
    up.cluster().apply(&pod(name).to_string())?;
    let pods = up.pods("others", &format!("one={name}"))?;
    let Some(Value::Array(all)) = pods[0]["spec"].get("initContainers") else {
        bail!("no init containers: {}", pods[0]);
    };
    Ok(all
        .iter()
        .map(|one| text(one, "/name").to_owned())
        .collect())
}

/// Takes a pod of the test away at once.
fn away(up: &Meshed, name: &str) -> anyhow::Result<()> {
    let delete = format!("-n others delete pod {name} --grace-period 0 --force");
    up.kubectl(&delete).map(|_| ())
}

/// A webhook that is asked before ours, and one that is asked after ours: both find their container behind the sidecar.
fn a_foreign_webhook_does_not_come_first(up: &Meshed, webhook: &Webhook) {
    for foreign in [Foreign::Before, Foreign::After] {
        webhook.register(up, foreign).unwrap();
        let order = up.until("a pod by both", || {
            let asked = webhook.asked();
            let order = made(up, "both")?;
            if webhook.asked() == asked {
                // The API server hears of a webhook a moment later.
                away(up, "both")?;
                bail!("{foreign:?} was not asked: {order:?}");
            }
            Ok(order)
        });
        let wanted = ["maille-init", "maille-proxy", "foreign"];
        assert_eq!(order.unwrap(), wanted, "{foreign:?}");
        up.settled("others", "one=both", 1).unwrap();
        away(up, "both").unwrap();
        webhook.remove(up, foreign).unwrap();
    }
}

/// One that insists has the last word among those who change a pod, and none about whether it is made.
fn one_that_insists_is_refused(up: &Meshed, webhook: &Webhook) {
    webhook.register(up, Foreign::Insistent).unwrap();
    let refused = up.until("a refusal", || match made(up, "insistent") {
        Ok(order) => {
            away(up, "insistent")?;
            bail!("it is made: {order:?}")
        }
        Err(refused) => Ok(format!("{refused:#}")),
    });
    let refused = refused.unwrap();
    eprintln!("of one that insists: {refused}");
    for wanted in [
        "namespace.verify.maille.io",
        "what runs before it is not captured",
    ] {
        assert!(refused.contains(wanted), "{refused}");
    }
    assert!(up.pods("others", "one=insistent").unwrap().is_empty());
    // The opposite: where nobody looks in the end it is made, and what it runs first is captured by nobody. That is seen.
    up.kubectl("delete validatingwebhookconfiguration maille-verify")
        .unwrap();
    let order = up.until("nobody who looks", || made(up, "insistent"));
    assert_eq!(order.unwrap()[0], "foreign");
    let checked = up.until("what check says", || match up.maille("check") {
        Ok(well) => bail!("{well}"),
        Err(said) => Ok(format!("{said:#}")),
    });
    eprintln!("check: {}", checked.unwrap());
    away(up, "insistent").unwrap();
    webhook.remove(up, Foreign::Insistent).unwrap();
    up.install().unwrap();
}

/// One error, by line or by field, and nothing on standard output.
fn malformed_manifests_are_told_of_once(up: &Meshed) {
    for (manifest, wanted) in MALFORMED {
        let refused = up.maille_of("inject -", manifest).unwrap_err();
        let refused = format!("{refused:#}");
        assert!(refused.contains("exit status: 2"), "{refused}");
        assert!(refused.contains(wanted), "{wanted}: {refused}");
        eprintln!("{refused}\n");
    }
}

/// What people wrote stays, with the kind of it, and it is said; a kind of which nobody has an object goes.
fn what_people_wrote_stays(up: &Meshed) {
    for (name, kind) in [("rule", "Rule"), ("other", "Other")] {
        let definition = DEFINITION.replace("NAME", name).replace("KIND", kind);
        up.cluster().apply(&definition).unwrap();
        up.kubectl(&format!(
            "wait crd {name}s.maille.io --for condition=Established --timeout 30s"
        ))
        .unwrap();
    }
    up.until("a rule", || up.cluster().apply(OBJECT)).unwrap();
    up.kubectl("delete namespace others --timeout=60s").unwrap();
    let maille = up.program("maille").unwrap();
    let mut uninstall = up.cluster().control_plane().on_network(maille).unwrap();
    uninstall.arg("uninstall");
    uninstall.env("KUBECONFIG", up.cluster().pki().join("admin.conf"));
    let told = uninstall.output().unwrap();
    let said = String::from_utf8(told.stderr).unwrap();
    let removal = String::from_utf8(told.stdout).unwrap();
    assert!(told.status.success(), "{said}");
    eprintln!("{said}");
    assert!(
        said.contains("rules.maille.io") && said.contains("default/mine"),
        "{said}"
    );
    let mut delete = up.cluster().kubectl_command().unwrap();
    delete.args(["delete", "--ignore-not-found", "--timeout=120s", "-f", "-"]);
    up.output_of(&mut delete, &removal).unwrap();
    let left = up.kubectl("get crd -o name").unwrap();
    assert!(
        left.contains("rules.maille.io") && !left.contains("others.maille.io"),
        "{left}"
    );
    up.kubectl("get rules.maille.io mine").unwrap();
}

#[test]
fn what_others_do_is_mended_or_refused_and_what_people_wrote_stays() {
    let program = Path::new(env!("CARGO_BIN_EXE_maille-cluster"));
    let up = Meshed::start(program, Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap();
    up.install().unwrap();
    Load::image(&up).unwrap();
    up.cluster().apply(NAMESPACE).unwrap();
    malformed_manifests_are_told_of_once(&up);
    let webhook = Webhook::start(&up).unwrap();
    a_foreign_webhook_does_not_come_first(&up, &webhook);
    one_that_insists_is_refused(&up, &webhook);
    what_people_wrote_stays(&up);
}
